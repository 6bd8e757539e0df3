"""Activations that are computed again in the backward are the same bits, dropout included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from model_folders import KINDS, Kind
from small_runs import carry_out, finish, planned, results, small_model, tables

from seqmem import UsageError


@pytest.mark.parametrize("kind", KINDS)  # OPT and GPT-2 drop units out
def test_a_run_ends_in_the_same_bits_and_has_the_same_id(kind: Kind, tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", kind)
    short = {"scenario.cycles": 1}
    plain = planned(model, "replay", short)
    saving = planned(model, "replay", short, activation_checkpointing=True)
    assert saving.recipe == plain.recipe
    assert saving.activations.in_training(100, 100) < plain.activations.in_training(100, 100)
    expected = finish(plain, tmp_path / "plain")
    found = finish(saving, tmp_path / "saving", activation_checkpointing=True)
    assert results(found) == results(expected)
    assert tables(found.folder) == tables(expected.folder)


def test_blocks_are_computed_twice_in_training_and_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXMLP

    counts = {True: 0, False: 0}
    forward = GPTNeoXMLP.forward

    def counting(self: Any, *arguments: Any, **named: Any) -> Any:
        counts[torch.is_grad_enabled()] += 1
        return forward(self, *arguments, **named)

    monkeypatch.setattr(GPTNeoXMLP, "forward", counting)
    run = planned(small_model(tmp_path / "model"), options={"scenario.cycles": 1})
    finish(run, tmp_path / "plain")
    once = dict(counts)
    finish(run, tmp_path / "saving", activation_checkpointing=True)
    assert counts == {True: 3 * once[True], False: 2 * once[False]}


@pytest.mark.parametrize("strategy", ["lora", "freeze_component"])
def test_a_forward_that_could_not_be_computed_again_is_refused(strategy: str, tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    options = {"strategy.adapters": "per_task"} if strategy == "lora" else {}
    with pytest.raises(UsageError, match=f"strategy {strategy} has a forward of its own.*--micro-tokens"):
        planned(model, strategy, options, activation_checkpointing=True)


def test_a_model_whose_activations_cannot_be_computed_again_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import GPTNeoXForCausalLM

    monkeypatch.setattr(GPTNeoXForCausalLM, "supports_gradient_checkpointing", False)
    events = carry_out(
        planned(small_model(tmp_path / "model")), tmp_path / "run", activation_checkpointing=True
    )
    assert events[-1]["event"] == "refused" and "leave out --activation-checkpointing" in events[-1]["reason"]
