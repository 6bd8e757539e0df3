"""Latent revival: do answers come back during the rest, with nobody training them?

Any noisy curve rises somewhere. What counts is a rise beyond what a memory that only decays would show under
noise as correlated and as large as this run's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.signal import lfilter

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt, loops_end, questions, rest_steps

seqmem_api = ">=1,<2"

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_LEAST_POINTS = 12
_LEAST_CURVES = 4
_CALIBRATION_ROUNDS = 5
_CALIBRATION_SURROGATES = 8
_SURROGATES = 100
_MAX_PHI = 0.95

# Which curves tell the noise, and how rough a curve is: chosen in simulation (docs/metrics.md) so that a third
# of the facts may return without counting as noise, and facts may differ in their noise.
_QUIET_AT_FIRST = 0.4
_QUIET_LEVEL = 0.98
_QUIET_SURROGATES = 40
_SMALL_STEPS = 0.6
_POOLING = 0.3


def _retrained(run: RunRecord) -> set[str]:
    """Facts stated in a training row after the loops ended: what they show in the rest is no revival."""
    exposures = run.exposures
    return set(exposures.loc[exposures["step"] > loops_end(run), "fact"])


def margins(run: RunRecord) -> Array:
    """(facts, probes) log p(answer) - log p(best other choice), nats, over the rest at even steps.

    Facts trained during the rest (by `replay` or `joint`) are left out.
    """
    rest_steps(run)
    rows = questions(run, "even")
    rows = rows[rows["best_other"].notna()]
    if rows.empty:
        raise Missing("no competing answer was scored on the even schedule: there is no margin")
    asked = rows["fact"].nunique()
    rows = rows[~rows["fact"].isin(_retrained(run))]
    left_out = asked - rows["fact"].nunique()
    if rows.empty:
        raise Missing("every fact is trained again during the rest: nothing returns without re-exposure")
    table = (
        rows.assign(margin=rows["logprob"] - rows["best_other"])
        .pivot_table(index="fact", columns="step", values="margin", aggfunc="mean")
        .dropna()
    )
    if table.shape[1] < _LEAST_POINTS or len(table) < _LEAST_CURVES:
        trained = f" ({left_out} facts are trained again during the rest)" if left_out else ""
        raise Missing(
            f"{len(table)} curves of {table.shape[1]} even probes{trained}; "
            f"{_LEAST_CURVES} of {_LEAST_POINTS} are needed to know their noise"
        )
    return table.to_numpy(dtype=float)


def largest_rise(curves: Array) -> Array:
    """Max over s < t of y_t - y_s, per curve."""
    return np.asarray((curves - np.minimum.accumulate(curves, axis=1)).max(axis=1))


def _decay(curves: Array) -> Array:
    """The best never-rising fit of each curve."""
    return np.array([isotonic_regression(curve, increasing=False).x for curve in curves])


def _roughness(curves: Array) -> Array:
    """Noise scale per curve, up to a factor: RMS of its smaller first differences around their median.

    A return and its end are the largest few differences of a curve, so they hardly touch it. A dozen
    differences say little about one curve: each is drawn towards the median curve.
    """
    steps = np.diff(curves, axis=1)
    steps = np.sort(np.abs(steps - np.median(steps, axis=1, keepdims=True)), axis=1)
    small = steps[:, : int(np.ceil(_SMALL_STEPS * steps.shape[1]))]
    rms = np.sqrt((small**2).mean(axis=1))
    return np.asarray(np.maximum(rms ** (1 - _POOLING) * np.median(rms) ** _POOLING, 1e-12))


def _noise(curves: Array) -> tuple[float, float]:
    """Lag-1 autocorrelation and mean SD of the residuals from the decay."""
    residual = curves - _decay(curves)
    power = float((residual**2).sum())
    phi = float((residual[:, 1:] * residual[:, :-1]).sum()) / power if power > 0 else 0.0
    return phi, float(np.sqrt((residual**2).mean(axis=1)).mean())


def _surrogate(decay: Array, phi: float, scale: Array, random: np.random.Generator) -> Array:
    """Decay plus stationary AR(1) noise of the given SD per curve."""
    shocks = random.standard_normal(decay.shape)
    shocks[:, 1:] *= np.sqrt(1 - phi**2)
    return np.asarray(decay + scale[:, None] * lfilter([1.0], [1.0, -phi], shocks, axis=1))


def _height(curves: Array) -> Array:
    """Largest rise in units of the curve's own roughness."""
    return np.asarray(largest_rise(curves) / _roughness(curves))


def _calibrate(
    curves: Array, decay: Array, quiet: Callable[[Array], BoolArray], random: np.random.Generator
) -> tuple[float, Array]:
    """Phi and SD per curve of the noise, from the curves `quiet` picks out.

    The isotonic fit swallows part of the noise and the picking part of its rises, so phi and SD read off
    quiet residuals are too small. They are corrected until surrogates, picked and fitted the same way, give
    back what the data gave (indirect inference).
    """
    roughness, chosen = _roughness(curves), quiet(_height(curves))
    phi_seen, scale_seen = _noise(curves[chosen])
    phi, factor = float(np.clip(phi_seen, 0, _MAX_PHI)), scale_seen / float(roughness[chosen].mean())
    for _ in range(_CALIBRATION_ROUNDS):
        found = []
        for _ in range(_CALIBRATION_SURROGATES):
            surrogate = _surrogate(decay, phi, factor * roughness, random)
            found.append(_noise(surrogate[quiet(_height(surrogate))]))
        phi_found, scale_found = np.mean(found, axis=0)
        if scale_found == 0:
            break
        phi = float(np.clip(phi + phi_seen - phi_found, 0, _MAX_PHI))
        factor *= scale_seen / float(scale_found)
    return phi, factor * roughness


def excess_rise(curves: Array, random: np.random.Generator) -> Array:
    """Largest rise of each curve minus its mean over surrogates.

    Curves that rise must not set the noise they are measured against. The noise is read first off the curves
    that rise least for their roughness, then off all that rise no more than such noise would make them.
    """
    decay = _decay(curves)

    def least(height: Array) -> BoolArray:
        return np.asarray(height <= np.quantile(height, _QUIET_AT_FIRST))

    phi, scale = _calibrate(curves, decay, least, random)
    null = [_height(_surrogate(decay, phi, scale, random)) for _ in range(_QUIET_SURROGATES)]
    highest = np.quantile(null, _QUIET_LEVEL, axis=0)

    def unremarkable(height: Array) -> BoolArray:
        # Of few curves noise may lift every one over its line; the least of them still tells the noise.
        return np.asarray((height <= highest) | (height == height.min()))

    phi, scale = _calibrate(curves, decay, unremarkable, random)
    expected = [largest_rise(_surrogate(decay, phi, scale, random)) for _ in range(_SURROGATES)]
    return np.asarray(largest_rise(curves) - np.mean(expected, axis=0))


def latent_revival(run: RunRecord) -> Value:
    """Mean over facts of the largest rise of the margin in the rest, beyond decay plus noise.

    margin = log p(answer) - log p(best other choice). rise = max_{s<t} (y_t - y_s). Null per fact: the
    isotonic (never rising) fit of its curve plus AR(1) noise, its phi and size read off the facts that do
    not rise remarkably. Facts trained during the rest do not count. Unit: nats; range: any number; zero
    without revival. What it reads in simulation, and which revivals it cannot tell from noise, is in
    docs/metrics.md.
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
            version="2",
            summary="rises of the answer's margin without re-exposure, beyond decay plus noise",
            measures=(
                Measure(
                    "latent_revival", "nats", "none", "largest rise of the margin beyond decay plus noise"
                ),
            ),
            compute=_compute,
        )
    ]
