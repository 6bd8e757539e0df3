"""The blocks that state a comparison: every cell of every table stated once, whoever writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from seqmem.core.digits import fixed, significant, ten_digits, without_zero
from seqmem.core.measures import Interval, Measure
from seqmem.core.options import seeds_text
from seqmem.record.row import Row
from seqmem.scoring.cells import Cell
from seqmem.scoring.comparison import Comparison
from seqmem.scoring.numbers import format_bound, format_interval, format_margin, format_number, format_p
from seqmem.scoring.pairs import PairComparison
from seqmem.scoring.sign_flips import MIN_SEEDS_FOR_P
from seqmem.scoring.statistics import Difference
from seqmem.scoring.verdict import Verdict

_TESTS_NOTE = (
    "Smallest detectable: the true difference that the interval would tell from zero in 80 % of repeats; the "
    "adjusted test sees less. No effect: the difference was shown to lie inside the measure's margin."
)
TABLE_NOTE = (
    "A seed varies data and training, and the first weights where a scenario trains from scratch; a pretrained "
    "checkpoint is one, so claims concern that checkpoint. "
    "Brackets are 95 % intervals over seeds, given from three up: of shares Korn and Graubard's, else Student's t; for "
    "differences on three to five seeds in a table of six rows or more with a spread pooled over them (moderated t). "
    "Differences are paired by seed. p is a two-sided sign-flip test on the "
    f"primary measure, given from {MIN_SEEDS_FOR_P} common seeds up, adjusted by step-down maxT over the rows compared "
    "with the reference, and over the same measure by degrees where there is one: the chance to call any row different "
    "that is not is 5 %. Behind it p of the row alone. "
    f"↑: higher is better, ↓: lower is better. {_TESTS_NOTE}"
)
PAIR_NOTE = (
    "The first row minus the second, paired by seed; brackets are 95 % intervals over seeds. p is a two-sided "
    f"sign-flip test, given from {MIN_SEEDS_FOR_P} common seeds up, adjusted by step-down maxT over the measures "
    f"listed; behind it p of the measure alone. ↑: higher is better, ↓: lower is better. {_TESTS_NOTE}"
)

_EXPLORATORY = "Exploratory, but for what is tested above: nobody can adjust for what a reader looks at"
_NOT_MEASURED = "not measured: seqmem bench --measure-cost"
_MAX_COLUMNS = 5
"""Rows of a comparison printed side by side in the table of all measures."""


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


Line = tuple[Field, ...]


@dataclass(frozen=True)
class Block:
    """One printed table: a title, columns, lines of cells, a line of text below."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    below: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """The footnotes of this table alone."""
        return notes_of(chain.from_iterable(self.lines))


@dataclass(frozen=True)
class Section:
    """Everything said of one comparison.

    Attributes:
        notes: footnotes of the blocks in order of first use; a footnote's number is its place over all sections
            that are written together (`footnotes`).
    """

    title: str
    verdicts: tuple[Verdict, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]


def section(comparison: Comparison, *, all_measures: bool = True) -> Section:
    """Return what is said of a comparison; `all_measures` False leaves out those that decide nothing."""
    summary = _summary(comparison)
    more = [*_graded(comparison), *_gates(comparison), *_detectors(comparison)]
    rest = [*more, *(_all_measures(comparison) if all_measures else [])]
    # A row's results and its costs follow each other here: they are one table, cut in two for its width.
    ordered = chain(
        chain.from_iterable(chain.from_iterable(zip(*(block.lines for block in summary), strict=True))),
        (field for block in rest for line in block.lines for field in line),
    )
    title = ", ".join(part for part in (comparison.scenario, comparison.model) if part) or "leaderboard"
    verdicts = tuple(comparison.verdicts[row.label] for row in comparison.rows)
    return Section(title, verdicts, (*summary, *rest), notes_of(ordered))


def notes_of(fields: Iterable[Field]) -> tuple[str, ...]:
    """Return the footnotes of cells in order of first use, equal ones once."""
    return tuple(dict.fromkeys(field.note for field in fields if field.note))


def footnotes(sections: Sequence[Section]) -> tuple[str, ...]:
    """Return the footnotes of sections that are written together; equal texts share a number."""
    return tuple(dict.fromkeys(note for one in sections for note in one.notes))


def printed(field: Field, notes: Sequence[str]) -> str:
    """Return a cell as plain text with the mark of its footnote, e.g. `` (2)``."""
    mark = f" ({notes.index(field.note) + 1})" if field.note else ""
    return ("-" if field.text is None else field.text) + mark


# ---- cells ------------------------------------------------------------------------------------------------


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
    return _tested(found, measure)


def _tested(found: Difference, measure: Measure) -> tuple[Field, Field, Field]:
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


# ---- tables -----------------------------------------------------------------------------------------------


def _summary(comparison: Comparison) -> list[Block]:
    """Return what a row is and what it costs, in two tables: one of all columns is too wide for a terminal."""
    primary, reference = comparison.primary, comparison.reference
    results, costs = [], []
    for row in comparison.rows:
        cell = comparison.cells[row.label, primary.name]
        failed = "; ".join(f"seed {seed} failed: {row.failed[seed]}" for seed in sorted(row.failed))
        results.append(
            (
                Field(row.label, failed),
                rank_field(comparison, row),
                value_field(cell, primary, row),
                difference_field(comparison, row, primary),
                *test_fields(comparison, row, primary),
            )
        )
        costs.append(
            (
                Field(row.label),
                cost_field(row),
                _of_role(comparison, row, "state"),
                _of_role(comparison, row, "tokens"),
                Field(str(cell.interval.n if cell.interval else 0)),
                Field(str(cell.items)),
            )
        )
    result_columns = (
        "row",
        "rank",
        f"{primary.name} ({unit_of(primary)})" if primary.unit else primary.name,
        _against(comparison),
        "p (alone)",
        "smallest detectable",
        "no effect" if primary.margin is None else f"no effect (within ±{format_margin(primary)})",
    )
    state = next((f" ({m.unit})" for m in comparison.measures if m.role == "state" and m.unit), "")
    cost_columns = (
        "row",
        f"step time / {reference or 'reference'}",
        f"extra state{state}",
        "trained tokens",
        "seeds",
        "items",
    )
    chance = chance_text(comparison)
    below = f"Chance on the primary probe form: {chance}" if chance else ""
    if chance and by_forced_choice(comparison):
        below = f"{below}; recall is by forced choice among candidates"
    if comparison.outlying:
        named = ", ".join(f"{label} {seed}" for label, seed in comparison.outlying.items())
        below = (
            f"{below}. " * bool(below) + f"Seeds that lie far from the row's others (Grubbs, 1 %): {named}"
        )
    return [
        Block("Primary measure", result_columns, tuple(results), below),
        Block("Cost and evidence", cost_columns, tuple(costs)),
    ]


def _detectors(comparison: Comparison) -> list[Block]:
    """Return what the measures that are held against zero say of every row."""
    lines = []
    for measure in comparison.measures:
        for label in (*(row.label for row in comparison.rows), None):
            found = comparison.detections.get((label, measure.name))
            if found is not None:
                contrast = found.contrast
                p, detectable, _ = _tested(contrast, measure)
                lines.append(
                    (
                        Field(f"{measure.name} ({unit_of(measure)})"),
                        Field("all rows, mean by seed" if label is None else label),
                        measured(contrast.interval, measure.unit, contrast.interval.reason),
                        p,
                        detectable,
                        Field(format_bound(measure.effect or 0, measure.unit)),
                        Field(found.detected),
                    )
                )
    columns = ("detector", "row", "value", "p (alone)", "smallest detectable", "looked for", "verdict")
    below = (
        "Each measure against zero, adjusted over its rows. Underpowered: an effect of the size looked for would not "
        "have been seen in 80 % of repeats"
    )
    return [Block("Detectors", columns, tuple(lines), below)] if lines else []


def _graded(comparison: Comparison) -> list[Block]:
    """Return the measure that says the same as the primary one by degrees."""
    graded = next((one for one in comparison.measures if one.name == comparison.primary.graded), None)
    if graded is None or not any(
        comparison.cells[row.label, graded.name].interval for row in comparison.rows
    ):
        return []
    lines = tuple(
        (
            Field(row.label),
            value_field(comparison.cells[row.label, graded.name], graded, row),
            difference_field(comparison, row, graded),
            *test_fields(comparison, row, graded)[:2],
        )
        for row in comparison.rows
    )
    tests = ("p (alone)", "smallest detectable")
    columns = ("row", f"{graded.name} ({unit_of(graded)})", _against(comparison), *tests)
    return [Block("By degrees", columns, lines, "Tested in one family with the primary measure")]


def _gates(comparison: Comparison) -> list[Block]:
    """Return what is asked of a row before it is ranked: its gates, and how it was searched."""
    reference = comparison.reference
    searched = any(row.facts.get("search") for row in comparison.rows)
    if reference is None or not (comparison.gates or searched):
        return []
    lines = []
    for row in comparison.rows:
        differences = [difference_field(comparison, row, gate) for gate in comparison.gates]
        unranked = comparison.verdicts[row.label].unranked
        passed = (
            Field("" if row.label == reference else "passed") if not unranked else Field("failed", unranked)
        )
        if row.changes_stream and row.label != reference:
            passed = Field(None, comparison.no_rank[row.label])
        lines.append((Field(row.label), *differences, passed, Field(search_text(row, comparison.measures))))
    gates = (
        f"{gate.name} ({unit_of(gate)}), gate {format_bound(gate.gate or 0, gate.unit)}"
        for gate in comparison.gates
    )
    below = f"Differences to {reference}. A gate is passed where the interval excludes a larger loss"
    return [Block("Gates", ("row", *gates, "all", "searched"), tuple(lines), below)]


def search_text(row: Row, measures: Sequence[Measure]) -> str:
    """Return how a row was searched: runs, seeds, and the range of its trials."""
    search = row.facts.get("search")
    if not search:
        return "not searched"
    text = f"{search['runs']} of {search['budget']} runs on seeds {seeds_text(search['seeds'])}"
    if search.get("lowest") is None:
        return text
    unit = next((one.unit for one in measures if one.name == search["measure"]), "")
    lowest, highest = (format_number(search[name], unit) for name in ("lowest", "highest"))
    return f"{text}, {search['measure']} {lowest} to {highest}"


def _against(comparison: Comparison) -> str:
    return f"difference to {comparison.reference}" if comparison.reference else "difference"


def _of_role(comparison: Comparison, row: Row, role: str) -> Field:
    """Return the mean of the measure with that role; its spread stands in the table of all measures."""
    measure = next((measure for measure in comparison.measures if measure.role == role), None)
    if measure is None:
        return Field(None, "no metric gives it")
    cell = comparison.cells[row.label, measure.name]
    if cell.interval is None:
        return Field(None, cell.reason)
    return Field(format_number(cell.interval.mean, measure.unit))


def _all_measures(comparison: Comparison) -> list[Block]:
    """Return every measure with a value, then the others with the reason."""
    cells = comparison.cells
    had, without = with_a_value(comparison)
    differ = [m for m in had if any(cells[row.label, m.name].difference for row in comparison.rows)]
    blocks = []
    for first in range(0, len(comparison.rows), _MAX_COLUMNS):
        rows = comparison.rows[first : first + _MAX_COLUMNS]
        values = _beside(
            "All measures", rows, had, lambda row, m: value_field(cells[row.label, m.name], m, row)
        )
        blocks.append(replace(values, below=_EXPLORATORY))
        compared = [row for row in rows if comparison.reference not in (None, row.label)]
        if compared:
            title = f"All measures, {_against(comparison)}, paired by seed"
            blocks.append(
                _beside(title, compared, differ, lambda row, m: difference_field(comparison, row, m))
            )
    return [*blocks, *_reasons("Without a value in any row", without)]


def _beside(
    title: str, rows: Sequence[Row], measures: Sequence[Measure], field: Callable[[Row, Measure], Field]
) -> Block:
    """Return a table with a line per measure and a column per row."""
    lines = tuple((Field(m.name), Field(unit_of(m)), *(field(row, m) for row in rows)) for m in measures)
    return Block(title, ("measure", "unit", *(row.label for row in rows)), lines)


def with_a_value(comparison: Comparison) -> tuple[list[Measure], list[tuple[str, str]]]:
    """Return the measures that have a value in some row, and (names, reason) of all others."""
    had, without = [], []
    for measure in comparison.measures:
        cells = [comparison.cells[row.label, measure.name] for row in comparison.rows]
        if any(cell.interval for cell in cells):
            had.append(measure)
        else:
            without.append((measure.name, " / ".join(dict.fromkeys(cell.reason for cell in cells))))
    return had, by_reason(without)


def by_reason(missing: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (names, reason) from (name, reason): names that lack a value for the same reason stand together."""
    found: dict[str, list[str]] = {}
    for name, reason in missing:
        found.setdefault(reason, []).append(name)
    return [(", ".join(names), reason) for reason, names in found.items()]


def _reasons(title: str, missing: Sequence[tuple[str, str]]) -> list[Block]:
    lines = tuple((Field(names), Field(why)) for names, why in missing)
    return [Block(title, ("measures", "why"), lines)] if lines else []


def pair_section(pairs: Sequence[PairComparison], a: str, b: str) -> Section:
    """Return what `compare` found: differences, the rows' own means, and measures without a difference."""
    differences: list[Line] = []
    means: list[Line] = []
    for pair in pairs:
        measure, found = pair.measure, pair.difference
        if found is None:
            continue
        name = (Field(measure.name), Field(unit_of(measure)))
        shown = measured(found.interval, measure.unit, found.interval.reason)
        differences.append((*name, shown, *_tested(found, measure), Field(str(found.interval.n))))
        own = (
            Field(None) if one is None else measured(one, measure.unit) for one in (pair.first, pair.second)
        )
        means.append((*name, *own))
    tests = ("difference", "p (alone)", "smallest detectable", "no effect", "common seeds")
    blocks = [
        Block(f"Difference, {a} minus {b}", ("measure", "unit", *tests), tuple(differences)),
        Block("Both rows, over all their seeds", ("measure", "unit", a, b), tuple(means)),
    ]
    missing = by_reason((pair.measure.name, pair.reason) for pair in pairs if pair.difference is None)
    blocks = [block for block in blocks if block.lines] + _reasons("Without a difference", missing)
    notes = notes_of(field for line in differences for field in line)
    return Section(f"{a} minus {b}", (), tuple(blocks), notes)
