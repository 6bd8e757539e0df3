from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from seqmem.core.measures import Interval, Measure, Value
from seqmem.scoring.cells import Score, interval_of
from seqmem.scoring.numbers import format_interval
from seqmem.scoring.scores import _possible
from seqmem.scoring.shares import share_interval


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None and interval.high is not None
    return interval.low, interval.high


def test_one_item_a_seed_is_the_binomial_interval() -> None:
    exact = stats.binomtest(2, 8).proportion_ci(method="exact")
    assert ends(share_interval([1, 1, 0, 0, 0, 0, 0, 0], [1] * 8)) == pytest.approx((exact.low, exact.high))


def test_effective_items_by_hand() -> None:
    """Four seeds of 50 items, mean .5, s^2 = .08 / 3: .25 / (.08 / 12) = 37.5 items, times (1.972 / 3.182)^2."""
    items = 37.5 * (1.971957 / 3.182446) ** 2
    low, high = ends(share_interval([0.3, 0.5, 0.5, 0.7], [50] * 4))
    assert low == pytest.approx(stats.beta.ppf(0.025, items / 2, items / 2 + 1), abs=1e-6)
    assert high == pytest.approx(stats.beta.ppf(0.975, items / 2 + 1, items / 2), abs=1e-6)


def test_seeds_that_agree_nearly_have_no_more_items_than_there_are() -> None:
    low, high = ends(share_interval([0.5, 0.5, 0.52], [50] * 3))
    exact = stats.beta.ppf([0.025, 0.975], [76, 77], [75, 74])  # 76 of 150
    assert [low, high] == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_seeds_that_all_agree_have_an_interval_of_their_items(share: float) -> None:
    low, high = ends(share_interval([share] * 3, [48] * 3))
    assert (low == 0 or share == 1) and (high == 1 or share == 0) and 0.05 < high - low < 0.15
    wider = ends(share_interval([share] * 3, [16] * 3))
    assert wider[1] - wider[0] > high - low


def test_below_three_seeds_there_is_none() -> None:
    found = share_interval([0.5, 0.7], [10, 10])
    assert (found.mean, found.low, found.high) == (0.6, None, None)
    assert found.reason == "2 seeds: an interval needs 3"


@pytest.mark.parametrize("true", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_shares_stay_in_the_possible_and_cover(true: float) -> None:
    """Eight seeds of 64 facts, whose own share is drawn around the true one."""
    random = np.random.default_rng(round(1000 * true))
    covered = []
    for own in random.beta(49 * true, 49 * (1 - true), (400, 8)):
        low, high = ends(share_interval(list(random.binomial(64, own) / 64), [64] * 8))
        assert 0 <= low <= high <= 1
        covered.append(low <= true <= high)
    assert np.mean(covered) > 0.92


# ---- what seeds give together -----------------------------------------------------------------------------


def scores(values: list[float | None]) -> list[Score]:
    return [Score(seed, value, 10, "") for seed, value in enumerate(values)]


def test_the_unit_says_how_seeds_are_put_together() -> None:
    share = interval_of(scores([0.1, 0.0, None, 0.1]), "share")
    assert share is not None and share.n == 3 and share.low is not None and share.low >= 0
    plain = interval_of(scores([0.1, 0.0, 0.1]), "fraction")
    assert plain is not None and plain.low is not None and plain.low < 0
    counted = interval_of(scores([1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), "runs")
    assert counted is not None and format_interval(counted, "runs") == "2 of 8 [.03, .65]"
    assert interval_of(scores([None]), "share") is None


def test_p_values_are_combined_and_never_averaged() -> None:
    """-2 log(.04 .1 .3) = 13.45 of chi-square with 6 degrees of freedom."""
    found = interval_of(scores([0.04, 0.1, 0.3]), "p-value")
    assert found is not None and found.low is None
    assert found.mean == pytest.approx(stats.chi2.sf(-2 * np.log(0.04 * 0.1 * 0.3), 6))
    assert format_interval(found, "p-value") == ".036"


@pytest.mark.parametrize(
    ("unit", "value", "possible"),
    [
        ("share", 1.0, True),
        ("share", 0.5, True),
        ("share", 1 + 1e-15, True),
        ("share", 1.01, False),
        ("share", -0.01, False),
        ("runs", 1.0, True),
        ("runs", 0.5, False),
        ("p-value", 0.03, True),
        ("p-value", 2.0, False),
        ("fraction", -0.5, True),
        ("nats", 7.0, True),
    ],
)
def test_what_a_unit_does_not_allow_is_no_value(unit: str, value: float, possible: bool) -> None:
    found = _possible(Measure("m", unit, "none", ""), Value(value, 3))
    assert (found.value is not None) == possible
    assert found.value is None or (abs(found.value - value) < 1e-9 and (unit != "share" or found.value <= 1))
    assert possible or f"the metric failed: {value} of unit {unit}, which is 0" in found.reason


def test_the_mean_of_cut_half_lives_is_the_restricted_mean_of_kaplan_and_meier() -> None:
    """Runs that are all cut at the same length: the area under their survival function up to it."""
    length, lives = 4.0, [1.5, 4.0, 2.0, 4.0, 0.5, 3.0]
    halved = [life for life in lives if life < length]
    cut = [life for life in lives if life == length]
    survival = stats.ecdf(stats.CensoredData(uncensored=halved, right=cut)).sf
    edges = [0.0, *survival.quantiles[survival.quantiles < length], length]
    area = sum(survival.evaluate(low) * (high - low) for low, high in pairwise(edges))
    found = interval_of(scores(list(lives)), "log10 steps")
    assert found is not None and found.mean == pytest.approx(area)
