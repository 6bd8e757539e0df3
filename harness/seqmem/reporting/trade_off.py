"""Plasticity against stability: what is kept, over what a row must go on learning and leave intact.

A row alone at the top of a ranking may have paid for it. Here every gate has a panel, and so has what is kept where the
rows are ranked by what they learn, with the rows that no other row beats in both measures joined to a front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmem.core.digits import rounded
from seqmem.core.measures import Interval, Measure
from seqmem.core.sanitize import clean, file_names
from seqmem.reporting.drawing import COLOURS, draw_legend, grid, save, styled
from seqmem.reporting.fields import unit_of
from seqmem.scoring.comparison import Comparison, Table
from seqmem.scoring.numbers import format_interval

TITLE = "plasticity and stability"
"""Name of the figure's file."""
_MARKERS = "os^DPvX*<>"
_PANEL = 4.2
"""Inches."""


@dataclass(frozen=True)
class Point:
    """A row in the plane of a gate and the primary measure.

    Attributes:
        x, y: of the gate, and of the primary measure.
        ranked: the row may be ranked.
        front: no other row is better in one of the two and not worse in the other.
    """

    label: str
    x: Interval
    y: Interval
    ranked: bool
    front: bool


def measures_against(comparison: Comparison) -> list[Measure]:
    """Return the measures that the primary one is drawn over: the gates, and the first one of what is kept."""
    kept = [
        one
        for one in comparison.measures
        if one.role == "kept"
        and one.name != comparison.primary.name
        and any(comparison.cells[row.label, one.name].interval for row in comparison.rows)
    ]
    return [*comparison.gates, *kept[:1]] if comparison.gates else []


def points(comparison: Comparison, gate: Measure) -> list[Point]:
    """Return the rows that have a value of both, best first; none that changes the stream is on the front."""
    placed = []
    for row in comparison.best_first():
        x, y = (comparison.cells[row.label, m.name].interval for m in (gate, comparison.primary))
        if x is not None and y is not None:
            placed.append((row, x, y))
    signs = [-1 if measure.direction == "lower" else 1 for measure in (gate, comparison.primary)]
    at = {row.label: (signs[0] * x.mean, signs[1] * y.mean) for row, x, y in placed if not row.changes_stream}

    def beaten(label: str) -> bool:
        x, y = at[label]
        return any(a >= x and b >= y and (a, b) != (x, y) for a, b in at.values())

    return [
        Point(
            row.label,
            x,
            y,
            row.label in at and not comparison.verdicts[row.label].unranked,
            row.label in at and not beaten(row.label),
        )
        for row, x, y in placed
    ]


def trade_off_charts(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the data of the charts of one comparison, as `measures_against` says."""
    primary = comparison.primary
    made = []
    for gate in measures_against(comparison):
        found = points(comparison, gate)
        if not found:
            continue
        made.append(
            {
                "x": clean(f"{gate.name} ({unit_of(gate)})"),
                "y": clean(f"{primary.name} ({unit_of(primary)})"),
                "turned": [channel for channel, m in (("x", gate), ("y", primary)) if m.direction == "lower"],
                "description": clean(
                    f"{primary.name} over {gate.name} of {len(found)} rows, with 95 % intervals over seeds and the "
                    "front of rows that no other beats in both."
                ),
                # all rows in every chart: a row has the same colour in each
                "series": [clean(row.label) for row in comparison.best_first()],
                "points": [_drawn(one, gate, primary) for one in found],
                "front": [
                    {"x": rounded(one.x.mean, 6), "y": rounded(one.y.mean, 6)}
                    for one in _along_the_front(found)
                ],
            }
        )
    return made


def _along_the_front(found: Sequence[Point]) -> list[Point]:
    return sorted((one for one in found if one.front), key=lambda one: one.x.mean)


def _drawn(one: Point, gate: Measure, primary: Measure) -> dict[str, Any]:
    (x_low, x_high), (y_low, y_high) = map(_ends, (one.x, one.y))
    return {
        "series": clean(one.label),
        **{
            name: rounded(value, 6)
            for name, value in (
                ("x", one.x.mean),
                ("x_low", x_low),
                ("x_high", x_high),
                ("y", one.y.mean),
                ("y_low", y_low),
                ("y_high", y_high),
            )
        },
        "ranked": one.ranked,
        "shown": clean(
            f"{primary.name} {format_interval(one.y, primary.unit)}, {gate.name} {format_interval(one.x, gate.unit)}"
        ),
    }


def _ends(interval: Interval) -> tuple[float, float]:
    mean = interval.mean
    return mean if interval.low is None else interval.low, mean if interval.high is None else interval.high


def draw_trade_offs(table: Table, folder: Path) -> None:
    """Write the figure of every comparison that has gates, named by model and reference where there are several."""
    names = [
        TITLE if len(table.boards) == 1 else f"{TITLE} {one.model} {one.reference}" for one in table.boards
    ]
    files = file_names(names)
    for one, name in zip(table.boards, names, strict=True):
        draw_trade_off(one, folder / files[name])


@styled
def draw_trade_off(comparison: Comparison, path_stem: Path) -> tuple[Path, Path] | None:
    """Write one figure with a panel per gate, as PNG and SVG, and return both paths; None without a gate."""
    from matplotlib.figure import Figure

    panels = [(gate, found) for gate in measures_against(comparison) if (found := points(comparison, gate))]
    if not panels:
        return None
    figure = Figure(figsize=(_PANEL * len(panels) + 1.6, _PANEL), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    labels = [row.label for row in comparison.best_first()]
    for axis, (gate, found) in zip(axes, panels, strict=True):
        front = _along_the_front(found)
        axis.plot(
            [one.x.mean for one in front], [one.y.mean for one in front],
            color="#999999", linestyle=":", zorder=1,
        )  # fmt: skip
        for one in found:
            place = labels.index(one.label)
            colour, marker = COLOURS[place % len(COLOURS)], _MARKERS[place % len(_MARKERS)]
            (x_low, x_high), (y_low, y_high) = map(_ends, (one.x, one.y))
            look = {"color": colour, "linewidth": 1, "zorder": 2}
            axis.plot([x_low, x_high], [one.y.mean] * 2, **look)
            axis.plot([one.x.mean] * 2, [y_low, y_high], **look)
            axis.plot(
                [one.x.mean], [one.y.mean],
                marker=marker, color=colour, markersize=7, linestyle="none", zorder=3,
                markerfacecolor=colour if one.ranked else "white",
                label=clean(one.label) + ("" if one.ranked else ", not ranked"),
            )  # fmt: skip
        if gate.direction == "lower":
            axis.invert_xaxis()  # better is to the right in every panel
        if comparison.primary.direction == "lower" and axis is axes[0]:
            axis.invert_yaxis()
        axis.set_xlabel(f"{gate.name} ({unit_of(gate)})")
        grid(axis)
    axes[0].set_ylabel(f"{comparison.primary.name} ({unit_of(comparison.primary)})")
    axes[0].set_title("better is up and to the right; dotted: the front")
    draw_legend(figure, list(axes))
    return save(figure, path_stem)
