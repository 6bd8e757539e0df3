"""Tables on paper: Markdown, LaTeX, CSV, JSON and the terminal. What they print is decided in `leaderboard`.

Two builds from the same records give the same bytes: nothing here looks at a clock or a folder name.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import pandas as pd

from seqmem.core.digits import fixed, significant, ten_digits, without_zero
from seqmem.core.measures import Measure
from seqmem.core.sanitize import clean
from seqmem.record.row import Row
from seqmem.scoring.comparison import Board, Cell, Comparison, Table
from seqmem.scoring.numbers import format_interval, format_margin, format_number, format_p
from seqmem.scoring.statistics import MIN_SEEDS_FOR_P, Difference, Interval

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

SEED_NOTE = (
    "A seed varies data and training, and the first weights where a scenario trains from scratch; a pretrained "
    "checkpoint is one, so claims concern that checkpoint. "
    "Brackets are 95 % t intervals over seeds; differences are paired by seed; p is a two-sided sign-flip "
    f"test, given from {MIN_SEEDS_FOR_P} common seeds up, on the primary measure, and controls the false discovery "
    "rate over the rows compared with the reference. ↑: higher is better, ↓: lower is better."
)

_TESTS_NOTE = (
    "Smallest detectable: the true difference that the interval would tell from zero in 80 % of repeats; the "
    "adjusted test sees less. No effect: the difference was shown to lie inside the measure's margin."
)

_TABLE_NOTE = f"{SEED_NOTE} {_TESTS_NOTE}"

_COMPARISON_NOTE = (
    "The first row minus the second, paired by seed; brackets are 95 % t intervals over seeds. p is a two-sided "
    f"sign-flip test, given from {MIN_SEEDS_FOR_P} common seeds up, and controls the false discovery rate over the "
    f"measures listed. ↑: higher is better, ↓: lower is better. {_TESTS_NOTE}"
)

_NOT_MEASURED = "not measured: seqmem bench --measure-cost"
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


def _width(heading: str, cells: Sequence[str]) -> int:
    """Places a column takes when its heading wraps and its cells do not."""
    from rich.cells import cell_len

    words = (min(cell_len(clean(heading)), 10), *(cell_len(clean(word)) for word in heading.split()))
    return max(*words, *(cell_len(clean(cell)) for cell in cells))


def _blocks(board: Board, notes: _Notes) -> list[_Block]:
    """The printed tables of one board, as plain unescaped text: `_summary`, then every measure."""
    against = _against(board)
    blocks = _summary(board, notes)
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


def _summary(board: Board, notes: _Notes) -> list[_Block]:
    """What a row is and what it costs, in two tables: one of all columns is too wide for a terminal."""
    primary = board.primary
    unit = f" ({_unit(primary)})" if primary.unit else ""
    within = f" (within ±{format_margin(primary)})" if primary.margin is not None else ""
    results, costs = [], []
    for row in board.rows:
        cell = board.cells[row.label, primary.name]
        rank = board.ranks[row.label]
        failed = "; ".join(f"seed {seed} failed: {row.failed[seed]}" for seed in sorted(row.failed))
        results.append(
            (
                row.label + notes.mark(failed),
                str(rank) if rank is not None else "-" + notes.mark(board.no_rank[row.label]),
                _shown(cell, primary, len(row.runs), notes),
                _difference(board, row, cell, primary, notes),
                *_tests(board, row, cell, notes),
            )
        )
        costs.append(
            (
                row.label,
                "-" + notes.mark(_NOT_MEASURED) if row.cost is None else fixed(row.cost, 2),
                _of_role(board, row, "state", notes),
                _of_role(board, row, "tokens", notes),
                str(cell.interval.n if cell.interval else 0),
                str(cell.items),
            )
        )
    columns = (
        "row",
        "rank",
        f"{primary.name}{unit}",
        _against(board),
        "p (FDR)",
        "smallest detectable",
        f"no effect{within}",
    )
    below = "" if board.chance is None else f"Chance on the primary rung: {chance_text(board.chance)}"
    relative = f"step time / {board.reference}" if board.reference else "step time / reference"
    state = next((f" ({m.unit})" for m in board.measures if m.role == "state" and m.unit), "")
    cost_columns = ("row", relative, f"extra state{state}", "trained tokens", "seeds", "items")
    return [
        _Block("Primary measure", columns, tuple(results), below),
        _Block("Cost and evidence", cost_columns, tuple(costs)),
    ]


def _against(board: Board) -> str:
    return f"difference to {board.reference}" if board.reference else "difference"


def _of_role(board: Board, row: Row, role: str, notes: _Notes) -> str:
    """The mean of the measure with that role; its spread stands in the table of all measures."""
    measure = next((measure for measure in board.measures if measure.role == role), None)
    if measure is None:
        return "-" + notes.mark("no metric gives it")
    cell = board.cells[row.label, measure.name]
    if cell.interval is None:
        return "-" + notes.mark(cell.reason)
    return format_number(cell.interval.mean, measure.unit)


def _tests(board: Board, row: Row, cell: Cell, notes: _Notes) -> tuple[str, str, str]:
    """p-value, smallest detectable difference and whether no effect was shown, on the primary measure."""
    if board.reference == row.label:
        return ("",) * 3
    if cell.difference is None:
        return ("-" + notes.mark("no difference to test"),) * 3
    return _tested(cell.difference, board.primary, notes)


def _tested(found: Difference, measure: Measure, notes: _Notes) -> tuple[str, str, str]:
    p = format_p(found.p) if found.p is not None else "-" + notes.mark(found.reason)
    if found.detectable is not None:
        detectable = format_number(found.detectable, measure.unit)
    elif found.interval.n < 2:
        detectable = "-" + notes.mark(found.interval.reason)
    else:
        detectable = "-" + notes.mark("every seed gives the same difference: no spread to work it out from")
    if found.equivalent is not None:
        alike = "shown" if found.equivalent else "not shown"
    elif measure.margin is None:
        alike = "-" + notes.mark("the measure states no margin within which rows are alike")
    else:
        alike = "-" + notes.mark(found.reason)
    return p, detectable, alike


def chance_text(chance: float) -> str:
    """Three digits: a chance of 1/256 is .00391, not .00."""
    return without_zero(significant(chance))


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
    return _interval(cell.difference.interval, measure, notes)


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
    parts = ["# Leaderboard", "", _TABLE_NOTE, ""]
    for board in table.boards:
        parts += [f"## {escape_markdown(_title(board))}", ""]
        parts += [*(f"- {escape_markdown(board.verdicts[row.label])}" for row in board.rows), ""]
        for block in _blocks(board, notes):
            parts += [f"### {escape_markdown(block.title)}", "", *_markdown(block)]
    return "\n".join([*parts, *_notes_listed(notes)])


def _markdown(block: _Block) -> list[str]:
    lines = [_line(block.columns), _line(["---"] * len(block.columns), lambda text: text)]
    lines += [*(_line(line) for line in block.lines), ""]
    return [*lines, escape_markdown(block.below), ""] if block.below else lines


def _notes_listed(notes: _Notes) -> list[str]:
    if not notes.texts:
        return []
    listed = (f"({i}) {escape_markdown(text)}  " for i, text in enumerate(notes.texts, 1))
    return ["## Notes", "", *listed, ""]


def _line(cells: Sequence[str], escape: Callable[[str], str] = escape_markdown) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def to_latex(table: Table) -> str:
    r"""Primary measure and costs of every board for a paper, two `table` environments each.

    Needs ``\usepackage{booktabs}`` and nothing else; compiles with pdfLaTeX, XeLaTeX and LuaLaTeX. All measures
    are left to Markdown and CSV: they fill pages.
    """
    parts = [r"% Needs \usepackage{booktabs} in the preamble.", ""]
    for board in table.boards:
        notes = _Notes()
        result, costs = _summary(board, notes)
        parts += [*_latex(result, f"{_title(board)}: {result.title.lower()}. {_TABLE_NOTE}", notes), ""]
        parts += [*_latex(costs, f"{_title(board)}: {costs.title.lower()}.", notes), ""]
    return "\n".join(parts)


def _latex(block: _Block, caption: str, notes: _Notes) -> list[str]:
    marks = {number for line in block.lines for cell in line for number in re.findall(r" \((\d+)\)", cell)}
    below = [block.below] if block.below else []
    below += [f"({i}) {text}" for i, text in enumerate(notes.texts, 1) if str(i) in marks]
    heads = [
        _latex_heading(wrap(clean(name), _width(name, cells)))
        for name, *cells in zip(block.columns, *block.lines, strict=True)
    ]
    rows = [" & ".join(map(escape_latex, cells)) + r" \\" for cells in block.lines]
    return [
        r"\begin{table}",
        r"\centering",
        r"\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(block.columns) - 1)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par {escape_latex(text)}" for text in below),
        r"\end{table}",
    ]


def _latex_heading(lines: Sequence[str]) -> str:
    """A heading of several lines, which takes no package."""
    stacked = r" \\ ".join(map(escape_latex, lines))
    return stacked if len(lines) < 2 else rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{stacked}\end{{tabular}}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    # In braces: after \\ a bracket begins an option and a star another command; ?` is another sign.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "`": "{`}",
    '"': "{''}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "—": "---",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is: no command, no ligature, no character its default fonts lack.

    A minus before a number becomes a minus sign. Letters with accents stay; other signs outside ASCII are
    named by their code point, such as ``[U+4E2D]``, since pdfLaTeX stops at them.
    """
    marked = re.sub(r"(?<![\w-])-(?=\.?\d)", "−", clean(text))
    parts = []
    for before, sign in zip(f" {marked}", marked, strict=False):
        joins = before == sign and sign in "-,'"
        escaped = _LATEX.get(sign) or (sign if _in_latex_fonts(sign) else _code_point(sign))
        parts.append("{}" * joins + escaped)
    return "".join(parts)


def _in_latex_fonts(sign: str) -> bool:
    base = unicodedata.normalize("NFD", sign)[0]
    return sign.isascii() or (sign <= "ÿ" and base.isascii() and base.isalpha())


def _code_point(sign: str) -> str:
    return f"{{[}}U+{ord(sign):04X}{{]}}"


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
                        "mean": ten_digits(interval.mean if interval else None),
                        "low": ten_digits(interval.low if interval else None),
                        "high": ten_digits(interval.high if interval else None),
                        "seeds": interval.n if interval else 0,
                        "items": cell.items,
                        "reference": board.reference,
                        "difference": ten_digits(to_reference.mean if to_reference else None),
                        "difference_low": ten_digits(to_reference.low if to_reference else None),
                        "difference_high": ten_digits(to_reference.high if to_reference else None),
                        "p": ten_digits(difference.p if difference else None),
                        "raw_p": ten_digits(difference.raw_p if difference else None),
                        "detectable": ten_digits(difference.detectable if difference else None),
                        "margin": ten_digits(measure.margin),
                        "equivalent": difference.equivalent if difference else None,
                        "rank": board.ranks[row.label] if is_primary else None,
                        "step_time": ten_digits(row.cost) if is_primary else None,
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
        "note": _TABLE_NOTE,
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
            {"scenario": board.scenario, "model": board.model, "chance": ten_digits(board.chance)}
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
            {**record, "value": None if pd.isna(record["value"]) else ten_digits(record["value"])}
            for record in table.scores.to_dict("records")
        ],
    }
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n"


def to_rich(table: Table, *, all_measures: bool = True) -> Group:
    """The table for the terminal; `all_measures` False prints verdicts, primary measure and costs only."""
    from rich.console import Group
    from rich.text import Text

    notes = _Notes()
    parts: list[RenderableType] = []
    for board in table.boards:
        for block in _blocks(board, notes) if all_measures else _summary(board, notes):
            parts += _drawn(replace(block, title=f"{_title(board)}: {block.title.lower()}"))
        parts += [Text(clean(board.verdicts[row.label])) for row in board.rows]
    return Group(*parts, *_notes_drawn(notes, _TABLE_NOTE))


def _drawn(block: _Block) -> list[RenderableType]:
    from rich.markup import escape
    from rich.table import Table as RichTable
    from rich.text import Text

    def shown(text: str) -> str:
        return escape(clean(text))

    drawn = RichTable(title=shown(block.title), title_justify="left")
    for name, *cells in zip(block.columns, *block.lines, strict=True):
        # Headings wrap before cells do, and what is too long goes on below instead of being cut.
        drawn.add_column(shown(name), overflow="fold", max_width=_width(name, cells))
    for line in block.lines:
        drawn.add_row(*map(shown, line))
    return [drawn, Text(clean(block.below))] if block.below else [drawn]


def _notes_drawn(notes: _Notes, last: str) -> list[RenderableType]:
    from rich.text import Text

    lines = [clean(f"({i}) {text}") for i, text in enumerate(notes.texts, 1)]
    return [Text(line, style="dim") for line in (*lines, last)]


def comparison_rich(comparisons: Sequence[Comparison], a: str, b: str) -> Group:
    """What `leaderboard.compare` gave for the rows `a` and `b`, for the terminal."""
    from rich.console import Group

    notes = _Notes()
    parts = [part for block in _compared(comparisons, a, b, notes) for part in _drawn(block)]
    return Group(*parts, *_notes_drawn(notes, _COMPARISON_NOTE))


def comparison_markdown(comparisons: Sequence[Comparison], a: str, b: str) -> str:
    """What `leaderboard.compare` gave for the rows `a` and `b`, as Markdown."""
    notes = _Notes()
    parts = [f"# {escape_markdown(f'{a} minus {b}')}", "", _COMPARISON_NOTE, ""]
    for block in _compared(comparisons, a, b, notes):
        parts += [f"## {escape_markdown(block.title)}", "", *_markdown(block)]
    return "\n".join([*parts, *_notes_listed(notes)])


def _compared(comparisons: Sequence[Comparison], a: str, b: str, notes: _Notes) -> list[_Block]:
    """Differences, the rows' own means, and measures without a difference; empty tables are left out."""
    differences, means = [], []
    missing: dict[str, list[str]] = {}
    for comparison in comparisons:
        measure, found = comparison.measure, comparison.difference
        name = (measure.name, _unit(measure))
        if found is None:
            missing.setdefault(comparison.reason, []).append(measure.name)
            continue
        seeds = str(found.interval.n)
        shown = _interval(found.interval, measure, notes)
        differences.append((*name, shown, *_tested(found, measure, notes), seeds))
        means.append((*name, _mean(comparison.first, measure), _mean(comparison.second, measure)))
    tests = ("difference", "p (FDR)", "smallest detectable", "no effect", "common seeds")
    blocks = [
        _Block(f"Difference, {a} minus {b}", ("measure", "unit", *tests), tuple(differences)),
        _Block("Both rows, over all their seeds", ("measure", "unit", a, b), tuple(means)),
        _Block(
            "Without a difference",
            ("measures", "why"),
            tuple((", ".join(names), why) for why, names in missing.items()),
        ),
    ]
    return [block for block in blocks if block.lines]


def _mean(interval: Interval | None, measure: Measure) -> str:
    return "-" if interval is None else format_interval(interval, measure.unit)


def _interval(interval: Interval, measure: Measure, notes: _Notes) -> str:
    return format_interval(interval, measure.unit) + notes.mark(interval.reason)
