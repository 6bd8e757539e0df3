"""Intervals and tests over seeds. The seed is the unit: items inside a run are no independent repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
MIN_SEEDS_FOR_P = 6
"""A sign-flip test of n seeds cannot go under 2 / 2**n: .0625 with five, .031 with six."""

_EXACT_UP_TO = 12
_RESAMPLES = 9999


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds and its 95 % t interval.

    Attributes:
        low, high: None below two seeds, where a spread cannot be estimated.
        n: seeds.
        reason: why there is no interval.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference over common seeds, its 95 % t interval and its sign-flip p-value.

    Attributes:
        p: two-sided, None below six common seeds.
        reason: why there is no p-value or no interval.
    """

    interval: Interval
    p: float | None
    reason: str = ""


def t_interval(values: Sequence[float]) -> Interval:
    """Mean of per-seed values with a 95 % Student t interval.

    Raises:
        ValueError: `values` is empty.
    """
    if not values:
        raise ValueError("no values")
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Interval(mean, None, None, 1, "one seed: no interval")
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Two-sided sign-flip p-value of a mean of zero; None below six differences.

    Exact up to 12 differences, 9999 random flips with a fixed seed above.
    """
    n = len(differences)
    if n < MIN_SEEDS_FOR_P:
        return None
    if not np.any(differences):
        return 1.0
    result = stats.permutation_test(
        (np.asarray(differences, dtype=float),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if n <= _EXACT_UP_TO else _RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def seeds_needed(tests: int) -> int:
    """Fewest seeds with which any of `tests` Holm-adjusted sign-flip tests can go under .05."""
    seeds = MIN_SEEDS_FOR_P
    while tests * 2 / 2**seeds >= 1 - LEVEL:
        seeds += 1
    return seeds


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """Values minus reference, seed by seed; None without a common seed."""
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return None
    differences = [values[seed] - reference[seed] for seed in seeds]
    interval = t_interval(differences)
    reason = interval.reason
    if len(seeds) < MIN_SEEDS_FOR_P:
        reason = f"{len(seeds)} common seed{'s' * (len(seeds) > 1)}: a test needs {MIN_SEEDS_FOR_P}"
    return Difference(interval, sign_flip_p(differences), reason)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment for a family of p-values, in the order given."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[int(index)] = running
    return adjusted
