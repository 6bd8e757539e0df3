"""Figures from records: curves of one row over steps, a measure against a swept option.

Object-oriented matplotlib on the Agg canvas: no window, no global state. The SVG holds no date and draws its
ids from a fixed salt, so the same records give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from seqmem.errors import UsageError
from seqmem.leaderboard import Row
from seqmem.record import RunRecord
from seqmem.stats import LEVEL, t_interval
from seqmem.text import clean
from seqmem.types import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito: told apart by colour-blind readers. Yellow is left out, it fades on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#8C6D31")
_TWINS = "#666666"
_REST = "#999999"
_STYLE = {
    "svg.hashsalt": "seqmem",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "text.parse_math": False,
}


def draw_curves(row: Row, path_stem: Path) -> tuple[Path, Path]:
    """Write `curves_figure` as PNG and SVG; returns both.

    Raises:
        UsageError: see `curves_figure`.
    """
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        return _save(curves_figure(row), path_stem)


def curves_figure(row: Row) -> Figure:
    """Recall per loop over steps and below it answer loss, or document loss where documents are probed.

    More than eight loops are drawn as a map of the change of loss since the start.

    Lines are means over seeds, bands 95 % t intervals over seeds (from two up), dashed lines the never-trained
    twins, shades the visits in their loop's colour and the rest in grey.

    Raises:
        UsageError: the row has no finished run, or nothing in it was probed by loop.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    runs = [row.runs[seed] for seed in sorted(row.runs)]
    if not runs:
        raise UsageError(f"{row.label}: no finished run to draw")
    documents = runs[0].info["primary_relation"] == "general"
    trained = _curves(runs, twins=False)
    if trained.empty:
        raise UsageError(f"{row.label}: no probe belongs to a loop, there is no curve to draw")
    if trained["loop"].nunique() > len(COLOURS):
        return _map_figure(row, trained, len(runs))
    twins = _curves(runs, twins=True)
    panels = [("loss", "document loss\n(nats per token)")]
    if not documents:
        panels = [("correct", "recall\n(share right)"), ("loss", "answer loss\n(nats per token)")]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 2.2 + 2.5 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        loops = sorted(int(loop) for loop in trained["loop"].unique())
        colours = dict(zip(loops, COLOURS, strict=False))
        for axis, (quantity, label) in zip(axes, panels, strict=True):
            _shade(axis, runs, colours)
            for loop in loops:
                own = trained[trained["loop"] == loop]
                _line(axis, own, quantity, colours[loop], f"loop {loop}")
            if not twins.empty:
                pooled = twins.groupby(["seed", "step"], as_index=False)[[quantity]].mean()
                _line(axis, pooled, quantity, _TWINS, "never-trained twins", dashes=(4, 2))
            axis.set_ylabel(label)
            axis.margins(x=0)
            axis.grid(axis="y", color="#dddddd", linewidth=0.6, zorder=0)
        if not documents:
            axes[0].set_ylim(-0.03, 1.03)
        axes[-1].set_xlabel("optimizer steps")
        band = "band: 95 % interval" if len(runs) > 1 else "no interval"
        axes[0].set_title(_title(row, len(runs), band))
        _legend(figure, axes[0])
        return figure


def _map_figure(row: Row, curves: pd.DataFrame, seeds: int) -> Figure:
    """Change of loss as a map, loops upwards: more lines than colours cannot be told apart."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    table = curves.pivot_table(index="loop", columns="step", values="loss", aggfunc="mean")
    table = table.sub(table.iloc[:, 0], axis="index")
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 4.7), layout="constrained")
        axis = figure.subplots()
        drawn = axis.pcolormesh(
            table.columns.to_numpy(),
            table.index.to_numpy(),
            table.to_numpy(),
            shading="nearest",
            rasterized=True,
        )
        figure.colorbar(drawn, ax=axis, label="change of loss since the start (nats per token)", pad=0.01)
        axis.set_xlabel("optimizer steps")
        axis.set_ylabel("loop (document), in order")
        axis.set_title(_title(row, seeds, "mean over seeds"))
        return figure


def _curves(runs: Sequence[RunRecord], *, twins: bool) -> pd.DataFrame:
    """Per seed, loop and step: mean recall and loss of the primary rung, whichever schedule asked."""
    parts = []
    for run in runs:
        rows = run.asked(twins=twins)
        rows = rows[rows["task_label"].notna()].drop_duplicates(["step", "probe"])
        rows = rows.assign(loss=-rows["logprob"] / rows["tokens"], loop=rows["task_label"].astype(int))
        means = rows.groupby(["loop", "step"], as_index=False)[["correct", "loss"]].mean()
        parts.append(means.assign(seed=run.seed))
    return pd.concat(parts, ignore_index=True)


def _line(
    axis: Axes,
    curves: pd.DataFrame,
    quantity: str,
    colour: Any,
    label: str,
    *,
    dashes: tuple[int, int] | None = None,
) -> None:
    """Mean over seeds with its band; where seeds were not probed at the same steps, those that were."""
    table = curves.pivot_table(index="step", columns="seed", values=quantity, aggfunc="mean").sort_index()
    steps, mean = table.index.to_numpy(), table.mean(axis=1).to_numpy()
    style: dict[str, Any] = {"dashes": dashes} if dashes else {}
    axis.plot(steps, mean, color=colour, label=label, linewidth=1.5, zorder=3, **style)
    n = table.notna().sum(axis=1).to_numpy()
    if table.shape[1] > 1:
        spread = table.std(axis=1, ddof=1).to_numpy()
        half = np.where(n > 1, stats.t.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1)) * spread / np.sqrt(n), 0.0)
        low, high = mean - half, mean + half
        if quantity == "correct":
            low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)


def _shade(axis: Axes, runs: Sequence[RunRecord], colours: Mapping[int, Any]) -> None:
    """Shade what was trained when; visits only where every seed visited the same loop at that time."""
    wanted = ["phase", "task_label", "first_step", "steps"]
    tables = [run.experiences[wanted] for run in runs]
    same = all(table.equals(tables[0]) for table in tables)
    for phase, loop, first, steps in tables[0].itertuples(index=False):
        if phase == "rest":
            axis.axvspan(first, first + steps, color=_REST, alpha=0.15, linewidth=0, zorder=0)
        elif phase == "loop" and same and loop in colours:
            axis.axvspan(first, first + steps, color=colours[int(loop)], alpha=0.1, linewidth=0, zorder=0)


def _legend(figure: Figure, axis: Axes) -> None:
    """One legend beside the panels."""
    from matplotlib.patches import Patch

    handles, labels = axis.get_legend_handles_labels()
    handles += [Patch(facecolor=_REST, alpha=0.3), Patch(facecolor=COLOURS[0], alpha=0.2)]
    labels += ["rest", "visit, in its loop's colour"]
    figure.legend(handles, labels, loc="outside right upper", frameon=False)


def _title(row: Row, seeds: int, remark: str) -> str:
    parts = [str(row.facts[name]) for name in ("scenario", "strategy", "model") if row.facts.get(name)]
    return clean(f"{', '.join(parts) or row.label} ({seeds} seed{'s' * (seeds > 1)}, {remark})")


def draw_sweep(
    rows: Sequence[Row], scores: pd.DataFrame, measure: Measure, path_stem: Path
) -> tuple[Path, Path]:
    """A measure against the swept option: mean and 95 % t interval over seeds per value.

    `scores` is what `leaderboard.score_rows` gave for these rows. One line per combination of what else tells
    the rows apart; rows that were not swept, such as the reference, are drawn as a level. Returns the PNG and
    the SVG.

    Raises:
        UsageError: no row was swept, or no row has a value of the measure.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    option = _option(rows)
    points = _points(rows, scores, measure, option)
    if not points:
        raise UsageError(f"no row has a value of {measure.name!r}")
    listed = list(dict.fromkeys(value for _, value, *_ in points if value is not None))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in listed)
    if numeric:
        listed.sort()
    place = {value: float(value) if numeric else float(index) for index, value in enumerate(listed)}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axis = figure.subplots()
        names = list(dict.fromkeys(name for name, *_ in points))
        for colour, name in zip(_cycle(len(names)), names, strict=True):
            own = sorted(
                (place[value], *rest)
                for series, value, *rest in points
                if series == name and value is not None
            )
            if own:
                x, mean, low, high = (np.array(column, dtype=float) for column in zip(*own, strict=True))
                spread = np.nan_to_num(np.stack([mean - low, high - mean]))
                axis.errorbar(
                    x, mean, yerr=spread, color=colour, marker="o", markersize=4, capsize=3, label=name
                )
                continue
            _, _, level, below, above = next(point for point in points if point[0] == name)
            axis.axhline(level, color=colour, linestyle="--", linewidth=1.2, label=name)
            if np.isfinite(below):
                axis.axhspan(below, above, color=colour, alpha=0.1, linewidth=0)
        if not numeric:
            axis.set_xticks(list(place.values()), [clean(str(value)) for value in listed])
        seeds = max(len(row.runs) for row in rows)
        facts = rows[0].facts
        where = ", ".join(str(facts[name]) for name in ("scenario", "model") if facts.get(name))
        axis.set_title(clean(f"{where} (up to {seeds} seed{'s' * (seeds > 1)}, bars: 95 % interval)"))
        axis.set_xlabel(clean(option))
        axis.set_ylabel(clean(f"{measure.name} ({measure.unit})"))
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        figure.legend(loc="outside right upper", frameon=False)
        return _save(figure, path_stem)


def _option(rows: Sequence[Row]) -> str:
    """The swept option with the most values: it becomes the x axis."""
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
    """(series, swept value or None, mean, low, high) per row with a value."""
    points = []
    for row in rows:
        wanted = (scores["row"] == row.label) & (scores["measure"] == measure.name)
        values = scores.loc[wanted, "value"].dropna()
        if values.empty:
            continue
        interval = t_interval([float(value) for value in values])
        low = float("nan") if interval.low is None else interval.low
        high = float("nan") if interval.high is None else interval.high
        swept = option in row.swept
        others = [f"{name}={value}" for name, value in sorted(row.swept.items()) if name != option]
        series = " ".join([str(row.facts.get("strategy", row.label)), *others]) if swept else row.label
        points.append((clean(series), row.swept.get(option), interval.mean, low, high))
    return points


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _save(figure: Figure, path_stem: Path) -> tuple[Path, Path]:
    """Write PNG and SVG beside each other, without date or version."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg = (path_stem.with_name(f"{path_stem.name}.{ending}") for ending in ("png", "svg"))
    figure.savefig(png, dpi=150, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg
