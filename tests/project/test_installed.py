"""The package as others meet it: a wheel away from the repository, a stranger's strategy, a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Seqmem = Callable[..., "CompletedProcess[str]"]

SMOKE = ("bench", "--scenario", "memory_loops", "--preset", "smoke", "--seeds", "0", "--json")
SHORT = ("facts_per_loop=2", "exposures=2", "rest_steps=4", "even_every=2")


def _cells(done: CompletedProcess[str]) -> dict[tuple[str, str], float | None]:
    assert done.returncode == 0, done.stderr
    board = json.loads(done.stdout)["boards"][0]
    return {(cell["row"], cell["measure"]): cell["mean"] for cell in board["cells"]}


def test_a_wheel_runs_the_main_job_and_a_strangers_strategy_away_from_the_repository(
    stranger_python: Path, seqmem_in: Seqmem, tmp_path: Path
) -> None:
    strategies = ("--strategy", "moment_avg", "--strategy", "half_gradient")
    short = [word for option in SHORT for word in ("--set", f"scenario.{option}")]
    once = ("--no-controls", "--workers", "1")
    done = seqmem_in(stranger_python, *SMOKE, *strategies, *short, *once, cwd=tmp_path)

    cells = _cells(done)
    assert {row for row, _ in cells} == {"naive", "moment_avg", "half_gradient"}
    assert cells["naive", "retention"] is not None
    assert cells["moment_avg", "cost.state"] == pytest.approx(4.0, abs=0.01)  # two loops, two moments each
    board = next((tmp_path / "runs" / "boards").iterdir())
    assert {path.name for path in board.iterdir()} >= {"table.md", "table.csv", "table.json", "figures"}
    assert {path.suffix for path in (board / "figures").iterdir()} == {".png", ".svg"}
    # Adam divides by the gradient's own size: halving it changes next to nothing, but not exactly nothing
    assert cells["half_gradient", "learning_accuracy"] == pytest.approx(
        cells["naive", "learning_accuracy"], abs=0.5
    )
    records = tmp_path / "runs" / "records"
    finals = {json.loads(path.read_text())["final_weights"] for path in records.glob("*/run.json")}
    assert len(finals) == 3


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu(tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    import seqmem

    boards = {
        device: seqmem.bench(
            "memory_loops", "moment_avg", preset="smoke", device=device, out=tmp_path / device, display="none"
        ).board
        for device in ("cpu", "cuda")
    }
    first = {device: next(iter(board.rows[0].runs.values())) for device, board in boards.items()}
    losses = {device: record.steps["loss"].to_numpy() for device, record in first.items()}
    assert losses["cuda"][0] == pytest.approx(losses["cpu"][0], rel=1e-4)
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)
