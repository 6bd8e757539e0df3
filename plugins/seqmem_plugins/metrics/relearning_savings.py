"""Relearning savings: how much sooner is a forgotten memory learned the second time?

After the rest the learner is kept. For each loop a branch returns to it and trains the memory of the loop's first
visit again, the same rows in the same order. Recall that is gone may have left traces that make learning
faster (Ebbinghaus's savings). But a learner that has seen the form of question and answer is faster at any such
facts, so one more branch trains facts that were never trained: `.beyond_new` takes off what they save.

Recall is that of a loop's own facts, asked before and after every memory step (schedule ``learning``), averaged
over loops. Steps to learn are those at which this curve first reaches one half, interpolated linearly
between the probe before and the probe at which it does; 0 where recall is still there.

A curve that never gets there is censored: all that is known is that it takes more steps than were given, and what
rests on it is None with the reason. Give more `exposures`, or fewer facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value, reading

CRITERION = 0.5
"""Share of the facts that must be answered for a memory to count as learned."""

Time = Literal["first", "again", "new"]
_SAID: Mapping[Time, str] = {
    "first": "the first training",
    "again": "training it again",
    "new": "training new facts",
}


def _learning(run: RunRecord) -> pd.DataFrame:
    """Return the answers of schedule ``learning``, with `time` (of `Time`) and `done`, memory steps done."""
    rows = run.asked(schedule="learning")
    if rows.empty:
        raise NotApplicable("no memory is trained again on a branch after the rest")
    in_stream = rows["experience"].isin(reading.stream_experiences(run)["experience"]).to_numpy()
    known = rows["fact"].isin(rows.loc[in_stream, "fact"]).to_numpy()
    time = np.where(in_stream, "first", np.where(known, "again", "new"))
    done = rows["after"] - rows.groupby("experience")["after"].transform("min")
    return rows.assign(time=time, done=done)


def _learned_step_by_step(run: RunRecord) -> RunRecord:
    _learning(run)
    return run


seqmem_api = ">=1,<2"
metric = Metric(
    "relearning_savings",
    version="1",
    summary="steps saved when a memory is trained again after the rest",
    reads=_learned_step_by_step,
    citation="Ebbinghaus 1885, Memory: A Contribution to Experimental Psychology (method of savings)",
)
seqmem_metric = metric.hook


def curve(run: RunRecord, time: Time) -> pd.Series:
    """Return recall after every memory step, 0 included, mean over the loops trained then; index: steps."""
    rows = _learning(run)
    rows = reading.some(rows[rows["time"] == time], f"{_SAID[time]} was not probed step by step")
    by_loop = rows.pivot_table(index="done", columns="task_label", values="right", aggfunc="mean")
    return by_loop.dropna().mean(axis=1)


def steps_to_learn(run: RunRecord, time: Time) -> float:
    """Return the steps at which the curve first reaches `CRITERION`, interpolated.

    Raises:
        Missing: it never does.
    """
    recall = curve(run, time)
    steps, share = recall.index.to_numpy(dtype=float), recall.to_numpy(dtype=float)
    reached = np.flatnonzero(share >= CRITERION)
    if not len(reached):
        raise Missing(
            f"recall stays under {CRITERION} through {steps[-1]:.0f} steps of {_SAID[time]}: it takes more"
        )
    at = int(reached[0])
    if at == 0:
        return 0.0
    rise = (CRITERION - share[at - 1]) / (share[at] - share[at - 1])
    return float(steps[at - 1] + rise * (steps[at] - steps[at - 1]))


def _first(run: RunRecord) -> float:
    steps = steps_to_learn(run, "first")
    if steps == 0:
        raise Missing("the facts are known before they are trained: there is nothing to save")
    return steps


def _facts(run: RunRecord, time: Time = "first") -> int:
    rows = _learning(run)
    return int(rows.loc[rows["time"] == time, "fact"].nunique())


@metric.measure(
    "relearning_savings",
    "fraction",
    "higher",
    "share of the steps to learn that relearning saves",
    margin=0.05,
)
def savings(run: RunRecord) -> Value:
    """Return savings = (steps to learn first - steps to relearn) / steps to learn first.

    Unit: fraction; range: at most 1, where nothing has to be learned again, and below 0 where it takes longer;
    higher is better. None where half of the facts are not reached in either training.
    """
    first = _first(run)
    return Value((first - steps_to_learn(run, "again")) / first, _facts(run))


@metric.measure(
    "relearning_savings.beyond_new", "fraction", "higher", "the same minus what new facts save", margin=0.05
)
def beyond_new(run: RunRecord) -> Value:
    """Return (steps to learn new facts - steps to relearn) / steps to learn first: savings minus those of new facts.

    The new facts are as many as a loop has and are trained from the same learner on the same number of rows. Zero
    where nothing but the form of the task is left. Unit: fraction; range: any number, mostly -1 to 1; higher is
    better. None where half of the facts are not reached in one of the three trainings.
    """
    first = _first(run)
    return Value((steps_to_learn(run, "new") - steps_to_learn(run, "again")) / first, _facts(run))


@metric.measure("relearning_savings.first", "steps", "lower", "steps to learn the first time")
def steps(run: RunRecord, time: Time = "first") -> Value:
    """Count the memory steps until half of the facts are answered: first, again after the rest, and for new facts.

    Unit: steps; range: 0 to those given; lower is sooner. None where it takes more than were given.
    """
    return Value(steps_to_learn(run, time), _facts(run, time))


metric.measure("relearning_savings.again", "steps", "lower", "steps to learn again after the rest")(
    partial(steps, time="again")
)
metric.measure("relearning_savings.new", "steps", "lower", "steps to learn new facts after the rest")(
    partial(steps, time="new")
)
