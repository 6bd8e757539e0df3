"""Tests of what `freeze_loops` trains, asks and tells, row by row, against its protocol."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from built_streams import BuiltStream, content, maker, read, rows_of
from outlines import check_outline
from reading import Letters
from small_runs import finish, small_model, write_stranger

from seqmem import UsageError
from seqmem.core.options import validate
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.plugin.registry import Registry
from seqmem.record.reader import RunRecord
from seqmem.training.loop import update_stream_hash
from seqmem_plugins.metrics.task_recall import seqmem_metric
from seqmem_scenarios.freeze_loops import PRESETS, FreezeLoopsOptions, build, outline
from seqmem_scenarios.world import ATTRIBUTES

BASE: dict[str, Any] = {
    "tasks": 3,
    "facts_per_task": 4,
    "exposures": 3,
    "general_steps": 2,
    "rest_steps": 5,
    "batch_size": 4,
    "row_tokens": 64,
}


made = maker(BuiltStream[FreezeLoopsOptions], "freeze_loops", FreezeLoopsOptions, build, BASE)


# -- the protocol -----------------------------------------------------------------------------------------


def test_each_task_is_learned_by_its_component_and_then_by_the_others_comes_general_text() -> None:
    assert [(e.index, e.name, e.phase, e.task_label, e.trains, e.moments) for e in made().experiences] == [
        (0, "general", "general", None, "all", "carry"),
        (1, "task 0", "task", 0, "component", "carry"),
        (2, "general after task 0", "general", 0, "others", "carry"),
        (3, "task 1", "task", 1, "component", "carry"),
        (4, "general after task 1", "general", 1, "others", "carry"),
        (5, "task 2", "task", 2, "component", "carry"),
        (6, "general after task 2", "general", 2, "others", "carry"),
        (7, "rest", "rest", None, "all", "fresh"),
    ]


@pytest.mark.parametrize(
    "options", [{}, {"exposures": 1}, {"facts_per_task": 9}, {"tasks": 14, "facts_per_task": 2}]
)
def test_a_task_states_each_of_its_own_facts_as_often_as_the_options_say(options: dict[str, Any]) -> None:
    built = made(**options)
    owner = {probe.fact: probe.task_label for probe in built.asked("inferred")}
    assert Counter(owner.values()) == dict.fromkeys(range(built.options.tasks), built.options.facts_per_task)
    for e in built.experiences:
        stated = Counter(fact for row in rows_of(e) for fact in row.facts)
        own = [fact for fact, task in owner.items() if task == e.task_label and e.phase == "task"]
        assert stated == dict.fromkeys(own, built.options.exposures)
        assert e.steps == {"task": built.options.task_steps, "general": 2, "rest": 5}[e.phase]


def test_every_exposure_of_a_fact_has_another_wording_and_the_paraphrase_is_kept_from_training() -> None:
    built = made(exposures=7)
    for e in built.of_phase("task"):
        texts: dict[str, list[str]] = {}
        for row in rows_of(e):
            texts.setdefault(row.facts[0], []).append(read(row))
        assert all(len(set(versions)) == len(versions) == 7 for versions in texts.values())
    told = "\n".join(read(row) for row in built.rows)
    for probe in built.asked("ladder"):
        if probe.relation == "paraphrase":
            assert probe.prompt not in told
        if probe.relation == "verbatim":
            assert probe.prompt + probe.answer in told


def test_each_task_asks_about_one_attribute_dealt_anew_by_every_seed() -> None:
    deals = set()
    for seed in range(4):
        built = made(seed, tasks=8, facts_per_task=3)
        kinds = {probe.task_label: probe.group for probe in built.asked("inferred")}
        assert all(probe.group == kinds[probe.task_label] for probe in built.asked("inferred"))
        assert {kinds[task] for task in range(6)} == {attribute.name for attribute in ATTRIBUTES}
        assert (kinds[6], kinds[7]) == (kinds[0], kinds[1])  # the seventh kind is the first again
        deals.add(tuple(kinds.values()))
    assert len(deals) == 4


def test_all_people_of_all_tasks_are_different_and_twins_are_never_trained() -> None:
    built = made(tasks=8, facts_per_task=3)
    facts, twins = built.asked("inferred"), built.asked("inferred", twins=True)
    names = [probe.subject for probe in (*facts, *twins)]
    assert len(set(names)) == len(names) == 48
    told = "\n".join(read(row) for row in built.rows)
    assert not [twin.subject for twin in twins if twin.subject in told]
    by_fact = {probe.fact: probe for probe in facts}
    for twin in twins:
        fact = by_fact[twin.twin_of or ""]
        assert twin.prompt.replace(twin.subject, "X") == fact.prompt.replace(fact.subject, "X")
        assert (twin.task_label, twin.group, twin.chance) == (fact.task_label, fact.group, fact.chance)
        assert twin.answer != fact.answer


def test_general_text_is_read_once_and_is_the_text_source_s() -> None:
    built = made(text=lambda index: f"Document {index} of the source.")
    read_texts = [read(row) for e in built.experiences if e.phase != "task" for row in rows_of(e)]
    assert len(set(read_texts)) == len(read_texts) == (4 * 2 + 5) * 4
    assert sorted(built.trained) == list(range(outline(built.options).documents[0]))
    general = [probe.answer for probe in built.stream.probe_sets["general"]]
    assert general == [f"Document {index} of the source." for index in range(8)]


def test_short_documents_are_joined_until_a_row_is_full() -> None:
    built = made(row_tokens=200, text=lambda index: f"Document {index} of the source.")
    second = read(rows_of(built.experiences[0])[1])
    assert second == "\n".join(f"Document {index} of the source." for index in range(4, 8))


# -- probes -----------------------------------------------------------------------------------------------


def test_known_and_inferred_ask_the_same_and_differ_in_what_the_learner_is_told() -> None:
    built = made()
    inferred, known = built.stream.probe_sets["inferred"], built.stream.probe_sets["known"]
    assert [replace(probe, id=f"{probe.id}-known", task_known=True) for probe in inferred] == list(known)
    assert not any(probe.task_known for probe in (*inferred, *built.stream.probe_sets["ladder"]))
    assert len(inferred) == 2 * 3 * 4


@pytest.mark.parametrize("options", [{}, {"rest_steps": 1}, {"tasks": 1}])
def test_both_are_asked_before_every_experience_and_after_the_last(options: dict[str, Any]) -> None:
    built = made(**options)
    for name in ("inferred", "known"):
        asked = [
            (index, point.after)
            for index, point in built.points
            if point.probe_set == name and "boundary" in point.schedule
        ]
        last = built.experiences[-1]
        assert asked == [*((e.index, 0) for e in built.experiences), (last.index, last.steps)]


def test_the_rest_is_asked_at_powers_of_two_and_every_probe_form_three_times() -> None:
    built = made(rest_steps=13)
    rest = built.experiences[-1].index
    points = built.stream.probe_points(rest)
    assert [point.after for point in points] == sorted(point.after for point in points)
    assert [p.after for p in points if "log" in p.schedule] == [0, 1, 2, 4, 8, 13]
    for name in ("ladder", "general"):
        asked = [(index, point.after) for index, point in built.points if point.schedule == (name,)]
        assert asked == [(0, 0), (rest, 0), (rest, 13)]
    forms = Counter((probe.relation, probe.twin_of is None) for probe in built.stream.probe_sets["ladder"])
    names = ("last_token", "last_word", "verbatim", "paraphrase", "question")
    assert forms == {(name, trained): 12 for name in names for trained in (True, False)}


# -- outline, purity, content -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(12))
def test_the_outline_bounds_what_the_stream_really_holds(number: int) -> None:
    draw = random.Random(number)
    built = made(
        number,
        tasks=draw.randrange(1, 9),
        facts_per_task=draw.randrange(1, 7),
        exposures=draw.randrange(1, 5),
        general_steps=draw.randrange(1, 4),
        rest_steps=draw.randrange(1, 12),
        batch_size=draw.randrange(1, 7),
        row_tokens=draw.choice([48, 64, 130]),
    )
    check_outline(outline(built.options), built.stream, built.trained, built.heldout)


@pytest.mark.parametrize("preset", ["smoke", "default"])
def test_the_outline_bounds_the_presets(preset: str) -> None:
    built = made(**{**FreezeLoopsOptions().model_dump(), **PRESETS[preset]})
    check_outline(outline(built.options), built.stream, built.trained, built.heldout)


def test_the_paper_preset_is_outlined_without_being_built() -> None:
    options = validate(FreezeLoopsOptions, PRESETS["paper"], "scenario freeze_loops")
    stated = outline(options)
    assert stated.steps == 9 * 200 + 8 * 16 + 1000
    assert (stated.primary, stated.primary_relation, stated.branches) == ("task_recall", "question", False)


def test_an_experience_is_the_same_when_none_before_it_was_made() -> None:
    whole = [update_stream_hash("", e) for e in made(5).experiences]
    for index in reversed(range(len(whole))):
        assert update_stream_hash("", made(5).stream.experience(index)) == whole[index]


def test_one_version_of_the_scenario_always_feeds_the_same_rows() -> None:
    """A change of these hashes is a new version of the scenario: raise it in its spec, then pin the new ones."""
    for preset, options, pinned in (
        ("smoke", {"row_tokens": 256}, "d8b47b042036afa1"),
        ("smoke", {"row_tokens": 256, "tasks": 7, "exposures": 3}, "1e3b9f79a86acab6"),
    ):
        whole = {**FreezeLoopsOptions().model_dump(), **PRESETS[preset], **options}
        assert content(made(0, Letters(), max_positions=2048, **whole))[:16] == pinned


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": 0}, "tasks"),
        ({"facts_per_task": 0}, "facts_per_task"),
        ({"exposures": 0}, "exposures"),
        ({"general_steps": 0}, "general_steps"),
        ({"batch_size": 0}, "batch_size"),
        (
            {"tasks": 500, "facts_per_task": 40},
            "500 tasks of 40 facts_per_task need more people than the world has: 16384",
        ),
        ({"task": 3}, "task"),
        ({"row_tokens": 10}, "more than the row's 10; raise"),
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

TOLD = '''
import torch
from seqmem import Strategy, StrategySpec, hookimpl

seqmem_api = ">=1,<2"
CALLS = []


class Told(Strategy):
    """Notes which label every forward is told, and lets a known label change the logits."""

    def forward(self, learner, input_ids, task_label, prompt_tokens):
        logits = super().forward(learner, input_ids, task_label, prompt_tokens)
        CALLS.append((torch.is_grad_enabled(), task_label, len(input_ids)))
        return logits if task_label is None else logits * 0.5


@hookimpl
def seqmem_strategy():
    return [StrategySpec(name="told", version="1", summary="test", build=lambda options: Told())]
'''


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The plugins with the strategy above installed beside them."""
    folder = tmp_path / "site"
    folder.mkdir()
    write_stranger(folder, TOLD, "told")
    monkeypatch.syspath_prepend(folder)
    yield Registry.from_environment()
    sys.modules.pop("strange_strategies", None)


def run_of(
    model: Path, folder: Path, strategy: str, registry: Registry | None = None, sets: Sequence[str] = ()
) -> RunRecord:
    request = Request(
        scenario=("freeze_loops",),
        strategy=(strategy,),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        set=("scenario.row_tokens=96", *sets),
        reference=False,
        controls=False,
        device="cpu",
    )
    registry = registry or Registry.from_environment()
    (run,) = plan(request, registry).runs.values()
    return finish(run, folder, registry=registry)


def test_a_learner_is_told_the_task_in_training_and_where_a_probe_says_so_and_nowhere_else(
    registry: Registry, tmp_path: Path
) -> None:
    record = run_of(small_model(tmp_path / "model"), tmp_path / "run", "told", registry)
    calls = sys.modules["strange_strategies"].CALLS
    trained = [label for gradient, label, _ in calls if gradient]
    plan_of_labels = record.experiences[["task_label", "steps"]].itertuples(index=False)
    assert trained == [
        None if label != label else int(label) for label, steps in plan_of_labels for _ in range(steps)
    ]
    rows: Counter[int | None] = Counter()
    for gradient, label, count in calls:
        if not gradient:
            rows[label] += count
    probes = record.probes
    known = probes[probes["task_known"]]
    # with a forward of its own, each candidate is asked in a row of its own
    asked = known["choices"].map(len).groupby(known["task_label"].astype(int)).sum()
    assert {label: count for label, count in rows.items() if label is not None} == asked.to_dict()
    assert rows[None] >= len(probes) - len(known)
    # a label that is used shows: flatter logits where it was told, and so in the metric
    told = known.set_index(["step", "fact"])["logprob"]
    bare = record.asked(schedule="boundary").set_index(["step", "fact"])["logprob"]
    assert (told.loc[bare.index] != bare).mean() > 0.9
    (spec,) = seqmem_metric()
    assert spec.compute(record, {})["task_recall.routing"].value is not None


def test_a_strategy_that_routes_nothing_gives_the_same_answers_and_the_metric_says_so(tmp_path: Path) -> None:
    record = run_of(small_model(tmp_path / "model"), tmp_path / "run", "naive")
    (spec,) = seqmem_metric()
    values = spec.compute(record, {})
    routing = values["task_recall.routing"]
    assert routing.value is None and "nothing is routed" in routing.reason
    assert values["task_recall"] == values["task_recall.known"]
    assert record.info["contamination"] == {}
    assert record.experiences["trains"].tolist() == [
        *("all", "component", "others", "component", "others", "all")
    ]
