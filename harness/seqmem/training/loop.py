"""The one training loop. Read `train` top to bottom: it is what happens, in order."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seqmem.core.data import Batch, Experience, ProbePoint, Stream
from seqmem.core.errors import RunFailed
from seqmem.core.recipe import Probing
from seqmem.plugin.strategy import Strategy, overrides
from seqmem.record.writer import RecordWriter
from seqmem.training.checkpoint import Checkpoint, digest, save
from seqmem.training.leaks import Watch
from seqmem.training.learner import MAIN, Learner
from seqmem.training.probing import Answers, Forward, ProbeSet


class Stopped(Exception):
    """The run was asked to stop; everything done so far is in its checkpoint."""


@dataclass
class Place:
    """Where a run stands in its stream; part of every checkpoint.

    Attributes:
        experience: index of the current experience.
        position: steps done inside it.
        entered: `before_experience` has run for it.
        content: chained SHA-256 of every experience entered so far.
        leaks: a control's fact id to the experience whose rows trained its answer first.
    """

    experience: int = 0
    position: int = 0
    entered: bool = False
    content: str = ""
    leaks: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """Everything `train` works on."""

    learner: Learner
    strategy: Strategy
    stream: Stream
    record: RecordWriter
    place: Place
    probing: Probing
    checkpoint_every: int
    should_stop: Callable[[], bool] = lambda: False
    on_step: Callable[[Experience, float], None] = lambda experience, loss: None
    on_answers: Callable[[ProbePoint, Answers, ProbeSet], None] = lambda point, answers, probes: None
    probe_sets: dict[str, ProbeSet] = field(default_factory=dict)
    snapshots: dict[str, Checkpoint] = field(default_factory=dict)
    watch: Watch | None = None
    decode: Callable[[list[int]], str] = str

    def __post_init__(self) -> None:
        """Tell the learner how the strategy routes, for strategies composed with it."""
        if self.routed:
            self.learner.route = lambda ids, label: self.strategy.forward(self.learner, ids, label, None)

    @property
    def routed(self) -> bool:
        """The strategy has a forward of its own."""
        return overrides(self.strategy, "forward")

    @property
    def compares_updates(self) -> bool:
        """The strategy changes the optimizer's step, for which it needs the parameters as they were."""
        return overrides(self.strategy, "transform_update")


def train(run: Run) -> None:
    """Run the stream through the learner and ask the probes on their schedule.

    Raises:
        Stopped: `should_stop` said so; a checkpoint was written.
        RunFailed: the loss is not a number, or a rest without training changed something.
    """
    learner, strategy, stream, place = run.learner, run.strategy, run.stream, run.place
    if run.compares_updates:
        learner.room_before()  # now, so that what is counted in the end depends on no resumption
    while place.experience < stream.length:
        experience = stream.experience(place.experience)
        points = probe_points(run, experience)
        if not place.entered:
            enter(run, experience)
        learner.train_only(strategy.trainable(learner, experience))
        untouched = digest(checkpoint(run).tensors) if experience.trains == "none" else None
        while True:
            for point in points.get(place.position, ()):
                ask(run, experience, point)
            if place.position == experience.steps:
                break
            batch = experience.batch(place.position)
            loss = (
                read_only(run, experience, batch)
                if experience.trains == "none"
                else step(run, experience, batch)
            )
            learner.step += 1
            place.position += 1
            run.on_step(experience, loss)
            if learner.step % run.checkpoint_every == 0:
                write_checkpoint(run)
            if run.should_stop():
                write_checkpoint(run)
                raise Stopped
        if untouched is not None and digest(checkpoint(run).tensors) != untouched:
            raise RunFailed(f"{experience.name}: a rest without training changed the learner")
        strategy.after_experience(learner, experience)
        if experience.save_as is not None:
            run.snapshots[experience.save_as] = snapshot(run)
        place.experience, place.position, place.entered = place.experience + 1, 0, False
    run.record.flush()


def enter(run: Run, experience: Experience) -> None:
    """Note the experience in the record, then let host and strategy prepare for it."""
    place = run.place
    place.content = chain(place.content, experience)
    run.record.add(
        "experiences",
        experience=[experience.index],
        name=[experience.name],
        phase=[experience.phase],
        task_label=[experience.task_label],
        first_step=[run.learner.step],
        steps=[experience.steps],
        trains=[experience.trains],
        start_from=[experience.start_from],
        save_as=[experience.save_as],
    )
    if experience.start_from is not None:
        return_to(run, experience.start_from)
    if experience.moments == "fresh" and experience.trains != "none":
        run.learner.use_moments(MAIN)
        run.learner.reset_moments()
    run.strategy.before_experience(run.learner, experience)
    place.entered = True


def step(run: Run, experience: Experience, batch: Batch) -> float:
    """One optimizer step; returns its loss in nats per target token."""
    learner, strategy = run.learner, run.strategy
    rehearsed = strategy.rehearse(learner, batch)
    loss, tokens, targets = learner.loss([*batch, *rehearsed], forward(run, experience.task_label))
    nats = loss.item()
    if not math.isfinite(nats):
        raise RunFailed(
            f"the loss is {nats} at step {learner.step + 1} ({experience.name}); lower the learning rate"
        )
    loss.backward()  # type: ignore[no-untyped-call]
    penalty = strategy.add_gradient(learner)
    grad_norm = learner.clip()
    strategy.transform_gradient(learner)
    before = learner.keep_before() if run.compares_updates else {}
    learner.optimizer.step()
    if run.compares_updates:
        strategy.transform_update(learner, before)
    learner.optimizer.zero_grad(set_to_none=True)
    strategy.after_step(learner, batch)
    log_step(run, experience, nats, penalty, grad_norm, tokens, targets, len(rehearsed))
    measured = strategy.measured()
    if measured:
        run.record.add(
            "measured",
            step=[learner.step + 1] * len(measured),
            name=list(measured),
            value=list(measured.values()),
        )
    counts = Counter(fact for row in [*batch, *rehearsed] for fact in row.facts)
    if counts:
        again = Counter(fact for row in rehearsed for fact in row.facts)
        run.record.add(
            "exposures",
            step=[learner.step + 1] * len(counts),
            fact=list(counts),
            count=list(counts.values()),
            rehearsed=[again[fact] for fact in counts],
        )
    for control in run.watch.look([*batch, *rehearsed]) if run.watch is not None else ():
        run.place.leaks.setdefault(control, experience.name)
    return nats


def forward(run: Run, task_label: int | None) -> Forward | None:
    """The strategy's own forward for this task label; None where it has none."""
    if not run.routed:
        return None
    return lambda input_ids, prompt_tokens: run.strategy.forward(
        run.learner, input_ids, task_label, prompt_tokens
    )


@torch.no_grad()
def read_only(run: Run, experience: Experience, batch: Batch) -> float:
    """A step of an experience that trains nothing: the loss is read and that is all."""
    run.learner.model.eval()
    loss, tokens, targets = run.learner.loss(batch, forward(run, experience.task_label))
    run.learner.model.train()
    log_step(run, experience, loss.item(), 0.0, 0.0, tokens, targets, 0)
    return loss.item()


def log_step(
    run: Run,
    experience: Experience,
    loss: float,
    penalty: float,
    grad_norm: float,
    tokens: int,
    targets: int,
    rehearsed: int,
) -> None:
    """Add a row to the step table."""
    run.record.add(
        "steps",
        step=[run.learner.step + 1],
        experience=[experience.index],
        loss=[loss],
        penalty=[penalty],
        grad_norm=[grad_norm],
        lr=[0.0 if experience.trains == "none" else run.learner.settings.lr],
        tokens=[tokens],
        targets=[targets],
        rehearsed=[rehearsed],
    )


def probe_points(run: Run, experience: Experience) -> Mapping[int, tuple[ProbePoint, ...]]:
    """Probe points of an experience by the number of steps after which they are due."""
    if run.probing == "none":
        return {}
    due: dict[int, tuple[ProbePoint, ...]] = {}
    for point in run.stream.probe_points(experience.index):
        due[point.after] = (*due.get(point.after, ()), point)
    if run.probing == "every":
        extra = next(iter(run.stream.probe_sets))
        for after in range(experience.steps):
            due.setdefault(after, (ProbePoint(after, extra, ("every",)),))
    return due


def ask(run: Run, experience: Experience, point: ProbePoint) -> None:
    """Score one probe set and put the answers on record."""
    if point.probe_set not in run.probe_sets:
        run.probe_sets[point.probe_set] = ProbeSet(
            run.stream.probe_sets[point.probe_set], run.learner.device, run.stream.decoding, run.routed
        )
    probes = run.probe_sets[point.probe_set]
    answers = probes.ask(run.learner.model, lambda label: forward(run, label))
    count = len(probes.probes)
    run.record.add(
        "probes",
        step=[run.learner.step] * count,
        experience=[experience.index] * count,
        after=[point.after] * count,
        schedule=[point.schedule] * count,
        probe=[probe.id for probe in probes.probes],
        logprob=answers.logprob,
        tokens=[len(probe.input_ids) - probe.answer_start for probe in probes.probes],
        correct=answers.correct,
        best_other=answers.best_other,
        choice=answers.choice,
        closed=answers.closed,
        sampled=answers.sampled,
        said=[None if said is None else run.decode(said) for said in answers.said],
    )
    run.on_answers(point, answers, probes)


def chain(content: str, experience: Experience) -> str:
    """Add an experience's training rows to the stream's content hash."""
    hasher = hashlib.sha256(content.encode())
    hasher.update(
        f"{experience.phase} {experience.task_label} {experience.repeats} {experience.trains}".encode()
    )
    if experience.moments == "fresh":
        hasher.update(b"fresh moments")
    if experience.start_from is not None:
        hasher.update(f"from {experience.start_from}".encode())
    for batch in experience.batches:
        for row in batch:
            hasher.update(row.input_ids.astype("<i4").tobytes() + row.loss_mask.tobytes())
            if row.weights is not None:
                hasher.update(b"weights" + row.weights.astype("<f4").tobytes())
            if row.segments is not None:
                hasher.update(b"segments" + row.segments.astype("<i4").tobytes())
            hasher.update(json.dumps(row.facts).encode())
    return hasher.hexdigest()


def snapshot(run: Run) -> Checkpoint:
    """The learner as it stands, on the CPU: weights, moments, strategy, random state; not its clock."""
    tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in learner_tensors(run).items()}
    # through JSON, so that what the strategy goes on changing is not what is kept
    return Checkpoint(tensors, json.loads(json.dumps(learner_state(run))))


def return_to(run: Run, name: str) -> None:
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
    """Tensors of the learner, of the strategy and of torch's random state."""
    learner = run.learner
    tensors = learner.tensors() | {"random:cpu": torch.get_rng_state()}
    tensors |= {f"strategy:{name}": tensor for name, tensor in run.strategy.tensors().items()}
    if learner.device.type == "cuda":
        tensors["random:cuda"] = torch.cuda.get_rng_state(learner.device)
    return tensors


def learner_state(run: Run) -> dict[str, Any]:
    """What the learner and the strategy are besides tensors."""
    return {
        "active_moments": run.learner.active_moments,
        "fills": run.learner.state.fills(),
        "generator": run.learner.generator.bit_generator.state,
        "strategy": run.strategy.state_dict(),
    }


def set_learner(run: Run, saved: Checkpoint) -> None:
    """Take back what `learner_tensors` and `learner_state` gave."""
    learner = run.learner
    run.strategy.reshape(learner, saved.state["strategy"])
    learner.restore(saved.tensors, saved.state["fills"], saved.state["active_moments"])
    learner.generator.bit_generator.state = saved.state["generator"]
    run.strategy.load_state_dict(saved.state["strategy"])
    own = {k.removeprefix("strategy:"): t for k, t in saved.tensors.items() if k.startswith("strategy:")}
    run.strategy.load_tensors(own)
    torch.set_rng_state(saved.tensors["random:cpu"])
    if "random:cuda" in saved.tensors:
        torch.cuda.set_rng_state(saved.tensors["random:cuda"], learner.device)


def checkpoint(run: Run) -> Checkpoint:
    """All that the rest of the run depends on."""
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
            "place": vars(run.place),
            "snapshots": {name: kept.state for name, kept in run.snapshots.items()},
        },
    )


def write_checkpoint(run: Run) -> None:
    """Put the record's rows on disk, then the checkpoint that counts on them."""
    run.record.flush()
    save(run.record.folder / "checkpoints", checkpoint(run))


def restore(run: Run, saved: Checkpoint) -> None:
    """Continue from a checkpoint; record parts it does not know are deleted."""
    set_learner(run, saved)
    run.learner.step = saved.state["step"]
    for number, name in enumerate(sorted(saved.state["snapshots"])):
        front = f"snapshot {number}:"
        tensors = {k.removeprefix(front): t for k, t in saved.tensors.items() if k.startswith(front)}
        run.snapshots[name] = Checkpoint(tensors, saved.state["snapshots"][name])
    run.place = Place(**saved.state["place"])
    run.record.drop_parts_after(saved.state["parts"])
