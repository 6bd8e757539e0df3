"""Figures from records: curves of one row over steps, a metric's own figure, a measure against a swept option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from seqmem.core.errors import NotApplicable, UsageError
from seqmem.core.measures import Measure
from seqmem.core.sanitize import clean
from seqmem.plugin.specs import MetricSpec
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.reporting.drawing import (
    COLOURS,
    RESTED,
    TRAINED,
    TWINS,
    cycle,
    draw_band,
    draw_legend,
    grid,
    new_figure,
    save,
    styled,
)
from seqmem.scoring.cells import measured, read_scores
from seqmem.scoring.shares import MIN_SEEDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REST = "#999999"


@styled
def draw_curves(row: Row, path_stem: Path) -> tuple[Path, Path]:
    """Write `curves_figure` as PNG and SVG, and return both.

    Raises:
        UsageError: see `curves_figure`.
    """
    return save(curves_figure(row), path_stem)


def has_curves(row: Row) -> bool:
    """Return whether the row has a finished run with facts, or labelled documents, that were probed."""
    return any(not _curves([run], twins=False).empty for run in row.runs.values())


@styled
def curves_figure(row: Row) -> Figure:
    """Draw recall per loop, task or group over steps and below it answer loss; of documents only their loss.

    More than eight of them are drawn as a map of the change of loss since the start.

    Lines are means over seeds, bands 95 % t intervals over seeds (from three up, those of shares cut at 0 and 1),
    dashed lines the never-trained twins, shades the visits in their loop's colour and the rest in grey.

    Raises:
        UsageError: the row has no finished run, or nothing that can be drawn as a curve.
    """
    runs = [row.runs[seed] for seed in sorted(row.runs)]
    if not runs:
        raise UsageError(f"{row.label}: no finished run to draw")
    documents = runs[0].info["primary_relation"] == "general"
    trained = _curves(runs, twins=False)
    if trained.empty:
        raise UsageError(f"{row.label}: no fact was probed, there is no curve to draw")
    if trained["series"].nunique() > len(COLOURS):
        return _map_figure(row, trained, len(runs))
    twins = _curves(runs, twins=True)
    panels = [("loss", "document loss\n(nats per token)")]
    if not documents:
        panels = [("right", "recall\n(share right)"), ("loss", "answer loss\n(nats per token)")]
    figure, axes = new_figure(10, 2.2 + 2.5 * len(panels), len(panels))
    names = {int(str(n)): str(name) for n, name in trained.groupby("series")["name"].first().items()}
    colours = dict(zip(sorted(names), COLOURS, strict=False))
    for axis, (quantity, label) in zip(axes, panels, strict=True):
        _shade(axis, runs, colours)
        for series, name in sorted(names.items()):
            own = trained[trained["series"] == series]
            _line(axis, own, quantity, colours[series], clean(name))
        if not twins.empty:
            pooled = twins.groupby(["seed", "step"], as_index=False)[[quantity]].mean()
            _line(axis, pooled, quantity, TWINS, "never-trained twins", dashes=(4, 2))
        axis.set_ylabel(label)
        axis.margins(x=0)
        grid(axis)
    if not documents:
        axes[0].set_ylim(-0.03, 1.03)
    axes[-1].set_xlabel("optimizer steps")
    band = "band: 95 % interval" if len(runs) >= MIN_SEEDS else "no interval"
    axes[0].set_title(_title(row, len(runs), band))
    draw_legend(figure, [axes[0]])
    return figure


def _map_figure(row: Row, curves: pd.DataFrame, seeds: int) -> Figure:
    """Draw the change of loss as a map, one line upwards per loop: more curves than colours cannot be told apart."""
    table = curves.pivot_table(index="series", columns="step", values="loss", aggfunc="mean")
    table = table.sub(table.iloc[:, 0], axis="index")
    figure, (axis,) = new_figure(10, 4.7)
    drawn = axis.pcolormesh(
        table.columns.to_numpy(),
        table.index.to_numpy(),
        table.to_numpy(),
        shading="nearest",
        rasterized=True,
    )
    figure.colorbar(drawn, ax=axis, label="change of loss since the start (nats per token)", pad=0.01)
    axis.set_xlabel("optimizer steps")
    axis.set_ylabel(f"{str(curves['name'].iloc[0]).split(' ')[0]}, in order")
    axis.set_title(_title(row, seeds, "mean over seeds"))
    return figure


def _curves(runs: Sequence[RunRecord], *, twins: bool) -> pd.DataFrame:
    """Return mean recall and loss of the primary probe form per seed, series and step, whichever schedule asked.

    A series is a task label where facts have one, else an arm of the design; documents need a label.
    """
    parts = []
    for run in runs:
        rows = run.asked(twins=twins).drop_duplicates(["step", "probe"])
        if run.info["primary_relation"] == "general":
            rows = rows[rows["task_label"].notna()]
        arms = {arm: number for number, arm in enumerate(sorted(rows["group"].unique()))}
        series = rows["task_label"].fillna(rows["group"].map(arms)).astype(int)
        named = _series_names(run)
        name = series.map(named).where(rows["task_label"].notna(), rows["group"].replace("", "facts"))
        rows = rows.assign(loss=-rows["logprob"] / rows["tokens"], series=series, name=name)
        means = rows.groupby(["series", "name", "step"], as_index=False)[["right", "loss"]].mean()
        parts.append(means.assign(seed=run.seed))
    return pd.concat(parts, ignore_index=True)


def _series_names(run: RunRecord) -> dict[int, str]:
    """Return task labels as the protocol speaks of them: loops, tasks or groups of facts."""
    table = run.experiences[run.experiences["task_label"].notna()]
    nouns = {"loop": "loop", "task": "task"}
    phases = table.groupby("task_label")["phase"].first().items()
    return {int(label): f"{nouns.get(phase, 'group')} {int(label)}" for label, phase in phases}  # type: ignore[call-overload]


def _line(
    axis: Axes,
    curves: pd.DataFrame,
    quantity: str,
    colour: Any,
    label: str,
    *,
    dashes: tuple[int, int] | None = None,
) -> None:
    """Draw the mean over seeds with its band; where seeds were not probed at the same steps, those that were."""
    table = curves.pivot_table(index="step", columns="seed", values=quantity, aggfunc="mean").sort_index()
    steps, mean = table.index.to_numpy(), table.mean(axis=1).to_numpy()
    style: dict[str, Any] = {"dashes": dashes} if dashes else {}
    axis.plot(steps, mean, color=colour, label=label, linewidth=1.5, zorder=3, **style)
    draw_band(axis, steps, table, colour, share=quantity == "right")


def _shade(axis: Axes, runs: Sequence[RunRecord], colours: Mapping[int, Any]) -> None:
    """Shade what was trained when; visits only where every seed visited the same loop at that time."""
    wanted = ["phase", "task_label", "first_step", "steps"]
    tables = [run.experiences[wanted] for run in runs]
    same = all(table.equals(tables[0]) for table in tables)
    for phase, label, first, steps in tables[0].itertuples(index=False):
        if phase == "rest":
            axis.axvspan(first, first + steps, color=_REST, alpha=0.15, linewidth=0, zorder=0, label=RESTED)
        elif phase != "general" and same and label in colours:
            own = colours[int(label)]
            axis.axvspan(first, first + steps, color=own, alpha=0.1, linewidth=0, zorder=0, label=TRAINED)


def _title(row: Row, seeds: int, remark: str) -> str:
    return clean(
        f"{_named(row, 'scenario', 'strategy', 'model') or row.label} ({seeds} seed{'s' * (seeds > 1)}, {remark})"
    )


def _named(row: Row, *facts: str) -> str:
    return ", ".join(str(row.facts[name]) for name in facts if row.facts.get(name))


@styled
def draw_metric(metric: MetricSpec, rows: Sequence[Row], path_stem: Path) -> tuple[Path, Path] | None:
    """Write the figure a metric makes of these rows as PNG and SVG; None where it has nothing to draw."""
    drawn = [row for row in rows if row.runs]
    if metric.draw is None or not drawn:
        return None
    try:
        figure = metric.draw(drawn)
    except NotApplicable:
        return None
    return None if figure is None else save(figure, path_stem)


@styled
def draw_sweep(
    rows: Sequence[Row], scores: pd.DataFrame, measure: Measure, path_stem: Path
) -> tuple[Path, Path]:
    """Draw a measure against the swept option, mean and 95 % t interval over seeds, as PNG and SVG.

    There is one line per combination of what else tells the rows apart. Rows that were not swept, such as the
    reference, are drawn as a level. `scores` is what `score_rows` gave for these rows.

    Raises:
        UsageError: no row was swept, or no row has a value of the measure.
    """
    option = _option(rows)
    points = _points(rows, scores, measure, option)
    if not points:
        raise UsageError(f"no row has a value of {measure.name!r}")
    listed = list(dict.fromkeys(value for _, value, *_ in points if value is not None))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in listed)
    if numeric:
        listed.sort()
    place = {value: float(value) if numeric else float(index) for index, value in enumerate(listed)}
    figure, (axis,) = new_figure(7.5, 4.2)
    names = list(dict.fromkeys(name for name, *_ in points))
    for colour, name in zip(cycle(len(names)), names, strict=True):
        own = sorted(
            (place[value], *rest) for series, value, *rest in points if series == name and value is not None
        )
        if own:
            x, mean, low, high = (np.array(column, dtype=float) for column in zip(*own, strict=True))
            spread = np.nan_to_num(np.stack([mean - low, high - mean]))
            axis.errorbar(x, mean, yerr=spread, color=colour, marker="o", markersize=4, capsize=3, label=name)
            continue
        _, _, level, below, above = next(point for point in points if point[0] == name)
        axis.axhline(level, color=colour, linestyle="--", linewidth=1.2, label=name)
        if np.isfinite(below):
            axis.axhspan(below, above, color=colour, alpha=0.1, linewidth=0)
    if not numeric:
        axis.set_xticks(list(place.values()), [clean(str(value)) for value in listed])
    seeds = max(len(row.runs) for row in rows)
    axis.set_title(
        clean(
            f"{_named(rows[0], 'scenario', 'model')} (up to {seeds} seed{'s' * (seeds > 1)}, bars: 95 % interval)"
        )
    )
    axis.set_xlabel(clean(option))
    axis.set_ylabel(clean(f"{measure.name} ({measure.unit})"))
    grid(axis)
    axis.set_axisbelow(True)
    figure.legend(loc="outside right upper", frameon=False)
    return save(figure, path_stem)


def _option(rows: Sequence[Row]) -> str:
    """Return the swept option with the most values: it becomes the x axis."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.swept.items():
            seen.setdefault(name, set()).add(repr(value))
    if not seen:
        raise UsageError("no row was swept: there is nothing to draw a measure against")
    return max(seen, key=lambda name: len(seen[name]))


def _points(
    rows: Sequence[Row], scores: pd.DataFrame, measure: Measure, option: str
) -> list[tuple[str, Any, float, float, float]]:
    """Return (series, swept value or None, mean, low, high) per row with a value."""
    points, values = [], read_scores(scores)
    for row in rows:
        interval = measured(values, row.label, measure)
        if interval is None:
            continue
        low = float("nan") if interval.low is None else interval.low
        high = float("nan") if interval.high is None else interval.high
        swept = option in row.swept
        others = [f"{name}={value}" for name, value in sorted(row.swept.items()) if name != option]
        series = " ".join([str(row.facts.get("strategy", row.label)), *others]) if swept else row.label
        points.append((clean(series), row.swept.get(option), interval.mean, low, high))
    return points
