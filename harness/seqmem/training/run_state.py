"""A run as it stands: what `train` works on, how it is saved, and how it is taken back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seqmem.core.choices import Probing
from seqmem.core.data import Experience, ProbePoint, Stream
from seqmem.core.disk import disk_full, is_full
from seqmem.core.errors import RunFailed
from seqmem.plugin.strategy import Strategy, overrides
from seqmem.record.writer import RecordWriter
from seqmem.training.checkpoint import Checkpoint, save, size
from seqmem.training.leaks import ContaminationDetector
from seqmem.training.learner import Learner
from seqmem.training.numerics import Numerics
from seqmem.training.probing import Answers, ProbeSet


@dataclass
class Progress:
    """The place of a run in its stream; part of every checkpoint.

    Attributes:
        experience: index of the current experience.
        position: steps done inside it.
        entered: `before_experience` has run for it.
        content: chained SHA-256 of every experience entered so far.
        leaks: a control's fact id to the experience whose rows trained its answer first.
        accepted: what failed in the audit before the first step, and was accepted.
    """

    experience: int = 0
    position: int = 0
    entered: bool = False
    content: str = ""
    leaks: dict[str, str] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)


@dataclass
class Run:
    """Everything `train` works on.

    Attributes:
        checkpoint_every: steps between checkpoints; None where minutes say it.
        checkpoint_minutes: minutes between checkpoints.
        on_first_answers: told of answers before the first step, and may refuse the run.
        unknown: id of the tokenizer's token for what it does not know.
    """

    learner: Learner
    strategy: Strategy
    stream: Stream
    record: RecordWriter
    progress: Progress
    probing: Probing
    checkpoint_every: int | None
    checkpoint_minutes: int | None = None
    should_stop: Callable[[], bool] = lambda: False
    on_step: Callable[[Experience, float], None] = lambda experience, loss: None
    on_probing: Callable[[ProbeSet, int, int], None] = lambda probes, done, blocks: None
    on_answers: Callable[[ProbePoint, Answers, ProbeSet], None] = lambda point, answers, probes: None
    on_first_answers: Callable[[ProbeSet, Answers], None] = lambda probes, answers: None
    probe_sets: dict[str, ProbeSet] = field(default_factory=dict)
    snapshots: dict[str, Checkpoint] = field(default_factory=dict)
    detector: ContaminationDetector | None = None
    decode: Callable[[list[int]], str] = str
    tokenizer: str = ""
    unknown: int | None = None
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Watch the numbers, and tell the learner how the strategy routes, for strategies composed with it."""
        self.numerics = Numerics(self.learner, self.strategy)
        self.checkpointed = time.monotonic()
        if self.routed:
            self.learner.route = lambda ids, label: self.strategy.forward(self.learner, ids, label, None)

    @property
    def routed(self) -> bool:
        """Return whether the strategy has a forward of its own."""
        return overrides(self.strategy, "forward")

    @property
    def compares_updates(self) -> bool:
        """Return whether the strategy changes the optimizer's step, for which it needs the parameters as they were."""
        return overrides(self.strategy, "transform_update")


def snapshot(run: Run) -> Checkpoint:
    """Return the learner as it stands, on the CPU: weights, moments, strategy, random state; not its clock."""
    tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in learner_tensors(run).items()}
    # through JSON, so that what the strategy goes on changing is not what is kept
    return Checkpoint(tensors, json.loads(json.dumps(learner_state(run))))


def restore_snapshot(run: Run, name: str) -> None:
    """Make the learner what it was when the snapshot was taken; the clock goes on.

    Raises:
        RunFailed: no experience has made this snapshot.
    """
    if name not in run.snapshots:
        raise RunFailed(
            f"no snapshot {name!r} to start from; made so far: {', '.join(run.snapshots) or 'none'}"
        )
    kept = run.snapshots[name]
    set_learner(run, Checkpoint(kept.tensors, json.loads(json.dumps(kept.state))))


def learner_tensors(run: Run) -> dict[str, Tensor]:
    """Return the tensors of the learner, of the strategy and of torch's random state."""
    learner = run.learner
    tensors = learner.tensors() | {"random:cpu": torch.get_rng_state()}
    tensors |= {f"strategy:{name}": tensor for name, tensor in run.strategy.tensors().items()}
    if learner.device.type == "cuda":
        tensors["random:cuda"] = torch.cuda.get_rng_state(learner.device)
    return tensors


def learner_state(run: Run) -> dict[str, Any]:
    """Return what the learner and the strategy are besides tensors."""
    return {
        "active_moments": run.learner.active_moments,
        "fills": run.learner.state.fills(),
        "generator": run.learner.generator.bit_generator.state,
        "position": run.learner.step - run.learner.undone,
        "strategy": run.strategy.state_dict(),
    }


def set_learner(run: Run, saved: Checkpoint) -> None:
    """Take back what `learner_tensors` and `learner_state` gave."""
    learner = run.learner
    run.strategy.reshape(learner, saved.state["strategy"])
    learner.restore(saved.tensors, saved.state["fills"], saved.state["active_moments"])
    learner.undone = learner.step - saved.state.get("position", learner.step)  # older ones know no schedule
    learner.generator.bit_generator.state = saved.state["generator"]
    run.strategy.load_state_dict(saved.state["strategy"])
    own = {k.removeprefix("strategy:"): t for k, t in saved.tensors.items() if k.startswith("strategy:")}
    run.strategy.load_tensors(own)
    torch.set_rng_state(saved.tensors["random:cpu"])
    if "random:cuda" in saved.tensors:
        torch.cuda.set_rng_state(saved.tensors["random:cuda"], learner.device)


def checkpoint(run: Run) -> Checkpoint:
    """Return all that the rest of the run depends on."""
    branches = {
        f"snapshot {number}:{key}": tensor
        for number, name in enumerate(sorted(run.snapshots))
        for key, tensor in run.snapshots[name].tensors.items()
    }
    return Checkpoint(
        learner_tensors(run) | branches,
        {
            **learner_state(run),
            "step": run.learner.step,
            "parts": run.record.parts,
            "files": run.record.files,
            "place": vars(run.progress),
            "snapshots": {name: kept.state for name, kept in run.snapshots.items()},
        },
    )


def checkpoint_due(run: Run) -> bool:
    """Return whether so many steps, or minutes, have gone by since the last checkpoint."""
    if run.checkpoint_minutes is not None:
        return time.monotonic() - run.checkpointed >= 60 * run.checkpoint_minutes
    return run.checkpoint_every is not None and run.learner.step % run.checkpoint_every == 0


def write_checkpoint(run: Run) -> None:
    """Put the record's rows on disk, then the checkpoint that counts on them.

    Raises:
        DiskFull: there is no room for them; the checkpoint before is good.
    """
    try:
        run.record.flush()
        save(run.record.folder / "checkpoints", checkpoint(run))
    except OSError as error:
        if is_full(error):
            raise disk_full(run.record.folder, size(checkpoint(run))) from error
        raise
    run.checkpointed = time.monotonic()


def restore(run: Run, saved: Checkpoint) -> None:
    """Continue from a checkpoint; record parts it does not know are deleted."""
    run.learner.step = saved.state["step"]
    set_learner(run, saved)
    for number, name in enumerate(sorted(saved.state["snapshots"])):
        front = f"snapshot {number}:"
        tensors = {k.removeprefix(front): t for k, t in saved.tensors.items() if k.startswith(front)}
        run.snapshots[name] = Checkpoint(tensors, saved.state["snapshots"][name])
    run.progress = Progress(**saved.state["place"])
    run.record.go_back(saved.state["parts"], saved.state["files"])
