"""The time that a plan states: from counts, and from a pace that is measured once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import installed

from seqmem import Outline
from seqmem.cli.plan import plan_records, show_plan
from seqmem.core.errors import RunFailed
from seqmem.planning.pace import Pace
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.training import pace as measuring
from seqmem.verbs import pace as keeping

OUTLINE = Outline(
    steps=10,
    train_tokens=1000,
    probe_rows=4,
    probe_tokens=500,
    loops=1,
    experiences=1,
    longest_row=8,
    documents=(0, 0),
    primary="retention",
    primary_relation="question",
)
PACE = Pace(widths=(10, 1000), train=(1e6, 1e8), forward=(2e6, 2e8), per_matrix=0.5, per_parameter=1e-3)


def test_each_matrix_is_read_at_the_rate_of_its_width_and_steps_cost_time_of_their_own() -> None:
    shapes = {"a": (100, 400), "b": (5, 20), "norm": (100,)}
    # a: width 100 is half way between the two on a scale of logarithms; b: narrower than was measured
    training = 6 * 1000 * (40_000 / 1e7 + 100 / 1e6)
    asking = 2 * 500 * (40_000 / 2e7 + 100 / 2e6)
    steps = 10 * (2 * 0.5 + 40_200 * 1e-3)
    assert PACE.seconds(shapes, OUTLINE) == pytest.approx(training + asking + steps)
    padded = replace(OUTLINE, padded_tokens=2000)
    assert PACE.seconds(shapes, padded) == pytest.approx(2 * training + asking + steps)


def test_the_pace_is_measured_once_for_each_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMEM_CACHE", str(tmp_path))
    measured: list[tuple[str, str, int]] = []

    def measure(*setting: Any) -> dict[str, Any]:
        measured.append(setting)
        return PACE.model_dump(mode="json")

    monkeypatch.setattr(keeping, "measure_pace", measure)
    said: list[str] = []
    for threads in (1, 2, 1, 2):
        assert keeping.pace_of("cpu", "float32", threads, said.append) == PACE
    assert measured == [("cpu", "float32", 1), ("cpu", "float32", 2)]
    assert len(said) == 2 and "measuring the pace of this machine" in said[0]
    (tmp_path / keeping.FILE).write_text(json.dumps({"a": 1})[:-3])
    assert keeping.pace_of("cpu", "float32", 1, said.append) == PACE
    assert len(measured) == 3


def test_what_is_measured_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "WIDTHS", (16, 32))
    monkeypatch.setattr(measuring, "LEAST_SECONDS", 0.0)
    for precision in ("float32", "bf16-mixed"):
        found = Pace.model_validate(json.loads(json.dumps(measuring.measure("cpu", precision))))
        assert found.widths == (16, 32)
        assert all(rate > 0 for rate in (*found.train, *found.forward))


def test_a_measurement_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMEM_CACHE", str(tmp_path))
    with pytest.raises(RunFailed, match="the process that measures the pace ended with code"):
        keeping.pace_of("no such device", "float32", 1, lambda text: None)


def test_a_plan_without_a_pace_says_all_but_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQMEM_CACHE", str(tmp_path))

    def fail(*setting: Any) -> dict[str, Any]:
        raise RunFailed("no time today")

    monkeypatch.setattr(keeping, "measure_pace", fail)
    runs = plan(
        Request(scenario=("memory_loops",), strategy=("naive",), preset="smoke", device="cpu"), installed()
    )
    assert show_plan(runs, as_json=False) == 0
    out, err = capsys.readouterr()
    assert "no times: no time today" in err
    assert "steps on cpu" in out and "about 0" not in out
    assert {record["seconds"] for record in plan_records(runs, None)} == {None}
