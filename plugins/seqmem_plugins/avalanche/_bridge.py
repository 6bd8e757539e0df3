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

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from seqmem import Batch, Example, Experience, RunFailed, Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem import Learner


class Bridge(Strategy):
    """One plugin and what it needs to work here.

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

    def _make(self) -> Any:
        """The plugin as Avalanche's constructor makes it."""
        raise NotImplementedError

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
        """Before the first step of an experience, when every strategy has prepared for it."""

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """Let the plugin consolidate the rows that hold a target, each as often as the batches list it.

        What `repeats` of the experience adds is not counted.
        """
        from seqmem_plugins.avalanche._standin import Past, Rows, all_weights, seeded

        rows = [row for batch in experience.batches for row in batch if row.loss_mask[1:].any()]
        if not self._learns or not self._begun or not rows:
            return
        self._standin.experience = Past(Rows(rows))
        self._standin.train_mb_size = max(len(batch) for batch in experience.batches)
        with seeded(learner), all_weights(learner):
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
        """Why the plugin has no effect, where it has none."""
        return ""

    def extra_bytes(self) -> int:
        """Bytes kept outside the registry, the most that lived from the start of a step to its end included."""
        return self._scratch

    def state_dict(self) -> dict[str, Any]:
        """The plugin's place in the stream."""
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


# -- penalties ------------------------------------------------------------------------------------------


class Penalty(Bridge):
    """A plugin that adds to the loss, and whose tensors belong to parameters."""

    importance: ClassVar[str] = "importance"
    """Front of the entries that hold how much a weight matters."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._stale = False

    @property
    def _front(self) -> str:
        return f"avalanche.{self.name}."

    def _strength(self) -> float:
        """The option that scales the penalty."""
        raise NotImplementedError

    def _kept(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The plugin's tensors that last, by what they are and by parameter."""
        raise NotImplementedError

    def _take(self, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Give a new plugin the tensors that `_kept` gave of an old one."""
        raise NotImplementedError

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

        from seqmem_plugins.avalanche._standin import LEAST

        self._standin.loss = torch.full((), LEAST, device=learner.device)
        self._plugin.before_backward(self._standin)
        loss = self._standin.loss
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach() - LEAST)

    def _consolidate(self) -> None:
        self._refresh()
        super()._consolidate()
        self._store()
        self._stale = True

    def _idle(self) -> str:
        if self._strength() == 0:
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
    """Avalanche's named tensors without their wrapping."""
    return {key: kept.data for key, kept in params.items()}


def _params(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Tensors in Avalanche's wrapping, in place."""
    from avalanche.training.utils import ParamData

    return {key: ParamData(key, device=t.device, init_tensor=t) for key, t in tensors.items()}


class EWC(Penalty):
    """Importance and anchor of every past experience (`separate`), or one of each (`online`)."""

    name = "EWC"

    def _make(self) -> Any:
        from avalanche.training.plugins.ewc import EWCPlugin

        o = self._options
        return EWCPlugin(o.ewc_lambda, mode=o.mode, decay_factor=o.decay_factor)

    def _strength(self) -> float:
        return float(self._options.ewc_lambda)

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

    def _make(self) -> Any:
        from avalanche.training.plugins.mas import MASPlugin

        return MASPlugin(lambda_reg=self._options.lambda_reg, alpha=self._options.alpha)

    def _strength(self) -> float:
        return float(self._options.lambda_reg)

    def _kept(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {"importance": _data(self._plugin.importance), "anchor": _data(self._plugin.params)}

    def _take(self, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
        self._plugin.importance = _params(kept["importance"])
        self._plugin.params = _params(kept["anchor"])


class SynapticIntelligence(Penalty):
    """Importance from the path that weights took; its tensors are on the CPU, as Avalanche's are."""

    name = "SynapticIntelligence"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._gradients: dict[str, Tensor | None] = {}

    def _make(self) -> Any:
        from seqmem_plugins.avalanche._standin import SynapticIntelligence as Plugin

        return Plugin(self._options.si_lambda, eps=self._options.eps)

    def _strength(self) -> float:
        return float(self._options.si_lambda)

    def _begin(self) -> None:
        from seqmem_plugins.avalanche._standin import all_weights

        with all_weights(self._learner):
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

    def _strength(self) -> float:
        return float(self._options.ewc_lambda)

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
    """Distils what the model said after the last experience into what it says now, on the rows of the step."""

    name = "LwF"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._steps = 0
        self._most = 0.0

    def _make(self) -> Any:
        from avalanche.training.plugins.lwf import LwFPlugin

        return LwFPlugin(alpha=self._options.alpha, temperature=self._options.temperature)

    def _strength(self) -> float:
        return float(self._options.alpha)

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
        outputs = self._standin.model(self._standin.mb_x)
        self._standin.mb_output = outputs
        # Avalanche distils the classes it has seen, of which rows of tokens have one or none: every token is one
        self._plugin.lwf.prev_classes_by_task = {0: range(outputs.shape[-1])}
        penalty = super().add_gradient(learner)
        self._standin.mbatch = self._standin.mb_output = None
        self._steps, self._most = self._steps + 1, max(self._most, abs(penalty))
        return penalty

    def _idle(self) -> str:
        # at an experience's first step the model may still be the former one; of no distance rounding makes about 1e-8
        import torch

        noise = torch.finfo(torch.float32).eps * self._strength()
        idle = self._steps > 1 and self._most <= noise and self._strength() > 0
        return f"at every step its penalty was 0, but for rounding (at most {noise:.1g})" if idle else ""

    def state_dict(self) -> dict[str, Any]:
        """The plugin's place in the stream, and whether it was felt in this experience."""
        return {**super().state_dict(), "steps": self._steps, "most": self._most}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        super().load_state_dict(state)
        self._steps, self._most = state["steps"], state["most"]


# -- memories -------------------------------------------------------------------------------------------


def _to_json(rows: Sequence[Example]) -> list[dict[str, Any]]:
    return [row.to_json() for row in rows]


def _from_json(rows: Sequence[Mapping[str, Any]]) -> list[Example]:
    return [Example.from_json(row) for row in rows]


class Replay(Bridge):
    """Rehearses rows that Avalanche's storage policy keeps; its loader, whose cost grows, is not used."""

    name = "Replay"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._rows: list[Example] = []

    def _make(self) -> Any:
        from avalanche.training.plugins.replay import ReplayPlugin

        return ReplayPlugin(mem_size=self._options.mem_size)

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Draw rows from the memory without replacement."""
        from seqmem_plugins.avalanche._standin import draw

        super().rehearse(learner, batch)
        return draw(learner, self._rows, self._options.batch_size_mem or len(batch))

    def _consolidate(self) -> None:
        policy = self._plugin.storage_policy
        policy.post_adapt(self._standin, self._standin.experience)
        # groups that have no room, always the latest, are never filled again; without them no cost grows
        for number in [number for number, group in policy.buffer_groups.items() if not len(group.buffer)]:
            del policy.buffer_groups[number]
        self._flatten()

    def _flatten(self) -> None:
        groups = self._plugin.storage_policy.buffer_groups.values()
        self._rows = [row for group in groups for row in group.buffer]

    def extra_bytes(self) -> int:
        """Bytes of the kept rows."""
        return sum(row.nbytes for row in self._rows)

    def state_dict(self) -> dict[str, Any]:
        """Rows and their places in the reservoir, by experience."""
        groups = [
            {"rows": _to_json(group.buffer), "weights": group._buffer_weights.tolist()}
            for group in self._plugin.storage_policy.buffer_groups.values()
        ]
        return {**super().state_dict(), "groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the memory."""
        import torch
        from avalanche.training.storage_policy import ReservoirSamplingBuffer

        from seqmem_plugins.avalanche._standin import Rows

        super().load_state_dict(state)
        self._plugin = self._make()
        policy = self._plugin.storage_policy
        policy._num_exps = state["experiences"]
        for number, kept in enumerate(state["groups"]):
            group = ReservoirSamplingBuffer(len(kept["rows"]))
            group.buffer = Rows(_from_json(kept["rows"]))
            group._buffer_weights = torch.tensor(kept["weights"])
            policy.buffer_groups[number] = group
        self._flatten()


class Projection(Bridge):
    """A plugin that keeps rows of every experience and turns gradients that would raise their loss."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._projected: bool | None = None

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Take the gradients of remembered rows."""
        super().rehearse(learner, batch)
        if self._plugin.buffers:
            self._plugin.before_training_iteration(self._standin)
            self._standin.clear()
            self._scratch = max(self._scratch, self._reference_bytes())
        return ()

    def _reference_bytes(self) -> int:
        """Bytes of those gradients."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Let go of those gradients."""
        raise NotImplementedError

    def transform_gradient(self, learner: Learner) -> None:
        """Project, and note whether that changed anything."""
        if not self._plugin.buffers:
            return
        gradients = [p.grad for p in learner.parameters.values() if p.grad is not None]
        writes = sum(gradient._version for gradient in gradients)
        self._plugin.after_backward(self._standin)
        self._projected = sum(gradient._version for gradient in gradients) != writes
        self._forget()

    def measured(self) -> Mapping[str, float]:
        """1 where the step's gradient was projected, else 0; nothing while the memory is empty."""
        if self._projected is None:
            return {}
        projected, self._projected = self._projected, None
        return {f"avalanche.{self.name}.projected": float(projected)}

    def extra_bytes(self) -> int:
        """Bytes of the kept rows and, inside a step, of their gradients."""
        kept: list[list[Example]] = self._plugin.buffers
        return super().extra_bytes() + sum(row.nbytes for rows in kept for row in rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows, by experience."""
        return {**super().state_dict(), "buffers": [_to_json(rows) for rows in self._plugin.buffers]}


class AGEM(Projection):
    """One reference: the gradient of a sample of all kept rows."""

    name = "AGEM"

    def _make(self) -> Any:
        from seqmem_plugins.avalanche._standin import AGEM as Plugin

        o = self._options
        return Plugin(self._learner, o.patterns_per_experience, o.sample_size)

    def _reference_bytes(self) -> int:
        return int(self._plugin.reference_gradients.nbytes)

    def _forget(self) -> None:
        import torch

        self._plugin.reference_gradients = torch.empty(0)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the memory."""
        super().load_state_dict(state)
        self._plugin.buffers = [_from_json(rows) for rows in state["buffers"]]


class GEM(Projection):
    """A reference per past experience."""

    name = "GEM"

    def _make(self) -> Any:
        from seqmem_plugins.avalanche._standin import GEM as Plugin

        o = self._options
        return Plugin(self._learner, o.patterns_per_experience, o.memory_strength)

    def _reference_bytes(self) -> int:
        return 2 * int(self._plugin.G.nbytes)  # once in pieces, once together

    def _forget(self) -> None:
        import torch

        self._plugin.G = torch.empty(0)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the memory."""
        super().load_state_dict(state)
        self._plugin = self._make()
        for rows in state["buffers"]:
            self._plugin.keep(_from_json(rows))
