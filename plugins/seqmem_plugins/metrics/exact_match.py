"""Exact match: does greedy decoding give the answer, and does it answer in the form of an answer at all?

Where recall is by forced choice, this says how much of it a model shows when it is left to speak. An answer comes in
the right form where greedy decoding begins as any member of the closed set does, right or wrong. A model that talks in
another form would score 0 here whatever it knows. Below a format rate of .5 the value is None with that reason.

A rise of exact match while the format rate rises, and forced choice does not, is the form being learned. It is no
memory that comes back.

None where no closed set was asked.
"""

from __future__ import annotations

import pandas as pd

from seqmem import Metric, Missing, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "exact_match",
    version="1",
    summary="facts that greedy decoding answers exactly, and the rate of answers in the right form",
)
seqmem_metric = metric.hook

_MIN_RATE = 0.5
"""Format rate below which exact match says nothing about memory."""


def asked_at(run: RunRecord, step: int) -> pd.DataFrame:
    """Return the answers about trained facts at a boundary, in the primary probe form, that have a closed set."""
    rows = run.asked(schedule="boundary", columns=("step", "fact", "correct", "in_form"))
    rows = reading.some(rows[rows["in_form"].notna()], "no closed set was asked: answers have no form")
    return reading.some(rows[rows["step"] == step], f"no boundary probe at step {step}")


def format_rate(rows: pd.DataFrame) -> Value:
    """Return the share of greedy answers that begin as a member of the closed set does."""
    return Value(float(rows["in_form"].astype(float).mean()), int(rows["fact"].nunique()))


def exact(rows: pd.DataFrame) -> Value:
    """Return the share of exact answers, where answers come in their form."""
    rate = format_rate(rows).value or 0.0
    if rate < _MIN_RATE:
        raise Missing(
            f"not interpretable for this model: answers do not come in this form (format rate {rate:.2f})"
        )
    return Value(float(rows["correct"].mean()), int(rows["fact"].nunique()))


@metric.measure("exact_match", "share", "higher", "facts answered exactly at the end of the stream")
def at_the_end(run: RunRecord) -> Value:
    """Return the share of trained facts that greedy decoding answers exactly at the end of the stream.

    Unit: share; range 0 to 1; higher is better. None below a format rate of .5.
    """
    return exact(asked_at(run, reading.stream_end(run)))


@metric.measure("exact_match.loops_end", "share", "higher", "facts answered exactly when the loops end")
def when_loops_end(run: RunRecord) -> Value:
    """Return the same when the loops end, before any rest.

    Unit: share; range 0 to 1; higher is better. None below a format rate of .5.
    """
    return exact(asked_at(run, reading.loops_end(run)))


@metric.measure("exact_match.format", "share", "none", "answers in the right form at the end of the stream")
def form_at_the_end(run: RunRecord) -> Value:
    """Return the format rate at the end of the stream.

    Unit: share; range 0 to 1; neither way is better.
    """
    return format_rate(asked_at(run, reading.stream_end(run)))


@metric.measure("exact_match.format_loops_end", "share", "none", "the same when the loops end")
def form_when_loops_end(run: RunRecord) -> Value:
    """Return the format rate when the loops end.

    Unit: share; range 0 to 1; neither way is better.
    """
    return format_rate(asked_at(run, reading.loops_end(run)))
