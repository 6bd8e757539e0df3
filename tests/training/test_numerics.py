"""A number that is not finite ends the run, and the part of the step that it came from is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import planned, small_model
from torch import Tensor

from seqmem import Batch, Example, Experience, Probe, RunRecord, Strategy, Stream, UsageError
from seqmem.core.errors import RunFailed
from seqmem.core.recipe import OptimizerSettings
from seqmem.record.writer import RecordWriter
from seqmem.training.learner import Learner
from seqmem.training.loop import train
from seqmem.training.run_state import Progress, Run

LOWER = "lower the learning rate"
CHANGE = "change the strategy's options or lower the learning rate"


class Two(torch.nn.Module):
    """Next-token logits from a table, times one number."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(9, 9))
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.table[input_ids] * self.scale)


def trained(folder: Path, strategy: Strategy, steps: int = 3, lr: float = 0.1, name: str = "adam") -> Run:
    """A run of one experience of a few steps, carried out."""
    row = Example(np.array([1, 2, 3], dtype=np.int32), np.array([False, True, True]))
    part = Experience(0, "part 0", "loop", 0, ((row,),) * steps)
    stream = Stream(
        1, lambda index: part, lambda index: (), {"all": (Probe("p", (0, 1), 1, "", "", "f", "question"),)}
    )
    settings = OptimizerSettings.model_validate({"name": name, "lr": lr})
    learner = Learner(Two(), settings, torch.device("cpu"), seed=0)
    strategy.setup(learner)
    run = Run(learner, strategy, stream, RecordWriter(folder), Progress(), "schedule", checkpoint_every=1000)
    train(run)
    return run


def spoil(tensor: Tensor | None) -> None:
    with torch.no_grad():
        assert tensor is not None
        tensor.fill_(torch.nan)


class Penalty(Strategy):
    def add_gradient(self, learner: Learner) -> float:
        return float("nan") if learner.step == 1 else 0.0


class AddedGradient(Strategy):
    def add_gradient(self, learner: Learner) -> float:
        if learner.step == 1:
            spoil(learner.parameters["scale"].grad)
        return 0.0


class ChangedGradient(Strategy):
    def transform_gradient(self, learner: Learner) -> None:
        if learner.step == 1:
            spoil(learner.parameters["table"].grad)

    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        pass


class ChangedUpdate(Strategy):
    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        if learner.step == 1:
            spoil(learner.parameters["table"])


class Afterwards(Strategy):
    def after_step(self, learner: Learner, batch: Batch) -> None:
        if learner.step == 1:
            spoil(learner.parameters["table"])


class Loss(Strategy):
    def forward(
        self, learner: Learner, input_ids: Tensor, task_label: int | None, prompt: Tensor | None
    ) -> Tensor:
        logits: Tensor = learner.model(input_ids=input_ids, use_cache=False).logits
        return logits * (torch.nan if learner.step == 1 else 1.0)


class LossGradient(Strategy):
    def forward(
        self, learner: Learner, input_ids: Tensor, task_label: int | None, prompt: Tensor | None
    ) -> Tensor:
        logits: Tensor = learner.model(input_ids=input_ids, use_cache=False).logits
        if learner.step == 1:
            logits.register_hook(lambda gradient: gradient * torch.nan)
        return logits


class LossGradientWithPenalty(LossGradient):
    def add_gradient(self, learner: Learner) -> float:
        return 0.5


@pytest.mark.parametrize("steps", [2, 3], ids=["in the last step", "before the last step"])
@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        (Loss, f"the loss is nan at step 2 (part 0); {LOWER}"),
        (LossGradient, f"the gradient of the loss is not finite at step 2 (part 0); {LOWER}"),
        (LossGradientWithPenalty, f"the gradient of the loss is not finite at step 2 (part 0); {LOWER}"),
        (Penalty, f"the strategy's penalty is nan at step 2 (part 0); {CHANGE}"),
        (AddedGradient, f"the gradient that the strategy added is not finite at step 2 (part 0); {CHANGE}"),
        (
            ChangedGradient,
            f"the gradient as the strategy changed it is not finite at step 2 (part 0); {CHANGE}",
        ),
        (
            ChangedUpdate,
            f"the weights after the strategy changed the update are not finite at step 2 (part 0); {CHANGE}",
        ),
        (
            Afterwards,
            "the weights after what the strategy did between two steps are not finite at step 2 (part 0); "
            f"{CHANGE}",
        ),
    ],
)
def test_the_part_that_was_first_is_named(
    strategy: Callable[[], Strategy], reason: str, steps: int, tmp_path: Path
) -> None:
    with pytest.raises(RunFailed) as failed:
        trained(tmp_path, strategy(), steps)
    assert str(failed.value) == reason


@pytest.mark.parametrize("strategy", [Strategy, Afterwards])
def test_a_rate_that_overflows_the_weights_is_the_optimizer_s_step(
    strategy: Callable[[], Strategy], tmp_path: Path
) -> None:
    with pytest.raises(RunFailed, match=r"^the weights after the optimizer's step are not finite at step 1"):
        trained(tmp_path, strategy(), lr=1e39, name="sgd")


class Warming(Strategy):
    """Two groups; the rate of the table's rises from step to step."""

    def setup(self, learner: Learner) -> None:
        table, scale = learner.parameters["table"], learner.parameters["scale"]
        learner.optimizer.param_groups[0]["params"] = [table]
        learner.optimizer.add_param_group({"params": [scale], "lr": 0.5})

    def after_step(self, learner: Learner, batch: Batch) -> None:
        learner.optimizer.param_groups[0]["lr"] += 0.1


def test_the_recorded_rate_is_the_one_the_optimizer_used(tmp_path: Path) -> None:
    trained(tmp_path, Warming(), steps=2, lr=0.1)
    rates = RunRecord(tmp_path, {}).steps["lr"].tolist()
    assert rates == pytest.approx([(81 * 0.1 + 0.5) / 82, (81 * 0.2 + 0.5) / 82])


def test_adam_s_eps_that_float16_rounds_to_nothing_is_refused_while_planning(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    said = (
        r"optimizer\.eps = 1e-08 is 0 in float16.*--set optimizer\.eps=1e-4.*--precision bfloat16 or float32"
    )
    with pytest.raises(UsageError, match=said):
        planned(model, precision="float16")
    assert planned(model, options={"optimizer.eps": 1e-4}, precision="float16").recipe.optimizer.eps == 1e-4
    assert planned(model, precision="bfloat16").recipe.model.dtype == "bfloat16"
    assert planned(model, optimizer="sgd", lr=0.1, precision="float16").recipe.optimizer.name == "sgd"
