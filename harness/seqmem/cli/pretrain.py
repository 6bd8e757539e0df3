"""`seqmem pretrain`: make a model of the ladder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from seqmem.cli.app import app, registry
from seqmem.cli.terminal import print_json, say


@app.command()
def pretrain(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Model to make: tiny, small or base.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default the user's cache.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of data and weights.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Steps; by default those of the recipe.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train an embedded model from its recipe and measure what it can do."""
    from seqmem.errors import UsageError

    spec = registry(ctx).load("model", name)
    if spec.pretrain is None:
        raise UsageError(f"model {name} has no recipe to train it from")
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: must be at least 1")
    figures = _with_progress(spec.pretrain, out, seed=seed, steps=steps, device=device, resume=resume)
    if as_json:
        print_json(figures)
        return
    say(f"Written to {figures['folder']}")
    for question, found in figures.get("evaluation", {}).items():
        say(
            f"  {question}: "
            + ", ".join(f"{k} {_short(v)}" for k, v in found.items() if not isinstance(v, dict))
        )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _with_progress(make: Any, out: Path | None, **arguments: Any) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("loss {task.fields[loss]:.3f} nats/token"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with progress:
        task = progress.add_task("", total=None, loss=float("nan"))

        def on_progress(step: int, total: int, loss: float) -> None:
            progress.update(task, completed=step, total=total, loss=loss)
            if progress.disable and (step % 100 == 0 or step == total):
                print(f"step {step} of {total}, loss {loss:.3f} nats/token", file=sys.stderr, flush=True)

        return make(out, on_progress=on_progress, **arguments)
