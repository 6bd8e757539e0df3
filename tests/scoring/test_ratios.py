"""A ratio of two means over seeds has the interval of Fieller, and none where it may be of nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from seqmem import Measure, MetricSpec
from seqmem.scoring.cells import Score, cell_of
from seqmem.scoring.ratios import ratio_interval

SHARE = Measure("m.share", "fraction", "none", "", ratio=("m", "m.whole"))


def by_seed(values: np.ndarray) -> dict[int, float]:
    return dict(enumerate(values.tolist()))


def test_the_ends_are_the_ratios_that_a_t_test_just_does_not_refuse() -> None:
    random = np.random.default_rng(0)
    whole = random.normal(1.0, 0.2, 8)
    part = 0.4 * whole + random.normal(0, 0.1, 8)
    found = ratio_interval(by_seed(part), by_seed(whole))
    assert found is not None and found.low is not None and found.high is not None
    assert found.mean == pytest.approx(part.mean() / whole.mean())

    def beyond(ratio: float) -> float:
        rest = part - ratio * whole
        return float(abs(rest.mean()) / (rest.std(ddof=1) / 8**0.5) - stats.t.ppf(0.975, 7))

    assert optimize.brentq(beyond, found.mean - 2, found.mean) == pytest.approx(found.low)
    assert optimize.brentq(beyond, found.mean, found.mean + 2) == pytest.approx(found.high)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.3), (8, 0.3), (8, 0.6)])
def test_the_interval_covers_the_truth_though_single_runs_may_have_no_ratio(
    seeds: int, spread: float
) -> None:
    random = np.random.default_rng(1)
    covered = []
    for _ in range(2000):
        whole = random.normal(1.0, spread, seeds)
        part = 0.3 * whole + random.normal(0, 0.2, seeds)
        found = ratio_interval(by_seed(part), by_seed(whole))
        if found is not None and found.low is not None and found.high is not None:
            covered.append(found.low <= 0.3 <= found.high)
    assert len(covered) > 500
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


def test_a_share_of_what_may_be_nothing_has_no_interval_and_one_of_less_than_nothing_no_value() -> None:
    part = {0: 0.1, 1: 0.2, 2: 0.0, 3: 0.1}
    some = ratio_interval(part, {0: 1.0, 1: -0.8, 2: 0.3, 3: -0.2})
    assert some is not None and (some.low, some.high) == (None, None)
    assert "not told from zero" in some.reason
    assert ratio_interval(part, dict.fromkeys(part, -1.0)) is None
    assert ratio_interval(part, {9: 1.0}) is None
    two = ratio_interval({0: 0.1, 1: 0.2}, {0: 1.0, 1: 1.0})
    assert two is not None and two.low is None and "2 seeds" in two.reason
    same = ratio_interval(dict.fromkeys(part, 0.5), dict.fromkeys(part, 1.0))
    assert same is not None and (same.low, same.mean, same.high) == (0.5, 0.5, 0.5)


def test_a_row_has_the_ratio_of_its_means_also_where_a_seed_has_none_of_its_own() -> None:
    values = {
        "m": [0.2, 0.3, 0.1, 0.2, 0.3],
        "m.whole": [1.0, 1.1, -0.1, 0.9, 1.2],
        "m.share": [0.2, 0.27, None, 0.22, 0.25],
    }
    scores = {
        ("row", name): [
            Score(seed, value, 5, "" if value else "nothing lost") for seed, value in enumerate(own)
        ]
        for name, own in values.items()
    }
    scores |= {("naive", name): own for (_, name), own in scores.items()}
    cell = cell_of(scores, "row", SHARE, "naive")
    assert cell.interval is not None and cell.interval.n == 5
    assert cell.interval.low is not None and cell.interval.mean == pytest.approx(1.1 / 4.1)
    assert cell.reason == ""
    assert cell.difference is None


def test_a_ratio_names_measures_of_its_metric_and_is_not_tested() -> None:
    whole = Measure("m.whole", "nats", "none", "")
    with pytest.raises(ValueError, match=r"m\.share: ratio is 'm', allowed: m\.whole, m\.share"):
        MetricSpec("m", "1", "", (whole, SHARE), lambda run, controls: {})
    with pytest.raises(ValueError, match="no margin, gate or effect"):
        Measure("m.share", "fraction", "none", "", margin=0.1, ratio=("m", "m.whole"))
