"""The learner as a strategy sees it. The loop works on the class in `seqmem.training.learner`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from seqmem.core.recipe import OptimizerSettings


class ParameterState(Protocol):
    """Every tensor that belongs to a parameter, by name: moments, anchors, importances, masks.

    The host saves, restores, counts and resizes all of it; keep nothing per-parameter anywhere else.
    """

    def __contains__(self, name: object) -> bool: ...

    def __getitem__(self, name: str) -> dict[str, Tensor]:
        """Return an entry: parameter name to tensor."""

    def __iter__(self) -> Iterator[str]: ...

    def add(
        self, name: str, *, fill: float = 0.0, scalar: bool = False, dtype: torch.dtype | None = None
    ) -> dict[str, Tensor]:
        """Create one tensor per parameter: of its shape and dtype unless given, or a 0-dim float32 each.

        `fill` is also what a parameter added later starts with, and what a larger one is filled up with.

        Raises:
            KeyError: the name is taken.
        """

    def put(self, name: str, tensors: dict[str, Tensor], *, fill: float = 0.0) -> dict[str, Tensor]:
        """Register tensors made by the caller, for some or all parameters; shapes may broadcast to theirs.

        Raises:
            KeyError: the name is taken.
        """

    def remove(self, name: str) -> None:
        """Forget an entry."""


class Learner(Protocol):
    """The learner of a run, as far as strategies work with it.

    Attributes:
        model: a causal language model of transformers.
        device: the device it is on.
        settings: the optimizer the run trains with.
        parameters: trainable parameters by name.
        optimizer: a torch optimizer whose state tensors are those of the active moment context.
        state: the registry of per-parameter state.
        step: optimizer steps of the stream done so far.
        generator: the strategy's own random numbers, seeded by the run and saved with it.
        active_moments: name of the moment context the optimizer works on.
    """

    model: nn.Module
    device: torch.device
    settings: OptimizerSettings
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    step: int
    generator: np.random.Generator
    active_moments: str

    @property
    def state(self) -> ParameterState:
        """Return the registry of per-parameter state."""

    def add_moments(self, context: str) -> None:
        """Create a moment context of zeros at time 0. A moment is a running average of the optimizer."""

    def moments(self, context: str, moment: str) -> dict[str, Tensor]:
        """Return one moment (``exp_avg``, ``exp_avg_sq``, ``momentum_buffer``, ``step``) by parameter."""

    def use_moments(self, context: str) -> None:
        """Make the optimizer work on this context from now on; exchanges references, moves no data."""

    def reset_moments(self) -> None:
        """Zero the active context: the optimizer is as new."""

    def adopt(self, model: nn.Module, origins: Mapping[str, str | None] | None = None) -> None:
        """Take `model` in place of the present one; registered state follows its parameters.

        Not inside an experience. `origins` says of a parameter which old one its state comes from, where the
        names differ.
        """

    def all_trained(self) -> AbstractContextManager[None]:
        """Make every parameter require a gradient inside, whatever the experience trains."""

    def autocast(self) -> AbstractContextManager[object]:
        """Compute forwards inside in the run's precision, as `logits` does; backwards belong outside."""

    def logits(self, input_ids: Tensor, task_label: int | None) -> Tensor:
        """Return logits (B, T, V) of token ids (B, T) as the run's strategy routes them in training."""
