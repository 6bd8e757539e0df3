r"""`grow_prune`: the model grows as experiences come, and old weights are pruned so that it keeps to a budget.

At a growth, blocks are added that start as the identity, or all MLPs get more inner units whose output weights
are zero; the logits stay the same (see `_growth`). A mask of ones and zeros over the weight matrices of the
blocks says which weights are kept. Everything else (embeddings, norms, biases) is always kept. With B the budget,
`budget` times the original model's numbers, and A the numbers a growth adds,

    ones = (numbers of the model) - (zeros of the mask),   pruned before growing = max(0, ones + A - B)

so the ones never exceed B, and are B exactly after a growth that had to prune. The weights pruned are those of
least importance over all matrices together, the earlier one first where two are equal: |w| (`magnitude`), or
F w^2 (`fisher`), F being the mean of the squared gradients of the loss over the steps since the last growth.
A parameter that got no gradient in that time keeps its older mean. The gradients are those of batch means, so F
depends on the batch size; the ranking within a run hardly does.

A pruned weight is zero and stays zero: its gradient is masked, and its moments are zero in every context.
With `train: new` only what the last growth added is trained from then on: everything older stays as it is to
the bit, its moments included.

A tensor that is widened holds weights of two ages, and Adam keeps one age a tensor. Left as it is, the bias
correction of the older age would make the new weights' first steps up to (1 - .9^n) / sqrt(1 - .999^n) = 6.6
times too large. So the moments of widened tensors are put at age 1, their bias-corrected values unchanged.

Kin: LLaMA Pro (Wu et al. 2024, arXiv 2401.02415) for identity blocks, Net2Net (Chen et al. 2016, arXiv 1511.05641)
for widening, DEN (Yoon et al. 2018, arXiv 1708.01547) for growing by task, PackNet (Mallya & Lazebnik 2018,
arXiv 1711.05769) for pruning the old to make room, Theis et al. 2018 (arXiv 1801.05787) for F w^2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from seqmem import Batch, Experience, Strategy, StrategySpec, UsageError, hookimpl
from seqmem_plugins.strategies._architecture import (
    block_count,
    block_of,
    config_of,
    shapes_of,
)
from seqmem_plugins.strategies._grow_prune_plan import (
    GrowPruneOptions,
    amount_of,
    budget_of,
    check_config,
    check_model,
    planned_bytes,
    prunable,
    resize,
    shapes_after,
)
from seqmem_plugins.strategies._growth import (
    add_blocks,
    block_lists,
    numbers,
    part_fused,
    rebuilt,
    units,
    widen,
    width_axis,
    width_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem import Learner

seqmem_api = ">=1,<2"

MASK, FISHER = "grow_prune.mask", "grow_prune.fisher"
"""Names in the learner's registry: 1 where a weight is kept; the mean of squared gradients."""


class GrowPrune(Strategy):
    """Grows the model between experiences, within a budget of kept parameters."""

    def __init__(self, options: GrowPruneOptions) -> None:
        self._options = options
        self._growths = 0
        self._tasks: list[int] = []
        self._new_blocks: list[int] = []
        """Numbers of the blocks that the last growth added."""
        self._since = 0
        """Steps that the Fisher mean is over."""
        self._kept: int | None = None
        """Ones of the mask; counted when first wanted, from what the registry holds."""
        self._masked: list[str] = []
        """Parameters that hold a pruned weight, as far as `_kept` is counted."""
        self._touched: list[str] = []
        self._still: list[tuple[Tensor, Tensor]] = []
        """Views that the optimizer must not change, and what they held before its step."""

    def setup(self, learner: Learner) -> None:
        """Note the size of the model as it comes, and create the mask.

        Raises:
            UsageError: an architecture that is not known, or that cannot grow so.
        """
        shapes, config = shapes_of(learner.parameters), config_of(learner.model)
        self._family, self._lists = check_config(self._options, config, shapes), block_lists(config)
        self._blocks, self._width = block_count(shapes), width_of(shapes, self._family)
        self._budget = budget_of(self._options, shapes)
        self._amount = amount_of(self._options, shapes, self._family)
        for name in self._entries():
            learner.state.put(name, {}, fill=float(name == MASK))
        self._cover(learner)

    # -- growing ----------------------------------------------------------------------------------------

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Grow where it is time to."""
        if experience.trains == "none":
            return
        label = experience.task_label
        if self._options.at == "every":
            due = experience.index > 0 and experience.index % self._options.every == 0
        else:
            due = label is not None and bool(self._tasks) and label not in self._tasks
        if label is not None and label not in self._tasks:
            self._tasks.append(label)
        if due and self._growths < self._options.growths:
            self._grow(learner)

    def _grow(self, learner: Learner) -> None:
        """Make room, then take a larger model in place of this one."""
        shapes, options = shapes_of(learner.parameters), self._options
        after = shapes_after(options, shapes, self._family, self._amount)
        excess = self._ones(learner) + numbers(after) - numbers(shapes) - self._budget
        if excess > 0:
            self._prune(learner, excess)
        if options.grow == "blocks":
            model, origins = add_blocks(learner.model, self._amount, learner.generator, options.place)
        else:
            model, origins = widen(learner.model, self._amount, learner.generator)
        learner.adopt(model, origins)
        if options.grow == "blocks":
            self._new_blocks = sorted(
                {block for name, origin in origins.items() if origin is None and (block := block_of(name))}
            )
        else:
            width = width_of(after, self._family)
            part_fused(learner, self._family, width - self._amount, width)
            _renew_ages(learner, [name for name in after if width_axis(name, self._family) is not None])
        self._growths += 1
        self._lists = block_lists(config_of(learner.model))
        self._since, self._kept = 0, None
        self._cover(learner)

    def _prune(self, learner: Learner, count: int) -> None:
        """Mask the `count` least important of the weights left, and zero them with their state.

        Raises:
            UsageError: there are fewer.
        """
        import torch

        if self._options.prune == "none":
            raise UsageError(
                f"grow_prune: growth {self._growths + 1} exceeds the budget of {self._budget:,} "
                f"parameters by {count:,}, and prune=none makes no room"
            )
        masks = learner.state[MASK]
        names = prunable(shapes_of(learner.parameters))
        # ranked on the CPU: it happens a few times a run, takes several model sizes, and gives one result everywhere
        importance = torch.cat([self._importance(learner, name).flatten().cpu() for name in names])
        alive = torch.cat([masks[name].flatten().cpu() for name in names]).nonzero().squeeze(1)
        if count > len(alive):
            raise UsageError(
                f"grow_prune: growth {self._growths + 1} must prune {count:,} weights to keep to the budget of "
                f"{self._budget:,} parameters, and {len(alive):,} are left"
            )
        order = torch.sort(importance[alive], stable=True).indices[:count]
        cut = torch.ones(len(importance), dtype=torch.bool)
        cut[alive[order]] = False
        moments = [
            learner.state[entry]
            for entry in learner.state
            if entry.startswith("moments.") and not entry.endswith(".step")
        ]
        with torch.no_grad():
            parts = torch.split(cut, [masks[name].numel() for name in names])
            for name, kept in zip(names, parts, strict=True):
                mask = masks[name]
                mask.logical_and_(kept.view(mask.shape).to(mask.device))
                for tensor in (learner.parameters[name].detach(), *(moment[name] for moment in moments)):
                    tensor.masked_fill_(~mask, 0)

    def _importance(self, learner: Learner, name: str) -> Tensor:
        """Return the importance of each weight of a matrix, |w| or F w^2, as float32 of the matrix's shape."""
        weight = learner.parameters[name].detach().float()
        if self._options.prune == "fisher":
            return learner.state[FISHER][name] * weight * weight
        return weight.abs()

    def _ones(self, learner: Learner) -> int:
        """Return the number of parameters kept: all but the zeros of the mask."""
        if self._kept is None:
            masks = learner.state[MASK] if MASK in learner.state else {}
            pruned = {name: mask.numel() - int(mask.sum()) for name, mask in masks.items()}
            self._masked = [name for name in learner.parameters if pruned.get(name)]
            self._kept = numbers(shapes_of(learner.parameters)) - sum(pruned.values())
        return self._kept

    def _entries(self) -> tuple[str, ...]:
        return {"magnitude": (MASK,), "fisher": (MASK, FISHER), "none": ()}[self._options.prune]

    def _cover(self, learner: Learner) -> None:
        """Give every matrix of a block its place in the registry; what is there already is left."""
        import torch

        for entry in self._entries():
            for name in prunable(shapes_of(learner.parameters)):
                if name not in learner.state[entry]:
                    like = learner.parameters[name].detach()
                    learner.state[entry][name] = (
                        torch.ones_like(like, dtype=torch.bool)
                        if entry == MASK
                        else torch.zeros_like(like, dtype=torch.float32)
                    )

    # -- training ---------------------------------------------------------------------------------------

    def trainable(self, learner: Learner, experience: Experience) -> Collection[str] | None:
        """Return the names that the last growth made or widened, with `train: new` once the model has grown."""
        if self._options.train == "all" or not self._growths:
            return None
        if self._options.grow == "blocks":
            return {name for name in learner.parameters if block_of(name) in self._new_blocks}
        return {name for name in learner.parameters if width_axis(name, self._family) is not None}

    def add_gradient(self, learner: Learner) -> float:
        """Update the mean of the squared gradients before they are clipped; no penalty."""
        import torch

        if self._options.prune == "fisher":
            self._since += 1
            fisher = learner.state[FISHER]
            found = {
                name: parameter.grad.float()
                for name, parameter in learner.parameters.items()
                if name in fisher and parameter.grad is not None
            }
            gradients = list(found.values())
            squares = torch._foreach_mul(gradients, gradients)
            torch._foreach_lerp_([fisher[name] for name in found], squares, 1 / self._since)
        return 0.0

    def transform_gradient(self, learner: Learner) -> None:
        """Zero the gradient of pruned weights, and of the old part of a widened tensor that must stay still."""
        import torch

        self._ones(learner)
        gradients = {name: learner.parameters[name].grad for name in self._masked}
        found = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        self._touched = list(found)
        if found:
            torch._foreach_mul_(list(found.values()), self._masks(learner))
        if self._options.train == "new" and self._options.grow == "width" and self._growths:
            self._hold_still(learner)

    def _hold_still(self, learner: Learner) -> None:
        """Keep copies of what the optimizer would change in the old part of widened tensors.

        The copies live from here to the end of the step, when the activations' memory is free.
        """
        old = self._width + (self._growths - 1) * self._amount
        for name, parameter in learner.parameters.items():
            axis = width_axis(name, self._family)
            if axis is None or parameter.grad is None:
                continue
            for part in units(parameter.grad, name, axis, old):
                part.zero_()
            moments = (learner.moments(learner.active_moments, m)[name] for m in learner.settings.moments)
            for tensor in (parameter.detach(), *moments):
                self._still += [(part, part.clone()) for part in units(tensor, name, axis, old)]

    def after_step(self, learner: Learner, batch: Batch) -> None:
        """Put back what must not have changed, whatever another part of a composition did to it."""
        import torch

        for part, held in self._still:
            part.copy_(held)
        self._still = []
        if self._touched:
            masks = self._masks(learner)
            torch._foreach_mul_([learner.parameters[name].detach() for name in self._touched], masks)
            for moment in learner.settings.moments:
                tensors = learner.moments(learner.active_moments, moment)
                torch._foreach_mul_([tensors[name] for name in self._touched], masks)

    def _masks(self, learner: Learner) -> list[Tensor]:
        return [learner.state[MASK][name] for name in self._touched]

    def measured(self) -> Mapping[str, float]:
        """Return the number of parameters kept: the ones that the budget counts."""
        return {} if self._kept is None else {"grow_prune.kept": self._kept}

    # -- going on from a checkpoint -----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the growths so far, the state that decides the next one, and the names of new parameters."""
        return {
            "growths": self._growths,
            "tasks": self._tasks,
            "new_blocks": self._new_blocks,
            "since": self._since,
            "lists": self._lists,
        }

    def reshape(self, learner: Learner, state: dict[str, Any]) -> None:
        """Make the model as large as it was, whatever it is; its weights are put back by the host."""
        import numpy as np

        grown = state["growths"] * self._amount
        blocks, width = self._blocks, self._width
        if self._options.grow == "blocks":
            blocks += grown
        else:
            width += grown
        shapes = shapes_of(learner.parameters)
        there = block_count(shapes)
        if (blocks, width) != (there, width_of(shapes, self._family)):
            layout = [block if block < there else None for block in range(blocks)]
            draw = np.random.default_rng(0)
            learner.adopt(*rebuilt(learner.model, layout, width, draw, state["lists"]))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._growths, self._tasks = state["growths"], state["tasks"]
        self._new_blocks, self._since = state["new_blocks"], state["since"]
        self._lists, self._kept = state["lists"], None


def _renew_ages(learner: Learner, names: Iterable[str]) -> None:
    """Put Adam's moments of these parameters at age 1 in every context, as the module's docstring says."""
    if learner.settings.name == "sgd":
        return
    contexts = [entry.removesuffix(".step") for entry in learner.state if entry.endswith(".step")]
    for context in (entry for entry in contexts if entry.startswith("moments.")):
        for name in names:
            step = learner.state[f"{context}.step"][name]
            age = float(step)
            if age > 1:
                for moment, beta in zip(("exp_avg", "exp_avg_sq"), learner.settings.betas, strict=True):
                    learner.state[f"{context}.{moment}"][name].mul_((1 - beta) / (1 - beta**age))
                step.fill_(1)


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="grow_prune",
            version="1",
            summary="Adds identity blocks or MLP width as experiences come, and prunes old weights to a budget.",
            options=GrowPruneOptions,
            build=GrowPrune,
            resize=resize,
            planned_bytes=planned_bytes,
            exclusive=("model",),
            check_model=check_model,
            citation="kin: LLaMA Pro arXiv 2401.02415, PackNet arXiv 1711.05769, DEN arXiv 1708.01547",
        )
    ]
