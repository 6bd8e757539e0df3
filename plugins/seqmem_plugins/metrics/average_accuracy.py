"""Average accuracy: how much is known in the end?

Where the stream ends with a rest it equals `retention` by definition. How it got there is `anytime_accuracy`,
how deep it fell meanwhile `worst_case_accuracy`.
"""

from __future__ import annotations

from seqmem import Metric, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "average_accuracy",
    version="1",
    summary="recall of all loops' facts at the end of the stream",
    citation="Lopez-Paz & Ranzato 2017, Gradient Episodic Memory, arXiv 1706.08840",
)
seqmem_metric = metric.hook


@metric.measure(
    "average_accuracy", "share", "higher", "mean recall over loops at the end of the stream", margin=0.05
)
def average_accuracy(run: RunRecord) -> Value:
    """Return ACC = mean_j a_Tj (Lopez-Paz & Ranzato 2017).

    a_lj is the share of loop j's trained facts recalled in the primary probe form after
    visit l, T the end of the stream, rest included. Unit: share; range 0 to 1; higher is better. None without a
    boundary probe at the end of the stream.
    """
    recall = reading.recall_by_loop(run)
    return Value(float(reading.at_step(recall, reading.stream_end(run)).mean()), reading.facts_probed(run))
