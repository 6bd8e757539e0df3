"""Latent revival: do answers come back with nobody training them?

y is the margin log p(answer) - log p(best other choice) at the even steps of the rest. Any noisy curve rises
somewhere. What counts is a rise beyond what a memory that only decays would show under noise as correlated and as
large as this run's own: the fact's isotonic (never rising) fit plus AR(1) noise.

A fact that comes back must not set the noise it is measured against. Each fact's share of the noise is the RMS of
the smaller 60 % of its first differences, drawn towards the median fact. Level and phi are pooled residuals from the
isotonic fits of quiet facts: first the 40 % that rise least for their roughness, then all that rise no more than 98 %
of surrogates made from those. Both are corrected until surrogates, picked and fitted alike, give back what the
data gave.

The noise can be told to some ten per cent, and so can the mean rise of the null, which is as much as runs differ by: a
mean over all rises tells noise from revival by luck. So only facts count that rise above 98 % of their own
surrogates, made with a third more noise than was read; what surrogates with a fifth more noise have there is taken
off. A fact that counts does so with what it rises beyond the mean rise of those that do not.

Facts stated in a training row after the loops ended are left out (`replay`, `joint`).

Mind: weaker and slower returns are read too small, and near zero is no proof of absence. Returns of 10 SD of the noise
are read whole; of returns of 5 SD, in noise of phi 0 and with 13 probes, four fifths are lost, of phi .5 a quarter.
At most half of the facts may return. Noise of real curves is no AR(1): compare rows too, not only one row with zero.

Version 4: less is taken off for chance rises; version 3 read a true return of .82 nats as .76. Version 3: only
remarkable rises count. Version 2 fired on nothing but decay and noise in 15 to 90 % of benches of 8 seeds. Where no
quiet fact ever rises, all facts tell the noise; before it was then taken for 0.

None without a rest, without competing choices, where every fact is trained again during the rest, under 12 even
probes or under 4 facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import (
    Missing,
    attempt,
    questions,
    rest_steps,
    trained_in_rest,
)

seqmem_api = ">=1,<2"

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_LEAST_POINTS = 12
_LEAST_CURVES = 4
_CALIBRATION_ROUNDS = 5
_CALIBRATION_SURROGATES = 8
_SURROGATES = 200
_MAX_PHI = 0.95

# Which curves tell the noise, and how rough a curve is: chosen in simulation (docs/metrics/latent_revival.md) so
# that a third of the facts may return without counting as noise, and facts may differ in their noise.
_QUIET_AT_FIRST = 0.4
_QUIET_LEVEL = 0.98
_QUIET_SURROGATES = 40
_SMALL_STEPS = 0.6
_POOLING = 0.3
_REMARKABLE = 0.98
_GUARD = 1.35
"""So much more noise than was read has the null that a rise must stand out from: curves tell it to ten per cent."""
_TAKEN_OFF = 1.2
"""So much more noise than was read has the null whose chance rises are taken off: with none more, noise of phi .8
alone reads .004 nats with a spread of .005 over runs, which eight seeds tell from zero; with `_GUARD`, what returns is
read .05 nats too small."""


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
    rows = rows[~rows["fact"].isin(trained_in_rest(run))]
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
    """(...) max over s < t of y_t - y_s of (..., probes) curves."""
    return np.asarray((curves - np.minimum.accumulate(curves, axis=-1)).max(axis=-1))


def decay(curves: Array) -> Array:
    """The never-rising least-squares fit of each of (..., probes) curves, all of them at once.

    x_i = min over a <= i of max over b >= i of mean(y_a .. y_b): isotonic regression (Robertson, Wright & Dykstra
    1988, theorem 1.4.4), as scipy's for one curve.
    """
    fit = np.full(curves.shape, np.inf)
    for first in range(curves.shape[-1]):
        means = np.cumsum(curves[..., first:], axis=-1) / np.arange(1, curves.shape[-1] - first + 1)
        highest = np.flip(np.maximum.accumulate(np.flip(means, axis=-1), axis=-1), axis=-1)
        fit[..., first:] = np.minimum(fit[..., first:], highest)
    return fit


def _roughness(curves: Array) -> Array:
    """(...) noise scale per curve, up to a factor: RMS of its smaller first differences around their median.

    A return and its end are the largest few differences of a curve, so they hardly touch it. A dozen
    differences say little about one curve: each is drawn towards the median curve of its set.
    """
    steps = np.diff(curves, axis=-1)
    steps = np.sort(np.abs(steps - np.median(steps, axis=-1, keepdims=True)), axis=-1)
    small = steps[..., : int(np.ceil(_SMALL_STEPS * steps.shape[-1]))]
    rms = np.sqrt((small**2).mean(axis=-1))
    pooled = rms ** (1 - _POOLING) * np.median(rms, axis=-1, keepdims=True) ** _POOLING
    return np.asarray(np.maximum(pooled, 1e-12))


def _noise(curves: Array, chosen: BoolArray) -> tuple[float, float]:
    """Lag-1 autocorrelation and mean SD of the chosen curves' residuals from the decay, mean over sets of curves."""
    residual = np.where(chosen[..., None], curves - decay(curves), 0.0)
    power = (residual**2).sum(axis=(-2, -1))
    products = (residual[..., 1:] * residual[..., :-1]).sum(axis=(-2, -1))
    phi = np.divide(products, power, out=np.zeros_like(power), where=power > 0)
    scale = np.sqrt((residual**2).mean(axis=-1)).sum(axis=-1) / chosen.sum(axis=-1)
    return float(phi.mean()), float(scale.mean())


def _surrogates(base: Array, phi: float, scale: Array, count: int, random: np.random.Generator) -> Array:
    """(count, facts, probes) decay plus stationary AR(1) noise of the given SD per curve."""
    shocks = random.standard_normal((count, *base.shape))
    shocks[..., 1:] *= np.sqrt(1 - phi**2)
    return np.asarray(base + scale[:, None] * lfilter([1.0], [1.0, -phi], shocks, axis=-1))


def _height(curves: Array) -> Array:
    """Largest rise in units of the curve's own roughness."""
    return np.asarray(largest_rise(curves) / _roughness(curves))


def _calibrate(
    curves: Array, base: Array, quiet: Callable[[Array], BoolArray], random: np.random.Generator
) -> tuple[float, Array]:
    """Phi and SD per curve of the noise, from the curves of a set that `quiet` picks out.

    The isotonic fit swallows part of the noise and the picking part of its rises, so phi and SD read off
    quiet residuals are too small. They are corrected until surrogates, picked and fitted the same way, give
    back what the data gave (indirect inference).
    """
    roughness, chosen = _roughness(curves), quiet(curves)
    phi_seen, scale_seen = _noise(curves, chosen)
    if scale_seen == 0:  # curves so steep that the quiet ones never rise: all of them tell the noise
        if chosen.all():
            return 0.0, np.zeros(len(curves))
        return _calibrate(curves, base, lambda some: np.ones(some.shape[:-1], dtype=np.bool_), random)
    phi, factor = float(np.clip(phi_seen, 0, _MAX_PHI)), scale_seen / float(roughness[chosen].mean())
    for _ in range(_CALIBRATION_ROUNDS):
        surrogates = _surrogates(base, phi, factor * roughness, _CALIBRATION_SURROGATES, random)
        phi_found, scale_found = _noise(surrogates, quiet(surrogates))
        if scale_found == 0:
            break
        phi = float(np.clip(phi + phi_seen - phi_found, 0, _MAX_PHI))
        factor *= scale_seen / scale_found
    return phi, factor * roughness


def excess_rise(curves: Array, random: np.random.Generator) -> Array:
    """Largest rise of each curve beyond the usual one, where it is remarkable; about 0 under the null.

    Curves that rise must not set the noise they are measured against. The noise is read first off the curves
    that rise least for their roughness, then off all that rise no more than such noise would make them.

    Only rises above 98 % of a curve's own surrogates count, and what surrogates themselves have above that is taken
    off. All rises together would be as wrong as the mean rise of the null is, and that is known to a few per cent
    of itself only, which is as much as runs differ by. What a curve would have risen by without its return is what
    the others rise by: its own never-rising fit is bent by the return.
    """
    base = decay(curves)

    def least(some: Array) -> BoolArray:
        height = _height(some)
        return np.asarray(height <= np.quantile(height, _QUIET_AT_FIRST, axis=-1, keepdims=True))

    phi, scale = _calibrate(curves, base, least, random)
    null = largest_rise(_surrogates(base, phi, scale, _QUIET_SURROGATES, random))
    highest = np.maximum(np.quantile(null, _QUIET_LEVEL, axis=0), 1e-12)

    def unremarkable(some: Array) -> BoolArray:
        # Of few curves noise may lift every one over its line; the least of them still tells the noise.
        height = largest_rise(some) / highest
        return np.asarray((height <= 1) | (height == height.min(axis=-1, keepdims=True)))

    phi, scale = _calibrate(curves, base, unremarkable, random)
    wide, other = (
        largest_rise(_surrogates(base, phi, more * scale, _SURROGATES, random))
        for more in (_GUARD, _TAKEN_OFF)
    )
    line, rise = np.quantile(wide, _REMARKABLE, axis=0), largest_rise(curves)
    remarkable = rise > line
    usual = float(rise[~remarkable].mean()) if not remarkable.all() else float(wide.mean())
    by_chance = np.where(other > line, other - usual, 0.0).mean(axis=0)
    return np.asarray(np.where(remarkable, rise - usual, 0.0) - by_chance)


def latent_revival(run: RunRecord) -> Value:
    """Mean over facts of the largest rise of the margin in the rest, beyond decay plus noise.

    margin = log p(answer) - log p(best other choice). rise = max_{s<t} (y_t - y_s). Null per fact: the
    isotonic (never rising) fit of its curve plus AR(1) noise, its phi and size read off the facts that do
    not rise remarkably. A fact counts where its rise is above 98 % of a null with a third more noise, and with its
    rise minus the mean rise of the facts that do not; what a null with a fifth more noise has there is taken off.
    Facts trained during the rest do not count. Unit: nats; range: any number; zero or a little below without revival.
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
            version="4",
            summary="rises of the answer's margin without re-exposure, beyond decay plus noise",
            measures=(
                Measure(
                    "latent_revival", "nats", "none", "largest rise of the margin beyond decay plus noise"
                ),
            ),
            compute=_compute,
        )
    ]
