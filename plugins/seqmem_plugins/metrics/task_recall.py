"""Task recall: is a task kept, with the task known and inferred?

A strategy that routes each question to a part of the model needs to know the task: what it recalls when told
is the memory, what it loses when it has to infer the task is the router's.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value, reading


def told_tasks(run: RunRecord) -> RunRecord:
    """Return the run, where questions are asked with their task known."""
    if not run.items["task_known"].any():
        raise NotApplicable("no question is asked with its task known")
    return run


seqmem_api = ">=1,<2"
metric = Metric(
    "task_recall",
    version="1",
    summary="recall of tasks with the task known and inferred",
    reads=told_tasks,
    figure="seqmem_plugins.metrics.figures.task_recall",
)
seqmem_metric = metric.hook


@reading.once_per_run
def recall_by_task(run: RunRecord, *, known: bool) -> pd.DataFrame:
    """Return the share of each task's trained facts answered rightly; rows are steps of boundaries, columns tasks."""
    rows = boundaries(run, known)
    table = rows.pivot_table(index="step", columns="task_label", values="right", aggfunc="mean")
    return table.rename(columns=int)


@reading.once_per_run
def boundaries(run: RunRecord, known: bool) -> pd.DataFrame:
    """Return the answers about facts of tasks at boundaries, with the task known or inferred."""
    rows = run.asked(schedule="boundary", task_known=known, columns=reading.ANSWER)
    rows = rows[rows["task_label"].notna()]
    if rows.empty:
        how = "known" if known else "inferred"
        raise Missing(f"no fact of a task is asked at boundaries with the task {how}")
    return rows


def _facts(run: RunRecord) -> int:
    return int(boundaries(run, False)["fact"].nunique())


def task_ends(run: RunRecord) -> dict[int, int]:
    """Return the steps done when each task's own training ended, by task."""
    table = run.experiences
    own = reading.some(
        table[(table["phase"] == "task") & table["task_label"].notna()],
        "no task is trained on its own in this stream",
    )
    ends = (own["first_step"] + own["steps"]).groupby(own["task_label"].astype(int)).max()
    return {int(task): int(end) for task, end in zip(ends.index, ends, strict=True)}


def routes(run: RunRecord) -> bool:
    """Return whether telling the task ever changed an answer's log-probability."""
    key = ["step", "fact"]
    given, bare = (boundaries(run, known).set_index(key)["logprob"].sort_index() for known in (True, False))
    # with the label and without, probes are the same rows of tokens: a learner that ignores it gives the same bits
    return not np.array_equal(given.to_numpy(), bare.reindex(given.index).to_numpy())


@metric.measure(
    "task_recall", "share", "higher", "recall when the tasks are done, task inferred", margin=0.05
)
def at_end(run: RunRecord, *, known: bool = False) -> Value:
    """Return the mean over tasks of their recall when the last task, and what follows it, is done, before any rest.

    Unit: share; range 0 to 1; higher is better.
    """
    return Value(
        float(reading.at_step(recall_by_task(run, known=known), reading.loops_end(run)).mean()), _facts(run)
    )


metric.measure("task_recall.known", "share", "higher", "the same with the task known", margin=0.05)(
    partial(at_end, known=True)
)


@metric.measure("task_recall.routing", "fraction", "lower", "known minus inferred: what inferring costs")
def routing(run: RunRecord) -> Value:
    """Return recall at the end of the tasks with the task known, minus the same with the task inferred.

    Unit: fraction; range -1 to 1; lower is better: what inferring the task costs. None, with the reason, where
    telling the task changes nothing at all, because then nothing is routed.
    """
    if not routes(run):
        raise Missing("the answers are the same whether the task is known or not: nothing is routed")
    difference = (at_end(run, known=True).value or 0.0) - (at_end(run, known=False).value or 0.0)
    return Value(difference, _facts(run))


@metric.measure("task_recall.learned", "share", "higher", "recall right after a task, task inferred")
def learned(run: RunRecord, *, known: bool = False) -> Value:
    """Return the mean over tasks of their recall right after their own training.

    Unit: share; range 0 to 1; higher is better.
    """
    recall = recall_by_task(run, known=known)
    own = [reading.at_step(recall, end)[task] for task, end in task_ends(run).items()]
    return Value(float(np.mean(own)), _facts(run))


metric.measure("task_recall.learned_known", "share", "higher", "the same with the task known")(
    partial(learned, known=True)
)
