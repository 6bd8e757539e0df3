"""Retention: recall over log-spaced steps after the loops, and how fast it falls.

What is trained during the rest counts: a strategy that rehearses keeps its facts by rehearsing them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.integrate import trapezoid
from scipy.optimize import curve_fit

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import (
    Missing,
    at_step,
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
_HORIZON = 10.0
"""A half-life beyond this many lengths of the rest is not read off the curve but made up."""


def recall_in_rest(run: RunRecord) -> tuple[pd.Series, int]:
    """Recall of trained facts against steps since the loops ended (0 included), and the number of facts."""
    rest_steps(run)
    start, end = loops_end(run), stream_end(run)
    boundary = questions(run, "boundary")
    rows = pd.concat([boundary[boundary["step"].isin([start, end])], questions(run, "log")])
    trained = rows["fact"].isin(run.exposures["fact"].unique())  # some facts are asked and never injected
    rows = rows[(rows["step"] >= start) & trained].drop_duplicates(["step", "probe"])
    if rows.empty:
        raise Missing("no fact that was trained is asked in the rest")
    curve = rows.groupby("step")["correct"].mean()
    curve.index = curve.index - start
    return curve, int(rows["fact"].nunique())


def retention(run: RunRecord) -> Value:
    """Recall of trained facts at the end of the rest.

    Unit: fraction; range 0 to 1; higher is better.
    """
    curve, facts = recall_in_rest(run)
    return Value(float(at_step(curve.to_frame("recall"), rest_steps(run))["recall"]), facts)


def area(run: RunRecord) -> Value:
    """Mean recall over log(1 + steps since the loops ended), by trapezoids: each tenfold counts alike.

    Unit: fraction; range 0 to 1; higher is better.
    """
    curve, facts = recall_in_rest(run)
    if len(curve) < 3:
        raise Missing(f"recall was probed at {len(curve)} steps of the rest, 3 are needed")
    time = np.log1p(curve.index.to_numpy(dtype=float))
    return Value(float(trapezoid(curve.to_numpy(dtype=float), time) / (time[-1] - time[0])), facts)


def _exponential(t: Array, a: float, b: float) -> Array:
    return np.asarray(a * np.exp(-b * t))


def _power(t: Array, a: float, b: float) -> Array:
    return np.asarray(a * (1 + t) ** -b)


def _log_linear(t: Array, a: float, b: float) -> Array:
    return np.asarray(a - b * np.log10(1 + t))


_CURVES: Mapping[str, tuple[Callable[..., Array], Callable[[float, float], float]]] = {
    # name: curve, (a, b) to the step at which it has fallen to a / 2
    "exponential": (_exponential, lambda a, b: np.log(2) / b),
    "power": (_power, lambda a, b: np.exp(np.log(2) / b) - 1),
    "log-linear": (_log_linear, lambda a, b: 10 ** (a / (2 * b)) - 1),
}


def _aicc(residual: Array, parameters: int) -> float:
    """Corrected Akaike criterion of a least-squares fit; the noise variance is one parameter more."""
    n, k = len(residual), parameters + 1
    variance = max(float(np.mean(residual**2)), 1e-9)
    return float(n * np.log(variance) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def fit_half_life(steps: Array, recall: Array) -> tuple[float, str]:
    """Half-life in steps and the name of the curve: best of three by AICc, a constant being the fourth."""
    best, name, half_life = _aicc(recall - recall.mean(), 1), "constant", np.inf
    for candidate, (curve, halved) in _CURVES.items():
        guess = (max(recall[0], 0.05), 1 / max(steps[-1], 1.0) if candidate == "exponential" else 0.1)
        try:
            (a, b), _ = curve_fit(curve, steps, recall, p0=guess, bounds=([1e-6, 1e-9], [2.0, 10.0]))
        except RuntimeError:  # no convergence: this form does not describe the curve
            continue
        score = _aicc(recall - curve(steps, a, b), 2)
        if score < best:
            with np.errstate(over="ignore"):
                best, name, half_life = score, candidate, float(halved(a, b))
    return half_life, name


def half_life(run: RunRecord) -> Value:
    """Steps until recall has fallen to half of its fitted start.

    Least squares of recall(t), t = steps since the loops ended: a exp(-b t), a (1+t)^-b, a - b
    log10(1+t); the best by AICc is read. Unit: steps; range: above 0; higher is better. None where a
    constant fits as well, where there is nothing to forget, and beyond ten times the rest, where the fit
    would be read off no data.
    """
    curve, facts = recall_in_rest(run)
    if len(curve) < _LEAST_POINTS:
        raise Missing(f"recall was probed at {len(curve)} steps of the rest, {_LEAST_POINTS} are needed")
    recall = curve.to_numpy(dtype=float)
    if recall[0] < _LEAST_START:
        raise Missing(f"recall at the end of the loops is under {_LEAST_START}: nothing to forget")
    steps, name = fit_half_life(curve.index.to_numpy(dtype=float), recall)
    if name == "constant":
        raise Missing("recall does not fall over the rest")
    if steps > _HORIZON * rest_steps(run):
        raise Missing("the half-life is longer than ten times the rest")
    return Value(steps, facts)


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {
        "retention": attempt(lambda: retention(run)),
        "retention.auc": attempt(lambda: area(run)),
        "retention.half_life": attempt(lambda: half_life(run)),
    }


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="retention",
            version="1",
            summary="recall over the rest phase",
            measures=(
                Measure("retention", "fraction", "higher", "recall at the end of the rest"),
                Measure(
                    "retention.auc", "fraction", "higher", "mean recall over the logarithm of rest steps"
                ),
                Measure("retention.half_life", "steps", "higher", "steps until recall has halved"),
            ),
            compute=_compute,
            citation="Chang et al. 2024, arXiv 2406.11813, for decay in log time",
        )
    ]
