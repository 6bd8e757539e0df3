"""Plan of `freeze_component`, made before it is run: options, shapes, bytes, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from seqmem import Footprint, Options, UsageError
from seqmem_plugins.strategies._adapters import (
    adapter_shapes,
    target_modules,
)
from seqmem_plugins.strategies._architecture import (
    FREEZABLE,
    block_count,
    family_of,
)
from seqmem_plugins.strategies._components import (
    matches,
    matches_all,
    name_when_loaded,
    names_when_loaded,
    no_match,
    units_of,
)
from seqmem_plugins.strategies._growth import check_blocks, larger
from seqmem_plugins.strategies._prefix_cache import MIB
from seqmem_plugins.strategies._router import COUNT_BYTES

if TYPE_CHECKING:
    pass

Kind = Literal["blocks", "mlps", "heads", "added_blocks", "lora", "pattern"]


class FreezeComponentOptions(Options):
    """Options of `freeze_component`."""

    component: Kind = Field("blocks", description="what a component is made of")
    components: int = Field(
        2,
        ge=1,
        description="how many components there are; task c has component c mod this (not for pattern)",
    )
    span: int = Field(
        1,
        ge=1,
        description="blocks, MLPs or heads in each component, counted from the model's end; "
        "for lora, the last blocks that get adapters",
    )
    patterns: tuple[str, ...] = Field(
        (),
        description="for pattern: one shell pattern of parameter names per component, "
        "for a whole name or its end from a dot on",
    )
    rank: int = Field(8, ge=1, description="for lora: inner size of an adapter")
    alpha: float = Field(16, gt=0, description="for lora: an adapter's output is multiplied by alpha / rank")
    moments_on_unfreeze: Literal["keep", "reset"] = Field(
        "keep", description="optimizer state of what is trained again after it was frozen"
    )
    cache: bool = Field(True, description="keep what enters the first trained block, per training row")
    cache_mib: int = Field(
        256, ge=1, description="most MiB of kept activations; rows beyond are computed anew"
    )

    @model_validator(mode="after")
    def _fits(self) -> FreezeComponentOptions:
        if (self.component == "pattern") != bool(self.patterns):
            raise ValueError(
                "component=pattern goes with patterns, a list of name patterns, one per component; "
                f"here component={self.component} and {len(self.patterns)} patterns"
            )
        if self.component == "heads" and self.moments_on_unfreeze == "reset":
            raise ValueError(
                "moments_on_unfreeze=reset: a head shares its optimizer's clock with the rest of its tensor, so "
                "its moments cannot be as new; allowed with component=heads: keep"
            )
        return self

    @property
    def count(self) -> int:
        """Number of components."""
        return len(self.patterns) or self.components

    @property
    def switched(self) -> bool:
        """Return whether only one task's component is in the model's path."""
        return self.component in ("added_blocks", "lora")


def adapter_names(options: FreezeComponentOptions) -> list[str]:
    """Return the names of the adapters, by component."""
    return [f"task{component}" for component in range(options.count)]


def keeps_activations(options: FreezeComponentOptions, config: Mapping[str, Any]) -> bool:
    """Return whether activations may be kept: a block computes the same without those before it in the list."""
    return options.cache and config.get("model_type") in FREEZABLE


def check_model(options: FreezeComponentOptions, footprint: Footprint) -> None:
    """Refuse a model that lacks such components, and a stream that would never train them.

    Raises:
        UsageError: as above, or a pattern matches none or all of the model's parameters.
    """
    o, names, config = options, list(footprint.shapes), footprint.config
    if o.switched and not footprint.outline.loops:
        raise UsageError(
            f"strategy.component={o.component}: this stream has no task labels, so what is added would never be in "
            "the model's path; allowed: blocks, mlps, heads, pattern, or a scenario with tasks"
        )
    if o.component == "pattern":
        loaded = names_when_loaded(names, config)
        for pattern in o.patterns:
            if not any(matches(pattern, name) for name in loaded):
                raise no_match(pattern, names)
            if all(matches(pattern, name_when_loaded(name, config)) for name in names):
                raise matches_all(pattern)
        return
    blocks = block_count(names)
    if not blocks:
        raise UsageError(
            f"strategy freeze_component finds no transformer blocks in this {config.get('model_type')!r} model; "
            "use a model of the GPT-NeoX, OPT, GPT-2 or Llama kind, or component=pattern"
        )
    if o.component == "added_blocks":
        check_blocks(config, footprint.shapes, "freeze_component", kinds=FREEZABLE)
        return
    if o.component != "blocks":
        family_of(config, footprint.shapes, "freeze_component", FREEZABLE)
    units, called = units_of(o.component, blocks, config)
    components = 1 if o.component == "lora" else o.components
    if components * o.span > units:
        given = "" if o.component == "lora" else f"strategy.components={o.components} with "
        raise UsageError(
            f"{given}strategy.span={o.span}: the model has {units} {called}, not {components * o.span}; "
            f"allowed: {'span' if o.component == 'lora' else 'components times span'} up to {units}"
        )


def resize(options: FreezeComponentOptions, footprint: Footprint) -> Footprint:
    """Return the footprint with the blocks or adapters added."""
    o, shapes = options, footprint.shapes
    if not o.switched:
        return footprint
    family = family_of(footprint.config, shapes, "freeze_component", FREEZABLE)
    if o.component == "added_blocks":
        return replace(footprint, shapes=larger(shapes, family, blocks=o.count * o.span))
    blocks = block_count(shapes)
    modules = target_modules(shapes, "both", range(blocks - o.span, blocks))
    added = adapter_shapes(shapes, footprint.config, modules, adapter_names(o), o.rank)
    return replace(footprint, shapes={**shapes, **added})


def planned_bytes(options: FreezeComponentOptions, footprint: Footprint) -> int:
    """Return the limit or the bytes of every trained token's activations, and the router's counts."""
    config = footprint.config
    token_bytes = _width(config) * footprint.value_bytes
    kept = footprint.outline.train_tokens * token_bytes if keeps_activations(options, config) else 0
    counts = options.count * int(config["vocab_size"]) * COUNT_BYTES if options.switched else 0
    return min(kept, options.cache_mib * MIB) + counts


def _width(config: Mapping[str, Any]) -> int:
    """Return the size of the residual stream."""
    return int(config.get("hidden_size") or config.get("n_embd") or 0)
