from __future__ import annotations

import numpy as np
import pytest

from seqmem import stats


def test_interval_is_the_t_interval() -> None:
    interval = stats.t_interval([1.0, 2.0, 3.0, 4.0])
    assert interval.mean == 2.5 and interval.n == 4
    assert interval.low == pytest.approx(2.5 - 3.182446 * 1.290994 / 2, abs=1e-5)
    assert interval.high == pytest.approx(2.5 + 3.182446 * 1.290994 / 2, abs=1e-5)


def test_one_seed_has_no_interval_and_says_so() -> None:
    interval = stats.t_interval([0.4])
    assert (interval.mean, interval.low, interval.high) == (0.4, None, None)
    assert "one seed" in interval.reason


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        stats.t_interval([])


@pytest.mark.parametrize(("n", "expected"), [(5, None), (6, 2 / 64), (8, 2 / 256), (12, 2 / 4096)])
def test_p_of_equal_signs_is_exact_and_needs_six_seeds(n: int, expected: float | None) -> None:
    assert stats.sign_flip_p(list(np.linspace(0.1, 0.2, n))) == pytest.approx(expected)


def test_p_is_the_same_every_time_where_flips_are_drawn() -> None:
    differences = list(np.random.default_rng(0).normal(0.3, 1, 20))
    assert stats.sign_flip_p(differences) == stats.sign_flip_p(differences)


def test_p_of_no_difference_is_one() -> None:
    assert stats.sign_flip_p([0.0] * 6) == 1.0


def test_p_fires_at_its_level_under_the_null() -> None:
    random = np.random.default_rng(3)
    p_values = [stats.sign_flip_p(list(random.normal(0, 1, 8))) or 0.0 for _ in range(400)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_intervals_cover_the_truth() -> None:
    random = np.random.default_rng(4)
    intervals = [stats.t_interval(list(random.normal(1, 2, 5))) for _ in range(2000)]
    assert np.mean([(i.low or 0) <= 1 <= (i.high or 0) for i in intervals]) == pytest.approx(0.95, abs=0.015)


def test_differences_are_paired_by_seed() -> None:
    noise = np.random.default_rng(5).normal(0, 10, 8)
    found = stats.paired_difference(
        {seed: noise[seed] + 1 + 0.01 * seed for seed in range(8)}, {seed: noise[seed] for seed in range(8)}
    )
    assert found is not None and found.interval.n == 8
    assert found.interval.mean == pytest.approx(1.035)
    assert found.p == pytest.approx(2 / 256)
    assert found.reason == ""


def test_few_common_seeds_give_an_interval_without_p() -> None:
    found = stats.paired_difference({0: 1.0, 1: 2.0, 2: 4.0}, {1: 1.0, 2: 2.0, 3: 0.0})
    assert found is not None and found.p is None and found.interval.n == 2
    assert "2 common seeds" in found.reason
    assert stats.paired_difference({0: 1.0}, {1: 1.0}) is None


def test_holm_is_monotone_and_keeps_the_order() -> None:
    assert stats.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert stats.holm([]) == []


def test_seeds_needed_is_the_fewest_that_can_decide() -> None:
    assert [stats.seeds_needed(tests) for tests in (1, 2, 3, 4, 6, 7)] == [6, 7, 7, 8, 8, 9]
