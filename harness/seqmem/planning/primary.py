"""Check that the measure by which a scenario ranks rows is one that a metric gives."""

from __future__ import annotations

from seqmem.core.errors import PluginError, unknown
from seqmem.plugin.registry import Registry


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
