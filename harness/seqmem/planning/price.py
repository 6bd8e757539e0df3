"""Fifth step of planning: what a run takes in memory; its time follows from its outline."""

from __future__ import annotations

from seqmem.core.data import Outline
from seqmem.planning.activations import Activations
from seqmem.planning.expand import Arm
from seqmem.planning.grid import Memory
from seqmem.planning.models import DTYPE_BYTES, LocatedModel
from seqmem.planning.request import Request
from seqmem.plugin.specs import Footprint
from seqmem.plugin.strategy import overrides


def memory_of(arm: Arm, located: LocatedModel, request: Request, outline: Outline) -> Memory:
    """Return what a run takes.

    Raises:
        UsageError: the strategy cannot work with this model.
    """
    strategy, options, dtype = arm.strategy, arm.strategy_options, request.precision
    plain = Footprint(
        shapes=located.shapes,
        value_bytes=DTYPE_BYTES[dtype],
        moments=arm.optimizer.moments,
        config=located.config,
        outline=outline,
    )
    if strategy.check_model is not None:
        strategy.check_model(options, plain)
    resized = strategy.resize(options, plain) if strategy.resize is not None else plain
    added = strategy.planned_bytes(options, resized) if strategy.planned_bytes is not None else 0
    if overrides(strategy.build(options), "transform_update"):
        added += resized.trained_bytes
    kept = resized.weight_bytes + resized.context_bytes + added
    snapshot = kept if outline.branches else 0
    return Memory(
        parameter_bytes=DTYPE_BYTES[dtype] * located.model.parameters,
        memory_bytes=kept + resized.trained_bytes + snapshot,
        extra_bytes=kept - plain.weight_bytes - plain.context_bytes,
        checkpoint_bytes=kept + snapshot,
        activations=Activations(
            shapes={**located.shapes, **resized.shapes},
            config=located.config,
            value_bytes=DTYPE_BYTES[dtype],
            attention=located.attention,
            checkpointing=request.activation_checkpointing,
            cast_bytes=2 * resized.weight_bytes // 4 if dtype == "bf16-mixed" else 0,
        ),
    )
