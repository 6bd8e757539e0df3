"""From what the user asked for to the runs it takes: a grid of recipes, each with its id. No torch, no data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from seqmem.core.data import Options, Outline
from seqmem.core.errors import PluginError, UsageError, unknown
from seqmem.core.options import Sweep, parse_assignments, parse_seeds, parse_sweep, validate
from seqmem.core.recipe import (
    ModelIdentity,
    OptimizerSettings,
    PluginChoice,
    Probing,
    Recipe,
    check_precision,
)
from seqmem.planning.device import choose_device
from seqmem.planning.grid import Plan, PlannedBoard, PlannedRow, PlannedRun
from seqmem.planning.models import DTYPE_BYTES, Attention, Dtype, LocatedModel, ModelChoice, resolve
from seqmem.planning.primary import check_primary
from seqmem.planning.request import Request
from seqmem.planning.search import Search, check_plan, check_recipe, read_search
from seqmem.plugin.composition import owners, place, strategy_options
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import Footprint, ScenarioSpec, StrategySpec, TextSpec
from seqmem.plugin.strategy import overrides


@dataclass(frozen=True)
class _Tuned:
    """A search and the path it was read from."""

    path: str
    search: Search


@dataclass
class _Arm:
    """A strategy with the values of one row; `title` is its label less what does not change its runs."""

    scenario: ScenarioSpec
    scenario_options: Mapping[str, Any]
    strategy: StrategySpec
    strategy_options: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    swept: Mapping[str, Any]
    label: str
    title: str
    tuned: _Tuned | None = None
    reference: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def plan(request: Request, registry: Registry, trials: Sequence[Mapping[str, Any]] | None = None) -> Plan:
    """Every run the request takes, validated.

    Args:
        request: what the user asked for.
        registry: where plugins are found.
        trials: in place of a sweep's grid, a row for each of these: option (``strategy.lam``) to value.

    Raises:
        UsageError: a name, option or value is wrong, or the model cannot read the scenario's rows.
        PluginError: a plugin that is needed cannot be loaded.
    """
    seeds = parse_seeds(request.seeds)
    given = parse_assignments(request.set)
    device = choose_device(request.device)
    _check_choices(request)
    text, text_options = _text(request, given["text"], registry)
    asked_models = _models(request, request.model, registry) if request.model else []
    searches = {path: read_search(Path(path)) for path in request.tuned}
    left_out: list[str] = []
    runs: dict[str, PlannedRun] = {}
    boards = []
    for scenario_name in _distinct(request.scenario, "--scenario"):
        scenario = registry.load("scenario", scenario_name)
        proposed, _, revision = scenario.models.get(request.preset, scenario.model).partition("@")
        models = asked_models or _models(
            replace(request, revision=request.revision or revision or None), [proposed], registry
        )
        sweeps = _sweeps(request, scenario, given)
        if trials is not None:
            _refuse_sweeps(request, scenario, sweeps, trials)
        tuned = _tuned(request, scenario, searches)
        arms = _arms(request, scenario, given, sweeps, trials, tuned, registry, left_out)
        rows = []
        for located, arm in itertools.product(models, arms):
            row_runs: dict[str | None, dict[int, str]] = {}
            controls = scenario.controls if request.controls else {}
            for control, changes in [(None, {}), *controls.items()]:
                options = {**arm.scenario_options, **changes}
                if control is not None and options == arm.scenario_options:
                    continue  # a run is no control of itself
                for seed in seeds:
                    run = _run(
                        request,
                        arm,
                        options,
                        control,
                        located,
                        text,
                        text_options,
                        device,
                        seed,
                    )
                    if arm.tuned is not None and control is None:
                        check_recipe(arm.tuned.search, arm.tuned.path, run.recipe)
                    runs.setdefault(run.recipe.id, run)
                    primary = run.outline.primary
                    row_runs.setdefault(control, {})[seed] = run.recipe.id
            suffix = f" @ {located.model.name}" if len(models) > 1 else ""
            rows.append(
                PlannedRow(
                    label=arm.label + suffix,
                    facts={
                        "scenario": scenario.name,
                        "strategy": arm.strategy.name,
                        "model": located.model.name,
                        "preset": request.preset,
                        **arm.facts,
                    },
                    runs=row_runs.pop(None),
                    controls={str(name): ids for name, ids in row_runs.items()},
                    reference=None if arm.reference is None else arm.reference + suffix,
                    swept=arm.swept,
                    search=None if arm.tuned is None else arm.tuned.search,
                )
            )
        check_primary(scenario.name, primary, registry)
        boards.append(PlannedBoard(scenario.name, scenario.version, primary, tuple(rows)))
    return Plan(request, runs, tuple(boards), tuple(dict.fromkeys(left_out)), searches)


def _models(request: Request, names: Sequence[str], registry: Registry) -> list[LocatedModel]:
    models = [resolve(_model_choice(request, name), registry) for name in _distinct(names, "--model")]
    shown = [located.model.name for located in models]
    for name in shown:
        if shown.count(name) > 1:
            raise UsageError(f"two models would both be shown as {name!r} in the table; rename one folder")
    return models


def _sweeps(
    request: Request, scenario: ScenarioSpec, given: Mapping[Any, Mapping[str, Any]]
) -> tuple[Sweep, ...]:
    """The options swept, all combinations of which are run: the user's, else what the preset sweeps.

    What the preset sweeps and the user sets to one value is not swept.

    Raises:
        UsageError: an option is swept twice, or is one of the text.
    """
    if not request.sweep:
        proposed = map(parse_sweep, scenario.sweep.get(request.preset, ()))
        fixed = {**given, "optimizer": {**_overrides(request), **given["optimizer"]}}
        return tuple(sweep for sweep in proposed if sweep.name not in fixed[sweep.scope])
    sweeps = tuple(parse_sweep(text) for text in request.sweep)
    for sweep in sweeps:
        if sweep.scope == "text":
            raise UsageError("--sweep takes options of scenario, strategy or optimizer, not of text")
        if sum((other.scope, other.name) == (sweep.scope, sweep.name) for other in sweeps) > 1:
            raise UsageError(f"--sweep {sweep.scope}.{sweep.name} is given twice")
    return sweeps


def _refuse_sweeps(
    request: Request, scenario: ScenarioSpec, sweeps: Sequence[Sweep], trials: Sequence[Mapping[str, Any]]
) -> None:
    """Trials take the place of a sweep: what the preset sweeps must be one of their options or set to a value.

    Raises:
        UsageError: it is neither.
    """
    for sweep in sweeps:
        name = f"{sweep.scope}.{sweep.name}"
        if not all(name in trial for trial in trials):
            raise UsageError(
                f"preset {request.preset} of {scenario.name} sweeps {name}; set it to one value: --set {name}=VALUE"
            )


def _tuned(request: Request, scenario: ScenarioSpec, searches: Mapping[str, Search]) -> dict[str, _Tuned]:
    """The searches of one scenario by strategy.

    Raises:
        UsageError: one is of a scenario or strategy that is not in the bench, or two are of the same.
    """
    found: dict[str, _Tuned] = {}
    strategies = {*request.strategy, *([scenario.reference] if request.reference else [])}
    for path, search in searches.items():
        if search.scenario not in request.scenario:
            raise UsageError(
                f"--tuned {path}: made with scenario {search.scenario}, which is not in this bench"
            )
        if search.scenario != scenario.name:
            continue
        if search.strategy not in strategies:
            raise UsageError(f"--tuned {path}: tunes strategy {search.strategy}, which is not in this bench")
        if search.strategy in found:
            raise UsageError(
                f"--tuned {path}: {search.strategy} is tuned by {found[search.strategy].path} already; give one"
            )
        found[search.strategy] = _Tuned(path, search)
    return found


def _check_choices(request: Request) -> None:
    for option, value, choices in (
        ("--dtype", request.dtype, get_args(Dtype)),
        ("--attention", request.attention, get_args(Attention)),
        ("probing", request.probing, get_args(Probing)),
    ):
        if value not in choices:
            raise UsageError(unknown(option, value, choices))
    if request.threads < 1:
        raise UsageError(f"--threads {request.threads}: must be at least 1")


def _distinct(names: Sequence[str], option: str) -> Sequence[str]:
    if not names:
        raise UsageError(f"{option} is needed at least once")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{option} {name} is given twice")
    return names


def _model_choice(request: Request, name: str) -> ModelChoice:
    return ModelChoice(
        name=name,
        revision=request.revision,
        dtype=request.dtype,
        attention=request.attention,
        trust_remote_code=request.trust_remote_code,
    )


def _text(
    request: Request, given: Mapping[str, Any], registry: Registry
) -> tuple[PluginChoice, Mapping[str, Any]]:
    """The text source as it stands in recipes, and its options with the paths of this machine.

    A path or a dataset id in place of a source's name picks the source that reads it.
    """
    name, options = request.text, dict(given)
    if name not in {listed.name for listed in registry.names("text")}:
        if Path(name).exists() or Path(name).suffix in {".txt", ".jsonl", ".parquet"}:
            name, options = "file", {"path": request.text, **options}
        elif "/" in name:
            name, options = "dataset", {"id": request.text, **options}
    spec = registry.load("text", name)
    values = validate(spec.options, options, f"text {name}")
    return _choice(spec, values), values.model_dump(mode="json")


def _choice(spec: TextSpec | ScenarioSpec, values: Options) -> PluginChoice:
    """A plugin with its options as recipes keep them: of a path its last part, and a hash of what is there."""
    options = values.model_dump(mode="json")
    shown = {key: Path(value).name if key in spec.local else value for key, value in options.items()}
    content = spec.fingerprint(values) if spec.fingerprint is not None else ""
    return PluginChoice(name=spec.name, version=spec.version, options=shown, content=content)


def _arms(
    request: Request,
    scenario: ScenarioSpec,
    given: Mapping[Any, Mapping[str, Any]],
    sweeps: Sequence[Sweep],
    trials: Sequence[Mapping[str, Any]] | None,
    tuned: Mapping[str, _Tuned],
    registry: Registry,
    left_out: list[str],
) -> list[_Arm]:
    """Strategies by swept values, the reference first; one that cannot be loaded is left out and named."""
    if request.preset not in scenario.presets:
        raise UsageError(unknown(f"preset of {scenario.name}", request.preset, scenario.presets))
    names = list(_distinct(request.strategy, "--strategy"))
    if request.reference and scenario.reference not in names:
        names.insert(0, scenario.reference)
    names.sort(key=lambda name: name != scenario.reference)
    specs: dict[str, StrategySpec] = {}
    for name in names:
        try:
            specs[name] = registry.load("strategy", name)
        except PluginError as error:
            if len(request.strategy) == 1 or name == scenario.reference:
                raise
            left_out.append(str(error))
    proposed = scenario.optimizer.get(request.preset, scenario.optimizer["default"])
    arms: list[_Arm] = []
    for spec in specs.values():
        own = {key: value for key, value in given["strategy"].items() if owners(spec, key)}
        fixed = {"scenario": given["scenario"], "strategy": own}
        fixed["optimizer"] = {**_overrides(request), **given["optimizer"]}
        for swept in _grid(spec, sweeps) if trials is None else trials:
            chosen = _chosen(tuned.get(spec.name), scenario, spec, request, fixed, swept)
            values = {scope: dict(options) for scope, options in fixed.items()}
            values["scenario"] = {**scenario.presets[request.preset], **values["scenario"]}
            for option, value in (*swept.items(), *chosen.items()):
                scope, _, name = option.partition(".")
                values[scope][name] = value
            values["optimizer"] = _optimizer(proposed, values["optimizer"], scenario.rates)
            values["strategy"] = place(spec, values["strategy"])
            arms.append(_arm(scenario, spec, values, swept, own, tuned.get(spec.name)))
    for scope, unused in _unused(given, sweeps, specs):
        raise UsageError(unknown(f"option of {scope}", unused, _options_of(specs.values())))
    _refer(arms, scenario.reference)
    return arms


def _grid(spec: StrategySpec, sweeps: Sequence[Sweep]) -> list[dict[str, Any]]:
    """All combinations of swept values; a strategy without a swept option has one row for all of its values."""
    applicable = [s for s in sweeps if s.scope != "strategy" or owners(spec, s.name)]
    names = [f"{sweep.scope}.{sweep.name}" for sweep in applicable]
    return [
        dict(zip(names, point, strict=True)) for point in itertools.product(*(s.values for s in applicable))
    ]


def _chosen(
    tuned: _Tuned | None,
    scenario: ScenarioSpec,
    spec: StrategySpec,
    request: Request,
    fixed: Mapping[str, Mapping[str, Any]],
    swept: Mapping[str, Any],
) -> Mapping[str, Any]:
    """The values that the strategy's search has chosen; none where it was not tuned.

    Raises:
        UsageError: the search was made for something else, or the user gives one of the values as well.
    """
    if tuned is None:
        return {}
    check_plan(
        tuned.search,
        tuned.path,
        version=scenario.version,
        preset=request.preset,
        strategy_version=spec.version,
        seeds=parse_seeds(request.seeds),
    )
    for option in tuned.search.chosen:
        scope, _, name = option.partition(".")
        if name in fixed[scope] or option in swept:
            raise UsageError(
                f"--tuned {tuned.path}: chooses {option} for {spec.name}, which is set or swept as well; leave out one"
            )
    return tuned.search.chosen


def _refer(arms: Sequence[_Arm], reference: str) -> None:
    """Say which row each row is compared with: the reference strategy at the same swept value.

    A sweep of nothing but the reference strategy is compared with its first value.
    """
    own = [arm for arm in arms if arm.strategy.name == reference]
    for arm in arms if own else ():
        same = {key: value for key, value in arm.swept.items() if not key.startswith("strategy.")}
        alike = [other for other in own if other.swept == same] if len(own) < len(arms) else []
        arm.reference = (alike or own)[0].label


def _unused(
    given: Mapping[Any, Mapping[str, Any]], sweeps: Sequence[Sweep], specs: Mapping[str, StrategySpec]
) -> list[tuple[str, str]]:
    """Strategy options that no strategy of the bench has."""
    asked = set(given["strategy"]) | {sweep.name for sweep in sweeps if sweep.scope == "strategy"}
    unused = [name for name in sorted(asked) if not any(owners(spec, name) for spec in specs.values())]
    return [(f"strategy {' or '.join(specs)}", name) for name in unused]


def _options_of(specs: Iterable[StrategySpec]) -> set[str]:
    """Names of the options of some strategies and of their parts."""
    return {key for spec in specs for part in spec.parts or (spec,) for key in part.options.model_fields}


def _overrides(request: Request) -> dict[str, Any]:
    """Optimizer options given by their own flags."""
    overrides: dict[str, Any] = {}
    if request.optimizer is not None:
        overrides["name"] = request.optimizer
    if request.lr is not None:
        overrides["lr"] = request.lr
    return overrides


def _optimizer(
    proposed: Mapping[str, Any], asked: Mapping[str, Any], rates: Mapping[str, float]
) -> dict[str, Any]:
    """What the preset proposes with what was asked for on top; another optimizer takes the scenario's rate for it.

    Raises:
        UsageError: another kind of optimizer without a rate: SGD needs far larger ones than Adam.
    """
    name = asked.get("name", proposed["name"])
    if name != proposed["name"] and "lr" not in asked and name in rates:
        asked = {**asked, "lr": rates[name]}
    if (name == "sgd") != (proposed["name"] == "sgd") and "lr" not in asked:
        raise UsageError(
            f"optimizer {name} needs a rate of its own: the preset's {proposed['lr']:g} is for {proposed['name']}; "
            "give --lr"
        )
    return {**proposed, **asked}


def _label(name: str, changes: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key.removeprefix('strategy.')}={value}" for key, value in changes.items())])


def _arm(
    scenario: ScenarioSpec,
    strategy: StrategySpec,
    values: Mapping[str, Mapping[str, Any]],
    swept: Mapping[str, Any],
    given: Mapping[str, Any],
    tuned: _Tuned | None,
) -> _Arm:
    scenario_options = validate(scenario.options, values["scenario"], f"scenario {scenario.name}")
    own_options = strategy_options(strategy, values["strategy"])
    optimizer = validate(OptimizerSettings, values["optimizer"], "optimizer")
    if strategy.check is not None:
        strategy.check(own_options, optimizer)
    title = _label(strategy.name, {**given, **swept})
    return _Arm(
        scenario=scenario,
        scenario_options=scenario_options.model_dump(mode="json"),
        strategy=strategy,
        strategy_options=own_options.model_dump(mode="json"),
        optimizer=optimizer.model_dump(mode="json"),
        swept=swept,
        label=title if tuned is None else f"{title} (tuned)",
        title=title,
        tuned=tuned,
        facts={
            "options": own_options.model_dump(mode="json"),
            "optimizer": f"{optimizer.name} {optimizer.lr:g}",
            **({} if tuned is None else {"search": tuned.search.short()}),
        },
    )


def _run(
    request: Request,
    arm: _Arm,
    scenario_options: Mapping[str, Any],
    control: str | None,
    located: LocatedModel,
    text: PluginChoice,
    text_options: Mapping[str, Any],
    device: str,
    seed: int,
) -> PlannedRun:
    model = located.model
    options = validate(arm.scenario.options, scenario_options, f"scenario {arm.scenario.name}")
    outline = arm.scenario.outline(options)
    if outline.branches and arm.strategy.transform_stream is not None:
        raise UsageError(
            f"strategy {arm.strategy.name} mixes the whole stream, scenario {arm.scenario.name} returns to snapshots "
            "within it: the two cannot go together"
        )
    if outline.longest_row > model.max_positions:
        raise UsageError(
            f"scenario {arm.scenario.name} needs rows of {outline.longest_row} tokens, model {model.name} reads "
            f"{model.max_positions}; shorten the rows (see `seqmem describe {arm.scenario.name}`) or take another model"
        )
    recipe = Recipe(
        scenario=_choice(arm.scenario, options),
        strategy=PluginChoice(
            name=arm.strategy.name, version=arm.strategy.version, options=dict(arm.strategy_options)
        ),
        model=ModelIdentity(
            name=model.name,
            revision=model.revision,
            fingerprint=model.fingerprint,
            parameters=model.parameters,
            max_positions=model.max_positions,
            dtype=request.dtype,
            attention=request.attention,
            trust_remote_code=request.trust_remote_code,
        ),
        text=text,
        optimizer=OptimizerSettings(**arm.optimizer),
        seed=seed,
        device=device,
        threads=request.threads,
        probing=request.probing,
    )
    check_precision(recipe)
    memory_bytes, extra_bytes = _memory(arm.strategy, arm.strategy_options, recipe, located, outline)
    names = [
        arm.scenario.name,
        arm.title,
        model.name,
        f"s{seed}",
        *([control] if control else []),
    ]
    return PlannedRun(
        recipe=recipe,
        name=" ".join(names),
        scenario_options=options.model_dump(mode="json"),
        text_options=text_options,
        model_folder=located.folder,
        outline=outline,
        parameter_bytes=DTYPE_BYTES[request.dtype] * model.parameters,
        memory_bytes=memory_bytes,
        extra_bytes=extra_bytes,
    )


def _memory(
    strategy: StrategySpec,
    values: Mapping[str, Any],
    recipe: Recipe,
    located: LocatedModel,
    outline: Outline,
) -> tuple[int, int]:
    """Bytes of the whole learner without activations, and what of them a plain run would not need.

    Raises:
        UsageError: the strategy cannot work with this model.
    """
    options = strategy_options(strategy, values)
    plain = Footprint(
        shapes=located.shapes,
        value_bytes=DTYPE_BYTES[recipe.model.dtype],
        moments=recipe.optimizer.moments,
        config=located.config,
        outline=outline,
    )
    if strategy.check_model is not None:
        strategy.check_model(options, plain)
    resized = strategy.resize(options, plain) if strategy.resize is not None else plain
    added = strategy.extra_bytes(options, resized) if strategy.extra_bytes is not None else 0
    if overrides(strategy.build(options), "transform_update"):
        added += resized.trained_bytes
    kept = resized.weight_bytes + resized.context_bytes + added
    snapshot = kept if outline.branches else 0
    return kept + resized.trained_bytes + snapshot, kept - plain.weight_bytes - plain.context_bytes
