"""The metrics that are installed, and the table they make of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqmem.core.errors import PluginError
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.row import Row
from seqmem.scoring.comparison import Table, tabulate
from seqmem.scoring.scores import failures, score_rows

if TYPE_CHECKING:
    pass


def load_metrics(registry: Registry) -> tuple[list[MetricSpec], list[str]]:
    """Every metric that can be loaded, and a line for every one that cannot."""
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
    """The rows' table; a metric that fails is left out and named with its reason, the others go on."""
    import pandas as pd

    scores, intact, broken = [score_rows(rows, [])], [], []
    for metric in metrics:
        try:
            scores.append(score_rows(rows, [metric]))
            intact.append(metric)
        except PluginError as error:
            broken.append(str(error))
    filled = [frame for frame in scores if len(frame)] or scores[:1]
    table = tabulate(rows, intact, {scenario: primary}, pd.concat(filled, ignore_index=True))
    return table, [*broken, *failures(table.scores)]
