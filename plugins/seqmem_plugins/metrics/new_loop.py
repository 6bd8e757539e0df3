"""New loop: what does a loop added later need, and cost?

A loop counts as added where the stream declares it, as `memory_loops` does with its option `new_loop`. None of the
measures is given where no loop was added.

A fact is recalled where it is answered rightly at two probed steps in a row, from its first exposure on; all answers of
a step have to be right. Guessing still adds something: with chance c at each of n probed steps about n c^2 of the facts
count as recalled, .002 of them at the c of .012 and the 15 steps that `memory_loops` asks after one visit.

Version 3: in version 2 a single right answer was enough, and one before any training too: guessing alone read
`new_loop.reached` as .25 to .5, and a fact guessed before training counted as learned in 0 exposures.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "new_loop",
    version="3",
    summary="exposures to learn a loop added later, and its cost to the old loops",
)
seqmem_metric = metric.hook

CRITERION = 2
"""Probed steps in a row with right answers that count as recalled, as `learning_threshold` asks for by default."""


def _added(run: RunRecord) -> list[int]:
    visited = set(reading.loop_visits(run)["loop"])
    loops = [loop for loop in run.design.added_loops if loop in visited]
    if not loops:
        raise Missing("no loop was added after the others had run")
    return loops


def _exposures_needed(run: RunRecord) -> pd.Series:
    """Return the exposures before the right answers that make up the criterion, by added fact; infinite without."""
    rows = reading.questions(run, None)
    rows = reading.some(rows[rows["task_label"].isin(_added(run))], "no fact of the added loop was probed")
    rows = rows[rows["step"] >= rows["fact"].map(reading.first_exposures(run))]
    # one answer a step: several schedules may ask the same question there
    right = rows.groupby(["fact", "step"])["right"].all()
    stated = reading.own_statements(run)
    counts = {}
    for fact, asked in right.groupby("fact"):
        steps = asked.index.get_level_values("step")
        if len(steps) < CRITERION:
            raise Missing(
                f"after its first training the added fact {fact!r} was asked {len(steps)} time(s), {CRITERION} "
                "are needed: give the stream a rest, or the added loop more visits"
            )
        first = reading.first_run(asked.to_numpy(dtype=bool), CRITERION)
        counts[fact] = np.inf
        if first is not None:
            before = (stated["fact"] == fact) & (stated["step"] <= steps[first])
            counts[fact] = float(stated.loc[before, "count"].sum())
    if not counts:
        raise Missing("no fact of the added loop was asked after it had been trained")
    return pd.Series(counts, dtype=float)


@metric.measure("new_loop", "exposures", "lower", "median exposures until a fact is recalled")
def exposures_to_criterion(run: RunRecord) -> Value:
    """Return the median over added facts of the exposures before the first of the right answers that count.

    In the primary probe form. Facts never recalled count as more than any number; None when they are half or more.
    Questions come at boundaries and inside visits, not after every exposure: fewer may have done. Unit: exposures;
    range: 1 up; lower is better.
    """
    counts = _exposures_needed(run)
    median = float(counts.median())
    if not np.isfinite(median):
        never = int(np.isinf(counts).sum())
        raise Missing(
            f"{never} of the {len(counts)} added facts were not recalled after they had been trained"
        )
    return Value(median, len(counts))


@metric.measure("new_loop.reached", "share", "higher", "added facts recalled after training")
def reached(run: RunRecord) -> Value:
    """Return the share of the added loop's facts recalled at some time after they were first trained.

    Unit: share; range 0 to 1; higher is better.
    """
    counts = _exposures_needed(run)
    return Value(float(np.isfinite(counts).mean()), len(counts))


@metric.measure("new_loop.drop", "fraction", "lower", "recall the old loops lose during a visit to it")
def cost_to_others(run: RunRecord) -> Value:
    """Return the mean over visits to the added loop of the other loops' recall before minus after the visit.

    Unit: fraction; range -1 to 1; lower is better.
    """
    added = _added(run)
    recall = reading.recall_by_loop(run)
    others = [loop for loop in reading.loops_of(recall) if loop not in added]
    if not others:
        raise Missing("no fact of the other loops was probed")
    visits = reading.loop_visits(run)
    drops = [
        float((reading.at_step(recall, int(start)) - reading.at_step(recall, int(end)))[others].mean())
        for start, end in visits.loc[visits["loop"].isin(added), ["start", "end"]].to_numpy()
    ]
    rows = reading.questions(run)
    return Value(float(np.mean(drops)), int(rows.loc[rows["task_label"].isin(others), "fact"].nunique()))
