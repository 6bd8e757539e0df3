"""Synthetic learners: their memories, and the noise of their answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit, ndtri

from benchmarks.calibration.beds import Answers, Array, Bed, Rows

SHARED = 0.1
"""Share of the variance of noise that moves all curves of a run alike, as a step of training does."""
NOISE_STEPS = 4
"""The noise's phi is its correlation over this many steps: between two probes of the schedule `even`."""
STRENGTH = 0.5
"""Share of the variance of what decides recall that stays with a fact, strong or weak, all run long."""
_TRUTH_DRAWS = 200_000

Generator = np.random.Generator


def correlated(random: Generator, bed: Bed, curves: int, phi: float) -> Array:
    """(curves, sweeps) stationary AR(1) noise of SD 1 over steps, phi per `NOISE_STEPS`."""
    kept = phi ** (np.diff(bed.step) / NOISE_STEPS) if phi else (np.diff(bed.step) == 0).astype(float)
    noise = random.standard_normal((curves, len(bed.step)))
    for sweep, share in enumerate(kept, start=1):
        noise[:, sweep] = share * noise[:, sweep - 1] + np.sqrt(1 - share**2) * noise[:, sweep]
    return noise


def noise(random: Generator, bed: Bed, sd: float, phi: float) -> Array:
    """(curves, sweeps) noise of nats: a tenth of its variance is common to the run."""
    own = correlated(random, bed, bed.shape[0], phi)
    common = correlated(random, bed, 1, phi)
    return np.asarray(sd * (np.sqrt(1 - SHARED) * own + np.sqrt(SHARED) * common))


def right(random: Generator, bed: Bed, recall: Array, phi: float) -> Rows:
    """(curves, sweeps) right answers, each with exactly the probability `recall`.

    A fact is answered where its weakness, half of it the fact's own and half noise, is under the normal quantile
    of its recall.
    """
    own = random.standard_normal((bed.shape[0], 1))
    weakness = np.sqrt(STRENGTH) * own + np.sqrt(1 - STRENGTH) * correlated(random, bed, bed.shape[0], phi)
    return np.asarray(weakness < ndtri(recall))


def level(random: Generator, mean: float, spread: float, size: int | None = None) -> Array:
    """A share of a seed, 0 to 1: logit-normal around `mean`."""
    return np.asarray(expit(logit(mean) + spread * random.standard_normal(size)))


def scale(random: Generator, middle: float, spread: float, size: int | None = None) -> Array:
    """A positive number of a seed: log-normal, its median `middle`."""
    return np.asarray(middle * np.exp(spread * random.standard_normal(size)))


def answered(
    random: Generator,
    bed: Bed,
    recall: Array,
    loss: Array,
    margin: Array | None = None,
    phi: float = 0.5,
) -> Answers:
    """Answers of these probabilities and losses; controls are never right."""
    known = np.where(bed.control[:, None], 0.0, np.clip(recall, 0, 1))
    return Answers(loss, right(random, bed, known, phi), margin)


def expected(value: Callable[[Generator, int], Array]) -> float:
    """Population mean of a number that is known for each seed's parameters; its error is below .001."""
    return float(value(np.random.default_rng(12345), _TRUTH_DRAWS).mean())
