"""A run that is stopped, killed or damaged goes on from its last checkpoint and ends in the same bits."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from model_folders import Kind
from small_runs import (
    SMALL,
    Events,
    InlineWorkers,
    carry_out,
    finish,
    finished,
    installed,
    job_of,
    planned,
    results,
    rows,
    small_model,
    tables,
)

from seqmem.cli.app import run as command_line
from seqmem.launch.local import Workers
from seqmem.planning.grid import PlannedRun
from seqmem.planning.job import Job
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.record.reader import RunRecord

STRATEGIES = ("naive", "replay", "moment_avg")
SHORT = {"scenario.facts_per_loop": 1, "scenario.exposures": 1, "scenario.rest_steps": 2}
"""Ten steps with two cycles, six with one."""
MIDDLING = {"scenario.rest_steps": 12, "scenario.even_every": 6}
"""24 steps, half a second."""
LONG = {"scenario.cycles": 3, "scenario.rest_steps": 18, "scenario.even_every": 3}
"""36 steps, about a second."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def stop_after(steps: int) -> Any:
    """A `should_stop` that says yes once it has been asked that often."""
    asked = itertools.count(1)
    return lambda: next(asked) >= steps


def same_rows(folder: Path, reference: Path) -> None:
    for name, frame in rows(reference).items():
        pd.testing.assert_frame_equal(rows(folder)[name], frame, check_exact=True)


# -- stopping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "options", "kind"),
    [
        ("replay", {"strategy.buffer": 3, "scenario.cycles": 1}, "gpt_neox"),
        ("moment_avg", {"optimizer.name": "sgd", "optimizer.momentum": 0.9, "optimizer.lr": 0.5}, "gpt_neox"),
        ("joint", {"scenario.cycles": 1}, "gpt_neox"),
        ("moment_avg", {"scenario.order": "shuffled"}, "gpt2"),  # with dropout: random numbers in training
    ],
)
def test_a_run_stopped_after_every_single_step_ends_as_if_it_never_was(
    strategy: str, options: dict[str, Any], kind: Kind, tmp_path: Path
) -> None:
    run = planned(small_model(tmp_path / "model", kind), strategy, {**SHORT, **options})
    reference, folder = finish(run, tmp_path / "reference"), tmp_path / "stopped"
    ends = [carry_out(run, folder, should_stop=stop_after(1))[-1]["event"]]
    while ends[-1] == "stopped":
        events = carry_out(run, folder, should_stop=stop_after(1), resume=True)
        assert events[0] == {"event": "started", "step": len(ends), "steps": run.outline.steps}
        ends.append(events[-1]["event"])
    assert ends == ["stopped"] * run.outline.steps + ["finished"]
    assert results(RunRecord.open(folder)) == results(reference)
    same_rows(folder, reference.folder)


@pytest.mark.parametrize("scenario", ["conversation_recall", "rolling_window", "freeze_loops"])
def test_a_run_of_another_scenario_stopped_now_and_then_ends_as_if_it_never_was(
    scenario: str, model: Path, tmp_path: Path
) -> None:
    """Packed and weighted rows in a rehearsal buffer, snapshots, components: all of it survives."""
    changes = {"conversation_recall": ("scenario.loss=both", "scenario.weight=4")}.get(scenario, ())
    asked = Request(
        scenario=(scenario,),
        strategy=("freeze_component" if scenario == "freeze_loops" else "replay",),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        set=(*changes, *(("strategy.components=1",) if scenario == "freeze_loops" else ())),
        reference=False,
        controls=False,
        device="cpu",
    )
    (run,) = plan(asked, installed()).runs.values()
    reference, folder = finish(run, tmp_path / "reference"), tmp_path / "stopped"
    stops, some = 0, run.outline.steps // 4 + 1
    event = carry_out(run, folder, should_stop=stop_after(some))[-1]["event"]
    while event == "stopped":
        stops += 1
        event = carry_out(run, folder, should_stop=stop_after(some), resume=True)[-1]["event"]
    assert stops >= 2 and event == "finished"
    assert results(RunRecord.open(folder)) == results(reference)
    same_rows(folder, reference.folder)


def test_a_stopped_run_says_so_in_its_record_and_keeps_two_checkpoints(model: Path, tmp_path: Path) -> None:
    run = planned(model)
    assert carry_out(run, tmp_path / "run", should_stop=stop_after(9), checkpoint_every=2)[-1] == {
        "event": "stopped"
    }
    assert RunRecord.open(tmp_path / "run").status == "stopped"
    assert names(tmp_path / "run") == ["step-00000008", "step-00000009"]


def test_checkpoints_go_when_the_run_has_finished_unless_they_are_wanted(model: Path, tmp_path: Path) -> None:
    finish(planned(model), tmp_path / "run", checkpoint_every=4)
    assert not (tmp_path / "run" / "checkpoints").exists()
    finish(planned(model), tmp_path / "run", checkpoint_every=4, keep_checkpoints=True)
    assert names(tmp_path / "run") == ["step-00000012", "step-00000016"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


# -- damage ---------------------------------------------------------------------------------------------


def flip_a_byte(checkpoint: Path) -> None:
    path = checkpoint / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def cut_off(checkpoint: Path) -> None:
    path = checkpoint / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def lose_tensors(checkpoint: Path) -> None:
    (checkpoint / "tensors.safetensors").unlink()


def lose_state(checkpoint: Path) -> None:
    (checkpoint / "state.json").unlink()


def empty_state(checkpoint: Path) -> None:
    (checkpoint / "state.json").write_text("")


def foreign_state(checkpoint: Path) -> None:
    (checkpoint / "state.json").write_text("[1, 2]")


def change_state(checkpoint: Path) -> None:
    path = checkpoint / "state.json"
    path.write_text(path.read_text().replace('"position": ', '"position": 1'))


DAMAGES = [flip_a_byte, cut_off, lose_tensors, lose_state, empty_state, foreign_state, change_state]


@pytest.fixture(scope="module")
def stopped(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PlannedRun, Path, RunRecord]:
    """A run stopped at step 9 with checkpoints of steps 6 and 9, and the same run never stopped."""
    root = tmp_path_factory.mktemp("stopped")
    run = planned(model, "moment_avg")
    carry_out(run, root / "run", should_stop=stop_after(9), checkpoint_every=3)
    return run, root / "run", finish(run, root / "reference")


@pytest.mark.parametrize("damage", [flip_a_byte, lose_state, change_state])  # each is told apart below
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    damage: Any, stopped: tuple[PlannedRun, Path, RunRecord], tmp_path: Path
) -> None:
    run, folder, reference = stopped
    shutil.copytree(folder, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "step-00000009")
    events = carry_out(run, tmp_path / "run", resume=True)
    assert events[0]["event"] == "warning"
    assert re.match(
        r"checkpoint step-00000009 is damaged \(.+\); trying the one before$", events[0]["message"]
    )
    assert events[1] == {"event": "started", "step": 6, "steps": 16}
    assert events[-1] == {"event": "finished"}
    record = RunRecord.open(tmp_path / "run")
    assert results(record) == results(reference)
    same_rows(tmp_path / "run", reference.folder)
    assert [part["until_step"] for part in record.info["resumed"]] == [6]  # the record says it has two parts
    assert "resumed" not in reference.info


@pytest.mark.parametrize("damage", DAMAGES)
def test_with_every_checkpoint_damaged_the_run_is_refused_and_left_as_it_is(
    damage: Any, stopped: tuple[PlannedRun, Path, RunRecord], tmp_path: Path
) -> None:
    run, folder, _ = stopped
    shutil.copytree(folder, tmp_path / "run")
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        damage(checkpoint)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    events = carry_out(run, tmp_path / "run", resume=True)
    assert [event["event"] for event in events] == ["warning", "warning", "refused"]
    assert events[-1]["reason"].endswith("not a readable checkpoint; start over with --force")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_nothing_a_run_leaves_is_a_pickle(stopped: tuple[PlannedRun, Path, RunRecord]) -> None:
    _, folder, reference = stopped
    files = [path for root in (folder, reference.folder) for path in root.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".parquet", ".safetensors"}
    starts = {".json": b"{", ".parquet": b"PAR1"}
    for path in files:
        content = path.read_bytes()
        assert content.startswith(starts.get(path.suffix, b"")), path
        if path.suffix == ".safetensors":  # eight bytes of length, then a JSON header
            assert json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def test_no_source_file_reads_or_writes_pickles() -> None:
    """One file reads checkpoints of PyTorch, tensors only, and knows the error of what is refused."""
    root = Path(__file__).resolve().parents[2]
    reader = root / "harness" / "seqmem" / "training" / "convert.py"
    for package in ("harness", "plugins", "scenarios"):
        for path in (root / package).rglob("*.py"):
            source = path.read_text("utf-8")
            if path == reader:
                assert set(re.findall(r"\bpickle\.\w+", source)) == {"pickle.UnpicklingError"}
                loads = re.findall(r"torch\.load\(([^)]*)\)", source)
                assert loads and all("weights_only=True" in given for given in loads)
                source = source.replace("import pickle\n", "").replace("torch.load", "")
            for word in ("import pickle", "torch.save(", "torch.load", "dill", "joblib", "allow_pickle=True"):
                assert word not in source, (path, word)


# -- kill -9 --------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone: nothing after this point happens."""


@contextmanager
def dying_at(patch: pytest.MonkeyPatch, fatal: int) -> Iterator[None]:
    """The `fatal`-th change of the file system, from 1, is not made, and is the end of the process."""
    done = itertools.count(1)

    def fragile(change: Any) -> Any:
        def attempt(*arguments: Any, **options: Any) -> Any:
            if next(done) == fatal:
                raise Killed
            return change(*arguments, **options)

        return attempt

    with patch.context() as inside:
        for module, name in ((os, "replace"), (os, "fsync"), (os, "mkdir"), (shutil, "rmtree")):
            inside.setattr(module, name, fragile(getattr(module, name)))
        yield


def crash_and_resume(run: PlannedRun, folder: Path, fatal: int, patch: pytest.MonkeyPatch) -> Events | None:
    """Kill a run at its `fatal`-th change of the disk and go on with it; None when it ended before."""
    with dying_at(patch, fatal):
        try:
            carry_out(run, folder, checkpoint_every=3)
            return None
        except Killed:
            pass
    return carry_out(run, folder, checkpoint_every=3, resume=True)


def check_crash(run: PlannedRun, reference: RunRecord, tmp_path: Path, fatal: int, patch: Any) -> bool:
    folder = tmp_path / str(fatal)
    events = crash_and_resume(run, folder, fatal, patch)
    if events is None:
        return False
    assert events[-1] == {"event": "finished"}, (fatal, events[-1])
    assert results(RunRecord.open(folder)) == results(reference), fatal
    assert tables(folder) == tables(reference.folder), fatal
    return True


@pytest.mark.parametrize("fatal", [4, 19, 40, 43, 64])
def test_a_process_that_dies_while_it_writes_loses_nothing_it_cannot_make_again(
    fatal: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(model, "moment_avg", {"scenario.cycles": 1})
    reference = finished(run, checkpoint_every=3)
    assert check_crash(run, reference, tmp_path, fatal, monkeypatch)


@pytest.mark.slow
def test_a_process_may_die_at_any_of_its_writes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(model, "moment_avg", {"scenario.cycles": 1})
    reference = finish(run, tmp_path / "reference", checkpoint_every=3)
    fatal = 1
    while check_crash(run, reference, tmp_path, fatal, monkeypatch):
        fatal += 1
    print(f"\nkilled at each of {fatal - 1} changes of the disk")
    assert fatal > 40


WARM = """
import os, sys
from seqmem.planning.job import Job
from seqmem.training.run import execute
import transformers.models.gpt_neox.modeling_gpt_neox  # what a first run imports
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        execute(Job.model_validate_json(line), lambda event: None)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""A process that has imported everything and carries out each job in a child of its own."""


class Warm:
    """Runs jobs in child processes that need no five seconds to import torch, and kills them."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WARM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self._said() == "ready"

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.communicate()
        assert self.process.returncode == 0

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def run(self, job: Job, kill_when: Any = None) -> int:
        """Carry out a job; its exit code."""
        assert self.process.stdin is not None
        print(job.model_dump_json(), file=self.process.stdin, flush=True)
        child, ended = int(self._said()), threading.Event()
        if kill_when is not None:
            killer = threading.Thread(target=lambda: kill_when(ended) and os.kill(child, signal.SIGKILL))
            killer.start()
        code = int(self._said())
        ended.set()
        if kill_when is not None:
            killer.join()
        return code


EVERY = 4
"""Steps between checkpoints in the runs to be killed."""


def due(folder: Path, after: int, delay: float) -> Any:
    """Waits for the checkpoint of step `after`, and then some time; False when the run has ended meanwhile."""

    def wait(ended: threading.Event) -> bool:
        while not ended.is_set() and newest(folder) < after:
            time.sleep(0.001)
        return not ended.wait(delay)

    return wait


def newest(folder: Path) -> int:
    """Step of the newest checkpoint, -1 while the run has not even begun."""
    if not (folder / "run.json").exists():
        return -1
    return max((int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*")), default=0)


def runs_to_kill(
    points: int, model: Path, root: Path, options: dict[str, Any]
) -> list[tuple[PlannedRun, Path, RunRecord, int, float]]:
    """A run of a strategy in turn, where to put it, the same run undisturbed, and when to kill it."""
    chance = random.Random(points)
    spread = chance.sample(range(points), points)  # over the whole length of the runs
    cases = []
    for n in range(points):
        run = planned(model, STRATEGIES[n % len(STRATEGIES)], options, seed=n)
        reference = finish(run, root / f"reference-{n}", checkpoint_every=EVERY)
        checkpoints = range(0, run.outline.steps - 3 * EVERY, EVERY)
        after = checkpoints[spread[n] * len(checkpoints) // points]
        cases.append((run, root / f"killed-{n}", reference, after, chance.uniform(0, 0.08)))
    return cases


def check_resumed(folder: Path, reference: RunRecord) -> None:
    assert results(RunRecord.open(folder)) == results(reference)
    assert tables(folder) == tables(reference.folder)


def test_processes_killed_at_3_random_points_resume_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    places = []
    with Warm() as warm:
        for run, folder, reference, after, delay in runs_to_kill(3, model, tmp_path, MIDDLING):
            job = job_of(run, folder, checkpoint_every=EVERY)
            while warm.run(job, due(folder, after, delay)) == 0:  # it was faster than the killer: once more
                shutil.rmtree(folder)
            assert RunRecord.open(folder).status == "running"
            places.append(newest(folder))
            assert warm.run(job.model_copy(update={"resume": True})) == 0
            check_resumed(folder, reference)
    print(f"\nkilled 3 runs of {reference.info['steps']} steps, last checkpoints {places}")
    assert max(places) > min(places)


@pytest.mark.slow
def test_workers_killed_at_20_random_points_resume_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    cases = {case[0].recipe.id: case for case in runs_to_kill(20, model, tmp_path, LONG)}
    ended = {run_id: threading.Event() for run_id in cases}
    reached, resumed_at = dict.fromkeys(cases, 0), dict.fromkeys(cases, 0)
    killers: list[threading.Thread] = []

    with Workers(2) as pool:

        def kill(run_id: str) -> None:
            _, folder, _, after, delay = cases[run_id]
            if due(folder, after, delay)(ended[run_id]):
                (worker,) = (w for w in pool._workers if w.job and w.job.recipe.id == run_id)
                os.kill(worker.process.pid, signal.SIGKILL)

        def watch(run_id: str, event: dict[str, Any]) -> None:
            if event["event"] == "started":
                ended[run_id].clear()
                killers.append(threading.Thread(target=kill, args=(run_id,)))
                killers[-1].start()
            elif event["event"] in ("failed", "finished"):
                ended[run_id].set()
            reached[run_id] = max(event.get("step", 0), reached[run_id])

        left = list(cases)
        while left:  # a run that was faster than its killer is started over
            jobs = [job_of(cases[run_id][0], cases[run_id][1], checkpoint_every=EVERY) for run_id in left]
            outcome = pool.run(jobs, watch, lambda: False)
            for killer in killers:
                killer.join()
            for run_id in left:
                assert outcome[run_id].get("reason", "ended with code -9").count("ended with code -9")
            left = [run_id for run_id in left if outcome[run_id]["event"] == "finished"]

        def note_start(run_id: str, event: dict[str, Any]) -> None:
            if event["event"] == "started":
                resumed_at[run_id] = event["step"]

        jobs = [
            job_of(run, folder, checkpoint_every=EVERY, resume=True) for run, folder, *_ in cases.values()
        ]
        outcome = pool.run(jobs, note_start, lambda: False)
    assert [event["event"] for event in outcome.values()] == ["finished"] * len(cases)
    print(f"\nkilled {len(cases)} workers; resumed at steps {sorted(resumed_at.values())}")
    assert len(set(resumed_at.values())) > 4
    for run_id, (_, folder, reference, _, _) in cases.items():
        assert reached[run_id] - resumed_at[run_id] <= EVERY  # lost: at most one interval
        check_resumed(folder, reference)


# -- Ctrl-C ---------------------------------------------------------------------------------------------


LINGERING = {"scenario.rest_steps": 100, "scenario.even_every": 50}
"""Long enough to be interrupted after the first checkpoint."""


def command(model: Path, out: Path) -> list[str]:
    sets = itertools.chain.from_iterable(
        ("--set", f"{name}={value}") for name, value in {**SMALL, **LINGERING}.items()
    )
    return [
        *("bench", "--scenario", "memory_loops", "--strategy", "moment_avg", "--model", str(model)),
        *("--preset", "smoke", "--seeds", "3", "--no-reference", "--no-controls", "--device", "cpu"),
        *("--out", str(out), "--checkpoint-every", "10", "--display", "plain", *sets),
    ]


def test_ctrl_c_stops_with_a_checkpoint_and_the_command_it_prints_goes_on(
    no_figures: None, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out with a blank"
    bench = subprocess.Popen(
        [str(Path(sys.executable).parent / "seqmem"), *command(model, out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not list(out.glob("records/*/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(bench.pid, signal.SIGINT)  # the whole group, as a terminal does
    _, said = bench.communicate(timeout=600)
    assert bench.returncode == 130, said
    assert "Traceback" not in said
    (record,) = (RunRecord.open(path) for path in out.glob("records/*"))
    assert record.status == "stopped"
    assert f"[1/1] memory_loops moment_avg {model.name} s3 stopped" in said
    (printed,) = re.findall(r"^Stopped\. Continue with: (.+)$", said, re.MULTILINE)

    again = shlex.split(printed)
    assert again[0] == "seqmem"
    monkeypatch.setattr("seqmem.verbs.bench.Workers", InlineWorkers)
    assert command_line(again[1:]) == 0
    reference = finish(planned(model, "moment_avg", LINGERING, seed=3), tmp_path / "reference")
    assert results(RunRecord.open(record.folder)) == results(reference)
    same_rows(record.folder, reference.folder)


def test_resuming_what_was_never_begun_is_refused_in_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command_line([*command(model, out), "--resume"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"seqmem: error: nothing to resume in {out}: no checkpoint of these runs; leave out --resume\n"
    )
    assert not out.exists()
