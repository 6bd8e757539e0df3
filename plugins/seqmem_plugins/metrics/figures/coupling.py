"""Accuracy against the context kept."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from seqmem import COLOURS, Row, clean, reading
from seqmem_plugins.metrics.coupling import accuracy, answers_in_context
from seqmem_plugins.metrics.figures._panels import GRID, MAX_ROWS, complete, finish, line


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw accuracy before training, when it was done and at the end; a panel per row."""
    drawn = complete(rows, lambda run: answers_in_context(run, twins=False))
    if not drawn:
        return None
    shown = drawn[:MAX_ROWS]
    figure = Figure(figsize=(4.6 * len(shown) + 2.4, 4.0), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, row in zip(axes, shown, strict=True):
        runs = list(row.runs.values())
        times = [(0, "before training"), (reading.loops_end(runs[0]), "when training was done")]
        times += (
            [(reading.stream_end(runs[0]), "at the end")]
            if reading.stream_end(runs[0]) > times[-1][0]
            else []
        )
        for colour, (step, when) in zip(COLOURS, times, strict=False):
            for twins, style in ((False, "-"), (True, "--")):
                tables = {run.seed: accuracy(run, twins=twins) for run in runs}
                curves = {seed: table.T[step] for seed, table in tables.items() if step in table.index}
                if curves:
                    line(axis, curves, colour, f"{when}{', twins' * twins}", style=style, marker="o")
        chance = answers_in_context(runs[0], twins=False)["chance"].mean()
        axis.axhline(chance, color="#000000", linestyle=":", linewidth=0.8, label="guessing")
        axis.set_ylim(-0.03, 1.03)
        axis.set_title(clean(row.label))
        axis.set_xlabel("context kept before the prompt (sentences)")
        axis.invert_xaxis()
        axis.grid(axis="y", color=GRID, linewidth=0.6)
    axes[0].set_ylabel("accuracy (share right)")
    finish(figure, drawn, "accuracy against context kept")
    return figure
