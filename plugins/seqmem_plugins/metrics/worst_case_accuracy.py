"""Worst-case accuracy: how low does recall of a loop ever fall once its training is over?

Probes at boundaries miss a drop that is made good before the next boundary, the stability gap. Every probe of the
stream at which all facts of a loop are asked counts, whatever its schedule: `boundary`, `inside`, `even` and
`log`. The literature evaluates at every iteration; here it is as often as the scenario asks, and drops
between probes are not seen.

The minimum of noisy values is below their mean, and falls with their number. Compare rows that are probed alike,
and read it with `average_accuracy`: without a gap or noise both are the same when recall only falls.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqmem import Metric, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "worst_case_accuracy",
    version="1",
    summary="the lowest that recall of a loop falls once its training is over",
    citation="De Lange et al. 2023, Continual evaluation for lifelong learning, arXiv 2205.13452",
)
seqmem_metric = metric.hook


def recall_by_probe(run: RunRecord) -> pd.DataFrame:
    """Return recall by step and loop at every probe that asks all of the loop's facts; NaN where it does not."""
    rows = reading.questions(run, None).drop_duplicates(["fact", "step"])
    asked = rows.groupby(["step", "task_label"])["right"].agg(["mean", "size"])
    whole = asked["size"] == asked.groupby("task_label")["size"].transform("max")
    return asked.loc[whole, "mean"].unstack("task_label").rename(columns=int)


@reading.once_per_run
def lowest(run: RunRecord) -> pd.Series:
    """Return the lowest recall of each loop that was followed by other training, from its last visit's end on."""
    recall = recall_by_probe(run)
    ends = reading.loop_visits(run).groupby("loop")["end"].max()
    loops = reading.earlier_loops(run, recall)
    reading.all_visited(recall, ends)
    return pd.Series({loop: recall.loc[recall.index >= ends[loop], loop].min() for loop in loops})


@metric.measure(
    "worst_case_accuracy",
    "share",
    "higher",
    "lowest recall of loops no longer trained, and final recall of the current one",
    margin=0.05,
)
def worst_case_accuracy(run: RunRecord) -> Value:
    """Return WC-ACC = (1/K) a_TK + (1 - 1/K) min-ACC (De Lange et al. 2023).

    a_TK is recall at the end of the stream of the loop trained last; K the number of loops. Where a rest ends
    the stream, no loop is the current one and WC-ACC is min-ACC over all K loops. Unit: share; range 0 to 1;
    higher is better. None as `worst_case_accuracy.minimum`.
    """
    low = lowest(run)
    recall = reading.recall_by_loop(run)
    reading.after_last_visits(run, recall)  # every loop is visited
    current = [loop for loop in reading.loops_of(recall) if loop not in low.index]
    final = reading.at_step(recall, reading.stream_end(run))
    return Value(float(np.mean([*low, *(final[loop] for loop in current)])), reading.facts_probed(run))


@metric.measure(
    "worst_case_accuracy.minimum",
    "share",
    "higher",
    "mean over loops of the lowest recall since their last visit",
    margin=0.05,
)
def minimum_accuracy(run: RunRecord) -> Value:
    """Return min-ACC = mean_{j<T} min_{t_j <= n <= T} a_nj (De Lange et al. 2023).

    t_j is the end of loop j's last visit, n every probe from then on. Unit: share; range 0 to 1; higher is
    better. None where no loop is visited on its own or none was followed by other training.
    """
    return Value(float(lowest(run).mean()), reading.facts_probed(run))
