"""A suite's own figures: recall since training, and measures against model size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqmem.core.sanitize import clean
from seqmem.record.reader import RunRecord, scheduled
from seqmem.record.row import Row
from seqmem.reporting.drawing import (
    COLOURS,
    NEVER,
    TWINS,
    cycle,
    draw_band,
    draw_legend,
    draw_title,
    grid,
    mean_band,
    new_figure,
    save,
    styled,
)
from seqmem.scoring.numbers import short_count
from seqmem.scoring.size_trend import SizeCurve, arm_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@styled
def draw_retention(rows: Sequence[Row], title: str, path_stem: Path) -> tuple[Path, Path] | None:
    """Draw recall against steps since a fact was last trained: how fast memories go, whenever they were made.

    Of every trained fact the uncued question of the primary probe form, asked at boundaries and log-spaced steps. Its
    clock starts at the last step of the protocol that stated it; what a strategy rehearses during the rest does
    not set it back. Steps are pooled in bins of half an octave. Grey dashes are never-trained twins and facts
    that are asked but never trained, on the same clock.

    With several models one panel per strategy and one line per model, else one line per strategy; eight lines
    at most. Lines are means over seeds, bands 95 % t intervals over seeds. None where nothing can be recalled.
    """
    curves = {row.label: _since_trained(row) for row in rows}
    drawn = [row for row in rows if not curves[row.label].empty]
    if not drawn:
        return None
    models = list(dict.fromkeys(str(row.facts.get("model")) for row in drawn))
    lines = models if len(models) > 1 else [arm_of(row) for row in drawn]
    colours = dict(zip(lines, COLOURS, strict=False))
    panels: dict[str, dict[str, pd.DataFrame]] = {}
    for row in drawn:
        panel, line = (arm_of(row), str(row.facts.get("model"))) if len(models) > 1 else ("", arm_of(row))
        if line in colours:
            panels.setdefault(panel, {})[line] = curves[row.label]
    figure, axes = new_figure(7.5, 1.6 + 2.2 * len(panels), len(panels), sharey=True)
    for axis, (panel, members) in zip(axes, panels.items(), strict=True):
        for line, curve in members.items():
            _forgetting(axis, curve, colours[line], clean(line))
        axis.set_ylabel("recall\n(share right)")
        axis.set_title(clean(panel), fontsize=9)
        grid(axis)
    axes[0].set_ylim(-0.03, 1.03)
    axes[-1].set_xscale("symlog", linthresh=1, linscale=0.3)
    lags = pd.concat(curves.values())["lag"]
    axes[-1].set_xlim(-0.2 if lags.min() == 0 else 0.85 * lags.min(), 1.15 * lags.max() + 0.2)
    axes[-1].set_xticks(ticks := _log_ticks(lags), [f"{tick:g}" for tick in ticks])
    axes[-1].minorticks_off()
    axes[-1].set_xlabel("optimizer steps since a fact was last trained (log scale)")
    left_out = f", the first {len(colours)} of {len(lines)} lines" if len(lines) > len(colours) else ""
    draw_title(figure, title + left_out)
    draw_legend(figure, list(axes))
    return save(figure, path_stem)


def _forgetting(axis: Axes, curve: pd.DataFrame, colour: str, label: str) -> None:
    """Draw the recall of one row over steps since the last exposure, its controls dashed."""
    for control, own in curve.groupby("control"):
        table = own.pivot_table(index="bin", columns="seed", values="correct", aggfunc="mean").sort_index()
        lag = own.groupby("bin")["lag"].mean().to_numpy()
        mean, _, _ = mean_band(table.to_numpy().T)
        if control:
            axis.plot(lag, mean, color=TWINS, linewidth=1, dashes=(4, 2), zorder=2, label=NEVER)
            continue
        axis.plot(lag, mean, color=colour, marker="o", markersize=3, linewidth=1.5, zorder=3, label=label)
        draw_band(axis, lag, table, colour, share=True, zorder=1)


def _log_ticks(values: pd.Series) -> list[float]:
    """Return 1, 3, 10, 30 and so on within the values, and 0 where they begin there."""
    ticks = [factor * 10.0**power for power in range(9) for factor in (1, 3)]
    return [0.0] * bool((values == 0).any()) + [t for t in ticks if values.min() <= t <= values.max()]


def _since_trained(row: Row) -> pd.DataFrame:
    """Return answers by seed, steps since the fact's last exposure (`lag`), its `bin`, and whether it is a control."""
    parts = []
    for run in row.runs.values():
        last = _last_exposures(run)
        if run.info["primary_relation"] == "general" or last.empty:  # documents: nobody can recall them
            continue
        rows = pd.concat([run.asked(twins=False), run.asked(twins=True)])
        wanted = scheduled(rows, "boundary") | scheduled(rows, "log")
        rows = rows[wanted].drop_duplicates(["step", "probe"])
        trained = rows["fact"].map(last)
        since = rows["step"] - trained.fillna(rows["twin_of"].map(last)).fillna(last.max())
        rows = rows.assign(seed=run.seed, control=trained.isna(), lag=since)
        parts.append(rows.loc[since >= 0, ["seed", "control", "lag", "correct"]])
    if not parts:
        return pd.DataFrame()
    found = pd.concat(parts, ignore_index=True).astype({"correct": float, "lag": float})
    half_octaves = np.floor(2 * np.log2(found["lag"].clip(lower=1)))
    return found.assign(bin=half_octaves.where(found["lag"] > 0, -1))


def _last_exposures(run: RunRecord) -> pd.Series:
    """Return, by fact, the step of the last exposure that the protocol gives; rehearsals do not count."""
    planned = run.exposures[run.exposures["count"] > run.exposures["rehearsed"]]
    last: pd.Series = planned.groupby("fact")["step"].max()
    return last


@styled
def draw_size_trend(curves: Sequence[SizeCurve], title: str, path_stem: Path) -> tuple[Path, Path] | None:
    """Draw measures against model size: a panel per measure, a colour per strategy.

    Points are means over seeds with their 95 % t intervals over seeds, lines ordinary least squares on
    log10(parameters), dashed where there are too few sizes for an interval. None where no measure has values at
    two sizes.
    """
    drawn = [curve for curve in curves if curve.trend.slope is not None]
    if not drawn:
        return None
    measures = {curve.measure.name: curve.measure for curve in drawn}
    arms = list(dict.fromkeys(curve.arm for curve in drawn))
    colours = dict(zip(arms, cycle(len(arms)), strict=True))
    sizes: dict[int, list[str]] = {}
    for point in (point for curve in drawn for point in curve.points):
        if point.model not in sizes.setdefault(point.parameters, []):
            sizes[point.parameters].append(point.model)
    figure, axes = new_figure(7.5, 1.4 + 2 * len(measures), len(measures))
    for axis, measure in zip(axes, measures.values(), strict=True):
        for curve in drawn:
            if curve.measure.name == measure.name:
                _size_line(axis, curve, colours[curve.arm])
        axis.set_ylabel(f"{clean(measure.name)}\n({clean(measure.unit)})")
        grid(axis)
        axis.set_axisbelow(True)
    axes[-1].set_xscale("log")
    ticks = [
        clean(f"{', '.join(name.rpartition('/')[2] for name in names)} ({short_count(size)})")
        for size, names in sizes.items()
    ]
    axes[-1].set_xticks(list(sizes), ticks, rotation=30, ha="right", rotation_mode="anchor")
    axes[-1].minorticks_off()
    axes[-1].set_xlabel("model (parameters, log scale)")
    draw_title(figure, title)
    draw_legend(figure, list(axes))
    return save(figure, path_stem)


def _size_line(axis: Axes, curve: SizeCurve, colour: str) -> None:
    """Draw one measure of one strategy over model sizes, with its fitted line."""
    means = np.array([point.interval.mean for point in curve.points])
    highs = np.array([point.interval.high for point in curve.points], dtype=float)  # None becomes NaN
    size = np.array([point.parameters for point in curve.points], dtype=float)
    label = clean(curve.arm)
    axis.errorbar(
        size, means, yerr=highs - means, color=colour, fmt="o", markersize=4, capsize=3, label=label
    )
    centred = np.log10(size) - np.log10(size).mean()
    style = "--" if curve.trend.low is None else "-"
    axis.plot(size, means.mean() + curve.trend.slope * centred, color=colour, linewidth=1, linestyle=style)
