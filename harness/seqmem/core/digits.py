"""Numbers for people and tables, the same on processors whose last bits differ.

Every figure is rounded to ten significant digits before it is formatted. The last bits of a sum depend on the
processor, and a value such as .003125 lies on the edge between two printed texts.
"""

from __future__ import annotations

from typing import overload


@overload
def ten_digits(value: float) -> float: ...
@overload
def ten_digits(value: float | None) -> float | None: ...
def ten_digits(value: float | None) -> float | None:
    """Return the float nearest to the value's first ten significant digits; None stays None."""
    return None if value is None else float(f"{value:.10g}")


def rounded(value: float, digits: int) -> float:
    """Return the value with this many significant digits, ten at most."""
    return float(f"{ten_digits(value):.{digits}g}")


def duration(seconds: float) -> str:
    """Return a time in the unit that fits: seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def fixed(value: float, places: int) -> str:
    """Return the value with this many decimals."""
    return f"{ten_digits(value):.{places}f}"


def significant(value: float, digits: int = 3) -> str:
    """Return the value with this many significant digits; with all before the point where it has more of them.

    Never in powers of ten above the point: 999.6 is ``1,000`` and not ``1e+03``.
    """
    if abs(rounded(value, digits)) >= 10**digits:
        return f"{ten_digits(value):,.0f}"
    return f"{ten_digits(value):.{digits}g}"


def without_zero(text: str) -> str:
    """Return a number below 1 without the zero before its point: ``.41``."""
    return text.replace("0.", ".", 1)
