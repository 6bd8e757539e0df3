"""From a suite and a list of models to the runs of every part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from seqmem.core.errors import PluginError, SeqmemError, UsageError, unknown
from seqmem.planning.grid import Plan
from seqmem.planning.models import Dtype, ModelChoice, ResolvedModel, resolve
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import SuitePart, SuiteSpec

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


def plan_suite(
    name: str, registry: Registry, *, models: str = DEFAULT_MODELS, smoke: bool = False, **request: Any
) -> SuitePlan:
    """Every run of every part, validated.

    Args:
        name: the suite.
        registry: where plugins are found.
        models: names of lists the suite knows, models, folders or Hugging Face ids, separated by commas.
        smoke: run every part at its scenario's preset `smoke`.
        **request: fields of `Request` that all parts share: strategy, seeds, set, text, dtype, device, threads,
            controls.

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
