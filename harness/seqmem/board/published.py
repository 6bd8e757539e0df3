"""A published board as its folder has it: rules, and the rows that its records make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from seqmem.board.judge import Judge
from seqmem.board.layout import SEARCHES, record_folders
from seqmem.board.placing import Placed, place, rows_of
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
        judge: by the rules of the board.
        placed: its records.
        rows: made of what the records say of themselves, the reference first, the others by label.
    """

    folder: Path
    judge: Judge
    placed: Sequence[Placed]
    rows: list[Row]

    @property
    def rules(self) -> Rules:
        """The rules of the board."""
        return self.judge.rules

    @cached_property
    def searches(self) -> Mapping[str, Search]:
        """The searches that tuned rows, by label."""
        return {one.label: one.search for one in self.placed if one.search is not None}


def read_board(folder: Path, registry: Registry | None = None) -> PublishedBoard:
    """Return a published board with its rows.

    Raises:
        UsageError: rules or a record cannot be read, or a record has no place on the board.
    """
    judge = Judge(read_rules(folder), registry or Registry.from_environment())
    searches = [read_search(path) for path in sorted((folder / SEARCHES).glob("*.json"))]
    placed = [place(judge, RunRecord.open(path), searches) for path in record_folders(folder)]
    return PublishedBoard(folder, judge, placed, rows_of(placed, judge, read_cost(folder)))
