"""Who may import whom, as ARCHITECTURE.md draws it, read from the source."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import seqmem

REPOSITORY = Path(__file__).resolve().parents[1]
ROOTS = {
    "seqmem": REPOSITORY / "harness",
    "seqmem_plugins": REPOSITORY / "plugins",
    "seqmem_scenarios": REPOSITORY / "scenarios",
}

TORCH_IN_HOST = {"models", "learner", "loop", "scoring", "checkpoint", "runner", "worker", "cost_ratio"}
"""Modules of the host that compute; all others must be usable where there is no torch."""

TORCH_IN_PACKAGES = ("seqmem_plugins.avalanche", "seqmem_plugins.strategies", "seqmem_scenarios.ladder")

FOUNDATION: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "strategy": {"errors", "types"},
    "hookspecs": {"types"},
    "options": {"errors", "types"},
    "composition": {"errors", "types", "options", "strategy"},
    "registry": {"errors", "types", "hookspecs", "composition"},
}
"""All that the bottom of the host may import of the host."""


@dataclass(frozen=True)
class Import:
    module: str
    """Dotted name of what is imported, the imported name included for `from x import y`."""
    line: int
    where: str
    """``top`` of the module, ``inside`` a function, or for the type ``checker`` only."""


def imports(path: Path) -> list[Import]:
    return list(_imports(ast.parse(path.read_text("utf-8")), "top"))


def _imports(node: ast.AST, where: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, where) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: relative imports hide where a name comes from"
            yield from (Import(f"{child.module}.{alias.name}", child.lineno, where) for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _imports(child, "checker")
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, "inside" if function and where == "top" else where)


def module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(root, path): path
    for package, root in ROOTS.items()
    for path in sorted((root / package).rglob("*.py"))
}
HOST = {name: path for name, path in FILES.items() if name.split(".")[0] == "seqmem"}
OUTSIDE = {name: path for name, path in FILES.items() if name not in HOST}


def host_module(imported: str) -> str | None:
    """The module of the host behind an import, its first part only: `seqmem.cli.app.run` is `cli`."""
    parts = imported.split(".")
    return parts[1] if parts[0] == "seqmem" and len(parts) > 1 and f"seqmem.{parts[1]}" in HOST else None


@pytest.mark.parametrize("name", HOST)
def test_the_host_imports_no_plugin_and_nothing_imports_the_command_line(name: str) -> None:
    for one in imports(HOST[name]):
        assert one.module.split(".")[0] not in ("seqmem_plugins", "seqmem_scenarios"), (name, one)
        assert host_module(one.module) != "cli" or name.startswith("seqmem.cli"), (name, one)


@pytest.mark.parametrize("name", FILES)
def test_torch_is_imported_only_where_things_are_computed(name: str) -> None:
    allowed = name.removeprefix("seqmem.") in TORCH_IN_HOST or name.startswith(TORCH_IN_PACKAGES)
    for one in imports(FILES[name]):
        if one.module.split(".")[0] == "torch" and one.where != "checker" and not allowed:
            # doctor looks at devices; that is inside its functions.
            assert name == "seqmem.cli.doctor" and one.where == "inside", (name, one)


@pytest.mark.parametrize("name", FOUNDATION)
def test_the_foundation_stands_on_nothing_above_it(name: str) -> None:
    for one in imports(HOST[f"seqmem.{name}"]):
        module = host_module(one.module)
        assert one.where == "checker" or module is None or module in FOUNDATION[name], (name, one)


def test_the_host_has_no_circles() -> None:
    graph: dict[str, set[str]] = {}
    for name, path in HOST.items():
        module = host_module(name) or "seqmem"
        needed = {host_module(one.module) for one in imports(path) if one.where == "top"} - {None, module}
        graph.setdefault(module, set()).update(n for n in needed if n is not None)
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", OUTSIDE)
def test_plugins_and_scenarios_use_the_public_door(name: str) -> None:
    package = name.split(".")[0]
    other = {"seqmem_plugins": "seqmem_scenarios", "seqmem_scenarios": "seqmem_plugins"}[package]
    for one in imports(OUTSIDE[name]):
        parts = one.module.split(".")
        assert parts[0] != other, (name, one)
        if parts[0] == "seqmem":
            assert len(parts) == 1 or (len(parts) == 2 and parts[1] in seqmem.__all__), (name, one)
    for node in ast.walk(ast.parse(OUTSIDE[name].read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "seqmem":
            assert node.attr in seqmem.__all__, (name, node.lineno, node.attr)


def test_what_needs_no_torch_imports_none() -> None:
    light = [name for name in HOST if name.removeprefix("seqmem.") not in TORCH_IN_HOST]
    code = f"import importlib, sys\nfor name in {light}:\n    importlib.import_module(name)\n"
    code += "    assert 'torch' not in sys.modules, name"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_planning_with_any_strategy_and_scenario_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from seqmem.plan import Request, plan\n"
        "from seqmem.registry import Registry\n"
        "r = Registry.from_environment()\n"
        "strategies = tuple(row.name for row in r.names('strategy') if row.name != 'joint')\n"
        "scenarios = tuple(row.name for row in r.names('scenario'))\n"
        "plan(Request(scenario=scenarios, strategy=strategies, preset='smoke', seeds='0'), r)\n"
        "plan(Request(scenario=('memory_loops',), strategy=('joint',), preset='smoke', seeds='0'), r)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    for name in seqmem.__all__:
        assert getattr(seqmem, name) is not None
