"""General ability: what happened to the rest of the language model?

Loss on held-out background text, before and after. Above zero ability was lost; model collapse shows here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from seqmem import Metric, Missing, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric("general_ability", version="1", summary="change of loss on held-out background text")
seqmem_metric = metric.hook


@reading.once_per_run
def _losses(run: RunRecord) -> pd.DataFrame:
    """Return the summed log p, the tokens and the number of held-out documents, by step."""
    columns = ("step", "fact", "task_label", "logprob", "tokens")
    rows = run.asked(schedule="general", relation="general", columns=columns)
    rows = reading.some(rows[rows["task_label"].isna()], "no held-out background document was probed")
    return rows.groupby("step").agg(
        logprob=("logprob", "sum"), tokens=("tokens", "sum"), documents=("fact", "nunique")
    )


@metric.measure(
    "general_ability",
    "nats/token",
    "lower",
    "held-out loss at the end minus at the start",
    role="harm",
    gate=0.05,
)
def change(run: RunRecord, at: Callable[[RunRecord], int] = reading.stream_end) -> Value:
    """Return L(t) - L(0), L = -sum log p / sum tokens over the same held-out documents, t the end of the stream.

    `general_ability.loops` reads it when the loops are done, before the rest. Unit: nats per token; range: any
    number; lower is better, above zero the model lost general ability. None where no held-out document was probed.
    """
    table, step = _losses(run), at(run)
    for needed in (0, step):
        if needed not in table.index:
            raise Missing(f"held-out documents were not probed at step {needed}")
    loss = -table["logprob"] / table["tokens"]
    return Value(float(loss.loc[step] - loss.loc[0]), int(table["documents"].loc[step]))


metric.measure("general_ability.loops", "nats/token", "lower", "the same at the end of the loops")(
    partial(change, at=reading.loops_end)
)
