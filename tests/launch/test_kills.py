"""kill -9 at any moment, of the bench, its worker or both: what goes on from there ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import small_model

from seqmem.record.reader import RunRecord
from seqmem.record.schema import TABLES

KILLS = int(os.environ.get("SEQMEM_KILLS", "6"))
WAYS = ("parent", "worker", "both")
ARMS: tuple[tuple[str, ...], ...] = (
    ("naive",),
    ("replay",),
    ("ewc",),
    ("moment_avg",),
    ("lora",),
    ("naive", "--set", "scenario.rest_training=false"),
)


def command(model: Path, out: Path, arm: tuple[str, ...]) -> list[str]:
    strategy, *more = arm
    return [
        str(Path(sys.executable).parent / "seqmem"),
        *("bench", "--scenario", "memory_loops", "--model", str(model), "--preset", "smoke", "--seeds", "0"),
        *("--no-controls", "--no-reference", "--device", "cpu", "--out", str(out), "--display", "plain"),
        *("--workers", "1", "--checkpoint-every", "3", "--strategy", strategy, *more),
    ]


def carried_out(words: list[str]) -> tuple[int, str]:
    """Exit code and standard error."""
    done = subprocess.run(words, text=True, capture_output=True, check=False)
    return done.returncode, done.stderr


def outcome(out: Path) -> tuple[object, ...]:
    """All that a bench has to leave the same: tables, digests and the board; no row of steps is missing."""
    (record,) = (RunRecord.open(p) for p in (out / "records").iterdir() if not p.name.startswith("."))
    assert record.status == "finished"
    assert record.steps["step"].tolist() == list(range(1, record.info["steps"] + 1))
    frames = [getattr(record, name).to_json(double_precision=15) for name in ("items", *TABLES)]
    digests = [record.info[name] for name in ("content", "final", "final_weights", "contamination")]
    (board,) = (out / "boards").iterdir()
    return frames, digests, [(board / f"table.{kind}").read_bytes() for kind in ("md", "csv", "json")]


def kill(process: subprocess.Popen[bytes], way: str) -> None:
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    workers = [int(number) for number in found.stdout.split()]
    chosen = [process.pid] * (way != "worker") + workers * (way != "parent")
    for number in chosen:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.mark.slow
@pytest.mark.timeout(200 + 120 * KILLS)
def test_a_kill_changes_nothing(tmp_path: Path) -> None:
    draw = random.Random(KILLS)
    model = small_model(tmp_path / "model")
    whole: dict[tuple[str, ...], tuple[tuple[object, ...], float]] = {}
    for number in range(KILLS):
        arm, way = ARMS[number % len(ARMS)], draw.choice(WAYS)
        if arm not in whole:
            begun = time.monotonic()
            assert carried_out(command(model, tmp_path / f"whole {len(whole)}", arm))[0] == 0
            whole[arm] = outcome(tmp_path / f"whole {len(whole)}"), time.monotonic() - begun
        out = tmp_path / f"out {number}"
        words = command(model, out, arm)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        moment = draw.uniform(0.3, 1.0) * whole[arm][1]
        time.sleep(moment)
        kill(process, way)
        ends: list[tuple[int, str]] = []
        process.wait()  # where only its worker was killed, the bench sees that and ends by itself
        for flags in (
            ["--resume"],
            [],
            ["--resume"],
        ):  # a worker left behind may leave a checkpoint meanwhile
            ends.append(carried_out([*words, *flags]))
            if ends[-1][0] != 2:
                break
        assert ends[-1][0] == 0, (arm, way, moment, ends)
        assert outcome(out) == whole[arm][0], (arm, way, moment)
        shutil.rmtree(out)
