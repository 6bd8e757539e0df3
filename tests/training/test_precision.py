"""Mixed precision: weights, gradients and moments in float32, products of every forward in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import KINDS, Kind, make_model_folder
from small_runs import finish, finished, installed, job_of, planned, small_model

from seqmem import Example, UsageError, pack
from seqmem.cli.app import run as command_line
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.models import ModelChoice
from seqmem.planning.request import Request, read
from seqmem.training.learner import Learner
from seqmem.training.loop import train
from seqmem.training.model import load_model
from seqmem.training.run import build_run

TOLERANCE = 0.02
"""Relative difference of losses from float32's; bfloat16 keeps three digits."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def test_what_is_kept_is_float32_and_what_is_multiplied_bfloat16(model: Path, tmp_path: Path) -> None:
    run, _ = build_run(job_of(planned(model, precision="bf16-mixed"), tmp_path / "run"), installed())
    multiplied: dict[bool, set[torch.dtype]] = {True: set(), False: set()}

    def note(module: Any, given: Any, output: torch.Tensor) -> None:
        multiplied[module.training].add(output.dtype)

    for module in run.learner.model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(note)
    gradients: set[torch.dtype] = set()
    run.strategy.transform_gradient = lambda learner: gradients.update(  # type: ignore[method-assign]
        p.grad.dtype for p in learner.parameters.values() if p.grad is not None
    )
    train(run)
    assert multiplied == {True: {torch.bfloat16}, False: {torch.bfloat16}}  # in training, and when probed
    kept = [*run.learner.parameters.values(), *run.learner.state.tensors().values()]
    assert {tensor.dtype for tensor in kept} == gradients == {torch.float32}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_answers_are_those_of_float32_within_the_stated_tolerance(
    kind: Kind, tmp_path: Path
) -> None:
    folder = small_model(tmp_path / "model", kind)
    short = {"scenario.cycles": 1}
    full = finish(planned(folder, options=short), tmp_path / "full")
    mixed = finish(planned(folder, options=short, precision="bf16-mixed"), tmp_path / "mixed")
    assert full.id != mixed.id and full.info["parameter_bytes"] == mixed.info["parameter_bytes"]
    np.testing.assert_allclose(mixed.steps["loss"], full.steps["loss"], rtol=TOLERANCE)
    per_token = (
        mixed.probes["logprob"] / mixed.probes["tokens"],
        full.probes["logprob"] / full.probes["tokens"],
    )
    np.testing.assert_allclose(*per_token, rtol=5 * TOLERANCE)
    assert mixed.probes["logprob"].iloc[0] != full.probes["logprob"].iloc[0]  # asked before any step


def test_packed_documents_stay_apart(tmp_path: Path) -> None:
    folder = make_model_folder("llama", tmp_path / "model")
    model = load_model(folder, ModelChoice(name=str(folder), dtype="bf16-mixed"))
    learner = Learner(model, OptimizerSettings(), torch.device("cpu"), 0, autocast=torch.bfloat16)

    def document(seed: int, size: int) -> Example:
        ids = np.random.default_rng(seed).integers(1, 500, size).astype(np.int32)
        return Example(ids, np.arange(size) > 0)

    rows = [document(0, 11), document(1, 17)]
    alone, packed = learner.loss(rows)[0].item(), learner.loss(pack(rows, 40))[0].item()
    assert packed == pytest.approx(alone, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("ewc", {}),
        ("lora", {"strategy.adapters": "per_task"}),
        ("freeze_component", {}),
        ("avalanche:LwF", {}),
    ],
)
def test_forwards_that_strategies_make_are_in_the_run_s_precision(
    strategy: str, options: dict[str, Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiplied: set[torch.dtype] = set()
    plain = torch.nn.functional.linear

    def linear(*arguments: Any) -> torch.Tensor:
        output = plain(*arguments)
        multiplied.add(output.dtype)
        return output

    run = planned(model, strategy, {**options, "scenario.cycles": 1}, precision="bf16-mixed")
    built, _ = build_run(job_of(run, tmp_path / "run"), installed())
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    train(built)
    assert multiplied == {torch.bfloat16}


def test_the_earlier_spelling_of_the_option_still_works(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, _ = read(Request, {"scenario": "s", "strategy": "n", "dtype": "bfloat16"}, "bench")
    assert request.precision == "bfloat16"
    with pytest.raises(UsageError, match="unknown --precision 'int8'"):
        read(Request, {"scenario": "s", "strategy": "n", "precision": "int8"}, "bench")
    asked = ["plan", "--scenario", "memory_loops", "--strategy", "naive", "--model", str(model), "--json"]
    said = []
    for option in ("--dtype", "--precision"):
        assert command_line([*asked, "--preset", "smoke", option, "bfloat16"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert finished(planned(model, precision="bfloat16")).recipe["model"]["dtype"] == "bfloat16"
