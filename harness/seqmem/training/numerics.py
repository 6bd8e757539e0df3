"""Tell which part of a step was the first whose numbers are not finite.

A part that a strategy may have spoilt leaves its largest magnitude on the device. It is read only where the loop waits
for the device anyway, or when a run has failed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from seqmem.core.errors import RunFailed
from seqmem.plugin.strategy import Strategy, overrides
from seqmem.training.learner import Learner

LOSS_GRADIENT = "the gradient of the loss"
CHANGED_GRADIENT = "the gradient as the strategy changed it"
OPTIMIZER = "the weights after the optimizer's step"
CHANGED_UPDATE = "the weights after the strategy changed the update"
AFTERWARDS = "the weights after what the strategy did between two steps"

_SUSPECTS = {
    LOSS_GRADIENT: ("add_gradient",),
    CHANGED_GRADIENT: ("transform_gradient",),
    OPTIMIZER: ("transform_update", "after_step"),
    CHANGED_UPDATE: ("transform_update",),
}
"""Parts of a step and the steps of a strategy which make it worth telling them apart."""

_LOWER_RATE = "lower the learning rate"
_CHANGE_OPTIONS = "change the strategy's options or lower the learning rate"


class Numerics:
    """The magnitudes that the parts of the last step left."""

    def __init__(self, learner: Learner, strategy: Strategy) -> None:
        """Watch the parts that this strategy takes part in."""
        self._learner = learner
        self._watched = {
            part for part, steps in _SUSPECTS.items() if any(overrides(strategy, step) for step in steps)
        }
        self._largest: dict[str, Tensor] = {}

    def note_gradient(self, part: str) -> None:
        """Keep the largest magnitude of the gradient after this part of the step."""
        if part in self._watched:
            gradients = (p.grad for p in self._learner.parameters.values() if p.grad is not None)
            self._largest[part] = _largest(gradients)

    def note_weights(self, part: str) -> None:
        """Keep the largest magnitude of the weights after this part of the step."""
        if part in self._watched:
            self._largest[part] = _largest(p.detach() for p in self._learner.parameters.values())

    def check_loss(self, loss: float, experience: str) -> None:
        """Accept a loss that is finite.

        Raises:
            RunFailed: it is not; names the part of the step before that spoilt the weights, if one did.
        """
        if not math.isfinite(loss):
            self.check_weights(experience)
            raise self._failed(f"the loss is {loss}", self._learner.step + 1, experience, _LOWER_RATE)
        self._largest.clear()

    def check_gradient(self, penalty: float, norm: float, experience: str) -> None:
        """Accept a penalty and a gradient that are finite.

        Raises:
            RunFailed: one of them is not; names the part that was first.
        """
        if math.isfinite(penalty) and math.isfinite(norm):
            return
        step, added = self._learner.step + 1, LOSS_GRADIENT in self._watched
        gradients = [p.grad for p in self._learner.parameters.values() if p.grad is not None]
        if added and not self._finite(LOSS_GRADIENT):
            raise self._failed(f"{LOSS_GRADIENT} is not finite", step, experience, _LOWER_RATE)
        if not math.isfinite(penalty):
            raise self._failed(f"the strategy's penalty is {penalty}", step, experience, _CHANGE_OPTIONS)
        if not torch.isfinite(_largest(gradients)):  # the norm of finite numbers may overflow
            part = "the gradient that the strategy added" if added else LOSS_GRADIENT
            advice = _CHANGE_OPTIONS if added else _LOWER_RATE
            raise self._failed(f"{part} is not finite", step, experience, advice)

    def check_weights(self, experience: str) -> None:
        """Accept weights that are finite.

        Raises:
            RunFailed: they are not; names the part of the last step that was first.
        """
        if torch.isfinite(_largest(p.detach() for p in self._learner.parameters.values())):
            return
        parts = (CHANGED_GRADIENT, OPTIMIZER, CHANGED_UPDATE)
        part = next((part for part in parts if part in self._largest and not self._finite(part)), None)
        if part is None:
            part = AFTERWARDS if OPTIMIZER in self._largest else OPTIMIZER
        verb = "is" if part == CHANGED_GRADIENT else "are"
        advice = _LOWER_RATE if part == OPTIMIZER else _CHANGE_OPTIONS
        raise self._failed(f"{part} {verb} not finite", self._learner.step, experience, advice)

    def _finite(self, part: str) -> bool:
        return bool(torch.isfinite(self._largest[part]))

    def _failed(self, what: str, step: int, experience: str, advice: str) -> RunFailed:
        half = any(p.dtype == torch.float16 for p in self._learner.parameters.values())
        other = ", or use --precision bfloat16 or float32, whose range is larger" if half else ""
        return RunFailed(f"{what} at step {step} ({experience}); {advice}{other}")


def _largest(tensors: Iterable[Tensor]) -> Tensor:
    """Return the largest magnitude of all numbers; NaN where one is NaN."""
    # this norm is slow on a CPU; the ends of each tensor's range give it ten times sooner
    reduced = (end for t in tensors for end in (torch.aminmax(t) if t.is_cpu else (t,)))
    return nn.utils.get_total_norm(reduced, norm_type=math.inf)
