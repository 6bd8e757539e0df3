"""Latent revival: do answers come back during the rest, with nobody training them?

Any noisy curve rises somewhere. What counts is a rise beyond what a memory that only decays would show under
noise as correlated and as large as this run's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.signal import lfilter

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt, questions, rest_steps

seqmem_api = ">=1,<2"

Array = npt.NDArray[np.float64]

_LEAST_POINTS = 12
_LEAST_CURVES = 4
_CALIBRATION_ROUNDS = 5
_CALIBRATION_SURROGATES = 8
_SURROGATES = 100
_MAX_PHI = 0.95


def margins(run: RunRecord) -> Array:
    """(facts, probes) log p(answer) - log p(best other choice), nats, over the rest at even steps."""
    rest_steps(run)
    rows = questions(run, "even")
    rows = rows[rows["best_other"].notna()]
    if rows.empty:
        raise Missing("no competing answer was scored on the even schedule: there is no margin")
    table = (
        rows.assign(margin=rows["logprob"] - rows["best_other"])
        .pivot_table(index="fact", columns="step", values="margin", aggfunc="mean")
        .dropna()
    )
    if table.shape[1] < _LEAST_POINTS or len(table) < _LEAST_CURVES:
        raise Missing(
            f"{len(table)} curves of {table.shape[1]} even probes; "
            f"{_LEAST_CURVES} of {_LEAST_POINTS} are needed to know their noise"
        )
    return table.to_numpy(dtype=float)


def largest_rise(curves: Array) -> Array:
    """Max over s < t of y_t - y_s, per curve."""
    return np.asarray((curves - np.minimum.accumulate(curves, axis=1)).max(axis=1))


def _fit(curves: Array) -> tuple[Array, float, Array]:
    """Isotonic decay per curve, lag-1 autocorrelation pooled over curves, residual SD per curve."""
    decay = np.array([isotonic_regression(curve, increasing=False).x for curve in curves])
    residual = curves - decay
    power = float((residual**2).sum())
    phi = float((residual[:, 1:] * residual[:, :-1]).sum()) / power if power > 0 else 0.0
    return decay, phi, np.asarray(np.sqrt((residual**2).mean(axis=1)))


def _surrogate(decay: Array, phi: float, scale: Array, random: np.random.Generator) -> Array:
    """Decay plus stationary AR(1) noise of the given SD per curve."""
    shocks = random.standard_normal(decay.shape)
    shocks[:, 1:] *= np.sqrt(1 - phi**2)
    return np.asarray(decay + scale[:, None] * lfilter([1.0], [1.0, -phi], shocks, axis=1))


def excess_rise(curves: Array, random: np.random.Generator) -> Array:
    """Largest rise of each curve minus its mean over surrogates.

    An isotonic fit swallows part of the noise, so phi and the SD read off its residuals are too small.
    They are corrected until surrogates, fitted the same way, give back what the data gave (indirect
    inference).
    """
    decay, phi_seen, scale_seen = _fit(curves)
    phi, factor = float(np.clip(phi_seen, 0, _MAX_PHI)), 1.0
    for _ in range(_CALIBRATION_ROUNDS):
        fits = [
            _fit(_surrogate(decay, phi, factor * scale_seen, random))[1:]
            for _ in range(_CALIBRATION_SURROGATES)
        ]
        refitted = float(np.mean([scale.mean() for _, scale in fits]))
        if refitted == 0:
            break
        phi = float(np.clip(phi + phi_seen - np.mean([phi for phi, _ in fits]), 0, _MAX_PHI))
        factor *= float(scale_seen.mean()) / refitted
    expected = [largest_rise(_surrogate(decay, phi, factor * scale_seen, random)) for _ in range(_SURROGATES)]
    return np.asarray(largest_rise(curves) - np.mean(expected, axis=0))


def latent_revival(run: RunRecord) -> Value:
    """Mean over facts of the largest rise of the margin in the rest, beyond decay plus noise.

    margin = log p(answer) - log p(best other choice). rise = max_{s<t} (y_t - y_s). Null per fact: the
    isotonic
    (never rising) fit of its curve plus AR(1) noise with phi pooled over facts and the fact's own SD.
    Unit: nats; range: any number; zero without revival. Simulated: within .03 nats of zero at phi 0 to
    .8 and noise SD .3; noise and slow waves look alike, so slow or small revivals (under about 5 noise
    SD) are not shown.
    """
    curves = margins(run)
    return Value(float(excess_rise(curves, np.random.default_rng(0)).mean()), len(curves))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {"latent_revival": attempt(lambda: latent_revival(run))}


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="latent_revival",
            version="1",
            summary="rises of the answer's margin without re-exposure, beyond decay plus noise",
            measures=(
                Measure(
                    "latent_revival", "nats", "none", "largest rise of the margin beyond decay plus noise"
                ),
            ),
            compute=_compute,
        )
    ]
