"""Time of the first table of a record of a million answers: every metric, then the table, in a fresh process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmem import Row, RunRecord
from seqmem.core.recipe import recipe_id
from seqmem.record.files import write_sealed
from seqmem.record.schema import FORMAT, ITEMS, RUN_FILE
from seqmem.record.writer import RecordWriter
from seqmem.scoring.comparison import tabulate
from seqmem.scoring.scores import failures, score_rows

if TYPE_CHECKING:
    from benchmarks.strategies.bar import Bar

ROWS = 1_000_000
SECONDS = 20.0
GIGABYTES = 2.0

LOOPS, CYCLES, FACTS = 20, 10, 50
PROSE, BLOCK = 2, 6
REST, EVEN, LOG = 960, 12, 16
FORMS = ("last_token", "last_word", "verbatim", "paraphrase", "question")


def write(folder: Path) -> int:
    """A record as a `memory_loops` run of 20 loops of 50 facts and as many twins leaves it; its probe rows.

    Recall halves in 400 steps and the log-probabilities go with it, with noise, so that no metric is spared its
    work by a curve without anything to find.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    names = [f"{loop}-{i}" for loop in range(LOOPS) for i in range(FACTS)]
    facts = [*names, *(f"{name}-twin" for name in names)]
    asked = {(form, "none"): [f"{fact}-{form}-none" for fact in facts] for form in FORMS}
    asked |= {("question", cue): [f"{fact}-question-{cue}" for fact in facts] for cue in ("own", "other")}
    loop_of = np.tile(np.repeat(np.arange(LOOPS), FACTS), 2)
    items: dict[str, list[Any]] = {name: [] for name in ITEMS.names}
    for (form, cue), probes in asked.items():
        items["probe"] += probes
        items["fact"] += facts
        items["twin_of"] += [None] * len(names) + names
        items["relation"] += [form] * len(facts)
        items["cue"] += [cue] * len(facts)
        items["task_label"] += loop_of.tolist()
        items["prompt"] += [f"Q: Where does the person number {i} live now? A:" for i in range(len(facts))]
        items["answer"] += [" a town by the sea"] * len(facts)
        items["chance"] += [1 / 64] * len(facts)
        items["choices"] += [["a", "b", "c", "d"]] * len(facts)
        items["group"] += [""] * len(facts)
        items["position"] += [None] * len(facts)
        items["context"] += [0] * len(facts)
        items["task_known"] += [False] * len(facts)
    writer = RecordWriter(folder)
    writer.write_items(items)

    visits = [(cycle * LOOPS + loop, loop, cycle) for cycle in range(CYCLES) for loop in range(LOOPS)]
    length = PROSE + BLOCK
    end = length * len(visits)
    trained_at = np.full(2 * len(names), -np.inf)
    rows = 0

    def ask(step: int, experience: int, after: int, schedule: str, form: str, cue: str, margin: bool) -> None:
        nonlocal rows
        age = step - trained_at
        chance = np.where(np.isfinite(age), 0.5 ** (age / 400), 0.0) * (np.arange(len(facts)) < len(names))
        logprob = -8 + 6 * chance + random.normal(0, 0.5, len(facts))
        correct = random.random(len(facts)) < chance
        nothing = [None] * len(facts)
        writer.add(
            "probes",
            step=[step] * len(facts),
            experience=[experience] * len(facts),
            after=[after] * len(facts),
            schedule=[schedule.split("+")] * len(facts),
            probe=asked[form, cue],
            logprob=logprob.tolist(),
            tokens=[4] * len(facts),
            correct=correct.tolist(),
            best_other=random.normal(-6, 0.5, len(facts)).tolist() if margin else nothing,
            rank=nothing,
            choice=nothing,
            in_form=nothing,
            closed=nothing,
            sampled=nothing,
            said=[None if right else " a town" for right in correct.tolist()],
        )
        rows += len(facts)

    def in_all_forms(step: int, experience: int, after: int) -> None:
        for form, cue in asked:
            ask(step, experience, after, "ladder", form, cue, False)

    writer.add(
        "experiences",
        experience=[*range(len(visits) + 1)],
        name=[*(f"loop {loop} visit {cycle}" for _, loop, cycle in visits), "rest unrelated"],
        phase=[*["loop"] * len(visits), "rest"],
        task_label=[*(loop for _, loop, _ in visits), None],
        first_step=[*(length * i for i, *_ in visits), end],
        steps=[*[length] * len(visits), REST],
        trains=["all"] * (len(visits) + 1),
        start_from=[None] * (len(visits) + 1),
        save_as=[None] * (len(visits) + 1),
    )
    for i, loop, cycle in visits:
        start = i * length
        ask(start, i, 0, "boundary", "question", "none", False)
        if i == 0:
            in_all_forms(0, 0, 0)
        if cycle:
            ask(start + PROSE, i, PROSE, "inside", "question", "none", False)
        stated = [fact for fact, own in zip(names, loop_of, strict=False) if own == loop]
        writer.add(
            "exposures",
            step=[start + PROSE + 1 + k for k in range(BLOCK) for _ in stated],
            fact=stated * BLOCK,
            count=[1] * len(stated) * BLOCK,
            rehearsed=[0] * len(stated) * BLOCK,
        )
        trained_at[: len(names)][loop_of[: len(names)] == loop] = start + length
        if i % 10 == 9:
            writer.flush()
    log = set(np.unique(np.geomspace(1, REST, LOG).astype(int)).tolist())
    even = set(range(0, REST + 1, EVEN))
    for after in sorted(even | log):
        schedules = (
            ["boundary"] * (after in (0, REST)) + ["even"] * (after in even) + ["log"] * (after in log)
        )
        ask(end + after, len(visits), after, "+".join(schedules), "question", "none", after in even)
        if after in (0, REST):
            in_all_forms(end + after, len(visits), after)
    for at in range(-(-(ROWS - rows) // len(facts))):  # as many more as make up the million
        ask(end + at, len(visits), at, "more", "question", "none", False)
    steps = end + REST
    writer.add(
        "steps",
        step=[*range(1, steps + 1)],
        experience=[*np.repeat(np.arange(len(visits)), length).tolist(), *[len(visits)] * REST],
        loss=[1.0] * steps,
        penalty=[0.0] * steps,
        grad_norm=[1.0] * steps,
        lr=[0.001] * steps,
        tokens=[900] * steps,
        targets=[890] * steps,
        rehearsed=[0] * steps,
    )
    writer.flush()
    recipe = {
        "seed": 0,
        "scenario": {"name": "memory_loops", "options": {}},
        "model": {"parameters": 1_000_000},
    }
    stated_bytes = {"extra_state_bytes": 0, "parameter_bytes": 4_000_000}
    run = {
        "format": FORMAT,
        "id": recipe_id(recipe),
        "files": writer.files,
        "recipe": recipe,
        "status": "finished",
        "primary_relation": "question",
    }
    write_sealed(folder / RUN_FILE, {**run, **stated_bytes})
    return rows


def table(folder: Path) -> dict[str, Any]:
    """Score a record and make its table.

    Returns:
        `seconds` of it and the processor's among them (`busy`), `gigabytes` at its peak, imports and the record's
        reading included, and the `failures`.
    """
    from seqmem.plugin.registry import Registry
    from seqmem.scoring.tables import load_metrics

    started, busy = time.perf_counter(), time.process_time()
    run = RunRecord.open(folder)
    row = Row("naive", {"scenario": "memory_loops", "model": "tiny", "strategy": "naive"}, {0: run})
    metrics, unreadable = load_metrics(Registry.from_environment(autoload=False))
    scores = score_rows([row], metrics)
    tabulate([row], metrics, {"memory_loops": "retention"}, scores)
    return {
        "seconds": time.perf_counter() - started,
        "busy": time.process_time() - busy,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "failures": [*unreadable, *failures(scores)],
    }


def measured() -> dict[str, Any]:
    """Figures of `table` from a process of its own, and the `rows` of the record."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        rows = write(record)
        command = [sys.executable, "-m", "benchmarks.metrics", str(record)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {**json.loads(done.stdout), "rows": rows}


def bars() -> Sequence[Bar]:
    """The first table of a record of a million answers.

    Raises:
        RuntimeError: a metric fails on it, so the figures are not those of all metrics.
    """
    from benchmarks.strategies.bar import Bar

    found = measured()
    if found["failures"]:
        raise RuntimeError("; ".join(found["failures"]))
    note = f"{found['rows']:,} probe rows, one run, no controls; {found['busy']:.1f} s of the processor"
    return [
        Bar("metrics: first table, s", found["seconds"], SECONDS, note=note),
        Bar("metrics: first table, peak GB", found["gigabytes"], GIGABYTES, note=note),
    ]


if __name__ == "__main__":
    print(json.dumps(table(Path(sys.argv[1]))))
