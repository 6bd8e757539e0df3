"""Least-squares fits of recall curves, and their half-lives: for `retention`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmem.reading import Array

CURVES = ("exponential", "power", "log-linear")
_MIN_HALF_LIFE = 0.1
"""Shortest half-life that is tried, in steps."""
_GRID = 60
"""Half-lives tried per tenfold of steps; the best is then refined."""


@dataclass(frozen=True, eq=False)
class Fits:
    """Least-squares fits of several recall curves at once.

    Attributes:
        half_life: (n,) steps, infinite where a constant fits as well.
        name: (n,) the curve that was read.
    """

    half_life: Array
    name: npt.NDArray[np.str_]


def _shapes(steps: Array, half_life: Array) -> Array:
    """Return (3, h, t), the curves of `CURVES` with a start of 1, by their half-life.

    2^(-t/h), (1+t)^(-log 2 / log(1+h)) and 1 - log(1+t) / (2 log(1+h)).
    """
    log, half = np.log1p(steps), np.log1p(half_life)[:, None]
    return np.stack(
        [2.0 ** (-steps / half_life[:, None]), np.exp(-np.log(2) * log / half), 1 - log / (2 * half)]
    )


def _aicc(squares: Array, n: int, parameters: int) -> Array:
    """Return the corrected Akaike criterion from sums of squares over n points, counting the noise variance."""
    k = parameters + 1
    variance = np.maximum(squares / n, 1e-9)
    return np.asarray(n * np.log(variance) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def fit_half_lives(steps: Array, recall: Array) -> Fits:
    """Return the half-life of each curve: that of the best by AICc of the shapes `CURVES` and a constant.

    Given its half-life each curve is linear in its start, so that the best of all half-lives on a fine grid is the
    least-squares fit; a parabola through the best three refines it.

    Args:
        steps: (t,) steps since the loops ended, ascending from 0.
        recall: (n, t) recall.
    """
    tried = np.log10(_MIN_HALF_LIFE) + np.arange(_GRID * np.log10(1e6)) / _GRID
    shapes = _shapes(steps, 10**tried)
    fitted = np.einsum("nt,sht->snh", recall, shapes) / np.sqrt((shapes**2).sum(axis=-1))[:, None, :]
    squares = (recall**2).sum(axis=1)[:, None] - np.maximum(fitted, 0) ** 2
    place = np.clip(squares.argmin(axis=-1), 1, len(tried) - 2)
    near = np.take_along_axis(squares, place[..., None] + np.array([-1, 0, 1]), axis=-1)
    bend = near[..., 0] - 2 * near[..., 1] + near[..., 2]
    shift = np.clip((near[..., 0] - near[..., 2]) / (2 * np.maximum(bend, 1e-300)), -0.5, 0.5)
    half_life = 10 ** (tried[place] + shift / _GRID)
    n = len(steps)
    scores = np.vstack([_aicc(np.maximum(near[..., 1], 0), n, 2), _aicc(recall.var(axis=1) * n, n, 1)[None]])
    best = scores.argmin(axis=0)
    half_life = np.vstack([half_life, np.full(len(recall), np.inf)])
    return Fits(half_life[best, np.arange(len(recall))], np.array([*CURVES, "constant"])[best])
