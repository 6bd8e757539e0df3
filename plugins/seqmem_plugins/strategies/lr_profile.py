r"""`lr_profile`: a learning rate that changes over depth.

Depth d is 0 for the embeddings, 1 to n for the n blocks and n + 1 for what comes after them; a head tied to the
embeddings counts as embeddings. The learning rate at depth d is the run's times

    linear:    f(d) = first + (last - first) d / (n + 1)
    geometric: f(d) = first (last / first)^(d / (n + 1))
    custom:    f(d) = rates[d]

With `match_budget` all factors are multiplied by P / sum_d f(d) P_d, where P_d numbers are trained at depth d and
P in all: the sum of factor times parameters is then that of the constant rate, and only its shape over depth
differs from `naive`. The optimizer's step is scaled after it was made, which is exact, see `_rates`.

Sources: the notes this project grew out of ("LR gradient"); kin: discriminative fine-tuning, Howard & Ruder 2018,
arXiv 1801.06146, section 3.2, whose rates fall by 2.6 from each layer to the one below (geometric, first below last).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from seqmem import Experience, Footprint, Options, Strategy, StrategySpec, UsageError, hookimpl
from seqmem_plugins.strategies._architecture import block_count, depth_of
from seqmem_plugins.strategies._rates import rescale

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem import Learner

seqmem_api = ">=1,<2"

FIRST, LAST = 0.1, 1.0
Rate = Annotated[float, Field(ge=0)]


class LrProfileOptions(Options):
    """Options of `lr_profile`."""

    shape: Literal["linear", "geometric", "custom"] = Field(
        "linear", description="how the rate goes from the first depth to the last"
    )
    first: float = Field(FIRST, ge=0, description="multiple of the learning rate at depth 0, the embeddings")
    last: float = Field(LAST, ge=0, description="multiple of the learning rate after the last block")
    rates: tuple[Rate, ...] = Field(
        (), description="custom: a multiple per depth: embeddings, every block, what comes after the blocks"
    )
    match_budget: bool = Field(
        True, description="scale all factors so that their sum over all parameters is the constant rate's"
    )

    @model_validator(mode="after")
    def _one_shape(self) -> LrProfileOptions:
        """Refuse options that the shape does not use, and profiles that train nothing.

        Raises:
            ValueError: one of these.
        """
        if self.shape == "custom":
            if not self.rates:
                raise ValueError("shape=custom needs rates, one per depth; e.g. rates=[0.1,0.5,1,1,1,2]")
            if (self.first, self.last) != (FIRST, LAST):
                raise ValueError("first and last are not read with shape=custom; leave them out")
        elif self.rates:
            raise ValueError(f"rates are read with shape=custom only, shape={self.shape}; leave them out")
        if self.shape == "geometric" and not self.first * self.last > 0:
            raise ValueError(
                f"shape=geometric needs first and last above 0, got {self.first:g}, {self.last:g}"
            )
        if not any(self.rates or (self.first, self.last)):
            raise ValueError("every rate is 0: nothing would be trained")
        return self


class LrProfile(Strategy):
    """Scales every step by the depth it happens at."""

    def __init__(self, options: LrProfileOptions) -> None:
        self._options = options
        self._factors: dict[str, float] = {}

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Forget the factors: another strategy may have made the model deeper."""
        self._factors = {}

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """Forget the factors, for the same reason."""
        self._factors = {}

    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        """Scale the step."""
        # nothing but names and shapes goes in, so a resumed run finds the same factors again
        self._factors = self._factors or factors(
            self._options, {name: tuple(p.shape) for name, p in learner.parameters.items()}
        )
        rescale(learner, before, self._factors)


def factors(options: LrProfileOptions, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Return the multiple of the learning rate for every parameter.

    Raises:
        UsageError: the names show no blocks, or custom rates are not one per depth.
    """
    depths = depth_of(shapes)
    blocks = block_count(shapes)
    if not blocks:
        raise UsageError(
            "strategy lr_profile finds no transformer blocks in the names of the model's parameters, "
            f"e.g. {min(shapes, default='none')!r}; use a model of the GPT-NeoX, OPT, GPT-2 or Llama kind"
        )
    last = blocks + 1
    first = options.first
    if options.shape == "custom":
        if len(options.rates) != last + 1:
            raise UsageError(
                f"strategy.lr_profile.rates has {len(options.rates)} values, the model has {last + 1} depths: "
                f"embeddings, {blocks} blocks, what comes after them; give {last + 1} rates"
            )
        profile = list(options.rates)
    elif options.shape == "linear":
        profile = [first + (options.last - first) * depth / last for depth in range(last + 1)]
    else:
        profile = [first * (options.last / first) ** (depth / last) for depth in range(last + 1)]
    numbers: Counter[int] = Counter()
    for name, shape in shapes.items():
        numbers[int(depths[name])] += math.prod(shape)
    scale = 1.0
    if options.match_budget:
        spent = math.fsum(profile[depth] * count for depth, count in numbers.items())
        if spent == 0:
            raise UsageError(
                "strategy lr_profile: the rates are 0 at every depth that has parameters to train"
            )
        scale = numbers.total() / spent
    return {name: scale * profile[int(depths[name])] for name in shapes}


def check_model(options: LrProfileOptions, footprint: Footprint) -> None:
    """Refuse a model without blocks, and custom rates of another length than its depths.

    Raises:
        UsageError: one of these.
    """
    factors(options, footprint.shapes)


def planned_bytes(options: LrProfileOptions, footprint: Footprint) -> int:
    """Return 0, after a check that custom rates fit the model at its largest.

    Raises:
        UsageError: another strategy of the composition adds blocks that custom rates do not name.
    """
    factors(options, footprint.shapes)
    return 0


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="lr_profile",
            version="1",
            summary="A learning rate that changes over depth, at the same total.",
            options=LrProfileOptions,
            build=LrProfile,
            planned_bytes=planned_bytes,
            check_model=check_model,
            citation="kin: Howard & Ruder 2018, discriminative fine-tuning, arXiv 1801.06146",
        )
    ]
