"""The surface: exposures to criterion over learning rate and batch mix."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqmem import Row, clean, reading
from seqmem_plugins.metrics._trials import limit, restricted_mean, trials
from seqmem_plugins.metrics.exposures_to_criterion import asked_after_exposures
from seqmem_plugins.metrics.figures._panels import facts, seeds, settings

_MAX_PANELS = 6
"""Heat maps that one figure has room for."""

_RATE = "optimizer.lr"
_RATE_LABEL = "learning rate"
_MIX_LABEL = "background rows beside the fact in each step"


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
    axes_of_map = {_RATE, *_mix_options(rows)}
    if not any(option in row.swept for row in rows for option in axes_of_map):
        return None
    panels: dict[str, dict[tuple[Any, ...], Cell]] = {}
    for row in rows:
        cell = cell_of(row)
        if cell is not None:
            run = next(iter(row.runs.values()))
            place = run.recipe["optimizer"]["lr"], run.design.others
            panels.setdefault(_panel_title(row, axes_of_map), {})[place] = cell
    if not panels:
        return None
    shown = list(panels.items())[:_MAX_PANELS]
    rates, mixes = (sorted({place[axis] for _, surface in shown for place in surface}) for axis in range(2))
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
        axis.set_ylabel(_RATE_LABEL)
    figure.supxlabel(_MIX_LABEL, fontsize=9)
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


def _mix_options(rows: Sequence[Row]) -> set[str]:
    """Return the swept options that set the batch mix: in every row their value is what the stream declares."""
    declared = [(row.swept, run.design.others) for row in rows for run in list(row.runs.values())[:1]]
    names = {name for swept, others in declared for name in swept if others is not None}
    return {name for name in names if all(swept.get(name) == others for swept, others in declared)}


def _panel_title(row: Row, without: Collection[str]) -> str:
    """Return the strategy, and what else was swept."""
    return " ".join([str(row.facts.get("strategy", row.label)), *settings(row, without=without)])


def _title(rows: Sequence[Row], left_out: int) -> str:
    more = f"; {left_out} panels left out" if left_out else ""
    return "\n".join(
        clean(line)
        for line in (
            f"{facts(rows[0], 'scenario', 'model')}: exposures until a new fact is recalled",
            f"mean over {seeds(rows)[0]}; below, how many of the facts ever were{more}",
        )
    )
