"""`distance_decay` against records of a learner with a known recall in every probe form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_records import Answer, Ask, Layout, Learner, write_record

from seqmem import NotApplicable, Row, RunRecord, Value
from seqmem_plugins.metrics.distance_decay import FORMS, in_all_forms, recall, seqmem_metric, with_age
from seqmem_plugins.metrics.figures.distance_decay import curve

(SPEC,) = seqmem_metric()
LAYOUT = Layout(loops=2, cycles=2, facts=10, prose=2, block=3, rest=40, even=4)


def knows(shares: Mapping[str, float], twins: Mapping[str, float] | None = None) -> Learner:
    """In each probe form the first facts of a loop are right, up to a share, once they were trained; twins always."""

    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        share = (twins or {}).get(ask.relation, 0.0) if ask.twin else shares.get(ask.relation, 0.0)
        return Answer(correct=ask.number < round(10 * share) and bool(ask.seen or ask.twin))

    return learner


FALLING = {"last_token": 0.9, "last_word": 0.7, "verbatim": 0.5, "paraphrase": 0.3, "question": 0.1}
TWINS = {"last_token": 0.6}


def score(run: RunRecord) -> Mapping[str, Value]:
    found = SPEC.compute(run, {})
    assert set(found) == {measure.name for measure in SPEC.measures}
    return found


def test_recall_by_probe_form_is_what_the_learner_knows_when_training_is_done(tmp_path: Path) -> None:
    found = score(write_record(tmp_path / "r", knows(FALLING), LAYOUT))
    for form, share in FALLING.items():
        assert found[f"distance_decay.{form}"].value == pytest.approx(share)
        assert found[f"distance_decay.{form}"].n_items == 20
    assert found["distance_decay"].value == pytest.approx(-0.2)
    assert found["distance_decay.token_minus_word"].value == pytest.approx(0.2)


def test_what_the_twins_get_right_is_no_memory(tmp_path: Path) -> None:
    found = score(write_record(tmp_path / "r", knows(FALLING, TWINS), LAYOUT))
    over = [0.9 - 0.6, 0.7, 0.5, 0.3, 0.1]
    assert found["distance_decay"].value == pytest.approx(np.polyfit(range(5), over, 1)[0])
    assert found["distance_decay.token_minus_word"].value == pytest.approx(0.2)
    assert found["distance_decay.over_twins"].value == pytest.approx(0.2 - 0.6)


def test_the_answers_read_are_the_last_before_the_rest(tmp_path: Path) -> None:
    """At the start nothing is known: a metric that read those answers, or all of them, would find less."""
    run = write_record(tmp_path / "r", knows(dict.fromkeys(FORMS, 1.0)), LAYOUT)
    asked = sorted(run.asked(schedule="ladder")["step"].unique())
    assert asked == [0, 20]
    assert set(in_all_forms(run)["step"]) == {20}
    assert recall(run).tolist() == [1.0] * 5 and list(recall(run).index) == list(FORMS)
    assert score(run)["distance_decay"].value == pytest.approx(0.0)


def test_facts_never_trained_are_left_out(tmp_path: Path) -> None:
    run = write_record(tmp_path / "r", knows(FALLING), LAYOUT)
    kept = run.exposures[run.exposures["fact"] != "f0.9"]
    run.__dict__["exposures"] = kept
    assert "f0.9" not in set(in_all_forms(run)["fact"]) and "t0.9" not in set(
        in_all_forms(run, twins=True)["fact"]
    )
    assert score(run)["distance_decay.verbatim"].value == pytest.approx(10 / 19)


def test_ages_count_from_a_fact_s_first_training(tmp_path: Path) -> None:
    run = write_record(tmp_path / "r", knows(FALLING), LAYOUT)
    first = run.exposures.groupby("fact")["step"].min()
    rows = with_age(run, run.asked(schedule="boundary", twins=True))
    assert (rows["age"] == rows["step"] - rows["twin_of"].map(first)).all()
    by_bin = curve(run, "question", "bin", twins=False)
    # first trained at step 3 (loop 0) or 8 (loop 1), known from its loop's end, step 5 or 10, on
    assert by_bin[-1] == 0.0 and set(by_bin.index) <= set(range(-1, 8))
    rows = with_age(run, run.asked(relation="question").drop_duplicates(["step", "probe"]))
    two_three = rows[rows["age"].isin([2, 3])]["correct"].mean()
    assert by_bin[2] == pytest.approx(two_three)
    by_step = curve(run, "question", "step", twins=False)
    assert 0 not in by_step.index and by_step[20] == pytest.approx(0.1)


def test_what_was_not_asked_gives_no_number_with_the_reason(tmp_path: Path) -> None:
    everything = write_record(tmp_path / "r", knows(FALLING), LAYOUT).probes

    def without(rows: pd.DataFrame) -> Mapping[str, Value]:
        run = RunRecord.open(tmp_path / "r")
        run.__dict__["probes"] = rows
        return score(run)

    alone = without(everything[everything["twin_of"].isna()])
    assert "no twin was asked in every probe form" in alone["distance_decay"].reason
    assert alone["distance_decay.token_minus_word"].value == pytest.approx(0.2)
    far = without(everything[everything["relation"].isin(["paraphrase", "question"])])
    assert far["distance_decay"].reason == "2 probe forms were asked, 3 are needed"
    assert far["distance_decay.last_word"].reason == "the probe form last_word was not asked"
    assert far["distance_decay.over_twins"].reason == "the last token and the last word were not both asked"
    early = without(everything[everything["step"] == 0])
    assert (
        early["distance_decay.question"].reason == "the probe forms were not asked after a fact was trained"
    )


def test_it_is_not_applicable_where_the_probe_forms_are_not_asked(tmp_path: Path) -> None:
    documents = write_record(
        tmp_path / "r", knows({}), Layout(loops=2, cycles=2, facts=2, documents=True, rest=0)
    )
    with pytest.raises(NotApplicable):
        SPEC.compute(documents, {})
    assert SPEC.draw is not None and SPEC.draw([Row("r", {}, {0: documents})]) is None


def test_the_figure_shows_the_probe_forms_and_token_and_word_over_steps_and_age(tmp_path: Path) -> None:
    assert SPEC.draw is not None
    runs = {
        seed: write_record(tmp_path / str(seed), knows(FALLING, TWINS), LAYOUT, seed=seed) for seed in (0, 1)
    }
    rows = [Row(f"row {n}", {"scenario": "s", "model": "m"}, runs) for n in range(5)]
    figure = SPEC.draw(rows)
    assert figure is not None and len(figure.axes) == 3 * 3
    forms, steps, _ = figure.axes[:3]
    assert forms.get_title() == "row 0"
    lines = {line.get_label(): line for line in (*forms.lines, *steps.lines)}
    assert lines["all probe forms"].get_ydata().tolist() == pytest.approx(list(FALLING.values()))
    assert lines["last token, twins"].get_ydata().tolist()[-1] == pytest.approx(0.6)
    assert lines["last word"].get_xdata().tolist() == [20.0]  # asked at the start too, when none was trained
    assert "first 3 of 5 rows" in figure.get_suptitle()
