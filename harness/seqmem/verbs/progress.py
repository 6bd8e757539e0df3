"""How far runs are, from the events of their workers: what displays show and progress.json says."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seqmem.core.digits import duration
from seqmem.launch.local import ENDS
from seqmem.record.files import write_json
from seqmem.record.schema import PROGRESS

WRITE_SECONDS = 1.0
"""Between two versions of a progress.json, unless the run's state changes."""
STILL_SECONDS = 30.0
"""Without news of a run after which that is said."""
LABELS = 8
"""Recall of so many loops, tasks or groups is shown in a line."""


@dataclass
class RunState:
    """What is known of one run.

    Attributes:
        state: waiting, loading, running, or how it ended.
        loading: what is being loaded.
        recall: as last measured, by loop, task or group.
        probes: how many of how many are asked in the sweep under way.
        seconds_left: None until it can be estimated.
        heard: when its last event came, on the monotonic clock.
    """

    name: str
    steps: int
    state: str = "waiting"
    loading: str = ""
    step: int = 0
    experience: str = ""
    loss: float | None = None
    recall: Mapping[str, float] = field(default_factory=dict)
    probes: tuple[int, int] | None = None
    seconds_left: float | None = None
    reason: str | None = None
    heard: float = field(default_factory=lambda: time.monotonic())

    @property
    def under_way(self) -> bool:
        """Return whether a worker is at it."""
        return self.state in ("loading", "running")

    def note(self, event: Mapping[str, Any]) -> None:
        """Take in an event of its worker."""
        kind, self.heard = event["event"], time.monotonic()
        if kind == "loading":
            self.state, self.loading = "loading", event["what"]
        elif kind == "started":
            self.state, self.step = "running", event["step"]
        elif kind == "step":
            self.step, self.experience, self.loss = event["step"], event["experience"], event["loss"]
            self.probes, self.seconds_left = None, event.get("seconds_left")
        elif kind == "probing":
            self.step, self.seconds_left = event["step"], event["seconds_left"]
            self.probes = (event["asked"], event["of"]) if event["asked"] < event["of"] else None
        elif kind == "recall":
            self.recall = event["recall"]
        elif kind in ENDS:
            self.state, self.reason, self.probes, self.seconds_left = kind, event.get("reason"), None, None
            self.step = self.steps if kind == "finished" else self.step

    def doing(self) -> list[str]:
        """Return what the run is at, in a few words each."""
        still = time.monotonic() - self.heard
        silent = [f"no news for {duration(still)}"] if still >= STILL_SECONDS else []
        if self.state == "loading":
            return [f"loading {self.loading}", *silent]
        facts = [self.experience] if self.experience else []
        if self.loss is not None:
            facts.append(f"loss {self.loss:.2f} nats")
        if self.probes is not None:
            facts.append(f"{self.probes[0]:,} of {self.probes[1]:,} probes asked")
        return facts + silent

    def left(self) -> str:
        """Return the time that is left, in words; nothing without a basis."""
        return "" if self.seconds_left is None else f"about {duration(self.seconds_left)} left"

    def line(self) -> str:
        """Return all of it in a line."""
        if self.state == "loading":
            return f"{self.name}: {', '.join(self.doing())}"
        recall = [f"{label} {value:.2f}" for label, value in list(self.recall.items())[:LABELS]]
        more = [f"{len(self.recall) - LABELS} more"] if len(self.recall) > LABELS else []
        now = [f"recall now: {', '.join(recall + more)}"] if recall else []
        facts = [", ".join([f"step {self.step:,} of {self.steps:,}", *self.doing()]), *now, self.left()]
        return f"{self.name}: {'; '.join(fact for fact in facts if fact)}"


class ProgressFiles:
    """Keeps a progress.json in the folder of every run, from its start on; it stays and says how the run ended.

    Other programs read it, nothing of ours does. What cannot be written is left out: a run needs none of it.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Write into these folders, by run id, each of which is there once its run has started."""
        self._folders = folders

    def begin(self, names: Mapping[str, str], steps: Mapping[str, int], reused: int) -> None:
        """Write nothing yet."""
        self._runs = {run: RunState(name, steps[run]) for run, name in names.items()}
        self._written: dict[str, float] = {}

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """Note an event; a change of state is written at once."""
        self._runs[run].note(event)
        if event["event"] == "started" or (event["event"] in ENDS and run in self._written):
            self._write(run)

    def tick(self) -> None:
        """Write what is due, news or none, so that an old file tells that its bench is gone."""
        for run, written in self._written.items():
            if self._runs[run].under_way and time.monotonic() - written >= WRITE_SECONDS:
                self._write(run)

    def end(self) -> None:
        """Leave the files."""

    def _write(self, run: str) -> None:
        self._written[run] = time.monotonic()
        now = self._runs[run]
        loss = now.loss if now.loss is not None and math.isfinite(now.loss) else None
        asked, of = now.probes or (None, None)
        content = {
            "run": run,
            "name": now.name,
            "state": now.state,
            "reason": now.reason,
            "step": now.step,
            "steps": now.steps,
            "experience": now.experience,
            "loss": loss,
            "recall": dict(now.recall),
            "probes_asked": asked,
            "probes": of,
            "seconds_left": None if now.seconds_left is None else round(now.seconds_left, 1),
            "updated": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        try:
            write_json(self._folders[run] / PROGRESS, content, lasting=False)
        except OSError:
            pass
