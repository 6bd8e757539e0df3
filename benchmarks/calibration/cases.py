"""The cases: what each synthetic learner knows, and what the metrics should say of it.

A *run* is one seed. Its parameters (half-life, level, amplitude) are drawn around stated values; the truth of a
claim is the mean of the true number over that population of seeds, by integration where it is not the stated value.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
from scipy.integrate import trapezoid

from benchmarks.calibration.beds import Answers, Array, Bed, bed
from benchmarks.calibration.learners import (
    Generator,
    answered,
    expected,
    level,
    noise,
    scale,
)
from benchmarks.calibration.ugly import NOISES, Noise, flipped, forgotten, usual
from seqmem import MetricSpec, NotApplicable, RunRecord

ORDERS = 24
"""Shuffled orders that seeds draw from."""


@dataclass(frozen=True)
class Claim:
    """The value or verdict that a measure should give.

    Attributes:
        kind: ``value``: the interval covers `truth`. ``null``: nothing is there, the detector must stay silent, and
            the interval covers 0. ``silent``: the same of a detector that reads below 0 by design, so that its interval
            need not cover 0. ``effect``: the detector must fire; ``power``: in four of five benches. ``mean``: the mean
            over all runs lies within .05 of the truth. ``bias``: the measure is known to be biased; its figures are
            stated and held to no bar.
        seeds: numbers of seeds at which an ``effect`` or a ``power`` must be seen.
    """

    measure: str
    kind: Literal["value", "null", "silent", "effect", "power", "mean", "bias"]
    truth: float
    note: str = ""
    seeds: tuple[int, ...] = (3, 8)


@dataclass(frozen=True)
class Case:
    """A learner with a known memory.

    Attributes:
        run: one seed's value by measure; NaN where there is none.
        claims: made when asked for, because truths are integrated.
    """

    name: str
    what: str
    metrics: tuple[str, ...]
    run: Callable[[Generator], Mapping[str, float]]
    claims: Callable[[], tuple[Claim, ...]]


@cache
def spec_of(metric: str) -> MetricSpec:
    """A built-in metric by name."""
    spec: MetricSpec
    (spec,) = importlib.import_module(f"seqmem_plugins.metrics.{metric}").seqmem_metric()
    return spec


@cache
def ratio_of(measure: str) -> tuple[str, str] | None:
    """The two measures whose means are divided for this one; None where its own values are put together."""
    metrics = {metric for case in CASES.values() for metric in case.metrics}
    declared = (one for metric in metrics for one in spec_of(metric).measures)
    return next((one.ratio for one in declared if one.name == measure), None)


def score(
    metrics: tuple[str, ...], run: RunRecord, controls: Mapping[str, RunRecord] | None = None
) -> dict[str, float]:
    """Every measure of these metrics, NaN where there is none."""
    found: dict[str, float] = {}
    for metric in metrics:
        spec = spec_of(metric)
        try:
            values = spec.compute(run, controls or {})
        except NotApplicable:
            continue
        found |= {name: np.nan if one.value is None else one.value for name, one in values.items()}
    return found


@cache
def loops() -> Bed:
    """`memory_loops`: 4 loops of 16 facts, 4 cycles of visits of 7 steps, 48 steps of rest."""
    return bed("memory_loops", forms=("question",))


def shuffled(random: Generator) -> Bed:
    """The same in one of the shuffled orders."""
    return bed("memory_loops", "shuffled", int(random.integers(ORDERS)), ("question",))


@cache
def close() -> Bed:
    """The same, asked after every step of the rest: 49 even probes."""
    return bed("memory_loops", forms=("question",), changes=(("even_every", 1),))


def _rest_lags() -> Array:
    """(loops,) steps from the end of a loop's last visit to the rest."""
    b = loops()
    start = b.step.searchsorted(b.loops_end)
    return np.unique(b.age[~b.control][:, start]).astype(float)


# -- forgetting -------------------------------------------------------------------------------------------

START, HALF_LIFE, DEPTH = 0.9, 24.0, 2.0
FORGETTING = (
    "retention",
    "learning_accuracy",
    "initial_recall",
    "backward_transfer",
    "forgetting",
    "interference",
)


def _memory(b: Bed, half_life: float) -> Array:
    """(curves, sweeps) what is left of a memory that halves every `half_life` steps; 0 before the first visit."""
    known = (b.age >= 0) & ~b.control[:, None]
    return np.where(known, 2.0 ** (-np.maximum(b.age, 0) / half_life), 0.0)


def exponential(random: Generator, *, half_life: float, metrics: tuple[str, ...]) -> Mapping[str, float]:
    """Recall start * 2^(-age / half-life); the answer's loss falls with it."""
    b = loops()
    own = float(scale(random, half_life, 0.2))
    left = _memory(b, own)
    loss = 4 - float(scale(random, DEPTH, 0.1)) * left + noise(random, b, 0.3, 0.5)
    recall = float(level(random, START, 0.3)) * left
    return _with_bootstrap(score(metrics, b.record(answered(random, b, recall, loss))), own)


BOOTSTRAP = "retention.half_life_low to _high"
_IN_ONE_RUN = Claim(
    BOOTSTRAP,
    "bias",
    0.95,
    "share of single runs whose bootstrap interval over facts holds the run's own half-life",
)


def _with_bootstrap(found: dict[str, float], half_life: float) -> Mapping[str, float]:
    """Add whether the run's bootstrap interval holds its own half-life, cut at the rest as the metric's is."""
    own = np.log10(min(half_life, loops().rest_length))
    holds = found["retention.half_life_low"] <= own <= found["retention.half_life_high"]
    return {**found, BOOTSTRAP: float(holds)}


def _exponential_truth(half_life: float) -> tuple[Claim, ...]:
    rest, lags = float(loops().rest_length), _rest_lags()
    fine = np.expm1(np.linspace(0, np.log1p(rest), 400))

    def kept(random: Generator, n: int, steps: Array | float) -> Array:
        """(n,) recall after some steps of rest, or its mean over them."""
        halved = scale(random, half_life, 0.2, n)
        start = level(random, START, 0.3, n)
        curve = np.mean([2.0 ** (-lag / halved) for lag in lags], axis=0) * start
        if np.isscalar(steps):
            return np.asarray(curve * 2.0 ** (-np.asarray(steps) / halved))
        log = np.log1p(np.asarray(steps))
        over = np.array([trapezoid(2.0 ** (-np.asarray(steps) / one), log) / log[-1] for one in halved])
        return np.asarray(curve * over)

    def lost(random: Generator, n: int) -> Array:
        """(n,) interference: nats that older facts lose during first visits."""
        halved, visit = scale(random, half_life, 0.2, n), 7.0
        costs = []
        for arrival in range(1, len(lags)):
            ages = visit * np.arange(arrival)[:, None]
            costs.append((2.0 ** (-ages / halved) - 2.0 ** (-(ages + visit) / halved)).mean(axis=0))
        return np.asarray(np.mean(costs, axis=0) * scale(random, DEPTH, 0.1, n))

    start = expected(lambda random, n: level(random, START, 0.3, n))
    end = expected(lambda random, n: kept(random, n, rest))
    halved = expected(lambda random, n: np.log10(np.minimum(scale(random, half_life, 0.2, n), rest)))
    return (
        Claim("retention", "value", end),
        Claim("retention.auc", "value", expected(lambda random, n: kept(random, min(n, 20_000), fine))),
        Claim("retention.half_life", "value", halved),
        _IN_ONE_RUN,
        Claim("learning_accuracy", "value", start),
        Claim("initial_recall", "value", start),
        Claim("backward_transfer", "value", end - start),
        Claim("forgetting", "bias", start - end, "best of many noisy boundaries"),
        Claim("interference", "value", expected(lost)),
    )


def _in_rest(b: Bed, shape: Callable[[Array], Array]) -> Array:
    """(curves, sweeps) all of it from the first visit to the rest, then `shape` of the steps of rest."""
    left = np.where(b.rest_step >= 0, shape(np.maximum(b.rest_step, 0).astype(float)), 1.0)
    return np.where((b.age >= 0) & ~b.control[:, None], left, 0.0)


def _power(steps: Array, half_life: Array | float) -> Array:
    return np.asarray((1 + steps) ** (-np.log(2) / np.log1p(half_life)))


def _log_linear(steps: Array, half_life: Array | float) -> Array:
    return np.asarray(np.maximum(1 - 0.5 * np.log1p(steps) / np.log1p(half_life), 0))


SHAPES: Mapping[str, Callable[[Array, Array | float], Array]] = {"power": _power, "log-linear": _log_linear}


def in_rest(random: Generator, *, shape: str, half_life: float) -> Mapping[str, float]:
    """Recall keeps its level until the rest, where it follows a curve of this half-life."""
    b = loops()
    own = float(scale(random, half_life, 0.2))
    left = _in_rest(b, lambda steps: SHAPES[shape](steps, own))
    recall = float(level(random, START, 0.3)) * left
    return _with_bootstrap(
        score(("retention",), b.record(answered(random, b, recall, 4 - DEPTH * left))), own
    )


def _in_rest_truth(shape: str, half_life: float) -> tuple[Claim, ...]:
    rest = float(loops().rest_length)
    fine = np.expm1(np.linspace(0, np.log1p(rest), 400))

    def kept(random: Generator, n: int) -> Array:
        return level(random, START, 0.3, n) * SHAPES[shape](np.array(rest), scale(random, half_life, 0.2, n))

    def area(random: Generator, n: int) -> Array:
        start, halved = level(random, START, 0.3, 20_000), scale(random, half_life, 0.2, 20_000)
        log = np.log1p(fine)
        return np.array(
            [a * trapezoid(SHAPES[shape](fine, h), log) / log[-1] for a, h in zip(start, halved, strict=True)]
        )

    return (
        Claim("retention", "value", expected(kept)),
        Claim("retention.auc", "value", expected(area)),
        Claim(
            "retention.half_life",
            "value",
            expected(lambda random, n: np.log10(np.minimum(scale(random, half_life, 0.2, n), rest))),
        ),
        _IN_ONE_RUN,
    )


# -- nothing at all ---------------------------------------------------------------------------------------

DETECTORS = (
    "backward_transfer",
    "forgetting",
    "interference",
    "latent_revival",
    "loop_contrast",
    "recovery",
)


def _flat(random: Generator, b: Bed, phi: float) -> Answers:
    """Learned at the first visit and kept for good: recall .6, answers 1 nat above their rivals."""
    known = np.where((b.age >= 0) & ~b.control[:, None], 1.0, 0.0)
    wobble = noise(random, b, 0.5, phi)
    return answered(random, b, 0.6 * known, 4 - known + wobble, 1 + 2 * wobble, phi)


def flat(random: Generator, *, phi: float) -> Mapping[str, float]:
    """A memory that does nothing but wobble."""
    b, other = loops(), shuffled(random)
    control = other.record(_flat(random, other, phi))
    found = score(DETECTORS, b.record(_flat(random, b, phi)), {"shuffled": control})
    return found | score(("oscillation",), close().record(_flat(random, close(), phi)))


def _flat_truth() -> tuple[Claim, ...]:
    return (
        Claim("backward_transfer", "null", 0.0),
        Claim("forgetting", "bias", 0.0, "best of many noisy boundaries"),
        Claim("interference", "null", 0.0),
        Claim("loop_contrast", "null", 0.0),
        Claim("recovery", "null", 0.0),
        Claim("latent_revival", "silent", 0.0),
        Claim("oscillation", "null", 0.0),
    )


# -- forgetting between visits, with or without anticipation ----------------------------------------------

FORGOTTEN = 1.0
"""Nats per token forgotten between two visits."""
_RISE = (0.0, 0.7, 1.0, 1.0)


def _between(random: Generator, b: Bed, share: float, amplitude: float, phi: float) -> Answers:
    """Loss rises by .7, 1, 1 of `FORGOTTEN` after 7, 14, 21 steps; at 21 in cyclic order `share` of it is back."""
    lost = np.interp(np.maximum(b.age, 0), [0, 7, 14, 21], _RISE)
    lost = np.where(b.age == 21, 1 - share, lost)
    size = float(scale(random, FORGOTTEN, 0.2))
    loss = np.where(b.age >= 0, 2 + size * lost, 4.0) + noise(random, b, amplitude * FORGOTTEN, phi)
    recall = float(level(random, START, 0.3)) * np.where(b.age >= 0, 1 - 0.4 * lost, 0)
    known = (b.age >= 0) & ~b.control[:, None]
    margin = np.where(known, 3 - 4 * (1 - 2.0 ** (-np.maximum(b.age, 0) / HALF_LIFE)), -1)
    return answered(random, b, recall, loss, margin + noise(random, b, 0.3, phi))


def between(random: Generator, *, share: float, amplitude: float, phi: float) -> Mapping[str, float]:
    """Forgetting between visits; before its next visit a loop gets `share` of it back in cyclic order."""
    b, other = loops(), shuffled(random)
    own = float(random.normal(share, 0.1)) if share else 0.0
    control = other.record(_between(random, other, 0.0, amplitude, phi))
    metrics = ("recovery",) if share else ("recovery", "loop_contrast", "latent_revival")
    return score(metrics, b.record(_between(random, b, own, amplitude, phi)), {"shuffled": control})


def _between_truth(share: float) -> tuple[Claim, ...]:
    if share:
        nats = share * FORGOTTEN * float(np.exp(0.2**2 / 2))
        seeds = (8,) if share <= 0.5 else (3, 8)
        return (
            Claim("recovery", "value", nats),
            Claim("recovery", "effect", nats, seeds=seeds),
            Claim("recovery.share", "value", share),
        )
    return (
        Claim("recovery", "null", 0.0),
        Claim("recovery.share", "null", 0.0),
        Claim("loop_contrast", "null", 0.0),
        Claim("latent_revival", "silent", 0.0),
        Claim("recovery", "mean", 0.0),
    )


# -- nothing there, in answers as unruly as real ones -------------------------------------------------------


def ugly(
    random: Generator, *, made: Noise, forgets: float = 1.0, bounded: bool = False
) -> Mapping[str, float]:
    """Every detector on a memory that is forgotten by age and knows neither place nor order."""

    def record(b: Bed) -> RunRecord:
        return b.record(forgotten(random, b, made, forgets=forgets, bounded=bounded))

    b, other = loops(), shuffled(random)
    metrics = ("latent_revival", "loop_contrast", "recovery")
    return score(metrics, record(b), {"shuffled": record(other)}) | score(("oscillation",), record(close()))


FEW = (("facts_per_loop", 2),)


def few(random: Generator) -> Mapping[str, float]:
    """The same of eight facts in all."""
    forms = ("question",)
    beds = (
        bed("memory_loops", forms=forms, changes=FEW),
        bed("memory_loops", "shuffled", int(random.integers(ORDERS)), forms, FEW),
        bed("memory_loops", forms=forms, changes=(*FEW, ("even_every", 1))),
    )
    own, control, often = (b.record(forgotten(random, b, usual, forgets=1.0)) for b in beds)
    found = score(("latent_revival", "loop_contrast", "recovery"), own, {"shuffled": control})
    return found | score(("oscillation",), often)


def ordered(random: Generator, *, gain: float) -> Mapping[str, float]:
    """Recall is higher by `gain` wherever the loop comes that the cycle has come to expect: in cyclic order only."""
    own = float(random.normal(gain, 0.03))

    def record(b: Bed, expected: float) -> RunRecord:
        recall = 0.15 + 0.2 * _memory(b, HALF_LIFE) + expected * b.inside_own
        return b.record(answered(random, b, np.where(b.age >= 0, recall, 0), np.full(b.shape, 3.0)))

    return score(("loop_contrast",), record(loops(), own), {"shuffled": record(shuffled(random), 0.0)})


def _silent() -> tuple[Claim, ...]:
    return (
        Claim("latent_revival", "silent", 0.0),
        Claim("loop_contrast", "null", 0.0),
        Claim("recovery", "null", 0.0),
        Claim("oscillation", "null", 0.0),
    )


# -- memory in its place ----------------------------------------------------------------------------------


def placed(random: Generator, *, gain: float) -> Mapping[str, float]:
    """Recall depends on age, and is higher inside the fact's own loop by `gain`."""
    own = float(random.normal(gain, 0.03))

    def record(b: Bed) -> RunRecord:
        recall = 0.15 + 0.2 * _memory(b, HALF_LIFE) + own * b.inside_own
        return b.record(answered(random, b, np.where(b.age >= 0, recall, 0), np.full(b.shape, 3.0)))

    return score(("loop_contrast",), record(loops()), {"shuffled": record(shuffled(random))})


# -- latent revival ---------------------------------------------------------------------------------------

RETURNING = 1 / 3


def revival(random: Generator, *, height: float, share: float, phi: float) -> Mapping[str, float]:
    """A share of the facts come back by `height` nats at an even probe of the run's own, and stay."""
    b = loops()
    first = 3 + 0.5 * random.standard_normal((b.shape[0], 1))
    known = (b.age >= 0) & ~b.control[:, None]
    fall = 4 * (1 - 2.0 ** (-np.maximum(b.rest_step, 0) / HALF_LIFE)) * known
    even = np.flatnonzero(b.even)
    since = even[random.integers(3, len(even) - 2)]
    back = (random.random(b.shape[0]) < share) & ~b.control
    returned = height * ((np.arange(b.shape[1]) >= since) & back[:, None])
    margin = first - fall + returned + noise(random, b, 0.3, phi)
    right = np.where(b.age >= 0, 0.5, 0.0)
    return score(("latent_revival",), b.record(answered(random, b, right, np.full(b.shape, 3.0), margin)))


# -- swings in the rest -----------------------------------------------------------------------------------

CYCLE = 28.0
"""Steps of a cycle of `memory_loops`."""


def swinging(random: Generator, *, amplitude: float, phi: float, known: bool = True) -> Mapping[str, float]:
    """The loss of each loop's facts swings in the rest, in the cycle's period and the loop's phase.

    Where the phase is not `known` it is the run's own and says nothing of any loop.
    """
    b = close()
    size = float(scale(random, amplitude, 0.1))
    due = 7 * np.maximum(b.loop, 0)[:, None] + 3.5  # the middle of a visit, in the cycle
    shift = 0.0 if known else random.uniform(0, CYCLE)
    if not known:
        due = np.zeros_like(due)
    wave = np.where(b.rest_step >= 0, np.cos(2 * np.pi * (b.step - due - shift) / CYCLE), 0.0)
    learned = np.where((b.age >= 0) & ~b.control[:, None], 1.0, 0.0)
    loss = 4 - learned * (1 + size * wave) + noise(random, b, 0.3, phi)
    return score(("oscillation",), b.record(answered(random, b, 0.6 * learned, loss)))


def _swinging_truth(amplitude: float) -> tuple[Claim, ...]:
    size = amplitude * float(np.exp(0.1**2 / 2))
    return (Claim("oscillation", "value", size), Claim("oscillation", "effect", size))


# -- injections -------------------------------------------------------------------------------------------

SIZES: Mapping[str, float] = {"duplicate": 1.0, "paraphrase": 0.6, "once": 0.8}
PEAK, AT_ONCE, DECAY = 2, 0.9, 0.2
"""Steps to the local maximum; R right after the last one, and what of it is lost per tenfold of steps."""


@cache
def injections() -> Bed:
    """`fact_injection`: 3 groups of 12 facts and 12 never trained, 10 injections, 96 steps of rest."""
    return bed("fact_injection", forms=("verbatim",))


@cache
def _injected() -> Mapping[str, tuple[int, ...]]:
    """Steps done right before each injection, by fact."""
    return {
        str(fact): tuple(sorted(rows["step"] - 1)) for fact, rows in injections().exposures.groupby("fact")
    }


def injected(random: Generator, *, strength: float, phi: float) -> Mapping[str, float]:
    """Answers rise for two steps after an injection, fall back by half, after the last to .9 - a log10 t."""
    b = injections()
    of_run, lost = float(scale(random, 1.0, 0.15)), float(random.normal(DECAY, 0.03))
    won = np.zeros(b.shape)
    for curve, (fact, group) in enumerate(zip(b.fact, b.group, strict=True)):
        starts = _injected().get(str(fact), ())
        size = strength * SIZES.get(str(group), 0.0) * of_run * float(scale(random, 1.0, 0.3))
        for number, start in enumerate(starts):
            since, before = b.step - start, number * size / 2
            after = before + size * np.where(since == PEAK, 1.0, 0.5)
            if start == starts[-1]:
                after = (before + size) * np.where(
                    since == PEAK, 1.0, AT_ONCE - lost * np.log10(np.maximum(since - PEAK, 1))
                )
            won[curve] = np.where(since >= PEAK, after, won[curve])
    loss = 5 - won + noise(random, b, 0.3, phi)
    metrics = ("effectivity", "decay") if strength else ("effectivity",)
    return score(metrics, b.record(Answers(loss, np.zeros(b.shape, dtype=np.bool_))))


def _injected_truth(strength: float) -> tuple[Claim, ...]:
    if not strength:
        return (Claim("effectivity", "null", 0.0),)
    counts = {group: 0 for group in SIZES}
    groups = dict(zip(injections().fact.tolist(), injections().group.tolist(), strict=True))
    for fact, starts in _injected().items():
        counts[str(groups[fact])] += len(starts)
    mean = sum(counts[group] * size for group, size in SIZES.items()) / sum(counts.values())
    # log-normal factors of runs (.15) and facts (.3) have means above their medians
    spread = float(np.exp((0.15**2 + 0.3**2) / 2))
    found = [Claim("effectivity", "value", strength * mean * spread)]
    found += [
        Claim(f"effectivity.{group}", "value", strength * size * spread) for group, size in SIZES.items()
    ]
    return (*found, Claim("effectivity", "effect", strength * mean * spread), Claim("decay", "value", DECAY))


# -- windows ----------------------------------------------------------------------------------------------


@cache
def windows() -> Bed:
    """`rolling_window`: 400 positions, 5 scored windows and 3 control windows."""
    return bed("rolling_window")


@cache
def _window_of_sweep() -> tuple[Array, Array]:
    """(sweeps,) first and last position of the window whose snapshot is asked; -1 at the base."""
    b = windows()
    spans = b.info["design"]["windows"]
    table = b.experiences
    labels = table["task_label"].where(table["phase"] == "inject").ffill().fillna(-1).to_numpy(dtype=int)
    of_sweep = labels[b.experience]
    bounds = [(-1, -1), *spans]
    first, end = (np.array([bounds[label + 1][side] for label in of_sweep], dtype=float) for side in (0, 1))
    return first, end


def window(random: Generator, *, fall: float) -> Mapping[str, float]:
    """Loss inside a window trained again falls by `fall`; every snapshot drifts, with a shape over the stream."""
    b = windows()
    first, end = _window_of_sweep()
    snapshots, of_sweep = np.unique(first, return_inverse=True)
    position = b.position[:, None]
    inside = (position >= first) & (position < end) & (position >= 0)
    drift = random.normal(0.02, 0.02, len(snapshots))[of_sweep]
    share = random.normal(1.0, 0.3, len(snapshots))[of_sweep]
    shape = 0.05 * np.sin(2 * np.pi * position / 400 + random.uniform(0, 2 * np.pi))
    own = _along(random, b.shape[0], len(snapshots), 0.5)[:, of_sweep]
    change = drift + share * shape + 0.05 * own - float(random.normal(fall, 0.1 * fall)) * inside
    change = np.where(first < 0, 0.0, change)
    loss = random.normal(3, 0.5, (b.shape[0], 1)) + change
    return score(("memory_signal",), b.record(Answers(loss, np.zeros(b.shape, dtype=np.bool_))))


def _along(random: Generator, positions: int, snapshots: int, phi: float) -> Array:
    """(positions, snapshots) AR(1) noise of SD 1 along the stream."""
    found = random.standard_normal((positions, snapshots))
    for place in range(1, positions):
        found[place] = phi * found[place - 1] + np.sqrt(1 - phi**2) * found[place]
    return found


def _window_truth(fall: float) -> tuple[Claim, ...]:
    if not fall:
        names = ("memory_signal", "memory_signal.behind", "memory_signal.ahead", "memory_signal.kept")
        return tuple(Claim(name, "null", 0.0) for name in names)
    return (
        Claim("memory_signal", "value", fall),
        Claim("memory_signal", "effect", fall),
        Claim("memory_signal.kept", "value", fall),
        Claim("memory_signal.behind", "null", 0.0),
        Claim("memory_signal.ahead", "null", 0.0),
    )


# -- two rows ---------------------------------------------------------------------------------------------

DIFFERENCE = "retention, row minus row"


def two_rows(random: Generator, *, half_life: float) -> Mapping[str, float]:
    """Two strategies on one seed, one forgetting with `HALF_LIFE`, the other with `half_life`."""
    pair = [
        exponential(random, half_life=each, metrics=("retention",))["retention"]
        for each in (half_life, HALF_LIFE)
    ]
    return {DIFFERENCE: pair[0] - pair[1]}


def _two_rows_truth(half_life: float) -> tuple[Claim, ...]:
    ends = [_exponential_truth(each)[0].truth for each in (half_life, HALF_LIFE)]
    if half_life == HALF_LIFE:
        return (Claim(DIFFERENCE, "null", 0.0),)
    truth = ends[0] - ends[1]
    return (Claim(DIFFERENCE, "value", truth), Claim(DIFFERENCE, "effect", truth, seeds=(8,)))


# -- all of them ------------------------------------------------------------------------------------------

PHIS = (0.0, 0.5, 0.8)
UGLY = ("latent_revival", "loop_contrast", "recovery", "oscillation")


def _cases() -> tuple[Case, ...]:
    slow = 2 * HALF_LIFE
    found = [
        Case(
            "exponential",
            "recall .9 * 2^(-age/24), on all facts; loss falls with it",
            FORGETTING,
            partial(exponential, half_life=HALF_LIFE, metrics=FORGETTING),
            partial(_exponential_truth, HALF_LIFE),
        ),
        Case(
            "slow exponential",
            "the same with a half-life of 48, the length of the rest: half of the seeds are censored",
            ("retention",),
            partial(exponential, half_life=slow, metrics=("retention",)),
            lambda: _exponential_truth(slow)[:4],
        ),
        Case(
            "power law",
            "recall .9 * (1+t)^-b over the rest, half-life 15",
            ("retention",),
            partial(in_rest, shape="power", half_life=15.0),
            partial(_in_rest_truth, "power", 15.0),
        ),
        Case(
            "log-linear",
            "recall .9 * (1 - b log(1+t)) over the rest, half-life 20",
            ("retention",),
            partial(in_rest, shape="log-linear", half_life=20.0),
            partial(_in_rest_truth, "log-linear", 20.0),
        ),
        Case(
            "two rows alike",
            "two strategies that both forget with a half-life of 24",
            ("retention",),
            partial(two_rows, half_life=HALF_LIFE),
            partial(_two_rows_truth, HALF_LIFE),
        ),
        Case(
            "two rows apart",
            "one of them forgets with a half-life of 48",
            ("retention",),
            partial(two_rows, half_life=48.0),
            partial(_two_rows_truth, 48.0),
        ),
    ]
    for phi in PHIS:
        found += [
            Case(
                f"flat, noise phi {phi:g}",
                "learned at the first visit, kept for good; noise of .5 nats per token",
                (*DETECTORS, "oscillation"),
                partial(flat, phi=phi),
                _flat_truth,
            ),
            Case(
                f"forgetting, noise phi {phi:g}",
                "1 nat per token is forgotten between visits and the margin falls in the rest; noise of .3 nats; "
                "nothing comes back",
                ("recovery", "loop_contrast", "latent_revival"),
                partial(between, share=0.0, amplitude=0.3, phi=phi),
                partial(_between_truth, 0.0),
            ),
            Case(
                f"never learned, noise phi {phi:g}",
                "fact injections that teach nothing; noise of .3 nats per token",
                ("effectivity",),
                partial(injected, strength=0.0, phi=phi),
                partial(_injected_truth, 0.0),
            ),
        ]
    found += [
        Case(
            "half recovered",
            "half of what was forgotten is back before the next visit, in cyclic order only; noise of .3, phi .5",
            ("recovery",),
            partial(between, share=0.5, amplitude=0.3, phi=0.5),
            partial(_between_truth, 0.5),
        ),
        Case(
            "nearly all recovered",
            "nine tenths are back",
            ("recovery",),
            partial(between, share=0.9, amplitude=0.3, phi=0.5),
            partial(_between_truth, 0.9),
        ),
        Case(
            "noisy, nothing recovered",
            "forgetting of 1 nat in noise of .5 nats, phi .8",
            ("recovery", "loop_contrast", "latent_revival"),
            partial(between, share=0.0, amplitude=0.5, phi=0.8),
            partial(_between_truth, 0.0),
        ),
        Case(
            "memory in its place",
            "recall is higher by .2 inside the fact's own loop",
            ("loop_contrast",),
            partial(placed, gain=0.2),
            lambda: (
                Claim("loop_contrast", "value", 0.2),
                Claim("loop_contrast", "effect", 0.2, seeds=(8,)),
            ),
        ),
        Case(
            "memory strongly in its place",
            "recall is higher by .6 inside the fact's own loop",
            ("loop_contrast",),
            partial(placed, gain=0.6),
            lambda: (Claim("loop_contrast", "effect", 0.6),),
        ),
    ]
    found += [
        Case(
            f"a third returns, noise phi {phi:g}",
            "a third of the facts come back by 2 nats at one time in the rest; noise of .3 nats",
            ("latent_revival",),
            partial(revival, height=2.0, share=RETURNING, phi=phi),
            lambda: (Claim("latent_revival", "power", 2 * RETURNING, seeds=(8,)),),
        )
        for phi in PHIS
    ]
    found += [
        Case(
            "all return",
            "all facts come back by 1 nat at one time in the rest; noise of .3 nats, phi .5",
            ("latent_revival",),
            partial(revival, height=1.0, share=1.0, phi=0.5),
            lambda: (Claim("latent_revival", "power", 1.0, seeds=(8,)),),
        ),
        *(
            Case(name, f"{what}; nothing but forgetting", UGLY, partial(ugly, made=made), _silent)
            for name, (what, made) in NOISES.items()
        ),
        Case(
            "floor and ceiling",
            "margins lie between -.5 and .5 nats and losses between 2 and 2.6; nothing but forgetting",
            UGLY,
            partial(ugly, made=usual, bounded=True),
            _silent,
        ),
        Case(
            "weak forgetting",
            "hardly anything is forgotten: .05 nats per token; noise of .4 nats",
            UGLY,
            partial(ugly, made=usual, forgets=0.05),
            _silent,
        ),
        Case(
            "eight facts", "eight facts in all; nothing but forgetting; noise of .4 nats", UGLY, few, _silent
        ),
        Case(
            "residuals turned round",
            "the curves of all rows of the board memory_loops-v4, made to fall; what they had beside that, its sign "
            "turned at random fact by fact",
            ("latent_revival",),
            flipped,
            lambda: (Claim("latent_revival", "silent", 0.0),),
        ),
        Case(
            "order without place",
            "recall is higher by .2 in the visit that the cycle has come to expect, in cyclic order only",
            ("loop_contrast",),
            partial(ordered, gain=0.2),
            lambda: (
                Claim("loop_contrast", "null", 0.0),
                Claim("loop_contrast.cyclic", "bias", 0.0, "reads the order"),
            ),
        ),
    ]
    found += [
        Case(
            "injections",
            "each injection adds 1.0, .6 or .8 nats per token; after the last R = .9 - .2 log10 t; noise of "
            ".3 nats, phi .5",
            ("effectivity", "decay"),
            partial(injected, strength=1.0, phi=0.5),
            partial(_injected_truth, 1.0),
        ),
        Case(
            "swing",
            "the loss of each loop's facts swings by .1 nats per token in the cycle's period and the loop's phase; "
            "noise of .3 nats, phi .5",
            ("oscillation",),
            partial(swinging, amplitude=0.1, phi=0.5),
            partial(_swinging_truth, 0.1),
        ),
        Case(
            "swing of no loop",
            "all facts swing together by .4 nats per token, in a phase of the run's own; noise of .3 nats, phi .5",
            ("oscillation",),
            partial(swinging, amplitude=0.4, phi=0.5, known=False),
            lambda: (Claim("oscillation", "null", 0.0),),
        ),
        Case(
            "nothing in the window",
            "snapshots differ by drift and noise of .05 nats per token",
            ("memory_signal",),
            partial(window, fall=0.0),
            partial(_window_truth, 0.0),
        ),
        Case(
            "window remembered",
            "loss inside the window is lower by .15 nats per token",
            ("memory_signal",),
            partial(window, fall=0.15),
            partial(_window_truth, 0.15),
        ),
    ]
    return tuple(found)


CASES: Mapping[str, Case] = {case.name: case for case in _cases()}
