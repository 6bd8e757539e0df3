"""Initial recall: is a fact known right after it was first trained?

Nothing is taken off: compare with chance and `twin_recall`. Before comparing scenarios read `initial_recall.lag` and
`initial_recall.exposures`: in `memory_loops` the first probe comes after the whole visit, which states each fact
several times, and the trained wording may be asked at other steps than the primary probe form.

The figure shows recall, and that of the twins, against steps since the first exposure. Later exposures are part of the
curve. None where no trained fact is asked later on, or only after the learner went back to a snapshot.

Version 2: in variant `conflict` of `memory_loops`, where every loop states every question with its own answer, a fact
counts from its own loop's first statement on; in version 1 it counted from another loop's. Elsewhere nothing changed.
"""

from __future__ import annotations

from functools import partial

import pandas as pd

from seqmem import Metric, Missing, NotApplicable, Relation, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "initial_recall",
    version="2",
    summary="recall at the first probe after a fact was first trained",
    figure="seqmem_plugins.metrics.figures.initial_recall",
)
seqmem_metric = metric.hook


@reading.once_per_run
def answers_since(run: RunRecord, relation: Relation | None = None, *, twins: bool = False) -> pd.DataFrame:
    """Return the answers asked bare since a fact's first exposure, with `lag`, the steps between.

    Those of twins count since their fact's. Rows for which the learner had gone back to a snapshot meanwhile are left
    out: it may not hold the fact.
    """
    if run.info["primary_relation"] == "general":
        raise NotApplicable("the probes are documents, not questions: recall is not defined")
    rows = reading.some(
        reading.stream_answers(run, relation=relation, twins=twins).drop_duplicates(["probe", "step"]),
        f"no {'twin' if twins else 'fact'} is asked bare in the probe form {relation or 'that is primary'}",
    )
    first = rows["twin_of" if twins else "fact"].map(reading.first_exposures(run))
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


@reading.once_per_run
def first_answers(run: RunRecord, relation: Relation | None = None) -> pd.DataFrame:
    """Return the first answer of every fact after its first exposure: share right and lag, by fact.

    A fact that several probes of the probe form ask for at that step counts with their mean.
    """
    rows = answers_since(run, relation)
    rows = rows[rows["lag"] == rows.groupby("fact")["lag"].transform("min")]
    found: pd.DataFrame = rows.groupby("fact").agg(
        right=("right", "mean"), lag=("lag", "first"), step=("step", "first")
    )
    return found


@metric.measure(
    "initial_recall", "share", "higher", "recall at the first probe after first training", margin=0.05
)
def initial_recall(run: RunRecord, relation: Relation | None = None) -> Value:
    """Return the share of facts answered rightly at the first probe after their first exposure.

    In the primary probe form, bare, whatever schedule asked; `initial_recall.verbatim` in the trained wording. Facts
    never asked after training are left out. Unit: share; range 0 to 1; higher is better.
    """
    found = first_answers(run, relation)
    return Value(float(found["right"].mean()), len(found))


metric.measure(
    "initial_recall.verbatim", "share", "higher", "the same, asked in the trained wording", margin=0.05
)(partial(initial_recall, relation="verbatim"))


@metric.measure("initial_recall.lag", "steps", "none", "steps between first training and that probe")
def lag(run: RunRecord) -> Value:
    """Return the steps from a fact's first exposure to that probe, mean over facts.

    Unit: steps; range 0, right after the step that trained it, up; no direction is better.
    """
    found = first_answers(run)
    return Value(float(found["lag"].mean()), len(found))


@metric.measure("initial_recall.exposures", "exposures", "none", "times trained by then")
def exposures(run: RunRecord) -> Value:
    """Return the times that trained rows had stated a fact, with the answer asked for, by that probe.

    Mean over facts. Unit: exposures; range 1 up; no direction is better.
    """
    found = first_answers(run)
    stated = reading.own_statements(run)
    stated = stated.assign(asked=stated["fact"].map(found["step"]))
    counts = stated[stated["step"] <= stated["asked"]].groupby("fact")["count"].sum()
    return Value(float(counts.mean()), len(found))
