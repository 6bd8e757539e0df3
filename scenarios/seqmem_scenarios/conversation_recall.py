"""`conversation_recall`: conversations are trained turn by turn; are their turns remembered without them?

An experience is a block of conversations that go on at the same time, each between two invented people who
tell facts about themselves. A *tick* is one turn of every conversation: after turn t the last `window` turns
are trained, in `loss`

* ``ar``: as dialogue, every token a target;
* ``seq2seq``: each turn after a cue that asks for it, only the turn's own tokens being targets;
* ``both``: in both ways;

and for every turn trained there is background text under the ordinary loss, all packed into rows. When the
last turn has been said the window runs empty, so that every turn is trained equally often. After the last
block the learner rests on background text. Turns are counted back from the end of their conversation: the
last one is 1 back (`Probe.position`). What is asked, and when:

* ``boundary``: every fact and twin on the primary rung, before every block, before the rest and at the end;
* ``log``: the same over the rest, log-spaced;
* ``ladder``: every rung, and the primary one with the dialogue in front of it; ``general``: held-out
  background text; at the start, when the conversations are done, and at the end.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import product
from math import floor
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from seqmem import (
    Batch,
    BuildContext,
    Example,
    Experience,
    Options,
    Outline,
    Probe,
    ProbePoint,
    Relation,
    ScenarioSpec,
    Stream,
    UsageError,
    answer_probe,
    hookimpl,
    pack,
    text_example,
)
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_TOKENS,
    RUNGS,
    apart,
    background_row,
    check_lengths,
    general_probes,
    joined,
    last_token,
    log_spaced,
    rung_texts,
)
from seqmem_scenarios.world import (
    ATTRIBUTE_BY_NAME,
    ATTRIBUTES,
    Draw,
    Fact,
    Role,
    World,
    answer,
    dialogue,
    population,
    statement_prompt,
)
from seqmem_scenarios.world.grammar import TURNS, WORDS

seqmem_api = ">=1,<2"

PRIMARY: Relation = "verbatim"
TURN_TOKENS = 48
"""Generous bound on a turn with its speaker's name, for the outline."""
RATIO_ERROR = 5e-5
"""A ratio typed with four decimals means the fraction of whole documents that is so near."""
MOST_PEOPLE = 20 * population("injected")
"""People with names of their own: beyond the plain ones come those with a middle initial."""
MOST_READ = 1000
"""Conversations that are all read before training, in some three seconds; rows of longer streams are bounded."""

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
"""What somebody says of themselves, by attribute; a turn has one wording, however often it is trained."""

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
"""What asks for a turn; the wordings take turns over its exposures."""


class ConversationRecallOptions(Options):
    """Options of `conversation_recall`."""

    blocks: int = Field(4, ge=1, description="blocks of conversations, one experience each")
    conversations: int = Field(2, ge=1, description="conversations of a block, going on at the same time")
    turns: int = Field(
        8,
        ge=2,
        le=2 * len(ATTRIBUTES),
        description="turns of a conversation; each states one fact, and no speaker speaks of one thing twice",
    )
    small_talk: float = Field(0.25, ge=0, le=1, description="share of turns that begin with a remark")
    loss: Literal["ar", "seq2seq", "both"] = Field(
        "both",
        description="ar: the dialogue's text; seq2seq: each turn after a cue, only the turn counts; both",
    )
    weight: float = Field(
        1.0,
        gt=0,
        description="weight of a seq2seq target in the loss; every other target, so all of loss ar, has weight 1",
    )
    cue: Literal["topic", "turns_back"] = Field(
        "topic",
        description="what a seq2seq cue names beside the speaker: the topic, or how many turns back it was",
    )
    window: int = Field(
        8, ge=1, description="turns back that are trained after each turn; 1 for the last only"
    )
    steps_per_turn: int = Field(2, ge=1, description="optimizer steps after each turn")
    background_ratio: float = Field(
        0.5, ge=0, lt=1, description="background documents among those and the turns trained, in every batch"
    )
    background_tokens: int = Field(64, ge=8, description="longest background document in tokens")
    packing: Literal["separate", "crossing", "none"] = Field(
        "separate",
        description="separate: packed documents do not see each other; crossing: they do; none: a row each",
    )
    row_tokens: int = Field(256, ge=8, description="length of a packed row in tokens")
    context_turns: int | None = Field(
        None, ge=0, description="last turns put in front of the in-context probes; all unless given"
    )
    probed_blocks: int | None = Field(
        None, ge=1, description="blocks asked about, spread evenly over the stream; all unless given"
    )
    rest_steps: int = Field(48, ge=1, description="steps on background text afterwards")
    batch_size: int = Field(16, ge=1, description="background documents per step of the rest")

    @model_validator(mode="after")
    def _consistent(self) -> ConversationRecallOptions:
        if self.background_tokens > self.row_tokens:
            raise ValueError(
                f"background_tokens ({self.background_tokens}) must be at most row_tokens ({self.row_tokens})"
            )
        if self.context_turns is not None and self.context_turns > self.turns:
            raise ValueError(f"context_turns ({self.context_turns}) must be at most turns ({self.turns})")
        if self.probed_blocks is not None and self.probed_blocks > self.blocks:
            raise ValueError(f"probed_blocks ({self.probed_blocks}) must be at most blocks ({self.blocks})")
        return self

    @model_validator(mode="after")
    def _whole_documents(self) -> ConversationRecallOptions:
        wanted = self.conversations * self.background_ratio / (1 - self.background_ratio)
        near = [count / (count + self.conversations) for count in (floor(wanted), floor(wanted) + 1)]
        if min(abs(ratio - self.background_ratio) for ratio in near) > RATIO_ERROR:
            raise ValueError(
                f"background_ratio {self.background_ratio:g} with {self.conversations} conversations asks for "
                f"{wanted:.4g} background documents a turn; nearest that can be: {near[0]:.4f} or {near[1]:.4f}"
            )
        return self

    @model_validator(mode="after")
    def _enough_people(self) -> ConversationRecallOptions:
        people = 2 * self.blocks * self.conversations
        if people > MOST_PEOPLE:
            raise ValueError(
                f"{self.blocks} blocks of {self.conversations} conversations need {people} people, the world "
                f"has {MOST_PEOPLE}; use fewer of either"
            )
        return self

    @property
    def _background_share(self) -> int:
        """Background documents for one turn of every conversation."""
        return round(self.conversations * self.background_ratio / (1 - self.background_ratio))

    @property
    def ticks(self) -> int:
        """Ticks of a block: one per turn, and those in which the window runs empty."""
        return self.turns + self.window - 1

    @property
    def block_steps(self) -> int:
        """Optimizer steps of a block."""
        return self.ticks * self.steps_per_turn

    def trained(self, tick: int) -> range:
        """Turns, from 0, that a conversation trains in this tick."""
        return range(max(0, tick - self.window + 1), min(tick, self.turns - 1) + 1)

    def background(self, tick: int) -> int:
        """Background documents in a batch of this tick."""
        return len(self.trained(tick)) * self._background_share

    @property
    def block_background(self) -> int:
        """Background documents of a block: every turn is trained `window` times in each of its steps."""
        return self.turns * self.window * self.steps_per_turn * self._background_share

    @property
    def kept(self) -> int:
        """Turns in front of an in-context probe."""
        return self.turns if self.context_turns is None else self.context_turns

    @property
    def probed(self) -> list[int]:
        """Blocks that are asked about."""
        count = self.blocks if self.probed_blocks is None else self.probed_blocks
        return [number * self.blocks // count for number in range(count)]


@dataclass(frozen=True)
class _Turn:
    """One turn of a conversation, or of its twin.

    Attributes:
        back: turns back from the end of the conversation, 1 for its last turn.
        opening: what is said before the fact's value.
    """

    fact: Fact
    back: int
    opening: str

    @property
    def name(self) -> str:
        return self.fact.person.name

    @property
    def words(self) -> str:
        return f"{self.opening}{answer(self.fact)}."

    @property
    def line(self) -> str:
        return f"{self.name}: {self.words}"


class _Conversations:
    """The stream of one seed. Everything in it is a pure function of (options, seed, place)."""

    def __init__(self, options: ConversationRecallOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.turns = lru_cache(maxsize=256)(self._turns)
        self._first = Draw("conversation people", context.seed).below(population("injected"))

    @property
    def length(self) -> int:
        """Experiences of the stream."""
        return self.options.blocks + 1

    # -- what is said ---------------------------------------------------------------------------------

    def _turns(self, conversation: int) -> tuple[tuple[_Turn, _Turn], ...]:
        """Every turn of a conversation with its twin, which differs in speaker and value only."""
        seed, count = self.context.seed, self.options.turns
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
            pairs.append((_Turn(fact, count - turn, saying), _Turn(other, count - turn, saying)))
        return tuple(pairs)

    def _fact(self, role: Role, conversation: int, turn: int, side: int, attribute: str) -> Fact:
        """What a speaker, or the speaker's twin, tells in a turn."""
        seed, number, plain = self.context.seed, 2 * conversation + side, population(role)
        index = (self._first + number) % plain if number < plain else number
        person = World(seed).person(role, index)
        ending = "-twin" if role == "twin" else ""
        return Fact(f"{seed}-{conversation}-{turn}{ending}", person, attribute, person.values[attribute])

    def cue(self, turn: _Turn, wording: int) -> str:
        """What asks for a turn."""
        forms = CUES[self.options.cue]
        back = f"{turn.back} turn{'s' * (turn.back > 1)} before the end"
        text = forms[wording % len(forms)].format(name=turn.name, topic=turn.fact.attribute, back=back)
        return text[0].upper() + text[1:]

    # -- training rows --------------------------------------------------------------------------------

    def experience(self, index: int) -> Experience:
        """A block, or the rest after the last one."""
        o = self.options
        if index < o.blocks:
            return Experience(
                index=index,
                name=f"block {index}",
                phase="inject",
                task_label=index,
                batches=tuple(self._block(index)),
            )
        return Experience(
            index=index,
            name="rest",
            phase="rest",
            task_label=None,
            batches=tuple(self._rest_batch(step) for step in range(o.rest_steps)),
            moments="fresh",
        )

    def _block(self, block: int) -> Iterator[Batch]:
        """The batches of a block: tick by tick, the turns trained and their background."""
        o = self.options
        conversations = range(block * o.conversations, (block + 1) * o.conversations)
        background = block * o.block_background
        for tick in range(o.ticks):
            for step in range(o.steps_per_turn):
                rows = [
                    row for number in conversations for row in self._examples(self.turns(number), tick, step)
                ]
                count = o.background(tick)
                rows += [self._background(background + i) for i in range(count)]
                background += count
                yield self._batch(rows)

    def _examples(self, turns: Sequence[tuple[_Turn, _Turn]], tick: int, step: int) -> Iterator[Example]:
        """What one conversation trains in a step of a tick."""
        o = self.options
        trained = [turns[turn][0] for turn in o.trained(tick)]
        if o.loss != "seq2seq":
            yield self._dialogue(trained)
        if o.loss != "ar":
            for turn in trained:
                age = tick - (o.turns - turn.back)
                yield self._reproduction(turn, age * o.steps_per_turn + step)

    def _dialogue(self, turns: Sequence[_Turn]) -> Example:
        """Turns as they were said, under the ordinary loss."""
        text = "\n".join(turn.line for turn in turns)
        facts = [turn.fact.id for turn in turns]
        return text_example(self.context.encode, text, facts=facts, length=self.options.row_tokens)

    def _reproduction(self, turn: _Turn, exposure: int) -> Example:
        """A cue and the turn it asks for; only the turn is a target."""
        cue = self.cue(turn, exposure)
        source = self.context.encode(cue)
        row = text_example(
            self.context.encode,
            f"{cue} {turn.words}",
            facts=[turn.fact.id],
            length=self.options.row_tokens,
        )
        if row.input_ids[: len(source)].tolist() != source:
            raise UsageError(f"the tokenizer merges the end of {cue[-20:]!r} with the turn that follows")
        mask = np.arange(len(row.input_ids)) >= len(source)
        weight = self.options.weight
        weights = None if weight == 1 else np.where(mask, weight, 1).astype(np.float32)
        return replace(row, loss_mask=mask, weights=weights)

    def _batch(self, rows: Sequence[Example]) -> Batch:
        o = self.options
        if o.packing == "none":
            return tuple(rows)
        return tuple(pack(rows, o.row_tokens, crossing=o.packing == "crossing"))

    def _background(self, index: int) -> Example:
        return background_row(self.context, index, self.options.background_tokens)

    def _rest_batch(self, step: int) -> Batch:
        o = self.options
        first = o.blocks * o.block_background + step * o.batch_size
        return tuple(self._background(first + i) for i in range(o.batch_size))

    # -- probes ---------------------------------------------------------------------------------------

    def probe_points(self, index: int) -> tuple[ProbePoint, ...]:
        """When what is asked; see the top of this file."""
        whole = ("ladder", "general")
        if index < self.options.blocks:
            start = [ProbePoint(0, name, name) for name in whole] if index == 0 else []
            return (ProbePoint(0, "primary", "boundary"), *start)
        steps = self.options.rest_steps
        points = []
        for after in log_spaced(steps):
            at_end = after in (0, steps)
            points.append(ProbePoint(after, "primary", "boundary+log" if at_end else "log"))
            points += [ProbePoint(after, name, name) for name in whole if at_end]
        return tuple(points)

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """All probes by set."""
        o = self.options
        primary: list[Probe] = []
        ladder: list[Probe] = []
        for block in o.probed:
            for number in range(block * o.conversations, (block + 1) * o.conversations):
                pairs = self.turns(number)
                for pair in pairs:
                    primary += self._ask(block, pair, PRIMARY)
                    for relation in RUNGS:
                        ladder += self._ask(block, pair, relation)
                if o.kept:
                    lines = [[turn.line for turn in side[-o.kept :]] for side in zip(*pairs, strict=True)]
                    for pair in pairs:
                        ladder += self._ask(block, pair, PRIMARY, lines)
        general = general_probes(self.context, o.background_tokens)
        sets = {"primary": tuple(primary), "ladder": tuple(ladder), "general": general}
        check_lengths(self.context, sets)
        return sets

    def _ask(
        self,
        block: int,
        pair: tuple[_Turn, _Turn],
        relation: Relation,
        lines: Sequence[Sequence[str]] = ((), ()),
    ) -> Iterator[Probe]:
        """A turn's fact and its twin on one rung, each after the lines of its own dialogue."""
        for turn, before in zip(pair, lines, strict=True):
            prompt, right, chance = self._rung(turn, relation)
            probe = answer_probe(
                self.context.encode,
                id=f"{turn.fact.id}-{relation}{'-context' if before else ''}",
                prompt="\n".join([*before, prompt]),
                answer=right,
                fact=turn.fact.id,
                relation=relation,
                chance=chance,
                task_label=block,
                twin_of=None if turn is pair[0] else pair[0].fact.id,
                subject=turn.name,
                group="turn",
                position=turn.back,
                context=len(before),
            )
            yield last_token(probe) if relation == "last_token" else probe

    def _rung(self, turn: _Turn, relation: Relation) -> tuple[str, str, float | None]:
        """Prompt, answer and chance: the near rungs continue the turn as it was trained."""
        prompt, right, chance = rung_texts(turn.fact, relation)
        if relation in ("question", "paraphrase"):
            return prompt, right, chance
        given = prompt.removeprefix(statement_prompt(turn.fact, 0))  # what the rung gives away of the value
        opening = f"{turn.name}:" if self.options.loss == "ar" else self.cue(turn, 0)
        return f"{opening} {turn.opening}{given}", right, chance

    def check_rows(self) -> None:
        """Refuse turns that do not fit a row before anything is trained.

        Few conversations are all read. Of many, only those that are asked about are, and a bound holds for the
        others; so long streams are refused where any conversation of their kind might not fit.

        Raises:
            UsageError: naming the fact, or the bound.
        """
        o = self.options
        count = o.blocks * o.conversations
        if count > MOST_READ:
            most = longest_document(o, self.context.encode)
            if most > o.row_tokens:
                raise UsageError(
                    f"{count} conversations are too many to read before training, and one of them may have a "
                    f"document of up to {most} tokens, more than the row's {o.row_tokens}; set "
                    f"scenario.row_tokens={most} or more, or lower scenario.window"
                )
        for block in range(o.blocks) if count <= MOST_READ else o.probed:
            for number in range(block * o.conversations, (block + 1) * o.conversations):
                turns = [turn for turn, _ in self.turns(number)]
                if o.loss != "seq2seq":
                    for tick in range(o.ticks):
                        self._dialogue([turns[turn] for turn in o.trained(tick)])
                if o.loss != "ar":
                    for turn, wording in product(turns, range(len(CUES[o.cue]))):
                        self._reproduction(turn, wording)


def longest_document(options: ConversationRecallOptions, encode: Callable[[str], list[int]]) -> int:
    """Bound on the tokens of any dialogue or cue with its turn, of any seed.

    Every template is taken with its longest fillers, word by word: a text has at most as many tokens as its
    words have by themselves where tokens do not reach across a blank.
    """
    o = options
    front = len(encode(""))

    @cache
    def tokens(word: str) -> int:
        return len(encode(word)) - front

    def most(template: str, words: Mapping[str, Sequence[str]]) -> int:
        """Most tokens of a template, each of its words with the blank before it."""
        total = 0
        for place, piece in enumerate(template.split(" ")):
            slot = re.search(r"\{(\w+)\}", piece)
            filled = [piece.replace(slot[0], filler) for filler in words[slot[1]]] if slot else [piece]
            filled = [text[0].upper() + text[1:] for text in filled] if place == 0 else filled
            total += max(sum(tokens(f" {word}") for word in text.split(" ")) for text in filled)
        return total

    spelled = [_spelled(index) for index in range(population("injected"))]
    names = {"first": sorted({first for first, _ in spelled}), "last": sorted({last for _, last in spelled})}
    initials = {"initial": [f"{letter}." for letter in string.ascii_uppercase]}
    known = {
        **WORDS,
        **names,
        **initials,
        "back": [f"{back} turns before the end" for back in range(1, o.turns + 1)],
    }
    name = "{first} {initial} {last}" if 2 * o.blocks * o.conversations > len(spelled) else "{first} {last}"
    remark = max(most(form, known) for exchange in TURNS for form in exchange) if o.small_talk else 0
    facts = {
        topic: max(most(saying, {"value": ATTRIBUTE_BY_NAME[topic].values}) for saying in sayings)
        for topic, sayings in SAYINGS.items()
    }
    longest = 0
    if o.loss != "seq2seq":
        # No speaker speaks of one thing twice, so that two turns at most are about the same.
        topics = sorted([*facts.values(), *facts.values()], reverse=True)[: min(o.window, o.turns)]
        line = tokens("\n") + most(f"{name}:", known) + remark
        longest = len(topics) * line + sum(topics)
    if o.loss != "ar":
        for topic, fact in facts.items():
            for form in CUES[o.cue]:
                cue = most(form.replace("{name}", name), {**known, "topic": [topic]})
                longest = max(longest, cue + remark + fact)
    return front + longest


def _spelled(index: int) -> tuple[str, str]:
    """First and last name of a person of the plain population: the same names in every seed."""
    first, last = World(0).person("injected", index).name.split(" ")
    return first, last


def build(options: ConversationRecallOptions, context: BuildContext) -> Stream:
    """The stream of one seed."""
    conversations = _Conversations(options, context)
    conversations.check_rows()
    return Stream(
        length=conversations.length,
        experience=lru_cache(maxsize=2)(conversations.experience),
        probe_points=conversations.probe_points,
        probe_sets=conversations.probe_sets(),
    )


def outline(options: ConversationRecallOptions) -> Outline:
    """Steps, tokens and probes, counted without making a conversation."""
    o = options
    stated = o.blocks * o.conversations * o.turns * o.window * o.steps_per_turn
    background = o.blocks * o.block_background + o.rest_steps * o.batch_size
    asked = 2 * len(o.probed) * o.conversations * o.turns
    sweeps = o.blocks + len(log_spaced(o.rest_steps))
    bare, in_context = (sweeps + 3 * len(RUNGS)) * asked, 3 * asked if o.kept else 0
    general = 3 * GENERAL_DOCUMENTS
    dialogue_tokens = o.kept * TURN_TOKENS + PROBE_TOKENS
    return Outline(
        steps=o.blocks * o.block_steps + o.rest_steps,
        train_tokens=stated * TURN_TOKENS * (2 if o.loss == "both" else 1) + background * o.background_tokens,
        probe_rows=bare + in_context + general,
        probe_tokens=bare * (PROBE_TOKENS + TURN_TOKENS)
        + in_context * dialogue_tokens
        + general * o.background_tokens,
        loops=o.blocks,
        experiences=o.blocks + 1,
        longest_row=max(o.row_tokens, dialogue_tokens),
        documents=(background * joined(o.background_tokens), GENERAL_DOCUMENTS),
        primary="retention",
        primary_relation=PRIMARY,
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "blocks": 2,
        "conversations": 1,
        "turns": 4,
        "window": 2,
        "rest_steps": 6,
        "batch_size": 4,
    },
    "default": {},
    "paper": {
        "blocks": 16,
        "conversations": 8,
        "turns": 12,
        "window": 6,
        "background_tokens": 256,
        "row_tokens": 1024,
        "rest_steps": 500,
        "batch_size": 16,
    },
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {"default": {"name": "adam", "lr": 1e-3}}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="conversation_recall",
            version="1",
            summary="Conversations trained turn by turn, asked about turns 1 to n back without them; then rest.",
            options=ConversationRecallOptions,
            presets=PRESETS,
            models={"paper": "EleutherAI/pythia-410m"},
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
        )
    ]
