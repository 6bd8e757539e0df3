"""How numbers, intervals and p-values are printed."""

from __future__ import annotations

from seqmem.core.measures import Measure
from seqmem.scoring.statistics import Interval


def ten_digits(value: float | None) -> float | None:
    """Return the value with ten significant digits: the same on machines whose last bits differ."""
    return None if value is None else float(f"{value:.10g}")


def format_number(value: float, unit: str) -> str:
    """Return two decimals without a leading zero for fractions, three significant digits otherwise."""
    if unit == "fraction":
        text = f"{value:.2f}"
        if float(text) == 0:
            return ".00"
        return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def format_margin(measure: Measure) -> str:
    """Return the measure's margin, unrounded: ``.025``; empty where it has none."""
    if measure.margin is None:
        return ""
    text = f"{measure.margin:g}"
    return text.replace("0.", ".", 1) if measure.unit == "fraction" and measure.margin < 1 else text


def format_interval(interval: Interval, unit: str) -> str:
    """Return ``.41 [.35, .47]``, or the mean alone where there is no interval or all seeds agree."""
    mean = format_number(interval.mean, unit)
    if interval.low is None or interval.high is None or interval.low == interval.high:
        return mean
    return f"{mean} [{format_number(interval.low, unit)}, {format_number(interval.high, unit)}]"


def format_p(p: float) -> str:
    """Return ``.031``; never smaller than ``<.001``."""
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def short_count(count: int) -> str:
    """Return a number of parameters as models are named: ``1.05M``, ``410M``, ``1.4B``."""
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}"
    return str(count)
