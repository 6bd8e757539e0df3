"""Retention: what survives the rest, and how fast does it go?

Recall of trained facts against steps since the loops ended, from probes at log-spaced steps and at both ends of the
rest. What is trained during the rest counts: `replay` rehearses facts there and `joint` spreads all rows over all
steps, so theirs is recall kept up by training, not memory left alone. For `naive`, `reset_optimizer` and
`moment_avg` the rest holds no exposure.

None without a rest. `retention.auc` is None under 3 probed steps, the half-life under 6 probed steps and where recall
starts under .1.

A half-life is at least .1 steps, its start at least 0. The fit's sums of squares are compared by AICc, the variance
of the noise being one more parameter; the minimum is read off a parabola through three points of a grid of 60
half-lives per tenfold, which is up to .0003 log10 steps beside the least squares. The bootstrap draws 200 times
(`default_rng(0)`).

Margins: .05 in `retention` and `retention.auc` is three facts of the 64 of `memory_loops`; runs of one learner differ
by .05 to .09 (docs/calibration.md).

Version 2: `retention.half_life` is log10 of steps and counts a half-life beyond the rest as the rest's length,
with `retention.censored` beside it. In version 1 it was in steps and read up to ten times the rest, and seeds
without one dropped out of its mean, which then leaned to short ones. New is a bootstrap interval over the facts of
a run.
"""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from seqmem import Metric, Missing, RunRecord, Value, reading
from seqmem.reading import Array
from seqmem_plugins.metrics._half_life import fit_half_lives

_MIN_POINTS = 6
_MIN_START = 0.1
_MIN_FACTS = 2
_RESAMPLES = 200


class Rest:
    """Recall in the rest of one run, read once."""

    def __init__(self, run: RunRecord) -> None:
        """Read a run."""
        self.run = run

    @cached_property
    def length(self) -> int:
        """Count the steps of the rest."""
        return reading.rest_steps(self.run)

    @cached_property
    def answers(self) -> pd.DataFrame:
        """Return (facts, steps), the share of right answers of trained facts, by steps since the loops ended.

        NaN where a fact was not asked. From the schedules ``boundary`` (both ends of the rest) and ``log``.
        """
        start, end = reading.loops_end(self.run), reading.loops_end(self.run) + self.length
        rows = reading.questions(self.run, None)
        trained = self.run.exposures["fact"].unique()  # some facts are asked and never injected
        rows = rows[(rows["step"] >= start) & (rows["step"] <= end) & rows["fact"].isin(trained)]
        edge = reading.scheduled(rows, "boundary") & rows["step"].isin([start, end])
        rows = reading.some(
            rows[reading.scheduled(rows, "log") | edge].drop_duplicates(["step", "probe"]),
            "no fact that was trained is asked in the rest",
        )
        table = rows.groupby(["fact", "step"])["right"].mean().unstack()
        return table.set_axis(table.columns.to_numpy() - start, axis=1)

    @property
    def facts(self) -> int:
        """Count the trained facts asked in the rest."""
        return len(self.answers)

    @cached_property
    def curve(self) -> pd.Series:
        """Return recall by steps since the loops ended."""
        return self.answers.mean()

    @property
    def throughout(self) -> Array:
        """Return (facts, steps), as `answers`, of the facts that were asked at every step."""
        return self.answers.dropna().to_numpy(dtype=float)

    @cached_property
    def resampled(self) -> Array:
        """Return (resamples,), log10 of half-lives, at most the rest, of as many facts, drawn with replacement."""
        self.forgettable()
        answers = self.throughout
        if len(answers) < _MIN_FACTS:
            raise Missing(f"{len(answers)} of the facts were asked at every step, {_MIN_FACTS} are needed")
        chosen = np.random.default_rng(0).integers(len(answers), size=(_RESAMPLES, len(answers)))
        return self.half_lives(answers[chosen].mean(axis=1))

    def half_lives(self, answers: Array) -> Array:
        """Return (n,), log10 of half-lives, at most that of the rest, of (n, t) recall."""
        steps = self.curve.index.to_numpy(dtype=float)
        return np.asarray(np.log10(np.minimum(fit_half_lives(steps, answers).half_life, self.length)))

    def forgettable(self) -> Array:
        """Return (1, t), recall where it can be fitted."""
        recall = self.curve.to_numpy(dtype=float)
        if len(recall) < _MIN_POINTS:
            raise Missing(f"recall was probed at {len(recall)} steps of the rest, {_MIN_POINTS} are needed")
        if recall[0] < _MIN_START:
            raise Missing(f"recall at the end of the loops is under {_MIN_START}: nothing to forget")
        return recall[None]


seqmem_api = ">=1,<2"
metric = Metric(
    "retention",
    version="2",
    summary="recall over the rest phase",
    reads=Rest,
    citation="Chang et al. 2024, arXiv 2406.11813, for decay in log time",
)
seqmem_metric = metric.hook


@metric.measure(
    "retention",
    "share",
    "higher",
    "recall at the end of the rest",
    margin=0.05,
    role="kept",
    graded="retention.graded",
)
def retention(rest: Rest) -> Value:
    """Return recall of trained facts at the end of the rest.

    Unit: share; range 0 to 1; higher is better.
    """
    if rest.length not in rest.curve.index:
        raise Missing(f"no boundary probe at step {reading.stream_end(rest.run)}")
    return Value(float(rest.curve[rest.length]), rest.facts)


@metric.measure(
    "retention.graded",
    "nats/token",
    "higher",
    "log-probability of the answers over the twins' at the end of the rest",
)
def graded(rest: Rest) -> Value:
    """Return the mean over trained facts of log p(answer) / tokens minus its twin's, at the end of the rest.

    The same as retention by degrees: a fact that is nearly recalled counts for nearly as much as one that is, and what
    a model comes to prefer whether or not it was trained falls out with the twins. Unit: nats per token; range: any
    number; higher is better, 0 where facts are no more probable than their twins.
    """
    run, end = rest.run, reading.stream_end(rest.run)
    facts, twins = (reading.questions(run, "boundary", twins=twins) for twins in (False, True))
    own = facts[(facts["step"] == end) & facts["fact"].isin(rest.answers.index)]
    loss = own.groupby("fact")["loss"].mean()
    beside = twins[twins["step"] == end].groupby("twin_of")["loss"].mean()
    over = reading.some((beside - loss).dropna(), f"no fact and its twin were asked at step {end}")
    return Value(float(over.mean()), len(over))


@metric.measure(
    "retention.auc", "share", "higher", "mean recall over the logarithm of rest steps", margin=0.05
)
def area(rest: Rest) -> Value:
    """Return mean recall over log(1 + steps since the loops ended), by trapezoids: each tenfold counts alike.

    Unit: share; range 0 to 1; higher is better.
    """
    curve = rest.curve
    if len(curve) < 3:
        raise Missing(f"recall was probed at {len(curve)} steps of the rest, 3 are needed")
    time = np.log1p(curve.index.to_numpy(dtype=float))
    return Value(float(trapezoid(curve.to_numpy(dtype=float), time) / (time[-1] - time[0])), rest.facts)


@metric.measure(
    "retention.half_life", "log10 steps", "higher", "steps until recall has halved, at most the rest"
)
def half_life(rest: Rest) -> Value:
    """Return the steps until recall has fallen to half of its fitted start, as log10; at most the rest's length.

    Least squares of recall(t), t = steps since the loops ended: a 2^(-t/h), a (1+t)^(-log 2/log(1+h)), a (1 -
    log(1+t)/(2 log(1+h))); the half-life h of the best by AICc is read. Beyond the rest, or where a constant fits
    as well, nothing was seen to halve: the run counts with the rest's length, as in a restricted mean survival
    time, so every seed counts and the mean is one over all of them. 10 to its power is a geometric mean in steps.
    Unit: log10 steps; range: up to log10 of the rest; higher is better. None where there is nothing to forget.
    """
    return Value(float(rest.half_lives(rest.forgettable())[0]), rest.facts)


def half_life_bound(rest: Rest, share: float) -> Value:
    """Return an end of the 95 % bootstrap interval of the run's half-life.

    Percentiles over resamples of the facts asked at every step (Efron & Tibshirani 1993); None with fewer than two.
    It says how well this run's facts tell this run's half-life; how seeds differ is what the table's interval says.
    Unit: log10 steps, cut at the rest as the half-life is.
    """
    return Value(float(np.quantile(rest.resampled, share)), len(rest.throughout))


for _end, _name, _share in (("low", "lower", 0.025), ("high", "upper", 0.975)):
    metric.measure(
        f"retention.half_life_{_end}",
        "log10 steps",
        "none",
        f"{_name} end of its bootstrap interval over facts",
    )(partial(half_life_bound, share=_share))


@metric.measure("retention.censored", "runs", "none", "recall did not halve within the rest")
def censored(rest: Rest) -> Value:
    """Return 1 where recall did not halve within the rest, else 0; over seeds how many of them did not.

    Unit: runs; no direction is better.
    """
    found = rest.half_lives(rest.forgettable())[0]
    return Value(float(found >= np.log10(rest.length)), rest.facts)
