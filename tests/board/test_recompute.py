"""Published figures against a second computation that shares no code with the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import recompute

BOARDS = Path(__file__).resolve().parents[2] / "leaderboards"


@pytest.mark.parametrize("name", ["memory_loops-v4", "freeze_loops-v1"])
def test_the_figures_of_verdicts_ranks_and_gates_are_computed_again(name: str) -> None:
    count, differing = recompute.compare(BOARDS / name)
    assert not differing
    assert count > 150


def test_the_second_computation_shares_no_code() -> None:
    tree = ast.parse(Path(recompute.__file__).read_text("utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in names if name.startswith("seqmem")]
