"""The display while runs go on: live on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from seqmem.core.choices import DisplayName
from seqmem.core.digits import duration
from seqmem.core.sanitize import clean
from seqmem.launch.local import ENDS
from seqmem.verbs.progress import RunState

LINE_SECONDS = 25.0
"""Between lines of a run elsewhere than on a terminal, where nothing else was said of it: 30 s at most."""
TICK_SECONDS = 1.0
"""Between updates of the live area without an event."""


class Display(Protocol):
    """Told of every run's events; `names` and `steps` are by run id."""

    def begin(self, names: Mapping[str, str], steps: Mapping[str, int], reused: int) -> None:
        """Before the first run."""

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """An event of a worker."""

    def note(self, text: str) -> None:
        """A line about all of them."""

    def tick(self) -> None:
        """Every so often while runs go on, also when nothing is heard of them."""

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

    def note(self, text: str) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Plain:
    """A line when a run begins, ends or warns, and every half a minute on how far it is."""

    def begin(self, names: Mapping[str, str], steps: Mapping[str, int], reused: int) -> None:
        """Say what is coming."""
        self._runs = {run: RunState(name, steps[run]) for run, name in names.items()}
        self._told: dict[str, float] = {}
        self._before: dict[str, int] = {}
        self._ended = 0
        self._left_out = 0
        self._started = time.monotonic()
        again = f", {reused} finished before are reused" if reused else ""
        self._say(f"{len(names)} runs to do, {sum(steps.values())} steps{again}")

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """Print beginnings, ends and warnings."""
        kind, now = event["event"], self._runs[run]
        name = now.name
        now.note(event)
        if kind == "loading" and run not in self._told:
            self._tell(run)
        elif kind == "started":
            self._before[run] = event["step"]
            self._told.setdefault(run, time.monotonic())
            if event["step"]:
                self._say(f"{name}: goes on from step {event['step']:,} of {now.steps:,}")
        elif kind == "warning":
            self._say(f"{name}: {event['message']}")
        elif kind in ENDS:
            self._ended += 1
            self._left_out += now.steps - now.step
            reason = f": {event['reason']}" if "reason" in event else ""
            self._say(f"[{self._ended}/{len(self._runs)}] {name} {kind}{reason}{self._left()}")

    def note(self, text: str) -> None:
        """Print it."""
        self._say(text)

    def tick(self) -> None:
        """Print how far the runs are of which nothing was said for a while."""
        for run, told in list(self._told.items()):
            if self._runs[run].under_way and time.monotonic() - told >= LINE_SECONDS:
                self._tell(run)

    def _tell(self, run: str) -> None:
        self._told[run] = time.monotonic()
        self._say(self._runs[run].line())

    def _left(self) -> str:
        done = sum(run.step for run in self._runs.values())
        fresh = done - sum(self._before.values())
        left = sum(run.steps for run in self._runs.values()) - done - self._left_out
        if not fresh or self._ended == len(self._runs):
            return ""
        return f", about {duration((time.monotonic() - self._started) * left / fresh)} left for all"

    def end(self) -> None:
        """Nothing to clear."""

    def _say(self, text: str) -> None:
        print(clean(text), file=sys.stderr, flush=True)


class _TimeLeft(TimeRemainingColumn):
    """The time left of a run as its worker tells it; of all runs, as the bar's speed has it."""

    def render(self, task: Task) -> Text:
        """Return it in words."""
        return Text(task.fields["left"]) if "left" in task.fields else super().render(task)


class Rich:
    """A bar for the whole grid, one per run under way, and recall per loop as it changes."""

    def begin(self, names: Mapping[str, str], steps: Mapping[str, int], reused: int) -> None:
        """Start the live area."""
        self._runs = {run: RunState(name, steps[run]) for run, name in names.items()}
        self._ticked = time.monotonic()
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _TimeLeft(elapsed_when_finished=True),
            console=self._console,
        )
        title = f"{len(names)} runs" + (f" ({reused} reused)" if reused else "")
        self._all = self._progress.add_task(title, total=sum(steps.values()))
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._live = Live(self._view(), console=self._console, refresh_per_second=5, transient=True)
        self._live.start()

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """Update the bars."""
        kind, now = event["event"], self._runs[run]
        name = now.name
        now.note(event)
        if kind in ("loading", "started") and run not in self._tasks:
            self._tasks[run] = self._progress.add_task(f"  {clean(name)}", total=now.steps, left="")
        if kind in ("started", "step", "probing"):
            self._advance(run, now.step)
        elif kind == "warning":
            self._console.print(Text(clean(f"{name}: {event['message']}"), style="yellow"))
        elif kind in ENDS:
            if kind == "finished":
                self._advance(run, now.steps)
            else:
                self._console.print(Text(clean(f"{name} {kind}: {event.get('reason', '')}"), style="red"))
            if run in self._tasks:
                self._progress.remove_task(self._tasks.pop(run))
        self._live.update(self._view())

    def note(self, text: str) -> None:
        """Print it above the bars."""
        self._console.print(Text(clean(text), style="yellow"))

    def tick(self) -> None:
        """Say of a run that nothing was heard of it for a while."""
        if time.monotonic() - self._ticked >= TICK_SECONDS:
            self._ticked = time.monotonic()
            self._live.update(self._view())

    def _advance(self, run: str, step: int) -> None:
        self._progress.advance(self._all, step - self._done.get(run, 0))
        self._done[run] = step
        if run in self._tasks:
            self._progress.update(self._tasks[run], completed=step, left=self._runs[run].left())

    def _view(self) -> Group:
        table = Table(box=None, padding=(0, 1))
        shown = [run for run in self._runs.values() if run.under_way]
        columns = list(dict.fromkeys(label for run in shown for label in run.recall))
        table.add_column("recall now")
        for label in columns:
            table.add_column(Text(clean(label)), justify="right")
        table.add_column("training")
        for run in shown:
            cells = [f"{run.recall[label]:.2f}" if label in run.recall else "-" for label in columns]
            table.add_row(Text(clean(run.name)), *cells, Text(clean(", ".join(run.doing()))))
        return Group(self._progress, table) if shown else Group(self._progress)

    def end(self) -> None:
        """Clear the live area."""
        self._live.stop()
