"""Initial recall: is a fact known right after it was first trained?

Nothing is taken off: compare with chance and `twin_recall`. Before comparing scenarios read `initial_recall.lag` and
`initial_recall.exposures`: in `memory_loops` the first probe comes after the whole visit, which states each fact
several times, and the trained wording may be asked at other steps than the primary rung.

The figure shows recall, and that of the twins, against steps since the first exposure. Later exposures are part of the
curve. None where no trained fact is asked later on, or only after the learner went back to a snapshot.

Version 2: in variant `conflict` of `memory_loops`, where every loop states every question with its own answer, a fact
counts from its own loop's first statement on; in version 1 it counted from another loop's. Elsewhere nothing changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqmem import COLOURS, Measure, MetricSpec, NotApplicable, Relation, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import (
    Missing,
    attempt,
    first_exposures,
    once_per_run,
    own_statements,
    stream_answers,
)
from seqmem_plugins.metrics._panels import MOST_ROWS, finish, line, log_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"


@once_per_run
def answers_since(run: RunRecord, relation: Relation | None = None, *, twins: bool = False) -> pd.DataFrame:
    """Answers asked bare since a fact's first exposure, with `lag`, the steps between; of twins, since their fact's.

    Rows for which the learner had gone back to a snapshot meanwhile are left out: it may not hold the fact.
    """
    if run.info["primary_relation"] == "general":
        raise NotApplicable("the probes are documents, not questions: recall is not defined")
    rows = stream_answers(run, relation=relation, twins=twins).drop_duplicates(["probe", "step"])
    if rows.empty:
        raise Missing(
            f"no {'twin' if twins else 'fact'} is asked bare on the rung {relation or 'that is primary'}"
        )
    first = rows["twin_of" if twins else "fact"].map(first_exposures(run))
    rows = rows.assign(first=first, lag=rows["step"] - first)
    rows = rows[rows["lag"] >= 0]
    branch = run.experiences["start_from"].notna().cumsum().to_numpy()
    # an exposure at step s, counted once done, was trained by the last experience that began before s
    trained_in = run.experiences["first_step"].to_numpy().searchsorted(rows["first"].to_numpy()) - 1
    found: pd.DataFrame = rows[branch[rows["experience"].to_numpy()] == branch[trained_in]]
    if found.empty:
        what = "twin of a trained fact" if twins else "fact"
        raise Missing(f"no {what} was asked after the fact had been trained")
    return found


@once_per_run
def first_answers(run: RunRecord, relation: Relation | None = None) -> pd.DataFrame:
    """Of every fact the first answer after its first exposure: share right and lag, by fact.

    A fact that several probes of the rung ask for at that step counts with their mean.
    """
    rows = answers_since(run, relation)
    rows = rows[rows["lag"] == rows.groupby("fact")["lag"].transform("min")]
    found: pd.DataFrame = rows.groupby("fact").agg(
        correct=("correct", "mean"), lag=("lag", "first"), step=("step", "first")
    )
    return found


def initial_recall(run: RunRecord, relation: Relation | None = None) -> Value:
    """Share of facts answered rightly at the first probe after their first exposure.

    On the primary rung, bare, whatever schedule asked; `initial_recall.verbatim` in the trained wording. Facts never
    asked after training are left out. Unit: fraction; range 0 to 1; higher is better.
    """
    found = first_answers(run, relation)
    return Value(float(found["correct"].mean()), len(found))


def lag(run: RunRecord) -> Value:
    """Steps from a fact's first exposure to that probe, mean over facts.

    Unit: steps; range 0, right after the step that trained it, up; neither way is better.
    """
    found = first_answers(run)
    return Value(float(found["lag"].mean()), len(found))


def exposures(run: RunRecord) -> Value:
    """Times a fact had been stated, with the answer asked for, in trained rows by that probe; mean over facts.

    Unit: exposures; range 1 up; neither way is better.
    """
    found = first_answers(run)
    stated = own_statements(run)
    stated = stated.assign(asked=stated["fact"].map(found["step"]))
    counts = stated[stated["step"] <= stated["asked"]].groupby("fact")["count"].sum()
    return Value(float(counts.mean()), len(found))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {
        "initial_recall": attempt(lambda: initial_recall(run)),
        "initial_recall.verbatim": attempt(lambda: initial_recall(run, "verbatim")),
        "initial_recall.lag": attempt(lambda: lag(run)),
        "initial_recall.exposures": attempt(lambda: exposures(run)),
    }


def by_doubling(run: RunRecord, relation: Relation | None, *, twins: bool) -> pd.Series:
    """Recall by lag, pooled over facts: at lags 0, 1, 2-3, 4-7 and so on."""
    rows = answers_since(run, relation, twins=twins)
    doubling = np.floor(np.log2(rows["lag"].clip(lower=0.5))).astype(int)
    return rows.groupby(doubling)["correct"].mean()


def _recall(row: Row, relation: Relation | None, *, twins: bool) -> Mapping[int, pd.Series]:
    """Recall by lag of every seed that has it; lag 0 is drawn at half a step."""
    found = {}
    for seed, run in sorted(row.runs.items()):
        try:
            curve = by_doubling(run, relation, twins=twins)
        except (Missing, NotApplicable):
            continue
        found[seed] = curve.set_axis([0.5 if place < 0 else 1.5 * 2.0**place for place in curve.index])
    return found


def draw(rows: Sequence[Row]) -> Figure | None:
    """Recall against steps since a fact's first exposure, on the primary rung and in the trained words."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if _recall(row, None, twins=False)]
    if not shown:
        return None
    primary = next(iter(shown[0].runs.values())).info["primary_relation"]
    rungs: list[Relation] = [primary] if primary == "verbatim" else [primary, "verbatim"]
    figure = Figure(figsize=(2.8 + 3.6 * len(rungs), 3.6), layout="constrained")
    panels = figure.subplots(1, len(rungs), sharey=True, squeeze=False)[0]
    for rung, axis in zip(rungs, panels, strict=True):
        for row, colour in zip(shown[:MOST_ROWS], COLOURS, strict=False):
            for twins, style in ((False, "-"), (True, ":")):
                if curves := _recall(row, rung, twins=twins):
                    label = f"{row.label}, twins" if twins else row.label
                    line(axis, curves, colour, label, style=style, marker="." if not twins else "")
        log_steps(axis)
        axis.set_ylim(-0.03, 1.03)
        axis.set_title(rung)
        axis.set_xlabel("steps since first exposure (left end: right after)")
    panels[0].set_ylabel("recall (share right)")
    finish(figure, shown, "Recall since first exposure, later ones included")
    return figure


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="initial_recall",
            version="2",
            summary="recall at the first probe after a fact was first trained",
            measures=(
                Measure(
                    "initial_recall",
                    "fraction",
                    "higher",
                    "recall at the first probe after first training",
                    margin=0.05,
                ),
                Measure(
                    "initial_recall.verbatim",
                    "fraction",
                    "higher",
                    "the same, asked in the trained wording",
                    margin=0.05,
                ),
                Measure("initial_recall.lag", "steps", "none", "steps between first training and that probe"),
                Measure("initial_recall.exposures", "exposures", "none", "times trained by then"),
            ),
            compute=_compute,
            draw=draw,
        )
    ]
