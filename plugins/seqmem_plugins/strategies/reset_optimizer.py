"""`reset_optimizer`: the optimizer is created anew at each experience.

What many continual-learning loops do without saying so; the other end of the scale from `moment_avg`, which
keeps one optimizer state per loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqmem import Experience, Strategy, StrategySpec, hookimpl

if TYPE_CHECKING:
    from seqmem import Learner

seqmem_api = ">=1,<2"


class ResetOptimizer(Strategy):
    """Zeroed moments and clock before every experience but rests: the host zeroes the first, for all alike."""

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Forget the optimizer's state."""
        if experience.trains != "none" and experience.phase != "rest":
            learner.reset_moments()


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="reset_optimizer",
            version="1",
            summary="Optimizer state re-created at the start of every experience.",
            build=lambda options: ResetOptimizer(),
            exclusive=("moments",),
        )
    ]
