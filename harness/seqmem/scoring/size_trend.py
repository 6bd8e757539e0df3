"""Measures against model size, and their trends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from seqmem.core.measures import Measure
from seqmem.record.row import Row
from seqmem.scoring.comparison import Table
from seqmem.scoring.statistics import (
    Interval,
    Trend,
    false_discovery,
    size_trend,
)


@dataclass(frozen=True)
class SizePoint:
    """A measure on one model.

    Attributes:
        interval: mean over seeds.
    """

    model: str
    parameters: int
    interval: Interval


@dataclass(frozen=True)
class SizeCurve:
    """A measure of one arm (strategy with its options) over models, smallest first.

    Attributes:
        p: of the trend, adjusted for the false discovery rate over all size trends of the page; None where it
            has no p-value, and until `adjust` has seen the page.
    """

    measure: Measure
    arm: str
    points: tuple[SizePoint, ...]
    trend: Trend
    p: float | None = None


def size_curves(table: Table, measures: Sequence[str], parameters: Mapping[str, int]) -> list[SizeCurve]:
    """Return measures against model size, one curve per measure and arm, in that order.

    Args:
        table: rows of one or several models.
        measures: names of measures; those that the table lacks are passed over.
        parameters: model name to number of parameters.
    """
    points: dict[tuple[str, str], list[SizePoint]] = {}
    known: dict[str, Measure] = {}
    for comparison in table.boards:
        known |= {measure.name: measure for measure in comparison.measures}
        for row in comparison.rows:
            for name in measures:
                cell = comparison.cells.get((row.label, name))
                own = points.setdefault((name, arm_of(row)), [])
                if cell is not None and cell.interval is not None:
                    own.append(SizePoint(comparison.model, parameters[comparison.model], cell.interval))
    curves = []
    for name in measures:
        for (measure, arm), own in points.items():
            if measure == name and own:
                own.sort(key=lambda point: point.parameters)
                trend = size_trend([(point.parameters, point.interval.mean) for point in own])
                curves.append(SizeCurve(known[name], arm, tuple(own), trend))
    return curves


def adjust(pages: Sequence[Sequence[SizeCurve]]) -> list[list[SizeCurve]]:
    """Return the curves of every part with adjusted p-values: all size trends of a page are one family."""
    raw = [p for curves in pages for curve in curves if (p := curve.trend.p) is not None]
    adjusted = iter(false_discovery(raw))
    return [
        [curve if curve.trend.p is None else replace(curve, p=next(adjusted)) for curve in curves]
        for curves in pages
    ]


def arm_of(row: Row) -> str:
    """Return a row's label without its model: what is compared across models."""
    return row.label.removesuffix(f" @ {row.facts.get('model')}")
