"""Cost: what was read, trained and kept?

Counted, not timed: the same on every machine. Seconds are measured alone on a machine, by `--measure-cost`. Branches
that a scenario trains besides its stream count too.

Only training steps are counted. Passes that a strategy makes beside them are in no number here: the Fisher passes of
`ewc`, the reference gradients of Avalanche's GEM and AGEM. Step time, by `--measure-cost`, shows them.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt

seqmem_api = ">=1,<2"


def _trained(run: RunRecord) -> pd.DataFrame:
    """Steps of experiences that train something."""
    table = run.experiences
    training = table.loc[table["trains"] != "none", "experience"]
    return run.steps[run.steps["experience"].isin(training)]


def tokens(run: RunRecord) -> Value:
    """Tokens read by training forwards, padding excluded, rehearsed rows included.

    What a strategy reads beside its training steps is left out: see `cost.passes`. Unit: tokens; range: 0 up;
    lower is cheaper.
    """
    rows = _trained(run)
    return Value(float(rows["tokens"].sum()), len(rows))


def steps(run: RunRecord) -> Value:
    """Optimizer steps counted, those of a rest that trains nothing included.

    Unit: steps; range: 0 up; lower is cheaper.
    """
    return Value(float(len(run.steps)), len(run.steps))


def passes(run: RunRecord) -> Value:
    """Forward passes of training, each followed by one backward pass: one of both per trained step.

    Passes beside the step are left out, such as those for the Fisher information of `ewc` or for the reference
    gradients of Avalanche's GEM and AGEM. Unit: passes; range: 0 up; lower is cheaper.
    """
    rows = _trained(run)
    return Value(float(len(rows)), len(rows))


def extra_state(run: RunRecord) -> Value:
    """Bytes kept beyond the plain learner's model and moments, over the model's bytes.

    Unit: model sizes; range: any number, below 0 where fewer parameters have moments than the plain learner's;
    lower is cheaper. None where the record does not state the bytes.
    """
    extra, model = run.info.get("extra_state_bytes"), run.info.get("parameter_bytes")
    if extra is None or not model:
        raise Missing("the record does not state the bytes of extra state and of the model")
    return Value(extra / model, 1)


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {
        "cost": attempt(lambda: tokens(run)),
        "cost.steps": attempt(lambda: steps(run)),
        "cost.passes": attempt(lambda: passes(run)),
        "cost.state": attempt(lambda: extra_state(run)),
    }


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="cost",
            version="1",
            summary="trained tokens, steps, passes and extra memory",
            measures=(
                Measure(
                    "cost",
                    "tokens",
                    "lower",
                    "tokens read by training steps, rehearsed ones included",
                    role="tokens",
                ),
                Measure("cost.steps", "steps", "lower", "optimizer steps counted, idle ones included"),
                Measure(
                    "cost.passes", "passes", "lower", "forwards of training steps, each with one backward"
                ),
                Measure(
                    "cost.state",
                    "model sizes",
                    "lower",
                    "extra state kept, in units of the model's bytes",
                    role="state",
                ),
            ),
            compute=_compute,
        )
    ]
