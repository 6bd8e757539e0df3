"""`avalanche:NAME`: eight of Avalanche's strategy plugins, as strategies of this host.

Avalanche 0.6.0, https://avalanche.continualai.org (Lomonaco et al. 2021, arXiv 2104.00405). How its code is called is
in `_penalties` and `_memories`, its surroundings in `_standin`. Option names and meanings are those of
Avalanche's constructors.

Nothing here imports Avalanche: planning must stay light.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field, model_validator

from seqmem import TOKEN_BYTES, Footprint, Options, StrategySpec, UsageError, hookimpl
from seqmem_plugins.avalanche import _memories, _penalties
from seqmem_plugins.avalanche._bridge import Bridge

seqmem_api = ">=1,<2"

FLOAT32 = 4
"""Bytes of a number of a plugin's importances, whatever the model's numbers are."""


class EWCOptions(Options):
    """Options of `avalanche:EWC`."""

    ewc_lambda: float = Field(
        1000.0, ge=0, description="strength of the penalty, which is ewc_lambda sum F (theta - theta*)^2"
    )
    mode: Literal["separate", "online"] = Field(
        "separate",
        description="a penalty for every past experience, or one with a decayed sum of importances",
    )
    decay_factor: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the old importance kept; needed by mode=online, and only there",
    )

    @model_validator(mode="after")
    def _decay_goes_with_online(self) -> EWCOptions:
        if self.mode == "online" and self.decay_factor is None:
            raise ValueError(
                "mode=online needs decay_factor, a number from 0 to 1; set decay_factor=1 to forget nothing"
            )
        if self.mode == "separate" and self.decay_factor is not None:
            raise ValueError(
                f"decay_factor={self.decay_factor:g} is used by mode=online only; leave it out or set mode=online"
            )
        return self


class ReplayOptions(Options):
    """Options of `avalanche:Replay`."""

    mem_size: int = Field(200, ge=1, description="rows kept, divided equally over past experiences")
    batch_size_mem: int | None = Field(
        None, ge=1, description="rehearsed rows per step; null for as many as the step has of its own"
    )


class LwFOptions(Options):
    """Options of `avalanche:LwF`."""

    alpha: float = Field(1.0, ge=0, description="strength of the distillation")
    temperature: float = Field(2.0, gt=0, description="softens both distributions; 1 leaves them as they are")


class SynapticIntelligenceOptions(Options):
    """Options of `avalanche:SynapticIntelligence`."""

    si_lambda: float = Field(
        100.0, ge=0, description="strength of the penalty, which is si_lambda/2 sum w (theta - theta*)^2"
    )
    eps: float = Field(1e-7, gt=0, description="added to the squared way a weight has gone, which divides")


class MASOptions(Options):
    """Options of `avalanche:MAS`."""

    lambda_reg: float = Field(
        1e-3,
        ge=0,
        description="strength of the penalty, which is lambda_reg sum w (theta - theta*)^2; Avalanche's 1 is meant "
        "for a few classes, and w grows with the vocabulary",
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="share of the old importance kept at each consolidation"
    )


class RWalkOptions(Options):
    """Options of `avalanche:RWalk`."""

    ewc_lambda: float = Field(
        3.0,
        ge=0,
        description="strength of the penalty, which is ewc_lambda sum (F + s) (theta - theta*)^2; Avalanche has 0.1",
    )
    ewc_alpha: float = Field(
        0.9, ge=0, le=1, description="share of a step's own importance in the running mean"
    )
    delta_t: int = Field(
        1, ge=1, description="steps between updates of the scores; Avalanche's 10 is longer than many visits"
    )


class AGEMOptions(Options):
    """Options of `avalanche:AGEM`."""

    patterns_per_experience: int = Field(8, ge=1, description="rows kept of every experience")
    sample_size: int = Field(16, ge=1, description="kept rows that a step's reference gradient is taken from")


class GEMOptions(Options):
    """Options of `avalanche:GEM`."""

    patterns_per_experience: int = Field(8, ge=1, description="rows kept of every experience")
    memory_strength: float = Field(
        0.5,
        ge=0,
        description="added to every multiplier, so that past experiences are helped and not just spared",
    )


def _ewc_bytes(options: EWCOptions, footprint: Footprint) -> int:
    one = footprint.trained_bytes + FLOAT32 * footprint.numbers
    return one * (footprint.outline.experiences if options.mode == "separate" else 1)


def _rows_bytes(rows: int, footprint: Footprint) -> int:
    return rows * footprint.outline.longest_row * TOKEN_BYTES


def _gem_bytes(options: GEMOptions, footprint: Footprint) -> int:
    past = footprint.outline.experiences
    return _rows_bytes(options.patterns_per_experience * past, footprint) + 2 * past * footprint.trained_bytes


def _check_float32(options: Any, footprint: Footprint) -> None:
    """Refuse a model whose numbers Avalanche cannot hand to numpy.

    Raises:
        UsageError: the model is not in float32.
    """
    if footprint.value_bytes != FLOAT32:
        raise UsageError(
            f"avalanche:SynapticIntelligence computes its paths in numpy and needs a model in float32, "
            f"not one of {footprint.value_bytes} bytes a number; use --precision float32"
        )


def _check_quadprog(options: Any, optimizer: Any) -> None:
    """Refuse where the solver that Avalanche calls by name is missing.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("quadprog") is None:
        raise UsageError(
            "avalanche:GEM needs the quadprog package, which is not installed: pip install quadprog"
        )


def _spec(
    bridge: type[Bridge],
    options: type[Options],
    summary: str,
    citation: str,
    planned_bytes: Callable[[Any, Footprint], int],
    version: str = "1",
    **more: Any,
) -> StrategySpec:
    return StrategySpec(
        name=f"avalanche:{bridge.name}",
        version=version,
        summary=summary,
        options=options,
        build=bridge,
        planned_bytes=planned_bytes,
        citation=f"{citation}; Avalanche: Lomonaco et al. 2021, arXiv 2104.00405",
        **more,
    )


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the eight."""
    return [
        _spec(
            _penalties.EWC,
            EWCOptions,
            "Avalanche's EWC: a quadratic penalty for every past experience, or one for all.",
            "Kirkpatrick et al. 2017, arXiv 1612.00796",
            _ewc_bytes,
        ),
        _spec(
            _memories.Replay,
            ReplayOptions,
            "Avalanche's replay memory, balanced over experiences, without its loader.",
            "Rolnick et al. 2019, arXiv 1811.11682",
            lambda options, footprint: _rows_bytes(options.mem_size, footprint),
        ),
        _spec(
            _penalties.LwF,
            LwFOptions,
            "Avalanche's LwF: distils the model of the last experience, over all tokens.",
            "Li & Hoiem 2016, arXiv 1606.09282",
            lambda options, footprint: footprint.trained_bytes,
            version="2",
            # the former model is asked without routes
            exclusive=("forward",),
        ),
        _spec(
            _penalties.SynapticIntelligence,
            SynapticIntelligenceOptions,
            "Avalanche's SI: importance from the path that weights took, acting on CPUs too.",
            "Zenke et al. 2017, arXiv 1703.04200; Maltoni & Lomonaco 2018, arXiv 1806.08568",
            # anchor, importance, path and sum of paths; inside a step where it began
            lambda options, footprint: 5 * FLOAT32 * footprint.numbers,
            check_model=_check_float32,
        ),
        _spec(
            _penalties.MAS,
            MASOptions,
            "Avalanche's MAS: holds the weights that the logits are sensitive to.",
            "Aljundi et al. 2018, arXiv 1711.09601",
            lambda options, footprint: footprint.trained_bytes + FLOAT32 * footprint.numbers,
        ),
        _spec(
            _penalties.RWalk,
            RWalkOptions,
            "Avalanche's RWalk: running importance plus a score from what each weight's path did to the loss.",
            "Chaudhry et al. 2018, arXiv 1801.10112",
            # two anchors and a running importance; two losses, two scores; inside a step gradients and weights
            lambda options, footprint: 5 * footprint.trained_bytes + 4 * FLOAT32 * footprint.numbers,
        ),
        _spec(
            _memories.AGEM,
            AGEMOptions,
            "Avalanche's A-GEM: turns gradients that would raise the loss of remembered rows on average.",
            "Chaudhry et al. 2019, arXiv 1812.00420",
            # rows, and inside a step their gradient
            lambda options, footprint: (
                _rows_bytes(options.patterns_per_experience * footprint.outline.experiences, footprint)
                + footprint.trained_bytes
            ),
            exclusive=("gradient projection",),
        ),
        _spec(
            _memories.GEM,
            GEMOptions,
            "Avalanche's GEM: turns gradients that would raise the loss of any past experience's rows.",
            "Lopez-Paz & Ranzato 2017, arXiv 1706.08840",
            # rows, and inside a step a gradient per past experience, once in pieces and once together
            _gem_bytes,
            exclusive=("gradient projection",),
            check=_check_quadprog,
        ),
    ]


_CLASSES = (
    "rows of tokens have no class label. "
    "Use one of avalanche:EWC, Replay, LwF, SynapticIntelligence, MAS, RWalk, AGEM, GEM"
)

seqmem_not_offered = {
    f"avalanche:{name}": f"it {why}, and {_CLASSES}"
    for name, why in {
        "BiC": "corrects the bias of a classifier's newest classes",
        "CoPE": "keeps a prototype per class",
        "CWRStar": "keeps the output weights of each class apart",
        "FeCAM": "keeps a mean and a covariance per class",
        "FeatureDistillation": "distils the features under a classifier's last layer of classes",
        "GDumb": "balances its memory over classes and trains on nothing else",
        "GSS_greedy": "scores single samples by the gradient of their class",
        "ICaRL": "keeps exemplars and a mean per class",
        "LFL": "distils the features under a classifier's last layer of classes",
        "NCM": "keeps a mean per class",
        "SLDA": "keeps a mean per class",
    }.items()
}
"""Names of the family that the host explains instead of calling them unknown."""
