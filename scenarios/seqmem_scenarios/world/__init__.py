"""The synthetic world: invented people, their facts, and everyday text around them.

Everything here is a pure function of seeds and indices and comes out the same on every machine.
"""

from seqmem_scenarios.world.documents import (
    background,
    biography,
    dialogue,
    filler,
    loop_place,
    place_prose,
)
from seqmem_scenarios.world.draw import Draw
from seqmem_scenarios.world.facts import (
    Fact,
    answer,
    make_facts,
    person_fact,
    qa,
    question_prompt,
    statement,
    statement_prompt,
)
from seqmem_scenarios.world.forms import holds_form
from seqmem_scenarios.world.people import ROLES, Person, Role, World, names, population
from seqmem_scenarios.world.values import ATTRIBUTE_BY_NAME, ATTRIBUTES, Attribute

WORLD_VERSION = 1

__all__ = [
    "ATTRIBUTES",
    "ATTRIBUTE_BY_NAME",
    "ROLES",
    "WORLD_VERSION",
    "Attribute",
    "Draw",
    "Fact",
    "Person",
    "Role",
    "World",
    "answer",
    "background",
    "biography",
    "dialogue",
    "filler",
    "holds_form",
    "loop_place",
    "make_facts",
    "names",
    "person_fact",
    "place_prose",
    "population",
    "qa",
    "question_prompt",
    "statement",
    "statement_prompt",
]
