"""Tests of what `saturation` trains and asks, row by row, against its protocol; and what a run of it stores."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from built_streams import BuiltStream, content, maker, read, rows_of
from reading import Letters, shipped_tokenizer
from small_runs import finish, installed

from seqmem import Example, RunRecord, UsageError
from seqmem.core.count import counted
from seqmem.core.options import validate
from seqmem.planning.grid import PlannedRun
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem_plugins.metrics.bits_per_parameter import capacity, learned_bits
from seqmem_scenarios.saturation import PEOPLE, PRESETS, TOLD, SaturationOptions, build, outline
from seqmem_scenarios.world import ATTRIBUTE_BY_NAME, World

BASE: dict[str, Any] = {"facts": 80, "exposures": 16, "batch_size": 6, "probed": 32}
"""Options of these tests where they say nothing; presets may be tuned, what options mean may not change."""


NANO = shipped_tokenizer("nano")


def no_text(index: int) -> str:
    raise AssertionError("no background is needed")


made = maker(
    BuiltStream[SaturationOptions],
    "saturation",
    SaturationOptions,
    build,
    BASE,
    tokenizer=NANO,
    text=no_text,
    max_positions=256,
)


def text(row: Example) -> str:
    return read(row, NANO)


# -- what is trained --------------------------------------------------------------------------------------


def test_a_row_is_a_name_and_its_values_and_the_loss_counts_the_values_alone() -> None:
    for row in rows_of(made().stream.experience(0)):
        first, last, *values = text(row).split()
        assert len(values) == len(TOLD) == len(row.facts)
        assert all(value in a.values for value, a in zip(values, TOLD, strict=True))
        targets = NANO.decode(row.input_ids[row.loss_mask].tolist())
        assert targets.split() == values
        assert not row.loss_mask[: len(NANO.encode(f"{first} {last}").ids)].any()
        assert [fact.split("-")[2] for fact in row.facts] == [a.name for a in TOLD]
        assert row.segments is None and row.weights is None


@pytest.mark.parametrize("facts", [4, 52, 400])
@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_every_epoch_states_every_fact_once(facts: int, batch_size: int) -> None:
    built = made(facts=facts, batch_size=batch_size, exposures=3)
    counts: Counter[str] = Counter()
    for epoch in built.experiences:
        stated = [fact for batch in epoch.batches for row in batch for fact in row.facts]
        assert len(stated) == len(set(stated)) == facts
        assert all(len(batch) == batch_size for batch in epoch.batches[:-1])
        counts.update(stated)
    assert set(counts.values()) == {3}
    assert {probe.fact for probe in built.asked("facts", twins=False)} <= set(counts)


def test_epochs_are_in_orders_of_their_own_and_alike_whatever_was_made_before() -> None:
    built, again = made(), made()
    orders = [
        [row.facts for row in rows_of(built.stream.experience(epoch))] for epoch in range(built.stream.length)
    ]
    assert len({tuple(order) for order in orders}) == built.stream.length
    assert [row.facts for row in rows_of(again.stream.experience(9))] == orders[9]
    assert [epoch.name for epoch in built.experiences][:2] == ["epoch 0", "epoch 1"]
    assert {(e.phase, e.task_label, e.trains, e.moments) for e in built.experiences} == {
        ("inject", None, "all", "carry")
    }


def test_more_facts_keep_the_ones_of_a_smaller_run() -> None:
    few, many = (
        {row.facts: text(row) for row in rows_of(made(facts=n).stream.experience(0))} for n in (40, 400)
    )
    assert few.items() <= many.items()
    assert (
        made(facts=40, probed=40).stream.probe_sets["facts"]
        == made(facts=400, probed=40).stream.probe_sets["facts"]
    )


def test_values_are_uniform_in_their_sets_and_independent_of_the_seed_s_others() -> None:
    counts: Counter[str] = Counter()
    for row in rows_of(made(facts=16_000).stream.experience(0)):
        counts.update(text(row).split()[2:])
    for attribute in TOLD:
        own = np.array([counts[value] for value in attribute.values])
        assert own.sum() == 4000 and len(own) == 64
        assert ((own - 62.5) ** 2 / 62.5).sum() < 63 + 5 * math.sqrt(2 * 63)  # chi-square, 5 sigma


def test_another_seed_has_other_people_or_other_values() -> None:
    one, other = ({text(row) for row in rows_of(made(seed).stream.experience(0))} for seed in (0, 1))
    assert not one & other


# -- what is asked ----------------------------------------------------------------------------------------


def test_a_value_is_asked_after_all_that_stood_before_it_in_the_row() -> None:
    built = made()
    rows = {fact: text(row) for row in rows_of(built.stream.experience(0)) for fact in row.facts}
    ids = {
        fact: tuple(row.input_ids.tolist())
        for row in rows_of(built.stream.experience(0))
        for fact in row.facts
    }
    asked = built.asked("facts", twins=False)
    assert len(asked) == 32 and Counter(probe.position for probe in asked) == dict.fromkeys(range(4), 8)
    for probe in asked:
        assert rows[probe.fact].startswith(probe.prompt + probe.answer)
        assert ids[probe.fact][: len(probe.input_ids)] == probe.input_ids
        assert len(probe.prompt.split()) == 2 + (probe.position or 0)
        assert (probe.relation, probe.cue, probe.context) == ("verbatim", "none", 0)


def test_choices_are_the_whole_closed_set() -> None:
    for probe in made().stream.probe_sets["facts"]:
        values = ATTRIBUTE_BY_NAME[probe.fact.split("-")[2]].values
        assert probe.choice_names == values and probe.chance == 1 / len(values)
        assert len(set(probe.choices)) == len(values)
        right = probe.choices[values.index(probe.answer.strip())]
        assert right == probe.input_ids[probe.answer_start :]
        assert {len(choice) for choice in probe.choices} == {1}  # read off one row


def test_choices_are_the_values_with_a_tokenizer_of_many_pieces_too() -> None:
    for probe in made(tokenizer=Letters()).stream.probe_sets["facts"]:
        prefix = list(probe.input_ids[: probe.answer_start])
        for name, choice in zip(probe.choice_names, probe.choices, strict=True):
            assert bytes([*prefix[1:], *choice]).decode() == f"{probe.prompt} {name}"


def test_twins_are_other_people_with_other_values_whom_no_row_names() -> None:
    built = made(facts=400, probed=400)
    told = "\n".join(text(row) for row in rows_of(built.stream.experience(0)))
    facts = {probe.fact: probe for probe in built.asked("facts", twins=False)}
    twins = built.asked("facts", twins=True)
    assert len(twins) == len(facts) == 400
    for twin in twins:
        fact = facts[twin.twin_of or ""]
        assert (twin.position, twin.chance, twin.choice_names) == (
            fact.position,
            fact.chance,
            fact.choice_names,
        )
        assert twin.subject != fact.subject and twin.subject not in told
        assert twin.answer != fact.answer
        assert twin.prompt.startswith(twin.subject) and fact.prompt.startswith(fact.subject)
    stated = {fact for row in rows_of(built.stream.experience(0)) for fact in row.facts}
    assert stated.isdisjoint(twin.fact for twin in twins)


@pytest.mark.parametrize(
    ("exposures", "before"),
    [(1, [0]), (2, [0, 1]), (5, [0, 1, 2]), (16, [0, 2, 4, 8]), (100, [0, 12, 25, 50])],
)
def test_facts_are_asked_at_the_start_at_parts_of_the_exposures_and_at_the_end(
    exposures: int, before: list[int]
) -> None:
    built = made(exposures=exposures)
    assert [(index, point.after) for index, point in built.points] == [
        *((index, 0) for index in before),
        (exposures - 1, built.options.epoch_steps),
    ]
    assert {(point.probe_set, point.schedule) for _, point in built.points} == {("facts", ("boundary",))}


def test_the_outline_counts_steps_and_bounds_the_rest() -> None:
    for options, tokenizer in (
        ({}, NANO),
        ({"facts": 52}, NANO),
        ({"exposures": 5, "probed": 80}, Letters()),
    ):
        built = made(tokenizer=tokenizer, **options)
        told = outline(built.options)
        assert told.steps == sum(epoch.steps for epoch in built.experiences)
        assert told.from_scratch and told.documents == (0, 0) and told.loops == 0
        sweeps = len(built.points)
        assert sweeps * len(built.stream.probe_sets["facts"]) == told.probe_rows
        if tokenizer is NANO:  # a token per letter is more than an outline allows for
            assert counted(told, built.stream).probe_tokens <= told.probe_tokens
            assert sum(len(r.input_ids) for r in built.rows) <= told.train_tokens


# -- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"facts": 0}, "facts"),
        ({"facts": 6}, "multiple of 4"),
        ({"facts": 4 * PEOPLE + 4}, f"at most {4 * PEOPLE}"),
        ({"exposures": 0}, "exposures"),
        ({"batch_size": 0}, "batch_size"),
        ({"probed": 2}, "probed"),
        ({"people": 3}, "people"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(**options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_most_people_are_all_that_the_world_has() -> None:
    assert validate(SaturationOptions, {"facts": 4 * PEOPLE}, "scenario").people == PEOPLE
    assert World().person("injected", PEOPLE - 1).name
    with pytest.raises(ValueError, match="ends before"):
        World().person("injected", PEOPLE)


def test_a_row_longer_than_the_model_reads_is_refused_before_training() -> None:
    longest = max(
        len(row.input_ids) for row in rows_of(made(tokenizer=Letters(), probed=4).stream.experience(0))
    )
    assert made(tokenizer=Letters(), probed=4, max_positions=longest)
    with pytest.raises(UsageError, match=f"has {longest} tokens, the model reads {longest - 1}"):
        made(tokenizer=Letters(), probed=4, max_positions=longest - 1)


def test_a_tokenizer_whose_values_depend_on_what_stands_before_them_is_refused() -> None:
    def moody(line: str) -> SimpleNamespace:
        """Ids of a word depend on its place."""
        return SimpleNamespace(
            ids=[sum(word.encode()) + 10_000 * place for place, word in enumerate(line.split())]
        )

    with pytest.raises(UsageError, match="closed sets cannot be scored"):
        made(tokenizer=SimpleNamespace(encode=moody))


# -- that it stays the same -------------------------------------------------------------------------------


def test_the_content_of_smoke_is_pinned() -> None:
    """A change in what the model is fed is a new version of the scenario, and a new hash here."""
    built = made(tokenizer=Letters(), **PRESETS["smoke"])
    assert content(built) == "7250b04aac5711582877a2bfa9242d8afa84f402131af436ffdf351c57ff734a"


def test_the_default_sweep_rises_on_nano_and_paper_is_outlined_without_being_built() -> None:
    def runs(preset: str) -> list[PlannedRun]:
        request = Request(
            scenario=("saturation",), strategy=("naive",), preset=preset, seeds="0", device="cpu"
        )
        return list(plan(request, installed()).runs.values())

    for preset, exposures in (("default", 100), ("paper", 1000)):
        planned = runs(preset)
        facts = [run.scenario_options["facts"] for run in planned]
        assert facts == sorted(set(facts)) and len(facts) >= 3
        assert {run.recipe.model.name for run in planned} == {"nano"}
        assert {run.scenario_options["exposures"] for run in planned} == {exposures}
        # enough facts to fill the parameters: more bits than one (two) for each of them
        assert facts[-1] * 6 > (1 if preset == "default" else 2) * planned[0].recipe.model.parameters
        assert all(run.outline.steps >= exposures for run in planned)


# -- what a run stores ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    request = Request(
        scenario=("saturation",),
        strategy=("naive",),
        preset="smoke",
        seeds="0",
        set=("scenario.facts=128", "scenario.probed=128"),
        device="cpu",
    )
    (run,) = plan(request, installed()).runs.values()
    return finish(run, tmp_path_factory.mktemp("saturation") / "run")


def test_bits_rise_with_exposures_to_all_that_were_offered(record: RunRecord) -> None:
    bits = capacity(record).to_list()
    assert len(bits) == 5
    assert bits[0] < 0.1 * bits[-1]
    assert all(later > earlier for earlier, later in zip(bits, bits[1:], strict=False))
    offered = 128 * 6 / record.recipe["model"]["parameters"]
    assert 0.9 * offered < bits[-1] <= offered


def test_twins_hold_no_bits_and_are_recalled_at_chance(record: RunRecord) -> None:
    bits = learned_bits(record, twins=True).iloc[-1]
    assert bits.mean() < 3 * bits.std() / math.sqrt(len(bits))
    rows = record.asked(schedule="boundary", twins=True)
    recall = rows[rows["step"] == rows["step"].max()]["correct"]
    assert len(recall) == 128
    assert abs(recall.mean() - 1 / 64) <= 3 * math.sqrt(1 / 64 * 63 / 64 / len(recall))


def test_exposures_on_record_are_those_planned(record: RunRecord) -> None:
    counts = record.exposures.groupby("fact")["count"].sum()
    assert len(counts) == 128 and set(counts) == {16}
    assert record.info["contamination"] == {}


def test_the_model_starts_from_scratch_and_knows_nothing(record: RunRecord) -> None:
    first = learned_bits(record).iloc[0]
    assert first.mean() < 3 * first.std() / math.sqrt(len(first))
