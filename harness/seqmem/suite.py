"""A suite: several experiments over a list of models, each a bench, and one page about all of them. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from seqmem.api import BenchResult, bench
from seqmem.display import DisplayName
from seqmem.errors import PluginError, SeqmemError, UsageError, unknown
from seqmem.models import Dtype, ModelChoice, ResolvedModel, resolve
from seqmem.plan import Plan, Request, plan
from seqmem.registry import Registry
from seqmem.store import Store
from seqmem.suite_page import Page, Section, page_folder, write_page
from seqmem.types import SuitePart, SuiteSpec

DEFAULT_MODELS = "tiny"


@dataclass(frozen=True)
class SuitePlan:
    """What a suite will run.

    Attributes:
        parts: the experiments, at the preset they are run at.
        plans: the runs of each part; parts that come to the same runs share one plan.
        names: models as they were asked for.
        models: what was found under these names.
        left_out: models that cannot be used and strategies that cannot be loaded, each with its reason.
    """

    spec: SuiteSpec
    parts: tuple[SuitePart, ...]
    plans: tuple[Plan, ...]
    names: tuple[str, ...]
    models: tuple[ResolvedModel, ...]
    left_out: tuple[str, ...]

    @property
    def request(self) -> Request:
        """What is asked of every part; scenario and preset are the first part's."""
        return self.plans[0].request

    def whole(self) -> Plan:
        """All runs as one plan, named by part, for showing what they cost."""
        runs = {
            run_id: replace(run, name=f"{part.preset}: {run.name}")
            for part, planned in reversed(list(zip(self.parts, self.plans, strict=True)))
            for run_id, run in planned.runs.items()
        }
        order = [run_id for planned in self.plans for run_id in planned.runs]
        boards = tuple(board for planned in self.plans for board in planned.boards)
        return Plan(self.request, {run_id: runs[run_id] for run_id in order}, boards, self.left_out)


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


def plan_suite(
    name: str, registry: Registry, *, models: str = DEFAULT_MODELS, smoke: bool = False, **request: Any
) -> SuitePlan:
    """Every run of every part, validated.

    Args:
        name: the suite.
        registry: where plugins are found.
        models: names of lists the suite knows, models, folders or Hugging Face ids, separated by commas.
        smoke: run every part at its scenario's preset `smoke`.
        **request: fields of `seqmem.plan.Request` that all parts share: strategy, seeds, set, text, dtype, device,
            threads, controls.

    Raises:
        UsageError: the request cannot be carried out, or no model can be used.
        PluginError: a plugin that is needed cannot be loaded.
    """
    spec = registry.load("suite", name)
    if not spec.parts:
        raise PluginError(f"{registry.entry('suite', name)} declares no parts")
    dtype = request.get("dtype", "float32")
    if dtype not in get_args(Dtype):
        raise UsageError(unknown("--dtype", dtype, get_args(Dtype)))
    parts = tuple(replace(part, preset="smoke") if smoke else part for part in spec.parts)
    found: dict[str, ResolvedModel] = {}
    left_out: dict[str, str] = {}
    for model in _expand(spec, models):
        try:
            found[model] = resolve(ModelChoice(name=model, dtype=dtype), registry).model
        except SeqmemError as error:
            left_out[model] = str(error)
    plans = _plans(parts, found, left_out, registry, request)
    return SuitePlan(
        spec,
        parts,
        plans,
        tuple(found),
        tuple(found.values()),
        tuple(dict.fromkeys([*left_out.values(), *(line for planned in plans for line in planned.left_out)])),
    )


def _expand(spec: SuiteSpec, models: str) -> list[str]:
    """Model names, with the suite's own lists in place of their names; each once."""
    asked = [name.strip() for name in models.split(",") if name.strip()]
    if not asked:
        raise UsageError(
            f"--models {models!r} names no model; give names or one of: {', '.join(spec.models)}"
        )
    return list(dict.fromkeys(model for name in asked for model in spec.models.get(name, (name,))))


def _plans(
    parts: Sequence[SuitePart],
    found: dict[str, ResolvedModel],
    left_out: dict[str, str],
    registry: Registry,
    request: dict[str, Any],
) -> tuple[Plan, ...]:
    """The parts' runs; models that a part cannot run on are moved from `found` to `left_out`."""

    def planned(names: Sequence[str]) -> tuple[Plan, ...]:
        return tuple(
            plan(
                Request(scenario=(part.scenario,), preset=part.preset, model=tuple(names), **request),
                registry,
            )
            for part in parts
        )

    if not found:
        raise UsageError(_none_left(left_out))
    try:
        return planned(list(found))
    except UsageError:
        if len(found) == 1:
            raise
    refused = {}
    for name in found:
        try:
            planned([name])
        except UsageError as error:
            refused[name] = str(error)
    if len(refused) == len(found):
        raise UsageError(_none_left(refused))
    for name, reason in refused.items():
        del found[name]
        left_out[name] = reason
    return planned(list(found))


def _none_left(reasons: dict[str, str]) -> str:
    """Why no model can be used; what holds for all of them is said once."""
    said = list(dict.fromkeys(reasons.values()))
    return said[0] if len(said) == 1 else f"none of the {len(reasons)} models can be used; first: {said[0]}"


def run_suite(
    suite: SuitePlan,
    *,
    out: Path,
    workers: int | None = None,
    resume: bool = False,
    force: bool = False,
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
        display: what to show meanwhile.
        disabled: plugins to leave out.
        on_part: told of every part that begins, and its number from 1.

    Raises:
        UsageError: the output folder holds unfinished runs and neither `resume` nor `force` says what to do
            with them, or nothing to resume; nothing was trained.
    """
    resumed = _resumed(Store(out), suite.plans, resume, force)
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
                display=display,
                disabled=disabled,
            )
            results.append(result)
            interrupted = result.interrupted
            section.fill(result, folder, suite.models)
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


def _resumed(store: Store, plans: Sequence[Plan], resume: bool, force: bool) -> list[bool]:
    """For each part, whether its bench is to resume: one that has not begun has nothing to resume.

    Raises:
        UsageError: what `Store.todo` refuses, of any part; under `resume`, nothing to resume in all of them.
    """
    flags: list[bool] = []
    refusal: UsageError | None = None
    for planned in plans:
        try:
            store.todo(planned, resume=resume, force=force)
            flags.append(resume)
        except UsageError as error:
            if not resume:
                raise
            store.todo(planned, resume=False, force=True)  # raises what no flag can help
            flags.append(False)
            refusal = error
    if resume and not any(flags) and refusal is not None:
        raise refusal
    return flags
