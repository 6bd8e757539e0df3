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

Mind: weaker and slower returns are read too small, and a value near zero does not prove absence. Returns of 10 SD of
the noise are read whole. Of returns of 5 SD, with 13 probes, four fifths are lost in noise of phi 0, a quarter in
noise of phi .5.
At most half of the facts may return. Noise of real curves is not exactly AR(1): compare rows too, not only one row
with zero.

Version 4: less is taken off for chance rises; version 3 read a true return of .82 nats as .76. Version 3: only
remarkable rises count. Version 2 fired on nothing but decay and noise in 15 to 90 % of benches of 8 seeds. Where no
quiet fact ever rises, all facts tell the noise; before it was then taken for 0.

None without a rest, without competing choices, where every fact is trained again during the rest, under 12 even
probes or under 4 facts.
"""

from __future__ import annotations

import numpy as np

from seqmem import Metric, Missing, RunRecord, Value, reading
from seqmem_plugins.metrics._decaying_noise import (
    Array,
    BoolArray,
    calibrate,
    decay,
    height,
    largest_rise,
    surrogates,
)

seqmem_api = ">=1,<2"
metric = Metric(
    "latent_revival",
    version="4",
    summary="rises of the answer's margin without re-exposure, beyond decay plus noise",
)
seqmem_metric = metric.hook

_MIN_POINTS = 12
_MIN_CURVES = 4
_SURROGATES = 200
_QUIET_AT_FIRST = 0.4
_QUIET_LEVEL = 0.98
_QUIET_SURROGATES = 40
_REMARKABLE = 0.98
_GUARD = 1.35
"""Times the noise that was read, in the null that a rise must stand out from: curves tell it to ten per cent."""
_TAKEN_OFF = 1.2
"""Times the noise that was read, in the null whose chance rises are taken off: with none more, noise of phi .8
alone reads .004 nats with a spread of .005 over runs, which eight seeds tell from zero; with `_GUARD`, what returns is
read .05 nats too small."""


def margins(run: RunRecord) -> Array:
    """Return (facts, probes), log p(answer) - log p(best other choice), nats, over the rest at even steps.

    Facts trained during the rest (by `replay` or `joint`) are left out.
    """
    reading.rest_steps(run)
    rows = reading.questions(run, "even")
    rows = reading.some(
        rows[rows["best_other"].notna()],
        "no competing answer was scored on the even schedule: there is no margin",
    )
    asked = rows["fact"].nunique()
    rows = rows[~rows["fact"].isin(reading.trained_in_rest(run))]
    left_out = asked - rows["fact"].nunique()
    if rows.empty:
        raise Missing("every fact is trained again during the rest: nothing returns without re-exposure")
    table = (
        rows.assign(margin=rows["logprob"] - rows["best_other"])
        .pivot_table(index="fact", columns="step", values="margin", aggfunc="mean")
        .dropna()
    )
    if table.shape[1] < _MIN_POINTS or len(table) < _MIN_CURVES:
        trained = f" ({left_out} facts are trained again during the rest)" if left_out else ""
        raise Missing(
            f"{len(table)} curves of {table.shape[1]} even probes{trained}; "
            f"{_MIN_CURVES} of {_MIN_POINTS} are needed to know their noise"
        )
    return table.to_numpy(dtype=float)


def excess_rise(curves: Array, random: np.random.Generator) -> Array:
    """Return the largest rise of each curve beyond the usual one, where it is remarkable; about 0 under the null.

    What a curve would have risen by without its return is what the others rise by: its own never-rising fit is bent
    by the return.
    """
    base = decay(curves)

    def least(some: Array) -> BoolArray:
        rise = height(some)
        return np.asarray(rise <= np.quantile(rise, _QUIET_AT_FIRST, axis=-1, keepdims=True))

    phi, scale = calibrate(curves, base, least, random)
    null = largest_rise(surrogates(base, phi, scale, _QUIET_SURROGATES, random))
    highest = np.maximum(np.quantile(null, _QUIET_LEVEL, axis=0), 1e-12)

    def unremarkable(some: Array) -> BoolArray:
        # Of few curves noise may lift every one over its line; the least of them still tells the noise.
        rise = largest_rise(some) / highest
        return np.asarray((rise <= 1) | (rise == rise.min(axis=-1, keepdims=True)))

    phi, scale = calibrate(curves, base, unremarkable, random)
    wide, other = (
        largest_rise(surrogates(base, phi, more * scale, _SURROGATES, random))
        for more in (_GUARD, _TAKEN_OFF)
    )
    line, rise = np.quantile(wide, _REMARKABLE, axis=0), largest_rise(curves)
    remarkable = rise > line
    usual = float(rise[~remarkable].mean()) if not remarkable.all() else float(wide.mean())
    by_chance = np.where(other > line, other - usual, 0.0).mean(axis=0)
    return np.asarray(np.where(remarkable, rise - usual, 0.0) - by_chance)


@metric.measure("latent_revival", "nats", "none", "largest rise of the margin beyond decay plus noise")
def latent_revival(run: RunRecord) -> Value:
    """Return the mean over facts of the largest rise of the margin in the rest, beyond decay plus noise.

    rise = max_{s<t} (y_t - y_s), y being log p(answer) - log p(best other choice). Facts trained during the rest do
    not count. Unit: nats; range: any number; zero or a little below without revival.
    """
    curves = margins(run)
    return Value(float(excess_rise(curves, np.random.default_rng(0)).mean()), len(curves))
