"""What a standing board holds fixed (``board.toml``), and whether a run keeps to it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from seqmem.core.data import Options
from seqmem.core.errors import SeqmemError, UsageError, unknown
from seqmem.core.options import parse_seeds, validate
from seqmem.core.recipe import OptimizerSettings, Recipe
from seqmem.planning.search import FIRST_TUNING_SEED, Search, check_recipe
from seqmem.plugin.composition import strategy_options
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import ScenarioSpec
from seqmem.record.reader import RunRecord
from seqmem.scoring.tables import load_metrics

RULES = "board.toml"


class Rules(Options):
    """The frozen rules of one board; every field is a key of ``board.toml``.

    Attributes:
        question: what the board answers, in one sentence.
        primary: measure rows are ranked by.
        margin: smallest difference of the primary measure worth calling one, in its unit; by default the measure's.
        models: name to fingerprint of the models a row may start from.
        seeds: scoring seeds, as typed after ``--seeds``.
        tuning_seeds: seeds on which hyper-parameters may be searched.
        least_seeds: seeds a row needs at the least; by default all scoring seeds.
        controls: controls that every run of every row needs beside it.
        text: source of background text, with the hash of its content.
        optimizer: ``fixed``: as the preset has it; ``free``: a search may choose it as well.
        hyperparameters: ``defaults``: none may be changed; ``searched``: by a search on tuning seeds.
        budget: runs a search may take.
        eligibility: who may have a row, in words.
    """

    format: Literal[1]
    question: str = Field(min_length=1)
    scenario: str
    version: str
    preset: str = "default"
    primary: str
    margin: float | None = Field(None, gt=0)
    reference: str
    models: dict[str, str] = Field(min_length=1)
    seeds: str
    tuning_seeds: str = ""
    least_seeds: int = Field(0, ge=0)
    controls: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    probing: Literal["schedule", "every", "none"] = "schedule"
    text: str = "world"
    text_content: str = ""
    optimizer: Literal["fixed", "free"] = "fixed"
    hyperparameters: Literal["defaults", "searched"] = "defaults"
    budget: int = Field(0, ge=0)
    eligibility: str = Field(min_length=1)

    @field_validator("seeds", "tuning_seeds")
    @classmethod
    def _are_seeds(cls, text: str) -> str:
        try:
            parse_seeds(text) if text else ()
        except UsageError as error:
            raise ValueError(str(error)) from error
        return text

    @model_validator(mode="after")
    def _agree(self) -> Rules:
        both = sorted(set(self.scoring) & set(self.tuning))
        if both:
            raise ValueError(f"seed {both[0]} is a scoring seed and a tuning seed; the two must not meet")
        if self.least > len(self.scoring):
            raise ValueError(
                f"least_seeds = {self.least_seeds}, but there are {len(self.scoring)} scoring seeds"
            )
        if self.hyperparameters == "searched" and not (self.tuning and self.budget):
            raise ValueError('hyperparameters = "searched" needs tuning_seeds and a budget of at least 1')
        return self

    @property
    def scoring(self) -> tuple[int, ...]:
        """Scoring seeds."""
        return parse_seeds(self.seeds)

    @property
    def tuning(self) -> tuple[int, ...]:
        """Seeds hyper-parameters may be searched on."""
        return parse_seeds(self.tuning_seeds) if self.tuning_seeds else ()

    @property
    def least(self) -> int:
        """Seeds a row needs at the least."""
        return self.least_seeds or len(self.scoring)

    @property
    def name(self) -> str:
        """Name of the board's folder."""
        return f"{self.scenario}-v{self.version}"


def read_rules(folder: Path) -> Rules:
    """The rules of the board in a folder.

    Raises:
        UsageError: there are none, or they are wrong; one line that says what and what is allowed.
    """
    path = folder / RULES
    try:
        stated = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no standing board there ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: no TOML ({error})") from error
    strange = sorted(stated.keys() - Rules.model_fields.keys())
    if strange:
        raise UsageError(f"{path}: {unknown('key', strange[0], Rules.model_fields)}")
    try:
        return Rules.model_validate(stated)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path}: {f'{where}: ' if where else ''}{said}") from error


@dataclass(frozen=True)
class Mismatch:
    """One thing that is not as it must be.

    Attributes:
        where: file or folder, relative to the board.
        row, seed: of the run concerned, where it is about one.
    """

    where: str
    what: str
    expected: str
    found: str
    row: str = ""
    seed: int | None = None

    @property
    def line(self) -> str:
        """All of it on one line."""
        run = ", ".join(
            [f"row {self.row}"] * bool(self.row) + [f"seed {self.seed}"] * (self.seed is not None)
        )
        parts = [self.where, run, f"{self.what}: expected {self.expected}, found {self.found}"]
        return ": ".join(part for part in parts if part)


class Judge:
    """Tells which row and control a run is, and whether it keeps to the rules, by what is installed here."""

    def __init__(self, rules: Rules, registry: Registry) -> None:
        """Judge by these rules; plugins are loaded when first asked about.

        Raises:
            UsageError, PluginError: the scenario is not here, or has no such preset or control.
        """
        self.rules = rules
        self.registry = registry
        self.scenario: ScenarioSpec = registry.load("scenario", rules.scenario)
        if rules.preset not in self.scenario.presets:
            raise UsageError(unknown(f"preset of {rules.scenario}", rules.preset, self.scenario.presets))
        for name in rules.controls:
            if name not in self.scenario.controls:
                raise UsageError(unknown(f"control of {rules.scenario}", name, self.scenario.controls))
        self._own: dict[str, Any] = {}

    @cached_property
    def arms(self) -> Mapping[str | None, Mapping[str, Any]]:
        """Scenario options by control; None is the run itself."""
        preset = self.scenario.presets[self.rules.preset]
        changed: dict[str | None, Mapping[str, Any]] = {None: {}}
        changed |= {name: self.scenario.controls[name] for name in self.rules.controls}
        return {name: self._options({**preset, **changes}) for name, changes in changed.items()}

    @cached_property
    def optimizer(self) -> Mapping[str, Any]:
        """Optimizer settings as the preset has them."""
        proposed = self.scenario.optimizer.get(self.rules.preset, self.scenario.optimizer["default"])
        return validate(OptimizerSettings, proposed, "optimizer").model_dump(mode="json")

    def _options(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """All options of the scenario; those that came later than the values have their defaults."""
        options = validate(self.scenario.options, values, f"scenario {self.scenario.name}")
        stated = options.model_dump(mode="json")
        return {
            key: Path(value).name if key in self.scenario.local else value for key, value in stated.items()
        }

    def control_of(self, recipe: Recipe) -> str | None:
        """Which control the run is; None where it is none.

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
        """The recipe of the run that a control belongs to; that of a run is its own."""
        options = dict(self.arms[None])
        return recipe.model_copy(update={"scenario": recipe.scenario.model_copy(update={"options": options})})

    def changes(self, recipe: Recipe) -> Mapping[str, Any]:
        """Options of strategy and optimizer that are not the defaults, as they are typed after ``--set``."""
        defaults = self._defaults(recipe.strategy.name)
        kept = recipe.optimizer.model_dump(mode="json")
        return {
            **{f"strategy.{n}": v for n, v in _flat(recipe.strategy.options) if v != defaults.get(n, ...)},
            **{f"optimizer.{n}": v for n, v in kept.items() if v != self.optimizer[n]},
        }

    def label(self, recipe: Recipe, search: Search | None) -> str:
        """What the table calls the run's row: its strategy and what differs from the defaults."""
        chosen = {} if search is None else search.chosen
        changes = [
            f"{option.partition('.')[2]}={value if isinstance(value, str) else json.dumps(value)}"
            for option, value in self.changes(recipe).items()
            if option not in chosen
        ]
        model = f" @ {recipe.model.name}" if len(self.rules.models) > 1 else ""
        return " ".join([recipe.strategy.name, *changes]) + (" (tuned)" if chosen else "") + model

    def _defaults(self, strategy: str) -> Mapping[str, Any]:
        """Default options by dotted name; none where the strategy is not here."""
        if strategy not in self._own:
            try:
                spec = self.registry.load("strategy", strategy)
                self._own[strategy] = dict(_flat(strategy_options(spec, {}).model_dump(mode="json")))
            except SeqmemError:
                self._own[strategy] = {}
        found: Mapping[str, Any] = self._own[strategy]
        return found

    @cached_property
    def relations(self) -> Mapping[str | None, str]:
        """The rung of the distance ladder that measures read, by control; None is the run itself."""
        made = {
            name: validate(self.scenario.options, arm, f"scenario {self.scenario.name}")
            for name, arm in self.arms.items()
        }
        return {name: self.scenario.outline(options).primary_relation for name, options in made.items()}

    @cached_property
    def directions(self) -> Mapping[str, str]:
        """Which way is better, by measure of the installed metrics."""
        metrics, _ = load_metrics(self.registry)
        return {measure.name: measure.direction for metric in metrics for measure in metric.measures}

    def transforms_stream(self, strategy: str) -> bool:
        """Whether the strategy says that it trains on another stream than the scenario's."""
        try:
            return self.registry.load("strategy", strategy).transform_stream is not None
        except SeqmemError:
            return False

    def faults(
        self, record: RunRecord, recipe: Recipe, search: Search | None, contamination: str = ""
    ) -> Iterator[tuple[str, str, str]]:
        """What breaks the rules: what, expected, found.

        `contamination` is the record's, handed in because all its answers must be read for it.
        """
        rules = self.rules
        if record.status != "finished":
            yield "status", "finished", record.status
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
            which = "a tuning seed" if recipe.seed in rules.tuning else "no seed of the board"
            yield "seed", f"one of {rules.seeds}", f"{recipe.seed}, {which}"
        yield from self._choice_faults(recipe, search)
        if contamination:
            yield "controls", "never trained", contamination

    def _plugin_faults(self, recipe: Recipe) -> Iterator[tuple[str, str, str]]:
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

    def _choice_faults(self, recipe: Recipe, search: Search | None) -> Iterator[tuple[str, str, str]]:
        """How options and optimizer were chosen."""
        rules, kept = self.rules, recipe.optimizer.model_dump(mode="json")
        if kept != self.optimizer and (rules.optimizer == "fixed" or search is None):
            differing = {name: value for name, value in kept.items() if value != self.optimizer[name]}
            allowed = {name: self.optimizer[name] for name in differing}
            how = "" if rules.optimizer == "fixed" else ", or as a search chose"
            yield "optimizer", f"{json.dumps(allowed)} as the preset has it{how}", json.dumps(differing)
        defaults = self._defaults(recipe.strategy.name)
        changed = {n: v for n, v in _flat(recipe.strategy.options) if v != defaults.get(n, v)}
        if search is None and changed:
            how = "" if rules.hyperparameters == "defaults" else ", or options chosen by a search"
            yield "strategy options", f"the defaults{how}", json.dumps(changed)
        if search is not None:
            yield from self._search_faults(recipe, search)

    def _search_faults(self, recipe: Recipe, search: Search) -> Iterator[tuple[str, str, str]]:
        rules = self.rules
        if rules.hyperparameters == "defaults":
            yield "hyper-parameters", "the defaults: this board allows no search", "a search"
        if search.direction != self.directions.get(search.measure):
            said = f"{search.measure}, {search.direction} is better"
            yield "measure of the search", "one that is installed, with its direction", said
        strange = sorted(set(search.seeds) - set(rules.tuning))
        if strange:
            yield "seeds of the search", f"tuning seeds {rules.tuning_seeds or 'none'}", str(strange)
        if search.runs > rules.budget:
            yield "runs of the search", f"at most {rules.budget}", str(search.runs)
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
    """Nested options by dotted name, as they are typed."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{front}{name}.")
        else:
            yield f"{front}{name}", value


def rules_text(spec: ScenarioSpec, primary: str, models: Mapping[str, str], text_content: str) -> str:
    """A commented ``board.toml`` for a scenario's default preset, to be read and edited before the first row."""

    def quoted(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    question = f"{spec.summary[:1].upper()}{spec.summary[1:].rstrip('.')}: which ways of training keep it?"
    lines: Sequence[str] = (
        "# Rules of this board. Once it has rows they are frozen: a change is another board.",
        "format = 1",
        f"question = {quoted(question)}",
        "",
        "# What is run. Another version of the scenario is another board.",
        f"scenario = {quoted(spec.name)}",
        f"version = {quoted(spec.version)}",
        'preset = "default"',
        f"controls = {quoted(sorted(spec.controls))}  # every row has these runs beside its own",
        "",
        "# Rows are ranked by this measure, against the reference row.",
        f"primary = {quoted(primary)}",
        "# margin = 0.05  # smallest difference worth calling one, in the measure's unit",
        f"reference = {quoted(spec.reference)}",
        "",
        "# Seeds of every row, and the seeds on which hyper-parameters may be searched: they must not meet.",
        'seeds = "0-7"',
        f'tuning_seeds = "{FIRST_TUNING_SEED}-{FIRST_TUNING_SEED + 3}"',
        "least_seeds = 8",
        'hyperparameters = "searched"  # or "defaults": none may be changed',
        "budget = 40                   # runs a search may take",
        'optimizer = "free"            # a search may choose it; or "fixed": as the preset has it',
        "",
        "# What every run has in common.",
        'dtype = "float32"',
        'probing = "schedule"',
        'text = "world"',
        f"text_content = {quoted(text_content)}",
        "",
        "# Who may have a row.",
        'eligibility = "Any strategy that never sees a probe, trained on the stream as the scenario gives it."',
        "",
        "# Models a row may start from, each with the fingerprint of its weights and tokenizer.",
        "[models]",
        *(f"{quoted(name)} = {quoted(fingerprint)}" for name, fingerprint in models.items()),
    )
    return "\n".join(lines) + "\n"
