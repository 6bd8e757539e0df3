"""Rows of a batch laid out for a forward, and a batch in parts that are read one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmem.core.data import BoolArray, Example, FloatArray, IntArray


@dataclass(frozen=True)
class Laid:
    """R rows padded on the right with id 0 to T tokens, which causal attention never reads and the loss never counts.

    Attributes:
        ids: (R, T) int64 token ids.
        targets: (R, T) True where a token counts in the loss; the first of a packed document has nothing before it.
        weights: (R, T) weight of each token's loss; None where no row has any.
        segments: (R, T) number of each token's document, -1 for padding; None where no row is packed.
    """

    ids: npt.NDArray[np.int64]
    targets: BoolArray
    weights: FloatArray | None
    segments: IntArray | None

    @property
    def weight(self) -> float:
        """Return the sum of the targets' weights, 1 each where there are none."""
        counted = self.targets[:, 1:]
        return float(counted.sum() if self.weights is None else self.weights[:, 1:][counted].sum(dtype=float))


def lay_out(rows: Sequence[Example]) -> Laid:
    """Return the rows side by side."""
    width = max(len(row.input_ids) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    targets = np.zeros((len(rows), width), dtype=np.bool_)
    weights = np.ones((len(rows), width), dtype=np.float32)
    segments = np.full((len(rows), width), -1, dtype=np.int32)
    for line, row in enumerate(rows):
        size = len(row.input_ids)
        ids[line, :size] = row.input_ids
        targets[line, :size] = row.loss_mask
        segments[line, :size] = 0 if row.segments is None else row.segments
        if row.weights is not None:
            weights[line, :size] = row.weights
    packed = any(row.segments is not None for row in rows)
    if packed:
        targets[:, 1:] &= segments[:, 1:] == segments[:, :-1]
    return Laid(
        ids=ids,
        targets=targets,
        weights=None if all(row.weights is None for row in rows) else weights,
        segments=segments if packed else None,
    )


def parts(rows: Sequence[Example], micro_tokens: int | None) -> list[Sequence[Example]]:
    """Split rows into parts of at most `micro_tokens` tokens with their padding, rows of like length together.

    A longer row is a part of its own. None, or rows that fit, is one part in the order given.
    """
    longest = max(len(row.input_ids) for row in rows)
    if micro_tokens is None or len(rows) * longest <= micro_tokens:
        return [rows]
    found: list[list[Example]] = []
    for row in sorted(rows, key=lambda row: len(row.input_ids)):
        if not found or (len(found[-1]) + 1) * len(row.input_ids) > micro_tokens:
            found.append([])
        found[-1].append(row)
    return list(found)
