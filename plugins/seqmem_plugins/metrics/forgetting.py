"""Forgetting: how far below its best did recall fall?

Mind: a maximum of noisy values lies above their mean, so it is positive without any forgetting.
`backward_transfer` takes no maximum: read both.
"""

from __future__ import annotations

import numpy as np

from seqmem import Metric, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "forgetting",
    version="1",
    summary="best recall before the end minus recall at the end",
    citation="Chaudhry et al. 2018, Riemannian Walk, arXiv 1801.10112",
)
seqmem_metric = metric.hook


@metric.measure(
    "forgetting", "fraction", "lower", "best recall before the end minus final recall", margin=0.05
)
def forgetting(run: RunRecord) -> Value:
    """Return F = mean_{j<T} (max_{l<T} a_lj - a_Tj) (Chaudhry et al. 2018).

    l runs over boundaries after training began and before the stream ended; j over loops whose last
    visit ended before that. Unit: fraction; range -1 to 1; lower is better. None where no loop was followed
    by other training.
    """
    recall = reading.recall_by_loop(run)
    end = reading.stream_end(run)
    loops = reading.earlier_loops(run, recall)
    final = reading.at_step(recall, end)
    before = reading.some(
        recall[(recall.index > 0) & (recall.index < end)],
        "no boundary was probed before the end of the stream",
    )
    return Value(
        float(np.mean([before[loop].max() - final[loop] for loop in loops])), reading.facts_probed(run)
    )
