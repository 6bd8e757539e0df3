"""Checkpoints by steps or minutes, how many are kept, and what becomes of a run whose disk is full."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import SafetensorError
from small_runs import carry_out, finish, finished, planned, results, rows, small_model, tables

from seqmem.cli.app import run as command_line
from seqmem.core.disk import is_full
from seqmem.core.errors import UsageError
from seqmem.planning.grid import PlannedRun
from seqmem.planning.request import Execution, Request, read
from seqmem.record.reader import RunRecord
from seqmem.training import checkpoint as checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> PlannedRun:
    return planned(small_model(tmp_path_factory.mktemp("model")), "moment_avg")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


# -- when, and how many ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "steps", "minutes"), [("50", 50, None), (50, 50, None), ("10m", None, 10), ("1m", None, 1)]
)
def test_checkpoints_are_made_by_steps_or_by_minutes(
    text: Any, steps: int | None, minutes: int | None
) -> None:
    given = {"scenario": "memory_loops", "strategy": "naive", "checkpoint_every": text}
    execution = read(Request, given, "bench")[1]
    assert (execution.checkpoint_steps, execution.checkpoint_minutes) == (steps, minutes)


@pytest.mark.parametrize("text", ["", "0", "-1", "0m", "m", "10 m", "10M", "10s", "1.5m", "1e3", "m10", "²"])
def test_another_interval_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a number of steps such as 50, or of minutes such as 10m"):
        Execution(checkpoint_every=text)


def test_minutes_are_counted_from_the_last_checkpoint(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(
        range(0, 10**6, 25)
    )  # the clock is read at the start, at every step and at every checkpoint
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)))
    monkeypatch.setattr("seqmem.training.run_state.time", clock)
    folder = tmp_path / "run"
    record = finish(run, folder, checkpoint_every=None, checkpoint_minutes=1, keep_checkpoints=True)
    assert names(folder) == ["step-00000012", "step-00000015"]
    assert results(record) == results(finished(run))
    for name, frame in rows(folder).items():
        assert frame.equals(rows(finished(run).folder)[name])


def test_of_large_checkpoints_one_is_kept(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LARGE", 1000)
    finish(run, tmp_path / "run", checkpoint_every=4, keep_checkpoints=True)
    assert names(tmp_path / "run") == ["step-00000016"]


def test_the_one_that_is_kept_is_not_a_damaged_one_that_stands_after_it(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(run, tmp_path / "run", should_stop=after(9), checkpoint_every=4)
    (tmp_path / "run" / "checkpoints" / "step-00000009" / "state.json").write_text("{}")
    monkeypatch.setattr(checkpoints, "LARGE", 1000)
    carry_out(run, tmp_path / "run", should_stop=after(0), resume=True)
    events = carry_out(run, tmp_path / "run", should_stop=after(0), resume=True)
    assert names(tmp_path / "run") == ["step-00000010"], events
    assert not [event for event in events if event["event"] == "warning"]


def test_a_run_that_stops_where_a_checkpoint_is_due_writes_one(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    whole = checkpoints._write

    def counted(folder: Path, *rest: Any) -> None:
        written.append(folder)
        whole(folder, *rest)

    monkeypatch.setattr(checkpoints, "_write", counted)
    carry_out(run, tmp_path / "run", should_stop=after(5), checkpoint_every=3)
    assert len(written) == 2


def after(steps: int) -> Callable[[], bool]:
    """A `should_stop` that says yes after so many steps."""
    asked = iter(range(10**6))
    return lambda: next(asked) + 1 >= steps


# -- no room --------------------------------------------------------------------------------------------

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
RUST = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def too_little(patch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=10**9, used=10**9, free=5000)
    patch.setattr(shutil, "disk_usage", lambda folder: usage)


def half_written(error: Exception) -> Callable[[pytest.MonkeyPatch], None]:
    def save_half(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    return lambda patch: patch.setattr(checkpoints, "save_file", save_half)


def state_does_not_fit(patch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, value: Any) -> None:
        path.write_text("{")
        raise FULL

    patch.setattr(checkpoints, "write_sealed", refuse)


def table_does_not_fit(patch: pytest.MonkeyPatch) -> None:
    def refuse(table: Any, file: Any) -> None:
        file.write(b"PAR1")
        raise FULL

    patch.setattr("pyarrow.parquet.write_table", refuse)


def nothing_fits(patch: pytest.MonkeyPatch) -> None:
    too_little(patch)
    for name in ("record.files.os.fsync", "record.files.os.replace"):

        def refuse(*arguments: Any) -> None:
            raise FULL

        patch.setattr(f"seqmem.{name}", refuse)


@pytest.mark.parametrize(
    ("fill", "kept"),
    [  # every way with two checkpoints kept; with one, where nothing is begun and where most is there already
        pytest.param(too_little, 2, id="too little"),
        pytest.param(too_little, 1, id="too little, one kept"),
        pytest.param(half_written(RUST), 2, id="half"),
        pytest.param(half_written(OSError(errno.EDQUOT, "Disk quota exceeded")), 2, id="quota"),
        pytest.param(state_does_not_fit, 2, id="state"),
        pytest.param(state_does_not_fit, 1, id="state, one kept"),
        pytest.param(table_does_not_fit, 2, id="table"),
        pytest.param(nothing_fits, 2, id="nothing"),
    ],
)
def test_a_full_disk_ends_the_run_in_one_sentence_and_it_goes_on_from_the_checkpoint_before(
    fill: Callable[[pytest.MonkeyPatch], None],
    kept: int,
    run: PlannedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference, folder = finished(run, checkpoint_every=3), tmp_path / "run"
    monkeypatch.setattr(checkpoints, "LARGE", 0 if kept == 1 else 10**9)
    with monkeypatch.context() as patch:

        def fills_up() -> bool:
            if next(steps) == 7:
                fill(patch)
            return False

        steps = iter(range(1, 1000))
        (*_, last) = carry_out(run, folder, should_stop=fills_up, checkpoint_every=3)
    assert last["event"] == "failed"
    reason = last["reason"]
    assert reason.startswith(f"the disk is full: {folder} has ") and "\n" not in reason
    assert " bytes free and " in reason and " are needed for a checkpoint; make room, then" in reason
    assert reason.endswith("--resume goes on from step 6")
    status = RunRecord.open(folder).status
    assert status == ("running" if fill is nothing_fits else "stopped")
    assert names(folder) == ["step-00000003", "step-00000006"][-kept:], "nothing of a half one stays"
    assert not list(folder.rglob(".*")), "nothing of a half file stays"
    assert carry_out(run, folder, checkpoint_every=3, resume=True)[-1] == {"event": "finished"}
    assert results(RunRecord.open(folder)) == results(reference)
    assert tables(folder) == tables(reference.folder)
    assert not (folder / "error.txt").exists()


def test_a_disk_that_is_full_at_the_first_checkpoint_leaves_nothing_to_go_on_from(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_little(monkeypatch)
    reason = carry_out(run, tmp_path / "run", checkpoint_every=3)[-1]["reason"]
    assert reason.endswith("; make room, then the run starts over")


def test_a_model_that_does_not_fit_is_saved_when_there_is_room(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:

        def refuse(*arguments: Any) -> None:
            raise RUST

        patch.setattr("seqmem.training.run.save_model", refuse)
        last = carry_out(run, folder, checkpoint_every=5, save_model=True)[-1]
    assert (
        last["event"] == "failed"
        and "more is needed; make room, then --resume goes on from step 15" in last["reason"]
    )
    assert carry_out(run, folder, resume=True, save_model=True)[-1] == {"event": "finished"}
    assert (folder / "model").is_dir()


def test_another_fault_of_the_disk_is_not_taken_for_a_full_one(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_written(SafetensorError("Error while serializing: something else"))(monkeypatch)
    last = carry_out(run, tmp_path / "run", checkpoint_every=3)[-1]
    assert last == {"event": "failed", "reason": "SafetensorError: Error while serializing: something else"}
    assert RunRecord.open(tmp_path / "run").status == "failed"
    assert not is_full(OSError(errno.EACCES, "no"))


def test_tables_that_do_not_fit_are_one_line_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**options: Any) -> None:
        raise FULL

    monkeypatch.setattr("seqmem.cli.app.app", refuse)
    assert command_line(["bench"]) == 1
    assert (
        capsys.readouterr().err == "seqmem: error: the disk is full: make room and give the command again\n"
    )
