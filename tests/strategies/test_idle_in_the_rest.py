"""Strategies that keep what they learned by learning nothing more: a gate keeps both from a rank."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from small_runs import finish, installed, planned, small_model, write_stranger

from seqmem.plugin.registry import Registry
from seqmem.record.row import Row
from seqmem.scoring.comparison import Comparison, tabulate

IDLE = """
import torch
from seqmem import Strategy, StrategySpec, hookimpl

seqmem_api = ">=1,<2"


class Undo(Strategy):
    "Takes every update of the rest back."

    resting = False

    def before_experience(self, learner, experience):
        self.resting = experience.phase == "rest"

    def transform_update(self, learner, before):
        if self.resting:
            with torch.no_grad():
                for name, value in before.items():
                    learner.parameters[name].copy_(value)


class Lazy(Strategy):
    "Rests at a learning rate of 0."

    resting = False

    def before_experience(self, learner, experience):
        self.resting = experience.phase == "rest"

    def transform_gradient(self, learner):
        if self.resting:
            for group in learner.optimizer.param_groups:
                group["lr"] = 0.0 * group["lr"]


@hookimpl
def seqmem_strategy():
    return [StrategySpec(name, "1", "idle in the rest", lambda options, build=build: build())
            for name, build in (("undo", Undo), ("lazy", Lazy))]
"""
MEASURES = ("learning_accuracy", "rest_loss", "general_ability", "retention")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Six seeds of naive and of both, on a random model."""
    folder = tmp_path_factory.mktemp("idle")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(write_stranger(folder, IDLE, "undo", "lazy"))
        registry = Registry.from_environment()
        model = small_model(folder / "model")
        rows = [row(name, model, registry, folder) for name in ("naive", "undo", "lazy")]
    metrics = [installed().load("metric", name) for name in MEASURES]
    return tabulate(rows, metrics, {"memory_loops": "retention"}).boards[0]


def row(strategy: str, model: Path, registry: Registry, folder: Path) -> Row:
    facts: Mapping[str, str] = {"scenario": "memory_loops", "model": "small", "strategy": strategy}
    runs = {
        seed: finish(
            planned(model, strategy, registry=registry, seed=seed),
            folder / f"{strategy}-{seed}",
            registry=registry,
        )
        for seed in range(6)
    }
    return Row(strategy, facts, runs, reference="naive")


@pytest.mark.parametrize("strategy", ["undo", "lazy"])
def test_an_idle_rest_has_no_rank(compared: Comparison, strategy: str) -> None:
    assert compared.ranks[strategy] is None
    assert "rest_loss is worse than naive's by more than 0.05" in compared.no_rank[strategy]
    assert "not ranked: " in compared.verdicts[strategy].text
    assert compared.verdicts["naive"].unranked == ""
    fall = {label: compared.cells[label, "rest_loss.fall"].interval for label in ("naive", strategy)}
    assert fall["naive"] is not None and fall["naive"].mean > 0.1
    assert fall[strategy] is not None and fall[strategy].mean == 0
