"""A bench from one call: what it runs, what it reuses, what it leaves, and what it refuses."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from model_folders import make_model_folder
from small_runs import (
    SMALL,
    InlineWorkers,
    RememberingWorkers,
    carry_out,
    finish,
    installed,
    planned,
    results,
    small_model,
)

import seqmem
from seqmem import PluginError, RunRecord, UsageError
from seqmem.cli.app import run as command_line
from seqmem.core.recipe import recipe_id
from seqmem.planning.store import Store
from seqmem.record.files import write_sealed
from seqmem.reporting.board_files import rebuild
from seqmem.verbs.bench import BenchResult

TINY_RUNS = {
    **SMALL,
    "scenario.facts_per_loop": 1,
    "scenario.exposures": 1,
    "scenario.rest_steps": 2,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


class Counting(RememberingWorkers):
    """Runs jobs in this process and keeps a list of them."""

    started: list[str] = []

    def run(self, jobs: Any, on_event: Any, should_stop: Any, *rest: Any) -> Mapping[str, dict[str, Any]]:
        type(self).started += [f"{job.recipe.strategy.name} {job.recipe.seed}" for job in jobs]
        return super().run(jobs, on_event, should_stop)


Bench = Callable[..., BenchResult]


@pytest.fixture
def bench(drawing_bench: Bench, no_figures: None, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """`seqmem.bench` in small, into `tmp_path / "out"`, without figures and scored by three metrics only."""
    metrics = [installed().load("metric", name) for name in ("average_accuracy", "retention", "cost")]
    monkeypatch.setattr("seqmem.verbs.bench.load_metrics", lambda registry: (metrics, []))
    return drawing_bench


@pytest.fixture
def drawing_bench(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """`seqmem.bench` in small, into `tmp_path / "out"`."""
    monkeypatch.setattr("seqmem.verbs.bench.Workers", Counting)
    monkeypatch.setattr(Counting, "started", [])

    def run(
        strategy: Any = "moment_avg", options: Mapping[str, Any] | None = None, **request: Any
    ) -> BenchResult:
        settings = {
            "model": str(model),
            "preset": "smoke",
            "seeds": "0",
            "device": "cpu",
            "display": "none",
            "out": tmp_path / "out",
            "set": {**TINY_RUNS, **(options or {})},
            **request,
        }
        return seqmem.bench("memory_loops", strategy, **settings)

    return run


def records(out: Path) -> dict[str, RunRecord]:
    return {path.name: RunRecord.open(path) for path in sorted((out / "records").iterdir())}


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Content and time of every file but the lock, which stays."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


# -- what is run ------------------------------------------------------------------------------------------


def test_the_reference_and_the_shuffled_control_are_run_beside_the_strategy(
    bench: Bench, tmp_path: Path
) -> None:
    result = bench(seeds="0-1")
    found = {
        (r.recipe["strategy"]["name"], r.seed, r.recipe["scenario"]["options"]["order"])
        for r in records(tmp_path / "out").values()
    }
    assert found == {
        (strategy, seed, order)
        for strategy in ("naive", "moment_avg")
        for seed in (0, 1)
        for order in ("cyclic", "shuffled")
    }
    assert [row.label for row in result.board.rows] == ["naive", "moment_avg"]
    assert all(set(row.controls) == {"shuffled"} for row in result.board.rows)
    assert result.failed == {}
    assert not result.interrupted


def test_reference_and_controls_can_be_left_out(bench: Bench, tmp_path: Path) -> None:
    result = bench(reference=False, controls=False)
    (record,) = records(tmp_path / "out").values()
    assert record.recipe["strategy"]["name"] == "moment_avg"
    assert [row.label for row in result.board.rows] == ["moment_avg"]


def test_a_notebook_gets_data_frames_and_figures(drawing_bench: Bench, tmp_path: Path) -> None:
    result = drawing_bench(["naive", "replay"], controls=False, seeds="0-1")
    assert isinstance(result.table, pd.DataFrame)
    assert isinstance(result.values, pd.DataFrame)
    assert set(result.values["seed"]) == {0, 1}
    assert {"naive", "replay"} <= set(result.values["row"])
    assert "<table" in result._repr_html_()
    folder = result.board.folder
    assert {path.name for path in folder.iterdir()} == {
        "bench.json",
        "table.md",
        "table.csv",
        "table.json",
        "figures",
    }
    assert {path.name for path in result.board.figures} == {
        "curves-naive.png",
        "curves-replay.png",
        "distance_decay.png",
        "exact_rise.png",
        "initial_recall.png",
        "interference.png",
        "plasticity-and-stability.png",
    }
    for path in result.board.figures:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.with_suffix(".svg").read_text().lstrip().startswith("<?xml")
    assert "naive" in (folder / "table.md").read_text()
    kinds = {path.suffix for path in (tmp_path / "out").rglob("[!.]*") if path.is_file()}
    assert kinds == {".json", ".parquet", ".md", ".csv", ".png", ".svg"}  # nothing pickled, nothing left over
    json.loads((folder / "table.json").read_text())
    assert len(pd.read_csv(folder / "table.csv")) > 5


def test_options_may_be_given_as_a_mapping_or_as_texts(bench: Bench, tmp_path: Path, model: Path) -> None:
    bench(reference=False, controls=False)
    texts = [f"{name}={value}" for name, value in TINY_RUNS.items()]
    bench(reference=False, controls=False, set=texts)
    assert Counting.started == ["moment_avg 0"]  # the same run


def test_a_sweep_makes_a_row_and_a_figure_against_the_option(
    drawing_bench: Bench, unrendered: None, tmp_path: Path
) -> None:
    result = drawing_bench(sweep="strategy.init=average,zero,shared", controls=False)
    assert [row.label for row in result.board.rows] == [
        "naive",
        "moment_avg init=average",
        "moment_avg init=zero",
        "moment_avg init=shared",
    ]
    assert sorted(Counting.started) == ["moment_avg 0"] * 3 + ["naive 0"]
    figures = {path.name for path in result.board.figures}
    assert "sweep-average_accuracy.png" in figures
    assert "curves-moment_avg-init=zero.png" in figures


def test_a_sweep_of_the_optimizer_gives_every_strategy_a_row_per_value_and_its_own_reference(
    bench: Bench,
) -> None:
    result = bench(sweep="optimizer.lr=0.001,0.01", controls=False)
    assert {row.label: row.reference for row in result.board.rows} == {
        "naive optimizer.lr=0.001": "naive optimizer.lr=0.001",
        "naive optimizer.lr=0.01": "naive optimizer.lr=0.01",
        "moment_avg optimizer.lr=0.001": "naive optimizer.lr=0.001",
        "moment_avg optimizer.lr=0.01": "naive optimizer.lr=0.01",
    }
    for row in result.board.rows:
        (record,) = row.runs.values()
        assert record.recipe["optimizer"]["lr"] == float(row.label.split("=")[1])


def test_several_models_make_a_row_each(bench: Bench, model: Path, tmp_path: Path) -> None:
    other = small_model(tmp_path / "other", "llama")
    result = bench("naive", model=[str(model), str(other)], controls=False)
    assert [row.label for row in result.board.rows] == [f"naive @ {model.name}", "naive @ other"]
    architectures = {r.recipe["model"]["parameters"] for r in records(tmp_path / "out").values()}
    assert len(architectures) == 2


def test_the_record_holds_what_was_asked_and_what_came_of_it(bench: Bench, tmp_path: Path) -> None:
    bench("replay", {"strategy.rows": 2}, optimizer="adamw", lr=0.02, reference=False, controls=False)
    (record,) = records(tmp_path / "out").values()
    assert record.info["asked"]["optimizer"] == "adamw"
    assert "strategy.rows=2" in record.info["asked"]["set"]
    assert record.recipe["strategy"]["options"] == {"buffer": 128, "rows": 2}
    assert (record.recipe["optimizer"]["name"], record.recipe["optimizer"]["lr"]) == ("adamw", 0.02)
    assert record.info["versions"]["torch"]
    assert record.info["hardware"]["cores"] == os.cpu_count()
    assert record.status == "finished"


# -- what is reused ---------------------------------------------------------------------------------------


def test_a_second_bench_trains_nothing_and_says_the_same(bench: Bench, tmp_path: Path) -> None:
    first = bench()
    runs = snapshot(tmp_path / "out" / "records")
    Counting.started.clear()
    second = bench()
    assert Counting.started == []
    assert snapshot(tmp_path / "out" / "records") == runs
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(first.values, second.values)


def test_another_bench_reuses_the_runs_they_have_in_common(bench: Bench) -> None:
    bench("moment_avg", controls=False)
    Counting.started.clear()
    bench(["replay", "moment_avg"], controls=False, seeds="0-1")
    assert sorted(Counting.started) == ["moment_avg 1", "naive 1", "replay 0", "replay 1"]


def test_force_trains_everything_again_with_the_same_result(bench: Bench, tmp_path: Path) -> None:
    first = bench(controls=False)
    runs = {name: results(record) for name, record in records(tmp_path / "out").items()}
    Counting.started.clear()
    second = bench(controls=False, force=True)
    assert sorted(Counting.started) == ["moment_avg 0", "naive 0"]
    assert {name: results(record) for name, record in records(tmp_path / "out").items()} == runs
    pd.testing.assert_frame_equal(first.table, second.table)


def made_by(out: Path, torch: str) -> None:
    """Have every record say that another torch made it."""
    for record in records(out).values():
        info = json.loads((record.folder / "run.json").read_text())
        info["versions"]["torch"] = torch
        write_sealed(record.folder / "run.json", info)


def test_runs_of_another_version_are_made_again_or_kept_on_record_never_reused_without_a_word(
    bench: Bench, tmp_path: Path
) -> None:
    out, torch = tmp_path / "out", importlib.metadata.version("torch")
    bench("naive", controls=False)
    made_by(out, "0.1")
    Counting.started.clear()
    before = snapshot(out)
    allowed = rf"made by torch 0\.1, and installed is torch {re.escape(torch)}; .*--force.*--accept-versions"
    with pytest.raises(UsageError, match=allowed):
        bench("naive", controls=False)
    assert snapshot(out) == before

    kept = bench("naive", controls=False, accept_versions=True)
    said = f"made by torch 0.1 and kept by --accept-versions where torch {torch} was installed"
    assert Counting.started == []
    assert said in (kept.board.folder / "table.md").read_text()
    (rebuilt,), _ = rebuild(kept.board.folder)
    assert (rebuilt.folder / "table.md").read_text().count(said) == 1

    mixed = bench(["naive", "replay"], controls=False, accept_versions=True)
    table = (mixed.board.folder / "table.md").read_text()
    assert said in table and f"made by torch {torch}, unlike other rows of this table" in table
    assert Counting.started == ["replay 0"]

    fresh = bench("naive", controls=False, force=True)
    assert Counting.started == ["replay 0", "naive 0"]
    assert "made by" not in (fresh.board.folder / "table.md").read_text()


def test_an_unfinished_run_of_another_version_is_not_continued_without_a_word(
    bench: Bench, model: Path, tmp_path: Path
) -> None:
    out, run = tmp_path / "out", planned(model, "naive", TINY_RUNS)
    asked: list[None] = []
    carry_out(run, out / "records" / run.folder, should_stop=lambda: asked.append(None) or len(asked) == 5)
    made_by(out, "0.1")
    with pytest.raises(UsageError, match=r"made by torch 0\.1"):
        bench("naive", controls=False, resume=True)
    result = bench("naive", controls=False, resume=True, accept_versions=True)
    torch = importlib.metadata.version("torch")
    assert f"made by torch 0.1 and {torch} and kept" in (result.board.folder / "table.md").read_text()


def test_an_unfinished_run_waits_for_a_word_resume_or_force(
    bench: Bench, model: Path, tmp_path: Path
) -> None:
    out, run = tmp_path / "out", planned(model, "naive", TINY_RUNS)
    reference = finish(run, tmp_path / "reference")
    asked: list[None] = []
    carry_out(run, out / "records" / run.folder, should_stop=lambda: asked.append(None) or len(asked) == 5)
    before = snapshot(out)
    with pytest.raises(UsageError, match=r"1 of these runs are unfinished in .*--resume or .*--force"):
        bench("naive", controls=False)
    assert snapshot(out) == before
    bench("naive", controls=False, resume=True)
    (record,) = records(out).values()
    assert results(record) == results(reference)
    assert len(list((record.folder / "steps").iterdir())) == 2  # a part before the stop, a part after it
    bench("naive", controls=False, force=True)
    (record,) = records(out).values()
    assert len(list((record.folder / "steps").iterdir())) == 1


def test_resume_with_nothing_to_resume_is_refused_and_with_everything_finished_is_fine(
    bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"^nothing to resume in .*; leave out --resume$"):
        bench("naive", resume=True)
    assert not (tmp_path / "out").exists()
    bench("naive", controls=False)
    Counting.started.clear()
    assert bench("naive", controls=False, resume=True).failed == {}
    assert Counting.started == []


def test_checkpoints_damaged_beyond_use_are_refused_with_the_way_out(
    bench: Bench, model: Path, tmp_path: Path
) -> None:
    run = planned(model, "naive", TINY_RUNS)
    folder = tmp_path / "out" / "records" / run.folder
    asked: list[None] = []
    carry_out(run, folder, should_stop=lambda: asked.append(None) or len(asked) == 5)
    for state in folder.glob("checkpoints/*/state.json"):
        state.write_text("{")
    with pytest.raises(UsageError, match=r"not a readable checkpoint; start over with --force$"):
        bench("naive", controls=False, resume=True)
    assert bench("naive", controls=False, force=True).failed == {}


# -- real processes ---------------------------------------------------------------------------------------


def test_worker_processes_give_the_same_bits_as_this_process(
    model: Path, no_figures: None, tmp_path: Path
) -> None:
    set_ = {**TINY_RUNS, "scenario.repeats": 2}
    result = seqmem.bench(
        "memory_loops",
        ["moment_avg", "replay"],
        model=str(model),
        preset="smoke",
        seeds="0",
        set=set_,
        out=tmp_path / "out",
        device="cpu",
        workers=1,
        controls=False,
        reference=False,
        display="none",
    )
    assert result.failed == {}
    assert [row.label for row in result.board.rows] == ["moment_avg", "replay"]
    for record in records(tmp_path / "out").values():
        run = planned(model, record.recipe["strategy"]["name"], set_)
        here = finish(run, tmp_path / run.folder)
        assert results(record) == results(here)


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"strategy": "moment_average"},
            "unknown strategy 'moment_average'. Did you mean 'moment_avg'? Allowed: ",
        ),
        (
            {"preset": "smok"},
            "unknown preset of memory_loops 'smok'. Did you mean 'smoke'? Allowed: anticipatory, ",
        ),
        (
            {"options": {"scenario.lops": 3}},
            "unknown option of scenario memory_loops 'lops'. Did you mean 'loops'?",
        ),
        (
            {"options": {"strategy.inti": "zero"}},
            "unknown option of strategy naive or moment_avg 'inti'. Did you mean",
        ),
        ({"options": {"strategy.init": "zer"}}, "strategy moment_avg: "),
        ({"options": {"scenario.loops": 1}}, "loops"),
        ({"options": {"scenario.insert_at": 5}}, "insert_at (5) must be at most prose_steps (1)"),
        ({"options": {"optimiser.lr": 1}}, "Did you mean 'optimizer'?"),
        ({"options": {"optimizer.lr": -1}}, "optimizer: "),
        ({"sweep": "strategy.init=zero,zero"}, "names the value zero twice"),
        ({"sweep": "strategy.speed=1,2"}, "unknown option of strategy naive or moment_avg 'speed'."),
        ({"sweep": "text.path=a,b"}, "--sweep takes options of scenario, strategy or optimizer"),
        ({"seeds": "4-1"}, "the range 4-1 runs backwards"),
        ({"model": "tinny"}, "Did you mean 'tiny'?"),
        ({"model": "./nowhere"}, "does not exist"),
        ({"device": "gpu"}, "unknown device 'gpu'."),
        ({"text": "wrld"}, "unknown text 'wrld'. Did you mean 'world'?"),
        ({"strategy": ["naive", "naive"]}, "--strategy naive is given twice"),
        ({"threads": 0}, "--threads 0 is not allowed; it must be: integer >= 1"),
        (
            {"checkpoint_every": 0},
            "--checkpoint-every 0 is not allowed; it must be: a number of steps such as 50, or of minutes such as 10m",
        ),
        ({"checkpoint_every": "10 m"}, "--checkpoint-every 10 m is not allowed"),
        ({"checkpoint_every": "0m"}, "--checkpoint-every 0m is not allowed"),
        ({"workers": 0}, "--workers 0 is not allowed; it must be: integer >= 1"),
        ({"disabled": frozenset({"moment_avgg"})}, "Did you mean 'moment_avg'?"),
        ({"disabled": frozenset({"moment_avg"})}, "unknown strategy 'moment_avg'."),
        ({"optimizer": "adamax"}, "optimizer: "),
        ({"optimizer": "sgd", "lr": 0.1}, "sgd without momentum has none"),
        ({"preset": "anticipatory", "optimizer": "adam"}, "adam needs a rate of its own"),
        ({"options": {"optimizer.betas": [0.9, 1.5]}}, "optimizer: "),
        ({"options": {"scenario.facts_per_loop": 9000}}, "need more people than the world has"),
        ({"device": "cuda:x"}, "unknown device 'cuda:x'."),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_request_is_refused_in_one_line_with_nothing_written(
    request_: dict[str, Any], message: str, bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises((UsageError, PluginError)) as refused:
        bench(**request_)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
    assert Counting.started == []


def test_an_unknown_scenario_is_refused_with_the_nearest_name(bench: Bench) -> None:
    with pytest.raises(UsageError, match=r"unknown scenario 'memory_loop'\. Did you mean 'memory_loops'\?"):
        seqmem.bench("memory_loop", "naive")


def test_a_model_too_short_for_the_rows_is_refused_with_both_lengths(bench: Bench, tmp_path: Path) -> None:
    short = make_model_folder("gpt2", tmp_path / "short", max_positions=100)
    with pytest.raises(
        UsageError, match=r"needs rows of 136 tokens, model short reads 100; shorten the rows"
    ):
        bench("naive", model=str(short))
    assert not (tmp_path / "out").exists()


def test_a_text_file_that_is_too_short_is_refused_before_anything_is_written(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text("One paragraph.\n\nAnother one.\n")
    with pytest.raises(UsageError, match=r"short\.txt.* is too short"):
        bench("naive", text=str(tmp_path / "short.txt"), controls=False)
    assert not (tmp_path / "out").exists() or not snapshot(tmp_path / "out")


def test_an_output_folder_that_cannot_be_made_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(UsageError, match=rf"^--out {out} cannot be written: "):
            bench("naive", out=out)
    assert (tmp_path / "file").read_text() == "here first"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="cannot be written: Permission denied"):
        bench("naive", out=tmp_path / "locked" / "out")


def test_a_run_of_another_configuration_in_the_way_is_refused_and_kept(bench: Bench, tmp_path: Path) -> None:
    bench("naive", controls=False)
    (record,) = records(tmp_path / "out").values()
    path = record.folder / "run.json"
    info = json.loads(path.read_text())
    info["recipe"]["optimizer"]["lr"] = 0.5
    write_sealed(path, {**info, "id": recipe_id(info["recipe"])})
    before = snapshot(tmp_path / "out")
    for how in ({}, {"force": True}, {"resume": True}):
        with pytest.raises(
            UsageError, match="holds a run of another configuration; move it away or give another"
        ):
            bench("naive", controls=False, **how)
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize(
    "content", [{"notes.txt": "mine"}, {"run.json": "{"}, {"run.json": '{"format": 99}'}]
)
def test_files_that_are_no_record_are_never_overwritten(
    content: dict[str, str], bench: Bench, model: Path, tmp_path: Path
) -> None:
    run = planned(model, "naive", TINY_RUNS)
    folder = tmp_path / "out" / "records" / run.folder
    folder.mkdir(parents=True)
    for name, text in content.items():
        (folder / name).write_text(text)
    before = snapshot(tmp_path / "out")
    for how in ({}, {"force": True}):
        with pytest.raises(UsageError) as refused:
            bench("naive", controls=False, **how)
        assert str(folder) in str(refused.value)
        assert "\n" not in str(refused.value)
    assert snapshot(tmp_path / "out") == before


def test_two_benches_cannot_work_in_one_folder_at_a_time(bench: Bench, tmp_path: Path) -> None:
    code = (
        "import sys, filelock, pathlib; out = pathlib.Path(sys.argv[1]); out.mkdir()\n"
        "lock = filelock.FileLock(out / '.lock'); lock.acquire(); print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(
            UsageError, match="another bench is at work in .*; wait for it or give another --out"
        ):
            bench("naive")
        other.stdin.close()
    assert bench("naive", controls=False).failed == {}


def test_nobody_else_gets_the_folder_before_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, release = Store(tmp_path), FileLock.release
    refused: list[str] = []

    def slow_release(lock: FileLock) -> None:
        monkeypatch.setattr(FileLock, "release", release)
        with pytest.raises(UsageError) as said, Store(tmp_path).locked():
            pass
        refused.append(str(said.value))
        release(lock)

    with store.locked():
        (tmp_path / "records").mkdir()
        monkeypatch.setattr(FileLock, "release", slow_release)
    assert "another bench is at work" in refused[0]
    with store.locked():
        pass


# -- the command line -------------------------------------------------------------------------------------


def arguments(model: Path, out: Path, *more: str) -> list[str]:
    sets = [part for name, value in TINY_RUNS.items() for part in ("--set", f"{name}={value}")]
    return [
        *(
            "bench",
            "--scenario",
            "memory_loops",
            "--strategy",
            "naive",
            "--model",
            str(model),
            "--preset",
            "smoke",
        ),
        *("--seeds", "0", "--no-controls", "--device", "cpu", "--display", "plain", "--out", str(out)),
        *sets,
        *more,
    ]


def test_the_command_prints_the_table_and_where_it_lies_and_exits_with_0(
    model: Path,
    tmp_path: Path,
    no_figures: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("seqmem.verbs.bench.Workers", InlineWorkers)
    assert command_line(arguments(model, tmp_path / "out")) == 0
    said = capsys.readouterr()
    (board,) = (tmp_path / "out" / "boards").iterdir()
    assert f"Tables and figures: {board}" in said.out
    assert "retention" in said.out
    assert said.err.splitlines()[0] == "1 runs to do, 10 steps"
    assert said.err.splitlines()[-1] == f"[1/1] memory_loops naive {model.name} s0 finished"
    assert command_line(arguments(model, tmp_path / "out", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["boards"][0]["folder"] == str(board)
    assert told["failed_runs"] == {}
    assert told["interrupted"] is False


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strategy", "naiv"], "unknown strategy 'naiv'. Did you mean 'naive'?"),
        (["--display", "loud"], "unknown --display 'loud'."),
        (["--threads", "many"], "--threads"),
        (["--set", "scenario.loops"], "is not of the form SCOPE.NAME=VALUE"),
    ],
)
def test_a_wrong_command_is_one_line_on_stderr_and_exit_code_2(
    more: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(arguments(model, tmp_path / "out", *more)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("seqmem: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


BROKEN_METRIC = """
import seqmem
raise ImportError("no module named left_behind")
"""


def test_a_metric_that_cannot_be_loaded_is_named_the_others_go_on_and_the_exit_code_is_3(
    model: Path,
    tmp_path: Path,
    no_figures: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("seqmem.verbs.bench.Workers", InlineWorkers)
    site = tmp_path / "site"
    (site / "broken-2.0.dist-info").mkdir(parents=True)
    (site / "broken_metric.py").write_text(BROKEN_METRIC)
    (site / "broken-2.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: broken\nVersion: 2.0\n"
    )
    (site / "broken-2.0.dist-info" / "entry_points.txt").write_text(
        "[seqmem.metric]\nbroken = broken_metric\n"
    )
    monkeypatch.syspath_prepend(site)
    assert command_line(arguments(model, tmp_path / "out")) == 3
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if line.startswith("seqmem: left out:")]
    assert "metric 'broken' of broken 2.0" in line
    assert "no module named left_behind" in line
    assert "retention" in said.out
