"""The judge of a single run: which row of a board it belongs to, and whether it keeps to the board's rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from seqmem.board.mismatch import Fault
from seqmem.board.rules import Rules
from seqmem.core.errors import SeqmemError, UsageError, unknown
from seqmem.core.options import validate
from seqmem.core.recipe import OptimizerSettings, Recipe
from seqmem.planning.search import Search, check_recipe
from seqmem.plugin.composition import strategy_options
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import ScenarioSpec
from seqmem.record.reader import RunRecord
from seqmem.scoring.tables import load_metrics


class Judge:
    """A judge of runs: their row and control and what of them breaks a rule, by the plugins that are installed here."""

    def __init__(self, rules: Rules, registry: Registry) -> None:
        """Judge by these rules. Plugins are loaded when first asked about.

        Raises:
            UsageError, PluginError: the scenario is not here, or has no such preset or control.
        """
        self.rules = rules
        self.registry = registry
        self.scenario: ScenarioSpec = registry.load("scenario", rules.scenario)
        if rules.preset not in self.scenario.presets:
            raise UsageError(unknown(f"preset of {rules.scenario}", rules.preset, self.scenario.presets))
        for name in rules.controls:
            if name not in self.scenario.all_controls:
                raise UsageError(unknown(f"control of {rules.scenario}", name, self.scenario.all_controls))
        self._loaded_defaults: dict[str, Mapping[str, Any]] = {}

    @cached_property
    def arms(self) -> Mapping[str | None, Mapping[str, Any]]:
        """Return scenario options by control; None is the run itself."""
        preset = self.scenario.presets[self.rules.preset]
        changed: dict[str | None, Mapping[str, Any]] = {None: {}}
        changed |= {name: self.scenario.all_controls[name] for name in self.rules.controls}
        return {name: self._options({**preset, **changes}) for name, changes in changed.items()}

    @cached_property
    def optimizer(self) -> Mapping[str, Any]:
        """Return the optimizer settings of the preset."""
        proposed = self.scenario.optimizer.get(self.rules.preset, self.scenario.optimizer["default"])
        return validate(OptimizerSettings, proposed, "optimizer").model_dump(mode="json")

    def _options(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return all options of the scenario, with defaults for those that these values lack."""
        options = validate(self.scenario.options, values, f"scenario {self.scenario.name}")
        stated = options.model_dump(mode="json")
        return {
            key: Path(value).name if key in self.scenario.local else value for key, value in stated.items()
        }

    def control_of(self, recipe: Recipe) -> str | None:
        """Return the control that a run is; None for a run itself.

        Raises:
            UsageError: neither the preset nor one of the controls has its options; names those of the preset.
        """
        options = self._options(recipe.scenario.options)
        for name, arm in self.arms.items():
            if options == arm:
                return name
        differing = [
            f"{key} = {json.dumps(value)} instead of {json.dumps(self.arms[None].get(key))}"
            for key, value in options.items()
            if value != self.arms[None].get(key)
        ]
        raise UsageError(", ".join(differing))

    def without_control(self, recipe: Recipe) -> Recipe:
        """Return the recipe of the run that a control belongs to, or the run's own."""
        options = dict(self.arms[None])
        return recipe.model_copy(update={"scenario": recipe.scenario.model_copy(update={"options": options})})

    def changes(self, recipe: Recipe) -> Mapping[str, Any]:
        """Return the options of strategy and optimizer that are not the defaults, as typed after ``--set``."""
        defaults = self._defaults(recipe.strategy.name)
        kept = recipe.optimizer.model_dump(mode="json")
        return {
            **{f"strategy.{n}": v for n, v in _flat(recipe.strategy.options) if v != defaults.get(n, ...)},
            **{f"optimizer.{n}": v for n, v in kept.items() if v != self.optimizer[n]},
        }

    def label(self, recipe: Recipe, search: Search | None) -> str:
        """Return the label of the run's row: its strategy and what differs from the defaults."""
        chosen = {} if search is None else search.chosen
        changes = [
            f"{option.partition('.')[2]}={value if isinstance(value, str) else json.dumps(value)}"
            for option, value in self.changes(recipe).items()
            if option not in chosen
        ]
        model = f" @ {recipe.model.name}" if len(self.rules.models) > 1 else ""
        tuned = " (tuned)" if chosen and self.rules.hyperparameters != "equal_search" else ""
        return " ".join([recipe.strategy.name, *changes]) + tuned + model

    def _defaults(self, strategy: str) -> Mapping[str, Any]:
        """Return default options by dotted name; none where the strategy is not installed."""
        if strategy not in self._loaded_defaults:
            try:
                spec = self.registry.load("strategy", strategy)
                self._loaded_defaults[strategy] = dict(
                    _flat(strategy_options(spec, {}).model_dump(mode="json"))
                )
            except SeqmemError:
                self._loaded_defaults[strategy] = {}
        return self._loaded_defaults[strategy]

    @cached_property
    def relations(self) -> Mapping[str | None, str]:
        """Return the probe form that measures read, by control; None is the run itself."""
        made = {
            name: validate(self.scenario.options, arm, f"scenario {self.scenario.name}")
            for name, arm in self.arms.items()
        }
        return {name: self.scenario.outline(options).primary_relation for name, options in made.items()}

    @cached_property
    def directions(self) -> Mapping[str, str]:
        """Return the better direction by measure of the installed metrics."""
        metrics, _ = load_metrics(self.registry)
        return {measure.name: measure.direction for metric in metrics for measure in metric.measures}

    def transforms_stream(self, strategy: str) -> bool:
        """Return whether the strategy declares another stream than the scenario's."""
        try:
            return self.registry.load("strategy", strategy).transform_stream is not None
        except SeqmemError:
            return False

    def faults(
        self, record: RunRecord, recipe: Recipe, search: Search | None, contamination: str = ""
    ) -> Iterator[Fault]:
        """Yield what breaks the rules.

        `contamination` is the record's, passed in because all its answers must be read for it.
        """
        rules = self.rules
        if record.status != "finished":
            yield "status", "finished", record.status
        if accepted := record.info.get("accepted_audit"):
            yield "audit before the first step", "passed", json.dumps(accepted)
        if recipe.id != record.id:
            yield "run id, which is the hash of its recipe", recipe.id, record.id
        if not record.folder.name.endswith(f"-{recipe.id}"):
            yield "end of the folder's name", f"-{recipe.id}", record.folder.name
        yield from self._plugin_faults(recipe)
        try:
            self.control_of(recipe)
        except UsageError as error:
            yield "scenario options", f"those of preset {rules.preset} or of a control", str(error)
        expected = rules.models.get(recipe.model.name)
        if expected is None:
            yield "model", " or ".join(sorted(rules.models)), recipe.model.name
        elif expected != recipe.model.fingerprint:
            yield f"fingerprint of model {recipe.model.name}", expected, recipe.model.fingerprint
        for what, allowed, found in (
            ("dtype", rules.dtype, recipe.model.dtype),
            ("probing", rules.probing, recipe.probing),
            ("text", rules.text, recipe.text.name),
            ("content of the text", rules.text_content or recipe.text.content, recipe.text.content),
        ):
            if found != allowed:
                yield what, allowed, found
        if recipe.seed not in rules.scoring:
            which = "a tuning seed" if recipe.seed in rules.tuning else "not a seed of the board"
            yield "seed", f"one of {rules.seeds}", f"{recipe.seed}, {which}"
        yield from self._choice_faults(recipe, search)
        if contamination:
            yield "controls", "never trained", contamination

    def _plugin_faults(self, recipe: Recipe) -> Iterator[Fault]:
        scenario, strategy = recipe.scenario, recipe.strategy
        if scenario.name != self.rules.scenario:
            yield "scenario", self.rules.scenario, scenario.name
        if scenario.version != self.rules.version:
            yield "scenario version", self.rules.version, scenario.version
        try:
            spec = self.registry.load("strategy", strategy.name)
            if spec.version != strategy.version:
                yield f"version of strategy {strategy.name}", f"{spec.version} as installed", strategy.version
            strategy_options(spec, strategy.options)
        except SeqmemError as error:
            yield f"strategy {strategy.name}", "installed and with these options", str(error)

    def _choice_faults(self, recipe: Recipe, search: Search | None) -> Iterator[Fault]:
        """Yield what breaks the rules about the choice of options and optimizer."""
        rules, kept = self.rules, recipe.optimizer.model_dump(mode="json")
        if kept != self.optimizer and (rules.optimizer == "fixed" or search is None):
            names = kept.keys() | self.optimizer.keys()  # some are stated only where they are not the default
            differing = {n: kept.get(n) for n in sorted(names) if kept.get(n) != self.optimizer.get(n)}
            allowed = {name: self.optimizer.get(name) for name in differing}
            how = "" if rules.optimizer == "fixed" else ", or as a search chose"
            yield "optimizer", f"{json.dumps(allowed)} as the preset has it{how}", json.dumps(differing)
        defaults = self._defaults(recipe.strategy.name)
        changed = {n: v for n, v in _flat(recipe.strategy.options) if v != defaults.get(n, v)}
        if search is None and changed:
            how = "" if rules.hyperparameters == "defaults" else ", or options chosen by a search"
            yield "strategy options", f"the defaults{how}", json.dumps(changed)
        if search is None and rules.hyperparameters == "equal_search":
            if not self.transforms_stream(recipe.strategy.name):
                yield "search", f"one of {rules.budget} runs, as every row has", "none"
        if search is not None:
            yield from self._search_faults(recipe, search)

    def _search_faults(self, recipe: Recipe, search: Search) -> Iterator[Fault]:
        rules = self.rules
        if rules.hyperparameters == "defaults":
            yield "hyper-parameters", "the defaults: this board allows no search", "a search"
        if search.direction != self.directions.get(search.measure):
            measure = f"{search.measure}, {search.direction} is better"
            yield "measure of the search", "one that is installed, with its direction", measure
        strange = sorted(set(search.seeds) - set(rules.tuning))
        if strange:
            yield "seeds of the search", f"tuning seeds {rules.tuning_seeds or 'none'}", str(strange)
        if search.runs > rules.budget:
            yield "runs of the search", f"at most {rules.budget}", str(search.runs)
        if rules.hyperparameters == "equal_search" and search.budget != rules.budget:
            yield "budget of the search", f"{rules.budget} runs, as every row has", str(search.budget)
        if (search.scenario, search.version, search.preset) != (rules.scenario, rules.version, rules.preset):
            found = f"{search.scenario} {search.version} {search.preset}"
            yield "what was searched on", f"{rules.scenario} {rules.version} {rules.preset}", found
        parts = {
            "strategy": recipe.strategy.options,
            "optimizer": recipe.optimizer.model_dump(mode="json"),
        }
        for option, value in search.chosen.items():
            scope, _, name = option.partition(".")
            has = [v for n, v in _flat(parts[scope]) if n == name or n.endswith(f".{name}")]
            if value not in has:
                yield (
                    f"{option}, as the search has chosen it",
                    json.dumps(value),
                    json.dumps(has[0] if has else None),
                )
        try:
            check_recipe(search, "the search of this row", self.without_control(recipe))
        except UsageError as error:
            yield "what the search has chosen", "the options of this run", str(error)


def _flat(values: Mapping[str, Any], front: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested options by dotted name, as they are typed."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{front}{name}.")
        else:
            yield f"{front}{name}", value
