"""What a strategy is: an object whose few steps do nothing until overridden.

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


class Strategy:
    """Base of every strategy. Override the steps you need; keep helpers' names behind an underscore."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a public method that is no step: a misspelt step would never be called."""
        super().__init_subclass__(**kwargs)
        steps = {name for name in vars(Strategy) if not name.startswith("_")}
        known = {name for base in cls.__mro__[1:] for name in vars(base)}
        for name, member in vars(cls).items():
            if callable(member) and not name.startswith("_") and name not in known:
                near = difflib.get_close_matches(name, steps, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise PluginError(
                    f"{cls.__module__}.{cls.__qualname__}: {name!r} is no step of a strategy.{hint} "
                    f"Steps: {', '.join(sorted(steps))}; put an underscore before a helper's name."
                )

    def setup(self, learner: Learner) -> None:
        """Once, before the first experience of a run."""

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Before an experience's first step."""

    def trainable(self, learner: Learner, experience: Experience) -> Collection[str] | None:
        """Names of the parameters to train in this experience; None for all.

        The others get no gradient and no optimizer step, and their moments stay. Asked after
        `before_experience` and again when a run is resumed: a pure function of what it is given.
        `experience.trains` says what the protocol wants.
        """
        return None

    def forward(
        self, learner: Learner, input_ids: Tensor, task_label: int | None, prompt_tokens: Tensor | None
    ) -> Tensor:
        """Logits (B, T, V) of token ids (B, T), in training and when probed.

        Override it to route. `task_label` is the experience's in training; when probed it is the fact's
        where the probe tells it, else None. `prompt_tokens` (B,) says when probed how many tokens of each row
        are the prompt: whatever chooses a route may read those only. It is None in training. No gradient is
        kept when probed.
        """
        logits: Tensor = learner.model(input_ids=input_ids, use_cache=False).logits
        return logits

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Rows to train together with `batch`; the loss is averaged over all targets alike."""
        return ()

    def add_gradient(self, learner: Learner) -> float:
        """Add a penalty's gradient to the parameters' gradients; return the penalty in nats per token."""
        return 0.0

    def transform_gradient(self, learner: Learner) -> None:
        """Change the clipped gradients in place."""

    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        """Change the optimizer's step in place: parameters are where it put them, `before` has where they were.

        `before` holds the parameters that got a gradient, by name; it is scratch and may be overwritten.
        """

    def after_step(self, learner: Learner, batch: Batch) -> None:
        """After the optimizer's step on `batch` (rehearsed rows not included)."""

    def measured(self) -> Mapping[str, float]:
        """Numbers about the step just done, put on record under these names, e.g. ``cosine_steer.cosine``."""
        return {}

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """After an experience's last step."""

    def unregistered_bytes(self) -> int:
        """Bytes kept outside the learner's registry, e.g. a buffer of rows."""
        return 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold beyond the learner's registry, as JSON values."""
        return {}

    def tensors(self) -> Mapping[str, Tensor]:
        """Tensors a checkpoint must hold that belong to no parameter; `unregistered_bytes` counts them too."""
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
    """Whether a strategy, or one of those it is composed of, has a step of its own."""
    parts: Sequence[Strategy] = getattr(strategy, "parts", (strategy,))
    return any(getattr(type(part), step) is not getattr(Strategy, step) for part in parts)
