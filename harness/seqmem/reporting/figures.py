"""Figures from records: curves of one row over steps, a measure against a swept option.

Object-oriented matplotlib on the Agg canvas: no window, no global state. The SVG holds no date and draws its
ids from a fixed salt, so the same records give the same bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from seqmem.core.digits import significant
from seqmem.core.errors import NotApplicable, UsageError
from seqmem.core.measures import Measure
from seqmem.core.sanitize import clean
from seqmem.plugin.specs import MetricSpec
from seqmem.record.reader import RunRecord, scheduled
from seqmem.record.row import Row
from seqmem.scoring.size_trend import arm_of
from seqmem.scoring.statistics import LEVEL, t_interval

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from seqmem.scoring.size_trend import SizeCurve

Array = npt.NDArray[np.float64]

# Okabe & Ito: told apart by colour-blind readers. Yellow is left out, it fades on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#8C6D31")
_TWINS = "#666666"
_REST = "#999999"
_RESTED = "rest"
_TRAINED = "training, in its curve's colour"
_NEVER = "never trained"
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


def has_curves(row: Row) -> bool:
    """Whether the row has a finished run with facts, or labelled documents, that were probed."""
    return any(not _curves([run], twins=False).empty for run in row.runs.values())


def curves_figure(row: Row) -> Figure:
    """Recall per loop, task or group over steps and below it answer loss; of documents only their loss.

    More than eight of them are drawn as a map of the change of loss since the start.

    Lines are means over seeds, bands 95 % t intervals over seeds (from two up), dashed lines the never-trained
    twins, shades the visits in their loop's colour and the rest in grey.

    Raises:
        UsageError: the row has no finished run, or nothing that can be drawn as a curve.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

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
        panels = [("correct", "recall\n(share right)"), ("loss", "answer loss\n(nats per token)")]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 2.2 + 2.5 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        names = {int(str(n)): str(name) for n, name in trained.groupby("series")["name"].first().items()}
        colours = dict(zip(sorted(names), COLOURS, strict=False))
        for axis, (quantity, label) in zip(axes, panels, strict=True):
            _shade(axis, runs, colours)
            for series, name in sorted(names.items()):
                own = trained[trained["series"] == series]
                _line(axis, own, quantity, colours[series], clean(name))
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
        _legend(figure, [axes[0]])
        return figure


def _map_figure(row: Row, curves: pd.DataFrame, seeds: int) -> Figure:
    """Change of loss as a map, one line upwards per loop: more curves than colours cannot be told apart."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    table = curves.pivot_table(index="series", columns="step", values="loss", aggfunc="mean")
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
        axis.set_ylabel(f"{str(curves['name'].iloc[0]).split(' ')[0]}, in order")
        axis.set_title(_title(row, seeds, "mean over seeds"))
        return figure


def _curves(runs: Sequence[RunRecord], *, twins: bool) -> pd.DataFrame:
    """Per seed, series and step: mean recall and loss of the primary rung, whichever schedule asked.

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
        means = rows.groupby(["series", "name", "step"], as_index=False)[["correct", "loss"]].mean()
        parts.append(means.assign(seed=run.seed))
    return pd.concat(parts, ignore_index=True)


def _series_names(run: RunRecord) -> dict[int, str]:
    """Task labels as the protocol speaks of them: loops, tasks or groups of facts."""
    table = run.experiences[run.experiences["task_label"].notna()]
    nouns = {"loop": "loop", "task": "task"}
    phases = table.groupby("task_label")["phase"].first().items()
    return {int(label): f"{nouns.get(phase, 'group')} {int(label)}" for label, phase in phases}  # type: ignore[call-overload]


def mean_band(values: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Mean over seeds and its 95 % t interval, point by point.

    Args:
        values: (seeds, points), NaN where a seed has no value.

    Returns:
        Mean, lower and upper end, (points,) each; both ends equal the mean below two seeds.
    """
    table = np.asarray(values, dtype=float)
    n = np.sum(~np.isnan(table), axis=0)
    with warnings.catch_warnings():  # a point that no seed has is NaN, which draws nothing
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(table, axis=0)
        spread = np.nanstd(table, axis=0, ddof=1)
    half = stats.t.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1)) * spread / np.sqrt(np.maximum(n, 1))
    half = np.where(n > 1, half, 0.0)
    return mean, mean - half, mean + half


def draw_metric(metric: MetricSpec, rows: Sequence[Row], path_stem: Path) -> tuple[Path, Path] | None:
    """Write the figure a metric makes of these rows as PNG and SVG; None where it has nothing to draw."""
    import matplotlib as mpl

    drawn = [row for row in rows if row.runs]
    if metric.draw is None or not drawn:
        return None
    with mpl.rc_context(_STYLE):
        try:
            figure = metric.draw(drawn)
        except NotApplicable:
            return None
        return None if figure is None else _save(figure, path_stem)


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
    if table.shape[1] > 1:
        _, low, high = mean_band(table.to_numpy().T)
        if quantity == "correct":
            low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)


def _shade(axis: Axes, runs: Sequence[RunRecord], colours: Mapping[int, Any]) -> None:
    """Shade what was trained when; visits only where every seed visited the same loop at that time."""
    wanted = ["phase", "task_label", "first_step", "steps"]
    tables = [run.experiences[wanted] for run in runs]
    same = all(table.equals(tables[0]) for table in tables)
    for phase, label, first, steps in tables[0].itertuples(index=False):
        if phase == "rest":
            axis.axvspan(first, first + steps, color=_REST, alpha=0.15, linewidth=0, zorder=0, label=_RESTED)
        elif phase != "general" and same and label in colours:
            own = colours[int(label)]
            axis.axvspan(first, first + steps, color=own, alpha=0.1, linewidth=0, zorder=0, label=_TRAINED)


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


def draw_retention(rows: Sequence[Row], title: str, path_stem: Path) -> tuple[Path, Path] | None:
    """Recall against steps since a fact was last trained: how fast memories go, whenever they were made.

    Of every trained fact the uncued question of the primary rung, asked at boundaries and log-spaced steps. Its
    clock starts at the last step of the protocol that stated it; what a strategy rehearses during the rest does
    not set it back. Steps are pooled in bins of half an octave. Grey dashes are never-trained twins and facts
    that are asked but never trained, on the same clock.

    With several models one panel per strategy and one line per model, else one line per strategy; eight lines
    at most. Lines are means over seeds, bands 95 % t intervals over seeds. None where nothing can be recalled.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

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
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 1.6 + 2.2 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axis, (panel, members) in zip(axes, panels.items(), strict=True):
            for line, curve in members.items():
                _forgetting(axis, curve, colours[line], clean(line))
            axis.set_ylabel("recall\n(share right)")
            axis.set_title(clean(panel), fontsize=9)
            axis.grid(axis="y", color="#dddddd", linewidth=0.6, zorder=0)
        axes[0].set_ylim(-0.03, 1.03)
        axes[-1].set_xscale("symlog", linthresh=1, linscale=0.3)
        lags = pd.concat(curves.values())["lag"]
        axes[-1].set_xlim(-0.2 if lags.min() == 0 else 0.85 * lags.min(), 1.15 * lags.max() + 0.2)
        axes[-1].set_xticks(ticks := _log_ticks(lags), [f"{tick:g}" for tick in ticks])
        axes[-1].minorticks_off()
        axes[-1].set_xlabel("optimizer steps since a fact was last trained (log scale)")
        left_out = f", the first {len(colours)} of {len(lines)} lines" if len(lines) > len(colours) else ""
        figure.suptitle(clean(title + left_out), x=0.01, ha="left", fontsize=10)
        _legend(figure, list(axes))
        return _save(figure, path_stem)


def _forgetting(axis: Axes, curve: pd.DataFrame, colour: str, label: str) -> None:
    """Recall of one row over steps since the last exposure, its controls dashed."""
    for control, own in curve.groupby("control"):
        table = own.pivot_table(index="bin", columns="seed", values="correct", aggfunc="mean").sort_index()
        lag = own.groupby("bin")["lag"].mean().to_numpy()
        mean, low, high = mean_band(table.to_numpy().T)
        if control:
            axis.plot(lag, mean, color=_TWINS, linewidth=1, dashes=(4, 2), zorder=2, label=_NEVER)
            continue
        axis.plot(lag, mean, color=colour, marker="o", markersize=3, linewidth=1.5, zorder=3, label=label)
        if table.shape[1] > 1:
            low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
            axis.fill_between(lag, low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)


def _log_ticks(values: pd.Series) -> list[float]:
    """1, 3, 10, 30 and so on within the values, and 0 where they begin there."""
    ticks = [factor * 10.0**power for power in range(9) for factor in (1, 3)]
    return [0.0] * bool((values == 0).any()) + [t for t in ticks if values.min() <= t <= values.max()]


def _since_trained(row: Row) -> pd.DataFrame:
    """Answers by seed, steps since the fact's last exposure (`lag`), its `bin`, and whether it is a control."""
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
    """Step of the last exposure that the protocol gives a fact, by fact; a strategy's rehearsals are none."""
    planned = run.exposures[run.exposures["count"] > run.exposures["rehearsed"]]
    last: pd.Series = planned.groupby("fact")["step"].max()
    return last


def draw_size_trend(curves: Sequence[SizeCurve], title: str, path_stem: Path) -> tuple[Path, Path] | None:
    """Measures against model size: a panel per measure, a colour per strategy.

    Points are means over seeds with their 95 % t intervals over seeds, lines ordinary least squares on
    log10(parameters), dashed where there are too few sizes for an interval. None where no measure has values at
    two sizes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = [curve for curve in curves if curve.trend.slope is not None]
    if not drawn:
        return None
    measures = {curve.measure.name: curve.measure for curve in drawn}
    arms = list(dict.fromkeys(curve.arm for curve in drawn))
    colours = dict(zip(arms, _cycle(len(arms)), strict=True))
    sizes: dict[int, list[str]] = {}
    for point in (point for curve in drawn for point in curve.points):
        if point.model not in sizes.setdefault(point.parameters, []):
            sizes[point.parameters].append(point.model)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 1.4 + 2 * len(measures)), layout="constrained")
        axes = figure.subplots(len(measures), 1, sharex=True, squeeze=False)[:, 0]
        for axis, measure in zip(axes, measures.values(), strict=True):
            for curve in drawn:
                if curve.measure.name == measure.name:
                    _size_line(axis, curve, colours[curve.arm])
            axis.set_ylabel(f"{clean(measure.name)}\n({clean(measure.unit)})")
            axis.grid(axis="y", color="#dddddd", linewidth=0.6)
            axis.set_axisbelow(True)
        axes[-1].set_xscale("log")
        ticks = [
            clean(f"{', '.join(name.rpartition('/')[2] for name in names)} ({short_count(size)})")
            for size, names in sizes.items()
        ]
        axes[-1].set_xticks(list(sizes), ticks, rotation=30, ha="right", rotation_mode="anchor")
        axes[-1].minorticks_off()
        axes[-1].set_xlabel("model (parameters, log scale)")
        figure.suptitle(clean(title), x=0.01, ha="left", fontsize=10)
        _legend(figure, list(axes))
        return _save(figure, path_stem)


def _size_line(axis: Axes, curve: SizeCurve, colour: str) -> None:
    """One measure of one strategy over model sizes, with its fitted line."""
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


def short_count(count: int) -> str:
    """A number of parameters as models are named: ``1.05M``, ``410M``, ``1.4B``."""
    shown = float(f"{count:.3g}")
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if shown >= limit:
            return f"{significant(shown / limit)}{unit}"
    return str(count)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend beside the panels; a label that stands in several is listed once, controls and shades last."""
    handles: dict[str, Artist] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = sorted(handles, key=lambda label: label in (_NEVER, _RESTED, _TRAINED))
    figure.legend([handles[label] for label in order], order, loc="outside right upper", frameon=False)


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
    # what was laid out stays: laying it out again for the SVG takes half the time
    figure.set_layout_engine("none")
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg
