"""Effectivity: how much does one injection of a fact do?

For scenarios that ask right before an injection of facts and after each of the next steps (`fact_injection`). l is
the answer's log-probability, mean over its tokens. t_i are the steps done before injection i. LAM, the local
acquisition maximum, is the step in (t_i, t_i + `local_window`] at which l is highest. Controls are the items that no
trained row states: the group `never`, and twins where they are asked beside the facts. What they do over the same
steps is taken off.

A curve read at its own maximum has learned something in pure noise, and taking off the same maximum of never-trained
items (`effectivity.published`) takes off too much where something was learned: noise adds less to a maximum whose
place the signal decides. So a group's facts are split into 8 parts, and the controls too. LAM, counted from t_i, is
where the mean over seven parts of each, facts minus controls, is highest, and it is read on the eighth; each part in
turn, two splits. With few facts and one injection the place is missed now and then: a rise of .85 then reads .82.

An injection is every step of an experience of phase `inject` in which the protocol itself states the fact; what a
strategy rehearses is not one. Where a fact is injected again inside its window, the window ends there.

Chang et al. 2024 (arXiv 2406.11813), equations 1 to 3: l per token of the target span, mean over probes and
encounters. Ours are the controls, the split, and that no outliers are removed.

Margin: .02 nats per token; runs that learn nothing differ by .015 to .04 (docs/calibration.md).

Version 2: eight parts in place of two halves, which missed more maxima and read a rise of .85 as .80.

None without controls, under two facts in a group or two controls, in a probe form that is not asked, and under `joint`,
which injects nothing at a step of its own.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from seqmem import Metric, Missing, Relation, RunRecord, Value, reading
from seqmem.reading import Watched
from seqmem_plugins.metrics._retained import GROUPS, MAIN, facts_of, kept, retained_at_end
from seqmem_plugins.metrics._rises import pooled, rises

seqmem_api = ">=1,<2"
metric = Metric(
    "effectivity",
    version="2",
    summary="rise of an answer's log-probability by one injection, beyond never-trained items",
    citation="Chang et al. 2024, How do large language models acquire factual knowledge, arXiv 2406.11813",
    figure="seqmem_plugins.metrics.figures.effectivity",
)
seqmem_metric = metric.hook

NATS = "nats/token"


@metric.measure("effectivity", NATS, "higher", "rise per injection, trained wording", margin=0.02)
def effectivity(run: RunRecord, relation: Relation = MAIN, group: str | None = None) -> Value:
    """Return E = l(LAM) - l(t_i), mean over probes and injections, minus that of never-trained items.

    Equation 2 of Chang et al. 2024. LAM is the step, counted from t_i, at which the mean over other facts of the same
    group, minus other never-trained items, is highest. Unit: nats per token; any number, 0 without learning; higher
    is better.
    """
    parts = rises(run, relation, group)
    return pooled(parts, [part.crossed() for part in parts])


for _group, _summary in GROUPS.items():
    metric.measure(f"effectivity.{_group}", NATS, "higher", _summary)(partial(effectivity, group=_group))
metric.measure("effectivity.on_paraphrase", NATS, "higher", "rise when asked in an untrained wording")(
    partial(effectivity, relation="paraphrase")
)
metric.measure("effectivity.on_question", NATS, "higher", "rise when asked as a question")(
    partial(effectivity, relation="question")
)


def _all_windows(run: RunRecord) -> list[Watched]:
    return [
        seen
        for group in reading.injections_by_group(run)
        for seen in reading.injection_windows(run, MAIN, group)
    ]


@metric.measure("effectivity.published", NATS, "higher", "rise to each probe's own maximum, beyond chance")
def published(run: RunRecord) -> Value:
    """Return the same with LAM as published, each probe's own maximum, minus that of never-trained items.

    Too low where noise is as large as the rise: the more the signal decides where the maximum is, the less
    noise adds to it, and the whole of what noise alone adds is taken off. Unit: nats per token; any number, 0
    without learning; higher is better.
    """
    windows = _all_windows(run)
    own = [seen.own.max(axis=1) - seen.control.max(axis=1).mean() for seen in windows]
    return Value(float(np.concatenate(own).mean()), len({fact for seen in windows for fact in seen.facts}))


@metric.measure("effectivity.never", NATS, "none", "largest rise of never-trained items, taken off above")
def chance_rise(run: RunRecord) -> Value:
    """Return what `effectivity.published` took off: max l - l(t_i) of never-trained items, over the same injections.

    Unit: nats per token; any number; no direction is better.
    """
    windows, curves = _all_windows(run), reading.answer_curves(run, MAIN)
    highest = [float(seen.control.max(axis=1).mean()) for seen in windows]
    mean = np.average(highest, weights=[len(seen.facts) for seen in windows])
    return Value(float(mean), len(set(curves.fact[curves.control])))


@metric.measure("effectivity.drift", NATS, "none", "change of never-trained items over the stream")
def drift(run: RunRecord) -> Value:
    """Return the change of l of never-trained items from before the first injection to the end: are they flat?

    Unit: nats per token; any number; no direction is better.
    """
    start, curves = reading.first_injection(run), reading.answer_curves(run, MAIN)
    change = (curves.value[:, -1] - curves.at(start))[curves.control]
    asked = ~np.isnan(change)
    if not asked.any():
        raise Missing("no never-trained item was asked both before the first injection and at the end")
    return Value(float(change[asked].mean()), len(set(curves.fact[curves.control][asked])))


@metric.measure("effectivity.local_maximum", "steps", "none", "steps to the maximum after an injection")
def local_maximum(run: RunRecord) -> Value:
    """Return the steps from t_i to the maximum of the mean curve of a group, over its injections, minus the controls'.

    Mean over groups, weighed by their injections. Unit: steps; range 1, right after the step that trains the
    facts, to local_window; no direction is better. Noise alone gives about half of the window.
    """
    parts = rises(run, MAIN, None)
    return pooled(parts, [float(part.lags[part.mean().argmax()]) for part in parts])


@metric.measure(
    "effectivity.retainability",
    "fraction",
    "higher",
    "share of the improvement left at the end",
    role="kept",
)
def retainability(run: RunRecord) -> Value:
    """Return R at the end of the stream: the share of the improvement at the last local maximum that is still there.

    Equation 3 of Chang et al. 2024: R(t) = [l(LAM + t) - l(t_1)] / [l(LAM) - l(t_1)]; here each bracket is a
    sum over facts, minus that of never-trained items. Unit: fraction; any number, 1 where all is kept and 0
    where nothing is; higher is better.
    """
    parts = kept(run)
    return Value(retained_at_end(parts), facts_of(parts))
