"""The statements of training: which facts, when, and how long ago."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from seqmem.reading.memory import once_per_run
from seqmem.reading.missing import some
from seqmem.reading.stream import loop_visits, loops_end, stream_end, stream_experiences
from seqmem.record.reader import RunRecord


@once_per_run
def stream_exposures(run: RunRecord) -> pd.DataFrame:
    """Return the statements of facts in the stream, without those on branches after the rest."""
    return run.exposures[run.exposures["step"] <= stream_end(run)]


@once_per_run
def trained_in_rest(run: RunRecord) -> frozenset[str]:
    """Return the facts stated in a training row after the loops ended: the rest does not leave them alone."""
    stated = stream_exposures(run)
    return frozenset(stated.loc[stated["step"] > loops_end(run), "fact"])


def rival_loops(run: RunRecord) -> Mapping[str, int]:
    """Return the loop whose own answer each choice is, by the choice's name; empty where loops do not compete."""
    labels = run.design.choice_labels
    return labels if len(labels) > 1 else {}


@once_per_run
def own_statements(run: RunRecord) -> pd.DataFrame:
    """Return the statements of facts in the stream that give the answer the fact is asked for.

    Columns are those of `exposures`. Where every loop has an answer of its own to the same question, a statement in
    another loop's visit gives that loop's answer, and a rehearsed one whichever it was stored with: both are left
    out.
    """
    stated = stream_exposures(run)
    if not rival_loops(run):
        return stated
    competing = run.items["choices"].map(lambda names: len(names) > 0 and set(names) <= set(rival_loops(run)))
    loops = run.items[competing & run.items["twin_of"].isna()].drop_duplicates("fact")
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
    """Return the step of each fact's first statement of its own in a trained row, by fact."""
    return own_statements(run).groupby("fact")["step"].min()


def since_visit(run: RunRecord, rows: pd.DataFrame) -> pd.DataFrame:
    """Add, per probe row, how often its loop had been trained with the fact, and how long ago.

    `seen` counts ended visits of the fact's own loop that came no earlier than its first statement; `lag` is steps
    since the last of them. Counting visits treats strategies alike that rehearse and that do not. Rows before the
    first such visit are dropped.
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
    found = some(
        rows.assign(seen=seen, lag=step - last)[seen > 0], "no fact was asked after it had been trained"
    )
    return found
