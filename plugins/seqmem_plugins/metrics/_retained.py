"""The kept share of the improvement that injections won: R(t) of Chang et al. 2024, for `decay` and `effectivity`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from seqmem import Missing, Relation, RunRecord, reading
from seqmem.reading import Array, Curves, Injection, Steps, Watched

MAIN: Relation = "verbatim"
GROUPS: Mapping[str, str] = {
    "duplicate": "the same of facts repeated word for word",
    "paraphrase": "the same of facts repeated in other words",
    "once": "the same of facts injected once",
}
"""Ways in which the published schedule injects a fact, with what a measure of one says."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Improvement of some facts at a local maximum that other facts show, and what of it is there later.

    Attributes:
        weight: facts, as a part of all splits of them.
        gain: l(LAM) - l(t_1), mean over the facts minus mean over the controls; nats per token.
        t: steps since LAM, from 1 up.
        later: l(LAM + t) - l(t_1), taken as `gain` is.
    """

    weight: float
    gain: float
    t: Steps
    later: Array


@dataclass(frozen=True, eq=False)
class _Tail:
    """Facts last injected at one step, from then on; changes since before their first injection.

    Attributes:
        window: steps in which their last local maximum lies.
        lags: steps since the last injection, by column of `seen`.
    """

    window: int
    lags: Steps
    seen: Watched


@reading.once_per_run
def kept(run: RunRecord, relation: Relation = MAIN, group: str | None = None) -> list[Kept]:
    """Return what is kept of the improvement at the last local maximum, all facts of the group pooled.

    Raises:
        Missing: the improvement is under two standard errors, over facts and over controls.
    """
    found: list[Kept] = []
    own, control = 0.0, 0.0
    for name in reading.injections_by_group(run, group):
        tails, parts = _after_last(run, relation, name)
        found += parts
        facts = sum(len(tail.seen.facts) for tail in tails)
        errors = _errors(tails)
        own += (facts * errors[0]) ** 2
        control += facts * errors[1]  # the same items in every group
    if _total(found) <= 2 * np.hypot(own**0.5, control):
        raise Missing(
            "answers did not become more probable by over two standard errors: the share kept is undefined"
        )
    return found


@reading.once_per_run
def _after_last(run: RunRecord, relation: Relation, group: str) -> tuple[list[_Tail], list[Kept]]:
    """Return the facts of a group from their last injections on, and what they keep of their improvement."""
    curves = reading.answer_curves(run, relation).by_fact()
    tails = _tails(curves, reading.injections_by_group(run, group)[group])
    return tails, list(_split(tails))


def _total(parts: list[Kept]) -> float:
    """Return the improvement summed over facts: the denominator of retainability."""
    return sum(part.weight * part.gain for part in parts)


def _tails(curves: Curves, injections: list[Injection]) -> list[_Tail]:
    own: dict[str, list[Injection]] = defaultdict(list)
    for one in injections:
        if one.fact in curves.fact:
            own[one.fact].append(one)
    together: dict[tuple[int, int, int], set[str]] = defaultdict(set)
    for fact, steps in own.items():
        together[steps[0].start, steps[-1].start, steps[-1].until].add(fact)
    if not together:
        raise Missing("no injected fact was asked in this probe form")
    found = []
    for (first, last, until), facts in sorted(together.items()):
        seen = reading.watch(curves, facts, first, last)
        found.append(_Tail(until - last, seen.steps - last, seen))
    return found


def _lags(tails: list[_Tail]) -> Steps:
    """Return the steps since the last injection at which every fact was asked inside its window."""
    common = set.intersection(*(set(tail.lags[tail.lags <= tail.window].tolist()) for tail in tails))
    if not common:
        raise Missing("no probe in the window after the last injection")
    return np.array(sorted(common))


def _errors(tails: list[_Tail]) -> tuple[float, float]:
    """Return the standard errors of the mean improvement at the local maximum: over facts, and over controls."""
    lags = _lags(tails)
    won = np.concatenate([tail.seen.better[:, np.isin(tail.lags, lags)] for tail in tails])
    place = int(won.mean(axis=0).argmax())
    control = tails[0].seen.control[:, np.flatnonzero(tails[0].lags == lags[place])[0]]
    return _standard_error(won[:, place]), _standard_error(control)


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def _split(tails: list[_Tail]) -> Iterator[Kept]:
    """Yield of every split, both ways, LAM found on one half, and what the other half has from there on."""
    lags = _lags(tails)
    inside = [np.isin(tail.lags, lags) for tail in tails]
    seen = [tail.seen for tail in tails]
    facts, controls = (
        reading.splits([one.facts for one in seen]),
        reading.splits([one.controls for one in seen]),
    )
    for (find, read), (find_control, read_control) in zip(facts, controls, strict=True):
        lag = int(lags[reading.mean_better(seen, inside, find, find_control).argmax()])
        for tail, mine, others in zip(tails, read, read_control, strict=True):
            if mine.any():
                curve = reading.mean_better(
                    [tail.seen], [np.ones(len(tail.lags), dtype=np.bool_)], [mine], [others]
                )
                later = tail.lags > lag
                gain = float(curve[tail.lags == lag][0])
                yield Kept(int(mine.sum()) / reading.SPLITS, gain, tail.lags[later] - lag, curve[later])


def retained(parts: list[Kept]) -> tuple[Array, Array]:
    """Return log10 t and R(t) = [l(LAM + t) - l(t_1)] / [l(LAM) - l(t_1)], a point per doubling of t.

    Sums over facts are divided: the published mean of ratios needs outliers taken out where a denominator is small.
    Probes inside a doubling (1, 2-3, 4-7, ...) are averaged first, because probes are dense right after an injection
    and sparse later on. Doublings in which not every fact was asked are left out.
    """
    gain = _total(parts)
    doublings = [np.floor(np.log2(part.t)).astype(int) for part in parts]
    common = sorted(set.intersection(*(set(places.tolist()) for places in doublings)))
    log_t, share = np.zeros(len(common)), np.zeros(len(common))
    for part, places in zip(parts, doublings, strict=True):
        inside = [places == place for place in common]
        # weighed like the shares, so that lines of one slope make a line of that slope
        log_t += part.weight * part.gain / gain * np.array([np.log10(part.t[here]).mean() for here in inside])
        share += part.weight / gain * np.array([part.later[here].mean() for here in inside])
    return log_t, share


def retained_at_end(parts: list[Kept]) -> float:
    """Return R at the last probe, all facts pooled."""
    if any(not len(part.later) for part in parts):
        raise Missing("facts were not asked after their last local maximum")
    return sum(part.weight * float(part.later[-1]) for part in parts) / _total(parts)


def facts_of(parts: list[Kept]) -> int:
    """Count the facts behind what is kept."""
    return round(sum(part.weight for part in parts))
