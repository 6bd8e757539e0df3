"""`learning_threshold`: how many exposures does one new fact need until it is recalled, and what survives?

The learner first trains a little on background text; that state is the base. Then, for each of several facts
and each time from the same base: the fact is stated once a step, every time in another wording, alone or among
`others` background rows; it is asked before the first and after every step. Background text follows, and the
fact is asked once more. So every fact is measured on its own: nothing of one is left when the next comes, and
all of them meet the very same background. Learning rate and `others` are swept.

* ``exposure``: the fact and its twin in the primary probe form, before the first and after every exposure. The twin
  is never trained: its own answer is the false alarm, and how probable the *fact's* answer is to the twin's
  question tells a memory of this person from an answer given to everybody;
* ``survival``: the same after the background that follows;
* ``general``: held-out background text, at the start, at the base, after each fact's exposures, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from pydantic import Field, model_validator

from seqmem import (
    Batch,
    BuildContext,
    Design,
    Example,
    Options,
    Outline,
    Probe,
    ScenarioSpec,
    Stream,
    hookimpl,
)
from seqmem.streams import Place, Repeat, Schedule, Segment, Size, ask, begin, end, every, finish
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_TOKENS,
    background_batches,
    background_row,
    check_lengths,
    fact_probe,
    general_probes,
    general_size,
    joined,
    statement_row,
    trained_wordings,
)
from seqmem_scenarios.world import Fact, answer, make_facts, population

seqmem_api = ">=1,<2"

BASE = "base"
"""Name of the snapshot that every fact starts from."""


class LearningThresholdOptions(Options):
    """Options of `learning_threshold`."""

    facts: int = Field(4, ge=1, description="new facts, each learned on its own from the same base")
    max_exposures: int = Field(16, ge=1, description="steps that state the fact, one statement each")
    others: int = Field(3, ge=0, description="background rows beside the fact in each of these steps")
    criterion: int = Field(2, ge=1, description="right answers in a row that count as recalled")
    survive_steps: int = Field(8, ge=1, description="steps of background after the exposures")
    base_steps: int = Field(
        8, ge=0, description="steps of background before the facts; 0 starts with a new optimizer"
    )
    background_rows: int = Field(8, ge=1, description="rows per step of background before and after")
    row_tokens: int = Field(64, ge=8, description="longest training row in tokens")

    @model_validator(mode="after")
    def _criterion_in_reach(self) -> LearningThresholdOptions:
        if self.criterion > self.max_exposures:
            raise ValueError(
                f"criterion ({self.criterion}) must be at most max_exposures ({self.max_exposures})"
            )
        return self

    @model_validator(mode="after")
    def _enough_people(self) -> LearningThresholdOptions:
        if self.facts > population("injected"):
            raise ValueError(
                f"{self.facts} facts need more people than the world has: {population('injected')}"
            )
        return self

    @property
    def beside(self) -> int:
        """Number of the first background row beside the facts; the base's come before it."""
        return self.base_steps * self.background_rows

    @property
    def behind(self) -> int:
        """Number of the first background row that follows the facts, the same for every fact."""
        return self.beside + self.max_exposures * self.others


def schedule(options: LearningThresholdOptions) -> Schedule:
    """State the stream: what is trained, and what is asked when; see the top of this file."""
    o = options
    return Schedule(
        [
            Segment("base", "general", o.base_steps, save_as=BASE),
            Repeat(
                o.facts,
                Segment("fact", "inject", o.max_exposures, name=_set, label=int, start_from=BASE),
                Segment("after", "general", o.survive_steps, name="background after fact {}".format),
            ),
        ],
        [
            ask(lambda place: _set(place.number), "exposure", every(1, "fact")),
            ask(lambda place: _set(place.number), "survival", end("after")),
            ask("general", "general", begin(), end("base", "fact"), finish()),
        ],
    )


def _set(number: int) -> str:
    """Return the name of a fact's experience and of its probe set."""
    return f"fact {number}"


class _Threshold:
    """The stream of one seed."""

    def __init__(self, options: LearningThresholdOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context

    @cached_property
    def pairs(self) -> list[tuple[Fact, Fact]]:
        """Every fact with its twin."""
        return make_facts(self.context.seed, self.options.facts)

    # -- training rows --------------------------------------------------------------------------------

    def base(self, place: Place) -> Iterator[Batch]:
        """Make the background before the facts."""
        return self._background(0, place.steps)

    def after(self, place: Place) -> Iterator[Batch]:
        """Make the background that follows every fact."""
        return self._background(self.options.behind, place.steps)

    def fact(self, place: Place) -> Iterator[Batch]:
        """Make a statement of the fact for every step, and the background rows beside it."""
        o = self.options
        for exposure in range(o.max_exposures):
            first = o.beside + exposure * o.others
            others = (background_row(self.context, first + i, o.row_tokens) for i in range(o.others))
            yield (self._row(place.number, exposure), *others)

    def _background(self, first: int, steps: int) -> Iterator[Batch]:
        o = self.options
        return background_batches(self.context, first, steps, o.background_rows, o.row_tokens)

    def _row(self, number: int, exposure: int) -> Example:
        fact, _ = self.pairs[number]
        return statement_row(self.context, fact, number + exposure, self.options.row_tokens)

    def check_rows(self) -> None:
        """Refuse facts that do not fit a row before anything is trained.

        Raises:
            UsageError: naming the fact.
        """
        for number, (fact, _) in enumerate(self.pairs):
            for exposure in range(min(self.options.max_exposures, trained_wordings(fact))):
                self._row(number, exposure)

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """Return all probes by set: one of two questions for each fact, and the held-out documents."""
        sets = {_set(number): self._asked(number) for number in range(self.options.facts)}
        sets["general"] = general_probes(self.context, self.options.row_tokens)
        check_lengths(self.context, sets)
        return sets

    def _asked(self, number: int) -> tuple[Probe, ...]:
        """Return the question about the fact, and the one about its twin with the fact's answer as rival."""
        fact, twin = self.pairs[number]
        place: dict[str, Any] = {"position": number, "group": fact.attribute, "task_label": number}
        rivals = [(other.value, answer(other)) for other in (twin, fact)]
        return (
            fact_probe(self.context, fact, "question", **place),
            fact_probe(self.context, twin, "question", twin_of=fact, choices=rivals, **place),
        )


def build(options: LearningThresholdOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    threshold = _Threshold(options, context)
    threshold.check_rows()
    make = {"base": threshold.base, "fact": threshold.fact, "after": threshold.after}
    design = Design(criterion=options.criterion, max_exposures=options.max_exposures, others=options.others)
    return schedule(options).stream(make, threshold.probe_sets(), design=design)


def outline(options: LearningThresholdOptions) -> Outline:
    """Return steps, tokens and probes, counted without making a document."""
    o = options
    background = o.beside + o.facts * (o.max_exposures * o.others + o.survive_steps * o.background_rows)
    asked = Size(2, 3 * PROBE_TOKENS)  # fact, twin, and the fact's answer to the twin's question
    documents = o.behind + o.survive_steps * o.background_rows
    return schedule(options).outline(
        {_set(number): asked for number in range(o.facts)} | {"general": general_size(o.row_tokens)},
        train_tokens=(background + o.facts * o.max_exposures) * o.row_tokens,
        longest_row=max(o.row_tokens, PROBE_TOKENS),
        documents=(documents * joined(o.row_tokens), GENERAL_DOCUMENTS),
        primary="exposures_to_criterion",
        primary_relation="question",
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "facts": 2,
        "max_exposures": 6,
        "others": 1,
        "survive_steps": 2,
        "base_steps": 2,
        "background_rows": 4,
    },
    "default": {},
    "paper": {
        "facts": 32,
        "max_exposures": 64,
        "survive_steps": 200,
        "base_steps": 100,
        "background_rows": 32,
        "row_tokens": 256,
    },
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {
    "default": {"name": "adam", "lr": 1e-3},
    "paper": {"name": "adam", "lr": 1e-4},
}

SWEEP: Mapping[str, tuple[str, ...]] = {
    "smoke": ("optimizer.lr=0.001,0.003", "scenario.others=0,3"),
    "default": ("optimizer.lr=0.0003,0.001,0.003", "scenario.others=0,3,15"),
    "paper": ("optimizer.lr=0.00001,0.00003,0.0001,0.0003", "scenario.others=0,7,31,127"),
}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="learning_threshold",
            version="1",
            summary="Exposures one new fact needs, over learning rate and batch mix, and what survives.",
            options=LearningThresholdOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
            sweep=SWEEP,
        )
    ]
