"""Facts of the world as `fact_injection` deals them: groups, attributes, values, and answers that compete."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fact_files import asked

from seqmem_scenarios.candidates import MIN_CANDIDATES
from seqmem_scenarios.fact_injection.dealing import deal, turn_order
from seqmem_scenarios.fact_injection.options import FactInjectionOptions
from seqmem_scenarios.fact_sources import SourceFact
from seqmem_scenarios.world import ATTRIBUTE_BY_NAME, Fact

MIXED: dict[str, Any] = {"schedule": "mixed_batch", "background_ratio": 0.5}


def dealt(seed: int = 0, **options: Any) -> list[SourceFact]:
    return deal(FactInjectionOptions(**{"batch_size": 120, **options}), seed)


def known(fact: SourceFact) -> Fact:
    assert fact.of_world is not None
    return fact.of_world


def test_the_world_offers_wordings_to_train_and_keeps_the_paraphrase_s_and_the_question_s() -> None:
    facts = dealt(3, facts_count=10, never_count=0)
    assert len({fact.id for fact in facts}) == 30
    for fact in facts:
        assert len(fact.texts) == len(set(fact.texts)) == 7
        forms = asked(fact)
        assert list(forms) == ["last_token", "last_word", "verbatim", "paraphrase", "question"]
        (verbatim,), (paraphrase,), (question,) = (
            forms[name] for name in ("verbatim", "paraphrase", "question")
        )
        assert fact.texts[0] == f"{verbatim[0]}{verbatim[1]}."
        assert not any(text.startswith(paraphrase[0]) for text in fact.texts)
        assert question[0].startswith("Q: ") and question[0].endswith(" A:")
        assert all(fact.subject in text for text in fact.texts)
    # not one template stands for all: facts of one attribute start with different wordings
    openings = {fact.texts[0].replace(fact.subject, "X").rsplit(" ", 2)[0] for fact in facts}
    assert len(openings) > 12


def test_every_fact_of_the_world_has_a_never_trained_twin_of_its_kind() -> None:
    for fact in dealt(0, facts_count=8, never_count=0):
        (twin,) = fact.twins
        assert twin.texts == () and twin.twins == ()
        assert twin.subject != fact.subject
        for mine, other in zip(fact.questions, twin.questions, strict=True):
            assert (mine.relation, mine.chance) == (other.relation, other.chance)
            if mine.relation != "last_word":  # whose prompt holds the first words of the answer
                assert mine.prompt.replace(fact.subject, "X") == other.prompt.replace(twin.subject, "X")
        values = [next(q.answer for q in each.questions if q.relation == "question") for each in (fact, twin)]
        assert values[0] != values[1]
        same = [a for a in ATTRIBUTE_BY_NAME.values() if all(value.strip() in a.values for value in values)]
        assert len(same) == 1


def test_another_seed_has_other_people_attributes_and_values() -> None:
    one, other = (dealt(seed, facts_count=8, never_count=0) for seed in (0, 1))
    assert {fact.subject for fact in one}.isdisjoint(fact.subject for fact in other)
    assert [known(fact).value for fact in one] != [known(fact).value for fact in other]
    kinds = {tuple(sorted({known(fact).attribute for fact in dealt(seed)})) for seed in range(8)}
    assert len(kinds) > 4


@pytest.mark.parametrize(("count", "attributes"), [(1, 1), (4, 1), (7, 1), (8, 2), (12, 3), (24, 6), (40, 6)])
def test_a_group_asks_about_so_few_attributes_that_each_has_four_answers(count: int, attributes: int) -> None:
    facts = dealt(facts_count=count, never_count=0)
    groups = [facts[start : start + count] for start in range(0, 3 * count, count)]
    kinds = [Counter(known(fact).attribute for fact in group) for group in groups]
    assert kinds[0] == kinds[1] == kinds[2]
    assert len(kinds[0]) == attributes
    assert max(kinds[0].values()) - min(kinds[0].values()) <= 1
    assert min(kinds[0].values()) >= min(count, MIN_CANDIDATES)


def test_answers_of_one_group_and_attribute_compete_and_no_two_facts_have_the_same() -> None:
    facts = dealt(facts_count=12, never_count=0)
    for group in (facts[:12], facts[12:24], facts[24:]):
        for fact in group:
            alike = {known(other).value for other in group if known(other).attribute == known(fact).attribute}
            assert set(fact.candidates) == alike and len(alike) == 4
            (twin,) = fact.twins
            assert twin.candidates == fact.candidates
            assert known(twin).value in alike - {known(fact).value}
        assert len({known(fact.twins[0]).value for fact in group}) == 12
    assert len({(known(fact).attribute, known(fact).value) for fact in facts}) == 36


def test_of_more_than_eight_rivals_eight_compete() -> None:
    for fact in dealt(facts_count=60, never_count=0, batch_size=180):
        assert len(set(fact.candidates)) == 8
        assert {known(fact).value, known(fact.twins[0]).value} <= set(fact.candidates)


@pytest.mark.parametrize("seed", range(4))
def test_rivals_stand_in_the_same_batch_of_the_first_pass(seed: int) -> None:
    options = FactInjectionOptions(**{**MIXED, "batch_size": 16, "facts_count": 24, "never_count": 0})
    facts = deal(options, seed)
    order = turn_order(options, seed, "facts", 0)
    kinds = set()
    for start in (0, 8, 16):
        batch = [facts[place] for place in order[start : start + 8]]
        stated = {known(fact).value for fact in batch}
        assert all(set(fact.candidates) <= stated for fact in batch)
        kinds |= {known(fact).attribute for fact in batch}
    assert kinds == set(ATTRIBUTE_BY_NAME)


def test_where_a_step_trains_too_few_facts_answers_trained_before_come_next() -> None:
    options = FactInjectionOptions(**{**MIXED, "batch_size": 16, "facts_count": 10, "never_count": 0})
    facts = deal(options, 0)
    order = turn_order(options, 0, "facts", 0)
    first, last = ([known(facts[place]).value for place in order[part]] for part in (slice(8), slice(8, 10)))
    for place in order[8:]:
        assert set(last) < set(facts[place].candidates) <= {*first, *last}
        assert len(facts[place].candidates) == MIN_CANDIDATES
    # and where nothing was trained before, those trained later
    alone = FactInjectionOptions(schedule="single_exposure", batch_size=1, facts_count=4, never_count=0)
    assert len({frozenset(fact.candidates) for fact in deal(alone, 0)}) == 1


def test_a_single_fact_competes_with_untrained_answers() -> None:
    (fact,) = dealt(schedule="single_exposure", facts_count=1, never_count=0)
    assert len(set(fact.candidates)) == MIN_CANDIDATES
    assert {known(fact).value, known(fact.twins[0]).value} <= set(fact.candidates)
    assert known(fact).value != known(fact.twins[0]).value


@pytest.mark.parametrize("count", [1, 12, 40])
def test_a_never_trained_fact_is_asked_as_a_trained_one_of_each_group_in_turn(count: int) -> None:
    facts = dealt(facts_count=12, never_count=count)
    trained, never = facts[:36], facts[36:]
    assert len(never) == count and len({fact.subject for fact in facts}) == len(facts)
    models = [next(other for other in trained if known(other).value == known(fact).value) for fact in never]
    for fact, model in zip(never, models, strict=True):
        assert fact.candidates == model.candidates
        assert known(fact).attribute == known(model).attribute
    assert [trained.index(model) // 12 for model in models] == [number % 3 for number in range(count)]
