"""`freeze_loops`: task by task, one component learns the task and then all but that component learn on.

The learner first trains on general text. Then, for each task c: the protocol freezes everything but the
component of c and trains the task's facts; it freezes that component, unfreezes the others and trains on
general text again; then comes the next task. At the end the learner rests, everything trained. Each experience
states what the protocol wants trained (`Experience.trains`); what makes up a component is the strategy's
business, and a strategy that has none trains everything all the time: the baseline.

A task is facts about one attribute of people nobody has met, so that a question shows in its words which kind
of task it belongs to. The world has six attributes, dealt to the tasks anew by each seed; from the seventh
task on they come again, about other people. What is asked, and when:

* ``boundary``: every fact and twin on the primary rung, before every experience and after the last, twice:
  once with the learner told the fact's task (`task_known`), once without;
* ``log``: the same without, log-spaced over the rest;
* ``ladder``: every rung, and ``general``: held-out background text; at the start, when the tasks are done,
  and at the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from pydantic import Field, model_validator

from seqmem import (
    Batch,
    BuildContext,
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
    RUNGS,
    background_row,
    check_lengths,
    fact_probe,
    general_probes,
    joined,
    log_spaced,
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


class _FreezeLoops:
    """The stream of one seed. Experience 0 is general text; task c is experience 1 + 2c; the last is the rest."""

    def __init__(self, options: FreezeLoopsOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.length = 2 + 2 * options.tasks
        self.experience = lru_cache(maxsize=4)(self._experience)

    @cached_property
    def tasks(self) -> tuple[tuple[_Taught, ...], ...]:
        """The facts of every task; attributes are dealt to tasks in random order."""
        o, seed = self.options, self.context.seed
        kinds = Draw("kinds of tasks", seed).shuffled([attribute.name for attribute in ATTRIBUTES])
        asking = [kinds[task % len(kinds)] for task in range(o.tasks)]
        waiting: defaultdict[str, list[int]] = defaultdict(list)
        tasks: list[list[_Taught]] = [[] for _ in asking]
        # each round of make_facts holds one fact for every entry of `asking`
        for fact, twin in make_facts(seed, o.tasks * o.facts_per_task, asking):
            alike = waiting[fact.attribute]
            if not alike:
                alike += [task for task, kind in enumerate(asking) if kind == fact.attribute]
            task = alike.pop(0)
            tasks[task].append(_Taught(task, len(tasks[task]), fact, twin))
        return tuple(tuple(task) for task in tasks)

    # -- training rows --------------------------------------------------------------------------------

    def _experience(self, index: int) -> Experience:
        o = self.options
        task, after = divmod(index - 1, 2)
        if index in (0, self.length - 1):
            return Experience(
                index=index,
                name="rest" if index else "general",
                phase="rest" if index else "general",
                task_label=None,
                batches=self._general(o.tasks + 1, o.rest_steps) if index else self._general(0),
                moments="fresh" if index else "carry",
            )
        if after:
            return Experience(
                index=index,
                name=f"general after task {task}",
                phase="general",
                task_label=task,
                batches=self._general(task + 1),
                trains="others",
            )
        return Experience(
            index=index,
            name=f"task {task}",
            phase="task",
            task_label=task,
            batches=self._task(task),
            trains="component",
        )

    def _general(self, stretch: int, steps: int | None = None) -> tuple[Batch, ...]:
        """General text: every stretch has rows of its own, the rest's come after all others."""
        o = self.options
        first = stretch * o.general_rows
        return tuple(
            tuple(
                background_row(self.context, first + step * o.batch_size + row, o.row_tokens)
                for row in range(o.batch_size)
            )
            for step in range(o.general_steps if steps is None else steps)
        )

    def _task(self, task: int) -> tuple[Batch, ...]:
        """Passes over the task's facts, one fact a row, each time in another wording."""
        o = self.options
        batches: list[Batch] = []
        for exposure in range(o.exposures):
            rows = [
                statement_row(self.context, taught.fact, exposure + taught.place, o.row_tokens)
                for taught in self.tasks[task]
            ]
            batches += [tuple(rows[i : i + o.batch_size]) for i in range(0, len(rows), o.batch_size)]
        return tuple(batches)

    def check_rows(self) -> None:
        """Refuse facts that do not fit a row before anything is trained.

        Raises:
            UsageError: naming the fact.
        """
        for taught in (taught for task in self.tasks for taught in task):
            for wording in range(trained_wordings(taught.fact)):
                statement_row(self.context, taught.fact, wording, self.options.row_tokens)

    # -- probes ---------------------------------------------------------------------------------------

    def probe_points(self, index: int) -> tuple[ProbePoint, ...]:
        """When what is asked; see the top of this file."""
        boundary = [ProbePoint(0, "inferred", "boundary"), ProbePoint(0, "known", "boundary")]
        whole = [ProbePoint(0, name, name) for name in ("ladder", "general")]
        if index < self.length - 1:
            return (*boundary, *(whole if index == 0 else ()))
        end = self.options.rest_steps
        points = [ProbePoint(0, "inferred", "boundary+log"), boundary[1], *whole]
        points += [ProbePoint(after, "inferred", "log") for after in log_spaced(end) if 0 < after < end]
        points += [ProbePoint(end, "inferred", "boundary+log"), replace(boundary[1], after=end)]
        return (*points, *(replace(point, after=end) for point in whole))

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """All probes by set."""
        inferred = self._probes(("question",))
        sets = {
            "inferred": inferred,
            "known": tuple(replace(p, id=f"{p.id}-known", task_known=True) for p in inferred),
            "ladder": self._probes(RUNGS),
            "general": general_probes(self.context, self.options.row_tokens),
        }
        check_lengths(self.context, sets)
        return sets

    def _probes(self, relations: tuple[Any, ...]) -> tuple[Probe, ...]:
        return tuple(
            fact_probe(
                self.context,
                asked,
                relation,
                twin_of=taught.fact if asked is taught.twin else None,
                wording=taught.place % trained_wordings(taught.fact),
                position=taught.task,
                group=taught.fact.attribute,
                task_label=taught.task,
            )
            for relation in relations
            for task in self.tasks
            for taught in task
            for asked in (taught.fact, taught.twin)
        )


def build(options: FreezeLoopsOptions, context: BuildContext) -> Stream:
    """The stream of one seed."""
    loops = _FreezeLoops(options, context)
    loops.check_rows()
    return Stream(loops.length, loops.experience, loops.probe_points, loops.probe_sets())


def outline(options: FreezeLoopsOptions) -> Outline:
    """Steps, tokens and probes, counted without making a document."""
    o = options
    steps = (o.tasks + 1) * o.general_steps + o.tasks * o.task_steps + o.rest_steps
    documents = ((o.tasks + 1) * o.general_rows + o.rest_steps * o.batch_size) * joined(o.row_tokens)
    per_sweep = 2 * o.tasks * o.facts_per_task
    boundaries = 2 * o.tasks + 3
    asked = per_sweep * (2 * boundaries + len(log_spaced(o.rest_steps)) - 2 + 3 * len(RUNGS))
    general = 3 * GENERAL_DOCUMENTS
    return Outline(
        steps=steps,
        train_tokens=steps * o.batch_size * o.row_tokens,
        probe_rows=asked + general,
        probe_tokens=asked * PROBE_TOKENS + general * o.row_tokens,
        loops=o.tasks,
        experiences=2 + 2 * o.tasks,
        longest_row=max(o.row_tokens, PROBE_TOKENS),
        documents=(documents, GENERAL_DOCUMENTS),
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
            version="1",
            summary="Each task is learned by one component, then all the others learn on; next task.",
            options=FreezeLoopsOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
        )
    ]
