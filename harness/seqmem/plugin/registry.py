"""Discovery of installed plugins, each loaded on demand.

Listing reads package metadata and the cards of added models only and imports no plugin, so that `seqmem list` is
instant and a broken plugin cannot hide the others. Loading is per name and isolated: an error inside a plugin becomes
a PluginError that names it, its distribution and its version.
"""

from __future__ import annotations

import importlib.metadata
import os
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from seqmem.core.cache import added_models
from seqmem.core.errors import PluginError, SeqmemError, UsageError, unknown

if TYPE_CHECKING:
    from seqmem.plugin.specs import MetricSpec, ModelSpec, ScenarioSpec, StrategySpec, SuiteSpec, TextSpec

    Spec = ScenarioSpec | StrategySpec | MetricSpec | ModelSpec | TextSpec | SuiteSpec

Kind = Literal["scenario", "strategy", "metric", "model", "text", "suite"]
KINDS: tuple[Kind, ...] = ("scenario", "strategy", "metric", "model", "text", "suite")

HOST = "seqmem"
"""The distribution the host itself comes in."""

ADDED = "added"
"""Stands in place of a distribution for models that were added on this machine."""

COMPOSED = "+"
"""Sign between the names of strategies that act together."""

FAMILY = ":"
"""Sign between a family of plugins and one of them, as in ``avalanche:EWC``."""

AUTOLOAD_VARIABLE = "SEQMEM_DISABLE_PLUGIN_AUTOLOAD"
"""Environment variable that leaves only the plugins of the host's own distribution, unless it is empty or 0."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry point, as the metadata of a distribution states it.

    Attributes:
        name: what users type.
        target: the module (or ``module:object``) that implements the hook of this kind.
        distribution: the package that offers it.
        version: that package's version.
    """

    kind: Kind
    name: str
    target: str
    distribution: str
    version: str

    @property
    def package(self) -> str:
        """Distribution and version, for people."""
        return f"{self.distribution} {self.version}".strip()

    def __str__(self) -> str:
        """Return its name for messages."""
        return f"{self.kind} {self.name!r} of {self.package} ({self.target})"


@dataclass(frozen=True, slots=True)
class Listed:
    """A name that can be asked for.

    Attributes:
        conflict: packages that offer this same name, when more than one does; such a name cannot be used.
    """

    kind: Kind
    name: str
    distribution: str
    version: str
    conflict: tuple[str, ...] = ()


class Registry:
    """The plugins of one environment. There is no global registry: make one where you need it."""

    def __init__(self, entries: Iterable[Entry], disabled: frozenset[str] = frozenset()) -> None:
        """Hold `entries` less the `disabled` ones.

        Args:
            entries: what is installed; tests may pass their own.
            disabled: names of plugins, of any kind, or of whole distributions, to leave out.

        Raises:
            UsageError: a disabled name does not exist.
        """
        found = list(entries)
        known = {entry.name for entry in found} | {_canonical(entry.distribution) for entry in found}
        for name in sorted(disabled):
            if name not in known and _canonical(name) not in known:
                raise UsageError(unknown("plugin in -p no:NAME", name, known))
        self.disabled = disabled
        self._entries: dict[tuple[Kind, str], list[Entry]] = {}
        for entry in found:
            if entry.name not in disabled and _canonical(entry.distribution) not in map(_canonical, disabled):
                self._entries.setdefault((entry.kind, entry.name), []).append(entry)
        self._specs: dict[tuple[Kind, str], Spec] = {}

    @classmethod
    def from_environment(
        cls, disabled: frozenset[str] = frozenset(), autoload: bool | None = None
    ) -> Registry:
        """Return the plugins that are installed.

        Args:
            disabled: as in the constructor; names that autoloading leaves out anyway are allowed.
            autoload: offer the plugins of other distributions than the host's own; None asks the
                environment variable `SEQMEM_DISABLE_PLUGIN_AUTOLOAD`.
        """
        if autoload is None:
            autoload = os.environ.get(AUTOLOAD_VARIABLE, "") in ("", "0")
        entries = [*_installed(), *_added()]
        if not autoload:
            left_out = {name for e in entries if e.distribution != HOST for name in (e.name, e.distribution)}
            entries = [entry for entry in entries if entry.distribution == HOST]
            offered = {entry.name for entry in entries}
            disabled = frozenset(name for name in disabled if name in offered or name not in left_out)
        return cls(entries, disabled)

    def names(self, kind: Kind) -> list[Listed]:
        """Return every name of a kind in alphabetical order, without importing a plugin."""
        rows = []
        for (_, name), entries in sorted(item for item in self._entries.items() if item[0][0] == kind):
            packages = tuple(entry.package for entry in entries)
            first = entries[0]
            rows.append(
                Listed(kind, name, first.distribution, first.version, packages if len(entries) > 1 else ())
            )
        return rows

    def kinds_of(self, name: str) -> list[Kind]:
        """Return the kinds in which something is called `name`."""
        parts = name.split(COMPOSED)
        if len(parts) > 1 and all(("strategy", part) in self._entries for part in parts):
            return ["strategy"]
        return [kind for kind in KINDS if (kind, name) in self._entries]

    def entry(self, kind: Kind, name: str) -> Entry:
        """Return the entry point behind a name.

        Raises:
            UsageError: nothing has that name.
            PluginError: several distributions offer it.
        """
        entries = self._entries.get((kind, name))
        if not entries:
            hint = "" if self._entries else f" No plugins are installed, not even the own ones of {HOST}."
            raise UsageError(unknown(kind, name, (row.name for row in self.names(kind))) + hint)
        if len(entries) > 1:
            packages = " and ".join(entry.package for entry in entries)
            raise PluginError(
                f"{kind} {name!r} is offered by {packages}: uninstall one, "
                f"or leave one out with -p no:{entries[-1].distribution}"
            )
        return entries[0]

    def package(self, kind: Kind, name: str) -> str:
        """Return the distribution and version behind a name, or behind every part of a composition.

        Raises:
            UsageError, PluginError: as `entry`.
        """
        parts = name.split(COMPOSED) if kind == "strategy" else [name]
        return ", ".join(dict.fromkeys(self.entry(kind, part).package for part in parts))

    @overload
    def load(self, kind: Literal["scenario"], name: str) -> ScenarioSpec: ...
    @overload
    def load(self, kind: Literal["strategy"], name: str) -> StrategySpec: ...
    @overload
    def load(self, kind: Literal["metric"], name: str) -> MetricSpec: ...
    @overload
    def load(self, kind: Literal["model"], name: str) -> ModelSpec: ...
    @overload
    def load(self, kind: Literal["text"], name: str) -> TextSpec: ...
    @overload
    def load(self, kind: Literal["suite"], name: str) -> SuiteSpec: ...
    @overload
    def load(self, kind: Kind, name: str) -> Spec: ...

    def load(self, kind: Kind, name: str) -> Spec:
        """Import the plugin behind a name and return its spec.

        A strategy's name may be several, as in ``ewc+replay``: the spec is that of their composition.

        Raises:
            UsageError: nothing has that name, or the strategies cannot go together.
            PluginError: the plugin cannot be imported or breaks the interface.
        """
        if kind == "strategy" and COMPOSED in name and (kind, name) not in self._specs:
            from seqmem.plugin.composition import compose

            if not all(name.split(COMPOSED)):
                raise UsageError(
                    f"strategy {name!r} lacks a part; write NAME{COMPOSED}NAME, e.g. ewc{COMPOSED}replay"
                )
            self._specs[kind, name] = compose([self.load("strategy", one) for one in name.split(COMPOSED)])
        if (kind, name) not in self._specs:
            if (kind, name) not in self._entries:
                self._say_why_not(kind, name)
            self._specs[kind, name] = _load(self.entry(kind, name))
        return self._specs[kind, name]

    def _say_why_not(self, kind: Kind, name: str) -> None:
        """Refuse a member that the module of its family, such as ``avalanche:EWC``, declares as not offered.

        Raises:
            UsageError: with the reason that the module gives.
        """
        family = name.partition(FAMILY)[0] + FAMILY
        relatives = [
            found[0] for key, found in self._entries.items() if key[0] == kind and key[1].startswith(family)
        ]
        for target in sorted({entry.target for entry in relatives}):
            plugin = importlib.metadata.EntryPoint(name, target, f"seqmem.{kind}").load()
            reason = getattr(plugin, "seqmem_not_offered", {}).get(name)
            if reason is not None:
                raise UsageError(f"{kind} {name} is not offered: {reason}")

    def problems(self) -> list[str]:
        """Load everything; one line per plugin that cannot be used."""
        lines = []
        for kind, name in sorted(self._entries):
            try:
                self.load(kind, name)
            except PluginError as error:
                lines.append(str(error))
        return lines


def _canonical(distribution: str) -> str:
    """Return a distribution's name as package tools compare it."""
    return distribution.lower().replace("_", "-").replace(".", "-")


def _installed() -> list[Entry]:
    """Return all entry points of our groups, read from metadata."""
    entries = []
    named: dict[importlib.metadata.Distribution, tuple[str, str]] = {}  # each asking reads its metadata again
    points = importlib.metadata.entry_points()
    for kind in KINDS:
        for point in points.select(group=f"seqmem.{kind}"):
            if point.dist and point.dist not in named:
                named[point.dist] = _canonical(point.dist.name), point.dist.version
            source = named[point.dist] if point.dist else ("an unnamed distribution", "")
            entries.append(Entry(kind, point.name, point.value, *source))
    return entries


def _added() -> list[Entry]:
    """Return the models that were added on this machine, read from their cards."""
    return [
        Entry("model", name, "seqmem.plugin.added", ADDED, f"({card['kind']})")
        for name, card in added_models()
    ]


def _load(entry: Entry) -> Spec:
    """Import one plugin, check it against the interface, and pick the spec its entry point names."""
    try:
        plugin = importlib.metadata.EntryPoint(entry.name, entry.target, f"seqmem.{entry.kind}").load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{entry} cannot be imported: {_one_line(error)}") from error
    _check_api(entry, plugin)
    specs = _declared(entry, plugin)
    named = [spec for spec in specs if spec.name == entry.name]
    if len(named) != 1:
        names = ", ".join(sorted(repr(spec.name) for spec in specs)) or "nothing"
        raise PluginError(
            f"{entry} must return exactly one spec called {entry.name!r} from seqmem_{entry.kind}(); "
            f"it returns {names}"
        )
    _check_spec(entry, named[0])
    return named[0]


def _check_api(entry: Entry, plugin: Any) -> None:
    """Refuse a plugin that states no API version, or not this host's."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from seqmem.plugin.specs import API_VERSION

    wanted = getattr(plugin, "seqmem_api", None)
    if not isinstance(wanted, str):
        raise PluginError(
            f'{entry} does not state the API it was written for: add seqmem_api = ">=1,<2" to the module'
        )
    try:
        fits = SpecifierSet(wanted).contains(API_VERSION)
    except InvalidSpecifier as error:
        raise PluginError(f"{entry}: seqmem_api = {wanted!r} is not a valid version range") from error
    if not fits:
        raise PluginError(f"{entry} was written for plugin API {wanted}; this host offers {API_VERSION}")


def _declared(entry: Entry, plugin: Any) -> list[Spec]:
    """Call the hook of the entry's kind.

    Each plugin gets a plugin manager of its own, so that the faults of one cannot touch another.
    """
    import pluggy

    from seqmem.plugin import hookspecs
    from seqmem.plugin import specs as declared

    spec_type: type = getattr(declared, f"{entry.kind.capitalize()}Spec")
    hook = f"seqmem_{entry.kind}"
    _check_unmarked(entry, plugin)
    manager = pluggy.PluginManager("seqmem")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name=entry.name)
        manager.check_pending()
    except Exception as error:
        hooks = ", ".join(f"seqmem_{kind}" for kind in KINDS)
        raise PluginError(f"{entry} breaks the interface: {_one_line(error)}. Hooks: {hooks}") from error
    caller = getattr(manager.hook, hook)
    if not caller.get_hookimpls():
        raise PluginError(f"{entry} does not implement the hook {hook}()")
    try:
        results = caller()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{entry} fails in {hook}(): {_one_line(error)}") from error
    specs: Any = results[0] if results else None
    if not isinstance(specs, list) or not all(isinstance(spec, spec_type) for spec in specs):
        given = f"a list of {_types(specs)}" if isinstance(specs, list) else _types([specs])
        raise PluginError(f"{entry}: {hook}() must return a list of {spec_type.__name__}, not {given}")
    return list(specs)


def _check_unmarked(entry: Entry, plugin: Any) -> None:
    """Refuse a function that has a hook's name but not its mark: it would never be called."""
    for name, member in getattr(plugin, "__dict__", {}).items():
        own = getattr(member, "__module__", "") == getattr(plugin, "__name__", None)
        if (
            isinstance(member, types.FunctionType)
            and own
            and name.startswith("seqmem_")
            and not hasattr(member, "seqmem_impl")
        ):
            raise PluginError(f"{entry}: {name}() is not marked with @seqmem.hookimpl")


def _check_spec(entry: Entry, spec: Any) -> None:
    """Refuse a spec that would fail only later, in the middle of something."""
    from seqmem.core.data import Options
    from seqmem.plugin.specs import ScenarioSpec

    if COMPOSED in spec.name:
        raise PluginError(f"{entry}: {COMPOSED!r} in a name stands between the parts of a composed strategy")
    options = getattr(spec, "options", Options)
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise PluginError(f"{entry}: options must be a subclass of seqmem.Options, not {options!r}")
    if isinstance(spec, ScenarioSpec):
        missing = [preset for preset in ("smoke", "default") if preset not in spec.presets]
        if missing:
            raise PluginError(f"{entry} lacks the preset {' and '.join(missing)}")


def _types(values: list[Any]) -> str:
    return " and ".join(dict.fromkeys(type(value).__name__ for value in values))


def _one_line(error: BaseException) -> str:
    """Return the message of an exception on one line, with its type unless it is one of ours."""
    text = str(error) if isinstance(error, SeqmemError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
