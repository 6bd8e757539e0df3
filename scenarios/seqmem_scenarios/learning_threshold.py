"""`learning_threshold`: how many exposures does one new fact need until it is recalled, and what survives?

The learner first trains a little on background text; that state is the base. Then, for each of several facts
and each time from the same base: the fact is stated once a step, every time in another wording, alone or among
`others` background rows; it is asked before the first and after every step. Background text follows, and the
fact is asked once more. So every fact is measured on its own: nothing of one is left when the next comes, and
all of them meet the very same background. Learning rate and `others` are what is swept.

* ``exposure``: the fact and its twin on the primary rung, before the first and after every exposure. The twin
  is never trained: its own answer is the false alarm, and how probable the *fact's* answer is to the twin's
  question tells a memory of this person from an answer given to everybody;
* ``survival``: the same after the background that follows;
* ``general``: held-out background text, at the start, at the base, after each fact's exposures, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

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
    ScenarioSpec,
    Stream,
    hookimpl,
)
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_TOKENS,
    background_row,
    check_lengths,
    fact_probe,
    general_probes,
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
    def background_documents(self) -> int:
        """Rows of background text a run reads, those of every fact being the same."""
        return (
            self.base_steps + self.survive_steps
        ) * self.background_rows + self.max_exposures * self.others


class _Threshold:
    """The stream of one seed. Experience 0 makes the base; 1 + 2i states fact i; 2 + 2i is what follows it."""

    def __init__(self, options: LearningThresholdOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.length = 1 + 2 * options.facts
        self.experience = lru_cache(maxsize=4)(self._experience)

    @cached_property
    def pairs(self) -> list[tuple[Fact, Fact]]:
        """Every fact with its twin."""
        return make_facts(self.context.seed, self.options.facts)

    # -- training rows --------------------------------------------------------------------------------

    def _experience(self, index: int) -> Experience:
        o = self.options
        number, after = divmod(index - 1, 2)
        if index == 0:
            steps = tuple(self._background(step * o.background_rows) for step in range(o.base_steps))
            return Experience(0, "base", "general", None, steps, save_as=BASE)
        if after:
            first = o.base_steps * o.background_rows + o.max_exposures * o.others
            steps = tuple(
                self._background(first + step * o.background_rows) for step in range(o.survive_steps)
            )
            return Experience(index, f"background after fact {number}", "general", None, steps)
        steps = tuple(self._exposure(number, exposure) for exposure in range(o.max_exposures))
        return Experience(index, f"fact {number}", "inject", number, steps, start_from=BASE)

    def _background(self, first: int, rows: int | None = None) -> Batch:
        count = self.options.background_rows if rows is None else rows
        return tuple(background_row(self.context, first + i, self.options.row_tokens) for i in range(count))

    def _exposure(self, number: int, exposure: int) -> Batch:
        """The fact once, and the background rows beside it."""
        o = self.options
        first = o.base_steps * o.background_rows + exposure * o.others
        return (self._row(number, exposure), *self._background(first, o.others))

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

    def probe_points(self, index: int) -> tuple[ProbePoint, ...]:
        """When what is asked; see the top of this file."""
        o = self.options
        number, after = divmod(index - 1, 2)
        if index == 0:
            return tuple(ProbePoint(at, "general", "general") for at in sorted({0, o.base_steps}))
        if after:
            asked = ProbePoint(o.survive_steps, f"fact {number}", "survival")
            last = index == self.length - 1
            return (asked, *([ProbePoint(o.survive_steps, "general", "general")] if last else []))
        points = [ProbePoint(at, f"fact {number}", "exposure") for at in range(o.max_exposures + 1)]
        return (*points, ProbePoint(o.max_exposures, "general", "general"))

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """All probes by set: one of two questions for each fact, and the held-out documents."""
        sets = {f"fact {number}": self._asked(number) for number in range(self.options.facts)}
        sets["general"] = general_probes(self.context, self.options.row_tokens)
        check_lengths(self.context, sets)
        return sets

    def _asked(self, number: int) -> tuple[Probe, ...]:
        """The question about the fact, and that about its twin with the fact's answer as its rival."""
        fact, twin = self.pairs[number]
        place: dict[str, Any] = {"position": number, "group": fact.attribute, "task_label": number}
        rivals = [(other.value, answer(other)) for other in (twin, fact)]
        return (
            fact_probe(self.context, fact, "question", **place),
            fact_probe(self.context, twin, "question", twin_of=fact, choices=rivals, **place),
        )


def build(options: LearningThresholdOptions, context: BuildContext) -> Stream:
    """The stream of one seed."""
    threshold = _Threshold(options, context)
    threshold.check_rows()
    return Stream(threshold.length, threshold.experience, threshold.probe_points, threshold.probe_sets())


def outline(options: LearningThresholdOptions) -> Outline:
    """Steps, tokens and probes, counted without making a document."""
    o = options
    background = (o.base_steps + o.facts * o.survive_steps) * o.background_rows
    exposed = o.facts * o.max_exposures
    asked = 3 * o.facts * (o.max_exposures + 2)  # fact, twin, and the fact's answer to the twin's question
    general = (3 + o.facts) * GENERAL_DOCUMENTS
    return Outline(
        steps=o.base_steps + exposed + o.facts * o.survive_steps,
        train_tokens=(background + exposed * (1 + o.others)) * o.row_tokens,
        probe_rows=asked + general,
        probe_tokens=asked * PROBE_TOKENS + general * o.row_tokens,
        loops=o.facts,
        experiences=1 + 2 * o.facts,
        longest_row=max(o.row_tokens, PROBE_TOKENS),
        documents=(o.background_documents * joined(o.row_tokens), GENERAL_DOCUMENTS),
        primary="exposures_to_criterion",
        primary_relation="question",
        branches=True,
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
