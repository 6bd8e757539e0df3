"""Intervals and tests over seeds. The seed is the unit: items inside a run are not independent repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seqmem.core.digits import ten_digits
from seqmem.core.measures import Interval
from seqmem.scoring.shares import MIN_SEEDS, too_few
from seqmem.scoring.sign_flips import MIN_SEEDS_FOR_P, sign_flip_p

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.8
"""Share of repeats in which the smallest detectable difference would have been seen."""

MIN_SIZES_FOR_INTERVAL = 3
MIN_SIZES_FOR_P = 5

NOISE = 1e-11
"""Relative size of what processors may compute differently."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference over common seeds, with its 95 % t interval and what can be said of it.

    Attributes:
        p: of the sign-flip test, adjusted over the family it was made in (`sign_flips.step_down_max_t`); None
            outside a family and where there is no test.
        reason: why there is no test or no interval.
        raw_p: of the sign-flip test alone, two-sided; None below six common seeds.
        equivalent: the difference was shown to lie inside the measure's margin (`equivalent`); None without a
            margin and below six common seeds.
        detectable: smallest true difference that such a comparison sees (`detectable`), in the measure's unit;
            None below two common seeds and where every seed gives the same difference.
        by_seed: the differences themselves.
    """

    interval: Interval
    p: float | None
    reason: str = ""
    raw_p: float | None = None
    equivalent: bool | None = None
    detectable: float | None = None
    by_seed: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trend:
    """The change of a measure with model size; the unit is the model.

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


def t_interval(values: Sequence[float], scale: float = 0.0) -> Interval:
    """Return the mean of per-seed values with a 95 % Student t interval; without one below three seeds.

    Args:
        values: one per seed.
        scale: size of the numbers that the values are differences of.

    Raises:
        ValueError: `values` is empty.
    """
    if not values:
        raise ValueError("no values")
    mean, n = float(np.mean(values)), len(values)
    scale = max(scale, *map(abs, values))
    if n < MIN_SEEDS:
        return Interval(mean, None, None, n, too_few(n))
    variance = 0.0 if _all_equal(values, scale) else float(np.var(values, ddof=1))
    return mean_interval(values, variance, n - 1, scale)


def mean_interval(
    values: Sequence[float] | NDArray[np.float64], variance: float, degrees: float, scale: float = 0.0
) -> Interval:
    """Return the mean of values with the 95 % t interval that a variance with its degrees of freedom gives."""
    mean, n = float(np.mean(values)), len(values)
    scale = max(scale, *map(abs, values))
    half = _quantile((1 + LEVEL) / 2, degrees) * float(np.sqrt(variance / n))
    return Interval(_settled(mean, scale), _settled(mean - half, scale), _settled(mean + half, scale), n)


def combined_p(p_values: Sequence[float]) -> float:
    """Return the p-value of n runs together: -2 sum log p is chi-square with 2 n degrees of freedom (Fisher 1925)."""
    return float(stats.combine_pvalues(p_values, method="fisher").pvalue)


def _settled(value: float, scale: float) -> float:
    """Return 0 for what the last bits leave of numbers of this size that cancel, else the value."""
    return 0.0 if abs(value) <= NOISE * scale else value


def _all_equal(values: Sequence[float], scale: float) -> bool:
    """Return whether values differ by no more than the last bits of numbers of this size."""
    return bool(np.ptp(values) <= NOISE * max(scale, *map(abs, values)))


@lru_cache
def _quantile(probability: float, degrees: float) -> float:
    """Return a quantile of Student's t."""
    return float(stats.t.ppf(probability, degrees))


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of one family adjusted for the false discovery rate, in the order given.

    adjusted_(i) = min over j >= i of m p_(j) / j, at most 1, p_(1) <= ... <= p_(m) (Benjamini & Hochberg 1995).
    Calling those below .05 differences keeps the expected share of false ones among them at 5 %, for
    independent tests and for positively dependent ones (Benjamini & Yekutieli 2001). For the size trends of a page,
    which have no seeds in common that could be flipped together.
    """
    return [float(p) for p in stats.false_discovery_control(p_values, method="bh")] if len(p_values) else []


def equivalent(values: Sequence[float], margin: float) -> bool | None:
    """Return whether a mean was shown to lie inside +-margin, at 5 %; None below six values.

    Two one-sided paired t tests, of mean <= -margin and of mean >= margin, both at 5 % (Schuirmann 1987): the
    same as the 90 % t interval lying inside the margin, |mean| + t(.95, n - 1) s / sqrt(n) < margin. A large
    p-value is not evidence that there is no effect; this is. Six values as for `sign_flip_p`: with fewer, a table could
    say "the same" but never "different".

    Args:
        values: paired differences, one per seed.
        margin: above 0, in their unit.
    """
    n = len(values)
    if n < MIN_SEEDS_FOR_P:
        return None
    half = _quantile(1 - ALPHA, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    return ten_digits(float(abs(np.mean(values)) + half)) < ten_digits(margin)


def detectable(values: Sequence[float], scale: float = 0.0) -> float | None:
    """Return the smallest true mean whose 95 % t interval would exclude zero in 80 % of repeats.

    d = delta s / sqrt(n), where delta is the noncentrality at which P(T > t(.975, n - 1)) = .8 for the
    noncentral t of n - 1 degrees of freedom (Cohen 1988, chapter 2): the power of a two-sided paired t test,
    whose other tail adds under 1e-6. s is taken from these values, so with few seeds d is rough. The sign-flip
    test sees such a difference in 64 % of repeats with six seeds and in 78 % from eight up (simulated, normal
    differences); adjusting for many rows costs more.

    Args:
        values: paired differences, or a measure's values where zero is what they are held against; one per seed.
        scale: size of the numbers that the values are differences of.

    Returns:
        In the unit of `values`; None below two of them, and where all are the same: nothing is known of their
        spread then.
    """
    n = len(values)
    if n < 2 or _all_equal(values, scale):
        return None
    return float(noncentrality(n - 1) * np.std(values, ddof=1) / np.sqrt(n))


@lru_cache
def noncentrality(degrees: float, power: float = POWER) -> float:
    """Return the noncentrality at which a two-sided t test at 5 % has this power in one tail."""
    from scipy.optimize import brentq

    critical = stats.t.ppf(1 - ALPHA / 2, degrees)

    def missing_power(delta: float) -> float:
        return float(stats.nct.sf(critical, degrees, delta)) - power

    # Rounded, so that the last bits of a root do not differ between versions of scipy.
    return round(float(brentq(missing_power, 1.0, 60.0)), 6)


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], margin: float | None = None
) -> Difference | None:
    """Return values minus reference, seed by seed, its p-value not yet adjusted; None without a common seed."""
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return None
    scale = max(abs(side[seed]) for side in (values, reference) for seed in seeds)
    differences = [_settled(values[seed] - reference[seed], scale) for seed in seeds]
    interval = t_interval(differences, scale)
    reason = interval.reason
    if len(seeds) < MIN_SEEDS_FOR_P:
        reason = f"{len(seeds)} common seed{'s' * (len(seeds) > 1)}: a test needs {MIN_SEEDS_FOR_P}"
    return Difference(
        interval,
        None,
        reason,
        sign_flip_p(differences),
        None if margin is None else equivalent(differences, margin),
        detectable(differences, scale),
        dict(zip(seeds, differences, strict=True)),
    )


def size_trend(points: Sequence[tuple[float, float]]) -> Trend:
    """Fit a measure by ordinary least squares on log10(parameters), one point per model.

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
    if len({ten_digits(mean) for _, mean in points}) == 1:
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
