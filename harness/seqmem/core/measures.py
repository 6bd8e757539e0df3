"""Numbers of a metric: the measure it declares, the value it finds or the reason for none, a mean over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Direction = Literal["higher", "lower", "none"]
Role = Literal["", "tokens", "state", "learned", "kept", "harm", "twins"]


@dataclass(frozen=True)
class Measure:
    """One number a metric gives per run.

    Attributes:
        unit: e.g. ``fraction``, ``nats/token``, ``steps``, ``bytes``. Three units say how the values of seeds are put
            together: ``share``, of `Value.n_items` items, which lies between 0 and 1 as its interval does; ``runs``, 1
            where a run has what is asked for and else 0, counted; ``p-value``, combined by Fisher's method.
        direction: which way is better; ``none`` where neither is.
        margin: two rows closer than this are alike in practice, in the measure's unit, above 0; None where
            nobody has stated one. The test for "no effect" needs it.
        role: ``tokens`` for tokens read by training, ``state`` for memory kept beyond the plain learner's: a
            table shows such a measure among the costs of a row. ``learned``, ``kept``, ``harm`` to the rest of the
            model, ``twins`` that were never trained: the last screen of a bench shows the first measure of each.
        gate: a row is ranked only where it was shown not to be worse than the reference in this measure by so much, in
            the measure's unit, above 0; None where nothing is asked of it. A published board states gates of its own.
        effect: of a detector, which is held against zero: the value that it is to find, in the measure's unit, above 0;
            tables test it, and say where it could not have been seen. None of any other measure.
        graded: name of the measure that says the same by degrees; where this one is primary, both are judged.
        ratio: names of two measures of the metric whose means over seeds, the first over the second, are this one of a
            row; None where it is put together from its own values.
    """

    name: str
    unit: str
    direction: Direction
    summary: str
    margin: float | None = None
    role: Role = ""
    gate: float | None = None
    graded: str = ""
    effect: float | None = None
    ratio: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse a gate that nobody could fail or pass."""
        if self.gate is not None and (self.direction == "none" or not self.gate > 0):
            raise ValueError(f"measure {self.name}: a gate must be above 0 and needs a better direction")
        if self.effect is not None and not self.effect > 0:
            raise ValueError(f"measure {self.name}: an effect must be above 0")
        if self.ratio is not None and (self.margin, self.gate, self.effect) != (None, None, None):
            raise ValueError(
                f"measure {self.name}: a ratio of means has no values by seed to test, so no margin, gate or effect"
            )


@dataclass(frozen=True)
class Value:
    """A measured number, or None with a reason.

    Attributes:
        n_items: facts, documents or curves behind the number.
    """

    value: float | None
    n_items: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse a missing number without a reason, and a number that is not finite."""
        if self.value is None and not self.reason:
            raise ValueError("a Value of None needs a reason")
        if self.value is not None and not np.isfinite(self.value):
            raise ValueError(f"a Value must be finite, got {self.value}; use None with a reason")


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds and its 95 % interval; of p-values their combination, without one.

    Attributes:
        low, high: None below three seeds, where a spread cannot be estimated.
        n: seeds.
        reason: why there is no interval.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    reason: str = ""
