"""`seqmem score`: metrics on stored runs, new or changed ones among them; no torch, nothing is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmem.cli.app import OK, PARTIAL, app, registry
from seqmem.cli.terminal import print_json, print_table, say, warn
from seqmem.core.errors import UsageError

if TYPE_CHECKING:
    from seqmem.plugin.registry import Registry
    from seqmem.record.row import Row


@app.command()
def score(
    ctx: typer.Context,
    runs: Annotated[
        list[Path],
        typer.Argument(help="Output folder of a bench, one board, published boards, or folders of records."),
    ],
    metric: Annotated[list[str], typer.Option("--metric", help="Metric to compute; may be repeated.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print values and means as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the value of every run as CSV.")] = False,
) -> int:
    """Compute metrics on stored runs: the value of every run, and the mean of every row with its interval."""
    import pandas as pd

    from seqmem.core.sanitize import cell_text
    from seqmem.scoring.cells import measured, read_scores
    from seqmem.scoring.numbers import format_interval, format_number
    from seqmem.scoring.scores import failures, score_rows

    if as_json and as_csv:
        raise UsageError("--json and --csv are two forms of one answer: give one of them")
    plugins = registry(ctx)
    metrics = [plugins.load("metric", name) for name in dict.fromkeys(metric)]
    declared = {measure.name: measure for one in metrics for measure in one.measures}
    scores = score_rows(_rows(list(dict.fromkeys(runs)), plugins), metrics)
    values = read_scores(scores)
    means: list[dict[str, Any]] = []
    printed: list[list[str]] = []
    for (row, name), group in scores.groupby(["row", "measure"], sort=False):
        measure, known = declared[str(name)], group["value"].dropna()
        interval = measured(values, str(row), measure)
        reasons = list(dict.fromkeys(str(reason) for reason in group["reason"] if reason))
        reason = "; ".join(reasons)
        means.append(
            {
                "row": row,
                "measure": name,
                "unit": measure.unit,
                "mean": interval and interval.mean,
                "low": interval and interval.low,
                "high": interval and interval.high,
                "seeds": len(known),
                "reason": reason,
            }
        )
        unit = measure.unit
        each = [
            f"{seed}: {'-' if pd.isna(value) else format_number(float(value), unit)}"
            for seed, value in zip(group["seed"], group["value"], strict=True)
        ]
        shown = "-" if interval is None else format_interval(interval, unit)
        printed.append([str(row), measure.name, unit, shown, str(len(known)), ", ".join(each), reason])
    if as_json:
        each_run = [
            {**one, "value": None if pd.isna(one["value"]) else one["value"]} for one in _records(scores)
        ]
        print_json({"format": 1, "means": means, "values": each_run})
    elif as_csv:
        print(scores.map(cell_text).to_csv(index=False, lineterminator="\n"), end="")
    else:
        print_table(["row", "measure", "unit", "mean [95 %]", "seeds", "by seed", "without a value"], printed)
        if not printed:
            say("no finished run")
    broken = failures(scores)
    for line in broken:
        warn(f"seqmem: {line}")
    return PARTIAL if broken else OK


def _records(scores: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = scores.to_dict("records")
    return found


def _rows(paths: list[Path], plugins: Registry) -> list[Row]:
    """Return the rows of all boards at the paths, named with their board where there are several.

    A record alone is a row of its own, without controls.
    """
    from seqmem.board.layout import published_boards
    from seqmem.board.published import read_board
    from seqmem.planning.store import find_boards, read_bench
    from seqmem.record.archive import exists
    from seqmem.record.reader import RunRecord
    from seqmem.record.row import Row

    alone = [path for path in paths if exists(path / "run.json")]
    names = _names(alone)
    opened = [(path, RunRecord.open(path)) for path in alone]
    rows = [Row(label=names[path], facts={}, runs={record.seed: record}) for path, record in opened]
    boards: dict[Path, list[Row]] = {}
    for path in paths:
        if path in alone:
            continue
        published = {folder: read_board(folder, plugins).rows for folder in published_boards(path)}
        boards |= published or {folder: read_bench(folder)[1] for folder in find_boards(path)}
    names = _names(list(boards))
    for folder, own in boards.items():
        rows += own if len(boards) == 1 else [replace(r, label=f"{names[folder]}: {r.label}") for r in own]
    return rows


def _names(folders: list[Path]) -> dict[Path, str]:
    """Name folders: by their own names where these tell them apart, else by their whole paths."""
    own = {folder: folder.name for folder in folders}
    return own if len(set(own.values())) == len(own) else {folder: str(folder) for folder in folders}
