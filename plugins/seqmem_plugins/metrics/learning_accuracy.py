"""Learning accuracy: was it learned at all?

It tells a strategy that keeps what it learned from one that never learned it.
"""

from __future__ import annotations

from seqmem import Metric, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "learning_accuracy",
    version="1",
    summary="recall right after each loop's last visit",
    citation="Riemer et al. 2019, Learning to Learn without Forgetting, arXiv 1810.11910",
)
seqmem_metric = metric.hook


@metric.measure(
    "learning_accuracy",
    "share",
    "higher",
    "mean recall right after a loop's last visit",
    margin=0.05,
    role="learned",
    gate=0.05,
)
def learning_accuracy(run: RunRecord) -> Value:
    """Return LA = mean_j a_jj (Riemer et al. 2019), a_jj being recall of loop j right after its last visit.

    Unit: share; range 0 to 1; higher is better. None where a loop is never visited on its own, as under
    `joint`.
    """
    recall = reading.recall_by_loop(run)
    return Value(float(reading.after_last_visits(run, recall).mean()), reading.facts_probed(run))
