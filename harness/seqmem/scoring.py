"""Asking probes: one teacher-forced forward instead of token-by-token generation.

Greedy decoding yields the answer exactly when the argmax at every answer position, given the true tokens
before it, is the answer's token. One forward therefore decides right or wrong and gives the log-probability
for free. Rows are padded on the right: causal attention never looks there, so no mask is needed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from seqmem.types import Probe

ROW_TOKENS = 4096
"""Tokens per forward, padding included: bounds the memory a forward takes."""
EVEN_TOKENS = 256
"""A forward of at least so many tokens is efficient; it takes no row that would pad the others much."""
EVEN = 1.1
"""Longest row of such a forward in units of its shortest."""


@dataclass(frozen=True)
class Answers:
    """One entry per probe, in the order asked.

    Attributes:
        logprob: of the whole answer, nats.
        correct: greedy decoding gives exactly the answer.
        best_other: highest log-probability among the other choices, None without choices.
        choice: index of the most probable choice, None without choices.
    """

    logprob: list[float]
    correct: list[bool]
    best_other: list[float | None]
    choice: list[int | None]


@dataclass(frozen=True)
class _Rows:
    """A padded block of rows and the positions whose logits are read.

    `ids` (R, T); for each read position its `row`, its `position` (the token before the target) and its
    `target`; `owner` says which of the probe set's rows it belongs to. `kept` are the positions read in any
    row, ascending, and `place` is where a read position stands in them.
    """

    ids: Tensor
    row: Tensor
    position: Tensor
    target: Tensor
    owner: Tensor
    kept: Tensor
    place: Tensor


class ProbeSet:
    """Probes laid out once as padded blocks, asked many times."""

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        """Lay out the answers, and the choices where a probe has any."""
        self.probes = tuple(probes)
        # (input ids, answer start) of every row; a choice equal to the answer shares the answer's row
        rows = [(probe.input_ids, probe.answer_start) for probe in self.probes]
        self._choice_rows: list[list[int]] = []
        for index, probe in enumerate(self.probes):
            prefix, answer = probe.input_ids[: probe.answer_start], probe.input_ids[probe.answer_start :]
            own: list[int] = []
            for choice in probe.choices:
                if choice == answer:
                    own.append(index)
                else:
                    own.append(len(rows))
                    rows.append((prefix + choice, probe.answer_start))
            self._choice_rows.append(own)
        self._rows = len(rows)
        self.tokens = sum(len(ids) for ids, _ in rows)
        self._blocks = [_lay_out(block, device) for block in _blocks(rows)]

    @torch.no_grad()
    def ask(self, model: nn.Module) -> Answers:
        """Score every probe; the model, its mode and the random state are left as they were."""
        training = model.training
        model.eval()
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        logprob = torch.zeros(self._rows, dtype=torch.float64)
        wrong = torch.zeros(self._rows, dtype=torch.int64)
        for block in self._blocks:
            if keeps:  # a large vocabulary's logits at positions nobody reads would fill the memory
                output = model(input_ids=block.ids, use_cache=False, logits_to_keep=block.kept)
                logits = output.logits[block.row, block.place].float()
            else:
                output = model(input_ids=block.ids, use_cache=False)
                logits = output.logits[block.row, block.position].float()
            picked = logits.gather(1, block.target[:, None])[:, 0] - logits.logsumexp(1)
            logprob.index_add_(0, block.owner, picked.double().cpu())
            wrong.index_add_(0, block.owner, (logits.argmax(1) != block.target).long().cpu())
        model.train(training)
        scores = logprob.numpy()
        best_other: list[float | None] = []
        choice: list[int | None] = []
        for index, own in enumerate(self._choice_rows):
            others = [scores[row] for row in own if row != index]
            best_other.append(float(max(others)) if others else None)
            choice.append(int(np.argmax(scores[own])) if own else None)
        count = len(self.probes)
        return Answers(
            logprob=scores[:count].tolist(),
            correct=(wrong[:count] == 0).tolist(),
            best_other=best_other,
            choice=choice,
        )


def _blocks(rows: Sequence[tuple[tuple[int, ...], int]]) -> list[list[tuple[int, tuple[int, ...], int]]]:
    """Group rows of like length, each group at most ROW_TOKENS with its padding, and little of that."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
    blocks: list[list[tuple[int, tuple[int, ...], int]]] = []
    for index in order:
        ids, start = rows[index]
        count = len(blocks[-1]) if blocks else 0
        enough = count * len(ids) >= EVEN_TOKENS and len(ids) > EVEN * len(blocks[-1][0][1])
        if not count or enough or (count + 1) * len(ids) > ROW_TOKENS:
            blocks.append([])
        blocks[-1].append((index, ids, start))
    return blocks


def _lay_out(block: Sequence[tuple[int, tuple[int, ...], int]], device: torch.device) -> _Rows:
    width = max(len(ids) for _, ids, _ in block)
    padded = np.zeros((len(block), width), dtype=np.int64)
    row, position, target, owner = [], [], [], []
    for line, (index, ids, start) in enumerate(block):
        padded[line, : len(ids)] = ids
        for place in range(start, len(ids)):
            row.append(line)
            position.append(place - 1)
            target.append(ids[place])
            owner.append(index)
    kept, place_of = np.unique(position, return_inverse=True)
    return _Rows(
        ids=torch.from_numpy(padded).to(device),
        row=torch.tensor(row, device=device),
        position=torch.tensor(position, device=device),
        target=torch.tensor(target, device=device),
        owner=torch.tensor(owner),
        kept=torch.from_numpy(kept).to(device),
        place=torch.from_numpy(place_of).to(device),
    )
