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

Mind: with 13 probes the test is weak: finding no swing does not show a steady memory. Ask for more with
`even_every`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, RunRecord, Value, reading
from seqmem_plugins.metrics._spectrum import Fits, Spectrum, null

seqmem_api = ">=1,<2"
metric = Metric(
    "oscillation",
    version="1",
    summary="strongest swing of memory over the rest, beyond noise and the twins'",
)
seqmem_metric = metric.hook

MIN_PROBES = 12
_FLAT = 1e-9
"""A curve whose residual is smaller than this, in nats, has no noise to compare with."""


@reading.once_per_run
def _left_alone(run: RunRecord) -> pd.DataFrame:
    """Return the even answers of the facts that are trained, but not during the rest."""
    rows = reading.questions(run, "even")
    rows = rows[rows["fact"].isin(reading.stream_exposures(run)["fact"].unique())]
    kept = reading.some(
        rows[~rows["fact"].isin(reading.trained_in_rest(run))],
        "every fact is trained again during the rest: none is left to itself",
    )
    return kept


@reading.once_per_run
def curves(run: RunRecord) -> pd.DataFrame:
    """Return mean log p(answer) / tokens of facts and of twins over the rest; index: steps since it began."""
    reading.rest_steps(run)
    start, kept = reading.loops_end(run), _left_alone(run)
    twins = reading.questions(run, "even", twins=True)
    twins = reading.some(
        twins[twins["twin_of"].isin(kept["fact"].unique())],
        "no twin was asked on the even schedule: there is nothing to compare with",
    )
    table = pd.DataFrame(
        {name: -rows.groupby("step")["loss"].mean() for name, rows in (("facts", kept), ("twins", twins))}
    ).dropna()
    table = table[table.index >= start]
    table.index = table.index - start
    if len(table) < MIN_PROBES:
        raise Missing(f"{len(table)} even probes in the rest, {MIN_PROBES} are needed")
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


@metric.measure(
    "oscillation", "nats/token", "none", "amplitude of the strongest swing beyond noise and twins"
)
def amplitude(run: RunRecord) -> Value:
    """Return the amplitude of the facts' strongest swing with that of noise subtracted, minus the same of their twins.

    sqrt(A^2 - E A_0^2), with the sign of what is under the root; A is the curve's, A_0 the surrogates'. Unit:
    nats per token; range: any number; zero without oscillation; no direction is better.
    """
    table = curves(run)
    facts, twins = (null(len(table)).excess(_fit(run, table[name])) for name in ("facts", "twins"))
    return Value(facts - twins, _facts(run))


@metric.measure("oscillation.period", "steps", "none", "period of the strongest swing over the twins'")
def period(run: RunRecord) -> Value:
    """Return the strongest period of the facts' curve minus the twins'; noise has one too, so read `.p` first.

    Unit: steps; range: two probes' distance to half of the rest.
    """
    table = curves(run)
    fits = _fit(run, table["facts"] - table["twins"])
    distance = float(table.index[1] - table.index[0])
    return Value(distance / float(Spectrum(len(table)).frequencies[fits.best[0]]), _facts(run))


@metric.measure("oscillation.p", "p-value", "none", "of that swing against AR(1) noise")
def p(run: RunRecord) -> Value:
    """Return the p-value of that period in this run: the facts' curve minus the twins' against AR(1) surrogates.

    Unit: p-value, which a table combines over seeds (Fisher); range of one run's: .001 to 1.
    """
    table = curves(run)
    return Value(null(len(table)).p(_fit(run, table["facts"] - table["twins"])), _facts(run))
