"""The command line imports little for an answer, and refuses in one line."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from seqmem.cli import doctor, explore
from seqmem.cli import pretrain as pretrain_verb
from seqmem.cli.app import app, run, warn_left_out
from seqmem.cli.bench import show_boards
from seqmem.core.errors import CheckpointError, PluginError, RunFailed, UsageError
from seqmem.core.sanitize import clean
from seqmem.planning.request import PYTHON_ONLY, Execution, Request, parameters
from seqmem.plugin.registry import Entry, Registry
from seqmem.plugin.specs import ModelSpec
from seqmem.verbs.display import Plain, Rich

HEAVY = ("torch", "pandas", "transformers", "matplotlib", "scipy", "pyarrow", "datasets", "avalanche")
START = "import sys; from seqmem.cli.app import run; import seqmem.cli; code = run(sys.argv[1:]); "


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def imported(*arguments: str) -> list[str]:
    """Names of all modules that are there once the command has answered."""
    done = python(START + "print(*sys.modules, file=sys.stderr)", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1].split()


@pytest.mark.parametrize(("arguments", "limit"), [(["--help"], 260), (["list"], 340)])
def test_few_modules_are_imported_for_an_answer(arguments: list[str], limit: int) -> None:
    names = imported(*arguments)
    assert 100 < len(names) <= limit
    assert len([name for name in names if name.split(".")[0] == "seqmem"]) <= 31
    assert not {"seqmem.verbs.bench", "seqmem.scoring.comparison", "seqmem.planning.plan"} & set(names)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["list"]])
def test_an_answer_takes_at_most_three_times_its_imports(arguments: list[str]) -> None:
    foreign = [name for name in imported(*arguments) if name.split(".")[0] not in ("seqmem", "__main__")]
    bare = (
        "import importlib\n"
        f"for name in {foreign}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError:\n"
        "        pass\n"  # made by another module under a name of its own
    )
    ratios = []
    for _ in range(7):
        started = time.perf_counter()
        assert python(bare).returncode == 0
        between = time.perf_counter()
        assert python(START + "sys.exit(code)", *arguments).returncode == 0
        ratios.append((time.perf_counter() - between) / (between - started))
    print(f"\n{arguments}: {statistics.median(ratios):.2f} times a bare interpreter with the same imports")
    assert statistics.median(ratios) <= 3


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "--json"], ["bench", "--help"], ["lst"]]
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    done = python(START + f"print(*(set({HEAVY}) & set(sys.modules)), file=sys.stderr)", *arguments)
    assert done.stderr.splitlines()[-1].strip() == "", done.stderr


def test_every_field_of_a_request_is_an_option_with_its_help_and_default() -> None:
    command = typer.main.get_command(app).commands["bench"]
    options = {option.opts[0]: option for option in command.params}
    for field in parameters(Request, Execution):
        if field.name in PYTHON_ONLY:
            continue
        off = field.default is True
        option = options[f"--{'no-' * off}{field.name.replace('_', '-')}"]
        assert option.help == field.annotation.__metadata__[-1]
        assert option.required == (field.default is field.empty)
        if not option.required and not off:
            assert (tuple(option.default) if option.multiple else option.default) == field.default


def test_plan_names_a_model_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--scenario", "memory_loops", "--strategy", "naive", "--preset", "smoke", "--seeds", "0"]
    assert run(["plan", *asked, "--model", "./gone", "--model", "tiny", "--no-controls", "--json"]) == 3
    said = capsys.readouterr()
    assert [run["run"] for run in json.loads(said.out)] == ["memory_loops naive tiny s0"]
    assert said.err.startswith("seqmem: left out: model folder './gone' does not exist")


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


def test_control_characters_are_dropped_and_white_space_is_blank() -> None:
    assert clean("a\x1b[31mb\u202ec\ud800\x9bd\u200be") == "a[31mbcde"
    assert clean("a\tb\r\nc\u2028d\x85e\u00a0f") == "a b  c d e f"
    assert clean("größer ≥ 東京 🙂") == "größer ≥ 東京 🙂"


FOREIGN = "evil\x1b[2J\u202e\nseqmem: all well [red]x[/red]"
CLEANED = "evil[2J seqmem: all well [red]x[/red]"


def test_reasons_of_a_bench_and_of_records_are_shown_on_one_clean_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result: Any = SimpleNamespace(boards=[], failed={FOREIGN: FOREIGN}, left_out=[FOREIGN], interrupted=False)
    show_boards(result, full=False)
    assert warn_left_out([FOREIGN]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"seqmem: failed: {CLEANED}: {CLEANED}", *[f"seqmem: left out: {CLEANED}"] * 2]


@pytest.mark.parametrize("display", [Plain(), Rich()])
def test_the_displays_show_no_foreign_control_character(
    display: Plain | Rich, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    display.begin({"run": FOREIGN}, {"run": 4}, 0)
    for event in (
        {"event": "started", "step": 0},
        {"event": "step", "step": 1, "experience": FOREIGN, "loss": 1.0},
        {"event": "recall", "recall": {FOREIGN: 0.5}},
        {"event": "warning", "message": FOREIGN},
    ):
        display.event("run", event)
    if isinstance(display, Rich):
        display._live.console.print(display._view())
    display.event("run", {"event": "failed", "reason": FOREIGN})
    display.end()
    shown = capsys.readouterr().err
    assert CLEANED in shown and "\u202e" not in shown and "\x1b[2J" not in shown
    assert not any(line.lstrip().startswith("seqmem: all well") for line in shown.splitlines())


def _model(make: Callable[..., object]) -> Registry:
    plugins = Registry([Entry("model", "toy", "nowhere", "toys", "1")])
    plugins._specs["model", "toy"] = ModelSpec("toy", "1", "", locate=lambda: None, pretrain=make)  # type: ignore[arg-type]
    return plugins


def test_ctrl_c_stops_pretraining_after_a_step_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(out: Path, *, on_progress: Callable[..., None], **asked: object) -> None:
        assert asked == {"seed": 0, "steps": None, "device": "cpu", "resume": False, "force": True}
        on_progress(1, 9, 2.0)
        os.kill(os.getpid(), signal.SIGINT)  # in the middle of the second step
        done.append("second step")
        on_progress(2, 9, 2.0)
        done.append("third step")

    done: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(pretrain_verb, "registry", lambda ctx: _model(make))
    arguments = ["pretrain", "toy", "--out", "my folder", "--force"]
    monkeypatch.setattr(sys, "argv", ["seqmem", *arguments])
    assert run(arguments) == 130
    assert done == ["second step"] and signal.getsignal(signal.SIGINT) is before
    said = capsys.readouterr().err
    assert said == (
        "Stopped after step 2 of 9. Continue with: seqmem pretrain toy --out 'my folder' --resume\n"
    )


@pytest.mark.parametrize(("flags", "said"), [([], "nothing to continue"), (["--resume"], "toy --resume")])
def test_ctrl_c_before_the_first_step_stops_pretraining_at_once(
    flags: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(out: Path, **_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not stopped")

    monkeypatch.setattr(pretrain_verb, "registry", lambda ctx: _model(make))
    monkeypatch.setattr(sys, "argv", ["seqmem", "pretrain", "toy", *flags])
    assert run(["pretrain", "toy", *flags]) == 130
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "cuda"], "device cuda: torch sees no CUDA device here"),
        (["--resume"], "holds no checkpoint"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--steps", "0"], "Invalid value for '--steps'"),
        (["--out", "/dev/null/below"], "cannot write to /dev/null/below"),
    ],
)
def test_pretraining_refuses_in_one_line(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("SEQMEM_CACHE", str(tmp_path / "cache"))
    assert run(["pretrain", "tiny", *arguments]) == 2
    streams = capsys.readouterr()
    assert streams.err.startswith("seqmem: error: ") and streams.err.count("\n") == 1 and said in streams.err
    assert streams.out == "" and not list(tmp_path.iterdir())


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


def test_doctor_sees_a_torchvision_that_does_not_fit_and_a_plugin_that_fails(tmp_path: Path) -> None:
    """With fakes on the path, as a user would meet them: the pair is named, exit code 3 is the plugin's."""
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (tmp_path / "broken_plugin.py").write_text("raise ValueError('no way')")
    metadata = tmp_path / "broken_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[seqmem.strategy]\nbroken = broken_plugin\n")
    done = subprocess.run(
        [sys.executable, "-c", START + "sys.exit(code)", "doctor", "--json", "--out", str(tmp_path / "runs")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    bad = {found["subject"]: found["detail"] for found in json.loads(done.stdout) if found["state"] == "bad"}
    assert "do not fit: RuntimeError: operator torchvision::nms does not exist" in bad["torch pair"]
    assert "install both together" in bad["torch pair"]
    assert (
        "'broken' of broken-plugin 1.0 (broken_plugin) cannot be imported: ValueError: no way"
        in bad["plugin"]
    )


def test_the_wheel_answers_away_from_the_repository(
    stranger_python: Path, seqmem_in: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = seqmem_in(stranger_python, "-p", "no:half-gradient", "list", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["distribution"] for row in json.loads(done.stdout)} == {"seqmem"}
    where = subprocess.run(
        [stranger_python, "-c", "import seqmem; print(seqmem.__file__)"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(stranger_python.parents[1]))
