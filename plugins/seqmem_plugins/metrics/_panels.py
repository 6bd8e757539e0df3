"""What the figures of several metrics share: a panel per row of the table, a line over seeds with its band."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from seqmem import clean, mean_band

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from seqmem import Row

MOST_ROWS = 3
"""Rows of a table that are drawn; further ones are named as left out."""
CONTROL = "#666666"
_LETTERS_PER_INCH = 12


def line(
    axis: Axes,
    curves: Mapping[int, pd.Series],
    colour: str,
    label: str,
    *,
    style: str = "-",
    marker: str = "",
) -> None:
    """Mean over seeds of curves by seed, with a 95 % t interval over seeds, at every x that a seed has."""
    table = pd.DataFrame(dict(curves)).sort_index()
    x = table.index.to_numpy(dtype=float)
    mean, low, high = mean_band(table.to_numpy(dtype=float).T)
    name = clean(label)
    axis.plot(x, mean, color=colour, linestyle=style, marker=marker, markersize=3, linewidth=1.3, label=name)
    if table.shape[1] > 1:
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def log_steps(axis: Axes) -> None:
    """Steps on a logarithmic axis, with plain numbers as labels."""
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axis.xaxis.set_minor_formatter(lambda value, position: "")


def finish(figure: Figure, rows: Sequence[Row], what: str) -> None:
    """Title with scenario, model, seeds and what the bands are; one legend beside the panels."""
    handles: dict[str, Artist] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside right center", frameon=False)
    facts = rows[0].facts
    names = ", ".join(str(facts[name]) for name in ("scenario", "model") if facts.get(name))
    seeds = max(len(row.runs) for row in rows)
    parts = [f"{seeds} seed{'s' * (seeds > 1)}"] + ["band: 95 % interval over seeds"] * (seeds > 1)
    if len(rows) > MOST_ROWS:
        parts.append(f"first {MOST_ROWS} of {len(rows)} rows")
    title = clean(f"{what}: {names} ({', '.join(parts)})")
    figure.suptitle(
        textwrap.fill(title, int(_LETTERS_PER_INCH * figure.get_figwidth())), x=0.01, ha="left", fontsize=10
    )
