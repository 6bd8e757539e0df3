"""Activations that enter a block, kept per row of token ids as long as everything before the block is frozen.

Attention is causal, so what enters the block at one token depends on the tokens up to it and on nothing behind.
A row is therefore known by its token ids without the id 0 at its end, which pads it, and what was kept of it in
a wider batch serves a narrower one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MIB = 2**20


class PrefixCache:
    """Activations (T, H) by row, up to a limit; rows beyond it are computed at each visit."""

    def __init__(self, limit: int) -> None:
        """Start empty; `limit` in bytes."""
        self._limit = limit
        self._rows: dict[str, Tensor] = {}
        self._bytes = 0
        self.peak = 0

    def hidden(self, input_ids: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return activations (B, T, H) of token ids (B, T).

        Args:
            input_ids: rows padded with id 0 on the right.
            compute: the activations of some rows; called once for all rows that are not kept.
        """
        import torch

        width = input_ids.shape[1]
        keys = [_key(row) for row in input_ids.tolist()]
        missing = [
            line for line, key in enumerate(keys) if key not in self._rows or self._rows[key].shape[0] < width
        ]
        if not missing:
            return torch.stack([self._rows[key][:width] for key in keys])
        with torch.no_grad():
            fresh = dict(zip(missing, compute(input_ids[missing]), strict=True))
        rows = [fresh[line] if line in fresh else self._rows[key][:width] for line, key in enumerate(keys)]
        for line, row in fresh.items():
            self._keep(keys[line], row)
        return torch.stack(rows)

    def _keep(self, key: str, row: Tensor) -> None:
        grown = row.nbytes - (self._rows[key].nbytes if key in self._rows else 0)
        if self._bytes + grown <= self._limit:
            self._rows[key] = row.clone()
            self._bytes += grown
            self.peak = max(self.peak, self._bytes)

    def clear(self) -> None:
        """Forget the rows; the peak stays."""
        self._rows.clear()
        self._bytes = 0

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the rows, by a digest of their token ids."""
        return dict(self._rows)

    def load(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Take back what `tensors` gave; the peak is not included."""
        self._rows = {key: tensor.to(device, copy=True) for key, tensor in tensors.items()}
        self._bytes = sum(tensor.nbytes for tensor in self._rows.values())


def _key(ids: list[int]) -> str:
    """Return a digest of token ids without the zeros at their end."""
    import hashlib

    end = len(ids)
    while end and ids[end - 1] == 0:
        end -= 1
    return hashlib.sha256(str(ids[:end]).encode()).hexdigest()[:32]
