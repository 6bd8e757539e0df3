"""Intervals and tests over seeds. The seed is the unit: items inside a run are no independent repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
MIN_SEEDS_FOR_P = 6
"""A sign-flip test of n seeds cannot go under 2 / 2**n: .0625 with five, .031 with six."""

MIN_SIZES_FOR_INTERVAL = 3
MIN_SIZES_FOR_P = 5

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


@dataclass(frozen=True, slots=True)
class Trend:
    """How a measure changes with model size; the unit is the model.

    Attributes:
        slope: change of the measure per tenfold parameters, in the measure's unit; None below two sizes.
        low, high: 95 % interval of the slope; None below three sizes.
        p: two-sided, of a slope of 0; None below five sizes.
        sizes: different parameter counts.
        reason: why there is no slope, interval or p-value.
    """

    slope: float | None
    low: float | None
    high: float | None
    p: float | None
    sizes: int
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


def size_trend(points: Sequence[tuple[float, float]]) -> Trend:
    """Ordinary least squares of a measure on log10(parameters), one point per model.

    The interval is slope +- t(.975, models - 2) times its standard error; p comes from the t test of slope 0
    with the same degrees of freedom. A few points on a line by chance look like a law: no interval below three
    sizes, no p-value below five.

    Args:
        points: (parameters, mean over seeds) per model, parameters above 0.
    """
    sizes = len({parameters for parameters, _ in points})
    if sizes < 2:
        return Trend(None, None, None, None, sizes, f"{sizes} size{'s' * (sizes != 1)}: a slope needs 2")
    x, y = np.asarray(points, dtype=float).T
    if np.ptp(y) == 0:
        reason = "every model has the same value: no spread to make an interval of"
        return Trend(0.0, None, None, None, sizes, reason)
    fit = stats.linregress(np.log10(x), y)
    slope = float(fit.slope)
    if sizes < MIN_SIZES_FOR_INTERVAL:
        reason = f"{sizes} sizes: an interval needs {MIN_SIZES_FOR_INTERVAL}"
        return Trend(slope, None, None, None, sizes, reason)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(points) - 2) * fit.stderr)
    if sizes < MIN_SIZES_FOR_P:
        reason = f"{sizes} sizes: a p-value needs {MIN_SIZES_FOR_P}"
        return Trend(slope, slope - half, slope + half, None, sizes, reason)
    return Trend(slope, slope - half, slope + half, float(fit.pvalue), sizes)
