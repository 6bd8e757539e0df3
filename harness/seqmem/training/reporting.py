"""Say while a run goes on how far it is, and how long the rest will take.

Steps and probes are timed apart, from one report of the loop to the next: what ends with a step was training, what
ends with answers was probing. The stream says exactly which probe sets are still due.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from seqmem.core.data import Experience, ProbePoint, Relation
from seqmem.training.probing import Answers, ProbeSet
from seqmem.training.run_state import Run

Report = Callable[[dict[str, Any]], None]

REPORT_SECONDS = 0.2
"""Between reports of steps, and of blocks of probes."""
LAST_STEPS = 50
LEAST_STEPS = 3
"""Steps, after the first, whose time is a basis to say how long the others take."""


class TimeLeft:
    """The seconds that a run still takes, from the rate of its last steps and of its probes.

    The first step is left out: it also pays for what is set up once.
    """

    def __init__(self, due: Counter[str], sizes: dict[str, int]) -> None:
        """Take how often each probe set is still due, and the probes in each."""
        self._due, self._sizes = due, sizes
        self._steps: deque[float] | None = None
        self._asked: dict[str, float] = {}

    def note_step(self, seconds: float) -> None:
        """Add a step."""
        if self._steps is None:
            self._steps = deque(maxlen=LAST_STEPS)
        else:
            self._steps.append(seconds)

    def note_probes(self, name: str, seconds: float) -> None:
        """Add a sweep of a probe set, which is then due once less."""
        self._asked[name] = seconds
        self._due[name] = max(0, self._due[name] - 1)

    def seconds(self, steps: int) -> float | None:
        """Return what is left with so many steps to do; None until it can be estimated."""
        if steps and (self._steps is None or len(self._steps) < LEAST_STEPS):
            return None
        left = steps * statistics.fmean(self._steps) if steps and self._steps else 0.0
        probes = sum(self._sizes[name] for name in self._asked)
        each = sum(self._asked.values()) / probes if probes else None  # of a set not asked so far
        for name, times in self._due.items():
            if times and name not in self._asked and each is None:
                return None
            left += times * (self._asked[name] if name in self._asked else self._sizes[name] * (each or 0.0))
        return left


def probes_due(run: Run) -> Counter[str]:
    """Return how often the stream still asks each probe set, from the place where the run stands."""
    place, due = run.progress, Counter[str]()
    for index in range(place.experience, run.stream.length):
        after = place.position if index == place.experience else 0
        due.update(point.probe_set for point in run.stream.probe_points(index) if point.after >= after)
    return due


class Reporter:
    """Turns what the loop tells into reports: steps a few times a second, recall whenever it was measured."""

    def __init__(self, run: Run, steps: int, relation: Relation, report: Report) -> None:
        """Listen to a run, which is to train from where it stands up to `steps` steps."""
        self._run, self._steps, self._relation, self._report = run, steps, relation, report
        sizes = {name: len(probes) for name, probes in run.stream.probe_sets.items()}
        # with probes after every step there is no schedule to count on
        self._left = (
            None
            if run.probing == "every"
            else TimeLeft(probes_due(run) if run.probing == "schedule" else Counter(), sizes)
        )
        self._reported = self._mark = time.monotonic()
        self._probing = False
        run.on_step, run.on_probing, run.on_answers = self.on_step, self.on_probing, self.on_answers

    def on_step(self, experience: Experience, loss: float) -> None:
        """Report a step that was made."""
        seconds = self._since_mark()
        if self._left is not None:
            self._left.note_step(seconds)
        if self._due():
            self._tell("step", experience=experience.name, loss=loss, seconds_left=self._seconds_left())

    def on_probing(self, probes: ProbeSet, done: int, blocks: int) -> None:
        """Report how many of how many probes are asked, while a sweep of them goes on."""
        if not self._due():
            return
        self._probing = True
        rest = (time.monotonic() - self._mark) * (blocks - done) / done if done else None
        after = self._seconds_left()
        left = None if rest is None or after is None else after + rest
        count = len(probes.probes)
        self._tell("probing", asked=count * done // blocks, of=count, seconds_left=left)

    def on_answers(self, point: ProbePoint, answers: Answers, probes: ProbeSet) -> None:
        """Report recall of what was asked, by task or group."""
        seconds, count = self._since_mark(), len(probes.probes)
        if self._left is not None:
            self._left.note_probes(point.probe_set, seconds)
        if self._probing:
            self._probing = False
            self._tell("probing", asked=count, of=count, seconds_left=self._seconds_left())
        right = answers.right(self._run.stream.design.recall)
        recall: dict[str, list[bool]] = {}
        for probe, recalled in zip(probes.probes, right, strict=True):
            if probe.relation == self._relation != "general" and probe.cue == "none":
                own = f"task {probe.task_label}" if probe.task_label is not None else probe.group or "facts"
                label = "twins" if probe.twin_of else own
                recall.setdefault(label, []).append(recalled)
        if recall:
            self._tell("recall", recall={k: sum(v) / len(v) for k, v in recall.items()})

    def _tell(self, event: str, **facts: Any) -> None:
        self._report({"event": event, "step": self._run.learner.step, **facts})

    def _since_mark(self) -> float:
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        return seconds

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return False
        self._reported = now
        return True

    def _seconds_left(self) -> float | None:
        return None if self._left is None else self._left.seconds(self._steps - self._run.learner.step)
