"""Update cosine: at which angle do a loop's steps stand to the other loops'?

Cosines are taken over all parameters that had a gradient, as one vector, of a step and the mean of the other
loops' running means; which vector (gradient, update, moment) is the strategy's `space`. That the target is hit
says nothing about memory: it is hit by construction. Loss and recall against the target do, which is the figure.

`update_cosine.before` above `update_cosine.null` does not show that loops agree more than one loop's batches do: it is
held against a mean of several loops' means, which is less noisy than the one mean of the null. Loops that do not differ
at all read .26 against .21 (simulated: 4 loops, decay .9, noise ten times as strong as the signal). Only `before` below
`null` says something: that loops differ, or that the model has moved on since their visits. Given are means over the
steps of a run, so what changes from cycle to cycle is not seen, and only for rows of `cosine_steer`, which measures
them: between the steps of other strategies no cosine is computed.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from seqmem import LOOP_PHASES, Metric, Missing, NotApplicable, RunRecord, Value, reading
from seqmem.reading import Array

STRATEGY = "cosine_steer"


def _steered(run: RunRecord) -> RunRecord:
    if not run.measured["name"].str.startswith(f"{STRATEGY}.").any():
        raise NotApplicable("the strategy measures no cosine between loops, or no loop was trained")
    return run


seqmem_api = ">=1,<2"
metric = Metric(
    "update_cosine",
    version="1",
    summary="angle between a loop's steps and the other loops'",
    reads=_steered,
    figure="seqmem_plugins.metrics.figures.update_cosine",
)
seqmem_metric = metric.hook


def values(run: RunRecord, name: str) -> Array:
    """Return what the strategy measured under this name, one number per step that has it.

    Raises:
        Missing: no step has it.
    """
    rows = reading.some(
        run.measured[run.measured["name"] == f"{STRATEGY}.{name}"],
        "no step of a loop was trained when another loop had a mean to be held against",
    )
    return rows["value"].to_numpy(dtype=float)


def target(run: RunRecord) -> float:
    """Return the cosine the strategy was told to keep; a composition holds it under the part's name."""
    options = run.recipe["strategy"]["options"]
    return float(options.get(STRATEGY, options)["target"])


@metric.measure("update_cosine", "cosine", "none", "mean cosine with the other loops' mean step, steered")
def mean(run: RunRecord, name: str = "cosine") -> Value:
    """Return the mean over the steps that have it, of the cosine of u and r: the step after steering, the others' mean.

    A mean over time. `update_cosine.before` is the same before steering, `update_cosine.projection` <u, g> / |g|^2
    with g the step before it: below 0 where the step goes against the gradient. Unit: cosine, range -1 to 1; of
    `projection` fraction, any number. None where no strategy measured angles or no step was steered.
    """
    found = values(run, name)
    return Value(float(found.mean()), len(found))


metric.measure(
    "update_cosine.before", "cosine", "none", "the same before steering; evidence only below null"
)(partial(mean, name="before"))


@metric.measure(
    "update_cosine.null",
    "cosine",
    "none",
    "cosine with the own loop's mean; before above it does not show agreement",
)
def null(run: RunRecord) -> Value:
    """Return the mean cosine of a step with its own loop's running mean of earlier steps. Unit: cosine; range: -1 to 1.

    A mean of one loop's steps, so noisier than what `update_cosine.before` is held against: `before` above it is no
    evidence of agreement, only `before` below it is evidence that loops differ.

    Raises:
        Missing: no step was held against anything, or moments were, which are such means themselves.
    """
    names = set(run.measured["name"])
    if f"{STRATEGY}.cosine" in names and f"{STRATEGY}.within" not in names:
        raise Missing("space moment has none: a moment is a running mean of its own loop's gradients itself")
    return mean(run, "within")


@metric.measure("update_cosine.miss", "cosine", "lower", "largest distance from the target")
def miss(run: RunRecord) -> Value:
    """Return max_t |achieved_t - target| over steered steps. Unit: cosine; range: 0 to 2; lower is better."""
    found = values(run, "cosine")
    return Value(float(np.abs(found - target(run)).max()), len(found))


@metric.measure("update_cosine.stretch", "relative", "lower", "largest relative change of a step's norm")
def stretch(run: RunRecord) -> Value:
    """Return max_t | |u_t| / |g_t| - 1 | over steered steps. Unit: relative; range: 0 up; lower is better."""
    found = values(run, "norm")
    return Value(float(np.abs(found - 1).max()), len(found))


metric.measure("update_cosine.projection", "fraction", "none", "mean <u, g>/|g|^2: what is left of a step")(
    partial(mean, name="projection")
)


@metric.measure("update_cosine.ascent", "share", "none", "share of steps turned against their own loop")
def ascent(run: RunRecord) -> Value:
    """Return the share of steered steps with <u, g> < 0. Unit: share; range: 0 to 1."""
    found = values(run, "projection")
    return Value(float((found < 0).mean()), len(found))


@metric.measure("update_cosine.steered", "share", "none", "share of the loops' steps that were turned")
def steered(run: RunRecord) -> Value:
    """Return the share of a loop's steps that were turned. Unit: share; range: 0 to 1.

    The others had no other loop's mean to be held against yet, or lay along it, where no direction is left to
    turn in.
    """
    table = run.experiences
    loops = table["task_label"].notna() & table["phase"].isin(LOOP_PHASES)
    steps = int(table.loc[loops & (table["trains"] != "none"), "steps"].sum())
    return Value(float((run.measured["name"] == f"{STRATEGY}.cosine").sum()) / steps, steps)
