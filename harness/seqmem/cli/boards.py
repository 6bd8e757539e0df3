"""`seqmem leaderboard ...`: tables of stored runs and standing boards, from records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmem.cli.app import FAILED, OK, PARTIAL, USAGE, app, disabled_plugins, registry
from seqmem.cli.terminal import is_terminal, print_json, say, say_lines, warn

if TYPE_CHECKING:
    from seqmem.plugin.registry import Registry
    from seqmem.plugin.specs import MetricSpec
    from seqmem.record.row import Row
    from seqmem.scoring.comparison import Table

leaderboard = typer.Typer(
    help="Tables of stored runs, and standing boards.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(leaderboard, name="leaderboard")

INDEX = "index.html"
FORMATS = ("table", "markdown", "csv", "json", "latex")

Folder = Annotated[
    Path | None,
    typer.Argument(
        help="Standing boards, one of them, an output folder of a bench, or one board in it; by default "
        "leaderboards where there is one, else runs."
    ),
]


@leaderboard.command()
def build(ctx: typer.Context, folder: Folder = None) -> int:
    """Score the stored runs again and write their tables and figures."""
    from seqmem.board.published import find_standing

    path = _default(folder)
    boards = find_standing(path)
    if boards:
        return _build_standing(path, boards, registry(ctx))
    from seqmem.reporting.board_files import rebuild

    built, unreadable = rebuild(path, disabled_plugins(ctx))
    for board in built:
        say(f"{board.name}: {board.folder}")
    return _left_out([*unreadable, *(line for board in built for line in board.broken)])


def _build_standing(path: Path, boards: list[Path], plugins: Registry) -> int:
    from seqmem.board.build import build as build_standing
    from seqmem.scoring.pool import processes
    from seqmem.scoring.tables import load_metrics

    metrics, left_out = load_metrics(plugins)
    built = []
    with _progress() as tell, processes() as pool:
        for board in boards:
            if _is_empty(board, path):
                left_out.append(f"{board}: no rows yet")
                continue
            standing, table, broken = build_standing(board, metrics, plugins, tell, pool)
            built.append((standing, table))
            left_out += broken
    for standing, _ in built:
        say(f"{standing.rules.name}: {standing.folder}")
    if path not in boards:
        left_out += _write_index(path, built)
    return _left_out(left_out)


def _is_empty(board: Path, path: Path) -> bool:
    """Whether a board in the folder `path` has no rows yet; one named by itself must have some."""
    from seqmem.board.published import record_folders

    return board != path and not record_folders(board)


def _write_index(path: Path, built: list[Any]) -> list[str]:
    """The page over all boards of a folder; a line where it cannot be made."""
    from seqmem.board.build import index_page

    try:
        text = index_page(built)
    except ImportError as error:
        return [f"{path / INDEX}: {error}"]
    (path / INDEX).write_text(text, encoding="utf-8", newline="\n")
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
    """Print the tables of stored runs or of standing boards."""
    import json

    from seqmem.board.published import find_standing
    from seqmem.core.errors import UsageError, unknown
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
    left_out = [f"{board}: no rows yet" for board in find_standing(path) if _is_empty(board, path)]
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
    return _left_out(left_out)


@leaderboard.command()
def compare(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(help="Label of a row, as the table prints it.")],
    b: Annotated[str, typer.Argument(help="Label of the row taken off.")],
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> int:
    """Compare two rows on every measure: their differences paired by seed, with intervals."""
    from seqmem.core.errors import UsageError
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
    return _left_out(left_out)


@leaderboard.command()
def verify(
    ctx: typer.Context,
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the mismatches as JSON.")] = False,
) -> int:
    """Check standing boards against their records: every mismatch is a line; exit 1 where there is one."""
    from seqmem.board.published import find_standing
    from seqmem.board.verify import verify as verify_board
    from seqmem.core.errors import UsageError
    from seqmem.scoring.pool import processes

    path = _default(folder)
    boards = find_standing(path)
    if not boards:
        raise UsageError(f"{path}: no standing board there; `seqmem leaderboard new SCENARIO` begins one")
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
        typer.Option(help="The standing board; by default leaderboards/SCENARIO-vVERSION."),
    ] = None,
) -> int:
    """Add the rows of a bench to a standing board, where every run keeps to its rules."""
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
    home: Annotated[Path, typer.Option("--in", help="Folder of standing boards.")] = Path("leaderboards"),
) -> None:
    """Begin a standing board: writes commented rules for the scenario's default preset, to be edited."""
    from seqmem.board.rules import RULES
    from seqmem.board.submit import new_board

    say(f"{new_board(scenario, home, registry(ctx)) / RULES}")


def _default(folder: Path | None) -> Path:
    """The folder named, else that of standing boards where it has one, else the runs'."""
    from seqmem.board.published import HOME, find_standing

    if folder is not None:
        return folder
    return HOME if find_standing(HOME) else Path("runs")


def _scored(
    path: Path, plugins: Registry, wanted: Callable[[list[Row]], list[Row]] = lambda rows: rows
) -> Iterator[tuple[str, list[MetricSpec], Table, list[str]]]:
    """Name, metrics, table and what was left out, of every board at a path that has wanted rows."""
    from dataclasses import replace

    from seqmem.board.build import score_standing, with_margin
    from seqmem.board.published import find_standing, read_standing
    from seqmem.core.errors import UsageError
    from seqmem.planning.store import find_boards, read_bench
    from seqmem.scoring.pool import processes
    from seqmem.scoring.tables import load_metrics, score

    metrics, unreadable = load_metrics(plugins)
    standing_boards = find_standing(path)
    with processes() as pool:
        for folder in standing_boards:
            standing = read_standing(folder, plugins)
            if not standing.rows and folder == path:
                raise UsageError(f"{folder}: no rows yet; `seqmem leaderboard submit` brings some")
            rows = wanted(standing.rows)
            if not rows:
                continue
            table, broken = score_standing(replace(standing, rows=rows), metrics, pool)
            yield standing.rules.name, with_margin(metrics, standing.rules), table, [*unreadable, *broken]
    for folder in [] if standing_boards else find_boards(path):
        described, rows = read_bench(folder)
        rows = wanted(rows)
        if not rows:
            continue
        table, broken = score(described["scenario"], described["primary"], rows, metrics)
        yield described["name"], metrics, table, [*unreadable, *broken]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on one line that goes away; on a terminal only."""
    import sys

    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    from seqmem.core.sanitize import clean

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(clean(text)))


def _left_out(lines: list[str]) -> int:
    for line in dict.fromkeys(lines):
        warn(f"seqmem: left out: {line}")
    return PARTIAL if lines else OK
