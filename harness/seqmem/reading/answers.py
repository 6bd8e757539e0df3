"""Answers in the primary probe form, and recall by loop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmem.reading.memory import once_per_run
from seqmem.reading.missing import Missing, some
from seqmem.reading.stream import loop_visits, stream_end, stream_experiences
from seqmem.record.reader import RunRecord

ANSWER = (
    *("step", "experience", "schedule", "probe", "fact", "twin_of", "task_label"),
    *("right", "correct", "logprob", "tokens", "best_other", "choice", "choices"),
)
"""Columns of an answer that metrics read."""


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
    """Return `RunRecord.asked` without what was asked on branches after the rest; columns as `ANSWER`."""
    rows = run.asked(schedule=schedule, relation=relation, cue=cue, twins=twins, columns=ANSWER)
    experiences = stream_experiences(run)
    if len(experiences) == len(run.experiences):
        return rows
    return rows[rows["experience"].isin(experiences["experience"])]


@once_per_run
def answers(
    run: RunRecord, schedule: str | None = "boundary", *, cue: str = "none", twins: bool = False
) -> pd.DataFrame:
    """Return the answers in the primary probe form for one schedule, with `loss` in nats per answer token."""
    rows = stream_answers(run, schedule, cue=cue, twins=twins)
    if rows.empty:
        what = "twins" if twins else "facts"
        raise Missing(f"no probe of {what} on the schedule {schedule!r} with cue {cue!r}")
    return rows.assign(loss=-rows["logprob"] / rows["tokens"])


def questions(
    run: RunRecord, schedule: str | None = "boundary", *, cue: str = "none", twins: bool = False
) -> pd.DataFrame:
    """Return `answers`, refusing records whose probes are documents, which nobody can answer rightly."""
    if run.info["primary_relation"] == "general":
        raise Missing("the probes are documents, not questions: recall is not defined")
    return answers(run, schedule, cue=cue, twins=twins)


@once_per_run
def recall_by_loop(run: RunRecord) -> pd.DataFrame:
    """Return a_lj: the share of loop j's trained facts answered rightly; rows are boundary steps, columns loops."""
    rows = questions(run)
    table = some(
        rows.pivot_table(index="step", columns="task_label", values="right", aggfunc="mean"),
        "no probed fact belongs to a loop",
    )
    return table.rename(columns=int)


@once_per_run
def facts_probed(run: RunRecord) -> int:
    """Count the facts behind recall at boundaries: those of a loop, which never-trained ones are not."""
    rows = questions(run)
    return int(rows.loc[rows["task_label"].notna(), "fact"].nunique())


def at_step(table: pd.DataFrame, step: int) -> pd.Series:
    """Return one row of a table by step."""
    if step not in table.index:
        raise Missing(f"no boundary probe at step {step}")
    return table[table.index == step].iloc[0]


def loops_of(recall: pd.DataFrame) -> list[int]:
    """Return the loops that a recall table has columns for."""
    return [int(loop) for loop in recall.columns.to_numpy()]


def after_last_visits(run: RunRecord, recall: pd.DataFrame) -> pd.Series:
    """Return a_jj: recall of each loop's facts right after its own last visit, by loop."""
    last = loop_visits(run).groupby("loop")["end"].max()
    all_visited(recall, last)
    own = {loop: at_step(recall, int(last[loop]))[loop] for loop in loops_of(recall)}
    return pd.Series(own, dtype=float)


def all_visited(recall: pd.DataFrame, visits: pd.Series) -> None:
    """Refuse a recall table with a loop that `visits`, a series by loop, does not have."""
    if missing := sorted(set(recall.columns) - set(visits.index)):
        raise Missing(f"loop {missing[0]} is never visited on its own")


def earlier_loops(run: RunRecord, recall: pd.DataFrame) -> list[int]:
    """Return the loops whose last visit ended before the stream did: the j < T of the definitions."""
    last = loop_visits(run).groupby("loop")["end"].max()
    end = stream_end(run)
    early = [loop for loop in loops_of(recall) if int(last.get(loop, end)) < end]
    if not early:
        raise Missing("no loop was followed by other training")
    return early


def first_run(right: npt.NDArray[np.bool_], length: int) -> int | None:
    """Return where the first `length` True values in a row begin; None where there is no such run."""
    for start in range(len(right) - length + 1):
        if right[start : start + length].all():
            return start
    return None
