"""How numbers, intervals and p-values are printed."""

from __future__ import annotations

from seqmem.core.measures import Measure
from seqmem.scoring.statistics import (
    Interval,
)


def format_number(value: float, unit: str) -> str:
    """Two decimals without a leading zero for fractions, three significant digits otherwise."""
    if unit == "fraction":
        text = f"{value:.2f}"
        if float(text) == 0:
            return ".00"
        return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def format_margin(measure: Measure) -> str:
    """The measure's margin, unrounded: ``.025``; empty where it has none."""
    if measure.margin is None:
        return ""
    text = f"{measure.margin:g}"
    return text.replace("0.", ".", 1) if measure.unit == "fraction" and measure.margin < 1 else text


def format_interval(interval: Interval, unit: str) -> str:
    """``.41 [.35, .47]``, or the mean alone where there is no interval or all seeds agree."""
    mean = format_number(interval.mean, unit)
    if interval.low is None or interval.high is None or interval.low == interval.high:
        return mean
    return f"{mean} [{format_number(interval.low, unit)}, {format_number(interval.high, unit)}]"


def format_p(p: float) -> str:
    """``.031``; never smaller than ``<.001``."""
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)
