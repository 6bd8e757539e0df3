"""How far a run is: lines on time, the file for other programs, and how long the rest takes."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import carry_out, finished, installed, planned, results, small_model

from seqmem.core.digits import duration
from seqmem.launch.local import Workers
from seqmem.planning.grid import PlannedRun
from seqmem.record.compact import compact_of
from seqmem.record.reader import RunRecord
from seqmem.training import reporting
from seqmem.training.reporting import Reporter, TimeLeft, probes_due
from seqmem.verbs import display
from seqmem.verbs.display import Plain
from seqmem.verbs.progress import ProgressFiles, RunState


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


# -- lines ----------------------------------------------------------------------------------------------

STEP: dict[str, Any] = {"event": "step", "step": 120, "experience": "loop 1 visit 2", "loss": 2.314}


@pytest.mark.parametrize(
    "events",
    [
        [{"event": "loading", "what": "model big (135,000,000 parameters), tokenizer and stream"}],
        [{"event": "started", "step": 0}],
        [{"event": "started", "step": 40}, STEP | {"seconds_left": 240.0}],
        [
            {"event": "started", "step": 0},
            {"event": "probing", "step": 0, "asked": 5, "of": 9, "seconds_left": None},
        ],
    ],
    ids=["loading", "started", "training", "probing"],
)
def test_a_run_of_which_nothing_is_heard_has_a_line_at_least_every_30_seconds(
    events: list[dict[str, Any]], clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = Plain()
    plain.begin({"a": "first", "b": "second"}, {"a": 300, "b": 300}, reused=0)
    for event in events:
        plain.event("a", event)
    capsys.readouterr()
    told = [clock.now]
    while clock.now < 1000 + 70 * 60:
        clock.now += 0.1
        plain.tick()
        said = capsys.readouterr().err
        if said:
            assert said.startswith("first: ") and said.count("\n") == 1
            told.append(clock.now)
    told.append(clock.now)
    assert max(b - a for a, b in zip(told, told[1:], strict=False)) <= 30
    assert len(told) < 180, "lines are for people"
    plain.event("a", {"event": "finished"})
    capsys.readouterr()
    clock.now += 100
    plain.tick()
    assert capsys.readouterr().err == "", "an ended run, and one that waits, have no lines"


def test_a_line_says_run_step_loss_recall_probes_and_time_left(clock: Clock) -> None:
    run = RunState("memory_loops naive s0", 300)
    run.note({"event": "loading", "what": "model tiny (1,055,488 parameters), tokenizer and stream"})
    assert (
        run.line() == "memory_loops naive s0: loading model tiny (1,055,488 parameters), tokenizer and stream"
    )
    run.note({"event": "started", "step": 0})
    assert run.line() == "memory_loops naive s0: step 0 of 300"
    run.note({"event": "recall", "step": 0, "recall": {"task 0": 0.75, "twins": 0.0}})
    run.note(STEP | {"seconds_left": 240.0})
    assert run.line() == (
        "memory_loops naive s0: step 120 of 300, loop 1 visit 2, loss 2.31 nats; "
        "recall now: task 0 0.75, twins 0.00; about 4 min left"
    )
    run.note({"event": "probing", "step": 121, "asked": 1200, "of": 4000, "seconds_left": None})
    clock.now += 45
    assert run.line() == (
        "memory_loops naive s0: step 121 of 300, loop 1 visit 2, loss 2.31 nats, 1,200 of 4,000 probes asked, "
        "no news for 45 s; recall now: task 0 0.75, twins 0.00"
    )
    run.note({"event": "probing", "step": 121, "asked": 4000, "of": 4000, "seconds_left": 20.0})
    assert "probes" not in run.line() and run.line().endswith("about 20 s left")
    run.note({"event": "recall", "step": 121, "recall": {f"task {n}": 0.5 for n in range(40)}})
    assert "task 7 0.50, 32 more" in run.line() and "task 8" not in run.line()


SILENT = """
import json, sys, time
def tell(event, **facts):
    print(json.dumps({"event": event, **facts}), flush=True)

tell("ready")
for line in sys.stdin:
    mark = {"run": "a", "secret": line.partition(" ")[0]}
    tell("loading", what="a large model", **mark)
    time.sleep(1.5)
    tell("started", step=0, steps=9, **mark)
    time.sleep(1.5)
    tell("finished", **mark)
"""


def test_lines_come_while_a_worker_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "silent.py").write_text(SILENT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(display, "LINE_SECONDS", 0.3)
    plain = Plain()
    plain.begin({"a": "slow"}, {"a": 9}, reused=0)
    job: Any = SimpleNamespace(recipe=SimpleNamespace(id="a"), model_dump_json=lambda: "go")
    with Workers(1, module="silent") as pool:
        pool.run([job], plain.event, lambda: False, plain.tick)
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("slow: loading a large model") >= 3
    assert lines.count("slow: step 0 of 9") >= 2


# -- time left ------------------------------------------------------------------------------------------


def test_time_left_is_not_said_without_a_basis_and_then_adds_steps_and_probes() -> None:
    left = TimeLeft(Counter({"facts": 3, "text": 1}), {"facts": 10, "text": 5})
    assert left.seconds(6) is None
    left.note_probes("facts", 20.0)
    for seconds in (100.0, 2.0, 2.0):  # the first step pays for what is set up once
        left.note_step(seconds)
        assert left.seconds(6) is None
    left.note_step(2.0)
    assert left.seconds(6) == pytest.approx(6 * 2 + 2 * 20 + 5 * 2)  # the text at the rate of the facts
    left.note_probes("text", 1.0)
    assert left.seconds(6) == pytest.approx(6 * 2 + 2 * 20)
    for _ in range(60):
        left.note_step(4.0)
    assert left.seconds(6) == pytest.approx(6 * 4 + 2 * 20), "the last steps count"
    left.note_probes("facts", 20.0), left.note_probes("facts", 20.0)
    assert left.seconds(0) == 0


def test_probes_nobody_has_asked_yet_are_no_basis() -> None:
    left = TimeLeft(Counter({"facts": 1}), {"facts": 10})
    for _ in range(9):
        left.note_step(1.0)
    assert left.seconds(5) is None
    assert TimeLeft(Counter(), {}).seconds(0) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> PlannedRun:
    return planned(small_model(tmp_path_factory.mktemp("model")))


def test_what_is_due_is_what_is_then_asked_also_after_a_resumption(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []

    class Watched(Reporter):
        def __init__(self, run: Any, *rest: Any) -> None:
            super().__init__(run, *rest)
            kept.append((probes_due(run), Counter[str]()))

        def on_answers(self, point: Any, answers: Any, probes: Any) -> None:
            super().on_answers(point, answers, probes)
            kept[-1][1][point.probe_set] += 1

    monkeypatch.setattr("seqmem.training.run.Reporter", Watched)
    monkeypatch.setattr(reporting, "REPORT_SECONDS", 0.0)
    calls = iter(range(100))
    assert carry_out(run, tmp_path / "run", should_stop=lambda: next(calls) >= 6)[-1]["event"] == "stopped"
    events = carry_out(run, tmp_path / "run", resume=True)
    assert events[-1] == {"event": "finished"}
    (all_due, first), (then_due, second) = kept
    assert sum(all_due.values()) > sum(then_due.values()) > 0
    assert first + second == all_due and second == then_due
    left = [event["seconds_left"] for event in events if event["event"] == "step"]
    assert left[0] is None and left[-1] is not None and left[-1] >= 0
    probing = [event for event in events if event["event"] == "probing"]
    assert probing and all(0 <= event["asked"] <= event["of"] for event in probing)


def test_what_is_loaded_is_told_before_anything_starts(run: PlannedRun, tmp_path: Path) -> None:
    from small_runs import job_of

    from seqmem.training.run import execute

    events: list[dict[str, Any]] = []
    execute(job_of(run, tmp_path / "run"), events.append, registry=installed())
    loaded = [event["what"] for event in events if event["event"] == "loading"]
    assert loaded[0].startswith("model ") and loaded[0].endswith(" parameters), tokenizer and stream")
    assert [what.split()[0] for what in loaded[1:]] == ["tokenizer", "stream", "model"]
    assert [event["event"] for event in events].index("started") == len(loaded)


# -- progress.json --------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> ProgressFiles:
    (tmp_path / "a").mkdir()
    files = ProgressFiles({"a": tmp_path / "a", "b": tmp_path / "b"})
    files.begin({"a": "first", "b": "second"}, {"a": 300, "b": 300}, 0)
    return files


def read(folder: Path) -> Any:
    return json.loads((folder / "progress.json").read_text())


def test_other_programs_read_how_far_a_run_is(files: ProgressFiles, clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    files.event("a", {"event": "loading", "what": "model"})
    files.tick()
    assert not list(folder.iterdir()), "the folder is the worker's until the run has started"
    files.event("a", {"event": "started", "step": 20})
    begun = read(folder)
    assert (begun["run"], begun["name"], begun["state"]) == ("a", "first", "running")
    assert (begun["step"], begun["steps"], begun["loss"], begun["seconds_left"]) == (20, 300, None, None)
    clock.now += 0.5
    files.event("a", {"event": "recall", "step": 120, "recall": {"task 0": 0.75}})
    files.event("a", STEP | {"seconds_left": 240.26})
    files.tick()
    assert read(folder) == begun, "at most every second"
    clock.now += 0.6
    files.tick()
    assert read(folder) == begun | {
        "step": 120,
        "experience": "loop 1 visit 2",
        "loss": 2.314,
        "recall": {"task 0": 0.75},
        "seconds_left": 240.3,
        "updated": read(folder)["updated"],
    }
    files.event("a", STEP | {"step": 130, "loss": float("nan")})
    files.event("a", {"event": "probing", "step": 130, "asked": 3, "of": 9, "seconds_left": None})
    clock.now += 2
    files.tick()
    assert (read(folder)["loss"], read(folder)["probes_asked"], read(folder)["probes"]) == (None, 3, 9)
    files.event("a", {"event": "failed", "reason": "no more"})
    ended = read(folder)
    assert (ended["state"], ended["reason"], ended["step"], ended["probes"]) == (
        "failed",
        "no more",
        130,
        None,
    )
    clock.now += 50
    files.tick()
    files.end()
    assert read(folder) == ended and [path.name for path in folder.iterdir()] == ["progress.json"]


def test_a_run_that_was_refused_or_whose_folder_is_gone_needs_no_file(
    files: ProgressFiles, tmp_path: Path
) -> None:
    files.event("b", {"event": "failed", "reason": "refused"})
    files.event("b", {"event": "started", "step": 0})
    files.event("b", {"event": "finished"})
    assert not (tmp_path / "b").exists()


def test_the_file_is_no_part_of_the_record(run: PlannedRun, tmp_path: Path) -> None:
    record = RunRecord.open(shutil.copytree(finished(run).folder, tmp_path / run.folder))
    before = compact_of(record)
    (record.folder / "progress.json").write_text("{")
    again = RunRecord.open(record.folder)
    assert compact_of(again) == before and results(again) == results(record)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (4200, "70 min"), (36000, "10.0 h")]
)
def test_a_time_is_said_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert duration(seconds) == words
