"""Name what differs between a board and what was built again from its records: the file, the row, the figure."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from seqmem.board.layout import MANIFEST, TABLES, read_manifest
from seqmem.board.mismatch import Mismatch
from seqmem.core.errors import UsageError
from seqmem.record.archive import SUFFIX, members

MAX_LINES = 5
"""Differences named per table file: one changed cell can move many."""
TOLERANCE = 1e-9
"""Relative difference of two numbers that are the same figure: one in the last of the ten digits written."""
NEAR_ZERO = 1e-12
"""Difference of two numbers near 0 that are the same figure: what is left of larger ones that cancel."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def differences(built: Path, folder: Path) -> Iterator[Mismatch]:
    """Yield every difference of a board's folder from the folder in which it was built again.

    Tables that could not be computed, and so are not in `built`, are left out.
    """
    ours, theirs = _files(built), _files(folder)
    for name in sorted(ours | theirs):
        if name not in theirs:
            yield Mismatch(name, "file", "one, as the records, `submit` and `build` make it", "none")
        elif name not in ours:
            if name not in TABLES:
                yield Mismatch(name, "file", "none of this name: no row of the board needs it", "one")
        elif (built / name).read_bytes() != (folder / name).read_bytes():
            compare = _members if name.endswith(SUFFIX) else _listed if name == MANIFEST else _figures
            yield from compare(name, built / name, folder / name)


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _members(name: str, built: Path, found: Path) -> Iterator[Mismatch]:
    """Yield members of an archive that one side lacks, a whole record as one; contents are those of the board."""
    ours, theirs = members(built), members(found)
    tops = [{member.partition("/")[0] for member in side} for side in (ours, theirs)]
    lacking = {*(tops[0] ^ tops[1])}
    lacking |= {one for one in ours.keys() ^ theirs.keys() if one.partition("/")[0] not in lacking}
    for member in sorted(lacking):
        sides = ("one", "none") if member in ours or member in tops[0] else ("none of this name", "one")
        yield Mismatch(f"{name}/{member}", "file", *sides)
    if not lacking:
        yield Mismatch(name, "bytes", "those that `submit` writes", "the same members in others")


def _listed(name: str, built: Path, found: Path) -> Iterator[Mismatch]:
    """Yield files whose hashes are not those of the manifest, and metrics in other versions."""
    ours = read_manifest(built)
    try:
        theirs = read_manifest(found)
    except UsageError as error:
        yield Mismatch(name, "file", "files with their SHA-256, and metrics", str(error))
        return
    for file in sorted(ours.files.keys() | theirs.files.keys()):
        listed, actual = theirs.files.get(file, "not listed"), ours.files.get(file, "no such file")
        if listed != actual:
            yield Mismatch(file, f"SHA-256, as {MANIFEST} has it", listed, actual)
    for metric in sorted(ours.metrics):
        installed, stated = ours.metrics[metric], theirs.metrics[metric]
        if installed != stated:
            yield Mismatch(name, f"version of metric {metric}", f"{installed} as installed", stated)
    if ours == theirs:
        yield Mismatch(name, "bytes", "those that `build` writes", "the same values in others")


class _Figure(NamedTuple):
    """A value of a table file, with the row it belongs to and where it stands."""

    row: str
    place: str
    value: Any


def _figures(name: str, built: Path, found: Path) -> Iterator[Mismatch]:
    """Yield the figures of a table that are not those computed from the records."""
    texts = [path.read_bytes().decode("utf-8", errors="replace") for path in (built, found)]
    if same_figures(*texts):
        return
    try:
        ours, theirs = (_READERS.get(Path(name).suffix, _lines)(text) for text in texts)
    except (ValueError, RecursionError, csv.Error):
        ours, theirs = map(_lines, texts)
    nothing = _Figure("", "", None)
    pairs = [(ours.get(key, nothing), theirs.get(key, nothing)) for key in dict.fromkeys([*ours, *theirs])]
    differing = [(one, other) for one, other in pairs if not _same_value(one.value, other.value)]
    for one, other in differing[:MAX_LINES]:
        named = one if one is not nothing else other
        yield Mismatch(name, named.place, _short(one.value), _short(other.value), named.row)
    if len(differing) > MAX_LINES:
        yield Mismatch(name, "further differences", "none", str(len(differing) - MAX_LINES))
    if not differing:
        yield Mismatch(name, "bytes", "those that `build` writes", "the same values in others")


def _lines(text: str) -> dict[Any, _Figure]:
    return {n: _Figure("", f"line {n}", line) for n, line in enumerate(text.split("\n"), 1)}


def _cells(text: str) -> dict[Any, _Figure]:
    return {
        (n, column): _Figure(row.get("row") or "", f"line {n}, {row.get('measure') or ''} {column}", value)
        for n, row in enumerate(csv.DictReader(io.StringIO(text), strict=True), 2)
        for column, value in row.items()
    }


def _values(text: str) -> dict[Any, _Figure]:
    return dict(_leaves(json.loads(text), (), "", ""))


def _leaves(value: Any, path: tuple[Any, ...], row: str, measure: str) -> Iterator[tuple[Any, _Figure]]:
    """Yield every single value of a JSON text, with the row and the measure that it is about."""
    if isinstance(value, dict):
        row, measure = str(value.get("row", row)), str(value.get("measure", measure))
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from _leaves(inner, (*path, key), row, measure)
    if not pairs:
        yield path, _Figure(row, " ".join(filter(None, (measure, ".".join(map(str, path))))), value)


_READERS: dict[str, Callable[[str], dict[Any, _Figure]]] = {".csv": _cells, ".json": _values}


def _same_value(expected: Any, found: Any) -> bool:
    return type(expected) is type(found) and same_figures(str(expected), str(found))


def same_figures(expected: str, found: str) -> bool:
    """Return whether two texts are equal but for the last digit of floats, which processors round differently."""
    if expected == found:
        return True
    if _NUMBER.split(expected) != _NUMBER.split(found):
        return False
    pairs = zip(_NUMBER.findall(expected), _NUMBER.findall(found), strict=True)
    return all(one == other or _same_float(one, other) for one, other in pairs)


def _same_float(expected: str, found: str) -> bool:
    """Return whether two floats are the same figure; 0.50 and 5e-1 are not texts that `build` writes for 0.5."""
    value = float(found)
    return found == repr(value) and math.isclose(float(expected), value, rel_tol=TOLERANCE, abs_tol=NEAR_ZERO)


def _short(value: Any) -> str:
    """Return a value in one line that a person can read."""
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
