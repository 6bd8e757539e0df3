r"""`lora`: only low-rank adapters are trained, the model itself stays as it was.

Every chosen matrix W (out, in) of the model gives W x + (alpha / rank) B A x, with A (rank, in) random and
B (out, rank) zero at the start, so training starts from the model's own logits. peft makes the adapters.

One adapter is shared by all tasks, or each task has its own: task c trains and is answered by adapter c mod `tasks`.
Where no task is named, the adapter trained last takes part (at first adapter 0): in training on text of no task, and
for questions that do not name their task.

Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685, section 4.1; here MLPs
get adapters too (the paper adapts attention only).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from seqmem import Experience, Footprint, Options, Strategy, StrategySpec, UsageError, hookimpl
from seqmem_plugins.strategies._adapters import (
    Targets,
    adapter_in_use,
    adapter_shapes,
    add_adapters,
    check_adapters,
    of_adapter,
    target_modules,
    use_adapter,
)
from seqmem_plugins.strategies._architecture import block_count, config_of, shapes_of

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem import Learner

seqmem_api = ">=1,<2"


class LoraOptions(Options):
    """Options of `lora`."""

    rank: int = Field(8, ge=1, description="inner size of an adapter")
    alpha: float = Field(16, gt=0, description="an adapter's output is multiplied by alpha / rank")
    targets: Targets = Field("both", description="which matrices of every block get adapters")
    adapters: Literal["shared", "per_task"] = Field(
        "shared", description="one adapter for everything, or one for each task"
    )
    tasks: int = Field(4, ge=1, description="for per_task: number of adapters, at least the stream's tasks")

    @property
    def names(self) -> list[str]:
        """The adapters' names."""
        return ["shared"] if self.adapters == "shared" else [f"task{task}" for task in range(self.tasks)]


class Lora(Strategy):
    """One adapter for everything."""

    def __init__(self, options: LoraOptions) -> None:
        self._options = options

    def setup(self, learner: Learner) -> None:
        """Put the adapters into the model; nothing else is trained from now on."""
        o, model = self._options, learner.model
        shapes = shapes_of(learner.parameters)
        check_adapters(config_of(model), shapes, "lora")
        modules = target_modules(shapes, o.targets, range(block_count(shapes)))
        add_adapters(model, modules, o.names, rank=o.rank, alpha=o.alpha, generator=learner.generator)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(of_adapter(name, adapter) for adapter in o.names))
        learner.adopt(model)


class LoraPerTask(Lora):
    """One adapter for each task."""

    def __init__(self, options: LoraOptions) -> None:
        super().__init__(options)
        self._last = 0

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Remember whose adapter is trained."""
        if experience.task_label is not None and experience.trains != "none":
            self._last = experience.task_label % self._options.tasks

    def trainable(self, learner: Learner, experience: Experience) -> Collection[str] | None:
        """Return the names of the task's adapter; of the one trained last where there is no task."""
        adapter = self._adapter(experience.task_label)
        use_adapter(learner.model, adapter)  # for whoever calls the model itself
        return [name for name in learner.parameters if of_adapter(name, adapter)]

    def forward(
        self, learner: Learner, input_ids: Tensor, task_label: int | None, prompt_tokens: Tensor | None
    ) -> Tensor:
        """Return logits with the task's adapter; with the one trained last where the task is not known."""
        with adapter_in_use(learner.model, self._adapter(task_label)):
            return super().forward(learner, input_ids, task_label, prompt_tokens)

    def _adapter(self, label: int | None) -> str:
        return self._options.names[self._last if label is None else label % self._options.tasks]

    def state_dict(self) -> dict[str, Any]:
        """Return the task whose adapter was trained last."""
        return {"last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self._last = state["last"]


def build(options: LoraOptions) -> Strategy:
    """Return the strategy; a shared adapter needs no forward of its own."""
    return Lora(options) if options.adapters == "shared" else LoraPerTask(options)


def check_model(options: LoraOptions, footprint: Footprint) -> None:
    """Refuse a model whose parts are not known, and more tasks than adapters.

    Raises:
        UsageError: it is one, or there are.
    """
    check_adapters(footprint.config, footprint.shapes, "lora")
    tasks = footprint.outline.loops
    if options.adapters == "per_task" and tasks > options.tasks:
        raise UsageError(
            f"strategy.tasks={options.tasks}: the stream has {tasks} tasks, and each needs an adapter of its own; "
            f"use strategy.tasks={tasks} or strategy.adapters=shared"
        )


def resize(options: LoraOptions, footprint: Footprint) -> Footprint:
    """Return the footprint of an optimizer that works on the adapters only."""
    shapes = footprint.shapes
    modules = target_modules(shapes, options.targets, range(block_count(shapes)))
    return replace(
        footprint,
        shapes=adapter_shapes(shapes, footprint.config, modules, options.names, options.rank),
        frozen=footprint.frozen + sum(math.prod(shape) for shape in shapes.values()),
    )


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="lora",
            version="1",
            summary="Trains low-rank adapters only, one for everything or one for each task.",
            options=LoraOptions,
            build=build,
            resize=resize,
            exclusive=("model", "forward"),
            check_model=check_model,
            citation="Hu et al. 2021, LoRA, arXiv 2106.09685",
        )
    ]
