"""Sampled recall: is the answer among n samples?

The record holds, per probe, the exact probability p that one sampled answer is the answer; n independent
samples hit with 1 - (1 - p)^n. No answer is drawn, so there is no sampling noise. Many samples hit by luck:
the twins say how often.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqmem import Measure, MetricSpec, NotApplicable, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt, loops_end

seqmem_api = ">=1,<2"


def samples(run: RunRecord) -> int:
    """The n of the scenario's options."""
    options: Mapping[str, int] = run.recipe["scenario"]["options"]
    if "samples" not in options:
        raise Missing("the scenario states no number of samples")
    return options["samples"]


def sampled_recall(run: RunRecord, n: int, *, twins: bool = False) -> Value:
    """Mean over facts of 1 - (1 - p)^n on the primary rung when training was done.

    n is the scenario's number of samples, or 1; `sampled_recall.twins` is the same of never-trained twins. Unit:
    fraction; range 0 to 1; higher is better. None where nothing was asked with sampling.
    """
    step = loops_end(run)
    rows = run.asked(schedule="boundary", twins=twins)
    rows = rows[(rows["step"] == step) & rows["sampled"].notna()]
    if rows.empty:
        raise Missing(f"no {'twin' if twins else 'fact'} was asked with sampling at step {step}")
    p = rows["sampled"].to_numpy(dtype=float)
    # for p near 0, 1 - p loses digits that log1p keeps
    with np.errstate(divide="ignore"):
        hits = -np.expm1(n * np.log1p(-np.minimum(p, 1.0)))
    return Value(float(hits.mean()), int(rows["fact"].nunique()))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    if not run.probes["sampled"].notna().any():
        raise NotApplicable("nothing is asked with sampling")
    return {
        "sampled_recall": attempt(lambda: sampled_recall(run, samples(run))),
        "sampled_recall.one": attempt(lambda: sampled_recall(run, 1)),
        "sampled_recall.twins": attempt(lambda: sampled_recall(run, samples(run), twins=True)),
    }


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="sampled_recall",
            version="1",
            summary="recall by at least one of n sampled answers",
            measures=(
                Measure(
                    "sampled_recall",
                    "fraction",
                    "higher",
                    "at least one of the scenario's n samples",
                    margin=0.05,
                ),
                Measure("sampled_recall.one", "fraction", "higher", "one sample alone"),
                Measure(
                    "sampled_recall.twins", "fraction", "lower", "n samples on never-trained twins: luck"
                ),
            ),
            compute=_compute,
        )
    ]
