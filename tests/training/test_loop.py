"""Strategy and learner in the course of a run, and runs that go wrong."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import (
    SMALL,
    InlineWorkers,
    carry_out,
    finish,
    job_of,
    planned,
    small_model,
    write_stranger,
)

from seqmem import (
    Batch,
    Example,
    Experience,
    PluginError,
    Probe,
    ProbePoint,
    RunRecord,
    Strategy,
    Stream,
    UsageError,
)
from seqmem.cli.app import run as seqmem
from seqmem.core.recipe import OptimizerSettings
from seqmem.launch.local import Workers
from seqmem.planning.grid import PlannedRun
from seqmem.plugin.registry import Registry
from seqmem.record.files import write_sealed
from seqmem.record.writer import RecordWriter
from seqmem.training.learner import Learner
from seqmem.training.loop import train
from seqmem.training.run_state import Progress, Run
from seqmem_plugins.strategies.joint import shuffle_stream
from seqmem_plugins.strategies.replay import Replay, ReplayOptions
from seqmem_plugins.strategies.reset_optimizer import ResetOptimizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


# -- a model of a few numbers, to look closely ----------------------------------------------------------


class Bigram(torch.nn.Module):
    """Next-token logits from a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(9, 9))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


def row(number: int, *facts: str) -> Example:
    """A row of four tokens that no other number has."""
    ids = np.array([0, *np.unravel_index(number, (9, 9, 9))], dtype=np.int32)
    return Example(ids, np.array([False, True, True, True]), facts)


def numbers(rows: Sequence[Example]) -> list[int]:
    return [int(np.ravel_multi_index(tuple(row.input_ids[1:]), (9, 9, 9))) for row in rows]


def stream_of(*experiences: Experience, points: dict[int, tuple[ProbePoint, ...]] | None = None) -> Stream:
    probe = Probe("p", (0, 1, 2), 1, "", "", "f", "question")
    return Stream(
        len(experiences), experiences.__getitem__, lambda i: (points or {}).get(i, ()), {"all": (probe,)}
    )


def experience(index: int, *batches: Batch, **more: Any) -> Experience:
    return Experience(index, f"part {index}", more.pop("phase", "loop"), index, batches, **more)


def toy(folder: Path, strategy: Strategy, stream: Stream, settings: OptimizerSettings | None = None) -> Run:
    learner = Learner(Bigram(), settings or OptimizerSettings(lr=0.1), torch.device("cpu"), seed=0)
    strategy.setup(learner)
    return Run(learner, strategy, stream, RecordWriter(folder), Progress(), "schedule", checkpoint_every=1000)


class Spy(Strategy):
    """Notes what is called, in order."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.weights: list[float] = []

    def setup(self, learner: Learner) -> None:
        self.calls.append("setup")
        step, seen = learner.optimizer.step, self.calls

        def optimizer_step(*arguments: Any) -> Any:
            seen.append("optimizer")
            return step(*arguments)

        learner.optimizer.step = optimizer_step  # type: ignore[method-assign]

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        self.calls.append(f"before {experience.index}")

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        self.calls.append("rehearse")
        return [row(700, "old")]

    def add_gradient(self, learner: Learner) -> float:
        self.calls.append(f"add_gradient {len(learner.state['moments.main.step'])}")
        learner.model.table.grad.add_(100.0)
        return 0.25

    def transform_gradient(self, learner: Learner) -> None:
        self.calls.append(f"transform_gradient of norm {learner.model.table.grad.norm():.3f}")

    def after_step(self, learner: Learner, batch: Batch) -> None:
        self.calls.append(f"after_step {numbers(batch)}")
        assert learner.model.table.grad is None

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        self.calls.append(f"after {experience.index}")


def test_the_steps_of_a_strategy_are_called_in_the_order_the_docs_state(tmp_path: Path) -> None:
    spy = Spy()
    run = toy(
        tmp_path,
        spy,
        stream_of(experience(0, (row(1, "new"),), repeats=2), experience(1, (row(2),))),
        OptimizerSettings(name="sgd", lr=0.1, clip=1.0),
    )
    train(run)
    one = ["rehearse", "add_gradient 1", "transform_gradient of norm 1.000", "optimizer"]
    assert spy.calls == [
        "setup",
        *["before 0", *one, "after_step [1]", *one, "after_step [1]", "after 0"],
        *["before 1", *one, "after_step [2]", "after 1"],
    ]
    steps = RunRecord(tmp_path, {}).steps
    assert steps["penalty"].tolist() == [0.25] * 3
    assert steps["rehearsed"].tolist() == [1] * 3
    assert (steps["grad_norm"] > 800).all()  # before clipping, the penalty's part in it
    assert steps["targets"].tolist() == [6] * 3
    exposures = RunRecord(tmp_path, {}).exposures
    assert exposures[["step", "fact"]].values.tolist() == [
        *([1, "new"], [1, "old"], [2, "new"], [2, "old"], [3, "old"])
    ]


def test_a_strategy_that_overrides_nothing_is_plain_adam(tmp_path: Path) -> None:
    run = toy(tmp_path, Strategy(), stream_of(*(experience(n, (row(n), row(n + 9))) for n in range(4))))
    train(run)
    plain = Bigram()
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.1)
    for n in range(4):
        ids = torch.tensor(np.stack([row(n).input_ids, row(n + 9).input_ids])).long()
        logits = plain(ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 9), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(run.learner.model.table, plain.table)


class Steps(Strategy):
    """Notes how far each step goes, as a share of the weights' norm, and can stretch it."""

    def __init__(self, stretch: float = 1.0) -> None:
        self.stretch = stretch
        self.shares: list[float] = []

    def setup(self, learner: Learner) -> None:
        with torch.no_grad():
            learner.model.table.add_(torch.arange(81.0).view(9, 9) / 81)

    def transform_update(self, learner: Learner, before: Any) -> None:
        with torch.no_grad():
            for name, old in before.items():
                learner.parameters[name].copy_(old + self.stretch * (learner.parameters[name] - old))

    def transform_gradient(self, learner: Learner) -> None:
        self.old = learner.model.table.detach().clone()

    def after_step(self, learner: Learner, batch: Batch) -> None:
        change = learner.model.table.detach() - self.old
        self.shares.append(float(change.norm() / self.old.norm()))


@pytest.mark.parametrize(("rate", "stretch"), [(0.1, 1.0), (0.001, 1.0), (0.1, 30.0)])
def test_a_protocol_can_have_all_learners_go_equally_far(tmp_path: Path, rate: float, stretch: float) -> None:
    spy = Steps(stretch)
    parts = [
        experience(0, (row(1),)),
        experience(1, (row(2),), (row(3),), update_norm=0.02),
        experience(2, (row(4),)),
    ]
    run = toy(tmp_path, spy, stream_of(*parts), OptimizerSettings(lr=rate))
    train(run)
    assert spy.shares[1:3] == pytest.approx([0.02, 0.02], rel=1e-5)
    for share in (spy.shares[0], spy.shares[3]):
        assert abs(share - 0.02) > 0.002


def test_a_step_at_a_given_norm_keeps_its_direction_and_one_that_changes_nothing_changes_nothing(
    tmp_path: Path,
) -> None:
    changes = {}
    for norm in (None, 0.05):
        run = toy(tmp_path / str(norm), Steps(), stream_of(experience(0, (row(5),), update_norm=norm)))
        before = run.learner.model.table.detach().clone()
        train(run)
        changes[norm] = run.learner.model.table.detach() - before
    cosine = torch.nn.functional.cosine_similarity(changes[None].flatten(), changes[0.05].flatten(), dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-6)
    spy = Steps(stretch=0.0)
    train(toy(tmp_path / "still", spy, stream_of(experience(0, (row(5),), update_norm=0.05))))
    assert spy.shares == [0.0]


class Moments(Strategy):
    """Notes the optimizer's state at the start of every experience."""

    def __init__(self) -> None:
        self.clocks: list[float] = []
        self.zero: list[bool] = []

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        state = learner.optimizer.state[learner.model.table]
        self.clocks.append(float(state["step"]))
        self.zero.append(not state["exp_avg"].any() and not state["exp_avg_sq"].any())


def test_moments_are_carried_over_unless_the_protocol_wants_them_fresh(tmp_path: Path) -> None:
    spy = Moments()
    parts = [experience(n, (row(n),), (row(n + 9),)) for n in range(2)]
    parts.append(experience(2, (row(1),), phase="rest", moments="fresh"))
    parts.append(experience(3, (row(1),), phase="rest"))
    train(toy(tmp_path, spy, stream_of(*parts)))
    assert spy.clocks == [0, 2, 0, 1]
    assert spy.zero == [True, False, True, False]


def test_fresh_moments_are_those_of_the_common_context_whatever_a_strategy_had_in_use(tmp_path: Path) -> None:
    class OwnContext(Moments):
        def before_experience(self, learner: Learner, experience: Experience) -> None:
            super().before_experience(learner, experience)
            if experience.phase == "loop":
                learner.add_moments("own")
                learner.use_moments("own")

    spy = OwnContext()
    rest = experience(1, (row(1),), phase="rest", moments="fresh")
    run = toy(tmp_path, spy, stream_of(experience(0, (row(1),)), rest))
    train(run)
    assert spy.clocks == [0, 0]
    assert float(run.learner.moments("own", "step")["table"]) == 1  # left as it was
    assert run.learner.active_moments == "main"


def test_reset_optimizer_starts_every_experience_with_zeroed_moments(tmp_path: Path) -> None:
    class Spied(ResetOptimizer):
        def after_experience(self, learner: Learner, experience: Experience) -> None:
            clocks.append(float(learner.optimizer.state[learner.model.table]["step"]))

    clocks: list[float] = []
    parts = [
        experience(0, (row(0),), (row(1),)),
        experience(1, (row(2),)),
        experience(2, (row(3),), (row(4),)),
    ]
    train(toy(tmp_path, Spied(), stream_of(*parts)))
    assert clocks == [2, 1, 2]
    learner = toy(tmp_path, Strategy(), stream_of()).learner
    loss, _, _ = learner.loss([row(5)])
    loss.backward()
    learner.optimizer.step()
    ResetOptimizer().before_experience(learner, experience(0, (row(5),)))
    assert all(not tensor.any() for tensor in learner.state.tensors().values())


def test_reset_optimizer_leaves_a_rest_without_training_alone() -> None:
    learner = Learner(Bigram(), OptimizerSettings(), torch.device("cpu"), seed=0)
    learner.moments("main", "step")["table"].fill_(5)
    ResetOptimizer().before_experience(learner, experience(0, (row(5),), trains="none"))
    assert float(learner.moments("main", "step")["table"]) == 5


def test_state_a_strategy_holds_on_to_is_filled_in_place_on_resume() -> None:
    learner = Learner(Bigram(), OptimizerSettings(), torch.device("cpu"), seed=0)
    anchor = learner.state.add("anchor")
    anchor["table"].fill_(3)
    saved = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    fills = learner.state.fills()
    anchor["table"].fill_(7)
    learner.state.add("later")
    fresh = Learner(Bigram(), OptimizerSettings(), torch.device("cpu"), seed=0)
    for resumed in (learner, fresh):  # with the entry made in setup, and without
        resumed.restore(saved, fills, "main")
        assert sorted(resumed.state) == sorted(
            ["anchor", "moments.main.exp_avg", "moments.main.exp_avg_sq", "moments.main.step"]
        )
        assert (resumed.state["anchor"]["table"] == 3).all()
    assert learner.state["anchor"]["table"] is anchor["table"]


# -- misspelt ---------------------------------------------------------------------------------------------


def test_a_misspelt_step_is_an_error_that_names_the_right_one() -> None:
    with pytest.raises(
        PluginError, match=r"'befor_experience' is not a step of a strategy\. Did you mean 'before_exp"
    ):

        class Misspelt(Strategy):
            def befor_experience(self, learner: Learner, experience: Experience) -> None:
                pass


def test_a_step_by_its_earlier_name_is_an_error_that_names_the_new_one() -> None:
    with pytest.raises(
        PluginError, match=r"'extra_bytes' is not a step .* Did you mean 'unregistered_bytes'\?"
    ):

        class Earlier(Strategy):
            def extra_bytes(self) -> int:
                return 0


def test_a_step_of_another_library_is_an_error_that_lists_ours() -> None:
    with pytest.raises(PluginError, match=r"Steps: add_gradient, .*, unregistered_bytes; put an underscore"):

        class Foreign(Strategy):
            def on_train_epoch_end(self) -> None:
                pass


def test_helpers_constants_and_steps_of_a_base_are_welcome() -> None:
    class Fine(Strategy):
        rate = 0.5

        def _helper(self) -> None:
            pass

        @property
        def share(self) -> float:
            return self.rate

        def after_step(self, learner: Learner, batch: Batch) -> None:
            pass

    class Finer(Fine):
        def after_step(self, learner: Learner, batch: Batch) -> None:
            super().after_step(learner, batch)

    assert Finer().share == 0.5


# -- replay -----------------------------------------------------------------------------------------------


def offer(replay: Replay, learner: Any, count: int, first: int = 0) -> None:
    replay.after_experience(learner, experience(0, *((row(n),) for n in range(first, first + count))))


def kept(replay: Replay) -> list[int]:
    return numbers([Example.from_json(row) for row in replay.state_dict()["rows"]])


def test_every_row_seen_is_equally_likely_to_be_in_the_reservoir() -> None:
    counts, trials = Counter[int](), 3000
    for seed in range(trials):
        learner = SimpleNamespace(generator=np.random.default_rng(seed))
        replay = Replay(ReplayOptions(buffer=5))
        for part in range(4):
            offer(replay, learner, 5, first=5 * part)
        inside = kept(replay)
        assert len(set(inside)) == 5
        counts.update(inside)
    expected = trials * 5 / 20
    spread = (trials * 0.25 * 0.75) ** 0.5
    assert set(counts) == set(range(20))
    assert all(abs(count - expected) < 4 * spread for count in counts.values())
    # 20 counts with 19 degrees of freedom: chi squared beyond 50 has a probability of 1e-4
    assert sum((count - expected) ** 2 / (expected * 0.75) for count in counts.values()) * 19 / 20 < 50


def test_replay_rehearses_distinct_rows_of_earlier_experiences_only(tmp_path: Path) -> None:
    class Watched(Replay):
        def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
            rows = super().rehearse(learner, batch)
            rehearsed.append((numbers(batch)[0], numbers(rows)))
            return rows

    rehearsed: list[tuple[int, list[int]]] = []
    parts = [experience(n, *((row(10 * n + i, f"fact {n}"),) for i in range(3)), repeats=2) for n in range(4)]
    run = toy(tmp_path, Watched(ReplayOptions(buffer=6, rows=4)), stream_of(*parts))
    train(run)
    for own, others in rehearsed:
        assert len(others) == len(set(others)) == min(4, 3 * (own // 10))
        assert all(other // 10 < own // 10 for other in others)
    assert {other for _, others in rehearsed for other in others} > {0, 10, 20} or len(rehearsed) == 24
    steps = RunRecord(tmp_path, {}).steps
    assert steps["rehearsed"].tolist() == [0] * 6 + [3] * 6 + [4] * 12
    exposures = RunRecord(tmp_path, {}).exposures
    assert exposures["count"].sum() == 24 + steps["rehearsed"].sum()


@pytest.mark.parametrize("buffer", [3, 500])
def test_the_plan_bounds_what_replay_s_buffer_takes(buffer: int, model: Path, tmp_path: Path) -> None:
    run = planned(model, "replay", {"strategy.buffer": buffer})
    record = finish(run, tmp_path / "run")
    assert 0 < record.info["extra_state_bytes"] <= run.extra_bytes


def test_replay_keeps_a_batch_trained_several_times_only_once() -> None:
    replay = Replay(ReplayOptions(buffer=50))
    learner: Any = SimpleNamespace(generator=np.random.default_rng(0))
    replay.after_experience(learner, experience(0, (row(1), row(2)), repeats=10))
    assert kept(replay) == [1, 2]
    replay.after_experience(learner, experience(1, (row(3),), trains="none"))
    assert kept(replay) == [1, 2]


# -- joint ------------------------------------------------------------------------------------------------


def test_joint_trains_every_row_as_often_as_it_was_in_another_order() -> None:
    parts = [
        experience(0, (row(0), row(1)), (row(2),), repeats=3),
        experience(1, (row(3), row(4), row(5))),
        experience(2, (row(6),), trains="none"),
        experience(3, (row(7),), (row(8), row(1)), phase="rest"),
    ]
    original = stream_of(*parts)
    shuffled = shuffle_stream(original, seed=0)

    def trained(stream: Stream) -> list[list[int]]:
        found = [stream.experience(n) for n in range(stream.length)]
        return [numbers(e.batch(i)) for e in found for i in range(e.steps) if e.trains == "all"]

    before, after = trained(original), trained(shuffled)
    assert [len(batch) for batch in after] == [len(batch) for batch in before]
    assert Counter(n for batch in after for n in batch) == Counter(n for batch in before for n in batch)
    assert after != before
    assert [shuffled.experience(n).steps for n in range(4)] == [6, 1, 1, 2]
    assert numbers(shuffled.experience(2).batch(0)) == [6]
    assert shuffled.probe_points is original.probe_points
    again, other = shuffle_stream(original, seed=0), shuffle_stream(original, seed=1)
    assert numbers(again.experience(3).batch(1)) == numbers(shuffled.experience(3).batch(1))
    assert trained(again) == after != trained(other)


def test_joint_exposes_every_fact_as_often_as_naive_does(model: Path, tmp_path: Path) -> None:
    options = {"scenario.repeats": 2, "scenario.rest": "both"}
    naive = finish(planned(model, "naive", options), tmp_path / "naive")
    joint = finish(planned(model, "joint", options), tmp_path / "joint")
    counts = [record.exposures.groupby("fact")["count"].sum() for record in (naive, joint)]
    assert counts[0].equals(counts[1])
    assert len(counts[0]) == 4
    assert naive.steps["tokens"].sum() == joint.steps["tokens"].sum()
    assert len(naive.steps) == len(joint.steps)
    assert (naive.probes[["step", "probe"]] == joint.probes[["step", "probe"]]).all(axis=None)
    last = [int(record.exposures["step"].max()) for record in (naive, joint)]
    assert last[0] <= len(naive.steps) - 8 < last[1]  # joint states facts in the rest's steps, too
    assert naive.info["content"] != joint.info["content"]


# -- content ----------------------------------------------------------------------------------------------


def test_the_content_hash_tells_what_was_trained_and_nothing_else(model: Path, tmp_path: Path) -> None:
    short = {"scenario.facts_per_loop": 1, "scenario.exposures": 1, "scenario.rest_steps": 2}

    def content(
        name: str, strategy: str = "naive", options: dict[str, Any] | None = None, **request: Any
    ) -> str:
        run = planned(model, strategy, {**short, **(options or {})}, **{"probing": "none", **request})
        return str(finish(run, tmp_path / name).info["content"])

    first = content("naive")
    assert content("again") == first
    assert content("reset", "reset_optimizer") == first
    assert content("moments", "moment_avg") == first
    assert content("replay", "replay") == first  # what a strategy adds is not the stream's
    assert content("probed", probing="every") == first
    assert content("sgd", options={"optimizer.name": "sgd", "optimizer.lr": 0.1}) == first
    others = {
        content("seed", seed=1),
        content("still", options={"scenario.rest_training": False}),
        content("twice", options={"scenario.repeats": 2}),
    }
    assert len(others - {first}) == 3
    # two loops in random order may fall into the fixed one; four in two cycles hardly
    four = {"scenario.loops": 4}
    assert content("shuffled", options={**four, "scenario.order": "shuffled"}) != content(
        "four", options=four
    )


# -- failures ---------------------------------------------------------------------------------------------

STRANGER = """
import os, sys
import seqmem

seqmem_api = ">=1,<2"


class Raises(seqmem.Strategy):
    def after_step(self, learner, batch):
        if learner.step == 3:
            raise ZeroDivisionError("three is too many")


class RaisesAtOnce(seqmem.Strategy):
    def setup(self, learner):
        raise KeyError("no such thing")


class Dies(seqmem.Strategy):
    def after_step(self, learner, batch):
        if learner.step == 3:
            print("this goes to the log, not into the events")
            print("going down", file=sys.stderr, flush=True)
            os._exit(7)


class RunsOut(seqmem.Strategy):
    def after_step(self, learner, batch):
        raise MemoryError


@seqmem.hookimpl
def seqmem_strategy():
    kinds = {"raises": Raises, "raises_at_once": RaisesAtOnce, "dies": Dies, "runs_out": RunsOut}
    return [
        seqmem.StrategySpec(name, "1", name, lambda options, kind=kind: kind()) for name, kind in kinds.items()
    ]
"""
STRANGE = ("raises", "raises_at_once", "dies", "runs_out")


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The plugins with a stranger's installed beside them, in this process and in those it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    write_stranger(folder, STRANGER, *STRANGE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield Registry.from_environment()
    sys.modules.pop("strange_strategies", None)


def command(model: Path, out: Path, *strategies: str, seeds: str = "0") -> list[str]:
    sets = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    chosen = [part for name in strategies for part in ("--strategy", name)]
    return [
        *("bench", "--scenario", "memory_loops", *chosen, "--model", str(model), "--preset", "smoke"),
        *(
            "--seeds",
            seeds,
            "--no-controls",
            "--device",
            "cpu",
            "--display",
            "none",
            "--out",
            str(out),
            *sets,
        ),
    ]


def test_a_strategy_that_raises_fails_its_run_with_the_reason_and_a_traceback_on_file(
    strange: Registry, model: Path, tmp_path: Path
) -> None:
    events = carry_out(planned(model, "raises", registry=strange), tmp_path / "run", registry=strange)
    assert events[-1] == {"event": "failed", "reason": "ZeroDivisionError: three is too many"}
    record = RunRecord.open(tmp_path / "run")
    assert (record.status, record.info["reason"]) == ("failed", "ZeroDivisionError: three is too many")
    assert "in after_step" in (tmp_path / "run" / "error.txt").read_text()


def test_a_strategy_that_raises_before_anything_is_trained_fails_its_run_alone(
    strange: Registry, model: Path, tmp_path: Path
) -> None:
    events = carry_out(planned(model, "raises_at_once", registry=strange), tmp_path / "run", registry=strange)
    assert events == [{"event": "failed", "reason": "KeyError: 'no such thing'"}]


def test_running_out_of_memory_says_what_to_lower(strange: Registry, model: Path, tmp_path: Path) -> None:
    events = carry_out(planned(model, "runs_out", registry=strange), tmp_path / "run", registry=strange)
    assert events[-1]["event"] == "failed"
    for word in (
        "out of memory on cpu",
        "scenario.batch_size",
        "--workers",
        "--precision bfloat16",
        "--model",
    ):
        assert word in events[-1]["reason"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_running_out_of_memory_while_the_model_is_loaded_says_so_too(
    error: BaseException, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*arguments: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr("seqmem.training.run.load_model", too_large)
    events = carry_out(planned(model), tmp_path / "run")
    assert [event["event"] for event in events] == ["failed"]
    assert events[0]["reason"].startswith("out of memory on cpu: lower")


def test_when_one_strategy_raises_the_others_go_on_and_the_exit_code_is_1(
    strange: Registry,
    no_figures: None,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("seqmem.verbs.bench.Workers", InlineWorkers)
    assert seqmem(command(model, tmp_path / "out", "raises", "raises_at_once", "moment_avg")) == 1
    said = capsys.readouterr()
    failed = sorted(line for line in said.err.splitlines() if line.startswith("seqmem: failed:"))
    assert failed == [
        f"seqmem: failed: memory_loops raises {model.name} s0: ZeroDivisionError: three is too many",
        f"seqmem: failed: memory_loops raises_at_once {model.name} s0: KeyError: 'no such thing'",
    ]
    finished = {
        path.name.split("-")[1]
        for path in (tmp_path / "out" / "records").iterdir()
        if ended(path) == "finished"
    }
    assert finished == {"naive", "moment_avg"}
    assert "\nmoment_avg " in said.out


def test_when_every_run_fails_the_bench_still_ends_well(
    strange: Registry,
    unrendered: None,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("seqmem.verbs.bench.Workers", InlineWorkers)
    out = tmp_path / "out"
    assert seqmem([*command(model, out, "raises", seeds="0-1"), "--no-reference"]) == 1
    said = capsys.readouterr()
    assert said.err.count("ZeroDivisionError: three is too many") >= 2
    assert "Traceback" not in said.err
    assert len(list(out.glob("boards/*/table.md"))) == 1


def ended(record: Path) -> str:
    return str(json.loads((record / "run.json").read_text())["status"])


def test_a_failed_run_goes_on_or_starts_over_as_the_user_says(
    no_figures: None,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("seqmem.verbs.bench.Workers", InlineWorkers)
    out, run = tmp_path / "out", planned(model)
    folder = out / "records" / run.folder
    words = [*command(model, out, "naive"), "--checkpoint-every", "100"]
    for flag, parts in (("--resume", 4), ("--force", 1)):
        shutil.rmtree(out, ignore_errors=True)
        carry_out(run, folder, checkpoint_every=5, keep_checkpoints=True)  # at steps 5, 10 and 15 of 16
        info = json.loads((folder / "run.json").read_text())
        write_sealed(folder / "run.json", info | {"status": "failed", "reason": "tired"})
        assert seqmem(words) == 2
        assert "continue them with --resume or start them over with --force" in capsys.readouterr().err
        assert seqmem([*words, flag]) == 0
        assert ended(folder) == "finished"
        assert len(list((folder / "steps").iterdir())) == parts


def test_a_loss_that_is_no_number_fails_its_run_with_the_step_and_the_exit_code_is_1(
    no_figures: None,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("seqmem.verbs.bench.Workers", InlineWorkers)
    arguments = [*command(model, tmp_path / "out", "naive"), "--sweep", "optimizer.lr=0.001,1e30"]
    assert seqmem(arguments) == 1
    said = capsys.readouterr()
    (failed,) = [line for line in said.err.splitlines() if line.startswith("seqmem: failed:")]
    assert "optimizer.lr=1e+30" in failed
    assert "the loss is nan at step 2 (loop 0 visit 0); lower the learning rate" in failed
    statuses = sorted(ended(path) for path in (tmp_path / "out" / "records").iterdir())
    assert statuses == ["failed", "finished"]


def test_a_worker_that_dies_is_replaced_and_a_refused_run_is_an_error_only_where_all_are(
    strange: Registry, model: Path, tmp_path: Path
) -> None:
    # the tokenizer needs more tokens for a fact than these rows have: only the worker can know
    refused = planned(model, options={"scenario.row_tokens": 8})
    why = r"^the document stating '.+' has \d+ tokens, more than the row's 8; raise the row length"
    runs: list[PlannedRun] = [
        refused,
        planned(model, "dies", registry=strange),
        planned(model, "naive", seed=1),
        planned(model, "raises", registry=strange),
    ]
    jobs = {run.recipe.id: job_of(run, tmp_path / run.folder) for run in runs}
    with Workers(1) as pool:
        with pytest.raises(UsageError, match=why):
            pool.run([jobs[refused.recipe.id]], lambda run, event: None, bool)
        assert not (tmp_path / refused.folder).exists()
        outcome = pool.run(list(jobs.values()), lambda run, event: None, bool)
    refusal, dies, naive, raises = (outcome[run.recipe.id] for run in runs)
    assert dies == {"event": "failed", "reason": "the worker process ended with code 7: going down"}
    assert naive == {"event": "finished"}
    assert refusal["event"] == "failed"
    assert re.match(why, refusal["reason"])
    assert raises == {"event": "failed", "reason": "ZeroDivisionError: three is too many"}
    reference = finish(runs[2], tmp_path / "reference")
    assert RunRecord.open(tmp_path / runs[2].folder).info["final"] == reference.info["final"]


# -- what is left of a run --------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["naive", "grow_prune"])
def test_a_saved_model_is_what_transformers_loads(strategy: str, tmp_path: Path) -> None:
    run = planned(small_model(tmp_path / "model"), strategy)
    record = finish(run, tmp_path / "run", save_model=True)
    again = planned(tmp_path / "run" / "model", "naive", {"scenario.rest_steps": 2})
    parameters = {"naive": run.recipe.model.parameters}.get(strategy, 0)
    assert again.recipe.model.parameters >= parameters
    final = finish(again, tmp_path / "again").probes
    asked = record.probes
    last, first = asked[asked["step"] == asked["step"].max()], final[final["step"] == 0]
    both = last.merge(first, on="probe")
    assert len(both) > 4 and both["logprob_x"].to_list() == pytest.approx(
        both["logprob_y"].to_list(), abs=1e-4
    )


def test_a_model_that_nobody_could_load_is_not_saved(tmp_path: Path) -> None:
    run = planned(small_model(tmp_path / "model"), "lora")
    (event,) = carry_out(run, tmp_path / "run", save_model=True)
    assert event["event"] == "refused" and "--save-models" in event["reason"]
    assert not (tmp_path / "run").exists()
