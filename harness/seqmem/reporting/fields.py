"""Cells of printed tables: what is shown, its footnote, and what it is sorted by, whoever writes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seqmem.core.digits import fixed, significant, ten_digits, without_zero
from seqmem.core.measures import Interval, Measure
from seqmem.record.row import Row
from seqmem.scoring.cells import Cell
from seqmem.scoring.comparison import Comparison
from seqmem.scoring.numbers import format_interval, format_number, format_p
from seqmem.scoring.statistics import Difference

_NOT_MEASURED = "not measured: seqmem bench --measure-cost"


@dataclass(frozen=True)
class Field:
    """One cell of a printed table.

    Attributes:
        text: what is shown; None where there is nothing, for which every writer has its own sign.
        note: footnote, such as why there is nothing.
        value: what the cell is sorted by; None sorts last.
        measured: the text is a mean, with its interval where it has one.
    """

    text: str | None
    note: str = ""
    value: float | str | None = None
    measured: bool = False

    @property
    def key(self) -> float | str | None:
        """The value with ten digits, so that two machines write the same."""
        return ten_digits(self.value) if isinstance(self.value, float) else self.value


def notes_of(fields: Iterable[Field]) -> tuple[str, ...]:
    """Return the footnotes of cells in order of first use, equal ones once."""
    return tuple(dict.fromkeys(field.note for field in fields if field.note))


def printed(field: Field, notes: Sequence[str]) -> str:
    """Return a cell as plain text with the mark of its footnote, e.g. `` (2)``."""
    mark = f" ({notes.index(field.note) + 1})" if field.note else ""
    return ("-" if field.text is None else field.text) + mark


def measured(interval: Interval, unit: str, note: str = "", remark: str = "") -> Field:
    """Return a mean with its interval."""
    return Field(format_interval(interval, unit) + remark, note, interval.mean, measured=True)


def value_field(cell: Cell, measure: Measure, row: Row) -> Field:
    """Return a row's mean, with the number of seeds where some lack a value."""
    if cell.interval is None:
        return Field(None, cell.reason)
    seeds, runs = cell.interval.n, len(row.runs)
    return measured(cell.interval, measure.unit, cell.reason, f", {seeds} of {runs} seeds" * (seeds < runs))


def difference_field(comparison: Comparison, row: Row, measure: Measure) -> Field:
    """Return a row's difference to the reference."""
    reference = comparison.reference
    if reference == row.label:
        return Field("reference")
    if reference is None:
        return Field(None, "no reference row")
    found = comparison.cells[row.label, measure.name].difference
    if found is None:
        return Field(None, f"no seed has a value here and in {reference}")
    return measured(found.interval, measure.unit, found.interval.reason)


def test_fields(comparison: Comparison, row: Row, measure: Measure) -> tuple[Field, Field, Field]:
    """Return p, the smallest detectable difference and whether no effect was shown."""
    if comparison.reference == row.label:
        return (Field(""),) * 3
    found = comparison.cells[row.label, measure.name].difference
    if found is None:
        return (Field(None, "no difference to test"),) * 3
    return tested_fields(found, measure)


def tested_fields(found: Difference, measure: Measure) -> tuple[Field, Field, Field]:
    """Return p, the smallest detectable difference and whether no effect was shown, of one comparison."""
    p = Field(None, found.reason)
    if found.p is not None and found.raw_p is not None:
        p = Field(f"{format_p(found.p)} ({format_p(found.raw_p)})", value=found.p)
    if found.detectable is not None:
        detectable = Field(format_number(found.detectable, measure.unit))
    elif found.interval.n < 2:
        detectable = Field(None, found.interval.reason)
    else:
        detectable = Field(None, "every seed gives the same difference: no spread to work it out from")
    if found.equivalent is not None:
        alike = Field("shown" if found.equivalent else "not shown")
    elif measure.margin is None:
        alike = Field(None, "the measure states no margin within which rows are alike")
    else:
        alike = Field(None, found.reason)
    return p, detectable, alike


def rank_field(comparison: Comparison, row: Row) -> Field:
    """Return a row's rank."""
    rank = comparison.ranks[row.label]
    return Field(None, comparison.no_rank[row.label]) if rank is None else Field(str(rank), value=rank)


def cost_field(row: Row) -> Field:
    """Return a row's step time over that of the reference."""
    return Field(None, _NOT_MEASURED) if row.cost is None else Field(fixed(row.cost, 2), value=row.cost)


def arrow(measure: Measure) -> str:
    """Return the arrow of a measure's better direction; empty where it has none."""
    return {"higher": "↑", "lower": "↓", "none": ""}[measure.direction]


def unit_of(measure: Measure) -> str:
    """Return the measure's unit with the arrow of its better direction."""
    return " ".join(part for part in (measure.unit, arrow(measure)) if part)


def chance_text(comparison: Comparison) -> str:
    """Return chance with three digits, since 1/256 is .00391 and not .00; empty where it is not known."""
    return "" if comparison.chance is None else without_zero(significant(comparison.chance))


def by_forced_choice(comparison: Comparison) -> bool:
    """Return whether a fact counts as recalled where its answer is preferred to the other candidates."""
    runs = (run for row in comparison.rows for run in row.runs.values())
    return any(run.design.recall == "forced_choice" for run in runs)
