"""Tables from records: rows, intervals, paired differences. A pure function of what is stored.

`score_rows` turns rows into per-seed values, `tabulate` those into a `Table`, which `tables` prints. Two
builds from the same records give the same bytes: nothing here looks at a clock or a folder name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from seqmem.core.errors import UsageError
from seqmem.core.measures import Measure
from seqmem.plugin.specs import MetricSpec
from seqmem.record.row import Row
from seqmem.record.versions import DECISIVE, named, versions_of
from seqmem.scoring.numbers import format_interval, format_margin, format_number, format_p
from seqmem.scoring.scores import _seeds, score_rows
from seqmem.scoring.statistics import (
    ALPHA,
    MIN_SEEDS_FOR_P,
    Difference,
    Interval,
    false_discovery,
    paired_difference,
    seeds_needed,
    t_interval,
    undecidable,
)


@dataclass(frozen=True)
class Cell:
    """One measure of one row.

    Attributes:
        interval: mean over the seeds that have a value; None when none has.
        items: facts, documents or curves behind it, summed over those seeds.
        difference: to the reference row; its `p` stands on the primary measure only, adjusted over the rows
            compared with the reference. None for the reference itself and where no seed is shared.
        reason: why seeds lack a value, or why there is no interval; on the primary measure also which versions
            made the row, where it matters.
    """

    interval: Interval | None
    items: int
    difference: Difference | None
    reason: str


@dataclass(frozen=True)
class Comparison:
    """One measure of two rows, the first minus the second.

    Attributes:
        first, second: each row's own mean over all its seeds; None where no seed has a value.
        difference: over the seeds both have, `p` adjusted over the measures compared; None without such a seed.
        reason: why a row has no value, or there is no difference; empty where nothing is missing.
    """

    measure: Measure
    first: Interval | None
    second: Interval | None
    difference: Difference | None
    reason: str


@dataclass(frozen=True)
class Board:
    """Rows that are compared with each other: one scenario, one model, one reference.

    Attributes:
        cells: by (row label, measure name).
        ranks: row label to rank, or None.
        no_rank: row label to the reason it has none.
        verdicts: row label to one line in plain words.
        chance: recall that guessing gives on the primary rung; None where it is not known.

    Where no metric gives the primary measure, `primary` is a stand-in without unit and direction: every cell
    of it is missing and says why.
    """

    scenario: str
    model: str
    reference: str | None
    primary: Measure
    rows: tuple[Row, ...]
    measures: tuple[Measure, ...]
    cells: Mapping[tuple[str, str], Cell]
    ranks: Mapping[str, int | None]
    no_rank: Mapping[str, str]
    verdicts: Mapping[str, str]
    chance: float | None = None


@dataclass(frozen=True)
class Table:
    """What the writers print.

    Attributes:
        boards: groups of comparable rows.
        scores: the per-seed values it was made of, columns as `SCORE_COLUMNS`.
    """

    boards: tuple[Board, ...]
    scores: pd.DataFrame


def tabulate(
    rows: Sequence[Row],
    metrics: Sequence[MetricSpec],
    primary: Mapping[str, str],
    scores: pd.DataFrame | None = None,
) -> Table:
    """Group rows that can be compared, and compare them.

    `primary` names the measure rows are ranked by, per scenario (`Row.facts["scenario"]`). `scores` may bring
    what `score_rows` gave, so that figures and tables share one scoring. Where no metric gives the primary
    measure (left out, or failing), the table has no ranks and says why.

    Raises:
        UsageError: no rows.
    """
    if not rows:
        raise UsageError("no runs to tabulate")
    scores = score_rows(rows, metrics) if scores is None else scores
    measures = tuple(measure for metric in metrics for measure in metric.measures)
    groups: dict[tuple[str, str, str | None], list[Row]] = {}
    for row in rows:
        key = (str(row.facts.get("scenario", "")), str(row.facts.get("model", "")), row.reference)
        groups.setdefault(key, []).append(row)
    boards = []
    for (scenario, model, reference), members in groups.items():
        wanted = primary.get(scenario, "primary measure")
        chosen = next((measure for measure in measures if measure.name == wanted), None)
        boards.append(_board(scenario, model, reference, wanted, chosen, tuple(members), measures, scores))
    return Table(tuple(boards), scores)


def compare(scores: pd.DataFrame, a: str, b: str, measures: Sequence[Measure]) -> list[Comparison]:
    """Row `a` minus row `b`, paired by seed, on each of the measures: one family of tests.

    Args:
        scores: what `score_rows` gave.
        a: label of a row in it.
        b: label of the row taken off.
        measures: those compared, in the order given.

    Raises:
        UsageError: `scores` has no such row, or both are the same.
    """
    labels = list(dict.fromkeys(map(str, scores["row"])))
    for label in (a, b):
        if label not in labels:
            raise UsageError(f"no row {label!r} with a finished run; rows: {', '.join(labels) or 'none'}")
    if a == b:
        raise UsageError(f"both rows are {a!r}; give two different ones of: {', '.join(labels)}")
    values = _values(scores)
    compared = []
    for measure in measures:
        own, other = _by_seed(values, a, measure.name), _by_seed(values, b, measure.name)
        found = paired_difference(own, other, measure.margin)
        missing = {
            label: _cell(label, measure, None, values).reason
            if (label, measure.name) in values
            else "no metric gives it"
            for label, seeds in ((a, own), (b, other))
            if not seeds
        }
        reason = "; ".join(f"{label}: {why}" for label, why in missing.items())
        if len(missing) == 2 and missing[a] == missing[b]:
            reason = missing[a]
        elif not missing and found is None:
            reason = f"no seed has a value in both {a} and {b}"
        compared.append(
            Comparison(
                measure,
                t_interval([own[seed] for seed in sorted(own)]) if own else None,
                t_interval([other[seed] for seed in sorted(other)]) if other else None,
                found,
                reason,
            )
        )
    adjusted = _adjusted([comparison.difference for comparison in compared])
    return [
        replace(comparison, difference=difference)
        for comparison, difference in zip(compared, adjusted, strict=True)
    ]


def _board(
    scenario: str,
    model: str,
    reference: str | None,
    wanted: str,
    primary: Measure | None,
    rows: tuple[Row, ...],
    measures: tuple[Measure, ...],
    scores: pd.DataFrame,
) -> Board:
    absent = ""
    if primary is None:
        absent = f"no metric gives {wanted!r}: it was left out, is not installed or failed"
        primary = Measure(wanted, "", "none", absent)
        measures = (primary, *measures)
    values = _values(scores)
    cells = {
        (row.label, measure.name): _cell(row.label, measure, reference, values)
        for row in rows
        for measure in measures
    }
    if absent:
        cells |= {(row.label, primary.name): Cell(None, 0, None, absent) for row in rows}
    family = [(row.label, primary.name) for row in rows]
    differences = [cells[key].difference for key in family]
    for key, difference in zip(family, _adjusted(differences), strict=True):
        cells[key] = replace(cells[key], difference=difference)
    too_few = _too_few(differences)
    ranks, no_rank = _ranks(rows, primary, values)
    if absent:
        no_rank = {row.label: f"{absent}; no rank" for row in rows}
    compared = next((row for row in rows if row.label == reference), None)
    verdicts = {
        row.label: _without_effect(row, compared)
        or _verdict(row.label, reference, primary, cells[row.label, primary.name], few)
        for row, few in zip(rows, too_few, strict=True)
    }
    for label, note in _versions(rows).items():
        cell = cells[label, primary.name]
        cells[label, primary.name] = replace(cell, reason="; ".join(filter(None, (cell.reason, note))))
    return Board(
        scenario,
        model,
        reference,
        primary,
        rows,
        measures,
        cells,
        ranks,
        no_rank,
        verdicts,
        _chance(rows),
    )


def _versions(rows: Sequence[Row]) -> dict[str, str]:
    """Return by row which versions made it, for rows that were kept and where the rows of a board differ in it."""
    made = {
        row.label: versions_of(run for runs in (row.runs, *row.controls.values()) for run in runs.values())
        for row in rows
    }
    differing = [
        package for package in DECISIVE if len(set().union(*(found[package] for found in made.values()))) > 1
    ]
    notes = {row.label: row.kept for row in rows if row.kept}
    for row in rows:
        if differing and row.runs and not row.kept:
            notes[row.label] = f"made by {named(made[row.label], differing)}, unlike other rows of this table"
    return notes


def _chance(rows: Sequence[Row]) -> float | None:
    """Mean chance of the trained facts' uncued questions on the primary rung, as the first run states it."""
    runs = [row.runs[seed] for row in rows for seed in sorted(row.runs)]
    if not runs or runs[0].info["primary_relation"] == "general":  # documents: nobody can guess them
        return None
    items = runs[0].items
    asked = (items["relation"] == runs[0].info["primary_relation"]) & (items["cue"] == "none")
    chance = items.loc[asked & items["twin_of"].isna(), "chance"].dropna()
    return float(chance.mean()) if len(chance) else None


@dataclass(frozen=True)
class _Score:
    """One measure of one run, as `SCORE_COLUMNS` has it."""

    seed: int
    value: float | None
    items: int
    reason: str


_Scores = Mapping[tuple[str, str], Sequence[_Score]]
"""By (row label, measure name)."""


def _values(scores: pd.DataFrame) -> _Scores:
    found: dict[tuple[str, str], list[_Score]] = {}
    for label, seed, _, measure, value, items, reason in scores.itertuples(index=False, name=None):
        known = None if pd.isna(value) else float(value)
        found.setdefault((str(label), str(measure)), []).append(
            _Score(int(seed), known, int(items), str(reason))
        )
    return found


def _by_seed(values: _Scores, label: str, measure: str) -> dict[int, float]:
    return {one.seed: one.value for one in values.get((label, measure), ()) if one.value is not None}


def _cell(label: str, measure: Measure, reference: str | None, values: _Scores) -> Cell:
    seeds = _by_seed(values, label, measure.name)
    scores = values.get((label, measure.name))
    reasons: list[str] = []
    items = 0
    if scores is None:
        reasons.append("no finished run")
    else:
        items = sum(one.items for one in scores if one.value is not None)
        missing: dict[str, list[int]] = {}
        for one in scores:
            if one.value is None:
                missing.setdefault(one.reason, []).append(one.seed)
        for reason, without in sorted(missing.items()):
            which = "" if len(without) == len(scores) else f"{_seeds(without)}: "
            reasons.append(f"{which}{reason}")
    interval = t_interval([seeds[seed] for seed in sorted(seeds)]) if seeds else None
    if interval is not None and interval.reason:
        reasons.append(interval.reason)
    difference = None
    if reference is not None and reference != label and seeds:
        against = _by_seed(values, reference, measure.name)
        difference = paired_difference(seeds, against, measure.margin)
    return Cell(interval, items, difference, "; ".join(reasons))


def _adjusted(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """The differences of one family with `p` filled in where there is a test."""
    adjusted = iter(
        false_discovery([found.raw_p for found in differences if found and found.raw_p is not None])
    )
    return [
        replace(found, p=next(adjusted)) if found is not None and found.raw_p is not None else found
        for found in differences
    ]


def _too_few(differences: Sequence[Difference | None]) -> list[str]:
    """For each difference of a family why its test could not have come out significant; empty where it could."""
    tested = [found for found in differences if found is not None and found.raw_p is not None]
    seeds = [found.interval.n for found in tested]
    hopeless = iter(undecidable([found.raw_p or 0.0 for found in tested], seeds))
    return [
        _seeds_for_one(found.interval.n, len(tested))
        if found is not None and found.raw_p is not None and next(hopeless)
        else ""
        for found in differences
    ]


def _seeds_for_one(seeds: int, tests: int) -> str:
    """Why a test of a family says nothing."""
    return (
        f"with {seeds} common seeds and {tests} comparisons a row that differs alone cannot be told, "
        f"with {seeds_needed(tests)} it can"
    )


def _ranks(
    rows: Sequence[Row], primary: Measure, values: _Scores
) -> tuple[dict[str, int | None], dict[str, str]]:
    """Rank = 1 + significantly better rows; the tests of one row against all others are one family.

    A row has no rank where one of these tests could not have been significant whatever its outcome.
    """
    ranks: dict[str, int | None] = {}
    reasons: dict[str, str] = {}
    sign = -1 if primary.direction == "lower" else 1
    seeds = {row.label: _by_seed(values, row.label, primary.name) for row in rows}
    for row in rows:
        reason = ""
        rivals = {label: other for label, other in seeds.items() if label != row.label and other}
        found = [paired_difference(other, seeds[row.label]) for other in rivals.values()]
        if primary.direction == "none":
            reason = f"{primary.name} has no better direction: no rank"
        elif len(rows) == 1:
            reason = "one row: no rank"
        elif not seeds[row.label]:
            reason = f"no value of {primary.name}: no rank"
        elif not found:
            reason = f"no other row has a value of {primary.name}: no rank"
        else:
            common = min(difference.interval.n if difference else 0 for difference in found)
            if common < MIN_SEEDS_FOR_P:
                reason = f"no rank: {common} common seed{'s' * (common != 1)}, a test needs {MIN_SEEDS_FOR_P}"
            else:
                reason = next((f"no rank: {few}" for few in _too_few(found) if few), "")
        ranks[row.label] = None if reason else 1 + sum(_better(each, sign) for each in _adjusted(found))
        if reason:
            reasons[row.label] = reason
    return ranks, reasons


def _better(difference: Difference | None, sign: int) -> bool:
    """Whether a difference was shown, in the direction that is better."""
    if difference is None or difference.p is None:
        return False
    return difference.p < ALPHA and sign * difference.interval.mean > 0


def _without_effect(row: Row, reference: Row | None) -> str:
    """That a row ends in the very weights of the reference, seed by seed; empty where it does not."""
    if reference is None or reference.label == row.label:
        return ""
    seeds = row.runs.keys() & reference.runs.keys()
    ends = [
        (row.runs[seed].info.get("final_weights"), reference.runs[seed].info.get("final_weights"))
        for seed in seeds
    ]
    if not ends or any(own is None or own != other for own, other in ends):
        return ""
    return f"{row.label} had no effect here: its weights end bit for bit as those of {reference.label}"


def _verdict(label: str, reference: str | None, primary: Measure, cell: Cell, too_few: str) -> str:
    """One line in plain words, not escaped.

    `too_few` says why the test against the reference could not have come out significant, if so.
    """
    head = f"{primary.name}: {label}"
    if cell.interval is None:
        return f"{head} has no value ({cell.reason})"
    head = f"{head} {format_interval(cell.interval, primary.unit)}"
    if reference == label:
        return f"{head}: the reference"
    if reference is None:
        return f"{head}: nothing to compare with"
    difference = cell.difference
    if difference is None:
        return f"{head}: no seed in common with {reference}"
    head = f"{head}, difference to {reference} {format_interval(difference.interval, primary.unit)}"
    return f"{head}: {_outcome(difference, primary, too_few)}"


def _outcome(difference: Difference, measure: Measure, too_few: str) -> str:
    """What the tests of a difference say."""
    if difference.p is None:
        return f"no test ({difference.reason})"
    p = f"p {format_p(difference.p)}"
    if difference.p < ALPHA:
        higher = difference.interval.mean > 0
        words = ("lower", "higher") if measure.direction == "none" else ("worse", "better")
        small = f", but by less than {format_margin(measure)}" if difference.equivalent else ""
        return f"{words[higher == (measure.direction != 'lower')]} ({p}){small}"
    if difference.equivalent:
        return f"the same within ±{format_margin(measure)} ({p})"
    if too_few:
        return f"no verdict, {too_few} ({p})"
    if difference.detectable is None:
        return f"no difference shown ({p})"
    seen = format_number(difference.detectable, measure.unit)
    return f"no difference shown, the interval could have seen {seen} ({p})"
