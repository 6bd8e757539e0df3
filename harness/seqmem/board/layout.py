"""The files of a published board, a leaderboard that anybody can build again from what is committed, without torch.

It is a folder ``leaderboards/<scenario>-v<version>``, with the preset behind it unless that is ``default``::

    board.toml               the frozen rules, see `rules`
    records/<row>.zip        compact records of a row, see `compact`; rows are put together from what records say
    items.zip                what was asked; runs of a seed share it
    searches/<row>.json      how a tuned row was tuned, as `seqmem tune` left it
    cost.json                step times over the reference's, where they were measured
    manifest.json            SHA-256 of all of these and of the figures, and the versions of the metrics
    TABLE.md, table.csv, table.json, figures/*.svg    what `build` makes of them
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from seqmem.board.rules import RULES
from seqmem.core.errors import UsageError
from seqmem.core.sanitize import distinct_file_name, file_name
from seqmem.planning.store import COST
from seqmem.record.archive import SUFFIX, members
from seqmem.record.files import sha256, write_json
from seqmem.record.tables import ITEMS_ARCHIVE

MANIFEST = "manifest.json"
TABLES = ("TABLE.md", "table.csv", "table.json")
RECORDS, SEARCHES, FIGURES = "records", "searches", "figures"
HOME = Path("leaderboards")
"""Folder of published boards, unless another is named."""

Progress = Callable[[str], None]


def published_boards(path: Path) -> list[Path]:
    """Return the folders of the published boards in a folder, or the one that `path` is."""
    if (path / RULES).exists():
        return [path]
    return sorted(found.parent for found in path.glob(f"*/{RULES}"))


def row_archive(folder: Path, label: str) -> Path:
    """Return the archive of a row's records; rows whose labels differ in signs alone share one."""
    return folder / RECORDS / f"{file_name(label)}{SUFFIX}"


def search_file(folder: Path, label: str) -> Path:
    """Return the file that says how a row was tuned."""
    return folder / SEARCHES / f"{distinct_file_name(label)}.json"


def row_archives(folder: Path) -> list[Path]:
    """Return the archives of a board's records."""
    return sorted((folder / RECORDS).glob(f"*{SUFFIX}"))


def record_folders(folder: Path) -> list[Path]:
    """Return the folders of a board's records, inside of their archives.

    Raises:
        UsageError: an archive cannot be read, or records lie in folders as in earlier versions.
    """
    for old in (folder / RECORDS).glob("*/run.json"):
        raise UsageError(
            f"{old.parent}: records of a board now lie in one archive per row; take {folder / RECORDS} away and "
            "submit the runs again with `seqmem leaderboard submit`"
        )
    return [
        archive / name
        for archive in row_archives(folder)
        for name in sorted({member.partition("/")[0] for member in members(archive)})
    ]


def items_of(folder: Path) -> Mapping[str, bytes]:
    """Return what was asked in the runs of a board, by the name of the file in its archive.

    Raises:
        UsageError: the archive cannot be read.
    """
    archive = folder / ITEMS_ARCHIVE
    return members(archive) if archive.exists() else {}


class Manifest(NamedTuple):
    """The content of a board's ``manifest.json``.

    Attributes:
        files: SHA-256 by file. Of archives it has what was asked and every run.json, which holds the hashes of the
            record's tables.
        metrics: the versions of the metrics in the tables.
    """

    files: Mapping[str, str]
    metrics: Mapping[str, str]


def write_manifest(folder: Path, metrics: Mapping[str, str]) -> None:
    """Write ``manifest.json`` of a board.

    Raises:
        UsageError: an archive cannot be read.
    """
    found = [folder / name for name in (RULES, COST) if (folder / name).exists()]
    found += [path for part in (SEARCHES, FIGURES) for path in (folder / part).rglob("*") if path.is_file()]
    hashes = {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in found}
    hashes |= {f"{ITEMS_ARCHIVE}/{name}": sha256(content) for name, content in items_of(folder).items()}
    for archive in row_archives(folder):
        runs = {name: content for name, content in members(archive).items() if name.endswith("/run.json")}
        hashes |= {f"{RECORDS}/{archive.name}/{name}": sha256(content) for name, content in runs.items()}
    write_json(folder / MANIFEST, {"format": 2, "files": hashes, "metrics": dict(metrics)})


def read_manifest(path: Path) -> Manifest:
    """Return what a ``manifest.json`` says.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(*({str(k): str(v) for k, v in stated[part].items()} for part in Manifest._fields))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path}: cannot be read ({error!r}); `seqmem leaderboard build` writes it"
        ) from error
