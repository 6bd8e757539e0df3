"""The base of strategies: an object whose few steps do nothing until overridden.

Order of one optimizer step: rehearse, forward, backward, add_gradient, clip, transform_gradient,
optimizer, transform_update, after_step, measured. A strategy is given experiences, never probes.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqmem.core.data import Batch, Example, Experience
from seqmem.core.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem.plugin.learner import Learner


_RENAMED = {"extra_bytes": "unregistered_bytes"}
"""Steps by the names that they had earlier."""


class Strategy:
    """Base of every strategy. Override the steps you need; keep helpers' names behind an underscore."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a public method that is not a step: a misspelt step would never be called."""
        super().__init_subclass__(**kwargs)
        steps = {name for name in vars(Strategy) if not name.startswith("_")}
        known = {name for base in cls.__mro__[1:] for name in vars(base)}
        for name, member in vars(cls).items():
            if callable(member) and not name.startswith("_") and name not in known:
                near = (
                    [_RENAMED[name]]
                    if name in _RENAMED
                    else difflib.get_close_matches(name, steps, n=1, cutoff=0.5)
                )
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise PluginError(
                    f"{cls.__module__}.{cls.__qualname__}: {name!r} is not a step of a strategy.{hint} "
                    f"Steps: {', '.join(sorted(steps))}; put an underscore before a helper's name."
                )

    def setup(self, learner: Learner) -> None:
        """Prepare for a run, once before its first experience."""

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Prepare for an experience, before its first step."""

    def trainable(self, learner: Learner, experience: Experience) -> Collection[str] | None:
        """Return the names of the parameters to train in this experience; None for all.

        The others get no gradient and no optimizer step, and their moments stay. It is called after
        `before_experience` and again when a run is resumed, so it must be a pure function of its arguments.
        `experience.trains` says what the protocol wants.
        """
        return None

    def forward(
        self, learner: Learner, input_ids: Tensor, task_label: int | None, prompt_tokens: Tensor | None
    ) -> Tensor:
        """Return logits (B, T, V) of token ids (B, T), in training and when probed.

        Override it to route. `task_label` is the experience's in training. When probed it is the fact's
        where the probe tells it, else None. `prompt_tokens` (B,) is None in training. When probed it counts the
        tokens of each row that are the prompt: only those may decide the route. No gradient is kept when probed.
        """
        logits: Tensor = learner.model(input_ids=input_ids, use_cache=False).logits
        return logits

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Return rows to train together with `batch`; the loss is averaged over all targets alike."""
        return ()

    def add_gradient(self, learner: Learner) -> float:
        """Add a penalty's gradient to the parameters' gradients; return the penalty in nats per token."""
        return 0.0

    def transform_gradient(self, learner: Learner) -> None:
        """Change the clipped gradients in place."""

    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        """Change the optimizer's step in place, from the parameters after it and those `before`.

        `before` holds the parameters that got a gradient, by name; it is scratch and may be overwritten.
        """

    def after_step(self, learner: Learner, batch: Batch) -> None:
        """Act on the optimizer's step on `batch` (rehearsed rows not included)."""

    def measured(self) -> Mapping[str, float]:
        """Return numbers about the last step, recorded under these names, e.g. ``cosine_steer.cosine``."""
        return {}

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """Act on the end of an experience, after its last step."""

    def unregistered_bytes(self) -> int:
        """Return the bytes kept outside the learner's registry, e.g. a buffer of rows."""
        return 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state beyond the learner's registry that a checkpoint must hold, as JSON values."""
        return {}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors of a checkpoint that belong to no parameter; `unregistered_bytes` counts them too."""
        return {}

    def reshape(self, learner: Learner, state: dict[str, Any]) -> None:
        """Give the model the modules it had when `state_dict` gave `state`; weights are put back afterwards.

        For strategies that change the model after `setup` (`Learner.adopt`); called when a run is resumed or
        returns to a snapshot.
        """

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave, after `load_state_dict`; copy what is kept."""


def overrides(strategy: Strategy, step: str) -> bool:
    """Return whether a strategy, or a part of a composition, has a step of its own."""
    parts: Sequence[Strategy] = getattr(strategy, "parts", (strategy,))
    return any(getattr(type(part), step) is not getattr(Strategy, step) for part in parts)
