"""The output folder: records and boards, and what becomes of those that are there already.

An output folder holds ``records/<run>/``, one folder per run whatever bench made it, and
``boards/<bench>/`` with that bench's tables and figures. A finished run is reused by any bench that needs it. How far
a run is stands in its folder's ``progress.json`` (see `verbs/progress`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from seqmem.core.errors import UsageError
from seqmem.core.recipe import Recipe
from seqmem.planning.grid import Plan, PlannedBoard, PlannedRun
from seqmem.planning.search import Search
from seqmem.record.files import json_text, unsealed, write_sealed
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.record.schema import FORMAT, MODEL, PROVEN, RUN_FILE
from seqmem.record.versions import difference, installed_versions

BENCH = "bench.json"
COST = "cost.json"
COST_FORMAT = 2
"""The first one with a hash of itself."""


class _BenchRow(BaseModel):
    """A row in a board's description."""

    label: str
    facts: dict[str, Any]
    reference: str | None
    swept: dict[str, Any]
    runs: dict[int, str]
    controls: dict[str, dict[int, str]]
    search: Search | None = None


class _Bench(BaseModel):
    """The content of bench.json, as far as readers rely on it."""

    name: str
    scenario: str
    version: str
    primary: str
    asked: dict[str, Any]
    rows: list[_BenchRow]
    versions: dict[str, str] | None = None  # not in what older versions wrote


@dataclass(frozen=True)
class Todo:
    """The work that a plan still takes: runs to start or continue, and runs finished before."""

    start: tuple[PlannedRun, ...]
    resume: frozenset[str]
    reused: tuple[str, ...]


class Store:
    """An output folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is made yet."""
        self.folder = folder

    def record_folder(self, run: PlannedRun) -> Path:
        """Return where a run's record belongs."""
        return self.folder / "records" / run.folder

    def record_lock(self, run: PlannedRun) -> Path:
        """Return what is locked while a run's record is written: not in its folder, which may be deleted meanwhile."""
        return self.folder / f".{run.folder}.lock"

    def board_folder(self, board: PlannedBoard) -> Path:
        """Return where a bench's tables belong."""
        return self.folder / "boards" / board.name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other benches out of it.

        Raises:
            UsageError: it cannot be written, or another bench is at work in it.
        """
        made = not self.folder.exists()
        path = self.folder / ".lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise UsageError(
                f"another bench is at work in {self.folder}; wait for it or give another --out"
            ) from error
        except OSError as error:
            raise UsageError(f"--out {self.folder} cannot be written: {error.strerror}") from error
        try:
            yield
        finally:
            # the file stays: whoever had opened it before it was deleted would hold a lock nobody else sees
            if made and list(self.folder.iterdir()) == [path]:
                path.unlink()
                self.folder.rmdir()
            lock.release()

    def todo(
        self,
        plan: Plan,
        *,
        resume: bool,
        force: bool,
        models: bool = False,
        accept_versions: bool = False,
    ) -> Todo:
        """Compare the plan with what is there; with `models`, a run that left no model is not finished.

        Raises:
            UsageError: a folder holds a run of another configuration, or there is nothing to resume. Also where
                neither `resume` nor `force` says what to do with unfinished runs, and where other versions of torch,
                transformers or seqmem made what would be kept, without `accept_versions`.
        """
        installed = installed_versions()
        others: list[str] = []
        start: list[PlannedRun] = []
        resumed: list[str] = []
        reused: list[str] = []
        for run in plan.runs.values():
            folder = self.record_folder(run)
            record = _open(folder, run)
            complete = not models or (folder / MODEL).is_dir()
            if record is not None and record.status == "finished" and complete and not force:
                reused.append(run.recipe.id)
                others += _made_by_others(record, installed)
                continue
            start.append(run)
            if any((folder / "checkpoints").glob("step-*")) and record is not None:
                resumed.append(run.recipe.id)
                others += _made_by_others(record, installed)
        if others and not accept_versions and not force:
            more = f" ({len(others)} such runs)" if len(others) > 1 else ""
            raise UsageError(
                f"{others[0]}{more}; make them again with --force, or keep them with --accept-versions, which the "
                "table then says"
            )
        if resume and not resumed and not reused:
            raise UsageError(
                f"nothing to resume in {self.folder}: no checkpoint of these runs; leave out --resume"
            )
        if resumed and not resume and not force:
            raise UsageError(
                f"{len(resumed)} of these runs are unfinished in {self.folder}; "
                "continue them with --resume or start them over with --force"
            )
        return Todo(tuple(start), frozenset(resumed if resume else ()), tuple(reused))

    def rows(self, plan: Plan, board: PlannedBoard, outcome: Mapping[str, Mapping[str, Any]]) -> list[Row]:
        """Return the board's rows as far as their runs have finished; the rest are named as failed."""

        def finished(ids: Mapping[int, str]) -> dict[int, RunRecord]:
            records = {}
            for seed, run_id in ids.items():
                record = _open(self.record_folder(plan.runs[run_id]), plan.runs[run_id])
                if record is not None and record.status == "finished":
                    records[seed] = record
            return records

        cost = read_cost(self.board_folder(board))
        installed = installed_versions()
        rows = []
        for row in board.rows:
            runs = finished(row.runs)
            controls = {name: finished(ids) for name, ids in row.controls.items()}
            failed = {
                seed: str(outcome.get(run_id, {}).get("reason", "not finished"))
                for seed, run_id in row.runs.items()
                if seed not in runs
            }
            rows.append(
                Row(
                    label=row.label,
                    facts=row.facts,
                    runs=runs,
                    controls=controls,
                    reference=row.reference,
                    swept=row.swept,
                    failed=failed,
                    cost=cost.get(row.label),
                    kept=_kept(runs, controls, installed),
                )
            )
        return rows

    def unfinished(self, plan: Plan) -> dict[str, str]:
        """Return the runs of a plan that have not finished here, by name, each with what their record says."""
        found = {}
        for run in plan.runs.values():
            record = _open(self.record_folder(run), run)
            if record is None or record.status != "finished":
                found[run.name] = "it has no record" if record is None else f"its record says {record.status}"
        return found

    def write_bench(self, plan: Plan, board: PlannedBoard) -> Path:
        """Write down which runs make the board, so that its tables can be built again from the records."""
        folder = self.board_folder(board)
        folder.mkdir(parents=True, exist_ok=True)

        def names(ids: Mapping[int, str]) -> dict[str, str]:
            return {str(seed): plan.runs[run_id].folder for seed, run_id in ids.items()}

        rows = [
            {
                "label": row.label,
                "facts": dict(row.facts),
                "reference": row.reference,
                "swept": dict(row.swept),
                "runs": names(row.runs),
                "controls": {name: names(ids) for name, ids in row.controls.items()},
                "search": None if row.search is None else row.search.model_dump(mode="json"),
            }
            for row in board.rows
        ]
        write_sealed(
            folder / BENCH,
            {
                "format": FORMAT,
                "name": board.name,
                "scenario": board.scenario,
                "version": board.version,
                "primary": board.primary,
                "asked": plan.asked(),
                "versions": installed_versions(),
                "rows": rows,
            },
        )
        return folder

    def write_cost(self, board: PlannedBoard, cost: Mapping[str, Any]) -> None:
        """Put what a step of each row costs beside the board's description."""
        folder = self.board_folder(board)
        folder.mkdir(parents=True, exist_ok=True)
        write_sealed(folder / COST, cost)


def read_cost(folder: Path) -> dict[str, float]:
    """Return the step time over the reference's, by row label, of the rows of a board that were measured.

    Raises:
        UsageError: there is a file, and it is not readable as what `Store.write_cost` wrote, or holds a ratio
            that is not finite.
    """
    path = folder / COST
    if not path.exists():
        return {}
    try:
        rows = unsealed(path.read_bytes(), since=COST_FORMAT)["rows"]
        ratios = {label: float(row["ratio"]) for label, row in rows.items() if "ratio" in row}
        for label, ratio in ratios.items():
            if not math.isfinite(ratio):
                raise ValueError(f"the ratio of {label} is {ratio}, not a finite number")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a readable cost file ({error}); measure it again") from error
    return ratios


def read_bench(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """Return a board's description and its rows, from its folder (``<out>/boards/<bench>``).

    Raises:
        UsageError: no board can be read there, or records are missing.
    """
    path = folder / BENCH
    try:
        bench = _Bench.model_validate_json(json_text(unsealed(path.read_bytes(), since=PROVEN)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path}: not a readable board ({where}: {first['msg']})") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable board ({error})") from error
    cost = read_cost(folder)
    records = folder.parent.parent / "records"

    def opened(names: Mapping[int, str]) -> dict[int, RunRecord]:
        found = {seed: records / name for seed, name in names.items()}
        opened = {seed: RunRecord.open(path) for seed, path in found.items() if (path / RUN_FILE).exists()}
        for seed, record in opened.items():
            if record.seed != seed or not record.folder.name.endswith(f"-{record.id}"):
                own = f"the record of run {record.id} with seed {record.seed}"
                raise UsageError(f"{path}: names {record.folder.name} for seed {seed}, which is {own}")
        return {seed: record for seed, record in opened.items() if record.status == "finished"}

    rows = [
        Row(
            label=row.label,
            facts=row.facts,
            runs=(runs := opened(row.runs)),
            controls=(controls := {name: opened(names) for name, names in row.controls.items()}),
            reference=row.reference,
            swept=row.swept,
            failed={seed: "not finished" for seed in row.runs if seed not in runs},
            cost=cost.get(row.label),
            kept="" if bench.versions is None else _kept(runs, controls, bench.versions),
        )
        for row in bench.rows
    ]
    return bench.model_dump(mode="json"), rows


def find_boards(path: Path) -> list[Path]:
    """Return the board folders in an output folder, or the one folder that `path` is.

    Raises:
        UsageError: there is none.
    """
    if (path / BENCH).exists():
        return [path]
    found = sorted(p.parent for p in path.glob(f"boards/*/{BENCH}"))
    if not found:
        raise UsageError(f"{path}: no board there; run `seqmem bench --out {path}` first")
    return found


def _open(folder: Path, run: PlannedRun) -> RunRecord | None:
    """Return the record in a run's folder, None when there is none yet.

    Raises:
        UsageError: what is there is not a record, or one of another configuration.
    """
    if not folder.exists():
        return None
    if not (folder / RUN_FILE).exists():
        return (
            None
            if all(p.name.startswith(".") for p in folder.iterdir())
            else _refuse(folder, "holds files that are not a run record")
        )
    record = RunRecord.open(folder)
    try:
        same = Recipe.model_validate(record.recipe).id == run.recipe.id == record.id
    except ValueError:
        same = False
    return record if same else _refuse(folder, "holds a run of another configuration")


def _made_by_others(record: RunRecord, installed: Mapping[str, str]) -> list[str]:
    """Return one line on a record that other versions made, none for one of the installed ones."""
    made, instead = difference([record], installed)
    return [f"{record.folder} was made by {made}, and installed is {instead}"] if made else []


def _kept(
    runs: Mapping[int, RunRecord],
    controls: Mapping[str, Mapping[int, RunRecord]],
    installed: Mapping[str, str],
) -> str:
    """Return what a table says of a row whose runs were kept though other versions made them."""
    every = [record for part in (runs, *controls.values()) for record in part.values()]
    made, instead = difference(every, installed)
    return f"made by {made} and kept by --accept-versions where {instead} was installed" if made else ""


def _refuse(folder: Path, why: str) -> NoReturn:
    raise UsageError(f"{folder} {why}; move it away or give another --out")
