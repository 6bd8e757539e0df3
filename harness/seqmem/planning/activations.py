"""Estimate the memory that a forward takes besides what a run keeps, from the shapes of the weights alone.

Until its backward a forward keeps the input and the output of every matrix and every norm once, the attention
weights where the kernel makes them, and in the end some arrays of logits. One block more is added for what a backward
needs while it runs. With activation checkpointing only the input of every block is kept.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seqmem.core.choices import Attention
from seqmem.core.probes import ROW_TOKENS

BUDGET = 2 * 2**30
"""Bytes that `--micro-tokens auto` lets a forward in training take, per run."""
LOGITS = 6
"""Arrays of logits in training at once, in float32: logits, those of targets, log-probabilities, a gradient of each."""
PROBE_LOGITS = 3
WASTE = 1.3
"""What the allocator comes to after many forwards of different shapes, against a first one."""
STEP = 64
"""`auto` gives a multiple of this."""

_BLOCK = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Activations:
    """Bytes that a model's forwards take; `row` is the longest row in tokens.

    Attributes:
        shapes: shape of every parameter by name.
        config: the model's configuration.
        value_bytes: bytes of a number in the forward; of mixed precision those of the larger type.
        attention: the attention kernel.
        checkpointing: a block's activations are computed again in the backward.
        cast_bytes: of the weights as mixed precision copies them for a forward.
    """

    shapes: Mapping[str, tuple[int, ...]]
    config: Mapping[str, Any]
    value_bytes: int
    attention: Attention
    checkpointing: bool = False
    cast_bytes: int = 0

    def in_training(self, tokens: int, row: int) -> int:
        """Return the bytes of forward and backward of so many tokens, padding included."""
        return self.cast_bytes + math.ceil(tokens * self._per_token(row))

    def in_probing(self, tokens: int) -> int:
        """Return the bytes of asking so many tokens of probes: a bound, as if every position's logits were read."""
        width = max(self._blocks.values(), default=0)
        each = PROBE_LOGITS * 4 * self._vocabulary + width * self.value_bytes
        return self.cast_bytes + min(tokens, ROW_TOKENS) * each

    def fitting(self, row: int) -> int:
        """Return the tokens of a forward in training that stays within `BUDGET`; at least one row of `row` tokens."""
        tokens = int((BUDGET - self.cast_bytes) / self._per_token(row))
        return max(tokens // STEP * STEP, row)

    def _per_token(self, row: int) -> float:
        blocks, outside = self._blocks, self._blocks[""]
        inner = [kept for number, kept in blocks.items() if number]
        scores = row * self._heads * self._score_arrays
        one = max(inner, default=0) + scores
        if self.checkpointing:
            body = len(inner) * self._hidden + one
        else:
            body = sum(inner) + len(inner) * scores
        return WASTE * (LOGITS * 4 * self._vocabulary + self.value_bytes * (outside + body + one))

    @property
    def _vocabulary(self) -> int:
        return int(self.config.get("vocab_size", 0))

    @property
    def _hidden(self) -> int:
        """Width of what goes from block to block: of the embedding."""
        tables = [shape for shape in self.shapes.values() if self._vocabulary in shape]
        return min((min(shape) for shape in tables), default=0)

    @property
    def _heads(self) -> int:
        return int(self.config.get("num_attention_heads") or self.config.get("n_head") or 1)

    @property
    def _score_arrays(self) -> int:
        """Arrays of attention weights that are kept: more with dropout, which no fused kernel takes on a CPU."""
        dropout = self.config.get("attention_dropout") or self.config.get("attn_pdrop")
        if dropout:
            return 4
        return int(self.attention == "eager")

    @property
    def _blocks(self) -> Counter[str]:
        """Numbers kept per token by the number of the block; outside of blocks under the empty name."""
        kept: Counter[str] = Counter({"": 0})
        for name, shape in self.shapes.items():
            block = _BLOCK.search(name)
            if len(shape) > 1 and not (self._vocabulary in shape and block is None):
                kept["" if block is None else block[1]] += sum(shape[-2:])
            elif len(shape) == 1 and not name.endswith("bias"):
                kept["" if block is None else block[1]] += shape[0]
        return kept
