"""Single facts, the ways to say and ask them, and their never-trained twins."""

from collections.abc import Sequence
from dataclasses import dataclass

from seqmem_scenarios.world.draw import Draw
from seqmem_scenarios.world.people import Person, World, population
from seqmem_scenarios.world.values import ATTRIBUTE_BY_NAME, ATTRIBUTES


@dataclass(frozen=True)
class Fact:
    """One attribute of one person."""

    id: str
    person: Person
    attribute: str
    value: str


def person_fact(person: Person, attribute: str) -> Fact:
    """Return the fact about an attribute of a person, by the person's own values."""
    return Fact(f"{person.name}/{attribute}", person, attribute, person.values[attribute])


def make_facts(seed: int, count: int, attributes: Sequence[str] | None = None) -> list[tuple[Fact, Fact]]:
    """Return pairs of a fact to inject and its twin, which is never trained.

    A twin has the same attribute, another person and another value. All people of one call are
    different. Attributes are balanced and in random order. Values are uniform in their sets.
    """
    names = tuple(attributes) if attributes is not None else tuple(ATTRIBUTE_BY_NAME)
    for name in names:
        if name not in ATTRIBUTE_BY_NAME:
            known = ", ".join(attribute.name for attribute in ATTRIBUTES)
            raise ValueError(f"unknown attribute {name!r}; the world has {known}")
    if not names:
        raise ValueError("make_facts needs at least one attribute")
    size = min(population("injected"), population("twin"))
    if not 0 <= count <= size:
        raise ValueError(f"make_facts can make 0 to {size} facts in one call, got {count}")
    draw = Draw("facts", seed)
    world = World(seed)
    first = draw.below(size)
    pairs: list[tuple[Fact, Fact]] = []
    order: list[str] = []
    for number in range(count):
        order = order or draw.shuffled(names)
        attribute = order.pop()
        index = (first + number) % size
        person, other = world.person("injected", index), world.person("twin", index)
        value, twin_value = person.values[attribute], other.values[attribute]
        if twin_value == value:
            rest = [option for option in ATTRIBUTE_BY_NAME[attribute].values if option != value]
            twin_value = draw.pick(rest)
            other = Person(other.name, {**other.values, attribute: twin_value})
        fact = Fact(f"{seed}-{number}", person, attribute, value)
        pairs.append((fact, Fact(f"{seed}-{number}-twin", other, attribute, twin_value)))
    return pairs


def statement(fact: Fact, wording: int) -> str:
    """Return the fact as a sentence; wordings are counted modulo the attribute's own number."""
    forms = ATTRIBUTE_BY_NAME[fact.attribute].statements
    return forms[wording % len(forms)].format(name=fact.person.name, value=fact.value)


def statement_prompt(fact: Fact, wording: int) -> str:
    """Return the sentence cut before its value: `answer(fact)` continues it."""
    return statement(fact, wording).removesuffix(f" {fact.value}.")


def question_prompt(fact: Fact, wording: int) -> str:
    """Return the bare question up to `A:`; `answer(fact)` continues it."""
    forms = ATTRIBUTE_BY_NAME[fact.attribute].questions
    return f"Q: {forms[wording % len(forms)].format(name=fact.person.name)} A:"


def answer(fact: Fact) -> str:
    """Return the answer with its leading blank, as it continues any prompt of the fact."""
    return f" {fact.value}"


def qa(fact: Fact, wording: int) -> str:
    """Return the question with its answer, as training text."""
    return f"{question_prompt(fact, wording)}{answer(fact)}."
