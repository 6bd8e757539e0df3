"""The people of the world, in populations that can never share a name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, get_args

from seqmem_scenarios.world.draw import Draw
from seqmem_scenarios.world.values import ATTRIBUTES

Role = Literal["known", "oneoff", "unseen", "injected", "twin", "cast"]
ROLES: tuple[Role, ...] = get_args(Role)

_FIRST_NAMES = tuple(
    (
        "Ada Anton Basil Carla Dana Edgar Emil Felix Flora Gina Hanna Hugo Igor Ines Jana Julia"
        " Karl Lena Leo Marco Mila Nora Oscar Paula Petra Rosa Sara Simon Theo Vera Victor Yara"
    ).split()
)
# Surnames are a head of exactly three letters and a tail, so no two pairs spell the same name.
_HEADS = tuple(
    (
        "Bal Bar Ben Bor Bri Cal Cas Cor Dal Dar Del Dor Dra Fal Far Fer Fol Gal Gar Gol Gri Hal"
        " Har Hel Hor Jal Jor Kal Kar Kel Kor Kra Lam Lar Len Lor Mal Mar Mel Mor Nal Nar Nel Nor"
        " Pal Par Pel Por Ral Ran Rel Ros Sal San Sel Sor Tal Tar Tel Tor Val Var Vel Wal"
    ).split()
)
_TAILS = tuple(
    (
        "ack ander aro ault avy beck bert bury by dale den dine dorf eck egan ello ens eski etti"
        " fax field frey gan gard gett grave hart heim holt iak ichi idge ier igo imov ing ington"
        " kamp kins land lett ley lin lock man mond mund nock nor oba oda old on otte ova owski"
        " pold ray rick rop sen shaw son stad stein"
    ).split()
)
# Each role owns a run of this many surnames; the one-off people, one per document, own the rest.
_SURNAMES: dict[Role, int] = {
    "known": 256,
    "unseen": 384,
    "injected": 512,
    "twin": 512,
    "cast": 256,
    "oneoff": len(_HEADS) * len(_TAILS) - 1920,
}
_INITIALS = "ABCDEFGHIJKLMNOPRSTVW"


@dataclass(frozen=True)
class Person:
    """A name and one value for every attribute."""

    name: str
    values: Mapping[str, str] = field(hash=False)


@lru_cache(maxsize=1)
def _surnames_by_role() -> dict[Role, tuple[str, ...]]:
    """Deal the surnames out to the roles; the deal is the same in every world."""
    deck = Draw("surnames").shuffled([head + tail for head in _HEADS for tail in _TAILS])
    dealt: dict[Role, tuple[str, ...]] = {}
    for role, count in _SURNAMES.items():
        dealt[role], deck = tuple(deck[:count]), deck[count:]
    return dealt


@lru_cache(maxsize=64)
def _surname_order(seed: int, role: Role) -> tuple[str, ...]:
    return tuple(Draw("surname order", seed, role).shuffled(_surnames_by_role()[role]))


@lru_cache(maxsize=1 << 14)
def _first_name_offset(seed: int, surname: str) -> int:
    return Draw("first name", seed, surname).below(len(_FIRST_NAMES))


def names(role: Role) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the first names and the surnames of a role: every pair of them is a name of its population."""
    return _FIRST_NAMES, _surnames_by_role()[role]


def population(role: Role) -> int:
    """Return the number of people of this role with a plain "First Last" name, each name once."""
    return _SURNAMES[role] * len(_FIRST_NAMES)


@dataclass(frozen=True)
class World:
    """All people of one seed.

    Names of different roles are disjoint by construction: every role owns its own surnames, in
    every world. Neighbouring indices of a role have different surnames.
    """

    seed: int = 0

    def person(self, role: Role, index: int) -> Person:
        """Return the person number `index` of a role: a pure function of the world's seed and both."""
        if index < 0:
            raise ValueError(f"a person's index starts at 0, got {index}")
        draw = Draw("person", self.seed, role, index)
        values = {attribute.name: draw.pick(attribute.values) for attribute in ATTRIBUTES}
        return Person(self._name(role, index), values)

    def people(self, role: Role, count: int) -> list[Person]:
        """Return the first `count` people of a role."""
        return [self.person(role, index) for index in range(count)]

    def _name(self, role: Role, index: int) -> str:
        surnames = _surname_order(self.seed, role)
        lap, place = divmod(index, len(surnames))
        initial, first = divmod(lap, len(_FIRST_NAMES))
        if initial > len(_INITIALS):
            raise ValueError(f"the {role} population ends before person {index}")
        # The offset spreads first names within a lap and keeps (index -> name) one-to-one.
        offset = _first_name_offset(self.seed, surnames[place])
        name = _FIRST_NAMES[(first + offset) % len(_FIRST_NAMES)]
        middle = f" {_INITIALS[initial - 1]}." if initial else ""
        return f"{name}{middle} {surnames[place]}"
