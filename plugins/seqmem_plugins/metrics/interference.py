"""Interference: what do new facts cost the old ones?

An arrival is the first experience that trains a group of facts by itself (a group of `long_term`, a loop of
`memory_loops`); old facts are those trained before it in another group. Later visits to a group are no arrivals.
The difference to never-trained items, not the old facts' loss itself, says what is lost: training any facts makes
such answers more probable, trained or not. New facts cost more than other text where `interference` is above
`interference.background`.

Margin: .05 nats per token is a fortieth of the 2 nats that a first visit wins in the synthetic learners of
docs/calibration.md, whose runs differ by .06.

Version 2: a fact that several probes ask for at different steps, as in `memory_loops`, whose rest scores rivals too,
counts at each step with the probes asked there. In version 1 such facts had no value at all.

None without never-trained items; `interference.background` where background does not lie beside every arrival. Left
out where groups do not arrive one after another, as under `joint`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmem import COLOURS, Measure, MetricSpec, NotApplicable, RunRecord, Value, clean, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt, stream_exposures
from seqmem_plugins.metrics._injections import Curves, answer_curves
from seqmem_plugins.metrics._panels import CONTROL, MOST_ROWS, finish, line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"

Facts = npt.NDArray[np.bool_]


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
    """Groups of facts in the order in which they arrive, and the answers on the primary rung by step."""

    def __init__(self, run: RunRecord) -> None:
        """Read from `run`.

        Raises:
            NotApplicable: no group is first trained in an experience of its own after another had been.
        """
        self.run = run
        self.arrivals = () if run.info["primary_relation"] == "general" else self._arrivals()
        if len(self.arrivals) < 2:
            raise NotApplicable("no group of facts is first trained, by itself, after another group")

    @cached_property
    def known(self) -> pd.DataFrame:
        """Task label and first exposure of every fact that is ever trained, by fact."""
        labels = self.run.items.drop_duplicates("fact").set_index("fact")["task_label"]
        # whatever it answers: where one visit states the questions of all groups, none of them arrives by itself
        first = stream_exposures(self.run).groupby("fact")["step"].min()
        return pd.DataFrame({"label": labels, "first": first}).dropna()

    @cached_property
    def logprob(self) -> Curves:
        """Answer log-probability per token, by fact."""
        return answer_curves(self.run).by_fact()

    @cached_property
    def correct(self) -> Curves:
        """Right answers, by fact."""
        return answer_curves(self.run, quantity="correct").by_fact()

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

    def older(self, curves: Curves, arrival: Arrival) -> Facts:
        """Which facts of the curves had been trained, in another group, when this one arrived."""
        before = self.known[(self.known["first"] <= arrival.start) & (self.known["label"] != arrival.label)]
        return np.isin(curves.fact.astype(str), before.index.to_numpy(dtype=str))


def change(curves: Curves, facts: Facts, start: int, end: int) -> float:
    """Mean change of these facts from one step to another, minus that of the never-trained items."""
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


def _over_arrivals(groups: Groups, curves: Curves, cost: Callable[[Facts, Arrival], float]) -> Value:
    """Mean of a cost over arrivals that find older facts; its items are those facts."""
    found = [(facts, one) for one in groups.arrivals if (facts := groups.older(curves, one)).any()]
    if not found:
        raise Missing("no older fact was asked when a group arrived")
    items = np.any([facts for facts, _ in found], axis=0)
    return Value(float(np.mean([cost(facts, one) for facts, one in found])), int(items.sum()))


def interference(groups: Groups) -> Value:
    """Rise of older facts' answer loss while a group of facts is first trained, minus never-trained items'.

    Mean over older facts, then over arriving groups. Unit: nats per token; any number, 0 without
    interference; lower is better.
    """
    curves = groups.logprob
    return _over_arrivals(groups, curves, lambda facts, one: -change(curves, facts, one.start, one.end))


def recall_lost(groups: Groups) -> Value:
    """Fall of older facts' recall over the same steps, minus never-trained items'.

    Unit: fraction; range -2 to 2; lower is better.
    """
    curves = groups.correct
    return _over_arrivals(groups, curves, lambda facts, one: -change(curves, facts, one.start, one.end))


def background(groups: Groups) -> Value:
    """What as many steps of background cost the same older facts, in the same units as `interference`.

    From the background experiences right before and right after each arrival, per step, their mean. None where an
    arrival after the first has no background beside it: a mean over the others would not compare with
    `interference`. New facts interfere beyond background where `interference` is above this. Unit: nats per
    token; any number; lower is better.
    """
    curves = groups.logprob

    def cost(facts: Facts, one: Arrival) -> float:
        rates = [-change(curves, facts, start, end) / (end - start) for start, end in one.beside]
        return float(np.mean(rates)) * (one.end - one.start)

    if not all(one.beside for one in groups.arrivals[1:]):
        raise Missing("not every group that arrives has background trained right before or after it")
    return _over_arrivals(groups, curves, cost)


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    groups = Groups(run)
    return {
        "interference": attempt(lambda: interference(groups)),
        "interference.recall": attempt(lambda: recall_lost(groups)),
        "interference.background": attempt(lambda: background(groups)),
    }


NEVER = "never trained"


def course(groups: Groups) -> Mapping[str, pd.Series]:
    """Mean answer loss per group from its first training on, and of never-trained items, by step."""
    curves = groups.logprob
    found = {NEVER: -curves.mean(curves.control)}
    for arrival in groups.arrivals:
        own = groups.known.index[groups.known["label"] == arrival.label]
        loss = -curves.mean(np.isin(curves.fact.astype(str), own.to_numpy(dtype=str)))
        found[f"group {arrival.label}"] = loss[loss.index.to_numpy() >= arrival.start]
    return found


def draw(rows: Sequence[Row]) -> Figure | None:
    """Answer loss of each group from its own training on, with the arrivals of the later groups marked."""
    from matplotlib.figure import Figure

    found: dict[str, dict[int, tuple[Groups, Mapping[str, pd.Series]]]] = {}
    for row in rows:
        found[row.label] = {}
        for seed, run in sorted(row.runs.items()):
            try:
                groups = Groups(run)
                found[row.label][seed] = groups, course(groups)
            except (Missing, NotApplicable):
                continue
    shown = [row for row in rows if found[row.label]]
    if not shown:
        return None
    height = min(len(shown), MOST_ROWS)
    figure = Figure(figsize=(9, 1.3 + 2.6 * height), layout="constrained")
    panels = figure.subplots(height, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for row, axis in zip(shown, panels, strict=False):
        by_seed = found[row.label]
        first, courses = by_seed[min(by_seed)]
        for arrival, colour in zip(first.arrivals, COLOURS, strict=False):
            name = f"group {arrival.label}"
            line(
                axis,
                {s: one[name] for s, (_, one) in by_seed.items() if name in one},
                colour,
                name,
                marker=".",
            )
            axis.axvspan(arrival.start, arrival.end, color=colour, alpha=0.15, linewidth=0)
        line(axis, {s: one[NEVER] for s, (_, one) in by_seed.items()}, CONTROL, NEVER, style="--")
        axis.set_title(clean(row.label))
        axis.set_ylabel("answer loss (nats/token)")
        axis.margins(x=0.01)
    panels[-1].set_xlabel("optimizer steps (shaded: a group is first trained, in its colour)")
    finish(figure, shown, "Old facts while new ones arrive")
    return figure


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="interference",
            version="2",
            summary="what first training new facts costs the facts trained before",
            measures=(
                Measure(
                    "interference",
                    "nats/token",
                    "lower",
                    "rise of old facts' loss while new ones are trained",
                    margin=0.05,
                ),
                Measure(
                    "interference.recall",
                    "fraction",
                    "lower",
                    "fall of old facts' recall over the same steps",
                ),
                Measure(
                    "interference.background",
                    "nats/token",
                    "lower",
                    "what as many background steps cost them",
                ),
            ),
            compute=_compute,
            draw=draw,
        )
    ]
