"""Curves that only decay, and the correlated noise on them: the null of `latent_revival`.

Constants were chosen in simulation (docs/metrics/latent_revival.md) so that a third of the facts may return without
counting as noise, and facts may differ in their noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_CALIBRATION_ROUNDS = 5
_CALIBRATION_SURROGATES = 8
_MAX_PHI = 0.95
_SMALL_STEPS = 0.6
_POOLING = 0.3


def largest_rise(curves: Array) -> Array:
    """Return (...), the maximum over s < t of y_t - y_s, of (..., probes) curves."""
    return np.asarray((curves - np.minimum.accumulate(curves, axis=-1)).max(axis=-1))


def decay(curves: Array) -> Array:
    """Fit a never-rising curve to each of (..., probes) curves by least squares, all of them at once.

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
    """Return (...), the noise scale per curve up to a factor: RMS of its smaller first differences.

    A return and its end are the largest few differences of a curve, so they hardly touch it.
    """
    steps = np.diff(curves, axis=-1)
    steps = np.sort(np.abs(steps - np.median(steps, axis=-1, keepdims=True)), axis=-1)
    small = steps[..., : int(np.ceil(_SMALL_STEPS * steps.shape[-1]))]
    rms = np.sqrt((small**2).mean(axis=-1))
    pooled = rms ** (1 - _POOLING) * np.median(rms, axis=-1, keepdims=True) ** _POOLING
    return np.asarray(np.maximum(pooled, 1e-12))


def _noise(curves: Array, chosen: BoolArray) -> tuple[float, float]:
    """Return lag-1 autocorrelation and SD of the chosen curves' residuals from the decay, mean over sets."""
    residual = np.where(chosen[..., None], curves - decay(curves), 0.0)
    power = (residual**2).sum(axis=(-2, -1))
    products = (residual[..., 1:] * residual[..., :-1]).sum(axis=(-2, -1))
    phi = np.divide(products, power, out=np.zeros_like(power), where=power > 0)
    scale = np.sqrt((residual**2).mean(axis=-1)).sum(axis=-1) / chosen.sum(axis=-1)
    return float(phi.mean()), float(scale.mean())


def surrogates(base: Array, phi: float, scale: Array, count: int, random: np.random.Generator) -> Array:
    """Return (count, facts, probes), decay plus stationary AR(1) noise of the given SD per curve."""
    shocks = random.standard_normal((count, *base.shape))
    shocks[..., 1:] *= np.sqrt(1 - phi**2)
    return np.asarray(base + scale[:, None] * lfilter([1.0], [1.0, -phi], shocks, axis=-1))


def height(curves: Array) -> Array:
    """Return the largest rise in units of the curve's own roughness."""
    return np.asarray(largest_rise(curves) / _roughness(curves))


def calibrate(
    curves: Array, base: Array, quiet: Callable[[Array], BoolArray], random: np.random.Generator
) -> tuple[float, Array]:
    """Return phi and SD per curve of the noise, from the curves of a set that `quiet` picks out.

    The isotonic fit swallows part of the noise and the picking part of its rises, so phi and SD read off
    quiet residuals are too small. They are corrected until surrogates, picked and fitted the same way, give
    back what the data gave (indirect inference).
    """
    roughness, chosen = _roughness(curves), quiet(curves)
    phi_seen, scale_seen = _noise(curves, chosen)
    if scale_seen == 0:  # curves so steep that the quiet ones never rise: all of them tell the noise
        if chosen.all():
            return 0.0, np.zeros(len(curves))
        return calibrate(curves, base, lambda some: np.ones(some.shape[:-1], dtype=np.bool_), random)
    phi, factor = float(np.clip(phi_seen, 0, _MAX_PHI)), scale_seen / float(roughness[chosen].mean())
    for _ in range(_CALIBRATION_ROUNDS):
        made = surrogates(base, phi, factor * roughness, _CALIBRATION_SURROGATES, random)
        phi_found, scale_found = _noise(made, quiet(made))
        if scale_found == 0:
            break
        phi = float(np.clip(phi + phi_seen - phi_found, 0, _MAX_PHI))
        factor *= scale_seen / scale_found
    return phi, factor * roughness
