"""The command line answers at once, in one line when it refuses, and imports nothing heavy for it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seqmem.cli import doctor, explore
from seqmem.cli.app import run
from seqmem.cli.terminal import clean
from seqmem.errors import CheckpointError, PluginError, RunFailed, UsageError
from seqmem.registry import Entry, Registry

HEAVY = ("torch", "pandas", "transformers", "matplotlib", "scipy", "pyarrow", "datasets", "avalanche")
START = "import sys; from seqmem.cli.app import run; import seqmem.cli; code = run(sys.argv[1:]); "


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("arguments", "limit"), [(["--help"], 0.3), (["list"], 0.5)])
def test_it_answers_at_once(arguments: list[str], limit: float) -> None:
    seconds = [float("inf")]
    # The best of a few: the tests share the machine with other work.
    while min(seconds) > limit and len(seconds) <= 10:
        started = time.perf_counter()
        done = python(START + "sys.exit(code)", *arguments)
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0, done.stderr
    assert min(seconds) <= limit


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "--json"], ["bench", "--help"], ["lst"]]
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    done = python(START + f"print(*(set({HEAVY}) & set(sys.modules)), file=sys.stderr)", *arguments)
    assert done.stderr.splitlines()[-1].strip() == "", done.stderr


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("seqmem ")


def test_no_argument_is_a_question_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Usage: seqmem" in capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "strategies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kind", "name", "from"]
    assert ["strategy", "naive", "seqmem"] in [line.split()[:3] for line in lines]
    assert run(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"kind": "strategy", "name": "naive"}.items() <= next(
        r for r in rows if r["name"] == "naive"
    ).items()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lst"], "No such command 'lst'"),
        (["list", "strategi"], "unknown kind 'strategi'. Did you mean 'strategy'?"),
        (["describe", "naiv"], "unknown name 'naiv'. Did you mean 'naive'?"),
        (["describe"], "Missing argument"),
        (["describe", "naive", "--kind", "metric"], "unknown metric 'naive'"),
        (["describe", "--what"], "No such option"),
        (["-p", "no:naiv", "list"], "Did you mean 'naive'?"),
        (["-p", "naive", "list"], "write -p no:NAME"),
        (["-p", "no:", "list"], "write -p no:NAME"),
        (["-p", "no:naive", "describe", "naive"], "unknown name 'naive'"),
        (["list", "\x1b[31mred\n"], "unknown kind"),
    ],
)
def test_a_refusal_is_one_line_and_exit_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("seqmem: error: ") and streams.err.count("\n") == 1
    assert said in streams.err and "\x1b" not in streams.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("u"), 2), (PluginError("p"), 2), (CheckpointError("c"), 2), (RunFailed("r"), 1)],
)
def test_every_error_has_its_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(explore, "registry", fail)
    assert run(["list"]) == code
    assert capsys.readouterr().err == f"seqmem: error: {error}\n"


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(explore, "registry", interrupt)
    assert run(["list"]) == 130


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -c '{START} sys.exit(code)' list | head -n 0"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_control_characters_are_dropped() -> None:
    assert clean("a\x1b[31mb\u202ec\ud800\x9bd\n") == "a[31mbcd\n"


def test_a_conflict_is_shown_and_a_failure_makes_doctor_exit_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entries = [Entry("metric", "twice", "nowhere", name, "1") for name in ("left", "right")]
    entries.append(Entry("metric", "gone", "no_such_module_here", "stranger", "2\x1b"))
    for module in (explore, doctor):
        monkeypatch.setattr(module, "registry", lambda ctx: Registry(entries))
    monkeypatch.setattr(doctor, "_torchvision", lambda: doctor.Finding("torch pair", "ok", ""))
    assert run(["list"]) == 0
    assert "CONFLICT: offered by left 1 and right 1" in capsys.readouterr().out
    assert run(["doctor", "--out", str(tmp_path / "runs")]) == 3
    out = capsys.readouterr().out
    assert "metric 'gone' of stranger 2 (no_such_module_here) cannot be imported: ModuleNotFoundError" in out
    assert "metric 'twice' is offered by left 1 and right 1" in out
    assert not (tmp_path / "runs").exists()
    assert run(["doctor", "--json"]) == 3
    assert {"subject", "state", "detail"} == set(json.loads(capsys.readouterr().out)[0])


def test_doctor_names_a_mismatched_pair_and_a_folder_it_cannot_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(name: str) -> None:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    finding = doctor._torchvision()
    assert finding.state == "bad"
    assert "do not fit: RuntimeError: operator torchvision::nms does not exist" in finding.detail
    (tmp_path / "file").write_text("")
    assert doctor._writable("results", tmp_path / "file").state == "bad"
    assert doctor._writable("results", tmp_path / "a" / "b").state == "ok"


def test_the_wheel_answers_away_from_the_repository(
    wheel_python: Path, seqmem_in: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = seqmem_in(wheel_python, "list", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["distribution"] for row in json.loads(done.stdout)} == {"seqmem"}
    where = subprocess.run(
        [wheel_python, "-c", "import seqmem; print(seqmem.__file__)"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(wheel_python.parents[1]))
