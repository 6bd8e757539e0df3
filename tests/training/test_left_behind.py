"""What a run leaves that stopped, failed or was killed: whole, and damage to it is found before anything goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from small_runs import InlineWorkers, carry_out, finished, installed, planned, results, rows, small_model

from seqmem import Strategy, StrategySpec
from seqmem.planning.grid import PlannedRun
from seqmem.planning.job import Job
from seqmem.plugin.registry import Entry, Registry
from seqmem.record.reader import RunRecord
from seqmem.training import checkpoint as checkpoints
from seqmem.training import run as running
from seqmem.verbs.bench import bench


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def run(model: Path) -> PlannedRun:
    return planned(model)


def after(steps: int) -> Callable[[], bool]:
    """A `should_stop` that says yes after so many steps."""
    asked = iter(range(10**6))
    return lambda: next(asked) + 1 >= steps


def stopped(run: PlannedRun, folder: Path, at: int = 9) -> list[Path]:
    """Stop a run, which leaves two checkpoints; its parts of the table of steps."""
    carry_out(run, folder, should_stop=after(at), checkpoint_every=4)
    return sorted((folder / "steps").iterdir())


def test_a_part_damaged_since_takes_the_checkpoint_before_it(run: PlannedRun, tmp_path: Path) -> None:
    *_, last = stopped(run, tmp_path / "run")
    last.write_bytes(last.read_bytes()[:-1])
    events = carry_out(run, tmp_path / "run", resume=True)
    assert events[0] == {
        "event": "warning",
        "message": f"checkpoint step-00000009 is damaged (steps/{last.name} was changed or damaged); "
        "trying the one before",
    }
    assert events[1]["event"] == "started" and events[1]["step"] == 8
    record = RunRecord.open(tmp_path / "run")
    assert results(record) == results(finished(run))
    for name, frame in rows(record.folder).items():
        assert frame.equals(rows(finished(run).folder)[name]), name


@pytest.mark.parametrize("name", ["steps/part-00000.parquet", "items.parquet"])
def test_a_file_that_every_checkpoint_needs_ends_it_before_it_goes_on(
    name: str, run: PlannedRun, tmp_path: Path
) -> None:
    stopped(run, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    *warned, refused = carry_out(run, tmp_path / "run", resume=True)
    assert [event["message"].count(f"{name} is missing") for event in warned] == [1, 1]
    assert refused["event"] == "refused" and refused["reason"].endswith("start over with --force")
    assert (tmp_path / "run" / "checkpoints").exists()


def test_halves_that_a_kill_left_go(run: PlannedRun, tmp_path: Path) -> None:
    part = stopped(run, tmp_path / "run")[0]
    half = part.with_name(f".{part.name}.99999")
    half.write_bytes(b"half")
    carry_out(run, tmp_path / "run", resume=True)
    assert not half.exists() and RunRecord.open(tmp_path / "run").status == "finished"


def test_a_kill_while_an_old_record_is_deleted_leaves_a_folder_that_works(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "records" / "run"
    stopped(run, folder)

    def killed(path: Path, **more: Any) -> None:
        if Path(path).exists():
            (Path(path) / "run.json").unlink()
            raise SystemExit("killed")

    monkeypatch.setattr(running.shutil, "rmtree", killed)
    with pytest.raises(SystemExit):
        carry_out(run, folder)
    assert not folder.exists()
    monkeypatch.undo()
    assert carry_out(run, folder)[-1] == {"event": "finished"}
    assert [path.name for path in folder.parent.iterdir()] == ["run"]


def test_a_whole_checkpoint_of_the_same_step_is_not_written_again(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(run, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    saved = checkpoints.load_last(folder, pytest.fail)
    assert saved is not None
    written: list[object] = []
    monkeypatch.setattr(checkpoints, "save_file", lambda tensors, path: written.append(path))
    checkpoints.save(folder, saved)
    assert written == [] and checkpoints.load_last(folder, pytest.fail) is not None


class Ends(Strategy):
    """Ends the process, as far as a plugin can by raising."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.steps = error, 0

    def after_step(self, learner: Any, batch: Any) -> None:
        self.steps += 1
        if self.steps == 5:
            raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt:"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_would_end_the_process_ends_the_run(
    error: BaseException, reason: str, model: Path, tmp_path: Path
) -> None:
    ends = Entry("strategy", "ends", "nowhere", "stranger", "1")
    registry = Registry([*chain.from_iterable(installed()._entries.values()), ends])
    registry._specs["strategy", "ends"] = StrategySpec("ends", "1", "Ends.", lambda options: Ends(error))
    run = planned(model, "ends", registry=registry)
    event = carry_out(run, tmp_path / "run", registry=registry, checkpoint_every=2)[-1]
    assert event["event"] == "failed" and event["reason"].startswith(reason)
    assert RunRecord.open(tmp_path / "run").status == "failed"
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step-00000002",
        "step-00000004",
    ]


class Liars(InlineWorkers):
    """Says that every job has finished, and does none."""

    def run(
        self,
        jobs: Any,
        on_event: Callable[[str, dict[str, Any]], None],
        should_stop: Callable[[], bool],
        on_tick: Callable[[], None] = lambda: None,
        doubt: Callable[[Job], str] = lambda job: "",
    ) -> Mapping[str, dict[str, Any]]:
        return {job.recipe.id: {"event": "finished"} for job in jobs}


def test_a_row_without_its_runs_is_a_failure(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqmem.verbs.bench.Workers", Liars)
    result = bench(
        "memory_loops",
        "naive",
        model=str(model),
        preset="smoke",
        seeds="0-1",
        controls=False,
        out=tmp_path / "out",
        display="none",
    )
    assert set(result.failed.values()) == {"it has no record"} and len(result.failed) == 2
    shutil.rmtree(tmp_path / "out")
