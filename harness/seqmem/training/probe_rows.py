"""Lay out probes as padded blocks of rows: a prompt, and behind it one answer or several that compete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from seqmem.core.probes import ROW_TOKENS

EVEN_TOKENS = 256
"""A forward of at least this many tokens is efficient; it takes no row that would pad the others much."""
EVEN = 1.1
"""Longest row of such a forward in units of its shortest."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Line:
    """A row: a prompt and the answers scored behind it, each under the number of its score.

    An answer's first token is read at the prompt's last place, so its last token is never fed. Several answers with
    tokens to feed share the prompt: they count positions from its end and do not see each other.
    """

    prompt: Ids
    answers: tuple[tuple[int, Ids], ...]
    given_task: int | None

    @cached_property
    def ids(self) -> Ids:
        """All tokens that are fed."""
        return (*self.prompt, *(token for _, answer in self.answers for token in answer[:-1]))

    @property
    def shared(self) -> bool:
        """Return whether more than one answer is fed."""
        return sum(len(answer) > 1 for _, answer in self.answers) > 1


def lines_of(
    prompt: Ids, answers: Sequence[tuple[int, Ids]], given_task: int | None, *, shared: bool
) -> list[Line]:
    """Return the rows that score these answers: one where they share it, else one for each that is fed.

    Answers of one token are read off the first row.
    """
    if shared:
        return [Line(prompt, tuple(answers), given_task)]
    first, *others = answers
    short = [answer for answer in others if len(answer[1]) == 1]
    long = [answer for answer in others if len(answer[1]) > 1]
    return [Line(prompt, (first, *short), given_task), *(Line(prompt, (own,), given_task) for own in long)]


@dataclass(frozen=True)
class Block:
    """A padded block of rows and the places whose logits are read.

    Attributes:
        ids: (R, T) token ids.
        prompt: (R,) tokens of each row's prompt.
        at: (U,) row and position of each place that is read.
        kept: positions read in any row, ascending.
        place: (U,) where a place's position stands in `kept`.
        read: (N,) the place at which each token of an answer is read.
        target: (N,) that token.
        score: (N,) number of the score it belongs to; the tokens of a score stand together, in their order.
        borders: what the model is given besides, where answers share a row: positions (R, T), and a mask (R, T, T),
            True where a token sees another.
        given_task: the task label given, the same for all rows.
    """

    ids: Tensor
    prompt: Tensor
    at: tuple[Tensor, Tensor]
    kept: Tensor
    place: Tensor
    read: Tensor
    target: Tensor
    score: Tensor
    borders: tuple[Tensor, Tensor] | None
    given_task: int | None


def lay_out(lines: Iterable[Line], device: torch.device, limit: int = ROW_TOKENS) -> list[Block]:
    """Return blocks of rows of like length, each of at most `limit` tokens with its padding, and little of that."""
    order = sorted(lines, key=lambda line: (line.given_task is not None, line.given_task or 0, len(line.ids)))
    blocks: list[list[Line]] = []
    for line in order:
        length, last = len(line.ids), blocks[-1] if blocks else []
        enough = len(last) * length >= EVEN_TOKENS and length > EVEN * len(last[0].ids)
        if not last or last[0].given_task != line.given_task or enough or (len(last) + 1) * length > limit:
            blocks.append([])
        blocks[-1].append(line)
    return [_block(block, device) for block in blocks]


def _block(lines: Sequence[Line], device: torch.device) -> Block:
    width = max(len(line.ids) for line in lines)
    padded = np.zeros((len(lines), width), dtype=np.int64)
    position = np.tile(np.arange(width), (len(lines), 1))
    answer_of = np.zeros((len(lines), width), dtype=np.int64)  # 0 for the prompt
    rows: list[int] = []
    places: list[int] = []
    target: list[int] = []
    score: list[int] = []
    for number, line in enumerate(lines):
        padded[number, : len(line.ids)] = line.ids
        end = start = len(line.prompt)
        for one, (owner, answer) in enumerate(line.answers, start=1):
            stop = start + len(answer) - 1
            position[number, start:stop] = np.arange(end, end + len(answer) - 1)
            answer_of[number, start:stop] = one
            rows += [number] * len(answer)
            places += [end - 1, *range(start, stop)]
            target += answer
            score += [owner] * len(answer)
            start = stop
    unique, read = np.unique(np.stack([rows, places]), axis=1, return_inverse=True)
    kept, place = np.unique(unique[1], return_inverse=True)

    def tensor(array: object) -> Tensor:
        return torch.as_tensor(np.asarray(array, dtype=np.int64), device=device)

    borders = None
    if any(line.shared for line in lines):
        mine, other = answer_of[:, :, None], answer_of[:, None, :]
        sees = np.tril(np.ones((width, width), dtype=np.bool_)) & ((other == 0) | (other == mine))
        borders = (tensor(position), torch.as_tensor(sees, device=device))
    return Block(
        ids=tensor(padded),
        prompt=tensor([len(line.prompt) for line in lines]),
        at=(tensor(unique[0]), tensor(unique[1])),
        kept=tensor(kept),
        place=tensor(place),
        read=tensor(read.reshape(-1)),
        target=tensor(target),
        score=torch.as_tensor(score),
        borders=borders,
        given_task=lines[0].given_task,
    )
