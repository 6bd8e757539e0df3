r"""`multi_lr`: parts of the learner, chosen at random, train at different learning rates.

A share `shares[l]` of the parameters trains at `rates[l]` times the learning rate: a pseudo state space in which fast
parts take up what is new and slow parts keep what is old. What is drawn is an element, a row (along the first
dimension), a whole tensor or a transformer block; outside of the blocks every module's tensors are one such part.
Counts over all of them are exact, by the method of largest remainders. Elements and rows are divided tensor by tensor,
each in proportion to what is then left of every level: within one tensor counts are only near the shares, as
roundings of the tensors before it come to it.

`schedule: rate` scales the optimizer's step after it was made, which is exact, see `_rates`:

    parameter = before + rates[l] (after - before)

`schedule: frequency` trains level l only every C_l = `periods[l]` steps, by all its optimizer steps since then
(the continuum memory of Nested Learning, Behrouz et al. 2025, arXiv 2512.24695):

    parameter_i = parameter_(i-1) + rates[l] sum_(j = i - C_l + 1)^i (after_j - before_j)   where C_l divides i
    parameter_i = parameter_(i-1)                                                           elsewhere

with i counting the steps of the stream from 1. For SGD the sum is the accumulated gradient. Every one of those steps
is what the optimizer makes of the gradient at its time, decay included; the optimizer's moments go on at every step.
What waits when the run ends is never applied. The clock is the stream's, whatever is trained: where `freeze_component`
trains a component in visits shorter than a period, its level may not move within a visit at all, and all that it
gathered lands later, outside of the visit, at the first step that the period divides among those at which the
component is trained again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from seqmem import Experience, Footprint, Options, Outline, Strategy, StrategySpec, UsageError, hookimpl
from seqmem_plugins.strategies._architecture import block_count, block_of
from seqmem_plugins.strategies._rates import rescale

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem import Learner

seqmem_api = ">=1,<2"

PERIODS = (1, 4, 16)
PERIOD_BYTES = 2
"""Bytes of the period of an element or row, kept as int16."""
SCALAR_BYTES = 4
"""Bytes of a number kept for a whole tensor: the registry keeps a 0-dim float32."""

Rate = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Period = Annotated[int, Field(ge=1, le=32_767)]
Levels = npt.NDArray[np.uint8]
Bits = Callable[[int], npt.NDArray[np.uint64]]


class MultiLrOptions(Options):
    """Options of `multi_lr`."""

    rates: tuple[Rate, ...] = Field(
        (10.0, 1.0, 0.1),
        description="multiple of the learning rate of each level; with schedule=frequency 1 each unless given",
    )
    shares: tuple[Share, ...] = Field(
        (0.1, 0.3, 0.6), max_length=100, description="share of the parameters in each level; they sum to 1"
    )
    granularity: Literal["element", "row", "tensor", "block"] = Field(
        "element",
        description="what is drawn: elements, rows (first dimension), tensors or transformer blocks",
    )
    schedule: Literal["rate", "frequency"] = Field(
        "rate",
        description="rate: scale every step; frequency: apply a level's steps only at the end of its period",
    )
    periods: tuple[Period, ...] | None = Field(
        None,
        description="frequency: steps between the changes of each level; 1, 4, 16 unless given, null with rate",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_frequency(cls, values: Any) -> Any:
        """Let levels differ by their period only with `frequency`, unless rates are given too.

        Both defaults at once would mix two effects: a level of rate .1 and period 16 hardly moves at all.
        """
        if not isinstance(values, Mapping) or values.get("schedule") != "frequency":
            return values
        shares = values.get("shares", cls.model_fields["shares"].default)
        ones = [1.0] * len(shares) if isinstance(shares, Sequence) else [1.0]
        periods = values.get("periods")
        return {"rates": ones, **values, "periods": PERIODS if periods is None else periods}

    @model_validator(mode="after")
    def _levels_fit(self) -> MultiLrOptions:
        """Refuse lists of different length, shares that do not add up, and periods that nothing reads.

        Raises:
            ValueError: one of these.
        """
        if len(self.rates) != len(self.shares):
            raise ValueError(
                f"rates {_listed(self.rates)} and shares {_listed(self.shares)} must be equally long, one per level; "
                f"they are {len(self.rates)} and {len(self.shares)}"
            )
        if abs(math.fsum(self.shares) - 1) > 1e-9:
            raise ValueError(
                f"shares {_listed(self.shares)} sum to {math.fsum(self.shares):.10g}; they must sum to 1"
            )
        if self.schedule == "rate" and self.periods is not None:
            raise ValueError(
                f"periods {_listed(self.periods)} are read with schedule=frequency only; "
                "leave them out or set schedule=frequency"
            )
        if self.periods is not None and len(self.periods) != len(self.shares):
            raise ValueError(
                f"periods {_listed(self.periods)} and shares {_listed(self.shares)} must be equally long, one per "
                f"level; they are {len(self.periods)} and {len(self.shares)}"
            )
        return self

    @property
    def whole(self) -> bool:
        """A tensor is never divided among levels."""
        return self.granularity in ("tensor", "block")


class MultiLr(Strategy):
    """Scales or withholds every step by the level of what it changes."""

    def __init__(self, options: MultiLrOptions) -> None:
        self._options = options

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Draw the levels, once: when every strategy of a composition has made of the model what it will."""
        if "multi_lr.rates" not in learner.state:
            self._draw(learner)

    def _draw(self, learner: Learner) -> None:
        """Register what the levels mean: ``multi_lr.rates``, and with `frequency` two more."""
        import torch

        shapes = {name: tuple(parameter.shape) for name, parameter in learner.parameters.items()}
        # raw bits, whose order numpy never changes, as it may that of its distributions
        levels = draw_levels(self._options, shapes, learner.generator.bit_generator.random_raw)

        def keep(name: str, per_level: Sequence[float], dtype: torch.dtype | None) -> None:
            table = np.asarray(per_level, dtype=np.float32)
            learner.state.put(
                f"multi_lr.{name}",
                {
                    key: torch.as_tensor(table[levels[key]]).to(
                        parameter.device, torch.float32 if self._options.whole else dtype or parameter.dtype
                    )
                    for key, parameter in learner.parameters.items()
                },
                fill=1.0,
            )

        keep("rates", self._options.rates, None)
        if self._options.periods is not None:
            keep("periods", self._options.periods, torch.int16)
            learner.state.add("multi_lr.pending")

    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        """Scale the step by the rates, or add it to what waits and let out what is due."""
        if self._options.granularity == "row":
            _thin(learner)
        if self._options.periods is None:
            rescale(learner, before, learner.state["multi_lr.rates"])
        else:
            _release(learner, before, self._options.periods)


def _thin(learner: Learner) -> None:
    """Keep one number per row of what the model has grown: the registry fills new tensors element by element."""
    for name in ("multi_lr.rates", "multi_lr.periods"):
        entry = learner.state[name] if name in learner.state else {}
        for key, tensor in entry.items():
            if tensor.shape[1:].numel() > 1:
                entry[key] = tensor[(slice(None), *[slice(1)] * (tensor.dim() - 1))].clone()


def _release(learner: Learner, before: Mapping[str, Tensor], known: Sequence[int]) -> None:
    """Keep the step just made for the steps at which it is due.

    Args:
        learner: its parameters are where the optimizer put them.
        before: where they were, by name.
        known: the periods there are, in steps.
    """
    import torch

    rates, periods, pending = (learner.state[f"multi_lr.{name}"] for name in ("rates", "periods", "pending"))
    due = [period for period in set(known) - {1} if (learner.step + 1) % period == 0]
    with torch.no_grad():
        for name, start in before.items():
            parameter, waiting = learner.parameters[name], pending[name]
            parameter.sub_(start)
            waiting.add_(parameter)
            # 1 where it is due, as numbers in place: masks and remainders are several times slower on a CPU
            torch.eq(periods[name].expand_as(parameter), 1, out=parameter)
            for period in due:
                parameter.add_(periods[name] == period)
            waiting.sub_(parameter.mul_(waiting))
            torch.addcmul(start, parameter, rates[name].to(start.dtype), out=parameter)


def draw_levels(
    options: MultiLrOptions, shapes: Mapping[str, tuple[int, ...]], bits: Bits
) -> dict[str, Levels]:
    """Return the level of every part of the learner: an array per parameter that broadcasts to it.

    Elements and rows are drawn tensor by tensor, which bounds the memory it takes; each tensor gets its part of
    what is left of every level, so that the counts over all tensors are those asked for.

    Args:
        options: shares and granularity.
        shapes: of the parameters by name; their order counts.
        bits: source of the random numbers, given their count.
    """
    if options.whole:
        groups = {name: _group(name, options.granularity) for name in shapes}
        distinct = list(dict.fromkeys(groups.values()))
        drawn = _shuffled(apportion(len(distinct), options.shares), bits)
        level = dict(zip(distinct, drawn, strict=True))
        return {name: np.asarray(level[group], dtype=np.uint8) for name, group in groups.items()}
    parts = {name: _parts(shape, options.granularity) for name, shape in shapes.items()}
    left = apportion(sum(parts.values()), options.shares)
    levels = {}
    for name, shape in shapes.items():
        own = apportion(parts[name], left)
        left = [rest - taken for rest, taken in zip(left, own, strict=True)]
        rows = (*shape[:1], *(1 for _ in shape[1:]))
        levels[name] = _shuffled(own, bits).reshape(shape if options.granularity == "element" else rows)
    return levels


def apportion(count: int, weights: Sequence[float]) -> list[int]:
    """Divide `count` things in proportion to the weights: whole quotas, the rest to the largest remainders."""
    exact = [Fraction(weight) for weight in weights]
    quotas = [count * weight / (sum(exact) or 1) for weight in exact]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(counts)), key=lambda level: counts[level] - quotas[level])
    for level in by_remainder[: count - sum(counts)]:
        counts[level] += 1
    return counts


def _shuffled(counts: Sequence[int], bits: Bits) -> Levels:
    """Return the levels in random order, each as often as it is counted."""
    levels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    borders = [end for end in np.cumsum(counts) if 0 < end < len(levels)]
    if borders:
        # a partition at the borders chooses the same sets as a sort would, in a tenth of the time
        levels[np.argpartition(bits(len(levels)), borders)] = levels.copy()
    return levels


def _parts(shape: tuple[int, ...], granularity: str) -> int:
    """Return elements or rows of a parameter; a 0-dim one is both."""
    return math.prod(shape if granularity == "element" else shape[:1])


def _group(name: str, granularity: str) -> str:
    """Return the group that a parameter is drawn with: itself, its block, or outside of the blocks its module."""
    if granularity == "tensor":
        return name
    block = block_of(name)
    return name.rpartition(".")[0] if block is None else f"block {block}"


def check_model(options: MultiLrOptions, footprint: Footprint) -> None:
    """Refuse levels that train nothing, a model without blocks where blocks are drawn, and shares too small.

    Raises:
        UsageError: one of these.
    """
    _refuse_standstill(options, footprint.outline)
    if options.granularity == "block" and not block_count(footprint.shapes):
        raise UsageError(
            "strategy multi_lr with granularity=block finds no transformer blocks in the names of the model's "
            "parameters; use granularity=tensor, row or element"
        )
    if options.whole:
        parts = len({_group(name, options.granularity) for name in footprint.shapes})
    else:
        parts = sum(_parts(shape, options.granularity) for shape in footprint.shapes.values())
    for share, count in zip(options.shares, apportion(parts, options.shares), strict=True):
        if share and not count:
            what = (
                "blocks and parts outside of them"
                if options.granularity == "block"
                else f"{options.granularity}s"
            )
            raise UsageError(
                f"strategy multi_lr: the model has {parts} {what}, and a share of {share:g} comes to none of them; "
                "use larger shares or a finer granularity"
            )


def _refuse_standstill(options: MultiLrOptions, outline: Outline) -> None:
    """Refuse options under which no parameter would ever move.

    Raises:
        UsageError: every level that has a share has rate 0, or a period that the stream is too short for.
    """
    periods = options.periods or [1] * len(options.shares)
    levels = list(zip(options.shares, options.rates, periods, strict=True))
    moving = [period for share, rate, period in levels if share and rate]
    given = f"rates {_listed(options.rates)} and shares {_listed(options.shares)}"
    if not moving:
        raise UsageError(
            f"strategy multi_lr would train nothing: by {given} every level that has a share has rate 0; "
            "give one of them a rate above 0"
        )
    if options.periods is not None and min(moving) > outline.steps:
        raise UsageError(
            f"strategy multi_lr would train nothing: by {given} the levels that train have periods from "
            f"{min(moving)} steps up, and the stream has {outline.steps}; give one of them a period of at most "
            f"{outline.steps}"
        )


def planned_bytes(options: MultiLrOptions, footprint: Footprint) -> int:
    """Return the bytes of a rate for every part; with `frequency` also of its period and the waiting steps."""
    if options.whole:
        rates = periods = SCALAR_BYTES * len(footprint.shapes)
    else:
        parts = sum(_parts(shape, options.granularity) for shape in footprint.shapes.values())
        rates, periods = parts * footprint.value_bytes, parts * PERIOD_BYTES
    return rates + (0 if options.periods is None else periods + footprint.trained_bytes)


def _listed(values: Sequence[float]) -> str:
    """Return the numbers as they would be typed."""
    return f"[{','.join(f'{value:g}' for value in values)}]"


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="multi_lr",
            version="1",
            summary="Random shares of the parameters train at different rates, or at different frequencies.",
            options=MultiLrOptions,
            build=MultiLr,
            planned_bytes=planned_bytes,
            check_model=check_model,
            citation="frequency: Behrouz et al. 2025, Nested Learning, arXiv 2512.24695",
        )
    ]
