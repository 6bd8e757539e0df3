"""`seqmem leaderboard ...`: tables of stored runs and published boards, from records alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmem.cli.app import FAILED, OK, USAGE, app, disabled_plugins, registry, warn_left_out
from seqmem.cli.terminal import is_terminal, print_json, say, say_lines, warn
from seqmem.core.errors import UsageError, unknown
from seqmem.record.files import write_text

if TYPE_CHECKING:
    from seqmem.plugin.registry import Registry
    from seqmem.plugin.specs import MetricSpec
    from seqmem.record.row import Row
    from seqmem.scoring.comparison import Table

leaderboard = typer.Typer(
    help="Tables of stored runs, and published boards.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(leaderboard, name="leaderboard")

INDEX = "index.html"
FORMATS = ("table", "markdown", "csv", "json", "latex")

Folder = Annotated[
    Path | None,
    typer.Argument(
        help="Published boards, one of them, an output folder of a bench, or one board in it; by default "
        "leaderboards where there is one, else runs."
    ),
]


@leaderboard.command()
def build(ctx: typer.Context, folder: Folder = None) -> int:
    """Score the stored runs again and write their tables and figures."""
    from seqmem.board.layout import published_boards

    path = _default(folder)
    boards = published_boards(path)
    if boards:
        return _build_published(path, boards, registry(ctx))
    from seqmem.reporting.board_files import rebuild

    built, unreadable = rebuild(path, disabled_plugins(ctx))
    for board in built:
        say(f"{board.name}: {board.folder}")
    return warn_left_out(dict.fromkeys([*unreadable, *(line for board in built for line in board.broken)]))


def _build_published(path: Path, boards: list[Path], plugins: Registry) -> int:
    from seqmem.board.build import build as build_board
    from seqmem.scoring.pool import processes
    from seqmem.scoring.tables import load_metrics

    metrics, left_out = load_metrics(plugins)
    built = []
    with _progress() as tell, processes() as pool:
        for board in boards:
            if _is_empty(board, path):
                left_out.append(f"{board}: no rows yet")
                continue
            published, table, broken = build_board(board, metrics, plugins, tell, pool)
            built.append((published, table))
            left_out += broken
    for published, _ in built:
        say(f"{published.rules.name}: {published.folder}")
    if path not in boards:
        left_out += _write_index(path, built)
    return warn_left_out(dict.fromkeys(left_out))


def _is_empty(board: Path, path: Path) -> bool:
    """Return whether a board in the folder `path` has no rows yet; one named by itself must have some."""
    from seqmem.board.layout import row_archives

    return board != path and not row_archives(board)


def _write_index(path: Path, built: list[Any]) -> list[str]:
    """Write the page over all boards of a folder; returns a line where it cannot be made."""
    from seqmem.board.build import index_page

    try:
        text = index_page(built)
    except ImportError as error:
        return [f"{path / INDEX}: {error}"]
    write_text(path / INDEX, text)
    say(f"{path / INDEX}")
    return []


@leaderboard.command()
def show(
    ctx: typer.Context,
    folder: Folder = None,
    format: Annotated[
        str | None,
        typer.Option(help="table, markdown, csv, json or latex; by default a table, Markdown when piped."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> int:
    """Print the tables of stored runs or of published boards."""
    from seqmem.board.layout import published_boards
    from seqmem.reporting.exports import to_csv, to_json
    from seqmem.reporting.latex import to_latex
    from seqmem.reporting.markdown import to_markdown
    from seqmem.reporting.terminal import to_rich

    wanted = "json" if as_json else format or ("table" if is_terminal() else "markdown")
    if wanted not in FORMATS:
        raise UsageError(unknown("--format", wanted, FORMATS))
    texts: dict[str, Callable[[Table], str]] = {
        "markdown": to_markdown,
        "csv": to_csv,
        "latex": to_latex,
    }
    path = _default(folder)
    shown = []
    left_out = [f"{board}: no rows yet" for board in published_boards(path) if _is_empty(board, path)]
    for name, _, table, broken in _scored(path, registry(ctx)):
        left_out += broken
        if wanted == "json":
            shown.append({"name": name, **json.loads(to_json(table))})
        elif wanted == "table":
            from rich.console import Console

            Console().print(to_rich(table))
        else:
            say_lines(texts[wanted](table))
    if wanted == "json":
        print_json(shown)
    return warn_left_out(dict.fromkeys(left_out))


@leaderboard.command()
def compare(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(help="Label of a row, as the table prints it.")],
    b: Annotated[str, typer.Argument(help="Label of the row taken off.")],
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> int:
    """Compare two rows on every measure: their differences paired by seed, with intervals."""
    from seqmem.reporting.markdown import comparison_markdown
    from seqmem.reporting.terminal import comparison_rich
    from seqmem.scoring.pairs import compare as compare_rows

    found: list[dict[str, Any]] = []
    left_out: list[str] = []
    labels: list[str] = []
    if a == b:
        raise UsageError(f"both rows are {a!r}; give two different ones")

    def both(rows: list[Row]) -> list[Row]:
        here = [row.label for row in rows]
        labels.extend(here)
        return [row for row in rows if row.label in (a, b)] if {a, b} <= set(here) else []

    for name, metrics, table, broken in _scored(_default(folder), registry(ctx), both):
        left_out += broken
        measures = [measure for metric in metrics for measure in metric.measures]
        comparisons = compare_rows(table.scores, a, b, measures)
        found.append({"name": name, "first": a, "second": b, "measures": [*map(asdict, comparisons)]})
        if as_json:
            continue
        say(f"{name}:")
        if is_terminal():
            from rich.console import Console

            Console().print(comparison_rich(comparisons, a, b))
        else:
            say_lines(comparison_markdown(comparisons, a, b))
    if not found:
        known = ", ".join(dict.fromkeys(labels)) or "none"
        raise UsageError(f"no board here has both rows {a!r} and {b!r}; rows: {known}")
    if as_json:
        print_json(found)
    return warn_left_out(dict.fromkeys(left_out))


@leaderboard.command()
def verify(
    ctx: typer.Context,
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the mismatches as JSON.")] = False,
) -> int:
    """Check published boards against their records: every mismatch is a line, and exit 1 where there is one."""
    from seqmem.board.layout import published_boards
    from seqmem.board.verify import verify as verify_board
    from seqmem.scoring.pool import processes

    path = _default(folder)
    boards = published_boards(path)
    if not boards:
        raise UsageError(f"{path}: not a published board; `seqmem leaderboard new SCENARIO` begins one")
    plugins = registry(ctx)
    with _progress() as tell, processes() as pool:
        found = {board: verify_board(board, plugins, tell, pool) for board in boards}
    wrong = sum(map(len, found.values()))
    if as_json:
        listed = [
            {"board": str(board), "mismatches": [asdict(one) for one in mismatches]}
            for board, mismatches in found.items()
        ]
        print_json({"mismatches": wrong, "boards": listed})
    else:
        for board, mismatches in found.items():
            for one in mismatches:
                say(f"{board.name}/{one.line}")
            say(f"{board.name}: {len(mismatches) or 'no'} mismatch{'es' * (len(mismatches) != 1)}")
    return FAILED if wrong else OK


@leaderboard.command()
def submit(
    ctx: typer.Context,
    runs: Annotated[Path, typer.Argument(help="Output folder of a bench, or one board in it.")],
    to: Annotated[
        Path | None,
        typer.Option(help="The published board; by default leaderboards/SCENARIO-vVERSION."),
    ] = None,
) -> int:
    """Add the rows of a bench to a published board, where every run keeps to its rules."""
    from seqmem.board.submit import submit as submit_runs

    with _progress() as tell:
        outcomes = submit_runs(runs, to, registry(ctx), tell)
    for outcome in outcomes:
        for fault in outcome.faults:
            warn(f"seqmem: refused: {fault.line}")
        if not outcome.faults:
            say(f"{outcome.board}: {len(outcome.added)} records added, {len(outcome.known)} were there")
    if any(outcome.added for outcome in outcomes):
        say("Now `seqmem leaderboard build` makes the tables, `seqmem leaderboard verify` checks them.")
    return USAGE if any(outcome.faults for outcome in outcomes) else OK


@leaderboard.command()
def new(
    ctx: typer.Context,
    scenario: Annotated[str, typer.Argument(help="Name of a scenario.")],
    home: Annotated[Path, typer.Option("--in", help="Folder of published boards.")] = Path("leaderboards"),
    preset: Annotated[str, typer.Option(help="Preset of the scenario that is run.")] = "default",
) -> None:
    """Begin a published board: write commented rules for a preset of the scenario, to be edited."""
    from seqmem.board.new import new_board
    from seqmem.board.rules import RULES

    say(f"{new_board(scenario, home, registry(ctx), preset) / RULES}")


def _default(folder: Path | None) -> Path:
    """Return the folder named, else that of published boards where it has one, else that of runs."""
    from seqmem.board.layout import HOME, published_boards

    if folder is not None:
        return folder
    return HOME if published_boards(HOME) else Path("runs")


def _scored(
    path: Path, plugins: Registry, wanted: Callable[[list[Row]], list[Row]] = lambda rows: rows
) -> Iterator[tuple[str, list[MetricSpec], Table, list[str]]]:
    """Yield name, metrics, table and what was left out, of every board at a path that has wanted rows."""
    from seqmem.board.build import by_rules, score_board
    from seqmem.board.layout import published_boards
    from seqmem.board.published import read_board
    from seqmem.planning.store import find_boards, read_bench
    from seqmem.scoring.pool import processes
    from seqmem.scoring.tables import load_metrics, score

    metrics, unreadable = load_metrics(plugins)
    published = published_boards(path)
    with processes() as pool:
        for folder in published:
            board = read_board(folder, plugins)
            if not board.rows and folder == path:
                raise UsageError(f"{folder}: no rows yet; `seqmem leaderboard submit` brings some")
            rows = wanted(board.rows)
            if not rows:
                continue
            table, broken = score_board(replace(board, rows=rows), metrics, pool)
            yield board.rules.name, by_rules(metrics, board.rules), table, [*unreadable, *broken]
    for folder in [] if published else find_boards(path):
        described, rows = read_bench(folder)
        rows = wanted(rows)
        if not rows:
            continue
        table, broken = score(described["scenario"], described["primary"], rows, metrics)
        yield described["name"], metrics, table, [*unreadable, *broken]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show what is being done on one line that goes away, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    from seqmem.core.sanitize import clean

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(clean(text)))
