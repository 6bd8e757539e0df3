"""Last step of planning: a recipe for each run, and the rows and the table that the runs make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seqmem.core.errors import UsageError
from seqmem.core.options import validate
from seqmem.core.recipe import ModelIdentity, PluginChoice, Recipe, check_precision
from seqmem.planning.check import check_run
from seqmem.planning.expand import Arm
from seqmem.planning.grid import PlannedBoard, PlannedRow, PlannedRun
from seqmem.planning.models import LocatedModel
from seqmem.planning.price import memory_of
from seqmem.planning.primary import primary_of
from seqmem.planning.resolve import Resolved, choice_of, refuse_without_models
from seqmem.planning.search import check_recipe


@dataclass(frozen=True)
class BoardRuns:
    """A table and its runs.

    Attributes:
        refused: why a model cannot be used, by the name it was asked for.
    """

    board: PlannedBoard
    runs: tuple[PlannedRun, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class _Row:
    """An arm on a model: its runs by control, None for the row's own, and seed."""

    arm: Arm
    model: LocatedModel
    runs: Mapping[str | None, Mapping[int, PlannedRun]]

    @property
    def all_runs(self) -> Iterator[PlannedRun]:
        for by_seed in self.runs.values():
            yield from by_seed.values()


def board_runs(resolved: Resolved, arms: Sequence[Arm]) -> BoardRuns:
    """Plan the runs of one scenario; a model that cannot be used is left out, unless it is the last.

    Raises:
        UsageError: no model can be used, or the rows do not stand in one table.
    """
    refused = dict(resolved.models.refused)
    rows: list[_Row] = []
    for name, located in resolved.models.found.items():
        try:
            rows += [_row(resolved, arm, located) for arm in arms]
        except UsageError as error:
            refused[name] = str(error)
    if not rows:
        refuse_without_models(refused)
    for row in rows:
        if row.arm.tuned is not None:
            for run in row.runs[None].values():
                check_recipe(row.arm.tuned.search, row.arm.tuned.path, run.recipe)
    runs = tuple(run for row in rows for run in row.all_runs)
    return BoardRuns(_board(resolved, rows), runs, refused)


def _row(resolved: Resolved, arm: Arm, located: LocatedModel) -> _Row:
    controls = resolved.controls
    runs: dict[str | None, dict[int, PlannedRun]] = {}
    for control, changes in [(None, {}), *controls.items()]:
        options = {**arm.scenario_options, **changes}
        if control is not None and options == arm.scenario_options:
            continue  # a run is not a control of itself
        runs[control] = _runs(resolved, arm, located, control, options)
    return _Row(arm, located, runs)


def _runs(
    resolved: Resolved,
    arm: Arm,
    located: LocatedModel,
    control: str | None,
    scenario_options: Mapping[str, Any],
) -> dict[int, PlannedRun]:
    request, setting, seeds = resolved.request, resolved.setting, resolved.parsed.seeds
    scenario, model = resolved.scenario, located.model
    options = validate(scenario.options, scenario_options, f"scenario {scenario.name}")
    outline = scenario.outline(options)
    check_run(scenario.name, arm, model, outline, request)
    memory = memory_of(arm, located, request, outline)
    micro_tokens = request.micro_tokens
    if micro_tokens == "auto":
        micro_tokens = memory.activations.fitting(outline.longest_row)
    assert request.threads != "auto"  # as `plan` has it
    recipe = Recipe(
        scenario=choice_of(scenario, options),
        strategy=PluginChoice(
            name=arm.strategy.name,
            version=arm.strategy.version,
            options=arm.strategy_options.model_dump(mode="json"),
        ),
        model=ModelIdentity(
            name=model.name,
            revision=model.revision,
            fingerprint=model.fingerprint,
            parameters=model.parameters,
            max_positions=model.max_positions,
            dtype=request.precision,
            attention=located.attention,
            trust_remote_code=request.trust_remote_code,
        ),
        text=setting.text,
        optimizer=arm.optimizer,
        seed=seeds[0],
        device=setting.device,
        threads=request.threads,
        probing=request.probing,
        micro_tokens=micro_tokens,
    )
    check_precision(recipe)
    front, back = f"{scenario.name} {arm.title} {model.name}", f" {control}" if control else ""
    return {
        seed: PlannedRun(
            recipe=recipe.model_copy(update={"seed": seed}),
            name=f"{front} s{seed}{back}",
            scenario_options=options.model_dump(mode="json"),
            text_options=setting.text_options,
            model_folder=located.folder,
            model_files=located.files,
            outline=outline,
            **vars(memory),
        )
        for seed in seeds
    }


def _board(resolved: Resolved, rows: Sequence[_Row]) -> PlannedBoard:
    scenario = resolved.scenario
    several = len({row.model.model.name for row in rows}) > 1
    planned: dict[tuple[str, ...], PlannedRow] = {}
    primaries: dict[str, str] = {}
    labels: dict[str, str] = {}
    for row in rows:
        arm, name = row.arm, row.model.model.name
        suffix = f" @ {name}" if several else ""
        same = planned.setdefault(
            tuple(run.recipe.id for run in row.all_runs),
            PlannedRow(
                label=arm.label + suffix,
                facts={
                    "scenario": scenario.name,
                    "strategy": arm.strategy.name,
                    "model": name,
                    "preset": resolved.request.preset,
                    **({"changes_stream": True} if arm.strategy.transform_stream else {}),
                    **arm.facts,
                },
                runs={seed: run.recipe.id for seed, run in row.runs[None].items()},
                controls={
                    control: {seed: run.recipe.id for seed, run in runs.items()}
                    for control, runs in row.runs.items()
                    if control is not None
                },
                reference=None if arm.reference is None else arm.reference + suffix,
                swept=arm.swept,
                search=None if arm.tuned is None else arm.tuned.search,
            ),
        )
        labels[arm.label + suffix] = same.label
        primaries[same.label] = next(iter(row.runs[None].values())).outline.primary
    merged = tuple(replace(row, reference=labels.get(row.reference or "")) for row in planned.values())
    return PlannedBoard(scenario.name, scenario.version, primary_of(scenario.name, primaries), merged)
