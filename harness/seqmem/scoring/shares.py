"""Intervals of shares: what is counted lies between 0 and 1, and so does its interval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from seqmem.core.measures import Interval

MIN_SEEDS = 3
"""Below it there is no interval: with two seeds t is 12.7, and what they leave out is anybody's guess."""
_LEVEL = 0.95
_NONE = 1e-20
"""A variance under this is what the last bits of equal shares leave."""


def too_few(seeds: int) -> str:
    """Return why there is no interval."""
    return f"{seeds} seed{'s' * (seeds != 1)}: an interval needs {MIN_SEEDS}"


@lru_cache
def t_quantile(degrees: int) -> float:
    """Return the quantile of Student's t that a two-sided 95 % interval ends at."""
    return float(stats.t.ppf((1 + _LEVEL) / 2, degrees))


def share_interval(shares: Sequence[float], items: Sequence[int]) -> Interval:
    """Return the mean of per-seed shares with the interval of Korn and Graubard (1998) for clustered samples.

    The exact binomial interval (Clopper & Pearson 1934) of the mean p among an effective number of items

        n* = p (1 - p) / v  (t(.975, N - 1) / t(.975, k - 1))^2, at most N,

    where v = s^2 / k is the variance of the mean of k seeds and N the number of items of all seeds: as many
    independent items as would leave p as uncertain as the seeds do. Where all seeds agree v says nothing, and
    N takes the place of p (1 - p) / v. Where each seed has one item it is the binomial interval itself.

    Args:
        shares: one per seed, 0 to 1.
        items: behind each of them, 1 or more.

    Returns:
        None for both ends below three seeds: the spread of two is a guess.
    """
    seeds, total = len(shares), sum(items)
    mean = float(np.mean(shares))
    if seeds < MIN_SEEDS:
        return Interval(mean, None, None, seeds, too_few(seeds))
    variance = float(np.var(shares, ddof=1)) / seeds
    effective = float(total)
    if total > seeds:
        ratio = t_quantile(total - 1) / t_quantile(seeds - 1)
        alone = mean * (1 - mean) / variance if variance > _NONE else total
        effective = min(alone * ratio**2, total)
    right = effective * mean
    tail = (1 - _LEVEL) / 2
    low = float(stats.beta.ppf(tail, right, effective - right + 1)) if mean > 0 else 0.0
    high = float(stats.beta.isf(tail, right + 1, effective - right)) if mean < 1 else 1.0
    return Interval(mean, min(low, mean), max(high, mean), seeds)
