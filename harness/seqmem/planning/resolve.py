"""Second step of planning: names become plugins, models that were found, and a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from seqmem.core.data import Options
from seqmem.core.errors import PluginError, SeqmemError, UsageError, unknown
from seqmem.core.options import validate
from seqmem.core.recipe import PluginChoice
from seqmem.planning.device import choose_device
from seqmem.planning.models import LocatedModel, ModelChoice, resolve
from seqmem.planning.parse import Parsed, distinct
from seqmem.planning.request import Request
from seqmem.planning.search import Search
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import ScenarioSpec, StrategySpec, TextSpec


@dataclass(frozen=True)
class Models:
    """Models by the name they were asked for.

    Attributes:
        refused: why a model cannot be used.
    """

    found: Mapping[str, LocatedModel]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class Setting:
    """The parts that all scenarios of a request share.

    Attributes:
        parsed: the request, taken apart.
        text: the text as recipes keep it.
        text_options: its options with the paths of this machine.
        models: None where each scenario proposes its own.
    """

    parsed: Parsed
    device: str
    text: PluginChoice
    text_options: Mapping[str, Any]
    models: Models | None


@dataclass(frozen=True)
class Tuned:
    """A search and the path it was read from."""

    path: str
    search: Search


@dataclass(frozen=True)
class Resolved:
    """A scenario with all it is run with.

    Attributes:
        strategies: the reference first.
        tuned: searches by strategy.
        left_out: strategies that cannot be loaded, each with its reason.
    """

    setting: Setting
    scenario: ScenarioSpec
    strategies: tuple[StrategySpec, ...]
    models: Models
    tuned: Mapping[str, Tuned]
    left_out: tuple[str, ...]

    @property
    def parsed(self) -> Parsed:
        """Return the request, taken apart."""
        return self.setting.parsed

    @property
    def request(self) -> Request:
        """Return what the user asked for."""
        return self.setting.parsed.request

    @property
    def controls(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the controls that stand beside every row."""
        named = {name: self.scenario.all_controls[name] for name in self.request.control}
        return {**(self.scenario.controls if self.request.controls else {}), **named}


def resolve_setting(parsed: Parsed, registry: Registry) -> Setting:
    """Find what all scenarios share.

    Raises:
        UsageError: a name or value is wrong, or no model can be used.
    """
    request = parsed.request
    device = choose_device(request.device)
    text, text_options = _text(request.text, parsed.options["text"], registry)
    models = _models(request, request.model, registry) if request.model else None
    return Setting(parsed, device, text, text_options, models)


def resolve_scenario(setting: Setting, name: str, registry: Registry) -> Resolved:
    """Find a scenario, the strategies run on it, and the model it proposes where none was asked for.

    Raises:
        UsageError: a name is wrong, a search is for something else, or no model can be used.
        PluginError: the scenario, its reference or the only strategy cannot be loaded.
    """
    request = setting.parsed.request
    scenario = registry.load("scenario", name)
    if request.preset not in scenario.presets:
        raise UsageError(unknown(f"preset of {scenario.name}", request.preset, scenario.presets))
    for control in request.control:
        if control not in scenario.all_controls:
            raise UsageError(unknown(f"control of {scenario.name}", control, scenario.all_controls))
    models = setting.models
    if models is None:
        model, _, revision = scenario.models.get(request.preset, scenario.model).partition("@")
        models = _models(replace(request, revision=request.revision or revision or None), [model], registry)
    tuned = _tuned(setting.parsed, scenario)
    strategies, left_out = _strategies(request, scenario, registry)
    return Resolved(setting, scenario, strategies, models, tuned, left_out)


def choice_of(spec: TextSpec | ScenarioSpec, values: Options) -> PluginChoice:
    """Return a plugin as recipes keep it: of a path its last part, and a hash of what is there."""
    options = values.model_dump(mode="json")
    shown = {key: Path(value).name if key in spec.local else value for key, value in options.items()}
    content = spec.fingerprint(values) if spec.fingerprint is not None else ""
    return PluginChoice(name=spec.name, version=spec.version, options=shown, content=content)


def refuse_without_models(reasons: Mapping[str, str]) -> NoReturn:
    """Say why no model can be used; what holds for all of them is said once.

    Raises:
        UsageError: always.
    """
    distinct = list(dict.fromkeys(reasons.values()))
    raise UsageError(
        distinct[0]
        if len(distinct) == 1
        else f"none of the {len(reasons)} models can be used; first: {distinct[0]}"
    )


def _models(request: Request, names: Sequence[str], registry: Registry) -> Models:
    distinct(names, "--model")
    found: dict[str, LocatedModel] = {}
    refused: dict[str, str] = {}
    for name in names:
        choice = ModelChoice(
            name=name,
            revision=request.revision,
            dtype=request.precision,
            attention=request.attention,
            trust_remote_code=request.trust_remote_code,
        )
        try:
            found[name] = resolve(choice, registry)
        except SeqmemError as error:
            if len(names) == 1:
                raise
            refused[name] = str(error)
    if not found:
        refuse_without_models(refused)
    shown = [located.model.name for located in found.values()]
    for name in shown:
        if shown.count(name) > 1:
            raise UsageError(f"two models would both be shown as {name!r} in the table; rename one folder")
    return Models(found, refused)


def _text(name: str, given: Mapping[str, Any], registry: Registry) -> tuple[PluginChoice, Mapping[str, Any]]:
    """Find the text; a path or a dataset id in place of a name picks the source that reads it."""
    options = dict(given)
    if name not in {listed.name for listed in registry.names("text")}:
        if Path(name).exists() or Path(name).suffix in {".txt", ".jsonl", ".parquet"}:
            name, options = "file", {"path": name, **options}
        elif "/" in name:
            name, options = "dataset", {"id": name, **options}
    spec = registry.load("text", name)
    values = validate(spec.options, options, f"text {name}")
    return choice_of(spec, values), values.model_dump(mode="json")


def _strategies(
    request: Request, scenario: ScenarioSpec, registry: Registry
) -> tuple[tuple[StrategySpec, ...], tuple[str, ...]]:
    """Load the strategies; one among several that cannot be loaded is left out and named."""
    names = list(request.strategy)
    if request.reference and scenario.reference not in names:
        names.insert(0, scenario.reference)
    names.sort(key=lambda name: name != scenario.reference)
    specs: list[StrategySpec] = []
    left_out: list[str] = []
    for name in names:
        try:
            specs.append(registry.load("strategy", name))
        except PluginError as error:
            if len(request.strategy) == 1 or name == scenario.reference:
                raise
            left_out.append(str(error))
    return tuple(specs), tuple(left_out)


def _tuned(parsed: Parsed, scenario: ScenarioSpec) -> dict[str, Tuned]:
    """Sort the searches of a scenario by strategy.

    Raises:
        UsageError: one is of a scenario or strategy that is not in the bench, or two are of the same.
    """
    request = parsed.request
    found: dict[str, Tuned] = {}
    strategies = {*request.strategy, *([scenario.reference] if request.reference else [])}
    for path, search in parsed.searches.items():
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
        found[search.strategy] = Tuned(path, search)
    return found
