"""Third step of planning: strategies by swept values, each with all of its options."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seqmem.core.data import Options
from seqmem.core.errors import UsageError, unknown
from seqmem.core.options import Sweep, parse_sweep, validate
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.parse import Parsed
from seqmem.planning.resolve import Resolved, Tuned
from seqmem.planning.search import check_plan
from seqmem.plugin.composition import owners, place, strategy_options
from seqmem.plugin.specs import ScenarioSpec, StrategySpec

Trials = Sequence[Mapping[str, Any]]
"""In place of the grid of a sweep: for each row option, as in ``strategy.lam``, to value."""


@dataclass(frozen=True)
class Arm:
    """A strategy with the options of a row, whatever the model.

    Attributes:
        swept: option to the value swept in this row.
        label: of the row.
        title: the label less what does not change its runs.
        reference: label of the row it is compared with.
    """

    strategy: StrategySpec
    scenario_options: Mapping[str, Any]
    strategy_options: Any
    optimizer: OptimizerSettings
    swept: Mapping[str, Any]
    label: str
    title: str
    tuned: Tuned | None
    reference: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Return what a table says of the row beside scenario, strategy, model and preset."""
        course = "" if self.optimizer.schedule == "constant" else f" {self.optimizer.schedule}"
        return {
            "options": self.strategy_options.model_dump(mode="json"),
            "optimizer": f"{self.optimizer.name} {self.optimizer.lr:g}" + course,
            **({} if self.tuned is None else {"search": self.tuned.search.short()}),
        }


def expand(resolved: Resolved, trials: Trials | None) -> list[Arm]:
    """Make an arm for each strategy and each combination of swept values, or for each trial.

    Raises:
        UsageError: an option or value is wrong, or is given in two ways.
    """
    parsed = resolved.parsed
    sweeps = _sweeps(parsed, resolved.scenario)
    if trials is not None:
        _refuse_sweeps(parsed.request.preset, resolved.scenario, sweeps, trials)
    arms = [
        _arm(resolved, strategy, swept)
        for strategy in resolved.strategies
        for swept in (_grid(strategy, sweeps) if trials is None else trials)
    ]
    asked = set(parsed.options["strategy"]) | {sweep.name for sweep in sweeps if sweep.scope == "strategy"}
    refuse_unused(sorted(asked), resolved.strategies)
    return _with_references(arms, resolved.scenario.reference)


def refuse_unused(asked: Iterable[str], strategies: Sequence[StrategySpec]) -> None:
    """Refuse options of strategies that none of the strategies has.

    Raises:
        UsageError: there is one.
    """
    for name in asked:
        if not any(owners(spec, name) for spec in strategies):
            known = {key for s in strategies for part in s.parts or (s,) for key in part.options.model_fields}
            raise UsageError(
                unknown(f"option of strategy {' or '.join(s.name for s in strategies)}", name, known)
            )


def _sweeps(parsed: Parsed, scenario: ScenarioSpec) -> tuple[Sweep, ...]:
    """Return the user's sweeps, else the preset's but for options that the user sets to one value."""
    if parsed.sweeps:
        return parsed.sweeps
    proposed = map(parse_sweep, scenario.sweep.get(parsed.request.preset, ()))
    return tuple(sweep for sweep in proposed if sweep.name not in parsed.options[sweep.scope])


def _refuse_sweeps(preset: str, scenario: ScenarioSpec, sweeps: Sequence[Sweep], trials: Trials) -> None:
    """Refuse trials that leave open what the preset sweeps.

    Raises:
        UsageError: an option that the preset sweeps is neither in every trial nor set to a value.
    """
    for sweep in sweeps:
        name = f"{sweep.scope}.{sweep.name}"
        if not all(name in trial for trial in trials):
            raise UsageError(
                f"preset {preset} of {scenario.name} sweeps {name}; set it to one value: --set {name}=VALUE"
            )


def _grid(spec: StrategySpec, sweeps: Sequence[Sweep]) -> list[dict[str, Any]]:
    """Return all combinations of swept values; options of other strategies are left out."""
    applicable = [s for s in sweeps if s.scope != "strategy" or owners(spec, s.name)]
    names = [f"{sweep.scope}.{sweep.name}" for sweep in applicable]
    return [
        dict(zip(names, point, strict=True)) for point in itertools.product(*(s.values for s in applicable))
    ]


def _arm(resolved: Resolved, strategy: StrategySpec, swept: Mapping[str, Any]) -> Arm:
    parsed, scenario, tuned = resolved.parsed, resolved.scenario, resolved.tuned.get(strategy.name)
    preset = resolved.request.preset
    own = {key: value for key, value in parsed.options["strategy"].items() if owners(strategy, key)}
    fixed = {**parsed.options, "strategy": own}
    chosen = {} if tuned is None else _chosen(resolved, strategy, tuned, fixed, swept)
    values: dict[str, dict[str, Any]] = {scope: dict(options) for scope, options in fixed.items()}
    values["scenario"] = {**scenario.presets[preset], **values["scenario"]}
    for option, value in (*swept.items(), *chosen.items()):
        scope, _, name = option.partition(".")
        values[scope][name] = value
    proposed = scenario.optimizer.get(preset, scenario.optimizer["default"])
    scenario_options: Options = validate(scenario.options, values["scenario"], f"scenario {scenario.name}")
    options = strategy_options(strategy, place(strategy, values["strategy"]))
    settings = _optimizer(proposed, values["optimizer"], scenario.rates)
    optimizer = validate(OptimizerSettings, settings, "optimizer")
    if strategy.check is not None:
        strategy.check(options, optimizer)
    title = " ".join(
        [strategy.name, *(f"{key.removeprefix('strategy.')}={v}" for key, v in {**own, **swept}.items())]
    )
    return Arm(
        strategy=strategy,
        scenario_options=scenario_options.model_dump(mode="json"),
        strategy_options=options,
        optimizer=optimizer,
        swept=swept,
        label=title if tuned is None else f"{title} (tuned)",
        title=title,
        tuned=tuned,
    )


def _chosen(
    resolved: Resolved,
    strategy: StrategySpec,
    tuned: Tuned,
    fixed: Mapping[Any, Mapping[str, Any]],
    swept: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Return the values that the strategy's search has chosen.

    Raises:
        UsageError: the search was made for something else, or the user gives one of the values as well.
    """
    check_plan(
        tuned.search,
        tuned.path,
        version=resolved.scenario.version,
        preset=resolved.request.preset,
        strategy_version=strategy.version,
        seeds=resolved.parsed.seeds,
    )
    for option in tuned.search.chosen:
        scope, _, name = option.partition(".")
        if name in fixed[scope] or option in swept:
            raise UsageError(
                f"--tuned {tuned.path}: chooses {option} for {strategy.name}, which is set or swept as well; "
                "leave out one"
            )
    return tuned.search.chosen


def _optimizer(
    proposed: Mapping[str, Any], asked: Mapping[str, Any], rates: Mapping[str, float]
) -> dict[str, Any]:
    """Return the preset's settings with the user's on top; another optimizer takes the scenario's rate for it.

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


def _with_references(arms: Sequence[Arm], reference: str) -> list[Arm]:
    """Compare each arm with the reference strategy at the same swept values.

    A sweep of nothing but the reference strategy is compared with its first value.
    """
    own = [arm for arm in arms if arm.strategy.name == reference]
    if not own:
        return list(arms)
    compared = []
    for arm in arms:
        same = {key: value for key, value in arm.swept.items() if not key.startswith("strategy.")}
        alike = [other for other in own if other.swept == same] if len(own) < len(arms) else []
        compared.append(replace(arm, reference=(alike or own)[0].label))
    return compared
