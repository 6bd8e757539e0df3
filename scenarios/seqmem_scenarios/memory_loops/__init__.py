"""`memory_loops`: K loops of documents are visited in order for C cycles, each with a memory, then comes rest.

A visit to loop k trains the loop's own prose and, at a chosen place among it, its memory: rows that state its
facts, one fact a row, each time in another wording. After the last cycle (and a new loop, where one is asked
for) the learner rests on text that holds none of the facts. The schedules:

* ``boundary``: every fact and twin in the primary probe form, before every experience and after the last;
* ``inside``: the same inside later visits, after the loop's prose and before its memory: is the memory there
  again in its own place?
* ``even`` and ``log``: the same over the rest, evenly and log-spaced;
* ``ladder``: every probe form and cue, and ``general``: held-out background text; at the start, when the loops
  are done, and at the end;
* ``rest_text``: rows of the unrelated rest itself, at both its ends: is the rest learned?

Recall is by forced choice: the right answer must be more probable than every other candidate, and candidates are
values that the loops train for other subjects (see `seqmem_scenarios.candidates`); in `conflict`, every loop's own
answer. A greedy answer that is exactly right is kept beside it.

With `relearn` the learner is kept as the rest leaves it. For each loop a branch returns to it and trains the
memory's rows of the loop's first visit again, in the same order; a last branch trains as many facts that were
never trained, to measure learning without a memory. ``learning`` asks a loop's own facts before and
after every memory step, on the branches and in first visits.

With `facts_per_loop` 0 and background documents as loops this is the cyclic training of Yang et al. 2024
("Reawakening knowledge", arXiv 2403.09613): preset `anticipatory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqmem import BuildContext, Design, Outline, ScenarioSpec, Stream, hookimpl
from seqmem_scenarios.common import GENERAL_DOCUMENTS, PROBE_TOKENS, spare
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions
from seqmem_scenarios.memory_loops.probes import Probes, sizes
from seqmem_scenarios.memory_loops.rows import Rows
from seqmem_scenarios.memory_loops.timetable import schedule

seqmem_api = ">=1,<2"


def build(options: MemoryLoopsOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    rows = Rows(options, context)
    rows.check_rows()
    design = Design(
        recall="forced_choice" if options.facts_per_loop else "exact_match",
        added_loops=(options.loops,) * options.new_loop,
        choice_labels={f"loop {k}": k for k in range(options.all_loops)}
        if options.variant == "conflict"
        else {},
    )
    times = schedule(options, context.seed)
    return times.stream(rows.makers, Probes(rows).probe_sets(), design=design)


def outline(options: MemoryLoopsOptions) -> Outline:
    """Return steps, tokens and probes, counted without making a document."""
    o, times = options, schedule(options)
    further = spare(o.rest_text, o.rest_documents)
    return times.outline(
        sizes(o),
        train_tokens=times.steps * o.batch_size * o.row_tokens,
        longest_row=o.row_tokens + (PROBE_TOKENS if o.facts_per_loop else 0),
        documents=(o.documents + further, GENERAL_DOCUMENTS),
        primary=_primary(o),
        primary_relation=o.asked_as if o.facts_per_loop else "general",
    )


def _primary(options: MemoryLoopsOptions) -> str:
    if options.relearn:
        return "relearning_savings"
    return "retention" if options.facts_per_loop else "recovery"


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "loops": 2,
        "cycles": 2,
        "facts_per_loop": 4,
        "exposures": 2,
        "batch_size": 4,
        "rest_steps": 6,
        "even_every": 2,
    },
    "default": {},
    "paper": {
        "loops": 8,
        "cycles": 8,
        "facts_per_loop": 16,
        "batch_size": 16,
        "row_tokens": 128,
        "rest_steps": 500,
        "even_every": 10,
    },
    "anticipatory": {
        "loops": 25,
        "cycles": 5,
        "facts_per_loop": 0,
        "prose_steps": 1,
        "insert_at": 0,
        "loop_text": "background",
        "repeats": 10,
        "batch_size": 1,
        "row_tokens": 256,
        "rest": "none",
    },
    "relearn": {"cycles": 1, "exposures": 24, "relearn": True},
    "pretrained": {
        "loops": 3,
        "cycles": 3,
        "facts_per_loop": 10,
        "batch_size": 10,
        "rest_steps": 16,
        "asked_as": "verbatim",
    },
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {
    "default": {"name": "adam", "lr": 1e-3},
    "anticipatory": {"name": "sgd", "lr": 1e-3},
    "pretrained": {"name": "adam", "lr": 1e-4},
}

RATES: Mapping[str, float] = {"sgd": 0.3}
"""Without momentum .1 learns half of the facts and .5 diverges now and then, both on `tiny`."""


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="memory_loops",
            version="4",
            summary="Loops of documents, each with a memory, visited in cycles; then rest.",
            options=MemoryLoopsOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            rates=RATES,
            outline=outline,
            build=build,
            controls={"shuffled": {"order": "shuffled"}},
            further_controls={"plain_rest": {"rest_text": "plain"}},
            citation="Yang et al. 2024, Reawakening knowledge, arXiv 2403.09613 (preset anticipatory)",
        )
    ]
