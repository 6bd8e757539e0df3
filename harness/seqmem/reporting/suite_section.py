"""One part of a suite: what will be run, what came of it, and its tables made of the same cells as everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from seqmem.core.measures import Measure
from seqmem.core.sanitize import file_name
from seqmem.planning.grid import PlannedBoard
from seqmem.plugin.specs import SuitePart
from seqmem.record.row import Row
from seqmem.reporting.blocks import Block, Field, by_reason, difference_field, measured, value_field
from seqmem.reporting.board_files import BoardFiles
from seqmem.reporting.suite_figures import draw_retention, draw_size_trend
from seqmem.scoring.comparison import Comparison
from seqmem.scoring.numbers import format_p
from seqmem.scoring.scores import sound
from seqmem.scoring.size_trend import SizeCurve, size_curves
from seqmem.scoring.statistics import Interval

if TYPE_CHECKING:
    from seqmem.planning.models import ResolvedModel


class Section:
    """The section of one part: first what will be run, then what came of it.

    Attributes:
        same_as: number of an earlier part with the very same runs, or None.
        board: the finished table; None before `fill`.
        failed: run name to reason, for runs that did not finish.
        curves: the part's measures against model size.
        retention, trend: links to the page's own figures, empty where there is none.
        shown, further: links to the board's figures, of the part's metrics and all others.
    """

    def __init__(self, number: int, part: SuitePart, planned: PlannedBoard, same_as: int | None) -> None:
        """Name the part; `number` counts from 1."""
        self.number, self.part, self.planned, self.same_as = number, part, planned, same_as
        self.board: BoardFiles | None = None
        self.failed: dict[str, str] = {}
        self.curves: list[SizeCurve] = []
        self.retention = self.trend = self.table = ""
        self.shown: list[str] = []
        self.further: list[str] = []

    @property
    def title(self) -> str:
        """Number and title."""
        return f"{self.number}. {self.part.title}"

    @property
    def rows(self) -> Sequence[Row]:
        """The table's rows; none before `fill`."""
        return self.board.rows if self.board is not None else ()

    def fill(
        self, board: BoardFiles, failed: Mapping[str, str], folder: Path, models: Sequence[ResolvedModel]
    ) -> None:
        """Take what the part's bench gave and draw the page's own figures into `folder`."""
        self.board, self.failed = board, dict(failed)
        parameters = {model.name: model.parameters for model in models}
        self.curves = size_curves(board.leaderboard, self.part.measures, parameters)
        rows = sound(self.rows)
        seeds = max((len(row.runs) for row in rows), default=0)
        spread = "bars and bands: 95 % interval" if seeds > 1 else "no interval"
        model = f", {models[0].name}" if len(models) == 1 else ""
        title = f"{self.part.title}{model} ({seeds} seed{'s' * (seeds != 1)}, {spread})"
        stem = file_name(f"{self.number} {self.part.preset}")
        retention = draw_retention(rows, title, folder / "figures" / f"{stem}-retention")
        trend = draw_size_trend(self.curves, title, folder / "figures" / f"{stem}-size-trend")
        self.retention = _link(retention[0], folder) if retention else ""
        self.trend = _link(trend[0], folder) if trend else ""
        self.table = _link(board.folder / "table.md", folder)
        scores = board.leaderboard.scores
        metrics = scores.loc[scores["measure"].isin(self.part.measures), "metric"].unique()
        telling = {file_name(str(metric)) for metric in metrics}
        self.shown = [_link(path, folder) for path in board.figures if path.stem in telling]
        self.further = [_link(path, folder) for path in board.figures if path.stem not in telling]

    def compared(self) -> Iterator[tuple[Comparison, Row]]:
        """Yield the rows beside the comparison they belong to, in the order of the table."""
        for comparison in self.board.leaderboard.boards if self.board is not None else ():
            for row in comparison.rows:
                yield comparison, row

    def measures(self) -> tuple[list[Measure], list[tuple[str, str]]]:
        """Return the part's measures that have a value, and (names, reason) of the others."""
        listed = list(self.compared())
        known = {measure.name: measure for comparison, _ in listed for measure in comparison.measures}
        had, without = [], []
        for name in self.part.measures:
            cells = [c.cells[row.label, name] for c, row in listed if (row.label, name) in c.cells]
            if any(cell.interval for cell in cells):
                had.append(known[name])
            else:
                why = " / ".join(dict.fromkeys(cell.reason for cell in cells))
                without.append(
                    (name, why or "no metric gives it: it was left out, is not installed or failed")
                )
        return had, by_reason(without)

    def blocks(self) -> list[Block]:
        """Return the part's measures as tables: the values, then the differences to the reference."""
        had, _ = self.measures()
        if not had:
            return []
        arrows = {"higher": " ↑", "lower": " ↓", "none": ""}
        head = [f"{measure.name} ({measure.unit}){arrows[measure.direction]}" for measure in had]
        values = tuple(
            (Field(row.label), *(value_field(c.cells[row.label, m.name], m, row) for m in had))
            for c, row in self.compared()
        )
        differences = tuple(
            (Field(row.label), Field(c.reference), *(_difference(c, row, m) for m in had))
            for c, row in self.compared()
            if c.reference not in (None, row.label)
        )
        blocks = [Block("", ("row", *head), values)]
        title = "Difference to the reference, paired by seed:"
        return [*blocks, Block(title, ("row", "reference", *head), differences)] if differences else blocks

    def trend_block(self) -> Block:
        """Return the part's slopes over model size."""
        lines = tuple(
            (
                Field(curve.measure.name),
                Field(f"{curve.measure.unit} per tenfold"),
                Field(curve.arm),
                Field(str(len(curve.points))),
                _slope(curve),
                Field(None if curve.p is None else format_p(curve.p)),
            )
            for curve in self.curves
        )
        return Block(self.title, ("measure", "unit", "strategy", "models", "slope", "p"), lines)


def _difference(comparison: Comparison, row: Row, measure: Measure) -> Field:
    """Return the difference, with its p-value on the primary measure."""
    field = difference_field(comparison, row, measure)
    found = comparison.cells[row.label, measure.name].difference
    if measure.name != comparison.primary.name or found is None or found.p is None:
        return field
    return replace(field, text=f"{field.text}, p {format_p(found.p)}")


def _slope(curve: SizeCurve) -> Field:
    trend = curve.trend
    if trend.slope is None:
        return Field(None, trend.reason)
    interval = Interval(trend.slope, trend.low, trend.high, trend.sizes)
    return measured(interval, curve.measure.unit, trend.reason)


def _link(path: Path, folder: Path) -> str:
    """Return the way from the page to a file, as a link."""
    return quote(Path(os.path.relpath(path, folder)).as_posix())


def versions(sections: Iterable[Section]) -> str:
    """Return the packages that ran the records; several versions of one are all named."""
    found: dict[str, set[str]] = {}
    for section in sections:
        for row in section.rows:
            for record in row.runs.values():
                for package, version in record.info["versions"].items():
                    found.setdefault(package, set()).add(version)
    return ", ".join(f"{package} {' and '.join(sorted(found[package]))}" for package in sorted(found))


def left_out(sections: Iterable[Section], planned: Iterable[str]) -> list[str]:
    """Return what could not be used, each line once: what the plan left out, then broken metrics."""
    broken = [line for section in sections if section.board is not None for line in section.board.broken]
    return list(dict.fromkeys([*planned, *broken]))
