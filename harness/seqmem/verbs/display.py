"""The display while runs go on: live on a terminal, a line per run elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from seqmem.core.choices import DisplayName
from seqmem.core.sanitize import clean
from seqmem.launch.local import ENDS


class Display(Protocol):
    """Told of every run's events; `names` and `steps` are by run id."""

    def begin(self, names: Mapping[str, str], steps: Mapping[str, int], reused: int) -> None:
        """Before the first run."""

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """An event of a worker."""

    def end(self) -> None:
        """After the last run, also after an interruption."""


def say_notes(notes: Iterable[str], display: DisplayName) -> None:
    """Say on standard error what a plan notes about its models."""
    for note in notes if display != "none" else ():
        print(clean(f"seqmem: {note}"), file=sys.stderr, flush=True)


def choose(name: DisplayName) -> Display:
    """Return the display asked for; `auto` is rich on a terminal and plain elsewhere. All write to stderr."""
    if name == "none":
        return Silent()
    if name == "rich" or (name == "auto" and sys.stderr.isatty()):
        return Rich()
    return Plain()


class Silent:
    """Shows nothing."""

    def begin(self, names: Mapping[str, str], steps: Mapping[str, int], reused: int) -> None:
        """Nothing."""

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Plain:
    """A line when a run ends or warns, with the time left for the rest."""

    def begin(self, names: Mapping[str, str], steps: Mapping[str, int], reused: int) -> None:
        """Say what is coming."""
        self._names, self._steps = names, steps
        self._done: dict[str, int] = dict.fromkeys(names, 0)
        self._before: dict[str, int] = {}
        self._ended = 0
        self._left_out = 0
        self._started = time.monotonic()
        again = f", {reused} finished before are reused" if reused else ""
        self._say(f"{len(names)} runs to do, {sum(steps.values())} steps{again}")

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """Print ends and warnings."""
        kind, name = event["event"], self._names[run]
        if kind == "started":
            self._before[run] = self._done[run] = event["step"]
        elif kind == "step":
            self._done[run] = event["step"]
        elif kind == "warning":
            self._say(f"{name}: {event['message']}")
        elif kind in ENDS:
            self._ended += 1
            self._left_out += 0 if kind == "finished" else self._steps[run] - self._done[run]
            self._done[run] = self._steps[run] if kind == "finished" else self._done[run]
            reason = f": {event['reason']}" if "reason" in event else ""
            self._say(f"[{self._ended}/{len(self._names)}] {name} {kind}{reason}{self._left()}")

    def _left(self) -> str:
        fresh = sum(self._done.values()) - sum(self._before.values())
        left = sum(self._steps.values()) - sum(self._done.values()) - self._left_out
        if not fresh or self._ended == len(self._names):
            return ""
        return f", about {(time.monotonic() - self._started) * left / fresh:.0f} s left"

    def end(self) -> None:
        """Nothing to clear."""

    def _say(self, text: str) -> None:
        print(clean(text), file=sys.stderr, flush=True)


class Rich:
    """A bar for the whole grid, one per run under way, and recall per loop as it changes."""

    def begin(self, names: Mapping[str, str], steps: Mapping[str, int], reused: int) -> None:
        """Start the live area."""
        self._names, self._steps = names, steps
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
        )
        title = f"{len(names)} runs" + (f" ({reused} reused)" if reused else "")
        self._all = self._progress.add_task(title, total=sum(steps.values()))
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._where: dict[str, str] = {}
        self._recall: dict[str, Mapping[str, float]] = {}
        self._live = Live(self._view(), console=self._console, refresh_per_second=5, transient=True)
        self._live.start()

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """Update the bars."""
        kind, name = event["event"], self._names[run]
        if kind == "started":
            self._tasks[run] = self._progress.add_task(f"  {clean(name)}", total=self._steps[run])
            self._advance(run, event["step"])
        elif kind == "step":
            self._where[run] = f"{event['experience']}, loss {event['loss']:.2f} nats"
            self._advance(run, event["step"])
        elif kind == "recall":
            self._recall[run] = event["recall"]
        elif kind == "warning":
            self._console.print(Text(clean(f"{name}: {event['message']}"), style="yellow"))
        elif kind in ENDS:
            if kind == "finished":
                self._advance(run, self._steps[run])
            else:
                self._console.print(Text(clean(f"{name} {kind}: {event.get('reason', '')}"), style="red"))
            if run in self._tasks:
                self._progress.remove_task(self._tasks.pop(run))
            self._recall.pop(run, None)
        self._live.update(self._view())

    def _advance(self, run: str, step: int) -> None:
        self._progress.advance(self._all, step - self._done.get(run, 0))
        self._done[run] = step
        if run in self._tasks:
            self._progress.update(self._tasks[run], completed=step)

    def _view(self) -> Group:
        table = Table(box=None, padding=(0, 1))
        columns = list(dict.fromkeys(label for recall in self._recall.values() for label in recall))
        table.add_column("recall now")
        for label in columns:
            table.add_column(Text(clean(label)), justify="right")
        table.add_column("training")
        for run, recall in self._recall.items():
            cells = [f"{recall[label]:.2f}" if label in recall else "-" for label in columns]
            table.add_row(Text(clean(self._names[run])), *cells, Text(clean(self._where.get(run, ""))))
        return Group(self._progress, table) if self._recall else Group(self._progress)

    def end(self) -> None:
        """Clear the live area."""
        self._live.stop()
