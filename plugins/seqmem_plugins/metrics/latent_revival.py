"""Latent revival: do answers come back with nobody training them?

y is the margin log p(answer) - log p(best other choice) of a fact at the even steps of the rest, less the same of its
never-trained twin: what the rest does to any answer, such as mending a model that the loops have damaged, moves both.
A running median of three probes takes out dips of a single one.

Any noisy curve rises somewhere, so the place of the largest rise is found on half of the loops and read on the other
half, both ways and over all ways to halve them; each loop counts alike, and the median leaves a curve's ends as they
are. Noise gives the other half no reason to rise at the same place, whatever its law, however facts differ in it, and
though the facts of a loop move together; a memory that only decays reads a little below zero. Version 4 compared each
curve with normal noise and took heavy tails for returns.

Mind: what moves all facts of a run and not their twins is seen on both halves. Where answers lie at a floor or a
ceiling, common noise is such a thing (docs/calibration.md, *floor and ceiling*).

It is one contrast, against zero over seeds. It finds returns that facts share in time. Where every fact returns at a
time of its own, the mean hardly rises: `latent_revival.facts` counts curves that rise out of their own noise more
often than the twins' do.

Facts stated in a training row after the loops ended are left out (`replay`, `joint`).

None without a rest, without competing choices, where every fact is trained again during the rest, under 12 even
probes or under 4 facts with a twin, and in one loop alone.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import median_filter

from seqmem import Metric, Missing, RunRecord, Value, reading
from seqmem.reading import Array

seqmem_api = ">=1,<2"
metric = Metric(
    "latent_revival",
    version="5",
    summary="rises of the answer's margin over its twin's without re-exposure",
)
seqmem_metric = metric.hook

_MIN_POINTS = 12
_MIN_CURVES = 4
_MOST_HALVES = 35
"""All ways to halve eight loops; with more loops only the first 35 are used."""
_MEDIAN = 3
_REMARKABLE = 0.95


def _margins(run: RunRecord, *, twins: bool) -> pd.DataFrame:
    """Return log p(answer) - log p(best other choice), nats, by fact and even step of the rest."""
    rows = reading.questions(run, "even", twins=twins)
    rows = reading.some(
        rows[rows["best_other"].notna() & (rows["step"] >= reading.loops_end(run))],
        "no competing answer was scored on the even schedule: there is no margin",
    )
    return rows.assign(margin=rows["logprob"] - rows["best_other"]).pivot_table(
        index="twin_of" if twins else "fact", columns="step", values="margin", aggfunc="mean"
    )


@reading.once_per_run
def _left_alone(run: RunRecord) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Return (facts, probes) margins of facts, the same of their twins, and (facts,) loops; medians of three probes."""
    reading.rest_steps(run)
    facts, twins = (_margins(run, twins=twins) for twins in (False, True))
    asked = len(facts)
    facts = facts[~facts.index.isin(reading.trained_in_rest(run))]
    left_out = asked - len(facts)
    if facts.empty:
        raise Missing("every fact is trained again during the rest: nothing returns without re-exposure")
    facts, twins = facts.dropna().align(twins.dropna(), join="inner")
    labels = run.items.drop_duplicates("fact").set_index("fact")["task_label"]
    loops = labels.reindex(facts.index)
    facts, twins, loops = facts[loops.notna()], twins[loops.notna()], loops[loops.notna()]
    if facts.shape[1] < _MIN_POINTS or len(facts) < _MIN_CURVES:
        trained = f" ({left_out} facts are trained again during the rest)" if left_out else ""
        raise Missing(
            f"{len(facts)} curves of {facts.shape[1]} even probes with a twin's{trained}; "
            f"{_MIN_CURVES} of {_MIN_POINTS} are needed"
        )
    smooth = [median_filter(table.to_numpy(dtype=float), size=(1, _MEDIAN)) for table in (facts, twins)]
    return smooth[0], smooth[1], loops.to_numpy(dtype=np.int64)


def largest_rise(curve: Array) -> tuple[int, int]:
    """Return the probes s < t between which a curve (probes,) rises most, or falls least."""
    rise = curve[None, :] - curve[:, None]
    rise[np.tril_indices(len(curve))] = -np.inf
    start, end = np.unravel_index(int(rise.argmax()), rise.shape)
    return int(start), int(end)


def rise_read_elsewhere(curves: Array, loops: npt.NDArray[np.int64]) -> float:
    """Return the rise of half of the loops where that of the other half is largest, mean over halves.

    Args:
        curves: (facts, probes), nats.
        loops: (facts,) the loop of each.
    """
    labels = np.unique(loops)
    means = np.array([curves[loops == label].mean(axis=0) for label in labels])
    halves = list(combinations(range(len(labels)), len(labels) // 2))
    if len(labels) % 2 == 0:  # the second half of the list are the complements of the first
        halves = halves[: len(halves) // 2]
    read = []
    for half in halves[:_MOST_HALVES]:
        chosen = np.isin(np.arange(len(labels)), half)
        for find in (chosen, ~chosen):
            start, end = largest_rise(means[find].mean(axis=0))
            other = means[~find].mean(axis=0)
            read.append(other[end] - other[start])
    return float(np.mean(read))


@metric.measure(
    "latent_revival", "nats", "none", "rise of the margin over the twins', read on other loops", effect=0.5
)
def latent_revival(run: RunRecord) -> Value:
    """Return the rise of the margin over the twins' in the rest, found on half of the loops and read on the others.

    max over s < t of mean_find (y_t - y_s), read as mean_read (y_t - y_s), y being log p(answer) - log p(best other
    choice) of a fact minus its twin's. Unit: nats; range: any number; zero or a little below without revival.
    """
    facts, twins, loops = _left_alone(run)
    if len(np.unique(loops)) < 2:
        raise Missing("the facts are of one loop: no other half to read a rise on")
    return Value(rise_read_elsewhere(facts - twins, loops), len(facts))


@metric.measure(
    "latent_revival.facts", "fraction", "none", "share of facts that rise as only 5 % of twins do"
)
def facts_that_rise(run: RunRecord) -> Value:
    """Return the share of facts whose largest rise, in units of the curve's own roughness, tops 95 % of twins', - .05.

    Roughness is the median of the absolute first differences. Exploratory: noise of facts and of twins need not be
    alike. Unit: fraction; range -.05 to .95; about 0 or below where facts rise as twins do.
    """
    facts, twins, _ = _left_alone(run)
    own, other = _heights(facts), _heights(twins)
    return Value(float((own > np.quantile(other, _REMARKABLE)).mean() - (1 - _REMARKABLE)), len(facts))


def _heights(curves: Array) -> Array:
    """Return (curves,) the largest rise over the median of the absolute first differences."""
    rise = (curves - np.minimum.accumulate(curves, axis=1)).max(axis=1)
    rough = np.median(np.abs(np.diff(curves, axis=1)), axis=1)
    return np.asarray(rise / np.maximum(rough, 1e-12))
