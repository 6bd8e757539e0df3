"""One measure of one row: the values of its seeds, their interval, and what is missing with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from seqmem.core.measures import Interval, Measure
from seqmem.scoring.ratios import ratio_interval
from seqmem.scoring.scores import seeds_in_words
from seqmem.scoring.shares import share_interval
from seqmem.scoring.statistics import Difference, combined_p, paired_difference, t_interval


@dataclass(frozen=True)
class Cell:
    """One measure of one row.

    Attributes:
        interval: mean over the seeds that have a value; None when none has.
        items: facts, documents or curves behind it, summed over those seeds.
        difference: to the reference row; its `p` stands on the primary and the graded measure, adjusted over the rows
            compared with the reference. None for the reference itself and where no seed is shared.
        reason: why seeds lack a value, or why there is no interval; on the primary measure also which versions
            made the row, where it matters.
    """

    interval: Interval | None
    items: int
    difference: Difference | None
    reason: str


@dataclass(frozen=True)
class Score:
    """One measure of one run, as `SCORE_COLUMNS` has it."""

    seed: int
    value: float | None
    items: int
    reason: str


UNPAIRED = ("runs", "p-value")
"""Units whose values are no amounts: no mean of their differences says anything."""


def is_paired(measure: Measure) -> bool:
    """Return whether rows are compared by the differences of their seeds; counts and ratios of means are not."""
    return measure.unit not in UNPAIRED and measure.ratio is None


Scores = Mapping[tuple[str, str], Sequence[Score]]
"""By (row label, measure name)."""


def read_scores(frame: pd.DataFrame) -> Scores:
    """Return what `score_rows` gave, by row and measure."""
    found: dict[tuple[str, str], list[Score]] = {}
    for label, seed, _, measure, value, items, reason in frame.itertuples(index=False, name=None):
        known = None if pd.isna(value) else float(value)
        score = Score(int(seed), known, int(items), str(reason))
        found.setdefault((str(label), str(measure)), []).append(score)
    return found


def by_seed(scores: Scores, label: str, measure: str) -> dict[int, float]:
    """Return the values of a row's measure by seed, those that are missing left out."""
    return {one.seed: one.value for one in scores.get((label, measure), ()) if one.value is not None}


def interval_of(scores: Sequence[Score], unit: str) -> Interval | None:
    """Return what seeds give together, in a measure's unit; None without a value."""
    found = sorted((one for one in scores if one.value is not None), key=lambda one: one.seed)
    values = [one.value for one in found if one.value is not None]
    if not values:
        return None
    if unit == "p-value":
        return Interval(combined_p(values), None, None, len(values))
    if unit == "runs":
        return share_interval(values, [1] * len(values))
    if unit == "share":
        return share_interval(values, [max(one.items, 1) for one in found])
    return t_interval(values)


def measured(scores: Scores, label: str, measure: Measure) -> Interval | None:
    """Return what the seeds of a row give together for a measure; None without a value."""
    if measure.ratio is not None:
        return ratio_interval(*(by_seed(scores, label, name) for name in measure.ratio))
    return interval_of(scores.get((label, measure.name), ()), measure.unit)


def cell_of(scores: Scores, label: str, measure: Measure, reference: str | None) -> Cell:
    """Return one measure of one row, its difference to the reference not yet tested."""
    own = scores.get((label, measure.name))
    interval = measured(scores, label, measure)
    reasons = ["no finished run"] if own is None else _reasons(own)
    if measure.ratio is not None and interval is not None:
        reasons = []  # a run without a ratio of its own counts in that of the means
    if interval is not None and interval.reason:
        reasons.append(interval.reason)
    difference = None
    if reference not in (None, label) and is_paired(measure):
        values, others = (by_seed(scores, name, measure.name) for name in (label, str(reference)))
        difference = paired_difference(values, others, measure.margin)
    items = sum(one.items for one in own or () if one.value is not None)
    return Cell(interval, items, difference, "; ".join(reasons))


def _reasons(scores: Sequence[Score]) -> list[str]:
    """Return why values are missing, with the seeds where it is not all of them."""
    missing: dict[str, list[int]] = {}
    for one in scores:
        if one.value is None:
            missing.setdefault(one.reason, []).append(one.seed)
    return [
        reason if len(without) == len(scores) else f"{seeds_in_words(without)}: {reason}"
        for reason, without in sorted(missing.items())
    ]
