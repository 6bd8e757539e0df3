"""The components of a model: sets of its parameters, or of slices of them.

Units are counted from the end of the model: component c has the `span` units after those of the components before
it. A unit is a block, the MLP of a block, or an attention head. Imports no torch: a plan checks with the same
functions that training uses.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from seqmem import UsageError
from seqmem_plugins.strategies._architecture import BLOCK, FREEZABLE, block_count, block_of, family_of

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Slice:
    """Part of a tensor: these places along one dimension."""

    dim: int
    places: tuple[int, ...]


Component = Mapping[str, Slice | None]
"""Parameter name to the part of it that belongs to the component; None for the whole tensor."""


def units_of(kind: str, blocks: int, config: Mapping[str, Any]) -> tuple[int, str]:
    """Return the number of units of this kind in a model, and their name."""
    if kind == "heads":
        return blocks * _key_heads(config), "attention heads"
    return blocks, {"mlps": "MLPs"}.get(kind, "transformer blocks")


def component_units(number: int, span: int, units: int) -> list[int]:
    """Return the units of a component, ascending."""
    end = units - number * span
    return list(range(end - span, end))


def block_components(names: Iterable[str], count: int, span: int) -> list[Component]:
    """Return the components of whole blocks."""
    listed = list(names)
    blocks = block_count(listed)
    return [
        {name: None for name in listed if block_of(name) in component_units(number, span, blocks)}
        for number in range(count)
    ]


def mlp_components(shapes: Shapes, config: Mapping[str, Any], count: int, span: int) -> list[Component]:
    """Return the components of the MLPs of blocks."""
    family = family_of(config, shapes, "freeze_component", FREEZABLE)
    return [
        {name: part for name, part in component.items() if family.in_mlp(name)}
        for component in block_components(shapes, count, span)
    ]


def pattern_components(names: Iterable[str], patterns: Sequence[str]) -> list[Component]:
    """Return the components of the parameters whose names match a pattern each.

    Raises:
        UsageError: a pattern matches no parameter, or all.
    """
    listed = list(names)
    components: list[Component] = []
    for pattern in patterns:
        found = [name for name in listed if matches(pattern, name)]
        if not found:
            raise no_match(pattern, listed)
        if len(found) == len(listed):
            raise matches_all(pattern)
        components.append(dict.fromkeys(found))
    return components


def matches(pattern: str, name: str) -> bool:
    """Return whether a shell pattern (`*`, `?`, `[...]`) fits a parameter's name, or its end from a dot on."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def no_match(pattern: str, names: Sequence[str]) -> UsageError:
    """Return the message that a pattern fits no parameter, with the nearest names."""
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.0)
    return UsageError(
        f"strategy.patterns: {pattern!r} matches no parameter; near: {', '.join(near)} "
        "(a shell pattern with * and ?, for a whole name or its end from a dot on)"
    )


def matches_all(pattern: str) -> UsageError:
    """Return the message that a pattern leaves nothing to train beside its component."""
    return UsageError(
        f"strategy.patterns: {pattern!r} matches every parameter, so nothing would be left to train beside the "
        "component; give a pattern that leaves some out"
    )


_FRONTS = {"gpt_neox": "gpt_neox.", "opt": "model.", "gpt2": "transformer.", "llama": "model."}
_HEADS = {"embed_out.weight": "lm_head.weight"}


def names_when_loaded(names: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    """Return the possible names of a weight file's parameters in the loaded model, where the two differ."""
    front = _FRONTS.get(str(config.get("model_type")), "")
    either = [name for own in names for name in (own, _HEADS.get(own, own), f"{front}{own}")]
    return list(dict.fromkeys(either))


def name_when_loaded(name: str, config: Mapping[str, Any]) -> str:
    """Return the most likely name of a weight file's parameter in the loaded model."""
    head = _HEADS.get(name, name)
    front = _FRONTS.get(str(config.get("model_type")), "")
    return head if head in _HEADS.values() or head.startswith(front) else f"{front}{head}"


# -- heads ------------------------------------------------------------------------------------------------


def _heads(config: Mapping[str, Any]) -> int:
    """Return the query heads of each block."""
    return int(config.get("num_attention_heads") or config.get("n_head") or 1)


def _key_heads(config: Mapping[str, Any]) -> int:
    """Return the key and value heads of each block: as many as query heads unless several of these share one."""
    return int(config.get("num_key_value_heads") or _heads(config))


def head_components(shapes: Shapes, config: Mapping[str, Any], count: int, span: int) -> list[Component]:
    """Return the components of attention heads, the last head of the last block first.

    A head is its rows of the query, key and value matrices and biases and its columns of the output matrix;
    the output's bias belongs to no head. Where several query heads share a key head (Llama), the unit is the
    key head with all query heads that read it.

    Raises:
        UsageError: this model's heads are not found.
    """
    family = family_of(config, shapes, "freeze_component", FREEZABLE)
    key_heads, blocks = _key_heads(config), block_count(shapes)
    components: list[Component] = []
    for number in range(count):
        own = component_units(number, span, blocks * key_heads)
        component: dict[str, Slice | None] = {}
        for name, shape in shapes.items():
            block = block_of(name)
            rest = BLOCK.split(name)[-1]
            heads = [unit % key_heads for unit in own if unit // key_heads == block]
            if not heads or not rest.startswith(f"{family.attention}."):
                continue
            module, _, kind = rest.removeprefix(f"{family.attention}.").partition(".")
            part = _head_slice(module, kind, shape, heads, config, family.transposed)
            if part is not None:
                component[name] = part if len(part.places) < shape[part.dim] else None
        components.append(component)
    return components


_FUSED = {"query_key_value": "by head", "c_attn": "by kind"}
_OUTPUTS = ("dense", "out_proj", "o_proj", "c_proj")


def _head_slice(
    module: str,
    kind: str,
    shape: tuple[int, ...],
    heads: Sequence[int],
    config: Mapping[str, Any],
    transposed: bool,
) -> Slice | None:
    """Return the slice of an attention parameter that belongs to these key heads; None where there is none."""
    key_heads = _key_heads(config)
    if module in _OUTPUTS:
        if kind != "weight":
            return None
        dim = 0 if transposed else 1
        return Slice(dim, _parts(heads, shape[dim] // key_heads))
    # the last dimension of a transposed matrix, and the only one of a bias, runs over outputs
    dim = 1 if transposed and kind == "weight" else 0
    if module not in (*_FUSED, "q_proj", "k_proj", "v_proj"):
        return None
    if _FUSED.get(module) == "by kind":  # all queries, then all keys, then all values
        third = shape[dim] // 3
        each = _parts(heads, third // key_heads)
        return Slice(dim, tuple(start + place for start in (0, third, 2 * third) for place in each))
    # each head's query, key and value lie together, or the matrix holds one of the three
    return Slice(dim, _parts(heads, shape[dim] // key_heads))


def _parts(heads: Sequence[int], size: int) -> tuple[int, ...]:
    return tuple(place for head in sorted(heads) for place in range(head * size, (head + 1) * size))
