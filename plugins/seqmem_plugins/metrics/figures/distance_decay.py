"""Recall by probe form, and of the two nearest forms over steps and since training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqmem import COLOURS, Row, RunRecord, clean, reading
from seqmem_plugins.metrics.distance_decay import FORMS, in_all_forms, recall, with_age
from seqmem_plugins.metrics.figures._panels import CONTROL, GRID, MAX_ROWS, complete, finish, line

NEAREST = (("last_token", "last token"), ("last_word", "last word"))
MIN_FACTS = 4
"""Facts of like age that make a point of a curve: fewer are noise."""


def curve(run: RunRecord, relation: str, by: str, *, twins: bool) -> pd.Series:
    """Return recall of one probe form, whichever schedule asked, by ``step`` or by ``bin`` of age.

    By step only facts count that were trained by then, each as its own twin's measure. Ages share a bin with
    their power of two: -1 before the fact was trained, 0 right after its first step, 1, 2 for 2 and 3, ...;
    bins of fewer than `MIN_FACTS` facts are left out.
    """
    rows = with_age(
        run, reading.stream_answers(run, relation=relation, twins=twins).drop_duplicates(["step", "probe"])
    )
    rows = rows[rows["age"].notna()]
    bins = np.where(rows["age"] > 0, np.floor(np.log2(np.maximum(rows["age"], 1))) + 1, np.sign(rows["age"]))
    rows = rows.assign(bin=bins) if by == "bin" else rows[rows["age"] >= 0]
    points = rows.groupby(by).agg(recall=("correct", "mean"), facts=("fact", "nunique"))
    return points.loc[points["facts"] >= (MIN_FACTS if by == "bin" else 1), "recall"]


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw recall by probe form, and last token and last word over steps and since training; rows stacked."""
    drawn = complete(rows, in_all_forms)
    if not drawn:
        return None
    shown = drawn[:MAX_ROWS]
    figure = Figure(figsize=(13.5, 0.6 + 3.2 * len(shown)), layout="constrained")
    for axes, row in zip(figure.subplots(len(shown), 3, sharey=True, squeeze=False), shown, strict=True):
        runs = list(row.runs.values())
        _draw_forms(axes[0], runs, row.label)
        _draw_curves(axes[1], runs, "step")
        _draw_curves(axes[2], runs, "bin")
        axes[0].set_ylim(-0.03, 1.03)
    finish(figure, drawn, "recall by distance from the trained words")
    return figure


def _draw_forms(axis: Axes, runs: Sequence[RunRecord], label: str) -> None:
    sides = (
        (False, COLOURS[0], "all probe forms", "-"),
        (True, CONTROL, "all probe forms, never-trained twins", "--"),
    )
    for twins, colour, name, style in sides:
        found = {run.seed: recall(run, twins=twins) for run in runs if not twins or _has_twins(run)}
        places = {seed: one.rename(FORMS.index) for seed, one in found.items()}
        if places:
            line(axis, places, colour, name, style=style, marker="o")
    axis.set_xticks(range(len(FORMS)), [name.replace("_", "\n") for name in FORMS])
    axis.set_title(clean(label))
    axis.set_xlabel("probe form, when training was done")
    axis.set_ylabel("recall (share right)")
    axis.grid(axis="y", color=GRID, linewidth=0.6)


def _draw_curves(axis: Axes, runs: Sequence[RunRecord], by: str) -> None:
    """Draw last token and last word over steps, or since each fact was first trained."""
    for (relation, name), colour in zip(NEAREST, COLOURS[1:], strict=False):
        for twins, style in ((False, "-"), (True, "--")):
            curves = {run.seed: curve(run, relation, by, twins=twins) for run in runs}
            curves = {seed: one for seed, one in curves.items() if len(one)}
            if curves:
                line(axis, curves, colour, f"{name}{', twins' * twins}", style=style, marker=".")
    axis.grid(axis="y", color=GRID, linewidth=0.6)
    if by == "step":
        axis.set_xlabel("optimizer steps (facts trained by then)")
        axis.axvspan(
            reading.loops_end(runs[0]),
            reading.stream_end(runs[0]),
            color="#999999",
            alpha=0.15,
            linewidth=0,
            label="rest",
        )
        return
    last = int(max((np.max(plot.get_xdata()) for plot in axis.lines), default=0))
    ages = ["before", "0", "1", *(f"{2**n}-{2 ** (n + 1) - 1}" for n in range(1, last))]
    axis.set_xticks(range(-1, last + 1), ages[: last + 2], rotation=45)
    axis.set_xlabel("optimizer steps since the fact was first trained")


def _has_twins(run: RunRecord) -> bool:
    return not run.asked(schedule="ladder", relation="verbatim", twins=True).empty
