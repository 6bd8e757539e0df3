"""The one training loop. Read `train` top to bottom: it is what happens, in order."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Mapping

import torch

from seqmem.core.data import Batch, Experience, ProbePoint
from seqmem.core.errors import RunFailed
from seqmem.training.checkpoint import digest
from seqmem.training.learner import MAIN
from seqmem.training.numerics import CHANGED_GRADIENT, CHANGED_UPDATE, LOSS_GRADIENT, OPTIMIZER
from seqmem.training.probing import Forward, ProbeSet
from seqmem.training.run_state import (
    Run,
    checkpoint,
    checkpoint_due,
    restore_snapshot,
    snapshot,
    write_checkpoint,
)


class Stopped(Exception):
    """The run was asked to stop; everything done so far is in its checkpoint."""


def train(run: Run) -> None:
    """Run the stream through the learner and ask the probes on their schedule.

    Raises:
        Stopped: `should_stop` said so; a checkpoint was written.
        RunFailed: a number is not finite, or a rest without training changed something.
    """
    learner, strategy, stream, progress = run.learner, run.strategy, run.stream, run.progress
    if run.compares_updates:
        learner.allocate_previous()  # now, so that what is counted in the end depends on no resumption
    while progress.experience < stream.length:
        experience = stream.experience(progress.experience)
        points = probe_points(run, experience)
        if not progress.entered:
            begin_experience(run, experience)
        learner.set_trainable(strategy.trainable(learner, experience))
        untouched = digest(checkpoint(run).tensors) if experience.trains == "none" else None
        while True:
            for point in points.get(progress.position, ()):
                probe(run, experience, point)
            if progress.position == experience.steps:
                break
            batch = experience.batch(progress.position)
            loss = (
                read_only(run, experience, batch)
                if experience.trains == "none"
                else step(run, experience, batch)
            )
            learner.step += 1
            progress.position += 1
            run.on_step(experience, loss)
            stop = run.should_stop()
            if stop or checkpoint_due(run):
                write_checkpoint(run)
            if stop:
                raise Stopped
        if experience.trains != "none":
            run.numerics.check_weights(experience.name)
        if untouched is not None and digest(checkpoint(run).tensors) != untouched:
            raise RunFailed(f"{experience.name}: a rest without training changed the learner")
        strategy.after_experience(learner, experience)
        if experience.save_as is not None:
            run.snapshots[experience.save_as] = snapshot(run)
        progress.experience, progress.position, progress.entered = progress.experience + 1, 0, False
    run.record.flush()


def begin_experience(run: Run, experience: Experience) -> None:
    """Note the experience in the record, then let host and strategy prepare for it."""
    progress = run.progress
    progress.content = update_stream_hash(progress.content, experience)
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
        restore_snapshot(run, experience.start_from)
    if experience.moments == "fresh" and experience.trains != "none":
        run.learner.use_moments(MAIN)
        run.learner.reset_moments()
    run.strategy.before_experience(run.learner, experience)
    progress.entered = True


def step(run: Run, experience: Experience, batch: Batch) -> float:
    """Make one optimizer step and return its loss in nats per target token."""
    learner, strategy, numerics = run.learner, run.strategy, run.numerics
    rehearsed = strategy.rehearse(learner, batch)
    loss, tokens, targets = learner.accumulate([*batch, *rehearsed], forward(run, experience.task_label))
    nats = loss.item()
    numerics.check_loss(nats, experience.name)
    numerics.note_gradient(LOSS_GRADIENT)
    penalty = strategy.add_gradient(learner)
    grad_norm = learner.clip()
    numerics.check_gradient(penalty, grad_norm, experience.name)
    strategy.transform_gradient(learner)
    numerics.note_gradient(CHANGED_GRADIENT)
    before = learner.copy_parameters() if run.compares_updates else {}
    with learner.sized(experience.update_norm):
        with learner.scheduled():
            rate = learner.rate()
            learner.optimizer.step()
        numerics.note_weights(OPTIMIZER)
        if run.compares_updates:
            strategy.transform_update(learner, before)
            numerics.note_weights(CHANGED_UPDATE)
    learner.optimizer.zero_grad(set_to_none=True)
    strategy.after_step(learner, batch)
    log_step(run, experience, nats, penalty, grad_norm, rate, tokens, targets, len(rehearsed))
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
    for control in run.detector.scan([*batch, *rehearsed]) if run.detector is not None else ():
        run.progress.leaks.setdefault(control, experience.name)
    return nats


def forward(run: Run, task_label: int | None) -> Forward | None:
    """Return the strategy's own forward for this task label; None where it has none."""
    if not run.routed:
        return None
    return lambda input_ids, prompt_tokens: run.strategy.forward(
        run.learner, input_ids, task_label, prompt_tokens
    )


@torch.no_grad()
def read_only(run: Run, experience: Experience, batch: Batch) -> float:
    """Read the loss of a step that trains nothing."""
    run.learner.model.eval()
    loss, tokens, targets = run.learner.accumulate(batch, forward(run, experience.task_label))
    run.learner.model.train()
    log_step(run, experience, loss.item(), 0.0, 0.0, 0.0, tokens, targets, 0)
    return loss.item()


def log_step(
    run: Run,
    experience: Experience,
    loss: float,
    penalty: float,
    grad_norm: float,
    rate: float,
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
        lr=[rate],
        tokens=[tokens],
        targets=[targets],
        rehearsed=[rehearsed],
    )


def probe_points(run: Run, experience: Experience) -> Mapping[int, tuple[ProbePoint, ...]]:
    """Return the probe points of an experience by the number of steps after which they are due."""
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


def probe(run: Run, experience: Experience, point: ProbePoint) -> None:
    """Score one probe set and put the answers on record."""
    if point.probe_set not in run.probe_sets:
        run.probe_sets[point.probe_set] = ProbeSet(
            run.stream.probe_sets[point.probe_set], run.learner.device, run.stream.decoding, run.routed
        )
    probes = run.probe_sets[point.probe_set]
    asked = functools.partial(run.on_probing, probes)
    with run.learner.autocast():
        answers = probes.ask(run.learner.model, lambda label: forward(run, label), asked)
    if run.learner.step == 0:
        run.on_first_answers(probes, answers)
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
        correct=answers.exact_match,
        best_other=answers.top_distractor_logprob,
        rank=answers.rank,
        choice=answers.choice,
        closed=answers.choice_logprob,
        in_form=answers.in_form,
        sampled=answers.sampled,
        said=[None if ids is None else run.decode(ids) for ids in answers.greedy_tokens],
    )
    run.on_answers(point, answers, probes)


def update_stream_hash(content: str, experience: Experience) -> str:
    """Add an experience's training rows to the stream's content hash."""
    hasher = hashlib.sha256(content.encode())
    hasher.update(
        f"{experience.phase} {experience.task_label} {experience.repeats} {experience.trains}".encode()
    )
    if experience.moments == "fresh":
        hasher.update(b"fresh moments")
    if experience.update_norm is not None:
        hasher.update(f"update norm {experience.update_norm}".encode())
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
