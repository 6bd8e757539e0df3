"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from seqmem.core.sanitize import clean
from seqmem.reporting.blocks import PAIR_NOTE, TABLE_NOTE, Block, footnotes, pair_section, section
from seqmem.reporting.fields import printed
from seqmem.scoring.comparison import Table
from seqmem.scoring.pairs import PairComparison

if TYPE_CHECKING:
    from rich.console import Group, RenderableType


def to_rich(table: Table, *, all_measures: bool = True) -> Group:
    """Return the table for the terminal; without `all_measures` only verdicts, primary measure and costs."""
    from rich.console import Group
    from rich.text import Text

    sections = [section(comparison, all_measures=all_measures) for comparison in table.boards]
    notes = footnotes(sections)
    parts: list[RenderableType] = []
    for one in sections:
        for block in one.blocks:
            parts += _drawn(block, f"{one.title}: {block.title.lower()}", notes)
        parts += [Text(clean(verdict.text)) for verdict in one.verdicts]
    return Group(*parts, *_notes(notes, TABLE_NOTE))


def comparison_rich(pairs: Sequence[PairComparison], a: str, b: str) -> Group:
    """Return what `compare` gave for the rows `a` and `b`, for the terminal."""
    from rich.console import Group

    one = pair_section(pairs, a, b)
    parts = [part for block in one.blocks for part in _drawn(block, block.title, one.notes)]
    return Group(*parts, *_notes(one.notes, PAIR_NOTE))


def column_width(heading: str, cells: Iterable[str]) -> int:
    """Return the places a column takes when its heading wraps and its cells do not."""
    from rich.cells import cell_len

    words = (min(cell_len(clean(heading)), 10), *(cell_len(clean(word)) for word in heading.split()))
    return max(*words, *(cell_len(clean(cell)) for cell in cells))


def _drawn(block: Block, title: str, notes: Sequence[str]) -> list[RenderableType]:
    from rich.markup import escape
    from rich.table import Table as RichTable
    from rich.text import Text

    def shown(text: str) -> str:
        return escape(clean(text))

    lines = [[printed(field, notes) for field in line] for line in block.lines]
    drawn = RichTable(title=shown(title), title_justify="left")
    for name, *cells in zip(block.columns, *lines, strict=True):
        # Headings wrap before cells do, and what is too long goes on below instead of being cut.
        drawn.add_column(shown(name), overflow="fold", max_width=column_width(name, cells))
    for line in lines:
        drawn.add_row(*map(shown, line))
    return [drawn, Text(clean(block.below))] if block.below else [drawn]


def _notes(notes: Sequence[str], last: str) -> list[RenderableType]:
    from rich.text import Text

    lines = [clean(f"({i}) {text}") for i, text in enumerate(notes, 1)]
    return [Text(line, style="dim") for line in (*lines, last)]
