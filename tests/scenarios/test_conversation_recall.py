"""Tests of what `conversation_recall` trains and asks, document by document, against its protocol."""

from __future__ import annotations

import itertools
import random
import statistics
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from built_streams import BuiltStream, content, ids, maker
from outlines import check_outline
from reading import TOKENIZER, Letters
from small_runs import finish, installed, small_model
from tokenizers import Tokenizer

from seqmem import Example, Experience, RunRecord, UsageError
from seqmem.core.options import validate
from seqmem.core.packing import unpack
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.training.loop import update_stream_hash
from seqmem_scenarios.conversation_recall import PRESETS, build, outline
from seqmem_scenarios.conversation_recall.bound import longest_document
from seqmem_scenarios.conversation_recall.options import ConversationRecallOptions
from seqmem_scenarios.conversation_recall.rows import MAX_READ
from seqmem_scenarios.conversation_recall.turns import CUES, SAYINGS, Turns
from seqmem_scenarios.world import ATTRIBUTE_BY_NAME, filler, holds_form

BASE: dict[str, Any] = {
    "blocks": 3,
    "conversations": 2,
    "turns": 5,
    "window": 3,
    "steps_per_turn": 2,
    "loss": "both",
    "small_talk": 0.5,
    "background_ratio": 0.5,
    "packing": "none",
    "row_tokens": 192,
    "rest_steps": 6,
    "batch_size": 4,
}
"""Options of these tests where they say nothing. Unpacked, so that a row is a document."""


class Built(BuiltStream[ConversationRecallOptions]):
    @property
    def blocks(self) -> list[Experience]:
        return self.of_phase("inject")


made = maker(Built, "conversation_recall", ConversationRecallOptions, build, BASE, max_positions=1024)


def is_cue(built: Built, row: Example) -> bool:
    """A cue and its turn, told from dialogue and background by the targets it leaves out."""
    return not row.loss_mask[1]


def lines_of(built: Built, conversation: int) -> list[str]:
    """A conversation, turn by turn, as the in-context probes show it."""
    shown = [
        p
        for p in built.of("verbatim", context=built.options.kept)
        if p.fact.split("-")[1] == str(conversation)
    ]
    (lines,) = {tuple(p.prompt.split("\n")[:-1]) for p in shown}
    return list(lines)


# -- the stream -------------------------------------------------------------------------------------------


def test_blocks_come_in_order_and_a_rest_with_fresh_moments_after_them() -> None:
    built = made(blocks=3, rest_steps=5)
    assert [(e.index, e.name, e.phase, e.task_label) for e in built.experiences] == [
        (0, "block 0", "inject", 0),
        (1, "block 1", "inject", 1),
        (2, "block 2", "inject", 2),
        (3, "rest", "rest", None),
    ]
    assert [e.moments for e in built.experiences] == ["carry", "carry", "carry", "fresh"]
    assert [e.steps for e in built.experiences] == [(5 + 3 - 1) * 2] * 3 + [5]
    rest = built.experiences[-1]
    assert all(len(batch) == 4 and not any(row.facts for row in batch) for batch in rest.batches)


def test_a_conversation_is_two_people_in_turn_each_telling_one_thing_a_turn_of_themselves() -> None:
    built = made(turns=12, conversations=3, blocks=2, row_tokens=400)
    for conversation in range(6):
        lines = lines_of(built, conversation)
        names = [line.split(": ", 1)[0] for line in lines]
        assert len(lines) == 12
        assert len(set(names[::2])) == len(set(names[1::2])) == 1
        assert names[0] != names[1]
        topics: Counter[tuple[str, str]] = Counter()
        for line in lines:
            (topic,) = {
                topic
                for topic, sayings in SAYINGS.items()
                for saying in sayings
                if saying.removesuffix("{value}.") in line
            }
            topics[line.split(":", 1)[0], topic] += 1
        assert len(topics) == 12, "a speaker speaks of everything once"


def test_every_person_of_the_stream_is_another() -> None:
    for options in ({}, {"blocks": 10, "conversations": 4, "turns": 2}):
        built = made(**options)
        people = {p.subject for p in built.of("question")}
        assert len(people) == 2 * built.options.blocks * built.options.conversations


def test_small_talk_begins_its_share_of_the_turns() -> None:
    def remarks(share: float) -> float:
        built = made(small_talk=share, turns=12, blocks=2, conversations=4, window=1, row_tokens=400)
        openings = {saying.split(" {value}")[0] for sayings in SAYINGS.values() for saying in sayings}
        lines = [line.split(": ", 1)[1] for n in range(8) for line in lines_of(built, n)]
        return sum(not any(line.startswith(opening) for opening in openings) for line in lines) / len(lines)

    assert remarks(0) == 0
    assert remarks(1) == 1
    assert 0.35 < remarks(0.5) < 0.65


# -- what is trained when ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({"loss": "ar"}, 3 * 2),
        ({"loss": "seq2seq"}, 3 * 2),
        ({"loss": "both"}, 2 * 3 * 2),
        ({"loss": "seq2seq", "window": 1, "steps_per_turn": 7}, 7),
        ({"loss": "ar", "window": 9, "turns": 4, "steps_per_turn": 1, "row_tokens": 400}, 9),
        ({"loss": "both", "packing": "separate"}, 12),
        ({"loss": "both", "packing": "crossing", "background_ratio": 0}, 12),
    ],
)
def test_every_fact_is_stated_exactly_as_often_as_the_options_say(
    options: dict[str, Any], times: int
) -> None:
    built = made(**options)
    counts = Counter(fact for row in built.rows for fact in row.facts)
    assert counts == {p.fact: times for p in built.of("question")}
    assert len(counts) == 3 * 2 * built.options.turns


@pytest.mark.parametrize("loss", ["ar", "seq2seq"])
def test_a_turn_is_trained_from_when_it_was_said_until_the_window_has_passed(loss: str) -> None:
    built = made(loss=loss, turns=5, window=3, steps_per_turn=2)
    back = {p.fact: p.position or 0 for p in built.of("question")}
    ticks: dict[str, list[int]] = {}
    for step, batch in enumerate(built.blocks[1].batches):
        for row in batch:
            for fact in row.facts:
                ticks.setdefault(fact, []).append(step // 2)
    assert len(ticks) == 10
    for fact, found in ticks.items():
        said = 5 - back[fact]
        assert sorted(found) == sorted([said, said + 1, said + 2] * 2)


@pytest.mark.parametrize("loss", ["ar", "seq2seq", "both"])
@pytest.mark.parametrize(("ratio", "conversations"), [(0.5, 2), (0.75, 1), (0.2, 4), (0.3333, 2), (0, 3)])
def test_background_has_exactly_its_share_of_every_batch(loss: str, ratio: float, conversations: int) -> None:
    built = made(loss=loss, background_ratio=ratio, conversations=conversations, blocks=2)
    for step, batch in enumerate(itertools.chain.from_iterable(e.batches for e in built.blocks)):
        turns = {fact for row in batch for fact in row.facts}
        tick = step % built.options.block_steps // built.options.steps_per_turn
        assert len(turns) == conversations * len(built.options.trained(tick))
        without = sum(not row.facts for row in batch)
        assert without / (without + len(turns)) == pytest.approx(ratio, abs=1e-4)


def test_no_background_document_is_trained_twice_and_none_is_left_out() -> None:
    built = made(text=lambda index: f"Document {index}.")
    texts = [built.text(row) for row in built.rows if not row.facts]
    assert len(set(texts)) == len(texts) == outline(built.options).documents[0]
    assert set(built.trained) == set(range(len(texts)))


def test_a_plain_rest_is_the_rest_without_documents_in_a_probe_s_form() -> None:
    def text(index: int) -> str:
        return f"Q: What does Ada Cole love? A: dish {index}." if index % 3 == 0 else filler(0, index)

    whole, plain = (made(text=text, rest_text=kind) for kind in ("any", "plain"))
    texts, kept = (
        [built.text(row) for batch in built.experiences[-1].batches for row in batch]
        for built in (whole, plain)
    )
    assert len(texts) == len(kept) == len(set(kept))
    assert any(map(holds_form, texts)) and not any(map(holds_form, kept))
    changed = [place for place, (one, other) in enumerate(zip(texts, kept, strict=True)) if one != other]
    assert changed == [place for place, one in enumerate(texts) if holds_form(one)]
    for one, other in zip(whole.blocks, plain.blocks, strict=True):
        assert update_stream_hash("", one) == update_stream_hash("", other)
    check_outline(outline(plain.options), plain.stream, plain.trained, plain.heldout)


# -- what is a target -------------------------------------------------------------------------------------


def test_a_cue_is_given_and_only_the_turn_after_it_counts() -> None:
    for cue in ("topic", "turns_back"):
        built = made(loss="seq2seq", cue=cue)
        said = {p.fact: p for p in built.of("verbatim")}
        seen: dict[str, set[str]] = {}
        for row in (row for e in built.blocks for batch in e.batches for row in batch if row.facts):
            (fact,) = row.facts
            target, source = built.text(row, row.loss_mask), built.text(row, ~row.loss_mask)
            conversation, turn = map(int, fact.split("-")[1:])
            line = lines_of(built, conversation)[turn]
            assert target == f" {line.split(': ', 1)[1]}"
            assert target.endswith(f"{said[fact].answer}.")
            assert said[fact].subject in source
            if cue == "turns_back":
                plural = "s" if said[fact].position != 1 else ""
                assert f"{said[fact].position} turn{plural} before the end" in source.lower()
            seen.setdefault(fact, set()).add(source)
        assert all(len(sources) == len(CUES[cue]) for sources in seen.values()), "cues take turns"


def test_dialogue_is_consecutive_turns_under_the_ordinary_loss() -> None:
    built = made(loss="ar", turns=5, window=3, steps_per_turn=1)
    lengths = []
    for batch in built.blocks[0].batches:
        for row in (row for row in batch if row.facts):
            assert row.loss_mask[1:].all() and not row.loss_mask[0]
            conversation, first = map(int, row.facts[0].split("-")[1:])
            lines = lines_of(built, conversation)[first : first + len(row.facts)]
            assert built.text(row) == "\n".join(lines)
            if conversation == 0:
                lengths.append(len(lines))
    assert lengths == [1, 2, 3, 3, 3, 2, 1]


def test_both_trains_the_dialogue_and_the_cues_of_the_same_turns() -> None:
    both = made(loss="both").blocks[0].batches
    apart = [made(loss=loss).blocks[0].batches for loss in ("ar", "seq2seq")]
    for together, ar, seq2seq in zip(both, *apart, strict=True):
        expected = Counter(ids(ar)) + Counter(ids([row for row in seq2seq if row.facts]))
        assert Counter(ids(together)) == expected


@pytest.mark.parametrize("loss", ["seq2seq", "both"])
def test_the_weight_is_on_what_a_cue_asks_for_and_nowhere_else(loss: str) -> None:
    built = made(loss=loss, weight=4)
    for row in built.rows:
        if row.facts and is_cue(built, row):
            assert row.weights is not None
            assert row.weights.tolist() == np.where(row.loss_mask, 4.0, 1.0).tolist()
        else:
            assert row.weights is None
    assert all(row.weights is None for row in made(loss=loss).rows)


@pytest.mark.parametrize("packing", ["separate", "crossing"])
@pytest.mark.parametrize("weight", [1, 3])
def test_packed_rows_hold_the_same_documents(packing: str, weight: float) -> None:
    plain, packed = made(weight=weight), made(weight=weight, packing=packing)
    for one, other in zip(plain.blocks, packed.blocks, strict=True):
        for documents, rows in zip(one.batches, other.batches, strict=True):
            assert len(rows) < len(documents)
            assert all(len(row.input_ids) <= 192 for row in rows)
            if packing == "separate":
                found = [document for row in rows for document in unpack(row)]
                assert Counter(ids(found)) == Counter(ids(documents))
                assert ids(list(unpack(rows[0])))[0] == ids(documents)[0]
            else:
                assert all(row.segments is None for row in rows)
            for quantity in (counted_tokens, counted_targets, counted_weight):
                assert quantity(rows) == quantity(documents)
    assert ids(plain.experiences[-1].batches[0]) == ids(packed.experiences[-1].batches[0])


def counted_tokens(rows: Sequence[Example]) -> int:
    return sum(len(row.input_ids) for row in rows)


def counted_targets(rows: Sequence[Example]) -> int:
    return sum(int(row.loss_mask[1:].sum()) for row in rows)


def counted_weight(rows: Sequence[Example]) -> float:
    return sum(
        float((np.ones(len(row.input_ids)) if row.weights is None else row.weights)[row.loss_mask].sum())
        for row in rows
    )


# -- what is never trained --------------------------------------------------------------------------------

EVERYTHING: list[dict[str, Any]] = [
    {},
    {"loss": "ar", "packing": "separate"},
    {"loss": "seq2seq", "packing": "crossing", "cue": "turns_back", "weight": 2},
    {"turns": 12, "window": 1, "small_talk": 1, "background_ratio": 0, "context_turns": 4},
]


@pytest.mark.parametrize("options", EVERYTHING)
@pytest.mark.parametrize("seed", [0, 1])
def test_twins_are_in_no_row_that_is_trained(options: dict[str, Any], seed: int) -> None:
    built = made(seed, **options)
    facts, twins = built.of("question"), built.of("question", twins=True)
    names = {p.subject for p in twins}
    assert len(twins) == len(facts)
    assert len(names) == 12
    assert names.isdisjoint({p.subject for p in facts})
    told = "\n".join(built.text(row) for row in built.rows)
    assert not any(name in told for name in names)
    stated = {fact for row in built.rows for fact in row.facts}
    assert stated == {p.fact for p in facts}


@pytest.mark.parametrize("options", EVERYTHING)
def test_a_twin_mirrors_its_fact_in_all_but_person_and_value(options: dict[str, Any]) -> None:
    for seed in range(3):
        built = made(seed, **options)
        facts = {(p.fact, p.relation, p.context): p for p in built.probes.values() if p.twin_of is None}
        for twin in (p for p in built.probes.values() if p.twin_of is not None):
            fact = facts[twin.twin_of or "", twin.relation, twin.context]
            assert twin.answer != fact.answer or twin.relation in ("last_token", "last_word")
            assert (twin.position, twin.chance, twin.task_label, twin.group) == (
                fact.position,
                fact.chance,
                fact.task_label,
                "turn",
            )
            if not twin.context and twin.relation != "last_word":
                assert twin.prompt.replace(twin.subject, "X") == fact.prompt.replace(fact.subject, "X")


@pytest.mark.parametrize("options", EVERYTHING)
def test_the_near_probe_forms_are_text_that_is_trained_and_the_far_ones_are_not(
    options: dict[str, Any],
) -> None:
    built = made(**options)
    told = "\n".join(built.text(row) for row in built.rows)
    for probe in (p for p in built.probes.values() if p.twin_of is None and not p.context):
        trained = f"{probe.prompt}{probe.answer}" in told
        if probe.relation != "general":
            assert trained == (probe.relation in ("last_token", "last_word", "verbatim")), probe.id


# -- probes -----------------------------------------------------------------------------------------------


def test_turns_are_counted_back_from_the_end_of_their_conversation() -> None:
    built = made(turns=7)
    found = Counter(p.position for p in built.of("verbatim"))
    assert found == dict.fromkeys(range(1, 8), 6)
    for probe in built.of("verbatim"):
        assert probe.position == 7 - int(probe.fact.split("-")[2])
        assert probe.task_label == int(probe.fact.split("-")[1]) // 2


def test_every_fact_and_twin_is_asked_in_every_probe_form_and_with_the_dialogue_in_front() -> None:
    built = made()
    asked = Counter((p.relation, p.context, p.twin_of is not None) for p in built.stream.probe_sets["ladder"])
    forms = [(relation, 0) for relation in ("last_token", "last_word", "verbatim", "paraphrase", "question")]
    assert asked == {(*form, twin): 30 for form in [*forms, ("verbatim", 5)] for twin in (False, True)}
    primary = {(p.relation, p.context) for p in built.stream.probe_sets["primary"]}
    assert primary == {("verbatim", 0)}
    assert len(built.stream.probe_sets["primary"]) == 60
    for probe in built.stream.probe_sets["ladder"]:
        assert built.tokenizer.decode(list(probe.input_ids)) == probe.prompt + probe.answer
        if probe.relation == "last_token":
            assert probe.answer_start == len(probe.input_ids) - 1
            continue
        assert built.tokenizer.decode(list(probe.input_ids[: probe.answer_start])) == probe.prompt
        if probe.relation != "last_word":
            values = next(a.values for a in ATTRIBUTE_BY_NAME.values() if probe.answer.strip() in a.values)
            assert probe.chance == 1 / (len(probe.choices) or len(values))
            assert bool(probe.choices) == (probe.context == 0)


@pytest.mark.parametrize("options", [{}, {"blocks": 5, "turns": 8}, {"conversations": 1, "turns": 3}])
def test_answers_compete_that_are_trained_when_a_block_is_done(options: dict[str, Any]) -> None:
    built = made(4, **options)
    topics = {value: attribute.name for attribute in ATTRIBUTE_BY_NAME.values() for value in attribute.values}
    stated: dict[tuple[int, str], set[str]] = {}
    facts = built.of("question")
    for probe in facts:
        value = probe.answer.strip()
        stated.setdefault((probe.task_label or 0, topics[value]), set()).add(value)
    own = {probe.fact: probe.answer.strip() for probe in facts}
    for probe in [*built.of("verbatim"), *built.of("verbatim", twins=True)]:
        answer = probe.answer.strip()
        blocks = range((probe.task_label or 0) + 1)
        known = set().union(*(stated.get((block, topics[answer]), set()) for block in blocks))
        assert {answer, own[probe.twin_of or probe.fact]} <= set(probe.choice_names)
        assert len(set(probe.choices)) == len(probe.choices) == max(2, min(8, len(known)))
        assert set(probe.choice_names) <= known or len(known) == 1
        assert (answer == own[probe.twin_of or probe.fact]) == (probe.twin_of is None)


def test_those_of_the_own_block_compete_first_and_the_nearest_is_the_twin_s() -> None:
    built = made(4, blocks=6, turns=8, conversations=3)
    turns = Turns(built.options, 4)
    for conversation in (0, 17):
        block = range(conversation // 3 * 3, conversation // 3 * 3 + 3)
        for (turn, twin), values in turns.asked(conversation):
            others = {
                other.fact.value: min(abs(other.back - turn.back), 99)
                for number in block
                for other, _ in turns.of(number)
                if other.fact.attribute == turn.fact.attribute and other.fact.value != turn.fact.value
            }
            assert values[0] == turn.fact.value and values[1] == twin.fact.value
            assert set(values[1 : 1 + len(others)]) == set(others)
            if others:
                assert others[twin.fact.value] == min(others.values())


@pytest.mark.parametrize("kept", [None, 0, 1, 3])
def test_the_dialogue_in_front_is_the_last_turns_of_the_own_conversation(kept: int | None) -> None:
    built, whole = made(context_turns=kept), made()
    shown = 5 if kept is None else kept
    for twins in (False, True):
        probes = built.of("verbatim", twins=twins, context=shown) if shown else []
        assert len(probes) == (30 if shown else 0)
        bare = {p.fact: p for p in built.of("verbatim", twins=twins)}
        everything = {p.fact: p for p in whole.of("verbatim", twins=twins, context=5)}
        for probe in probes:
            *lines, asked = probe.prompt.split("\n")
            assert asked == bare[probe.fact].prompt
            assert lines == everything[probe.fact].prompt.split("\n")[5 - shown : 5]
            # the fact's own turn is in view where it is no more than that number of turns back
            own = [line for line in lines if line.startswith(probe.subject) and f"{probe.answer}." in line]
            assert len(own) == (1 if (probe.position or 0) <= shown else 0)
    assert not any(p.context for p in made(context_turns=0).probes.values())


@pytest.mark.parametrize("options", [{}, {"rest_steps": 1}, {"rest_steps": 13}, {"blocks": 1}])
def test_every_boundary_is_asked_and_the_rest_at_powers_of_two(options: dict[str, Any]) -> None:
    built = made(**options)
    boundaries, log, whole = [], [], []
    for e in built.experiences:
        points = built.stream.probe_points(e.index)
        assert all(0 <= p.after <= e.steps for p in points)
        for point in points:
            names = point.schedule
            boundaries += [(e.index, point.after)] if "boundary" in names else []
            log += [point.after] if "log" in names else []
            whole += [(e.index, point.after)] if "ladder" in names else []
            assert ("ladder" in names) == (point.probe_set == "ladder")
    last = built.experiences[-1]
    assert boundaries == [*((e.index, 0) for e in built.experiences), (last.index, last.steps)]
    assert log == sorted({0, *(2**n for n in range(4) if 2**n < last.steps), last.steps})
    assert whole == [(0, 0), (last.index, 0), (last.index, last.steps)]


def test_only_some_blocks_may_be_asked_about() -> None:
    built = made(blocks=7, probed_blocks=3)
    assert {p.task_label for p in built.of("verbatim")} == {0, 2, 4}
    assert {p.fact for p in built.of("verbatim")} < {fact for row in built.rows for fact in row.facts}


# -- the outline ------------------------------------------------------------------------------------------


def random_options(draw: random.Random) -> dict[str, Any]:
    loss = draw.choice(["ar", "seq2seq", "both"])
    blocks = draw.randrange(1, 5)
    return {
        "blocks": blocks,
        "conversations": draw.randrange(1, 4),
        "turns": draw.randrange(2, 9),
        "small_talk": draw.choice([0, 0.5, 1]),
        "loss": loss,
        "weight": draw.choice([1, 2]),
        "cue": draw.choice(["topic", "turns_back"]),
        "window": draw.randrange(1, 5),
        "steps_per_turn": draw.randrange(1, 4),
        "background_ratio": draw.choice([0, 0.5, 0.75]),
        "background_tokens": draw.choice([16, 64, 100]),
        "packing": draw.choice(["separate", "crossing", "none"]),
        "context_turns": draw.choice([None, 0, 1]),
        "probed_blocks": draw.choice([None, 1, blocks]),
        "rest_steps": draw.randrange(1, 12),
        "batch_size": draw.randrange(1, 5),
    }


@pytest.mark.parametrize("number", range(12))
def test_the_outline_bounds_what_the_stream_really_holds(number: int) -> None:
    built = made(seed=number, **random_options(random.Random(number)))
    stated = outline(built.options)
    check_outline(stated, built.stream, built.trained, built.heldout)
    assert set(built.trained) == set(range(stated.documents[0]))
    assert set(built.heldout) == set(range(stated.documents[1]))


@pytest.mark.parametrize("preset", ["smoke", "default", "pretrained"])
def test_the_outline_bounds_every_preset(preset: str) -> None:
    built = made(**{**ConversationRecallOptions().model_dump(), **PRESETS[preset]})
    check_outline(outline(built.options), built.stream, built.trained, built.heldout)


def test_the_paper_preset_can_be_planned() -> None:
    options = validate(ConversationRecallOptions, PRESETS["paper"], "scenario conversation_recall")
    stated = outline(options)
    assert stated.steps == 16 * 17 * options.steps_per_turn + 500
    assert stated.longest_row == options.row_tokens == 1024


# -- purity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", EVERYTHING)
def test_an_experience_is_the_same_when_none_before_it_was_made(options: dict[str, Any]) -> None:
    whole = made(5, **options).experiences
    for index in reversed(range(len(whole))):
        alone = made(5, **options).stream.experience(index)
        assert (alone.name, alone.phase, alone.task_label) == (
            whole[index].name,
            whole[index].phase,
            whole[index].task_label,
        )
        assert update_stream_hash("", alone) == update_stream_hash("", whole[index])


def test_a_stream_of_a_hundred_thousand_blocks_is_made_one_by_one() -> None:
    tracemalloc.start()
    built = made(blocks=100_000, conversations=1, probed_blocks=2, turns=4, text=lambda index: "A document.")
    last = built.stream.experience(99_999)
    assert last.name == "block 99999"
    for index in range(0, 100_000, 2_000):
        built.stream.experience(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6
    names = {built.text(row, ~row.loss_mask)[-30:] for row in last.batches[0] if row.facts}
    assert names, "the last block has people, too"


@pytest.mark.slow
def test_the_last_of_a_hundred_thousand_blocks_takes_no_longer_than_the_first() -> None:
    built = made(blocks=100_000, conversations=1, probed_blocks=2, turns=4, text=lambda index: "A document.")

    def seconds(index: int) -> float:
        started = time.perf_counter()
        built.stream.experience(index)
        return time.perf_counter() - started

    ratios = [seconds(99_990 + index) / seconds(index) for index in range(10)]
    print(f"\na late block takes {statistics.median(ratios):.2f} times an early one")
    assert statistics.median(ratios) < 3


PINNED: dict[str, tuple[dict[str, Any], str]] = {
    "smoke": ({**ConversationRecallOptions().model_dump(), **PRESETS["smoke"]}, "e59695127bb63fa7"),
    "turns back, crossing": ({"cue": "turns_back", "packing": "crossing", "weight": 2.5}, "57a8986b2e4b89e0"),
    "dialogue only": ({"loss": "ar", "window": 1}, "e4eccddb9d7cacdb"),
}


@pytest.mark.parametrize("name", PINNED)
def test_content_is_the_same_on_every_machine_and_python(name: str) -> None:
    options, pinned = PINNED[name]
    built = made(3, Letters(), max_positions=4096, **{**options, "row_tokens": 900})
    assert content(built)[:16] == pinned


def test_another_seed_is_another_stream() -> None:
    assert len({content(made(seed)) for seed in range(3)}) == 3


# -- wrong input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"background_ratio": 0.4, "conversations": 2},
            "background_ratio 0.4 with 2 conversations asks for 1.333 background documents a turn; "
            "nearest that can be: 0.3333 or 0.5000",
        ),
        ({"background_ratio": 1.0}, "background_ratio"),
        ({"background_ratio": -0.1}, "background_ratio"),
        (
            {"background_ratio": 0.3},
            "asks for 0.8571 background documents a turn; nearest that can be: 0.0000 or",
        ),
        ({"turns": 13}, "turns"),
        ({"turns": 4, "context_turns": 5}, "context_turns (5) must be at most turns (4)"),
        ({"blocks": 3, "probed_blocks": 4}, "probed_blocks (4) must be at most blocks (3)"),
        ({"background_tokens": 193}, "background_tokens (193) must be at most row_tokens (192)"),
        (
            {"blocks": 200_000, "conversations": 2},
            "200000 blocks of 2 conversations need 800000 people, the world has",
        ),
        (
            {"row_tokens": 64, "background_tokens": 16, "loss": "ar"},
            "more than the row's 64; raise the row length",
        ),
    ],
)
def test_wrong_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        made(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


TIGHT: dict[str, Any] = {
    "blocks": 40,
    "probed_blocks": 1,
    "window": 4,
    "turns": 8,
    "conversations": 1,
    "small_talk": 0.25,
    "background_tokens": 32,
    "packing": "separate",
}
"""Only the first block is asked about."""


def test_a_row_that_a_later_block_does_not_fit_is_refused_before_training() -> None:
    with pytest.raises(UsageError, match="'0-18-4' has 122 tokens, more than the row's 116; raise"):
        made(**TIGHT, row_tokens=116)
    assert len(made(**TIGHT, row_tokens=160).rows) > 0  # makes every experience


def test_rows_of_more_conversations_than_are_read_are_bounded() -> None:
    options = {**TIGHT, "blocks": MAX_READ + 1, "text": lambda index: "A document."}
    with pytest.raises(UsageError, match=r"up to (\d+) tokens, more than the row's 120; set") as refused:
        made(**options, row_tokens=120)
    most = int(str(refused.value).split("scenario.row_tokens=")[1].split()[0])
    with pytest.raises(UsageError, match="too many to read"):
        made(**options, row_tokens=most - 1)
    assert made(**options, row_tokens=most).stream.experience(MAX_READ).steps > 0


@pytest.mark.parametrize("tokenizer", [TOKENIZER, Letters()], ids=["words", "letters"])
@pytest.mark.parametrize(
    "options",
    [
        {"loss": "ar", "window": 1, "turns": 12},
        {"loss": "ar", "window": 12, "turns": 12, "small_talk": 1.0},
        {"loss": "seq2seq", "turns": 12, "small_talk": 1.0},
        {"loss": "seq2seq", "turns": 12, "small_talk": 0.0, "cue": "turns_back"},
    ],
)
def test_no_document_is_longer_than_the_bound_and_some_come_near(
    tokenizer: Tokenizer | Letters, options: dict[str, Any]
) -> None:
    built = made(2, tokenizer, blocks=16, steps_per_turn=1, max_positions=4096, row_tokens=2000, **options)
    bound = longest_document(built.options, lambda text: list(tokenizer.encode(text).ids))
    longest = max(len(row.input_ids) for row in built.rows if row.facts)
    assert 0.7 * bound < longest <= bound


def test_people_beyond_the_plain_names_are_in_the_bound() -> None:
    def bound(blocks: int) -> int:
        options = {**BASE, "blocks": blocks, "probed_blocks": 1, "loss": "seq2seq"}
        return longest_document(
            validate(ConversationRecallOptions, options, "scenario"), lambda text: list(text.encode())
        )

    assert bound(10_000) == bound(10) + len(" B.")


def test_more_context_than_the_model_reads_is_refused() -> None:
    with pytest.raises(UsageError, match=r"probe .*-verbatim-context has \d+ tokens, the model reads 96"):
        made(max_positions=96)
    assert made(max_positions=96, context_turns=1)


# -- real runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def ran(model: Path, folder: Path, strategy: str = "naive", text: str = "world", **options: Any) -> RunRecord:
    request = Request(
        scenario=("conversation_recall",),
        strategy=(strategy,),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        set=tuple(f"scenario.{key}={value}" for key, value in options.items()),
        text=text,
        reference=False,
        controls=False,
        device="cpu",
    )
    (run,) = plan(request, installed()).runs.values()
    return finish(run, folder)


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("naive", {}), ("replay", {"loss": "seq2seq", "weight": 4}), ("joint", {"packing": "crossing"})],
)
def test_a_run_states_every_fact_as_planned_and_no_twin(
    model: Path, tmp_path: Path, strategy: str, options: dict[str, Any]
) -> None:
    run = ran(model, tmp_path / "run", strategy, **options)
    made_of = run.recipe["scenario"]["options"]
    times = made_of["window"] * made_of["steps_per_turn"] * (2 if made_of["loss"] == "both" else 1)
    counts = run.exposures.groupby("fact")["count"].sum()
    facts = set(run.items.loc[run.items["twin_of"].isna() & (run.items["group"] == "turn"), "fact"])
    twins = set(run.items.loc[run.items["twin_of"].notna(), "fact"])
    assert set(counts.index) == facts
    assert len(facts) == len(twins) == 2 * 4
    if strategy == "replay":
        assert counts.min() >= times
    else:
        assert set(counts) == {times}
    assert run.info["contamination"] == {}
    assert np.isfinite(run.steps["loss"]).all()


def test_separate_packing_trains_what_rows_of_their_own_train(model: Path, tmp_path: Path) -> None:
    """The same run but for the layout: losses agree as closely as the order of summation allows."""
    packed, plain = (
        ran(model, tmp_path / packing, packing=packing, weight=2) for packing in ("separate", "none")
    )
    assert packed.steps["targets"].tolist() == plain.steps["targets"].tolist()
    np.testing.assert_allclose(packed.steps["loss"], plain.steps["loss"], rtol=2e-3)
    crossing = ran(model, tmp_path / "crossing", packing="crossing", weight=2)
    assert abs(crossing.steps["loss"] - plain.steps["loss"]).max() > 0.01
    assert crossing.steps["targets"].tolist() == plain.steps["targets"].tolist()


@pytest.mark.parametrize("kind", ["verse.txt", "table.parquet"])
def test_background_comes_from_a_file_as_well(model: Path, tmp_path: Path, kind: str) -> None:
    """From verse, and from a Parquet file that has a column for the domain."""
    file = tmp_path / kind
    if kind == "verse.txt":
        file.write_text(
            "\n\n".join(f"SPEAKER {n}:\nLine {n} of the play, and some more of it." for n in range(2000))
        )
    else:
        texts = [f"Row {n} of a table that has a domain." for n in range(400)]
        pd.DataFrame({"text": texts, "domain": [f"d{n % 3}" for n in range(400)]}).to_parquet(file)
    run = ran(model, tmp_path / "run", text=str(file), rest_steps=2)
    background = run.items.loc[run.items["relation"] == "general", "answer"]
    words = "SPEAKER" if kind == "verse.txt" else "of a table"
    assert len(background) == 8 + 2  # held out, and of the rest's two steps
    assert background.str.contains(words).all()
    assert run.info["contamination"] == {}
