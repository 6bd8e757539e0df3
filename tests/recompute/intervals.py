"""Intervals and tests over seeds (docs/how-to-read-a-row.md)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import stats
from scipy.optimize import brentq

Ends = tuple[float, float]

LEAST_SEEDS = 6
"""Fewer have no test: with five the smallest p there can be is .0625."""


def korn_graubard(shares: Sequence[float], items: Sequence[int]) -> Ends:
    """Intervals: the exact binomial one of as many items as leave the mean as uncertain as the seeds do."""
    seeds, total, mean = len(shares), sum(items), float(np.mean(shares))
    variance = float(np.var(shares, ddof=1)) / seeds
    count = float(total)
    if total > seeds:
        count = mean * (1 - mean) / variance if variance > 1e-20 else total
        # Korn and Graubard's correction for the few degrees of freedom that seeds have.
        narrower = stats.t.ppf(0.975, total - 1) / stats.t.ppf(0.975, seeds - 1)
        count = min(count * narrower**2, total)
    low, high = clopper_pearson(count * mean, count)
    return min(low, mean), max(high, mean)


def clopper_pearson(found: float, count: float) -> Ends:
    """The exact binomial interval; of a number of items that need not be whole."""
    low = stats.beta.ppf(0.025, found, count - found + 1) if found > 0 else 0.0
    high = stats.beta.ppf(0.975, found + 1, count - found) if found < count else 1.0
    return float(low), float(high)


def student(values: Sequence[float], level: float = 0.95) -> Ends:
    """Intervals: mean -+ t s / sqrt n."""
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def fieller(above: Sequence[float], below: Sequence[float]) -> Ends | None:
    """Intervals, ratios: all r at which the mean of x - r y is not told from zero; no ends where y is not."""
    x, y = np.mean(above), np.mean(below)
    t = stats.t.ppf(0.975, len(above) - 1)
    (xx, xy), (_, yy) = np.cov(above, below) * t**2 / len(above)
    # Squared: (x - r y)^2 <= t^2 var(x - r y) / n, a quadratic inequality in r.
    a, b, c = y * y - yy, x * y - xy, x * x - xx
    if a <= 0:
        return None
    root = np.sqrt(b * b - a * c)
    return float((b - root) / a), float((b + root) / a)


def max_t(rows: Sequence[Sequence[float]]) -> list[float]:
    """Westfall and Young 1993, algorithm 4.1, over all sign flips common to the rows."""
    if not rows:
        return []
    table = np.array(rows, dtype=float)
    length = np.linalg.norm(table, axis=1)
    table = table / np.where(length > 0, length, 1)[:, None]
    signs = np.array(list(itertools.product([1, -1], repeat=table.shape[1])))
    # Rounded, so that flips of equal size count as equal whatever the order of their sums.
    seen, flipped = np.abs(table.sum(axis=1)).round(9), np.abs(signs @ table.T).round(9)
    order, p, running = np.argsort(-seen, kind="stable"), np.empty(len(table)), 0.0
    for place, row in enumerate(order):
        largest = flipped[:, order[place:]].max(axis=1)
        running = max(running, float((largest >= seen[row]).mean()))
        p[row] = running
    return [float(value) for value in p]


def detectable(values: Sequence[float]) -> float:
    """Smallest detectable: delta s / sqrt n, delta from the noncentral t distribution."""
    return delta(len(values)) * float(np.std(values, ddof=1)) / float(np.sqrt(len(values)))


@cache
def delta(n: int) -> float:
    """What the t test of n values tells from zero in 80 % of repeats, in standard errors."""
    critical = stats.t.ppf(0.975, n - 1)
    return float(brentq(lambda d: stats.nct.sf(critical, n - 1, d) - 0.8, 1, 60, xtol=1e-9))


def equivalent(values: Sequence[float], margin: float) -> bool:
    """No effect: the 90 % interval of the difference lies inside the margin."""
    low, high = student(values, 0.9)
    return -margin < low and high < margin


def outlier(values: Sequence[float]) -> int | None:
    """The place of a value that lies far from the others (Grubbs 1969, at 1 %, two-sided)."""
    n, spread = len(values), float(np.std(values, ddof=1))
    if n < 3 or spread == 0:
        return None
    far = np.abs(np.array(values) - np.mean(values)) / spread
    t = stats.t.ppf(1 - 0.01 / (2 * n), n - 2)
    limit = (n - 1) / np.sqrt(n) * np.sqrt(t * t / (n - 2 + t * t))
    return int(far.argmax()) if far.max() > limit else None
