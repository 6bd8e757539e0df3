"""Published tables against a second computation that shares no code with the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import recompute
from recompute.board import Board
from recompute.compare import FITTED, hold
from recompute.page import Page

BOARDS = Path(__file__).resolve().parents[2] / "leaderboards"

LEAST = {"memory_loops-v4": 1390, "freeze_loops-v3": 1130}
"""Places that are compared at least: cells, headings, lists of lines, parts of verdicts."""


@pytest.fixture(scope="module", params=LEAST)
def page(request: pytest.FixtureRequest) -> Page:
    return Page(Board(BOARDS / request.param))


def test_every_figure_of_a_board_is_computed_again(page: Page) -> None:
    text = printed(page)
    found = hold(page, text)
    assert not found.differing
    assert found.compared >= LEAST[page.board.folder.name]
    assert found.cells == len(list(cells(text)))  # nothing that stands in a table is skipped
    # the package reads a fit off a grid: the third digit may be another
    assert len(found.near) <= 5
    assert all(any(f", {measure}," in place for measure in FITTED) for place in found.near)


def test_no_cell_passes_unread(page: Page) -> None:
    text = printed(page)
    above, tables, behind = re.split(r"(?=### Primary measure)|(?=### Without a value)", text, maxsplit=2)
    changed = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), tables)
    found = hold(page, above + changed + behind)
    with_digits = sum(bool(re.search(r"\d", re.sub(r" \(\d+\)$", "", cell))) for cell in cells(text))
    assert len(found.differing) >= with_digits


def printed(page: Page) -> str:
    return (page.board.folder / "TABLE.md").read_text("utf-8")


def cells(text: str) -> Iterator[str]:
    """Every cell of the tables with figures, but for the first of a line, which names it."""
    for table in text.partition("### Without a value")[0].split("\n\n"):
        if table.startswith("|"):
            for line in table.splitlines()[2:]:
                yield from (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[2:-1])


def test_the_second_computation_shares_no_code() -> None:
    files = sorted(Path(str(recompute.__file__)).parent.glob("*.py"))
    assert len(files) > 10
    for file in files:
        tree = ast.parse(file.read_text("utf-8"))
        names = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not [name for name in names if name.startswith("seqmem")], file.name
