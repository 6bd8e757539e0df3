"""Detectors: one contrast against zero, and what it could have seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from seqmem.core.measures import Measure
from seqmem.scoring.cells import Score
from seqmem.scoring.detectors import detections

SIGNAL = Measure("signal", "nats", "none", "", effect=0.5)


def scored(**rows: Sequence[float]) -> dict[tuple[str, str], list[Score]]:
    return {
        (label, "signal"): [Score(seed, value, 4, "") for seed, value in enumerate(values)]
        for label, values in rows.items()
    }


def spread(mean: float, sd: float, seeds: int = 8) -> list[float]:
    """Values of exactly this mean and SD."""
    values = np.random.default_rng(0).standard_normal(seeds)
    return list(mean + sd * (values - values.mean()) / values.std(ddof=1))


@pytest.mark.parametrize(
    ("values", "detected"),
    [
        (spread(1.0, 0.3), "found"),
        (spread(-1.0, 0.3), "below zero"),
        (spread(0.0, 0.2), "not found"),  # sees .23, looks for .5
        (spread(0.0, 1.0), "underpowered"),  # sees 1.15
        (spread(1.0, 0.3, seeds=5), "too few seeds"),
    ],
)
def test_a_detector_says_what_it_found_or_could_have_seen(values: list[float], detected: str) -> None:
    found = detections(["row"], [SIGNAL], scored(row=values))
    assert found["row", "signal"].detected == detected


def test_all_rows_together_are_the_mean_by_seed_of_those_that_all_have() -> None:
    rows = scored(a=spread(0.4, 0.5), b=spread(0.2, 0.5)[:7])
    found = detections(["a", "b", "none"], [SIGNAL], rows)
    assert ("none", "signal") not in found
    together = found[None, "signal"].contrast
    assert together.interval.n == 7
    expected = np.mean([[one.value for one in scores[:7]] for scores in rows.values()])
    assert together.interval.mean == pytest.approx(float(expected))


def test_rows_of_one_detector_are_one_family() -> None:
    alone = detections(["a"], [SIGNAL], scored(a=spread(0.3, 0.3)))["a", "signal"].contrast
    among = detections(
        ["a", "b"], [SIGNAL], scored(a=spread(0.3, 0.3), b=list(np.random.default_rng(1).normal(size=8)))
    )
    p = among["a", "signal"].contrast.p
    assert alone.p is not None and p is not None and p >= alone.p == alone.raw_p


def test_a_row_with_fewer_seeds_than_others_is_not_said_to_have_nothing() -> None:
    """Six equal values among rows with twelve: the adjusted test could not have come out, whatever they are."""
    rows = {"few": [3.0, 3.01, 2.99, 3.02, 2.98, 3.0]}
    rows |= {f"row {n}": list(np.random.default_rng(n).normal(size=12)) for n in range(9)}
    found = detections(list(rows), [SIGNAL], scored(**rows))
    assert found["few", "signal"].detected == "too few seeds"


def test_a_measure_without_an_effect_is_no_detector() -> None:
    assert not detections(["a"], [Measure("signal", "nats", "none", "")], scored(a=spread(1, 0.1)))


def test_an_effect_that_nobody_could_find_is_refused() -> None:
    with pytest.raises(ValueError, match="an effect must be above 0"):
        Measure("signal", "nats", "none", "", effect=0.0)
