"""Curves of facts: answers by step, and their change beside that of never-trained items."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmem.core.data import Relation
from seqmem.reading.memory import once_per_run
from seqmem.reading.missing import Missing, some
from seqmem.record.reader import RunRecord

Array = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]
Rows = npt.NDArray[np.bool_]
Names = npt.NDArray[np.object_]

_ANSWER = ("step", "probe", "fact", "right", "logprob", "tokens")


@dataclass(frozen=True, eq=False)
class Curves:
    """Answers in one probe form.

    Attributes:
        steps: steps done at each probe, ascending.
        value: (probes, steps) what was asked for, NaN where it was not.
        fact: (probes,) the fact asked for.
        control: (probes,) True where no trained row ever states that fact.
    """

    steps: Steps
    value: Array
    fact: Names
    control: Rows

    def at(self, step: int) -> Array:
        """Return the value of every probe at one step; all NaN where nothing was asked."""
        place = int(self.steps.searchsorted(step))
        found = place < len(self.steps) and self.steps[place] == step
        return self.value[:, place] if found else np.full(len(self.fact), np.nan)

    def of(self, facts: Collection[str]) -> Rows:
        """Mark the probes of these facts."""
        return np.isin(self.fact.astype(str), np.array(sorted(facts), dtype=str))

    def mean(self, rows: Rows, since: int | None = None) -> pd.Series:
        """Return the mean over some probes, by step; minus each one's value at step `since`, where that is given."""
        value = self.value if since is None else self.value - self.at(since)[:, None]
        table = pd.DataFrame(value[rows], columns=self.steps)
        return pd.Series(table.mean().to_numpy(), index=self.steps, dtype=float).dropna()

    def by_fact(self) -> Curves:
        """Return the curves with one row per fact, at each step the mean of its probes that were asked there."""
        facts, place = np.unique(self.fact.astype(str), return_inverse=True)
        mean = pd.DataFrame(self.value).groupby(place).mean().to_numpy(dtype=np.float64)
        control = pd.Series(self.control).groupby(place).all().to_numpy(dtype=np.bool_)
        return Curves(self.steps, mean, facts.astype(object), control)


@dataclass(frozen=True, eq=False)
class Watched:
    """Facts and controls from one step on, wherever both were asked.

    Attributes:
        start: the step the change is counted from.
        steps: (k,) later steps.
        facts: (n,) fact of each probe.
        controls: (m,) fact of each never-trained probe.
        own: (n, k) value minus that at the start.
        control: (m, k) the same of the never-trained items.
    """

    start: int
    steps: Steps
    facts: Names
    controls: Names
    own: Array
    control: Array

    @property
    def better(self) -> Array:
        """Return (n, k), the change of each fact's probe minus the mean change of the controls."""
        return np.asarray(self.own - self.control.mean(axis=0))


@once_per_run
def answer_curves(
    run: RunRecord, relation: Relation | None = None, quantity: Literal["logprob", "right"] = "logprob"
) -> Curves:
    """Return every answer in one probe form, None being the primary one.

    Answers of every schedule count, asked without cue or context. The log-probability is per token of the answer
    (nats), right answers are 1.
    """
    rows = some(
        pd.concat([run.asked(relation=relation, twins=twins, columns=_ANSWER) for twins in (False, True)]),
        f"nothing was asked in the probe form {relation or run.info['primary_relation']}",
    )
    value = rows["logprob"] / rows["tokens"] if quantity == "logprob" else rows["right"].astype(float)
    rows = rows.assign(value=value).drop_duplicates(["probe", "step"])
    table = rows.pivot(index="probe", columns="step", values="value").sort_index()
    facts = rows.drop_duplicates("probe").set_index("probe")["fact"].reindex(table.index)
    return Curves(
        table.columns.to_numpy(dtype=np.int64),
        table.to_numpy(dtype=np.float64),
        facts.to_numpy(dtype=object),
        ~facts.isin(run.exposures["fact"].unique()).to_numpy(dtype=np.bool_),
    )


def watch(
    curves: Curves, facts: Collection[str], start: int, after: int, until: int | None = None
) -> Watched:
    """Return the change since `start` of these facts and of the controls, at the steps in (after, until] that asked.

    Controls are the never-trained items asked wherever the facts were.

    Raises:
        Missing: one of the facts' probes was not asked at `start`, or no control was, or nothing later.
    """
    first = curves.at(start)
    mine = curves.of(facts)
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
