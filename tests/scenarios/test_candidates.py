"""Candidates in forced choice: known chance, twins alike, and nothing won by trained answers being hot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from built_streams import BuiltStream, maker, rows_of
from reading import Letters

from seqmem import Probe, UsageError
from seqmem.core.guessing import expected, standard_error
from seqmem_scenarios import (
    conversation_recall,
    fact_injection,
    freeze_loops,
    memory_loops,
    sequential_sentences,
)
from seqmem_scenarios.candidates import MAX_CANDIDATES, MIN_CANDIDATES, Candidates
from seqmem_scenarios.conversation_recall.options import ConversationRecallOptions
from seqmem_scenarios.fact_injection.options import FactInjectionOptions
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions
from seqmem_scenarios.sequential_sentences.options import SequentialSentencesOptions
from seqmem_scenarios.world import make_facts

MADE: dict[str, tuple[Callable[..., BuiltStream[Any]], str]] = {
    "memory_loops": (
        maker(BuiltStream, "memory_loops", MemoryLoopsOptions, memory_loops.build, {}),
        "primary",
    ),
    "freeze_loops": (
        maker(BuiltStream, "freeze_loops", freeze_loops.FreezeLoopsOptions, freeze_loops.build, {}),
        "inferred",
    ),
    "fact_injection": (
        maker(BuiltStream, "fact_injection", FactInjectionOptions, fact_injection.build, {"never_count": 0}),
        "primary",
    ),
}


def hot(
    probe: Probe, trained: set[str], own_taste: np.random.Generator, prompts: np.random.Generator
) -> bool:
    """What a model chooses that prefers trained answers by 5 nats, whatever the question."""
    taste = {name: own_taste.normal() for name in sorted(probe.choice_names)}
    score = {
        name: taste[name] + 5.0 * (name in trained) + 0.5 * prompts.normal() for name in probe.choice_names
    }
    return max(score, key=lambda name: score[name]) == probe.answer.strip()


@pytest.mark.parametrize("scenario", MADE)
def test_a_model_that_only_prefers_trained_answers_guesses(scenario: str) -> None:
    make, probe_set = MADE[scenario]
    right: dict[bool, list[bool]] = {False: [], True: []}
    chance: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(8):
        built = make(seed)
        trained = {probe.answer.strip() for probe in built.asked(probe_set)}
        prompts = np.random.default_rng(seed)
        for probe in built.stream.probe_sets[probe_set]:
            twin = probe.twin_of is not None
            # the taste of a model for a value is the same whenever it is a candidate
            right[twin].append(hot(probe, trained, np.random.default_rng(seed), prompts))
            chance[twin].append(probe.chance or 0.0)
    for twin, chosen in right.items():
        mean = float(np.mean(chance[twin]))
        error = np.sqrt(mean * (1 - mean) / len(chosen))
        assert abs(np.mean(chosen) - mean) < 3 * error, (twin, np.mean(chosen), mean)


def first_exposures(built: BuiltStream[Any]) -> dict[str, int]:
    """Steps done once each fact has been trained for the first time."""
    first: dict[str, int] = {}
    done = 0
    for experience in built.experiences:
        for batch in experience.batches:
            done += 1
            for row in batch:
                for fact in row.facts:
                    first.setdefault(fact, done)
    return first


@pytest.mark.parametrize("preset", ["default", "single_exposure", "mixed_batch", "long_term"])
def test_right_after_its_first_exposure_a_fact_has_no_rival_that_is_yet_to_be_trained(preset: str) -> None:
    """So that a model which only prefers what it has met by then guesses, about facts, twins and never-trained ones."""
    short = {
        "lead_in": 1,
        "injections": 1,
        "local_window": 1,
        "spacing": 1,
        "domain_steps": 1,
        "rest_steps": 1,
    }
    options = {**fact_injection.PRESETS[preset], **short, "never_count": 12}
    make, probe_set = MADE["fact_injection"]
    found: dict[str, list[tuple[bool, float]]] = {"facts": [], "twins": [], "never": []}
    for seed in range(3):
        built = make(seed, **options)
        first = first_exposures(built)
        asked = built.asked(probe_set)
        answers = {probe.fact: probe.answer.strip() for probe in asked}
        trained = {step: {answers[fact] for fact in first if first[fact] <= step} for step in first.values()}
        prompts = np.random.default_rng(seed)
        for probe in built.stream.probe_sets[probe_set]:
            own = first.get(probe.twin_of or probe.fact)
            for step in trained if own is None else [own]:
                if own is not None:
                    assert set(probe.choice_names) <= trained[step]
                kind = "never" if own is None else "twins" if probe.twin_of else "facts"
                chosen = hot(probe, trained[step], np.random.default_rng(seed), prompts)
                found[kind].append((chosen, probe.chance or 0.0))
    for kind, rows in found.items():
        right, chance = np.array(rows, dtype=float).T
        error = np.sqrt(chance.mean() * (1 - chance.mean()) / len(rows))
        assert abs(right.mean() - chance.mean()) < 3 * error, (kind, right.mean(), chance.mean())


@pytest.mark.parametrize("scenario", MADE)
def test_facts_and_twins_have_the_same_candidates_and_equally_trained_answers(scenario: str) -> None:
    make, probe_set = MADE[scenario]
    built = make(3)
    facts = {probe.fact: probe for probe in built.asked(probe_set)}
    twins = built.asked(probe_set, twins=True)
    trained = {probe.answer for probe in facts.values()}
    assert len(twins) == len(facts)
    for twin in twins:
        fact = facts[twin.twin_of or ""]
        assert (twin.choices, twin.chance) == (fact.choices, fact.chance)
        assert twin.answer in trained and twin.answer != fact.answer
    assert Counter(probe.answer for probe in twins).most_common(1)[0][1] <= 4


ONE_AFTER_ANOTHER: dict[str, tuple[Callable[..., BuiltStream[Any]], str]] = {
    "sequential_sentences": (
        maker(
            BuiltStream, "sequential_sentences", SequentialSentencesOptions, sequential_sentences.build, {}
        ),
        "near",
    ),
    "conversation_recall": (
        maker(
            BuiltStream,
            "conversation_recall",
            ConversationRecallOptions,
            conversation_recall.build,
            {},
            max_positions=1024,
        ),
        "primary",
    ),
}


class Hot:
    """A model that finds the answers it was trained on more probable by 5 nats, and has a taste of its own."""

    def __init__(self, built: BuiltStream[Any], seed: int) -> None:
        self.prompts = np.random.default_rng(seed)
        self.taste: dict[str, float] = {}
        stated = [[row for row in rows_of(e) if row.facts] for e in built.experiences]
        self.texts = ["\n".join(map(built.text, rows)) for rows in stated]
        self.trained_from: dict[str, int] = {}

    def first_trained(self, value: str) -> int:
        """The first experience that says a value."""
        if value not in self.trained_from:
            told = (place for place, text in enumerate(self.texts) if value in text)
            self.trained_from[value] = next(told, len(self.texts))
        return self.trained_from[value]

    def right(self, probe: Probe, experience: int) -> bool:
        score = {}
        for name in probe.choice_names:
            self.taste.setdefault(name, self.prompts.normal())
            score[name] = self.taste[name] + 5.0 * (self.first_trained(name) < experience)
            score[name] += 0.5 * self.prompts.normal()
        return max(score, key=lambda name: score[name]) == probe.answer.strip()


@pytest.mark.parametrize("scenario", ONE_AFTER_ANOTHER)
def test_trained_answers_being_hot_wins_nothing_where_facts_come_one_after_another(scenario: str) -> None:
    """Neither when a fact is first asked for after its own exposure nor at the end, for facts and twins alike."""
    make, probe_set = ONE_AFTER_ANOTHER[scenario]
    right: dict[tuple[str, bool], int] = Counter()
    asked: dict[bool, list[Probe]] = {False: [], True: []}
    for seed in range(2):
        built = make(seed)
        model = Hot(built, seed)
        own: dict[str, int] = {}
        for place, e in enumerate(built.experiences):
            own |= {fact: own.get(fact, place) for row in rows_of(e) for fact in row.facts}
        boundaries = [i for i, point in built.points if "boundary" in point.schedule and point.after == 0]
        for twins in (False, True):
            for probe in (p for p in built.asked(probe_set, twins=twins) if p.choices):
                first = next(i for i in boundaries if i > own[probe.twin_of or probe.fact])
                right["first", twins] += model.right(probe, first)
                right["end", twins] += model.right(probe, len(built.experiences))
                # a seed's models have another taste
                asked[twins].append(replace(probe, choices=tuple((seed, *ids) for ids in probe.choices)))
    for (when, twins), count in right.items():
        probes = [
            replace(
                p, input_ids=p.input_ids[: p.answer_start] + (p.choices[0][0], *p.input_ids[p.answer_start :])
            )
            for p in asked[twins]
        ]
        assert abs(count - expected(probes)) < 3 * standard_error(probes), (when, twins, count)


@pytest.mark.parametrize("scenario", ONE_AFTER_ANOTHER)
def test_a_twin_competes_with_the_same_answers_and_has_one_trained_for_another(scenario: str) -> None:
    make, probe_set = ONE_AFTER_ANOTHER[scenario]
    built = make(3)
    facts = {probe.fact: probe for probe in built.asked(probe_set) if probe.choices}
    told = "\n".join(built.text(row) for row in built.rows if row.facts)
    twins = [probe for probe in built.asked(probe_set, twins=True) if probe.choices]
    assert len(twins) == len(facts)
    for twin in twins:
        fact = facts[twin.twin_of or ""]
        assert (
            (twin.choices, twin.chance)
            == (fact.choices, fact.chance)
            == (fact.choices, 1 / len(fact.choices))
        )
        assert twin.answer != fact.answer
        assert 2 <= len(fact.choices) <= MAX_CANDIDATES
        assert twin.answer in told or len(fact.choices) == 2
    assert np.mean([probe.chance or 0 for probe in twins]) < 0.35


def test_candidates_are_at_most_eight_and_at_least_four() -> None:
    pairs = make_facts(0, 60, ["emblem"])
    many = Candidates((fact for fact, _ in pairs), 0)
    fact, twin = pairs[0][0], many.twin(*pairs[0])
    assert len(many.of(fact, twin)) == MAX_CANDIDATES
    assert {fact.value, twin.value} <= set(many.of(fact, twin))
    assert many.of(fact, twin) == many.of(fact, twin) != many.of(pairs[1][0], many.twin(*pairs[1]))
    few = Candidates([pairs[0][0]], 0)
    assert few.twin(*pairs[0]) == pairs[0][1]  # no other value is trained
    assert len(set(few.of(*pairs[0]))) == MIN_CANDIDATES


def test_answers_that_a_tokenizer_cannot_tell_apart_are_refused() -> None:
    class Lossy(Letters):
        """Knows no vowels: some values become the same ids."""

        def encode(self, text: str) -> Any:
            return super().encode("".join("_" if letter in "aeiou" else "*" for letter in text))

    make, _ = MADE["freeze_loops"]
    with pytest.raises(UsageError, match="the same ids: answers cannot be told apart"):
        make(0, Lossy(), max_positions=4096, row_tokens=512)
