"""Tables from records: rows, intervals, paired differences. A pure function of what is stored.

`score_rows` turns rows into per-seed values, `tabulate` those into a `Table`, and the writers print it. Two
builds from the same records give the same bytes: nothing here looks at a clock or a folder name.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from seqmem.errors import PluginError, UsageError
from seqmem.record import RunRecord
from seqmem.stats import (
    MIN_SEEDS_FOR_P,
    Difference,
    Interval,
    holm,
    paired_difference,
    seeds_needed,
    sign_flip_p,
    t_interval,
)
from seqmem.text import clean
from seqmem.types import Measure, MetricSpec, Value

if TYPE_CHECKING:
    from rich.console import Group

ALPHA = 0.05
SEED_NOTE = (
    "A seed varies data and training; the pretrained checkpoint is one, so claims concern that checkpoint. "
    "Brackets are 95 % t intervals over seeds; differences are paired by seed; p is a two-sided sign-flip "
    f"test, given from {MIN_SEEDS_FOR_P} common seeds up and Holm-adjusted over the rows compared with the "
    "reference on the primary measure. ↑: higher is better, ↓: lower is better."
)
SCORE_COLUMNS = ("row", "seed", "metric", "measure", "value", "n_items", "reason")
FAILED = "the metric failed: "
"""How the reason of a value begins that is missing because its metric raised an exception."""

_WIDEST = 5
"""Rows of the board printed side by side in the table of all measures."""


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
    with a reason that begins with `FAILED`; `failures` lists them.

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
            for metric in metrics:
                for measure, value in _compute(metric, row.runs[seed], controls):
                    number = float("nan") if value.value is None else float(value.value)
                    scores.append(
                        (row.label, seed, metric.name, measure, number, value.n_items, value.reason)
                    )
    return pd.DataFrame(scores, columns=list(SCORE_COLUMNS))


def _compute(
    metric: MetricSpec, run: RunRecord, controls: Mapping[str, RunRecord]
) -> list[tuple[str, Value]]:
    names = [measure.name for measure in metric.measures]
    try:
        with warnings.catch_warnings():
            # What comes of a division by zero is not finite, and Value refuses it with a reason.
            warnings.simplefilter("ignore", RuntimeWarning)
            values = metric.compute(run, controls)
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
    verdicts = {
        row.label: _verdict(row.label, reference, primary, cells[row.label, primary.name], tests)
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


class _Notes:
    """Footnotes in order of first use; equal texts share a number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        """The mark of a footnote, e.g. `` (2)``, and nothing for no text."""
        if not text:
            return ""
        if text not in self.texts:
            self.texts.append(text)
        return f" ({self.texts.index(text) + 1})"


@dataclass(frozen=True)
class _Block:
    """One printed table: a title, columns, lines of cells."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    below: str = ""


def _blocks(board: Board, notes: _Notes) -> list[_Block]:
    """The printed tables of one board, as plain unescaped text."""
    primary = board.primary
    against = f"difference to {board.reference}" if board.reference else "difference"
    lines = []
    for row in board.rows:
        cell = board.cells[row.label, primary.name]
        rank = board.ranks[row.label]
        failed = "; ".join(f"seed {seed} failed: {row.failed[seed]}" for seed in sorted(row.failed))
        lines.append(
            (
                row.label + notes.mark(failed),
                str(rank) if rank is not None else "-" + notes.mark(board.no_rank[row.label]),
                _shown(cell, primary, len(row.runs), notes),
                _difference(board, row, cell, primary, notes),
                _p_value(board, row, cell, notes),
                str(cell.interval.n if cell.interval else 0),
                str(cell.items),
            )
        )
    unit = f" ({_unit(primary)})" if primary.unit else ""
    columns = ("row", "rank", f"{primary.name}{unit}", against, "p", "seeds", "items")
    below = "" if board.chance is None else f"Chance on the primary rung: {_chance_text(board.chance)}"
    blocks = [_Block("Primary measure", columns, tuple(lines), below)]
    had = [m for m in board.measures if any(board.cells[row.label, m.name].interval for row in board.rows)]
    differ = [m for m in had if any(board.cells[row.label, m.name].difference for row in board.rows)]
    for first in range(0, len(board.rows), _WIDEST):
        rows = board.rows[first : first + _WIDEST]
        head = ("measure", "unit", *(row.label for row in rows))
        body = tuple(
            (
                measure.name,
                _unit(measure),
                *(
                    _shown(board.cells[row.label, measure.name], measure, len(row.runs), notes)
                    for row in rows
                ),
            )
            for measure in had
        )
        blocks.append(_Block("All measures", head, body))
        compared = [row for row in rows if board.reference not in (None, row.label)]
        if compared:
            body = tuple(
                (
                    measure.name,
                    _unit(measure),
                    *(
                        _difference(board, row, board.cells[row.label, measure.name], measure, notes)
                        for row in compared
                    ),
                )
                for measure in differ
            )
            title = f"All measures, {against}, paired by seed"
            blocks.append(_Block(title, ("measure", "unit", *(row.label for row in compared)), body))
    missing = tuple(
        (m.name, " / ".join(dict.fromkeys(board.cells[row.label, m.name].reason for row in board.rows)))
        for m in board.measures
        if m not in had
    )
    if missing:
        blocks.append(_Block("Without a value in any row", ("measure", "why"), missing))
    return blocks


def _chance_text(chance: float) -> str:
    """Three digits: a chance of 1/256 is .00391, not .00."""
    return f"{chance:.3g}".replace("0.", ".", 1)


def _unit(measure: Measure) -> str:
    return measure.unit + {"higher": " ↑", "lower": " ↓", "none": ""}[measure.direction]


def _shown(cell: Cell, measure: Measure, runs: int, notes: _Notes) -> str:
    if cell.interval is None:
        return "-" + notes.mark(cell.reason)
    part = f", {cell.interval.n} of {runs} seeds" if cell.interval.n < runs else ""
    return format_interval(cell.interval, measure.unit) + part + notes.mark(cell.reason)


def _difference(board: Board, row: Row, cell: Cell, measure: Measure, notes: _Notes) -> str:
    if board.reference == row.label:
        return "reference"
    if board.reference is None:
        return "-" + notes.mark("no reference row")
    if cell.difference is None:
        return "-" + notes.mark(f"no seed has a value here and in {board.reference}")
    found = cell.difference.interval
    return format_interval(found, measure.unit) + notes.mark(found.reason)


def _p_value(board: Board, row: Row, cell: Cell, notes: _Notes) -> str:
    if board.reference == row.label:
        return "reference"
    found = cell.difference
    if found is None:
        return "-" + notes.mark("no difference to test")
    return format_p(found.p) if found.p is not None else "-" + notes.mark(found.reason)


def _title(board: Board) -> str:
    return ", ".join(part for part in (board.scenario, board.model) if part) or "leaderboard"


def escape_markdown(text: str) -> str:
    """Text that Markdown prints as it is: no markup, no HTML, no table cell, no link, no mention."""
    entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
    escaped = "".join(
        entities.get(char, f"\\{char}" if char in "\\`*_[]|~#!$" else char) for char in clean(text)
    )
    # A colon or "www." makes a bare link in GitHub's dialect.
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def to_markdown(table: Table) -> str:
    """The table as Markdown."""
    notes = _Notes()
    parts = ["# Leaderboard", "", SEED_NOTE, ""]
    for board in table.boards:
        parts += [f"## {escape_markdown(_title(board))}", ""]
        parts += [*(f"- {escape_markdown(board.verdicts[row.label])}" for row in board.rows), ""]
        for block in _blocks(board, notes):
            parts += [f"### {escape_markdown(block.title)}", ""]
            parts += [_line(block.columns), _line(["---"] * len(block.columns), lambda text: text)]
            parts += [*(_line(line) for line in block.lines), ""]
            parts += [escape_markdown(block.below), ""] if block.below else []
    if notes.texts:
        parts += [
            "## Notes",
            "",
            *(f"({i}) {escape_markdown(text)}  " for i, text in enumerate(notes.texts, 1)),
            "",
        ]
    return "\n".join(parts)


def _line(cells: Sequence[str], escape: Callable[[str], str] = escape_markdown) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def _rounded(value: float | None) -> float | None:
    """Ten significant digits: the same on machines whose last bits differ."""
    return None if value is None else float(f"{value:.10g}")


def to_records(table: Table) -> list[dict[str, Any]]:
    """One flat dict per row and measure: what CSV and JSON hold."""
    records = []
    for board in table.boards:
        for row in board.rows:
            for measure in board.measures:
                cell = board.cells[row.label, measure.name]
                interval, difference = cell.interval, cell.difference
                to_reference = difference.interval if difference else None
                is_primary = measure.name == board.primary.name
                records.append(
                    {
                        "scenario": board.scenario,
                        "model": board.model,
                        "row": row.label,
                        "measure": measure.name,
                        "unit": measure.unit,
                        "direction": measure.direction,
                        "primary": is_primary,
                        "mean": _rounded(interval.mean if interval else None),
                        "low": _rounded(interval.low if interval else None),
                        "high": _rounded(interval.high if interval else None),
                        "seeds": interval.n if interval else 0,
                        "items": cell.items,
                        "reference": board.reference,
                        "difference": _rounded(to_reference.mean if to_reference else None),
                        "difference_low": _rounded(to_reference.low if to_reference else None),
                        "difference_high": _rounded(to_reference.high if to_reference else None),
                        "p": _rounded(difference.p if difference else None),
                        "rank": board.ranks[row.label] if is_primary else None,
                        "reason": cell.reason,
                        "no_rank": board.no_rank.get(row.label, "") if is_primary else "",
                        "no_p": difference.reason if difference else "",
                    }
                )
    return records


def to_csv(table: Table) -> str:
    """The table as CSV, one line per row and measure; missing is empty, its reason in its own column."""
    records = to_records(table)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        [{name: _spreadsheet_safe(value) for name, value in record.items()} for record in records]
    )
    return out.getvalue()


def _spreadsheet_safe(value: Any) -> Any:
    """Text a spreadsheet would run as a formula gets a quote in front."""
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def to_json(table: Table) -> str:
    """The table with verdicts and per-seed values as JSON; missing is null."""
    value = {
        "format": 1,
        "note": SEED_NOTE,
        "cells": to_records(table),
        "verdicts": [
            {
                "scenario": board.scenario,
                "model": board.model,
                "row": row.label,
                "verdict": board.verdicts[row.label],
            }
            for board in table.boards
            for row in board.rows
        ],
        "chance": [
            {"scenario": board.scenario, "model": board.model, "chance": _rounded(board.chance)}
            for board in table.boards
        ],
        "failed": {
            row.label: {str(seed): row.failed[seed] for seed in sorted(row.failed)}
            for board in table.boards
            for row in board.rows
            if row.failed
        },
        "runs": {
            row.label: {str(seed): row.runs[seed].id for seed in sorted(row.runs)}
            for board in table.boards
            for row in board.rows
        },
        "scores": [
            {**record, "value": None if pd.isna(record["value"]) else _rounded(record["value"])}
            for record in table.scores.to_dict("records")
        ],
    }
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n"


def to_rich(table: Table, *, all_measures: bool = True) -> Group:
    """The table for the terminal; `all_measures` False prints verdicts and primary measure only."""
    from rich.console import Group, RenderableType
    from rich.markup import escape
    from rich.table import Table as RichTable
    from rich.text import Text

    def shown(text: str) -> str:
        return escape(clean(text))

    notes = _Notes()
    parts: list[RenderableType] = []
    for board in table.boards:
        for block in _blocks(board, notes)[: None if all_measures else 1]:
            title = shown(f"{_title(board)}: {block.title.lower()}")
            drawn = RichTable(*map(shown, block.columns), title=title, title_justify="left")
            for line in block.lines:
                drawn.add_row(*map(shown, line))
            parts.append(drawn)
            if block.below:
                parts.append(Text(clean(block.below)))
        parts += [Text(clean(board.verdicts[row.label])) for row in board.rows]
    parts += [Text(clean(f"({i}) {text}"), style="dim") for i, text in enumerate(notes.texts, 1)]
    parts.append(Text(SEED_NOTE, style="dim"))
    return Group(*parts)
