"""A seed that lies far from the others is named."""

from __future__ import annotations

import numpy as np
import pytest

from seqmem.scoring.outliers import outlying_seed


def test_of_normal_values_one_row_in_a_hundred_has_one() -> None:
    random = np.random.default_rng(0)
    for seeds in (6, 8, 16):
        named = [outlying_seed(dict(enumerate(random.normal(size=seeds)))) for _ in range(3000)]
        assert np.mean([one is not None for one in named]) == pytest.approx(0.01, abs=0.006)


def test_the_far_seed_is_named_by_its_own_number() -> None:
    values = {seed: 0.5 + 0.01 * (seed % 3) for seed in range(10, 18)}
    assert outlying_seed(values) is None
    assert outlying_seed({**values, 13: 0.1}) == 13


@pytest.mark.parametrize(
    "values", [{}, {0: 0.1}, dict.fromkeys(range(8), 0.5), {s: float(s == 0) for s in range(5)}]
)
def test_too_few_seeds_and_no_spread_name_nobody(values: dict[int, float]) -> None:
    assert outlying_seed(values) is None
