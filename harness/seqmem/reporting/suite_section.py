"""One part of a suite: what will be run, what came of it, and its measures against model size."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from seqmem.core.digits import rounded
from seqmem.core.measures import Interval
from seqmem.core.sanitize import clean
from seqmem.planning.grid import PlannedBoard
from seqmem.plugin.specs import SuitePart
from seqmem.record.row import Row
from seqmem.reporting.blocks import Block
from seqmem.reporting.board_files import BoardFiles
from seqmem.reporting.fields import Field, measured, unit_of
from seqmem.reporting.page_section import SizeTrend
from seqmem.scoring.numbers import format_interval, format_p
from seqmem.scoring.size_trend import SizeCurve, size_curves

if TYPE_CHECKING:
    from seqmem.planning.models import ResolvedModel


class Section:
    """The section of one part: first what will be run, then what came of it.

    Attributes:
        same_as: number of an earlier part with the very same runs, or None.
        board: the finished table; None before `fill`.
        failed: run name to reason, for runs that did not finish.
        curves: the part's measures against model size.
        links: (name, link from the page) of the board's table and figures.
    """

    def __init__(self, number: int, part: SuitePart, planned: PlannedBoard, same_as: int | None) -> None:
        """Name the part; `number` counts from 1."""
        self.number, self.part, self.planned, self.same_as = number, part, planned, same_as
        self.board: BoardFiles | None = None
        self.failed: dict[str, str] = {}
        self.curves: list[SizeCurve] = []
        self.links: list[tuple[str, str]] = []

    @property
    def rows(self) -> Sequence[Row]:
        """The table's rows; none before `fill`."""
        return self.board.rows if self.board is not None else ()

    def fill(
        self, board: BoardFiles, failed: Mapping[str, str], folder: Path, models: Sequence[ResolvedModel]
    ) -> None:
        """Take what the part's bench gave; `folder` is the page's."""
        self.board, self.failed = board, dict(failed)
        parameters = {model.name: model.parameters for model in models}
        self.curves = size_curves(board.leaderboard, self.part.measures, parameters)
        self.links = [
            (path.stem, _link(path, folder)) for path in (board.folder / "table.md", *board.figures)
        ]

    def trend(self) -> SizeTrend:
        """Return the part's measures over model size as the page shows them."""
        drawn = [curve for curve in self.curves if curve.trend.slope is not None]
        names = dict.fromkeys(curve.measure.name for curve in drawn)
        charts = [_chart([curve for curve in drawn if curve.measure.name == name]) for name in names]
        return SizeTrend(self.trend_block(), charts)

    def trend_block(self) -> Block:
        """Return the part's slopes over model size."""
        lines = tuple(
            (
                _name(curve.measure.name),
                _name(f"{curve.measure.unit} per tenfold"),
                _name(curve.arm),
                Field(str(len(curve.points))),
                _slope(curve),
                Field(None if curve.p is None else format_p(curve.p)),
            )
            for curve in self.curves
        )
        columns = ("measure", "unit", "strategy", "models", "slope", "p")
        return Block(f"{self.number}. {self.part.title}", columns, lines)


def _name(text: str) -> Field:
    return Field(text, value=text)


def _slope(curve: SizeCurve) -> Field:
    trend = curve.trend
    if trend.slope is None:
        return Field(None, trend.reason)
    interval = Interval(trend.slope, trend.low, trend.high, trend.sizes)
    return measured(interval, curve.measure.unit, trend.reason)


def _chart(curves: Sequence[SizeCurve]) -> dict[str, Any]:
    """Return one measure over model size as data of `charts.sizes`; a line per strategy."""
    measure = curves[0].measure
    title = clean(f"{measure.name} ({unit_of(measure)})")
    arms = [clean(curve.arm) for curve in curves]
    return {
        "title": title,
        "description": f"{title} over model size: {', '.join(arms)}",
        "series": arms,
        "points": [point for curve in curves for point in _points(curve)],
        "lines": [end for curve in curves for end in _fitted(curve)],
    }


def _points(curve: SizeCurve) -> list[dict[str, Any]]:
    points = []
    for point in curve.points:
        found = point.interval
        seeds = f"{found.n} seed{'s' * (found.n != 1)}"
        points.append(
            {
                "series": clean(curve.arm),
                "model": clean(point.model),
                "size": point.parameters,
                "mean": rounded(found.mean, 6),
                "low": rounded(found.mean if found.low is None else found.low, 6),
                "high": rounded(found.mean if found.high is None else found.high, 6),
                "shown": f"{format_interval(found, curve.measure.unit)}, {seeds}",
            }
        )
    return points


def _fitted(curve: SizeCurve) -> list[dict[str, Any]]:
    """Return the ends of the fitted line."""
    slope = curve.trend.slope or 0.0
    count = len(curve.points)
    centre = sum(math.log10(point.parameters) for point in curve.points) / count
    mean = sum(point.interval.mean for point in curve.points) / count
    return [
        {
            "series": clean(curve.arm),
            "size": size,
            "mean": rounded(mean + slope * (math.log10(size) - centre), 6),
        }
        for size in (curve.points[0].parameters, curve.points[-1].parameters)
    ]


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
    """Return what could not be used, each line once: of the plan, broken metrics, measures that no metric gives."""
    lines = list(planned)
    for section in sections:
        if section.board is None:
            continue
        given = {m.name for comparison in section.board.leaderboard.boards for m in comparison.measures}
        lines += section.board.broken
        lines += [
            f"measure {name}: no metric gives it" for name in section.part.measures if name not in given
        ]
    return list(dict.fromkeys(lines))
