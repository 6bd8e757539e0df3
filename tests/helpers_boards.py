"""A small published board of synthetic records, whose recipes are those of a real bench."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers_records import Answer, Ask, Layout, seal_record, write_record
from model_folders import shelf

from seqmem.board.build import build
from seqmem.board.layout import record_folders
from seqmem.board.rules import board_name
from seqmem.board.submit import submit
from seqmem.core.recipe import recipe_id
from seqmem.planning.grid import Plan
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.planning.store import Store
from seqmem.plugin.registry import Registry
from seqmem.record.archive import archive_of, members, read_bytes, write_archive
from seqmem.record.files import json_text, sealed
from seqmem.record.reader import RunRecord
from seqmem.record.tables import ITEMS_ARCHIVE
from seqmem.scoring.tables import load_metrics

METRICS = ("retention", "cost", "distance_decay")
SEEDS = (0, 1)
STRATEGIES = ("naive", "replay", "joint")


@cache
def others(metrics: tuple[str, ...] = METRICS) -> frozenset[str]:
    """Metrics that the small board does without."""
    return frozenset(one.name for one in Registry.from_environment().names("metric")) - frozenset(metrics)


@cache
def registry(metrics: tuple[str, ...] = METRICS) -> Registry:
    """The installed plugins, with few of the metrics."""
    return Registry.from_environment(others(metrics))


def learner(strength: float) -> Any:
    def answer(ask: Ask, random: np.random.Generator) -> Answer:
        kept = 0.0 if ask.twin or not ask.seen else strength * np.exp(-ask.age / 40)
        return Answer(
            correct=bool(random.random() < kept),
            loss=float(3 - 2 * kept + 0.1 * random.standard_normal()),
            best_other=float(-2 + random.standard_normal()),
            choice=int(random.integers(2)),
        )

    return answer


def write_bench(out: Path, **request: Any) -> Plan:
    """An output folder as a bench leaves it, its records made by synthetic learners."""
    planned, made = _bench(tuple(request.items()))
    shutil.copytree(made, out, dirs_exist_ok=True)
    return planned


@cache
def _bench(request: tuple[tuple[str, Any], ...]) -> tuple[Plan, Path]:
    """The folder of a bench, made once for all that ask for the same."""
    out = Path(tempfile.mkdtemp(dir=shelf()))
    asked = Request(
        scenario=("memory_loops",),
        strategy=STRATEGIES,
        preset="smoke",
        seeds=f"{SEEDS[0]}-{SEEDS[-1]}",
        device="cpu",
    )
    planned = plan(replace(asked, **dict(request)), registry())
    store = Store(out)
    for run in planned.runs.values():
        strategy, seed = run.recipe.strategy.name, run.recipe.seed
        shuffled = "shuffled" in run.name
        folder = store.record_folder(run)
        layout = Layout(
            loops=2, cycles=2, facts=2, rest=20, even=4, shuffled=shuffled, joint=strategy == "joint"
        )
        strength = {"naive": 0.6, "replay": 0.8, "joint": 0.9}.get(strategy, 0.7)
        write_record(
            folder,
            learner(strength),
            layout,
            seed=seed,
            info={
                "id": run.recipe.id,
                "recipe": run.recipe.model_dump(mode="json"),
                "date": "2026-01-02",
                "content": f"stream of {strategy if strategy == 'joint' else 'all'} {seed} {shuffled}",
                "final_weights": f"{strategy} {seed}",
                "contamination": {},
                "versions": {"seqmem": "0.1.0"},
            },
        )
        steps = len(RunRecord.open(folder).steps)
        edit_run(folder, lambda info, steps=steps: info.update(steps=steps))
    for board in planned.boards:
        store.write_bench(planned, board)
    return planned, out


def write_rules(folder: Path, planned: Plan, **changes: Any) -> None:
    """The rules of the small board."""
    run = next(iter(planned.runs.values())).recipe
    stated = {
        "format": 1,
        "question": "Which of them keeps what it learned?",
        "scenario": "memory_loops",
        "version": run.scenario.version,
        "preset": "smoke",
        "primary": "retention",
        "reference": "naive",
        "seeds": "0-1",
        "tuning_seeds": "100-101",
        "controls": ["shuffled"],
        "text_content": run.text.content,
        "hyperparameters": "searched",
        "budget": 8,
        "eligibility": "Anybody.",
        **changes,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in stated.items() if value is not None]
    models = stated.get("models") or {run.model.name: run.model.fingerprint}
    lines = [line for line in lines if not line.startswith("models =")]
    lines += ["[models]", *(f"{json.dumps(name)} = {json.dumps(mark)}" for name, mark in models.items())]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "board.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_board(home: Path, metrics: tuple[str, ...] = METRICS) -> Path:
    """A board with three rows, built."""
    plugins = registry(metrics)
    planned = write_bench(home / "out")
    run = next(iter(planned.runs.values())).recipe
    folder = home / "leaderboards" / board_name("memory_loops", run.scenario.version, "smoke")
    write_rules(folder, planned)
    (submitted,) = submit(home / "out", folder, plugins)
    assert not submitted.faults, [fault.line for fault in submitted.faults]
    build(folder, load_metrics(plugins)[0], plugins)
    return folder


def put(path: Path, content: bytes | None) -> None:
    """Write a file, on its own or in an archive; None takes it away."""
    archive = archive_of(path)
    if archive is None:
        path.write_bytes(content) if content is not None else path.unlink()
        return
    files = dict(members(archive))
    name = path.relative_to(archive).as_posix()
    del files[name]
    write_archive(archive, files if content is None else {**files, name: content})


def put_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, on its own or in an archive."""
    out = io.BytesIO()
    pq.write_table(table, out)
    put(path, out.getvalue())


def get_table(path: Path) -> pa.Table:
    """Read a Parquet file, on its own or in an archive."""
    return pq.read_table(io.BytesIO(read_bytes(path)))


def edit_run(folder: Path, change: Any) -> None:
    """Change the run.json of a record as one would who knows that it proves itself."""
    path = folder / "run.json"
    info: dict[str, Any] = json.loads(read_bytes(path))
    change(info)
    put(path, json_text(sealed(info)).encode())


def edit_recipe(folder: Path, change: Any) -> Path:
    """Make the record of a board or a bench that of another run, under its own id and name; return its new folder."""

    def other(info: dict[str, Any]) -> None:
        change(info["recipe"])
        info["id"] = recipe_id(info["recipe"])

    edit_run(folder, other)
    own = json.loads(read_bytes(folder / "run.json"))["id"]
    named = folder.with_name(f"{folder.name.rpartition('-')[0]}-{own}")
    if archive_of(folder):
        rename(folder, named.name)
        return named
    for bench in folder.parent.parent.glob("boards/*/bench.json"):
        text = bench.read_text().replace(folder.name, named.name)
        bench.write_text(json_text(sealed(json.loads(text))))
    return folder.rename(named)


def reseal(record: Path) -> None:
    """Have a record prove the files that are there now."""
    seal_record(record, json.loads((record / "run.json").read_text()))


def rename(record: Path, name: str, files: Mapping[str, bytes] | None = None) -> None:
    """Give a record of a board another name, or other files."""
    archive = record.parent
    kept = {
        member: content
        for member, content in members(archive).items()
        if not member.startswith(f"{record.name}/")
    }
    own = files_of(record) if files is None else files
    write_archive(archive, {**kept, **{f"{name}/{file}": content for file, content in own.items()}})


def remove(record: Path) -> None:
    """Take a record off its board."""
    rename(record, "", {})


def files_of(record: Path) -> dict[str, bytes]:
    """Return the files of a record of a board."""
    front = f"{record.name}/"
    there = members(record.parent)
    return {name.removeprefix(front): content for name, content in there.items() if name.startswith(front)}


def record_of(folder: Path, strategy: str, seed: int, control: str | None = None) -> Path:
    """Return the folder of one record of the board, inside of its archive."""
    for path in record_folders(folder):
        if (control is not None) != (f"-{control}-" in path.name):
            continue
        recipe: Mapping[str, Any] = RunRecord.open(path).recipe
        if (recipe["strategy"]["name"], recipe["seed"]) == (strategy, seed):
            return path
    raise LookupError(strategy)


def unpack(record: Path, home: Path) -> Path:
    """Copy one record of a board, with its items, into a folder."""
    files = {f"{record.name}/{name}": content for name, content in files_of(record).items()}
    for name, content in {**files, **members(record.parents[2] / ITEMS_ARCHIVE)}.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return home / record.name
