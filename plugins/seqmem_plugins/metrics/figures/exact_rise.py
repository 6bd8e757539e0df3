"""Exact answers, their form and forced choice over the rest, by question and in the primary probe form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqmem import COLOURS, Missing, Relation, Row, RunRecord, clean
from seqmem_plugins.metrics.exact_rise import Resting
from seqmem_plugins.metrics.figures._panels import GRID, MAX_ROWS, complete, finish, line

CURVES = (("correct", "exact answers"), ("in_form", "answers in the right form"), ("right", "forced choice"))
SIDES = ((False, "-", ""), (True, ":", ", twins"))
_PLAIN = "plain_rest"


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw a line of panels per row: each form, and once more in the control with a plain rest where it was run."""
    drawn = complete(rows, lambda run: Resting(run).curves("correct", less_twins=False))
    shown = drawn[:MAX_ROWS]
    if not shown:
        return None
    first = next(iter(shown[0].runs.values()))
    forms: list[Relation] = list(dict.fromkeys((Resting(first).relation, first.info["primary_relation"])))
    plain = any(row.controls.get(_PLAIN) for row in shown)
    columns = [(form, control) for form in forms for control in ("", _PLAIN)[: 1 + plain]]
    figure = Figure(figsize=(2.6 + 2.9 * len(columns), 0.7 + 2.9 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), len(columns), sharex=True, sharey=True, squeeze=False)
    for line_of_panels, row in zip(panels, shown, strict=True):
        for axis, (form, control) in zip(line_of_panels, columns, strict=True):
            _draw(axis, row.controls.get(control, {}) if control else row.runs, form)
            axis.set_title(clean(f"{row.label}, {form}{', plain rest' * bool(control)}"))
        line_of_panels[0].set_ylabel("share of facts")
    for axis in panels[-1]:
        axis.set_xlabel("steps of the rest")
    panels[0, 0].set_ylim(-0.03, 1.03)
    finish(figure, drawn, "what the rest does to answers")
    return figure


def _draw(axis: Axes, runs: Mapping[int, RunRecord], form: Relation) -> None:
    """Draw the three curves of facts and of twins in one probe form."""
    for (column, name), colour in zip(CURVES, COLOURS, strict=False):
        for twins, style, addition in SIDES:
            try:
                found = {seed: Resting(run, form).share(column, twins=twins) for seed, run in runs.items()}
            except Missing:
                continue
            curves = {seed: one for seed, one in found.items() if len(one)}
            if curves:
                line(axis, curves, colour, f"{name}{addition}", style=style, marker=".")
    axis.grid(axis="y", color=GRID, linewidth=0.6)
