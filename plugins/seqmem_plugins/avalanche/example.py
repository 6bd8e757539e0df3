"""A benchmark of token blocks to try scenario `avalanche` with, and to copy from.

A block is a key of six random tokens and a value of two; only the value is a target. Two functions return
the same blocks: `key_values` in plain lists, so that trying the scenario need not import Avalanche, which takes
seconds; `avalanche_key_values` as Avalanche's own classes, the way a benchmark of your own would.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avalanche.benchmarks import CLScenario

EXPERIENCES = 4
BLOCKS = 16
"""Blocks of an experience; as many are held out."""
KEY, VALUE = 6, 2
"""Tokens of a key and of its value."""
TOKENS = range(1, 91)
"""Token ids of blocks: every model has them, and byte-level ones read them as letters and signs."""

Pair = tuple[list[int], list[int]]
"""Token ids, and the token wanted after each of them, -100 where none is."""


@dataclass(frozen=True)
class Blocks:
    """An experience made of plain lists."""

    dataset: list[Pair]


@dataclass(frozen=True)
class PlainBenchmark:
    """A benchmark as scenario `avalanche` reads it: two streams of experiences that hold datasets."""

    train_stream: list[Blocks]
    test_stream: list[Blocks]


def block(seed: int, role: str, number: int) -> Pair:
    """Return tokens and targets of block `number` of one role, train or test; only the values are targets."""
    drawn = hashlib.sha256(f"{seed} {role} {number}".encode()).digest()
    tokens = [TOKENS[byte % len(TOKENS)] for byte in drawn[: KEY + VALUE]]
    return tokens, [*[-100] * (KEY - 1), *tokens[KEY:], -100]


def _streams(seed: int) -> dict[str, list[list[Pair]]]:
    return {
        role: [[block(seed, role, e * BLOCKS + i) for i in range(BLOCKS)] for e in range(EXPERIENCES)]
        for role in ("train", "test")
    }


def key_values(seed: int = 0) -> PlainBenchmark:
    """Return four experiences of sixteen blocks, and as many that are held out, in plain lists."""
    made = {role: [Blocks(pairs) for pairs in experiences] for role, experiences in _streams(seed).items()}
    return PlainBenchmark(made["train"], made["test"])


def avalanche_key_values(seed: int = 0) -> CLScenario:
    """Return the same blocks as a real Avalanche benchmark."""
    import torch
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import AvalancheDataset

    def dataset(pairs: list[Pair]) -> AvalancheDataset:
        x, y = (torch.tensor(column) for column in zip(*pairs, strict=True))
        return AvalancheDataset([torch.utils.data.TensorDataset(x, y)])

    made = {role: [dataset(pairs) for pairs in experiences] for role, experiences in _streams(seed).items()}
    return benchmark_from_datasets(**made)
