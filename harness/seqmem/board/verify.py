"""Check a published board: built again from its records in a temporary folder, it must be the same.

Nothing here computes with a model, and nothing imports torch. Every mismatch is one line that names the file, the
row and seed where it is about a run, what was expected and what was found.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from seqmem.board.build import write_tables
from seqmem.board.cross_checks import check_runs
from seqmem.board.differences import differences
from seqmem.board.judge import Judge
from seqmem.board.layout import (
    FIGURES,
    MANIFEST,
    RECORDS,
    SEARCHES,
    TABLES,
    Progress,
    items_of,
    read_manifest,
    record_folders,
    row_archive,
    write_manifest,
)
from seqmem.board.mismatch import Fault, Mismatch
from seqmem.board.placing import Answered, Placed, answered, examine, rows_of, unreadable
from seqmem.board.published import PublishedBoard
from seqmem.board.rules import RULES, read_rules
from seqmem.core.errors import SeqmemError, UsageError
from seqmem.planning.search import Search, read_search
from seqmem.planning.store import COST, read_cost
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.archive import exists, members, read_bytes, write_archive
from seqmem.record.files import sha256
from seqmem.record.reader import RunRecord
from seqmem.record.schema import TABLES as RECORD_TABLES
from seqmem.record.tables import ITEMS_ARCHIVE
from seqmem.scoring import pool as scoring

_CHUNK = 16
"""Records handed to another process at a time."""


def verify(
    folder: Path,
    registry: Registry | None = None,
    progress: Progress = lambda text: None,
    pool: Executor | None = None,
) -> list[Mismatch]:
    """Return everything on a published board that is not as its rules, its records and the plugins have it.

    Args:
        folder: of the board.
        registry: where plugins are found.
        progress: told what is being done.
        pool: `scoring.pool.processes` that share the work; None does all of it in this one.
    """
    registry = registry or Registry.from_environment()
    try:
        judge = Judge(read_rules(folder), registry)
    except SeqmemError as error:
        return [Mismatch(RULES, "rules", "rules that can be read and met here", str(error))]
    try:
        paths, items = record_folders(folder), items_of(folder)
    except UsageError as error:
        return [Mismatch(RECORDS, "archives", "ones that can be read", str(error))]
    found = [*_odd_places(folder, judge.rules.name)]
    searches, cost, unread = _side_files(folder)
    found += unread
    placed: list[Placed] = []
    answers: dict[Path, Answered] = {}
    asked: set[str] = set()
    elsewhere = pool if len(paths) >= scoring.WORTH else None
    inspected = elsewhere.map(_inspect, paths, chunksize=_CHUNK) if elsewhere else map(_inspect, paths)
    for path, (inspection, faults) in zip(paths, inspected, strict=True):
        progress(f"{folder.name}: {path.name}")
        found += [Mismatch(_under(folder, file), *fault) for file, fault in faults]
        if inspection is None:
            continue
        record = RunRecord.open(path)
        asked.add(record.tables.items_file().name)
        known, wrong = examine(judge, record, list(searches.values()), inspection.contamination)
        for fault in wrong:
            found.append(Mismatch(_under(folder, path), *fault, known.label if known else "", record.seed))
        if known:
            placed.append(known)
            answers[path] = inspection
    found += check_runs(placed, answers, judge, lambda record: _under(folder, record.folder))
    metrics, versions, missing = _metrics(folder, judge)
    found += missing
    board = PublishedBoard(folder, judge, placed, rows_of(placed, judge, cost))
    progress(f"{folder.name}: tables")
    with tempfile.TemporaryDirectory() as temporary:
        built = Path(temporary)
        _copy(folder, built, [path for path, search in searches.items() if search in board.searches.values()])
        _pack(paths, {one.record.folder: one.label for one in placed}, built)
        if asked & items.keys():
            write_archive(built / ITEMS_ARCHIVE, {name: items[name] for name in asked & items.keys()})
        found += _tables(board, metrics, built, pool)
        write_manifest(built, versions)
        found += differences(built, folder)
    return found


def _under(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _odd_places(folder: Path, name: str) -> Iterator[Mismatch]:
    """Yield a folder that is not named after its board, and links."""
    if folder.resolve().name != name:
        yield Mismatch(RULES, "name of the board's folder", name, folder.resolve().name)
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            yield Mismatch(_under(folder, path), "file", "none that points elsewhere", "a symbolic link")


def _side_files(folder: Path) -> tuple[dict[Path, Search], Mapping[str, float], list[Mismatch]]:
    """Return the searches by file, the step times, and what of them cannot be read."""
    searches: dict[Path, Search] = {}
    cost: Mapping[str, float] = {}
    unread = []
    for path in sorted((folder / SEARCHES).glob("*.json")):
        try:
            searches[path] = read_search(path)
        except UsageError as error:
            unread.append(Mismatch(_under(folder, path), "search", "one that can be read", str(error)))
    try:
        cost = read_cost(folder)
    except UsageError as error:
        unread.append(Mismatch(COST, "step times", "a file that can be read", str(error)))
    return searches, cost, unread


def _inspect(path: Path) -> tuple[Answered | None, list[tuple[Path, Fault]]]:
    """Return what the answers of a record say, None where they cannot be read, and what is wrong with its files."""
    found: list[tuple[Path, Fault]] = []
    try:
        record = RunRecord.open(path)
        if not record.compact:
            found.append((path, ("record", "a compact one, as `submit` writes it", "a full one")))
        found += _damage(record)
        return answered(record), found
    except Exception as error:
        return None, [*found, (path, unreadable(error))]


def _damage(record: RunRecord) -> Iterator[tuple[Path, Fault]]:
    """Yield the files of a compact record that are not what its run.json says of them."""
    for name in RECORD_TABLES:
        path = record.folder / f"{name}.parquet"
        found = sha256(read_bytes(path)) if exists(path) else "no such file"
        proof = record.tables.files(name).get(path.name)
        expected = "no such file" if proof is None else str(proof["sha256"])
        if found != expected:
            yield path, ("SHA-256, as run.json has it", expected, found)


def _metrics(folder: Path, judge: Judge) -> tuple[list[MetricSpec], dict[str, str], list[Mismatch]]:
    """Return the metrics that the tables were made with, their versions here, and which are missing."""
    try:
        listed = read_manifest(folder / MANIFEST).metrics
    except UsageError as error:
        return (
            [],
            {},
            [Mismatch(MANIFEST, "metrics", "the metrics of the tables with their versions", str(error))],
        )
    metrics, versions, missing = [], dict(listed), []
    for name, version in sorted(listed.items()):
        try:
            metric = judge.registry.load("metric", name)
        except SeqmemError as error:
            missing.append(Mismatch(MANIFEST, f"metric {name}", f"version {version} installed", str(error)))
            continue
        metrics.append(metric)
        versions[name] = metric.version
    given = {measure.name for metric in metrics for measure in metric.measures}
    for what, name in (
        ("primary measure", judge.rules.primary),
        *(("gate", name) for name in judge.rules.gates),
    ):
        if name not in given:
            missing.append(Mismatch(MANIFEST, "metrics", f"one that gives the {what} {name}", "none"))
    return metrics, versions, missing


def _copy(folder: Path, built: Path, searches: Sequence[Path]) -> None:
    """Copy what a board does not make of its records: rules, step times, used searches, and figures."""
    figures = sorted((folder / FIGURES).glob("*.svg"))
    for path in [folder / RULES, folder / COST, *searches, *figures]:
        if path.exists():
            (built / path.relative_to(folder)).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, built / path.relative_to(folder))


def _pack(paths: Sequence[Path], labels: Mapping[Path, str], built: Path) -> None:
    """Pack the records again, each into the archive of its row; one of no row stays where it is."""
    archives: dict[Path, dict[str, bytes]] = {}
    for path in paths:
        archive = row_archive(built, labels[path]) if path in labels else built / RECORDS / path.parent.name
        there = members(path.parent)
        for name in ("run.json", *(f"{table}.parquet" for table in RECORD_TABLES)):
            member = f"{path.name}/{name}"
            if member in there:
                archives.setdefault(archive, {})[member] = there[member]
    for archive, files in archives.items():
        write_archive(archive, files)


def _tables(
    board: PublishedBoard, metrics: Sequence[MetricSpec], built: Path, pool: Executor | None
) -> Iterator[Mismatch]:
    """Write the tables into the folder `built`, and yield what keeps them from being computed."""
    if not board.rows or not metrics:
        yield Mismatch(TABLES[0], "rows", "rows to compute", "none that can be computed")
        return
    try:
        _, broken = write_tables(board, metrics, built, pool)
    except Exception as error:  # a damaged record may break a metric in any way
        yield Mismatch(TABLES[0], "tables", "ones that can be computed", f"{type(error).__name__}: {error}")
        return
    for line in broken:
        yield Mismatch(TABLES[0], "metrics", "none that fails", line)
