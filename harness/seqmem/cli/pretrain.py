"""`seqmem pretrain`: make an embedded model."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from seqmem.cli.app import INTERRUPTED, OK, app, registry
from seqmem.cli.terminal import print_json, resume_command, say, warn
from seqmem.core.digits import significant
from seqmem.core.errors import UsageError


@app.command()
def pretrain(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Model to make: tiny, small or base.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default the user's cache.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of data and weights.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps; by default those of the recipe.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a finished model, start an unfinished one over.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> int:
    """Train an embedded model from its recipe and measure what it can do.

    Ctrl-C stops it with a checkpoint; `--resume` goes on from there.
    """
    spec = registry(ctx).load("model", name)
    if spec.pretrain is None:
        raise UsageError(f"model {name} has no recipe to train it from")
    asked: dict[str, Any] = {"seed": seed, "steps": steps, "device": device, "resume": resume}
    if force:
        asked["force"] = True
    progress = _Progress()
    try:
        with progress.shown(), progress.stopping_between_steps():
            figures = spec.pretrain(out, on_progress=progress.update, **asked)
    except KeyboardInterrupt:
        if progress.total:
            warn(f"Stopped after step {progress.step} of {progress.total}. Continue with: {resume_command()}")
        elif resume:
            warn(f"Stopped before a step was done. Continue with: {resume_command()}")
        else:
            warn("Stopped before a step was done: nothing to continue, start again.")
        return INTERRUPTED
    if as_json:
        print_json(figures)
        return OK
    say(f"Written to {figures['folder']}")
    for question, found in figures.get("evaluation", {}).items():
        say(
            f"  {question}: "
            + ", ".join(f"{k} {_short(v)}" for k, v in found.items() if not isinstance(v, dict))
        )
    return OK


def _short(value: Any) -> str:
    return significant(value, 4) if isinstance(value, float) else str(value)


@dataclass
class _Progress:
    """A bar on a terminal, a line every 100 steps elsewhere, both on standard error."""

    step: int = 0
    total: int = 0
    _stop: bool = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bar for as long as this lasts."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        with self._bar:
            self._task = self._bar.add_task("preparing", total=None)
            yield

    @contextmanager
    def stopping_between_steps(self) -> Iterator[None]:
        """Let the first Ctrl-C wait for the end of a step, where a checkpoint can be made; the second does not."""

        def interrupt(*_: object) -> None:
            if self._stop or not 0 < self.step < self.total:
                raise KeyboardInterrupt
            self._stop = True

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def update(self, step: int, total: int, loss: float) -> None:
        """Take the steps done, the steps in all and the loss in nats per token."""
        self.step, self.total = step, total
        shown = f"loss {loss:.3f} nats/token" + ", measuring" * (step == total)
        self._bar.update(self._task, completed=step, total=total, description=shown)
        if self._bar.disable and (step % 100 == 0 or step == total):
            warn(f"step {step} of {total}, {shown}")
        if self._stop:
            raise KeyboardInterrupt
