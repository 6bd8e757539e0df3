"""Preset `anticipatory` is the training of Yang et al. 2024 (arXiv 2403.09613), written here once more by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from model_folders import Kind
from small_runs import finish, planned, small_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from seqmem.planning.grid import PlannedRun
from seqmem.record.reader import RunRecord
from seqmem_scenarios.embedded import locate
from seqmem_scenarios.world import background

Losses = npt.NDArray[np.float64]


def by_hand(
    model_folder: Path, seed: int, documents: int, epochs: int, steps: int, lr: float, length: int = 256
) -> Losses:
    """Loss of every document before training and after each document trained: (epochs * documents + 1, documents).

    Documents in a fixed order, each trained alone for some gradient steps of plain SGD. The world's documents are
    short: four of them make one of 256 tokens, one makes one of 64.
    """
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    parts = length // 64
    texts = ["\n".join(background(seed, parts * n + part) for part in range(parts)) for n in range(documents)]
    rows = [tokenizer(text, return_tensors="pt").input_ids[:, :length] for text in texts]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    width = max(row.shape[1] for row in rows)
    padded = torch.cat([torch.nn.functional.pad(row, (0, width - row.shape[1])) for row in rows])
    mask = torch.cat(
        [torch.nn.functional.pad(torch.ones_like(row), (0, width - row.shape[1])) for row in rows]
    )

    def evaluate() -> list[float]:
        model.eval()
        with torch.no_grad():
            logits = model(input_ids=padded, attention_mask=mask).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), padded[:, 1:], reduction="none")
            return ((loss * mask[:, 1:]).sum(1) / mask[:, 1:].sum(1)).tolist()

    losses = [evaluate()]
    for _ in range(epochs):
        for row in rows:
            model.train()
            for _ in range(steps):
                optimizer.zero_grad()
                model(input_ids=row, labels=row).loss.backward()
                optimizer.step()
            losses.append(evaluate())
    return np.array(losses)


def recorded(record: RunRecord) -> Losses:
    """The same array from a run's record, in nats per token."""
    asked = record.asked(schedule="boundary", relation="general")
    table = (-asked["logprob"] / asked["tokens"]).groupby([asked["step"], asked["task_label"]]).first()
    return table.unstack("task_label").sort_index().to_numpy()


def anticipatory(model: Path, options: dict[str, Any] | None = None, **request: Any) -> PlannedRun:
    return planned(model, "naive", options, small=False, preset="anticipatory", **request)


def smaller(folder: Path) -> Path:
    """The folder with a model of one layer of width 16: 1250 steps of 256 tokens take some seconds."""
    config = AutoConfig.from_pretrained(folder)
    config.update({"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "head_dim": 8})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def test_the_preset_is_the_published_setting(tmp_path: Path) -> None:
    run = anticipatory(small_model(tmp_path))
    scenario, optimizer = run.recipe.scenario.options, run.recipe.optimizer
    assert (scenario["loops"], scenario["cycles"], scenario["repeats"]) == (25, 5, 10)
    assert (scenario["batch_size"], scenario["row_tokens"], scenario["prose_steps"]) == (1, 256, 1)
    assert (scenario["facts_per_loop"], scenario["rest"], scenario["order"]) == (0, "none", "cyclic")
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("sgd", 1e-3, 0)
    assert (optimizer.weight_decay, optimizer.clip) == (0, None)
    assert run.outline.steps == 25 * 5 * 10


def test_documents_fill_their_256_tokens_as_a_rule(tmp_path: Path) -> None:
    record = finish(
        anticipatory(small_model(tmp_path / "model"), {"scenario.cycles": 1, "scenario.repeats": 1}),
        tmp_path / "run",
    )
    assert (record.steps["tokens"] <= 256).all()
    assert (record.steps["tokens"] == 256).mean() > 0.8
    assert (record.steps["targets"] == record.steps["tokens"] - 1).all()


def agrees_on_the_whole_shape(kind: Kind, seed: int, length: int, repeats: int, folder: Path) -> None:
    """25 documents, 5 epochs, some gradient steps each, all documents read after each document."""
    model = smaller(small_model(folder / "model", kind))
    options = {"scenario.row_tokens": length, "scenario.repeats": repeats}
    record = finish(anticipatory(model, options, seed=seed), folder / "run")
    expected = by_hand(model, seed, documents=25, epochs=5, steps=repeats, lr=1e-3, length=length)
    losses = recorded(record)
    assert losses.shape == expected.shape == (5 * 25 + 1, 25)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert np.abs(losses[-1] - losses[0]).max() > 1e-3  # it did train
    print(f"\n{kind}, {length} tokens: largest relative difference {np.abs(losses / expected - 1).max():.1e}")


def test_25_documents_and_5_epochs_give_the_loss_array_of_a_plain_loop(tmp_path: Path) -> None:
    agrees_on_the_whole_shape("gpt_neox", 0, 64, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [("gpt_neox", 1), ("llama", 3)])
def test_the_whole_preset_gives_the_loss_array_of_a_plain_loop(kind: Kind, seed: int, tmp_path: Path) -> None:
    agrees_on_the_whole_shape(kind, seed, 256, 10, tmp_path)


def test_it_agrees_while_the_model_learns_in_earnest(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    options = {"scenario.loops": 6, "scenario.cycles": 3, "scenario.repeats": 5}
    record = finish(anticipatory(model, options, lr=0.05), tmp_path / "run")
    expected = by_hand(model, 0, documents=6, epochs=3, steps=5, lr=0.05)
    np.testing.assert_allclose(recorded(record), expected, rtol=1e-5)
    assert (expected[-1] < expected[0] - 0.5).all()
    print(f"\nlargest relative difference {np.abs(recorded(record) / expected - 1).max():.1e}")


def test_it_agrees_on_the_shipped_model(tmp_path: Path) -> None:
    options = {"scenario.loops": 4, "scenario.cycles": 2, "scenario.repeats": 3}
    record = finish(anticipatory(Path("tiny"), options), tmp_path / "run")
    folder = locate("tiny")
    assert folder is not None
    expected = by_hand(folder, 0, documents=4, epochs=2, steps=3, lr=1e-3)
    np.testing.assert_allclose(recorded(record), expected, rtol=1e-5)


def test_another_order_of_the_documents_is_told_apart(tmp_path: Path) -> None:
    """The comparison above is not an accident: the shuffled control gives another array."""
    model = small_model(tmp_path / "model")
    options = {"scenario.loops": 4, "scenario.cycles": 2, "scenario.repeats": 3, "scenario.order": "shuffled"}
    record = finish(anticipatory(model, options, lr=0.3), tmp_path / "run")
    expected = by_hand(model, 0, documents=4, epochs=2, steps=3, lr=0.3)
    assert recorded(record).shape == expected.shape
    assert not np.allclose(recorded(record), expected, rtol=1e-4)
