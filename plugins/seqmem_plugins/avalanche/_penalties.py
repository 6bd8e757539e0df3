"""Avalanche's plugins that add a penalty to the loss: EWC, MAS, SynapticIntelligence, RWalk, LwF."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from seqmem import Batch, Example, Experience
from seqmem_plugins.avalanche._bridge import Bridge

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem import Learner


class Penalty(Bridge):
    """A plugin that adds to the loss, and whose tensors belong to parameters."""

    importance: ClassVar[str] = "importance"
    """Front of the entries that hold how much a weight matters."""
    strength: ClassVar[str]
    """Name of the option that scales the penalty."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._stale = False

    @property
    def _front(self) -> str:
        return f"avalanche.{self.name}."

    @property
    def _strength(self) -> float:
        return float(getattr(self._options, self.strength))

    @abstractmethod
    def _kept(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return the plugin's tensors that last, by their kind and parameter."""

    @abstractmethod
    def _take(self, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Give a new plugin the tensors that `_kept` gave of an old one."""

    def _store(self) -> None:
        """Make the plugin's present tensors the registry's; copies nothing."""
        state, shapes = self._learner.state, self._learner.parameters
        wanted = {
            self._front + what: {key: t.view(shapes[key].shape) for key, t in tensors.items()}
            for what, tensors in self._kept().items()
        }
        for name in [name for name in state if name.startswith(self._front) and name not in wanted]:
            state.remove(name)
        for name, tensors in wanted.items():
            if name in state:
                state[name].clear()
                state[name].update(tensors)
            else:
                state.put(name, tensors)

    def _refresh(self) -> None:
        """Make the plugin anew from the registry if the tensors there may be others by now."""
        if not self._stale:
            return
        self._plugin, self._stale = self._make(), False
        state, parameters = self._learner.state, self._learner.parameters
        kept = {
            # in the order of the model, which EWC and RWalk count on
            name.removeprefix(self._front): {
                key: state[name][key] for key in parameters if key in state[name]
            }
            for name in state
            if name.startswith(self._front)
        }
        if kept:
            self._take(kept)

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Note whether there is something to learn."""
        super().before_experience(learner, experience)
        self._stale = True

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Call back what comes before a step."""
        self._refresh()
        return super().rehearse(learner, batch)

    def add_gradient(self, learner: Learner) -> float:
        """Add the gradient of what the plugin adds to the loss; return that in nats per token."""
        if self._standin.clock.train_exp_counter == 0:
            return 0.0
        import torch

        from seqmem_plugins.avalanche._standin import MIN_LOSS

        self._standin.loss = torch.full((), MIN_LOSS, device=learner.device)
        self._plugin.before_backward(self._standin)
        loss = self._standin.loss
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach() - MIN_LOSS)

    def _consolidate(self) -> None:
        self._refresh()
        super()._consolidate()
        self._store()
        self._stale = True

    def _idle(self) -> str:
        if self._strength == 0:
            return ""
        front = self._front + self.importance
        entries = [self._learner.state[name] for name in self._learner.state if name.startswith(front)]
        if any(bool(tensor.any()) for entry in entries for tensor in entry.values()):
            return ""
        return "its importance of every weight is exactly 0, so that its penalty holds nothing"

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the plugin's place; its tensors come back when they are needed."""
        super().load_state_dict(state)
        self._stale = True


def _data(params: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return Avalanche's named tensors without their wrapping."""
    return {key: kept.data for key, kept in params.items()}


def _params(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return tensors in Avalanche's wrapping, not copied."""
    from avalanche.training.utils import ParamData

    return {key: ParamData(key, device=t.device, init_tensor=t) for key, t in tensors.items()}


class EWC(Penalty):
    """Importance and anchor of every past experience (`separate`), or one of each (`online`)."""

    name = "EWC"
    strength = "ewc_lambda"

    def _make(self) -> Any:
        from avalanche.training.plugins.ewc import EWCPlugin

        o = self._options
        return EWCPlugin(o.ewc_lambda, mode=o.mode, decay_factor=o.decay_factor)

    def _kept(self) -> Mapping[str, Mapping[str, Tensor]]:
        kept = {}
        for number, params in self._plugin.importances.items():
            kept[f"importance.{number}"] = _data(params)
        for number, params in self._plugin.saved_params.items():
            kept[f"anchor.{number}"] = _data(params)
        return kept

    def _take(self, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
        for name, tensors in kept.items():
            what, _, number = name.partition(".")
            home = {"importance": self._plugin.importances, "anchor": self._plugin.saved_params}[what]
            home[int(number)] = _params(tensors)


class MAS(Penalty):
    """One importance and one anchor for every weight."""

    name = "MAS"
    strength = "lambda_reg"

    def _make(self) -> Any:
        from avalanche.training.plugins.mas import MASPlugin

        return MASPlugin(lambda_reg=self._options.lambda_reg, alpha=self._options.alpha)

    def _kept(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {"importance": _data(self._plugin.importance), "anchor": _data(self._plugin.params)}

    def _take(self, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
        self._plugin.importance = _params(kept["importance"])
        self._plugin.params = _params(kept["anchor"])


class SynapticIntelligence(Penalty):
    """Importance from the path that weights took; its tensors are on the CPU, as Avalanche's are."""

    name = "SynapticIntelligence"
    strength = "si_lambda"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._gradients: dict[str, Tensor | None] = {}

    def _make(self) -> Any:
        from seqmem_plugins.avalanche._standin import SynapticIntelligence as Plugin

        return Plugin(self._options.si_lambda, eps=self._options.eps)

    def _begin(self) -> None:
        with self._learner.all_trained():
            self._plugin.before_training_exp(self._standin)
        self._drop()
        self._store()

    def _drop(self) -> None:
        """Let go of what is needed inside a step only; one number stands for all."""
        import torch

        for what in ("old_theta", "new_theta", "grad"):
            for kept in self._plugin.syn_data[what].values():
                kept.data = torch.zeros(()).expand(kept.data.shape)

    def _kept(self) -> Mapping[str, Mapping[str, Tensor]]:
        anchor, importance = self._plugin.ewc_data
        paths = {what: _data(self._plugin.syn_data[what]) for what in ("trajectory", "cum_trajectory")}
        return {"anchor": _data(anchor), "importance": _data(importance), **paths}

    def _take(self, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
        import torch

        flat = {
            what: {key: t.cpu().flatten() for key, t in tensors.items()} for what, tensors in kept.items()
        }
        self._plugin.ewc_data = _params(flat["anchor"]), _params(flat["importance"])
        nothing = {key: torch.zeros(()).expand(t.shape) for key, t in flat["anchor"].items()}
        self._plugin.syn_data = {
            **{what: _params(nothing) for what in ("old_theta", "new_theta", "grad")},
            **{what: _params(flat[what]) for what in ("trajectory", "cum_trajectory")},
        }

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Note where the weights are."""
        super().rehearse(learner, batch)
        if self._learns:
            self._plugin.before_training_iteration(self._standin)
            copies = _data(self._plugin.syn_data["old_theta"]).values()
            self._scratch = max(self._scratch, sum(copy.nbytes for copy in copies))
        return ()

    def transform_gradient(self, learner: Learner) -> None:
        """Hold on to the gradients, which are gone after the step."""
        if self._learns:
            self._gradients = {key: parameter.grad for key, parameter in learner.parameters.items()}

    def after_step(self, learner: Learner, batch: Batch) -> None:
        """Lengthen the path by this step."""
        if not self._learns:
            return
        import torch

        for key, parameter in learner.parameters.items():
            if parameter.requires_grad:
                gradient = self._gradients[key]
                parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        self._gradients = {}
        self._plugin.after_training_iteration(self._standin)
        self._standin.clear()
        self._standin.clock.train_iterations += 1
        self._drop()
        self._store()

    def _consolidate(self) -> None:
        super()._consolidate()
        self._drop()


class RWalk(Penalty):
    """Importance from every step's gradient, and a score from what each weight's path did to the loss."""

    name = "RWalk"
    strength = "ewc_lambda"
    importance = "exp_penalties"
    lasting = (
        "checkpoint_loss",
        "checkpoint_params",
        "checkpoint_scores",
        "iter_importance",
        "exp_scores",
        "exp_params",
        "exp_penalties",
    )

    def _make(self) -> Any:
        from seqmem_plugins.avalanche._standin import RWalk as Plugin

        o = self._options
        return Plugin(ewc_lambda=o.ewc_lambda, ewc_alpha=o.ewc_alpha, delta_t=o.delta_t)

    def _begin(self) -> None:
        self._plugin.before_training(self._standin)
        self._store()

    def _kept(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {what: _data(params) for what in self.lasting if (params := getattr(self._plugin, what))}

    def _take(self, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
        for what, tensors in kept.items():
            setattr(self._plugin, what, _params(tensors))

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Take the gradient of the step's own rows, without penalties, where the weights are."""
        super().rehearse(learner, batch)
        if self._learns:
            self._standin.show(batch)
            self._plugin.before_training_iteration(self._standin)
            self._standin.clear()
            copies = [*_data(self._plugin.iter_grad).values(), *_data(self._plugin.iter_params).values()]
            self._scratch = max(self._scratch, sum(copy.nbytes for copy in copies))
        return ()

    def after_step(self, learner: Learner, batch: Batch) -> None:
        """Note what the step did."""
        if not self._learns:
            return
        self._plugin.after_training_iteration(self._standin)
        self._standin.clock.train_iterations += 1
        self._plugin.iter_grad, self._plugin.iter_params, self._standin.mbatch = {}, {}, None
        self._store()

    def _consolidate(self) -> None:
        super()._consolidate()
        self._plugin.exp_importance = None


class LwF(Penalty):
    """Distillation of the model after the last experience into the present one, on the rows of the step.

    Both are read without dropout. With it two equal models would differ by what is drawn, and what is drawn here
    would move what the step draws.
    """

    name = "LwF"
    strength = "alpha"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._steps = 0
        self._most = 0.0

    def _make(self) -> Any:
        from avalanche.training.plugins.lwf import LwFPlugin

        return LwFPlugin(alpha=self._options.alpha, temperature=self._options.temperature)

    def _kept(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {"previous": self._plugin.lwf.prev_model.weights}

    def _take(self, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
        from seqmem_plugins.avalanche._standin import Teacher

        self._plugin.lwf.prev_model = Teacher(self._learner, kept["previous"])

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Note whether there is something to learn; whether the plugin acts is seen anew in each experience."""
        super().before_experience(learner, experience)
        self._steps, self._most = 0, 0.0

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Note the step's rows."""
        super().rehearse(learner, batch)
        if self._standin.clock.train_exp_counter:
            self._standin.show(batch)
        return ()

    def add_gradient(self, learner: Learner) -> float:
        """Add the gradient of the distance between the model and its former self."""
        if self._standin.clock.train_exp_counter == 0:
            return 0.0
        from seqmem_plugins.avalanche._standin import undropped

        with undropped(learner):
            outputs = self._standin.model(self._standin.mb_x)
            self._standin.mb_output = outputs
            # Avalanche distils the classes it has seen, but rows of tokens have one or none: every token is one
            self._plugin.lwf.prev_classes_by_task = {0: range(outputs.shape[-1])}
            penalty = super().add_gradient(learner)
        self._standin.mbatch = self._standin.mb_output = None
        self._steps, self._most = self._steps + 1, max(self._most, abs(penalty))
        return penalty

    def _idle(self) -> str:
        # at an experience's first step the model may still be the former one; of no distance rounding makes about 1e-8
        import torch

        noise = torch.finfo(torch.float32).eps * self._strength
        idle = self._steps > 1 and self._most <= noise and self._strength > 0
        return f"at every step its penalty was 0, but for rounding (at most {noise:.1g})" if idle else ""

    def state_dict(self) -> dict[str, Any]:
        """Return the plugin's place in the stream, and whether it had an effect in this experience."""
        return {**super().state_dict(), "steps": self._steps, "most": self._most}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        super().load_state_dict(state)
        self._steps, self._most = state["steps"], state["most"]
