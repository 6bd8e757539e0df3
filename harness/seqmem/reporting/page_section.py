"""One part of the page: its tables as blocks, and how and from what the runs were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqmem.core.digits import rounded
from seqmem.core.measures import Measure
from seqmem.core.sanitize import clean
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.reporting import charts, provenance
from seqmem.reporting.blocks import Block, with_a_value
from seqmem.reporting.fields import (
    Field,
    cost_field,
    difference_field,
    measured,
    notes_of,
    rank_field,
    test_fields,
    unit_of,
    value_field,
)
from seqmem.reporting.words import answer, measure_in_words, recall_when_last_asked, twins_in_words
from seqmem.scoring.comparison import Comparison, Table
from seqmem.scoring.size_trend import arm_of
from seqmem.scoring.verdict import Finding, Verdict


@dataclass(frozen=True)
class Part:
    """One scenario's results on the page.

    Attributes:
        name: heading, usually the scenario's name and version.
        rows: the records behind the table.
        reproduce: the command that makes the runs again.
        rules: what a published board holds fixed.
        question: what the scenario asks, in a sentence; the primary measure speaks for itself without one.
        links: (name, relative link) of the table's other files.
    """

    name: str
    table: Table
    rows: Sequence[Row]
    reproduce: str
    rules: Mapping[str, Any] | None = None
    question: str = ""
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class EmptyPart:
    """A part without results of its own on the page, and why."""

    name: str
    why: str
    question: str = ""


@dataclass(frozen=True)
class SizeTrend:
    """The measures of one part over model size.

    Attributes:
        block: the slopes.
        charts: data of `charts.sizes`, one for each measure.
    """

    block: Block
    charts: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Frame:
    """What the page of a suite says around its parts.

    Attributes:
        interrupted: it stopped before its end.
        facts: (name, text) of what was run.
        left_out: what could not be used, each with its reason.
        failed: runs that did not finish, each with its reason.
    """

    summary: str
    interrupted: bool
    models: Block
    facts: Sequence[tuple[str, str]]
    left_out: Sequence[str]
    failed: Sequence[str]
    size_note: str
    trends: Sequence[SizeTrend]


@dataclass(frozen=True)
class Chip(Field):
    """A cell that shows a finding, with its words on hovering."""

    finding: Finding = "no_reference"
    words: str = ""


@dataclass(frozen=True)
class MeasureTable:
    """Every measure of every row of one comparison.

    Attributes:
        lines: (measure, its value in every row).
        without: (names, reason) of the measures that have no value in any row.
    """

    comparison: Comparison
    rows: Sequence[Row]
    lines: Sequence[tuple[Measure, Sequence[Field]]]
    without: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class PageSection:
    """The section that the template prints of one part.

    Attributes:
        several: the part has several models.
        columns: (title, unit or remark, class) of each column of the main table.
        lines: (comparison, row, cells) of the main table.
        twins: row label to the recall of its never-trained twins, in words.
        notes: footnotes of the main table and of all measures, in order of first use.
    """

    part: Part
    several: bool
    measured: str
    setting: str
    columns: Sequence[tuple[str, str, str]]
    lines: Sequence[tuple[Comparison, Row, Sequence[Field]]]
    measures: Sequence[MeasureTable]
    twins: Mapping[str, str]
    notes: Sequence[str]
    contamination: Sequence[str]
    rules: Sequence[tuple[str, str]]


def page_section(part: Part) -> PageSection:
    """Return what the page says of one part."""
    comparisons = part.table.boards
    shape = _shape(part)
    lines = [
        (comparison, row, _line(comparison, row, shape))
        for comparison in comparisons
        for row in comparison.best_first()
    ]
    measures = [_measures(comparison) for comparison in comparisons]
    cells = [field for *_, fields in lines for field in fields]
    cells += [field for one in measures for _, fields in one.lines for field in fields]
    return PageSection(
        part,
        shape.models,
        _measured(comparisons[0]),
        _setting(part),
        _columns(comparisons[0], shape),
        lines,
        measures,
        {row.label: twins_in_words(comparison.verdicts[row.label], row) for comparison, row, _ in lines},
        notes_of(cells),
        provenance.contamination(part.rows),
        sorted((str(name), _plain(value)) for name, value in (part.rules or {}).items()),
    )


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _measured(comparison: Comparison) -> str:
    """Return what the verdict is about, in one line."""
    primary, what = comparison.primary, measure_in_words(comparison)
    direction = {"higher": "higher is better", "lower": "lower is better", "none": "no direction is better"}
    return f"{what[:1].upper()}{what[1:]} ({primary.name}, {direction[primary.direction]})"


def _setting(part: Part) -> str:
    """Return how the runs were made, in one line."""
    firsts = [row.runs[min(row.runs)] for row in part.rows if row.runs]
    seeds = sorted({seed for row in part.rows for seed in row.runs})
    runs = sum(len(row.runs) for row in part.rows)
    controls = sum(len(own) for row in part.rows for own in row.controls.values())
    models = len({comparison.model for comparison in part.table.boards})
    said = [f"{len(part.rows)} row{'s' * (len(part.rows) != 1)} on {models} model{'s' * (models != 1)}"]
    said.append(f"{runs} run{'s' * (runs != 1)} with {len(seeds)} seed{'s' * (len(seeds) != 1)}")
    if controls:
        said.append(f"{controls} control runs")
    tables = [run.experiences for run in firsts if len(run.experiences)]
    if tables:
        ends = [int((table["first_step"] + table["steps"]).max()) for table in tables]
        said.append(f"{_range(ends)} optimizer steps each")
        rests = [int(table.loc[table["phase"] == "rest", "steps"].sum()) for table in tables]
        if all(rests):
            said.append(f"{_range(rests)} of them rest, unrelated to any fact")
    return ", ".join(said)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


# ---- tables -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """The columns of the main table besides those of every table."""

    models: bool
    questions: bool
    controls: tuple[str, ...]
    timed: bool


def _shape(part: Part) -> _Shape:
    runs = [run for row in part.rows for run in row.runs.values()]
    questions = any(run.info["primary_relation"] != "general" for run in runs)  # nobody can recall documents
    controls = {name for row in part.rows for name, own in row.controls.items() if own and questions}
    models = len({comparison.model for comparison in part.table.boards}) > 1
    return _Shape(models, questions, tuple(sorted(controls)), any(row.cost is not None for row in part.rows))


def _columns(comparison: Comparison, shape: _Shape) -> list[tuple[str, str, str]]:
    primary, reference = comparison.primary, comparison.reference
    listed = [("rank", "", "n"), ("strategy", "", "w")]
    listed += [("model", "", "w")] if shape.models else []
    listed += [
        (primary.name, unit_of(primary), "n"),
        (f"difference to {reference}" if reference else "difference", "paired by seed", "n"),
        ("p", "", "n"),
        ("verdict", "", "w"),
    ]
    recalled = ("facts", "twins", *shape.controls) if shape.questions else ()
    listed += [(name, "recall at the end", "n") for name in recalled]
    listed += [("step time", "over the reference", "n")] if shape.timed else []
    return [*listed, ("seeds", "", "n")]


def _line(comparison: Comparison, row: Row, shape: _Shape) -> list[Field]:
    """Return the cells of one row, one for each of the columns."""
    primary, verdict = comparison.primary, comparison.verdicts[row.label]
    word = charts.FINDINGS[verdict.finding].word
    fields = [
        rank_field(comparison, row),
        Field(arm_of(row) if shape.models else row.label, value=row.label),
    ]
    fields += [Field(comparison.model, value=comparison.model)] if shape.models else []
    difference = difference_field(comparison, row, primary)
    fields += [
        value_field(comparison.cells[row.label, primary.name], primary, row),
        difference,
        test_fields(comparison, row, comparison.primary)[0] if difference.measured else Field(""),
        Chip(word, value=word, finding=verdict.finding, words=answer(verdict)),
    ]
    if shape.questions:
        fields += [_recall(row.runs, controls=False), _recall(row.runs, controls=True)]
    fields += [_recall(row.controls.get(name, {}), controls=False) for name in shape.controls]
    if shape.timed:
        fields.append(Field(None) if row.cost is None else cost_field(row))
    return [*fields, Field(str(verdict.seeds), value=verdict.seeds)]


def _recall(runs: Mapping[int, RunRecord], *, controls: bool) -> Field:
    found = recall_when_last_asked([runs[seed] for seed in sorted(runs)], controls=controls)
    return Field(None) if found is None else measured(found, "share")


def _measures(comparison: Comparison) -> MeasureTable:
    had, without = with_a_value(comparison)
    rows = comparison.best_first()
    lines = [(m, [value_field(comparison.cells[row.label, m.name], m, row) for row in rows]) for m in had]
    return MeasureTable(comparison, rows, lines, without)


# ---- the chart of results ---------------------------------------------------------------------------------


def results_chart(comparison: Comparison) -> dict[str, Any]:
    """Return the data of the chart of results: the rows that have a value."""
    primary = comparison.primary
    rows = comparison.best_first()
    drawn = [one for row in rows if (one := comparison.verdicts[row.label]).value is not None]
    points = [_point(verdict) for verdict in drawn]
    return {
        "title": clean(f"{primary.name} ({unit_of(primary)})"),
        "description": clean(
            f"{primary.name} of {len(drawn)} rows with 95 % intervals over seeds; the same values as in the table."
        ),
        "rows": points,
        "reference": [
            {"mean": point["mean"]}
            for verdict, point in zip(drawn, points, strict=True)
            if verdict.label == comparison.reference
        ],
    }


def _point(verdict: Verdict) -> dict[str, Any]:
    interval = verdict.value
    assert interval is not None
    low = interval.mean if interval.low is None else interval.low
    high = interval.mean if interval.high is None else interval.high
    return {
        "label": clean(verdict.label),
        "mean": rounded(interval.mean, 6),
        "low": rounded(low, 6),
        "high": rounded(high, 6),
        "finding": charts.FINDINGS[verdict.finding].word,
        "shown": f"{verdict.shown_value}, {verdict.seeds} seeds",
        "differs": clean(answer(verdict)),
    }
