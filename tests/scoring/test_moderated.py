from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from seqmem.scoring.moderated import lent, moderated
from seqmem.scoring.statistics import Difference, paired_difference, t_interval


def difference(values: list[float]) -> Difference | None:
    return paired_difference(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))


def table(rows: int, seeds: int, random: np.random.Generator) -> list[list[float]]:
    """Differences without an effect, to one reference, of rows whose noise differs."""
    reference = random.normal(0, 1, seeds)
    spread = np.exp(random.normal(0, 0.3, rows))[:, None]
    return [list(map(float, row)) for row in random.normal(0, 1, (rows, seeds)) * spread - reference]


def test_equal_variances_stay_and_gain_certainty() -> None:
    """Nine rows of variance 2 with 2 degrees of freedom: a quarter of the other sixteen come on top."""
    variances, degrees = moderated(np.full(9, 2.0), np.full(9, 2.0))
    assert degrees == pytest.approx(np.full(9, 2 + 4))
    shrunk = variances[0]
    assert variances == pytest.approx(np.full(9, shrunk)) and 1.5 < shrunk < 4


def test_variances_that_differ_by_far_keep_their_own() -> None:
    own = np.array([1e-8, 1e-4, 1.0, 1e4, 1e8, 1e12])
    variances, degrees = moderated(own, np.full(6, 2.0))
    assert degrees == pytest.approx(np.full(6, 2.0), abs=0.2)
    assert np.log10(variances[2:]) == pytest.approx(np.log10(own[2:]), abs=0.3)
    assert (np.diff(variances) > 0).all()


def test_intervals_are_narrower_and_cover() -> None:
    random = np.random.default_rng(4)
    held, width, plain = [], [], []
    for _ in range(300):
        rows = table(9, 3, random)
        for found, row in zip(lent([difference(row) for row in rows]), rows, strict=True):
            assert found is not None and found.interval.low is not None and found.interval.high is not None
            held.append(found.interval.low <= 0 <= found.interval.high)
            width.append(found.interval.high - found.interval.low)
            alone = t_interval(row)
            plain.append((alone.high or 0) - (alone.low or 0))
    assert np.mean(held) == pytest.approx(0.935, abs=0.02)
    assert np.mean(width) < 0.7 * np.mean(plain)


def test_detectable_follows_the_interval() -> None:
    random = np.random.default_rng(5)
    rows = [difference(row) for row in table(9, 3, random)]
    for own, found in zip(rows, lent(rows), strict=True):
        assert own is not None and found is not None
        half = ((found.interval.high or 0) - (found.interval.low or 0)) / 2
        assert found.detectable == pytest.approx(
            half / stats.t.ppf(0.975, 6) * 3.2, rel=0.15
        )  # delta of 6 degrees of freedom is near 3.2
        assert found.interval.mean == own.interval.mean and found.by_seed == own.by_seed


def test_what_has_few_rows_many_seeds_or_no_spread_is_left_alone() -> None:
    random = np.random.default_rng(6)
    for rows in (table(5, 3, random), table(9, 6, random), table(9, 2, random)):
        found = [difference(row) for row in rows]
        assert lent(found) == found
    steady = difference([0.5, 0.5, 0.5])
    found = [None, steady, *(difference(row) for row in table(6, 4, random))]
    after = lent(found)
    assert after[:2] == [None, steady] and all(a != b for a, b in zip(after[2:], found[2:], strict=True))
