"""Tables from records: rows, intervals, paired differences. A pure function of what is stored.

`score_rows` turns rows into per-seed values, `tabulate` those into a `Table`, which `tables` prints. Two
builds from the same records give the same bytes: nothing here looks at a clock or a folder name.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from seqmem.errors import NotApplicable, PluginError, UsageError
from seqmem.record import RunRecord
from seqmem.stats import (
    Difference,
    Interval,
    holm,
    paired_difference,
    seeds_needed,
    sign_flip_p,
    t_interval,
)
from seqmem.types import Measure, MetricSpec, Value

ALPHA = 0.05
SCORE_COLUMNS = ("row", "seed", "metric", "measure", "value", "n_items", "reason")
FAILED = "the metric failed: "
"""How the reason of a value begins that is missing because its metric raised an exception."""


@dataclass(frozen=True)
class Row:
    """One line of a leaderboard: an arm of the grid, over seeds.

    Attributes:
        label: what the table prints, e.g. ``moment_avg init=zero``.
        facts: what distinguishes the row: scenario, model, strategy and options.
        runs: finished record by seed.
        controls: control name to record by seed.
        reference: label of the row this one is compared with; its own label for the reference itself,
            None where there is no reference.
        swept: swept option to its value, e.g. ``{"strategy.target": 0.5}``.
        failed: seed to the one-line reason of a run that did not finish.
    """

    label: str
    facts: Mapping[str, Any]
    runs: Mapping[int, RunRecord]
    controls: Mapping[str, Mapping[int, RunRecord]] = field(default_factory=dict)
    reference: str | None = None
    swept: Mapping[str, Any] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One measure of one row.

    Attributes:
        interval: mean over the seeds that have a value; None when none has.
        items: facts, documents or curves behind it, summed over those seeds.
        difference: to the reference row, on the primary measure with its p-value adjusted by Holm;
            None for the reference itself and where no seed is shared.
        reason: why seeds lack a value, or why there is no interval.
    """

    interval: Interval | None
    items: int
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


def score_rows(rows: Sequence[Row], metrics: Sequence[MetricSpec]) -> pd.DataFrame:
    """Every measure of every finished run: a long frame, columns as `SCORE_COLUMNS`, value NaN for None.

    A metric that raises, or makes a value that is not finite, costs that run's values only: they are missing
    with a reason that begins with `FAILED`; `failures` lists them. A contaminated run has no values at all.

    Raises:
        UsageError: two rows share a label.
        PluginError: a metric does not give exactly the measures it declares, each as a Value.
    """
    labels = [row.label for row in rows]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(f"two rows are called {twice[0]!r}; rows need different labels")
    scores: list[tuple[Any, ...]] = []
    for row in rows:
        for seed in sorted(row.runs):
            controls = {name: runs[seed] for name, runs in sorted(row.controls.items()) if seed in runs}
            controls = {name: run for name, run in controls.items() if not run.contamination}
            spoilt = row.runs[seed].contamination
            for metric in metrics:
                for measure, value in _compute(metric, row.runs[seed], controls):
                    value = Value(None, reason=spoilt) if spoilt else value
                    number = float("nan") if value.value is None else float(value.value)
                    scores.append(
                        (row.label, seed, metric.name, measure, number, value.n_items, value.reason)
                    )
    return pd.DataFrame(scores, columns=list(SCORE_COLUMNS))


def sound(rows: Sequence[Row]) -> list[Row]:
    """The rows without their contaminated runs and controls: what may be drawn."""

    def clean_runs(runs: Mapping[int, RunRecord]) -> dict[int, RunRecord]:
        return {seed: run for seed, run in runs.items() if not run.contamination}

    return [
        replace(
            row,
            runs=clean_runs(row.runs),
            controls={name: clean_runs(runs) for name, runs in row.controls.items()},
        )
        for row in rows
    ]


def _compute(
    metric: MetricSpec, run: RunRecord, controls: Mapping[str, RunRecord]
) -> list[tuple[str, Value]]:
    names = [measure.name for measure in metric.measures]
    try:
        with warnings.catch_warnings():
            # What comes of a division by zero is not finite, and Value refuses it with a reason.
            warnings.simplefilter("ignore", RuntimeWarning)
            values = metric.compute(run, controls)
    except NotApplicable as error:
        return [(name, Value(None, reason=str(error))) for name in names]
    except Exception as error:
        # One odd run, such as one whose loss became NaN, must not cost what the others trained for.
        missing = Value(None, reason=f"{FAILED}{type(error).__name__}: {' '.join(str(error).split())}")
        return [(name, missing) for name in names]
    if not isinstance(values, Mapping) or set(values) != set(names):
        given = str(sorted(map(str, values))) if isinstance(values, Mapping) else type(values).__name__
        raise PluginError(f"metric {metric.name!r} gave {given}, it declares {sorted(names)}")
    for name in names:
        if not isinstance(values[name], Value):
            kind = type(values[name]).__name__
            raise PluginError(f"metric {metric.name!r} gave {kind} for {name!r}, not a seqmem.Value")
    return [(name, values[name]) for name in names]


def failures(scores: pd.DataFrame) -> list[str]:
    """A line per metric and row with runs on which the metric raised an exception."""
    failed = scores[scores["reason"].astype(str).str.startswith(FAILED)]
    runs = failed.drop_duplicates(["row", "seed", "metric"])
    return [
        f"metric {str(metric)!r} failed on {label}, {_seeds(group['seed'])}: "
        + str(reason).removeprefix(FAILED)
        for (metric, label, reason), group in runs.groupby(["metric", "row", "reason"], sort=False)
    ]


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
    values = {
        (str(label), str(measure)): group.set_index("seed")
        for (label, measure), group in scores.groupby(["row", "measure"], sort=False)
    }
    cells = {
        (row.label, measure.name): _cell(row, measure.name, reference, values)
        for row in rows
        for measure in measures
    }
    if absent:
        cells |= {(row.label, primary.name): Cell(None, 0, None, absent) for row in rows}
    _adjust([(row.label, primary.name) for row in rows], cells)
    ranks, no_rank = _ranks(rows, primary, values)
    if absent:
        no_rank = {row.label: f"{absent}; no rank" for row in rows}
    tests = sum(cells[row.label, primary.name].difference is not None for row in rows)
    compared = next((row for row in rows if row.label == reference), None)
    verdicts = {
        row.label: _without_effect(row, compared)
        or _verdict(row.label, reference, primary, cells[row.label, primary.name], tests)
        for row in rows
    }
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


def _chance(rows: Sequence[Row]) -> float | None:
    """Mean chance of the trained facts' uncued questions on the primary rung, as the first run states it."""
    runs = [row.runs[seed] for row in rows for seed in sorted(row.runs)]
    if not runs or runs[0].info["primary_relation"] == "general":  # documents: nobody can guess them
        return None
    items = runs[0].items
    asked = (items["relation"] == runs[0].info["primary_relation"]) & (items["cue"] == "none")
    chance = items.loc[asked & items["twin_of"].isna(), "chance"].dropna()
    return float(chance.mean()) if len(chance) else None


def _by_seed(values: Mapping[tuple[str, str], pd.DataFrame], label: str, measure: str) -> dict[int, float]:
    if (label, measure) not in values:
        return {}
    column = values[label, measure]["value"].dropna()
    return {int(str(seed)): float(value) for seed, value in column.items()}


def _cell(
    row: Row, measure: str, reference: str | None, values: Mapping[tuple[str, str], pd.DataFrame]
) -> Cell:
    seeds = _by_seed(values, row.label, measure)
    frame = values.get((row.label, measure))
    reasons: list[str] = []
    items = 0
    if frame is None:
        reasons.append("no finished run")
    else:
        items = int(frame["n_items"][frame["value"].notna()].sum())
        missing = frame[frame["value"].isna()]
        for reason, group in missing.groupby("reason", sort=True):
            which = "" if len(group) == len(frame) else f"{_seeds(group.index)}: "
            reasons.append(f"{which}{reason}")
    interval = t_interval([seeds[seed] for seed in sorted(seeds)]) if seeds else None
    if interval is not None and interval.reason:
        reasons.append(interval.reason)
    difference = None
    if reference is not None and reference != row.label and seeds:
        against = _by_seed(values, reference, measure)
        difference = paired_difference(seeds, against)
    return Cell(interval, items, difference, "; ".join(reasons))


def _seeds(seeds: Iterable[Any]) -> str:
    listed = [str(seed) for seed in seeds]
    return f"seed{'s' * (len(listed) > 1)} {', '.join(listed)}"


def _adjust(keys: Sequence[tuple[str, str]], cells: dict[tuple[str, str], Cell]) -> None:
    """Adjust the p-values of one family in place: all rows against the reference on one measure."""
    tested = [(key, cells[key].difference) for key in keys]
    family = [(key, found, found.p) for key, found in tested if found is not None and found.p is not None]
    for (key, found, _), p in zip(family, holm([p for *_, p in family]), strict=True):
        cell = cells[key]
        cells[key] = Cell(cell.interval, cell.items, Difference(found.interval, p, found.reason), cell.reason)


def _ranks(
    rows: Sequence[Row], primary: Measure, values: Mapping[tuple[str, str], pd.DataFrame]
) -> tuple[dict[str, int | None], dict[str, str]]:
    """Rank = 1 + significantly better rows; the tests of one row against all others are one Holm family."""
    ranks: dict[str, int | None] = {}
    reasons: dict[str, str] = {}
    sign = -1 if primary.direction == "lower" else 1
    seeds = {row.label: _by_seed(values, row.label, primary.name) for row in rows}
    for row in rows:
        reason = ""
        if primary.direction == "none":
            reason = f"{primary.name} has no better direction: no rank"
        elif len(rows) == 1:
            reason = "one row: no rank"
        elif not seeds[row.label]:
            reason = f"no value of {primary.name}: no rank"
        else:
            compared = [
                [
                    sign * (other[seed] - seeds[row.label][seed])
                    for seed in sorted(other.keys() & seeds[row.label])
                ]
                for label, other in seeds.items()
                if label != row.label and other
            ]
            common = min((len(differences) for differences in compared), default=0)
            needed = seeds_needed(len(compared))
            if common < needed:
                reason = f"{common} common seeds: a rank among {len(compared) + 1} rows needs {needed}"
            else:
                adjusted = holm([sign_flip_p(differences) or 0.0 for differences in compared])
                better = [
                    p < ALPHA and sum(differences) > 0
                    for p, differences in zip(adjusted, compared, strict=True)
                ]
                ranks[row.label] = 1 + sum(better)
                continue
        ranks[row.label] = None
        reasons[row.label] = reason
    return ranks, reasons


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


def _verdict(label: str, reference: str | None, primary: Measure, cell: Cell, tests: int) -> str:
    """One line in plain words, not escaped; `tests` rows were compared with the reference."""
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
    if difference.p is None:
        return f"{head}: no test ({difference.reason})"
    shown = f"(p {format_p(difference.p)})"
    if difference.p >= ALPHA and difference.interval.n < seeds_needed(tests):
        few = f"{difference.interval.n} seeds cannot decide {tests} comparisons, {seeds_needed(tests)} can"
        return f"{head}: no verdict, {few} {shown}"
    if difference.p >= ALPHA:
        return f"{head}: no difference shown {shown}"
    if primary.direction == "none":
        return f"{head}: {'higher' if difference.interval.mean > 0 else 'lower'} {shown}"
    better = (difference.interval.mean > 0) == (primary.direction == "higher")
    return f"{head}: {'better' if better else 'worse'} {shown}"


def format_number(value: float, unit: str) -> str:
    """Two decimals without a leading zero for fractions, three significant digits otherwise."""
    if unit == "fraction":
        text = f"{value:.2f}"
        if float(text) == 0:
            return ".00"
        return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def format_interval(interval: Interval, unit: str) -> str:
    """``.41 [.35, .47]``, or the mean alone where there is no interval or all seeds agree."""
    mean = format_number(interval.mean, unit)
    if interval.low is None or interval.high is None or interval.low == interval.high:
        return mean
    return f"{mean} [{format_number(interval.low, unit)}, {format_number(interval.high, unit)}]"


def format_p(p: float) -> str:
    """``.031``; never smaller than ``<.001``."""
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)
