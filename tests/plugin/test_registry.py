"""Discovery: listing without importing, loading one at a time, and every way a plugin can be wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seqmem.core.errors import PluginError, UsageError
from seqmem.plugin.registry import AUTOLOAD_VARIABLE, KINDS, Entry, Registry

STRANGER = Path(__file__).parents[1] / "stranger"

GOOD = """
import seqmem

seqmem_api = ">=1,<2"

@seqmem.hookimpl
def seqmem_text():
    return [seqmem.TextSpec("good", "1", "a text", open=lambda *_: None, fingerprint=lambda _: "")]
"""

MakeEntry = Callable[[str, str], Entry]


@pytest.fixture
def make_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeEntry:
    """Writes a module and gives the entry point that names it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    count = 0

    def make(name: str, source: str) -> Entry:
        nonlocal count
        count += 1
        module = f"seqmem_test_plugin_{tmp_path.name.replace('-', '_')}_{count}"
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)
        return Entry("text", name, module, f"stranger-{count}", "0.3")

    return make


def test_a_good_plugin_loads_once(make_entry: MakeEntry) -> None:
    registry = Registry([make_entry("good", GOOD)])
    spec = registry.load("text", "good")
    assert (spec.name, spec.version) == ("good", "1")
    assert registry.load("text", "good") is spec
    assert registry.problems() == []


def test_listing_imports_nothing(make_entry: MakeEntry) -> None:
    registry = Registry([make_entry("broken", "raise RuntimeError('imported')"), make_entry("good", GOOD)])
    rows = registry.names("text")
    assert [(row.name, row.distribution, row.version) for row in rows] == [
        ("broken", "stranger-1", "0.3"),
        ("good", "stranger-2", "0.3"),
    ]
    assert registry.names("strategy") == []
    assert registry.kinds_of("good") == ["text"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_such"),
        ("raise RuntimeError('first\\nsecond')", "cannot be imported: RuntimeError: first second"),
        ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        (GOOD.replace('seqmem_api = ">=1,<2"', ""), "add seqmem_api"),
        (GOOD.replace(">=1,<2", ">=2"), "plugin API >=2; this host offers 1"),
        (GOOD.replace(">=1,<2", "one"), "'one' is not a valid version range"),
        (GOOD.replace("def seqmem_text", "def seqmem_txt"), "seqmem_txt"),
        (GOOD.replace("def seqmem_text()", "def seqmem_text(nothing)"), "nothing"),
        (GOOD.replace("@seqmem.hookimpl", ""), "seqmem_text() is not marked with @seqmem.hookimpl"),
        (GOOD.replace("seqmem_text", "seqmem_metric"), "does not implement the hook seqmem_text()"),
        ('seqmem_api = ">=1,<2"', "does not implement the hook seqmem_text()"),
        (GOOD.replace('"good"', '"other"'), "one spec called 'good' from seqmem_text(); it returns 'other'"),
        (GOOD.replace("return [", "return [1, "), "a list of TextSpec, not a list of int and TextSpec"),
        (GOOD.replace("return [", "return None and ["), "must return a list of TextSpec, not NoneType"),
        (GOOD.replace("return [", "1 / 0; return ["), "fails in seqmem_text(): ZeroDivisionError"),
        (GOOD.replace('"a text",', '"a text", options=dict,'), "options must be a subclass of seqmem"),
        (
            GOOD + "\nclass Misspelt(seqmem.Strategy):\n    def before_experiense(self): ...\n",
            "'before_experiense' is not a step of a strategy. Did you mean 'before_experience'?",
        ),
    ],
)  # fmt: skip
def test_a_broken_plugin_is_named_and_leaves_the_others_alone(
    make_entry: MakeEntry, source: str, said: str
) -> None:
    bad = make_entry("good", source)
    fine = make_entry("fine", GOOD.replace('"good"', '"fine"'))
    registry = Registry([bad, fine])
    with pytest.raises(PluginError) as raised:
        registry.load("text", "good")
    message = str(raised.value)
    assert said in message
    assert f"text 'good' of stranger-1 0.3 ({bad.target})" in message
    assert "\n" not in message
    assert registry.load("text", "fine").name == "fine"
    assert registry.problems() == [message]


def test_a_scenario_needs_its_presets(make_entry: MakeEntry) -> None:
    source = """
import seqmem

seqmem_api = ">=1,<2"

@seqmem.hookimpl
def seqmem_scenario():
    return [seqmem.ScenarioSpec("good", "1", "", seqmem.Options, {"smoke": {}}, {}, None, None)]
"""
    entry = make_entry("good", source)
    registry = Registry([Entry("scenario", "good", entry.target, "stranger", "0.3")])
    with pytest.raises(PluginError, match="lacks the preset default"):
        registry.load("scenario", "good")


def test_one_module_may_serve_several_names(make_entry: MakeEntry) -> None:
    both = GOOD.replace("return [", 'return [seqmem.TextSpec("also", "2", "", open=None, fingerprint=None), ')
    entry = make_entry("good", both)
    also = Entry("text", "also", entry.target, entry.distribution, entry.version)
    registry = Registry([entry, also])
    assert registry.load("text", "good").version == "1"
    assert registry.load("text", "also").version == "2"


def test_two_distributions_with_one_name_are_both_named(make_entry: MakeEntry) -> None:
    entries = [make_entry("good", GOOD), make_entry("good", GOOD), make_entry("fine", GOOD)]
    registry = Registry(entries)
    assert registry.names("text")[1].conflict == ("stranger-1 0.3", "stranger-2 0.3")
    with pytest.raises(PluginError, match=r"offered by stranger-1 0\.3 and stranger-2 0\.3"):
        registry.load("text", "good")
    settled = Registry(entries, disabled=frozenset({"stranger-2"}))
    assert settled.load("text", "good").name == "good"


def test_an_unknown_name_gets_the_nearest_one(make_entry: MakeEntry) -> None:
    registry = Registry([make_entry("good", GOOD)])
    with pytest.raises(UsageError, match="unknown text 'god'. Did you mean 'good'"):
        registry.load("text", "god")


def test_disabled_names_are_gone_and_a_misspelt_one_is_an_error(make_entry: MakeEntry) -> None:
    entries = [make_entry("good", GOOD), make_entry("fine", GOOD)]
    assert [row.name for row in Registry(entries, frozenset({"good"})).names("text")] == ["fine"]
    assert [row.name for row in Registry(entries, frozenset({"Stranger_1"})).names("text")] == ["fine"]
    with pytest.raises(UsageError, match="'goood'. Did you mean 'good'"):
        Registry(entries, frozenset({"goood"}))


def test_the_built_in_plugins_come_in_by_entry_points() -> None:
    registry = Registry.from_environment(autoload=False)
    assert "memory_loops" in {row.name for row in registry.names("scenario")}
    assert {"naive", "moment_avg"} <= {row.name for row in registry.names("strategy")}
    assert {row.distribution for kind in KINDS for row in registry.names(kind)} == {"seqmem"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_plugin_loads_and_describes_its_options(kind: str) -> None:
    registry = Registry.from_environment(autoload=False)
    for row in registry.names(kind):  # type: ignore[arg-type]
        spec = registry.load(row.kind, row.name)
        assert spec.summary and spec.version, row
        for name, field in getattr(
            spec, "options", type("None_", (), {"model_fields": {}})
        ).model_fields.items():
            assert field.description, f"{row.kind} {row.name}: option {name} has no description"


LIST = """
from seqmem.plugin.registry import Registry
print(*(row.name for row in Registry.from_environment(frozenset({disabled})).names("strategy")))
"""


def listed_in(python: Path, disabled: set[str] | None = None, **environment: str) -> list[str]:
    code = LIST.replace("{disabled}", repr(sorted(disabled or ())))
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_strangers_package_is_offered_unless_switched_off(stranger_python: Path) -> None:
    assert {"half_gradient", "naive"} <= set(listed_in(stranger_python))
    alone = listed_in(stranger_python, **{AUTOLOAD_VARIABLE: "1"})
    assert "half_gradient" not in alone and "naive" in alone
    assert "half_gradient" in listed_in(stranger_python, **{AUTOLOAD_VARIABLE: "0"})
    assert "half_gradient" not in listed_in(stranger_python, {"half_gradient"})
    assert "half_gradient" not in listed_in(stranger_python, {"half-gradient"})
    assert "naive" in listed_in(stranger_python, {"half_gradient"}, **{AUTOLOAD_VARIABLE: "1"})


def test_a_strangers_strategy_is_described(stranger_python: Path, seqmem_in: Callable[..., object]) -> None:
    done = seqmem_in(stranger_python, "describe", "half_gradient")
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0, done.stderr
    assert "strategy half_gradient 1\nfrom half-gradient 1.0.0\n" in done.stdout
    assert "halves every gradient" in done.stdout


def test_the_readme_shows_the_strangers_package() -> None:
    readme = (STRANGER.parents[1] / "README.md").read_text("utf-8")
    assert (STRANGER / "pyproject.toml").read_text("utf-8") in readme
    assert (STRANGER / "half_gradient.py").read_text("utf-8") in readme
