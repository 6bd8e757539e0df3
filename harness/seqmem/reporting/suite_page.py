"""The page of a suite: what was run, a table and figures per part, measures against model size.

A pure function of the plan and the finished benches: nothing here looks at a clock.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from seqmem.core.digits import ten_digits
from seqmem.core.measures import Measure
from seqmem.core.sanitize import file_name
from seqmem.core.version import __version__
from seqmem.planning.grid import PlannedBoard
from seqmem.plugin.specs import SuitePart
from seqmem.record.row import Row
from seqmem.record.schema import write_json
from seqmem.reporting.board_files import Board
from seqmem.reporting.figures import draw_retention, draw_size_trend, short_count
from seqmem.reporting.tables import SEED_NOTE, escape_markdown, to_records
from seqmem.scoring.comparison import Board as Comparison
from seqmem.scoring.comparison import Cell
from seqmem.scoring.numbers import format_interval, format_p
from seqmem.scoring.scores import sound
from seqmem.scoring.size_trend import SizeCurve, adjust, arm_of, size_curves
from seqmem.scoring.statistics import (
    MIN_SIZES_FOR_INTERVAL,
    MIN_SIZES_FOR_P,
    Interval,
)

if TYPE_CHECKING:
    from seqmem.planning.models import ResolvedModel
    from seqmem.planning.suite import SuitePlan

FORMAT = 1

_SIZE_NOTE = (
    "The slope is by ordinary least squares on log10(parameters): the change of the measure per tenfold "
    "parameters. The unit is the model, with its mean over seeds, and brackets are 95 % intervals over models. "
    f"Below {MIN_SIZES_FOR_INTERVAL} sizes there is no interval, below {MIN_SIZES_FOR_P} no p-value: a few models "
    "on a line are no law, and models of different make differ in more than size."
)


@dataclass(frozen=True)
class Page:
    """A page that was written.

    Attributes:
        folder: where `page.md`, `page.json` and the page's own figures lie.
        text: the page as Markdown.
        data: the same for programs.
    """

    folder: Path
    text: str
    data: Mapping[str, Any]


def page_folder(suite: SuitePlan, out: Path) -> Path:
    """Where a suite's page belongs: its name and a hash of all runs it takes."""
    names = " ".join(board.name for planned in suite.plans for board in planned.boards)
    return out / "suites" / f"{suite.spec.name}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


def write_page(suite: SuitePlan, sections: Sequence[Section], folder: Path, interrupted: bool) -> Page:
    """Write `page.md` and `page.json`; what `sections` lack is said to be not run yet."""
    for section, curves in zip(sections, adjust([section.curves for section in sections]), strict=True):
        section.curves = curves
    folder.mkdir(parents=True, exist_ok=True)
    data = _data(suite, sections, interrupted)
    text = _text(suite, sections, interrupted)
    write_json(folder / "page.json", data)
    (folder / "page.md").write_text(text, encoding="utf-8")
    return Page(folder, text, data)


class Section:
    """What the page has to say of one part: first what will be run, then what came of it.

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
        self.board: Board | None = None
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
        self, board: Board, failed: Mapping[str, str], folder: Path, models: Sequence[ResolvedModel]
    ) -> None:
        """Take what the part's bench gave and draw the page's own figures into `folder`."""
        self.board, self.failed = board, dict(failed)
        parameters = {model.name: model.parameters for model in models}
        self.curves = size_curves(self.board.leaderboard, self.part.measures, parameters)
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
        self.table = _link(self.board.folder / "table.md", folder)
        scores = self.board.leaderboard.scores
        metrics = scores.loc[scores["measure"].isin(self.part.measures), "metric"].unique()
        telling = {file_name(str(metric)) for metric in metrics}
        self.shown = [_link(path, folder) for path in self.board.figures if path.stem in telling]
        self.further = [_link(path, folder) for path in self.board.figures if path.stem not in telling]

    def comparisons(self) -> Iterable[tuple[Comparison, Row]]:
        """Rows beside those they are compared with, in the order of the table."""
        for comparison in self.board.leaderboard.boards if self.board is not None else ():
            for row in comparison.rows:
                yield comparison, row


def _link(path: Path, folder: Path) -> str:
    """The way from the page to a file, as a link."""
    return quote(Path(os.path.relpath(path, folder)).as_posix())


def _text(suite: SuitePlan, sections: Sequence[Section], interrupted: bool) -> str:
    lines = [f"# Suite {escape_markdown(suite.spec.name)}", "", escape_markdown(suite.spec.summary), ""]
    if interrupted:
        lines += ["**Stopped before its end: this page holds what had finished.**", ""]
    lines += [*_what_was_run(suite, sections), SEED_NOTE, ""]
    for section in sections:
        lines += _part_lines(section)
    lines += ["## Size trend", "", *_trend_lines(suite, sections)]
    if suite.spec.citation:
        lines += ["## Source", "", escape_markdown(suite.spec.citation), ""]
    return "\n".join(lines)


def _what_was_run(suite: SuitePlan, sections: Sequence[Section]) -> list[str]:
    models = [
        (model.name, f"{model.parameters:,} ({short_count(model.parameters)})", _identity(model))
        for model in suite.models
    ]
    lines = ["## What was run", "", *_table(("model", "parameters", "content"), models), ""]
    request = suite.request
    arms = list(dict.fromkeys(arm_of(row) for section in sections for row in section.rows))
    references = {
        row.facts["strategy"] for section in sections for row in section.rows if row.reference == row.label
    }
    said = [f"{arm} (reference)" if arm in references else arm for arm in arms] or list(request.strategy)
    stated = {
        "Strategies": ", ".join(said),
        "Seeds": request.seeds,
        "Background text": request.text,
        "Options set": ", ".join(request.set),
        "Device": f"{_device(suite)}, {request.dtype}, {request.threads} thread{'s' * (request.threads > 1)} per run",
        "Controls": "" if request.controls else "left out",
        "Suite": f"{suite.spec.name} {suite.spec.version}, seqmem {__version__}",
        "Ran with": _versions(sections),
    }
    lines += [f"- {name}: {escape_markdown(value)}" for name, value in stated.items() if value]
    lines += [f"- Left out: {escape_markdown(reason)}" for reason in _left_out(suite, sections)]
    for section in sections:
        lines += [
            f"- Did not finish: {escape_markdown(name)}: {escape_markdown(reason)}"
            for name, reason in section.failed.items()
        ]
    return [*lines, ""]


def _identity(model: ResolvedModel) -> str:
    revision = f"revision {model.revision[:12]}, " if model.revision else ""
    return f"{revision}fingerprint {model.fingerprint[:12]}"


def _device(suite: SuitePlan) -> str:
    return next(iter(suite.plans[0].runs.values())).recipe.device


def _versions(sections: Sequence[Section]) -> str:
    """Packages that ran the records; several versions of one are all named."""
    found: dict[str, set[str]] = {}
    for section in sections:
        for row in section.rows:
            for record in row.runs.values():
                for package, version in record.info["versions"].items():
                    found.setdefault(package, set()).add(version)
    return ", ".join(f"{package} {' and '.join(sorted(found[package]))}" for package in sorted(found))


def _left_out(suite: SuitePlan, sections: Sequence[Section]) -> list[str]:
    lines = [*suite.left_out]
    for section in sections:
        lines += section.board.broken if section.board is not None else ()
    return list(dict.fromkeys(lines))


def _part_lines(section: Section) -> list[str]:
    part, planned = section.part, section.planned
    lines = [f"## {escape_markdown(section.title)}", "", f"*{escape_markdown(part.question)}*", ""]
    what = f"Scenario {planned.scenario} {planned.version}, preset {part.preset}"
    if section.same_as is not None:
        return [*lines, f"{escape_markdown(what)}: the same runs as part {section.same_as}, see there.", ""]
    if section.board is None:
        return [*lines, f"{escape_markdown(what)}: not run yet.", ""]
    rows = section.rows
    finished, failed = sum(len(row.runs) for row in rows), sum(len(row.failed) for row in rows)
    lines += [
        f"{escape_markdown(what)}; {finished} of {finished + failed} runs finished, controls not counted. "
        f"[Every measure]({section.table}).",
        "",
    ]
    lines += [f"- {escape_markdown(c.verdicts[row.label])}" for c, row in section.comparisons()]
    lines += ["", *_measure_tables(section)]
    if section.retention:
        lines += [_image(f"Recall over time, {part.title}", section.retention), ""]
    for link in section.shown:
        lines += [_image(f"{Path(link).stem}, {part.title}", link), ""]
    if section.further:
        listed = ", ".join(f"[{escape_markdown(Path(link).stem)}]({link})" for link in section.further)
        lines += [f"Further figures: {listed}.", ""]
    return lines


def _image(alt: str, link: str) -> str:
    return f"![{escape_markdown(alt)}]({link})"


def _measure_tables(section: Section) -> list[str]:
    """The part's measures: values, then differences to the reference, then what has no value and why."""
    listed = list(section.comparisons())
    known = {measure.name: measure for c, _ in listed for measure in c.measures}
    had = [
        known[name]
        for name in section.part.measures
        if any((cell := c.cells.get((row.label, name))) and cell.interval for c, row in listed)
    ]
    notes: list[str] = []
    head = [_column(measure) for measure in had]
    lines = [
        (
            row.label,
            *(_value(c.cells[row.label, measure.name], measure, len(row.runs), notes) for measure in had),
        )
        for c, row in listed
    ]
    parts = [*_table(("row", *head), lines), ""] if had else []
    compared = [
        (row.label, c.reference, *(_difference(c.cells[row.label, m.name], m, c.primary, notes) for m in had))
        for c, row in listed
        if c.reference not in (None, row.label)
    ]
    if had and compared:
        parts += ["Difference to the reference, paired by seed:", ""]
        parts += [*_table(("row", "reference", *head), compared), ""]
    parts += [f"({i}) {escape_markdown(note)}  " for i, note in enumerate(notes, 1)]
    parts += [""] if notes else []
    for name in section.part.measures:
        if name not in {measure.name for measure in had}:
            cells = [c.cells[row.label, name] for c, row in listed if (row.label, name) in c.cells]
            why = " / ".join(dict.fromkeys(cell.reason for cell in cells))
            why = why or "no metric gives it: it was left out, is not installed or failed"
            parts += [f"- {escape_markdown(name)}: no value: {escape_markdown(why)}"]
    return [*parts, ""] if parts and parts[-1] else parts


def _column(measure: Measure) -> str:
    arrow = {"higher": " ↑", "lower": " ↓", "none": ""}[measure.direction]
    return f"{measure.name} ({measure.unit}){arrow}"


def _mark(text: str, notes: list[str]) -> str:
    """The mark of a footnote; equal texts share a number."""
    if not text:
        return ""
    if text not in notes:
        notes.append(text)
    return f" ({notes.index(text) + 1})"


def _value(cell: Cell, measure: Measure, runs: int, notes: list[str]) -> str:
    if cell.interval is None:
        return "no value" + _mark(cell.reason, notes)
    part = f", {cell.interval.n} of {runs} seeds" if cell.interval.n < runs else ""
    return format_interval(cell.interval, measure.unit) + part + _mark(cell.reason, notes)


def _difference(cell: Cell, measure: Measure, primary: Measure, notes: list[str]) -> str:
    found = cell.difference
    if found is None:
        return "-" + _mark("no seed has a value here and in the reference", notes)
    p = f", p {format_p(found.p)}" if found.p is not None and measure.name == primary.name else ""
    return format_interval(found.interval, measure.unit) + p + _mark(found.interval.reason, notes)


def _trend_lines(suite: SuitePlan, sections: Sequence[Section]) -> list[str]:
    sizes = len({model.parameters for model in suite.models})
    if sizes < 2:
        return ["One model size was run: a slope needs 2 sizes, its interval 3, a p-value 5.", ""]
    tests = sum(curve.p is not None for section in sections for curve in section.curves)
    family = (
        f" P-values control the false discovery rate over all {tests} size trends of this page that have one."
    )
    lines = [_SIZE_NOTE + family * (tests > 0), ""]
    for section in sections:
        if not section.curves:
            continue
        notes: list[str] = []
        body = [
            (
                curve.measure.name,
                f"{curve.measure.unit} per tenfold",
                curve.arm,
                str(len(curve.points)),
                _slope(curve, notes),
                format_p(curve.p) if curve.p is not None else "-",
            )
            for curve in section.curves
        ]
        lines += [f"### {escape_markdown(section.title)}", ""]
        lines += [*_table(("measure", "unit", "strategy", "models", "slope", "p"), body), ""]
        lines += [f"({i}) {escape_markdown(note)}  " for i, note in enumerate(notes, 1)]
        lines += [""] if notes else []
        if section.trend:
            lines += [_image(f"Measures over model size, {section.part.title}", section.trend), ""]
    return lines


def _slope(curve: SizeCurve, notes: list[str]) -> str:
    trend = curve.trend
    if trend.slope is None:
        return "-" + _mark(trend.reason, notes)
    shown = format_interval(Interval(trend.slope, trend.low, trend.high, trend.sizes), curve.measure.unit)
    return shown + _mark(trend.reason, notes)


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    return [
        line(map(escape_markdown, columns)),
        line("---" for _ in columns),
        *(line(map(escape_markdown, cells)) for cells in lines),
    ]


def _data(suite: SuitePlan, sections: Sequence[Section], interrupted: bool) -> dict[str, Any]:
    request = suite.request
    return {
        "format": FORMAT,
        "suite": suite.spec.name,
        "version": suite.spec.version,
        "summary": suite.spec.summary,
        "seqmem": __version__,
        "ran_with": _versions(sections),
        "models": [
            {
                "name": model.name,
                "parameters": model.parameters,
                "revision": model.revision,
                "fingerprint": model.fingerprint,
            }
            for model in suite.models
        ],
        "asked": {
            "strategy": list(request.strategy),
            "seeds": request.seeds,
            "set": list(request.set),
            "text": request.text,
            "dtype": request.dtype,
            "device": _device(suite),
            "threads": request.threads,
            "controls": request.controls,
        },
        "left_out": _left_out(suite, sections),
        "interrupted": interrupted,
        "parts": [_part_data(section) for section in sections],
    }


def _part_data(section: Section) -> dict[str, Any]:
    data: dict[str, Any] = {
        "number": section.number,
        "title": section.part.title,
        "question": section.part.question,
        "scenario": section.planned.scenario,
        "version": section.planned.version,
        "preset": section.part.preset,
        "board": section.planned.name,
        "same_runs_as": section.same_as,
        "failed": section.failed,
    }
    if section.board is None:
        return {**data, "cells": [], "verdicts": {}, "figures": [], "size_trend": []}
    cells = to_records(section.board.leaderboard)
    figures = [section.retention, *section.shown, section.trend, *section.further]
    return {
        **data,
        "cells": [cell for cell in cells if cell["measure"] in section.part.measures],
        "verdicts": {row.label: c.verdicts[row.label] for c, row in section.comparisons()},
        "figures": [link for link in figures if link],
        "size_trend": [_curve_data(curve) for curve in section.curves],
    }


def _curve_data(curve: SizeCurve) -> dict[str, Any]:
    trend = curve.trend
    return {
        "measure": curve.measure.name,
        "unit": f"{curve.measure.unit} per tenfold parameters",
        "strategy": curve.arm,
        "points": [
            {
                "model": point.model,
                "parameters": point.parameters,
                "mean": ten_digits(point.interval.mean),
                "low": ten_digits(point.interval.low),
                "high": ten_digits(point.interval.high),
                "seeds": point.interval.n,
            }
            for point in curve.points
        ],
        "slope": ten_digits(trend.slope),
        "low": ten_digits(trend.low),
        "high": ten_digits(trend.high),
        "p": ten_digits(curve.p),
        "p_unadjusted": ten_digits(trend.p),
        "sizes": trend.sizes,
        "reason": trend.reason,
    }
