"""The metrics that are installed, and the table they make of rows."""

from __future__ import annotations

from collections.abc import Sequence

from seqmem.core.errors import PluginError
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.row import Row
from seqmem.scoring.comparison import Table, tabulate
from seqmem.scoring.pool import scores_of


def load_metrics(registry: Registry) -> tuple[list[MetricSpec], list[str]]:
    """Return every metric that can be loaded, and a line for every one that cannot."""
    metrics, unreadable = [], []
    for listed in registry.names("metric"):
        try:
            metrics.append(registry.load("metric", listed.name))
        except PluginError as error:
            unreadable.append(str(error))
    return metrics, unreadable


def score(
    scenario: str, primary: str, rows: Sequence[Row], metrics: Sequence[MetricSpec]
) -> tuple[Table, list[str]]:
    """Return the rows' table; a metric that fails is left out and named with its reason, the others go on."""
    scores, intact, broken = scores_of(rows, metrics)
    return tabulate(rows, intact, {scenario: primary}, scores), broken
