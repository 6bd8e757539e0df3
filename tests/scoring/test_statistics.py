from __future__ import annotations

import numpy as np
import pytest

from seqmem.scoring import statistics as stats


def test_interval_is_the_t_interval() -> None:
    interval = stats.t_interval([1.0, 2.0, 3.0, 4.0])
    assert interval.mean == 2.5 and interval.n == 4
    assert interval.low == pytest.approx(2.5 - 3.182446 * 1.290994 / 2, abs=1e-5)
    assert interval.high == pytest.approx(2.5 + 3.182446 * 1.290994 / 2, abs=1e-5)


def test_too_few_seeds_have_no_interval_and_say_so() -> None:
    interval = stats.t_interval([0.4])
    assert (interval.mean, interval.low, interval.high) == (0.4, None, None)
    assert interval.reason == "1 seed: an interval needs 3"
    assert stats.t_interval([0.4, 0.5]).low is None


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        stats.t_interval([])


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
    assert found.raw_p == pytest.approx(2 / 256) and found.p is None
    assert found.reason == ""


def test_few_common_seeds_give_an_interval_without_p() -> None:
    found = stats.paired_difference({0: 1.0, 1: 2.0, 2: 4.0}, {1: 1.0, 2: 2.0, 3: 0.0})
    assert found is not None and found.raw_p is None and found.p is None and found.interval.n == 2
    assert "2 common seeds" in found.reason
    assert stats.paired_difference({0: 1.0}, {1: 1.0}) is None


def test_false_discovery_is_benjamini_and_hochbergs() -> None:
    """m p_(j) / j is .04, .06, .04, .04, .9; each takes the smallest from its place on."""
    adjusted = stats.false_discovery([0.9, 0.008, 0.024, 0.024, 0.032])
    assert adjusted == pytest.approx([0.9, 0.04, 0.04, 0.04, 0.04])
    assert stats.false_discovery([0.04, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert stats.false_discovery([]) == []


def test_equivalence_is_the_90_percent_interval_inside_the_margin() -> None:
    """Mean .01, s = .02, n = 8: .01 + 1.894579 * .02 / sqrt(8) = .0233968."""
    spread = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    values = list(0.01 + 0.02 * spread / np.std(spread, ddof=1))
    assert stats.equivalent(values, 0.0235) is True
    assert stats.equivalent(values, 0.0233) is False
    assert stats.equivalent([-value for value in values], 0.0235) is True
    assert stats.equivalent(values[:5], 1.0) is None


def test_equivalence_is_that_of_two_one_sided_t_tests() -> None:
    from scipy.stats import ttest_1samp

    random = np.random.default_rng(2)
    for _ in range(50):
        values = random.normal(0.02, 0.05, 8)
        p = max(
            ttest_1samp(values, -0.05, alternative="greater").pvalue,
            ttest_1samp(values, 0.05, alternative="less").pvalue,
        )
        assert stats.equivalent(list(values), 0.05) == (p < 0.05)


def test_equivalence_is_claimed_wrongly_in_one_of_twenty() -> None:
    """A true difference at the margin itself."""
    random = np.random.default_rng(6)
    claims = [stats.equivalent(list(random.normal(0.5, 0.2, 8)), 0.5) for _ in range(2000)]
    assert np.mean(np.array(claims, dtype=bool)) == pytest.approx(0.05, abs=0.015)


def test_without_spread_a_difference_is_inside_its_margin_or_not() -> None:
    assert stats.equivalent([0.0] * 6, 0.01) is True
    assert stats.equivalent([0.02] * 6, 0.01) is False
    same = stats.paired_difference(dict.fromkeys(range(6), 0.4), dict.fromkeys(range(6), 0.1), 0.5)
    assert same is not None and same.detectable is None and same.equivalent is True


@pytest.mark.parametrize(("n", "effect"), [(3, 3.264044), (6, 1.434545), (8, 1.156035), (12, 0.888654)])
def test_the_smallest_detectable_difference_is_the_power_tables(n: int, effect: float) -> None:
    """Effects by statsmodels 0.15, TTestPower().solve_power(nobs=n, alpha=.05, power=.8)."""
    spread = np.arange(n, dtype=float)
    values = list(0.3 * spread / np.std(spread, ddof=1))
    assert stats.detectable(values) == pytest.approx(0.3 * effect, rel=1e-5)


def test_a_detectable_difference_leaves_zero_outside_the_interval_in_four_of_five() -> None:
    random = np.random.default_rng(7)
    effect = (stats.detectable([-1.0, 1.0] * 4) or 0.0) / np.std([-1.0, 1.0] * 4, ddof=1)
    seen = [stats.t_interval(list(random.normal(effect, 1, 8))) for _ in range(2000)]
    assert np.mean([(i.low or 0) > 0 for i in seen]) == pytest.approx(0.8, abs=0.025)


def test_nothing_is_detectable_without_a_spread() -> None:
    assert stats.detectable([0.4]) is None
    assert stats.detectable([]) is None
    assert stats.detectable([0.61 - 0.3, 0.62 - 0.31, 0.6 - 0.29]) is None  # alike but for the last bit


def test_a_difference_says_what_its_seeds_allow() -> None:
    one = stats.paired_difference({0: 0.5}, {0: 0.4}, 0.2)
    assert one is not None and (one.raw_p, one.equivalent, one.detectable) == (None, None, None)
    five = stats.paired_difference(dict(enumerate([1.0, 2, 3, 4, 6])), dict.fromkeys(range(5), 1.0), 9.0)
    assert five is not None and five.equivalent is None and five.detectable is not None
    assert "5 common seeds: a test needs 6" in five.reason
    six = stats.paired_difference(dict(enumerate([1.0, 2, 3, 4, 6, 7])), dict.fromkeys(range(6), 1.0))
    assert six is not None and six.equivalent is None and six.raw_p is not None
