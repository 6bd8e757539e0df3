"""Larger models that compute what the smaller one did: blocks added, or MLPs widened.

A new block starts as the identity: the output projections of its attention and of its MLP are zero, weight and
bias, so it adds nothing to the residual stream; all else is as the architecture initialises it. Where a norm
follows the projection (Gemma 2 and 3, OLMo 2 and 3), the norm's scale is zero instead: a norm multiplies the
gradient of a projection that gives 0 by 1 / sqrt(eps), hundreds or more, and a few steps would make the block's
output as large as a trained one's. A widened MLP has new inner units with random input weights, bias 0
and zero output weights. In all cases the logits stay the same, up to rounding, and the gradient of what was
zeroed is not zero.

Where a configuration lists something of each block, such as which attend within a window only, a new block is
of the kind of the one before it.

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
    GROWABLE,
    Family,
    block_count,
    block_of,
    config_of,
    family_of,
    is_fused,
    shapes_of,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from seqmem import Learner

Place = Literal["end", "even"]
Shapes = Mapping[str, tuple[int, ...]]
Origins = Mapping[str, str | None]
"""Name of a parameter in the new model to its name in the old one; None where it is new."""
Lists = Mapping[str, list[Any]]
"""What a configuration says of each block, by key."""
_LISTS = ("layer_types", "no_rope_layers")


def add_blocks(
    model: nn.Module, count: int, generator: np.random.Generator, place: Place = "end"
) -> tuple[nn.Module, Origins]:
    """Return a model with `count` more blocks and the same logits; the old one is left as it is.

    Args:
        model: of one of the architectures in `_architecture.GROWABLE`.
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
    check_blocks(config_of(model), shapes_of(dict(model.named_parameters())), "growth", place)
    return rebuilt(model, blocks, mlp_width(model), generator)


def widen(model: nn.Module, by: int, generator: np.random.Generator) -> tuple[nn.Module, Origins]:
    """Return a model whose MLPs all have `by` more inner units, and the same logits; otherwise as `add_blocks`."""
    check_width(config_of(model), shapes_of(dict(model.named_parameters())), "growth")
    blocks = range(block_count(name for name, _ in model.named_parameters()))
    return rebuilt(model, blocks, mlp_width(model) + by, generator)


def rebuilt(
    model: nn.Module,
    blocks: Sequence[int | None],
    width: int,
    generator: np.random.Generator,
    lists: Lists | None = None,
) -> tuple[nn.Module, Origins]:
    """Return a model of these blocks, old ones by number and None for a new one, with MLPs of this width.

    Blocks may be left out and MLPs may get narrower. `lists` says of each block what the configuration does, where
    that is known. See `add_blocks` for the rest.
    """
    import torch

    config: Any = copy.deepcopy(model.config)
    family = _family(model)
    setattr(config, family.layers, len(blocks))
    if family.width is not None:
        setattr(config, family.width, width)
    old = block_lists(config_of(model))
    for key, values in ({key: _spread(old[key], blocks) for key in old} if lists is None else lists).items():
        setattr(config, key, values)
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


def block_lists(config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what a configuration says of each block, by key."""
    return {key: list(config[key]) for key in _LISTS if config.get(key)}


def _spread(values: Sequence[Any], blocks: Sequence[int | None]) -> list[Any]:
    """Return the values of these blocks; a new one has that of the block before it."""
    spread: list[Any] = []
    for block in blocks:
        spread.append(spread[-1] if block is None else values[block])
    return spread


def _fill(parameter: Tensor, source: Tensor | None, name: str, family: Family) -> None:
    """Put the old values in their place and zeros where they keep the logits; the rest stays random."""
    if source is None:
        if any(_in_module(name, norm) for norm in family.post_norms):
            parameter.sub_(1)  # a scale is 1 at first, kept as 1 or as the 0 that is added to 1
        elif not family.post_norms and any(_in_module(name, module) for module in family.outputs):
            parameter.zero_()
        return
    axis = width_axis(name, family)
    if axis is None:
        parameter.copy_(source)
        return
    if parameter.dim() == 1 or _in_module(name, family.mlp_out):
        parameter.zero_()
    width = min(width_at(tuple(tensor.shape), name, axis) for tensor in (parameter, source))
    for place, old in zip(units(parameter, name, axis, width), units(source, name, axis, width), strict=True):
        place.copy_(old)


def units(tensor: Tensor, name: str, axis: int, count: int, start: int = 0) -> list[Tensor]:
    """Return views of `count` inner units of an MLP's parameter, or of a tensor that belongs to it."""
    parts = tensor.chunk(2, axis) if is_fused(name) else (tensor,)
    return [part.narrow(axis, start, count) for part in parts]


def part_fused(learner: Learner, family: Family, old: int, width: int) -> None:
    """Put registered state of matrices that hold two in its place, after `Learner.adopt` of a widened model.

    Old values lead there, so those of the second matrix lie behind those of the first. What comes last is filled up.
    """
    for entry in learner.state:
        for name, tensor in learner.state[entry].items():
            axis = width_axis(name, family)
            if is_fused(name) and axis is not None and tensor.dim() and tensor.shape[axis] == 2 * width:
                second, filled = (
                    tensor.narrow(axis, old, old).clone(),
                    tensor.narrow(axis, 2 * width - 1, 1).clone(),
                )
                tensor.narrow(axis, old, old).copy_(filled)
                tensor.narrow(axis, width, old).copy_(second)


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
    return width_of(shapes_of(dict(model.named_parameters())), _family(model))


def _family(model: nn.Module) -> Family:
    return family_of(config_of(model), shapes_of(dict(model.named_parameters())), "growth")


def width_of(shapes: Shapes, family: Family) -> int:
    """Return the inner units of each MLP, by the parameters' shapes."""
    widths = {
        width_at(shape, name, axis)
        for name, shape in shapes.items()
        if (axis := width_axis(name, family)) is not None
    }
    (width,) = widths
    return width


def width_at(shape: tuple[int, ...], name: str, axis: int) -> int:
    """Return the inner units along this dimension of an MLP's parameter."""
    return shape[axis] // (2 if is_fused(name) else 1)


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
            added = 2 * width if is_fused(name) else width
            grown[name] = (*shape[:axis], shape[axis] + added, *shape[axis + 1 :])
    return grown


def numbers(shapes: Shapes) -> int:
    """Return the count of numbers in parameters of these shapes."""
    return sum(map(math.prod, shapes.values()))


def check_blocks(
    config: Mapping[str, Any],
    shapes: Shapes,
    strategy: str,
    place: Place = "end",
    kinds: Sequence[str] = GROWABLE,
) -> Family:
    """Return the family of a model to which blocks can be added without changing what it computes.

    Raises:
        UsageError: its family is not known, or its configuration forbids it.
    """
    family = family_of(config, shapes, strategy, kinds)
    where = f"strategy {strategy} cannot add blocks to this model without changing what it computes"
    instead = "; widen its MLPs instead" if family.width else ""
    if not config.get("do_layer_norm_before", True):
        raise UsageError(f"{where}: it normalises after each block (do_layer_norm_before is false){instead}")
    if config.get("apply_residual_connection_post_layernorm"):
        raise UsageError(
            f"{where}: what a block passes on is normalised (apply_residual_connection_post_layernorm){instead}"
        )
    if place == "even" and config.get("scale_attn_by_inverse_layer_idx"):
        raise UsageError(
            f"{where} between the others: its attention depends on a block's number "
            "(scale_attn_by_inverse_layer_idx); add them at the end"
        )
    # what the new blocks would be is not for us to guess
    lists = sorted(
        key
        for key, value in config.items()
        if "layer" in key and key not in _LISTS and isinstance(value, list | tuple)
    )
    if lists:
        raise UsageError(
            f"strategy {strategy} cannot add blocks to this model: its configuration says something of each "
            f"block ({lists[0]}){instead}"
        )
    return family


def check_width(config: Mapping[str, Any], shapes: Shapes, strategy: str) -> Family:
    """Return the family of a model whose MLPs can be widened.

    Raises:
        UsageError: its family is not known, or fixes the width.
    """
    family = family_of(config, shapes, strategy)
    if family.width is None:
        raise UsageError(
            f"strategy {strategy} cannot widen the MLPs of a {config['model_type']!r} model: no key of its "
            "configuration states their width; add blocks instead"
        )
    return family
