"""Recall and gain against turns back."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from seqmem import COLOURS, Row
from seqmem_plugins.metrics.figures._panels import GRID, MAX_ROWS, complete, finish, line
from seqmem_plugins.metrics.turn_recall import by_turn, gain_by_turn


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw recall, and below it the gain over twins, against turns back; a line per row, twins dashed."""
    drawn = complete(rows, gain_by_turn)
    if not drawn:
        return None
    figure = Figure(figsize=(9, 6), layout="constrained")
    recall, gain = figure.subplots(2, 1, sharex=True)
    for row, colour in zip(drawn[:MAX_ROWS], COLOURS, strict=False):
        known = {seed: by_turn(run, "right") for seed, run in row.runs.items()}
        line(recall, known, colour, row.label, marker="o")
        twins = {seed: by_turn(run, "right", twins=True) for seed, run in row.runs.items()}
        line(recall, twins, colour, f"{row.label}, twins", style="--")
        gains = {seed: gain_by_turn(run) for seed, run in row.runs.items()}
        line(gain, gains, colour, row.label, marker="o")
    recall.set_ylim(-0.03, 1.03)
    recall.set_ylabel("recall (share right)")
    gain.axhline(0, color="#999999", linewidth=0.8)
    gain.set_ylabel("gain of answer log p\nover twins (nats per token)")
    gain.set_xlabel("turns back from the end of the conversation (1: last turn)")
    gain.xaxis.get_major_locator().set_params(integer=True)
    for axis in (recall, gain):
        axis.grid(axis="y", color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
    finish(figure, drawn, "recall by turns back")
    return figure
