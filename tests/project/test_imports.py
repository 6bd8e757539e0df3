"""Rules of imports. The layers are held by import-linter (`make lint`, pyproject.toml); here is the rest."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seqmem

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = {
    "seqmem": REPOSITORY / "harness",
    "seqmem_plugins": REPOSITORY / "plugins",
    "seqmem_scenarios": REPOSITORY / "scenarios",
}
TORCH = (
    "seqmem.training",
    "seqmem_plugins.avalanche",
    "seqmem_plugins.strategies",
    "seqmem_scenarios.model_sizes",
)
"""Packages that compute; all others must be usable where there is no torch."""
TYPED_WITH_TORCH = {"seqmem.plugin.strategy", "seqmem.plugin.learner", "seqmem.plugin.composition"}
"""Modules that name torch's types for the type checker alone."""
PUBLIC_MODULES = (["streams"], ["reading"])
"""Modules that plugins import names from, besides `seqmem` itself."""


def module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(root, path): path
    for package, root in ROOTS.items()
    for path in sorted((root / package).rglob("*.py"))
}
HOST = [name for name in FILES if name.split(".")[0] == "seqmem"]
OUTSIDE = [name for name in FILES if name not in HOST]


def imported(name: str) -> list[str]:
    """Dotted names of everything a module imports, lazily or for the type checker too."""
    found = []
    for node in ast.walk(ast.parse(FILES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide where a name comes from"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("name", FILES)
def test_torch_is_imported_only_where_things_are_computed(name: str) -> None:
    uses = any(one.split(".")[0] == "torch" for one in imported(name))
    assert not uses or name.startswith(TORCH) or name in TYPED_WITH_TORCH


@pytest.mark.parametrize("name", OUTSIDE)
def test_plugins_and_scenarios_use_the_public_door(name: str) -> None:
    package = name.split(".")[0]
    other = {"seqmem_plugins": "seqmem_scenarios", "seqmem_scenarios": "seqmem_plugins"}[package]
    for one in imported(name):
        parts = one.split(".")
        assert parts[0] != other, one
        if parts[0] == "seqmem" and parts[1:2] not in PUBLIC_MODULES:
            assert len(parts) == 1 or (len(parts) == 2 and parts[1] in seqmem.__all__), one
    for node in ast.walk(ast.parse(FILES[name].read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "seqmem":
            assert node.attr in seqmem.__all__, (node.lineno, node.attr)


def test_what_needs_no_torch_imports_none() -> None:
    light = [name for name in HOST if not name.startswith("seqmem.training")]
    code = f"import importlib, sys\nfor name in {light}:\n    importlib.import_module(name)\n"
    code += "    assert 'torch' not in sys.modules, name"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_planning_with_any_strategy_and_scenario_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from seqmem.planning.plan import plan\n"
        "from seqmem.planning.request import Request\n"
        "from seqmem.plugin.registry import Registry\n"
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
