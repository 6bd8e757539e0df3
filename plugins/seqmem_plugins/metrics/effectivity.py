"""Effectivity: how much does one injection of a fact do?

For scenarios that ask right before an injection of facts and after each of the next steps (`fact_injection`). l is
the answer's log-probability, mean over its tokens; t_i the steps done before injection i; LAM, the local
acquisition maximum, the step in (t_i, t_i + `local_window`] at which l is highest. Controls are the items that no
trained row states: the group `never`, and twins where they are asked beside the facts. What they do over the same
steps is taken off.

A curve read at its own maximum has learned something in pure noise, and taking off the same maximum of never-trained
items (`effectivity.published`) takes off too much where something was learned: noise adds less to a maximum whose
place the signal decides. So a group's facts are split into 8 parts, and the controls too. LAM, counted from t_i, is
where the mean over seven parts of each, facts minus controls, is highest, and it is read on the eighth; each part in
turn, two splits. With few facts and one injection the place is missed now and then: a rise of .85 then reads .82.

An injection is every step of an experience of phase `inject` in which the protocol itself states the fact; what a
strategy rehearses is none. Where a fact is injected again inside its window, the window ends there.

Chang et al. 2024 (arXiv 2406.11813), equations 1 to 3: l per token of the target span, mean over probes and
encounters. Ours are the controls, the split, and that no outliers are removed.

Margin: .02 nats per token; runs that learn nothing differ by .015 to .04 (docs/calibration.md).

Version 2: eight parts in place of two halves, which missed more maxima and read a rise of .85 as .80.

None without controls, under two facts in a group or two controls, on a rung that is not asked, and under `joint`,
which injects nothing at a step of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqmem import COLOURS, Measure, MetricSpec, NotApplicable, Relation, RunRecord, Value, clean, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt
from seqmem_plugins.metrics._injections import (
    GROUPS,
    Array,
    Injected,
    Rows,
    Steps,
    Watched,
    facts_of,
    items_in,
    kept,
    mean_better,
    retained_at_end,
    splits,
)
from seqmem_plugins.metrics._panels import CONTROL, MOST_ROWS, finish, line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"

MAIN: Relation = "verbatim"
RUNGS: tuple[Relation, ...] = (MAIN, "paraphrase", "question")
NEVER = "never trained"
PARTS = 8
"""Into which facts and controls are split, where there are as many. With more parts the maximum is found better and
what was learned is read whole; with fewer, different places are read and noise alone spreads less."""


@dataclass(frozen=True, eq=False)
class Rises:
    """Injections of one group's facts, watched over windows of one length.

    Attributes:
        lags: (k,) steps since t_i that every window was asked at.
        windows: the facts injected at a step and the controls, each with the changes since then.
    """

    lags: Steps
    windows: list[Watched]

    @property
    def rows(self) -> int:
        """Probes times injections."""
        return sum(len(seen.facts) for seen in self.windows)

    @cached_property
    def _inside(self) -> list[Rows]:
        return [np.isin(seen.steps - seen.start, self.lags) for seen in self.windows]

    def _better(self, own: Sequence[Rows], control: Sequence[Rows]) -> Array:
        return mean_better(self.windows, self._inside, own, control)

    def mean(self) -> Array:
        """(k,) mean of all facts minus all controls."""
        own = [np.ones(len(seen.facts), dtype=np.bool_) for seen in self.windows]
        return self._better(own, [np.ones(len(seen.controls), dtype=np.bool_) for seen in self.windows])

    def crossed(self) -> float:
        """Mean of each part of the facts minus one of the controls where all other parts have their maximum."""
        if len(self.lags) == 1:  # nowhere to choose from
            return float(self.mean()[0])
        facts = [seen.facts for seen in self.windows]
        controls = [seen.controls for seen in self.windows]
        parts = max(2, min(PARTS, items_in(facts), items_in(controls)))
        found, rows = [], []
        for (find, read), (find_control, read_control) in zip(
            splits(facts, parts), splits(controls, parts), strict=True
        ):
            place = self._better(find, find_control).argmax()
            found.append(self._better(read, read_control)[place])
            rows.append(sum(int(mine.sum()) for mine in read))
        return float(np.average(found, weights=rows))


def rises(injected: Injected, relation: Relation = MAIN, group: str | None = None) -> list[Rises]:
    """Every injection, by group and length of window."""
    found = []
    for name in injected.of_group(group):
        by_length: dict[int, list[Watched]] = defaultdict(list)
        for seen in injected.windows(relation, name):
            by_length[int(seen.steps[-1]) - seen.start].append(seen)
        for windows in by_length.values():
            lags = set.intersection(*(set((seen.steps - seen.start).tolist()) for seen in windows))
            found.append(Rises(np.array(sorted(lags)), windows))
    return found


def _pooled(parts: list[Rises], values: Sequence[float]) -> float:
    return float(np.average(values, weights=[part.rows for part in parts]))


def _facts(parts: list[Rises]) -> int:
    return items_in([seen.facts for part in parts for seen in part.windows])


def effectivity(injected: Injected, relation: Relation = MAIN, group: str | None = None) -> Value:
    """E = l(LAM) - l(t_i), mean over probes and injections, minus that of never-trained items.

    Equation 2 of Chang et al. 2024. l is the log-probability of the answer, mean over its tokens; LAM is the step
    of (t_i, t_i + local_window], counted from t_i, at which the mean over other facts of the same group, minus
    other never-trained items, is highest. Unit: nats per token; any number, 0 without learning; higher is better.
    """
    parts = rises(injected, relation, group)
    return Value(_pooled(parts, [part.crossed() for part in parts]), _facts(parts))


def published(injected: Injected) -> Value:
    """The same with LAM as published, each probe's own maximum, minus the same statistic of never-trained items.

    Too low where noise is as large as the rise: the more the signal decides where the maximum is, the less
    noise adds to it, and the whole of what noise alone adds is taken off. Unit: nats per token; any number, 0
    without learning; higher is better.
    """
    windows = _all_windows(injected)
    own = [seen.own.max(axis=1) - seen.control.max(axis=1).mean() for seen in windows]
    return Value(float(np.concatenate(own).mean()), len({fact for seen in windows for fact in seen.facts}))


def _all_windows(injected: Injected) -> list[Watched]:
    return [seen for group in injected.of_group(None) for seen in injected.windows(MAIN, group)]


def chance_rise(injected: Injected) -> Value:
    """What `effectivity.published` took off: max l - l(t_i) of never-trained items, over the same injections.

    Unit: nats per token; any number; neither way is better.
    """
    windows = _all_windows(injected)
    highest = [float(seen.control.max(axis=1).mean()) for seen in windows]
    controls = len(set(injected.curves(MAIN).fact[injected.curves(MAIN).control]))
    return Value(float(np.average(highest, weights=[len(seen.facts) for seen in windows])), controls)


def drift(injected: Injected) -> Value:
    """Change of l of never-trained items from before the first injection to the end: are the controls flat?

    Unit: nats per token; any number; neither way is better.
    """
    start, curves = min(one.start for one in injected.injections), injected.curves(MAIN)
    change = (curves.value[:, -1] - curves.at(start))[curves.control]
    asked = ~np.isnan(change)
    if not asked.any():
        raise Missing("no never-trained item was asked both before the first injection and at the end")
    return Value(float(change[asked].mean()), len(set(curves.fact[curves.control][asked])))


def local_maximum(injected: Injected) -> Value:
    """Steps from t_i to the maximum of the mean curve of a group, over its injections, minus the controls'.

    Mean over groups, weighed by their injections. Unit: steps; range 1, right after the step that trains the
    facts, to local_window; neither way is better. Noise alone gives about half of the window.
    """
    parts = rises(injected)
    return Value(_pooled(parts, [float(part.lags[part.mean().argmax()]) for part in parts]), _facts(parts))


def retainability(injected: Injected) -> Value:
    """R at the end of the stream: share of the improvement at the last local maximum that is still there.

    Equation 3 of Chang et al. 2024: R(t) = [l(LAM + t) - l(t_1)] / [l(LAM) - l(t_1)]; here each bracket is a
    sum over facts, minus that of never-trained items. Unit: fraction; any number, 1 where all is kept and 0
    where nothing is; higher is better.
    """
    parts = kept(injected, MAIN)
    return Value(retained_at_end(parts), facts_of(parts))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    injected = Injected(run)
    by_group = {
        f"effectivity.{group}": attempt(partial(effectivity, injected, MAIN, group)) for group in GROUPS
    }
    return {
        "effectivity": attempt(lambda: effectivity(injected)),
        **by_group,
        "effectivity.on_paraphrase": attempt(lambda: effectivity(injected, "paraphrase")),
        "effectivity.on_question": attempt(lambda: effectivity(injected, "question")),
        "effectivity.published": attempt(lambda: published(injected)),
        "effectivity.never": attempt(lambda: chance_rise(injected)),
        "effectivity.drift": attempt(lambda: drift(injected)),
        "effectivity.local_maximum": attempt(lambda: local_maximum(injected)),
        "effectivity.retainability": attempt(lambda: retainability(injected)),
    }


def course(injected: Injected, relation: Relation) -> Mapping[str, pd.Series]:
    """Mean l(t) - l(t_1) per group of injected facts and of never-trained items, by step (nats per token)."""
    curves, found = injected.curves(relation), {}
    facts = {group: [own.fact for own in members] for group, members in injected.of_group(None).items()}
    first = min(one.start for one in injected.injections)
    chosen = {group: np.isin(curves.fact.astype(str), own) for group, own in facts.items()}
    starts = {group: min(own.start for own in members) for group, members in injected.of_group(None).items()}
    for group, mine in {**chosen, NEVER: curves.control}.items():
        found[group] = curves.mean(mine, since=starts.get(group, first))
    return {group: change for group, change in found.items() if not change.empty}


def _courses(row: Row, relation: Relation) -> Mapping[int, Mapping[str, pd.Series]]:
    """The course on one rung by seed, where it can be had."""
    found = {}
    for seed, run in sorted(row.runs.items()):
        try:
            found[seed] = course(Injected(run), relation)
        except (Missing, NotApplicable):
            continue
    return found


def draw(rows: Sequence[Row]) -> Figure | None:
    """The answers' log-probability over steps, a line per group, a panel per rung: one row of panels per table row."""
    from matplotlib.figure import Figure

    courses = {(row.label, rung): _courses(row, rung) for row in rows for rung in RUNGS}
    shown = [row for row in rows if courses[row.label, MAIN]]
    rungs = [rung for rung in RUNGS if any(courses[row.label, rung] for row in shown)]
    if not shown:
        return None
    height = min(len(shown), MOST_ROWS)
    figure = Figure(figsize=(2.4 + 3.2 * len(rungs), 1.3 + 2.4 * height), layout="constrained")
    panels = figure.subplots(height, len(rungs), sharex=True, sharey=True, squeeze=False)
    for row, axes in zip(shown, panels, strict=False):
        starts = {one.start for one in Injected(row.runs[min(courses[row.label, MAIN])]).injections}
        for rung, axis in zip(rungs, axes, strict=True):
            by_seed = courses[row.label, rung]
            groups = sorted({group for found in by_seed.values() for group in found} - {NEVER})
            for group, colour in zip(groups, COLOURS, strict=False):
                line(axis, {s: found[group] for s, found in by_seed.items() if group in found}, colour, group)
            line(
                axis,
                {s: found[NEVER] for s, found in by_seed.items() if NEVER in found},
                CONTROL,
                NEVER,
                style="--",
            )
            for start in sorted(starts):
                axis.axvline(start, color="#bbbbbb", linewidth=0.6, linestyle=":", zorder=0)
            axis.set_title(clean(f"{row.label}: {rung}"))
            axis.margins(x=0.01)
        axes[0].set_ylabel("answer log-probability,\nchange since before the\nfirst injection (nats/token)")
    for axis in panels[-1]:
        axis.set_xlabel("optimizer steps (dotted: injections)")
    finish(figure, shown, "Answers around injections")
    return figure


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    nats = "nats/token"
    return [
        MetricSpec(
            name="effectivity",
            version="2",
            summary="rise of an answer's log-probability by one injection, beyond never-trained items",
            measures=(
                Measure("effectivity", nats, "higher", "rise per injection, trained wording", margin=0.02),
                Measure("effectivity.duplicate", nats, "higher", "the same of facts repeated word for word"),
                Measure(
                    "effectivity.paraphrase", nats, "higher", "the same of facts repeated in other words"
                ),
                Measure("effectivity.once", nats, "higher", "the same of facts injected once"),
                Measure(
                    "effectivity.on_paraphrase", nats, "higher", "rise when asked in an untrained wording"
                ),
                Measure("effectivity.on_question", nats, "higher", "rise when asked as a question"),
                Measure(
                    "effectivity.published", nats, "higher", "rise to each probe's own maximum, beyond chance"
                ),
                Measure(
                    "effectivity.never", nats, "none", "largest rise of never-trained items, taken off above"
                ),
                Measure("effectivity.drift", nats, "none", "change of never-trained items over the stream"),
                Measure(
                    "effectivity.local_maximum", "steps", "none", "steps to the maximum after an injection"
                ),
                Measure(
                    "effectivity.retainability",
                    "fraction",
                    "higher",
                    "share of the improvement left at the end",
                ),
            ),
            compute=_compute,
            draw=draw,
            citation="Chang et al. 2024, How do large language models acquire factual knowledge, arXiv 2406.11813",
        )
    ]
