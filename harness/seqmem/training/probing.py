"""Asking probes: one teacher-forced forward instead of token-by-token generation.

Greedy decoding yields the answer exactly when the argmax at every answer position, given the true tokens
before it, is the answer's token. One forward therefore decides right or wrong and gives the log-probability
for free. Answers that compete under one prompt share it: they stand behind it in one row and do not see each
other (`seqmem.training.probe_rows`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from seqmem.core.data import Decoding, Probe
from seqmem.core.probes import ROW_TOKENS
from seqmem.training.borders import MASKED_KERNELS, added_mask, kernel_of
from seqmem.training.probe_rows import Block, Ids, Line, lay_out, lines_of

LOGITS = 2**27
"""Logits that one forward reads at most, where a large vocabulary would make more of them: half a GB."""
SAME = 1e-3
"""Log-probabilities of a shared row differ by less from those of rows of their own, in nats, or it is not used."""

Array = npt.NDArray[np.float64]
Forward = Callable[[Tensor, Tensor | None], Tensor]
"""Token ids (B, T) and, when probed, the prompt's tokens in each row (B,) to logits (B, T, V)."""


@dataclass(frozen=True)
class Answers:
    """One entry per probe, in the order asked.

    Attributes:
        logprob: of the whole answer, nats.
        exact_match: greedy decoding gives exactly the answer.
        top_distractor_logprob: highest log-probability among the other choices, None without choices.
        rank: place of the answer among its choices, 1 for the most probable; ties count against it; None without
            choices.
        choice: index of the most probable choice, None without choices.
        choice_logprob: log-probability of the answer renormalised over its choices, nats; None where it is not
            among them.
        in_form: greedy decoding begins as a member of the closed set does, as far as the scored answers show it; None
            without a closed set.
        sampled: probability, 0 to 1, that one sampled answer is exactly the answer, None without decoding.
            Sampling draws a token at a time, so it is the product over the answer's tokens, each given the
            true ones before it: n samples hit with probability 1 - (1 - sampled)^n, without drawing any.
        greedy_tokens: greedy decoding where it gives another answer, up to and with its first wrong token;
            None for a right answer and for documents.
    """

    logprob: list[float]
    exact_match: list[bool]
    top_distractor_logprob: list[float | None]
    rank: list[int | None]
    choice: list[int | None]
    choice_logprob: list[float | None]
    in_form: list[bool | None]
    sampled: list[float | None]
    greedy_tokens: list[list[int] | None]

    def right(self, recall: Literal["exact_match", "forced_choice"]) -> list[bool]:
        """Return whether each fact is recalled, as the stream's design has it."""
        if recall == "exact_match":
            return self.exact_match
        return [
            exact if rank is None else rank == 1
            for rank, exact in zip(self.rank, self.exact_match, strict=True)
        ]


@dataclass(frozen=True)
class _Scores:
    """Readings by score: the probes' own answers come first, then the choices.

    Attributes:
        logprob, sampled: (S,) nats.
        greedy: for each score, the most probable token at every place of it.
    """

    logprob: Array
    sampled: Array
    greedy: list[list[int]]


class ProbeSet:
    """Probes laid out once as padded blocks, asked many times."""

    def __init__(
        self,
        probes: Sequence[Probe],
        device: torch.device,
        decoding: Decoding | None = None,
        routed: bool = False,
    ) -> None:
        """Note the answers, and the choices where a probe has any.

        Args:
            probes: what is asked.
            device: where the model lies.
            decoding: sampled decoding whose success probability is wanted too.
            routed: the learner has a forward that a task label may change.
        """
        self.probes = tuple(probes)
        self._device, self._decoding, self._routed = device, decoding, routed
        self._choice_scores: list[list[int]] = []
        self._tokens = [probe.input_ids[probe.answer_start :] for probe in self.probes]
        for index, probe in enumerate(self.probes):
            numbers = {self._tokens[index]: index}  # a choice equal to the answer shares its score
            own = []
            for choice in probe.choices:
                again = numbers.get(choice) in own and choice != self._tokens[index]
                if choice not in numbers or again:
                    numbers[choice] = len(self._tokens)
                    self._tokens.append(choice)
                own.append(numbers[choice])
            self._choice_scores.append(own)
        self._blocks: list[Block] = []
        self._forms = [_Form.of(probe.closed_set) for probe in self.probes]

    def _lines(self, *, shared: bool) -> list[Line]:
        lines: list[Line] = []
        for index, probe in enumerate(self.probes):
            numbers = list(dict.fromkeys([index, *self._choice_scores[index]]))
            label = probe.task_label if self._routed and probe.task_known else None
            prompt = probe.input_ids[: probe.answer_start]
            answers = [(number, self._tokens[number]) for number in numbers]
            lines += lines_of(prompt, answers, label, shared=shared)
        return lines

    @property
    def tokens(self) -> int:
        """Tokens that a forward reads, where prompts are shared."""
        return sum(len(line.ids) for line in self._lines(shared=True))

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
        try:
            if not self._blocks:
                self._blocks = self._laid_out(model)
            scores = self._read(self._blocks, len(self._tokens), model, forward, on_block)
        finally:
            model.train(training)
        return self._answers(scores)

    def _answers(self, scores: _Scores) -> Answers:
        count, logprob = len(self.probes), scores.logprob
        others = [[row for row in own if row != index] for index, own in enumerate(self._choice_scores)]
        right = [tuple(scores.greedy[index]) == self._tokens[index] for index in range(count)]
        return Answers(
            logprob=logprob[:count].tolist(),
            exact_match=right,
            top_distractor_logprob=[float(logprob[own].max()) if own else None for own in others],
            rank=[
                1 + int((logprob[own] >= logprob[index]).sum())
                if index in self._choice_scores[index]
                else None
                for index, own in enumerate(others)
            ],
            choice=[int(np.argmax(logprob[own])) if own else None for own in self._choice_scores],
            choice_logprob=[
                float(logprob[index] - np.logaddexp.reduce(logprob[own])) if index in own else None
                for index, own in enumerate(self._choice_scores)
            ],
            in_form=[self._in_form(index, scores) for index in range(count)],
            sampled=np.exp(scores.sampled[:count]).tolist() if self._decoding else [None] * count,
            greedy_tokens=[
                None if right[index] or probe.relation == "general" else self._until_wrong(index, scores)
                for index, probe in enumerate(self.probes)
            ],
        )

    def _until_wrong(self, index: int, scores: _Scores) -> list[int]:
        said, true = scores.greedy[index], self._tokens[index]
        return said[: next(place for place, token in enumerate(said) if token != true[place]) + 1]

    def _laid_out(self, model: nn.Module) -> list[Block]:
        """Return the blocks, with shared prompts where this model scores alike with and without them."""
        limit = min(ROW_TOKENS, LOGITS // _vocabulary(model))
        shared = self._lines(shared=True)
        several = sorted((line for line in shared if line.shared), key=lambda line: len(line.ids))
        if several and (self._routed or not self._keeps_apart(several[-1], model)):
            shared = self._lines(shared=False)
        return lay_out(shared, self._device, limit)

    def _keeps_apart(self, line: Line, model: nn.Module) -> bool:
        """Return whether the answers of a shared row have the log-probabilities that rows of their own give."""
        alone = lines_of(line.prompt, line.answers, line.given_task, shared=False)
        if kernel_of(model) not in MASKED_KERNELS:
            return False
        try:
            together = self._read(lay_out([line], self._device), len(self._tokens), model)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError, IndexError):  # whatever an architecture raises
            return False
        apart = self._read(lay_out(alone, self._device), len(self._tokens), model)
        low = next(model.parameters()).dtype != torch.float32
        differ = np.abs(together.logprob - apart.logprob).max()
        return bool(differ <= (100 * SAME if low else SAME))

    def _read(
        self,
        blocks: Sequence[Block],
        count: int,
        model: nn.Module,
        forward: Callable[[int | None], Forward | None] = lambda label: None,
        on_block: Callable[[int, int], None] = lambda done, blocks: None,
    ) -> _Scores:
        logprob = torch.zeros(count, dtype=torch.float64)
        sampled = torch.zeros(count, dtype=torch.float64)
        greedy: list[list[int]] = [[] for _ in range(count)]
        for done, block in enumerate(blocks):
            on_block(done, len(blocks))
            logits = _logits(block, model, forward(block.given_task))
            total = logits.logsumexp(1)
            picked = logits[block.read, block.target] - total[block.read]
            logprob.index_add_(0, block.score, picked.double().cpu())
            best = logits.argmax(1)[block.read].tolist()
            for score, token in zip(block.score.tolist(), best, strict=True):
                greedy[score].append(token)
            if self._decoding is not None:
                drawn = _sampling_logprob(logits[block.read], block.target, self._decoding)
                sampled.index_add_(0, block.score, drawn.double().cpu())
        return _Scores(logprob.numpy(), sampled.numpy(), greedy)

    def _in_form(self, index: int, scores: _Scores) -> bool | None:
        """Return whether greedy decoding begins as a member of the closed set does.

        It is followed as far as the answers that were scored show it: to its end where it is one of them, else up to
        and with the token by which it leaves them.
        """
        form = self._forms[index]
        if form is None:
            return None
        following = {
            self._tokens[number][:place]: token
            for number in {index, *self._choice_scores[index]}
            for place, token in enumerate(scores.greedy[number])
        }
        path: Ids = ()
        while path in following and path in form.beginnings and path not in form.members:
            path = (*path, following[path])
        return path in form.members or path in form.beginnings


@dataclass(frozen=True)
class _Form:
    """A closed set of answers, and all their beginnings."""

    members: frozenset[Ids]
    beginnings: frozenset[Ids]

    @staticmethod
    @lru_cache(maxsize=512)
    def of(closed_set: tuple[Ids, ...]) -> _Form | None:
        """Return the form of a closed set; None of an empty one."""
        if not closed_set:
            return None
        beginnings = frozenset(member[:end] for member in closed_set for end in range(len(member)))
        return _Form(frozenset(closed_set), beginnings)


def _vocabulary(model: nn.Module) -> int:
    return int(getattr(getattr(model, "config", None), "vocab_size", None) or 1)


def _logits(block: Block, model: nn.Module, own_forward: Forward | None) -> Tensor:
    """Return the logits (U, V) at the places of a block that are read."""
    if own_forward is not None:
        return own_forward(block.ids, block.prompt)[block.at].float()
    further: dict[str, Tensor] = {}
    if block.borders is not None:
        position, sees = block.borders
        further = {"position_ids": position, "attention_mask": added_mask(sees, model)}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        # a large vocabulary's logits at positions nobody reads would fill the memory
        output = model(input_ids=block.ids, use_cache=False, logits_to_keep=block.kept, **further)
        kept: Tensor = output.logits[block.at[0], block.place]
        return kept.float()
    whole: Tensor = model(input_ids=block.ids, use_cache=False, **further).logits
    return whole[block.at].float()


def _sampling_logprob(logits: Tensor, target: Tensor, decoding: Decoding) -> Tensor:
    """Return the log-probability of sampling the target token: temperature first, then the `top_k` most probable."""
    scaled = logits / decoding.temperature
    if decoding.top_k is not None and decoding.top_k < logits.shape[1]:
        least = scaled.topk(decoding.top_k, dim=1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    return scaled.gather(1, target[:, None])[:, 0] - scaled.logsumexp(1)
