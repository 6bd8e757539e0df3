"""A board's TABLE.md beside what was computed from its records."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .board import Board
from .page import Page
from .printed import Table, tables, verdicts

FITTED = dict.fromkeys(("retention.half_life", "retention.half_life_low", "retention.half_life_high"), 0.0005)
"""Measures that come from a numerical fit, and how far from it a printed figure may lie: it is read off a parabola
through three points of a grid (docs/metrics/retention.md)."""

WITHOUT = "Without a value in any row"


@dataclass
class Found:
    """What came of a comparison: how much was compared, and what differs."""

    board: str
    compared: int = 0
    cells: int = 0
    differing: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)

    def check(self, where: str, printed: str, computed: str, within: float = 0.0) -> None:
        self.compared += 1
        if printed != computed:
            close = within > 0 and apart(printed, computed) <= within
            said = f"{self.board}, {where}: printed {printed!r}, computed {computed!r}"
            (self.near if close else self.differing).append(said)


def compare(folder: Path) -> Found:
    """Compute every table and every verdict of a board and hold them against its TABLE.md."""
    return hold(Page(Board(folder)), (folder / "TABLE.md").read_text("utf-8"))


def hold(page: Page, text: str) -> Found:
    """Hold what was computed against the text of a TABLE.md."""
    found = Found(page.board.folder.name)
    listed, across, without = dict[str, list[str]](), dict[str, list[str]](), list[str]()
    for table in tables(text):
        if table.title == WITHOUT:
            without = [name for line in table.lines for name in line[0].split(", ")]
        elif table.title in page.printing:
            check_table(found, page, table)
            names = [", ".join(line[:2]) if table.title == "Detectors" else line[0] for line in table.lines]
            listed[table.title] = names
            across.setdefault(table.title, []).extend(table.head[2:])
        else:
            found.differing.append(f"{found.board}: a table {table.title!r} that nobody computes")
    for title, lines in page.lines().items():
        found.check(f"lines of {title}", "; ".join(listed.pop(title, [])), "; ".join(lines))
    found.check("tables that should not be there", "; ".join(listed), "")
    for title in ("All measures", page.compared):
        rows = page.board.rows if title == "All measures" else page.board.rows[1:]
        found.check(f"columns of {title}", "; ".join(across.get(title, [])), "; ".join(rows))
    valued = {name for name in page.board.measures if page.board.has_value(name)}
    missing = sorted(set(page.board.measures) - valued)
    found.check(WITHOUT, "; ".join(sorted(without)), "; ".join(missing))
    check_words(found, page, text)
    return found


def apart(printed: str, computed: str) -> float:
    """How far the numbers of two cells lie apart at most; infinitely where anything else differs."""
    number = r"-?\d*\.?\d+"
    if re.sub(number, "", printed) != re.sub(number, "", computed):
        return float("inf")
    both = zip(re.findall(number, printed), re.findall(number, computed), strict=True)
    return max(abs(float(one) - float(other)) for one, other in both)


def check_table(found: Found, page: Page, table: Table) -> None:
    """Check the heading of a table and every cell of its lines; the first cell names the line."""
    for printed, expected in zip(table.head, page.heading(table), strict=True):
        found.check(f"heading of {table.title}", printed, str(expected))
    for line in table.lines:
        computed = page.printing[table.title](table, line)
        for name, cell, expected in zip(table.head[1:], line[1:], computed[1:], strict=True):
            found.cells += 1
            found.check(f"{table.title}, {line[0]}, {name}", cell, expected, FITTED.get(line[0], 0.0))


def check_words(found: Found, page: Page, text: str) -> None:
    """Check the verdicts above the tables, part by part, and the line below the first table."""
    said, expected = verdicts(text), page.verdicts()
    found.check("number of verdicts", str(len(said)), str(len(expected)))
    for one, other in zip(said, expected, strict=False):
        parts, computed = one.split("; "), other.split("; ")
        row = " ".join(one.split(" ")[:2])
        found.check(f"parts of the verdict {row}", str(len(parts)), str(len(computed)))
        for printed, part in zip(parts, computed, strict=False):
            found.check(f"verdict {row}", printed, part)
    starts = ("Chance on the primary", "Seeds that lie far")
    below = [line for line in text.splitlines() if line.startswith(starts)]
    found.check("below the first table", "; ".join(below), page.below())
