"""Recall of each task over steps, with the task known and inferred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from seqmem import COLOURS, Row, clean, mean_band
from seqmem_plugins.metrics.figures._panels import complete, facts, seeds, title
from seqmem_plugins.metrics.task_recall import boundaries, recall_by_task, routes, told_tasks

_MAX_ROWS = 4
"""Rows of a table that one figure has room for."""
_GENERAL = "#999999"


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw recall of each task over steps, a panel per row; None where no row asks with the task known."""
    drawable = [row for row in complete(rows, told_tasks) if row.runs]
    shown = drawable[:_MAX_ROWS]
    if not shown:
        return None
    figure = Figure(figsize=(10, 1.4 + 2.1 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for panel, row in zip(panels, shown, strict=True):
        _panel(panel, row)
    panels[-1].set_xlabel("optimizer steps")
    left_out = f"; the first {len(shown)} of {len(drawable)} rows" if len(drawable) > len(shown) else ""
    title(figure, f"{facts(shown[0], 'scenario', 'model')}: recall by task{left_out}")
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


def _tasks(row: Row) -> list[int]:
    run = next(iter(row.runs.values()))
    return sorted({int(task) for task in boundaries(run, True)["task_label"]})


def _colour(task: int) -> str:
    return COLOURS[task % len(COLOURS)]


def _panel(axis: Axes, row: Row) -> None:
    """Draw the mean over seeds with its 95 % band, known solid and inferred dashed."""
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
                low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
                axis.fill_between(steps_asked, low, high, color=_colour(task), alpha=0.12, linewidth=0)
    same = "" if routed else "; known = inferred, nothing is routed"
    band = "band: 95 % interval" if len(runs) > 2 else "no interval"
    axis.set_title(clean(f"{row.label} ({seeds([row])[0]}, {band}{same})"))
    axis.set_ylabel("recall\n(share right)")
    axis.set_ylim(-0.03, 1.03)
    axis.margins(x=0)
