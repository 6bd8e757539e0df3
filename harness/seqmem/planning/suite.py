"""From a suite and a list of models to a request for each part, and the runs it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from seqmem.core.errors import PluginError, UsageError
from seqmem.planning.grid import Plan
from seqmem.planning.models import ResolvedModel
from seqmem.planning.plan import plan
from seqmem.planning.request import Request, SuiteRequest
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import SuitePart, SuiteSpec


@dataclass(frozen=True)
class SuitePlan:
    """The runs of a suite to be.

    Attributes:
        parts: the experiments, at the preset they are run at.
        plans: the runs of each part.
        models: those that all parts can use.
        left_out: models that cannot be used and strategies that cannot be loaded, each with its reason.
    """

    spec: SuiteSpec
    parts: tuple[SuitePart, ...]
    plans: tuple[Plan, ...]
    models: tuple[ResolvedModel, ...]
    left_out: tuple[str, ...]

    @property
    def request(self) -> Request:
        """Return what is asked of every part; scenario and preset are the first part's."""
        return self.plans[0].request

    def whole(self) -> Plan:
        """Return all runs as one plan, named by part, to show what they cost."""
        runs = {
            run_id: replace(run, name=f"{part.preset}: {run.name}")
            for part, planned in reversed(list(zip(self.parts, self.plans, strict=True)))
            for run_id, run in planned.runs.items()
        }
        order = [run_id for planned in self.plans for run_id in planned.runs]
        boards = tuple(board for planned in self.plans for board in planned.boards)
        notes = tuple(dict.fromkeys(note for planned in self.plans for note in planned.notes))
        return Plan(
            self.request, {run_id: runs[run_id] for run_id in order}, boards, self.left_out, notes=notes
        )


def plan_suite(name: str, registry: Registry, asked: SuiteRequest) -> SuitePlan:
    """Plan every run of every part, validated; a model that one part cannot use is left out of all.

    Raises:
        UsageError: the request cannot be carried out, or no model can be used.
        PluginError: a plugin that is needed cannot be loaded.
    """
    spec = registry.load("suite", name)
    if not spec.parts:
        raise PluginError(f"{registry.entry('suite', name)} declares no parts")
    parts = tuple(replace(part, preset="smoke") if asked.smoke else part for part in spec.parts)
    models = expand_models(spec, asked.models)
    left_out: dict[str, None] = {}
    while True:
        plans = tuple(
            plan(asked.as_bench(scenario=(part.scenario,), preset=part.preset, model=models), registry)
            for part in parts
        )
        left_out |= dict.fromkeys(line for planned in plans for line in planned.left_out)
        usable = tuple(name for name in models if all(name in planned.models for planned in plans))
        if usable == models:
            return SuitePlan(spec, parts, plans, tuple(plans[0].models.values()), tuple(left_out))
        if not usable:
            raise UsageError(f"none of the {len(models)} models can be used; first: {next(iter(left_out))}")
        models = usable


def expand_models(spec: SuiteSpec, models: str) -> tuple[str, ...]:
    """Return model names, with the suite's own lists in place of their names; each once."""
    asked = [name.strip() for name in models.split(",") if name.strip()]
    if not asked:
        raise UsageError(
            f"--models {models!r} names no model; give names or one of: {', '.join(spec.models)}"
        )
    return tuple(dict.fromkeys(model for name in asked for model in spec.models.get(name, (name,))))
