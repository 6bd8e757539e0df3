"""The look of figures, and how they are written.

Object-oriented matplotlib on the Agg canvas: no window, no global state. The SVG holds no date and draws its
ids from a fixed salt, so the same records give the same bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from seqmem.record.files import whole_file
from seqmem.scoring.shares import MIN_SEEDS
from seqmem.scoring.statistics import LEVEL

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
P = ParamSpec("P")
R = TypeVar("R")

# Okabe & Ito: told apart by colour-blind readers. Yellow is left out, it fades on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#8C6D31")
TWINS = "#666666"
RESTED = "rest"
TRAINED = "training, in its curve's colour"

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


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Return the function drawing in the style of all figures."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return in_style


def new_figure(width: float, height: float, panels: int = 1) -> tuple[Figure, Any]:
    """Return an empty figure of panels above each other, and their axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]


def mean_band(values: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Return the mean over seeds and its 95 % t interval, point by point.

    Args:
        values: (seeds, points), NaN where a seed has no value.

    Returns:
        Mean, lower and upper end, (points,) each; both ends equal the mean below three seeds.
    """
    table = np.asarray(values, dtype=float)
    n = np.sum(~np.isnan(table), axis=0)
    with warnings.catch_warnings():  # a point that no seed has is NaN, which draws nothing
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(table, axis=0)
        spread = np.nanstd(table, axis=0, ddof=1)
    half = stats.t.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1)) * spread / np.sqrt(np.maximum(n, 1))
    half = np.where(n >= MIN_SEEDS, half, 0.0)
    return mean, mean - half, mean + half


def draw_band(axis: Axes, x: Array, table: pd.DataFrame, colour: Any, *, share: bool) -> None:
    """Fill the interval over seeds (columns of the table) around a line; nothing below three seeds."""
    if table.shape[1] >= MIN_SEEDS:
        _, low, high = mean_band(table.to_numpy().T)
        most = 1 if share else None  # recall is a share; a loss has no upper end, but none is below 0
        low, high = np.clip(low, 0, most), np.clip(high, 0, most)
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)


def grid(axis: Axes) -> None:
    """Draw faint lines behind everything else at the y axis's ticks."""
    axis.grid(axis="y", color="#dddddd", linewidth=0.6, zorder=0)


def cycle(count: int) -> list[str]:
    """Return this many colours, the first ones again where there are more than colours."""
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def draw_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw one legend beside the panels; a label of several is listed once, shades come last."""
    handles: dict[str, Artist] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = sorted(handles, key=lambda label: label in (RESTED, TRAINED))
    figure.legend([handles[label] for label in order], order, loc="outside right upper", frameon=False)


def save(figure: Figure, path_stem: Path) -> tuple[Path, Path]:
    """Write PNG and SVG beside each other, without date or version, and return their paths."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg = (path_stem.with_name(f"{path_stem.name}.{ending}") for ending in ("png", "svg"))
    with whole_file(png, lasting=False) as file:
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    # what was laid out stays: laying it out again for the SVG takes half the time
    figure.set_layout_engine("none")
    with whole_file(svg, lasting=False) as file:
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return png, svg
