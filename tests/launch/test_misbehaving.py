"""Plugins that misbehave in the worker's process: their own runs fail or finish, the others are as without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import small_model, write_stranger

from seqmem.record.reader import RunRecord

FAIL = {
    "exits with 0": "os._exit(0)",
    "exits with 3": "os._exit(3)",
    "leaves": "sys.exit('enough')",
    "interrupts": "raise KeyboardInterrupt",
    "raises": "raise ValueError('bad')",
    "forges": """
        for number in range(3, 20):
            try:
                os.write(number, b'{"event": "finished"}\\n')
            except OSError:
                pass
    """,
    "makes noise": """
        for number in range(20):
            try:
                os.write(number, b"noise " * 100)
            except OSError:
                pass
    """,
    "closes everything": "os.closerange(3, 100)",
    "hogs memory": "torch.empty(10**15)",
}
"""What a plugin does in its third step, and its run fails of it."""

CHANGE = {
    "prints": "print('hello', flush=True); sys.stderr.write('hello'); os.write(1, b'x' * 10**6)",
    "leaves a thread": "threading.Thread(target=draw_for_ever).start()",
    "leaves a daemon": "threading.Thread(target=draw_for_ever, daemon=True).start()",
    "leaves a process": "subprocess.Popen(['sleep', '600'])",
    "goes elsewhere": "os.chdir('/')",
    "changes the environment": "os.environ['OMP_NUM_THREADS'] = '7'",
    "changes the number type": "torch.set_default_dtype(torch.float64)",
    "changes the device": "torch.set_default_device('meta')",
    "sows": "torch.manual_seed(7); random.seed(7); np.random.seed(7)",
    "switches gradients off": "torch.set_grad_enabled(False)",
    "takes the determinism": "torch.set_deterministic_debug_mode('default'); torch.set_num_threads(3)",
}
"""What a plugin does to the process in which its run, and others after it, would go on."""

HEAD = """
import os, random, subprocess, sys, threading, time
import numpy as np
import torch
from seqmem import Strategy, StrategySpec, hookimpl

seqmem_api = ">=1,<2"

def draw_for_ever():
    while True:
        torch.rand(3); random.random(); np.random.rand()
        time.sleep(0.001)

class Calm(Strategy):
    def after_step(self, learner, batch):
        torch.rand(1), random.random(), np.random.rand()

specs = []

def offer(name, kind):
    specs.append(StrategySpec(name, "1", "Misbehaves.", build=lambda options: kind()))

@hookimpl
def seqmem_strategy():
    return specs
"""

EACH = """
class Bad{number}(Strategy):
    def after_step(self, learner, batch):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == {step}:
            {does}

offer("bad{number}", Bad{number})
offer("calm{number}", Calm)
"""


def stranger(folder: Path, *ways: str, step: int) -> None:
    """A package with a strategy for each way, and as many that do nothing."""
    text = HEAD + "".join(
        EACH.format(number=number, step=step, does=does.strip("\n").replace("\n    ", "\n        ").strip())
        for number, does in enumerate(ways)
    )
    folder.mkdir()
    names = [f"{kind}{number}" for number in range(len(ways)) for kind in ("bad", "calm")]
    write_stranger(folder, text, *names)


def bench(model: Path, folder: Path, out: Path, *strategies: str) -> subprocess.Popen[str]:
    words = [
        *("bench", "--scenario", "memory_loops", "--model", str(model), "--preset", "smoke", "--seeds", "0"),
        *("--no-controls", "--no-reference", "--device", "cpu", "--out", str(out), "--display", "plain"),
        *("--workers", "1", "--checkpoint-every", "2"),
        *(word for name in strategies for word in ("--strategy", name)),
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    program = str(Path(sys.executable).parent / "seqmem")
    return subprocess.Popen([program, *words], env=environment, text=True, stderr=subprocess.PIPE)


def ended(out: Path) -> dict[str, RunRecord]:
    """Finished records by strategy."""
    records = [RunRecord.open(path) for path in (out / "records").iterdir() if not path.name.startswith(".")]
    return {one.recipe["strategy"]["name"]: one for one in records if one.status == "finished"}


@pytest.mark.slow
@pytest.mark.parametrize(("ways", "step"), [(FAIL, 3), (CHANGE, 13)], ids=["fail", "change"])
def test_the_other_runs_are_as_without_them(ways: dict[str, str], step: int, tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    stranger(tmp_path / "plugin", *ways.values(), step=step)
    process = bench(model, tmp_path / "plugin", tmp_path / "alone", "calm0")
    assert process.communicate()[1] and process.returncode == 0
    (alone,) = ended(tmp_path / "alone").values()
    assert alone.info["steps"] > step
    both = [f"{kind}{number}" for number in range(len(ways)) for kind in ("bad", "calm")]
    process = bench(model, tmp_path / "plugin", tmp_path / "out", *both)
    said, found = process.communicate()[1], ended(tmp_path / "out")
    for number, way in enumerate(ways):
        record = found[f"calm{number}"]
        assert record.info["final_weights"] == alone.info["final_weights"], way
        assert record.probes.equals(alone.probes) and record.steps.equals(alone.steps), way
        if ways is FAIL:
            assert f"seqmem: failed: memory_loops bad{number} " in said and f"bad{number}" not in found, way
    assert process.returncode == (1 if len(found) < len(both) else 0), said
