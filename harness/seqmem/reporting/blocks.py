"""The blocks that state a comparison: every cell of every table stated once, whoever writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from seqmem.core.measures import Measure
from seqmem.core.options import seeds_text
from seqmem.record.row import Row
from seqmem.reporting.fields import (
    Field,
    by_forced_choice,
    chance_text,
    cost_field,
    difference_field,
    measured,
    notes_of,
    rank_field,
    test_fields,
    tested_fields,
    unit_of,
    value_field,
)
from seqmem.scoring.comparison import Comparison
from seqmem.scoring.numbers import format_bound, format_margin, format_number
from seqmem.scoring.pairs import PairComparison
from seqmem.scoring.sign_flips import MIN_SEEDS_FOR_P
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
_MAX_COLUMNS = 5
"""Rows of a comparison printed side by side in the table of all measures."""


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


def footnotes(sections: Sequence[Section]) -> tuple[str, ...]:
    """Return the footnotes of sections that are written together; equal texts share a number."""
    return tuple(dict.fromkeys(note for one in sections for note in one.notes))


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
                p, detectable, _ = tested_fields(contrast, measure)
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
        differences.append((*name, shown, *tested_fields(found, measure), Field(str(found.interval.n))))
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
