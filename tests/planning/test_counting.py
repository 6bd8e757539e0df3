"""Planned token counts equal what the run reads, where text and tokenizer are at hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import finish, installed, small_model

from seqmem.planning import counting
from seqmem.planning.counting import count_tokens
from seqmem.planning.grid import Plan
from seqmem.planning.pace import Pace
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.plugin.registry import Registry


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model") / "model")


def planned(model: Path, scenario: str = "memory_loops", **changes: Any) -> Plan:
    asked: dict[str, Any] = {
        "scenario": (scenario,),
        "strategy": ("naive",),
        "model": (str(model),),
        "preset": "smoke",
        "seeds": "0",
        "device": "cpu",
        "controls": False,
        **changes,
    }
    return plan(Request(**asked), installed())


@pytest.mark.parametrize("scenario", ["memory_loops", "freeze_loops", "saturation"])
def test_a_run_reads_the_tokens_that_its_plan_says(scenario: str, model: Path, tmp_path: Path) -> None:
    asked = planned(model, scenario)
    (run,) = count_tokens(asked, installed()).runs.values()
    (bound,) = asked.runs.values()
    assert run.outline.exact and not bound.outline.exact
    record = finish(run, tmp_path / "run")
    assert run.outline.train_tokens == record.steps["tokens"].sum() < bound.outline.train_tokens
    assert run.outline.probe_rows == bound.outline.probe_rows == len(record.probes)
    assert run.outline.probe_tokens <= bound.outline.probe_tokens
    pace = Pace(widths=(64,), train=(1e9,), forward=(1e9,), per_matrix=0, per_parameter=0)
    assert run.seconds(pace) < bound.seconds(pace)
    assert run.recipe == bound.recipe


def test_runs_that_read_the_same_are_counted_once_and_long_streams_not_at_all(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    count = counting.counted
    monkeypatch.setattr(counting, "counted", lambda *given: counts.append(given) or count(*given))
    asked = planned(model, strategy=("naive", "ewc"), seeds="0-1")
    assert all(run.outline.exact for run in count_tokens(asked, installed()).runs.values())
    assert len(asked.runs) == 4 and len(counts) == 2
    monkeypatch.setattr(counting, "MAX_TOKENS", next(iter(asked.runs.values())).outline.train_tokens)
    told = [run.outline.exact for run in count_tokens(asked, installed()).runs.values()]
    assert sorted(told) == [False, False, True, True], "the bound is for all streams together"


def test_text_that_may_have_to_be_fetched_is_not_opened(model: Path) -> None:
    registry = Registry.from_environment()
    world = registry.load("text", "world")

    def never(*given: Any) -> Any:
        raise AssertionError("opened")

    registry._specs[("text", "world")] = replace(world, remote=True, open=never)
    assert registry.load("text", "world").remote and installed().load("text", "dataset").remote
    (run,) = count_tokens(planned(model), registry).runs.values()
    assert not run.outline.exact


def test_a_folder_without_tokenizer_json_keeps_its_bounds(model: Path, tmp_path: Path) -> None:
    asked = planned(model)
    (run,) = asked.runs.values()
    bare = replace(asked, runs={run.recipe.id: replace(run, model_folder=tmp_path)})
    assert count_tokens(bare, installed()).runs[run.recipe.id].outline == run.outline


def test_a_stream_that_refuses_is_named_before_it_is_run(model: Path) -> None:
    asked = planned(model, set=("scenario.row_tokens=8",))
    (note,) = count_tokens(asked, installed()).notes
    assert "smoke" not in note and " s0 will be refused: the document stating " in note


def test_counting_imports_no_torch() -> None:
    code = (
        "import sys; from seqmem.plugin.registry import Registry; from seqmem.planning.plan import plan; "
        "from seqmem.planning.request import Request; from seqmem.planning.counting import count_tokens; "
        "registry = Registry.from_environment(); "
        "asked = Request(scenario=('freeze_loops',), strategy=('naive',), preset='smoke', seeds='0', device='cpu'); "
        "(run,) = count_tokens(plan(asked, registry), registry).runs.values(); "
        "print(run.outline.exact, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
