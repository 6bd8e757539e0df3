"""Bars, and the parts that every measurement needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from seqmem import Batch, Example
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.models import ModelChoice, resolve
from seqmem.plugin.registry import Registry
from seqmem.training.learner import Learner
from seqmem.training.model import load_model

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Bar:
    """A figure and what it must keep to.

    Attributes:
        note: how it was measured, or why it is not reached.
    """

    name: str
    figure: float
    limit: float
    kind: Literal["at most", "at least"] = "at most"
    note: str = ""

    @property
    def reached(self) -> bool:
        """Return whether the figure keeps to the limit."""
        return self.figure <= self.limit if self.kind == "at most" else self.figure >= self.limit


def interleaved(work: Mapping[str, Callable[[], object]], rounds: int = 15) -> dict[str, list[float]]:
    """Seconds of each piece of work, one call of each per round; the first round warms up and is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, do in work.items():
            started = time.perf_counter()
            do()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def tiny() -> Any:
    """The embedded model of about a million parameters, in training mode."""
    choice = ModelChoice(name="tiny")
    model = load_model(resolve(choice, Registry.from_environment()).folder, choice)
    model.train()
    return model


def random_neox(hidden: int, layers: int, heads: int = 8, vocabulary: int = 1024) -> Any:
    """A GPT-NeoX with random weights, in training mode."""
    from transformers import AutoModelForCausalLM, GPTNeoXConfig

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        vocab_size=vocabulary,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.train()
    return model


def medium() -> Any:
    """About 20 million parameters: 512 wide, 6 blocks."""
    return random_neox(512, 6)


def batch(rows: int = 16, tokens: int = 64, vocabulary: int = 1024, seed: int = 0) -> Batch:
    """Rows of random tokens, the size of a `memory_loops` step unless asked otherwise."""
    draw = np.random.default_rng(seed)
    return tuple(
        Example(draw.integers(1, vocabulary, tokens).astype(np.int32), np.ones(tokens, np.bool_))
        for _ in range(rows)
    )


def learner(
    model: nn.Module, name: Literal["adam", "adamw", "sgd"] = "adam", lr: float = 1e-3, **settings: Any
) -> Learner:
    """A learner as a run makes it."""
    return Learner(model, OptimizerSettings(name=name, lr=lr, **settings), CPU, seed=0)


def naive_step(pupil: Learner, rows: Batch) -> None:
    """The step that every strategy's cost is measured against: the loop's, without records."""
    loss, _, _ = pupil.loss(rows)
    loss.item()
    loss.backward()  # type: ignore[no-untyped-call]
    pupil.clip()
    pupil.optimizer.step()
    pupil.optimizer.zero_grad(set_to_none=True)
