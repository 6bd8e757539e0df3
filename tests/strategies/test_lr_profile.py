"""`lr_profile`: a learning rate that changes over depth, exact to one optimizer per depth, at the same total."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import Kind, make_model_folder, neox
from small_runs import carry_out, finish, planned, results, small_model

from seqmem import Example, Experience, Strategy, UsageError
from seqmem.core.recipe import OptimizerSettings
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import Footprint
from seqmem.record.reader import RunRecord
from seqmem.training.learner import Learner
from seqmem_plugins.strategies.lr_profile import LrProfile, LrProfileOptions, factors

SHAPES: dict[str, tuple[int, ...]] = {
    "gpt_neox.embed_in.weight": (10, 4),  # 40 numbers at depth 0
    "gpt_neox.layers.0.mlp.weight": (4, 4),  # 20 at depth 1
    "gpt_neox.layers.0.mlp.bias": (4,),
    "gpt_neox.layers.1.mlp.weight": (6, 5),  # 30 at depth 2
    "gpt_neox.layers.2.mlp.weight": (5, 2),  # 10 at depth 3
    "gpt_neox.final_layer_norm.weight": (4,),  # 44 at depth 4
    "embed_out.weight": (10, 4),
}
NUMBERS = (40, 20, 30, 10, 44)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def options_of(**values: Any) -> LrProfileOptions:
    return LrProfileOptions.model_validate(values)


def by_depth(**values: Any) -> list[float]:
    """The factor at every depth of the shapes above."""
    found = factors(options_of(**values), SHAPES)
    assert found["gpt_neox.layers.0.mlp.weight"] == found["gpt_neox.layers.0.mlp.bias"]
    assert found["gpt_neox.final_layer_norm.weight"] == found["embed_out.weight"]
    blocks = [next(f for name, f in found.items() if f"layers.{block}." in name) for block in range(3)]
    return [found["gpt_neox.embed_in.weight"], *blocks, found["embed_out.weight"]]


# -- the factors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"first": 0, "last": 2}, [0, 0.5, 1, 1.5, 2]),
        ({"first": 3, "last": 1}, [3, 2.5, 2, 1.5, 1]),
        ({"shape": "geometric", "first": 0.01, "last": 100}, [0.01, 0.1, 1, 10, 100]),
        ({"shape": "geometric", "first": 16, "last": 1}, [16, 8, 4, 2, 1]),
        ({"shape": "custom", "rates": [5, 0, 2, 7, 1]}, [5, 0, 2, 7, 1]),
    ],
)
def test_factors_by_hand(options: dict[str, Any], expected: list[float]) -> None:
    assert by_depth(**options, match_budget=False) == pytest.approx(expected, rel=1e-12)
    spent = sum(factor * count for factor, count in zip(expected, NUMBERS, strict=True))
    matched = by_depth(**options)
    assert matched == pytest.approx([factor * 144 / spent for factor in expected], rel=1e-12)
    assert sum(factor * count for factor, count in zip(matched, NUMBERS, strict=True)) == pytest.approx(144)


def test_the_budget_of_one_profile_in_numbers() -> None:
    """0, .5, 1, 1.5, 2 over 40, 20, 30, 10 and 44 numbers spend 143; the constant rate spends 144."""
    assert by_depth(first=0, last=2)[4] == 2 * 144 / 143


def test_a_constant_profile_is_the_constant_rate() -> None:
    for options in ({"first": 3, "last": 3}, {"shape": "geometric", "first": 0.2, "last": 0.2}):
        assert by_depth(**options) == pytest.approx([1] * 5, rel=1e-12)


# -- training -------------------------------------------------------------------------------------------


def learner_of(settings: OptimizerSettings) -> Learner:
    return Learner(neox(), settings, torch.device("cpu"), 0)


def train(learner: Learner, strategy: Strategy, steps: int) -> None:
    """The loop's step as far as it matters here."""
    mask = np.ones(16, np.bool_)
    for _ in range(steps):
        draw = np.random.default_rng(learner.step)
        rows = [Example(draw.integers(0, 64, 16).astype(np.int32), mask) for _ in range(4)]
        loss, _, _ = learner.loss(rows)
        loss.backward()
        before = learner.copy_parameters()
        learner.optimizer.step()
        strategy.transform_update(learner, before)
        learner.optimizer.zero_grad(set_to_none=True)
        learner.step += 1


SETTINGS = {
    "adam": OptimizerSettings(name="adam", lr=1e-3),
    "adamw with decay": OptimizerSettings(name="adamw", lr=1e-3, weight_decay=0.1),
    "sgd with momentum": OptimizerSettings(name="sgd", lr=0.02, momentum=0.9, weight_decay=0.01),
}


@pytest.mark.parametrize("optimizer", SETTINGS)
def test_the_profile_equals_an_optimizer_with_a_rate_per_group(optimizer: str) -> None:
    settings, options = SETTINGS[optimizer], options_of(first=0.1, last=4)
    learner, grouped, plain = (learner_of(settings) for _ in range(3))
    shapes = {name: tuple(parameter.shape) for name, parameter in learner.parameters.items()}
    wanted = factors(options, shapes)
    assert len(set(wanted.values())) == 4
    (group,) = grouped.optimizer.param_groups
    grouped.optimizer.param_groups = [
        {**group, "params": [grouped.parameters[name]], "lr": settings.lr * factor}
        for name, factor in wanted.items()
    ]
    train(learner, LrProfile(options), 27)
    train(grouped, Strategy(), 27)
    train(plain, Strategy(), 27)
    unlike_naive = 0.0
    for name, parameter in learner.parameters.items():
        end = parameter.detach()
        torch.testing.assert_close(end, grouped.parameters[name].detach(), rtol=0, atol=2e-5)
        unlike_naive = max(unlike_naive, float((end - plain.parameters[name].detach()).abs().max()))
    assert unlike_naive > 5e-3


def test_what_the_step_is_compared_with_is_left_and_a_rate_of_0_changes_nothing() -> None:
    learner = learner_of(SETTINGS["adam"])
    strategy = LrProfile(options_of(shape="custom", rates=[0, 1, 0, 2]))
    start = {name: parameter.detach().clone() for name, parameter in learner.parameters.items()}
    train(learner, strategy, 1)
    for name, parameter in learner.parameters.items():
        assert torch.equal(learner.before[name], start[name])
        still = "embed_in" in name or "layers.1." in name
        assert torch.equal(parameter.detach(), start[name]) == still, name


def test_the_factors_follow_a_model_that_grows() -> None:
    learner, strategy = learner_of(SETTINGS["sgd with momentum"]), LrProfile(options_of(first=1, last=2))
    train(learner, strategy, 1)
    strategy.after_experience(learner, Experience(0, "loop 0", "loop", 0, ()))
    learner.adopt(neox(blocks=3))
    start = {name: parameter.detach().clone() for name, parameter in learner.parameters.items()}
    train(learner, strategy, 1)
    assert any("layers.2." in name for name in start)
    assert all(not torch.equal(p.detach(), start[name]) for name, p in learner.parameters.items())


# -- whole runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"strategy.shape": "custom"}, "shape=custom needs rates, one per depth"),
        (
            {"strategy.shape": "custom", "strategy.rates": [1, 2]},
            "strategy.lr_profile.rates has 2 values, the model has 4 depths: embeddings, 2 blocks, what comes after",
        ),
        ({"strategy.rates": [1, 1, 1, 1]}, "rates are read with shape=custom only, shape=linear"),
        (
            {"strategy.shape": "custom", "strategy.rates": [1, 1, 1, 1], "strategy.first": 2},
            "first and last are not read with shape=custom",
        ),
        ({"strategy.shape": "geometric", "strategy.first": 0}, "needs first and last above 0, got 0, 1"),
        ({"strategy.first": 0, "strategy.last": 0}, "every rate is 0"),
        ({"strategy.shape": "custom", "strategy.rates": [0, 0, 0, 0]}, "every rate is 0"),
        ({"strategy.first": -1}, "must be: number >= 0"),
        ({"strategy.shape": "cubic"}, "must be: linear | geometric | custom"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(options: dict[str, Any], reason: str, model: Path) -> None:
    with pytest.raises(UsageError) as refused:
        planned(model, "lr_profile", options)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_model_without_blocks_is_refused_while_planning() -> None:
    shapes: dict[str, tuple[int, ...]] = {"table": (7, 7), "bias": (7,)}
    spec = Registry.from_environment().load("strategy", "lr_profile")
    assert spec.check_model is not None
    with pytest.raises(UsageError, match=r"finds no transformer blocks in the names .* e.g. 'bias'"):
        spec.check_model(options_of(), Footprint(shapes, 4, (), {}, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["gpt_neox", "opt", "gpt2", "llama"])  # two of these tie their embeddings
def test_a_weight_file_and_the_loaded_model_have_the_same_depths(kind: Kind, tmp_path: Path) -> None:
    """Else planning would accept what training refuses, and the budget would be another."""
    from transformers import AutoModelForCausalLM

    folder = make_model_folder(kind, tmp_path, max_positions=512)
    run = planned(folder, "lr_profile")
    assert run.extra_bytes == run.parameter_bytes  # the host's copy and nothing else
    learner = Learner(
        AutoModelForCausalLM.from_pretrained(folder), run.recipe.optimizer, torch.device("cpu"), 0
    )
    shapes = {name: tuple(parameter.shape) for name, parameter in learner.parameters.items()}
    loaded = factors(options_of(), shapes)
    assert len(set(loaded.values())) == 4
    budget = math.fsum(factor * math.prod(shapes[name]) for name, factor in loaded.items())
    assert budget == pytest.approx(sum(math.prod(shape) for shape in shapes.values()))
    assert loaded[next(name for name in shapes if "embed" in name or "wte" in name)] == min(loaded.values())


def test_a_stopped_run_ends_as_if_it_never_was(model: Path, tmp_path: Path) -> None:
    run = planned(model, "lr_profile", {"scenario.cycles": 1})
    reference = finish(run, tmp_path / "reference")
    naive = finish(planned(model, "naive", {"scenario.cycles": 1}), tmp_path / "naive")
    assert reference.info["final_weights"] != naive.info["final_weights"]
    assert reference.info["extra_state_bytes"] == run.extra_bytes
    stopped = carry_out(run, tmp_path / "stopped", should_stop=lambda: True)
    assert stopped[-1]["event"] != "finished"
    assert carry_out(run, tmp_path / "stopped", resume=True)[-1] == {"event": "finished"}
    assert results(RunRecord.open(tmp_path / "stopped")) == results(reference)
