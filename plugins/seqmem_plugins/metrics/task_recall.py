"""Task recall: is a task kept, with the task known and inferred?

A strategy that routes each question to a part of the model needs to know the task: what it recalls when told
is the memory, what it loses when it has to infer the task is the router's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqmem import (
    COLOURS,
    Measure,
    MetricSpec,
    NotApplicable,
    Row,
    RunRecord,
    Value,
    clean,
    hookimpl,
    mean_band,
)
from seqmem_plugins.metrics._curves import ANSWER, Missing, at_step, attempt, loops_end, once_per_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

seqmem_api = ">=1,<2"

_MOST_ROWS = 4
"""Rows of a table that one figure has room for."""
_GENERAL = "#999999"


@once_per_run
def recall_by_task(run: RunRecord, *, known: bool) -> pd.DataFrame:
    """Share of each task's trained facts answered rightly; rows are steps of boundaries, columns tasks."""
    rows = _boundaries(run, known)
    table = rows.pivot_table(index="step", columns="task_label", values="correct", aggfunc="mean")
    return table.rename(columns=int)


@once_per_run
def _boundaries(run: RunRecord, known: bool) -> pd.DataFrame:
    rows = run.asked(schedule="boundary", task_known=known, columns=ANSWER)
    rows = rows[rows["task_label"].notna()]
    if rows.empty:
        how = "known" if known else "inferred"
        raise Missing(f"no fact of a task is asked at boundaries with the task {how}")
    return rows


def _facts(run: RunRecord) -> int:
    return int(_boundaries(run, False)["fact"].nunique())


def task_ends(run: RunRecord) -> dict[int, int]:
    """Steps done when each task's own training ended, by task."""
    table = run.experiences
    own = table[(table["phase"] == "task") & table["task_label"].notna()]
    if own.empty:
        raise Missing("no task is trained on its own in this stream")
    ends = (own["first_step"] + own["steps"]).groupby(own["task_label"].astype(int)).max()
    return {int(task): int(end) for task, end in zip(ends.index, ends, strict=True)}


def routes(run: RunRecord) -> bool:
    """Whether telling the task ever changed an answer's log-probability."""
    key = ["step", "fact"]
    told, bare = (_boundaries(run, known).set_index(key)["logprob"].sort_index() for known in (True, False))
    # told and bare probes are the same rows of tokens, so a learner that ignores the label gives the same bits
    return not np.array_equal(told.to_numpy(), bare.reindex(told.index).to_numpy())


def at_end(run: RunRecord, *, known: bool) -> Value:
    """Mean over tasks of their recall when the last task, and what follows it, is done and no rest has begun.

    Unit: fraction; range 0 to 1; higher is better.
    """
    return Value(float(at_step(recall_by_task(run, known=known), loops_end(run)).mean()), _facts(run))


def learned(run: RunRecord, *, known: bool) -> Value:
    """Mean over tasks of their recall right after their own training.

    Unit: fraction; range 0 to 1; higher is better.
    """
    recall = recall_by_task(run, known=known)
    own = [at_step(recall, end)[task] for task, end in task_ends(run).items()]
    return Value(float(np.mean(own)), _facts(run))


def routing(run: RunRecord) -> Value:
    """Recall at the end of the tasks with the task known, minus the same with the task inferred.

    Unit: fraction; range -1 to 1; lower is better: what inferring the task costs. None, with the reason, where
    telling the task changes nothing at all, because then nothing is routed.
    """
    if not routes(run):
        raise Missing("the answers are the same whether the task is known or not: nothing is routed")
    difference = (at_end(run, known=True).value or 0.0) - (at_end(run, known=False).value or 0.0)
    return Value(difference, _facts(run))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    if not run.items["task_known"].any():
        raise NotApplicable("no question is asked with its task known")
    return {
        "task_recall": attempt(lambda: at_end(run, known=False)),
        "task_recall.known": attempt(lambda: at_end(run, known=True)),
        "task_recall.routing": attempt(lambda: routing(run)),
        "task_recall.learned": attempt(lambda: learned(run, known=False)),
        "task_recall.learned_known": attempt(lambda: learned(run, known=True)),
    }


# -- figure -----------------------------------------------------------------------------------------------


def draw(rows: Sequence[Row]) -> Figure | None:
    """Recall of each task over steps, a panel per row; None where no row asks with the task known."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    drawable = [row for row in rows if _told(row)]
    shown = drawable[:_MOST_ROWS]
    if not shown:
        return None
    figure = Figure(figsize=(10, 1.4 + 2.1 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for panel, row in zip(panels, shown, strict=True):
        _panel(panel, row)
    panels[-1].set_xlabel("optimizer steps")
    facts = shown[0].facts
    left_out = f"; the first {len(shown)} of {len(drawable)} rows" if len(drawable) > len(shown) else ""
    figure.suptitle(
        clean(f"{facts.get('scenario', '')}, {facts.get('model', '')}: recall by task{left_out}"),
        x=0.01,
        ha="left",
        fontsize=10,
    )
    tasks = _tasks(shown[0])
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=_colour(task), label=f"task {task}") for task in tasks[: len(COLOURS)]
    ]
    handles += [
        Line2D([], [], color="black", label="task known"),
        Line2D([], [], color="black", linestyle="--", label="task inferred"),
        Patch(facecolor=_colour(tasks[0]), alpha=0.18, label="trains the task, in its colour"),
        Patch(facecolor=_GENERAL, alpha=0.12, label="general text"),
        Patch(facecolor=_GENERAL, alpha=0.4, label="rest"),
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return figure


def _told(row: Row) -> bool:
    return bool(row.runs) and all(run.items["task_known"].any() for run in row.runs.values())


def _tasks(row: Row) -> list[int]:
    run = next(iter(row.runs.values()))
    return sorted({int(task) for task in _boundaries(run, True)["task_label"]})


def _colour(task: int) -> str:
    return COLOURS[task % len(COLOURS)]


def _panel(axis: Axes, row: Row) -> None:
    """Mean over seeds with its 95 % band, known solid and inferred dashed."""
    runs = [row.runs[seed] for seed in sorted(row.runs)]
    table = runs[0].experiences
    for phase, task, first, steps in table[["phase", "task_label", "first_step", "steps"]].itertuples(
        index=False
    ):
        own = phase == "task" and not pd.isna(task)
        colour, alpha = (_colour(int(task)), 0.18) if own else (_GENERAL, 0.4 if phase == "rest" else 0.12)
        axis.axvspan(first, first + steps, color=colour, alpha=alpha, linewidth=0, zorder=0)
    routed = any(routes(run) for run in runs)
    for known, style in ((True, "-"), (False, "--")):
        tables = [recall_by_task(run, known=known) for run in runs]
        steps_asked = sorted(set().union(*(table.index for table in tables)))
        for task in _tasks(row):
            values = np.array([table[task].reindex(steps_asked).to_numpy(dtype=float) for table in tables])
            mean, low, high = mean_band(values)
            axis.plot(steps_asked, mean, linestyle=style, color=_colour(task), linewidth=1.5, marker=".")
            if known:
                axis.fill_between(
                    steps_asked,
                    np.clip(low, 0, 1),
                    np.clip(high, 0, 1),
                    color=_colour(task),
                    alpha=0.12,
                    linewidth=0,
                )
    same = "" if routed else "; known = inferred, nothing is routed"
    seeds = f"{len(runs)} seed{'s' * (len(runs) > 1)}, {'band: 95 % interval' if len(runs) > 1 else 'no interval'}"
    axis.set_title(clean(f"{row.label} ({seeds}{same})"))
    axis.set_ylabel("recall\n(share right)")
    axis.set_ylim(-0.03, 1.03)
    axis.margins(x=0)


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="task_recall",
            version="1",
            summary="recall of tasks with the task known and inferred",
            measures=(
                Measure(
                    "task_recall",
                    "fraction",
                    "higher",
                    "recall when the tasks are done, task inferred",
                    margin=0.05,
                ),
                Measure(
                    "task_recall.known", "fraction", "higher", "the same with the task known", margin=0.05
                ),
                Measure(
                    "task_recall.routing", "fraction", "lower", "known minus inferred: what inferring costs"
                ),
                Measure(
                    "task_recall.learned", "fraction", "higher", "recall right after a task, task inferred"
                ),
                Measure("task_recall.learned_known", "fraction", "higher", "the same with the task known"),
            ),
            compute=_compute,
            draw=draw,
        )
    ]
