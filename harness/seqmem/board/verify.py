"""Checks a standing board against its own records: what is printed must follow from what is stored.

Nothing here computes with a model, and nothing imports torch. Every mismatch is one line that names the file, the
row and seed where it is about a run, what was expected and what was found.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from seqmem.board.build import manifest_of, score_standing, table_files
from seqmem.board.published import (
    FIGURES,
    MANIFEST,
    RECORDS,
    SEARCHES,
    TABLES,
    Asked,
    Placed,
    Progress,
    Standing,
    asked_of,
    check_rows,
    place,
    record_folders,
    rows_of,
)
from seqmem.board.rules import RULES, Judge, Mismatch, read_rules
from seqmem.core.errors import PluginError, SeqmemError, UsageError
from seqmem.planning.search import Search, read_search
from seqmem.planning.store import COST, read_cost
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.compact import items_hash, sha256
from seqmem.record.contamination import contaminated
from seqmem.record.reader import RunRecord, items_file, read_items
from seqmem.record.schema import TABLES as RECORD_TABLES
from seqmem.record.schema import json_text

KNOWN = (
    *(RULES, COST, MANIFEST, *TABLES),
    *(f"{RECORDS}/*/{table}.parquet" for table in RECORD_TABLES),
    f"{RECORDS}/*/run.json",
    f"{RECORDS}/items-*.parquet",
    f"{SEARCHES}/*.json",
    f"{FIGURES}/*.svg",
)
"""Files that a board may have."""
MOST_LINES = 5
"""Differences named per table file; one changed cell can move many."""
TOLERANCE = 1e-9
"""Relative difference of two numbers that are the same figure: one in the last of the ten digits written."""
NEAR_ZERO = 1e-12
"""Difference of two numbers near 0 that are the same figure: what is left of larger ones that cancel."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_CHUNK = 16
"""Records handed to another process at a time."""


def verify(
    folder: Path,
    registry: Registry | None = None,
    progress: Progress = lambda text: None,
    pool: Executor | None = None,
) -> list[Mismatch]:
    """Everything on a standing board that is not as its rules, its records and the installed plugins have it.

    Args:
        folder: of the board.
        registry: where plugins are found.
        progress: told what is being done.
        pool: `scoring_pool.processes` that share the work; None does all of it in this one.

    Returns:
        The mismatches, none for a sound board.
    """
    registry = registry or Registry.from_environment()
    try:
        judge = Judge(read_rules(folder), registry)
    except (UsageError, PluginError) as error:
        return [Mismatch(RULES, "rules", "rules that can be read and met here", str(error))]
    progress(f"{folder.name}: files")
    found = [*_files(folder)]
    if folder.resolve().name != judge.rules.name:
        found.append(Mismatch(RULES, "name of the board's folder", judge.rules.name, folder.resolve().name))
    searches: dict[Path, Search] = {}
    for path in sorted((folder / SEARCHES).glob("*.json")):
        try:
            searches[path] = read_search(path)
        except UsageError as error:
            found.append(Mismatch(_under(folder, path), "search", "one that can be read", str(error)))
    placed: list[Placed] = []
    asked: dict[Path, Asked] = {}
    paths = record_folders(folder)
    inspect = partial(_inspect, folder)
    inspected = map(inspect, paths) if pool is None else pool.map(inspect, paths, chunksize=_CHUNK)
    for path, one in zip(paths, inspected, strict=True):
        progress(f"{folder.name}: {path.name}")
        found += one.faults
        if one.asked is not None:
            asked[path] = one.asked
            found += _rule_faults(folder, path, judge, list(searches.values()), one.spoilt, placed)
    found += check_rows(placed, asked, judge, lambda record: _under(folder, record.folder))
    used = [one.search for one in placed]
    for path, search in searches.items():
        if search not in used:
            found.append(
                Mismatch(_under(folder, path), "search", "one that a row's options come from", "no such row")
            )
    try:
        cost = read_cost(folder)
    except UsageError as error:
        cost = {}
        found.append(Mismatch(COST, "step times", "a file that can be read", str(error)))
    metrics, missing = _metrics(folder, registry)
    found += missing
    if not any(measure.name == judge.rules.primary for metric in metrics for measure in metric.measures):
        found.append(
            Mismatch(MANIFEST, "metrics", f"one that gives the primary measure {judge.rules.primary}", "none")
        )
    progress(f"{folder.name}: tables")
    own = {one.label: one.search for one in placed if one.search is not None}
    standing = Standing(judge.rules, rows_of(placed, judge, cost), folder, judge, own)
    found += _tables(standing, metrics, pool)
    return found


def _under(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _files(folder: Path) -> Iterator[Mismatch]:
    """Files against the manifest: missing, changed, not listed, or strange."""
    there = {_under(folder, path) for path in folder.rglob("*") if path.is_file()}
    for name in TABLES:
        if name not in there:
            yield Mismatch(name, "file", "one made by `seqmem leaderboard build`", "none")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            yield Mismatch(_under(folder, path), "file", "none that points elsewhere", "a symbolic link")
    try:
        text, listed, metrics = _manifest(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield Mismatch(
            MANIFEST, "file", "files with their SHA-256, and metrics", f"none that can be read ({error})"
        )
        return
    actual = manifest_of(folder, metrics)
    for name in sorted(listed.keys() | actual["files"].keys()):
        expected, found = listed.get(name, "not listed"), actual["files"].get(name, "no such file")
        if expected != found:
            yield Mismatch(name, f"SHA-256, as {MANIFEST} has it", expected, found)
    if text != json_text({**actual, "files": listed}):
        yield Mismatch(MANIFEST, "text", "format 1, files and metrics as `build` writes them", "another")
    for name in sorted(there):
        if not any(PurePosixPath(f"/{name}").match(f"/{pattern}") for pattern in KNOWN):
            yield Mismatch(name, "file", "none of this name on a board", "one")
    referred = {f"{RECORDS}/items-{_items_named(path)}.parquet" for path in record_folders(folder)}
    for name in sorted(there):
        strange = name.startswith(f"{RECORDS}/items-") and name not in referred
        if strange:
            yield Mismatch(name, "file", "items that a record names", "items that none names")


def _manifest(folder: Path) -> tuple[str, dict[str, str], dict[str, str]]:
    """Text, files and metrics of the manifest; raises whatever reading another file raises."""
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    stated = json.loads(text)
    files, metrics = ({str(k): str(v) for k, v in stated[part].items()} for part in ("files", "metrics"))
    return text, files, metrics


def _items_named(record: Path) -> str:
    try:
        return str(json.loads((record / "run.json").read_text(encoding="utf-8")).get("items"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""


@dataclass(frozen=True)
class _Inspected:
    """One record by itself.

    Attributes:
        faults: what is wrong with its files.
        spoilt: why its controls are none; empty where they are.
        asked: None where it cannot be read.
    """

    faults: list[Mismatch]
    spoilt: str
    asked: Asked | None


def _inspect(folder: Path, path: Path) -> _Inspected:
    """Look at the tables of one record; in another process, as the host has several."""
    where, spoilt, asked = _under(folder, path), "", None
    found: list[Mismatch] = []
    try:
        record = RunRecord.open(path)
        found += _damage(record, where)
        if not record.compact:
            found.append(Mismatch(where, "record", "a compact one, as `submit` writes it", "a full one"))
        if record.status == "finished":
            spoilt = contaminated(record)
        asked = asked_of(record)
    except SeqmemError as error:
        found.append(Mismatch(where, "record", "one that belongs on this board", str(error)))
    except Exception as error:  # whatever a foreign file makes a reader do is a fault of the file
        found.append(_unreadable(where, error))
    return _Inspected(found, spoilt, asked)


def _unreadable(where: str, error: Exception) -> Mismatch:
    return Mismatch(where, "record", "one that can be read", f"{type(error).__name__}: {error}")


def _rule_faults(
    folder: Path, path: Path, judge: Judge, searches: Sequence[Search], spoilt: str, placed: list[Placed]
) -> Iterator[Mismatch]:
    """What a record says of itself, against the rules; where it has a place on the board, it joins `placed`."""
    where = _under(folder, path)
    try:
        record = RunRecord.open(path)
        one = place(judge, record, searches)
        run = (one.label, one.recipe.seed)
        for fault in judge.faults(record, one.recipe, one.search, spoilt):
            yield Mismatch(where, *fault, *run)
        placed.append(one)
    except SeqmemError as error:
        yield Mismatch(where, "record", "one that belongs on this board", str(error))
    except Exception as error:
        yield _unreadable(where, error)


def _damage(record: RunRecord, where: str) -> Iterator[Mismatch]:
    """Files of a compact record against what its run.json says of them."""
    stated: Mapping[str, Any] = record.info.get("tables") or {}
    for name in RECORD_TABLES:
        path = record.folder / f"{name}.parquet"
        found = sha256(path) if path.exists() else "no such file"
        expected = str(stated.get(name, "no such file"))
        if found != expected:
            yield Mismatch(f"{where}/{path.name}", "SHA-256, as run.json has it", expected, found)
    path = items_file(record)
    found = items_hash(read_items(record))
    if f"items-{found}.parquet" != path.name:
        yield Mismatch(f"{RECORDS}/{path.name}", "hash of the items", path.name, f"items-{found}.parquet")


def _metrics(folder: Path, registry: Registry) -> tuple[list[MetricSpec], list[Mismatch]]:
    """The metrics the tables were made with, as far as they are here in the same version."""
    try:
        _, _, versions = _manifest(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [], [Mismatch(MANIFEST, "metrics", "the metrics of the tables with their versions", "none")]
    metrics, missing = [], []
    for name, version in sorted(versions.items()):
        try:
            metric = registry.load("metric", name)
        except SeqmemError as error:
            missing.append(Mismatch(MANIFEST, f"metric {name}", f"version {version} installed", str(error)))
            continue
        if metric.version != version:
            missing.append(
                Mismatch(MANIFEST, f"version of metric {name}", f"{metric.version} as installed", version)
            )
        metrics.append(metric)
    return metrics, missing


def _tables(standing: Standing, metrics: Sequence[MetricSpec], pool: Executor | None) -> Iterator[Mismatch]:
    """Tables computed anew against the files."""
    if not standing.rows or not metrics:
        yield Mismatch(TABLES[0], "rows", "rows to compute", "none that can be computed")
        return
    try:
        table, broken = score_standing(standing, metrics, pool)
        expected = table_files(standing, table)
    except Exception as error:  # a damaged record may break a metric in any way
        yield Mismatch(TABLES[0], "tables", "ones that can be computed", f"{type(error).__name__}: {error}")
        return
    for line in broken:
        yield Mismatch(TABLES[0], "metrics", "none that fails", line)
    compare = {"TABLE.md": _lines, "table.csv": _cells, "table.json": _values}
    for name, text in expected.items():
        path = standing.folder / name
        if not path.exists():
            continue  # named among the files
        there = path.read_bytes().decode("utf-8", errors="replace")
        if _same(text, there):
            continue
        differences = compare[name](name, text, there)
        shown = list(itertools.islice(differences, MOST_LINES))
        yield from shown or [
            Mismatch(name, "bytes", "those that `build` writes", "the same values in others")
        ]
        more = sum(1 for _ in differences)
        if more:
            yield Mismatch(name, "further differences", "none", str(more))


def _same(expected: str, found: str) -> bool:
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


def _lines(name: str, expected: str, found: str) -> Iterator[Mismatch]:
    pairs = itertools.zip_longest(expected.split("\n"), found.split("\n"), fillvalue="nothing")
    for number, (one, other) in enumerate(pairs, 1):
        if not _same(one, other):
            yield Mismatch(name, f"line {number}", _short(one), _short(other))


def _cells(name: str, expected: str, found: str) -> Iterator[Mismatch]:
    try:
        rows = [list(csv.DictReader(io.StringIO(text), strict=True)) for text in (expected, found)]
    except csv.Error:
        yield from _lines(name, expected, found)
        return
    for number, (one, other) in enumerate(itertools.zip_longest(*rows, fillvalue={}), 2):
        for column in dict.fromkeys([*one, *other]):
            if not _same(str(one.get(column)), str(other.get(column))):
                what = f"line {number}, {one.get('measure', '')} {column}".rstrip()
                yield Mismatch(
                    name, what, _short(one.get(column)), _short(other.get(column)), str(one.get("row", ""))
                )


def _values(name: str, expected: str, found: str) -> Iterator[Mismatch]:
    try:
        other = json.loads(found)
    except ValueError as error:
        yield Mismatch(name, "file", "JSON", f"none ({error})")
        return
    yield from _differences(name, "", json.loads(expected), other)


def _differences(name: str, where: str, expected: Any, found: Any, row: str = "") -> Iterator[Mismatch]:
    """Where two JSON values differ, down to the single value; the row it is about where the value says."""
    if isinstance(expected, dict) and isinstance(found, dict):
        row = str(expected.get("row", row))
        measure = f" {expected['measure']}" if "measure" in expected else ""
        for key in sorted(expected.keys() | found.keys()):
            yield from _differences(
                name, f"{where}{measure} {key}", expected.get(key, ...), found.get(key, ...), row
            )
    elif isinstance(expected, list) and isinstance(found, list):
        pairs = itertools.zip_longest(expected, found, fillvalue=...)
        for position, (one, other) in enumerate(pairs):
            yield from _differences(name, f"{where}[{position}]", one, other, row)
    elif type(expected) is not type(found) or not _same(str(expected), str(found)):
        yield Mismatch(name, where.strip(), _short(expected), _short(found), row)


def _short(value: Any) -> str:
    """A value in one line that a person can read."""
    text = "nothing" if value is ... or value is None else str(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
