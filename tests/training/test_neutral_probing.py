"""Asking never changes what is learned: a run that is probed ends in the same bits as one that is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import Kind
from safetensors.torch import load_file
from small_runs import carry_out, finish, finished, small_model, tables
from small_runs import planned as planned_small

from seqmem.planning.grid import PlannedRun
from seqmem.record.reader import RunRecord
from seqmem.training import loop
from seqmem.training.probing import Answers, ProbeSet

SHORT = {"scenario.cycles": 1}
"""Ten steps, in two loops."""
SGD = {"optimizer.name": "sgd", "optimizer.lr": 0.5}
CASES: dict[str, tuple[str, dict[str, Any], Kind]] = {
    "adam": ("naive", {}, "gpt_neox"),
    "adamw": ("naive", {"optimizer.name": "adamw", "optimizer.weight_decay": 0.1}, "gpt_neox"),
    "sgd": ("naive", SGD, "gpt_neox"),
    "sgd with momentum": ("naive", {**SGD, "optimizer.momentum": 0.9}, "gpt_neox"),
    "moment_avg": ("moment_avg", {}, "gpt_neox"),
    "replay": ("replay", {"strategy.buffer": 6}, "gpt_neox"),
    "a model with dropout": ("naive", {}, "gpt2"),
}


def planned(
    model: Path, strategy: str = "naive", options: dict[str, Any] | None = None, **request: Any
) -> PlannedRun:
    return planned_small(model, strategy, {**SHORT, **(options or {})}, **request)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    folder = tmp_path_factory.mktemp("models")
    kinds: tuple[Kind, ...] = ("gpt_neox", "gpt2")
    return {kind: small_model(folder / kind, kind) for kind in kinds}


def end_of(run: PlannedRun, folder: Path) -> tuple[dict[str, Any], RunRecord]:
    """All that a run holds after its last step: tensors by hash, random states, the strategy's own state."""
    steps = run.outline.steps
    record = finish(run, folder, checkpoint_every=steps, keep_checkpoints=True)
    state = json.loads((folder / "checkpoints" / f"step-{steps:08d}" / "state.json").read_text())
    assert state["step"] == steps
    for of_the_answers in ("files", "sha256"):  # which differ, as more or less was asked
        del state[of_the_answers]
    return state, record


@pytest.mark.parametrize("case", CASES)
def test_probing_at_every_step_and_never_end_in_the_same_bits(
    case: str, models: dict[Kind, Path], tmp_path: Path
) -> None:
    strategy, options, kind = CASES[case]
    ends, records = {}, {}
    others = ("every", "schedule") if case == "moment_avg" else ("every",)
    for probing in (*others, "none"):
        run = planned(models[kind], strategy, options, probing=probing)
        ends[probing], records[probing] = end_of(run, tmp_path / probing)
    for probing in others:
        assert ends[probing] == ends["none"]  # tensors' hash, torch's and the strategy's random state
        for name in ("final", "final_weights", "content"):
            assert records[probing].info[name] == records["none"].info[name]
        for name, content in tables(records["none"].folder).items():
            if not name.startswith(("probes", "items")):
                assert tables(records[probing].folder)[name] == content, name
    assert len(records["none"].probes) == 0
    every = records["every"].probes
    assert sorted(set(every["step"])) == list(range(records["every"].info["steps"] + 1))


def test_a_model_with_dropout_does_draw_random_numbers_while_it_trains(
    models: dict[Kind, Path], tmp_path: Path
) -> None:
    random = {}
    for kind in ("gpt2", "gpt_neox"):
        run = planned(models[kind], options={"scenario.rest": "none"}, probing="none")
        end_of(run, tmp_path / kind)
        (last,) = (tmp_path / kind / "checkpoints").glob("step-*")
        random[kind] = load_file(last / "tensors.safetensors")["random:cpu"]
    assert not torch.equal(random["gpt2"], random["gpt_neox"])


def draws(model: torch.nn.Module) -> None:
    torch.rand(1)


def nudges(model: torch.nn.Module) -> None:
    weight = next(model.parameters())
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(torch.inf))


def leaves_evaluation_mode_on(model: torch.nn.Module) -> None:
    model.eval()


@pytest.mark.parametrize(
    ("fault", "kind"), [(draws, "gpt_neox"), (nudges, "gpt_neox"), (leaves_evaluation_mode_on, "gpt2")]
)
def test_this_comparison_notices_probing_that_disturbs_training(
    fault: Any, kind: Kind, models: dict[Kind, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, ask = finished(planned(models[kind], probing="schedule")), ProbeSet.ask

    def faulty(self: ProbeSet, model: torch.nn.Module, *forward: Any) -> Answers:
        answers = ask(self, model, *forward)
        fault(model)
        return answers

    monkeypatch.setattr(ProbeSet, "ask", faulty)
    disturbed = finish(planned(models[kind], probing="schedule"), tmp_path / "disturbed")
    assert disturbed.info["final"] != sound.info["final"]


@pytest.mark.parametrize(
    "case", ["adam", "sgd with momentum", "moment_avg", "replay", "a model with dropout"]
)
def test_a_rest_without_training_changes_nothing(case: str, models: dict[Kind, Path], tmp_path: Path) -> None:
    strategy, options, kind = CASES[case]
    ended = finish(planned(models[kind], strategy, {**options, "scenario.rest": "none"}), tmp_path / "ended")
    rest = {**options, "scenario.rest": "both", "scenario.rest_training": False}
    rested = finish(planned(models[kind], strategy, rest, probing="every"), tmp_path / "rested")
    assert rested.info["steps"] == ended.info["steps"] + 8
    assert rested.info["final"] == ended.info["final"]
    still = rested.steps[rested.steps["step"] > ended.info["steps"]]
    assert len(still) == 8
    assert (still["lr"] == 0).all()
    assert (still["loss"] > 0).all()
    if case == "adam":
        trained = finish(planned(models[kind], options={"scenario.rest": "both"}), tmp_path / "trained")
        assert trained.info["final"] != ended.info["final"]


def test_a_rest_without_training_that_changes_the_learner_fails_the_run(
    models: dict[Kind, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only = loop.read_only

    def trains_a_little(run: loop.Run, *arguments: Any) -> float:
        nudges(run.learner.model)
        return read_only(run, *arguments)

    monkeypatch.setattr(loop, "read_only", trains_a_little)
    run = planned(models["gpt_neox"], options={"scenario.rest_training": False})
    last = carry_out(run, tmp_path / "run")[-1]
    assert last["event"] == "failed"
    assert last["reason"] == "rest unrelated: a rest without training changed the learner"


def test_the_probing_option_is_part_of_what_a_run_is(models: dict[Kind, Path]) -> None:
    ids = {
        planned(models["gpt_neox"], probing=probing).recipe.id for probing in ("every", "schedule", "none")
    }
    assert len(ids) == 3
