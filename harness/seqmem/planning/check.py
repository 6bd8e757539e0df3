"""Fourth step of planning: whether a model can do what an arm asks of it, and rows stand in one table."""

from __future__ import annotations

from collections.abc import Mapping

from seqmem.core.data import Outline
from seqmem.core.errors import UsageError
from seqmem.planning.expand import Arm
from seqmem.planning.models import ResolvedModel


def check_run(scenario: str, arm: Arm, model: ResolvedModel, outline: Outline) -> None:
    """Refuse a run that could not be carried out.

    Raises:
        UsageError: strategy and scenario exclude each other, or the model cannot read the scenario's rows.
    """
    if outline.branches and arm.strategy.transform_stream is not None:
        raise UsageError(
            f"strategy {arm.strategy.name} mixes the whole stream, scenario {scenario} returns to snapshots "
            "within it: the two cannot go together"
        )
    if outline.longest_row > model.max_positions:
        raise UsageError(
            f"scenario {scenario} needs rows of {outline.longest_row} tokens, model {model.name} reads "
            f"{model.max_positions}; shorten the rows (see `seqmem describe {scenario}`) or take another model"
        )


def primary_of(scenario: str, primaries: Mapping[str, str]) -> str:
    """Return the measure that a table is ranked by, from that of each of its rows by label.

    Raises:
        UsageError: rows would be ranked by different measures.
    """
    first: dict[str, str] = {}
    for label, primary in primaries.items():
        first.setdefault(primary, label)
    if len(first) > 1:
        said = " and ".join(f"{label!r} by {primary}" for primary, label in first.items())
        raise UsageError(
            f"one table of {scenario} cannot rank {said}: give each its own bench, with --set in place of --sweep"
        )
    return next(iter(first))
