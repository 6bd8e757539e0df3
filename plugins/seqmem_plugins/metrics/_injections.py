"""What metrics of fact injection read from a record: injections, answer curves, and what is kept of them.

Notation of Chang et al. 2024 (arXiv 2406.11813): l is the log-probability of the answer, mean over its tokens;
t_i are the steps done right before injection i; LAM, the local acquisition maximum, is the step in
(t_i, t_i + window] at which l is highest. Items that are never trained, the group `never` and the twins, are
the control: what they do over the same steps is taken off.

A maximum of noisy values lies above their mean, so a curve read at its own maximum shows learning where there is
none. Here the place of the maximum is found on some of the facts and of the controls, and read on the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmem import NotApplicable, Relation, RunRecord
from seqmem_plugins.metrics._curves import Missing, once_per_run

Array = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]
Rows = npt.NDArray[np.bool_]

GROUPS = ("duplicate", "paraphrase", "once")
"""How the published schedule injects a fact: the same text again, other wordings, a single time."""

SPLITS = 8
_ANSWER = ("step", "probe", "fact", "correct", "logprob", "tokens")


@dataclass(frozen=True, eq=False)
class Curves:
    """Answers on one rung.

    Attributes:
        steps: steps done at each probe, ascending.
        value: (probes, steps) what was asked for, NaN where it was not.
        fact: (probes,) the fact asked for.
        control: (probes,) True where no trained row ever states that fact.
    """

    steps: Steps
    value: Array
    fact: npt.NDArray[np.object_]
    control: npt.NDArray[np.bool_]

    def at(self, step: int) -> Array:
        """Value of every probe at one step; all NaN where nothing was asked."""
        place = int(self.steps.searchsorted(step))
        found = place < len(self.steps) and self.steps[place] == step
        return self.value[:, place] if found else np.full(len(self.fact), np.nan)

    def mean(self, rows: npt.NDArray[np.bool_], since: int | None = None) -> pd.Series:
        """Mean over some probes, by step; minus each one's value at step `since`, where that is given."""
        value = self.value if since is None else self.value - self.at(since)[:, None]
        table = pd.DataFrame(value[rows], columns=self.steps)
        return pd.Series(table.mean().to_numpy(), index=self.steps, dtype=float).dropna()

    def by_fact(self) -> Curves:
        """The same with one row per fact, at each step the mean of its probes that were asked there."""
        facts, place = np.unique(self.fact.astype(str), return_inverse=True)
        mean = pd.DataFrame(self.value).groupby(place).mean().to_numpy(dtype=np.float64)
        control = pd.Series(self.control).groupby(place).all().to_numpy(dtype=np.bool_)
        return Curves(self.steps, mean, facts.astype(object), control)


@dataclass(frozen=True)
class Injection:
    """A fact is trained by the step that follows `start`, that is t_i, and watched up to step `until`."""

    fact: str
    group: str
    start: int
    until: int


@dataclass(frozen=True, eq=False)
class Watched:
    """Facts and controls from one step on, wherever both were asked.

    Attributes:
        start: the step the change is counted from.
        steps: (k,) later steps.
        facts: (n,) fact of each probe.
        controls: (m,) fact of each never-trained probe.
        own: (n, k) l - l(start), nats per token.
        control: (m, k) the same of the never-trained items.
    """

    start: int
    steps: Steps
    facts: npt.NDArray[np.object_]
    controls: npt.NDArray[np.object_]
    own: Array
    control: Array

    @property
    def better(self) -> Array:
        """(n, k) change of each fact's probe minus the mean change of the controls."""
        return np.asarray(self.own - self.control.mean(axis=0))


@once_per_run
def answer_curves(
    run: RunRecord, relation: Relation | None = None, quantity: Literal["logprob", "correct"] = "logprob"
) -> Curves:
    """Every answer on one rung (None: the primary one), asked without cue or context, on whatever schedule.

    The log-probability is per token of the answer (nats), right answers are 1.
    """
    rows = pd.concat([run.asked(relation=relation, twins=twins, columns=_ANSWER) for twins in (False, True)])
    if rows.empty:
        raise Missing(f"nothing was asked on the rung {relation or run.info['primary_relation']}")
    value = rows["logprob"] / rows["tokens"] if quantity == "logprob" else rows["correct"].astype(float)
    rows = rows.assign(value=value).drop_duplicates(["probe", "step"])
    table = rows.pivot(index="probe", columns="step", values="value").sort_index()
    facts = rows.drop_duplicates("probe").set_index("probe")["fact"].reindex(table.index)
    return Curves(
        table.columns.to_numpy(dtype=np.int64),
        table.to_numpy(dtype=np.float64),
        facts.to_numpy(dtype=object),
        ~facts.isin(run.exposures["fact"].unique()).to_numpy(dtype=np.bool_),
    )


def watch(curves: Curves, facts: set[str], start: int, after: int, until: int | None = None) -> Watched:
    """Change since `start` of these facts and of the controls, at the steps in (after, until] that asked them.

    Controls are the never-trained items asked wherever the facts were.

    Raises:
        Missing: one of the facts' probes was not asked at `start`, or no control was, or nothing later.
    """
    first = curves.at(start)
    mine = np.isin(curves.fact.astype(str), sorted(facts))
    if np.isnan(first[mine]).any():
        raise Missing(f"not all injected facts were asked right before an injection, at step {start}")
    change = curves.value - first[:, None]
    inside = (curves.steps > after) & (curves.steps <= (curves.steps[-1] if until is None else until))
    inside &= ~np.isnan(change[mine]).any(axis=0)
    if not inside.any():
        raise Missing(f"no probe in time after the injection at step {after}")
    change = change[:, inside]
    others = curves.control & ~np.isnan(change).any(axis=1)
    if not others.any():
        raise Missing(f"no never-trained item was asked beside the facts from step {start} on: no control")
    return Watched(
        start, curves.steps[inside], curves.fact[mine], curves.fact[others], change[mine], change[others]
    )


class Injected:
    """Injections and answer curves of one run, each read once."""

    def __init__(self, run: RunRecord) -> None:
        """Read from `run`.

        Raises:
            NotApplicable: the scenario asks nothing on the schedule ``inject``.
        """
        schedules = run.probes["schedule"].unique()
        if not any("inject" in names.split("+") for names in schedules):
            raise NotApplicable("the scenario does not ask right before and after injections")
        self.run = run
        self._windows: dict[tuple[Relation, str], list[Watched]] = {}
        self._after_last: dict[tuple[Relation, str], tuple[list[_Tail], list[Kept]]] = {}

    @cached_property
    def injections(self) -> tuple[Injection, ...]:
        """Every injection of every fact, by fact and step.

        An injection is a step of an experience of phase ``inject`` in which the protocol states the fact; what
        a strategy rehearses is none. A window ends early where its fact is injected again.
        """
        window = int(self.run.recipe["scenario"]["options"]["local_window"])
        groups = self.run.items.drop_duplicates("fact").set_index("fact")["group"]
        stated = self.run.exposures.join(groups, on="fact", how="inner")
        stated = stated[stated["count"] > stated["rehearsed"]]
        found = [
            stated[stated["step"].between(first + 1, first + steps)]
            for phase, first, steps in self.run.experiences[["phase", "first_step", "steps"]].itertuples(
                index=False
            )
            if phase == "inject"
        ]
        if not sum(map(len, found)):
            raise Missing("no fact is injected at a step of its own in this stream")
        return tuple(
            Injection(str(fact), str(group), start, min(start + window, following))
            for (fact, group), rows in pd.concat(found).groupby(["fact", "group"])
            for start, following in _with_next(sorted(rows["step"].tolist()))
        )

    def of_group(self, group: str | None) -> Mapping[str, list[Injection]]:
        """Injections by group; of one group, where it is named."""
        found: dict[str, list[Injection]] = defaultdict(list)
        for one in self.injections:
            if group in (None, one.group):
                found[one.group].append(one)
        if not found:
            raise Missing(f"no fact of the group {group!r} is injected in this stream")
        return found

    def curves(self, relation: Relation) -> Curves:
        """Answers on one rung."""
        return answer_curves(self.run, relation)

    def after_last(self, relation: Relation, group: str) -> tuple[list[_Tail], list[Kept]]:
        """Of one group, its facts from their last injections on, and what they keep of their improvement."""
        if (relation, group) not in self._after_last:
            tails = _tails(self.curves(relation).by_fact(), self.of_group(group)[group])
            self._after_last[relation, group] = tails, list(_split(tails))
        return self._after_last[relation, group]

    def windows(self, relation: Relation, group: str) -> list[Watched]:
        """Of one group, every injection step: its facts and the controls inside the window, once per length."""
        if (relation, group) not in self._windows:
            self._windows[relation, group] = self._watched(relation, group)
        return self._windows[relation, group]

    def _watched(self, relation: Relation, group: str) -> list[Watched]:
        curves = self.curves(relation)
        together: dict[tuple[int, int], set[str]] = defaultdict(set)
        for one in self.of_group(group)[group]:
            if one.fact in curves.fact:
                together[one.start, one.until].add(one.fact)
        if not together:
            raise Missing(f"no injected fact of the group {group!r} was asked on the rung {relation}")
        return [
            watch(curves, facts, start, start, until) for (start, until), facts in sorted(together.items())
        ]


def _with_next(steps: list[int]) -> list[tuple[int, int]]:
    """Steps done before each of these steps, and before the one after it."""
    starts = [int(step) - 1 for step in steps]
    return list(zip(starts, [*starts[1:], 2**62], strict=True))


def splits(
    names: Sequence[npt.NDArray[np.object_]], parts: int = 2
) -> Iterator[tuple[list[Rows], list[Rows]]]:
    """Split the facts named here at random; of each part the rows to find on, all others, and those to read on.

    Split anew until every fact was read at least `SPLITS` * 2 / `parts` times, and once at the least.

    Args:
        names: the fact of each row, for several tables; a fact is in the same part in all of them.
        parts: at least 2; no more than there are facts.

    Raises:
        Missing: there is one fact only.
    """
    facts, code = np.unique(np.concatenate(names).astype(str), return_inverse=True)
    if len(facts) < 2:
        raise Missing("a maximum is found on some items and read on others: two are needed")
    ends = np.cumsum([len(part) for part in names])[:-1]
    random = np.random.default_rng(0)
    for _ in range(-(-2 * SPLITS // parts)):
        for members in np.array_split(random.permutation(len(facts)), parts):
            read = np.isin(code, members)
            yield np.split(~read, ends), np.split(read, ends)


def items_in(names: Sequence[npt.NDArray[np.object_]]) -> int:
    """Different facts among those named."""
    return len(np.unique(np.concatenate(names).astype(str)))


def mean_better(
    seen: Sequence[Watched], inside: Sequence[Rows], own: Sequence[Rows], control: Sequence[Rows]
) -> Array:
    """Mean change of some facts minus that of some controls, pooled over what was watched.

    Args:
        seen: watched over the same number of steps, of which `inside` says which count.
        inside: per entry, (k,) True for a step that counts.
        own: per entry, which of its facts count.
        control: per entry, which of its controls are taken off.
    """
    total, rows = np.zeros(int(inside[0].sum())), 0
    for one, here, mine, others in zip(seen, inside, own, control, strict=True):
        if mine.any():
            if not others.any():
                raise Missing("too few never-trained items to find a maximum on some and read it on others")
            change = one.own[mine].sum(axis=0) - mine.sum() * one.control[others].mean(axis=0)
            total, rows = total + change[here], rows + int(mine.sum())
    return np.asarray(total / rows)


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


def kept(injected: Injected, relation: Relation, group: str | None = None) -> list[Kept]:
    """What is kept of the improvement at the last local maximum, all facts of the group pooled.

    Raises:
        Missing: the improvement is under two standard errors, over facts and over controls.
    """
    found: list[Kept] = []
    own, control = 0.0, 0.0
    for name in injected.of_group(group):
        tails, parts = injected.after_last(relation, name)
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


def _total(parts: list[Kept]) -> float:
    """Improvement summed over facts: the denominator of retainability."""
    return sum(part.weight * part.gain for part in parts)


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


def _tails(curves: Curves, injections: list[Injection]) -> list[_Tail]:
    own: dict[str, list[Injection]] = defaultdict(list)
    for one in injections:
        if one.fact in curves.fact:
            own[one.fact].append(one)
    together: dict[tuple[int, int, int], set[str]] = defaultdict(set)
    for fact, steps in own.items():
        together[steps[0].start, steps[-1].start, steps[-1].until].add(fact)
    if not together:
        raise Missing("no injected fact was asked on this rung")
    found = []
    for (first, last, until), facts in sorted(together.items()):
        seen = watch(curves, facts, first, last)
        found.append(_Tail(until - last, seen.steps - last, seen))
    return found


def _lags(tails: list[_Tail]) -> Steps:
    """Steps since the last injection at which every fact was asked inside its window."""
    common = set.intersection(*(set(tail.lags[tail.lags <= tail.window].tolist()) for tail in tails))
    if not common:
        raise Missing("no probe in the window after the last injection")
    return np.array(sorted(common))


def _errors(tails: list[_Tail]) -> tuple[float, float]:
    """Standard errors of the mean improvement at the local maximum: over facts, and over controls."""
    lags = _lags(tails)
    won = np.concatenate([tail.seen.better[:, np.isin(tail.lags, lags)] for tail in tails])
    place = int(won.mean(axis=0).argmax())
    control = tails[0].seen.control[:, np.flatnonzero(tails[0].lags == lags[place])[0]]
    return _standard_error(won[:, place]), _standard_error(control)


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def _split(tails: list[_Tail]) -> Iterator[Kept]:
    """Of every split, both ways: LAM found on one half, and what the other half has from there on."""
    lags = _lags(tails)
    inside = [np.isin(tail.lags, lags) for tail in tails]
    seen = [tail.seen for tail in tails]
    facts, controls = splits([one.facts for one in seen]), splits([one.controls for one in seen])
    for (find, read), (find_control, read_control) in zip(facts, controls, strict=True):
        lag = int(lags[mean_better(seen, inside, find, find_control).argmax()])
        for tail, mine, others in zip(tails, read, read_control, strict=True):
            if mine.any():
                curve = mean_better([tail.seen], [np.ones(len(tail.lags), dtype=np.bool_)], [mine], [others])
                later = tail.lags > lag
                gain = float(curve[tail.lags == lag][0])
                yield Kept(int(mine.sum()) / SPLITS, gain, tail.lags[later] - lag, curve[later])


def retained(parts: list[Kept]) -> tuple[Array, Array]:
    """log10 t and R(t) = [l(LAM + t) - l(t_1)] / [l(LAM) - l(t_1)], a point per doubling of t.

    Sums over facts are divided, not facts one by one: the published mean of ratios needs outliers taken out
    where a denominator is small. Probes inside a doubling (1, 2-3, 4-7, ...) are averaged first, because
    probes are dense right after an injection and sparse later on. Doublings in which not every fact was asked
    are left out.
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
    """R at the last probe, all facts pooled."""
    if any(not len(part.later) for part in parts):
        raise Missing("facts were not asked after their last local maximum")
    return sum(part.weight * float(part.later[-1]) for part in parts) / _total(parts)


def facts_of(parts: list[Kept]) -> int:
    """Facts behind what is kept."""
    return round(sum(part.weight for part in parts))
