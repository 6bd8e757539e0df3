"""Sign-flip tests of paired differences: of one row alone, and of a family of rows by step-down maxT.

If a strategy did nothing, each of its differences to the reference could as well have had the other sign. A test
compares what was found with what such flips give. It assumes that differences are symmetric around zero without an
effect, and no more about their shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_SEEDS_FOR_P = 6
"""A sign-flip test of n seeds cannot go under 2 / 2**n: .0625 with five, .031 with six."""

_EXACT_UP_TO = 13
_RESAMPLES = 9999


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Return the two-sided sign-flip p-value of a mean of zero; None below six differences.

    Exact up to 13 differences, 9999 random flips with a fixed seed above.
    """
    if len(differences) < MIN_SEEDS_FOR_P:
        return None
    # of the other sign it is the same: ranks ask for every pair of rows in both orders
    turned = next((value for value in differences if value), 0.0) < 0
    return _alone(tuple(-value if turned else value for value in differences))


@lru_cache(maxsize=10_000)
def _alone(differences: tuple[float, ...]) -> float:
    return step_down_max_t([dict(enumerate(differences))])[0]


def step_down_max_t(rows: Sequence[Mapping[int, float]]) -> list[float]:
    """Return the step-down maxT p-values of a family of rows (Westfall & Young 1993, algorithm 4.1).

    A row's statistic is u = |sum d| / sqrt(sum d^2) over its differences d: flips leave its denominator, so that within
    a row it orders them as |t| does, and it has variance 1 under them however many seeds there are. All rows
    are flipped together, seed by seed, which keeps how rows that share a reference go together. A row's p is
    the share of flips in which the largest u, over it and all rows with a smaller one, is at least its own; and no
    less than that of a row with a larger u. The chance to call any row different that is not stays at 5 %,
    whichever rows do differ.

    So the row with the largest u is not charged for the number of rows, only for what their flips could reach:
    rows that are added can never lower the p of another.

    Args:
        rows: of each its differences by seed.

    Returns:
        In the order given. Exact up to 13 seeds in all, 9999 random flips with a fixed seed above.
    """
    if not rows:
        return []
    scaled = _scaled(rows)
    found = np.round(np.abs(scaled.sum(axis=1)), 9)  # sums in another order are ties
    order = np.argsort(-found, kind="stable")
    flipped, exact = _flipped(scaled[order])
    largest = np.maximum.accumulate(flipped[:, ::-1], axis=1)[:, ::-1]
    reached = (largest >= found[order]).sum(axis=0)
    shares = reached / len(flipped) if exact else (reached + 1) / (len(flipped) + 1)
    p_values = np.empty(len(rows))
    p_values[order] = np.maximum.accumulate(shares)
    return [float(p) for p in p_values]


def _scaled(rows: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """Return (rows, seeds), each row of length 1; 0 where it lacks a seed and where all its differences are 0."""
    seeds = sorted(set().union(*rows))
    values = np.array([[row.get(seed, 0.0) for seed in seeds] for row in rows], dtype=float)
    least = np.finfo(float).tiny
    values /= np.maximum(np.abs(values).max(axis=1, keepdims=True), least)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), least)
    return values


def _flipped(scaled: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Return (flips, rows), the statistic of each row under common flips, and whether these are all there are."""
    exact = scaled.shape[1] <= _EXACT_UP_TO
    result = stats.permutation_test(
        (scaled,),
        lambda flipped, axis: np.round(np.abs(np.sum(flipped, axis=axis)), 9),
        permutation_type="samples",
        vectorized=True,
        axis=-1,
        n_resamples=np.inf if exact else _RESAMPLES,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    return np.asarray(result.null_distribution, dtype=float), exact
