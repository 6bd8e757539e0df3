"""Fifth step of planning: what a run takes in memory and in time."""

from __future__ import annotations

from seqmem.core.data import Outline
from seqmem.planning.expand import Arm
from seqmem.planning.grid import Price
from seqmem.planning.models import DTYPE_BYTES, LocatedModel
from seqmem.plugin.specs import Footprint
from seqmem.plugin.strategy import overrides

# A forward and backward pass costs about 6 operations per parameter and token, a forward 2 (Kaplan et al.
# 2020, arXiv 2001.08361, section 2.1). The rates are rough sustained figures for small models, only for
# the estimate that `plan` prints. A step costs some time however small the model is: launching its kernels.
RATES = {"cpu": 8e10, "cuda": 2e13}

STEP_SECONDS = {"cpu": 0.002, "cuda": 0.01}


def price(arm: Arm, located: LocatedModel, dtype: str, device: str, outline: Outline) -> Price:
    """Estimate what a run takes.

    Raises:
        UsageError: the strategy cannot work with this model.
    """
    strategy, options = arm.strategy, arm.strategy_options
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
    added = strategy.extra_bytes(options, resized) if strategy.extra_bytes is not None else 0
    if overrides(strategy.build(options), "transform_update"):
        added += resized.trained_bytes
    kept = resized.weight_bytes + resized.context_bytes + added
    snapshot = kept if outline.branches else 0
    parameters = located.model.parameters
    operations = parameters * (6.0 * outline.train_tokens + 2.0 * outline.probe_tokens)
    kind = device.split(":")[0]
    return Price(
        parameter_bytes=DTYPE_BYTES[dtype] * parameters,
        memory_bytes=kept + resized.trained_bytes + snapshot,
        extra_bytes=kept - plain.weight_bytes - plain.context_bytes,
        operations=operations,
        seconds=operations / RATES[kind] + outline.steps * STEP_SECONDS[kind],
    )
