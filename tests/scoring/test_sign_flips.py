from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from seqmem.scoring.family import adjusted, too_few_seeds
from seqmem.scoring.sign_flips import sign_flip_p, step_down_max_t
from seqmem.scoring.statistics import Difference, paired_difference


@pytest.mark.parametrize(("n", "expected"), [(5, None), (6, 2 / 64), (8, 2 / 256), (12, 2 / 4096)])
def test_p_of_equal_signs_is_exact_and_needs_six_seeds(n: int, expected: float | None) -> None:
    assert sign_flip_p(list(np.linspace(0.1, 0.2, n))) == pytest.approx(expected)


def test_p_is_the_same_every_time_where_flips_are_drawn() -> None:
    differences = list(np.random.default_rng(0).normal(0.3, 1, 20))
    assert sign_flip_p(differences) == sign_flip_p(differences)


def test_p_of_no_difference_is_one() -> None:
    assert sign_flip_p([0.0] * 6) == 1.0


def test_sums_that_differ_in_the_last_bit_are_ties() -> None:
    differences = [0.1, 0.2, -0.3, 0.1, 0.2, -0.3]
    exact = [round(10 * difference) for difference in differences]
    assert sign_flip_p(differences) == sign_flip_p(exact) == 1.0


def test_p_fires_at_its_level_under_the_null() -> None:
    random = np.random.default_rng(3)
    p_values = [sign_flip_p(list(random.normal(0, 1, 8))) or 0.0 for _ in range(400)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.025)


# ---- families ---------------------------------------------------------------------------------------------


def family_p(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(step_down_max_t([dict(enumerate(map(float, row))) for row in rows]))


def drawn(shifts: list[float], seeds: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Differences of rows that share a reference, of standard deviation 1, by how much each row differs."""
    noise = random.normal(0, np.sqrt(0.5), (len(shifts), seeds)) - random.normal(0, np.sqrt(0.5), seeds)
    return np.asarray(noise + np.array(shifts)[:, None])


def test_a_family_of_two_by_hand() -> None:
    """u is 6 / sqrt(6) of the first row and 4 / sqrt(12) of the second; the largest of both reaches the first in 2
    of 64 flips, the second alone reaches its own where its signed sum is at least 4."""
    first, second = [1.0] * 6, [3.0, 1.0, 1.0, 1.0, -1.0, -1.0]
    sums = [
        abs(sum(value if flips >> place & 1 else -value for place, value in enumerate(second)))
        for flips in range(64)
    ]
    assert step_down_max_t([dict(enumerate(second)), dict(enumerate(first))]) == pytest.approx(
        [sum(one >= 4 for one in sums) / 64, 2 / 64]
    )
    assert step_down_max_t([]) == []


def test_a_family_of_one_is_the_row_alone() -> None:
    row = np.random.default_rng(1).normal(0.4, 1, 9)
    assert family_p(row[None])[0] == sign_flip_p(list(row))


def test_a_row_far_off_is_shown_however_many_rows_there_are() -> None:
    """Nine rows of eight seeds of which one differs by 3 SD, with and without rows that differ much more."""
    random = np.random.default_rng(11)
    for more in (0, 3, 20):
        shifts = [3.0, *[0.0] * 8, *[-8.0] * more]
        shown = [family_p(drawn(shifts, 8, random))[0] < 0.05 for _ in range(60)]
        assert np.mean(shown) > 0.95


def test_padding_changes_no_verdict() -> None:
    """Rows that differ beyond doubt neither make another row differ nor hide that it does."""
    random = np.random.default_rng(12)
    changed = 0
    for _ in range(100):
        rows = drawn([1.5, *[0.0] * 5], 8, random)
        padded = np.vstack([rows, -8 + random.normal(0, 1, (3, 8))])
        before, after = family_p(rows), family_p(padded)[:6]
        assert (after >= before).all()
        changed += int(((before < 0.05) != (after < 0.05)).any())
    assert changed <= 2


def test_a_row_that_does_not_differ_is_called_different_in_one_table_of_twenty() -> None:
    random = np.random.default_rng(13)
    for shifts in ([0.0] * 9, [4.0, 4.0, *[0.0] * 4]):
        still = np.array(shifts) == 0
        wrong = [(family_p(drawn(shifts, 8, random)) < 0.05)[still].any() for _ in range(300)]
        assert 0 < np.mean(wrong) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def test_the_order_of_rows_and_seeds_does_not_matter() -> None:
    rows = drawn([1.0, 0.0, 0.5], 7, np.random.default_rng(14))
    assert (family_p(rows[::-1])[::-1] == family_p(rows)).all()
    assert (family_p(rows[:, ::-1]) == family_p(rows)).all()


def differences(rows: list[dict[int, float]]) -> list[Difference | None]:
    return [paired_difference(row, dict.fromkeys(row, 0.0)) for row in rows]


def test_a_family_holds_what_can_be_tested() -> None:
    good, few = dict.fromkeys(range(8), 0.2), dict.fromkeys(range(3), 0.4)
    first, none, third = adjusted([*differences([good]), None, *differences([few])])
    assert first is not None and first.p == pytest.approx(2 / 256)
    assert none is None and third is not None and third.p is None


def test_a_row_with_fewer_seeds_may_be_undecidable_and_says_so() -> None:
    """Six seeds reach u = 2.449 at most, with p 2 / 64; rows of twelve pass it in some more flips, each in others."""
    short = dict.fromkeys(range(6), 1.0)
    signs = np.random.default_rng(15).permuted(np.tile([1.0, -1.0], (8, 6)), axis=1)
    longer = [dict(enumerate(map(float, row))) for row in signs]
    for rows in ([short, *longer], [{**short, 0: 0.5}, *longer]):
        said = too_few_seeds(differences(rows))
        assert said == ["with 6 common seeds no outcome could have been told beside rows with 12", *[""] * 8]
    p = adjusted(differences([short, *longer]))[0]
    assert p is not None and p.p is not None and p.p >= 0.05
    assert too_few_seeds(differences([short, longer[0]])) == ["", ""]
    assert too_few_seeds(differences([short, short])) == ["", ""]
    assert too_few_seeds([None, *differences([dict.fromkeys(range(3), 1.0)])]) == ["", ""]
