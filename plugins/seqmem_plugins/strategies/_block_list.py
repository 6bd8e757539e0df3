"""Forwards through some of a model's transformer blocks; everything around them stays the model's own.

The list of blocks is exchanged for the time of one call: embeddings, positions, masks, final norm and head are
prepared by the model itself, whatever its architecture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from seqmem_plugins.strategies._architecture import BLOCK

if TYPE_CHECKING:
    from torch import Tensor, nn


class BlockList:
    """A model's list of transformer blocks, found by its parameters' names."""

    def __init__(self, model: nn.Module) -> None:
        """Find the list.

        Args:
            model: whose parameters' names show blocks.
        """
        found = next(match for name, _ in model.named_parameters() if (match := BLOCK.search(name)))
        path = found.string[: found.start(1) - 1]
        above, _, self._name = path.rpartition(".")
        self._model: Any = model
        self._parent = model.get_submodule(above)
        self._blocks: nn.ModuleList = getattr(self._parent, self._name)

    def __len__(self) -> int:
        return len(self._blocks)

    @contextmanager
    def only(self, numbers: Sequence[int]) -> Iterator[None]:
        """Make the model consist of these blocks inside, in this order."""
        from torch import nn

        setattr(self._parent, self._name, nn.ModuleList(self._blocks[number] for number in numbers))
        try:
            yield
        finally:
            setattr(self._parent, self._name, self._blocks)

    def logits(self, input_ids: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return logits (B, T, V) of token ids (B, T), of the model with these blocks only."""
        if len(numbers) == len(self._blocks):
            return self._call(input_ids)
        with self.only(numbers):
            return self._call(input_ids)

    def hidden_after(self, input_ids: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return the output of the last of these blocks (B, T, H), before norm and head."""
        given: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            given.append(output[0] if isinstance(output, tuple) else output)

        hook = self._blocks[numbers[-1]].register_forward_hook(keep)
        try:
            with self.only(numbers):
                self._model.base_model(input_ids=input_ids, use_cache=False)
        finally:
            hook.remove()
        return given[0]

    def logits_from(self, input_ids: Tensor, numbers: Sequence[int], hidden: Tensor) -> Tensor:
        """Return logits of the model with these blocks only; the first of them reads `hidden` (B, T, H)."""

        def give(module: nn.Module, inputs: Any, named: Any) -> tuple[Any, Any]:
            if inputs:
                return (hidden, *inputs[1:]), named
            return inputs, {**named, "hidden_states": hidden}

        hook = self._blocks[numbers[0]].register_forward_pre_hook(give, with_kwargs=True)
        try:
            with self.only(numbers):
                return self._call(input_ids)
        finally:
            hook.remove()

    def _call(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self._model(input_ids=input_ids, use_cache=False).logits
        return logits
