"""The tables of a record: their files, what proves them, and the reading of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seqmem.core.errors import UsageError
from seqmem.record.archive import archive_of, members, read_bytes
from seqmem.record.files import sha256
from seqmem.record.schema import ASKED_ORDER, ITEMS, ITEMS_FILE, PROVEN, RUN_FILE, TABLES
from seqmem.record.upgrade import with_lists_of_schedules

ITEMS_ARCHIVE = "items.zip"
"""Holds the items of all records of a board, beside the folder of its rows' archives."""
_LATER_COLUMNS = frozenset({"said", "rank", "in_form"})
"""Columns that a readable format may lack."""
_LARGE = 4 << 20
"""Bytes of a file from which on several threads read it faster than one."""


@dataclass(frozen=True)
class Tables:
    """The files of a record's tables, each checked when it is read.

    Attributes:
        info: the record's run.json.
    """

    folder: Path
    info: Mapping[str, Any]

    @property
    def compact(self) -> bool:
        """Return whether they are laid out as `compact` writes them."""
        return "compact" in self.info

    @property
    def proven(self) -> bool:
        """Return whether run.json proves them: not before a run has finished, nor in older formats."""
        finished = self.compact or self.info.get("status") == "finished"
        return finished and bool(self.info.get("format", 0) >= PROVEN)

    def check(self) -> None:
        """Accept a folder that holds the files that run.json names, and those alone.

        Raises:
            UsageError: one is missing or does not belong there, or run.json gives no hash for it.
        """
        if not self.proven:
            return
        stated, there = self.info["files"], self._there()
        for name, proof in stated.items():
            if not isinstance(proof, dict) or not isinstance(proof.get("sha256"), str):
                raise UsageError(f"{self.folder / RUN_FILE}: its files.{name} must be rows and sha256")
        for wrong, why in (
            (stated.keys() - there, "is missing: the record's run.json names it"),
            (there - stated.keys(), "does not belong there: the record's run.json does not name it"),
        ):
            if wrong:
                more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
                raise UsageError(f"{self.folder / min(wrong)} {why}{more}")

    def _there(self) -> set[str]:
        """Return the files of tables in the folder, by their place in it."""
        archive = archive_of(self.folder)
        if archive is None:
            files = [*self.folder.glob("*.parquet"), *self.folder.glob("*/*.parquet")]
            return {path.relative_to(self.folder).as_posix() for path in files}
        front = f"{self.folder.relative_to(archive).as_posix()}/"
        return {name.removeprefix(front) for name in members(archive) if name.startswith(front)} - {RUN_FILE}

    def files(self, table: str) -> Mapping[str, Mapping[str, Any] | None]:
        """Return a table's files by their place in the folder, each with what proves it, where anything does."""
        if self.proven:
            stated: Mapping[str, Mapping[str, Any]] = self.info["files"]
            own = [n for n in sorted(stated) if n == f"{table}.parquet" or n.startswith(f"{table}/")]
            return {name: stated[name] for name in own}
        if self.compact:
            hashes = self.info["tables"]
            return {f"{table}.parquet": {"sha256": hashes[table]}} if table in hashes else {}
        return {f"{table}/{path.name}": None for path in sorted((self.folder / table).glob("part-*.parquet"))}

    def read(self, table: str) -> pa.Table:
        """Return a table with the columns of `TABLES[table]`, probes in the order of asking.

        Raises:
            UsageError: a file of it is missing, was changed, cannot be read, or lacks a column.
        """
        schema = TABLES[table]
        # the empty one brings the columns that an older format lacks
        found = [schema.empty_table()]
        found += [_read(self.folder / file, schema, proof) for file, proof in self.files(table).items()]
        joined = pa.concat_tables(found, promote_options="default").select(schema.names)
        if self.compact and table == "probes":
            joined = joined.sort_by([(column, "ascending") for column in ASKED_ORDER])
        return joined

    def items(self) -> pa.Table:
        """Return one row per probe, with the columns of `ITEMS`.

        Raises:
            UsageError: its file is missing, was changed, cannot be read, or lacks a column.
        """
        path = self.items_file()
        if not self.compact:
            return _read(path, ITEMS, self.info["files"].get(ITEMS_FILE) if self.proven else None)
        home = archive_of(path) or path
        try:
            status = home.stat()
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
        return _shared_items(path, (status.st_ino, status.st_mtime_ns, status.st_size))

    def items_file(self) -> Path:
        """Return the path of the items.

        Raises:
            UsageError: a compact record names no file of items.
        """
        if not self.compact:
            return self.folder / ITEMS_FILE
        named = str(self.info.get("items"))
        if not re.fullmatch(r"[0-9a-f]{16}", named):
            raise UsageError(f"{self.folder}: run.json names no items but {named!r}")
        archive = archive_of(self.folder)
        home = self.folder.parent if archive is None else archive.parent.parent / ITEMS_ARCHIVE
        return home / f"items-{named}.parquet"


@lru_cache(maxsize=4)
def _shared_items(path: Path, version: tuple[int, ...]) -> pa.Table:
    """Return the items that compact records share, which prove themselves by their file's name."""
    items = _read(path, ITEMS, None)
    if f"items-{items_hash(items)}" != path.stem:
        raise UsageError(f"{path}: was changed or damaged: the hash in its name is not that of what it says")
    return items


def items_hash(items: pa.Table) -> str:
    """Return the hash of what a table of items says, first 16 hex digits of SHA-256; the file's bytes may differ."""
    text = json.dumps(items.to_pydict(), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode())[:16]


def _read(path: Path, schema: pa.Schema, proof: Mapping[str, Any] | None) -> pa.Table:
    """Return the columns of `schema` in a file, each in its type; later formats' may be missing."""
    try:
        content = read_bytes(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    if proof is not None and sha256(content) != proof["sha256"]:
        raise UsageError(f"{path}: was changed or damaged: it is not what the record's run.json says of it")
    try:
        # as a data set of one file it would take four times as long
        whole = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=len(content) >= _LARGE)
        if proof is not None and proof.get("rows", len(whole)) != len(whole):
            raise UsageError(f"{path}: holds {len(whole)} rows, the record's run.json says {proof['rows']}")
        table = with_lists_of_schedules(whole)
        fields = [schema.field(name) for name in schema.names if name in table.schema.names]
        found = table.select([field.name for field in fields]).cast(pa.schema(fields))
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from error
    missing = set(schema.names) - set(found.schema.names) - _LATER_COLUMNS
    if missing:
        raise UsageError(f"{path}: cannot be read, it lacks the columns {', '.join(sorted(missing))}")
    return found
