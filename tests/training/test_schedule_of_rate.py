"""The learning rate goes over the stream as asked, on top of what a strategy does to it."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import carry_out, finish, planned, results, small_model

from seqmem import Example, Experience, Probe, RunRecord, Strategy, Stream, UsageError
from seqmem.core.recipe import OptimizerSettings
from seqmem.record.writer import RecordWriter
from seqmem.training.learner import Learner
from seqmem.training.loop import train
from seqmem.training.run_state import Progress, Run
from seqmem_plugins.strategies.multi_lr import MultiLr, MultiLrOptions


def shares(steps: int, **settings: Any) -> list[float]:
    optimizer = OptimizerSettings(**settings)
    return [optimizer.share_of_rate(position, steps) for position in range(steps)]


def test_the_courses_are_what_they_are_called() -> None:
    assert shares(3) == [1, 1, 1]
    assert shares(8, warmup=0.5) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert shares(4, schedule="linear") == [1, 0.75, 0.5, 0.25]
    assert shares(6, schedule="linear", warmup=1 / 3) == [0.5, 1, 1, 0.75, 0.5, 0.25]
    expected = [(1 + math.cos(math.pi * done / 4)) / 2 for done in range(4)]
    assert shares(4, schedule="cosine") == pytest.approx(expected)
    assert OptimizerSettings(schedule="cosine").share_of_rate(9, 4) == 0  # past the end it stays there


# -- a table of numbers, whose step is rate times gradient -------------------------------------------------


class Table(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(9, 9))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


def part(index: int, steps: int, **more: Any) -> Experience:
    row = Example(np.array([0, 1, 2, index % 9], dtype=np.int32), np.array([False, True, True, True]))
    settings = {"phase": "loop", "task_label": index, **more}
    return Experience(index, f"part {index}", batches=((row,),) * steps, **settings)


class Watching(Strategy):
    """Notes how far the table goes at each step, in units of its gradient."""

    def __init__(self, inner: Strategy | None = None) -> None:
        self.inner = inner or Strategy()
        self.gone: list[float] = []
        self.gradient = torch.zeros(0)
        self.start = torch.zeros(0)

    def before_experience(self, learner: Any, experience: Experience) -> None:
        self.inner.before_experience(learner, experience)

    def transform_gradient(self, learner: Any) -> None:
        self.gradient, self.start = learner.model.table.grad.clone(), learner.model.table.detach().clone()

    def transform_update(self, learner: Any, before: Any) -> None:
        self.inner.transform_update(learner, before)

    def after_step(self, learner: Any, batch: Any) -> None:
        gone = learner.model.table.detach() - self.start
        self.gone.append(float(-(gone * self.gradient).sum() / self.gradient.square().sum()))


def recorded(
    folder: Path, strategy: Strategy, *parts: Experience, steps: int, **settings: Any
) -> list[float]:
    """The rates on record of a run with SGD at 0.1."""
    optimizer = OptimizerSettings(name="sgd", lr=0.1, **settings)
    learner = Learner(Table(), optimizer, torch.device("cpu"), 0, steps=steps)
    stream = Stream(
        len(parts),
        parts.__getitem__,
        lambda index: (),
        {"all": (Probe("p", (0, 1, 2), 1, "", "", "f", "question"),)},
    )
    strategy.setup(learner)
    train(Run(learner, strategy, stream, RecordWriter(folder), Progress(), "schedule", checkpoint_every=1000))
    assert [group["lr"] for group in learner.optimizer.param_groups] == [
        0.1 * getattr(strategy, "times", 1.0)
    ]
    rates: list[float] = RunRecord(folder, {}).steps["lr"].tolist()
    return rates


def test_the_recorded_rate_is_the_one_that_was_trained_at(tmp_path: Path) -> None:
    watching = Watching()
    rates = recorded(tmp_path, watching, part(0, 6), part(1, 4), steps=10, schedule="cosine", warmup=0.2)
    expected = [0.1 * share for share in shares(10, schedule="cosine", warmup=0.2)]
    assert rates == pytest.approx(expected)
    assert watching.gone == pytest.approx(expected, rel=1e-4)


def test_steps_that_train_nothing_take_their_time_of_the_schedule(tmp_path: Path) -> None:
    parts = part(0, 2), part(1, 2, trains="none"), part(2, 2)
    rates = recorded(tmp_path, Strategy(), *parts, steps=6, schedule="linear")
    assert rates == pytest.approx([0.1, 0.1 * 5 / 6, 0, 0, 0.1 * 2 / 6, 0.1 / 6])


def test_rates_per_element_are_multiples_of_the_scheduled_rate(tmp_path: Path) -> None:
    half = MultiLr(MultiLrOptions(rates=(0.5,), shares=(1.0,)))
    watching = Watching(half)
    rates = recorded(tmp_path, watching, part(0, 4), steps=4, schedule="linear")
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert watching.gone == pytest.approx([rate / 2 for rate in rates], rel=1e-4)


class Doubling(Strategy):
    """Trains at twice the rate by the optimizer's own groups."""

    times = 2.0

    def setup(self, learner: Any) -> None:
        for group in learner.optimizer.param_groups:
            group["lr"] *= self.times


def test_a_strategy_s_own_rates_are_scaled_and_given_back(tmp_path: Path) -> None:
    rates = recorded(tmp_path, Doubling(), part(0, 4), steps=4, schedule="linear")
    assert rates == pytest.approx([0.2, 0.15, 0.1, 0.05])


def test_every_branch_goes_on_where_its_snapshot_was_in_the_schedule(tmp_path: Path) -> None:
    parts = (
        part(0, 2, save_as="base"),
        part(1, 2, start_from="base"),
        part(2, 3, start_from="base", save_as="later"),
        part(3, 1, start_from="base"),
        part(4, 1, start_from="later"),
    )
    rates = recorded(tmp_path, Strategy(), *parts, steps=6, schedule="linear")
    sixths = [6, 5, *(4, 3), *(4, 3, 2), 4, 1]
    assert rates == pytest.approx([0.1 * n / 6 for n in sixths])


@pytest.mark.parametrize(("scenario", "path"), [("rolling_window", None), ("memory_loops", 16)])
def test_a_schedule_goes_over_the_longest_branch(scenario: str, path: int | None, tmp_path: Path) -> None:
    run = planned(small_model(tmp_path / "model"), scenario=scenario)
    assert run.outline.scheduled_steps == (path or run.outline.scheduled_steps)
    assert (run.outline.scheduled_steps < run.outline.steps) == run.outline.branches


def test_a_resumed_run_goes_on_in_the_schedule_to_the_same_bits(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    options = {"optimizer.schedule": "cosine", "optimizer.warmup": 0.25}
    run = planned(model, "moment_avg", options)
    assert run.recipe.id != planned(model, "moment_avg").recipe.id
    whole = finish(run, tmp_path / "whole")
    asked = iter(range(100))
    events = carry_out(run, tmp_path / "parts", should_stop=lambda: next(asked) == 6)
    assert events[-1]["event"] == "stopped"
    resumed = finish(run, tmp_path / "parts", resume=True)
    assert results(resumed) == results(whole)
    assert resumed.steps["lr"].tolist() == whole.steps["lr"].tolist()
    assert len(set(whole.steps["lr"])) > 8


def test_a_wrong_course_is_refused_in_one_line(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    with pytest.raises(UsageError, match=r"optimizer.*schedule.*constant.*linear.*cosine"):
        planned(model, options={"optimizer.schedule": "step"})
    with pytest.raises(UsageError, match="warmup"):
        planned(model, options={"optimizer.warmup": 1})
