"""Fourth step of planning: a run that could not be carried out is refused."""

from __future__ import annotations

from seqmem.core.data import Outline
from seqmem.core.errors import UsageError
from seqmem.planning.expand import Arm
from seqmem.planning.models import ResolvedModel
from seqmem.planning.request import Request
from seqmem.plugin.strategy import overrides


def check_run(scenario: str, arm: Arm, model: ResolvedModel, outline: Outline, request: Request) -> None:
    """Refuse a run that could not be carried out.

    Raises:
        UsageError: strategy and scenario exclude each other, the model cannot read the scenario's rows, or the
            strategy's forward cannot be computed again.
    """
    if request.activation_checkpointing and overrides(arm.strategy.build(arm.strategy_options), "forward"):
        # by the time of the backward it has switched its parts back
        raise UsageError(
            f"strategy {arm.strategy.name} has a forward of its own, which the backward could not compute again; "
            "leave out --activation-checkpointing (--micro-tokens saves memory too)"
        )
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
