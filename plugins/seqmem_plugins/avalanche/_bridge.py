"""Avalanche's plugins as strategies: its code computes, this host trains.

A plugin is called back where Avalanche would call it, by the steps of a strategy:

    before_training, before_training_exp   at the first step of an experience
    before_training_iteration              rehearse
    before_backward                        add_gradient: what it adds to the loss is taken back from there
    after_backward                         transform_gradient
    after_training_iteration               after_step
    after_training_exp                     after_experience

The other callbacks (before_forward, after_forward, before_update, after_update) are those of none of the eight.

Nothing of a plugin lives outside the host's checkpoint: per-parameter tensors are entries ``avalanche.NAME.…`` of the
learner's registry, which the plugin works on in place, and a plugin is made anew from them whenever they may have
been exchanged (a new experience, a resumed run, a model that grew).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from seqmem import Batch, Example, Experience, RunFailed, Strategy

if TYPE_CHECKING:
    from seqmem import Learner


class Bridge(Strategy, ABC):
    """Strategy made of one Avalanche plugin.

    Experiences in Avalanche's sense are those that train something, rest excepted. In a rest the plugin goes on
    acting (penalty, rehearsal, projection) and learns nothing.
    """

    name: ClassVar[str]

    def __init__(self, options: Any) -> None:
        self._options = options
        self._learns = False
        self._begun = False
        self._scratch = 0

    def setup(self, learner: Learner) -> None:
        """Import Avalanche and make the plugin."""
        from seqmem_plugins.avalanche._standin import StandIn

        self._learner = learner
        self._standin = StandIn(learner)
        self._plugin: Any = self._make()

    @abstractmethod
    def _make(self) -> Any:
        """Return the plugin that Avalanche's constructor makes."""

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Note whether there is something to learn, and where a strategy that routes sends it."""
        self._learns = experience.trains != "none" and experience.phase != "rest"
        self._begun = False
        self._standin.model.task_label = experience.task_label

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Call back what comes before a step."""
        if self._learns and not self._begun:
            self._begin()
            self._begun = True
        return ()

    def _begin(self) -> None:
        """Prepare for an experience, after every strategy has and before the first step."""

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """Let the plugin consolidate the rows that hold a target, each as often as the batches list it.

        What `repeats` of the experience adds is not counted.
        """
        from seqmem_plugins.avalanche._standin import Past, Rows, seeded

        rows = [row for batch in experience.batches for row in batch if row.loss_mask[1:].any()]
        if not self._learns or not self._begun or not rows:
            return
        self._standin.experience = Past(Rows(rows))
        self._standin.train_mb_size = max(len(batch) for batch in experience.batches)
        with seeded(learner), learner.all_trained():
            self._consolidate()
        self._standin.experience = None
        self._standin.clear()
        self._standin.clock.train_exp_counter += 1
        self._learns = False
        reason = self._idle()
        if reason:
            raise RunFailed(f"avalanche:{self.name} has no effect after {experience.name}: {reason}")

    def _consolidate(self) -> None:
        self._plugin.after_training_exp(self._standin)

    def _idle(self) -> str:
        """Return the reason why the plugin has no effect; empty where it has one."""
        return ""

    def unregistered_bytes(self) -> int:
        """Return the most bytes kept outside the registry at any time, also inside a step."""
        return self._scratch

    def state_dict(self) -> dict[str, Any]:
        """Return the plugin's place in the stream."""
        return {
            "learns": self._learns,
            "begun": self._begun,
            "task_label": self._standin.model.task_label,
            "experiences": self._standin.clock.train_exp_counter,
            "iterations": self._standin.clock.train_iterations,
            "scratch": self._scratch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self._learns, self._begun, self._scratch = state["learns"], state["begun"], state["scratch"]
        self._standin.model.task_label = state["task_label"]
        self._standin.clock.train_exp_counter = state["experiences"]
        self._standin.clock.train_iterations = state["iterations"]
