"""What several metrics read from a record: visits, recall by loop, losses at visit boundaries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmem import RunRecord, Value

Asked = ParamSpec("Asked")
Found = TypeVar("Found")

ANSWER = (
    *("step", "experience", "schedule", "probe", "fact", "twin_of", "task_label"),
    *("correct", "logprob", "tokens", "best_other", "choice", "choices"),
)
"""What metrics read of an answer."""
_KEPT_ROWS = 20_000
"""Rows up to which a table is kept: beyond, making it again costs less than holding it."""


class Missing(Exception):
    """A metric cannot be had from this record; the text is the reason shown to the user."""


def attempt(measure: Callable[[], Value]) -> Value:
    """The measure's value, or None with the reason it gave."""
    try:
        return measure()
    except Missing as missing:
        return Value(None, reason=str(missing))


def once_per_run(
    read: Callable[Concatenate[RunRecord, Asked], Found],
) -> Callable[Concatenate[RunRecord, Asked], Found]:
    """Keep what a pure function reads from a record for as long as the record lives.

    Two dozen metrics ask a record the same few things. A table is handed out as a copy that shares its data, so
    that a caller may add columns.
    """
    by_run: WeakKeyDictionary[RunRecord, dict[Any, Any]] = WeakKeyDictionary()

    @wraps(read)
    def from_memory(run: RunRecord, /, *args: Asked.args, **named: Asked.kwargs) -> Found:
        known = by_run.setdefault(run, {})
        key = (args, *sorted(named.items()))
        if key not in known:
            try:
                found: Found | Missing = read(run, *args, **named)
            except Missing as missing:
                found = Missing(*missing.args)  # the one raised holds the record, by its traceback
            if isinstance(found, pd.DataFrame | pd.Series) and len(found) > _KEPT_ROWS:
                return found
            known[key] = found
        found = known[key]
        if isinstance(found, Missing):
            raise Missing(*found.args)
        return found.copy(deep=False) if isinstance(found, pd.DataFrame | pd.Series) else found

    return from_memory


def control(controls: Mapping[str, RunRecord], name: str) -> RunRecord:
    """The control run `name` of the same strategy and seed."""
    if name not in controls:
        raise Missing(f"needs the control {name!r}, which was not run")
    return controls[name]


@once_per_run
def stream_experiences(run: RunRecord) -> pd.DataFrame:
    """Experiences of the stream itself; branches from the learner as a rest left it are not part of it.

    Such a branch asks what learning again takes, after the T of the definitions: nothing in it moves T, and no
    visit in it is one of the stream's.
    """
    table = run.experiences
    rested = table.loc[(table["phase"] == "rest") & table["save_as"].notna(), "save_as"]
    branches = table["start_from"].isin(rested).to_numpy()
    return table.iloc[: branches.argmax()] if branches.any() else table


@once_per_run
def stream_answers(
    run: RunRecord,
    /,
    schedule: str | None = None,
    relation: str | None = None,
    *,
    cue: str = "none",
    twins: bool = False,
) -> pd.DataFrame:
    """`RunRecord.asked` without what was asked on branches after the rest; columns as `ANSWER`."""
    rows = run.asked(schedule=schedule, relation=relation, cue=cue, twins=twins, columns=ANSWER)
    experiences = stream_experiences(run)
    if len(experiences) == len(run.experiences):
        return rows
    return rows[rows["experience"].isin(experiences["experience"])]


@once_per_run
def stream_exposures(run: RunRecord) -> pd.DataFrame:
    """Statements of facts in the stream, those on branches after the rest left out."""
    return run.exposures[run.exposures["step"] <= stream_end(run)]


@once_per_run
def loop_visits(run: RunRecord) -> pd.DataFrame:
    """Visits to loops, or tasks, in their order: loop, visit (from 0, per loop), start, end (steps done), name."""
    table = stream_experiences(run)
    rows = table[table["phase"].isin(["loop", "task"]) & table["task_label"].notna()]
    if rows.empty:
        raise Missing("no loop is visited on its own in this stream")
    return pd.DataFrame(
        {
            "loop": rows["task_label"].astype(int).to_numpy(),
            "visit": rows["visit"].astype(int).to_numpy(),
            "start": rows["first_step"].astype(int).to_numpy(),
            "end": (rows["first_step"] + rows["steps"]).astype(int).to_numpy(),
            "name": rows["name"].to_numpy(),
        }
    )


@once_per_run
def loops_end(run: RunRecord) -> int:
    """Steps done when the rest began: the end of the last experience of another phase.

    Under `joint` what comes before the rest is no loop any more (phase ``general``), but it ends at the same
    step, and recall over the rest can be compared with that of the other strategies.
    """
    table = stream_experiences(run)
    before = table[table["phase"] != "rest"]
    if before.empty:
        raise Missing("the stream is nothing but rest")
    return int((before["first_step"] + before["steps"]).max())


@once_per_run
def stream_end(run: RunRecord) -> int:
    """Steps done when the stream ended: the T of the definitions. Branches after the rest do not move it."""
    table = stream_experiences(run)
    if table.empty:
        raise Missing("no experience was run")
    return int((table["first_step"] + table["steps"]).max())


def rest_steps(run: RunRecord) -> int:
    """Steps between the end of the loops and the end of the stream."""
    steps = stream_end(run) - loops_end(run)
    if steps == 0:
        raise Missing("the stream has no rest phase")
    return steps


@once_per_run
def answers(
    run: RunRecord, schedule: str | None = "boundary", *, cue: str = "none", twins: bool = False
) -> pd.DataFrame:
    """Rows of the primary rung for one schedule, with `loss` = nats per answer token."""
    rows = stream_answers(run, schedule, cue=cue, twins=twins)
    if rows.empty:
        what = "twins" if twins else "facts"
        raise Missing(f"no probe of {what} on the schedule {schedule!r} with cue {cue!r}")
    return rows.assign(loss=-rows["logprob"] / rows["tokens"])


def questions(
    run: RunRecord, schedule: str | None = "boundary", *, cue: str = "none", twins: bool = False
) -> pd.DataFrame:
    """As `answers`, refusing records whose probes are documents, which nobody can answer rightly."""
    if run.info["primary_relation"] == "general":
        raise Missing("the probes are documents, not questions: recall is not defined")
    return answers(run, schedule, cue=cue, twins=twins)


@once_per_run
def recall_by_loop(run: RunRecord) -> pd.DataFrame:
    """a_lj: share of loop j's trained facts answered rightly; rows are steps of boundaries, columns loops."""
    rows = questions(run)
    table = rows.pivot_table(index="step", columns="task_label", values="correct", aggfunc="mean")
    if table.empty:
        raise Missing("no probed fact belongs to a loop")
    return table.rename(columns=int)


@once_per_run
def facts_probed(run: RunRecord) -> int:
    """Distinct facts behind recall at boundaries: those of a loop, which never-trained ones are not."""
    rows = questions(run)
    return int(rows.loc[rows["task_label"].notna(), "fact"].nunique())


def at_step(table: pd.DataFrame, step: int) -> pd.Series:
    """One row of a table by step."""
    if step not in table.index:
        raise Missing(f"no boundary probe at step {step}")
    return table[table.index == step].iloc[0]


def loops_of(recall: pd.DataFrame) -> list[int]:
    """Loops a recall table has columns for."""
    return [int(loop) for loop in recall.columns.to_numpy()]


def after_last_visits(run: RunRecord, recall: pd.DataFrame) -> pd.Series:
    """a_jj: recall of each loop's facts right after its own last visit, by loop."""
    last = loop_visits(run).groupby("loop")["end"].max()
    missing = sorted(set(recall.columns) - set(last.index))
    if missing:
        raise Missing(f"loop {missing[0]} is never visited on its own")
    own = {loop: at_step(recall, int(last[loop]))[loop] for loop in loops_of(recall)}
    return pd.Series(own, dtype=float)


def earlier_loops(run: RunRecord, recall: pd.DataFrame) -> list[int]:
    """Loops whose last visit ended before the stream did: the j < T of the definitions."""
    last = loop_visits(run).groupby("loop")["end"].max()
    end = stream_end(run)
    early = [loop for loop in loops_of(recall) if int(last.get(loop, end)) < end]
    if not early:
        raise Missing("no loop was followed by other training")
    return early


@once_per_run
def trained_in_rest(run: RunRecord) -> frozenset[str]:
    """Facts stated in a training row after the loops ended: what they show in the rest is not left to itself."""
    stated = stream_exposures(run)
    return frozenset(stated.loc[stated["step"] > loops_end(run), "fact"])


_LOOP = "loop "
_OF_LOOP = re.compile(_LOOP + r"\d+")


def loops_named(choices: object) -> list[int]:
    """Loops whose answers these choices are, as variant `conflict` of `memory_loops` names them; else none."""
    names = [str(name) for name in choices] if isinstance(choices, list | tuple | np.ndarray) else []
    if len(names) < 2 or not all(map(_OF_LOOP.fullmatch, names)):
        return []
    return [int(name.removeprefix(_LOOP)) for name in names]


@once_per_run
def own_statements(run: RunRecord) -> pd.DataFrame:
    """Statements of facts in the stream that give the answer the fact is asked for; columns as `exposures`.

    All of them, but where every loop has an answer of its own to the same question (variant `conflict`). There a
    statement in another loop's visit gives that loop's answer, and a rehearsed one whichever it was stored with.
    """
    stated = stream_exposures(run)
    of_loops = run.items["choices"].map(loops_named).map(bool)
    loops = run.items[of_loops & run.items["twin_of"].isna()].drop_duplicates("fact")
    if loops.empty:
        return stated
    asked = stated["fact"].map(loops.set_index("fact")["task_label"])
    table = stream_experiences(run)
    # an exposure at step s, counted once done, was trained by the last experience that began before s
    place = table["first_step"].to_numpy().searchsorted(stated["step"].to_numpy()) - 1
    visited = pd.Series(table["task_label"].to_numpy()[place], index=stated.index)
    elsewhere = asked.notna() & visited.notna() & (visited != asked)
    rehearsed = asked.notna() & (stated["count"] == stated["rehearsed"])
    return stated[~(elsewhere | rehearsed)]


@once_per_run
def first_exposures(run: RunRecord) -> pd.Series:
    """Step of each fact's first statement in a trained row, by fact; of `own_statements` alone."""
    return own_statements(run).groupby("fact")["step"].min()


def first_run(right: npt.NDArray[np.bool_], length: int) -> int | None:
    """Where the first `length` True values in a row begin; None where there is no such run."""
    for start in range(len(right) - length + 1):
        if right[start : start + length].all():
            return start
    return None


def since_visit(run: RunRecord, rows: pd.DataFrame) -> pd.DataFrame:
    """Add, per probe row, how often its loop had been trained with the fact, and how long ago.

    `seen` counts ended visits of the fact's own loop that came no earlier than its first statement;
    `lag` is steps since the last of them. Counting visits, not exposures, treats strategies that rehearse
    alike. Rows before the first such visit are dropped.
    """
    visits = loop_visits(run)
    loops, ends = visits["loop"].to_numpy(), visits["end"].to_numpy()
    label, step = rows["task_label"].to_numpy(), rows["step"].to_numpy()
    first = rows["fact"].map(first_exposures(run)).to_numpy(dtype=float)
    seen, last = np.zeros((2, len(rows)), dtype=int)
    for loop in np.unique(loops):
        own, done_at = label == loop, ends[loops == loop]
        done = done_at.searchsorted(step[own], side="right")
        seen[own] = done - done_at.searchsorted(first[own], side="left")
        last[own] = done_at[np.maximum(done, 1) - 1]
    found = rows.assign(seen=seen, lag=step - last)[seen > 0]
    if found.empty:
        raise Missing("no fact was asked after it had been trained")
    return found
