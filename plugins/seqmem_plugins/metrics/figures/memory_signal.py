"""Changes of loss over a stream after each of its windows was trained again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from seqmem import COLOURS, Row, clean, mean_band, reading
from seqmem.reading import Array
from seqmem_plugins.metrics._windows import LEVEL, Changes, changes_of
from seqmem_plugins.metrics.figures._panels import facts, seeds, title

_MAX_PANELS = 6
_MAX_LINES = 4
_BINS_PER_ZONE = 2


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw D(p) over the stream, a panel per scored window, against what windows elsewhere do; then the rest.

    A panel shows the first rows' mean over seeds in bins that end where the window ends. The window and its zones
    are shaded. The band holds 95 % of what the first row's line would be had its window been elsewhere. The last
    panel shows the signal inside over the rest, with 95 % t intervals over seeds.
    """
    drawn = _drawable(rows)
    if not drawn:
        return None
    first = next(iter(drawn.values()))[0]
    scored, rest = min(first.scored, _MAX_PANELS), bool(first.rested)
    panels = scored + rest
    figure = Figure(figsize=(11, 1.2 + 2.3 * -(-panels // 2)), layout="constrained")
    grid = figure.subplots(-(-panels // 2), 2, squeeze=False)
    axes = [axis for line in grid for axis in line]
    for axis in axes[panels:]:
        axis.set_axis_off()
    for label, axis in enumerate(axes[:scored]):
        _draw_window(axis, label, first, drawn)
    limits = np.array([axis.get_ylim() for axis in axes[:scored]])
    for axis in axes[:scored]:
        axis.set_ylim(limits.min(), limits.max())
    for line in grid:
        line[0].set_ylabel("change of loss, far = 0\n(nats per token)")
    if rest:
        _draw_rest(axes[scored], drawn)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    title(figure, _title(rows, drawn, first))
    return figure


def _drawable(rows: Sequence[Row]) -> dict[str, list[Changes]]:
    """Return row label to its runs' changes, by seed, for the first rows with the windows of the first."""
    drawn: dict[str, list[Changes]] = {}
    shown: tuple[Any, ...] | None = None
    for row in rows:
        runs = list(reading.by_seed(row.runs, changes_of).values())
        if len(runs) < len(row.runs) or not runs:
            continue
        layout = (runs[0].windows, runs[0].scored, runs[0].zone)
        shown = shown or layout
        if layout == shown and len(drawn) < _MAX_LINES:
            drawn[row.label] = runs
    return drawn


def _title(rows: Sequence[Row], drawn: Mapping[str, Sequence[Changes]], first: Changes) -> str:
    row = next(row for row in rows if row.label in drawn)
    text = f"{facts(row, 'scenario', 'model', 'preset')} ({seeds([row])[0]}"
    if first.scored > _MAX_PANELS:
        text += f", first {_MAX_PANELS} of {first.scored} windows"
    if len(drawn) < len(rows):
        text += f", {len(drawn)} of {len(rows)} rows"
    return text + ")"


def _edges(changes: Changes, label: int) -> Array:
    """Return bin edges over the probed positions, some of which are the window's own ends."""
    start, end = changes.windows[label]
    positions = changes.after[label].index
    width = max(
        changes.zone / _BINS_PER_ZONE, float(positions[1] - positions[0]) if len(positions) > 1 else 1.0
    )
    inside = np.linspace(start, end, max(1, round((end - start) / width)) + 1)
    below = np.arange(start, positions[0] - width, -width)[:0:-1]
    above = np.arange(end, positions[-1] + 1 + width, width)[1:]
    return np.concatenate([below, inside, above])


def _binned(excess: pd.Series, edges: Array) -> Array:
    """Return the mean of every bin, NaN where it holds no probed position."""
    bins = np.digitize(excess.index.to_numpy(dtype=float), edges) - 1
    means = excess.groupby(bins).mean()
    return means.reindex(range(len(edges) - 1)).to_numpy(dtype=float)


def _draw_window(axis: Axes, label: int, first: Changes, drawn: Mapping[str, Sequence[Changes]]) -> None:
    start, end = first.windows[label]
    edges = _edges(first, label)
    centres = (edges[:-1] + edges[1:]) / 2
    axis.axvspan(start - first.zone, end + first.zone, color="#999999", alpha=0.15, linewidth=0)
    axis.axvspan(start, end, color="#E69F00", alpha=0.3, linewidth=0, label="window (zones in grey)")
    for number, (colour, (name, runs)) in enumerate(zip(COLOURS, drawn.items(), strict=False)):
        own = [_binned(run.excess(run.after[label]), edges) for run in runs]
        if number == 0:
            centre, half = _control_band(label, runs, edges)
            axis.fill_between(
                centres,
                centre - half,
                centre + half,
                color="#666666",
                alpha=0.35,
                linewidth=0,
                label="95 % if retrained elsewhere",
            )
        axis.plot(centres, mean_band(np.array(own))[0], color=colour, linewidth=1.2, label=clean(name))
    axis.axhline(0, color="#333333", linewidth=0.6)
    axis.set_xlim(first.after[label].index[0], first.after[label].index[-1] + 1)
    axis.set_title(f"window {start}-{end}")
    axis.set_xlabel("position in the stream")


def _control_band(label: int, runs: Sequence[Changes], edges: Array) -> tuple[Array, Array]:
    """Return where the mean over seeds would lie had the snapshot been retrained elsewhere: centre, half-width per bin.

    Variance is pooled over seeds within each seed's controls; a control is left out in the bins of its own window
    and zones. Half-width t(.975) s sqrt((1 + 1/k) / seeds); NaN where no seed has two controls.
    """
    means, squares, freedom, factor = [], [], [], []
    for run in runs:
        curves = []
        for other in run.controls(label, run.after):
            start, end = run.windows[other]
            own = (edges[1:] > start - run.zone) & (edges[:-1] < end + run.zone)
            curves.append(np.where(own, np.nan, _binned(run.excess(run.after[other]), edges)))
        table = np.ma.masked_invalid(np.array(curves))
        count = table.count(axis=0)
        means.append(table.mean(axis=0).filled(np.nan))
        squares.append(((table - table.mean(axis=0)) ** 2).sum(axis=0).filled(0))
        freedom.append(np.maximum(count - 1, 0))
        factor.append(1 + 1 / np.maximum(count, 1))
    total = np.sum(freedom, axis=0)
    spread = np.sqrt(np.sum(squares, axis=0) / np.maximum(total, 1))
    quantile = stats.t.ppf((1 + LEVEL) / 2, np.maximum(total, 1))
    half = quantile * spread * np.sqrt(np.mean(factor, axis=0) / len(runs))
    return mean_band(np.array(means))[0], np.where(total > 0, half, np.nan)


def _draw_rest(axis: Axes, drawn: Mapping[str, Sequence[Changes]]) -> None:
    """Draw the signal inside against steps of rest; 0 is the end of the window."""
    for colour, (name, runs) in zip(COLOURS, drawn.items(), strict=False):
        curves = pd.DataFrame([_rest_curve(run) for run in runs])
        curves = curves[sorted(curves.columns)]
        mean, low, high = mean_band(curves.to_numpy(dtype=float))
        steps = curves.columns.to_numpy(dtype=float)
        axis.plot(steps, mean, color=colour, marker="o", markersize=3, linewidth=1.2, label=clean(name))
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.axhline(0, color="#333333", linewidth=0.6)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xticks(steps, [f"{step:g}" for step in steps])
    axis.set_xlim(-0.1, 1.1 * steps[-1])
    axis.minorticks_off()
    axis.set_title("all windows, over the rest (band: 95 % interval)")
    axis.set_xlabel("steps of rest")
    axis.set_ylabel("signal inside\n(nats per token)")


def _rest_curve(changes: Changes) -> dict[int, float]:
    """Return steps of rest to the signal inside; windows that get no rest are no control here."""
    by_step: dict[int, dict[int, pd.Series]] = {}
    for label, rested in changes.rested.items():
        by_step.setdefault(0, {})[label] = changes.after[label]
        for step, change in rested.items():
            by_step.setdefault(step, {})[label] = change
    curve = {}
    for step, snapshots in by_step.items():
        found = list(changes.contrasts("inside", snapshots))
        if found:
            curve[step] = float(np.mean([contrast.signal for contrast in found]))
    return curve
