"""`sequential_sentences`: unique sentences arrive one by one; the last few stay in the batch; then comes rest.

Every arrival is one experience: its batch holds the last `window` sentences, one a row, among rows of
background text, and is trained `repeats` times. A sentence so slides through the window and is never trained
again. When the stream begins the window is full already, of sentences that are never asked: every batch has
the same number of sentences, and the share of background is exact. What is asked, and when:

* ``boundary``: last token, last word and verbatim completion of the asked sentences and their twins, before
  every `probe_every`-th arrival, before the rest and at the end; ``log``: the same, log-spaced in the rest;
* ``ladder``: every rung; ``context``: one rung after `context_sentences` sentences of the sentence's own
  window, then after one fewer, down to none; ``general``: held-out background text. All three at the start,
  after the last arrival and at the end.

Everything about sentence n is a pure function of (seed, n), so a stream of any length takes no more memory
than a short one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from seqmem import (
    Batch,
    BuildContext,
    Decoding,
    Example,
    Options,
    Outline,
    Probe,
    Relation,
    ScenarioSpec,
    Stream,
    UsageError,
    answer_probe,
    hookimpl,
    text_example,
)
from seqmem.streams import Place, Schedule, Segment, Size, ask, begin, finish, log, rest, start
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_TOKENS,
    RUNGS,
    apart,
    background_batches,
    background_row,
    bare_size,
    check_lengths,
    fact_probe,
    general_probes,
    general_size,
    joined,
    rung_texts,
    trained_wordings,
)
from seqmem_scenarios.world import ATTRIBUTES, Draw, Fact, World, population, statement

seqmem_api = ">=1,<2"

PEOPLE = 22 * population("injected")
"""People of one role: every "First Last" name bare, and with each of 21 middle initials."""
CYCLE = 20
"""Batches over which the share of background rows is exact."""
SENTENCE_TOKENS = 24
"""Generous bound on one sentence, for the outline."""
CONTEXT_TOKENS = 16
"""Bound on the mean length of the sentences of one context, for the outline."""
PRIMARY: Relation = "verbatim"
"""Rung that metrics read: as near to what is trained as one can ask with a known chance, at most 1 in 64 for
every attribute (the last word of a two-word value is 1 of 16, the last token of a word has no known chance)."""
NEAR: tuple[Relation, ...] = ("last_token", "last_word", PRIMARY)
OWN_KEPT = "own sentence kept"
"""Group of the probes whose context holds the asked sentence itself; metric `coupling` counts them."""


class SequentialSentencesOptions(Options):
    """Options of `sequential_sentences`."""

    arrivals: int = Field(96, ge=1, le=PEOPLE // 2, description="sentences that arrive, one after another")
    window: int = Field(8, ge=1, le=PEOPLE // 8, description="sentences in every batch: the last to arrive")
    background_ratio: float = Field(
        0.5, ge=0, lt=1, description="share of background rows, exact over every 20 consecutive batches"
    )
    repeats: int = Field(3, ge=1, description="times each batch is trained in a row")
    divider: str = Field(
        " ", min_length=1, description="text after each sentence that stands in front of another"
    )
    context_sentences: int | None = Field(
        None,
        ge=0,
        description="most sentences placed before a probe; swept down to none; null for the whole window",
    )
    own_sentence: Literal["oldest", "newest"] = Field(
        "oldest",
        description="place of the asked sentence in its context, which is cut from its oldest sentence on: "
        "oldest is the first to leave, newest stays to the last",
    )
    context_rung: Literal["verbatim", "question"] = Field(
        "question",
        description="rung asked with a context in front: one that the model can read off a context",
    )
    train_context: int = Field(
        0,
        ge=0,
        description="sentences of the window in front of each trained sentence; no targets themselves",
    )
    probed: int = Field(
        48, ge=1, description="arrivals asked about, evenly over the stream; all where there are no more"
    )
    probe_every: int = Field(4, ge=1, description="arrivals between two probes of recall")
    temperature: float = Field(1.0, gt=0, description="divides the logits when an answer is sampled")
    top_k: int | None = Field(40, ge=1, description="most probable tokens that may be sampled; null for all")
    samples: int = Field(10, ge=1, description="answers sampled for recall at n")
    max_new_tokens: int = Field(16, ge=1, description="longest answer that can be produced, in tokens")
    rest_steps: int = Field(48, ge=0, description="steps on background text after the last arrival")
    row_tokens: int = Field(64, ge=8, description="longest background row in tokens")

    @model_validator(mode="after")
    def _consistent(self) -> SequentialSentencesOptions:
        for name, value in (("context_sentences", self.kept), ("train_context", self.train_context)):
            if value > self.window:
                raise ValueError(f"{name} ({value}) must be at most window ({self.window})")
        return self

    @model_validator(mode="after")
    def _exact(self) -> SequentialSentencesOptions:
        rows = self.cycle_rows
        # a share typed as a decimal still names its number of rows
        if abs(self._cycle_share - rows) > 1e-3:
            sentences = CYCLE * self.window
            raise ValueError(
                f"background_ratio {self.background_ratio:g} is {self._cycle_share:.2f} background rows to the "
                f"{sentences} sentences of {CYCLE} batches; it must be a whole number: take "
                f"{rows / (rows + sentences):.9g} ({rows} rows)"
            )
        return self

    @property
    def _cycle_share(self) -> float:
        return CYCLE * self.window * self.background_ratio / (1 - self.background_ratio)

    @property
    def cycle_rows(self) -> int:
        """Background rows in every 20 consecutive batches."""
        return round(self._cycle_share)

    @property
    def kept(self) -> int:
        """Sentences in a full context."""
        return self.window if self.context_sentences is None else self.context_sentences

    @property
    def shown(self) -> int:
        """Most sentences that stand in front of a trained one."""
        return min(self.train_context, self.window - 1)

    @property
    def rest_rows(self) -> int:
        """Background rows in a batch of the rest: as many rows as an arrival's batch, rounded down."""
        return self.window + self.cycle_rows // CYCLE

    @property
    def asked(self) -> list[int]:
        """Arrivals that are asked about, the last one of all among them."""
        count = min(self.probed, self.arrivals)
        return [(place + 1) * self.arrivals // count - 1 for place in range(count)]

    def background_before(self, arrival: int) -> int:
        """Background rows in the batches before this arrival's: counts are spread as evenly as they can be."""
        return arrival * self.cycle_rows // CYCLE


def schedule(options: SequentialSentencesOptions) -> Schedule:
    """State the stream: what is trained, and what is asked when; see the top of this file."""
    o = options
    edges = (begin(), begin("rest"), finish())
    return Schedule(
        [
            Segment(
                "arrival", "inject", 1, count=o.arrivals, name="arrival {}".format, repeats=o.repeats
            ),
            rest(o.rest_steps),
        ],
        [
            ask("near", "boundary", start("arrival", each=o.probe_every), *edges),
            ask("near", "log", log("rest")),
            *(ask(name, name, *edges) for name in ("ladder", "general", *(["context"] if o.kept else []))),
        ],
        covers={"ladder": ["near"]},
    )


@dataclass(frozen=True)
class _Sentence:
    """Sentence n of the stream and its never-trained twin, both in one wording."""

    fact: Fact
    twin: Fact
    wording: int

    def text(self, *, twin: bool = False) -> str:
        return statement(self.twin if twin else self.fact, self.wording)


def make_sentence(seed: int, number: int) -> _Sentence:
    """Sentence `number`; below 0 are those that stood in the window before the first arrival.

    Attributes are balanced over every six sentences, values uniform in their sets, and all people different.
    """
    attributes = Draw("sentence attributes", seed, number // len(ATTRIBUTES)).shuffled(ATTRIBUTES)
    attribute = attributes[number % len(ATTRIBUTES)].name
    world, identity = World(seed), f"sentence {number}"
    person, other = (world.person(role, number % PEOPLE) for role in ("injected", "twin"))
    fact = Fact(identity, person, attribute, person.values[attribute])
    twin = apart(Fact(f"{identity}-twin", other, attribute, other.values[attribute]), [fact.value], seed)
    return _Sentence(fact, twin, Draw("sentence wording", seed, number).below(trained_wordings(fact)))


class _Sentences:
    """The stream of one seed. Every sentence and row is a pure function of (options, seed, place)."""

    def __init__(self, options: SequentialSentencesOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.sentence = lru_cache(maxsize=256)(lambda number: make_sentence(context.seed, number))

    # -- training rows --------------------------------------------------------------------------------

    def _before(self, numbers: range, *, twin: bool = False) -> str:
        """Sentences as they stand in front of another text."""
        return "".join(f"{self.sentence(n).text(twin=twin)}{self.options.divider}" for n in numbers)

    def _shown(self, number: int, arrival: int) -> range:
        """Sentences in front of a trained one: those of the window that came just before it."""
        oldest = arrival - self.options.window + 1
        return range(max(oldest, number - self.options.train_context), number)

    def row(self, number: int, arrival: int) -> Example:
        """Sentence `number` as it is trained at an arrival: it is the target, what stands before it is not."""
        sentence = self.sentence(number)
        text, identity = sentence.text(), sentence.fact.id
        before = self._before(self._shown(number, arrival))
        if not before:
            return text_example(self.context.encode, text, facts=[identity])
        # the blank between two words belongs to the second one's token, and so to the sentence
        prompt = before.rstrip(" ")
        parted = answer_probe(
            self.context.encode,
            id=identity,
            prompt=prompt,
            answer=before[len(prompt) :] + text,
            fact=identity,
            relation=PRIMARY,
        )
        ids = np.asarray(parted.input_ids, dtype=np.int32)
        return Example(ids, np.arange(len(ids)) >= parted.answer_start, (identity,))

    def arrival(self, place: Place) -> Iterator[Batch]:
        """Make the one batch of an arrival: the window's sentences, and background rows."""
        o, arrival = self.options, place.number
        sentences = [self.row(n, arrival) for n in range(arrival - o.window + 1, arrival + 1)]
        rows = range(o.background_before(arrival), o.background_before(arrival + 1))
        yield (*sentences, *(background_row(self.context, index, o.row_tokens) for index in rows))

    def rest(self, place: Place) -> Iterator[Batch]:
        """Make the rest's background."""
        o = self.options
        first = o.background_before(o.arrivals)
        return background_batches(self.context, first, place.steps, o.rest_rows, o.row_tokens)

    def check_rows(self) -> None:
        """Refuse sentences that do not fit the model together with what stands before them in training.

        The rows of a stream cannot all be kept, but the lengths of the window's sentences slide along.

        Raises:
            UsageError: naming the length and what the model reads.
        """
        o = self.options
        shown = o.shown
        if not shown:
            return
        lengths: list[int] = []
        longest, arrival = 0, 0
        for number in range(1 - o.window, o.arrivals):
            lengths = [*lengths[-shown:], len(self.context.encode(o.divider + self.sentence(number).text()))]
            if number >= 0 and sum(lengths) > longest:
                longest, arrival = sum(lengths), number
        tokens = len(self.row(arrival, arrival).input_ids)
        if tokens > self.context.max_positions:
            raise UsageError(
                f"train_context {o.train_context} makes a row of {tokens} tokens, the model reads "
                f"{self.context.max_positions}; show fewer sentences or take another model"
            )

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """All probes by set.

        Raises:
            UsageError: the model cannot read a probe, or an answer is longer than `max_new_tokens`.
        """
        o = self.options
        both = [(number, twin) for number in o.asked for twin in (False, True)]
        sets = {
            "near": tuple(self._bare(n, relation, twin=twin) for n, twin in both for relation in NEAR),
            "ladder": tuple(self._bare(n, relation, twin=twin) for n, twin in both for relation in RUNGS),
            "general": general_probes(self.context, o.row_tokens),
        }
        self._check_answers(sets["ladder"])
        check_lengths(self.context, sets)
        if o.kept:
            sets["context"] = tuple(
                self._in_context(n, kept, twin=twin) for n, twin in both for kept in range(o.kept, 0, -1)
            ) + tuple(self._bare(n, o.context_rung, twin=twin) for n, twin in both)
            longest = max(len(probe.input_ids) for probe in sets["context"])
            if longest > self.context.max_positions:
                raise UsageError(
                    f"context_sentences {o.kept} makes a probe of {longest} tokens, the model reads "
                    f"{self.context.max_positions}; keep fewer sentences or take another model"
                )
        return sets

    def _check_answers(self, probes: tuple[Probe, ...]) -> None:
        longest = max(probes, key=lambda probe: len(probe.input_ids) - probe.answer_start)
        tokens = len(longest.input_ids) - longest.answer_start
        if tokens > self.options.max_new_tokens:
            raise UsageError(
                f"the answer {longest.answer!r} takes {tokens} tokens, more than max_new_tokens "
                f"({self.options.max_new_tokens}): it could never be produced; raise max_new_tokens"
            )

    def _bare(self, number: int, relation: Relation, *, twin: bool) -> Probe:
        sentence = self.sentence(number)
        return fact_probe(
            self.context,
            sentence.twin if twin else sentence.fact,
            relation,
            twin_of=sentence.fact if twin else None,
            wording=sentence.wording,
            position=number,
        )

    def _in_context(self, number: int, kept: int, *, twin: bool) -> Probe:
        """One rung after the last `kept` sentences of a full context; a twin's holds twins only.

        A full context is the asked sentence with those that came right after it (`own_sentence` oldest: the
        window when it was about to leave), or right before (newest: the window when it arrived).
        """
        o, sentence = self.options, self.sentence(number)
        last = number + o.kept - 1 if o.own_sentence == "oldest" else number
        shown = range(last - kept + 1, last + 1)
        fact = sentence.twin if twin else sentence.fact
        prompt, right, chance = rung_texts(fact, o.context_rung, sentence.wording)
        return answer_probe(
            self.context.encode,
            id=f"{fact.id}-{o.context_rung}-context {kept}",
            prompt=self._before(shown, twin=twin) + prompt,
            answer=right,
            fact=fact.id,
            relation=o.context_rung,
            chance=chance,
            twin_of=sentence.fact.id if twin else None,
            subject=fact.person.name,
            group=OWN_KEPT if number in shown else "",
            position=number,
            context=kept,
        )


def build(options: SequentialSentencesOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    sentences = _Sentences(options, context)
    sets = sentences.probe_sets()
    sentences.check_rows()
    decoding = Decoding(options.temperature, options.top_k)
    return schedule(options).stream({"arrival": sentences.arrival, "rest": sentences.rest}, sets, decoding)


def outline(options: SequentialSentencesOptions) -> Outline:
    """Return steps, tokens and probes, counted without making a sentence."""
    o = options
    background, rested = o.background_before(o.arrivals), o.rest_steps * o.rest_rows
    sentence = SENTENCE_TOKENS + o.shown * CONTEXT_TOKENS
    asked = 2 * min(o.probed, o.arrivals)  # facts and twins
    # contexts of every length, down to none
    in_context = asked * (o.kept + 1), asked * (o.kept + 1) * (PROBE_TOKENS + o.kept * CONTEXT_TOKENS // 2)
    return schedule(o).outline(
        {
            "near": bare_size(asked * len(NEAR)),
            "ladder": bare_size(asked * len(RUNGS)),
            "context": Size(*in_context),
            "general": general_size(o.row_tokens),
        },
        train_tokens=o.repeats * (o.arrivals * o.window * sentence + background * o.row_tokens)
        + rested * o.row_tokens,
        longest_row=max(o.row_tokens, sentence, PROBE_TOKENS + o.kept * CONTEXT_TOKENS),
        documents=((background + rested) * joined(o.row_tokens), GENERAL_DOCUMENTS),
        primary="retention",
        primary_relation=PRIMARY,
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "arrivals": 10,
        "window": 4,
        "repeats": 2,
        "probed": 10,
        "probe_every": 5,
        "context_sentences": 2,
        "rest_steps": 4,
        "row_tokens": 32,
    },
    "default": {},
    "paper": {
        "arrivals": 1000,
        "window": 100,
        "repeats": 1,
        "context_sentences": 10,
        "context_rung": "verbatim",
        "probed": 200,
        "probe_every": 20,
        "rest_steps": 1000,
        "row_tokens": 128,
    },
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {"default": {"name": "adam", "lr": 1e-3}}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="sequential_sentences",
            version="1",
            summary="Unique sentences slide through a rolling window of the batch; then rest.",
            options=SequentialSentencesOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
        )
    ]
