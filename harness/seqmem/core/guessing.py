"""Guessing in forced choice: how many right answers a model gives that knows none of the facts.

Two such models bound what is expected. One guesses every question anew: the count is binomial. The other has a fixed
taste, always the same answer before the same other, whatever is asked: facts with the same candidates stand and fall
together, and the count mostly spreads wider. Both are right in 1/m of the questions with m candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seqmem.core.data import Probe

IMPROBABLE = 1e-4
"""Chance, both sides together, below which a count of right answers is no guessing. Facts and twins are tested, so at
most 2 in 10,000 models that guess are taken for others."""
_DRAWS = 100_000
_ROUGH_DRAWS = 2_000
"""Draws for a standard error."""
_CELLS = 4_000_000
"""Tastes held in memory at once."""


def expected(probes: Sequence[Probe]) -> float:
    """Return the right answers expected of guessing."""
    return sum(1 / len(probe.choices) for probe in probes)


def standard_error(probes: Sequence[Probe]) -> float:
    """Return the standard error of the number of right answers: that of the model which spreads wider."""
    binomial = math.sqrt(sum((1 - 1 / len(p.choices)) / len(p.choices) for p in probes))
    return max(binomial, float(preferring(probes, _ROUGH_DRAWS).std()))


def is_improbable(probes: Sequence[Probe], right: int) -> bool:
    """Return whether neither of the two models gives a count as far from what is expected."""
    from scipy import stats

    count, chance = len(probes), expected(probes) / len(probes)
    least = min(stats.binom.cdf(right, count, chance), stats.binom.sf(right - 1, count, chance))
    if least >= IMPROBABLE / 2:
        return False
    drawn = preferring(probes, _DRAWS)
    seen = min(int((drawn <= right).sum()), int((drawn >= right).sum()))
    return (1 + seen) / (1 + _DRAWS) < IMPROBABLE / 2


def preferring(probes: Sequence[Probe], draws: int) -> npt.NDArray[np.int64]:
    """Return the right answers (draws,) of as many made-up models, each with a fixed taste; always the same draws."""
    place = {ids: n for n, ids in enumerate(dict.fromkeys(c for probe in probes for c in probe.choices))}
    own = np.array([place[probe.input_ids[probe.answer_start :]] for probe in probes])
    widest = max(len(probe.choices) for probe in probes)
    candidates = np.repeat(own[:, None], widest, axis=1)  # its own again where a probe has fewer
    for row, probe in zip(candidates, probes, strict=True):
        row[: len(probe.choices)] = [place[choice] for choice in probe.choices]
    generator = np.random.default_rng(0)
    counts = []
    chunk = max(1, _CELLS // candidates.size)
    for start in range(0, draws, chunk):
        taste = generator.random((min(chunk, draws - start), len(place)))
        counts.append((taste[:, own] >= taste[:, candidates].max(axis=2)).sum(axis=1))
    return np.concatenate(counts)
