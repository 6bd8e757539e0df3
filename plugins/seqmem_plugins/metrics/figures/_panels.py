"""Parts that the figures of several metrics share: a panel per row of the table, a line over seeds with its band."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from seqmem import Row, RunRecord, clean, mean_band, reading

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MAX_ROWS = 3
"""Rows of a table that are drawn; further ones are named as left out."""
CONTROL = "#666666"
GRID = "#dddddd"
_LETTERS_PER_INCH = 12


def complete(rows: Sequence[Row], read: Callable[[RunRecord], object]) -> list[Row]:
    """Return the rows of whose runs each can be read."""
    return [row for row in rows if len(reading.by_seed(row.runs, read)) == len(row.runs)]


def line(
    axis: Axes,
    curves: Mapping[int, pd.Series],
    colour: str,
    label: str,
    *,
    style: str = "-",
    marker: str = "",
) -> None:
    """Draw the mean over seeds of curves by seed, with a 95 % t interval over seeds, at every x that a seed has."""
    table = pd.DataFrame(dict(curves)).sort_index()
    x = table.index.to_numpy(dtype=float)
    mean, low, high = mean_band(table.to_numpy(dtype=float).T)
    name = clean(label)
    axis.plot(x, mean, color=colour, linestyle=style, marker=marker, markersize=3, linewidth=1.3, label=name)
    if table.shape[1] > 1:
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def log_steps(axis: Axes) -> None:
    """Put steps on a logarithmic axis, with plain numbers as labels."""
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axis.xaxis.set_minor_formatter(lambda value, position: "")


def only_ticks(axis: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """Put an axis on a logarithmic scale with these ticks and no others."""
    axis.set_xscale("log")
    axis.set_xticks(places, labels)
    axis.minorticks_off()


def seeds(rows: Sequence[Row], bands: str = "") -> list[str]:
    """Return how many seeds the rows have, in words, and what their bands are from three up."""
    count = max(len(row.runs) for row in rows)
    return [f"{count} seed{'s' * (count > 1)}"] + [bands] * (count > 2 and bool(bands))


def facts(row: Row, *names: str) -> str:
    """Return what a row states under these names, as far as it does."""
    return ", ".join(str(row.facts[name]) for name in names if row.facts.get(name))


def settings(row: Row, without: Collection[str] = ()) -> list[str]:
    """Return the options of a row that were swept, some left out."""
    return [f"{name}={value}" for name, value in sorted(row.swept.items()) if name not in without]


def title(figure: Figure, text: str) -> None:
    """Write the title of a figure at its left."""
    figure.suptitle(clean(text), x=0.01, ha="left", fontsize=10)


def finish(figure: Figure, rows: Sequence[Row], what: str) -> None:
    """Add a title with scenario, model, seeds and what the bands are, and one legend beside the panels."""
    handles: dict[str, Artist] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside right center", frameon=False)
    parts = seeds(rows, "band: 95 % interval over seeds")
    if len(rows) > MAX_ROWS:
        parts.append(f"first {MAX_ROWS} of {len(rows)} rows")
    text = clean(f"{what}: {facts(rows[0], 'scenario', 'model')} ({', '.join(parts)})")
    wrapped = textwrap.fill(text, int(_LETTERS_PER_INCH * figure.get_figwidth()))
    figure.suptitle(wrapped, x=0.01, ha="left", fontsize=10)
