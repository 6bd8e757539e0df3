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
  and at the end; ``rest_text``: rows of the rest itself, at both its ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqmem import BuildContext, Design, Outline, ScenarioSpec, Stream, hookimpl
from seqmem.streams import Repeat, Schedule, Segment, Size, ask, begin, finish, log, rest, start
from seqmem_scenarios.candidates import CANDIDATE_TOKENS, MAX_CANDIDATES, WHOLE
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_FORMS,
    PROBE_TOKENS,
    general_size,
    joined,
    rest_size,
)
from seqmem_scenarios.freeze_loops.options import FreezeLoopsOptions
from seqmem_scenarios.freeze_loops.tasks import Tasks

seqmem_api = ">=1,<2"


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
            ask("rest", "rest_text", begin("rest"), finish()),
        ],
    )


def build(options: FreezeLoopsOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    loops, times = Tasks(options, context), schedule(options)
    loops.check_rows()
    general = dict.fromkeys(("general", "after", "rest"), loops.general)
    make = {**general, "task": loops.task}
    probe_sets = loops.probe_sets(times.first("rest"))
    return times.stream(make, probe_sets, design=Design(recall="forced_choice"))


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
            "rest": rest_size(o.rest_steps, o.row_tokens),
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
            version="3",
            summary="Each task is learned by one component, then all the others learn on; next task.",
            options=FreezeLoopsOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
        )
    ]
