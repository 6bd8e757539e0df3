"""Retention: what survives the rest, and how fast does it go?

Recall of trained facts against steps since the loops ended, from probes at log-spaced steps and at both ends of the
rest. What is trained during the rest counts: `replay` rehearses facts there and `joint` spreads all rows over all
steps, so theirs is recall kept up by training, not memory left alone. For `naive`, `reset_optimizer` and
`moment_avg` the rest holds no exposure.

None without a rest; `retention.auc` under 3 probed steps; the half-life under 6 probed steps and where recall starts
under .1.

Margins: .05 in `retention` and `retention.auc` is three facts of the 64 of `memory_loops`; runs of one learner differ
by .05 to .09 (docs/calibration.md).

Version 2: `retention.half_life` is log10 of steps and counts a half-life beyond the rest as the rest's length,
with `retention.censored` beside it. In version 1 it was in steps and read up to ten times the rest, and seeds
without one dropped out of its mean, which then leaned to short ones. New is a bootstrap interval over the facts of
a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.integrate import trapezoid

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import (
    Missing,
    attempt,
    loops_end,
    questions,
    rest_steps,
    stream_end,
)

seqmem_api = ">=1,<2"

Array = npt.NDArray[np.float64]

_LEAST_POINTS = 6
_LEAST_START = 0.1
_LEAST_FACTS = 2
_RESAMPLES = 200
_SHORTEST = 0.1
_GRID = 60
"""Half-lives tried per tenfold of steps; the best is then refined."""
CURVES = ("exponential", "power", "log-linear")


class Rest:
    """Recall in the rest of one run, read once."""

    def __init__(self, run: RunRecord) -> None:
        """Read from `run`."""
        self.run = run

    @cached_property
    def length(self) -> int:
        """Steps of the rest."""
        return rest_steps(self.run)

    @cached_property
    def answers(self) -> pd.DataFrame:
        """(facts, steps) share of right answers of trained facts, by steps since the loops ended; NaN if not asked.

        From the schedules ``boundary`` (both ends of the rest) and ``log``.
        """
        start, end = loops_end(self.run), loops_end(self.run) + self.length
        rows = questions(self.run, None)
        trained = self.run.exposures["fact"].unique()  # some facts are asked and never injected
        rows = rows[(rows["step"] >= start) & (rows["step"] <= end) & rows["fact"].isin(trained)]
        due = {names: set(names.split("+")) for names in rows["schedule"].unique()}
        log, edge = (
            rows["schedule"].map({names: name in parts for names, parts in due.items()}).astype(bool)
            for name in ("log", "boundary")
        )
        rows = rows[log | (edge & rows["step"].isin([start, end]))].drop_duplicates(["step", "probe"])
        if rows.empty:
            raise Missing("no fact that was trained is asked in the rest")
        table = rows.groupby(["fact", "step"])["correct"].mean().unstack()
        return table.set_axis(table.columns.to_numpy() - start, axis=1)

    @property
    def facts(self) -> int:
        """Trained facts asked in the rest."""
        return len(self.answers)

    @cached_property
    def curve(self) -> pd.Series:
        """Recall by steps since the loops ended."""
        return self.answers.mean()

    @property
    def throughout(self) -> Array:
        """(facts, steps) as `answers`, of the facts that were asked at every step."""
        return self.answers.dropna().to_numpy(dtype=float)

    @cached_property
    def resampled(self) -> Array:
        """(resamples,) log10 of half-lives, at most the rest, of as many of these facts, drawn with replacement."""
        _forgettable(self)
        answers = self.throughout
        if len(answers) < _LEAST_FACTS:
            raise Missing(f"{len(answers)} of the facts were asked at every step, {_LEAST_FACTS} are needed")
        chosen = np.random.default_rng(0).integers(len(answers), size=(_RESAMPLES, len(answers)))
        return _half_lives(self, answers[chosen].mean(axis=1))


def retention(rest: Rest) -> Value:
    """Recall of trained facts at the end of the rest.

    Unit: fraction; range 0 to 1; higher is better.
    """
    if rest.length not in rest.curve.index:
        raise Missing(f"no boundary probe at step {stream_end(rest.run)}")
    return Value(float(rest.curve[rest.length]), rest.facts)


def area(rest: Rest) -> Value:
    """Mean recall over log(1 + steps since the loops ended), by trapezoids: each tenfold counts alike.

    Unit: fraction; range 0 to 1; higher is better.
    """
    curve = rest.curve
    if len(curve) < 3:
        raise Missing(f"recall was probed at {len(curve)} steps of the rest, 3 are needed")
    time = np.log1p(curve.index.to_numpy(dtype=float))
    return Value(float(trapezoid(curve.to_numpy(dtype=float), time) / (time[-1] - time[0])), rest.facts)


@dataclass(frozen=True, eq=False)
class Fits:
    """Least-squares fits of several recall curves at once.

    Attributes:
        half_life: (n,) steps, infinite where a constant fits as well.
        name: (n,) the curve that was read.
    """

    half_life: Array
    name: npt.NDArray[np.str_]


def _shapes(steps: Array, half_life: Array) -> Array:
    """(3, h, t) the curves of `CURVES` with a start of 1, by their half-life.

    2^(-t/h), (1+t)^(-log 2 / log(1+h)) and 1 - log(1+t) / (2 log(1+h)).
    """
    log, half = np.log1p(steps), np.log1p(half_life)[:, None]
    return np.stack(
        [2.0 ** (-steps / half_life[:, None]), np.exp(-np.log(2) * log / half), 1 - log / (2 * half)]
    )


def _aicc(squares: Array, n: int, parameters: int) -> Array:
    """Corrected Akaike criterion from sums of squares over n points; the noise variance is one parameter more."""
    k = parameters + 1
    variance = np.maximum(squares / n, 1e-9)
    return np.asarray(n * np.log(variance) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def fit_half_lives(steps: Array, recall: Array) -> Fits:
    """Half-life of each curve: the best by AICc of an exponential, a power, a log-linear and a constant curve.

    Given its half-life each curve is linear in its start, so that the best of all half-lives on a fine grid is the
    least-squares fit; a parabola through the best three refines it.

    Args:
        steps: (t,) steps since the loops ended, ascending from 0.
        recall: (n, t) recall.
    """
    tried = np.log10(_SHORTEST) + np.arange(_GRID * np.log10(1e6)) / _GRID
    shapes = _shapes(steps, 10**tried)
    fitted = np.einsum("nt,sht->snh", recall, shapes) / np.sqrt((shapes**2).sum(axis=-1))[:, None, :]
    squares = (recall**2).sum(axis=1)[:, None] - np.maximum(fitted, 0) ** 2
    place = np.clip(squares.argmin(axis=-1), 1, len(tried) - 2)
    near = np.take_along_axis(squares, place[..., None] + np.array([-1, 0, 1]), axis=-1)
    bend = near[..., 0] - 2 * near[..., 1] + near[..., 2]
    shift = np.clip((near[..., 0] - near[..., 2]) / (2 * np.maximum(bend, 1e-300)), -0.5, 0.5)
    half_life = 10 ** (tried[place] + shift / _GRID)
    n = len(steps)
    scores = np.vstack([_aicc(np.maximum(near[..., 1], 0), n, 2), _aicc(recall.var(axis=1) * n, n, 1)[None]])
    best = scores.argmin(axis=0)
    half_life = np.vstack([half_life, np.full(len(recall), np.inf)])
    return Fits(half_life[best, np.arange(len(recall))], np.array([*CURVES, "constant"])[best])


def _half_lives(rest: Rest, answers: Array) -> Array:
    """(n,) log10 of half-lives, at most that of the rest, of (n, t) recall."""
    steps = rest.curve.index.to_numpy(dtype=float)
    return np.asarray(np.log10(np.minimum(fit_half_lives(steps, answers).half_life, rest.length)))


def _forgettable(rest: Rest) -> Array:
    """(1, t) recall, where it can be fitted."""
    recall = rest.curve.to_numpy(dtype=float)
    if len(recall) < _LEAST_POINTS:
        raise Missing(f"recall was probed at {len(recall)} steps of the rest, {_LEAST_POINTS} are needed")
    if recall[0] < _LEAST_START:
        raise Missing(f"recall at the end of the loops is under {_LEAST_START}: nothing to forget")
    return recall[None]


def half_life(rest: Rest) -> Value:
    """Steps until recall has fallen to half of its fitted start, as log10; the rest's length where that is later.

    Least squares of recall(t), t = steps since the loops ended: a 2^(-t/h), a (1+t)^(-log 2/log(1+h)), a (1 -
    log(1+t)/(2 log(1+h))); the half-life h of the best by AICc is read. Beyond the rest, or where a constant fits
    as well, nothing was seen to halve: the run counts with the rest's length, as in a restricted mean survival
    time, so every seed counts and the mean is one over all of them. 10 to its power is a geometric mean in steps.
    Unit: log10 steps; range: up to log10 of the rest; higher is better. None where there is nothing to forget.
    """
    return Value(float(_half_lives(rest, _forgettable(rest))[0]), rest.facts)


def censored(rest: Rest) -> Value:
    """1 where recall did not halve within the rest, else 0; over seeds the share of them that did not.

    Unit: fraction; neither way is better.
    """
    found = _half_lives(rest, _forgettable(rest))[0]
    return Value(float(found >= np.log10(rest.length)), rest.facts)


def half_life_bounds(rest: Rest) -> tuple[Value, Value]:
    """95 % bootstrap interval of the run's half-life: percentiles over resampled facts (Efron & Tibshirani 1993).

    Over the facts asked at every step; None with fewer than two. It says how well this run's facts tell this run's
    half-life; how seeds differ is what the table's interval says.
    Unit: log10 steps, cut at the rest as the half-life is.
    """
    low, high = np.quantile(rest.resampled, [0.025, 0.975])
    return Value(float(low), len(rest.throughout)), Value(float(high), len(rest.throughout))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    rest = Rest(run)
    return {
        "retention": attempt(lambda: retention(rest)),
        "retention.auc": attempt(lambda: area(rest)),
        "retention.half_life": attempt(lambda: half_life(rest)),
        "retention.half_life_low": attempt(lambda: half_life_bounds(rest)[0]),
        "retention.half_life_high": attempt(lambda: half_life_bounds(rest)[1]),
        "retention.censored": attempt(lambda: censored(rest)),
    }


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="retention",
            version="2",
            summary="recall over the rest phase",
            measures=(
                Measure("retention", "fraction", "higher", "recall at the end of the rest", margin=0.05),
                Measure(
                    "retention.auc",
                    "fraction",
                    "higher",
                    "mean recall over the logarithm of rest steps",
                    margin=0.05,
                ),
                Measure(
                    "retention.half_life",
                    "log10 steps",
                    "higher",
                    "steps until recall has halved, at most the rest",
                ),
                Measure(
                    "retention.half_life_low",
                    "log10 steps",
                    "none",
                    "lower end of its bootstrap interval over facts",
                ),
                Measure(
                    "retention.half_life_high",
                    "log10 steps",
                    "none",
                    "upper end of its bootstrap interval over facts",
                ),
                Measure("retention.censored", "fraction", "none", "recall did not halve within the rest"),
            ),
            compute=_compute,
            citation="Chang et al. 2024, arXiv 2406.11813, for decay in log time",
        )
    ]
