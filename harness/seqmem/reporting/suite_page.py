"""The page of a suite: the report page with a section per part, what was run above it and the size trend below.

A pure function of the plan and the finished benches: nothing here looks at a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmem.core.version import __version__
from seqmem.planning.grid import Plan
from seqmem.record.files import write_json, write_text
from seqmem.reporting.blocks import Block
from seqmem.reporting.command import command_line
from seqmem.reporting.fields import Field
from seqmem.reporting.page import page
from seqmem.reporting.page_section import EmptyPart, Frame, Part
from seqmem.reporting.suite_data import device_of, suite_data
from seqmem.reporting.suite_section import Section, left_out, versions
from seqmem.scoring.numbers import short_count
from seqmem.scoring.size_trend import adjust, arm_of
from seqmem.scoring.statistics import MIN_SIZES_FOR_INTERVAL, MIN_SIZES_FOR_P

if TYPE_CHECKING:
    from seqmem.planning.models import ResolvedModel
    from seqmem.planning.suite import SuitePlan

PAGE = "page.html"
_SIZE_NOTE = (
    "The slope is by ordinary least squares on log10(parameters): the change of the measure per tenfold "
    "parameters. The unit is the model, with its mean over seeds, and brackets are 95 % intervals over models. "
    f"Below {MIN_SIZES_FOR_INTERVAL} sizes there is no interval, below {MIN_SIZES_FOR_P} no p-value: a few models "
    "on a line do not make a law, and models of different make differ in more than size."
)


@dataclass(frozen=True)
class Page:
    """A page that was written.

    Attributes:
        folder: where `page.html` and `page.json` lie.
        data: the page for programs.
    """

    folder: Path
    data: Mapping[str, Any]


def page_folder(suite: SuitePlan, out: Path) -> Path:
    """Return where a suite's page belongs: its name and a hash of all runs it takes."""
    names = " ".join(board.name for planned in suite.plans for board in planned.boards)
    return out / "suites" / f"{suite.spec.name}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


def write_page(suite: SuitePlan, sections: Sequence[Section], folder: Path, interrupted: bool) -> Page:
    """Write `page.html` and `page.json`; what `sections` lack is said to be not run yet."""
    for section, curves in zip(sections, adjust([section.curves for section in sections]), strict=True):
        section.curves = curves
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_part(section, plan) for section, plan in zip(sections, suite.plans, strict=True)]
    text = page(f"Suite {suite.spec.name}", parts, _frame(suite, sections, interrupted))
    data = suite_data(suite, sections, interrupted)
    write_text(folder / PAGE, text)
    write_json(folder / "page.json", data)
    return Page(folder, data)


def _part(section: Section, plan: Plan) -> Part | EmptyPart:
    part, planned = section.part, section.planned
    if section.board is not None:
        command = command_line(plan.asked())
        table = section.board.leaderboard
        return Part(part.title, table, section.rows, command, question=part.question, links=section.links)
    same = f"the same runs as part {section.same_as}, see there"
    why = "not run yet" if section.same_as is None else same
    what = f"Scenario {planned.scenario} {planned.version}, preset {part.preset}"
    return EmptyPart(part.title, f"{what}: {why}.", part.question)


def _frame(suite: SuitePlan, sections: Sequence[Section], interrupted: bool) -> Frame:
    request = suite.request
    arms = list(dict.fromkeys(arm_of(row) for section in sections for row in section.rows))
    references = {
        row.facts["strategy"] for section in sections for row in section.rows if row.reference == row.label
    }
    said = [f"{arm} (reference)" if arm in references else arm for arm in arms] or list(request.strategy)
    count = suite.plans[0].threads
    threads = f"{count} thread{'s' * (count > 1)} per run"
    facts = (
        ("Strategies", ", ".join(said)),
        ("Seeds", request.seeds),
        ("Background text", request.text),
        ("Options set", ", ".join(request.set)),
        ("Device", f"{device_of(suite)}, {request.precision}, {threads}"),
        ("Controls", "" if request.controls else "left out"),
        ("Suite", f"{suite.spec.name} {suite.spec.version}, seqmem {__version__}"),
        ("Ran with", versions(sections)),
        ("Source", suite.spec.citation),
    )
    failed = [f"{name}: {reason}" for section in sections for name, reason in section.failed.items()]
    several = len({model.parameters for model in suite.models}) > 1
    return Frame(
        suite.spec.summary,
        interrupted,
        _models(suite.models),
        [(name, text) for name, text in facts if text],
        left_out(sections, suite.left_out),
        failed,
        _size_note(sections, several),
        [section.trend() for section in sections if section.curves and several],
    )


def _models(models: Sequence[ResolvedModel]) -> Block:
    lines = tuple(
        (
            Field(model.name, value=model.name),
            Field(f"{model.parameters:,} ({short_count(model.parameters)})", value=model.parameters),
            Field(f"revision {model.revision[:12]}" if model.revision else None),
            Field(model.fingerprint[:12]),
        )
        for model in models
    )
    return Block("Models", ("model", "parameters", "revision", "fingerprint"), lines)


def _size_note(sections: Sequence[Section], several: bool) -> str:
    if not several:
        return "One model size was run: a slope needs 2 sizes, its interval 3, a p-value 5."
    tests = sum(curve.p is not None for section in sections for curve in section.curves)
    family = (
        f" P-values control the false discovery rate over all {tests} size trends of this page that have one."
    )
    return _SIZE_NOTE + family * (tests > 0)
