"""Learners without a memory of place, order or time, whose answers are as unruly as real ones: detectors are silent.

What textbook noise leaves out: heavy tails, noise that differs between facts and grows, dips of single probes, floors
and ceilings, loops and whole runs that move together, few facts, gains that follow the order of training and no place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from scipy.optimize import isotonic_regression

from benchmarks.calibration.beds import Answers, Array, Bed, Ints
from benchmarks.calibration.learners import Generator, answered, correlated, noise, scale
from seqmem.board.published import read_board
from seqmem.plugin.registry import Registry
from seqmem_plugins.metrics import latent_revival

Noise = Callable[[Generator, Bed], Array]
"""(curves, sweeps) nats."""

BOARD = Path(__file__).resolve().parents[2] / "leaderboards" / "memory_loops-v4"
_SD = 0.4


def _heavy(degrees: int) -> Noise:
    """Student noise with an SD of `_SD`, anew at every probe."""

    def made(random: Generator, b: Bed) -> Array:
        return np.asarray(random.standard_t(degrees, b.shape) * _SD / np.sqrt(degrees / (degrees - 2)))

    return made


def _uneven(random: Generator, b: Bed) -> Array:
    """Noise whose SD differs between facts, log-normally by .7, and grows to three times over the rest."""
    grown = 1 + 2 * np.clip(b.rest_step / b.rest_length, 0, 1)
    size = scale(random, _SD, 0.7, b.shape[0])[:, None]
    return np.asarray(size * grown * correlated(random, b, b.shape[0], 0.5))


def _dips(random: Generator, b: Bed) -> Array:
    """Little noise, and in one probe of thirty a dip of 3 nats, of facts and not of twins."""
    dipped = (random.random(b.shape) < 1 / 30) & ~b.control[:, None]
    return np.asarray(0.2 * random.standard_normal(b.shape) - 3.0 * dipped)


def _of_loops(random: Generator, b: Bed) -> Array:
    """Half of the variance is common to the facts of a loop, and not to their twins."""
    own = correlated(random, b, b.shape[0], 0.5)
    shared = correlated(random, b, int(b.loop.max()) + 1, 0.8)[np.maximum(b.loop, 0)]
    return np.asarray(_SD * (np.sqrt(0.5) * own + np.sqrt(0.5) * np.where(b.control[:, None], 0.0, shared)))


def _common(random: Generator, b: Bed) -> Array:
    """Half of the variance is common to all that is asked, twins included: what a step does to every answer."""
    own, shared = correlated(random, b, b.shape[0], 0.5), correlated(random, b, 1, 0.8)
    return np.asarray(_SD * (np.sqrt(0.5) * own + np.sqrt(0.5) * shared))


def _of_facts(random: Generator, b: Bed) -> Array:
    """A fifth of the variance is common to all facts and not to the twins."""
    own, shared = correlated(random, b, b.shape[0], 0.5), correlated(random, b, 1, 0.8)
    return np.asarray(_SD * (np.sqrt(0.8) * own + np.sqrt(0.2) * np.where(b.control[:, None], 0.0, shared)))


NOISES: Mapping[str, tuple[str, Noise]] = {
    "t3 noise": ("heavy tails: Student noise of 3 degrees of freedom", _heavy(3)),
    "t5 noise": ("heavy tails: Student noise of 5 degrees of freedom", _heavy(5)),
    "uneven noise": (
        "noise that differs between facts by a factor of two and grows threefold over the rest",
        _uneven,
    ),
    "dips": ("one probe in thirty dips by 3 nats, of facts only", _dips),
    "loops move together": (
        "half of the noise is common to the facts of a loop, not to the twins",
        _of_loops,
    ),
    "all moves together": ("half of the noise is common to all facts and twins", _common),
    "facts move together": ("a fifth of the noise is common to all facts, not to the twins", _of_facts),
}


def forgotten(random: Generator, b: Bed, made: Noise, *, forgets: float, bounded: bool = False) -> Answers:
    """A memory that is learned at visits and forgotten by age, everywhere alike, under some noise.

    Args:
        random: of the run.
        b: where it answers.
        made: the noise.
        forgets: nats per token that are lost in the long run.
        bounded: the margin has a floor and a ceiling that most answers lie at.
    """
    known = (b.age >= 0) & ~b.control[:, None]
    left = np.where(known, 2.0 ** (-np.maximum(b.age, 0) / float(scale(random, 24.0, 0.2))), 0.0)
    wobble = made(random, b)
    first = 2 + 0.5 * random.standard_normal((b.shape[0], 1))
    margin = first * known - 2 * forgets * (1 - left) * known + wobble
    loss = 4 - known * (2 - forgets * (1 - left)) - wobble
    if bounded:
        margin, loss = np.clip(margin, -0.5, 0.5), np.clip(loss, 2.0, 2.6)
    return answered(random, b, np.where(known, 0.2 + 0.5 * left, 0.0), loss, margin)


def usual(random: Generator, b: Bed) -> Array:
    """Noise of `_SD` nats, phi .5, a tenth of it common to the run."""
    return noise(random, b, _SD, 0.5)


@cache
def _of_a_board() -> list[tuple[Array, Ints]]:
    """The curves that `latent_revival` reads in the records of a published board, with the loop of each fact."""
    board = read_board(BOARD, Registry.from_environment())
    found = []
    for row in board.rows:
        for run in row.runs.values() if not row.changes_stream else ():
            facts, twins, loops = latent_revival._left_alone(run)
            found.append((facts - twins, loops))
    return found


def flipped(random: Generator) -> Mapping[str, float]:
    """A run of the board whose curves only fall, beside what noise they had, its sign turned at random by fact."""
    curves, loops = _of_a_board()[random.integers(len(_of_a_board()))]
    falling = np.array([isotonic_regression(curve, increasing=False).x for curve in curves])
    turned = falling + random.choice([-1.0, 1.0], (len(curves), 1)) * (curves - falling)
    return {"latent_revival": latent_revival.rise_read_elsewhere(turned, loops)}
