"""A run's recipe: everything that determines it, and nothing else. Its hash is the run's id."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from seqmem.core.choices import Attention, Precision, Probing
from seqmem.core.data import Options
from seqmem.core.errors import UsageError

Decay = Annotated[float, Field(ge=0, lt=1)]


class Growing(Options):
    """Base of settings that a recipe holds: what came later is left out of the JSON at its default, so that ids stay.

    Attributes:
        later: names of the fields that came later.
    """

    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in dump(self).items()
            if name not in self.later or getattr(self, name) != fields[name].default
        }


class OptimizerSettings(Growing):
    """The optimizer a run trains with, and the way its rate goes over the stream."""

    later = ("schedule", "warmup")

    name: Literal["adam", "adamw", "sgd"] = Field("adam", description="update rule")
    lr: float = Field(1e-3, gt=0, description="learning rate")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="Adam's decay of the two moments")
    eps: float = Field(1e-8, gt=0, description="Adam's denominator offset")
    weight_decay: float = Field(0.0, ge=0, description="decay; decoupled in adamw")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD momentum")
    clip: float | None = Field(None, gt=0, description="largest gradient norm; null for none")

    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant",
        description="course of the rate after the warm-up: at lr, or down to 0 at the stream's end",
    )
    warmup: float = Field(
        0.0, ge=0, lt=1, description="share of the stream's steps over which the rate rises to lr"
    )

    def share_of_rate(self, position: int, steps: int) -> float:
        """Return the multiple of `lr` that step `position`, from 0, of a stream of `steps` trains at."""
        rising = round(self.warmup * steps)
        if position < rising:
            return (position + 1) / rising
        done = min((position - rising) / max(steps - rising, 1), 1.0)
        if self.schedule == "linear":
            return 1 - done
        return (1 + math.cos(math.pi * done)) / 2 if self.schedule == "cosine" else 1.0

    @property
    def moments(self) -> tuple[str, ...]:
        """Return the names of the per-parameter moments this optimizer keeps."""
        if self.name == "sgd":
            return ("momentum_buffer",) if self.momentum else ()
        return ("exp_avg", "exp_avg_sq")


class PluginChoice(Options):
    """A plugin by name and version with its effective options; `content` hashes outside data it reads."""

    name: str
    version: str
    options: dict[str, Any] = Field(default_factory=dict)
    content: str = ""


class ModelIdentity(Options):
    """The checkpoint a run starts from, by content."""

    name: str
    revision: str | None
    fingerprint: str
    parameters: int
    max_positions: int
    dtype: Precision
    attention: Attention
    trust_remote_code: bool


class Recipe(Growing):
    """Everything that determines one run.

    Attributes:
        micro_tokens: most tokens of a forward in training, padding included; None for the whole batch at once.
    """

    later = ("micro_tokens",)

    scenario: PluginChoice
    strategy: PluginChoice
    model: ModelIdentity
    text: PluginChoice
    optimizer: OptimizerSettings
    seed: int
    device: str
    threads: int
    probing: Probing = "schedule"
    micro_tokens: int | None = Field(None, ge=1)

    @property
    def id(self) -> str:
        """Return the hash of the recipe, as a record states it."""
        return recipe_id(self.model_dump(mode="json"))


def recipe_id(recipe: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a recipe's canonical JSON, first 16 hex digits."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_precision(recipe: Recipe) -> None:
    """Accept an optimizer whose settings the model's number type can hold.

    Raises:
        UsageError: Adam's eps is 0 in it, so that a gradient of 0 would be divided by 0.
    """
    optimizer, dtype = recipe.optimizer, recipe.model.dtype
    if optimizer.name != "sgd" and dtype == "float16" and np.float16(optimizer.eps) == 0:
        raise UsageError(
            f"optimizer.eps = {optimizer.eps:g} is 0 in float16, and {optimizer.name} would divide 0 by it at once; "
            "give a larger one (--set optimizer.eps=1e-4) or --precision bfloat16 or float32"
        )
