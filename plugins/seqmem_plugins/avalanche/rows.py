"""Rows of tokens as Avalanche and its plugins take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import DataAttribute, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import TaskAwareSupervisedClassificationDataset
from torch import Tensor
from torch.utils.data import TensorDataset

from seqmem import Example, unpack
from seqmem_plugins.avalanche.targets import NO_TARGET

NO_TASK = -1
"""Task label of rows that belong to no task: Avalanche wants a number."""


def token_tensors(rows: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows side by side, padded on the right to the longest; no row packs documents.

    Returns:
        ids: (B, T) int64, 0 where padded, which causal attention never reads.
        targets: (B, T) int64, at each place the token that comes next, or -100 where it does not count.
        real: (B, T) bool, False where padded.
    """
    width = max(len(row.input_ids) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    targets = np.full((len(rows), width), NO_TARGET, dtype=np.int64)
    real = np.zeros((len(rows), width), dtype=np.bool_)
    for line, row in enumerate(rows):
        length = len(row.input_ids)
        ids[line, :length] = row.input_ids
        real[line, :length] = True
        targets[line, : length - 1] = np.where(row.loss_mask[1:], row.input_ids[1:], NO_TARGET)
    return torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(real)


def token_dataset(rows: Sequence[Example], task_label: int | None) -> Any:
    """Return an Avalanche dataset of (x, y, t): token ids (T,), targets (T,) already shifted, the task label.

    Rows are padded to the longest with id 0 and target -100, and packed ones are split into their documents. The
    data attribute `targets`, for Avalanche the class of each sample, is 0 throughout: rows of tokens have no class.
    `task_label` None is -1.
    """
    ids, targets, _ = token_tensors([document for row in rows for document in unpack(row)])
    label = NO_TASK if task_label is None else task_label
    return TaskAwareSupervisedClassificationDataset(
        [TensorDataset(ids, targets)],
        data_attributes=[DataAttribute([0] * len(ids), "targets"), TaskLabels([label] * len(ids))],
    )
