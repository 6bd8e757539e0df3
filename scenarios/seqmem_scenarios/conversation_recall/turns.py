"""Texts of the conversations of `conversation_recall`, and the cues that ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

from seqmem_scenarios.candidates import trained_by_then
from seqmem_scenarios.common import apart
from seqmem_scenarios.conversation_recall.options import ConversationRecallOptions
from seqmem_scenarios.world import ATTRIBUTES, Draw, Fact, Role, World, answer, dialogue, population

SAYINGS: Mapping[str, tuple[str, ...]] = {
    "emblem": (
        "I wear the emblem of the {value}.",
        "My emblem shows the {value}.",
        "I was given the emblem of the {value}.",
    ),
    "dish": ("My favourite dish is {value}.", "I could live on {value}.", "I always order the {value}."),
    "town": ("I live in {value}.", "My family is from {value}.", "I was born in {value}."),
    "occupation": ("I work as a {value}.", "By trade I am a {value}.", "I earn a living as a {value}."),
    "instrument": ("I play the {value}.", "My instrument is the {value}.", "In the band I play the {value}."),
    "flower": ("My favourite flower is the {value}.", "I grow the {value}.", "I am fond of the {value}."),
}
"""Statements of speakers about themselves, by attribute; a turn keeps one wording over its exposures."""

CUES: Mapping[str, tuple[str, ...]] = {
    "topic": (
        "Earlier {name} said of the {topic}:",
        "This is what {name} said about the {topic}:",
        "When asked about the {topic}, {name} said:",
    ),
    "turns_back": (
        "{back} {name} said:",
        "This is what {name} said {back}:",
        "When it was {name}'s turn, {back}:",
    ),
}
"""Cues that ask for a turn; the wordings alternate over its exposures."""


@dataclass(frozen=True)
class Turn:
    """Turn of a conversation, or of its twin.

    Attributes:
        back: turns back from the end of the conversation, 1 for its last turn.
        opening: what is said before the fact's value.
    """

    fact: Fact
    back: int
    opening: str

    @property
    def name(self) -> str:
        """Name of the speaker."""
        return self.fact.person.name

    @property
    def words(self) -> str:
        """All that is said."""
        return f"{self.opening}{answer(self.fact)}."

    @property
    def line(self) -> str:
        """The turn as a line of the dialogue."""
        return f"{self.name}: {self.words}"


class Turns:
    """The conversations of one seed. Every one is a pure function of (options, seed, number)."""

    def __init__(self, options: ConversationRecallOptions, seed: int) -> None:
        self.options = options
        self.seed = seed
        self.of = lru_cache(maxsize=256)(self._turns)
        self._stated = lru_cache(maxsize=256)(self._values)
        self._first = Draw("conversation people", seed).below(population("injected"))

    def _turns(self, conversation: int) -> tuple[tuple[Turn, Turn], ...]:
        """Return every turn of a conversation with its twin, which differs in speaker and value only."""
        seed, count = self.seed, self.options.turns
        topics = [Draw("topics", seed, conversation, side).shuffled(ATTRIBUTES) for side in (0, 1)]
        talk = dialogue(seed, conversation).split("\n")
        pairs = []
        for turn in range(count):
            side, attribute = turn % 2, topics[turn % 2][turn // 2].name
            draw = Draw("turn", seed, conversation, turn)
            saying = draw.pick(SAYINGS[attribute]).removesuffix(" {value}.")
            if draw.chance(self.options.small_talk):
                saying = f"{talk[turn % len(talk)].split(': ', 1)[1]} {saying}"
            fact, other = (
                self._fact(role, conversation, turn, side, attribute) for role in ("injected", "twin")
            )
            other = apart(other, [fact.value], seed)
            pairs.append((Turn(fact, count - turn, saying), Turn(other, count - turn, saying)))
        return tuple(pairs)

    def _fact(self, role: Role, conversation: int, turn: int, side: int, attribute: str) -> Fact:
        """Return the fact that a speaker, or the speaker's twin, states in a turn."""
        seed, number, plain = self.seed, 2 * conversation + side, population(role)
        index = (self._first + number) % plain if number < plain else number
        person = World(seed).person(role, index)
        ending = "-twin" if role == "twin" else ""
        return Fact(f"{seed}-{conversation}-{turn}{ending}", person, attribute, person.values[attribute])

    def asked(self, conversation: int) -> Iterator[tuple[tuple[Turn, Turn], tuple[str, ...]]]:
        """Return every turn with the twin that is asked for, and the values that compete about both.

        The turn's own value comes first, then that of its twin, which is trained for another speaker.
        """
        block = conversation // self.options.conversations
        for place, (turn, twin) in enumerate(self.of(conversation)):
            values = self._candidates(turn.fact, block, place)
            yield (turn, replace(twin, fact=replace(twin.fact, value=values[1]))), values

    def _candidates(self, fact: Fact, block: int, place: int) -> tuple[str, ...]:
        """Return the values that compete about a turn, which is first asked for when its block has been trained."""
        name, blocks = fact.attribute, self.options.blocks
        together = [(at, who, value) for at, who, value in self._stated(block, name) if who != fact.id]
        together.sort(key=lambda told: abs(told[0] - place))
        before = (told for other in range(block - 1, -1, -1) for told in reversed(self._stated(other, name)))
        later = (told for other in range(block + 1, blocks) for told in self._stated(other, name))
        nearest = (value for _, _, value in chain(together, before))
        return trained_by_then(fact, nearest, (value for _, _, value in later), self.seed)

    def _values(self, block: int, attribute: str) -> list[tuple[int, str, str]]:
        """Return what a block says of an attribute: place of the turn, fact and value, in the order of places."""
        count = self.options.conversations
        told = [
            (place, turn.fact.id, turn.fact.value)
            for conversation in range(block * count, (block + 1) * count)
            for place, (turn, _) in enumerate(self.of(conversation))
            if turn.fact.attribute == attribute
        ]
        return sorted(told, key=lambda one: one[0])

    def cue(self, turn: Turn, wording: int) -> str:
        """Return the text that asks for a turn."""
        forms = CUES[self.options.cue]
        back = f"{turn.back} turn{'s' * (turn.back > 1)} before the end"
        text = forms[wording % len(forms)].format(name=turn.name, topic=turn.fact.attribute, back=back)
        return text[0].upper() + text[1:]
