"""Forward transfer: is a loop known better before its own training because of what was trained before it?

Facts drawn at random cannot be known before they are stated. What is above zero here is guessing that other loops
taught, such as the form of an answer or the values they share, or a leak; read it with `twin_recall`.
"""

from __future__ import annotations

import numpy as np

from seqmem import Metric, Missing, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "forward_transfer",
    version="1",
    summary="recall of a loop right before its first visit, minus recall before any training",
    citation="Lopez-Paz & Ranzato 2017, Gradient Episodic Memory, arXiv 1706.08840",
)
seqmem_metric = metric.hook


@metric.measure(
    "forward_transfer",
    "fraction",
    "higher",
    "recall right before the first visit minus recall before training",
    margin=0.05,
)
def forward_transfer(run: RunRecord) -> Value:
    """Return FWT = mean_{j>1} (a_{j-1,j} - b_j) (Lopez-Paz & Ranzato 2017).

    a_{j-1,j} is recall of loop j at the boundary right before its first visit, b_j its recall before any training;
    the loop visited first has nothing before it and does not count. Unit: fraction; range -1 to 1; higher is
    better. None without a boundary probe at step 0, with one loop, and where a loop is never visited on its
    own, as under `joint`.
    """
    recall = reading.recall_by_loop(run)
    starts = reading.loop_visits(run).groupby("loop")["start"].min()
    reading.all_visited(recall, starts)
    later = [loop for loop in reading.loops_of(recall) if starts[loop] > starts.min()]
    if not later:
        raise Missing("no loop came after another")
    untrained = reading.at_step(recall, 0)
    change = [reading.at_step(recall, int(starts[loop]))[loop] - untrained[loop] for loop in later]
    return Value(float(np.mean(change)), reading.facts_probed(run))
