"""The surface: exposures to criterion over learning rate and batch mix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqmem import Row, RunRecord, clean, reading
from seqmem_plugins.metrics._trials import limit, restricted_mean, trials
from seqmem_plugins.metrics.exposures_to_criterion import asked_after_exposures
from seqmem_plugins.metrics.figures._panels import facts, seeds, settings

_MAX_PANELS = 6
"""Heat maps that one figure has room for."""

_AXES: Mapping[str, tuple[str, Callable[[RunRecord], Any]]] = {
    # swept option: label of its axis, and its value in a run
    "optimizer.lr": ("learning rate", lambda run: run.recipe["optimizer"]["lr"]),
    "scenario.others": ("background rows beside the fact in each step", lambda run: run.design.others),
}


@dataclass(frozen=True)
class Cell:
    """One learning rate with one batch mix, over seeds.

    Attributes:
        mean: mean over seeds of the restricted mean, in exposures.
        reached, facts: facts that reached the criterion, and all, seeds pooled.
        limit: most exposures from which the criterion can be reached.
    """

    mean: float
    reached: int
    facts: int
    limit: int

    @property
    def text(self) -> str:
        """Return what stands in the map: with censored facts a bound, with nothing else no mean."""
        share = f"\n{self.reached} of {self.facts}"
        if not self.reached:
            return f"> {self.limit}{share}"
        return f"{'' if self.reached == self.facts else '≥ '}{self.mean:.1f}{share}"


def cell_of(row: Row) -> Cell | None:
    """Return the row's cell; None where it has no run that measures exposures."""
    runs = reading.by_seed(row.runs, asked_after_exposures)
    if not runs:
        return None
    found = {seed: trials(run) for seed, run in runs.items()}
    means = [restricted_mean(own, limit(runs[seed])) for seed, own in found.items()]
    pooled = [trial for own in found.values() for trial in own]
    return Cell(
        float(np.mean(means)),
        sum(trial.reached for trial in pooled),
        len(pooled),
        max(map(limit, runs.values())),
    )


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw a panel per strategy; None where neither learning rate nor batch mix is swept."""
    if not any(option in row.swept for row in rows for option in _AXES):
        return None
    panels: dict[str, dict[tuple[Any, ...], Cell]] = {}
    for row in rows:
        cell = cell_of(row)
        if cell is not None:
            run = next(iter(row.runs.values()))
            place = tuple(read(run) for _, read in _AXES.values())
            panels.setdefault(_panel_title(row), {})[place] = cell
    if not panels:
        return None
    shown = list(panels.items())[:_MAX_PANELS]
    rates, mixes = (
        sorted({place[axis] for _, surface in shown for place in surface}) for axis in range(len(_AXES))
    )
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    width = max(2.4 if columns > 1 else 4.4, 0.9 * len(mixes) + 1.0)  # room for the title
    figure = Figure(
        figsize=(width * columns + 1.6, (0.62 * len(rates) + 1.1) * lines + 0.7), layout="constrained"
    )
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    limit = max(cell.limit for _, surface in shown for cell in surface.values())
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, (title, surface) in zip(axes.flat, shown, strict=False):
        image = _heat_map(axis, surface, rates, mixes, limit)
        axis.set_title(clean(title))
    figure.colorbar(image, ax=axes, label="exposures to criterion (restricted mean)", shrink=0.9)
    for axis in axes[:, 0]:
        axis.set_ylabel(_AXES["optimizer.lr"][0])
    figure.supxlabel(_AXES["scenario.others"][0], fontsize=9)
    figure.suptitle(_title(rows, len(panels) - len(shown)), x=0.01, ha="left", fontsize=10)
    return figure


def _heat_map(
    axis: Axes,
    surface: Mapping[tuple[Any, ...], Cell],
    rates: Sequence[Any],
    mixes: Sequence[Any],
    limit: int,
) -> Any:
    values = np.full((len(rates), len(mixes)), np.nan)
    for (rate, mix), cell in surface.items():
        place = rates.index(rate), mixes.index(mix)
        values[place] = cell.mean
        dark = cell.mean > 0.5 * limit
        axis.text(
            place[1],
            place[0],
            cell.text,
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize=8,
        )
    image = axis.imshow(values, cmap="cividis_r", vmin=0, vmax=limit, aspect="auto", origin="lower")
    axis.set_xticks(range(len(mixes)), [str(mix) for mix in mixes])
    axis.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axis.tick_params(length=0)
    return image


def _panel_title(row: Row) -> str:
    """Return the strategy, and what else was swept."""
    return " ".join([str(row.facts.get("strategy", row.label)), *settings(row, without=tuple(_AXES))])


def _title(rows: Sequence[Row], left_out: int) -> str:
    more = f"; {left_out} panels left out" if left_out else ""
    return "\n".join(
        clean(line)
        for line in (
            f"{facts(rows[0], 'scenario', 'model')}: exposures until a new fact is recalled",
            f"mean over {seeds(rows)[0]}; below, how many of the facts ever were{more}",
        )
    )
