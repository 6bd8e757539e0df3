"""Answer loss of each group of facts from its own training on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from seqmem import COLOURS, Row, RunRecord, clean, reading
from seqmem_plugins.metrics.figures._panels import CONTROL, MAX_ROWS, finish, line
from seqmem_plugins.metrics.interference import Groups

NEVER = "never trained"


def course(groups: Groups) -> Mapping[str, pd.Series]:
    """Return mean answer loss per group from its first training on, and of never-trained items, by step."""
    curves = groups.logprob
    found = {NEVER: -curves.mean(curves.control)}
    for arrival in groups.arrivals:
        own = groups.known.index[groups.known["label"] == arrival.label]
        loss = -curves.mean(curves.of(own))
        found[f"group {arrival.label}"] = loss[loss.index.to_numpy() >= arrival.start]
    return found


def _read(run: RunRecord) -> tuple[Groups, Mapping[str, pd.Series]]:
    groups = Groups(run)
    return groups, course(groups)


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw the answer loss of each group, with the arrivals of the later groups marked."""
    found = {row.label: reading.by_seed(row.runs, _read) for row in rows}
    shown = [row for row in rows if found[row.label]]
    if not shown:
        return None
    height = min(len(shown), MAX_ROWS)
    figure = Figure(figsize=(9, 1.3 + 2.6 * height), layout="constrained")
    panels = figure.subplots(height, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for row, axis in zip(shown, panels, strict=False):
        courses = {seed: one for seed, (_, one) in found[row.label].items()}
        first, _ = found[row.label][min(courses)]
        for arrival, colour in zip(first.arrivals, COLOURS, strict=False):
            name = f"group {arrival.label}"
            line(axis, {s: one[name] for s, one in courses.items() if name in one}, colour, name, marker=".")
            axis.axvspan(arrival.start, arrival.end, color=colour, alpha=0.15, linewidth=0)
        line(axis, {s: one[NEVER] for s, one in courses.items()}, CONTROL, NEVER, style="--")
        axis.set_title(clean(row.label))
        axis.set_ylabel("answer loss (nats/token)")
        axis.margins(x=0.01)
    panels[-1].set_xlabel("optimizer steps (shaded: a group is first trained, in its colour)")
    finish(figure, shown, "Old facts while new ones arrive")
    return figure
