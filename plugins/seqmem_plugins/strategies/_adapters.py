"""LoRA adapters of peft on a model's attention and MLP matrices, and the choice of the one that answers.

An adapter adds (alpha / rank) B A x to what a matrix W gives for x; A (rank, in) is random, B (out, rank) starts at
zero, so a new adapter changes nothing. Several lie side by side in the same modules, and at most one is active.

Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685, section 4.1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from seqmem import UsageError
from seqmem_plugins.strategies._architecture import (
    BLOCK,
    TRANSPOSED,
    block_count,
    block_of,
    config_of,
    in_attention,
    matrices_of,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

Targets = Literal["attention", "mlp", "both"]


def target_modules(
    shapes: Mapping[str, tuple[int, ...]], targets: Targets, blocks: Collection[int]
) -> list[str]:
    """Return the matrices of these blocks that get adapters, by their modules' names.

    Args:
        shapes: shape of every parameter by name, of a loaded model or of its weight files.
        targets: kind of matrices; what is not attention's is the MLP's.
        blocks: numbers of transformer blocks.
    """
    wanted = {"attention": (True,), "mlp": (False,), "both": (True, False)}[targets]
    return [
        name.removesuffix(".weight")
        for name in matrices_of(shapes, blocks)
        if in_attention(BLOCK.split(name)[-1]) in wanted
    ]


def check_adapters(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], strategy: str) -> None:
    """Refuse a model whose blocks are not attention and an MLP of plain matrices.

    Raises:
        UsageError: experts, convolutions, no attention, or several lists of blocks, as models of images have.
    """
    blocks = range(block_count(shapes))
    attention, mlp = (target_modules(shapes, kind, blocks) for kind in ("attention", "mlp"))
    odd = [
        name
        for name, shape in shapes.items()
        if block_of(name) is not None and (len(shape) > 2 or "expert" in name)
    ]
    lists = {name[: place.start()] for name in shapes if (place := BLOCK.search(name))}
    if odd or not attention or not mlp or len(lists) > 1:
        found = f"it holds {odd[0]!r}" if odd else "attention or MLP is missing"
        found = f"it has {len(lists)} lists of blocks" if len(lists) > 1 else found
        raise UsageError(
            f"strategy {strategy} cannot put adapters into a {config.get('model_type')!r} model: {found}; it works "
            "with decoders whose blocks are attention and one MLP of plain matrices, such as Llama, Gemma or GPT-2"
        )


def adapter_shapes(
    shapes: Mapping[str, tuple[int, ...]],
    config: Mapping[str, Any],
    modules: Iterable[str],
    adapters: Iterable[str],
    rank: int,
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the adapters' parameters, named as peft names them."""
    added: dict[str, tuple[int, ...]] = {}
    for module in modules:
        size_out, size_in = shapes[f"{module}.weight"]
        if config.get("model_type") in TRANSPOSED:
            size_out, size_in = size_in, size_out
        for adapter in adapters:
            added[f"{module}.lora_A.{adapter}.weight"] = (rank, size_in)
            added[f"{module}.lora_B.{adapter}.weight"] = (size_out, rank)
    return added


def add_adapters(
    model: nn.Module,
    modules: Sequence[str],
    adapters: Sequence[str],
    *,
    rank: int,
    alpha: float,
    generator: np.random.Generator,
) -> Mapping[str, str | None]:
    """Put adapters into a model, in place; the first is active, and every parameter requires a gradient.

    Args:
        model: changed in place.
        modules: names of the modules that get one of each.
        adapters: names of the adapters, new to the model.
        rank: inner size of an adapter.
        alpha: its output is multiplied by alpha / rank.
        generator: one number is drawn from it, the seed of the random halves; torch's random state stays.

    Returns:
        For `Learner.adopt`: of each parameter, its name before, or None where it is new.
    """
    import torch
    from peft import LoraConfig, LoraModel

    fan_in_fan_out = config_of(model).get("model_type") in TRANSPOSED
    before = {id(parameter): name for name, parameter in model.named_parameters()}
    configs = {
        adapter: LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=list(modules), fan_in_fan_out=fan_in_fan_out
        )
        for adapter in adapters
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator.integers(2**63)))
        tuner = LoraModel(model, configs, adapters[0])
        for adapter in adapters[1:]:
            tuner.inject_adapter(model, adapter)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return {name: before.get(id(parameter)) for name, parameter in model.named_parameters()}


def use_adapter(model: nn.Module, adapter: str | None) -> list[str]:
    """Let this adapter answer from now on, or none of them; what requires a gradient stays as it is.

    Returns:
        The adapters that answered before: one, or none.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    wanted = [] if adapter is None else [adapter]
    before: list[str] = wanted
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer) and layer.active_adapters != wanted:
            before = list(layer.active_adapters)
            asked = [(parameter, parameter.requires_grad) for parameter in layer.parameters()]
            layer.set_adapter(wanted)
            for parameter, requires in asked:
                parameter.requires_grad_(requires)
    return before


@contextmanager
def adapter_in_use(model: nn.Module, adapter: str | None) -> Iterator[None]:
    """Let this adapter answer inside, or none where it is None; afterwards the one that did before.

    A direct call of the model then finds it as training left it.
    """
    before = use_adapter(model, adapter)
    try:
        yield
    finally:
        use_adapter(model, before[0] if before else None)


def of_adapter(name: str, adapter: str) -> bool:
    """Return whether a parameter is one of this adapter's."""
    return name.endswith((f".lora_A.{adapter}.weight", f".lora_B.{adapter}.weight"))
