"""One registry of everything that belongs to a parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class ParameterState:
    """Every tensor that belongs to a parameter, by name: moments, anchors, importances, masks.

    The host saves, restores, counts and resizes all of it; nothing per-parameter is kept anywhere else. That
    is what makes resume exact, growth possible and the memory figure true.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Start empty for these parameters."""
        self._parameters = parameters
        self._entries: dict[str, dict[str, Tensor]] = {}
        self._fills: dict[str, float] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> dict[str, Tensor]:
        """Return an entry: parameter name to tensor."""
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def add(
        self, name: str, *, fill: float = 0.0, scalar: bool = False, dtype: torch.dtype | None = None
    ) -> dict[str, Tensor]:
        """Create one tensor per parameter: of its shape and dtype unless given, or a 0-dim float32 each.

        `fill` is also what a parameter added later starts with, and what a larger one is filled up with.

        Raises:
            KeyError: the name is taken.
        """
        return self.put(
            name,
            {
                key: torch.full((), fill, dtype=torch.float32, device=parameter.device)
                if scalar
                else torch.full_like(
                    parameter, fill, dtype=dtype, requires_grad=False, memory_format=torch.preserve_format
                )
                for key, parameter in self._parameters.items()
            },
            fill=fill,
        )

    def put(self, name: str, tensors: dict[str, Tensor], *, fill: float = 0.0) -> dict[str, Tensor]:
        """Register tensors made by the caller, for some or all parameters; shapes may broadcast to theirs.

        Raises:
            KeyError: the name is taken.
        """
        if name in self._entries:
            raise KeyError(f"per-parameter state {name!r} exists already")
        self._entries[name], self._fills[name] = tensors, fill
        return tensors

    def remove(self, name: str) -> None:
        """Forget an entry."""
        del self._entries[name], self._fills[name]

    def resize(self, old: Mapping[str, nn.Parameter], origins: Mapping[str, str | None]) -> None:
        """Follow the parameters, which have just changed.

        Args:
            old: the parameters before.
            origins: where a parameter's state comes from, by name: an old parameter, or None for nowhere.
                Where nothing is said it is the old parameter of the same name. Old values lead along every
                dimension; the rest is filled.
        """
        for name, entry in self._entries.items():
            whole = entry.keys() == old.keys()
            fill = self._fills[name]
            resized = {}
            for key, parameter in self._parameters.items():
                origin = origins.get(key, key if key in old else None)
                if origin is not None and origin in entry:
                    resized[key] = _resized(entry[origin], old[origin], parameter, fill)
                elif origin is None and whole:
                    scalar = all(tensor.dim() == 0 for tensor in entry.values())
                    dtype = torch.float32 if scalar else next(iter(entry.values())).dtype
                    shape = () if scalar else parameter.shape
                    resized[key] = torch.full(shape, fill, dtype=dtype, device=parameter.device)
            entry.clear()
            entry.update(resized)

    def bytes(self) -> int:
        """Return the size of everything registered."""
        return sum(tensor.nbytes for entry in self._entries.values() for tensor in entry.values())

    def tensors(self) -> dict[str, Tensor]:
        """Return everything, flat: ``entry:parameter`` to tensor."""
        return {f"{name}:{key}": t for name, entry in self._entries.items() for key, t in entry.items()}

    def fills(self) -> dict[str, float]:
        """Return what every entry is filled up with; saved beside the tensors."""
        return dict(self._fills)

    def restore(self, tensors: Mapping[str, Tensor], fills: Mapping[str, float]) -> None:
        """Become what `tensors` and `fills` gave earlier; what exists is filled in place, references stay good."""
        self._entries = {name: entry for name, entry in self._entries.items() if name in fills}
        self._fills = dict(fills)
        for name in fills:
            self._entries.setdefault(name, {})
        for flat, tensor in tensors.items():
            name, key = flat.rsplit(":", 1)
            entry = self._entries[name]
            if key in entry:
                entry[key].copy_(tensor)
            else:
                entry[key] = tensor.to(self._parameters[key].device, copy=True)


def _resized(tensor: Tensor, old: Tensor, new: Tensor, fill: float) -> Tensor:
    """Return the state of a parameter whose shape changed from `old`'s to `new`'s; dimensions that broadcast stay."""
    shape = [
        after if size == before and tensor.dim() else size
        for size, before, after in zip(tensor.shape, old.shape, new.shape, strict=tensor.dim() > 0)
    ]
    if shape == list(tensor.shape):
        return tensor
    resized = torch.full(shape, fill, dtype=tensor.dtype, device=tensor.device)
    both = tuple(slice(0, min(a, b)) for a, b in zip(tensor.shape, shape, strict=True))
    resized[both] = tensor[both]
    return resized
