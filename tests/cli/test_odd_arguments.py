"""Arguments that no option can mean, and streams that cannot be written: one line, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqmem import cli as _cli  # noqa: F401  (registers the verbs)
from seqmem.cli.app import LONGEST, USAGE, run

PLAN = ("plan", "--scenario", "memory_loops", "--strategy", "naive")
LONG = "x" * 6000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*PLAN, "--seeds", "9" * 5000], "is not a valid seed"),
        ([*PLAN, "--seeds", "0-" + "9" * 5000], "is not a valid seed"),
        ([*PLAN, "--model", LONG], "File name too long"),
        ([*PLAN, "--model", f"/tmp/{LONG}"], "File name too long"),
        (["score", LONG, "--metric", "cost"], "File name too long"),
        (["report", LONG], "File name too long"),
        (["leaderboard", "verify", LONG], "File name too long"),
        (["model", "add", f"/{LONG}", "--name", "a"], "File name too long"),
        ([*PLAN, "--strategy", LONG], "unknown strategy"),
        ([*PLAN, "--set", f"scenario.loops={'9' * 5000}"], "it must be: integer >= 2 and <= 200"),
        (["bench", *PLAN[1:], "--out", ""], "--out has an empty value"),
        (["bench", *PLAN[1:], "--out="], "--out has an empty value"),
        (["bench", *PLAN[1:], "--json", "--full"], "leave out --full"),
        ([*PLAN, "--text", "\\udcff.txt"], r"'\udcff.txt' is not text in UTF-8"),
    ],
    ids=lambda value: value[-20:] if isinstance(value, str) else None,
)
def test_it_is_one_line_and_a_wrong_usage(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([word.replace("\\udcff", "\udcff") for word in words]) == USAGE
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    (line,) = captured.err.splitlines()
    assert line.startswith("seqmem: error: ") and len(line) < LONGEST + 100
    assert said in line or "characters)" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("list >&-", 0, ""),
        ("list 2>&-", 0, ""),
        ("list >/dev/full", 1, "seqmem: error: the disk is full: make room and give the command again\n"),
        ("describe memory_loops | head -1 >/dev/null", 0, ""),
    ],
)
def test_streams_that_take_nothing(shell: str, code: int, said: str) -> None:
    program = Path(sys.executable).parent / "seqmem"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        ["sh", "-c", f"{program} {shell}"], env=environment, text=True, stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr) == (code, said)
