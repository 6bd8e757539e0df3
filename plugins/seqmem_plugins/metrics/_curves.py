"""What several metrics read from a record: visits, recall by loop, losses at visit boundaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from seqmem import RunRecord, Value


class Missing(Exception):
    """A metric cannot be had from this record; the text is the reason shown to the user."""


def attempt(measure: Callable[[], Value]) -> Value:
    """The measure's value, or None with the reason it gave."""
    try:
        return measure()
    except Missing as missing:
        return Value(None, reason=str(missing))


def control(controls: Mapping[str, RunRecord], name: str) -> RunRecord:
    """The control run `name` of the same strategy and seed."""
    if name not in controls:
        raise Missing(f"needs the control {name!r}, which was not run")
    return controls[name]


def stream_experiences(run: RunRecord) -> pd.DataFrame:
    """Experiences of the stream itself; branches from the learner as a rest left it are not part of it.

    Such a branch asks what learning again takes, after the T of the definitions: nothing in it moves T, and no
    visit in it is one of the stream's.
    """
    table = run.experiences
    rested = table.loc[(table["phase"] == "rest") & table["save_as"].notna(), "save_as"]
    branches = table["start_from"].isin(rested).to_numpy()
    return table.iloc[: branches.argmax()] if branches.any() else table


def stream_answers(
    run: RunRecord, schedule: str | None = None, relation: str | None = None, **asked: Any
) -> pd.DataFrame:
    """`RunRecord.asked` without what was asked on branches after the rest."""
    rows = run.asked(schedule=schedule, relation=relation, **asked)
    experiences = stream_experiences(run)
    if len(experiences) == len(run.experiences):
        return rows
    return rows[rows["experience"].isin(experiences["experience"])]


def stream_exposures(run: RunRecord) -> pd.DataFrame:
    """Statements of facts in the stream, those on branches after the rest left out."""
    return run.exposures[run.exposures["step"] <= stream_end(run)]


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


def recall_by_loop(run: RunRecord) -> pd.DataFrame:
    """a_lj: share of loop j's trained facts answered rightly; rows are steps of boundaries, columns loops."""
    rows = questions(run)
    table = rows.pivot_table(index="step", columns="task_label", values="correct", aggfunc="mean")
    if table.empty:
        raise Missing("no probed fact belongs to a loop")
    return table.rename(columns=int)


def facts_probed(run: RunRecord) -> int:
    """Distinct trained facts behind recall at boundaries."""
    return int(questions(run)["fact"].nunique())


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


def first_exposures(run: RunRecord) -> pd.Series:
    """Step of each fact's first statement in a trained row, by fact."""
    return stream_exposures(run).groupby("fact")["step"].min()


def since_visit(run: RunRecord, rows: pd.DataFrame) -> pd.DataFrame:
    """Add, per probe row, how often its loop had been trained with the fact, and how long ago.

    `seen` counts ended visits of the fact's own loop that came no earlier than its first statement;
    `lag` is steps since the last of them. Counting visits, not exposures, treats strategies that rehearse
    alike. Rows before the first such visit are dropped.
    """
    visits = loop_visits(run)
    rows = rows.assign(first=rows["fact"].map(first_exposures(run)))
    parts = []
    for loop in visits["loop"].unique():
        own = rows[rows["task_label"] == loop]
        ends = visits.loc[visits["loop"] == loop, "end"].to_numpy()
        done = ends.searchsorted(own["step"].to_numpy(), side="right")
        before = ends.searchsorted(own["first"].to_numpy(dtype=float), side="left")
        last = np.where(done > 0, ends[np.maximum(done, 1) - 1], 0)
        parts.append(own.assign(seen=done - before, lag=own["step"] - last)[done > before])
    found: pd.DataFrame = pd.concat(parts)
    if found.empty:
        raise Missing("no fact was asked after it had been trained")
    return found
