"""`seqmem leaderboard build|show` and `seqmem report`: tables and figures again, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmem.cli.app import OK, PARTIAL, app, disabled_plugins
from seqmem.cli.terminal import is_terminal, print_json, say, say_lines, warn

leaderboard = typer.Typer(help="Tables of stored runs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(leaderboard, name="leaderboard")

Folder = Annotated[Path, typer.Argument(help="Output folder of a bench, or one board in it.")]


@leaderboard.command()
def build(ctx: typer.Context, folder: Folder = Path("runs")) -> int:
    """Score the stored runs again and write their tables and figures."""
    from seqmem.api import rebuild

    boards, unreadable = rebuild(folder, disabled_plugins(ctx))
    for board in boards:
        say(f"{board.name}: {board.folder}")
    return _left_out([*unreadable, *(line for board in boards for line in board.broken)])


@leaderboard.command()
def show(
    ctx: typer.Context,
    folder: Folder = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> int:
    """Print the stored runs' tables."""
    import json

    from seqmem.api import load_metrics, score
    from seqmem.registry import Registry
    from seqmem.store import find_boards, read_bench
    from seqmem.tables import to_json, to_markdown, to_rich

    metrics, left_out = load_metrics(Registry.from_environment(disabled_plugins(ctx)))
    shown = []
    for path in find_boards(folder):
        described, rows = read_bench(path)
        table, broken = score(described["scenario"], described["primary"], rows, metrics)
        left_out += broken
        if as_json:
            shown.append({"name": described["name"], **json.loads(to_json(table))})
        elif is_terminal():
            from rich.console import Console

            Console().print(to_rich(table))
        else:
            say_lines(to_markdown(table))
    if as_json:
        print_json(shown)
    return _left_out(left_out)


@app.command()
def report(ctx: typer.Context, folder: Folder = Path("runs")) -> int:
    """Draw the figures of stored runs and say where they are."""
    from seqmem.api import rebuild

    boards, unreadable = rebuild(folder, disabled_plugins(ctx))
    for board in boards:
        say(f"{board.name}:")
        for figure in board.figures:
            say(f"  {figure}")
    return _left_out([*unreadable, *(line for board in boards for line in board.broken)])


def _left_out(lines: list[str]) -> int:
    for line in lines:
        warn(f"seqmem: left out: {line}")
    return PARTIAL if lines else OK
