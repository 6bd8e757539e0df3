"""Tests of what `memory_loops` trains and asks, row by row, against its protocol."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from built_streams import BuiltStream, content, ids, maker, rows_of
from outlines import check_outline
from reading import Letters

from seqmem import Experience, Probe, UsageError
from seqmem.training.loop import update_stream_hash
from seqmem_plugins.strategies.joint import shuffle_stream
from seqmem_scenarios.memory_loops import PRESETS, build, outline
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions
from seqmem_scenarios.world import ATTRIBUTE_BY_NAME, background, holds_form

BASE: dict[str, Any] = {
    "loops": 2,
    "cycles": 2,
    "facts_per_loop": 4,
    "exposures": 3,
    "batch_size": 8,
    "prose_steps": 1,
    "insert_at": 1,
    "rest_steps": 8,
    "even_every": 2,
}
"""Options of these tests where they say nothing; presets may be tuned, what options mean may not change."""


class Built(BuiltStream[MemoryLoopsOptions]):
    @property
    def visits(self) -> list[Experience]:
        return self.of_phase("loop")

    @property
    def rests(self) -> list[Experience]:
        return self.of_phase("rest")


made = maker(Built, "memory_loops", MemoryLoopsOptions, build, BASE)


def labels(experiences: Sequence[Experience]) -> list[int | None]:
    return [e.task_label for e in experiences]


def stating(e: Experience) -> list[list[str]]:
    """The facts each batch of an experience states."""
    return [[fact for row in batch for fact in row.facts] for batch in e.batches]


# -- visits -----------------------------------------------------------------------------------------------


def test_loops_are_visited_in_a_fixed_order_cycle_by_cycle() -> None:
    built = made(loops=5, cycles=3)
    assert labels(built.visits) == [0, 1, 2, 3, 4] * 3
    assert [e.name for e in built.visits][4:7] == ["loop 4 visit 0", "loop 0 visit 1", "loop 1 visit 1"]
    assert [e.index for e in built.experiences] == list(range(16))


def test_the_shuffled_control_visits_every_loop_once_a_cycle_in_orders_of_its_own() -> None:
    orders = set()
    for seed in range(4):
        found = labels(made(seed, loops=5, cycles=4, order="shuffled").visits)
        cycles = [tuple(found[5 * c : 5 * c + 5]) for c in range(4)]
        assert all(sorted(cycle) == [0, 1, 2, 3, 4] for cycle in cycles)  # type: ignore[type-var]
        assert len(set(cycles)) > 1
        orders.add(tuple(cycles))
    assert len(orders) == 4
    assert labels(made(3, loops=5, cycles=4, order="shuffled").visits) == found


@pytest.mark.parametrize(
    "options", [{}, {"jitter": 0.5}, {"variant": "conflict"}, {"loop_text": "background"}]
)
def test_the_shuffled_control_trains_the_very_same_rows(options: dict[str, Any]) -> None:
    cyclic, shuffled = (made(loops=3, cycles=3, order=order, **options) for order in ("cyclic", "shuffled"))
    assert labels(cyclic.visits) != labels(shuffled.visits)
    visits = [
        {e.name: [ids(batch) for batch in e.batches] for e in built.visits} for built in (cyclic, shuffled)
    ]
    assert visits[0] == visits[1]
    assert ids(cyclic.rests[0].batches[0]) == ids(shuffled.rests[0].batches[0])
    assert cyclic.probes == shuffled.probes


def test_a_visit_trains_prose_then_its_memory_at_the_chosen_place() -> None:
    for insert_at in range(4):
        built = made(prose_steps=3, insert_at=insert_at, exposures=2, facts_per_loop=4)
        for e in built.visits:
            stated = [bool(facts) for facts in stating(e)]
            assert stated == [False] * insert_at + [True] * 2 + [False] * (3 - insert_at)


def test_insert_at_cycle_keeps_the_memory_out_of_the_cycles_before_it() -> None:
    built = made(cycles=4, insert_at_cycle=2)
    for number, e in enumerate(built.visits):
        assert any(stating(e)[n] for n in range(e.steps)) == (number >= 2 * 2)


def test_a_loop_states_its_own_facts_and_no_other_s() -> None:
    built = made(loops=3, facts_per_loop=4)
    owner = {probe.fact: probe.task_label for probe in built.of("question")}
    assert Counter(owner.values()) == {0: 4, 1: 4, 2: 4}
    for e in built.visits:
        assert {owner[fact] for facts in stating(e) for fact in facts} == {e.task_label}


def test_the_prose_of_a_loop_is_its_own_and_comes_back_word_for_word() -> None:
    built = made(loops=3, cycles=3)
    prose: dict[Any, set[Any]] = {}
    for e in built.visits:
        prose.setdefault(e.task_label, set()).add(tuple(ids(e.batches[0])))
    assert all(len(versions) == 1 for versions in prose.values())
    assert len({version for versions in prose.values() for version in versions}) == 3


# -- exposures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({}, 3 * 2),
        ({"exposures": 1, "cycles": 5}, 5),
        ({"cycles": 4, "insert_at_cycle": 1, "exposures": 2}, 3 * 2),
        ({"repeats": 3, "exposures": 2}, 2 * 2 * 3),
        ({"facts_per_loop": 11, "batch_size": 4}, 3 * 2),
        ({"train_on": "questions"}, 3 * 2),
        ({"train_on": "both", "exposures": 4}, 4 * 2),
        ({"variant": "conflict", "loops": 3, "cycles": 2, "exposures": 2}, 3 * 2 * 2),
    ],
)
def test_every_fact_is_stated_exactly_as_often_as_the_options_say(
    options: dict[str, Any], times: int
) -> None:
    built = made(**options)
    counts = Counter(
        fact
        for e in built.experiences
        for step in range(e.steps)
        for row in e.batch(step)
        for fact in row.facts
    )
    asked = {probe.fact for probe in built.of("question")}
    assert dict(counts) == dict.fromkeys(asked, times)
    joint = shuffle_stream(built.stream, 0)
    again = [joint.experience(n) for n in range(joint.length)]
    assert counts == Counter(
        fact for e in again for step in range(e.steps) for row in e.batch(step) for fact in row.facts
    )


def test_a_row_that_states_a_fact_holds_the_person_and_the_value_once() -> None:
    for options in ({}, {"train_on": "both"}, {"setting": False}, {"variant": "conflict"}):
        built = made(facts_per_loop=6, **options)
        asked = {probe.fact: probe for probe in built.of("question")}
        for row in built.rows:
            if not row.facts:
                continue
            (fact,) = row.facts
            name = person(asked[fact])
            assert built.text(row).count(name) == 1
            if built.options.variant == "own":
                assert built.text(row).count(asked[fact].answer.strip()) == 1


def person(probe: Probe) -> str:
    """The two words of the name in a probe's prompt."""
    words = re.sub(r"Q:|A:|\?|'s", " ", probe.prompt).split()
    names = [f"{a} {b}" for a, b in zip(words, words[1:], strict=False) if a[0].isupper() and b[0].isupper()]
    return names[-1]


def test_each_exposure_of_a_visit_has_another_wording() -> None:
    built = made(facts_per_loop=4, exposures=3, setting=False)
    texts: dict[str, list[str]] = {}
    for row in (row for batch in built.visits[0].batches for row in batch if row.facts):
        texts.setdefault(row.facts[0], []).append(built.text(row))
    assert all(len(set(versions)) == len(versions) == 3 for versions in texts.values())


# -- what is never trained --------------------------------------------------------------------------------

EVERYTHING: list[dict[str, Any]] = [
    {"loops": 4, "cycles": 5, "facts_per_loop": 8},
    {"variant": "conflict", "loops": 4, "cycles": 3, "facts_per_loop": 5},
    {"train_on": "both", "rest": "both", "new_loop": 2, "jitter": 0.5},
    {"train_on": "questions", "setting": False},
    {"loop_text": "background", "rest": "both", "facts_per_loop": 3},
]


@pytest.mark.parametrize("options", EVERYTHING)
@pytest.mark.parametrize("seed", [0, 1])
def test_twins_are_in_no_row_that_is_trained(options: dict[str, Any], seed: int) -> None:
    built = made(seed, **options)
    facts, twins = built.of("question"), built.of("question", twins=True)
    assert len(twins) == len(facts) >= 6
    names = {person(probe) for probe in twins}
    assert len(names) == len(twins)
    assert names.isdisjoint({person(probe) for probe in facts})
    told = "\n".join(built.text(row) for row in built.rows)
    assert all(name not in told for name in names)
    stated = {fact for row in built.rows for fact in row.facts}
    assert stated == {probe.fact for probe in facts}
    assert stated.isdisjoint({probe.fact for probe in twins})


@pytest.mark.parametrize(
    "options", [{"loops": 8, "facts_per_loop": 12}, {"variant": "conflict", "loops": 12}]
)
def test_a_twin_mirrors_its_fact_in_all_but_person_and_value(options: dict[str, Any]) -> None:
    for seed in range(5):
        built = made(seed, **options)
        facts = {probe.fact: probe for probe in built.of("question")}
        for twin in built.of("question", twins=True):
            fact = facts[twin.twin_of or ""]
            assert twin.prompt.replace(person(twin), "X") == fact.prompt.replace(person(fact), "X")
            assert twin.chance == fact.chance
            assert twin.task_label == fact.task_label
            assert twin.choices == fact.choices and twin.choice_names == fact.choice_names
            # in conflict the same answer is the right one of a twin: only the person is another
            assert (twin.answer == fact.answer) == (built.options.variant == "conflict"), (seed, twin.id)
            assert {twin.answer, fact.answer} <= set(competing(built, fact))


def competing(built: Built, probe: Probe) -> list[str]:
    prefix = list(probe.input_ids[: probe.answer_start])
    start = len(built.tokenizer.decode(prefix))
    return [built.tokenizer.decode([*prefix, *choice])[start:] for choice in probe.choices]


@pytest.mark.parametrize("options", EVERYTHING)
def test_the_paraphrase_s_wording_and_the_question_are_kept_from_training(options: dict[str, Any]) -> None:
    built = made(**{"exposures": 7, **options})
    told = "\n".join(built.text(row) for row in built.rows)
    for paraphrase in built.of("paraphrase"):
        assert paraphrase.prompt not in told
    for verbatim in built.of("verbatim"):
        # the same wording as in training, which did state it in some exposure or visit
        if built.options.train_on == "statements":
            assert verbatim.prompt in told
    if built.options.train_on == "statements":
        assert "Q:" not in "\n".join(built.text(row) for row in built.rows if row.facts)


def test_rest_holds_none_of_the_facts() -> None:
    built = made(rest="both", loops=3, facts_per_loop=8)
    names = {person(probe) for twins in (False, True) for probe in built.of("question", twins=twins)}
    for e in built.rests:
        for row in (row for batch in e.batches for row in batch):
            assert row.facts == ()
            assert not any(name in built.text(row) for name in names)


# -- jitter -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.25, 0.5, 0.7, 1.0])
@pytest.mark.parametrize(("prose_steps", "batch_size"), [(1, 8), (3, 4)])
@pytest.mark.parametrize("loop_text", ["background", "place"])
def test_jitter_replaces_exactly_its_share_of_the_documents_each_cycle(
    jitter: float, prose_steps: int, batch_size: int, loop_text: str
) -> None:
    built = made(
        cycles=5,
        jitter=jitter,
        prose_steps=prose_steps,
        insert_at=0,
        batch_size=batch_size,
        loop_text=loop_text,
        rest="none",
        text=lambda index: f"Document {index} of the source.",
    )
    documents = prose_steps * batch_size
    for loop in range(2):
        visits = [e for e in built.visits if e.task_label == loop]
        prose = [[row for batch in e.batches for row in batch if not row.facts] for e in visits]
        editions = [ids(rows) for rows in prose]
        assert all(len(edition) == documents for edition in editions)
        for before, after in zip(editions, editions[1:], strict=False):
            changed = sum(a != b for a, b in zip(before, after, strict=True))
            if loop_text == "background":  # there, every document differs from every other
                assert changed == round(jitter * documents)
            else:
                assert changed <= round(jitter * documents)
                assert changed >= 0.7 * round(jitter * documents)
        if loop_text == "background" and jitter:
            seen = Counter(row for edition in editions for row in edition)
            # in turn: no document is replaced twice before every other was once
            turns = [5 - len({edition[n] for edition in editions}) for n in range(documents)]
            assert max(turns) - min(turns) <= 1
            assert len(seen) == documents + 4 * round(jitter * documents)


# -- new loop and rest ------------------------------------------------------------------------------------


def test_a_new_loop_comes_after_the_others_have_run_with_its_memory_in_every_visit() -> None:
    built = made(loops=3, cycles=3, insert_at_cycle=1, new_loop=4)
    assert labels(built.visits) == [0, 1, 2] * 3 + [3] * 4
    assert [e.name for e in built.visits[9:]] == [f"loop 3 visit {n}, new" for n in (1, 2, 3, 4)]
    own = {probe.fact for probe in built.of("question") if probe.task_label == 3}
    assert len(own) == built.options.facts_per_loop
    for e in built.visits[:9]:
        assert own.isdisjoint({fact for facts in stating(e) for fact in facts})
    for e in built.visits[9:]:
        assert {fact for facts in stating(e) for fact in facts} == own
    assert outline(built.options).loops == 4


def test_a_new_loop_of_conflict_states_every_question_its_own_included() -> None:
    built = made(variant="conflict", loops=2, facts_per_loop=3, new_loop=2)
    for e in built.visits:
        stated = {fact for facts in stating(e) for fact in facts}
        assert len(stated) == (9 if e.task_label == 2 else 6)


@pytest.mark.parametrize(
    ("rest", "names"),
    [
        ("none", []),
        ("unrelated", ["rest unrelated"]),
        ("loops_without_memory", ["rest loops without memory"]),
        ("both", ["rest unrelated", "rest loops without memory"]),
    ],
)
def test_rest_phases_follow_in_order_the_first_with_fresh_moments(rest: str, names: list[str]) -> None:
    built = made(rest=rest, rest_steps=7)
    assert [e.name for e in built.rests] == names
    assert [e.moments for e in built.rests] == ["fresh", "carry"][: len(names)]
    assert all(e.steps == 7 and e.task_label is None and e.trains == "all" for e in built.rests)
    assert all(e.moments == "carry" for e in built.visits)
    still = made(rest=rest, rest_steps=7, rest_training=False)
    assert all(e.trains == "none" for e in still.rests)
    assert all(e.trains == "all" for e in still.visits)


def test_unrelated_rest_reads_documents_that_no_loop_reads() -> None:
    built = made(rest="both", loop_text="background", text=lambda index: f"Document {index} of the source.")
    texts = {
        e.name.split()[0]: {built.text(row) for batch in e.batches for row in batch if not row.facts}
        for e in (*built.visits, built.rests[0])
    }
    assert texts["rest"].isdisjoint(texts["loop"])
    assert len(texts["rest"]) == built.options.rest_steps * built.options.batch_size


def test_a_plain_rest_is_the_rest_with_other_documents_in_the_place_of_those_in_a_probe_s_form() -> None:
    whole, plain = made(rest_steps=12), made(rest_steps=12, rest_text="plain")
    texts, kept = (
        [built.text(row) for batch in built.rests[0].batches for row in batch] for built in (whole, plain)
    )
    changed = [place for place, (text, other) in enumerate(zip(texts, kept, strict=True)) if text != other]
    assert changed
    assert not any(holds_form(text) for text in kept)
    assert len(set(kept)) == len(kept)
    assert (
        plain.visits[0].batches[0][0].input_ids.tolist() == whole.visits[0].batches[0][0].input_ids.tolist()
    )
    assert changed == [place for place in range(len(texts)) if holds_form(background(0, place))]


def test_a_plain_rest_is_refused_on_text_that_is_all_in_a_probe_s_form() -> None:
    with pytest.raises(UsageError, match="rest_text plain: over three in four documents"):
        made(rest_text="plain", text="Q: What does Ada Cole love? A: dish {}.".format)


def test_rest_without_memory_visits_the_loops_prose_in_turn_as_it_last_was() -> None:
    built = made(loops=3, cycles=3, prose_steps=2, jitter=0.5, rest="loops_without_memory", rest_steps=8)
    last = {
        e.task_label: [ids(batch) for batch in e.batches if not any(row.facts for row in batch)]
        for e in built.visits
    }
    rest = [ids(batch) for batch in built.rests[0].batches]
    assert rest == [*last[0], *last[1], *last[2], *last[0]]


# -- conflict ---------------------------------------------------------------------------------------------


def test_in_conflict_each_loop_answers_every_question_its_own_way() -> None:
    built = made(variant="conflict", loops=4, cycles=2, facts_per_loop=5)
    questions = {probe.fact: probe for probe in built.of("question")}
    answers = {fact: competing(built, probe) for fact, probe in questions.items()}
    for fact, probe in questions.items():
        assert len(set(answers[fact])) == 4
        # the right answer to a question of loop k is the one that loop k gives
        assert probe.answer == answers[fact][probe.task_label or 0]
        assert probe.choice_names == tuple(f"loop {k}" for k in range(4))
        assert probe.chance == 1 / 4
    for e in built.visits:
        stated = [(row.facts[0], built.text(row)) for batch in e.batches for row in batch if row.facts]
        assert {fact for fact, _ in stated} == set(questions)
        for fact, text in stated:
            given = [k for k, answer in enumerate(answers[fact]) if answer.strip() in text]
            assert given == [e.task_label], (fact, text)


def test_in_conflict_a_loop_gives_alike_questions_the_same_answer() -> None:
    """Loop k's own answer: questions about one attribute, at one place, have it in common."""
    built = made(variant="conflict", loops=6, cycles=1, facts_per_loop=6)
    by_kind: dict[Any, set[tuple[str, ...]]] = {}
    for probe in built.of("question"):
        place = int(probe.fact.split("-")[1]) % 6
        kind = probe.prompt.replace(person(probe), "X")
        by_kind.setdefault((place, kind), set()).add(tuple(competing(built, probe)))
    assert all(len(answers) == 1 for answers in by_kind.values())
    assert len(by_kind) < 36


def test_conflict_needs_as_many_answers_as_loops() -> None:
    with pytest.raises(
        UsageError, match=r"variant conflict needs 150 different answers, attribute \w+ has \d+"
    ):
        made(variant="conflict", loops=150, facts_per_loop=1)


# -- probes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rest": "both"},
        {"rest": "none"},
        {"new_loop": 2, "rest": "none"},
        {"repeats": 3},
        {"facts_per_loop": 0},
        {"variant": "conflict", "new_loop": 1, "rest": "none", "facts_per_loop": 3, "batch_size": 4},
        {"prose_steps": 0, "insert_at": 0},
        {"rest_steps": 1},
        {"rest_steps": 13, "even_every": 4},
    ],
)
def test_every_probe_point_lies_inside_its_experience_and_every_boundary_is_probed(
    options: dict[str, Any],
) -> None:
    built = made(**{"cycles": 3, **options})
    boundaries = []
    for e in built.experiences:
        points = built.stream.probe_points(e.index)
        assert [point.after for point in points] == sorted(point.after for point in points)
        for point in points:
            assert 0 <= point.after <= e.steps
            assert point.probe_set in built.stream.probe_sets
            if "boundary" in point.schedule:
                boundaries.append((e.index, point.after))
    last = built.experiences[-1]
    assert boundaries == [*((e.index, 0) for e in built.experiences), (last.index, last.steps)]


def test_inside_is_asked_between_prose_and_memory_once_the_loop_was_trained() -> None:
    built = made(cycles=3, insert_at_cycle=1, prose_steps=2, insert_at=2, repeats=2)
    for e in built.visits:
        inside = [p.after for p in built.stream.probe_points(e.index) if p.schedule == ("inside",)]
        cycle = e.index // 2
        assert inside == ([4] if cycle == 2 else [])
        if inside:
            assert [bool(facts) for facts in stating(e)] == [False, False, True, True, True]


def test_rest_is_asked_evenly_and_at_powers_of_two() -> None:
    built = made(rest="both", rest_steps=13, even_every=5)
    for e in built.rests:
        points = built.stream.probe_points(e.index)
        schedules = {name: [p.after for p in points if name in p.schedule] for name in ("even", "log")}
        assert schedules == {"even": [0, 5, 10], "log": [0, 1, 2, 4, 8, 13]}
        assert {point.probe_set for point in points if {"even", "log"} & {*point.schedule}} == {"primary"}


def test_every_probe_form_and_general_text_are_asked_three_times() -> None:
    built = made(rest="both")
    for name in ("ladder", "general"):
        asked = [(index, p.after) for index, p in built.points if p.probe_set == name]
        assert asked == [(0, 0), (built.rests[0].index, 0), (built.rests[1].index, built.options.rest_steps)]


def test_every_fact_and_twin_is_asked_in_every_probe_form_and_with_every_cue() -> None:
    built = made(loops=3, facts_per_loop=2, new_loop=1)
    asked = Counter((p.relation, p.cue, p.twin_of is not None) for p in built.stream.probe_sets["ladder"])
    forms = [
        ("last_token", "none"),
        ("last_word", "none"),
        ("verbatim", "none"),
        ("paraphrase", "none"),
        ("question", "none"),
        ("question", "own"),
        ("question", "other"),
    ]
    assert asked == {(*form, twin): 8 for form in forms for twin in (False, True)}
    for probe in built.stream.probe_sets["ladder"]:
        whole, prefix = probe.input_ids, probe.input_ids[: probe.answer_start]
        assert built.tokenizer.decode(list(whole)) == probe.prompt + probe.answer
        if probe.relation != "last_token":
            assert built.tokenizer.decode(list(prefix)) == probe.prompt
        else:
            assert probe.answer_start == len(whole) - 1
        if probe.relation == "last_word":
            assert " " not in probe.answer.strip()
        whole_answer = probe.relation in ("verbatim", "paraphrase", "question")
        assert bool(probe.choices) == bool(probe.closed_set) == whole_answer
        if whole_answer:
            assert probe.chance == 1 / len(probe.choices)


def test_a_cue_is_prose_of_the_own_or_of_another_loop_before_the_bare_question() -> None:
    built = made(loops=4)
    prose = {e.task_label: {built.text(row) for row in e.batches[0]} for e in built.visits}
    bare = {probe.fact: probe for twins in (False, True) for probe in built.of("question", twins=twins)}
    for cue in ("own", "other"):
        for twins in (False, True):
            for probe in built.of("question", cue=cue, twins=twins):
                assert probe.prompt.endswith(f" {bare[probe.fact].prompt}")
                before = probe.prompt.removesuffix(f" {bare[probe.fact].prompt}")
                loops = [loop for loop, texts in prose.items() if any(text in before for text in texts)]
                assert (loops == [probe.task_label]) == (cue == "own")
                assert len(loops) == 1


def test_candidates_are_trained_answers_of_like_facts() -> None:
    built = made(loops=4, facts_per_loop=16)
    facts, twins = built.asked("primary"), built.asked("primary", twins=True)
    trained = {probe.answer for probe in facts}
    for probe in (*facts, *twins):
        values = competing(built, probe)
        attribute = next(a for a in ATTRIBUTE_BY_NAME.values() if probe.answer.strip() in a.values)
        assert probe.answer in values and len(set(values)) == len(values) >= 7
        assert set(values) <= trained and {value.strip() for value in values} <= set(attribute.values)
        assert tuple(value.strip() for value in values) == probe.choice_names
        assert len(probe.closed_set) == len(attribute.values)
    ladder = {p.id: p for p in built.stream.probe_sets["ladder"]}
    assert all(ladder[probe.id] == probe for probe in (*facts, *twins))


# -- the outline ------------------------------------------------------------------------------------------


def random_options(draw: random.Random) -> dict[str, Any]:
    prose = draw.randrange(0, 4)
    cycles = draw.randrange(1, 5)
    return {
        "variant": draw.choice(["own", "own", "conflict"]),
        "loops": draw.randrange(2, 6),
        "cycles": cycles,
        "facts_per_loop": draw.choice([0, 1, 3, 9]) if prose else draw.choice([1, 3, 9]),
        "exposures": draw.randrange(1, 4),
        "prose_steps": prose,
        "insert_at": draw.randrange(0, prose + 1),
        "insert_at_cycle": draw.randrange(0, cycles) if prose else 0,
        "jitter": draw.choice([0.0, 0.3, 1.0]),
        "order": draw.choice(["cyclic", "shuffled"]),
        "new_loop": draw.choice([0, 0, 1, 6]),
        "rest": draw.choice(
            ["unrelated", "none", "loops_without_memory", "both"] if prose else ["unrelated", "none"]
        ),
        "rest_steps": draw.randrange(1, 12),
        "loop_text": draw.choice(["place", "background"]) if prose else "place",
        "batch_size": draw.randrange(1, 7),
        "row_tokens": draw.choice([64, 96, 200]),
        "repeats": draw.randrange(1, 3),
        "even_every": draw.randrange(1, 6),
        "train_on": draw.choice(["statements", "questions", "both"]),
        "setting": draw.random() < 0.7,
    }


@pytest.mark.parametrize("number", range(30))
def test_the_outline_bounds_what_the_stream_really_holds(number: int) -> None:
    built = made(seed=number, **random_options(random.Random(number)))
    check_outline(outline(built.options), built.stream, built.trained, built.heldout)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_outline_bounds_every_preset(preset: str) -> None:
    built = made(**{**MemoryLoopsOptions().model_dump(), **PRESETS[preset]})
    check_outline(outline(built.options), built.stream, built.trained, built.heldout)


# -- purity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", EVERYTHING)
def test_an_experience_is_the_same_when_none_before_it_was_made(options: dict[str, Any]) -> None:
    whole = made(5, **options).experiences
    for index in reversed(range(len(whole) % 3, len(whole), 3)):
        alone = made(5, **options).stream.experience(index)
        assert (alone.name, alone.phase, alone.task_label) == (
            whole[index].name,
            whole[index].phase,
            whole[index].task_label,
        )
        assert update_stream_hash("", alone) == update_stream_hash("", whole[index])
        assert [ids(batch) for batch in alone.batches] == [ids(batch) for batch in whole[index].batches]


PINNED: dict[str, tuple[dict[str, Any], str]] = {
    "own": ({}, "00f35c23abe63189"),
    "conflict": ({"variant": "conflict"}, "5bf252f2f215b0f2"),
    "shuffled with jitter": ({"order": "shuffled", "jitter": 0.5, "cycles": 3}, "5c1b52d77919e72f"),
    "new loop, both rests": ({"new_loop": 1, "rest": "both"}, "9bdec03cb09c7689"),
    "questions": ({"train_on": "both", "setting": False}, "1745d99040f248a0"),
    "documents": ({**PRESETS["anticipatory"], "loops": 3, "cycles": 2}, "e3aa225e2671faf0"),
}


@pytest.mark.parametrize("case", PINNED)
def test_one_version_of_the_scenario_always_feeds_the_same_rows(case: str) -> None:
    """A change of these hashes is a new version of the scenario: raise it in its spec, then pin the new ones."""
    options, pinned = PINNED[case]
    built = made(0, Letters(), max_positions=2048, **{"row_tokens": 256, **options})
    assert content(built)[:16] == pinned
    assert content(made(1, Letters(), max_positions=2048, **{"row_tokens": 256, **options}))[:16] != pinned


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"insert_at": 2}, "insert_at (2) must be at most prose_steps (1)"),
        ({"insert_at_cycle": 2}, "insert_at_cycle (2) must be below cycles (2)"),
        (
            {"insert_at_cycle": 1, "prose_steps": 0, "insert_at": 0},
            "visits before insert_at_cycle train prose alone: prose_steps must be above 0",
        ),
        (
            {"facts_per_loop": 0, "prose_steps": 0, "insert_at": 0},
            "a loop needs facts_per_loop or prose_steps above 0",
        ),
        (
            {"rest_text": "plain", "rest": "none"},
            "rest_text plain needs a rest on unrelated text, not rest none",
        ),
        ({"loops": 1}, "loops"),
        ({"jitter": 1.5}, "jitter"),
        ({"order": "cyclc"}, "order"),
        ({"prose_steps": 0, "insert_at": 0, "rest": "loops_without_memory"}, "prose_steps of at least 1"),
        ({"prose_steps": 0, "insert_at": 0, "loop_text": "background"}, "prose_steps of at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        made(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rows_too_short_for_a_fact_are_refused_with_what_to_raise() -> None:
    with pytest.raises(
        UsageError, match=r"the document stating '0-\d+' has \d+ tokens, more than the row's 10; raise"
    ):
        made(row_tokens=10)


def test_a_model_too_short_for_the_probes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"probe .+ has \d+ tokens, the model reads 30"):
        made(max_positions=30)


# -- learning again ----------------------------------------------------------------------------------------


def learning_points(built: Built, index: int) -> list[tuple[int, str]]:
    return [
        (point.after, point.probe_set)
        for point in built.stream.probe_points(index)
        if point.schedule == ("learning",)
    ]


def test_without_relearn_nothing_is_kept_and_nothing_asked_step_by_step() -> None:
    built = made()
    assert len(built.experiences) == 5 and built.rests[-1].save_as is None
    assert all(e.start_from is None for e in built.experiences)
    assert not [point for index in range(5) for point in learning_points(built, index)]


def test_branches_after_the_rest_train_the_rows_of_each_first_visit_again() -> None:
    built = made(relearn=True, repeats=2)
    again, new = built.experiences[5:7], built.experiences[7]
    assert [e.name for e in built.experiences[4:]] == [
        "rest unrelated",
        "loop 0 again",
        "loop 1 again",
        "new facts",
    ]
    assert built.rests[-1].save_as == "rested"
    assert {e.start_from for e in (*again, new)} == {"rested"} and labels([*again, new]) == [0, 1, 2]
    for branch, visit in zip(again, built.visits[:2], strict=True):
        assert [ids(batch) for batch in branch.batches] == [ids(batch) for batch in visit.batches[1:4]]
        assert branch.repeats == 2 and branch.moments == "carry"
    stated = {fact for e in built.experiences[:7] for facts in stating(e) for fact in facts}
    fresh = {fact for facts in stating(new) for fact in facts}
    assert len(fresh) == 4 and not fresh & stated
    assert [len(batch) for batch in new.batches] == [len(batch) for batch in again[0].batches]


def test_learning_is_asked_before_and_after_every_memory_step() -> None:
    built = made(relearn=True, repeats=2, insert_at_cycle=1)
    # 3 memory batches of 2 steps each, after one prose batch of 2
    assert not learning_points(built, 0) and not learning_points(built, 1)
    for loop in (0, 1):
        assert learning_points(built, 2 + loop) == [(2 + i, f"loop {loop}") for i in range(7)]
    for loop in (0, 1, 2):
        assert learning_points(built, 5 + loop) == [(i, f"loop {loop}") for i in range(7)]
    for loop in (0, 1, 2):
        asked = built.stream.probe_sets[f"loop {loop}"]
        assert len(asked) == 4 and {probe.task_label for probe in asked} == {loop}
        assert {(p.relation, p.cue, p.twin_of) for p in asked} == {("question", "none", None)}
        assert {p.fact for p in asked} == {f for facts in stating(built.experiences[5 + loop]) for f in facts}


def test_relearning_leaves_the_stream_before_it_alone() -> None:
    plain, branched = made(), made(relearn=True)
    for one, other in zip(plain.experiences, branched.experiences, strict=False):
        assert ids(rows_of(one)) == ids(rows_of(other))
        without = [p for p in branched.stream.probe_points(one.index) if p.schedule != ("learning",)]
        assert tuple(without) == plain.stream.probe_points(one.index)
    assert plain.stream.probe_sets.items() <= branched.stream.probe_sets.items()


@pytest.mark.parametrize(
    "changes", [{}, {"repeats": 2, "new_loop": 1}, {"facts_per_loop": 9, "rest": "both"}]
)
def test_the_outline_counts_the_branches(changes: dict[str, Any]) -> None:
    built = made(relearn=True, **changes)
    said = outline(built.options)
    assert said.branches and said.primary == "relearning_savings"
    check_outline(said, built.stream, built.trained, built.heldout)


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({"rest": "none"}, "a rest phase"),
        ({"facts_per_loop": 0}, "facts_per_loop above 0"),
        ({"variant": "conflict"}, "variant own"),
        ({"setting": True}, "setting off"),
    ],
)
def test_relearning_says_what_it_needs(changes: dict[str, Any], needs: str) -> None:
    with pytest.raises(UsageError, match=f"relearn needs {needs}"):
        made(relearn=True, **changes)


def test_the_preset_relearn_learns_at_once_and_again() -> None:
    built = made(**{**PRESETS["relearn"], "loops": 2})
    assert len(built.visits) == 2 + 3 and built.visits[0].steps == 1 + 24
    assert [e.steps for e in built.visits[2:]] == [24, 24, 24]
