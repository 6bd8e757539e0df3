"""A suite: several experiments over a list of models, each a bench, and one page about all of them. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmem.core.errors import UsageError
from seqmem.planning.grid import Plan
from seqmem.planning.request import Request
from seqmem.planning.store import Store
from seqmem.planning.suite import SuitePlan
from seqmem.plugin.specs import SuitePart
from seqmem.reporting.suite_page import Page, Section, page_folder, write_page
from seqmem.verbs.bench import BenchResult, bench
from seqmem.verbs.display import DisplayName


@dataclass(frozen=True)
class SuiteResult:
    """What a suite leaves.

    Attributes:
        page: where it is and what it says.
        failed: run name to reason, for runs that did not finish.
        left_out: models, strategies and metrics that could not be used, each with its reason.
        interrupted: Ctrl-C stopped it; the page holds what had finished.
    """

    page: Page
    failed: dict[str, str]
    left_out: tuple[str, ...]
    interrupted: bool


def run_suite(
    suite: SuitePlan,
    *,
    out: Path,
    workers: int | None = None,
    resume: bool = False,
    force: bool = False,
    accept_versions: bool = False,
    display: DisplayName = "auto",
    disabled: frozenset[str] = frozenset(),
    on_part: Callable[[int, SuitePart], None] = lambda number, part: None,
) -> SuiteResult:
    """Run the parts one after the other and write the page; finished runs in `out` are reused.

    The page is written anew after every part, so that a suite of days can be looked at on the way.

    Args:
        suite: what `plan_suite` gave.
        out: output folder.
        workers: runs at a time; by default one per core, on a GPU one.
        resume: continue unfinished runs from their last checkpoints.
        force: run again what is finished, start over what is not.
        accept_versions: keep runs that other versions of torch, transformers or seqmem made; the page says so.
        display: what to show meanwhile.
        disabled: plugins to leave out.
        on_part: told of every part that begins, and its number from 1.

    Raises:
        UsageError: the output folder holds unfinished runs and neither `resume` nor `force` says what to do
            with them, or nothing to resume; nothing was trained.
    """
    resumed = _resumed(Store(out), suite.plans, resume, force, accept_versions)
    folder, sections = page_folder(suite, out), _sections(suite)
    results: list[BenchResult] = []
    interrupted = False
    for section, planned, resuming in zip(sections, suite.plans, resumed, strict=True):
        if section.same_as is not None:
            continue
        on_part(section.number, section.part)
        try:
            result = bench(
                section.part.scenario,
                planned.request.strategy,
                model=suite.names,
                preset=section.part.preset,
                **_shared(planned.request),
                out=out,
                workers=workers,
                resume=resuming,
                force=force,
                accept_versions=accept_versions,
                display=display,
                disabled=disabled,
            )
            results.append(result)
            interrupted = result.interrupted
            section.fill(result.board, result.failed, folder, suite.models)
        except KeyboardInterrupt:  # outside of training: while it plans, scores or draws
            interrupted = True
        page = write_page(suite, sections, folder, interrupted)
        if interrupted:
            break
    left_out = [line for result in results for line in result.unreadable]
    left_out += [line for result in results for board in result.boards for line in board.broken]
    return SuiteResult(
        page,
        {name: reason for result in results for name, reason in result.failed.items()},
        tuple(dict.fromkeys([*suite.left_out, *left_out])),
        interrupted,
    )


def _sections(suite: SuitePlan) -> list[Section]:
    """The page's sections, empty as yet; parts that come to the same runs are run and shown once."""
    sections: list[Section] = []
    for part, planned in zip(suite.parts, suite.plans, strict=True):
        (board,) = planned.boards
        same = [other.number for other in sections if other.planned.name == board.name]
        sections.append(Section(len(sections) + 1, part, board, same[0] if same else None))
    return sections


def _shared(request: Request) -> dict[str, Any]:
    """The fields of a request that all parts have in common, as `bench` takes them."""
    names = ("seeds", "set", "text", "dtype", "device", "threads", "controls")
    return {name: getattr(request, name) for name in names}


def _resumed(
    store: Store, plans: Sequence[Plan], resume: bool, force: bool, accept_versions: bool
) -> list[bool]:
    """For each part, whether its bench is to resume: one that has not begun has nothing to resume.

    Raises:
        UsageError: what `Store.todo` refuses, of any part; under `resume`, nothing to resume in all of them.
    """
    flags: list[bool] = []
    refusal: UsageError | None = None
    for planned in plans:
        try:
            store.todo(planned, resume=resume, force=force, accept_versions=accept_versions)
            flags.append(resume)
        except UsageError as error:
            if not resume:
                raise
            # raises what leaving out --resume cannot help
            store.todo(planned, resume=False, force=force, accept_versions=accept_versions)
            flags.append(False)
            refusal = error
    if resume and not any(flags) and refusal is not None:
        raise refusal
    return flags
