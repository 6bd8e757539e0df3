"""Backward transfer: what did later training do to it?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import (
    after_last_visits,
    at_step,
    attempt,
    earlier_loops,
    facts_probed,
    recall_by_loop,
    stream_end,
)

seqmem_api = ">=1,<2"


def backward_transfer(run: RunRecord) -> Value:
    """BWT = mean_{j<T} (a_Tj - a_jj) (Lopez-Paz & Ranzato 2017).

    a_jj is recall of loop j right after its last visit, a_Tj at the end of the stream, rest included; loops
    whose last visit ends the stream do not count. Unit: fraction; range -1 to 1; higher is better, below zero
    is forgetting. None where a loop is never visited on its own, or none was followed by other training.
    """
    recall = recall_by_loop(run)
    final = at_step(recall, stream_end(run))
    learned = after_last_visits(run, recall)
    change = [final[loop] - learned[loop] for loop in earlier_loops(run, recall)]
    return Value(float(np.mean(change)), facts_probed(run))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {"backward_transfer": attempt(lambda: backward_transfer(run))}


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="backward_transfer",
            version="1",
            summary="recall at the end minus recall right after each loop's last visit",
            measures=(
                Measure(
                    "backward_transfer",
                    "fraction",
                    "higher",
                    "final recall minus recall after the last visit",
                    margin=0.05,
                ),
            ),
            compute=_compute,
            citation="Lopez-Paz & Ranzato 2017, Gradient Episodic Memory, arXiv 1706.08840",
        )
    ]
