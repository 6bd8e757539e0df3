"""Half-lives of recall in the rest, and their bootstrap intervals (docs/metrics/retention.md)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .boundaries import Values
from .records import Run
from .rest import rest_curve

Array = npt.NDArray[np.float64]

SHORTEST, LONGEST = 0.1, 1e5
"""Half-lives tried, in steps. The page names no shortest one: it matters where recall falls at once."""
COARSE = 30
"""Half-lives tried per tenfold before the best is narrowed down."""
RESAMPLES, LEAST_STEPS, LEAST_START = 200, 6, 0.1


def half_life_measures(run: Run) -> Values:
    """The half-life of a run's recall, whether the rest was too short for it, and its interval over facts."""
    curve = rest_curve(run).dropna(axis=1)
    steps, answers = curve.index.to_numpy(dtype=float), curve.to_numpy().T
    if len(steps) < LEAST_STEPS or answers.mean(axis=0)[0] < LEAST_START:
        return {}
    length = steps[-1]
    # The page says resamples of the facts, not which: these are the ones that were drawn for the table.
    drawn = np.random.default_rng(0).integers(len(answers), size=(RESAMPLES, len(answers)))
    curves = np.vstack([answers.mean(axis=0), answers[drawn].mean(axis=1)])
    found = half_lives(steps, curves)
    logs = np.log10(np.minimum(found, length))
    low, high = np.quantile(logs[1:], [0.025, 0.975])
    count = len(answers)
    return {
        "retention.half_life": (float(logs[0]), count),
        "retention.half_life_low": (float(low), count),
        "retention.half_life_high": (float(high), count),
        "retention.censored": (float(found[0] >= length), count),
    }


def half_lives(steps: Array, curves: Array) -> Array:
    """Half-lives by least squares: of the best of three shapes, infinite where a constant fits as well by AICc."""
    best = [narrowed(shape, steps, curves) for shape in (exponential, power, log_linear)]
    squares = np.array([squares for _, squares in best])
    found = np.array([half for half, _ in best])
    place = squares.argmin(axis=0)
    rows = np.arange(len(curves))
    constant = aicc(curves.var(axis=1) * len(steps), len(steps), 1)
    better = aicc(squares[place, rows], len(steps), 2) < constant
    return np.where(better, found[place, rows], np.inf)


def exponential(steps: Array, half: Array) -> Array:
    return np.asarray(2.0 ** (-steps / half[..., None]))


def power(steps: Array, half: Array) -> Array:
    return np.asarray((1 + steps) ** (-np.log(2) / np.log1p(half[..., None])))


def log_linear(steps: Array, half: Array) -> Array:
    return np.asarray(1 - np.log1p(steps) / (2 * np.log1p(half[..., None])))


def narrowed(shape: Callable[[Array, Array], Array], steps: Array, curves: Array) -> tuple[Array, Array]:
    """The best half-life of one shape for every curve, and its sum of squares: a coarse grid, then finer ones."""
    tried = np.linspace(np.log10(SHORTEST), np.log10(LONGEST), COARSE * 6 + 1)
    squares = misfit(curves, shape(steps, 10**tried)[None])
    best, width = tried[squares.argmin(axis=1)], tried[1] - tried[0]
    for _ in range(5):
        near = best[:, None] + np.linspace(-width, width, 13)
        near = np.clip(near, tried[0], tried[-1])
        squares = misfit(curves, shape(steps, 10**near))
        best = near[np.arange(len(curves)), squares.argmin(axis=1)]
        width /= 6
    return 10**best, squares.min(axis=1)


def misfit(curves: Array, shapes: Array) -> Array:
    """Sums of squares of curves minus a start times each shape; given the shape the best start is a projection."""
    along = curves @ shapes[0].T if len(shapes) == 1 else np.einsum("nt,nht->nh", curves, shapes)
    along = np.maximum(along, 0)  # a start below zero is no recall
    return np.asarray((curves**2).sum(axis=1)[:, None] - along**2 / (shapes**2).sum(axis=-1))


def aicc(squares: Array, points: int, parameters: int) -> Array:
    """Akaike's criterion for few points; the variance of the noise is a parameter too."""
    k = parameters + 1
    variance = np.maximum(squares / points, 1e-9)
    return np.asarray(points * np.log(variance) + 2 * k + 2 * k * (k + 1) / (points - k - 1))
