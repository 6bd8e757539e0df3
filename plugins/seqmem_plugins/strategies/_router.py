"""The component that a question belongs to, inferred from its prompt.

A component is embedded by the tokens it was trained on, a prompt by its own: by the mean of their input embeddings
E_v. A token counts less the more frequent it is in all trained text, and nothing where it was never trained. The part
that all components have in common tells nothing, so the mean m of their embeddings is taken off:

    chosen(prompt) = argmax_c cos(e_prompt - m, e_c - m),   e = sum_v n_v w_v E_v / sum_v n_v w_v,
    w_v = a / (a + p_v),   a = 0.03,   p_v = the share of token v in the rows of all components

The counts n_v of every component are kept, not the embeddings: prompt and components are embedded by the present
matrix E, so training E cannot move them apart.

Source of the weights and of taking off what is common: Arora et al. 2017, A Simple but Tough-to-Beat Baseline for
Sentence Embeddings (there a is 1e-3 to 1e-4, for words; a small vocabulary's tokens are more frequent).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from seqmem import Example

if TYPE_CHECKING:
    import torch
    from torch import Tensor

COUNT_BYTES = 8
"""Bytes of one count."""
_A = 0.03


class Router:
    """Counts of the tokens that each component was trained on."""

    def __init__(self, components: int, vocabulary: int, device: torch.device) -> None:
        """Start with components that were trained on nothing."""
        import torch

        self.counts = torch.zeros(components, vocabulary, dtype=torch.int64, device=device)

    def learn(self, component: int, rows: Iterable[Example]) -> None:
        """Count the tokens of rows that this component was trained on."""
        import torch

        for row in rows:
            ids = torch.from_numpy(row.input_ids).long().to(self.counts.device)
            self.counts[component] += torch.bincount(ids, minlength=self.counts.shape[1])

    def choose(self, embedding: Tensor, input_ids: Tensor, prompt_tokens: Tensor) -> list[int | None]:
        """Return the component of each row; None before any component was trained.

        Args:
            embedding: the model's input embeddings (V, E).
            input_ids: rows (B, T).
            prompt_tokens: number of tokens of each row (B,) that are read, from its start.
        """
        import torch

        known = self.counts.sum(1).nonzero()[:, 0]
        if not len(known):
            return [None] * len(input_ids)
        counts = self.counts[known].float()
        shares = counts.sum(0) / counts.sum()
        weights = (_A / (_A + shares)) * (shares > 0)
        matrix = embedding.detach().float()
        components = (counts * weights) @ matrix / (counts @ weights)[:, None]
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        read = (places < prompt_tokens[:, None]) * weights[input_ids]
        total = read.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        prompts = torch.einsum("bt,bte->be", read, matrix[input_ids]) / total
        middle = components.mean(0)
        cosines = torch.nn.functional.cosine_similarity(
            (prompts - middle)[:, None], (components - middle)[None], dim=2
        )
        return [int(known[best]) for best in cosines.argmax(1).tolist()]
