"""The measure by which a table ranks its rows: one for all of them, and one that a metric gives."""

from __future__ import annotations

from collections.abc import Mapping

from seqmem.core.errors import PluginError, UsageError, unknown
from seqmem.plugin.registry import Registry


def primary_of(scenario: str, primaries: Mapping[str, str]) -> str:
    """Return the measure that a table is ranked by, from that of each of its rows by label.

    Raises:
        UsageError: rows would be ranked by different measures.
    """
    first: dict[str, str] = {}
    for label, primary in primaries.items():
        first.setdefault(primary, label)
    if len(first) > 1:
        wanted = " and ".join(f"{label!r} by {primary}" for primary, label in first.items())
        raise UsageError(
            f"one table of {scenario} cannot rank {wanted}: give each its own bench, with --set in place of --sweep"
        )
    return next(iter(first))


def check_primary(scenario: str, primary: str, registry: Registry) -> None:
    """Refuse a primary measure that no metric gives; one that the user has disabled is left to the table.

    Raises:
        PluginError: naming the nearest measure.
    """
    metrics = [listed.name for listed in registry.names("metric")]
    if primary in metrics or primary.partition(".")[0] in registry.disabled:
        return
    measures = set(metrics)
    for name in metrics:
        try:
            measures.update(measure.name for measure in registry.load("metric", name).measures)
        except PluginError:  # said where the metric is used
            measures.add(primary if primary.startswith(f"{name}.") else name)
    if primary not in measures:
        raise PluginError(f"scenario {scenario}: {unknown('primary measure', primary, measures)}")
