"""Records of a synthetic learner with a known memory, for metrics, leaderboards and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from seqmem.core.recipe import recipe_id
from seqmem.record.compact import compact_of
from seqmem.record.files import Proof, file_sha256, write_sealed, write_table
from seqmem.record.reader import RunRecord
from seqmem.record.schema import FORMAT, ITEMS, PROVEN
from seqmem.record.writer import RecordWriter

RELATIONS = ("last_token", "last_word", "verbatim", "paraphrase", "question")
PRIMARY = "question"


@dataclass(frozen=True)
class Ask:
    """A question to the synthetic learner, and everything it may know."""

    fact: str
    twin: bool
    loop: int
    number: int  # of the fact inside its loop
    relation: str
    cue: str
    step: int
    schedule: str
    seen: int  # ended visits to the fact's loop
    age: int  # steps since the last of them ended
    age_visits: int  # experiences ended since
    current: int | None  # loop being visited, inside a visit
    trained_last: int | None  # loop of the last ended visit
    rest_step: int | None  # steps since the loops ended


@dataclass(frozen=True)
class Answer:
    """An answer of the synthetic learner."""

    correct: bool = False
    loss: float = 1.0  # nats per token, two tokens
    best_other: float | None = None
    choice: int | None = None
    in_form: bool | None = None


Learner = Callable[[Ask, np.random.Generator], Answer]


@dataclass(frozen=True)
class Layout:
    """The stream; a visit is `prose` steps and then `block` steps that state the loop's facts."""

    loops: int = 4
    cycles: int = 5
    facts: int = 8
    prose: int = 4
    block: int = 6
    rest: int = 200
    even: int = 40
    shuffled: bool = False
    documents: bool = False  # preset anticipatory
    conflict: bool = False
    added_loop: bool = False  # loop K is visited once a cycle in the last two cycles
    rehearsed: int = 0  # facts per loop stated at every rest step, as `replay` does
    joint: bool = False  # every fact at every step, no loop visited on its own
    label: Mapping[str, Any] = field(default_factory=dict)


def on_schedules(asked: Iterable[tuple[str, ...]]) -> pd.Categorical:
    """The column `schedule` of `RunRecord.probes`."""
    rows = list(asked)
    known = list(dict.fromkeys(rows))
    return pd.Categorical.from_codes(
        [known.index(names) for names in rows], pd.Index(known, tupleize_cols=False)
    )


def visits_of(layout: Layout, seed: int) -> list[int]:
    random = np.random.default_rng(seed)
    order: list[int] = []
    for cycle in range(layout.cycles):
        loops = list(range(layout.loops))
        if layout.added_loop and cycle >= layout.cycles - 2:
            loops.append(layout.loops)
        order += [int(loop) for loop in random.permutation(loops)] if layout.shuffled else loops
    return order


def write_record(
    folder: Path,
    learner: Learner,
    layout: Layout = Layout(),
    *,
    seed: int = 0,
    info: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Write and open the record of one run."""
    folder.mkdir(parents=True)
    random = np.random.default_rng([seed, int(layout.shuffled), 7])
    order = visits_of(layout, seed)
    length = layout.prose + layout.block
    names = [(loop, "loop", length) for loop in order] + (
        [(None, "rest", layout.rest)] if layout.rest else []
    )
    starts = np.concatenate([[0], np.cumsum([steps for *_, steps in names])]).astype(int)
    loops_end, end = length * len(order), int(starts[-1])

    def name_of(i: int) -> str:
        loop = names[i][0]
        if loop is None:
            return "rest unrelated"
        new = ", new" if loop == layout.loops else ""
        return f"loop {loop} visit {order[:i].count(loop)}{new}"

    writer = RecordWriter(folder)
    writer.add(
        "experiences",
        experience=list(range(len(names))),
        name=[name_of(i) for i in range(len(names))],
        phase=["general" if layout.joint and phase == "loop" else phase for _, phase, _ in names],
        task_label=[None if layout.joint else loop for loop, *_ in names],
        first_step=[int(start) for start in starts[:-1]],
        steps=[steps for *_, steps in names],
        trains=["all"] * len(names),
        start_from=[None] * len(names),
        save_as=[None] * len(names),
    )

    loops = layout.loops + int(layout.added_loop)
    facts = [
        (f"{kind}{loop}.{number}", f"f{loop}.{number}" if kind == "t" else None, loop, number)
        for kind in ("f" if layout.documents else "ft")
        for loop in range(loops)
        for number in range(layout.facts)
    ]
    primary = "general" if layout.documents else PRIMARY
    items: dict[str, list[Any]] = {name: [] for name in ITEMS.names}

    def add_item(fact: str, twin_of: str | None, loop: int | None, relation: str, cue: str) -> str:
        probe = f"{fact}/{relation}/{cue}"
        choices = [f"loop {k}" for k in range(loops)] if layout.conflict else ["a", "b"]
        row = (
            probe,
            fact,
            twin_of,
            relation,
            cue,
            loop,
            "prompt",
            "answer",
            0.01,
            choices,
            "",
            None,
            0,
            False,
        )
        for name, value in zip(ITEMS.names, row, strict=True):
            items[name].append(value)
        return probe

    every_form = [(primary, "none")]
    if not layout.documents:
        every_form = [(relation, cue) for relation in RELATIONS for cue in ("none", "own", "other")]
    probe_of = {
        (fact, relation, cue): add_item(fact, twin_of, loop, relation, cue)
        for fact, twin_of, loop, _ in facts
        for relation, cue in every_form
    }
    held_out = (
        [] if layout.documents else [add_item(f"doc{i}", None, None, "general", "none") for i in range(3)]
    )
    write_table(folder / "items.parquet", items, ITEMS)

    ends = np.array([(i + 1) * length for i in range(len(order))])

    def ask(
        step: int, experience: int, after: int, schedule: str, *, forms: list[tuple[str, str]], twins: bool
    ) -> None:
        rows: dict[str, list[Any]] = {
            name: [] for name in ("probe", "logprob", "correct", "best_other", "choice", "in_form")
        }
        ended = int((ends <= step).sum())
        current = order[ended] if step < loops_end and after > 0 else None
        for fact, twin_of, loop, number in facts:
            if twin_of is not None and not twins:
                continue
            mine = [i for i in range(ended) if order[i] == loop]
            for relation, cue in forms:
                reply = learner(
                    Ask(
                        fact=fact,
                        twin=twin_of is not None,
                        loop=loop,
                        number=number,
                        relation=relation,
                        cue=cue,
                        step=step,
                        schedule=schedule,
                        seen=len(mine),
                        age=step - int(ends[mine[-1]]) if mine else step,
                        age_visits=ended - mine[-1] - 1 if mine else ended,
                        current=current,
                        trained_last=order[ended - 1] if ended else None,
                        rest_step=step - loops_end if step >= loops_end else None,
                    ),
                    random,
                )
                rows["probe"].append(probe_of[fact, relation, cue])
                rows["logprob"].append(-2 * reply.loss)
                rows["correct"].append(reply.correct)
                rows["best_other"].append(reply.best_other)
                rows["choice"].append(reply.choice)
                rows["in_form"].append(reply.in_form)
        add_rows(step, experience, after, schedule, rows, tokens=2)

    def add_rows(
        step: int, experience: int, after: int, schedule: str, rows: dict[str, list[Any]], tokens: int
    ) -> None:
        n = len(rows["probe"])
        fixed = {
            "step": step,
            "experience": experience,
            "after": after,
            "schedule": (schedule,),
            "tokens": tokens,
        }
        unknown = {name: [None] * n for name in ("rank", "closed", "sampled", "said")}
        writer.add("probes", **{name: [value] * n for name, value in fixed.items()}, **rows, **unknown)

    def ask_general(step: int, experience: int, after: int) -> None:
        n = len(held_out)
        rows = {
            "probe": held_out,
            "logprob": [-10.0 * (2 + 0.001 * step)] * n,
            "correct": [False] * n,
            "best_other": [None] * n,
            "choice": [None] * n,
            "in_form": [None] * n,
        }
        add_rows(step, experience, after, "general", rows, tokens=10)

    plain = [(primary, "none")]
    for i, (loop, phase, steps) in enumerate(names):
        start = int(starts[i])
        marks = start in (0, loops_end) and not layout.documents
        ask(start, i, 0, "boundary", forms=plain, twins=True)
        if marks:
            ask(start, i, 0, "ladder", forms=every_form, twins=True)
            ask_general(start, i, 0)
        if phase == "loop" and start >= layout.loops * length and not layout.documents:
            ask(start + layout.prose, i, layout.prose, "inside", forms=plain, twins=False)
        if phase == "rest" and not layout.documents:
            for after in np.unique(np.linspace(0, steps, layout.even + 1).astype(int))[1:]:
                ask(start + int(after), i, int(after), "even", forms=plain, twins=True)
            for after in np.unique(np.geomspace(1, steps, 12).astype(int)):
                ask(start + int(after), i, int(after), "log", forms=plain, twins=False)
        if not layout.documents:
            trained = [(fact, of, number) for fact, twin_of, of, number in facts if twin_of is None]
            first, mine = start + layout.prose + 1, [fact for fact, of, _ in trained if of == loop]
            if loop is None:
                first, mine = start + 1, [fact for fact, _, number in trained if number < layout.rehearsed]
            if layout.joint:
                first, mine = start + 1, [fact for fact, *_ in trained]
            states = range(first, start + steps + 1)
            writer.add(
                "exposures",
                step=[step for step in states for _ in mine],
                fact=mine * len(states),
                count=[1] * len(mine) * len(states),
                rehearsed=[int(loop is None)] * len(mine) * len(states),
            )
    last = len(names) - 1
    ask(end, last, names[last][2], "boundary", forms=plain, twins=True)
    if not layout.documents:
        ask_general(end, last, names[last][2])
    writer.add(
        "steps",
        step=list(range(1, end + 1)),
        experience=[i for i, (*_, steps) in enumerate(names) for _ in range(steps)],
        loss=[1.0] * end,
        penalty=[0.0] * end,
        grad_norm=[1.0] * end,
        lr=[0.1] * end,
        tokens=[100] * end,
        targets=[90] * end,
        rehearsed=[0] * end,
    )
    writer.flush()
    stated = {
        "format": FORMAT,
        "recipe": {"seed": seed},
        "status": "finished",
        "primary_relation": primary,
        "design": {
            "added_loops": [layout.loops] * layout.added_loop,
            "choice_labels": {f"loop {k}": k for k in range(loops)} if layout.conflict else {},
        },
        "extra_state_bytes": 300,
        "parameter_bytes": 100,
    }
    return seal_record(folder, {**stated, **(info or {})})


def seal_record(folder: Path, info: Mapping[str, Any]) -> RunRecord:
    """Write run.json as a run does: with the hash of the recipe as its id, what proves the tables, and its own hash."""
    paths = [*folder.glob("*.parquet"), *folder.glob("*/part-*.parquet")]
    files = {
        path.relative_to(folder).as_posix(): Proof(
            rows=pq.read_metadata(path).num_rows, sha256=file_sha256(path)
        )
        for path in paths
    }
    stated = {"files": files} if info["format"] >= PROVEN else {}
    write_sealed(folder / "run.json", {**info, **stated, "id": recipe_id(info["recipe"])})
    return RunRecord.open(folder)


def write_compact(record: RunRecord, home: Path) -> Path:
    """Put a compact record into a folder, its items beside it."""
    compact = compact_of(record)
    folder = home / compact.name
    folder.mkdir(parents=True)
    (home / compact.items[0]).write_bytes(compact.items[1])
    for name, content in compact.files.items():
        (folder / name).write_bytes(content)
    return folder
