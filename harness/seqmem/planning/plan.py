"""From a request to the runs it takes: a grid of recipes, each with its id. No torch, no data.

A step is a file: `parse`, `resolve`, `expand`, then `recipes`, which calls `check` and `price` for each run.
"""

from __future__ import annotations

from dataclasses import replace

from seqmem.planning.device import cores
from seqmem.planning.expand import Trials, expand
from seqmem.planning.grid import Plan, PlannedBoard, PlannedRun
from seqmem.planning.models import ResolvedModel
from seqmem.planning.parse import parse
from seqmem.planning.primary import check_primary
from seqmem.planning.recipes import board_runs
from seqmem.planning.request import Request
from seqmem.planning.resolve import resolve_scenario, resolve_setting
from seqmem.plugin.registry import Registry


def plan(request: Request, registry: Registry, trials: Trials | None = None) -> Plan:
    """Plan every run that a request takes, validated; of several models those that can be used.

    Args:
        request: what the user asked for.
        registry: where plugins are found.
        trials: in place of the grid of a sweep, a row for each of these.

    Raises:
        UsageError: a name, option or value is wrong, or no model can be used.
        PluginError: a plugin that is needed cannot be loaded.
    """
    if request.threads == "auto":
        alone = plan(replace(request, threads=1), registry, trials)
        return plan(replace(request, threads=max(1, cores() // len(alone.runs))), registry, trials)
    parsed = parse(request)
    setting = resolve_setting(parsed, registry)
    runs: dict[str, PlannedRun] = {}
    boards: list[PlannedBoard] = []
    left_out: list[str] = []
    notes: list[str] = []
    models: dict[str, ResolvedModel] = {}
    for name in request.scenario:
        resolved = resolve_scenario(setting, name, registry)
        made = board_runs(resolved, expand(resolved, trials))
        for run in made.runs:
            runs.setdefault(run.recipe.id, run)
        check_primary(name, made.board.primary, registry)
        boards.append(made.board)
        left_out += [*resolved.left_out, *made.refused.values()]
        used = {
            asked: located for asked, located in resolved.models.found.items() if asked not in made.refused
        }
        models |= {asked: located.model for asked, located in used.items()}
        notes += [note for located in used.values() for note in located.notes]
    return Plan(
        request,
        runs,
        tuple(boards),
        tuple(dict.fromkeys(left_out)),
        parsed.searches,
        models,
        tuple(dict.fromkeys(notes)),
    )
