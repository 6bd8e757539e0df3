"""Tests of what `learning_threshold` trains and asks, step by step, against its protocol."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from built_streams import BuiltStream, content, ids, maker, read, rows_of
from outlines import check_outline
from reading import TOKENIZER, Letters
from small_runs import finish, small_model

from seqmem import Experience, Strategy, Stream, UsageError
from seqmem.core.options import validate
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.plugin.registry import Registry
from seqmem.record.files import write_table
from seqmem.record.reader import RunRecord
from seqmem.record.schema import ITEMS
from seqmem.record.writer import RecordWriter
from seqmem.training.learner import Learner
from seqmem.training.loop import train, update_stream_hash
from seqmem.training.run_state import Progress, Run
from seqmem_scenarios.learning_threshold import PRESETS, SWEEP, LearningThresholdOptions, build, outline

BASE: dict[str, Any] = {
    "facts": 3,
    "max_exposures": 5,
    "others": 2,
    "criterion": 2,
    "survive_steps": 2,
    "base_steps": 3,
    "background_rows": 4,
    "row_tokens": 64,
}


made = maker(
    BuiltStream[LearningThresholdOptions], "learning_threshold", LearningThresholdOptions, build, BASE
)


# -- the protocol -----------------------------------------------------------------------------------------


def test_every_fact_starts_from_the_base_and_is_followed_by_background() -> None:
    found = [
        (e.index, e.name, e.phase, e.task_label, e.steps, e.start_from, e.save_as) for e in made().experiences
    ]
    assert found == [
        (0, "base", "general", None, 3, None, "base"),
        (1, "fact 0", "inject", 0, 5, "base", None),
        (2, "background after fact 0", "general", None, 2, None, None),
        (3, "fact 1", "inject", 1, 5, "base", None),
        (4, "background after fact 1", "general", None, 2, None, None),
        (5, "fact 2", "inject", 2, 5, "base", None),
        (6, "background after fact 2", "general", None, 2, None, None),
    ]
    assert outline(made().options).branches


@pytest.mark.parametrize("others", [0, 1, 6])
def test_a_step_states_the_fact_once_among_the_others(others: int) -> None:
    built = made(others=others)
    for number, e in enumerate(built.of_phase("inject")):
        fact, _ = built.stream.probe_sets[f"fact {number}"]
        for batch in e.batches:
            assert [row.facts for row in batch] == [(fact.fact,), *[()] * others]
            assert fact.subject in read(batch[0]) and fact.answer.strip() in read(batch[0])
    background_rows = [row for e in built.experiences if e.phase == "general" for row in rows_of(e)]
    assert len(background_rows) == (3 + 3 * 2) * 4
    assert not any(row.facts for row in background_rows)


def test_every_exposure_has_another_wording_until_they_are_used_up() -> None:
    built = made(max_exposures=9)
    for e in built.of_phase("inject"):
        texts = [read(batch[0]) for batch in e.batches]
        assert len(set(texts[:7])) == 7  # the eighth wording is never trained
        assert texts[7:] == texts[:2]


def test_all_facts_meet_the_very_same_background_each_row_of_it_once() -> None:
    built = made(text=lambda index: f"Document {index} of the source.")
    beside = [[read(row) for batch in e.batches for row in batch[1:]] for e in built.of_phase("inject")]
    after = [[read(row) for row in rows_of(e)] for e in built.experiences if e.name.startswith("background")]
    assert beside[0] == beside[1] == beside[2]
    assert after[0] == after[1] == after[2]
    texts = [*(read(row) for row in rows_of(built.experiences[0])), *beside[0], *after[0]]
    assert len(set(texts)) == len(texts) == 12 + 10 + 8
    assert set(built.trained) == set(range(outline(built.options).documents[0]))


def test_other_batch_mixes_teach_the_same_facts_in_the_same_words() -> None:
    alone, mixed = made(others=0), made(others=6)
    for one, other in zip(alone.of_phase("inject"), mixed.of_phase("inject"), strict=True):
        assert ids([b[0] for b in one.batches]) == ids([b[0] for b in other.batches])
    assert alone.stream.probe_sets == mixed.stream.probe_sets


def test_twins_mirror_their_facts_and_are_never_trained() -> None:
    built = made(facts=12)
    told = "\n".join(read(row) for row in built.rows)
    for number in range(12):
        fact, twin = built.stream.probe_sets[f"fact {number}"]
        assert twin.twin_of == fact.fact and fact.twin_of is None
        assert twin.prompt.replace(twin.subject, "X") == fact.prompt.replace(fact.subject, "X")
        assert twin.chance == fact.chance and twin.answer != fact.answer
        assert (fact.position, twin.position, fact.task_label) == (number, number, number)
        assert twin.subject not in told
        assert "Q:" not in "\n".join(read(batch[0]) for batch in built.of_phase("inject")[number].batches)
        # the fact's answer is what competes with the twin's own
        assert twin.choice_names == (twin.answer.strip(), fact.answer.strip())
        assert TOKENIZER.decode(list(twin.choices[1])).strip() == fact.answer.strip()


# -- when what is asked -----------------------------------------------------------------------------------


def test_a_fact_is_asked_before_the_first_and_after_every_exposure_and_after_the_background() -> None:
    built = made()
    for e in built.experiences:
        points = [(p.after, p.probe_set, p.schedule) for p in built.stream.probe_points(e.index)]
        number = (e.index - 1) // 2
        general = (e.steps, "general", ("general",))
        if e.phase == "inject":
            assert points == [*((after, f"fact {number}", ("exposure",)) for after in range(6)), general]
        elif e.index:
            asked = (2, f"fact {number}", ("survival",))
            assert points == [asked, *([general] if e.index == 6 else [])]
        else:
            assert points == [(0, "general", ("general",)), general]
    assert built.stream.probe_points(0)[1].after == 3
    assert len(made(base_steps=0).stream.probe_points(0)) == 1


# -- outline, purity, content -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(12))
def test_the_outline_bounds_what_the_stream_really_holds(number: int) -> None:
    draw = random.Random(number)
    exposures = draw.randrange(1, 9)
    built = made(
        number,
        facts=draw.randrange(1, 6),
        max_exposures=exposures,
        others=draw.choice([0, 1, 5]),
        criterion=draw.randrange(1, exposures + 1),
        survive_steps=draw.randrange(1, 4),
        base_steps=draw.randrange(0, 3),
        background_rows=draw.randrange(1, 5),
        row_tokens=draw.choice([48, 64, 130]),
    )
    check_outline(outline(built.options), built.stream, built.trained, built.heldout)


@pytest.mark.parametrize("preset", ["smoke", "default"])
def test_the_outline_bounds_the_presets(preset: str) -> None:
    built = made(**{**LearningThresholdOptions().model_dump(), **PRESETS[preset]})
    check_outline(outline(built.options), built.stream, built.trained, built.heldout)


def test_the_paper_preset_is_outlined_without_being_built() -> None:
    options = validate(LearningThresholdOptions, PRESETS["paper"], "scenario learning_threshold")
    assert outline(options).steps == 100 + 32 * (64 + 200)


def test_an_experience_is_the_same_when_none_before_it_was_made() -> None:
    whole = [update_stream_hash("", e) for e in made(5).experiences]
    for index in reversed(range(len(whole))):
        assert update_stream_hash("", made(5).stream.experience(index)) == whole[index]


def test_one_version_of_the_scenario_always_feeds_the_same_rows() -> None:
    """A change of these hashes is a new version of the scenario: raise it in its spec, then pin the new ones."""
    for options, pinned in (
        ({}, "511d5ee37e7f7a98"),
        ({"others": 0, "facts": 7, "base_steps": 0}, "15cc89693e98342f"),
    ):
        whole = {**LearningThresholdOptions().model_dump(), **PRESETS["smoke"], "row_tokens": 256, **options}
        assert content(made(0, Letters(), max_positions=2048, **whole))[:16] == pinned


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": 6}, "criterion (6) must be at most max_exposures (5)"),
        ({"criterion": 0}, "criterion"),
        ({"facts": 0}, "facts"),
        ({"others": -1}, "others"),
        ({"survive_steps": 0}, "survive_steps"),
        ({"facts": 20_000}, "20000 facts need more people than the world has: 16384"),
        ({"other": 3}, "other"),
        ({"row_tokens": 8}, "more than the row's 8; raise"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        made(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_model_too_short_for_the_probes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"probe .+ has \d+ tokens, the model reads 12"):
        made(max_positions=12)


# -- runs -------------------------------------------------------------------------------------------------


class Bigram(torch.nn.Module):
    """Next-token logits from a table of low rank: little enough to train in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.left = torch.nn.Parameter(torch.ones(TOKENIZER.get_vocab_size(), 2))
        self.right = torch.nn.Parameter(torch.zeros(2, TOKENIZER.get_vocab_size()))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.left[input_ids] @ self.right)


def answers(folder: Path, stream: Stream) -> Any:
    """Log-probabilities by probe and exposures of a run of the stream."""
    folder.mkdir()
    learner = Learner(Bigram(), OptimizerSettings(lr=0.05), torch.device("cpu"), seed=0)
    run = Run(
        learner, Strategy(), stream, RecordWriter(folder), Progress(), "schedule", checkpoint_every=1000
    )
    train(run)
    write_table(folder / "items.parquet", {name: [] for name in ITEMS.names}, ITEMS)
    rows = RunRecord(folder, {}).tables.read("probes").to_pandas()
    rows = rows.assign(schedule=rows["schedule"].map(" ".join))
    rows = rows[rows["schedule"] != "general"]
    return rows.set_index(["probe", "schedule", "after"])["logprob"]


def test_nothing_of_one_fact_is_left_when_the_next_begins(tmp_path: Path) -> None:
    """A run without the facts before the last measures the last one to the very bit."""
    stream = made().stream
    places = [0, 5, 6]  # the base, fact 2 and its background

    def experience(index: int) -> Experience:
        return replace(stream.experience(places[index]), index=index)

    alone = replace(
        stream,
        length=3,
        experience=experience,
        probe_points=lambda index: stream.probe_points(places[index]),
    )
    whole, last = answers(tmp_path / "whole", stream), answers(tmp_path / "alone", alone)
    assert len(last) == 2 * (6 + 1)
    assert (whole.loc[last.index] == last).all()
    assert last.nunique() > 7  # and it did learn


def test_a_run_from_the_untrained_base_states_and_asks_each_fact_as_planned(tmp_path: Path) -> None:
    request = Request(
        scenario=("learning_threshold",),
        strategy=("naive",),
        model=(str(small_model(tmp_path / "model")),),
        preset="smoke",
        seeds="0",
        set=("scenario.row_tokens=96", "scenario.base_steps=0"),
        sweep=("scenario.others=1",),
        reference=False,
        controls=False,
        device="cpu",
    )
    registry = Registry.from_environment()
    (run,) = plan(request, registry).runs.values()
    record = finish(run, tmp_path / "run", registry=registry)
    assert record.exposures.groupby("fact")["count"].sum().to_dict() == {"0-0": 6, "0-1": 6}
    asked = record.asked(schedule="exposure")
    assert asked.groupby("fact")["after"].apply(list).to_dict() == {
        fact: list(range(7)) for fact in ("0-0", "0-1")
    }
    assert record.asked(schedule="exposure", twins=True)["best_other"].notna().all()
    assert record.info["contamination"] == {}
    first = asked[asked["after"] == 0].set_index("fact")
    assert record.experiences.set_index("experience")["steps"].tolist() == [0, 6, 2, 6, 2]
    assert first["step"].to_dict() == {"0-0": 0, "0-1": 8}


@pytest.mark.parametrize(("preset", "runs"), [("smoke", 4), ("default", 9), ("paper", 16)])
def test_the_surface_is_planned_as_one_run_a_cell(preset: str, runs: int) -> None:
    request = Request(
        scenario=("learning_threshold",), strategy=("naive",), preset=preset, seeds="0", device="cpu"
    )
    planned = plan(request, Registry.from_environment()).runs.values()
    cells = {(run.recipe.optimizer.lr, run.recipe.scenario.options["others"]) for run in planned}
    assert len(cells) == len(planned) == runs
    assert len(SWEEP[preset]) == 2
