"""Numbers, intervals and p-values as they are printed."""

from __future__ import annotations

from seqmem.core.digits import fixed, rounded, significant, ten_digits, without_zero
from seqmem.core.measures import Interval, Measure


def format_number(value: float, unit: str) -> str:
    """Return two decimals without a leading zero for fractions, three significant digits otherwise."""
    if unit in ("fraction", "share", "runs"):
        text = fixed(value, 2)
        if float(text) == 0:
            return ".00"
        return without_zero(text) if abs(float(text)) < 1 else text
    shown = ten_digits(value)
    return f"{int(shown):,}" if shown.is_integer() else significant(value)


def format_bound(bound: float, unit: str) -> str:
    """Return what was stated beforehand, such as a margin, unrounded: ``.025``."""
    text = significant(bound, 6)
    return without_zero(text) if unit in ("fraction", "share") and bound < 1 else text


def format_margin(measure: Measure) -> str:
    """Return the measure's margin, unrounded; empty where it has none."""
    return "" if measure.margin is None else format_bound(measure.margin, measure.unit)


def format_interval(interval: Interval, unit: str) -> str:
    """Return ``.41 [.35, .47]``, or the mean alone where there is no interval or all seeds agree.

    Of unit ``runs`` ``2 of 8 [.03, .65]``; a p-value as `format_p`.
    """
    if unit == "p-value":
        return format_p(interval.mean)
    mean = format_number(interval.mean, unit)
    if unit == "runs":
        mean = f"{round(interval.mean * interval.n)} of {interval.n}"
    if interval.low is None or interval.high is None or ten_digits(interval.low) == ten_digits(interval.high):
        return mean
    return f"{mean} [{format_number(interval.low, unit)}, {format_number(interval.high, unit)}]"


def format_p(p: float) -> str:
    """Return ``.031``; never smaller than ``<.001``."""
    return "<.001" if ten_digits(p) < 0.001 else without_zero(fixed(p, 3))


def short_count(count: int) -> str:
    """Return a number of parameters as models are named: ``1.05M``, ``410M``, ``1.4B``."""
    shown = rounded(count, 3)
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if shown >= limit:
            return f"{significant(shown / limit)}{unit}"
    return str(count)
