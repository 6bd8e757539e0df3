"""Update cosine: at which angle do a loop's steps stand to the other loops'?

Cosines are taken over all parameters that had a gradient, as one vector, of a step and the mean of the other
loops' running means; which vector (gradient, update, moment) is the strategy's `space`. That the target is hit
says nothing about memory: it is hit by construction. Loss and recall against the target do, which is the figure.

`update_cosine.before` above `update_cosine.null` is no sign that loops agree more than one loop's batches do: it is
held against a mean of several loops' means, which is less noisy than the one mean of the null. Loops that do not differ
at all read .26 against .21 (simulated: 4 loops, decay .9, noise ten times as strong as the signal). Only `before` below
`null` says something: that loops differ, or that the model has moved on since their visits. Given are means over the
steps of a run, so what changes from cycle to cycle is not seen, and only for rows of `cosine_steer`, which measures
them: between the steps of other strategies no cosine is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmem import (
    COLOURS,
    LOOP_PHASES,
    Measure,
    MetricSpec,
    NotApplicable,
    RunRecord,
    Value,
    clean,
    hookimpl,
    mean_band,
)
from seqmem_plugins.metrics._curves import Missing, attempt, loops_end, questions, stream_end
from seqmem_plugins.metrics._panels import CONTROL, finish, line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"

Array = npt.NDArray[np.float64]

STRATEGY = "cosine_steer"


def values(run: RunRecord, name: str) -> Array:
    """What the strategy measured under this name, one number per step that has it.

    Raises:
        Missing: no step has it.
    """
    rows = run.measured[run.measured["name"] == f"{STRATEGY}.{name}"]
    if rows.empty:
        raise Missing("no step of a loop was trained when another loop had a mean to be held against")
    return rows["value"].to_numpy(dtype=float)


def target(run: RunRecord) -> float:
    """The cosine the strategy was told to keep; a composition holds it under the part's name."""
    options = run.recipe["strategy"]["options"]
    return float(options.get(STRATEGY, options)["target"])


def mean(run: RunRecord, name: str) -> Value:
    """Mean over the steps that have it, of the cosine of u and r: the step after steering, the others' mean.

    A mean over time. `update_cosine.before` is the same before steering, `update_cosine.projection` <u, g> / |g|^2
    with g the step before it: below 0 where the step goes against the gradient. Unit: cosine, range -1 to 1; of
    `projection` fraction, any number. None where no strategy measured angles or no step was steered.
    """
    found = values(run, name)
    return Value(float(found.mean()), len(found))


def miss(run: RunRecord) -> Value:
    """max_t |achieved_t - target| over steered steps. Unit: cosine; range: 0 to 2; lower is better."""
    found = values(run, "cosine")
    return Value(float(np.abs(found - target(run)).max()), len(found))


def null(run: RunRecord) -> Value:
    """Mean cosine of a step with its own loop's running mean of earlier steps. Unit: cosine; range: -1 to 1.

    A mean of one loop's steps, so noisier than what `update_cosine.before` is held against: `before` above it is no
    evidence of agreement, only `before` below it is evidence that loops differ.

    Raises:
        Missing: no step was held against anything, or moments were, which are such means themselves.
    """
    names = set(run.measured["name"])
    if f"{STRATEGY}.cosine" in names and f"{STRATEGY}.within" not in names:
        raise Missing("space moment has none: a moment is a running mean of its own loop's gradients itself")
    return mean(run, "within")


def stretch(run: RunRecord) -> Value:
    """max_t | |u_t| / |g_t| - 1 | over steered steps. Unit: relative; range: 0 up; lower is better."""
    found = values(run, "norm")
    return Value(float(np.abs(found - 1).max()), len(found))


def ascent(run: RunRecord) -> Value:
    """Share of steered steps with <u, g> < 0. Unit: fraction; range: 0 to 1."""
    found = values(run, "projection")
    return Value(float((found < 0).mean()), len(found))


def steered(run: RunRecord) -> Value:
    """Share of a loop's steps that were turned. Unit: fraction; range: 0 to 1.

    The others had no other loop's mean to be held against yet, or lay along it, where no direction is left to
    turn in.
    """
    table = run.experiences
    loops = table["task_label"].notna() & table["phase"].isin(LOOP_PHASES)
    steps = int(table.loc[loops & (table["trains"] != "none"), "steps"].sum())
    return Value(float((run.measured["name"] == f"{STRATEGY}.cosine").sum()) / steps, steps)


MEASURES: Mapping[str, tuple[Measure, Callable[[RunRecord], Value]]] = {
    measure.name: (measure, compute)
    for measure, compute in (
        (
            Measure(
                "update_cosine", "cosine", "none", "mean cosine with the other loops' mean step, steered"
            ),
            lambda run: mean(run, "cosine"),
        ),
        (
            Measure(
                "update_cosine.before", "cosine", "none", "the same before steering; evidence only below null"
            ),
            lambda run: mean(run, "before"),
        ),
        (
            Measure(
                "update_cosine.null",
                "cosine",
                "none",
                "cosine with the own loop's mean; before above it is no agreement",
            ),
            null,
        ),
        (
            Measure("update_cosine.miss", "cosine", "lower", "largest distance from the target"),
            miss,
        ),
        (
            Measure("update_cosine.stretch", "relative", "lower", "largest relative change of a step's norm"),
            stretch,
        ),
        (
            Measure(
                "update_cosine.projection", "fraction", "none", "mean <u, g>/|g|^2: what is left of a step"
            ),
            lambda run: mean(run, "projection"),
        ),
        (
            Measure(
                "update_cosine.ascent", "fraction", "none", "share of steps turned against their own loop"
            ),
            ascent,
        ),
        (
            Measure(
                "update_cosine.steered", "fraction", "none", "share of the loops' steps that were turned"
            ),
            steered,
        ),
    )
}


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    """All measures.

    Raises:
        NotApplicable: the strategy measured no cosine.
    """
    if not run.measured["name"].str.startswith(f"{STRATEGY}.").any():
        raise NotApplicable("the strategy measures no cosine between loops, or no loop was trained")
    return {name: attempt(partial(compute, run)) for name, (_, compute) in MEASURES.items()}


# -- the figure ---------------------------------------------------------------------------------------------

TARGET_OPTIONS = {"strategy.target", f"strategy.{STRATEGY}.target"}
PANELS = {"loss": "answer loss\n(nats per token)", "correct": "recall\n(share right)"}


def outcomes(run: RunRecord) -> pd.DataFrame:
    """Mean answer loss and recall of the trained facts, at the end of the loops and, below, of what follows.

    Raises:
        Missing: facts are not asked there.
    """
    asked = questions(run)
    steps = dict.fromkeys((loops_end(run), stream_end(run)))
    table = asked[asked["step"].isin(steps)].groupby("step")[list(PANELS)].mean()
    if len(table) < len(steps):
        raise Missing("facts are not asked at the end of the loops and of the stream")
    return table.astype(float).set_axis(["at the end of the loops", "at the end of the rest"][: len(steps)])


def draw(rows: Sequence[Row]) -> Figure | None:
    """Answer loss and recall against the target: a line per strategy and combination of what else was swept.

    Rows whose target was not swept, such as the reference, are dashed levels in the colour of the first line that
    shares the rest. None where no line has two targets.
    """
    from matplotlib.figure import Figure

    found = {row.label: _outcomes(row) for row in rows}
    lines: dict[str, dict[float, Row]] = {}
    colours: dict[str, str] = {}
    for row in rows:
        if found[row.label] and row.swept.keys() & TARGET_OPTIONS and len(lines) < len(COLOURS):
            name = f"{row.facts.get('strategy', '')} {_beside(row)}".strip()
            lines.setdefault(name, {})[target(next(iter(row.runs.values())))] = row
            colours.setdefault(_beside(row), COLOURS[len(lines) - 1])
    levels = [row for row in rows if found[row.label] and not row.swept.keys() & TARGET_OPTIONS]
    if max(map(len, lines.values()), default=0) < 2:
        return None
    first = next(iter(next(iter(lines.values())).values()))
    times = list(found[first.label][min(first.runs)].index)
    figure = Figure(figsize=(2.5 + 4 * len(times), 5.4), layout="constrained")
    axes = figure.subplots(len(PANELS), len(times), sharex=True, sharey="row", squeeze=False)
    for (quantity, label), panels in zip(PANELS.items(), axes, strict=True):
        panels[0].set_ylabel(label)
        for axis, time in zip(panels, times, strict=True):
            for colour, (name, steered) in zip(COLOURS, lines.items(), strict=False):
                table = pd.DataFrame(
                    {at: _seeds(found[row.label], time, quantity) for at, row in steered.items()}
                )
                curves = {int(str(seed)): values for seed, values in table.iterrows()}
                line(axis, curves, colour, name, marker="o")
            for row in levels:
                level = _seeds(found[row.label], time, quantity)
                _level(axis, list(level.values()), colours.get(_beside(row), CONTROL), row.label)
            axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    for axis, time in zip(axes[0], times, strict=True):
        axis.set_title(time)
    for axis in axes[-1]:
        axis.set_xlabel("target cosine with the other loops")
        axis.set_xticks([-1, -0.5, 0, 0.5, 1])
        axis.set_ylim(-0.03, 1.03)
    finish(figure, [first], "Memory against the angle between loops")
    return figure


def _outcomes(row: Row) -> dict[int, pd.DataFrame]:
    """What a row's runs came to, by seed; empty where they were not asked."""
    try:
        return {seed: outcomes(run) for seed, run in row.runs.items()}
    except Missing:
        return {}


def _seeds(found: Mapping[int, pd.DataFrame], time: str, quantity: str) -> dict[int, float]:
    return {seed: float(table[quantity].to_dict()[time]) for seed, table in found.items()}


def _beside(row: Row) -> str:
    """What else than the target was swept."""
    others = {name: value for name, value in sorted(row.swept.items()) if name not in TARGET_OPTIONS}
    return " ".join(f"{name}={value}" for name, value in others.items())


def _level(axis: Axes, values: Sequence[float], colour: str, label: str) -> None:
    """Mean over seeds as a dashed line across, with its 95 % interval."""
    mean, low, high = mean_band(np.array(values)[:, None])
    axis.axhline(float(mean[0]), color=colour, linestyle="--", linewidth=1, label=clean(label))
    if len(values) > 1:
        axis.axhspan(float(low[0]), float(high[0]), color=colour, alpha=0.08, linewidth=0)


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="update_cosine",
            version="1",
            summary="angle between a loop's steps and the other loops'",
            measures=tuple(measure for measure, _ in MEASURES.values()),
            compute=_compute,
            draw=draw,
        )
    ]
