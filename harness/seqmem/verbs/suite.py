"""A suite: several experiments over a list of models, each a bench, and one page about all of them. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from seqmem.core.errors import UsageError
from seqmem.planning.grid import Plan
from seqmem.planning.request import Execution
from seqmem.planning.store import Store
from seqmem.planning.suite import SuitePlan
from seqmem.plugin.specs import SuitePart
from seqmem.reporting.suite_page import Page, page_folder, write_page
from seqmem.reporting.suite_section import Section
from seqmem.verbs.bench import BenchResult, bench_planned


@dataclass(frozen=True)
class SuiteResult:
    """The outcome of a suite.

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
    execution: Execution,
    on_part: Callable[[int, SuitePart], None] = lambda number, part: None,
) -> SuiteResult:
    """Run the parts one after the other and write the page; finished runs are reused.

    The page is written anew after every part, so that a suite of days can be looked at on the way. `on_part` is told
    of every part that begins, and its number from 1.

    Raises:
        UsageError: the output folder holds unfinished runs and the execution does not say what to do with them, or
            nothing to resume; nothing was trained.
    """
    resumed = _resumed(Store(execution.out), suite.plans, execution)
    folder, sections = page_folder(suite, execution.out), _sections(suite)
    results: list[BenchResult] = []
    interrupted = False
    for section, planned, resume in zip(sections, suite.plans, resumed, strict=True):
        if section.same_as is not None:
            continue
        on_part(section.number, section.part)
        try:
            result = bench_planned(planned, replace(execution, resume=resume))
            results.append(result)
            interrupted = result.interrupted
            section.fill(result.board, result.failed, folder, suite.models)
        except KeyboardInterrupt:  # outside of training: while it scores or draws
            interrupted = True
        page = write_page(suite, sections, folder, interrupted)
        if interrupted:
            break
    left_out = [line for result in results for line in result.left_out]
    return SuiteResult(
        page,
        {name: reason for result in results for name, reason in result.failed.items()},
        tuple(dict.fromkeys([*suite.left_out, *left_out])),
        interrupted,
    )


def _sections(suite: SuitePlan) -> list[Section]:
    """Begin the page's sections; parts that come to the same runs are run and shown once."""
    sections: list[Section] = []
    for part, planned in zip(suite.parts, suite.plans, strict=True):
        (board,) = planned.boards
        same = [other.number for other in sections if other.planned.name == board.name]
        sections.append(Section(len(sections) + 1, part, board, same[0] if same else None))
    return sections


def _resumed(store: Store, plans: Sequence[Plan], execution: Execution) -> list[bool]:
    """Say for each part whether its bench is to resume: one that has not begun has nothing to resume.

    Raises:
        UsageError: what `Store.todo` refuses, of any part; under `resume`, nothing to resume in all of them.
    """
    flags: list[bool] = []
    refusal: UsageError | None = None
    force, accept = execution.force, execution.accept_versions
    for planned in plans:
        try:
            store.todo(planned, resume=execution.resume, force=force, accept_versions=accept)
            flags.append(execution.resume)
        except UsageError as error:
            if not execution.resume:
                raise
            # raises what leaving out --resume cannot help
            store.todo(planned, resume=False, force=force, accept_versions=accept)
            flags.append(False)
            refusal = error
    if refusal is not None and not any(flags):
        raise refusal
    return flags
