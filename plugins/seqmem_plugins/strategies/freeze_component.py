r"""`freeze_component`: each task has a component of its own, and only what the protocol names is trained.

A scenario such as `freeze_loops` says of each experience what it wants trained: the component of the task at hand,
everything but that component, or all. The component of task c is number c mod k of k. It lies near the end of the
model and is a block (n - 1 - c of n), a block's MLP, attention heads, a block added for the task, a LoRA adapter, or
the matches of a name pattern. A frozen part gets no gradient and no optimizer step: weights and moments stay bit for
bit. An attention head is a slice of tensors: everything outside it is put back after the step.

Kept activations. While only parameters from block f on are trained, the input of block f is a constant of the training
row. It is computed once per row and experience, without a graph, and kept; later visits compute blocks f to n only.
That runs some of a model's blocks without the others, so it is done only with the architectures of `_architecture`:
elsewhere a block's mask or positions may go by its number (Gemma, Cohere).

Routing. Added blocks and adapters are switched: at most one task's is in the path. Training on a labelled row it is
the label's; training without a label it is none. When probed it is the label's where the probe tells it, else the one
inferred from the prompt (see `_router`). The other kinds are always in the path, so there is nothing to route.

Kin: freezing by task, Progressive Neural Networks (arXiv 1606.04671); blocks initialised as the identity, LLaMA Pro
(arXiv 2401.02415); adapters, LoRA (arXiv 2106.09685).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from seqmem import Batch, Experience, Strategy, StrategySpec, hookimpl
from seqmem_plugins.strategies._adapters import (
    adapter_in_use,
    add_adapters,
    of_adapter,
    target_modules,
    use_adapter,
)
from seqmem_plugins.strategies._architecture import (
    FREEZABLE,
    block_count,
    block_of,
    config_of,
    family_of,
    shapes_of,
)
from seqmem_plugins.strategies._block_list import BlockList
from seqmem_plugins.strategies._components import (
    Component,
    Slice,
    block_components,
    component_units,
    head_components,
    mlp_components,
    pattern_components,
)
from seqmem_plugins.strategies._freeze_component_plan import (
    FreezeComponentOptions,
    adapter_names,
    check_model,
    keeps_activations,
    planned_bytes,
    resize,
)
from seqmem_plugins.strategies._growth import add_blocks, check_blocks
from seqmem_plugins.strategies._prefix_cache import MIB, PrefixCache
from seqmem_plugins.strategies._router import Router

if TYPE_CHECKING:
    from torch import Tensor, nn

    from seqmem import Learner

seqmem_api = ">=1,<2"


class FreezeComponent(Strategy):
    """One component per task; the experience says whether it or the rest is trained."""

    def __init__(self, options: FreezeComponentOptions) -> None:
        self._options = options
        self._components: list[Component] = []
        self._last: tuple[str, int | None] = ("all", None)
        self._put_back: list[tuple[Tensor, int, Tensor, Tensor]] = []
        self._cache = PrefixCache(options.cache_mib * MIB)

    # -- the model ------------------------------------------------------------------------------------

    def setup(self, learner: Learner) -> None:
        """Find the components, or add them to the model.

        Raises:
            UsageError: a pattern matches no parameter, or all.
        """
        o = self._options
        config = config_of(learner.model)
        self._plain_blocks = block_count(learner.parameters)
        if o.component == "added_blocks":
            check_blocks(config, shapes_of(learner.parameters), "freeze_component", kinds=FREEZABLE)
            learner.adopt(*add_blocks(learner.model, o.count * o.span, learner.generator))
        elif o.component == "lora":
            shapes = shapes_of(learner.parameters)
            family_of(config, shapes, "freeze_component", FREEZABLE)
            last = range(self._plain_blocks - o.span, self._plain_blocks)
            origins = add_adapters(
                learner.model,
                target_modules(shapes, "both", last),
                adapter_names(o),
                rank=o.rank,
                alpha=o.alpha,
                generator=learner.generator,
            )
            use_adapter(learner.model, None)
            learner.adopt(learner.model, origins)
        self._components = self._find(learner)
        self._device = learner.device
        self._cacheable = keeps_activations(o, config) and not _drops(config, learner.model)
        if o.switched or self._cacheable:
            self._blocks = BlockList(learner.model)
        if o.switched:
            self._router = Router(o.count, len(_embedding(learner)), learner.device)

    def _find(self, learner: Learner) -> list[Component]:
        o, names = self._options, list(learner.parameters)
        if o.component == "mlps":
            return mlp_components(shapes_of(learner.parameters), config_of(learner.model), o.count, o.span)
        if o.component == "heads":
            shapes = shapes_of(learner.parameters)
            return head_components(shapes, config_of(learner.model), o.count, o.span)
        if o.component == "pattern":
            return pattern_components(names, o.patterns)
        if o.component == "lora":
            return [dict.fromkeys(n for n in names if of_adapter(n, adapter)) for adapter in adapter_names(o)]
        return block_components(names, o.count, o.span)

    # -- what is trained --------------------------------------------------------------------------------

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Forget kept activations; where asked for, reset the moments of the parameters that are no longer frozen."""
        if experience.trains == "none":
            return
        self._cache.clear()
        before, self._last = self._last, (experience.trains, experience.task_label)
        if self._options.moments_on_unfreeze == "reset":
            self._reset(learner, self._trained(learner, *self._last) - self._trained(learner, *before))

    def _reset(self, learner: Learner, names: Collection[str]) -> None:
        for moment in (*learner.settings.moments, "step"):
            tensors = learner.moments(learner.active_moments, moment)
            for name in names:
                tensors[name].zero_()

    def trainable(self, learner: Learner, experience: Experience) -> Collection[str] | None:
        """Return the names of the task's component, of all but it, or of everything, as the experience wants."""
        if self._component(experience.trains, experience.task_label) is None:
            return None
        return self._trained(learner, experience.trains, experience.task_label)

    def _component(self, trains: str, label: int | None) -> Component | None:
        """Return the component an experience singles out; None where it trains everything."""
        if trains not in ("component", "others") or label is None:
            return None
        return self._components[label % len(self._components)]

    def _trained(self, learner: Learner, trains: str, label: int | None) -> set[str]:
        """Return the names of the parameters trained, if only in part."""
        component = self._component(trains, label)
        if component is None:
            return set(learner.parameters)
        if trains == "component":
            return set(component)
        return learner.parameters.keys() - {name for name, part in component.items() if part is None}

    def _held(self, learner: Learner) -> dict[str, tuple[Slice, Tensor]]:
        """Return for each parameter trained in part the slice that is not, and its places as a tensor."""
        import torch

        component = self._component(*self._last)
        held: dict[str, tuple[Slice, Tensor]] = {}
        for name, part in (component or {}).items():
            if part is None:
                continue
            places = set(part.places)
            if self._last[0] == "component":
                places = set(range(learner.parameters[name].shape[part.dim])) - places
            still = Slice(part.dim, tuple(sorted(places)))
            held[name] = still, torch.tensor(still.places, device=learner.device)
        return held

    def add_gradient(self, learner: Learner) -> float:
        """Zero the gradient of slices that are not trained, so that clipping does not count it; no penalty."""
        if self._options.component == "heads":
            for name, (part, places) in self._held(learner).items():
                gradient = learner.parameters[name].grad
                if gradient is not None:
                    gradient.index_fill_(part.dim, places, 0.0)
        return 0.0

    def transform_gradient(self, learner: Learner) -> None:
        """Keep what the step must not change of tensors trained in part: weights and moments."""
        if self._options.component != "heads":
            return
        for name, (part, places) in self._held(learner).items():
            moments = [
                learner.moments(learner.active_moments, moment)[name] for moment in learner.settings.moments
            ]
            for tensor in (learner.parameters[name].detach(), *moments):
                self._put_back.append((tensor, part.dim, places, tensor.index_select(part.dim, places)))

    def after_step(self, learner: Learner, batch: Batch) -> None:
        """Put it back, whatever optimizer and other strategies did to it."""
        for tensor, dim, places, kept in self._put_back:
            tensor.index_copy_(dim, places, kept)
        self._put_back.clear()

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """Forget kept activations; the router gets to know the rows the task's component was trained on."""
        if experience.trains == "none":
            return
        self._cache.clear()
        if self._options.switched and experience.trains != "others" and experience.task_label is not None:
            rows = [row for batch in experience.batches for row in batch]
            self._router.learn(experience.task_label % self._options.count, rows)

    # -- the forward ------------------------------------------------------------------------------------

    def forward(
        self, learner: Learner, input_ids: Tensor, task_label: int | None, prompt_tokens: Tensor | None
    ) -> Tensor:
        """Return logits through the task's component where components are switched, else the model's own."""
        import torch

        if not (self._options.switched or self._cacheable):
            return super().forward(learner, input_ids, task_label, prompt_tokens)
        if not self._options.switched:
            return self._through(learner, input_ids, None)
        if task_label is not None:
            return self._through(learner, input_ids, task_label % self._options.count)
        if prompt_tokens is None:
            return self._through(learner, input_ids, None)
        chosen = self._router.choose(_embedding(learner), input_ids, prompt_tokens)
        parts: dict[int | None, list[int]] = {}
        for line, component in enumerate(chosen):
            parts.setdefault(component, []).append(line)
        if len(parts) == 1:
            return self._through(learner, input_ids, chosen[0])
        logits = torch.cat([self._through(learner, input_ids[lines], part) for part, lines in parts.items()])
        lines = [line for own in parts.values() for line in own]
        return logits[torch.tensor(lines, device=logits.device).argsort()]

    def _through(self, learner: Learner, input_ids: Tensor, component: int | None) -> Tensor:
        """Return logits with this component in the path, and no other where components are switched."""
        o, active = self._options, list(range(len(self._blocks)))
        if o.component == "lora":
            with adapter_in_use(learner.model, None if component is None else adapter_names(o)[component]):
                return self._logits(learner, input_ids, active)
        if o.component == "added_blocks":
            added = () if component is None else component_units(component, o.span, len(self._blocks))
            active = [*range(self._plain_blocks), *added]
        return self._logits(learner, input_ids, active)

    def _logits(self, learner: Learner, input_ids: Tensor, active: list[int]) -> Tensor:
        """Return logits of the model with these blocks, in training from kept activations as far as it is frozen."""
        import torch

        if not (torch.is_grad_enabled() and self._cacheable):
            return self._blocks.logits(input_ids, active)
        first = _first_trained(learner)
        prefix = [number for number in active if number < first]
        suffix = active[len(prefix) :]
        if not suffix:  # only what comes after the blocks is trained
            suffix = [prefix.pop()]
        if not prefix:
            return self._blocks.logits(input_ids, active)
        hidden = self._cache.hidden(input_ids, lambda rows: self._blocks.hidden_after(rows, prefix))
        return self._blocks.logits_from(input_ids, suffix, hidden)

    # -- what a checkpoint holds ------------------------------------------------------------------------

    def unregistered_bytes(self) -> int:
        """Return the most bytes of activations ever kept, plus those of the router's counts."""
        return self._cache.peak + (self._router.counts.nbytes if self._options.switched else 0)

    def state_dict(self) -> dict[str, Any]:
        """Return what the present or last experience trains."""
        return {"last": list(self._last), "peak": self._cache.peak}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        trains, label = state["last"]
        self._last = (trains, label)
        self._cache.peak = max(self._cache.peak, state["peak"])

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the router's counts, and kept activations: a resumed experience goes on with the same bits."""
        kept = {f"kept/{key}": row for key, row in self._cache.tensors().items()}
        return kept | ({"counts": self._router.counts} if self._options.switched else {})

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take them back."""
        if self._options.switched:
            self._router.counts.copy_(tensors["counts"])
        rows = {key.removeprefix("kept/"): t for key, t in tensors.items() if key.startswith("kept/")}
        self._cache.load(rows, self._device)


# -- the model ----------------------------------------------------------------------------------------------


def _embedding(learner: Learner) -> Tensor:
    """Return the input embeddings (V, E)."""
    model: Any = learner.model
    weight: Tensor = model.get_input_embeddings().weight
    return weight


_AFTER = re.compile(r"(?:^|\.)(?:final_layer_norm|ln_f|norm|lm_head|embed_out|project_out)\.")
"""Pattern of the parameters that read the last block's output."""


def _first_trained(learner: Learner) -> int:
    """Return the first block whose input needs no gradient; -1 where something before the blocks is trained."""
    return min(_first_use(name) for name, p in learner.parameters.items() if p.requires_grad)


@lru_cache(maxsize=4096)
def _first_use(name: str) -> int:
    """Return the number of the block that first uses a parameter; a head tied to the embeddings has their name."""
    block = block_of(name)
    if block is not None:
        return block
    return sys.maxsize if _AFTER.search(name) else -1


_DROPOUTS = (
    "activation_dropout",
    "attention_dropout",
    "attn_pdrop",
    "dropout",
    "embd_pdrop",
    "hidden_dropout",
    "layerdrop",
    "resid_pdrop",
)
"""Settings of dropout that is not a module."""


def _drops(config: Mapping[str, Any], model: nn.Module) -> bool:
    """Return whether dropout draws activations anew at every visit, so that none can be kept."""
    from torch import nn

    modules = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    return modules or any((config.get(name) or 0) > 0 for name in _DROPOUTS)


# -- planning -----------------------------------------------------------------------------------------------


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="freeze_component",
            version="2",
            summary="Each task trains a component of its own; what the protocol freezes stays as it is.",
            options=FreezeComponentOptions,
            build=FreezeComponent,
            resize=resize,
            planned_bytes=planned_bytes,
            exclusive=("model", "forward"),
            check_model=check_model,
            citation="kin: Progressive Neural Networks arXiv 1606.04671, LLaMA Pro arXiv 2401.02415",
        )
    ]
