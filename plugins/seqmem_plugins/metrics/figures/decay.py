"""Retainability against log t with the fitted lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqmem import COLOURS, Missing, Row, RunRecord, clean, reading
from seqmem_plugins.metrics._retained import MAIN, kept, retained
from seqmem_plugins.metrics.decay import fit, until_lost
from seqmem_plugins.metrics.figures._panels import MAX_ROWS, finish, line, log_steps


@dataclass(frozen=True)
class _Drawn:
    """R of one seed and the line through it, by doubling of t: seeds differ by a step or two in their maximum."""

    share: pd.Series
    line: pd.Series


def _drawn(run: RunRecord, group: str) -> _Drawn:
    log_t, share = retained(kept(run, MAIN, group))
    middle = 1.5 * 2 ** np.floor(log_t / np.log10(2) + 1e-9)
    try:
        through = fit(run, MAIN, group)
    except Missing:
        fitted = pd.Series(dtype=float)
    else:
        before = len(until_lost(log_t, share)[0])
        fitted = pd.Series(through.start - through.a * log_t[:before], index=middle[:before])
    return _Drawn(pd.Series(share, index=middle), fitted)


def _by_group(row: Row) -> dict[str, Mapping[int, _Drawn]]:
    """Return what each seed has, by group."""
    groups = {one.group for found in reading.by_seed(row.runs, reading.injections).values() for one in found}
    drawn = {group: reading.by_seed(row.runs, partial(_drawn, group=group)) for group in sorted(groups)}
    return {group: found for group, found in drawn.items() if found}


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw a line per group and a panel per table row."""
    found = {row.label: _by_group(row) for row in rows}
    shown = [row for row in rows if found[row.label]]
    if not shown:
        return None
    width = min(len(shown), MAX_ROWS)
    figure = Figure(figsize=(2.6 + 3.6 * width, 3.8), layout="constrained")
    panels = figure.subplots(1, width, sharey=True, squeeze=False)[0]
    for row, axis in zip(shown, panels, strict=False):
        for (group, drawn), colour in zip(found[row.label].items(), COLOURS, strict=False):
            line(axis, {s: one.share for s, one in drawn.items()}, colour, group, style="", marker="o")
            fitted = pd.DataFrame({s: one.line for s, one in drawn.items()}).mean(axis=1).sort_index()
            axis.plot(fitted.index.to_numpy(), fitted.to_numpy(), color=colour, linewidth=1.0)
        axis.axhline(0, color="#bbbbbb", linewidth=0.8)
        log_steps(axis)
        axis.set_title(clean(row.label))
        axis.set_xlabel("steps since the last local maximum")
    panels[0].set_ylabel("retainability\n(share of the improvement)")
    finish(figure, shown, "Retainability of injected facts")
    return figure
