"""Twin recall: did anything leak?

Never-trained twins must not be recalled. Clearly above chance, answers leak or can be guessed, and recall of trained
facts is no evidence of memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt, loops_end, questions

seqmem_api = ">=1,<2"


def twin_recall(run: RunRecord) -> Value:
    """Share of never-trained twins answered exactly on the primary rung at the end of the loops.

    Unit: fraction; range 0 to 1; lower is better. None where twins were not asked.
    """
    rows = questions(run, twins=True)
    rows = rows[rows["step"] == loops_end(run)]
    if rows.empty:
        raise Missing("twins were not asked at the end of the loops")
    return Value(float(rows["correct"].mean()), int(rows["fact"].nunique()))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {"twin_recall": attempt(lambda: twin_recall(run))}


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="twin_recall",
            version="1",
            summary="recall of never-trained twins: the leak control",
            measures=(
                Measure(
                    "twin_recall", "fraction", "lower", "twins recalled at the end of the loops", margin=0.05
                ),
            ),
            compute=_compute,
        )
    ]
