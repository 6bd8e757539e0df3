"""Cost: what was read, trained and kept?

Counted, not timed: the same on every machine. Seconds are measured alone on a machine, by `--measure-cost`. Branches
that a scenario trains besides its stream count too.

Only training steps are counted. Passes that a strategy makes beside them are in no number here: the Fisher passes of
`ewc`, the reference gradients of Avalanche's GEM and AGEM. Step time, by `--measure-cost`, shows them.
"""

from __future__ import annotations

import pandas as pd

from seqmem import Metric, Missing, RunRecord, Value

seqmem_api = ">=1,<2"
metric = Metric("cost", version="1", summary="trained tokens, steps, passes and extra memory")
seqmem_metric = metric.hook


def _trained(run: RunRecord) -> pd.DataFrame:
    """Return the steps of experiences that train something."""
    table = run.experiences
    training = table.loc[table["trains"] != "none", "experience"]
    return run.steps[run.steps["experience"].isin(training)]


@metric.measure(
    "cost", "tokens", "lower", "tokens read by training steps, rehearsed ones included", role="tokens"
)
def tokens(run: RunRecord) -> Value:
    """Count the tokens read by training forwards, padding excluded, rehearsed rows included.

    What a strategy reads beside its training steps is left out: see `cost.passes`. Unit: tokens; range: 0 up;
    lower is cheaper.
    """
    rows = _trained(run)
    return Value(float(rows["tokens"].sum()), len(rows))


@metric.measure("cost.steps", "steps", "lower", "optimizer steps counted, idle ones included")
def steps(run: RunRecord) -> Value:
    """Count the optimizer steps, those of a rest that trains nothing included.

    Unit: steps; range: 0 up; lower is cheaper.
    """
    return Value(float(len(run.steps)), len(run.steps))


@metric.measure("cost.passes", "passes", "lower", "forwards of training steps, each with one backward")
def passes(run: RunRecord) -> Value:
    """Count the forward passes of training, each followed by one backward pass: one of both per trained step.

    Passes beside the step are left out, such as those for the Fisher information of `ewc` or for the reference
    gradients of Avalanche's GEM and AGEM. Unit: passes; range: 0 up; lower is cheaper.
    """
    rows = _trained(run)
    return Value(float(len(rows)), len(rows))


@metric.measure(
    "cost.state", "model sizes", "lower", "extra state kept, in units of the model's bytes", role="state"
)
def extra_state(run: RunRecord) -> Value:
    """Return the bytes kept beyond the plain learner's model and moments, over the model's bytes.

    Unit: model sizes; range: any number, below 0 where fewer parameters have moments than the plain learner's;
    lower is cheaper. None where the record does not state the bytes.
    """
    extra, model = run.info.get("extra_state_bytes"), run.info.get("parameter_bytes")
    if extra is None or not model:
        raise Missing("the record does not state the bytes of extra state and of the model")
    return Value(extra / model, 1)
