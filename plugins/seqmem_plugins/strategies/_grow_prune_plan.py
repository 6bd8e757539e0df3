"""Plan of `grow_prune`, made before it is run: options, shapes, bytes, refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from seqmem import Options, UsageError
from seqmem_plugins.strategies._architecture import (
    Family,
    block_count,
    block_of,
    family_of,
)
from seqmem_plugins.strategies._growth import (
    Place,
    Shapes,
    check_blocks,
    check_width,
    larger,
    numbers,
    width_of,
)

if TYPE_CHECKING:
    from seqmem import Footprint, Outline


class GrowPruneOptions(Options):
    """Options of `grow_prune`."""

    grow: Literal["blocks", "width"] = Field(
        "blocks", description="add transformer blocks, or widen all MLPs alike"
    )
    amount: int | None = Field(
        None,
        ge=1,
        description="blocks, or inner units per MLP, added by one growth; null for 1 block, or a quarter of the width",
    )
    place: Place = Field(
        "end", description="where new blocks go: after the last, or evenly between those there are"
    )
    at: Literal["every", "new_task"] = Field(
        "every", description="grow before every n-th experience, or when a task is met that is not the first"
    )
    every: int = Field(1, ge=1, description="with at=every: experiences from one growth to the next")
    growths: int = Field(2, ge=1, description="growths at most")
    train: Literal["all", "new"] = Field(
        "all", description="what is trained once the model has grown: all, or what the last growth added"
    )
    prune: Literal["magnitude", "fisher", "none"] = Field(
        "magnitude", description="how weights are ranked that make room; none refuses to prune"
    )
    budget: float = Field(
        1.25, ge=1, description="parameters kept at most, as a multiple of the original model's"
    )


def prunable(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the weight matrices of the blocks."""
    return {name: shape for name, shape in shapes.items() if block_of(name) is not None and len(shape) == 2}


def budget_of(options: GrowPruneOptions, shapes: Shapes) -> int:
    """Return the number of parameters that may be kept of a model that came with these."""
    return int(options.budget * numbers(shapes))


def amount_of(options: GrowPruneOptions, shapes: Shapes, family: Family) -> int:
    """Return the blocks or units that one growth adds to a model that came with these parameters."""
    if options.amount is not None:
        return options.amount
    return 1 if options.grow == "blocks" else max(1, width_of(shapes, family) // 4)


def shapes_after(options: GrowPruneOptions, shapes: Shapes, family: Family, amount: int) -> Shapes:
    """Return the shapes after one more growth."""
    return larger(shapes, family, **{options.grow: amount})


def growths_of(options: GrowPruneOptions, outline: Outline) -> int:
    """Return the most growths of a run; experiences that train nothing bring none."""
    due = (outline.experiences - 1) // options.every if options.at == "every" else outline.loops - 1
    return max(0, min(options.growths, due))


def check_config(options: GrowPruneOptions, config: Mapping[str, Any], shapes: Shapes) -> Family:
    """Return the model's family.

    Raises:
        UsageError: it is not known, or growth would change what it computes.
    """
    if options.grow == "blocks":
        return check_blocks(config, shapes, "grow_prune", options.place)
    return check_width(config, shapes, "grow_prune")


def check_model(options: GrowPruneOptions, footprint: Footprint) -> None:
    """Refuse a model that cannot grow, a stream in which it never would, and a budget that does not suffice.

    A stream that returns to snapshots forgets there which tasks were met, so at=new_task has no meaning in it.

    Raises:
        UsageError: one of these.
    """
    family = check_config(options, footprint.config, footprint.shapes)
    if options.at == "new_task" and footprint.outline.branches:
        raise UsageError(
            "strategy.at=new_task: this stream returns to snapshots in which no task was met yet, so the model "
            "might never grow; use at=every"
        )
    growths, shapes = growths_of(options, footprint.outline), footprint.shapes
    if not growths:
        raise UsageError(_never(options, footprint.outline))
    original = ones = numbers(shapes)
    budget, amount = budget_of(options, shapes), amount_of(options, shapes, family)
    alive = numbers(prunable(shapes)) if options.prune != "none" else 0
    for growth in range(1, growths + 1):
        after = shapes_after(options, shapes, family, amount)
        added, open_to_pruning = numbers(after) - numbers(shapes), numbers(prunable(after))
        excess = max(0, ones + added - budget)
        if excess > alive:
            enough = math.ceil(1000 * (ones + added - alive) / original) / 1000
            what = "block" if amount == 1 else "blocks"
            what = f"{amount} {what}" if options.grow == "blocks" else f"{amount} inner units per MLP"
            room = f"pruning can free {alive:,}" if options.prune != "none" else "prune=none frees nothing"
            raise UsageError(
                f"strategy.budget={options.budget:g}: {budget:,} parameters may be kept, {ones:,} are when growth "
                f"{growth} of {growths} adds {added:,} ({what}), and {room}; "
                f"allowed: at least {enough:g}, or fewer growths"
            )
        if options.prune != "none":
            alive += open_to_pruning - numbers(prunable(shapes)) - excess
        ones, shapes = ones + added - excess, after


def _never(options: GrowPruneOptions, outline: Outline) -> str:
    if options.at == "new_task":
        return (
            f"strategy.at=new_task: this stream has {outline.loops} task labels, so no task comes that is not "
            "the first and the model would never grow; use at=every"
        )
    return (
        f"strategy.every={options.every}: this stream has {outline.experiences} experiences, so the model "
        f"would never grow; allowed: at most {outline.experiences - 1}"
    )


def resize(options: GrowPruneOptions, footprint: Footprint) -> Footprint:
    """Return the model after all its growths."""
    family = family_of(footprint.config, footprint.shapes, "grow_prune")
    amount = amount_of(options, footprint.shapes, family)
    shapes = footprint.shapes
    for _ in range(growths_of(options, footprint.outline)):
        shapes = shapes_after(options, shapes, family, amount)
    size = {family.layers: block_count(shapes)}
    if family.width is not None:
        size[family.width] = width_of(shapes, family)
    return replace(footprint, shapes=shapes, config={**footprint.config, **size})


def planned_bytes(options: GrowPruneOptions, footprint: Footprint) -> int:
    """Return the bytes kept: one of mask per weight of the blocks, and 4 for its Fisher mean."""
    each = {"none": 0, "magnitude": 1, "fisher": 5}[options.prune]
    return each * numbers(prunable(footprint.shapes))
