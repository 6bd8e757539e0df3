"""Bits per parameter: how much is stored of what was drawn at random?

A fact whose value was drawn uniformly from a closed set V holds log2 |V| bits that nothing but training can give.
The model's probability of the right value, renormalised over the set, says how many of them it has: log2 |V|
minus the cross-entropy in bits. A value is a closed set's own only where the whole set was scored.

After Allen-Zhu & Li 2024 (arXiv 2404.05405), who bound the bits from below in the same way and count the bits of
names too: about 2 bits per parameter when every fact was met 1000 times, about 1 when 100 times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmem import COLOURS, Measure, MetricSpec, NotApplicable, RunRecord, Value, clean, hookimpl, mean_band
from seqmem_plugins.metrics._curves import Missing, attempt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"

ANCHORS = {1: "1 bit: published at 100 exposures", 2: "2 bits: published at 1000 exposures"}
"""What the figure's horizontal lines mark, by bits per parameter."""
TOP = 2.4
"""Upper end of the figure's axis, bits per parameter."""
MOST_PANELS = 4
FACTS = "scenario.facts"
"""The option whose sweep is the figure's x axis."""


def learned_bits(run: RunRecord, *, twins: bool = False) -> pd.DataFrame:
    """Bits learned of each item at each boundary; rows are steps, columns facts.

    log2 |V| + log2 p, p being the probability of the right value renormalised over its closed set V. Below 0
    where the model is surer of wrong values than a uniform guess; at most log2 |V|.

    Raises:
        NotApplicable: no probe scores the whole closed set its answer was drawn from.
    """
    rows = run.asked(schedule="boundary", twins=twins)
    sizes = rows["choices"].map(len)
    whole = rows["closed"].notna() & np.isclose(sizes * rows["chance"].astype(float), 1)
    if not whole.any():
        raise NotApplicable("no probe scores the whole closed set its answer was drawn from")
    rows = rows[whole]
    bits = np.log2(sizes[whole].astype(float)) + rows["closed"] / math.log(2)
    return rows.assign(bits=bits).pivot_table(index="step", columns="fact", values="bits")


def trained_facts(run: RunRecord) -> int:
    """Facts that training stated at least once, asked for or not."""
    return int(run.exposures["fact"].nunique())


def exposures_at(run: RunRecord, steps: Sequence[int]) -> list[float]:
    """Times that a trained fact had been stated after each of these steps, on average."""
    stated = run.exposures.groupby("step")["count"].sum().sort_index().cumsum()
    done = stated.index.searchsorted(np.asarray(steps), side="right")
    return [float(stated.iloc[n - 1]) / trained_facts(run) if n else 0.0 for n in done]


def capacity(run: RunRecord, *, twins: bool = False) -> pd.Series:
    """Bits stored per parameter at each boundary, by step.

    Mean over items of the bits learned, floored at 0 after averaging, times the facts trained, over all
    parameters of the model. Twins are counted as if as many of them had been trained.
    """
    mean = learned_bits(run, twins=twins).mean(axis=1).clip(lower=0)
    return mean * trained_facts(run) / _parameters(run)


def _parameters(run: RunRecord) -> int:
    return int(run.recipe["model"]["parameters"])


def bits_per_parameter(run: RunRecord) -> Value:
    """Bits stored per parameter at the end of training.

    Unit: bits per parameter; range: 0 to the bits offered; higher is better. A lower bound: only the values
    are counted, not the keys they are asked by.
    """
    return Value(float(capacity(run).iloc[-1]), learned_bits(run).shape[1])


def share(run: RunRecord) -> Value:
    """Bits stored as a share of the bits offered: 1 until the parameters are full, falling beyond.

    Unit: fraction; range 0 to 1; higher is better.
    """
    bits = learned_bits(run)
    return Value(max(0.0, float(bits.iloc[-1].mean())) / offered_bits(run), bits.shape[1])


def offered_bits(run: RunRecord) -> float:
    """Bits that a fact holds, log2 |V|, on average over the facts asked for."""
    rows = run.asked(schedule="boundary").drop_duplicates("fact")
    return float(np.log2(rows["choices"].map(len).astype(float)).mean())


def twins(run: RunRecord) -> Value:
    """The same from never-trained twins: the leak control.

    Unit: bits per parameter; 0 unless answers can be had without training; lower is better.
    """
    if run.asked(schedule="boundary", twins=True).empty:
        raise Missing("no twin was asked for")
    return Value(float(capacity(run, twins=True).iloc[-1]), learned_bits(run, twins=True).shape[1])


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {
        "bits_per_parameter": attempt(lambda: bits_per_parameter(run)),
        "bits_per_parameter.share": attempt(lambda: share(run)),
        "bits_per_parameter.twins": attempt(lambda: twins(run)),
    }


# -- the figure -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """A row of the table as it is drawn.

    Attributes:
        facts: how many were trained.
        exposures: of each fact when it was asked, one per boundary after the first.
        bits: (seeds, boundaries) bits per parameter.
        offered: bits per parameter there were to learn.
    """

    facts: int
    exposures: list[float]
    bits: npt.NDArray[np.float64]
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
            facts * offered_bits(run) / _parameters(run),
        )


def _draw(rows: Sequence[Row]) -> Figure | None:
    """Bits per parameter against facts trained: a panel per arm, a line per number of exposures.

    Where no arm has runs of several numbers of facts, against exposures instead: a line per row.
    """
    from matplotlib.figure import Figure

    arms: dict[str, list[Row]] = {}
    for row in rows:
        arms.setdefault(_arm(row), []).append(row)
    swept = any(len(own) > 1 for own in arms.values())
    shown = list(arms.items())[:MOST_PANELS] if swept else [("", list(rows[: len(COLOURS)]))]
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
    figure.suptitle(_title(rows, sum(len(own) for _, own in shown)), x=0.01, ha="left", fontsize=10)
    return figure


def _arm(row: Row) -> str:
    """What tells a row apart besides the number of facts trained."""
    settings = [f"{name}={value}" for name, value in row.swept.items() if name != FACTS]
    return " ".join([str(row.facts["strategy"]), str(row.facts["model"]), *settings])


def _title(rows: Sequence[Row], shown: int) -> str:
    facts, seeds = rows[0].facts, max(len(row.runs) for row in rows)
    parts = [f"{seeds} seed{'s' * (seeds > 1)}"] + ["band: 95 % interval over seeds"] * (seeds > 1)
    parts += [f"first {shown} of {len(rows)} rows"] * (shown < len(rows))
    return clean(f"Bits per parameter: {facts['scenario']}, {facts['model']} ({', '.join(parts)})")


def _against_facts(axis: Axes, points: Sequence[_Measured]) -> None:
    """A line per number of exposures, and the bits offered, above which no line can rise."""
    points = sorted(points, key=lambda point: point.facts)
    facts = [point.facts for point in points]
    seeds = max(len(point.bits) for point in points)
    for place, exposures in reversed(list(enumerate(points[0].exposures))):
        bits = np.full((seeds, len(points)), np.nan)  # a seed that failed leaves a gap
        for column, point in enumerate(points):
            bits[: len(point.bits), column] = point.bits[:, place]
        colour = COLOURS[(len(points[0].exposures) - 1 - place) % len(COLOURS)]
        _line(axis, facts, bits, colour, f"{exposures:.3g} exposures")
    offered = [point.offered for point in points]  # bent between points like the lines it bounds
    axis.plot(facts, offered, color="#666666", dashes=(4, 2), label="bits offered")
    axis.set_xscale("log")
    axis.set_xticks(facts, [f"{count:,}" for count in facts])
    axis.minorticks_off()
    axis.set_xlabel("facts trained")


def _against_exposures(axis: Axes, points: Mapping[str, _Measured]) -> None:
    """A line per row."""
    for colour, (label, point) in zip(COLOURS, points.items(), strict=False):
        _line(axis, point.exposures, point.bits, colour, clean(f"{label}, {point.facts:,} facts"))
    ticks = sorted({exposures for point in points.values() for exposures in point.exposures})
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{exposures:.3g}" for exposures in ticks])
    axis.minorticks_off()
    axis.set_xlabel("exposures of each fact")


def _line(axis: Axes, x: Sequence[float], bits: npt.NDArray[np.float64], colour: str, label: str) -> None:
    """Mean over seeds of (seeds, points) with its 95 % t interval."""
    mean, low, high = mean_band(bits)
    axis.plot(x, mean, color=colour, marker="o", markersize=3, linewidth=1.3, label=label)
    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="bits_per_parameter",
            version="1",
            summary="bits of randomly drawn facts stored per parameter",
            measures=(
                Measure(
                    "bits_per_parameter",
                    "bits/parameter",
                    "higher",
                    "stored at the end of training",
                    margin=0.05,
                ),
                Measure("bits_per_parameter.share", "fraction", "higher", "bits stored of the bits offered"),
                Measure(
                    "bits_per_parameter.twins", "bits/parameter", "lower", "the same of never-trained twins"
                ),
            ),
            compute=_compute,
            draw=_draw,
            citation="Allen-Zhu & Li 2024, arXiv 2404.05405",
        )
    ]
