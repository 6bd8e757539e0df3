"""Answer loss and recall against the target of `cosine_steer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqmem import COLOURS, Missing, Row, RunRecord, clean, mean_band, reading
from seqmem_plugins.metrics.figures._panels import CONTROL, GRID, finish, line, settings
from seqmem_plugins.metrics.update_cosine import STRATEGY, target

TARGET_OPTIONS = {"strategy.target", f"strategy.{STRATEGY}.target"}
PANELS = {"loss": "answer loss\n(nats per token)", "right": "recall\n(share right)"}


def outcomes(run: RunRecord) -> pd.DataFrame:
    """Return mean answer loss and recall of the trained facts, at the end of the loops and, below, of what follows.

    Raises:
        Missing: facts are not asked there.
    """
    asked = reading.questions(run)
    steps = dict.fromkeys((reading.loops_end(run), reading.stream_end(run)))
    table = asked[asked["step"].isin(steps)].groupby("step")[list(PANELS)].mean()
    if len(table) < len(steps):
        raise Missing("facts are not asked at the end of the loops and of the stream")
    return table.astype(float).set_axis(["at the end of the loops", "at the end of the rest"][: len(steps)])


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw answer loss and recall against the target: a line per strategy and combination of what else was swept.

    Rows whose target was not swept, such as the reference, are dashed levels in the colour of the first line that
    shares the rest. None where no line has two targets.
    """
    found = {row.label: _outcomes(row) for row in rows}
    lines: dict[str, dict[float, Row]] = {}
    colours: dict[str, str] = {}
    for row in rows:
        if found[row.label] and row.swept.keys() & TARGET_OPTIONS and len(lines) < len(COLOURS):
            name = f"{row.facts.get('strategy', '')} {_beside(row)}".strip()
            lines.setdefault(name, {})[target(next(iter(row.runs.values())))] = row
            colours.setdefault(_beside(row), COLOURS[len(lines) - 1])
    levels = [row for row in rows if found[row.label] and not row.swept.keys() & TARGET_OPTIONS]
    if max(map(len, lines.values()), default=0) < 2:
        return None
    first = next(iter(next(iter(lines.values())).values()))
    times = list(found[first.label][min(first.runs)].index)
    figure = Figure(figsize=(2.5 + 4 * len(times), 5.4), layout="constrained")
    axes = figure.subplots(len(PANELS), len(times), sharex=True, sharey="row", squeeze=False)
    for (quantity, label), panels in zip(PANELS.items(), axes, strict=True):
        panels[0].set_ylabel(label)
        for axis, time in zip(panels, times, strict=True):
            for colour, (name, steered) in zip(COLOURS, lines.items(), strict=False):
                table = pd.DataFrame(
                    {at: _seeds(found[row.label], time, quantity) for at, row in steered.items()}
                )
                curves = {int(str(seed)): values for seed, values in table.iterrows()}
                line(axis, curves, colour, name, marker="o")
            for row in levels:
                level = _seeds(found[row.label], time, quantity)
                _level(axis, list(level.values()), colours.get(_beside(row), CONTROL), row.label)
            axis.grid(axis="y", color=GRID, linewidth=0.6)
    for axis, time in zip(axes[0], times, strict=True):
        axis.set_title(time)
    for axis in axes[-1]:
        axis.set_xlabel("target cosine with the other loops")
        axis.set_xticks([-1, -0.5, 0, 0.5, 1])
        axis.set_ylim(-0.03, 1.03)
    finish(figure, [first], "Memory against the angle between loops")
    return figure


def _outcomes(row: Row) -> dict[int, pd.DataFrame]:
    """Return the outcomes of a row's runs, by seed; empty where one was not asked."""
    found = reading.by_seed(row.runs, outcomes)
    return found if len(found) == len(row.runs) else {}


def _seeds(found: Mapping[int, pd.DataFrame], time: str, quantity: str) -> dict[int, float]:
    return {seed: float(table[quantity].to_dict()[time]) for seed, table in found.items()}


def _beside(row: Row) -> str:
    """Return what was swept besides the target."""
    return " ".join(settings(row, without=sorted(TARGET_OPTIONS)))


def _level(axis: Axes, values: Sequence[float], colour: str, label: str) -> None:
    """Draw the mean over seeds as a dashed line across, with its 95 % interval."""
    mean, low, high = mean_band(np.array(values)[:, None])
    axis.axhline(float(mean[0]), color=colour, linestyle="--", linewidth=1, label=clean(label))
    if len(values) > 1:
        axis.axhspan(float(low[0]), float(high[0]), color=colour, alpha=0.08, linewidth=0)
