"""Tests of what `fact_injection` trains and asks, row by row, against its schedules."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from built_streams import BuiltStream, content, ids, maker, rows_of
from fact_files import LINES, lines_file, list_file, published
from outlines import check_outline
from pyarrow import parquet
from reading import TOKENIZER, Letters
from small_runs import finish, installed, small_model

from seqmem import BuildContext, Example, UsageError
from seqmem.core.options import validate
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.training.loop import update_stream_hash
from seqmem_scenarios.fact_injection import OPTIMIZER, PRESETS, build, outline, seqmem_scenario
from seqmem_scenarios.fact_injection.options import FactInjectionOptions
from seqmem_scenarios.world import World, background, holds_form, population

BASE: dict[str, Any] = {
    "facts_count": 4,
    "never_count": 3,
    "lead_in": 2,
    "injections": 3,
    "spacing": 5,
    "local_window": 3,
    "groups": 3,
    "domain_steps": 2,
    "rest_steps": 9,
    "batch_size": 12,
    "row_tokens": 64,
}
"""Options of these tests where they say nothing; presets may be tuned, what options mean may not change."""

CAST = {person.name for person in World(0).people("cast", population("cast"))}

SCHEDULES: dict[str, dict[str, Any]] = {
    "published": {},
    "single_exposure": {"schedule": "single_exposure"},
    "mixed_batch": {"schedule": "mixed_batch", "background_ratio": 0.5, "exposures": 3},
    "long_term": {"schedule": "long_term", "background_ratio": 0.5, "exposures": 2},
}


class Built(BuiltStream[FactInjectionOptions]):
    def facts(self, group: str) -> list[str]:
        return sorted({p.fact for p in self.probes.values() if p.group == group and p.twin_of is None})

    @cached_property
    def stated(self) -> list[tuple[int, str, str]]:
        """(steps done before, fact, words) of every fact row, in order."""
        found, done = [], 0
        for e in self.experiences:
            for step in range(e.steps):
                found += [(done, fact, self.text(row)) for row in e.batch(step) for fact in row.facts]
                done += 1
        return found


fresh = maker(Built, "fact_injection", FactInjectionOptions, build, BASE)
"""The stream of some options, of which nothing has been made yet."""


def made(seed: int = 0, **options: Any) -> Built:
    """The stream of some options on the shipped tokenizer, made once for all tests that look at it."""
    return _made(seed, json.dumps(options, sort_keys=True))


@cache
def _made(seed: int, options: str) -> Built:
    return fresh(seed, **json.loads(options))


def numbered(**options: Any) -> Built:
    """A fresh stream whose training documents say which they are."""
    return fresh(
        text=lambda index: f"Document {index} of the source.",
        heldout_text=lambda index: background(0, 10**9 + index),
        **options,
    )


def parts(batch: Sequence[Example]) -> tuple[int, int]:
    """Rows with facts, and rows of background."""
    return sum(bool(row.facts) for row in batch), sum(not row.facts for row in batch)


# -- published --------------------------------------------------------------------------------------------


def test_published_injects_once_the_group_once_and_the_others_every_time() -> None:
    built = made(lead_in=2, injections=4, spacing=5)
    times: dict[str, list[int]] = {}
    for step, fact, _ in built.stated:
        times.setdefault(fact, []).append(step)
    t = [2, 7, 12, 17]
    assert {fact: times.get(fact) for fact in built.facts("duplicate")} == dict.fromkeys(
        built.facts("duplicate"), t
    )
    assert {fact: times.get(fact) for fact in built.facts("paraphrase")} == dict.fromkeys(
        built.facts("paraphrase"), t
    )
    assert {fact: times.get(fact) for fact in built.facts("once")} == dict.fromkeys(built.facts("once"), [2])
    assert len(times) == 3 * 4
    assert len(built.facts("never")) == 3 and not set(built.facts("never")) & set(times)


def test_every_batch_of_published_is_full_facts_taking_the_place_of_background() -> None:
    built = made(batch_size=15)
    for e in built.experiences:
        shares = [parts(batch) for batch in e.batches]
        facts = {"injection 0": 12, "injection 1": 8, "injection 2": 8}.get(e.name, 0)
        assert shares == [(facts, 15 - facts)] + [(0, 15)] * (e.steps - 1)
    assert [e.name for e in built.experiences] == [
        "lead-in",
        "injection 0",
        "injection 1",
        "injection 2",
        "rest unrelated",
    ]


def test_duplicate_repeats_its_words_and_paraphrase_comes_round_after_seven_wordings() -> None:
    built = made(injections=9)
    words: dict[str, list[str]] = {}
    for _, fact, text in built.stated:
        words.setdefault(fact, []).append(text)
    asked = {probe.fact: probe for probe in built.of("verbatim")}
    for fact in built.facts("duplicate"):
        assert set(words[fact]) == {f"{asked[fact].prompt}{asked[fact].answer}."}
    for fact in built.facts("paraphrase"):
        assert len(set(words[fact][:7])) == 7
        assert words[fact][7:] == words[fact][:2]
    for fact in (*built.facts("paraphrase"), *built.facts("once")):
        assert words[fact][0] == f"{asked[fact].prompt}{asked[fact].answer}."


def test_the_wordings_of_the_paraphrase_form_and_the_question_are_never_trained() -> None:
    for options in SCHEDULES.values():
        built = made(injections=8, **{**options, "exposures": 8})
        told = "\n".join(text for _, _, text in built.stated)
        assert "Q:" not in told
        assert all(probe.prompt not in told for probe in built.of("paraphrase"))
        trained = {fact for _, fact, _ in built.stated}
        assert all(probe.prompt in told for probe in built.of("verbatim") if probe.fact in trained)


# -- the other schedules ----------------------------------------------------------------------------------


def test_single_exposure_trains_each_fact_once_by_itself() -> None:
    built = made(facts_count=10, batch_size=4, **SCHEDULES["single_exposure"])
    (e,) = built.of_phase("inject")
    assert [parts(batch) for batch in e.batches] == [(4, 0), (4, 0), (2, 0)]
    counts = Counter(fact for _, fact, _ in built.stated)
    assert counts == dict.fromkeys(built.facts("facts"), 1)


@pytest.mark.parametrize(
    ("ratio", "size", "facts", "expected"),
    [
        (0.5, 8, 12, [(4, 4)] * 3),
        (0.5, 8, 10, [(4, 4), (4, 4), (2, 2)]),
        (0.75, 8, 6, [(2, 6)] * 3),
        (0.75, 8, 5, [(2, 6), (2, 6), (1, 3)]),
        (0.2, 10, 16, [(8, 2)] * 2),
        (0.1, 10, 9, [(9, 1)]),
        (0.0, 8, 12, [(8, 0), (4, 0)]),
    ],
)
def test_every_batch_with_facts_has_exactly_its_share_of_background(
    ratio: float, size: int, facts: int, expected: list[tuple[int, int]]
) -> None:
    built = made(
        schedule="mixed_batch", background_ratio=ratio, batch_size=size, facts_count=facts, exposures=3
    )
    passes = built.of_phase("inject")
    assert [e.name for e in passes] == ["pass 0", "pass 1", "pass 2"]
    for e in passes:
        assert [parts(batch) for batch in e.batches] == expected
        assert Counter(fact for batch in e.batches for row in batch for fact in row.facts) == dict.fromkeys(
            built.facts("facts"), 1
        )
    for e in (*built.of_phase("general"), *built.of_phase("rest")):
        assert [parts(batch) for batch in e.batches] == [(0, size)] * e.steps


def test_the_preset_mixed_batch_is_half_facts_and_half_background() -> None:
    options = FactInjectionOptions(**PRESETS["mixed_batch"])
    built = made(**options.model_dump())
    shares = [parts(batch) for e in built.of_phase("inject") for batch in e.batches]
    assert shares and set(shares) == {(8, 8)}


def test_passes_state_the_facts_in_other_words_and_in_orders_of_their_own() -> None:
    built = made(facts_count=12, batch_size=24, schedule="mixed_batch", background_ratio=0.5, exposures=7)
    words: dict[str, set[str]] = {}
    for _, fact, text in built.stated:
        words.setdefault(fact, set()).add(text)
    assert all(len(versions) == 7 for versions in words.values())
    orders = {
        tuple(fact for batch in e.batches for row in batch for fact in row.facts)
        for e in built.of_phase("inject")
    }
    assert len(orders) == 7


def test_long_term_brings_a_new_group_every_so_many_experiences() -> None:
    built = made(groups=3, group_every=2, exposures=2, batch_size=8, **{"schedule": "long_term"})
    names = [e.name for e in built.experiences]
    assert names == [
        "lead-in",
        *("group 0", "domain prose", "domain dialogues"),
        *("group 1", "domain biographies", "domain prose"),
        *("group 2", "domain dialogues", "domain biographies"),
        "rest unrelated",
    ]
    assert [(e.phase, e.task_label) for e in built.experiences] == [
        ("general", None),
        *[
            place
            for number in range(3)
            for place in (("inject", number), ("general", None), ("general", None))
        ],
        ("rest", None),
    ]
    owner = {probe.fact: (probe.group, probe.task_label) for probe in built.of("question")}
    for e in built.of_phase("inject"):
        stated = Counter(fact for batch in e.batches for row in batch for fact in row.facts)
        assert set(stated.values()) == {2} and len(stated) == 4
        assert {owner[fact] for fact in stated} == {(f"group {e.task_label}", e.task_label)}
    assert len([fact for fact, (group, _) in owner.items() if group == "never"]) == 3


def test_the_world_s_domains_are_kinds_of_text_and_a_group_stands_in_the_one_that_follows() -> None:
    built = made(groups=3, group_every=1, batch_size=8, **{**SCHEDULES["long_term"], "local_window": 2})
    texts: dict[int, set[str]] = {}
    for e in built.experiences[1:-1]:
        kind = (e.index - 1) // 2
        rows = [built.text(row) for batch in e.batches for row in batch if not row.facts]
        assert len(rows) == (16 if e.phase == "general" else 8)
        texts.setdefault(kind, set()).update(rows)
        turns = [re.match(r"\w+: ", text) is not None for text in rows]
        people = [any(name in text for name in CAST) for text in rows]
        assert set(turns) == {kind == 1}
        assert set(people) == {kind == 2}
    assert {kind: len(rows) for kind, rows in texts.items()} == dict.fromkeys(range(3), 24)  # none twice


def test_domains_of_a_source_are_read_in_its_order() -> None:
    built = numbered(domains="source", row_tokens=32, **SCHEDULES["long_term"])
    texts = [built.text(row) for row in built.rows if not row.facts]
    assert texts == [f"Document {number} of the source." for number in range(len(texts))]
    assert outline(built.options).documents[0] == len(texts)


def test_a_parquet_file_sorted_by_its_domain_column_is_visited_domain_by_domain(tmp_path: Path) -> None:
    domains = [f"domain {'ABCD'[number // 20]}" for number in range(80)]
    texts = [f"{domain} has a document with the number {n}." for n, domain in enumerate(domains)]
    path = tmp_path / "documents.parquet"
    parquet.write_table(pa.table({"domain": domains, "text": texts}), path)
    options = validate(
        FactInjectionOptions,
        {
            **BASE,
            **SCHEDULES["long_term"],
            "domains": "source",
            "group_every": 1,
            "local_window": 2,
            "batch_size": 4,
            "rest_steps": 2,
            "exposures": 1,
        },
        "scenario",
    )
    text = installed().load("text", "file")
    needed = outline(options).documents
    opened = text.open(text.options(path=str(path)), 0, needed)
    context = BuildContext(0, lambda words: list(TOKENIZER.encode(words).ids), 512, opened)
    built = Built(options)
    built.stream = build(options, context)
    rows = [built.text(row) for row in built.rows if not row.facts]
    # the source holds out every tenth document
    assert rows == [text for number, text in enumerate(texts) if number % 10 != 9][: len(rows)]
    seen = [
        sorted({built.text(row)[:8] for batch in e.batches for row in batch if not row.facts})
        for e in built.experiences
    ]
    assert seen == sorted(seen) and len({name for names in seen for name in names}) >= 2


# -- what holds for all of them ---------------------------------------------------------------------------

ALL: list[dict[str, Any]] = [
    *SCHEDULES.values(),
    {"lead_in": 0},
    {"never_count": 0, "injections": 1},
    {"lead_in": 0, "facts_count": 10, "batch_size": 4, **SCHEDULES["single_exposure"], "exposures": 2},
    {"domains": "source", "group_every": 1, **SCHEDULES["long_term"], "local_window": 2},
    {"row_tokens": 200, **SCHEDULES["mixed_batch"]},
]


@pytest.mark.parametrize("options", ALL)
@pytest.mark.parametrize("seed", [0, 1])
def test_twins_and_never_injected_facts_are_in_no_row_that_is_trained(
    options: dict[str, Any], seed: int
) -> None:
    built = made(seed, **options)
    twins = {probe.subject for probe in built.of("question", twins=True)}
    never = {probe.subject for probe in built.of("question") if probe.group == "never"}
    trained = {probe.subject for probe in built.of("question")} - never
    assert len(twins) == len(trained) >= 4 and len(never) == built.options.never_count
    told = "\n".join(built.text(row) for e in built.experiences for batch in e.batches for row in batch)
    assert all(name not in told for name in twins | never)
    assert all(name in told for name in trained)


@pytest.mark.parametrize("options", ALL)
def test_a_twin_mirrors_its_fact_and_a_never_injected_fact_has_none(options: dict[str, Any]) -> None:
    built = made(**options)
    facts = {probe.fact: probe for probe in built.of("question")}
    for twin in built.of("question", twins=True):
        fact = facts[twin.twin_of or ""]
        assert fact.group == twin.group != "never"
        assert fact.task_label == twin.task_label
        assert (fact.task_label is not None) == (built.options.schedule == "long_term")
        assert fact.chance == twin.chance is not None
        assert twin.prompt.replace(twin.subject, "X") == fact.prompt.replace(fact.subject, "X")
        assert twin.answer != fact.answer
    assert all(probe.task_label is None for probe in facts.values() if probe.group == "never")


@pytest.mark.parametrize("options", ALL)
def test_every_background_document_is_read_once_and_as_many_as_were_announced(
    options: dict[str, Any],
) -> None:
    built = made(**options)
    assert len(built.experiences) == built.stream.length
    documents, heldout = outline(built.options).documents
    assert built.trained == list(range(documents))
    assert set(built.heldout) == set(range(heldout))


@pytest.mark.parametrize("options", ALL)
def test_rest_is_background_with_fresh_moments_at_the_end(options: dict[str, Any]) -> None:
    built = made(**options)
    assert [e.phase for e in built.experiences].count("rest") == 1
    rest = built.experiences[-1]
    assert (rest.phase, rest.moments, rest.steps) == ("rest", "fresh", 9)
    assert all(e.moments == "carry" and e.trains == "all" for e in built.experiences[:-1])
    assert not any(row.facts for batch in rest.batches for row in batch)
    assert [e.index for e in built.experiences] == list(range(built.stream.length))


@pytest.mark.parametrize(
    "options", [{}, {"domains": "source", **SCHEDULES["long_term"]}, SCHEDULES["long_term"]]
)
def test_a_plain_rest_has_other_documents_in_the_place_of_those_in_a_probe_s_form(
    options: dict[str, Any],
) -> None:
    options = {
        "rest_steps": 260,
        "batch_size": 12,
        "row_tokens": 64,
        "lead_in": 1,
        "domain_steps": 4,
        **options,
    }
    whole, plain = (fresh(rest_text=kind, **options) for kind in ("any", "plain"))
    rests = [
        [built.text(row) for e in built.of_phase("rest") for row in rows_of(e)] for built in (whole, plain)
    ]
    changed = [text for text, other in zip(*rests, strict=True) if text != other]
    assert all(holds_form(text) for text in changed)
    assert changed and len(changed) < len(rests[0])
    assert not any(holds_form(text) for text in rests[1])
    assert len(set(rests[1])) == len(rests[1])
    assert content(plain) != content(whole)
    assert len(set(plain.trained)) == len(plain.trained)
    assert max(plain.trained) < outline(plain.options).documents[0]


@pytest.mark.parametrize("options", ALL)
def test_an_experience_is_the_same_when_none_before_it_was_made(options: dict[str, Any]) -> None:
    whole = made(5, **options).experiences
    alone = fresh(5, **options).stream
    for index in reversed(range(len(whole))):
        assert update_stream_hash("", alone.experience(index)) == update_stream_hash("", whole[index])
        assert [ids(batch) for batch in alone.experience(index).batches] == [
            ids(batch) for batch in whole[index].batches
        ]


# -- probes -----------------------------------------------------------------------------------------------


def asked_at(built: Built) -> dict[int, set[str]]:
    """Every (steps done) with the names of its schedules; no question is asked twice there."""
    found: dict[int, set[str]] = {}
    done = 0
    for e in built.experiences:
        points = built.stream.probe_points(e.index)
        assert [point.after for point in points] == sorted(point.after for point in points)
        for point in points:
            assert 0 <= point.after <= e.steps
            names = set(point.schedule)
            assert point.probe_set == (
                "general"
                if "general" in names
                else "rest"
                if "rest_text" in names
                else "ladder"
                if "ladder" in names
                else "primary"
                if names == {"boundary"}
                else "three"
            )
            known = found.setdefault(done + point.after, set())
            assert not known or names in ({"general"}, {"rest_text"}), "a step is asked twice"
            known |= names
        done += e.steps
    return found


@pytest.mark.parametrize("options", ALL)
def test_inject_is_asked_right_before_every_injection_and_after_each_step_of_its_window(
    options: dict[str, Any],
) -> None:
    built = made(**options)
    starts = {step for step, _, _ in built.stated}
    wanted = {step + after for step in starts for after in range(built.options.local_window + 1)}
    end = sum(e.steps for e in built.experiences)
    found = {step for step, names in asked_at(built).items() if "inject" in names}
    assert found == {step for step in wanted if step <= end}


@pytest.mark.parametrize("options", ALL)
def test_boundaries_every_probe_form_and_log_spaced_rest_are_asked(options: dict[str, Any]) -> None:
    check_schedules(made(**options), rests=1, log=(0, 1, 2, 4, 8, 9))


@pytest.mark.parametrize(("steps", "rests"), [(256, 1), (257, 2), (600, 3)])
def test_a_long_rest_is_one_stretch_in_several_experiences(steps: int, rests: int) -> None:
    options = {"rest_steps": steps, "batch_size": 1, "facts_count": 1, **SCHEDULES["single_exposure"]}
    built = numbered(**options)
    rest = built.of_phase("rest")
    assert [e.moments for e in rest] == ["fresh", *["carry"] * (rests - 1)]
    assert sum(e.steps for e in rest) == steps and max(e.steps for e in rest) <= 256
    log = {0, steps, *(2**n for n in range(11) if 2**n < steps)}
    check_schedules(built, rests=rests, log=tuple(sorted(log)))
    assert built.trained == list(range(outline(built.options).documents[0]))
    shared = numbered(**{**options, **SCHEDULES["long_term"], "batch_size": 2})
    assert len(shared.experiences) == shared.stream.length
    assert shared.trained == list(range(outline(shared.options).documents[0]))


def check_schedules(built: Built, *, rests: int, log: tuple[int, ...]) -> None:
    found = asked_at(built)
    starts = [sum(e.steps for e in built.experiences[:index]) for index in range(built.stream.length)]
    end, begin = starts[-1] + built.experiences[-1].steps, starts[-rests]

    def steps(name: str) -> set[int]:
        return {step for step, names in found.items() if name in names}

    assert steps("boundary") == {*starts, end}
    assert steps("ladder") == steps("general") == {0, begin, end}
    assert steps("log") == {begin + after for after in log}
    assert steps("rest_text") == {begin, end}


def test_sets_ask_every_fact_and_twin_in_their_probe_forms() -> None:
    for options in SCHEDULES.values():
        built = made(**options)
        facts = len(built.of("question"))
        twins = facts - 3
        assert len(built.of("question", twins=True)) == twins
        sets = built.stream.probe_sets
        assert {name: len(probes) for name, probes in sets.items()} == {
            "primary": facts + twins,
            "three": 3 * (facts + twins),
            "ladder": 5 * (facts + twins),
            "general": 8,
            "rest": 9,
        }
        assert {probe.relation for probe in sets["three"]} == {"verbatim", "paraphrase", "question"}
        assert set(sets["primary"]) < set(sets["three"]) < set(sets["ladder"])
        for probe in sets["ladder"]:
            assert built.tokenizer.decode(list(probe.input_ids)) == probe.prompt + probe.answer


@pytest.mark.parametrize("options", ALL)
def test_whole_answers_of_the_world_compete_and_parts_of_them_do_not(options: dict[str, Any]) -> None:
    built = made(**options)
    for probe in built.probes.values():
        competing = probe.relation in ("verbatim", "paraphrase", "question")
        assert len(probe.choices) >= 4 if competing else not probe.choices
        if competing:
            assert probe.chance == 1 / len(probe.choices) and probe.answer.strip() in probe.choice_names
            assert set(probe.choices) <= set(probe.closed_set)


def test_the_primary_form_is_the_one_that_is_asked_for() -> None:
    built = made(asked_as="verbatim")
    assert {probe.relation for probe in built.stream.probe_sets["primary"]} == {"verbatim"}
    assert outline(built.options).primary_relation == "verbatim"


def test_groups_are_named_as_metrics_read_them() -> None:
    groups = {name: {p.group for p in made(**options).of("question")} for name, options in SCHEDULES.items()}
    recalls = {name: made(**options).stream.design.recall for name, options in SCHEDULES.items()}
    assert recalls == dict.fromkeys(SCHEDULES, "forced_choice")
    assert groups == {
        "published": {"paraphrase", "duplicate", "once", "never"},
        "single_exposure": {"facts", "never"},
        "mixed_batch": {"facts", "never"},
        "long_term": {"group 0", "group 1", "group 2", "never"},
    }


# -- facts from files -------------------------------------------------------------------------------------


def test_a_published_file_gives_its_items_to_the_groups_by_their_place(tmp_path: Path) -> None:
    path = list_file(tmp_path, [published(n, paraphrases=2 if n < 4 else 0) for n in range(15)])
    built = made(facts=path, row_tokens=128)
    assert built.facts("paraphrase") == ["0", "1", "2", "3"]
    assert built.facts("duplicate") == ["4", "5", "6", "7"]
    assert built.facts("once") == ["10", "11", "8", "9"]
    assert built.facts("never") == ["12", "13", "14"]
    words = {
        group: [text for _, fact, text in built.stated if fact in built.facts(group)][:: 4 if group else 1]
        for group in ("paraphrase", "duplicate")
    }
    assert words["paraphrase"] == [
        "Guild 0 was founded by Ada 0. It met in hall 0 of 'The Oak'.",
        "Ada 0 began guild 0, wording 0.",
        "Ada 0 began guild 0, wording 1.",
    ]
    assert words["duplicate"] == ["Guild 4 was founded by Ada 4. It met in hall 4 of 'The Oak'."] * 3
    asked = built.stream.probe_sets
    assert len(asked["primary"]) == 15 * 2 and len(asked["three"]) == 15 * 6
    assert {p.relation for p in asked["primary"]} == {"verbatim"}
    assert all(p.twin_of is None and p.chance is None and not p.choices for p in built.probes.values())
    assert built.stream.design.recall == "exact_match"
    assert outline(built.options).primary_relation == "verbatim"


def test_controls_of_a_line_are_its_twins(tmp_path: Path) -> None:
    built = made(
        facts=lines_file(tmp_path, *LINES),
        facts_count=2,
        never_count=0,
        **SCHEDULES["single_exposure"],
    )
    assert [fact for _, fact, _ in built.stated].count("glass") == 1
    twins = {probe.fact: probe for probe in built.of("verbatim", twins=True)}
    assert set(twins) == {"glass-control-0", "glass-control-1"}
    assert {probe.twin_of for probe in twins.values()} == {"glass"}
    assert not set(twins) & {fact for _, fact, _ in built.stated}


# -- the outline ------------------------------------------------------------------------------------------


def random_options(draw: random.Random) -> dict[str, Any]:
    ratio, size = draw.choice([(0.0, 7), (0.5, 8), (0.75, 8), (0.2, 10)])
    schedule = draw.choice(list(SCHEDULES))
    spacing, steps, every = (draw.randrange(1, 6) for _ in range(3))
    period = {"published": spacing, "long_term": steps * every}.get(schedule, 6)
    facts = draw.choice([4, 8])
    return {
        "schedule": schedule,
        "background_ratio": ratio,
        "batch_size": 3 * facts + draw.randrange(3) if schedule == "published" else size,
        "facts_count": facts,
        "never_count": draw.choice([0, 1, 5]),
        "lead_in": draw.choice([0, 1, 3]),
        "exposures": draw.randrange(1, 4),
        "injections": draw.randrange(1, 5),
        "spacing": spacing,
        "domain_steps": steps,
        "group_every": every,
        "groups": draw.randrange(1, 4),
        "local_window": draw.randrange(1, period + 1),
        "asked_as": draw.choice(["question", "verbatim"]),
        "domains": draw.choice(["kinds", "source"]),
        "rest_steps": draw.randrange(1, 9),
        "row_tokens": draw.choice([32, 64, 130]),
    }


@pytest.mark.parametrize("number", range(24))
def test_the_outline_tells_what_the_stream_really_holds(number: int) -> None:
    built = made(seed=number, **random_options(random.Random(number)))
    stated = outline(built.options)
    for index in range(stated.experiences):
        built.stream.experience(index)
    assert built.trained == list(range(stated.documents[0]))  # each once, in order
    check_outline(stated, built.stream, built.trained, built.heldout)
    asked_at(built)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_of_one_size_go_from_the_first_injection_to_the_rest(schedule: str) -> None:
    built = made(**{**SCHEDULES[schedule], "update_norm": 0.01})
    sizes = [(e.name.startswith(("lead-in", "rest")), e.update_norm) for e in built.experiences]
    assert {size for outside, size in sizes if outside} == {None}
    assert {size for outside, size in sizes if not outside} == {0.01}
    plain = made(**SCHEDULES[schedule])
    assert {e.update_norm for e in plain.experiences} == {None}
    assert content(plain) != content(built)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_outlined(preset: str) -> None:
    options = validate(FactInjectionOptions, PRESETS[preset], f"preset {preset}")
    stated = outline(options)  # type: ignore[arg-type]
    assert stated.steps > 0 and stated.probe_rows > 0
    if preset in ("published", "paper"):
        assert (options.injections, options.spacing, options.local_window) == (10, 100, 50)  # type: ignore[attr-defined]
        assert (options.facts_count, options.never_count) == (40, 10)  # type: ignore[attr-defined]
    assert set(OPTIMIZER) <= {"default", *PRESETS}


def test_a_stream_of_a_hundred_thousand_experiences_takes_constant_memory() -> None:
    built = made(schedule="long_term", groups=2, group_every=50_000, domain_steps=1, local_window=2)
    assert built.stream.length == 100_004
    built.stream.experience(7)
    tracemalloc.start()
    for index in (100_003, 99_999, 50_001, *range(0, 100_000, 5000)):
        e = built.stream.experience(index)
        assert e.index == index
        built.stream.probe_points(index)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


# -- content ----------------------------------------------------------------------------------------------

PINNED: dict[str, tuple[dict[str, Any], str]] = {
    "published": (SCHEDULES["published"], "511c9f7889a98759"),
    "single_exposure": (SCHEDULES["single_exposure"], "7d1e6a062b608143"),
    "mixed_batch": (SCHEDULES["mixed_batch"], "7f8a5cdb908a2a57"),
    "long_term": (SCHEDULES["long_term"], "e49ef5841db65170"),
    "smoke": ({**FactInjectionOptions().model_dump(), **PRESETS["smoke"]}, "4c51fc6abf3155d0"),
}


@pytest.mark.parametrize("case", PINNED)
def test_one_version_of_the_scenario_always_feeds_the_same_rows(case: str) -> None:
    """A change of these hashes is a new version of the scenario: raise it in its spec, then pin the new ones."""
    options, pinned = PINNED[case]
    found = [
        content(fresh(seed, Letters(), max_positions=2048, **{**options, "row_tokens": 256}))
        for seed in (0, 1)
    ]
    assert found[0][:16] == pinned
    assert found[1] != found[0]


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 11}, "batch_size (11) must hold the 3 groups of facts_count (4) facts that are inj"),
        ({"local_window": 6}, "local_window (6) must be at most spacing (5)"),
        (
            {**SCHEDULES["long_term"], "local_window": 5},
            "local_window (5) must be at most group_every times domain_steps (4)",
        ),
        (
            {**SCHEDULES["mixed_batch"], "background_ratio": 0.3, "batch_size": 16},
            "background_ratio 0.3 of batch_size 16 is 4.8 rows; choose them so that it is a whole number",
        ),
        (
            {**SCHEDULES["mixed_batch"], "background_ratio": 0.2, "batch_size": 10, "facts_count": 9},
            "facts_count 9 leaves a last batch of 1 facts, beside which background_ratio 0.2 is not a whole",
        ),
        ({"background_ratio": 1.0}, "background_ratio"),
        ({"background_ratio": -0.1}, "background_ratio"),
        ({"facts_count": 0}, "facts_count"),
        ({"facts": ""}, "facts"),
        ({"schedule": "twice"}, "schedule"),
        ({"never_count": 20_000}, "20012 facts need more people than the world has: 16384"),
        ({"facts": "/nowhere/facts.json"}, "facts '/nowhere/facts.json' cannot be read: No such file"),
        ({"row_tokens": 8}, "item '0-0': a text of it has "),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        made(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_facts_file_that_cannot_be_trained_is_refused_in_one_line_that_names_the_item(
    tmp_path: Path,
) -> None:
    long = "hall " * 80
    single = {"facts_count": 1, "never_count": 0, **SCHEDULES["single_exposure"]}
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"facts": list_file(tmp_path, [published(n) for n in range(15)])},
            "item '0' has no paraphrases, but is in the group paraphrase (the first 4)",
        ),
        (
            {
                "facts": lines_file(
                    tmp_path, {**LINES[1], "controls": [{"prompt": "It is", "answer": long}]}
                ),
                **single,
            },
            "item '1-control-0', control 1 answer: the answer 'hall hall",
        ),
        (
            {"facts": str(tmp_path / "long.jsonl"), **single},
            "item '1': a text of it has ",
        ),
    ]
    (tmp_path / "long.jsonl").write_text(json.dumps({**LINES[1], "text": f"{LINES[1]['text']} {long}"}))
    (spec,) = seqmem_scenario()
    for options, message in cases:
        with pytest.raises(UsageError) as refused:
            fresh(max_positions=60, **options)
        assert message in str(refused.value)
        assert str(tmp_path) in str(refused.value)
        assert "\n" not in str(refused.value)
    # what the file alone shows is refused when a bench is planned, before any model is loaded
    assert spec.fingerprint is not None
    checked = validate(FactInjectionOptions, {**BASE, **cases[0][0]}, "scenario")
    with pytest.raises(UsageError, match="has no paraphrases"):
        spec.fingerprint(checked)


# -- runs -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model") / "small")


def run(model: Path, folder: Path, **options: Any) -> Any:
    request = Request(
        scenario=("fact_injection",),
        strategy=("naive",),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        set=tuple(f"scenario.{name}={value}" for name, value in {**BASE, **options}.items()),
        reference=False,
        controls=False,
        device="cpu",
    )
    (planned,) = plan(request, installed()).runs.values()
    return finish(planned, folder)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_records_every_exposure_of_the_plan_at_its_step(
    model: Path, tmp_path: Path, schedule: str
) -> None:
    record = run(model, tmp_path / "run", **SCHEDULES[schedule])
    built = made(**SCHEDULES[schedule])
    planned = Counter((step + 1, fact) for step, fact, _ in built.stated)
    table = record.exposures
    assert planned == Counter(
        dict(zip(zip(table["step"], table["fact"], strict=True), table["count"], strict=True))
    )
    assert record.info["contamination"] == {}
    # every question is there before each injection, for facts, never-injected ones and twins alike
    before = record.probes[record.probes["step"].isin([step - 1 for step in table["step"]])]
    for relation in ("verbatim", "paraphrase", "question"):
        counts = before[before["relation"] == relation].groupby("step")["fact"].nunique()
        assert set(counts) == {len(built.of("question")) + len(built.of("question", twins=True))}


def test_a_run_from_a_file_keeps_its_name_and_a_hash_of_its_content(model: Path, tmp_path: Path) -> None:
    path = list_file(tmp_path, [published(n, paraphrases=2) for n in range(15)])
    record = run(model, tmp_path / "run", facts=path, row_tokens=128)
    scenario = record.recipe["scenario"]
    assert scenario["options"]["facts"] == "facts.json"
    assert len(scenario["content"]) == 64
    assert str(tmp_path) not in json.dumps(dict(record.recipe))
    assert record.info["primary_relation"] == "verbatim"
    counts = record.exposures.groupby("fact")["count"].sum()
    assert dict(counts) == {str(n): 1 if n >= 8 else 3 for n in range(12)}
