"""Tables on paper: Markdown, CSV, JSON and the terminal. What they print is decided in `leaderboard`.

Two builds from the same records give the same bytes: nothing here looks at a clock or a folder name.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from seqmem.leaderboard import Board, Cell, Row, Table, format_interval, format_p
from seqmem.stats import MIN_SEEDS_FOR_P
from seqmem.text import clean
from seqmem.types import Measure

if TYPE_CHECKING:
    from rich.console import Group

SEED_NOTE = (
    "A seed varies data and training, and the first weights where a scenario trains from scratch; a pretrained "
    "checkpoint is one, so claims concern that checkpoint. "
    "Brackets are 95 % t intervals over seeds; differences are paired by seed; p is a two-sided sign-flip "
    f"test, given from {MIN_SEEDS_FOR_P} common seeds up and Holm-adjusted over the rows compared with the "
    "reference on the primary measure. ↑: higher is better, ↓: lower is better."
)

_WIDEST = 5
"""Rows of the board printed side by side in the table of all measures."""


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
    missing: dict[str, list[str]] = {}
    for m in board.measures:
        if m not in had:
            why = " / ".join(dict.fromkeys(board.cells[row.label, m.name].reason for row in board.rows))
            missing.setdefault(why, []).append(m.name)
    if missing:
        listed = tuple((", ".join(names), why) for why, names in missing.items())
        blocks.append(_Block("Without a value in any row", ("measures", "why"), listed))
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
