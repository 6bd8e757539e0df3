r"""`cosine_steer`: keep every step of a loop at a chosen angle to what the other loops ask for.

A loop is a task label trained in a phase `loop`, `task` or `inject`. With g the vector of the step under way
and r the reference, the mean over the other loops of their running means,

    u = |g| (c r^ + sqrt(1 - c^2) g_perp^),   g_perp = g - <g, r^> r^,   r^ = r / |r|, g_perp^ = g_perp / |g_perp|

stands in for g: its cosine with r is the target c, its norm is that of g, and among all such vectors it is the
nearest to g. g and r are one vector each over all parameters that have a gradient in this step.

What g is depends on `space`:
    gradient: the clipped gradient, before the optimizer.
    update: the optimizer's step, parameters after minus parameters before, so after Adam's preconditioner
        and with AdamW's decay.
    moment: `exp_avg`, SGD's `momentum_buffer`, once the optimizer has stepped: the next step starts from u.

A loop's running mean is an exponential mean with its bias corrected, m_n = m_{n-1} + a_n (g_n - m_{n-1}) with
a_n = (1 - d) / (1 - d^n), 1/n for a decay d of 1. It takes g as it was *before* steering: means of steered
vectors would feed on each other, and at a target of 1 or -1 every loop would soon walk the line of the first
loop's first step, whatever its data say. A moment carries earlier steering in it, so in space `moment` the
means are of gradients: with d the optimizer's own decay, that is the moment the loop would have made by itself.
The reference is made when a loop is entered and holds until it is left.

A cosine needs something to compare it with. Two batches of one loop do not agree perfectly either, so the
cosine of g with its own loop's running mean, before g is added to it, is measured beside. Not in space `moment`:
a moment is itself a running mean of its loop's gradients, so that cosine would tell how alike the two decays are,
and the gradients' own is not to be compared with a moment's.

Kin: GradVac, arXiv 2010.05874, which adds a multiple of r to g and so lengthens it up to 2.2 times; PCGrad,
arXiv 2001.06782, whose projection removes a negative cosine and shortens g; GEM, arXiv 1706.08840.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from seqmem import Batch, Experience, Options, Strategy, StrategySpec, UsageError, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem import Learner

seqmem_api = ">=1,<2"

REFERENCE = "cosine_steer.reference"
"""Registry entry of r, the mean over the other loops' running means; its length is not normalised."""

PARALLEL = 1e-2
"""A g at a smaller sine to r is left alone: float32 could not keep the norm of what is made of its g_perp to 1e-5."""


class CosineSteerOptions(Options):
    """Options of `cosine_steer`."""

    target: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="cosine with the other loops' mean to keep: -1 repels, 0 is orthogonal, 1 aligns",
    )
    space: Literal["gradient", "update", "moment"] = Field(
        "update",
        description="what is steered: the gradient, the optimizer's step, or its first moment between steps",
    )
    decay: float = Field(
        0.9,
        ge=0,
        le=1,
        description="decay of a loop's running mean per step; 1 for the mean of all its steps",
    )


class CosineSteer(Strategy):
    """Base of the three spaces: the running means, the reference, and the turn itself."""

    def __init__(self, options: CosineSteerOptions) -> None:
        self._options = options
        self._loop: str | None = None
        self._steps: dict[str, int] = {}
        self._measured: dict[str, float] = {}

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Find the loop's running mean, making it when the loop is new, and the reference it is held against."""
        self._loop, self._measured = None, {}
        if not experience.of_a_loop:
            return
        self._loop = f"cosine_steer.loop {experience.task_label}"
        if self._loop not in learner.state:
            learner.state.add(self._loop)
            self._steps[self._loop] = 0
        others = [name for name, steps in self._steps.items() if steps and name != self._loop]
        if not others:
            return
        reference = learner.state[REFERENCE] if REFERENCE in learner.state else learner.state.add(REFERENCE)
        for key, tensor in reference.items():
            tensor.zero_()
            for other in others:
                tensor.add_(learner.state[other][key], alpha=1 / len(others))

    def measured(self) -> Mapping[str, float]:
        """Return measures of the last step, each where it is defined; nothing in a rest.

        cosine_steer.within: cosine of g with its own loop's running mean of earlier steps, the null; not in
            space `moment`, which has none.
        cosine_steer.before: cosine of g with the reference.
        cosine_steer.cosine: cosine of the steered g with the reference, from the tensors themselves.
        cosine_steer.norm: |u| / |g|.
        cosine_steer.projection: <u, g> / |g|^2; below 0 the step goes against its own loop.
        cosine_steer.unsteered: 1 where there was a reference and yet no direction to turn in, else 0.
        """
        return {f"cosine_steer.{name}": value for name, value in self._measured.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the loop under way and the steps behind each running mean."""
        return {"loop": self._loop, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self._loop, self._steps = state["loop"], state["steps"]

    def _average(self, learner: Learner, vector: Vector, *, null: bool = True) -> None:
        """Add a step to the loop's running mean.

        Args:
            learner: holds the mean.
            vector: what is added.
            null: measure how well it agreed with the mean so far.
        """
        loop = self._loop
        if loop is None:
            return
        self._measured = {}
        self._steps[loop] += 1
        steps, decay = self._steps[loop], self._options.decay
        weight = 1 / steps if decay == 1 else (1 - decay) / (1 - decay**steps)
        sums = Sums()
        for key, mean in vector.of(learner.state[loop]).items():
            own = vector.read(key)
            if null:
                sums.add(gg=(own, own), mm=(mean, mean), gm=(own, mean))
            mean.lerp_(own, weight)
        if not null:
            return
        found = sums.values()
        if (within := _cosine(found["gm"], found["gg"], found["mm"])) is not None:
            self._measured["within"] = within

    def _steer(self, learner: Learner, vector: Vector) -> None:
        """Turn a vector to the target in place, and measure what it became."""
        if self._loop is None or not any(n for name, n in self._steps.items() if name != self._loop):
            return
        reference = vector.of(learner.state[REFERENCE])
        sums = Sums()
        for key, other in reference.items():
            own = vector.read(key)
            sums.add(gg=(own, own), rr=(other, other), gr=(own, other))
        found = sums.values()
        before = _cosine(found["gr"], found["gg"], found["rr"])
        if before is not None:
            self._measured["before"] = before
        turn = _turn(self._options.target, found["gg"], found["gr"], found["rr"])
        self._measured["unsteered"] = float(turn is None)
        if turn is None:
            return
        sums = Sums()
        for key, other in reference.items():
            own = vector.read(key).clone()
            vector.write(key, (own.float() * turn[0]).add_(other, alpha=turn[1]))
            made = vector.read(key)
            sums.add(uu=(made, made), ur=(made, other), ug=(made, own))
        made_of = sums.values()
        achieved = _cosine(made_of["ur"], made_of["uu"], found["rr"])
        if achieved is not None:  # None where rounding has left nothing of the step
            self._measured["cosine"] = achieved
        self._measured["norm"] = math.sqrt(made_of["uu"] / found["gg"])
        self._measured["projection"] = made_of["ug"] / found["gg"]


class GradientSteer(CosineSteer):
    """Steers the gradient."""

    def transform_gradient(self, learner: Learner) -> None:
        """Turn the clipped gradient."""
        vector = Vector(_gradients(learner))
        self._average(learner, vector)
        self._steer(learner, vector)


class UpdateSteer(CosineSteer):
    """Steers the optimizer's step."""

    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        """Turn the step about where it started from."""
        vector = Vector({key: learner.parameters[key].data for key in before}, before)
        self._average(learner, vector)
        self._steer(learner, vector)


class MomentSteer(CosineSteer):
    """Steers the first moment between steps."""

    def __init__(self, options: CosineSteerOptions) -> None:
        super().__init__(options)
        self._trained: tuple[str, ...] = ()

    def transform_gradient(self, learner: Learner) -> None:
        """Note what the loop asks for; nothing is changed."""
        gradients = _gradients(learner)
        self._trained = tuple(gradients)
        self._average(learner, Vector(gradients), null=False)  # it is moments that are steered

    def after_step(self, learner: Learner, batch: Batch) -> None:
        """Turn the moment that the next step starts from, of the parameters that were stepped."""
        moments = learner.moments(learner.active_moments, learner.settings.moments[0])
        self._steer(learner, Vector({key: moments[key] for key in self._trained}))


class Vector:
    """Tensors by parameter name taken as one vector, or their differences from where they started."""

    def __init__(self, tensors: Mapping[str, Tensor], origins: Mapping[str, Tensor] | None = None) -> None:
        self._tensors, self._origins = tensors, origins

    def of(self, entry: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the part of a per-parameter entry that belongs to this vector's parameters."""
        return {key: entry[key] for key in self._tensors}

    def read(self, key: str) -> Tensor:
        """Return one parameter's part; a view of the tensor itself where there is no origin."""
        return self._tensors[key] if self._origins is None else self._tensors[key] - self._origins[key]

    def write(self, key: str, part: Tensor) -> None:
        """Set one parameter's part."""
        self._tensors[key].copy_(part if self._origins is None else part.add_(self._origins[key]))


class Sums:
    """Inner products over all parameters, added up in float64 and read at once, so that a GPU waits once."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}

    def add(self, **pairs: tuple[Tensor, Tensor]) -> None:
        """Add one parameter's share to each named product."""
        import torch

        for name, (one, other) in pairs.items():
            share = (one.float() * other.float()).sum(dtype=torch.float64)
            self._totals[name] = self._totals[name] + share if name in self._totals else share

    def values(self) -> dict[str, float]:
        """Return every product."""
        import torch

        return dict(zip(self._totals, torch.stack(list(self._totals.values())).tolist(), strict=True))


def _gradients(learner: Learner) -> dict[str, Tensor]:
    return {key: p.grad for key, p in learner.parameters.items() if p.grad is not None}


def _cosine(product: float, one: float, other: float) -> float | None:
    """Return the cosine from an inner product and two squared norms, in [-1, 1]; None where a norm is zero."""
    if not one or not other:
        return None
    return max(-1.0, min(1.0, product / math.sqrt(one * other)))


def _turn(target: float, gg: float, gr: float, rr: float) -> tuple[float, float] | None:
    """Return factors a, b of u = a g + b r; None where g or r is zero, or g lies along r and the target off it.

    Args:
        target: the cosine wanted, c.
        gg: <g, g>.
        gr: <g, r>.
        rr: <r, r>.
    """
    if not gg or not rr:
        return None
    along = target * math.sqrt(gg / rr)
    if abs(target) == 1:
        return 0.0, along
    sine = math.sqrt(max(0.0, 1 - gr * gr / (gg * rr)))
    if sine < PARALLEL:
        return None
    own = math.sqrt(1 - target * target) / sine
    return own, along - own * gr / rr


SPACES: Mapping[str, type[CosineSteer]] = {
    # classes of their own: the host keeps a copy of the parameters for whoever has a transform_update
    "gradient": GradientSteer,
    "update": UpdateSteer,
    "moment": MomentSteer,
}


def check(options: CosineSteerOptions, optimizer: Any) -> None:
    """Refuse to steer a moment that is not there.

    Raises:
        UsageError: space `moment` with SGD without momentum.
    """
    if options.space == "moment" and not optimizer.moments:
        raise UsageError(
            "strategy.space=moment needs an optimizer with a moment, and sgd without momentum has none; "
            "use --optimizer adam, --set optimizer.momentum=0.9, or strategy.space=gradient or update"
        )


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="cosine_steer",
            version="1",
            summary="Keeps each loop's step at a chosen cosine to the other loops' mean step, norm unchanged.",
            options=CosineSteerOptions,
            build=lambda options: SPACES[options.space](options),
            # a running mean per loop and, where there are others, the reference
            planned_bytes=lambda options, footprint: (
                (footprint.outline.loops + (footprint.outline.loops > 1)) * footprint.trained_bytes
            ),
            check=check,
            citation="kin: Wang et al. 2021, Gradient Vaccine, arXiv 2010.05874",
        )
    ]
