"""Sampled recall: is the answer among n samples?

The record holds, per probe, the exact probability p that one sampled answer is the answer; n independent
samples hit with 1 - (1 - p)^n. No answer is drawn, so there is no sampling noise. Many samples hit by luck:
the twins say how often.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value, reading


def _sampled(run: RunRecord) -> RunRecord:
    if not run.probes["sampled"].notna().any():
        raise NotApplicable("nothing is asked with sampling")
    return run


seqmem_api = ">=1,<2"
metric = Metric(
    "sampled_recall", version="1", summary="recall by at least one of n sampled answers", reads=_sampled
)
seqmem_metric = metric.hook


@metric.measure("sampled_recall", "share", "higher", "at least one of the scenario's n samples", margin=0.05)
def sampled_recall(run: RunRecord, n: int | None = None, *, twins: bool = False) -> Value:
    """Return the mean over facts of 1 - (1 - p)^n in the primary probe form when training was done.

    n is the scenario's number of samples, or 1; `sampled_recall.twins` is the same of never-trained twins. Unit:
    fraction; range 0 to 1; higher is better. None where nothing was asked with sampling.
    """
    samples = run.design.samples if n is None else n
    if samples is None:
        raise Missing("the scenario states no number of samples")
    step = reading.loops_end(run)
    rows = run.asked(schedule="boundary", twins=twins)
    rows = reading.some(
        rows[(rows["step"] == step) & rows["sampled"].notna()],
        f"no {'twin' if twins else 'fact'} was asked with sampling at step {step}",
    )
    p = rows["sampled"].to_numpy(dtype=float)
    # for p near 0, 1 - p loses digits that log1p keeps
    with np.errstate(divide="ignore"):
        hits = -np.expm1(samples * np.log1p(-np.minimum(p, 1.0)))
    return Value(float(hits.mean()), int(rows["fact"].nunique()))


metric.measure("sampled_recall.one", "share", "higher", "one sample alone")(partial(sampled_recall, n=1))
metric.measure("sampled_recall.twins", "share", "lower", "n samples on never-trained twins: luck")(
    partial(sampled_recall, twins=True)
)
