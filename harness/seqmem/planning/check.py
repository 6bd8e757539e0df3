"""Fourth step of planning: a run that could not be carried out is refused."""

from __future__ import annotations

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
