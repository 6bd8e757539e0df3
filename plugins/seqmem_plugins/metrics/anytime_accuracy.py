"""Anytime accuracy: how much of what was trained so far is known, at any time of the stream?

`average_accuracy` looks once, at the end; a learner that knew little all the way and was lucky there looks as
good as one that always knew. Here every boundary counts alike.

Version 2: in variant `conflict` of `memory_loops`, where every loop states every question with its own answer, a loop
counts from its own first statement on; in version 1 all did from the first visit on. Elsewhere nothing changed.
"""

from __future__ import annotations

import numpy as np

from seqmem import Metric, Missing, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "anytime_accuracy",
    version="2",
    summary="recall of what was trained so far, averaged over the boundaries of the stream",
    citation="Caccia et al. 2022, New insights on reducing abrupt representation change, arXiv 2104.05025",
)
seqmem_metric = metric.hook


@metric.measure(
    "anytime_accuracy",
    "share",
    "higher",
    "mean over boundaries of recall of what was trained so far",
    margin=0.05,
)
def anytime_accuracy(run: RunRecord) -> Value:
    """Return AAA = mean over boundaries l of the mean over loops j trained by then of a_lj (Caccia et al. 2022).

    Boundaries are those after training began, the end of the rest included; a loop counts from the first boundary
    at or after the first statement of one of its facts, so the measure needs no visits and is given under `joint`
    too. Unit: share; range 0 to 1; higher is better. Visits are as many boundaries as they are: compare rows
    of one scenario and preset. None where no boundary was probed after a fact had been trained.
    """
    recall = reading.recall_by_loop(run)
    loop_of = reading.questions(run).drop_duplicates("fact").set_index("fact")["task_label"].dropna()
    began = reading.first_exposures(run).groupby(loop_of).min().rename(index=int)
    first = began.reindex(recall.columns).to_numpy(dtype=float)
    trained = first <= recall.index.to_numpy(dtype=float)[:, None]  # (boundaries, loops)
    some = trained.any(axis=1)
    if not some.any():
        raise Missing("no boundary was probed after a fact had been trained")
    known = np.where(trained, recall.to_numpy(dtype=float), 0.0)[some]
    return Value(float((known.sum(axis=1) / trained[some].sum(axis=1)).mean()), reading.facts_probed(run))
