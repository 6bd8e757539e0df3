"""Moderated t: with three to five seeds, the rows of a table lend each other what they know of the spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import brentq

from seqmem.scoring.shares import MIN_SEEDS
from seqmem.scoring.sign_flips import MIN_SEEDS_FOR_P
from seqmem.scoring.statistics import Difference, mean_interval, noncentrality

MIN_ROWS = 6
"""Rows from which the interval covers 93 to 94 % (simulated, rows of different spread against one reference)."""
_MOST = 0.25
"""Weight of the common variance, at most, in degrees of freedom that the other rows have together."""

Array = NDArray[np.float64]


def lent(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Return the differences of one measure with moderated intervals where few seeds and six rows or more make them."""
    few = [
        found
        for found in differences
        if found is not None
        and MIN_SEEDS <= found.interval.n < MIN_SEEDS_FOR_P
        and found.detectable is not None
    ]
    if len(few) < MIN_ROWS:
        return list(differences)
    values = [np.array(list(found.by_seed.values())) for found in few]
    degrees = np.array([len(own) - 1.0 for own in values])
    variances, degrees = moderated(np.array([np.var(own, ddof=1) for own in values]), degrees)
    made = iter(
        replace(
            found,
            interval=mean_interval(own, float(variance), float(free)),
            detectable=noncentrality(float(free)) * float(np.sqrt(variance / len(own))),
        )
        for found, own, variance, free in zip(few, values, variances, degrees, strict=True)
    )
    chosen = {id(found) for found in few}
    return [next(made) if id(found) in chosen else found for found in differences]


def moderated(variances: Array, degrees: Array) -> tuple[Array, Array]:
    """Return moderated variances and their degrees of freedom (Smyth 2004, sections 4 and 6.2).

    The variances s^2, of d degrees of freedom each, are taken for draws around a common one: sigma^2 is scaled inverse
    chi-square around s0^2 with d0 degrees of freedom, which are read off mean and spread of log s^2. Then
    (d0 s0^2 + d s^2) / (d0 + d), of d0 + d degrees of freedom, takes the place of s^2. Where the variances differ no
    more than chance lets them d0 is infinite there. Here it is at most a quarter of what the other rows have together:
    rows that share a reference are no independent witnesses. Where they differ much d0 is near 0, and each row keeps
    its own.

    Args:
        variances: (rows,), above 0.
        degrees: (rows,), 1 or more.
    """
    logs = np.log(variances) - special.digamma(degrees / 2) + np.log(degrees / 2)
    spread = float(np.var(logs, ddof=1) - np.mean(special.polygamma(1, degrees / 2)))
    most = _MOST * float(degrees.sum() - degrees.max())
    prior = min(2 * _inverse_trigamma(spread), most) if spread > 0 else most
    center = float(np.exp(np.mean(logs) + special.digamma(prior / 2) - np.log(prior / 2)))
    return (prior * center + degrees * variances) / (prior + degrees), prior + degrees


def _inverse_trigamma(value: float) -> float:
    """Return x > 0 with trigamma(x) = value, between 1e-3 and 1e6."""
    low, high = 1e-3, 1e6
    if value >= special.polygamma(1, low):
        return low
    if value <= special.polygamma(1, high):
        return high
    return float(brentq(lambda x: float(special.polygamma(1, x)) - value, low, high, xtol=1e-9))
