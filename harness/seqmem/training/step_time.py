"""Time a step of a row beside a step of its reference, side by side in this process.

Started as ``python -m seqmem.training.step_time``: one pair of jobs per line on standard input, one result per line
on the pipe it was given.

Both learners are built as a run builds them and trained on the same stretch of the stream by the host's own loop,
one experience of one after one experience of the other, so that whatever else the machine does falls on both. The
probes are off and nothing is written. What a strategy does before and after an experience counts: whole
experiences are timed.

    ratio = (seconds of the row / its steps) / (seconds of the reference / its steps)

over the same experiences, which is the ratio of the totals where both make the same steps. Data is made ready before
the clock starts; experiences that train nothing are carried out and not counted.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqmem.core.data import Stream
from seqmem.planning.job import Job
from seqmem.plugin.registry import Registry
from seqmem.record.writer import RecordWriter
from seqmem.training import run as runner
from seqmem.training.checkpoint import Checkpoint
from seqmem.training.loop import begin_experience, step, train
from seqmem.training.run_state import Progress, Run, restore_snapshot, snapshot

SECONDS = 20.0
"""Time a row may take, but for the experiences it needs at least."""
MIN_EXPERIENCES = 2
"""Trained experiences at least: one whose end counts, and one after it."""
MAX_ROUNDS = 5
"""Times the stream is gone through at most, where it is short."""
WARM_STEPS = 3
SPREAD = (10, 90)
"""Percentiles of the experiences' own ratios that are given beside the ratio of the totals."""


class _Nowhere(RecordWriter):
    """Collects rows as a record does and never writes them."""

    def flush(self) -> None:
        """Forget what was added."""
        self.go_back(0, {})


@dataclass
class _Side:
    """One of the two learners, at the start of its stream."""

    run: Run
    stream: Stream
    start: Checkpoint
    seconds: dict[int, float] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)

    def rewind(self) -> None:
        """Go back to the start of the stream."""
        self.run.learner.step = 0
        self.run.snapshots = {"start": self.start}
        restore_snapshot(self.run, "start")
        self.run.progress, self.run.snapshots = Progress(), {}

    def time(self, index: int) -> None:
        """Carry out experience `index`, the next one, and add its time and steps where it trains."""
        run, experience = self.run, self.stream.experience(index)
        run.stream = replace(self.stream, length=index + 1)  # the loop goes on to there and no further
        _wait(run)
        started = time.perf_counter()
        train(run)
        _wait(run)
        seconds = time.perf_counter() - started
        if experience.trains != "none" and experience.steps:
            self.seconds[index] = self.seconds.get(index, 0.0) + seconds
            self.steps[index] = self.steps.get(index, 0) + experience.steps

    def per_step(self, index: int) -> float:
        """Return the seconds of a step of one experience, what is done at its borders included."""
        return self.seconds[index] / self.steps[index]

    def mean(self) -> float:
        """Return the seconds of a step over all that was timed."""
        return sum(self.seconds.values()) / sum(self.steps.values())


def measure(own: Job, reference: Job, registry: Registry, seconds: float = SECONDS) -> dict[str, Any]:
    """Time two runs of the same stream side by side.

    Args:
        own: the run whose steps are compared.
        reference: what they are compared with.
        registry: where plugins are found.
        seconds: time it may take, but for `MIN_EXPERIENCES`.

    Returns:
        ``ratio``, its spread over experiences ``low`` and ``high``, and the ``steps`` timed of each.

    Raises:
        SeqmemError: one of the two cannot be built or trained.
    """
    with runner.deterministic(own.recipe), tempfile.TemporaryDirectory() as nowhere:
        mine, its = (_side(job, registry, Path(nowhere)) for job in (own, reference))
        length = min(mine.stream.length, its.stream.length)
        left = seconds
        for _ in range(MAX_ROUNDS):
            mine.rewind()
            its.rewind()
            for index in range(length):
                mine.stream.experience(index), its.stream.experience(index)  # made ready
                started = time.perf_counter()
                for side in (mine, its) if index % 2 else (its, mine):
                    side.time(index)
                left -= time.perf_counter() - started
                if left <= 0 and len(mine.steps) >= MIN_EXPERIENCES:
                    return _result(mine, its)
        return _result(mine, its)


def _side(job: Job, registry: Registry, folder: Path) -> _Side:
    """Build a learner as a run does, warm, at the start of a stream that is made once."""
    run, _ = runner.build_run(job, registry)
    run.record, run.probing, run.checkpoint_every = _Nowhere(folder), "none", 2**62
    stream = replace(run.stream, experience=functools.cache(run.stream.experience))
    side = _Side(run, stream, snapshot(run))
    experiences = map(stream.experience, range(stream.length))
    experience = next((e for e in experiences if e.trains != "none" and e.steps), None)
    if experience is not None:
        begin_experience(run, experience)
        run.learner.set_trainable(run.strategy.trainable(run.learner, experience))
        for position in range(min(WARM_STEPS, experience.steps)):
            step(run, experience, experience.batch(position))
            run.learner.step += 1
    return side


def _result(mine: _Side, its: _Side) -> dict[str, Any]:
    shared = sorted(mine.steps.keys() & its.steps.keys())
    each = [mine.per_step(index) / its.per_step(index) for index in shared]
    low, high = np.percentile(each, SPREAD)
    made: dict[str, Any] = {
        "ratio": round(mine.mean() / its.mean(), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "steps": sum(mine.steps.values()),
    }
    if mine.run.learner.device.type == "cuda":
        made["milliseconds"] = {"row": 1e3 * mine.mean(), "reference": 1e3 * its.mean()}
    return made


def _wait(run: Run) -> None:
    """Wait until a GPU has done what it was given."""
    if run.learner.device.type == "cuda":
        torch.cuda.synchronize(run.learner.device)


def describe_machine(device: str) -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device != "cpu" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure the pairs on standard input until it ends."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log
    for line in sys.stdin:
        own, reference = (Job.model_validate(job) for job in json.loads(line))
        registry = Registry.from_environment(frozenset(own.disabled))
        try:
            found = measure(own, reference, registry)
        except Exception as error:  # a plugin's fault must not take the other rows along
            found = {"reason": runner.reason_of(error, own.recipe)}
        results.write(json.dumps({"result": found, "machine": describe_machine(own.recipe.device)}) + "\n")


if __name__ == "__main__":
    main()
