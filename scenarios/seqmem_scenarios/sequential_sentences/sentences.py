"""The sentences of `sequential_sentences`, their never-trained twins, and the answers that compete about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from heapq import merge

from seqmem_scenarios.candidates import trained_by_then
from seqmem_scenarios.common import apart, trained_wordings
from seqmem_scenarios.sequential_sentences.options import PEOPLE, SequentialSentencesOptions
from seqmem_scenarios.world import ATTRIBUTES, Attribute, Draw, Fact, World, statement


@dataclass(frozen=True)
class Sentence:
    """Sentence n of the stream and its never-trained twin, both in one wording."""

    fact: Fact
    twin: Fact
    wording: int

    def asked(self, *, twin: bool = False) -> Fact:
        """Return what the sentence states, or its twin."""
        return self.twin if twin else self.fact

    def text(self, *, twin: bool = False) -> str:
        """Return the sentence, or its twin."""
        return statement(self.asked(twin=twin), self.wording)


def make_sentence(seed: int, number: int) -> Sentence:
    """Return sentence `number`; negative ones fill the window before the first arrival.

    Attributes are balanced over every six sentences, values uniform in their sets, and all people different.
    """
    attribute = _kinds(seed, number // len(ATTRIBUTES))[number % len(ATTRIBUTES)].name
    world, identity = World(seed), f"sentence {number}"
    person, other = (world.person(role, number % PEOPLE) for role in ("injected", "twin"))
    fact = Fact(identity, person, attribute, person.values[attribute])
    twin = apart(Fact(f"{identity}-twin", other, attribute, other.values[attribute]), [fact.value], seed)
    return Sentence(fact, twin, Draw("sentence wording", seed, number).below(trained_wordings(fact)))


def _kinds(seed: int, six: int) -> list[Attribute]:
    """Return the attributes of six sentences in their order."""
    return Draw("sentence attributes", seed, six).shuffled(ATTRIBUTES)


class Told:
    """The sentences of one seed. Each is a pure function of (options, seed, number)."""

    def __init__(self, options: SequentialSentencesOptions, seed: int) -> None:
        self.options = options
        self.seed = seed
        self.trained = lru_cache(maxsize=256)(partial(make_sentence, seed))
        self.candidates = lru_cache(maxsize=256)(self._candidates)

    def asked(self, number: int) -> Sentence:
        """Return a sentence with the twin that is asked for: it has the value of another trained sentence."""
        sentence = self.trained(number)
        return replace(sentence, twin=replace(sentence.twin, value=self.candidates(number)[1]))

    def _candidates(self, number: int) -> tuple[str, ...]:
        """Return the values that compete about a sentence, its own first, then that of its twin."""
        o, size = self.options, len(ATTRIBUTES)
        own, reach = number // size, o.first_asked(number)
        trained = range(1 - o.window, reach)
        before = self._alike(number, range(own - 1, (1 - o.window) // size - 1, -1), trained)
        behind = self._alike(number, range(own + 1, reach // size + 1), trained)
        nearest = merge(before, behind, key=lambda other: abs(other - number))
        later = self._alike(number, range(reach // size, o.arrivals // size + 1), range(reach, o.arrivals))
        fact = self.trained(number).fact
        return trained_by_then(fact, map(self._value, nearest), map(self._value, later), self.seed)

    def _value(self, number: int) -> str:
        return self.trained(number).fact.value

    def _alike(self, number: int, sixes: Iterable[int], among: range) -> Iterator[int]:
        """Return the sentences of the same attribute in these groups of six, one each."""
        attribute = self.trained(number).fact.attribute
        for six in sixes:
            names = [kind.name for kind in _kinds(self.seed, six)]
            other = six * len(ATTRIBUTES) + names.index(attribute)
            if other in among and other != number:
                yield other
