"""`seqmem bench`: carry out a request and show its tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmem.cli.app import app, disabled_plugins, exit_code, warn_left_out
from seqmem.cli.options import Given, Json, takes
from seqmem.cli.terminal import (
    command_without_seeds,
    is_terminal,
    print_json,
    resume_command,
    say,
    say_lines,
    warn,
)
from seqmem.core.errors import UsageError
from seqmem.planning.request import Execution, Request

if TYPE_CHECKING:
    from seqmem.scoring.comparison import Table
    from seqmem.verbs.bench import BenchResult

Full = Annotated[bool, typer.Option("--full", help="Print all tables, not only what they come to.")]


@app.command()
@takes(Request, Execution)
def bench(ctx: typer.Context, given: Given, as_json: Json = False, full: Full = False) -> int:
    """Run scenarios x strategies x models x seeds, with reference and controls, and make the table."""
    from seqmem.verbs.bench import bench as run_bench

    if as_json and full:
        raise UsageError("--json holds all tables already: leave out --full")
    result = run_bench(**given, disabled=disabled_plugins(ctx))
    if as_json:
        print_json(_as_json(result))
    else:
        show_boards(result, full=full)
    return exit_code(result.interrupted, bool(result.failed), bool(result.left_out))


def show_boards(result: BenchResult, *, full: bool) -> None:
    """Print every board's last screen, or all of its tables, and where its files are, then what went wrong."""
    from seqmem.reporting.last_screen import last_screen

    for board in result.boards:
        if full:
            _show_tables(board.leaderboard)
        for comparison in () if full else board.leaderboard.boards:
            for line in last_screen(comparison, command_without_seeds()):
                say(line)
        say(f"Tables and figures: {board.folder}{'' if full else ' (all tables here: --full)'}")
    for name, reason in result.failed.items():
        warn(f"seqmem: failed: {name}: {reason}")
    warn_left_out(result.left_out)
    if result.interrupted:
        warn(f"Stopped. Continue with: {resume_command()}")


def _show_tables(table: Table) -> None:
    from rich.console import Console

    from seqmem.reporting.markdown import to_markdown
    from seqmem.reporting.terminal import to_rich

    if is_terminal():
        Console().print(to_rich(table))
    else:
        say_lines(to_markdown(table))


def _as_json(result: BenchResult) -> dict[str, Any]:
    from seqmem.reporting.exports import to_json

    return {
        "boards": [
            {"name": board.name, "folder": str(board.folder), **json.loads(to_json(board.leaderboard))}
            for board in result.boards
        ],
        "failed_runs": dict(result.failed),
        "left_out": result.left_out,
        "interrupted": result.interrupted,
    }
