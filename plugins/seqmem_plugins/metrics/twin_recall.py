"""Twin recall: did anything leak?

Never-trained twins must not be recalled. Clearly above chance, answers leak or can be guessed, and recall of trained
facts is not evidence of memory.
"""

from __future__ import annotations

from seqmem import Metric, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric("twin_recall", version="1", summary="recall of never-trained twins: the leak control")
seqmem_metric = metric.hook


@metric.measure(
    "twin_recall",
    "share",
    "lower",
    "never-trained twins recalled when the loops end",
    margin=0.05,
    role="twins",
)
def twin_recall(run: RunRecord) -> Value:
    """Return the share of never-trained twins recalled in the primary probe form at the end of the loops.

    Unit: share; range 0 to 1; lower is better. None where twins were not asked.
    """
    rows = reading.questions(run, twins=True)
    rows = reading.some(
        rows[rows["step"] == reading.loops_end(run)], "twins were not asked at the end of the loops"
    )
    return Value(float(rows["right"].mean()), int(rows["fact"].nunique()))
