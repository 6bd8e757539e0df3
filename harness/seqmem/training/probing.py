"""Asking probes: one teacher-forced forward instead of token-by-token generation.

Greedy decoding yields the answer exactly when the argmax at every answer position, given the true tokens
before it, is the answer's token. One forward therefore decides right or wrong and gives the log-probability
for free. Rows are padded on the right: causal attention never looks there, so no mask is needed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from seqmem.core.data import Decoding, Probe
from seqmem.core.probes import ROW_TOKENS

EVEN_TOKENS = 256
"""A forward of at least this many tokens is efficient; it takes no row that would pad the others much."""
EVEN = 1.1
"""Longest row of such a forward in units of its shortest."""


@dataclass(frozen=True)
class Answers:
    """One entry per probe, in the order asked.

    Attributes:
        logprob: of the whole answer, nats.
        exact_match: greedy decoding gives exactly the answer.
        top_distractor_logprob: highest log-probability among the other choices, None without choices.
        choice: index of the most probable choice, None without choices.
        choice_logprob: log-probability of the answer renormalised over its choices, nats; None where it is not
            among them.
        sampled: probability, 0 to 1, that one sampled answer is exactly the answer, None without decoding.
            Sampling draws a token at a time, so it is the product over the answer's tokens, each given the
            true ones before it: n samples hit with probability 1 - (1 - sampled)^n, without drawing any.
        greedy_tokens: greedy decoding where it gives another answer, up to and with its first wrong token;
            None for a right answer, for documents, and with choices, where `choice` tells more.
    """

    logprob: list[float]
    exact_match: list[bool]
    top_distractor_logprob: list[float | None]
    choice: list[int | None]
    choice_logprob: list[float | None]
    sampled: list[float | None]
    greedy_tokens: list[list[int] | None]


@dataclass(frozen=True)
class _Line:
    """A row to be scored: its tokens, where the answer starts, the task label given, one-token rivals.

    `rivals` maps a token that competes with a one-token answer to the number its score is kept under.
    """

    ids: tuple[int, ...]
    start: int
    given_task: int | None
    rivals: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rows:
    """A padded block of rows and the positions whose logits are read.

    `ids` is (R, T). Each read position has its `row`, its `position` (the token before the target) and its
    `target`. `owner` says which of the probe set's rows it belongs to. `kept` are the positions read in any
    row, ascending, and `place` is where a read position stands in them. `rival_at`, `rival` and `rival_owner`
    are the same for one-token rivals: which read position, which token, which score. `prompt` (R,) counts
    the tokens of each row's prompt. `spans` maps an owner to its first read position and the one past its last.
    All rows are given the same task label.
    """

    ids: Tensor
    prompt: Tensor
    row: Tensor
    position: Tensor
    target: Tensor
    owner: Tensor
    kept: Tensor
    place: Tensor
    rival_at: Tensor
    rival: Tensor
    rival_owner: Tensor
    spans: dict[int, tuple[int, int]]
    given_task: int | None


Forward = Callable[[Tensor, Tensor | None], Tensor]
"""Token ids (B, T) and, when probed, the prompt's tokens in each row (B,) to logits (B, T, V)."""


class ProbeSet:
    """Probes laid out once as padded blocks, asked many times."""

    def __init__(
        self,
        probes: Sequence[Probe],
        device: torch.device,
        decoding: Decoding | None = None,
        routed: bool = False,
    ) -> None:
        """Lay out the answers, and the choices where a probe has any.

        Args:
            probes: what is asked.
            device: where the model lies.
            decoding: sampled decoding whose success probability is wanted too.
            routed: the learner has a forward that a task label may change.
        """
        self.probes = tuple(probes)
        self._decoding = decoding
        given_task = [probe.task_label if routed and probe.task_known else None for probe in self.probes]
        lines = [
            _Line(p.input_ids, p.answer_start, label)
            for p, label in zip(self.probes, given_task, strict=True)
        ]
        scores = len(lines)  # a choice equal to the answer shares the answer's score
        self._choice_scores: list[list[int]] = []
        rows = list(enumerate(lines))
        for index, probe in enumerate(self.probes):
            prefix, answer = probe.input_ids[: probe.answer_start], probe.input_ids[probe.answer_start :]
            rivals = lines[index].rivals
            single = len(answer) == 1  # all one-token choices are read off the answer's own row
            own: list[int] = []
            for choice in probe.choices:
                if choice == answer:
                    own.append(index)
                    continue
                if single and len(choice) == 1:
                    own.append(rivals.setdefault(choice[0], scores))
                else:
                    own.append(scores)
                    rows.append((scores, _Line(prefix + choice, probe.answer_start, given_task[index])))
                if own[-1] == scores:  # no choice given twice
                    scores += 1
            self._choice_scores.append(own)
        self._scores = scores
        self._kept = {  # whose wrong answers are kept
            index for index, p in enumerate(self.probes) if p.relation != "general" and not p.choices
        }
        self.tokens = sum(len(line.ids) for _, line in rows)
        self._blocks = [_lay_out(block, device) for block in _blocks(rows)]

    @torch.no_grad()
    def ask(
        self,
        model: nn.Module,
        forward: Callable[[int | None], Forward | None] = lambda label: None,
        on_block: Callable[[int, int], None] = lambda done, blocks: None,
    ) -> Answers:
        """Score every probe; the model, its mode and the random state are left as they were.

        `forward` gives, for a task label given or None, what stands in for the model's forward, if anything.
        `on_block` is told before each block how many of how many are done.
        """
        training = model.training
        model.eval()
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        logprob = torch.zeros(self._scores, dtype=torch.float64)
        sampled = torch.zeros(self._scores, dtype=torch.float64)
        wrong = torch.zeros(self._scores, dtype=torch.int64)
        greedy_tokens: list[list[int] | None] = [None] * len(self.probes)
        for done, block in enumerate(self._blocks):
            on_block(done, len(self._blocks))
            own_forward = forward(block.given_task)
            if own_forward is not None:
                logits = own_forward(block.ids, block.prompt)[block.row, block.position].float()
            elif keeps:  # a large vocabulary's logits at positions nobody reads would fill the memory
                output = model(input_ids=block.ids, use_cache=False, logits_to_keep=block.kept)
                logits = output.logits[block.row, block.place].float()
            else:
                output = model(input_ids=block.ids, use_cache=False)
                logits = output.logits[block.row, block.position].float()
            total = logits.logsumexp(1)
            picked = logits.gather(1, block.target[:, None])[:, 0] - total
            logprob.index_add_(0, block.owner, picked.double().cpu())
            best = logits.argmax(1)
            missed = (best != block.target).cpu()
            wrong.index_add_(0, block.owner, missed.long())
            greedy, misses = best.tolist(), missed.numpy()
            for owner, (start, stop) in block.spans.items():
                if owner in self._kept and misses[start:stop].any():
                    greedy_tokens[owner] = greedy[start : start + int(misses[start:stop].argmax()) + 1]
            if len(block.rival):
                rivals = logits[block.rival_at, block.rival] - total[block.rival_at]
                logprob.index_add_(0, block.rival_owner, rivals.double().cpu())
            if self._decoding is not None:
                drawn = _sampling_logprob(logits, block.target, self._decoding)
                sampled.index_add_(0, block.owner, drawn.double().cpu())
        model.train(training)
        scores = logprob.numpy()
        top_distractor: list[float | None] = []
        choice: list[int | None] = []
        choice_logprob: list[float | None] = []
        for index, own in enumerate(self._choice_scores):
            others = [scores[row] for row in own if row != index]
            top_distractor.append(float(max(others)) if others else None)
            choice.append(int(np.argmax(scores[own])) if own else None)
            choice_logprob.append(
                float(scores[index] - np.logaddexp.reduce(scores[own])) if index in own else None
            )
        count = len(self.probes)
        return Answers(
            logprob=scores[:count].tolist(),
            exact_match=(wrong[:count] == 0).tolist(),
            top_distractor_logprob=top_distractor,
            choice=choice,
            choice_logprob=choice_logprob,
            sampled=sampled[:count].exp().tolist() if self._decoding is not None else [None] * count,
            greedy_tokens=greedy_tokens,
        )


def _sampling_logprob(logits: Tensor, target: Tensor, decoding: Decoding) -> Tensor:
    """Return the log-probability of sampling the target token: temperature first, then the `top_k` most probable."""
    scaled = logits / decoding.temperature
    if decoding.top_k is not None and decoding.top_k < logits.shape[1]:
        least = scaled.topk(decoding.top_k, dim=1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    return scaled.gather(1, target[:, None])[:, 0] - scaled.logsumexp(1)


def _blocks(rows: Sequence[tuple[int, _Line]]) -> list[list[tuple[int, _Line]]]:
    """Group rows of like length, each group at most ROW_TOKENS with its padding, and little of that."""
    order = sorted(
        rows, key=lambda row: (row[1].given_task is not None, row[1].given_task or 0, len(row[1].ids))
    )
    blocks: list[list[tuple[int, _Line]]] = []
    for number, line in order:
        ids, last = line.ids, blocks[-1] if blocks else []
        enough = len(last) * len(ids) >= EVEN_TOKENS and len(ids) > EVEN * len(last[0][1].ids)
        if (
            not last
            or last[0][1].given_task != line.given_task
            or enough
            or (len(last) + 1) * len(ids) > ROW_TOKENS
        ):
            blocks.append([])
        blocks[-1].append((number, line))
    return blocks


def _lay_out(block: Sequence[tuple[int, _Line]], device: torch.device) -> _Rows:
    width = max(len(line.ids) for _, line in block)
    padded = np.zeros((len(block), width), dtype=np.int64)
    row: list[int] = []
    position, target, owner = [], [], []
    rivals: list[tuple[int, int, int]] = []
    spans: dict[int, tuple[int, int]] = {}
    for place_in_block, (number, line) in enumerate(block):
        padded[place_in_block, : len(line.ids)] = line.ids
        rivals += [(len(row), token, score) for token, score in line.rivals.items()]
        for place in range(line.start, len(line.ids)):
            row.append(place_in_block)
            position.append(place - 1)
            target.append(line.ids[place])
            owner.append(number)
        spans[number] = (len(row) - (len(line.ids) - line.start), len(row))
    rival_at, rival, rival_owner = np.array(rivals, dtype=np.int64).reshape(-1, 3).T.copy()
    kept, place_of = np.unique(position, return_inverse=True)
    return _Rows(
        ids=torch.from_numpy(padded).to(device),
        prompt=torch.tensor([line.start for _, line in block], device=device),
        row=torch.tensor(row, device=device),
        position=torch.tensor(position, device=device),
        target=torch.tensor(target, device=device),
        owner=torch.tensor(owner),
        kept=torch.from_numpy(kept).to(device),
        place=torch.from_numpy(place_of).to(device),
        rival_at=torch.from_numpy(rival_at).to(device),
        rival=torch.from_numpy(rival).to(device),
        rival_owner=torch.from_numpy(rival_owner),
        spans=spans,
        given_task=block[0][1].given_task,
    )
