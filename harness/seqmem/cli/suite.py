"""`seqmem suite`: several experiments over a list of models, and one page about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmem.cli.app import FAILED, INTERRUPTED, OK, PARTIAL, app, disabled_plugins, registry
from seqmem.cli.bench import (
    AcceptVersions,
    Device,
    Dtype,
    Json,
    NoControls,
    Out,
    Seeds,
    Set,
    TextSource,
    Threads,
)
from seqmem.cli.terminal import is_terminal, print_json, resume_command, say, say_lines, warn

if TYPE_CHECKING:
    from seqmem.verbs.suite import SuiteResult


@app.command()
def suite(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Suite to run, e.g. episodic.")],
    models: Annotated[
        str,
        typer.Option(
            help="Models separated by commas: names that are listed, folders, Hugging Face ids, or a list the suite "
            "knows, such as ladder, pythia or opt. Those that cannot be used are left out and named."
        ),
    ] = "tiny",
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", help="Strategy to run; may be repeated. By default naive."),
    ] = None,
    seeds: Seeds = "0-2",
    settings: Set = [],  # noqa: B006
    text: TextSource = "world",
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Run every part at preset smoke: seconds, to see that all works.")
    ] = False,
    dtype: Dtype = "float32",
    device: Device = "auto",
    threads: Threads = 1,
    no_controls: NoControls = False,
    out: Out = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(help="Runs at a time; by default one per core, on a GPU one.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue unfinished runs from their checkpoints.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run finished runs again, start unfinished ones over.")
    ] = False,
    accept_versions: AcceptVersions = False,
    display: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the runs and what they cost; train nothing.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Run the experiments of a suite over a list of models and write one page of tables and figures.

    The page is OUT/suites/NAME-HASH/page.md, and page.json beside it for programs. Runs that have finished before are
    reused.
    """
    from seqmem.planning.suite import plan_suite
    from seqmem.verbs.suite import run_suite

    planned = plan_suite(
        name,
        registry(ctx),
        models=models,
        smoke=smoke,
        strategy=tuple(strategy or ("naive",)),
        seeds=seeds,
        set=tuple(settings),
        text=text,
        dtype=dtype,
        device=device,
        threads=threads,
        controls=not no_controls,
    )
    for line in planned.left_out:
        warn(f"seqmem: left out: {line}")
    if plan:
        from seqmem.cli.bench import plan_records, show_plan
        from seqmem.planning.counting import count_tokens

        whole = count_tokens(planned.whole(), registry(ctx))
        if as_json:
            print_json(plan_records(whole))
        else:
            show_plan(whole)
        return PARTIAL if planned.left_out else OK
    shown = _display(display)
    result = run_suite(
        planned,
        out=out,
        workers=workers,
        resume=resume,
        force=force,
        accept_versions=accept_versions,
        display=shown,
        disabled=disabled_plugins(ctx),
        on_part=lambda number, part: (
            None if shown == "none" else warn(f"{number} of {len(planned.parts)}: {part.title}")
        ),
    )
    if as_json:
        print_json({**result.page.data, "folder": str(result.page.folder), "failed_runs": result.failed})
    else:
        _show(result)
    for failed, reason in result.failed.items():
        warn(f"seqmem: failed: {failed}: {reason}")
    for line in result.left_out:
        if line not in planned.left_out:
            warn(f"seqmem: left out: {line}")
    if result.interrupted:
        warn(f"Stopped. Continue with: {resume_command()}")
        return INTERRUPTED
    if result.failed:
        return FAILED
    return PARTIAL if result.left_out else OK


def _display(given: str) -> Any:
    from seqmem.core.errors import UsageError, unknown

    allowed = ("auto", "rich", "plain", "none")
    if given not in allowed:
        raise UsageError(unknown("--display", given, allowed))
    return given


def _show(result: SuiteResult) -> None:
    """Print the page and where it is."""
    if is_terminal():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(result.page.text))
    else:
        say_lines(result.page.text)
    say(f"Page: {result.page.folder / 'page.md'}")
