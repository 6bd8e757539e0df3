"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seqmem.core.sanitize import clean
from seqmem.reporting.blocks import PAIR_NOTE, TABLE_NOTE, Block, footnotes, pair_section, section
from seqmem.reporting.fields import printed
from seqmem.scoring.comparison import Table
from seqmem.scoring.pairs import PairComparison


def escape_markdown(text: str) -> str:
    """Return text that Markdown prints as it is: no markup, no HTML, no table cell, no link, no mention."""
    entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
    escaped = "".join(
        entities.get(char, f"\\{char}" if char in "\\`*_[]|~#!$" else char) for char in clean(text)
    )
    # A colon or "www." makes a bare link in GitHub's dialect.
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def to_markdown(table: Table) -> str:
    """Return the table as Markdown."""
    sections = [section(comparison) for comparison in table.boards]
    notes = footnotes(sections)
    parts = ["# Leaderboard", "", TABLE_NOTE, ""]
    for one in sections:
        parts += [f"## {escape_markdown(one.title)}", ""]
        parts += [*(f"- {escape_markdown(verdict.text)}" for verdict in one.verdicts), ""]
        for block in one.blocks:
            parts += [f"### {escape_markdown(block.title)}", "", *_table(block, notes)]
    return "\n".join([*parts, *_notes(notes)])


def comparison_markdown(pairs: Sequence[PairComparison], a: str, b: str) -> str:
    """Return what `compare` gave for the rows `a` and `b` as Markdown."""
    one = pair_section(pairs, a, b)
    parts = [f"# {escape_markdown(one.title)}", "", PAIR_NOTE, ""]
    for block in one.blocks:
        parts += [f"## {escape_markdown(block.title)}", "", *_table(block, one.notes)]
    return "\n".join([*parts, *_notes(one.notes)])


def _table(block: Block, notes: Sequence[str]) -> list[str]:
    """Return the lines of one table, with an empty one at the end."""
    cells = [[printed(field, notes) for field in line] for line in block.lines]
    below = [escape_markdown(block.below), ""] if block.below else []
    head = [_line(map(escape_markdown, block.columns)), _line("---" for _ in block.columns)]
    return [*head, *(_line(map(escape_markdown, line)) for line in cells), "", *below]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _notes(notes: Sequence[str]) -> list[str]:
    listed = [f"({i}) {escape_markdown(text)}  " for i, text in enumerate(notes, 1)]
    return ["## Notes", "", *listed, ""] if listed else []
