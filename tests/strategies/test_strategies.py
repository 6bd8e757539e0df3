"""Checks that every strategy must pass: one list, one set of checks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small_runs import (
    Events,
    carry_out,
    finish,
    finished,
    installed,
    planned,
    results,
    rows,
    small_model,
)

from seqmem import RunRecord, UsageError
from seqmem.planning.grid import PlannedRun
from seqmem.training import loop

NAMES = [listed.name for listed in installed().names("strategy")]

ACTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "freeze_component": (
        "freeze_loops",
        {
            "strategy.components": 1,
            "scenario.tasks": 2,
            "scenario.facts_per_task": 2,
            "scenario.exposures": 4,
        },
    ),
}
"""Scenario and options in which a strategy acts, where small loops are not enough."""

LOOPS = ("memory_loops", {"scenario.facts_per_loop": 1})

AT_MOST = {"replay", "freeze_component", *(name for name in NAMES if name.startswith("avalanche:"))}
"""Strategies that keep rows or activations, whose lengths planning cannot know: their plan is a bound."""

ALONE = ("freeze_component", "lora")
"""Strategies that leave parameters untrained by themselves."""

EXCLUSIVE = ("grow_prune", "avalanche:LwF")
"""Strategies that cannot stand beside one that routes or replaces the model."""

WITHOUT_LOOPS = {("joint", "moment_avg")}
"""Pairs of which the second has nothing left to do."""

REFERENCES = ("naive", "joint")
"""Strategies that add nothing to the learner."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def run_of(model: Path, strategy: str, **request: Any) -> PlannedRun:
    """A run of seconds in which the strategy, or the first of a composition, has something to do."""
    scenario, options = ACTS.get(strategy.partition("+")[0], LOOPS)
    own = {k: v for k, v in options.items() if k.startswith("scenario.") or strategy in ACTS}
    return planned(model, strategy, own, scenario=scenario, **request)


def naive_like(model: Path, strategy: str) -> PlannedRun:
    """The reference's run of the same stream."""
    scenario, options = ACTS.get(strategy, LOOPS)
    return planned(
        model,
        "naive",
        {k: v for k, v in options.items() if not k.startswith("strategy.")},
        scenario=scenario,
    )


def stop_after(steps: int) -> Any:
    asked = itertools.count(1)
    return lambda: next(asked) >= steps


@pytest.mark.parametrize("strategy", NAMES)
def test_stopped_now_and_then_it_ends_in_the_same_bits(strategy: str, model: Path, tmp_path: Path) -> None:
    """Inside a visit, at the end of one and in the rest; each part in a learner built anew."""
    run = run_of(model, strategy)
    whole, again = finished(run), tmp_path / "again"
    ends = []
    for steps in (5, 4, 6, run.outline.steps):
        events: Events = carry_out(run, again, should_stop=stop_after(steps), resume=bool(ends))
        ends.append(events[-1]["event"])
    assert ends == ["stopped", "stopped", "stopped", "finished"]
    assert results(RunRecord.open(again)) == results(whole)
    expected = rows(whole.folder)
    for name, frame in rows(again).items():
        pd.testing.assert_frame_equal(frame, expected[name], check_exact=True)


@pytest.mark.parametrize("strategy", [name for name in NAMES if name != "naive"])
def test_it_acts_and_the_plan_knows_what_it_keeps(strategy: str, model: Path) -> None:
    run = run_of(model, strategy)
    record = finished(run)
    plain = finished(naive_like(model, strategy))
    assert record.info["final_weights"] != plain.info["final_weights"]
    assert record.probes["logprob"].tolist() != plain.probes["logprob"].tolist()
    kept = record.info["extra_state_bytes"]
    if strategy in AT_MOST:
        assert 0 <= kept <= run.extra_bytes
        assert run.extra_bytes > 0
    else:
        assert kept == run.extra_bytes


@pytest.mark.parametrize("strategy", NAMES)
def test_what_is_not_trained_stays_as_it_is(
    strategy: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is left alone where one component is trained: it and its moments are the same bits after every step."""
    original, compared = loop.step, 0

    def step(run: loop.Run, *arguments: Any) -> float:
        nonlocal compared
        still = {n for n, p in run.learner.model.named_parameters() if not p.requires_grad}
        moments = {
            f"state:{entry}:{name}"
            for entry in run.learner.state
            if entry.startswith("moments.")
            for name in still & run.learner.state[entry].keys()
        }
        kept = {
            name: tensor.clone()
            for name, tensor in run.learner.tensors().items()
            if name.removeprefix("weights:") in still or name in moments
        }
        nats = original(run, *arguments)
        after = run.learner.tensors()
        assert all(torch.equal(after[name], tensor) for name, tensor in kept.items())
        compared += len(kept)
        return nats

    monkeypatch.setattr(loop, "step", step)
    try:
        run = run_of(model, strategy if strategy in ALONE else f"freeze_component+{strategy}")
    except UsageError as error:  # what replaces the model or routes cannot go together with it
        assert "cannot go together" in str(error) and strategy in EXCLUSIVE
        return
    finish(run, tmp_path / "run")
    assert compared or strategy == "joint"  # in whose stream no component is trained alone


OTHERS = ("replay", "ewc", "moment_avg")
"""One that adds rows, one that adds to the loss, one that keeps moments of its own."""


def pairs() -> list[Any]:
    """Every strategy with one of the others in turn, and the odd pair; the rest is for `make perf`."""
    soon = {(name, OTHERS[number % 3]) for number, name in enumerate(NAMES)} | WITHOUT_LOOPS
    return [
        pytest.param(name, other, marks=() if (name, other) in soon else pytest.mark.slow)
        for name in NAMES
        for other in OTHERS
    ]


@pytest.mark.parametrize(("strategy", "other"), pairs())
def test_with_another_it_runs_or_is_refused_with_the_reason(
    strategy: str, other: str, model: Path, tmp_path: Path
) -> None:
    try:
        run = run_of(model, f"{strategy}+{other}")
    except UsageError as error:
        assert "\n" not in str(error)
        assert "cannot go together" in str(error) or f"names {other} twice" in str(error)
        return
    record = finish(run, tmp_path / "both")
    assert record.steps["loss"].notna().all()
    kept = record.info["extra_state_bytes"]
    assert kept <= run.extra_bytes if {strategy, other} & AT_MOST else kept == run.extra_bytes
    alone = finished(run_of(model, strategy))
    acts = (strategy, other) not in WITHOUT_LOOPS
    assert (record.probes["logprob"].tolist() != alone.probes["logprob"].tolist()) == acts


def test_references_keep_nothing(model: Path) -> None:
    assert [run_of(model, strategy).extra_bytes for strategy in REFERENCES] == [0, 0]
