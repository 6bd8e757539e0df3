"""Two processes never write one record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from small_runs import (
    InlineWorkers,
    carry_out,
    finished,
    job_of,
    planned,
    results,
    small_model,
    tables,
    write_stranger,
)

from seqmem.cli.app import run as command_line
from seqmem.record.reader import RunRecord
from seqmem.training import one_writer
from seqmem.training.run import execute


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def lock(tmp_path: Path) -> FileLock:
    """What another process holds while it writes a run's record."""
    return FileLock(tmp_path / "run.lock", thread_local=False)


def test_a_run_waits_for_the_process_that_writes_its_record(
    lock: FileLock, model: Path, tmp_path: Path
) -> None:
    run, folder = planned(model), tmp_path / "records" / "run"
    reference = finished(run)
    events: list[dict[str, Any]] = []
    waits = threading.Event()

    def report(event: dict[str, Any]) -> None:
        events.append(event)
        if "another process that still writes this run" in event.get("message", ""):
            waits.set()

    lock.acquire()
    running = threading.Thread(target=execute, args=(job_of(run, folder, lock=lock.lock_file), report))
    running.start()
    assert waits.wait(60)
    assert not folder.exists()
    lock.release()
    running.join()
    assert events[-1] == {"event": "finished"}
    assert results(RunRecord.open(folder)) == results(reference)
    assert tables(folder) == tables(reference.folder)


@pytest.mark.parametrize("resume", [False, True])
def test_who_is_told_to_stop_while_waiting_leaves_the_record_alone(
    resume: bool, lock: FileLock, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("of the other")
    with lock:
        events = carry_out(
            planned(model), folder, should_stop=lambda: True, resume=resume, lock=lock.lock_file
        )
    assert [event["event"] for event in events] == ["warning", "stopped"]
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_one_that_never_ends_is_named(
    lock: FileLock, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_writer, "PATIENCE", 0)
    with lock:
        _, event = carry_out(planned(model), tmp_path / "run", lock=lock.lock_file)
    assert event["event"] == "refused"
    assert event["reason"].startswith("another process still writes the record of this run, ")
    assert f"it holds {lock.lock_file} locked" in event["reason"]
    assert not (tmp_path / "run").exists()


def test_the_lock_is_let_go_whatever_the_end(lock: FileLock, model: Path, tmp_path: Path) -> None:
    run, folder = planned(model), tmp_path / "run"
    carry_out(run, folder, should_stop=lambda: True, lock=lock.lock_file)
    assert RunRecord.open(folder).status == "stopped"
    assert carry_out(run, folder, resume=True, lock=lock.lock_file)[-1] == {"event": "finished"}
    lock.acquire(timeout=0)


SLOW = """
import os, pathlib, time
from seqmem import Strategy, StrategySpec, hookimpl

seqmem_api = ">=1,<2"

class Slow(Strategy):
    def after_step(self, learner, batch):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 15 and "SLOW" in os.environ:
            pathlib.Path(os.environ["SLOW"]).touch()
            time.sleep(15)

@hookimpl
def seqmem_strategy():
    return [StrategySpec("slow", "1", "Sleeps in one of its steps.", build=lambda options: Slow())]
"""


@pytest.mark.slow
def test_a_bench_started_when_another_was_killed_waits_for_its_worker(
    no_figures: None, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin").mkdir()
    monkeypatch.syspath_prepend(write_stranger(tmp_path / "plugin", SLOW, "slow"))
    out = tmp_path / "out"
    words = [
        *("bench", "--scenario", "memory_loops", "--strategy", "slow", "--model", str(model), "--seeds", "3"),
        *("--preset", "smoke", "--no-controls", "--no-reference", "--device", "cpu", "--out", str(out)),
        *("--display", "plain", "--checkpoint-every", "10", "--set", "scenario.rest_steps=100"),
    ]
    environment = {**os.environ, "SLOW": str(tmp_path / "sleeps"), "PYTHONPATH": str(tmp_path / "plugin")}
    killed = subprocess.Popen([str(Path(sys.executable).parent / "seqmem"), *words], env=environment)
    deadline = time.monotonic() + 600
    while not (tmp_path / "sleeps").exists() and time.monotonic() < deadline:
        assert killed.poll() is None
        time.sleep(0.01)
    (worker,) = subprocess.check_output(["pgrep", "-P", str(killed.pid)], text=True).split()
    os.kill(killed.pid, signal.SIGKILL)  # its worker sleeps, and would write over the next one's record
    killed.wait()
    monkeypatch.setattr("seqmem.verbs.bench.Workers", InlineWorkers)
    assert command_line([*words, "--resume"]) == 0
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    (record,) = (RunRecord.open(path) for path in (out / "records").iterdir())
    assert record.status == "finished"
    assert record.steps["step"].tolist() == list(range(1, record.info["steps"] + 1))
