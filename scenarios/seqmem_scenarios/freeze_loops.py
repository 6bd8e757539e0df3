"""`freeze_loops`: task by task, one component learns the task and then all but that component learn on.

The learner first trains on general text. Then, for each task c, the protocol freezes everything but the
component of c and trains the task's facts. It freezes that component, unfreezes the others and trains on
general text again. Then comes the next task. At the end the learner rests, everything trained. Each experience
states what the protocol wants trained (`Experience.trains`); what makes up a component is the strategy's
business, and a strategy that has none always trains everything: the baseline.

A task is facts about one attribute of people nobody has met, so that a question shows in its words which kind
of task it belongs to. The world has six attributes, dealt to the tasks anew by each seed; from the seventh
task on they come again, about other people. Recall is by forced choice among values that facts of the same attribute
are trained with. The schedules:

* ``boundary``: every fact and twin in the primary probe form, before every experience and after the last, twice:
  once with the fact's task given (`task_known`), once without;
* ``log``: the same without, log-spaced over the rest;
* ``ladder``: every probe form, and ``general``: held-out background text; at the start, when the tasks are done,
  and at the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import Field, model_validator

from seqmem import (
    Batch,
    BuildContext,
    Design,
    Options,
    Outline,
    Probe,
    Relation,
    ScenarioSpec,
    Stream,
    hookimpl,
)
from seqmem.streams import Place, Repeat, Schedule, Segment, Size, ask, begin, finish, log, rest, start
from seqmem_scenarios.candidates import CANDIDATE_TOKENS, MAX_CANDIDATES, WHOLE, Candidates
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_FORMS,
    PROBE_TOKENS,
    background_batches,
    check_lengths,
    fact_probe,
    general_probes,
    general_size,
    joined,
    statement_row,
    trained_wordings,
)
from seqmem_scenarios.world import ATTRIBUTES, Draw, Fact, make_facts, population

seqmem_api = ">=1,<2"


class FreezeLoopsOptions(Options):
    """Options of `freeze_loops`."""

    tasks: int = Field(4, ge=1, description="tasks learned one after another")
    facts_per_task: int = Field(12, ge=1, description="facts of each task, all about one attribute")
    exposures: int = Field(24, ge=1, description="times a task states each of its facts, the wording varied")
    general_steps: int = Field(
        12, ge=1, description="steps on general text before the first task and after each task"
    )
    rest_steps: int = Field(24, ge=1, description="steps on general text at the end, everything trained")
    batch_size: int = Field(16, ge=1, description="rows per step")
    row_tokens: int = Field(64, ge=8, description="longest training row in tokens")

    @model_validator(mode="after")
    def _enough_people(self) -> FreezeLoopsOptions:
        if self.tasks * self.facts_per_task > population("injected"):
            raise ValueError(
                f"{self.tasks} tasks of {self.facts_per_task} facts_per_task need more people than the world "
                f"has: {population('injected')}"
            )
        return self

    @property
    def task_steps(self) -> int:
        """Optimizer steps of one task."""
        return self.exposures * -(-self.facts_per_task // self.batch_size)

    @property
    def general_rows(self) -> int:
        """Rows of one stretch of general text."""
        return self.general_steps * self.batch_size


@dataclass(frozen=True)
class _Taught:
    """A fact of a task with its never-trained twin, and its place among the task's facts."""

    task: int
    place: int
    fact: Fact
    twin: Fact


def schedule(options: FreezeLoopsOptions) -> Schedule:
    """State the stream: what is trained, and what is asked when; see the top of this file."""
    o = options
    boundary = (start(), finish())
    whole = (begin(), begin("rest"), finish())
    return Schedule(
        [
            Segment("general", "general", o.general_steps, rows=o.general_rows),
            Repeat(
                o.tasks,
                Segment("task", "task", o.task_steps, name="task {}".format, label=int, trains="component"),
                Segment(
                    "after",
                    "general",
                    o.general_steps,
                    rows=o.general_rows,
                    name="general after task {}".format,
                    label=int,
                    trains="others",
                ),
            ),
            rest(o.rest_steps, rows=o.rest_steps * o.batch_size, name="rest"),
        ],
        [
            ask("inferred", "boundary", *boundary),
            ask("known", "boundary", *boundary),
            ask("inferred", "log", log("rest")),
            ask("ladder", "ladder", *whole),
            ask("general", "general", *whole),
        ],
    )


class _FreezeLoops:
    """The stream of one seed."""

    def __init__(self, options: FreezeLoopsOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context

    @cached_property
    def candidates(self) -> Candidates:
        """The answers that compete, facts of the same attribute for each other."""
        return Candidates((fact for fact, _, _ in self._dealt), self.context.seed)

    @cached_property
    def tasks(self) -> tuple[tuple[_Taught, ...], ...]:
        """The facts of every task."""
        tasks: list[list[_Taught]] = [[] for _ in range(self.options.tasks)]
        for fact, twin, task in self._dealt:
            taught = _Taught(task, len(tasks[task]), fact, self.candidates.twin(fact, twin))
            tasks[task].append(taught)
        return tuple(tuple(task) for task in tasks)

    @cached_property
    def _dealt(self) -> list[tuple[Fact, Fact, int]]:
        """Every fact with its twin and its task; attributes are dealt to tasks in random order."""
        o, seed = self.options, self.context.seed
        kinds = Draw("kinds of tasks", seed).shuffled([attribute.name for attribute in ATTRIBUTES])
        asking = [kinds[task % len(kinds)] for task in range(o.tasks)]
        waiting: defaultdict[str, list[int]] = defaultdict(list)
        dealt = []
        # each round of make_facts holds one fact for every entry of `asking`
        for fact, twin in make_facts(seed, o.tasks * o.facts_per_task, asking):
            alike = waiting[fact.attribute]
            if not alike:
                alike += [task for task, kind in enumerate(asking) if kind == fact.attribute]
            dealt.append((fact, twin, alike.pop(0)))
        return dealt

    # -- training rows --------------------------------------------------------------------------------

    def general(self, place: Place) -> Iterator[Batch]:
        """Make general text; no stretch has rows of another."""
        o = self.options
        return background_batches(self.context, place.row, place.steps, o.batch_size, o.row_tokens)

    def task(self, place: Place) -> Iterator[Batch]:
        """Make passes over the task's facts, one fact a row, each time in another wording."""
        o = self.options
        for exposure in range(o.exposures):
            rows = [
                statement_row(self.context, taught.fact, exposure + taught.place, o.row_tokens)
                for taught in self.tasks[place.number]
            ]
            yield from (tuple(rows[i : i + o.batch_size]) for i in range(0, len(rows), o.batch_size))

    def check_rows(self) -> None:
        """Refuse facts that do not fit a row before anything is trained.

        Raises:
            UsageError: naming the fact.
        """
        for taught in (taught for task in self.tasks for taught in task):
            for wording in range(trained_wordings(taught.fact)):
                statement_row(self.context, taught.fact, wording, self.options.row_tokens)

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """Return all probes by set."""
        inferred = self._probes(("question",))
        sets = {
            "inferred": inferred,
            "known": tuple(replace(p, id=f"{p.id}-known", task_known=True) for p in inferred),
            "ladder": self._probes(PROBE_FORMS),
            "general": general_probes(self.context, self.options.row_tokens),
        }
        check_lengths(self.context, sets)
        return sets

    def _probes(self, relations: tuple[Relation, ...]) -> tuple[Probe, ...]:
        return tuple(
            self._probe(taught, relation, twin=twin)
            for relation in relations
            for task in self.tasks
            for taught in task
            for twin in (False, True)
        )

    def _probe(self, taught: _Taught, relation: Relation, *, twin: bool) -> Probe:
        asked = taught.twin if twin else taught.fact
        probe = fact_probe(
            self.context,
            asked,
            relation,
            twin_of=taught.fact if twin else None,
            wording=taught.place % trained_wordings(taught.fact),
            position=taught.task,
            group=taught.fact.attribute,
            task_label=taught.task,
        )
        if relation not in WHOLE:
            return probe
        values = self.candidates.of(taught.fact, taught.twin)
        return self.candidates.competing(self.context, probe, asked, values)


def build(options: FreezeLoopsOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    loops = _FreezeLoops(options, context)
    loops.check_rows()
    general = dict.fromkeys(("general", "after", "rest"), loops.general)
    make = {**general, "task": loops.task}
    return schedule(options).stream(make, loops.probe_sets(), design=Design(recall="forced_choice"))


def outline(options: FreezeLoopsOptions) -> Outline:
    """Return steps, tokens and probes, counted without making a document."""
    o, plan = options, schedule(options)
    asked = 2 * o.tasks * o.facts_per_task
    primary = Size(asked, asked * (PROBE_TOKENS + MAX_CANDIDATES * CANDIDATE_TOKENS))
    near = len(PROBE_FORMS) - len(WHOLE)
    return plan.outline(
        {
            "inferred": primary,
            "known": primary,
            "ladder": Size(
                len(PROBE_FORMS) * asked, near * asked * PROBE_TOKENS + len(WHOLE) * primary.tokens
            ),
            "general": general_size(o.row_tokens),
        },
        train_tokens=(plan.rows + o.tasks * o.exposures * o.facts_per_task) * o.row_tokens,
        longest_row=max(o.row_tokens, PROBE_TOKENS),
        documents=(plan.rows * joined(o.row_tokens), GENERAL_DOCUMENTS),
        primary="task_recall",
        primary_relation="question",
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "tasks": 2,
        "facts_per_task": 3,
        "exposures": 2,
        "general_steps": 2,
        "rest_steps": 4,
        "batch_size": 4,
    },
    "default": {},
    "paper": {
        "tasks": 8,
        "facts_per_task": 32,
        "exposures": 16,
        "general_steps": 200,
        "rest_steps": 1000,
        "batch_size": 32,
        "row_tokens": 256,
    },
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {
    "default": {"name": "adam", "lr": 1e-3},
    "paper": {"name": "adam", "lr": 1e-4},
}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="freeze_loops",
            version="2",
            summary="Each task is learned by one component, then all the others learn on; next task.",
            options=FreezeLoopsOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
        )
    ]
