"""Curves over optimizer steps, made small: means and intervals per group of facts and step, as whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from seqmem.core.data import NEVER
from seqmem.core.digits import ten_digits
from seqmem.core.sanitize import clean
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.scoring.shares import MIN_SEEDS
from seqmem.scoring.statistics import LEVEL

MILLI = 1000
"""Shares and nats are stored as whole thousandths."""

ALL, ALL_DOCUMENTS = "all facts", "all documents"
_NOUNS = {"loop": "loop", "task": "task", "inject": "group"}
_MAX_SERIES = 8
"""Lines that can be told apart by colour, dash and marker."""


class Pool:
    """Values that many places share, each kept once and named by its number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        """Return the number of a value; sequences are kept as lists."""
        key = tuple(value) if isinstance(value, list) else value
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


@dataclass(frozen=True)
class Asked:
    """The uncued answers in the primary probe form of some runs, one line per seed, fact and step.

    Attributes:
        frame: columns seed, step, fact, control, series (name), right (0 or 1), loss (nats per token).
        series: names of loops, tasks or arms, in the order of the design.
        facts: trained facts of each seed, by series, in the order asked.
    """

    frame: pd.DataFrame
    series: tuple[str, ...]
    facts: Mapping[int, tuple[tuple[str, ...], ...]]

    def few(self, seed: int, most: int) -> list[str]:
        """Return up to `most` trained facts of a seed, some of every series, evenly spaced within it."""
        series = [own for own in self.facts[seed] if own]
        each = -(-most // max(len(series), 1))
        chosen = [spread(own, each) for own in series]
        in_turn = [own[i] for i in range(each) for own in chosen if i < len(own)]
        return in_turn[:most]

    def count(self, seed: int) -> int:
        """Return the number of trained facts of a seed."""
        return sum(map(len, self.facts[seed]))


def read(runs: Sequence[RunRecord]) -> Asked:
    """Collect the answers that curves are made of, whichever schedule asked."""
    parts: list[pd.DataFrame] = []
    order: dict[str, tuple[int, str]] = {}
    for run in runs:
        rows = pd.concat([run.asked(twins=False), run.asked(twins=True)])
        rows = rows.drop_duplicates(["step", "probe"])
        if run.info["primary_relation"] == "general":  # held-out documents have no place in the stream
            rows = rows[rows["task_label"].notna() | rows["position"].notna()]
        phases = run.experiences.dropna(subset=["task_label"]).groupby("task_label")["phase"].first()
        nouns = {int(float(str(label))): _NOUNS.get(str(phase), "group") for label, phase in phases.items()}
        labels = rows["task_label"].to_numpy(dtype=float)
        groups = rows["group"].fillna("").to_numpy()
        names = [
            f"{nouns.get(int(label), 'group')} {int(label)}" if label == label else clean(str(group))
            for label, group in zip(labels, groups, strict=True)
        ]
        documents = run.info["primary_relation"] == "general"
        names = [name or (ALL_DOCUMENTS if documents else ALL) for name in names]
        for name, label in zip(names, labels, strict=True):
            order.setdefault(name, (int(label) if label == label else -1, name))
        parts.append(
            pd.DataFrame(
                {
                    "seed": run.seed,
                    "step": rows["step"].to_numpy(),
                    "fact": rows["fact"].astype(str).to_numpy(),
                    "control": (rows["twin_of"].notna() | (rows["group"] == NEVER)).to_numpy(),
                    "series": names,
                    "right": rows["right"].to_numpy(dtype=float),
                    "loss": (-rows["logprob"] / rows["tokens"]).to_numpy(dtype=float),
                }
            )
        )
    frame = pd.concat(parts, ignore_index=True)
    trained = frame[~frame["control"]]
    found = [name for name in sorted(order, key=order.__getitem__) if name in set(trained["series"])]
    listed = trained.drop_duplicates(["seed", "fact"])
    facts = {
        run.seed: tuple(
            tuple(listed.loc[(listed["seed"] == run.seed) & (listed["series"] == name), "fact"])
            for name in found
        )
        for run in runs
    }
    return Asked(frame, tuple(found), facts)


def spread(names: Sequence[str], most: int) -> list[str]:
    """Return up to `most` of the names, evenly spaced from the first to the last."""
    if len(names) <= most:
        return list(names)
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, most).astype(int))]


def curves(asked: Asked, facts: Sequence[str], most_steps: int, steps: Pool) -> dict[str, Any]:
    """Return pooled curves, curves per series, twins and chosen facts of one arm, as JSON values."""
    frame = asked.frame
    trained, twins = frame[~frame["control"]], frame[frame["control"]]
    single = trained[trained["fact"].isin(facts)]
    seeds = frame["seed"].nunique()
    made: dict[str, Any] = {
        "all": _curve(ALL if len(asked.series) > 1 else asked.series[0], trained, most_steps, steps)
    }
    if len(asked.series) > 1:
        shown = spread(asked.series, _MAX_SERIES)
        made["series"] = [
            _curve(name, trained[trained["series"] == name], most_steps, steps) for name in shown
        ]
    if len(twins):
        made["twins"] = _curve("never-trained twins", twins, most_steps, steps)
    made["facts"] = [
        {**_curve(_fact_name(fact, own, seeds), own, most_steps, steps), "of": str(own["series"].iloc[0])}
        for fact in facts
        if len(own := single[single["fact"] == fact])
    ]
    return made


def _fact_name(fact: str, own: pd.DataFrame, seeds: int) -> str:
    """Return a fact's id; with its seed where facts differ between seeds."""
    return clean(fact) if own["seed"].nunique() == seeds else f"{clean(fact)} (seed {own['seed'].iloc[0]})"


def _curve(name: str, frame: pd.DataFrame, most_steps: int, steps: Pool) -> dict[str, Any]:
    """Return the mean over seeds and half the width of its 95 % t interval, at each step.

    `n` counts the seeds in the mean, `ln` those in the mean of losses where they are fewer.
    """
    seeds = frame.groupby(["step", "seed"], sort=True)[["right", "loss"]].mean()
    points = seeds.groupby("step", sort=True)
    # a seed whose value is NaN is in neither mean nor count: a run that diverged has no loss
    mean, deviation, count = points.mean(), points.std(ddof=1), points.count()
    if len(mean) > most_steps:
        keep = np.unique(np.linspace(0, len(mean) - 1, most_steps).astype(int))
        mean, deviation, count = mean.iloc[keep], deviation.iloc[keep], count.iloc[keep]
    made: dict[str, Any] = {"name": name, "t": steps.number([int(step) for step in mean.index])}
    for key, column in (("r", "right"), ("l", "loss")):
        n = count[column].to_numpy()
        made[key] = _whole(mean[column].to_numpy())
        if n.max() >= MIN_SEEDS:
            factor = stats.t.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1)) / np.sqrt(np.maximum(n, 1))
            made[f"{key}h"] = _whole(np.where(n >= MIN_SEEDS, deviation[column].to_numpy() * factor, np.nan))
    made["n"] = _short(count["right"].to_numpy())
    if not count["loss"].equals(count["right"]):
        made["ln"] = _short(count["loss"].to_numpy())
    return made


def _short(counts: Any) -> int | list[int]:
    """Return counts at each step, as one number where it is the same at all."""
    return int(counts[0]) if np.all(counts == counts[0]) else [int(n) for n in counts]


def _whole(values: Any) -> list[int | None]:
    """Return thousandths; what is not finite is None."""
    return [round(ten_digits(float(value)) * MILLI) if np.isfinite(value) else None for value in values]


def phases(runs: Sequence[RunRecord]) -> list[list[Any]]:
    """Return what was trained when: [first step, last step, name], merged while it stays the same.

    Where seeds visit loops in different orders, visits are only called what they have in common.
    """
    tables = [_phases(run, labels=True) for run in runs]
    if any(table != tables[0] for table in tables):
        tables = [_phases(run, labels=False) for run in runs]
    return tables[0]


def _phases(run: RunRecord, *, labels: bool) -> list[list[Any]]:
    merged: list[list[Any]] = []
    table = run.experiences[["phase", "task_label", "first_step", "steps"]]
    for phase, label, first, steps in table.itertuples(index=False):
        name = clean(str(phase))
        if phase in _NOUNS and label == label:
            name = f"{_NOUNS[phase]} {int(label)}" if labels else f"{_NOUNS[phase]}s, each seed in its order"
        if merged and merged[-1][2] == name and merged[-1][1] == int(first):
            merged[-1][1] = int(first + steps)
        else:
            merged.append([int(first), int(first + steps), name])
    return merged


def arms(row: Row) -> dict[str, list[RunRecord]]:
    """Return the row's own runs under the empty name, then its controls', each in order of seeds."""
    found: Mapping[str, Mapping[int, RunRecord]] = {"": row.runs, **dict(sorted(row.controls.items()))}
    return {name: [runs[seed] for seed in sorted(runs)] for name, runs in found.items() if runs}
