"""Intervals of ratios: the mean of one measure over the mean of another, where a run's own ratio may be of nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqmem.core.measures import Interval
from seqmem.scoring.shares import MIN_SEEDS, t_quantile, too_few


def ratio_interval(above: Mapping[int, float], below: Mapping[int, float]) -> Interval | None:
    """Return mean(x) / mean(y) over the seeds that have both, with the 95 % interval of Fieller (1954).

    It holds every ratio r at which the mean of x - r y is not told from zero by a t test:

        (r - g c / v_y +- t / y sqrt((v_x - 2 r c + r^2 v_y - g (v_x - c^2 / v_y)) / n)) / (1 - g),
        g = t^2 v_y / (n y^2),

    v and c being variances and covariance of x and y over n seeds and t = t(.975, n - 1). Seeds in which y is near
    zero, where a ratio of their own would be anything, count for what they are.

    Args:
        above: x by seed.
        below: y by seed, what x is a share of.

    Returns:
        None where no seed has both, and where the mean of y is not above zero. No interval where y is not told from
        zero (g >= 1): every ratio is possible then.
    """
    seeds = sorted(above.keys() & below.keys())
    x, y = (np.array([side[seed] for seed in seeds]) for side in (above, below))
    if not len(seeds) or y.mean() <= 0:
        return None
    n, mean, ratio = len(seeds), float(y.mean()), float(x.mean() / y.mean())
    if n < MIN_SEEDS:
        return Interval(ratio, None, None, n, too_few(n))
    (v_x, c), (_, v_y) = np.cov(x, y)
    scale = t_quantile(n - 1) ** 2 / (n * mean**2)
    g = scale * v_y
    if g >= 1:
        reason = "what it is a share of is not told from zero: every share is possible"
        return Interval(ratio, None, None, n, reason)
    inside = (v_x - 2 * ratio * c + ratio**2 * v_y) - scale * (v_x * v_y - c**2)
    half = float(np.sqrt(max(scale * inside, 0.0)))
    centre = ratio - scale * c
    return Interval(ratio, (centre - half) / (1 - g), (centre + half) / (1 - g), n)
