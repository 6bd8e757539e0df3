"""Measures against model size, and their trends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from seqmem.core.measures import Interval, Measure
from seqmem.record.row import Row
from seqmem.scoring.comparison import Table
from seqmem.scoring.statistics import (
    Trend,
    false_discovery,
    size_trend,
)

DIFFERENT_TOKENS = (
    "the models cut text into different tokens, as far as their records say: numbers per token cannot be compared, "
    "those per answer or byte can"
)
"""Reason for a missing slope."""


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
    alike = _tokenizers_alike(table)
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
                if trend.slope is not None and _in_tokens(known[name]) and not alike({p.model for p in own}):
                    trend = Trend(None, None, None, None, trend.sizes, DIFFERENT_TOKENS)
                curves.append(SizeCurve(known[name], arm, tuple(own), trend))
    return curves


def _in_tokens(measure: Measure) -> bool:
    """Return whether a measure's number depends on how long the tokenizer's tokens are.

    Log-probabilities and losses do, unless they are stated per answer or per byte, and so do counts of tokens and
    what is asked of a single token. Shares of answers, steps and exposures do not.
    """
    of, *per = measure.unit.split("/")
    if "answer" in per or "byte" in per:
        return False
    counted = of in ("nats", "bits", "tokens") and per != ["parameter"]
    return counted or "token" in per or "token" in measure.name


def _tokenizers_alike(table: Table) -> Callable[[Collection[str]], bool]:
    """Return what tells whether models cut text in the same way, going by the records of their runs.

    A record that does not say, of before it was noted, is taken for a tokenizer of its own.
    """
    found: dict[str, set[str]] = {}
    for comparison in table.boards:
        own = found.setdefault(comparison.model, set())
        for row in comparison.rows:
            own |= {str(run.info.get("tokenizer", comparison.model)) for run in row.runs.values()}

    return lambda models: len({way for model in models for way in found[model]}) < 2


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
