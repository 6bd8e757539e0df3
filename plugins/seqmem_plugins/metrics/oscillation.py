"""Oscillation: does memory swing on in the rest, in the cycle it was trained in?

In a loop every curve has the loop's period by construction, so only the rest is read, and only facts that no
training row states in it. A memory that goes on expecting its loops would be best where its loop's next visit was due:
the period is the cycle's and each loop's phase is known beforehand, so there is nothing to search and noise has no
strongest period to offer. A wave cos(2 pi (t - t_k) / P) is fitted to each loop's curve beside a trend, P being
the steps of a cycle and t_k the middle of loop k's last visit; its coefficient is the amplitude in that phase, above or
below zero with equal chance where nothing swings. The curve is the mean over a loop's facts of the answer's
log-probability per token at evenly spaced probes (schedule ``even``), less that of their twins.

It is one contrast, against zero over seeds: whatever noise there is, correlated or of heavy tails, decides how wide the
interval is and not where it lies. A swing of another period, or in another phase, is not what it looks for. Version 1
searched the strongest period of a run and gave a p-value that was far too careful.

None without a rest, where no loop is visited twice or the order changes, where every fact is trained again, and under
40 even probes: ask for them with `scenario.even_every=1`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, RunRecord, Value, reading
from seqmem.reading import Array

seqmem_api = ">=1,<2"
metric = Metric(
    "oscillation",
    version="2",
    summary="swing of memory in the rest, in the cycle's period and each loop's phase",
)
seqmem_metric = metric.hook

MIN_PROBES = 40


def _cycle(run: RunRecord) -> tuple[float, pd.Series]:
    """Return the steps of a cycle, and by loop the middle of its last visit, in steps done."""
    visits = reading.loop_visits(run)
    between = visits.groupby("loop")["start"].diff().dropna()
    if between.empty:
        raise Missing("no loop is visited twice: there is no cycle")
    if between.nunique() > 1:
        raise Missing("the loops come round at uneven distances: there is no one period")
    last = visits.groupby("loop").tail(1).set_index("loop")
    return float(between.iloc[0]), (last["start"] + last["end"]) / 2


@reading.once_per_run
def _left_alone(run: RunRecord) -> pd.DataFrame:
    """Return the even answers about facts of loops that are trained, but not during the rest."""
    rows = reading.questions(run, "even")
    rows = rows[
        rows["task_label"].notna() & rows["fact"].isin(reading.stream_exposures(run)["fact"].unique())
    ]
    kept = reading.some(
        rows[~rows["fact"].isin(reading.trained_in_rest(run))],
        "every fact is trained again during the rest: none is left to itself",
    )
    return kept


@reading.once_per_run
def curves(run: RunRecord) -> pd.DataFrame:
    """Return mean log p(answer) / tokens of a loop's facts minus their twins'; rows are even steps, columns loops."""
    reading.rest_steps(run)
    rows = _left_alone(run)
    twins = reading.questions(run, "even", twins=True)
    twins = reading.some(
        twins[twins["twin_of"].isin(rows["fact"].unique())],
        "no twin was asked on the even schedule: there is nothing to compare with",
    )
    own, other = (
        -each.pivot_table(index="step", columns="task_label", values="loss", aggfunc="mean")
        for each in (rows, twins)
    )
    table = (own - other).dropna()
    table = table[table.index >= reading.loops_end(run)]
    if len(table) < MIN_PROBES:
        raise Missing(
            f"{len(table)} even probes in the rest, {MIN_PROBES} are needed: set scenario.even_every lower"
        )
    return table.rename(columns=int)


def in_phase(curve: Array, steps: Array, period: float, due: float) -> float:
    """Return the coefficient of cos(2 pi (t - due) / period) beside a trend of 1, log(1+t) and log(1+t)^2.

    Args:
        curve: (probes,).
        steps: (probes,) steps done at each; t of the trend counts from the first.
        period: in steps.
        due: a step at which the wave is highest.
    """
    trend = np.linalg.qr(np.log1p(steps - steps[0])[:, None] ** np.arange(3))[0]
    wave = np.cos(2 * np.pi * (steps - due) / period)
    wave = wave - trend @ (trend.T @ wave)
    return float(curve @ wave / (wave @ wave))


@metric.measure(
    "oscillation",
    "nats/token",
    "none",
    "amplitude of the swing in the loops' own cycle, less the twins'",
    effect=0.1,
)
def amplitude(run: RunRecord) -> Value:
    """Return the mean over loops of the amplitude in the cycle's period and the loop's phase, less the twins'.

    Unit: nats per token; range: any number; zero without a swing, above zero where answers are best when their loop
    would have been visited again; no direction is better.
    """
    period, due = _cycle(run)
    table = curves(run)
    steps = table.index.to_numpy(dtype=float)
    loops = [loop for loop in table.columns.to_numpy(dtype=int) if loop in due.index]
    found = [in_phase(table[loop].to_numpy(dtype=float), steps, period, float(due[loop])) for loop in loops]
    return Value(float(np.mean(found)), int(_left_alone(run)["fact"].nunique()))
