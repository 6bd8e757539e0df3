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

from seqmem.checkpoint import Checkpoint, digest, save
from seqmem.errors import RunFailed
from seqmem.learner import MAIN, Learner
from seqmem.recipe import Probing
from seqmem.record import EXPERIENCES, RecordWriter, write_table
from seqmem.scoring import Answers, ProbeSet
from seqmem.strategy import Strategy
from seqmem.types import Batch, Experience, ProbePoint, Stream


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
        visited: a row of the experiences table per experience entered.
    """

    experience: int = 0
    position: int = 0
    entered: bool = False
    content: str = ""
    visited: list[dict[str, Any]] = field(default_factory=list)


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


def train(run: Run) -> None:
    """Run the stream through the learner and ask the probes on their schedule.

    Raises:
        Stopped: `should_stop` said so; a checkpoint was written.
        RunFailed: the loss is not a number, or a rest without training changed something.
    """
    learner, strategy, stream, place = run.learner, run.strategy, run.stream, run.place
    while place.experience < stream.length:
        experience = stream.experience(place.experience)
        points = probe_points(run, experience)
        if not place.entered:
            enter(run, experience)
        untouched = digest(checkpoint(run).tensors) if experience.trains == "none" else None
        while True:
            for point in points.get(place.position, ()):
                ask(run, experience, point)
            if place.position == experience.steps:
                break
            batch = experience.batch(place.position)
            loss = (
                step(run, experience, batch)
                if experience.trains == "all"
                else read_only(run, experience, batch)
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
        place.experience, place.position, place.entered = place.experience + 1, 0, False
    run.record.flush()


def enter(run: Run, experience: Experience) -> None:
    """Note the experience in the record, then let host and strategy prepare for it."""
    place = run.place
    place.content = chain(place.content, experience)
    place.visited.append(
        {
            "experience": experience.index,
            "name": experience.name,
            "phase": experience.phase,
            "task_label": experience.task_label,
            "first_step": run.learner.step,
            "steps": experience.steps,
            "trains": experience.trains,
        }
    )
    columns = {name: [row[name] for row in place.visited] for name in EXPERIENCES.names}
    write_table(run.record.folder / "experiences.parquet", columns, EXPERIENCES)
    if experience.moments == "fresh" and experience.trains == "all":
        run.learner.use_moments(MAIN)
        run.learner.reset_moments()
    run.strategy.before_experience(run.learner, experience)
    place.entered = True


def step(run: Run, experience: Experience, batch: Batch) -> float:
    """One optimizer step; returns its loss in nats per target token."""
    learner, strategy = run.learner, run.strategy
    rehearsed = strategy.rehearse(learner, batch)
    loss, tokens, targets = learner.loss([*batch, *rehearsed])
    nats = loss.item()
    if not math.isfinite(nats):
        raise RunFailed(
            f"the loss is {nats} at step {learner.step + 1} ({experience.name}); lower the learning rate"
        )
    loss.backward()  # type: ignore[no-untyped-call]
    penalty = strategy.add_gradient(learner)
    grad_norm = learner.clip()
    strategy.transform_gradient(learner)
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    strategy.after_step(learner, batch)
    log_step(run, experience, nats, penalty, grad_norm, tokens, targets, len(rehearsed))
    counts = Counter(fact for row in [*batch, *rehearsed] for fact in row.facts)
    if counts:
        done = [learner.step + 1] * len(counts)
        run.record.add("exposures", step=done, fact=list(counts), count=list(counts.values()))
    return nats


@torch.no_grad()
def read_only(run: Run, experience: Experience, batch: Batch) -> float:
    """A step of an experience that trains nothing: the loss is read and that is all."""
    run.learner.model.eval()
    loss, tokens, targets = run.learner.loss(batch)
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
        lr=[run.learner.settings.lr if experience.trains == "all" else 0.0],
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
            due.setdefault(after, (ProbePoint(after, extra, "every"),))
    return due


def ask(run: Run, experience: Experience, point: ProbePoint) -> None:
    """Score one probe set and put the answers on record."""
    if point.probe_set not in run.probe_sets:
        run.probe_sets[point.probe_set] = ProbeSet(run.stream.probe_sets[point.probe_set], run.learner.device)
    probes = run.probe_sets[point.probe_set]
    answers = probes.ask(run.learner.model)
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
    )
    run.on_answers(point, answers, probes)


def chain(content: str, experience: Experience) -> str:
    """Add an experience's training rows to the stream's content hash."""
    hasher = hashlib.sha256(content.encode())
    hasher.update(
        f"{experience.phase} {experience.task_label} {experience.repeats} {experience.trains}".encode()
    )
    for batch in experience.batches:
        for row in batch:
            hasher.update(row.input_ids.astype("<i4").tobytes() + row.loss_mask.tobytes())
            hasher.update(json.dumps(row.facts).encode())
    return hasher.hexdigest()


def checkpoint(run: Run) -> Checkpoint:
    """All that the rest of the run depends on."""
    learner, place = run.learner, run.place
    tensors = learner.tensors() | {"random:cpu": torch.get_rng_state()}
    if learner.device.type == "cuda":
        tensors["random:cuda"] = torch.cuda.get_rng_state(learner.device)
    return Checkpoint(
        tensors,
        {
            "step": learner.step,
            "active_moments": learner.active_moments,
            "generator": learner.generator.bit_generator.state,
            "strategy": run.strategy.state_dict(),
            "parts": run.record.parts,
            "place": vars(place),
        },
    )


def write_checkpoint(run: Run) -> None:
    """Put the record's rows on disk, then the checkpoint that counts on them."""
    run.record.flush()
    save(run.record.folder / "checkpoints", checkpoint(run))


def restore(run: Run, saved: Checkpoint) -> None:
    """Continue from a checkpoint; record parts it does not know are deleted."""
    learner = run.learner
    learner.restore(saved.tensors, saved.state["active_moments"])
    learner.step = saved.state["step"]
    learner.generator.bit_generator.state = saved.state["generator"]
    run.strategy.load_state_dict(saved.state["strategy"])
    run.place = Place(**saved.state["place"])
    run.record.drop_parts_after(saved.state["parts"])
    torch.set_rng_state(saved.tensors["random:cpu"])
    if "random:cuda" in saved.tensors:
        torch.cuda.set_rng_state(saved.tensors["random:cuda"], learner.device)
