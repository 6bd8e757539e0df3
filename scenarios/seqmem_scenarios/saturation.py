"""`saturation`: rising numbers of facts are trained from scratch until the parameters are full.

A person of the world is one row: the name and then the person's values of every attribute whose values are one
word (town, occupation, instrument, flower), nothing else. The name is the key; values are drawn uniformly from
closed sets of 64, so a row holds 4 x 6 bits that can be known only by having stored them. The loss counts the
values' tokens alone: no capacity goes into the names, and the bits counted are all there are to learn.

An epoch states every fact once, in an order of its own, and is one experience. Asked on the schedule ``boundary``,
at the start, after an eighth, a quarter and half of the exposures and at the end: each value after the text that
stood before it in its row, with its whole closed set as choices, of trained people and of never-trained twins.
The chain of a person's four values gives the exact probability of the row given its name.

After Allen-Zhu & Li 2024, "Physics of Language Models: Part 3.3, Knowledge Capacity Scaling Laws"
(arXiv 2404.05405): about 2 bits per parameter when every fact is met 1000 times, about 1 when 100 times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from seqmem import (
    Batch,
    BuildContext,
    Example,
    Options,
    Outline,
    Probe,
    ScenarioSpec,
    Stream,
    UsageError,
    answer_probe,
    hookimpl,
)
from seqmem.streams import Place, Schedule, Segment, Size, When, ask, finish
from seqmem_scenarios.common import apart
from seqmem_scenarios.world import ATTRIBUTES, Attribute, Draw, Fact, Role, World, population

seqmem_api = ">=1,<2"

TOLD: tuple[Attribute, ...] = tuple(a for a in ATTRIBUTES if not any(" " in value for value in a.values))
"""Attributes that a row tells, in its order: those whose values are one word."""
LARGEST_SET = max(len(attribute.values) for attribute in TOLD)
PEOPLE = 22 * population("injected")
"""People there are: every name without and with each of 21 middle initials."""
ROW_TOKENS = 32
"""Generous bound on a row, for outlines."""
PARTS = (8, 4, 2)
"""Probed after the exposures divided by each of these, besides start and end."""


class SaturationOptions(Options):
    """Options of `saturation`."""

    facts: int = Field(
        2000,
        ge=len(TOLD),
        multiple_of=len(TOLD),
        description=f"facts trained, {len(TOLD)} to a person; the option swept",
    )
    exposures: int = Field(100, ge=1, description="epochs: times each fact is stated")
    batch_size: int = Field(128, ge=1, description="rows (people) per step")
    probed: int = Field(
        1000,
        ge=len(TOLD),
        multiple_of=len(TOLD),
        description="facts asked for, at most, and as many twins; bits are their mean times all facts",
    )

    @model_validator(mode="after")
    def _enough_people(self) -> SaturationOptions:
        if self.people > PEOPLE:
            raise ValueError(
                f"facts ({self.facts}) must be at most {PEOPLE * len(TOLD)}: the world has {PEOPLE} people, "
                f"{len(TOLD)} facts each"
            )
        return self

    @property
    def people(self) -> int:
        """People trained, a row each."""
        return self.facts // len(TOLD)

    @property
    def asked(self) -> int:
        """People asked about."""
        return min(self.facts, self.probed) // len(TOLD)

    @property
    def epoch_steps(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-self.people // self.batch_size)

    @property
    def asked_before(self) -> tuple[int, ...]:
        """Epochs, from 0, before which facts are asked for; they are asked for after the last one too."""
        return tuple(sorted({0, *(self.exposures // part for part in PARTS)}))


def schedule(options: SaturationOptions) -> Schedule:
    """State the stream: what is trained, and what is asked when; see the top of this file."""
    o, epochs = options, options.asked_before
    before = When(lambda place: (0,) if place.number in epochs else ())
    return Schedule(
        [Segment("epoch", "inject", o.epoch_steps, count=o.exposures, name="epoch {}".format)],
        [ask("facts", "boundary", before, finish())],
    )


class _Saturation:
    """The stream of one seed; its rows are made once, its epochs on demand."""

    def __init__(self, options: SaturationOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context

    # -- who and what ---------------------------------------------------------------------------------

    def facts_of(self, role: Role, number: int) -> list[Fact]:
        """Return the facts of a person's row, in its order."""
        person = World(self.context.seed).person(role, number)
        suffix = "-twin" if role == "twin" else ""
        return [
            Fact(f"{self.context.seed}-{number}-{a.name}{suffix}", person, a.name, person.values[a.name])
            for a in TOLD
        ]

    def twins(self, facts: Sequence[Fact], number: int) -> list[Fact]:
        """Return facts of a person who is never trained, each with another value than its counterpart."""
        pairs = zip(self.facts_of("twin", number), facts, strict=True)
        return [apart(twin, [fact.value], self.context.seed) for twin, fact in pairs]

    # -- training rows --------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> list[Example]:
        """The row of every person: encoded once, trained in every epoch."""
        return [self._row(self.facts_of("injected", number)) for number in range(self.options.people)]

    def _row(self, facts: Sequence[Fact]) -> Example:
        values = "".join(f" {fact.value}" for fact in facts)
        line = self._probe(facts[0].person.name, values, facts[0])
        if len(line.input_ids) > self.context.max_positions:
            raise UsageError(
                f"the row of {facts[0].person.name} has {len(line.input_ids)} tokens, "
                f"the model reads {self.context.max_positions}"
            )
        mask = np.arange(len(line.input_ids)) >= line.answer_start
        return Example(np.asarray(line.input_ids, dtype=np.int32), mask, tuple(fact.id for fact in facts))

    def epoch(self, place: Place) -> Iterator[Batch]:
        """Make one pass over all rows, in an order of its own."""
        size = self.options.batch_size
        order = Draw("saturation epoch", self.context.seed, place.number).shuffled(self.rows)
        return (tuple(order[first : first + size]) for first in range(0, len(order), size))

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """Return probes of every value of the people asked about, and of as many twins."""
        probes: list[Probe] = []
        for number in range(self.options.asked):
            facts = self.facts_of("injected", number)
            twins = self.twins(facts, number)
            probes += [self._asked(facts, place) for place in range(len(TOLD))]
            probes += [self._asked(twins, place, twin_of=facts[place].id) for place in range(len(TOLD))]
        return {"facts": tuple(probes)}

    def _asked(self, facts: Sequence[Fact], place: int, twin_of: str | None = None) -> Probe:
        """Return the probe of a value after the text before it in the row, against its whole closed set."""
        fact, attribute = facts[place], TOLD[place]
        prompt = " ".join([fact.person.name, *(earlier.value for earlier in facts[:place])])
        probe = self._probe(prompt, f" {fact.value}", fact)
        choices = self._choices[place]
        if probe.input_ids[probe.answer_start :] != choices[attribute.values.index(fact.value)]:
            raise UsageError(
                f"the tokenizer writes {fact.value!r} differently after {prompt!r} than after another word; "
                "closed sets cannot be scored with it"
            )
        return replace(
            probe,
            choices=choices,
            choice_names=attribute.values,
            chance=1 / len(attribute.values),
            twin_of=twin_of,
            subject=fact.person.name,
            position=place,
        )

    @cached_property
    def _choices(self) -> list[tuple[tuple[int, ...], ...]]:
        """Ids of every value of each attribute: encoded once, not once for each of thousands of probes."""
        facts = self.facts_of("injected", 0)
        name = facts[0].person.name
        probes = [
            [self._probe(name, f" {value}", facts[place]) for value in attribute.values]
            for place, attribute in enumerate(TOLD)
        ]
        return [tuple(probe.input_ids[probe.answer_start :] for probe in own) for own in probes]

    def _probe(self, prompt: str, answer: str, fact: Fact) -> Probe:
        return answer_probe(
            self.context.encode,
            id=f"{fact.id}-verbatim",
            prompt=prompt,
            answer=answer,
            fact=fact.id,
            relation="verbatim",
        )


def build(options: SaturationOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    made = _Saturation(options, context)
    _ = made.rows  # a row that the model cannot read is refused now, not in the first epoch
    return schedule(options).stream({"epoch": made.epoch}, made.probe_sets())


def outline(options: SaturationOptions) -> Outline:
    """Return steps, tokens and probes, counted without making a row."""
    o = options
    asked = 2 * o.asked * len(TOLD)
    # every choice is a row of its own where the tokenizer makes more than one token of a value
    return schedule(options).outline(
        {"facts": Size(asked, asked * LARGEST_SET * ROW_TOKENS)},
        train_tokens=o.exposures * o.people * ROW_TOKENS,
        longest_row=ROW_TOKENS,
        documents=(0, 0),
        primary="bits_per_parameter",
        primary_relation="verbatim",
        from_scratch=True,
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"facts": 64, "exposures": 16, "batch_size": 8, "probed": 32},
    "default": {},
    "paper": {"exposures": 1000, "probed": 2000},
}

SWEEP: Mapping[str, tuple[str, ...]] = {
    "default": ("scenario.facts=1000,4000,12000",),
    "paper": ("scenario.facts=4000,12000,24000",),
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {"default": {"name": "adam", "lr": 6e-3}}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="saturation",
            version="1",
            summary="Rising numbers of facts, trained from scratch, until the parameters are full.",
            options=SaturationOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
            model="nano",
            sweep=SWEEP,
            citation="Allen-Zhu & Li 2024, Physics of Language Models: Part 3.3, arXiv 2404.05405",
        )
    ]
