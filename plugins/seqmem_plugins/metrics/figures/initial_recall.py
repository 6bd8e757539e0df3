"""Recall against steps since a fact's first exposure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqmem import COLOURS, Relation, Row, RunRecord, reading
from seqmem_plugins.metrics.figures._panels import MAX_ROWS, finish, line, log_steps
from seqmem_plugins.metrics.initial_recall import answers_since


def by_doubling(run: RunRecord, relation: Relation | None, *, twins: bool) -> pd.Series:
    """Return recall by lag, pooled over facts, at lags 0, 1, 2-3, 4-7 and so on; lag 0 lies at half a step."""
    rows = answers_since(run, relation, twins=twins)
    doubling = np.floor(np.log2(rows["lag"].clip(lower=0.5))).astype(int)
    curve = rows.groupby(doubling)["right"].mean()
    return curve.set_axis([0.5 if place < 0 else 1.5 * 2.0**place for place in curve.index])


def _recall(row: Row, relation: Relation | None, *, twins: bool) -> Mapping[int, pd.Series]:
    return reading.by_seed(row.runs, lambda run: by_doubling(run, relation, twins=twins))


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw a line per row, in the primary probe form and in the trained words."""
    shown = [row for row in rows if _recall(row, None, twins=False)]
    if not shown:
        return None
    primary = next(iter(shown[0].runs.values())).info["primary_relation"]
    forms: list[Relation] = [primary] if primary == "verbatim" else [primary, "verbatim"]
    figure = Figure(figsize=(2.8 + 3.6 * len(forms), 3.6), layout="constrained")
    panels = figure.subplots(1, len(forms), sharey=True, squeeze=False)[0]
    for form, axis in zip(forms, panels, strict=True):
        for row, colour in zip(shown[:MAX_ROWS], COLOURS, strict=False):
            for twins, style in ((False, "-"), (True, ":")):
                if curves := _recall(row, form, twins=twins):
                    label = f"{row.label}, twins" if twins else row.label
                    line(axis, curves, colour, label, style=style, marker="." if not twins else "")
        log_steps(axis)
        axis.set_ylim(-0.03, 1.03)
        axis.set_title(form)
        axis.set_xlabel("steps since first exposure (left end: right after)")
    panels[0].set_ylabel("recall (share right)")
    finish(figure, shown, "Recall since first exposure, later ones included")
    return figure
