"""Interference: what do new facts cost the old ones?

An arrival is the first experience that trains a group of facts by itself (a group of `long_term`, a loop of
`memory_loops`); old facts are those trained before it in another group. Later visits to a group do not count as
arrivals. The difference to never-trained items, not the old facts' loss itself, says what is lost: training any
facts makes such answers more probable, trained or not. New facts cost more than other text where `interference` is
above `interference.background`. Never-trained items are all of them, not the old facts' twins alone.

Margin: .05 nats per token is a fortieth of the 2 nats that a first visit wins in the synthetic learners of
docs/calibration.md, whose runs differ by .06.

Version 2: a fact that several probes ask for at different steps, as in `memory_loops`, whose rest scores rivals too,
counts at each step with the probes asked there. In version 1 such facts had no value at all.

None without never-trained items; `interference.background` where background does not lie beside every arrival. Left
out where groups do not arrive one after another, as under `joint`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value, reading
from seqmem.reading import Curves, Rows


@dataclass(frozen=True)
class Arrival:
    """A group of facts is trained for the first time.

    Attributes:
        label: the group's task label.
        start, end: steps done before and after the experience that first trains it.
        beside: (start, end) of the background experiences right before and right after it.
    """

    label: int
    start: int
    end: int
    beside: tuple[tuple[int, int], ...]


class Groups:
    """Groups of facts in the order in which they arrive, and the answers in the primary probe form by step."""

    def __init__(self, run: RunRecord) -> None:
        """Read a run.

        Raises:
            NotApplicable: no group is first trained in an experience of its own after another had been.
        """
        self.run = run
        self.arrivals = () if run.info["primary_relation"] == "general" else self._arrivals()
        if len(self.arrivals) < 2:
            raise NotApplicable("no group of facts is first trained, by itself, after another group")

    @cached_property
    def known(self) -> pd.DataFrame:
        """Return task label and first exposure of every fact that is ever trained, by fact."""
        labels = self.run.items.drop_duplicates("fact").set_index("fact")["task_label"]
        # whatever it answers: where one visit states the questions of all groups, none of them arrives by itself
        first = reading.stream_exposures(self.run).groupby("fact")["step"].min()
        return pd.DataFrame({"label": labels, "first": first}).dropna()

    @cached_property
    def logprob(self) -> Curves:
        """Return the answer log-probability per token, by fact."""
        return reading.answer_curves(self.run).by_fact()

    @cached_property
    def right(self) -> Curves:
        """Return right answers, by fact."""
        return reading.answer_curves(self.run, quantity="right").by_fact()

    def _arrivals(self) -> tuple[Arrival, ...]:
        table = self.run.experiences
        ends = table["first_step"] + table["steps"]
        found = []
        first = self.known.groupby("label")["first"].min().sort_values(kind="stable")
        for label, step in zip(first.index.to_numpy(dtype=int), first.to_numpy(), strict=True):
            inside = table[(table["first_step"] < step) & (step <= ends) & table["start_from"].isna()]
            own = inside[(inside["task_label"] == label) & (inside["phase"] != "rest")]
            for place in own.index:
                general = [
                    (int(table["first_step"][i]), int(ends[i]))
                    for i in (place - 1, place + 1)
                    if i in table.index and table["phase"][i] == "general"
                ]
                start, end = int(table["first_step"][place]), int(ends[place])
                found.append(Arrival(int(label), start, end, tuple(general)))
        return tuple(found)

    def older(self, curves: Curves, arrival: Arrival) -> Rows:
        """Mark the facts of the curves that had been trained, in another group, when this one arrived."""
        before = self.known[(self.known["first"] <= arrival.start) & (self.known["label"] != arrival.label)]
        return curves.of(before.index)


seqmem_api = ">=1,<2"
metric = Metric(
    "interference",
    version="2",
    summary="what first training new facts costs the facts trained before",
    reads=Groups,
    figure="seqmem_plugins.metrics.figures.interference",
)
seqmem_metric = metric.hook


def change(curves: Curves, facts: Rows, start: int, end: int) -> float:
    """Return the mean change of these facts between two steps, minus that of the never-trained items."""
    for step in (start, end):
        if step not in curves.steps:
            raise Missing(f"nothing was asked at step {step}")
    moved = curves.at(end) - curves.at(start)
    asked = ~np.isnan(moved)
    if not (asked & curves.control).any():
        raise Missing(f"no never-trained item was asked at steps {start} and {end}: there is no control")
    if not (asked & facts).any():
        raise Missing(f"no older fact was asked at steps {start} and {end}")
    return float(moved[asked & facts].mean() - moved[asked & curves.control].mean())


def _over_arrivals(groups: Groups, curves: Curves, cost: Callable[[Rows, Arrival], float]) -> Value:
    """Return the mean of a cost over arrivals that find older facts; its items are those facts."""
    found = [(facts, one) for one in groups.arrivals if (facts := groups.older(curves, one)).any()]
    if not found:
        raise Missing("no older fact was asked when a group arrived")
    items = np.any([facts for facts, _ in found], axis=0)
    return Value(float(np.mean([cost(facts, one) for facts, one in found])), int(items.sum()))


@metric.measure(
    "interference", "nats/token", "lower", "rise of old facts' loss while new ones are trained", margin=0.05
)
def interference(groups: Groups) -> Value:
    """Return the rise of older facts' answer loss while facts are first trained, minus never-trained items'.

    Mean over older facts, then over arriving groups. Unit: nats per token; any number, 0 without
    interference; lower is better.
    """
    return _lost(groups, groups.logprob)


@metric.measure("interference.recall", "fraction", "lower", "fall of old facts' recall over the same steps")
def recall_lost(groups: Groups) -> Value:
    """Return the fall of older facts' recall over the same steps, minus never-trained items'.

    Unit: fraction; range -2 to 2; lower is better.
    """
    return _lost(groups, groups.right)


def _lost(groups: Groups, curves: Curves) -> Value:
    return _over_arrivals(groups, curves, lambda facts, one: -change(curves, facts, one.start, one.end))


@metric.measure("interference.background", "nats/token", "lower", "what as many background steps cost them")
def background(groups: Groups) -> Value:
    """Return what as many steps of background cost the same older facts, in the same units as `interference`.

    From the background experiences right before and right after each arrival, per step, their mean. None where an
    arrival after the first has no background beside it: a mean over the others would not compare with
    `interference`. New facts interfere beyond background where `interference` is above this. Unit: nats per
    token; any number; lower is better.
    """
    curves = groups.logprob

    def cost(facts: Rows, one: Arrival) -> float:
        rates = [-change(curves, facts, start, end) / (end - start) for start, end in one.beside]
        return float(np.mean(rates)) * (one.end - one.start)

    if not all(one.beside for one in groups.arrivals[1:]):
        raise Missing("not every group that arrives has background trained right before or after it")
    return _over_arrivals(groups, curves, cost)
