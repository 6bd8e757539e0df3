"""Backward transfer: what did later training do to it?"""

from __future__ import annotations

import numpy as np

from seqmem import Metric, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "backward_transfer",
    version="1",
    summary="recall at the end minus recall right after each loop's last visit",
    citation="Lopez-Paz & Ranzato 2017, Gradient Episodic Memory, arXiv 1706.08840",
)
seqmem_metric = metric.hook


@metric.measure(
    "backward_transfer", "fraction", "higher", "final recall minus recall after the last visit", margin=0.05
)
def backward_transfer(run: RunRecord) -> Value:
    """Return BWT = mean_{j<T} (a_Tj - a_jj) (Lopez-Paz & Ranzato 2017).

    a_jj is recall of loop j right after its last visit, a_Tj at the end of the stream, rest included; loops
    whose last visit ends the stream do not count. Unit: fraction; range -1 to 1; higher is better, below zero
    is forgetting. None where a loop is never visited on its own, or none was followed by other training.
    """
    recall = reading.recall_by_loop(run)
    final = reading.at_step(recall, reading.stream_end(run))
    learned = reading.after_last_visits(run, recall)
    change = [final[loop] - learned[loop] for loop in reading.earlier_loops(run, recall)]
    return Value(float(np.mean(change)), reading.facts_probed(run))
