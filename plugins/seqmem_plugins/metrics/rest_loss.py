"""Rest loss: is the rest's own text learned, or only let pass?

A learner that keeps everything because it has stopped learning has not solved forgetting. The same rows of the rest's
own text are scored at both ends of the rest. A strategy that rests without learning, or takes back what it
learned, ends with a higher loss on them than one that learns; `rest_loss.fall` says what came down, which is also
less where the loops had done less harm.

None where a stream has no rest on background text, or does not ask for it.
"""

from __future__ import annotations

import pandas as pd

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric("rest_loss", version="1", summary="loss on the rest's own text when the rest is over")
seqmem_metric = metric.hook


@reading.once_per_run
def losses(run: RunRecord) -> pd.DataFrame:
    """Return L = -sum log p / sum tokens over the rest's own rows, and their number, by step: start and end."""
    if "rest_text" not in run.schedules:
        raise NotApplicable("the scenario does not ask for the text of its rest")
    columns = ("step", "fact", "logprob", "tokens")
    rows = run.asked(schedule="rest_text", relation="general", columns=columns)
    asked = rows.groupby("step").agg(
        logprob=("logprob", "sum"), tokens=("tokens", "sum"), rows=("fact", "nunique")
    )
    if len(asked) != 2:
        raise Missing(f"the rest's text was asked at {len(asked)} steps, not at both ends of the rest")
    return asked.assign(loss=-asked["logprob"] / asked["tokens"])


@metric.measure(
    "rest_loss", "nats/token", "lower", "loss on the rest's own text at the end of the rest", gate=0.05
)
def at_end(run: RunRecord) -> Value:
    """Return the loss on rows that the rest trains, at its end.

    Unit: nats per token; range: 0 up; lower is better.
    """
    asked = losses(run)
    return Value(float(asked["loss"].iloc[1]), int(asked["rows"].iloc[1]))


@metric.measure("rest_loss.fall", "nats/token", "none", "how far it fell over the rest")
def fall(run: RunRecord) -> Value:
    """Return the same loss at the start of the rest minus at its end: about 0 where the rest taught nothing.

    Unit: nats per token; range: any number; no direction is better, since a model that the loops have damaged has more
    to gain.
    """
    asked = losses(run)
    return Value(float(asked["loss"].iloc[0] - asked["loss"].iloc[1]), int(asked["rows"].iloc[1]))
