"""Bits per parameter: how much is stored of what was drawn at random?

A fact whose value was drawn uniformly from a closed set V holds log2 |V| bits that nothing but training can give.
The model's probability of the right value, renormalised over the set, says how many of them it has: log2 |V|
minus the cross-entropy in bits. A value is a closed set's own only where the whole set was scored.

After Allen-Zhu & Li 2024 (arXiv 2404.05405), who bound the bits from below in the same way and count the bits of
names too: about 2 bits per parameter when every fact was met 1000 times, about 1 when 100 times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value

seqmem_api = ">=1,<2"
metric = Metric(
    "bits_per_parameter",
    version="1",
    summary="bits of randomly drawn facts stored per parameter",
    citation="Allen-Zhu & Li 2024, arXiv 2404.05405",
    figure="seqmem_plugins.metrics.figures.bits_per_parameter",
)
seqmem_metric = metric.hook


def learned_bits(run: RunRecord, *, twins: bool = False) -> pd.DataFrame:
    """Return the bits learned of each item at each boundary; rows are steps, columns facts.

    log2 |V| + log2 p, p being the probability of the right value renormalised over its closed set V. Below 0
    where the model is surer of wrong values than a uniform guess; at most log2 |V|.

    Raises:
        NotApplicable: no probe scores the whole closed set its answer was drawn from.
    """
    if run.design.recall == "forced_choice":
        raise NotApplicable("candidates compete for an answer, not the whole closed set it was drawn from")
    rows = run.asked(schedule="boundary", twins=twins)
    sizes = rows["choices"].map(len)
    whole = rows["closed"].notna() & np.isclose(sizes * rows["chance"].astype(float), 1)
    if not whole.any():
        raise NotApplicable("no probe scores the whole closed set its answer was drawn from")
    rows = rows[whole]
    bits = np.log2(sizes[whole].astype(float)) + rows["closed"] / math.log(2)
    return rows.assign(bits=bits).pivot_table(index="step", columns="fact", values="bits")


def trained_facts(run: RunRecord) -> int:
    """Count the facts that training stated at least once, asked for or not."""
    return int(run.exposures["fact"].nunique())


def exposures_at(run: RunRecord, steps: Sequence[int]) -> list[float]:
    """Return the times that a trained fact had been stated after each of these steps, on average."""
    stated = run.exposures.groupby("step")["count"].sum().sort_index().cumsum()
    done = stated.index.searchsorted(np.asarray(steps), side="right")
    return [float(stated.iloc[n - 1]) / trained_facts(run) if n else 0.0 for n in done]


def capacity(run: RunRecord, *, twins: bool = False) -> pd.Series:
    """Return the bits stored per parameter at each boundary, by step.

    Mean over items of the bits learned, floored at 0 after averaging, times the facts trained, over all
    parameters of the model. Twins are counted as if as many of them had been trained.
    """
    mean = learned_bits(run, twins=twins).mean(axis=1).clip(lower=0)
    return mean * trained_facts(run) / parameters(run)


def parameters(run: RunRecord) -> int:
    """Return the parameters of the model, as the recipe counts them."""
    return int(run.recipe["model"]["parameters"])


@metric.measure(
    "bits_per_parameter", "bits/parameter", "higher", "stored at the end of training", margin=0.05
)
def bits_per_parameter(run: RunRecord) -> Value:
    """Return the bits stored per parameter at the end of training.

    Unit: bits per parameter; range: 0 to the bits offered; higher is better. A lower bound: only the values
    are counted, not the keys they are asked by.
    """
    return Value(float(capacity(run).iloc[-1]), learned_bits(run).shape[1])


@metric.measure("bits_per_parameter.share", "fraction", "higher", "bits stored of the bits offered")
def share(run: RunRecord) -> Value:
    """Return the bits stored as a share of the bits offered: 1 until the parameters are full, falling beyond.

    Unit: share; range 0 to 1; higher is better.
    """
    bits = learned_bits(run)
    return Value(max(0.0, float(bits.iloc[-1].mean())) / offered_bits(run), bits.shape[1])


def offered_bits(run: RunRecord) -> float:
    """Return the bits that a fact holds, log2 |V|, on average over the facts asked for."""
    rows = run.asked(schedule="boundary").drop_duplicates("fact")
    return float(np.log2(rows["choices"].map(len).astype(float)).mean())


@metric.measure("bits_per_parameter.twins", "bits/parameter", "lower", "the same of never-trained twins")
def twins(run: RunRecord) -> Value:
    """Return the same from never-trained twins: the leak control.

    Unit: bits per parameter; 0 unless answers can be had without training; lower is better.
    """
    if run.asked(schedule="boundary", twins=True).empty:
        raise Missing("no twin was asked for")
    return Value(float(capacity(run, twins=True).iloc[-1]), learned_bits(run, twins=True).shape[1])
