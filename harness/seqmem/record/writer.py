"""Write rows of a run part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqmem.record.files import Proof, write_table
from seqmem.record.schema import ITEMS, ITEMS_FILE, TABLES


class RecordWriter:
    """Rows of a run in memory, put on disk part by part.

    Attributes:
        parts: how many parts each table has on disk.
        files: what proves each file that is on disk, by its place in the folder.
    """

    def __init__(self, folder: Path) -> None:
        """Write into `folder`, from the first part on."""
        self.folder = folder
        self.parts = 0
        self.files: dict[str, Proof] = {}
        self._rows: dict[str, dict[str, list[Any]]] = {
            name: {column: [] for column in schema.names} for name, schema in TABLES.items()
        }

    def go_back(self, parts: int, files: Mapping[str, Proof]) -> None:
        """Continue after `parts` finished parts; delete later ones, and rows not yet written."""
        self.parts, self.files = parts, dict(files)
        for name, rows in self._rows.items():
            for column in rows.values():
                column.clear()
            for path in (self.folder / name).glob("*"):  # halves that a killed process left among them
                if f"{name}/{path.name}" not in files:
                    path.unlink()

    def write_items(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write what is asked, one row per probe, columns as `ITEMS`."""
        self.files[ITEMS_FILE] = write_table(self.folder / ITEMS_FILE, columns, ITEMS)

    def add(self, table: str, **columns: Sequence[Any]) -> None:
        """Append rows, one sequence per column of `TABLES[table]`."""
        for name, rows in self._rows[table].items():
            rows.extend(columns[name])

    def flush(self) -> None:
        """Write the rows added since the last flush as the next part of every table."""
        for name, rows in self._rows.items():
            part = f"{name}/part-{self.parts:05d}.parquet"
            self.files[part] = write_table(self.folder / part, rows, TABLES[name])
            for column in rows.values():
                column.clear()
        self.parts += 1
