"""Write rows of a run part by part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqmem.record.schema import TABLES, write_table


class RecordWriter:
    """Rows of a run in memory, put on disk part by part."""

    def __init__(self, folder: Path) -> None:
        """Write into `folder`, from the first part on."""
        self.folder = folder
        self.parts = 0
        self._rows: dict[str, dict[str, list[Any]]] = {
            name: {column: [] for column in schema.names} for name, schema in TABLES.items()
        }

    def drop_parts_after(self, parts: int) -> None:
        """Continue after `parts` finished parts; delete later ones, and rows not yet written."""
        self.parts = parts
        for name, rows in self._rows.items():
            for column in rows.values():
                column.clear()
            for part in (self.folder / name).glob("part-*.parquet"):
                if int(part.stem.removeprefix("part-")) >= parts:
                    part.unlink()

    def add(self, table: str, **columns: Sequence[Any]) -> None:
        """Append rows, one sequence per column of `TABLES[table]`."""
        for name, rows in self._rows[table].items():
            rows.extend(columns[name])

    def flush(self) -> None:
        """Write the rows added since the last flush as the next part of every table."""
        for name, rows in self._rows.items():
            write_table(self.folder / name / f"part-{self.parts:05d}.parquet", rows, TABLES[name])
            for column in rows.values():
                column.clear()
        self.parts += 1
