"""The answers' log-probability around injections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from seqmem import COLOURS, Relation, Row, RunRecord, clean, reading
from seqmem_plugins.metrics._retained import MAIN
from seqmem_plugins.metrics.figures._panels import CONTROL, MAX_ROWS, finish, line

FORMS: tuple[Relation, ...] = (MAIN, "paraphrase", "question")
NEVER = "never trained"


def course(run: RunRecord, relation: Relation) -> Mapping[str, pd.Series]:
    """Return mean l(t) - l(t_1) per group of injected facts and of never-trained items, by step (nats per token)."""
    curves = reading.answer_curves(run, relation)
    found = {
        group: curves.mean(curves.of({one.fact for one in own}), since=min(one.start for one in own))
        for group, own in reading.injections_by_group(run).items()
    }
    found[NEVER] = curves.mean(curves.control, since=reading.first_injection(run))
    return {group: change for group, change in found.items() if not change.empty}


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw a line per group and a panel per probe form: one row of panels per table row."""
    courses = {
        (row.label, form): reading.by_seed(row.runs, partial(course, relation=form))
        for row in rows
        for form in FORMS
    }
    shown = [row for row in rows if courses[row.label, MAIN]]
    forms = [form for form in FORMS if any(courses[row.label, form] for row in shown)]
    if not shown:
        return None
    height = min(len(shown), MAX_ROWS)
    figure = Figure(figsize=(2.4 + 3.2 * len(forms), 1.3 + 2.4 * height), layout="constrained")
    panels = figure.subplots(height, len(forms), sharex=True, sharey=True, squeeze=False)
    for row, axes in zip(shown, panels, strict=False):
        starts = {one.start for one in reading.injections(row.runs[min(courses[row.label, MAIN])])}
        for form, axis in zip(forms, axes, strict=True):
            by_group: dict[str, dict[int, pd.Series]] = {}
            for seed, found in courses[row.label, form].items():
                for group, change in found.items():
                    by_group.setdefault(group, {})[seed] = change
            for group, colour in zip(sorted(by_group.keys() - {NEVER}), COLOURS, strict=False):
                line(axis, by_group[group], colour, group)
            line(axis, by_group.get(NEVER, {}), CONTROL, NEVER, style="--")
            for start in sorted(starts):
                axis.axvline(start, color="#bbbbbb", linewidth=0.6, linestyle=":", zorder=0)
            axis.set_title(clean(f"{row.label}: {form}"))
            axis.margins(x=0.01)
        axes[0].set_ylabel("answer log-probability,\nchange since before the\nfirst injection (nats/token)")
    for axis in panels[-1]:
        axis.set_xlabel("optimizer steps (dotted: injections)")
    finish(figure, shown, "Answers around injections")
    return figure
