"""The page of a suite: what was run, a table and figures per part, measures against model size.

A pure function of the plan and the finished benches: nothing here looks at a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmem.core.version import __version__
from seqmem.record.schema import write_json
from seqmem.reporting.blocks import SEED_NOTE, Block, notes_of
from seqmem.reporting.markdown import block_lines, escape_markdown, note_lines, table_lines
from seqmem.reporting.suite_data import device_of, suite_data
from seqmem.reporting.suite_section import Section, left_out, versions
from seqmem.scoring.numbers import short_count
from seqmem.scoring.size_trend import adjust, arm_of
from seqmem.scoring.statistics import MIN_SIZES_FOR_INTERVAL, MIN_SIZES_FOR_P

if TYPE_CHECKING:
    from seqmem.planning.models import ResolvedModel
    from seqmem.planning.suite import SuitePlan

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
    """Return where a suite's page belongs: its name and a hash of all runs it takes."""
    names = " ".join(board.name for planned in suite.plans for board in planned.boards)
    return out / "suites" / f"{suite.spec.name}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


def write_page(suite: SuitePlan, sections: Sequence[Section], folder: Path, interrupted: bool) -> Page:
    """Write `page.md` and `page.json`; what `sections` lack is said to be not run yet."""
    for section, curves in zip(sections, adjust([section.curves for section in sections]), strict=True):
        section.curves = curves
    folder.mkdir(parents=True, exist_ok=True)
    data = suite_data(suite, sections, interrupted)
    text = _text(suite, sections, interrupted)
    write_json(folder / "page.json", data)
    (folder / "page.md").write_text(text, encoding="utf-8")
    return Page(folder, text, data)


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
    request = suite.request
    arms = list(dict.fromkeys(arm_of(row) for section in sections for row in section.rows))
    references = {
        row.facts["strategy"] for section in sections for row in section.rows if row.reference == row.label
    }
    said = [f"{arm} (reference)" if arm in references else arm for arm in arms] or list(request.strategy)
    count = suite.plans[0].threads
    threads = f"{count} thread{'s' * (count > 1)} per run"
    stated = [
        ("Strategies", ", ".join(said)),
        ("Seeds", request.seeds),
        ("Background text", request.text),
        ("Options set", ", ".join(request.set)),
        ("Device", f"{device_of(suite)}, {request.precision}, {threads}"),
        ("Controls", "" if request.controls else "left out"),
        ("Suite", f"{suite.spec.name} {suite.spec.version}, seqmem {__version__}"),
        ("Ran with", versions(sections)),
        *(("Left out", reason) for reason in left_out(sections, suite.left_out)),
    ]
    lines = [f"- {name}: {escape_markdown(value)}" for name, value in stated if value]
    lines += [
        f"- Did not finish: {escape_markdown(name)}: {escape_markdown(reason)}"
        for section in sections
        for name, reason in section.failed.items()
    ]
    return ["## What was run", "", *table_lines(("model", "parameters", "content"), models), "", *lines, ""]


def _identity(model: ResolvedModel) -> str:
    revision = f"revision {model.revision[:12]}, " if model.revision else ""
    return f"{revision}fingerprint {model.fingerprint[:12]}"


def _part_lines(section: Section) -> list[str]:
    part, planned = section.part, section.planned
    lines = [f"## {escape_markdown(section.title)}", "", f"*{escape_markdown(part.question)}*", ""]
    what = escape_markdown(f"Scenario {planned.scenario} {planned.version}, preset {part.preset}")
    if section.same_as is not None:
        return [*lines, f"{what}: the same runs as part {section.same_as}, see there.", ""]
    if section.board is None:
        return [*lines, f"{what}: not run yet.", ""]
    rows = section.rows
    finished, failed = sum(len(row.runs) for row in rows), sum(len(row.failed) for row in rows)
    count = f"{finished} of {finished + failed} runs finished, controls not counted."
    lines += [f"{what}; {count} [Every measure]({section.table}).", ""]
    lines += [f"- {escape_markdown(c.verdicts[row.label].text)}" for c, row in section.compared()]
    lines += ["", *_noted(section.blocks())]
    missing = [
        f"- {escape_markdown(names)}: no value: {escape_markdown(why)}"
        for names, why in section.measures()[1]
    ]
    lines += [*missing, ""] if missing else []
    if section.retention:
        lines += [_image(f"Recall over time, {part.title}", section.retention), ""]
    for link in section.shown:
        lines += [_image(f"{Path(link).stem}, {part.title}", link), ""]
    if section.further:
        listed = ", ".join(f"[{escape_markdown(Path(link).stem)}]({link})" for link in section.further)
        lines += [f"Further figures: {listed}.", ""]
    return lines


def _noted(blocks: Sequence[Block]) -> list[str]:
    """Return tables under their titles, and their footnotes."""
    notes = notes_of(field for block in blocks for line in block.lines for field in line)
    lines: list[str] = []
    for block in blocks:
        lines += [block.title, ""] if block.title else []
        lines += block_lines(block, notes)
    return [*lines, *note_lines(notes)]


def _image(alt: str, link: str) -> str:
    return f"![{escape_markdown(alt)}]({link})"


def _trend_lines(suite: SuitePlan, sections: Sequence[Section]) -> list[str]:
    if len({model.parameters for model in suite.models}) < 2:
        return ["One model size was run: a slope needs 2 sizes, its interval 3, a p-value 5.", ""]
    tests = sum(curve.p is not None for section in sections for curve in section.curves)
    family = (
        f" P-values control the false discovery rate over all {tests} size trends of this page that have one."
    )
    lines = [_SIZE_NOTE + family * (tests > 0), ""]
    for section in sections:
        if section.curves:
            lines += [f"### {escape_markdown(section.title)}", "", *_noted([section.trend_block()])]
        if section.trend:
            lines += [_image(f"Measures over model size, {section.part.title}", section.trend), ""]
    return lines
