r"""`moment_avg`: every loop owns its optimizer moments; a new loop starts from the average of the others'.

When loop k is first entered, its moment context is made from the contexts that exist, over loops j:

    m = (1 - beta1^t) mean_j m_j / (1 - beta1^t_j),   v = (1 - beta2^t) mean_j v_j / (1 - beta2^t_j),
    t = max_j t_j

that is, the mean of the bias-corrected moments, put back as raw moments of age t (Kingma & Ba 2015,
arXiv 1412.6980, algorithm 1, for the correction). SGD's momentum has no correction and is averaged as it is.
A loop is a task label trained in a phase `loop`, `task` or `inject`. From then on the loop trains its own context;
entering it again exchanges references and moves no data. Outside loops (rest) the learner's common context is
used, which the host zeroes for every strategy alike.

Ablations: `init` average, zero (a fresh optimizer per loop), last (a copy of the previous loop's context),
shared (one context for all: exactly `naive`); `moments` says which of Adam's moments `init` makes, the other
being copied from the previous loop's context, bias-corrected to the new age where `average` sets one.

Nearest published kin: Reptile/MAML (arXiv 1703.03400), Local Adam, DES-LOC (arXiv 2505.22549).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from seqmem import Experience, Options, Strategy, StrategySpec, UsageError, hookimpl

if TYPE_CHECKING:
    from seqmem import Learner

seqmem_api = ">=1,<2"

DECAY = {"exp_avg": 0, "exp_avg_sq": 1}
"""Adam's moments, and which of the betas decays each."""


class MomentAvgOptions(Options):
    """Options of `moment_avg`."""

    init: Literal["average", "zero", "last", "shared"] = Field(
        "average", description="what a new loop's moments start from"
    )
    moments: Literal["m", "v", "both"] = Field(
        "both", description="which of Adam's moments init makes; the other is copied from the loop before"
    )


class MomentAverage(Strategy):
    """One moment context per loop."""

    def __init__(self, options: MomentAvgOptions) -> None:
        self._options = options
        self._contexts: list[str] = []
        self._last: str | None = None

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Put the loop's own moments in place, making them when the loop is new."""
        if self._options.init == "shared" or experience.trains == "none":
            return
        if not experience.of_a_loop:
            learner.use_moments("main")
            return
        context = f"loop {experience.task_label}"
        if context not in self._contexts:
            learner.add_moments(context)
            if self._last is not None:
                self._initialise(learner, context, self._last)
            self._contexts.append(context)
        learner.use_moments(context)
        self._last = context

    def _initialise(self, learner: Learner, context: str, last: str) -> None:
        """Fill a new context (zeros at time 0) as the options say."""
        made = {"m": ("exp_avg",), "v": ("exp_avg_sq",), "both": learner.settings.moments}[
            self._options.moments
        ]
        if self._options.init == "average":
            _oldest(learner, self._contexts, context)
        elif self._options.init == "last" or self._options.moments != "both":
            _copy(learner, last, context, "step")
        for moment in learner.settings.moments:
            if self._options.init == "average":
                _average(learner, self._contexts if moment in made else [last], context, moment)
            elif moment not in made or self._options.init == "last":
                _copy(learner, last, context, moment)

    def state_dict(self) -> dict[str, Any]:
        """Return the loops that have a context; the moments themselves are in the learner's registry."""
        return {"contexts": self._contexts, "last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the list back."""
        self._contexts, self._last = state["contexts"], state["last"]


def _copy(learner: Learner, source: str, target: str, name: str) -> None:
    for key, tensor in learner.moments(target, name).items():
        tensor.copy_(learner.moments(source, name)[key])


def _oldest(learner: Learner, sources: Sequence[str], target: str) -> None:
    """Set the target's time to the largest among the sources'."""
    for key, tensor in learner.moments(target, "step").items():
        tensor.fill_(max(float(learner.moments(source, "step")[key]) for source in sources))


def _average(learner: Learner, sources: Sequence[str], target: str, moment: str) -> None:
    """Set the target to the mean of the bias-corrected moments, raw at its age, added in source order."""
    for key, tensor in learner.moments(target, moment).items():
        for source in sources:
            weight, age = 1 / len(sources), float(learner.moments(source, "step")[key])
            if moment in DECAY and age > 0:
                beta = learner.settings.betas[DECAY[moment]]
                weight *= (1 - beta ** float(learner.moments(target, "step")[key])) / (1 - beta**age)
            tensor.add_(learner.moments(source, moment)[key], alpha=weight)


def check(options: MomentAvgOptions, optimizer: Any) -> None:
    """Refuse what has no moments to keep, and pairs of moments and time that cannot be corrected.

    Raises:
        UsageError: SGD without momentum, m or v asked of an optimizer that has neither, or a zero v of age t,
            whose first step would divide by nearly nothing.
    """
    if not optimizer.moments:
        raise UsageError(
            "strategy moment_avg needs an optimizer with moments, and sgd without momentum has none; "
            "use --optimizer adam or --set optimizer.momentum=0.9"
        )
    if options.init == "shared" and options.moments != "both":
        raise UsageError(
            f"strategy.moments={options.moments} says which moments init makes, and init=shared makes none; "
            "leave it out"
        )
    if options.moments != "both" and len(optimizer.moments) == 1:
        raise UsageError(
            f"strategy.moments={options.moments}: sgd has one moment, its momentum; allowed: both"
        )
    if options.init == "zero" and options.moments == "v":
        raise UsageError(
            "strategy.init=zero with strategy.moments=v would divide the last loop's m by a v of zero; "
            "use moments=m or both"
        )


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="moment_avg",
            version="2",
            summary="Each loop keeps its own optimizer moments; a new loop starts from their average.",
            options=MomentAvgOptions,
            build=MomentAverage,
            check=check,
            planned_bytes=lambda options, footprint: (
                0 if options.init == "shared" else footprint.outline.loops * footprint.context_bytes
            ),
            exclusive=("moments",),
            citation="kin: Reptile/MAML arXiv 1703.03400, DES-LOC arXiv 2505.22549",
        )
    ]
