"""Oscillation: does memory swing while nobody trains it, more than noise and never-trained twins do?

In a loop every curve has the loop's period by construction, so only the rest is read, and only facts that no
training row states in it. The curve is the mean over facts of the answer's log-probability per token at evenly
spaced probes (schedule ``even``), and the same of the never-trained twins. Facts that swing out of step cancel
in it.

A trend of three terms, 1, log(1+t) and log(1+t)^2 with t in probes, is fitted together with a sinusoid by least
squares, over frequencies from two periods in the rest up to nearly one in two probes, a quarter of 1 / length
apart. The sinusoid that explains most is the strongest; its amplitude is half of the swing from top to bottom.

Noise has a strongest period too, and correlated noise a strong one: textbook false-alarm probabilities fire on
AR(1) noise many times as often as they say. The null is made of AR(1) surrogates that go through the same fit:

* Level: the surrogates' phi is such that what is left of them beside their strongest sinusoid correlates from
  probe to probe as what is left of the data, and their size such that it is as large. Their mean squared
  amplitude at their own strongest period is what noise adds.
* Test: explained power over its expectation under such noise, at its largest over the frequencies, relative to
  what is left. Every surrogate's phi is read off the surrogate itself, as the data's is. Nobody knows the true
  phi from a dozen probes: p is the largest that any phi from -.3 to .95 in steps of .05 gives.

Simulated (2,000 curves each): on AR(1) noise of phi 0, .5 and .8 p is under .05 in 2.4, 1.9 and 1.9 % of runs of 13
probes and in 4.0, 2.8 and 2.6 % of 40. A sinusoid of amplitude A, in SD of the noise of the mean curve, phi 0 to .8,
is found in at least 95 % of 300 runs each from A = 5 up with 13 probes, and from A = 4 up with 40 (from 3 up where a
period has at most 12 probes). At these A the amplitude reads A - .05 to A - .25.

Mind: with 13 probes the test is weak, and no evidence of a swing is no evidence of a steady memory. Ask for more with
`even_every`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import lfilter

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import (
    Missing,
    attempt,
    loops_end,
    once_per_run,
    questions,
    rest_steps,
    stream_exposures,
    trained_in_rest,
)

seqmem_api = ">=1,<2"

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

LEAST_PROBES = 12
_PHIS: Array = np.linspace(-0.3, 0.95, 26)
_NO_MEMORY = 6
"""Index of phi 0. Below it is there for the test to err on the careful side; no memory's noise alternates."""
_SURROGATES = 999
_PER_FREQUENCY = 4
"""Frequencies tried per 1 / length."""
_FLAT = 1e-9
"""A curve whose residual is smaller than this, in nats, has no noise to compare with."""


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
    """What AR(1) noise of SD 1 shows at so many probes; the first axis of each array is phi, as `_PHIS`.

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
        """Index of the phi under which so much correlation is left on average."""
        return np.rint(np.interp(correlation, self.correlation, np.arange(len(_PHIS)))).astype(np.intp)

    def statistic(self, fits: Fits) -> Array:
        """Largest power over its expectation, in units of what is left over its expectation, by curve."""
        phi = self.phi(fits.correlation)
        return np.asarray((fits.power / self.power[phi]).max(axis=1) / (fits.left / self.left[phi]))

    def p(self, fits: Fits) -> float:
        """Largest share over the phis of surrogates that reach the one curve's statistic."""
        statistic = self.statistic(fits)[0]
        return float(((1 + (self.statistics >= statistic).sum(axis=1)) / (1 + _SURROGATES)).max())

    def excess(self, fits: Fits) -> float:
        """Amplitude of the one curve with that of noise subtracted, as squares; below 0 where noise has more."""
        phi = max(int(self.phi(fits.correlation)[0]), _NO_MEMORY)
        noise = fits.left[0] / self.left[phi] * self.squared_amplitude[phi]
        squared = fits.amplitude[0] ** 2 - noise
        return float(np.sign(squared) * np.sqrt(abs(squared)))


@lru_cache(maxsize=8)
def null(probes: int) -> Null:
    """The null for so many probes; the same for every run, since all of it is free of scale."""
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


@once_per_run
def _left_alone(run: RunRecord) -> pd.DataFrame:
    """Even answers of the facts that are trained, but not during the rest."""
    rows = questions(run, "even")
    rows = rows[rows["fact"].isin(stream_exposures(run)["fact"].unique())]
    kept: pd.DataFrame = rows[~rows["fact"].isin(trained_in_rest(run))]
    if kept.empty:
        raise Missing("every fact is trained again during the rest: none is left to itself")
    return kept


@once_per_run
def curves(run: RunRecord) -> pd.DataFrame:
    """Mean log p(answer) / tokens of facts and of twins over the rest; index: steps since it began."""
    rest_steps(run)
    start, kept = loops_end(run), _left_alone(run)
    twins = questions(run, "even", twins=True)
    twins = twins[twins["twin_of"].isin(kept["fact"].unique())]
    if twins.empty:
        raise Missing("no twin was asked on the even schedule: there is nothing to compare with")
    table = pd.DataFrame(
        {name: -rows.groupby("step")["loss"].mean() for name, rows in (("facts", kept), ("twins", twins))}
    ).dropna()
    table = table[table.index >= start]
    table.index = table.index - start
    if len(table) < LEAST_PROBES:
        raise Missing(f"{len(table)} even probes in the rest, {LEAST_PROBES} are needed")
    if len(set(np.diff(table.index))) > 1:
        raise Missing("the probes of the even schedule are not evenly spaced")
    return table


def _fit(run: RunRecord, curve: pd.Series) -> Fits:
    fits = Spectrum(len(curve)).fit(curve.to_numpy(dtype=float)[None])
    if np.sqrt(fits.left[0] / len(curve)) < _FLAT:
        raise Missing("the curve has no noise that a swing could be compared with")
    return fits


def _facts(run: RunRecord) -> int:
    return int(_left_alone(run)["fact"].nunique())


def amplitude(run: RunRecord) -> Value:
    """Amplitude of the facts' strongest swing with that of noise subtracted, minus the same of their twins.

    sqrt(A^2 - E A_0^2), with the sign of what is under the root; A is the curve's, A_0 the surrogates'. Unit:
    nats per token; range: any number; zero without oscillation; no direction is better.
    """
    table = curves(run)
    facts, twins = (null(len(table)).excess(_fit(run, table[name])) for name in ("facts", "twins"))
    return Value(facts - twins, _facts(run))


def period(run: RunRecord) -> Value:
    """Strongest period of the facts' curve minus the twins'; noise has one too, so read `.p` first.

    Unit: steps; range: two probes' distance to half of the rest.
    """
    table = curves(run)
    fits = _fit(run, table["facts"] - table["twins"])
    distance = float(table.index[1] - table.index[0])
    return Value(distance / float(Spectrum(len(table)).frequencies[fits.best[0]]), _facts(run))


def p(run: RunRecord) -> Value:
    """p-value of that period in this run: the facts' curve minus the twins' against AR(1) surrogates.

    Unit: probability; range: .001 to 1. One run's: a table's mean over seeds is no p-value.
    """
    table = curves(run)
    return Value(null(len(table)).p(_fit(run, table["facts"] - table["twins"])), _facts(run))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {
        "oscillation": attempt(lambda: amplitude(run)),
        "oscillation.period": attempt(lambda: period(run)),
        "oscillation.p": attempt(lambda: p(run)),
    }


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="oscillation",
            version="1",
            summary="strongest swing of memory over the rest, beyond noise and the twins'",
            measures=(
                Measure(
                    "oscillation",
                    "nats/token",
                    "none",
                    "amplitude of the strongest swing beyond noise and twins",
                ),
                Measure(
                    "oscillation.period", "steps", "none", "period of the strongest swing over the twins'"
                ),
                Measure(
                    "oscillation.p", "probability", "none", "of that swing against AR(1) noise, in one run"
                ),
            ),
            compute=_compute,
        )
    ]
