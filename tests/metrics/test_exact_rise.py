"""Does `exact_rise` tell a memory that comes back from the form of an answer that is learned?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from helpers_records import Answer, Ask, Layout, Learner, write_record

from seqmem import Interval, Value
from seqmem.record.row import Row
from seqmem.scoring.comparison import tabulate
from seqmem_plugins.metrics import exact_rise

LAYOUT = Layout(loops=2, cycles=2, facts=12, rest=40, even=8)
(SPEC,) = exact_rise.metric.hook()


def learner(*, known: float = 0.8, said: tuple[float, float] = (1, 1), later: float | None = None) -> Learner:
    """A learner that tells the right answer from others, and speaks in the right form, at some rate.

    Args:
        known: share of facts that forced choice finds when the loops end, and after.
        said: share of answers in the right form when the loops end, and after the rest.
        later: share of facts that forced choice finds after the rest.
    """

    def answer(ask: Ask, random: np.random.Generator) -> Answer:
        rested = bool(ask.rest_step)
        knows = random.random() < (0.1 if ask.twin else later if rested and later is not None else known)
        speaks = random.random() < said[rested]
        return Answer(knows and speaks, best_other=-3.0 if knows else -1.0, in_form=speaks)

    return answer


def values(folder: Path, answers: Learner, seed: int = 0, **info: object) -> Mapping[str, Value]:
    run = write_record(
        folder, answers, LAYOUT, seed=seed, info={"design": {"recall": "forced_choice"}, **info}
    )
    return SPEC.compute(run, {})


def verdict(folder: Path, answers: Learner, plain: Learner | None = None) -> str:
    """The verdict over six seeds, beside a control with a plain rest where one is given."""
    info = {"design": {"recall": "forced_choice"}}
    kinds = {"own": answers} if plain is None else {"own": answers, "plain_rest": plain}
    runs = {
        kind: {
            seed: write_record(folder / f"{kind}-{seed}", one, LAYOUT, seed=seed, info=info)
            for seed in range(6)
        }
        for kind, one in kinds.items()
    }
    row = Row(
        "naive", {"scenario": "s", "model": "m"}, runs["own"], {"plain_rest": runs.get("plain_rest", {})}
    )
    table = tabulate([row], [SPEC], {"s": "exact_rise"})
    return table.boards[0].verdicts["naive"].text


def test_the_form_of_an_answer_that_the_rest_teaches_is_named_and_no_memory(tmp_path: Path) -> None:
    said = verdict(tmp_path, learner(said=(0.05, 0.9), later=0.5), learner(said=(0.05, 0.05), later=0.5))
    assert "exact answers rise by " in said
    assert "more of all answers in their form, and forced choice is not shown to" in said
    assert "the form of an answer is learned, no memory is shown to come back" in said
    assert "a rest without that form has " in said and said.endswith(" less of it")


def test_a_form_that_is_learned_is_named_even_where_the_rise_of_exact_answers_is_not_shown() -> None:
    means = {
        "exact_rise": Interval(0.18, -0.01, 0.37, 3),
        "exact_rise.form": Interval(0.64, 0.47, 0.82, 3),
        "exact_rise.forced_choice": Interval(0.18, -0.14, 0.49, 3),
    }
    assert exact_rise.remark(means) == (
        "exact answers rise by .18 [-.01, .37] in the rest, with .64 [.47, .82] more of all answers in their form, "
        "and forced choice is not shown to (.18 [-.14, .49]): the form of an answer is learned, no memory is shown "
        "to come back"
    )
    assert exact_rise.remark({**means, "exact_rise": Interval(-0.1, -0.2, 0.0, 3)}) == ""


def test_a_memory_that_comes_back_is_said_to(tmp_path: Path) -> None:
    said = verdict(tmp_path, learner(known=0.2, later=0.9))
    assert "answers come back in the rest: forced choice rises by " in said


def test_nothing_is_said_of_a_memory_that_fades(tmp_path: Path) -> None:
    assert "rise" not in verdict(tmp_path, learner(known=0.9, later=0.4)).partition("; ")[2]


def test_noise_alone_rises_by_nothing(tmp_path: Path) -> None:
    found = [values(tmp_path / str(seed), learner(known=0.5, said=(0.7, 0.7)), seed) for seed in range(40)]
    for name in ("exact_rise", "exact_rise.form", "exact_rise.forced_choice"):
        rises = np.array([one[name].value for one in found], dtype=float)
        assert abs(rises.mean()) < 3 * rises.std(ddof=1) / np.sqrt(len(rises)), name


def test_a_rise_is_read_whole(tmp_path: Path) -> None:
    found = [values(tmp_path / str(seed), learner(said=(0, 1), known=1), seed) for seed in range(4)]
    assert np.mean([one["exact_rise"].value for one in found]) == pytest.approx(0.9, abs=0.05)
    assert all(one["exact_rise.form"].value == 1 for one in found)


def test_without_competing_answers_and_without_the_control_the_reason_is_given(tmp_path: Path) -> None:
    found = values(tmp_path / "run", learner(), design={"recall": "exact_match"})
    assert "recall is by exact match" in found["exact_rise.forced_choice"].reason
    assert "plain_rest" in found["exact_rise.taught"].reason
    unasked = values(tmp_path / "other", lambda ask, random: Answer(True))
    assert "answers have no form" in unasked["exact_rise"].reason
