"""`freeze_component`: each task has a transformer block of its own, and only what the protocol names is trained.

A scenario such as `freeze_loops` says of each experience what it wants trained: the component of the task at
hand, everything but that component, or all. Here the component of task c is one block, counted from the end of
the model: block n - 1 - (c mod k) of n, k being `components`. Tasks k apart share a block.

Only training is directed. The model's forward is the plain one, so nothing depends on which task a question
belongs to, and nothing is routed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pydantic import Field

from seqmem import Experience, Options, Strategy, StrategySpec, UsageError, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from seqmem import Learner

seqmem_api = ">=1,<2"


class FreezeComponentOptions(Options):
    """Options of `freeze_component`."""

    components: int = Field(2, ge=1, description="how many of the model's last blocks serve as components")


class FreezeComponent(Strategy):
    """One block per task; the experience says whether it or the rest is trained."""

    def __init__(self, options: FreezeComponentOptions) -> None:
        self._options = options
        self._components: list[frozenset[str]] = []
        self._others: list[frozenset[str]] = []

    def setup(self, learner: Learner) -> None:
        """Find the blocks and name their parameters.

        Raises:
            UsageError: the model shows no list of blocks, or fewer blocks than components are asked for.
        """
        path, count = _blocks(learner.model)
        if self._options.components > count:
            raise UsageError(
                f"strategy.components={self._options.components}: the model has {count} transformer blocks; "
                f"allowed: 1 to {count}"
            )
        every = frozenset(learner.parameters)
        for number in range(self._options.components):
            prefix = f"{path}.{count - 1 - number}."
            own = frozenset(name for name in every if name.startswith(prefix))
            self._components.append(own)
            self._others.append(every - own)

    def trainable(self, learner: Learner, experience: Experience) -> Collection[str] | None:
        """The task's block, all but it, or everything, as the experience wants."""
        sets = {"component": self._components, "others": self._others}.get(experience.trains)
        if sets is None or experience.task_label is None:
            return None
        return sets[experience.task_label % len(sets)]


def _blocks(model: nn.Module) -> tuple[str, int]:
    """Path of the list that holds the transformer blocks, and how many there are.

    The list is known by its length, the configuration's `num_hidden_layers`; of several so long it is the one
    with the most parameters.

    Raises:
        UsageError: there is no such list.
    """
    from torch import nn  # planning a run loads this module, and is done without torch

    config = getattr(model, "config", None)
    count = getattr(config, "num_hidden_layers", None)
    lists = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    if count is None or not lists:
        raise UsageError(
            f"strategy freeze_component finds no list of transformer blocks in {type(model).__name__}; "
            "use a model of the GPT-NeoX, OPT, GPT-2 or Llama kind"
        )
    return max(lists, key=lists.__getitem__), count


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="freeze_component",
            version="1",
            summary="Each task trains one of the last blocks; what the protocol freezes stays as it is.",
            options=FreezeComponentOptions,
            build=FreezeComponent,
        )
    ]
