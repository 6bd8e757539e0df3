"""`seqmem audit` and `bench --accept-audit`, from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import InlineWorkers, small_model
from taught import taught_model

import seqmem
from seqmem import RunRecord, UsageError
from seqmem.cli.app import run as command_line
from seqmem.planning.job import Job
from seqmem.reporting.board_files import rebuild

ASKED: dict[str, Any] = {"scenario": "memory_loops", "preset": "smoke"}


class Auditing(InlineWorkers):
    """Audits in this process."""

    def __init__(self, count: int, threads: int, module: str) -> None:
        super().__init__(count, threads)
        assert module == "seqmem.training.audit"

    def carry_out(self, job: Job, report: Any, should_stop: Callable[[], bool]) -> None:
        from seqmem.training.audit import audit_job

        audit_job(job, report, should_stop)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught_model(tmp_path_factory.mktemp("taught") / "facts", "primary", twins=False, **ASKED)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("seqmem.verbs.audit.Workers", Auditing)
    monkeypatch.setattr("seqmem.verbs.bench.Workers", InlineWorkers)
    for drawing in ("draw_curves", "draw_sweep", "draw_metric"):
        monkeypatch.setattr(f"seqmem.reporting.figures.{drawing}", lambda *arguments: None)
    yield


def test_a_model_that_guesses_passes_in_one_screen(inline: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["audit", "tiny", "--scenario", "memory_loops", "--preset", "smoke"]) == 0
    shown, said = capsys.readouterr()
    lines = shown.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 130
    assert lines[0] == "memory_loops naive tiny s0, before training; recall is by forced choice"
    assert lines[2].split()[:8] == ["question", "*", "2", "of", "8", "2", "of", "8"]
    assert lines[-1] == "Passed: a run would be accepted."
    assert "loading model tiny" in said


def test_a_model_that_knows_the_facts_fails_with_exit_code_1(
    inline: None, taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["audit", str(taught), "--scenario", "memory_loops", "--preset", "smoke"]
    assert command_line(given) == 1
    shown = capsys.readouterr().out
    assert "FAILED  question: 8 of 8 facts are right before training" in shown
    assert shown.endswith("Failed: a run would be refused; --accept-audit runs it anyway.\n")
    assert command_line([*given, "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["passed"] is False
    (found,) = printed["audits"]
    assert (found["passed"], found["forms"][0]["facts"]["refused"]) == (False, True)
    assert [check["state"] for check in found["checks"]].count("failed") == 1


def test_wrong_names_are_wrong_usage(inline: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["audit", "tiny", "--scenario", "memory_lops"]) == 2
    assert "Did you mean 'memory_loops'?" in capsys.readouterr().err
    assert command_line(["audit", "tinny", "--scenario", "memory_loops"]) == 2
    assert "Did you mean 'tiny'?" in capsys.readouterr().err
    assert command_line(["audit", "tiny"]) == 2
    assert "name one with --scenario" in capsys.readouterr().err
    assert command_line(["audit"]) == 2


def test_every_seed_is_audited_and_one_stream_once(inline: None) -> None:
    result = seqmem.audit("tiny", "memory_loops", preset="smoke", seeds=[0, 1])
    assert [found.seed for found in result.audits.values()] == [0, 1] and result.passed
    swept = seqmem.audit("tiny", "learning_threshold", preset="smoke", display="none")
    assert len(swept.audits) == 2  # what is swept besides is the learning rate


def test_a_stream_that_refuses_is_a_failure(inline: None, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["audit", "tiny", "--scenario", "memory_loops", "--preset", "smoke"]
    assert command_line([*given, "--set", "scenario.row_tokens=8"]) == 1
    assert "seqmem: failed: memory_loops naive tiny s0" in capsys.readouterr().err


@pytest.mark.slow
def test_it_works_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["audit", "tiny", "--scenario", "memory_loops", "--preset", "smoke"]) == 0
    assert capsys.readouterr().out.endswith("Passed: a run would be accepted.\n")


def test_bench_refuses_and_accepts_with_a_footnote(inline: None, taught: Path, tmp_path: Path) -> None:
    asked = {
        **ASKED,
        "strategy": "naive",
        "model": str(taught),
        "seeds": "0",
        "controls": False,
        "out": tmp_path / "out",
        "display": "none",
        "device": "cpu",
    }
    with pytest.raises(UsageError, match=r"8 of 8 facts are right before training.*--accept-audit"):
        seqmem.bench(**asked)
    assert not list((tmp_path / "out").glob("records/*"))

    kept = seqmem.bench(**asked, accept_audit=True)
    said = "run by --accept-audit: seed 0: question: 8 of 8 facts are right before training"
    assert said in (kept.board.folder / "table.md").read_text()
    (path,) = (tmp_path / "out").glob("records/*")
    record = RunRecord.open(path)
    assert "8 of 8 facts" in record.info["accepted_audit"][0]
    assert "accept_audit" not in json.dumps(record.recipe)
    (rebuilt,), _ = rebuild(kept.board.folder)
    assert said in (rebuilt.folder / "table.md").read_text()


def test_a_run_that_passes_has_nothing_on_record(inline: None, tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    result = seqmem.bench(
        **ASKED,
        strategy="naive",
        model=str(model),
        seeds="0",
        controls=False,
        out=tmp_path / "out",
        display="none",
        device="cpu",
        accept_audit=True,
    )
    (path,) = (tmp_path / "out").glob("records/*")
    assert "accepted_audit" not in RunRecord.open(path).info
    assert "--accept-audit" not in (result.board.folder / "table.md").read_text()
