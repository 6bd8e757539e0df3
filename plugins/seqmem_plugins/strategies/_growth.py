"""Larger models that compute what the smaller one did: blocks added, or MLPs widened.

A new block starts as the identity: the output projections of its attention and of its MLP are zero, weight and
bias, so it adds nothing to the residual stream; all else is as the architecture initialises it. A widened MLP
has new inner units with random input weights, bias 0 and zero output weights. In both cases the logits stay
the same, up to rounding, and the gradient of the new output weights is not zero.

Function-preserving growth: Net2Net (Chen et al. 2016, arXiv 1511.05641). Zero-initialised blocks, interleaved:
LLaMA Pro (Wu et al. 2024, arXiv 2401.02415), which copies a neighbour where we initialise anew.

Imports no torch at the top: a plan counts with the same functions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from seqmem import UsageError
from seqmem_plugins.strategies._architecture import (
    BLOCK,
    Family,
    block_count,
    block_of,
    config_of,
    family_of,
    shapes_of,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

Place = Literal["end", "even"]
Shapes = Mapping[str, tuple[int, ...]]
Origins = Mapping[str, str | None]
"""Name of a parameter in the new model to its name in the old one; None where it is new."""


def add_blocks(
    model: nn.Module, count: int, generator: np.random.Generator, place: Place = "end"
) -> tuple[nn.Module, Origins]:
    """Return a model with `count` more blocks and the same logits; the old one is left as it is.

    Args:
        model: of a family in `_architecture.FAMILIES`.
        count: blocks to add.
        generator: one number is drawn from it, the seed of the new weights; torch's random state stays.
        place: after the last block, or spread evenly between the blocks there are.

    Returns:
        The new model, on the old one's device, in its dtype and mode, every parameter to be trained; and
        for `Learner.adopt` the origin of each of its parameters.

    Raises:
        UsageError: a new block in this architecture would change what the model computes.
    """
    blocks = with_new(block_count(name for name, _ in model.named_parameters()), count, place)
    check_blocks(config_of(model), "growth", place)
    return rebuilt(model, blocks, mlp_width(model), generator)


def widen(model: nn.Module, by: int, generator: np.random.Generator) -> tuple[nn.Module, Origins]:
    """Return a model whose MLPs all have `by` more inner units, and the same logits; otherwise as `add_blocks`."""
    blocks = range(block_count(name for name, _ in model.named_parameters()))
    return rebuilt(model, blocks, mlp_width(model) + by, generator)


def rebuilt(
    model: nn.Module, blocks: Sequence[int | None], width: int, generator: np.random.Generator
) -> tuple[nn.Module, Origins]:
    """Return a model of these blocks, old ones by number and None for a new one, with MLPs of this width.

    Blocks may be left out and MLPs may get narrower. See `add_blocks` for the rest.
    """
    import torch

    config: Any = copy.deepcopy(model.config)
    family = family_of(config_of(model), "growth")
    setattr(config, family.layers, len(blocks))
    setattr(config, family.width, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator.integers(2**63)))
        make: Any = type(model)
        new: nn.Module = make(config)
    parameters, origins = dict(model.named_parameters()), {}
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            origin = _origin(name, blocks)
            source = next(iter(parameters.values())) if origin is None else parameters[origin]
            # not `new.to(dtype)`, which would round the rotary frequencies too
            parameter.data = parameter.data.to(source.dtype)
            _fill(parameter, None if origin is None else source, name, family)
            origins[name] = origin
        buffers = dict(model.named_buffers())
        for name, buffer in new.named_buffers():
            origin = _origin(name, blocks)
            if origin in buffers:
                buffer.copy_(buffers[origin])
    if hasattr(model, "generation_config"):
        new.generation_config = copy.deepcopy(model.generation_config)
    new.to(next(iter(parameters.values())).device)
    new.train(model.training)
    return new, origins


def _origin(name: str, blocks: Sequence[int | None]) -> str | None:
    """Return the name in the old model of a parameter or buffer of the new one; None in a new block."""
    found = BLOCK.search(name)
    if found is None:
        return name
    block = blocks[int(found[1])]
    return None if block is None else f"{name[: found.start(1)]}{block}{name[found.end(1) :]}"


def _fill(parameter: Tensor, source: Tensor | None, name: str, family: Family) -> None:
    """Put the old values in their place and zeros where they keep the logits; the rest stays random."""
    if source is None:
        if _in_module(name, family.attention_out) or _in_module(name, family.mlp_out):
            parameter.zero_()
        return
    axis = width_axis(name, family)
    if axis is None:
        parameter.copy_(source)
        return
    kept = min(parameter.shape[axis], source.shape[axis])
    if parameter.dim() == 1 or _in_module(name, family.mlp_out):
        parameter.zero_()
    parameter.narrow(axis, 0, kept).copy_(source.narrow(axis, 0, kept))


def _in_module(name: str, module: str) -> bool:
    """Return whether a parameter is one of this module of a block."""
    return block_of(name) is not None and BLOCK.split(name)[-1].startswith(f"{module}.")


def width_axis(name: str, family: Family) -> int | None:
    """Return the dimension of a parameter that runs over an MLP's inner units; None where none does."""
    bias = name.endswith(".bias")
    if any(_in_module(name, module) for module in family.mlp_in):
        return 0 if bias else int(family.transposed)
    if _in_module(name, family.mlp_out) and not bias:
        return 1 - int(family.transposed)
    return None


def mlp_width(model: nn.Module) -> int:
    """Return the inner units of each of a model's MLPs."""
    return width_of(shapes_of(dict(model.named_parameters())), family_of(config_of(model), "growth"))


def width_of(shapes: Shapes, family: Family) -> int:
    """Return the inner units of each MLP, by the parameters' shapes."""
    widths = {shape[axis] for name, shape in shapes.items() if (axis := width_axis(name, family)) is not None}
    (width,) = widths
    return width


def with_new(count: int, added: int, place: Place) -> list[int | None]:
    """Return `count` old blocks by number with `added` new ones (None) after the last, or spread between them."""
    if place == "end":
        return [*range(count), *[None] * added]
    blocks: list[int | None] = []
    for block in range(count):
        # after the first b + 1 of n blocks stand floor((b + 1) / n * added) new ones
        new = (block + 1) * added // count - block * added // count
        blocks += [block, *[None] * new]
    return blocks


def larger(shapes: Shapes, family: Family, *, blocks: int = 0, width: int = 0) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model with `blocks` more blocks and `width` more inner units in each MLP."""
    count = block_count(shapes)
    grown = dict(shapes)
    for name, shape in shapes.items():
        found = BLOCK.search(name)
        if found is not None and int(found[1]) == 0:
            for number in range(count, count + blocks):
                grown[f"{name[: found.start(1)]}{number}{name[found.end(1) :]}"] = shape
    for name, shape in grown.items():
        axis = width_axis(name, family)
        if axis is not None:
            grown[name] = (*shape[:axis], shape[axis] + width, *shape[axis + 1 :])
    return grown


def numbers(shapes: Shapes) -> int:
    """Return the count of numbers in parameters of these shapes."""
    return sum(map(math.prod, shapes.values()))


def check_blocks(config: Mapping[str, Any], strategy: str, place: Place = "end") -> Family:
    """Return the family of a model to which blocks can be added without changing what it computes.

    Raises:
        UsageError: its family is not known, or its configuration forbids it.
    """
    family = family_of(config, strategy)
    where = f"strategy {strategy} cannot add blocks to this model without changing what it computes"
    if not config.get("do_layer_norm_before", True):
        raise UsageError(
            f"{where}: it normalises after each block (do_layer_norm_before is false); widen its MLPs instead"
        )
    if place == "even" and config.get("scale_attn_by_inverse_layer_idx"):
        raise UsageError(
            f"{where} between the others: its attention depends on a block's number "
            "(scale_attn_by_inverse_layer_idx); add them at the end"
        )
    # such as layer_types: what the new blocks would be is not for us to guess
    lists = sorted(key for key, value in config.items() if "layer" in key and isinstance(value, list | tuple))
    if lists:
        raise UsageError(
            f"strategy {strategy} cannot add blocks to this model: its configuration says something of each "
            f"block ({lists[0]}); widen its MLPs instead"
        )
    return family
