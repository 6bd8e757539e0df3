"""A published board as its folder has it: rules, and the rows that its records make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seqmem.board.files import SEARCHES, record_folders
from seqmem.board.judge import Judge
from seqmem.board.placing import place, rows_of
from seqmem.board.rules import Rules, read_rules
from seqmem.planning.search import Search, read_search
from seqmem.planning.store import read_cost
from seqmem.plugin.registry import Registry
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row


@dataclass(frozen=True)
class PublishedBoard:
    """A published board.

    Attributes:
        rows: by what the records say of themselves, the reference first, the others by label.
        searches: row label to how the row was tuned.
    """

    rules: Rules
    rows: list[Row]
    folder: Path
    judge: Judge
    searches: Mapping[str, Search]


def read_board(folder: Path, registry: Registry | None = None) -> PublishedBoard:
    """Return a published board with its rows.

    Raises:
        UsageError: rules or a record cannot be read, or a record has no place on the board.
    """
    rules = read_rules(folder)
    judge = Judge(rules, registry or Registry.from_environment())
    searches = [read_search(path) for path in sorted((folder / SEARCHES).glob("*.json"))]
    placed = [place(judge, RunRecord.open(path), searches) for path in record_folders(folder)]
    return PublishedBoard(
        rules,
        rows_of(placed, judge, read_cost(folder)),
        folder,
        judge,
        {one.label: one.search for one in placed if one.search is not None},
    )
