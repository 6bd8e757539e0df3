"""A batch read in parts trains what the whole batch trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import make_model_folder
from small_runs import finish, planned, small_model

from seqmem import Example, pack
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.models import ModelChoice
from seqmem.training.learner import Learner
from seqmem.training.model import load_model
from seqmem.training.rows import parts

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder("llama", tmp_path_factory.mktemp("model"))  # without dropout


def learner_of(folder: Path, micro_tokens: int | None, **settings: Any) -> Learner:
    model = load_model(folder, ModelChoice(name=str(folder))).double()
    return Learner(model, OptimizerSettings(**settings), CPU, 0, micro_tokens=micro_tokens)


def rows(step: int) -> list[Example]:
    """Plain, weighted, packed and nearly untargeted rows of many lengths."""
    drawn = np.random.default_rng(step)

    def row(length: int, *, weighted: bool = False, share: float = 0.7) -> Example:
        mask = drawn.random(length) < share
        mask[1] = True
        weights = drawn.uniform(0.1, 5, length).astype(np.float32) if weighted else None
        return Example(drawn.integers(1, 500, length).astype(np.int32), mask, (), weights)

    return [
        *(row(int(length)) for length in drawn.integers(4, 60, 6)),
        row(30, weighted=True),
        row(80, share=0.01),
        *pack([row(9), row(14, weighted=True), row(5)], 32),
    ]


def trained(learner: Learner, steps: int) -> tuple[list[float], torch.Tensor]:
    losses = []
    for step in range(steps):
        loss, tokens, targets = learner.accumulate(rows(step))
        assert tokens == sum(len(row.input_ids) for row in rows(step)) and targets > 0
        losses.append(loss.item())
        learner.clip()
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
    return losses, torch.cat([p.detach().flatten() for p in learner.parameters.values()])


@pytest.mark.parametrize(("micro_tokens", "steps"), [(1, 10), (64, 50), (200, 10)])
def test_steps_in_parts_are_steps_of_whole_batches(folder: Path, micro_tokens: int, steps: int) -> None:
    """To 1e-6 relative, in float64: in float32 Adam would magnify the rounding of gradients near 0."""
    settings = {"lr": 1e-3, "clip": 1.0}
    whole, expected = trained(learner_of(folder, None, **settings), steps)
    split, found = trained(learner_of(folder, micro_tokens, **settings), steps)
    assert len(parts(rows(0), micro_tokens)) > 1
    assert split == pytest.approx(whole, rel=1e-6)
    assert (found - expected).norm() <= 1e-6 * expected.norm()
    assert whole[-1] != whole[0]


@pytest.mark.parametrize("micro_tokens", [1, 64, 100, 10_000])
def test_parts_hold_every_row_once_and_no_more_tokens_than_allowed(micro_tokens: int) -> None:
    given = rows(3)
    found = parts(given, micro_tokens)
    assert sorted(map(id, given)) == sorted(id(row) for part in found for row in part)
    for part in found:
        size = len(part) * max(len(row.input_ids) for row in part)
        assert size <= micro_tokens or len(part) == 1
    assert parts(given, None) == [given]


def most_rows(learner: Learner, seen: list[int]) -> None:
    """Note the tokens of every forward in training."""

    def note(module: Any, arguments: Any, given: Any) -> None:
        if torch.is_grad_enabled():
            seen.append(given["input_ids"].numel())

    learner.model.register_forward_pre_hook(note, with_kwargs=True)


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("replay", {}),
        ("ewc", {"strategy.lam": 10.0}),
        ("cosine_steer", {"strategy.space": "gradient"}),
        ("avalanche:AGEM", {}),
        ("lora", {"strategy.adapters": "per_task"}),
    ],
)
def test_strategies_that_rehearse_route_or_read_gradients_see_the_whole_batch(
    strategy: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = small_model(tmp_path / "model", "llama")
    options = {**options, "optimizer.name": "sgd", "optimizer.lr": 0.01}
    plain = planned(model, strategy, options, probing="none")
    split = planned(model, strategy, options, micro_tokens=100, probing="none")
    assert split.recipe.id != plain.recipe.id and split.recipe.micro_tokens == 100
    whole, parted = finish(plain, tmp_path / "whole"), finish(split, tmp_path / "parts")
    for name in ("loss", "penalty", "grad_norm"):
        np.testing.assert_allclose(parted.steps[name], whole.steps[name], rtol=1e-4, atol=1e-6)
    for name in ("tokens", "targets", "rehearsed"):
        assert parted.steps[name].tolist() == whole.steps[name].tolist()
    assert parted.info["final_weights"] != whole.info["final_weights"]  # by rounding: it was read in parts
    measured: Sequence[Any] = (parted.measured["value"], whole.measured["value"])
    np.testing.assert_allclose(measured[0], measured[1], rtol=1e-3, atol=1e-5)


def test_no_forward_in_training_is_larger_than_asked(tmp_path: Path) -> None:
    from small_runs import installed, job_of

    from seqmem.training import run as runner

    model = small_model(tmp_path / "model")
    run, _ = runner.build_run(job_of(planned(model, micro_tokens=120), tmp_path / "run"), installed())
    seen: list[int] = []
    most_rows(run.learner, seen)
    from seqmem.training.loop import train

    train(run)
    assert len(seen) > run.learner.step == 16
    assert max(seen) <= 120


def test_auto_is_a_number_of_the_model_and_the_scenario_not_of_the_machine(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    run = planned(model, micro_tokens="auto")
    tokens = run.recipe.micro_tokens
    assert tokens is not None and tokens >= run.outline.longest_row
    row = run.outline.longest_row
    assert (
        run.activations.in_training(tokens, row) <= 2 * 2**30 < run.activations.in_training(tokens + 64, row)
    )
    assert run.recipe.id == planned(model, micro_tokens=tokens).recipe.id
