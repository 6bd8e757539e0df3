"""The strongest sinusoid of a short curve, and what AR(1) noise shows in its place: for `oscillation`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from seqmem.reading import Array

IntArray = npt.NDArray[np.intp]

_PHIS: Array = np.linspace(-0.3, 0.95, 26)
_NO_MEMORY = 6
"""Index of phi 0. Below it is there for the test to err on the careful side; no memory's noise alternates."""
_SURROGATES = 999
_PER_FREQUENCY = 4
"""Frequencies tried per 1 / length."""


@dataclass(frozen=True)
class Fits:
    """The strongest sinusoid of each of some curves.

    Attributes:
        power: (curves, frequencies) sum of squares that a sinusoid of the frequency explains.
        best: (curves,) index of the frequency that explains most.
        amplitude: (curves,) of that sinusoid.
        left: (curves,) sum of squares beside it and the trend.
        correlation: (curves,) of what is left, from probe to probe.
    """

    power: Array
    best: IntArray
    amplitude: Array
    left: Array
    correlation: Array


class Spectrum:
    """Least squares of a trend and one sinusoid on curves of `probes` evenly spaced values."""

    def __init__(self, probes: int) -> None:
        t = np.arange(probes)
        first, last = 2 * _PER_FREQUENCY, int(_PER_FREQUENCY * (probes - 1) / 2)
        self.frequencies: Array = np.arange(first, last + 1) / (_PER_FREQUENCY * probes)  # periods per probe
        self._trend = np.linalg.qr(np.log1p(t)[:, None] ** np.arange(3))[0]
        angles = 2 * np.pi * self.frequencies[:, None] * t
        waves = np.stack([np.cos(angles), np.sin(angles)], axis=2)  # (frequencies, probes, 2)
        waves = waves - self._trend @ (self._trend.T @ waves)
        self._bases, to_waves = np.linalg.qr(waves)
        self._coefficients = np.linalg.inv(to_waves)

    def fit(self, curves: Array) -> Fits:
        """Fit (curves, probes)."""
        residual = curves - (curves @ self._trend) @ self._trend.T
        found = np.einsum("cp,fpk->cfk", residual, self._bases, optimize=True)
        power = (found**2).sum(axis=2)
        best = power.argmax(axis=1)
        strongest = found[np.arange(len(curves)), best]
        left = residual - np.einsum("cpk,ck->cp", self._bases[best], strongest)
        squares = (left**2).sum(axis=1)
        wave = np.einsum("cjk,ck->cj", self._coefficients[best], strongest)
        return Fits(
            power,
            best,
            np.sqrt((wave**2).sum(axis=1)),
            squares,
            (left[:, 1:] * left[:, :-1]).sum(axis=1) / np.maximum(squares, np.finfo(float).tiny),
        )


@dataclass(frozen=True)
class Null:
    """AR(1) noise of SD 1 at a number of probes: what it shows; the first axis of each array is phi, as `_PHIS`.

    Attributes:
        correlation: mean of `Fits.correlation`, made rising.
        power: (phis, frequencies) mean of `Fits.power`.
        left: mean of `Fits.left`.
        squared_amplitude: mean square of `Fits.amplitude`.
        statistics: (phis, surrogates) the test's statistic, ascending.
    """

    correlation: Array
    power: Array
    left: Array
    squared_amplitude: Array
    statistics: Array

    def phi(self, correlation: Array) -> IntArray:
        """Return the index of the phi under which this correlation is left on average."""
        return np.rint(np.interp(correlation, self.correlation, np.arange(len(_PHIS)))).astype(np.intp)

    def statistic(self, fits: Fits) -> Array:
        """Return the largest power over its expectation, in units of what is left over its expectation, by curve."""
        phi = self.phi(fits.correlation)
        return np.asarray((fits.power / self.power[phi]).max(axis=1) / (fits.left / self.left[phi]))

    def p(self, fits: Fits) -> float:
        """Return the largest share over the phis of surrogates that reach the one curve's statistic."""
        statistic = self.statistic(fits)[0]
        return float(((1 + (self.statistics >= statistic).sum(axis=1)) / (1 + _SURROGATES)).max())

    def excess(self, fits: Fits) -> float:
        """Return the amplitude of the one curve less that of noise, as squares; below 0 where noise has more."""
        phi = max(int(self.phi(fits.correlation)[0]), _NO_MEMORY)
        noise = fits.left[0] / self.left[phi] * self.squared_amplitude[phi]
        squared = fits.amplitude[0] ** 2 - noise
        return float(np.sign(squared) * np.sqrt(abs(squared)))


@lru_cache(maxsize=8)
def null(probes: int) -> Null:
    """Return the null for a number of probes; the same for every run, since all of it is free of scale."""
    spectrum, random = Spectrum(probes), np.random.default_rng(0)
    fits = []
    for phi in _PHIS:
        shocks = random.standard_normal((_SURROGATES, probes))
        shocks[:, 1:] *= np.sqrt(1 - phi**2)
        fits.append(spectrum.fit(lfilter([1.0], [1.0, -phi], shocks, axis=1)))
    correlation = np.maximum.accumulate([one.correlation.mean() for one in fits])
    means = Null(
        correlation + 1e-9 * np.arange(len(_PHIS)),  # strictly rising, as interpolation needs
        np.array([one.power.mean(axis=0) for one in fits]),
        np.array([one.left.mean() for one in fits]),
        np.array([(one.amplitude**2).mean() for one in fits]),
        np.empty((0, 0)),
    )
    statistics = np.array([means.statistic(one) for one in fits])
    return Null(means.correlation, means.power, means.left, means.squared_amplitude, statistics)
