"""`seqmem report`: the figures of stored runs, or one page about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqmem.cli.app import app, disabled_plugins, registry, warn_left_out
from seqmem.cli.terminal import say
from seqmem.core.errors import SeqmemError, UsageError

if TYPE_CHECKING:
    from seqmem.plugin.registry import Registry
    from seqmem.plugin.specs import MetricSpec
    from seqmem.reporting import Part
    from seqmem.scoring.comparison import Table

PAGE = "report.html"


@app.command()
def report(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Argument(help="Output folder of a bench, one board in it, or published boards.")
    ] = Path("runs"),
    html: Annotated[
        bool, typer.Option("--html", help="Write one self-contained page instead of figures.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help=f"Where the page goes; by default FOLDER/{PAGE}, that of published boards ./{PAGE}.",
        ),
    ] = None,
) -> int:
    """Draw the figures of stored runs and say where they are, or write a page about the runs."""
    if html:
        return _page(ctx, folder, output)
    if output is not None:
        raise UsageError("--output is where the page goes: give --html with it")
    return _figures(ctx, folder)


def _figures(ctx: typer.Context, folder: Path) -> int:
    from seqmem.reporting.board_files import rebuild

    boards, unreadable = rebuild(folder, disabled_plugins(ctx))
    for board in boards:
        say(f"{board.name}:")
        for figure in board.figures:
            say(f"  {figure}")
    return warn_left_out([*unreadable, *(line for board in boards for line in board.broken)])


def _page(ctx: typer.Context, folder: Path, output: Path | None) -> int:
    from seqmem.board.layout import published_boards
    from seqmem.record.files import write_text
    from seqmem.reporting import verdict_lines
    from seqmem.scoring.tables import load_metrics

    published = published_boards(folder)
    if output is None:  # a published board holds no file but its own
        output = Path(PAGE) if published else folder / PAGE
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder: name a file, e.g. {output / PAGE}")
    for board in published:
        if board.resolve() in output.resolve().parents:
            raise UsageError(
                f"{output} would lie in the published board {board}, which holds its own files only: "
                "name another place with --output"
            )
    plugins = registry(ctx)
    metrics, left_out = load_metrics(plugins)
    if published:
        text, tables, broken = _of_published(folder, published, metrics, plugins)
    else:
        text, tables, broken = _of_benches(folder, metrics, plugins)
    try:
        write_text(output, text)
    except OSError as error:
        raise UsageError(f"--output {output} cannot be written: {error.strerror}") from error
    say(f"{output}")
    for table in tables:
        for line in verdict_lines(table):
            say(f"  {line}")
    return warn_left_out([*left_out, *broken])


def _of_published(
    path: Path, folders: list[Path], metrics: list[MetricSpec], plugins: Registry
) -> tuple[str, list[Table], list[str]]:
    """Return the page of the published boards at a path, their tables, and what had to be left out.

    Raises:
        UsageError: none of them has rows.
    """
    from seqmem.board.build import index_page, score_board
    from seqmem.board.published import read_board
    from seqmem.scoring.pool import processes

    built, left_out = [], []
    with processes() as pool:
        for folder in folders:
            board = read_board(folder, plugins)
            if not board.rows:
                left_out.append(f"{folder}: no rows yet")
                continue
            table, broken = score_board(board, metrics, pool)
            built.append((board, table))
            left_out += broken
    if not built:
        raise UsageError(f"{path}: no rows yet; `seqmem leaderboard submit` brings some")
    return index_page(built), [table for _, table in built], left_out


def _of_benches(
    folder: Path, metrics: list[MetricSpec], plugins: Registry
) -> tuple[str, list[Table], list[str]]:
    """Return the page of a bench's boards, their tables, and what had to be left out."""
    from seqmem.planning.store import find_boards
    from seqmem.reporting import page

    boards = find_boards(folder)
    parts, left_out = [], []
    for board in boards:
        part, broken = _part(board, metrics, plugins, alone=len(boards) == 1)
        parts.append(part)
        left_out += broken
    title = parts[0].name if len(parts) == 1 else f"{len(parts)} boards"
    return page(title, parts), [part.table for part in parts], left_out


def _part(
    folder: Path, metrics: list[MetricSpec], plugins: Registry, *, alone: bool
) -> tuple[Part, list[str]]:
    """Return one board of a bench, and what had to be left out of it."""
    from seqmem.planning.store import read_bench
    from seqmem.reporting import Part, command_line
    from seqmem.scoring.tables import score

    described, rows = read_bench(folder)
    table, broken = score(described["scenario"], described["primary"], rows, metrics)
    name = f"{described['scenario']}, version {described['version']}" if alone else described["name"]
    part = Part(
        name,
        table,
        rows,
        command_line(described["asked"]),
        question=_question(described["scenario"], plugins),
    )
    return part, broken


def _question(scenario: str, plugins: Registry) -> str:
    """Return what the scenario says of itself; empty where it is not installed here."""
    try:
        summary = plugins.load("scenario", scenario).summary
    except SeqmemError:
        return ""
    end = "" if summary.endswith(("?", ".", "!")) else "."
    return f"{summary[:1].upper()}{summary[1:]}{end}"
