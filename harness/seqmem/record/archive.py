"""Archives: many small files in one ZIP file, whose bytes depend on nothing but the members.

A path may lead into an archive, ``records/ewc.zip/<run>/run.json``, and is read as if the archive were a folder.
Members are stored as they are: tables are compressed already, and the output of zlib differs between its versions.
"""

from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from seqmem.core.errors import UsageError
from seqmem.record.files import whole_file

SUFFIX = ".zip"
_KEPT = 4
"""Archives kept in memory: records are read one after the other, row by row."""


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path leads into; None for a path outside of archives."""
    return next((one for one in path.parents if one.suffix == SUFFIX and one.is_file()), None)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, on its own or in an archive.

    Raises:
        OSError: there is no such file.
        UsageError: its archive cannot be read.
    """
    archive = archive_of(path)
    if archive is None:
        return path.read_bytes()
    content = members(archive).get(path.relative_to(archive).as_posix())
    if content is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return content


def exists(path: Path) -> bool:
    """Return whether there is such a file, on its own or in an archive."""
    archive = archive_of(path)
    return path.exists() if archive is None else path.relative_to(archive).as_posix() in members(archive)


def members(archive: Path) -> Mapping[str, bytes]:
    """Return the content of every member of an archive, by name.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        status = archive.stat()
        return _members(archive, (status.st_ino, status.st_mtime_ns, status.st_size))
    except (OSError, ValueError, RuntimeError, EOFError, struct.error, zipfile.BadZipFile) as error:
        raise UsageError(f"{archive}: cannot be read as a ZIP file of stored members ({error})") from error


@lru_cache(maxsize=_KEPT)
def _members(archive: Path, version: tuple[int, ...]) -> Mapping[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{entry.filename} is compressed")
        return {entry.filename: opened.read(entry) for entry in entries}


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of these files: the same bytes for the same files, with every version of Python."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3  # Unix, wherever it is written
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return content.getvalue()


def write_archive(archive: Path, files: Mapping[str, bytes]) -> None:
    """Write an archive of these files; a reader finds the old one or the new one, never half of one."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(archive) as file:
        file.write(packed(files))
