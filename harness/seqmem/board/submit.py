"""Add the rows of a bench to a published board, where every run keeps to the rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmem.board.build import metric_versions
from seqmem.board.cross_checks import check_runs
from seqmem.board.layout import (
    HOME,
    Progress,
    items_of,
    row_archive,
    search_file,
    write_manifest,
)
from seqmem.board.mismatch import Mismatch
from seqmem.board.placing import Answered, Placed, answered, examine, unreadable
from seqmem.board.published import PublishedBoard, read_board
from seqmem.board.rules import RULES, board_name
from seqmem.core.errors import UsageError
from seqmem.planning.search import search_from, search_text
from seqmem.planning.store import COST, find_boards, read_bench, read_cost
from seqmem.plugin.registry import Registry
from seqmem.record.archive import members, write_archive
from seqmem.record.compact import check_same_run, compact_of
from seqmem.record.files import write_sealed, write_text
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.record.tables import ITEMS_ARCHIVE


@dataclass(frozen=True)
class Submitted:
    """The outcome of a submission to one board.

    Attributes:
        added: names of records that are new there.
        known: names of records that were there already.
        faults: what breaks the rules; then nothing was copied.
    """

    board: Path
    added: tuple[str, ...]
    known: tuple[str, ...]
    faults: tuple[Mismatch, ...]


def submit(
    runs: Path,
    to: Path | None = None,
    registry: Registry | None = None,
    progress: Progress = lambda text: None,
) -> list[Submitted]:
    """Copy the rows of benches to their published boards, where every run keeps to the rules.

    Args:
        runs: output folder of benches, or one board in it.
        to: the published board; by default the one in ``leaderboards`` named after what was run (`rules.board_name`).
        registry: where plugins are found.
        progress: told what is being done.

    Returns:
        One entry per bench. A bench of which one run breaks a rule is not copied at all.

    Raises:
        UsageError: there is no bench or no such published board, or another record of a run lies there.
    """
    registry = registry or Registry.from_environment()
    submitted = []
    for bench in find_boards(runs):
        described, rows = read_bench(bench)
        preset = described["asked"].get("preset", "default")
        folder = to or HOME / board_name(described["scenario"], described["version"], preset)
        if not (folder / RULES).exists():
            which = described["scenario"] + (f" --preset {preset}" if preset != "default" else "")
            raise UsageError(
                f"{folder}: not a published board; `seqmem leaderboard new {which}` writes its rules"
            )
        submitted.append(_submit(bench, described["rows"], rows, read_board(folder, registry), progress))
    return submitted


def _submit(
    bench: Path,
    described: Sequence[Mapping[str, Any]],
    rows: Sequence[Row],
    board: PublishedBoard,
    progress: Progress,
) -> Submitted:
    folder, judge = board.folder, board.judge
    known = {one.record.folder.name: one.record for one in board.placed}
    faults: list[Mismatch] = []
    placed: list[Placed] = []
    answers: dict[Path, Answered] = {}
    labels: dict[str, str] = {}
    for row, stated in zip(rows, described, strict=True):
        progress(f"{folder.name}: checking {row.label}")
        search = stated.get("search")
        searches = [search_from(search, f"{bench}: search of {row.label}")] if search else []
        for seed, reason in row.failed.items():
            faults.append(Mismatch(str(bench), "run", "finished", reason, row.label, seed))
        for record in _records(row):
            try:
                own = answers[record.folder] = answered(record)
                one, wrong = examine(judge, record, searches, own.contamination)
            except Exception as error:
                one, wrong = None, [unreadable(error)]
            faults += [Mismatch(record.folder.name, *fault, row.label, record.seed) for fault in wrong]
            if one is not None:
                placed.append(one)
                labels[row.label] = one.label
    if not faults:
        answers |= {one.record.folder: answered(one.record) for one in board.placed}
        both = [*board.placed, *(one for one in placed if one.record.folder.name not in known)]
        faults += check_runs(both, answers, judge, lambda record: record.folder.name)
    if faults:
        return Submitted(folder, (), (), tuple(faults))
    # all that may refuse comes before the first new file
    costs = _joined_costs(folder, bench, labels)
    searched = _search_files(folder, placed)
    archives = _archives(folder, placed, known, progress)
    for path, files in archives.items():
        write_archive(path, files)
    for path, text in searched.items():
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)
    if costs:
        write_sealed(folder / COST, costs)
    write_manifest(folder, metric_versions(judge.registry))
    names = sorted(one.record.folder.name for one in placed)
    return Submitted(
        folder,
        tuple(name for name in names if name not in known),
        tuple(name for name in names if name in known),
        (),
    )


def _records(row: Row) -> Iterator[RunRecord]:
    yield from row.runs.values()
    for runs in row.controls.values():
        yield from runs.values()


def _archives(
    folder: Path, placed: Sequence[Placed], known: Mapping[str, RunRecord], progress: Progress
) -> dict[Path, dict[str, bytes]]:
    """Return the files of every archive that new records change: those of their rows, and what was asked.

    Raises:
        UsageError: another record of a run is on the board.
    """
    changed: dict[Path, dict[str, bytes]] = {}
    items = dict(items_of(folder))
    for one in placed:
        progress(f"{folder.name}: packing {one.record.folder.name}")
        compact = compact_of(one.record)
        if compact.name in known:
            check_same_run(known[compact.name], compact)
            continue
        archive = row_archive(folder, one.label)
        files = changed.setdefault(archive, dict(members(archive)) if archive.exists() else {})
        files |= {f"{compact.name}/{name}": content for name, content in compact.files.items()}
        items.setdefault(*compact.items)
    if len(items) > len(items_of(folder)):
        changed = {folder / ITEMS_ARCHIVE: items, **changed}  # before the records that need them
    return changed


def _search_files(folder: Path, placed: Sequence[Placed]) -> dict[Path, str]:
    """Return how the rows were tuned: the files to be kept on the board.

    Raises:
        UsageError: a row was tuned otherwise before.
    """
    found: dict[Path, str] = {}
    for one in placed:
        if one.search is None:
            continue
        path = search_file(folder, one.label)
        found[path] = search_text(one.search)
        if path.exists() and path.read_text(encoding="utf-8") != found[path]:
            raise UsageError(f"{path}: row {one.label!r} is here with another search; nothing is overwritten")
    return found


def _joined_costs(folder: Path, bench: Path, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the step times of the board and the bench, under the board's labels; None where there are none.

    Raises:
        UsageError: they were measured on different machines.
    """
    read_cost(bench)  # refuses a file that is not readable
    if not (bench / COST).exists():
        return None
    brought = json.loads((bench / COST).read_text(encoding="utf-8"))
    brought["rows"] = {labels[label]: row for label, row in brought["rows"].items() if label in labels}
    if not (folder / COST).exists():
        return dict(brought)
    there = json.loads((folder / COST).read_text(encoding="utf-8"))
    if there["machine"] != brought["machine"]:
        raise UsageError(
            f"{bench / COST}: step times of another machine than those of {folder / COST}; take one of the two away"
        )
    return {**there, "rows": {**there["rows"], **brought["rows"]}}
