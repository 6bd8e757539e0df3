"""`bench --measure-cost`: step time beside the reference's, in one process, and `cost.json`."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import SMALL, RememberingWorkers, installed, small_model

import seqmem
from seqmem import Experience, RunFailed, Strategy, StrategySpec, Stream, UsageError
from seqmem.planning.grid import Plan
from seqmem.planning.job import job_of
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.planning.store import Store, read_cost
from seqmem.training import step_time as module
from seqmem.training.learner import Learner
from seqmem.training.run import reason_of
from seqmem.training.step_time import MIN_EXPERIENCES, measure
from seqmem.verbs.cost import measure_board


class Slow(Strategy):
    """Waits at the end of every experience for twice the time that it took."""

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        self.started = time.perf_counter()

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        time.sleep(2 * (time.perf_counter() - self.started))


class Refusing(Strategy):
    """Finds out too late that it cannot."""

    def setup(self, learner: Learner) -> None:
        raise RunFailed("lam = 7 does not go with\nthis model")


class Breaking(Strategy):
    """Fails in training."""

    def after_step(self, learner: Learner, batch: Any) -> None:
        raise ZeroDivisionError("by zero")


def lengthened(stream: Stream, seed: int) -> Stream:
    """Twice the steps in every experience."""

    def experience(index: int) -> Experience:
        original = stream.experience(index)
        return replace(original, batches=original.batches * 2)

    return replace(stream, experience=experience)


SPECS = {
    "slow": StrategySpec("slow", "1", "", build=lambda options: Slow()),
    "refusing": StrategySpec("refusing", "1", "", build=lambda options: Refusing()),
    "breaking": StrategySpec("breaking", "1", "", build=lambda options: Breaking()),
    "twice": StrategySpec("twice", "1", "", build=lambda options: Strategy(), transform_stream=lengthened),
}


class Extended:
    """The installed plugins and the strategies of this file."""

    def __getattr__(self, name: str) -> Any:
        return getattr(installed(), name)

    def load(self, kind: Any, name: str) -> Any:
        return SPECS[name] if kind == "strategy" and name in SPECS else installed().load(kind, name)


REGISTRY: Any = Extended()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def planned(model: Path) -> Callable[..., Plan]:
    def make(*strategies: str, **request: Any) -> Plan:
        settings = tuple(f"{key}={value}" for key, value in SMALL.items())
        asked = {"model": (str(model),), "preset": "smoke", "seeds": "3,4", "device": "cpu", **request}
        return plan(
            Request(scenario=("memory_loops",), strategy=strategies, set=settings, controls=False, **asked),
            REGISTRY,
        )

    return make


def timed(planned: Plan, strategy: str, seconds: float) -> dict[str, Any]:
    runs = {run.recipe.strategy.name: run for run in planned.runs.values() if run.recipe.seed == 3}
    own, reference = (job_of(runs[name], Store(Path("nowhere")), {}) for name in (strategy, "naive"))
    return measure(own, reference, REGISTRY, seconds)


def time_here(pairs: Any, threads: int) -> Any:
    """Stand in for `seqmem.launch.step_time.time_pairs`: the same in this process, with the plugins of this file."""
    for own, reference in pairs:
        try:
            found = module.measure(own, reference, REGISTRY)
        except Exception as error:
            found = {"reason": reason_of(error, own.recipe)}
        yield {"result": found, "machine": module.describe_machine(own.recipe.device)}


@pytest.mark.slow
def test_naive_costs_what_naive_costs_and_a_slow_strategy_more(planned: Callable[..., Plan]) -> None:
    plans = planned("naive", "slow")
    same = timed(plans, "naive", 2.0)
    assert 0.7 < same["ratio"] < 1.4
    assert same["low"] <= same["ratio"] <= same["high"]
    slow = timed(plans, "slow", 2.0)
    assert slow["ratio"] > 1.5 and slow["low"] > 1.2


def test_the_ratio_is_that_of_the_totals_per_step_over_whole_experiences(
    planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is told what every experience takes: the slow one half a second more than 0.1 a step."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    true_train = module.train

    def train(run: Any) -> None:
        experience = run.stream.experience(run.progress.experience)
        before = run.learner.step
        true_train(run)
        assert run.learner.step - before == experience.steps  # one whole experience and no more
        now[0] += 0.1 * experience.steps + (0.5 if isinstance(run.strategy, Slow) else 0.0)

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    plans = planned("naive", "slow", "twice")
    found = timed(plans, "slow", 1e9)
    stream = seqmem.stream("memory_loops", preset="smoke", seed=3, set=dict(SMALL))
    steps = [stream.experience(index).steps for index in range(stream.length)]
    total = sum(steps)
    assert found["steps"] == module.MAX_ROUNDS * total
    assert found["ratio"] == pytest.approx((0.1 * total + 0.5 * len(steps)) / (0.1 * total), abs=1e-3)
    spread = np.percentile([(0.1 * n + 0.5) / (0.1 * n) for n in steps], [10, 90])
    assert [found["low"], found["high"]] == pytest.approx(spread, abs=1e-3) and found["low"] < found["high"]
    # twice the steps in twice the time are no dearer
    assert timed(plans, "twice", 1e9)["ratio"] == pytest.approx(1.0)
    # out of time at once: still past the border of an experience
    short = timed(plans, "slow", 0.0)
    trained = [n for n in steps if n][:MIN_EXPERIENCES]
    assert short["steps"] == sum(trained)


def test_a_strategy_with_state_of_its_own_can_go_through_the_stream_again(
    planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()  # a clock on which a busy machine is no slower
    monkeypatch.setattr(module.time, "perf_counter", lambda: 0.05 * next(ticks))
    plans = planned("moment_avg+ewc")
    found = timed(plans, "moment_avg+ewc", 4.0)
    one_round = next(iter(plans.runs.values())).outline.steps
    assert found["steps"] > one_round, "the time allows more than one round"


def test_a_row_that_fails_has_a_reason_and_the_others_go_on(
    planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "__defaults__", (0.0,))
    monkeypatch.setattr("seqmem.verbs.cost.time_pairs", time_here)
    plans = planned("refusing", "breaking")
    said: list[str] = []
    cost = measure_board(plans, plans.boards[0], Store(tmp_path), said.append)
    assert said == [
        f"step time [{n}/3] {name}" for n, name in enumerate(("naive", "refusing", "breaking"), 1)
    ]
    assert cost["format"] == 2 and cost["reference"] == "naive"
    assert set(cost["rows"]["naive"]) == {"ratio", "low", "high", "steps", "reference"}, "no absolute time"
    assert cost["rows"]["refusing"] == {"reason": "lam = 7 does not go with this model"}
    assert cost["rows"]["breaking"] == {"reason": "ZeroDivisionError: by zero"}
    assert set(cost["machine"]) == {"machine", "system", "cores", "device", "threads", "torch"}
    alone = planned("slow", reference=False)
    cost = measure_board(alone, alone.boards[0], Store(tmp_path))
    assert cost["rows"] == {"slow": {"reason": "there is no reference row in this bench"}}


@pytest.fixture
def bench(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name in ("draw_curves", "draw_sweep", "draw_metric"):
        monkeypatch.setattr(f"seqmem.reporting.figures.{name}", lambda *arguments: None)
    monkeypatch.setattr("seqmem.verbs.bench.Workers", RememberingWorkers)
    monkeypatch.setattr(measure, "__defaults__", (0.0,))
    monkeypatch.setattr("seqmem.verbs.cost.time_pairs", time_here)

    def run(**request: Any) -> Any:
        settings = {"model": str(model), "preset": "smoke", "seeds": "0", "device": "cpu", "controls": False}
        return seqmem.bench(
            "memory_loops",
            "moment_avg",
            out=tmp_path / "out",
            set={**SMALL, "scenario.rest_steps": 2},
            **{**settings, "display": "none", **request},
        )

    return run


def test_on_finished_runs_it_only_measures_and_the_board_reads_it(
    bench: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = bench().board
    assert not (board.folder / "cost.json").exists() and [row.cost for row in board.rows] == [None, None]
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/records").rglob("*")}
    monkeypatch.setattr("seqmem.verbs.bench.Workers", None)  # nothing is left to run
    measured = bench(measure_cost=True, display="plain").board
    assert "step time [2/2] moment_avg" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out/records").rglob("*")} == records
    kept = json.loads((board.folder / "cost.json").read_text())
    assert [row.cost for row in measured.rows] == [kept["rows"][row.label]["ratio"] for row in measured.rows]
    assert read_cost(board.folder) == {row.label: row.cost for row in measured.rows}
    again = bench().board  # and it stays with the board
    assert [row.cost for row in again.rows] == [row.cost for row in measured.rows]


def test_a_cost_that_cannot_be_had_is_said_and_has_no_number(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> Any:
        raise RunFailed("not here")

    monkeypatch.setattr(module, "measure", refuse)
    result = bench(measure_cost=True)
    assert "step time of moment_avg: not here" in result.unreadable
    assert [row.cost for row in result.board.rows] == [None, None]


def test_ctrl_c_while_measuring_leaves_the_table(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    bench()
    monkeypatch.setattr(module, "measure", interrupt)
    result = bench(measure_cost=True)
    assert result.interrupted and (result.board.folder / "table.md").exists()
    assert not (result.board.folder / "cost.json").exists()


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    assert read_cost(tmp_path) == {}
    (tmp_path / "cost.json").write_text('{"rows": [1]}')
    with pytest.raises(UsageError, match="not a readable cost file"):
        read_cost(tmp_path)


def test_without_the_flag_nothing_here_imports_torch() -> None:
    code = (
        "import sys, seqmem.verbs.bench, seqmem.verbs.tune, seqmem.planning.search, seqmem.cli;"
        " assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
