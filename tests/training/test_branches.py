"""Snapshots a stream returns to, what a strategy leaves untrained, and a forward of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers_records import seal_record
from torch import Tensor

from seqmem import Example, Experience, Probe, ProbePoint, RunRecord, Strategy, Stream
from seqmem.core.errors import RunFailed
from seqmem.core.recipe import OptimizerSettings
from seqmem.record.files import write_table
from seqmem.record.schema import ITEMS
from seqmem.record.writer import RecordWriter
from seqmem.training.checkpoint import load_last
from seqmem.training.learner import Learner
from seqmem.training.loop import Stopped, train
from seqmem.training.run_state import Progress, Run, restore
from seqmem_plugins.strategies.moment_avg import MomentAverage, MomentAvgOptions
from seqmem_plugins.strategies.replay import Replay, ReplayOptions


class TwoTables(torch.nn.Module):
    """Next-token logits as the sum of two tables."""

    def __init__(self) -> None:
        super().__init__()
        self.left = torch.nn.Parameter(torch.zeros(9, 9))
        self.right = torch.nn.Parameter(torch.zeros(9, 9))

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.left[input_ids] + self.right[input_ids])


def row(number: int, *facts: str) -> Example:
    ids = np.array([0, *np.unravel_index(number, (9, 9, 9))], dtype=np.int32)
    return Example(ids, np.array([False, True, True, True]), facts)


def part(index: int, *rows: int, **more: Any) -> Experience:
    settings = {"phase": "loop", "task_label": index, **more}
    return Experience(index, f"part {index}", batches=tuple((row(n),) for n in rows), **settings)


def stream_of(*parts: Experience) -> Stream:
    probes = (
        Probe("p", (0, 1, 2), 1, "", "", "f", "question", task_label=3),
        Probe("q", (0, 1, 2), 1, "", "", "f", "question", task_label=3, task_known=True),
    )
    at_end = {i: (ProbePoint(e.steps, "all", ("boundary",)),) for i, e in enumerate(parts)}
    return Stream(len(parts), parts.__getitem__, lambda i: at_end[i], {"all": probes})


def run_of(folder: Path, strategy: Strategy, *parts: Experience, every: int = 1000) -> Run:
    torch.manual_seed(0)
    learner = Learner(TwoTables(), OptimizerSettings(lr=0.1), torch.device("cpu"), seed=0)
    strategy.setup(learner)
    folder.mkdir(exist_ok=True)
    return Run(
        learner,
        strategy,
        stream_of(*parts),
        RecordWriter(folder),
        Progress(),
        "schedule",
        checkpoint_every=every,
    )


def weights(run: Run) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in run.learner.tensors().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


BASE = part(0, 1, 2, 3, save_as="base")


def strategies() -> list[Strategy]:
    return [Strategy(), Replay(ReplayOptions(buffer=2)), MomentAverage(MomentAvgOptions())]


@pytest.mark.parametrize("which", range(3))
def test_a_branch_is_as_if_the_other_branches_had_never_been(which: int, tmp_path: Path) -> None:
    left = part(1, 40, 41, start_from="base")
    right = part(2, 50, 51, start_from="base", task_label=2)
    both = run_of(tmp_path / "both", strategies()[which], BASE, left, right)
    train(both)
    alone = run_of(tmp_path / "alone", strategies()[which], BASE, replace(right, index=1))
    train(alone)
    assert same(weights(both), weights(alone))
    assert both.strategy.state_dict() == alone.strategy.state_dict()
    assert both.learner.generator.random() == alone.learner.generator.random()
    assert both.learner.step == alone.learner.step + 2  # the clock goes on
    other = run_of(tmp_path / "other", strategies()[which], BASE, left)
    train(other)
    assert not same(weights(both), weights(other))


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("stop_at", range(1, 8))
def test_a_run_stopped_anywhere_among_its_branches_resumes_to_the_same_bits(
    which: int, stop_at: int, tmp_path: Path
) -> None:
    parts = (BASE, part(1, 40, 41, start_from="base"), part(2, 50, 51, 52, start_from="base", task_label=2))
    whole = run_of(tmp_path / "whole", strategies()[which], *parts)
    train(whole)
    stopped = run_of(tmp_path / "stopped", strategies()[which], *parts)
    stopped.should_stop = lambda: stopped.learner.step == stop_at
    with pytest.raises(Stopped):
        train(stopped)
    resumed = run_of(tmp_path / "stopped", strategies()[which], *parts)
    saved = load_last(tmp_path / "stopped" / "checkpoints", lambda message: None)
    assert saved is not None
    restore(resumed, saved)
    train(resumed)
    assert same(weights(whole), weights(resumed))
    assert resumed.progress == whole.progress
    records = [record_of(tmp_path / name) for name in ("whole", "stopped")]
    for table in ("probes", "steps", "experiences"):
        first, second = (getattr(record, table).reset_index(drop=True) for record in records)
        assert first.equals(second)


def record_of(folder: Path) -> RunRecord:
    probes = stream_of(BASE).probe_sets["all"]
    named = {name: [getattr(p, name, None) for p in probes] for name in ITEMS.names}
    write_table(
        folder / "items.parquet",
        named | {"probe": [p.id for p in probes], "choices": [[] for _ in probes]},
        ITEMS,
    )
    info = {
        "format": 2,
        "recipe": {"seed": 0},
        "status": "finished",
        "primary_relation": "question",
    }
    return seal_record(folder, info)


def test_a_snapshot_nobody_made_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", Strategy(), BASE, part(1, 4, start_from="bse"))
    with pytest.raises(RunFailed, match="no snapshot 'bse' to start from; made so far: base"):
        train(run)


def test_the_record_says_where_a_branch_started(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", Strategy(), BASE, part(1, 4, start_from="base"))
    train(run)
    table = record_of(tmp_path / "run").experiences
    assert list(table["save_as"].fillna("")) == ["base", ""]
    assert list(table["start_from"].fillna("")) == ["", "base"]


# -- what is trained --------------------------------------------------------------------------------------


class OnlyLeft(Strategy):
    """Trains one table where the protocol wants a component trained, the other where it wants the others."""

    def trainable(self, learner: Learner, experience: Experience) -> Collection[str] | None:
        return {"component": ["left"], "others": ["right"]}.get(experience.trains)


def test_what_a_strategy_leaves_out_gets_no_step_and_keeps_its_moments(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", OnlyLeft(), part(0, 1, 2, 3), part(1, 4, 5, trains="component"))
    seen: list[dict[str, Tensor]] = []
    run.on_answers = lambda point, answers, probes: seen.append(weights(run))
    train(run)
    before, after = seen
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        "weights:left",
        *(f"state:moments.main.{moment}:left" for moment in ("exp_avg", "exp_avg_sq", "step")),
    }


def test_all_is_trained_again_afterwards(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "run", OnlyLeft(), part(0, 1, trains="component"), part(1, 2, trains="others"), part(2, 3)
    )
    seen: list[dict[str, Tensor]] = []
    run.on_answers = lambda point, answers, probes: seen.append(weights(run))
    train(run)
    moved = [
        {n for n in ("weights:left", "weights:right") if not torch.equal(one[n], other[n])}
        for one, other in zip(seen, seen[1:], strict=False)
    ]
    assert moved == [{"weights:right"}, {"weights:left", "weights:right"}]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["lft"], "unknown parameter 'lft'. Did you mean 'left'?"), ([], "names no parameter at all")],
)
def test_a_name_that_is_no_parameter_s_is_an_error(names: list[str], message: str, tmp_path: Path) -> None:
    class Wrong(Strategy):
        def trainable(self, learner: Learner, experience: Experience) -> Collection[str] | None:
            return names

    with pytest.raises(RunFailed) as failed:
        train(run_of(tmp_path / "run", Wrong(), part(0, 1)))
    assert message in str(failed.value)


# -- a forward of its own ---------------------------------------------------------------------------------


class Router(Strategy):
    """Reads one table only when told the task; notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[bool, int | None]] = []

    def forward(
        self, learner: Learner, input_ids: Tensor, task_label: int | None, prompt_tokens: Tensor | None
    ) -> Tensor:
        self.told.append((torch.is_grad_enabled(), task_label))
        model: Any = learner.model
        return model.left[input_ids] if task_label is None else model.right[input_ids]


def test_a_router_is_told_the_task_in_training_and_only_where_a_probe_says_so(tmp_path: Path) -> None:
    router = Router()
    run = run_of(tmp_path / "run", router, part(0, 1, 2, task_label=7))
    train(run)
    assert router.told == [(True, 7), (True, 7), (False, None), (False, 3)]
    assert torch.equal(run.learner.parameters["left"], torch.zeros(9, 9))  # never used in training
    answers = record_of(tmp_path / "run").probes.set_index("probe")["logprob"]
    assert answers["p"] == pytest.approx(2 * -np.log(9))  # the untouched table knows nothing
    assert answers["q"] != pytest.approx(answers["p"])
