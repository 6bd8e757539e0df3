"""The world's facts of a stream, dealt so that the answers which compete are first trained together.

A model that has just met an answer prefers it, whoever is asked about. Facts of one group and one attribute whose
first exposure is in the same step are therefore *rivals*: candidates for each of them are the answers of all of them,
which are as new, and in one group as often trained, as its own. A step trains the facts of so few attributes that each
has at least `MIN_CANDIDATES`. Where a step trains fewer facts, answers of the attribute that the stream trained before
come next, then those that it trains later, then untrained ones.

A fact that is never trained is asked as a trained one is: same attribute, same right answer, same candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, groupby, islice

from seqmem_scenarios.candidates import MIN_CANDIDATES, Candidates
from seqmem_scenarios.common import PROBE_FORMS, apart, form_texts, trained_wordings
from seqmem_scenarios.fact_injection.options import FactInjectionOptions
from seqmem_scenarios.fact_sources import Question, SourceFact
from seqmem_scenarios.world import ATTRIBUTE_BY_NAME, Draw, Fact, make_facts, statement


@dataclass(frozen=True, order=True)
class _Slot:
    """A place in the stream for a trained fact.

    Attributes:
        step: of its first exposure, counted over the steps that train facts for the first time.
        group: number of its group.
        attribute: asked about.
        place: among all trained facts.
    """

    step: int
    group: int
    attribute: str
    place: int

    @property
    def rivals(self) -> tuple[int, int, str]:
        """What rivals have in common."""
        return self.step, self.group, self.attribute


def turn_order(options: FactInjectionOptions, seed: int, group: str, turn: int) -> list[int]:
    """Return the places in a group in the order in which a pass over it trains them."""
    return Draw("fact order", seed, group, turn).shuffled(range(options.facts_count))


def deal(options: FactInjectionOptions, seed: int) -> list[SourceFact]:
    """Return the facts of a stream in the order of its groups, those that are never trained last."""
    pairs = make_facts(seed, options.all_facts)
    slots = sorted(_slots(options, seed))
    values = {
        name: cycle(Draw("values", seed, name).shuffled(attribute.values))
        for name, attribute in ATTRIBUTE_BY_NAME.items()
    }
    facts = {
        slot.place: replace(
            pairs[slot.place][0], attribute=slot.attribute, value=next(values[slot.attribute])
        )
        for slot in slots
    }
    dealt: dict[int, SourceFact] = {}
    for rivals, pool in _pools(slots):
        candidates = Candidates((facts[slot.place] for slot in pool), seed)
        for place in (slot.place for slot in rivals):
            fact = facts[place]
            other = replace(
                pairs[place][1], attribute=fact.attribute, value=pairs[place][1].person.values[fact.attribute]
            )
            twin = candidates.twin(fact, apart(other, [fact.value], seed))
            dealt[place] = _source_fact(place, fact, candidates.of(fact, twin), twin)
    # the first of every group, then the second of every group, and so on
    models = sorted(dealt, key=lambda place: (place % options.facts_count, place))
    for place, model in zip(range(len(models), options.all_facts), cycle(models)):
        asked = replace(facts[model], id=pairs[place][0].id, person=pairs[place][0].person)
        dealt[place] = _source_fact(place, asked, dealt[model].candidates)
    return [dealt[place] for place in range(options.all_facts)]


def _slots(options: FactInjectionOptions, seed: int) -> Iterator[_Slot]:
    """Deal attributes to the facts of every step; all groups have the same ones."""
    kinds = Draw("attributes", seed).shuffled(list(ATTRIBUTE_BY_NAME))
    for number, group in enumerate(options.trained_groups):
        turn = cycle(kinds)
        for step, places in enumerate(_first_steps(options, seed, group)):
            # facts too few for an attribute of their own share that of the first step
            own = list(islice(turn, min(len(places) // MIN_CANDIDATES, len(kinds)))) or kinds[:1]
            if options.schedule != "published":
                step += number * len(options.pass_rows)
            for place, attribute in zip(places, cycle(own)):
                yield _Slot(step, number, attribute, number * options.facts_count + place)


def _first_steps(options: FactInjectionOptions, seed: int, group: str) -> Iterator[list[int]]:
    """Return the places in a group that each step trains for the first time."""
    if options.schedule == "published":
        yield list(range(options.facts_count))
        return
    order = iter(turn_order(options, seed, group, 0))
    for count, _ in options.pass_rows:
        yield list(islice(order, count))


def _pools(slots: Sequence[_Slot]) -> Iterator[tuple[list[_Slot], list[_Slot]]]:
    """Return rivals, each with the slots whose answers compete for them; those are more where rivals are few."""
    for attribute in ATTRIBUTE_BY_NAME:
        line = [slot for slot in slots if slot.attribute == attribute]
        start = 0
        for _, alike in groupby(line, key=lambda slot: slot.rivals):
            rivals = list(alike)
            stop = start + len(rivals)
            before = line[max(0, start - MIN_CANDIDATES) : start]
            others = [*reversed(before), *line[stop : stop + MIN_CANDIDATES]]
            yield rivals, [*rivals, *others[: max(0, MIN_CANDIDATES - len(rivals))]]
            start = stop


def _source_fact(number: int, fact: Fact, candidates: tuple[str, ...], *twins: Fact) -> SourceFact:
    """Return a fact with its twins as it is trained and asked; facts start with different wordings."""
    wordings = trained_wordings(fact)
    first = number % wordings
    texts = tuple(statement(fact, (first + turn) % wordings) for turn in range(wordings))

    def questions(asked: Fact) -> tuple[Question, ...]:
        return tuple(Question(relation, *form_texts(asked, relation, first)) for relation in PROBE_FORMS)

    never = tuple(
        SourceFact(twin.id, (), questions(twin), twin.person.name, (), twin, candidates) for twin in twins
    )
    return SourceFact(fact.id, texts, questions(fact), fact.person.name, never, fact, candidates)
