"""The course of a run's stream: its experiences, its visits, and where training and rest end."""

from __future__ import annotations

import pandas as pd

from seqmem.reading.memory import once_per_run
from seqmem.reading.missing import Missing, some
from seqmem.record.reader import RunRecord


@once_per_run
def stream_experiences(run: RunRecord) -> pd.DataFrame:
    """Return the experiences of the stream itself, without branches from the learner as a rest left it.

    Such a branch asks what learning again takes, after the T of the definitions: nothing in it moves T, and no
    visit in it is one of the stream's.
    """
    table = run.experiences
    rested = table.loc[(table["phase"] == "rest") & table["save_as"].notna(), "save_as"]
    branches = table["start_from"].isin(rested).to_numpy()
    return table.iloc[: branches.argmax()] if branches.any() else table


@once_per_run
def loop_visits(run: RunRecord) -> pd.DataFrame:
    """Return the visits to loops, or tasks, in their order.

    Columns: loop, visit (from 0, per loop), start and end (steps done).
    """
    table = stream_experiences(run)
    rows = some(
        table[table["phase"].isin(["loop", "task"]) & table["task_label"].notna()],
        "no loop is visited on its own in this stream",
    )
    return pd.DataFrame(
        {
            "loop": rows["task_label"].astype(int).to_numpy(),
            "visit": rows["visit"].astype(int).to_numpy(),
            "start": rows["first_step"].astype(int).to_numpy(),
            "end": (rows["first_step"] + rows["steps"]).astype(int).to_numpy(),
        }
    )


@once_per_run
def loops_end(run: RunRecord) -> int:
    """Return the steps done when the rest began: the end of the last experience of another phase.

    Under `joint` the experiences before the rest belong to no loop, but they end at the same step, so that recall
    over the rest can be compared with that of the other strategies.
    """
    table = stream_experiences(run)
    before = some(table[table["phase"] != "rest"], "the stream is nothing but rest")
    return int((before["first_step"] + before["steps"]).max())


@once_per_run
def stream_end(run: RunRecord) -> int:
    """Return the steps done when the stream ended: the T of the definitions."""
    table = some(stream_experiences(run), "no experience was run")
    return int((table["first_step"] + table["steps"]).max())


def rest_steps(run: RunRecord) -> int:
    """Return the steps between the end of the loops and the end of the stream."""
    steps = stream_end(run) - loops_end(run)
    if steps == 0:
        raise Missing("the stream has no rest phase")
    return steps
