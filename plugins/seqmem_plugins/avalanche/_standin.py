"""Stand-in for Avalanche's own training loop, as its plugins see it.

Avalanche 0.6.0. Importing this module imports Avalanche, which takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import torch
from avalanche.training.plugins.agem import AGEMPlugin
from avalanche.training.plugins.gem import GEMPlugin
from avalanche.training.plugins.rwalk import RWalkPlugin
from avalanche.training.plugins.synaptic_intelligence import SynapticIntelligencePlugin
from torch import Tensor, nn

from seqmem import Example, Learner, unpack
from seqmem_plugins.avalanche.rows import NO_TASK, token_tensors
from seqmem_plugins.avalanche.targets import NO_TARGET

T = TypeVar("T")

MIN_LOSS = torch.finfo(torch.float32).tiny
"""Loss before any plugin adds to it. MAS refuses a loss of 0; other numbers are unchanged by this one."""


class Padded(NamedTuple):
    """Token ids (B, T), and which of them are real and not padding (B, T)."""

    ids: Tensor
    real: Tensor

    def to(self, device: torch.device) -> Padded:
        """Return the batch on a device."""
        return Padded(self.ids.to(device), self.real.to(device))


Minibatch = tuple[Padded, Tensor, Tensor]
"""Rows of B samples with N real tokens: x, y (N,) the shifted targets, task labels (B,)."""


def minibatch(rows: Sequence[Example]) -> Minibatch:
    """Return rows as a plugin's batch; packed ones are split into their documents."""
    ids, targets, real = token_tensors([document for row in rows for document in unpack(row)])
    return Padded(ids, real), targets[real], torch.full((len(ids),), NO_TASK)


class Rows(Sequence[Example]):
    """An experience's rows, as far as plugins and storage policies treat them as an Avalanche dataset.

    Attributes:
        targets_task_labels: what LwF takes the classes of the past from: there are none.
    """

    collate_fn = staticmethod(minibatch)
    targets_task_labels = SimpleNamespace(uniques=())

    def __init__(self, rows: Sequence[Example]) -> None:
        self._rows = tuple(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def concat(self, other: Sequence[Example]) -> Rows:
        """Return these rows, then the others."""
        return Rows((*self._rows, *(other[place] for place in range(len(other)))))

    def subset(self, indices: Sequence[int] | Tensor) -> Rows:
        """Return the rows at these places, in this order."""
        return Rows([self._rows[int(index)] for index in indices])


@dataclass(frozen=True)
class Past:
    """An Avalanche experience, as far as plugins read it: its data."""

    dataset: Rows


class Model(nn.Module):
    """The learner's model as a classifier: a row of logits for every real token.

    Its parameters are those that the learner trains, and no frozen ones. It holds nothing itself.

    Attributes:
        task_label: the present experience's; a strategy that routes goes by it, also with remembered rows.
    """

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self._learner = learner
        self.task_label: int | None = None

    def forward(self, x: Padded) -> Tensor:
        """Return logits (N, V) at the N real tokens, routed as in training."""
        return self._learner.logits(x.ids, self.task_label)[x.real]

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Any:
        """Return the learner's parameters; this module has none of its own."""
        return iter(self._learner.parameters.items() if recurse else ())

    def train(self, mode: bool = True) -> Model:
        """Switch the learner's model."""
        self._learner.model.train(mode)
        return self

    def __deepcopy__(self, memo: Any) -> Teacher:
        return Teacher(self._learner, {k: p.detach().clone() for k, p in self._learner.parameters.items()})


class Teacher:
    """The model with the weights it had earlier; it knows no routes, see `exclusive` of `avalanche:LwF`."""

    def __init__(self, learner: Learner, weights: Mapping[str, Tensor]) -> None:
        self._learner = learner
        self.weights = weights

    def __call__(self, x: Padded) -> Tensor:
        """Return logits (N, V) at the N real tokens."""
        inputs = {"input_ids": x.ids, "use_cache": False}
        with self._learner.autocast():
            logits: Tensor = torch.func.functional_call(
                self._learner.model, dict(self.weights), kwargs=inputs
            ).logits
        return logits[x.real]


@dataclass
class Clock:
    """Avalanche's counters, of consolidating experiences only."""

    train_iterations: int = 0
    train_exp_counter: int = 0


class StandIn:
    """Avalanche's strategy template, as far as the plugins read it.

    Attributes:
        experience: the one that has just ended.
        train_mb_size: rows of its largest step.
        mbatch, mb_x, mb_output: the step's own rows, and their logits where a plugin needs them.
        loss: number to which plugins add their penalty.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self.model = Model(learner)
        self.clock = Clock()
        self.device = learner.device
        self.experience: Past | None = None
        self.train_mb_size = 1
        self.mbatch: Minibatch | None = None
        self.mb_output: Tensor | None = None
        self.loss = torch.tensor(MIN_LOSS)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The learner's present one; plugins only zero its gradients."""
        return self._learner.optimizer

    @property
    def mb_x(self) -> Padded:
        """The step's token ids."""
        assert self.mbatch is not None
        return self.mbatch[0]

    def show(self, rows: Sequence[Example]) -> None:
        """Make these rows the present batch."""
        x, y, tasks = minibatch(rows)
        self.mbatch = x.to(self.device), y.to(self.device), tasks.to(self.device)

    def _criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.float(), targets, ignore_index=NO_TARGET)

    def clear(self) -> None:
        """Leave the learner as its loop wants it: no gradients, training mode."""
        self._learner.optimizer.zero_grad(set_to_none=True)
        self._learner.model.train()


@contextmanager
def undropped(learner: Learner) -> Iterator[None]:
    """Let the learner's model compute without dropout inside: it draws nothing, and one weight gives one output."""
    training = learner.model.training
    learner.model.eval()
    try:
        yield
    finally:
        learner.model.train(training)


@contextmanager
def seeded(learner: Learner) -> Iterator[None]:
    """Seed torch inside from the learner's generator, and restore torch's own state afterwards."""
    devices = [learner.device] if learner.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(learner.generator.integers(2**63)))
        yield


def draw(learner: Learner, items: Sequence[T], count: int) -> list[T]:
    """Return at most `count` of the items, without replacement, by the learner's generator."""
    if len(items) <= count:
        return list(items)
    return [items[int(place)] for place in learner.generator.choice(len(items), size=count, replace=False)]


class SynapticIntelligence(SynapticIntelligencePlugin):  # type: ignore[misc]  # Avalanche is untyped
    """Avalanche's plugin keeping copies of the weights, not the weights themselves.

    On a CPU its `param.detach().cpu().flatten()` copies nothing: the "old" weights move with the new ones, every
    path integral is 0, every importance is 0 and the penalty does nothing.
    """

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Begin the path."""
        super().before_training_exp(strategy, **kwargs)
        for kept in self.ewc_data[0].values():
            kept.data = kept.data.clone()

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Begin a step of the path."""
        super().before_training_iteration(strategy, **kwargs)
        for kept in self.syn_data["old_theta"].values():
            kept.data = kept.data.clone()

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Turn paths into importance, without the warning of numpy 2 about the square of a tensor."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "__array_wrap__", DeprecationWarning)
            super().after_training_exp(strategy, **kwargs)


class RWalk(RWalkPlugin):  # type: ignore[misc]  # Avalanche is untyped
    """Avalanche's plugin, whose scores may all be 0.

    They are 0 until an interval of `delta_t` steps ends inside an experience. Avalanche then divides 0 by 0, and the
    penalty is NaN from there on.
    """

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Make the penalty of importance alone where there are no scores."""
        super().after_training_exp(strategy, *args, **kwargs)
        if not max(score.data.max() for score in self.exp_scores.values()) > 0:
            most = max(importance.data.max() for importance in self.exp_importance.values())
            for name, penalty in self.exp_penalties.items():
                penalty.data = (self.exp_importance[name].data / most).to(penalty.data.dtype)


class AGEM(AGEMPlugin):  # type: ignore[misc]  # Avalanche is untyped
    """Avalanche's plugin with a memory of rows, drawn by the learner's generator and saved with the run.

    Avalanche draws by Python's global generator and by loaders whose place in their stream no checkpoint holds, and
    it cannot draw at all once there are more experiences than `sample_size`.
    """

    def __init__(self, learner: Learner, patterns_per_experience: int, sample_size: int) -> None:
        super().__init__(patterns_per_experience, sample_size)
        self._learner = learner

    def sample_from_memory(self) -> Minibatch:
        """Return `sample_size` rows, as many of each experience, or one row of some where that is below one."""
        each = self.sample_size // len(self.buffers)
        chosen: list[list[Example]] = self.buffers
        if each == 0:
            chosen = draw(self._learner, chosen, self.sample_size)
        return minibatch([row for rows in chosen for row in draw(self._learner, rows, max(each, 1))])

    def keep(self, rows: list[Example]) -> None:
        """Remember the rows of one more experience."""
        self.buffers.append(rows)

    def update_memory(self, dataset: Rows, **kwargs: Any) -> None:
        """Keep some rows of the experience."""
        self.keep(draw(self._learner, dataset, self.patterns_per_experience))


class GEM(GEMPlugin):  # type: ignore[misc]  # Avalanche is untyped
    """Avalanche's plugin with a memory of rows, drawn by the learner's generator and saved with the run.

    Attributes:
        buffers: kept rows, by experience.
    """

    def __init__(self, learner: Learner, patterns_per_experience: int, memory_strength: float) -> None:
        super().__init__(patterns_per_experience, memory_strength)
        self._learner = learner
        self.buffers: list[list[Example]] = []

    def keep(self, rows: list[Example]) -> None:
        """Remember the rows of one more experience."""
        number = len(self.buffers)
        self.buffers.append(rows)
        self.memory_x[number], self.memory_y[number], self.memory_tid[number] = minibatch(rows)

    def update_memory(self, dataset: Rows, t: int, batch_size: int) -> None:
        """Keep some rows of the experience."""
        self.keep(draw(self._learner, dataset, self.patterns_per_experience))
