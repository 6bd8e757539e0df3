"""Bits stored per parameter against the facts trained, or the exposures of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqmem import COLOURS, Row, clean, mean_band
from seqmem.reading import Array
from seqmem_plugins.metrics.bits_per_parameter import (
    capacity,
    exposures_at,
    offered_bits,
    parameters,
    trained_facts,
)
from seqmem_plugins.metrics.figures._panels import facts, only_ticks, seeds, title

ANCHORS = {1: "1 bit: published at 100 exposures", 2: "2 bits: published at 1000 exposures"}
"""Names of the figure's horizontal lines, by bits per parameter."""
TOP = 2.4
"""Upper end of the figure's axis, bits per parameter."""
MAX_PANELS = 4


@dataclass(frozen=True)
class _Measured:
    """A row of the table, as it is drawn.

    Attributes:
        facts: how many were trained.
        exposures: of each fact when it was asked, one per boundary after the first.
        bits: (seeds, boundaries) bits per parameter.
        offered: bits per parameter there were to learn.
    """

    facts: int
    exposures: list[float]
    bits: Array
    offered: float

    @classmethod
    def of(cls, row: Row) -> _Measured:
        """Read the runs of all seeds; they differ in nothing but the seed."""
        curves = [capacity(run).iloc[1:] for run in row.runs.values()]
        run = next(iter(row.runs.values()))
        facts = trained_facts(run)
        return cls(
            facts,
            exposures_at(run, curves[0].index.to_list()),
            np.array([curve.to_numpy() for curve in curves]),
            facts * offered_bits(run) / parameters(run),
        )


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw bits per parameter against facts trained: a panel per arm, a line per number of exposures.

    Where no arm has runs of several numbers of facts, against exposures instead: a line per row.
    """
    arms: dict[str, list[Row]] = {}
    for row in rows:
        arms.setdefault(_arm(row, _counts(rows)), []).append(row)
    swept = any(len(own) > 1 for own in arms.values())
    shown = list(arms.items())[:MAX_PANELS] if swept else [("", list(rows[: len(COLOURS)]))]
    figure = Figure(figsize=(2.2 + 3.8 * len(shown), 3.6), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, (arm, own) in zip(axes, shown, strict=True):
        if swept:
            _against_facts(axis, [_Measured.of(row) for row in own])
        else:
            _against_exposures(axis, {row.label: _Measured.of(row) for row in own})
        axis.set_title(clean(arm) if len(shown) > 1 else "")
        for bits, published in ANCHORS.items():
            axis.axhline(bits, color="black", linewidth=0.8, linestyle=":", zorder=1)
            axis.annotate(
                published, (0.01, bits), xycoords=("axes fraction", "data"), fontsize=7, va="bottom"
            )
        axis.set_ylim(0, TOP)
    axes[0].set_ylabel("bits stored per parameter")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    count = sum(len(own) for _, own in shown)
    parts = seeds(rows, "band: 95 % interval over seeds")
    parts += [f"first {count} of {len(rows)} rows"] * (count < len(rows))
    title(figure, f"Bits per parameter: {facts(rows[0], 'scenario', 'model')} ({', '.join(parts)})")
    return figure


def _counts(rows: Sequence[Row]) -> list[str]:
    """Return the swept options whose value is the number of facts trained, in every row."""
    trained = {row.label: trained_facts(next(iter(row.runs.values()))) for row in rows}
    return [name for name in rows[0].swept if all(row.swept.get(name) == trained[row.label] for row in rows)]


def _arm(row: Row, without: Sequence[str]) -> str:
    """Return what tells a row apart besides the number of facts trained."""
    own = [f"{name}={value}" for name, value in row.swept.items() if name not in without]
    return " ".join([str(row.facts["strategy"]), str(row.facts["model"]), *own])


def _against_facts(axis: Axes, points: Sequence[_Measured]) -> None:
    """Draw a line per number of exposures, and the bits offered, above which no line can rise."""
    points = sorted(points, key=lambda point: point.facts)
    counts = [point.facts for point in points]
    runs = max(len(point.bits) for point in points)
    for place, exposures in reversed(list(enumerate(points[0].exposures))):
        bits = np.full((runs, len(points)), np.nan)  # a seed that failed leaves a gap
        for column, point in enumerate(points):
            bits[: len(point.bits), column] = point.bits[:, place]
        colour = COLOURS[(len(points[0].exposures) - 1 - place) % len(COLOURS)]
        _line(axis, counts, bits, colour, f"{exposures:.3g} exposures")
    offered = [point.offered for point in points]  # bent between points like the lines it bounds
    axis.plot(counts, offered, color="#666666", dashes=(4, 2), label="bits offered")
    only_ticks(axis, counts, [f"{count:,}" for count in counts])
    axis.set_xlabel("facts trained")


def _against_exposures(axis: Axes, points: Mapping[str, _Measured]) -> None:
    """Draw a line per row."""
    for colour, (label, point) in zip(COLOURS, points.items(), strict=False):
        _line(axis, point.exposures, point.bits, colour, clean(f"{label}, {point.facts:,} facts"))
    ticks = sorted({exposures for point in points.values() for exposures in point.exposures})
    only_ticks(axis, ticks, [f"{exposures:.3g}" for exposures in ticks])
    axis.set_xlabel("exposures of each fact")


def _line(axis: Axes, x: Sequence[float], bits: Array, colour: str, label: str) -> None:
    """Draw the mean over seeds of (seeds, points) with its 95 % t interval."""
    mean, low, high = mean_band(bits)
    axis.plot(x, mean, color=colour, marker="o", markersize=3, linewidth=1.3, label=label)
    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
