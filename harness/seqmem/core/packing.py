"""Packing: several documents of their own lengths in one training row of a fixed length, and back.

A packed row spends no room on padding. Its `segments` number the documents, and the learner keeps attention,
positions and loss inside each of them, so that a document trains as it would in a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from seqmem.core.data import BoolArray, Example, FloatArray, IntArray
from seqmem.core.errors import UsageError


def pack(documents: Sequence[Example], length: int, *, crossing: bool = False) -> list[Example]:
    """Lay documents into rows of at most `length` tokens, first fit: each into the first row with room for it.

    The order is kept inside a row. No token, target, weight or fact is lost or added. A document's first
    token has nothing before it and is not a target.

    Args:
        documents: rows of one document each.
        length: most tokens of a packed row.
        crossing: leave the borders out, so that the learner reads a packed row as one document: attention
            and positions run across from each document to the next. The targets are the same.

    Returns:
        Rows with `segments`; without them where `crossing`.

    Raises:
        UsageError: a document is longer than `length`.
    """
    rows: list[list[Example]] = []
    room: list[int] = []
    for document in documents:
        size = len(document.input_ids)
        if size > length:
            raise UsageError(
                f"a document of {size} tokens does not fit a packed row of {length}; use longer rows"
            )
        place = next((row for row, left in enumerate(room) if left >= size), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(length)
        rows[place].append(document)
        room[place] -= size
    return [_joined(row, crossing) for row in rows]


def unpack(row: Example) -> Iterator[Example]:
    """Yield the documents of a packed row, one row each.

    All its facts go with the first, because a packed row does not say which document states which fact.
    """
    if row.segments is None:
        yield row
        return
    ends = [*(np.flatnonzero(np.diff(row.segments)) + 1).tolist(), len(row.segments)]
    start = 0
    for end in ends:
        part = slice(start, end)
        weights = None if row.weights is None else row.weights[part]
        yield Example(row.input_ids[part], row.loss_mask[part], () if start else row.facts, weights)
        start = end


def _joined(documents: Sequence[Example], crossing: bool) -> Example:
    masks = [_without_first(document.loss_mask) for document in documents]
    return Example(
        input_ids=np.concatenate([document.input_ids for document in documents]),
        loss_mask=np.concatenate(masks),
        facts=tuple(fact for document in documents for fact in document.facts),
        weights=_joined_weights(documents),
        segments=None if crossing else _numbered(documents),
    )


def _without_first(mask: BoolArray) -> BoolArray:
    mask = mask.copy()
    mask[0] = False
    return mask


def _joined_weights(documents: Sequence[Example]) -> FloatArray | None:
    """Return all weights in one array, 1 where a document has none; None where no document has any."""
    if all(document.weights is None for document in documents):
        return None
    return np.concatenate(
        [
            np.ones(len(document.input_ids), dtype=np.float32)
            if document.weights is None
            else document.weights
            for document in documents
        ]
    )


def _numbered(documents: Sequence[Example]) -> IntArray:
    """Return for every token the number of its document."""
    sizes = [len(document.input_ids) for document in documents]
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
