"""General ability: what happened to the rest of the language model?

Loss on held-out background text, before and after. Above zero ability was lost; model collapse shows here.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt, loops_end, once_per_run, stream_end

seqmem_api = ">=1,<2"


@once_per_run
def _losses(run: RunRecord) -> pd.DataFrame:
    """Summed -log p and tokens of held-out documents, by step."""
    columns = ("step", "fact", "task_label", "logprob", "tokens")
    rows = run.asked(schedule="general", relation="general", columns=columns)
    rows = rows[rows["task_label"].isna()]
    if rows.empty:
        raise Missing("no held-out background document was probed")
    return rows.groupby("step").agg(
        logprob=("logprob", "sum"), tokens=("tokens", "sum"), documents=("fact", "nunique")
    )


def change(run: RunRecord, step: int) -> Value:
    """Delta = L(step) - L(0), L = -sum log p / sum tokens over the same held-out documents.

    `general_ability.loops` reads it when the loops are done, before the rest. Unit: nats per token; range: any
    number; lower is better, above zero the model lost general ability. None where no held-out document was probed.
    """
    table = _losses(run)
    for needed in (0, step):
        if needed not in table.index:
            raise Missing(f"held-out documents were not probed at step {needed}")
    loss = -table["logprob"] / table["tokens"]
    return Value(float(loss.loc[step] - loss.loc[0]), int(table["documents"].loc[step]))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {
        "general_ability": attempt(lambda: change(run, stream_end(run))),
        "general_ability.loops": attempt(lambda: change(run, loops_end(run))),
    }


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="general_ability",
            version="1",
            summary="change of loss on held-out background text",
            measures=(
                Measure(
                    "general_ability", "nats/token", "lower", "held-out loss at the end minus at the start"
                ),
                Measure("general_ability.loops", "nats/token", "lower", "the same at the end of the loops"),
            ),
            compute=_compute,
        )
    ]
