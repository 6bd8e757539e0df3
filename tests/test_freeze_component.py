"""`freeze_component`: what the protocol freezes stays bit for bit, and the block of a task is found in any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import KINDS, Kind, make_model_folder
from small_runs import carry_out, finish, results, small_model, tables

from seqmem import Experience, Learner, UsageError
from seqmem.plan import PlannedRun, Request, plan
from seqmem.recipe import OptimizerSettings
from seqmem.registry import Registry
from seqmem_plugins.strategies.freeze_component import FreezeComponent, FreezeComponentOptions

BLOCKS = {"gpt_neox": "gpt_neox.layers", "opt": "model.decoder.layers", "gpt2": "transformer.h"}
"""Where each architecture keeps its blocks; Llama keeps them in `model.layers`."""


def learner_of(kind: Kind, folder: Path) -> Learner:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_model_folder(kind, folder))
    return Learner(model, OptimizerSettings(lr=1e-2), torch.device("cpu"), seed=0)


def strategy_of(learner: Learner, components: int = 2) -> FreezeComponent:
    strategy = FreezeComponent(FreezeComponentOptions(components=components))
    strategy.setup(learner)
    return strategy


def experience(trains: Any, task: int | None) -> Experience:
    return Experience(0, "part", "task", task, (), trains=trains)


# -- which parameters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_component_of_a_task_is_one_block_counted_from_the_end(kind: Kind, tmp_path: Path) -> None:
    learner = learner_of(kind, tmp_path)
    strategy, path = strategy_of(learner), BLOCKS.get(kind, "model.layers")
    every = set(learner.parameters)
    for task, block in ((0, 1), (1, 0), (2, 1), (7, 0)):
        own = {name for name in every if name.startswith(f"{path}.{block}.")}
        assert len(own) > 5
        assert set(strategy.trainable(learner, experience("component", task)) or ()) == own
        assert set(strategy.trainable(learner, experience("others", task)) or ()) == every - own
    for trains in ("all", "none"):
        assert strategy.trainable(learner, experience(trains, 0)) is None


def test_with_one_component_all_tasks_share_the_last_block(tmp_path: Path) -> None:
    learner = learner_of("gpt_neox", tmp_path)
    strategy = strategy_of(learner, components=1)
    found = [set(strategy.trainable(learner, experience("component", task)) or ()) for task in range(3)]
    assert found[0] == found[1] == found[2]
    assert all(name.startswith("gpt_neox.layers.1.") for name in found[0])


def test_what_belongs_to_no_task_trains_everything(tmp_path: Path) -> None:
    learner = learner_of("gpt_neox", tmp_path)
    assert strategy_of(learner).trainable(learner, experience("component", None)) is None


def test_the_largest_list_of_that_length_is_taken_for_the_blocks() -> None:
    model = torch.nn.Module()
    model.config = type("Config", (), {"num_hidden_layers": 3})()
    model.gates = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    model.blocks = torch.nn.ModuleList(torch.nn.Linear(9, 9) for _ in range(3))
    model.heads = torch.nn.ModuleList(torch.nn.Linear(90, 90) for _ in range(2))
    learner = Learner(model, OptimizerSettings(), torch.device("cpu"), seed=0)
    own = strategy_of(learner).trainable(learner, experience("component", 0))
    assert set(own or ()) == {"blocks.2.weight", "blocks.2.bias"}


# -- what is trained --------------------------------------------------------------------------------------

SMOKE = ("scenario.row_tokens=96",)


def planned(model: Path, *sets: str, strategy: str = "freeze_component") -> PlannedRun:
    request = Request(
        scenario=("freeze_loops",),
        strategy=(strategy,),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        set=(*SMOKE, *sets),
        reference=False,
        controls=False,
        device="cpu",
    )
    (run,) = plan(request, Registry.from_environment()).runs.values()
    return run


def state_of(learner: Learner) -> dict[str, list[torch.Tensor]]:
    """Weights, both moments and clock of every parameter, copied."""
    return {
        name: [
            parameter.detach().clone(),
            *(learner.moments("main", moment)[name].clone() for moment in ("exp_avg", "exp_avg_sq", "step")),
        ]
        for name, parameter in learner.parameters.items()
    }


@pytest.mark.parametrize("kind", ["gpt_neox", "opt"])
def test_frozen_weights_and_moments_stay_bit_for_bit_and_the_others_change(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, set[str], set[str]]] = []
    before: dict[str, list[torch.Tensor]] = {}

    def note(self: FreezeComponent, learner: Learner, experience: Experience) -> None:
        before.clear()
        before.update(state_of(learner))

    def compare(self: FreezeComponent, learner: Learner, experience: Experience) -> None:
        after = state_of(learner)
        changed = {
            name
            for name, parts in after.items()
            if not torch.equal(before[name][0], parts[0])  # weights
        }
        touched = {
            name
            for name, parts in after.items()
            if not all(torch.equal(*pair) for pair in zip(before[name], parts, strict=True))
        }
        wanted = self.trainable(learner, experience)
        whole = set(learner.parameters)
        frozen = whole - set(whole if wanted is None else wanted)
        assert not touched & frozen, experience.name
        seen.append((experience.name, experience.trains, changed, frozen))

    monkeypatch.setattr(FreezeComponent, "before_experience", note)
    monkeypatch.setattr(FreezeComponent, "after_experience", compare)
    record = finish(planned(small_model(tmp_path / "model", kind)), tmp_path / "run")

    assert [name for name, *_ in seen] == record.experiences["name"].tolist()
    blocks = {}
    for name, trains, changed, frozen in seen:
        # attention's key bias has no gradient by the arithmetic of softmax: it may stay where it is
        assert all("k_proj.bias" in parameter for parameter in set(before) - frozen - changed), name
        if trains == "component":
            blocks[name] = changed
        assert bool(frozen) == (trains != "all")
    assert not blocks["task 0"] & blocks["task 1"]


def test_it_ends_elsewhere_than_naive_which_ignores_what_the_protocol_wants(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    frozen = finish(planned(model), tmp_path / "frozen")
    plain = finish(planned(model, strategy="naive"), tmp_path / "plain")
    assert frozen.info["content"] == plain.info["content"]  # the same rows
    assert frozen.info["final_weights"] != plain.info["final_weights"]
    assert frozen.info["extra_state_bytes"] == 0


def test_a_run_stopped_inside_a_frozen_stretch_goes_on_to_the_same_end(tmp_path: Path) -> None:
    run = planned(small_model(tmp_path / "model"))
    whole = finish(run, tmp_path / "whole", checkpoint_every=1000)
    steps = iter(range(1000))
    events = carry_out(run, tmp_path / "parts", should_stop=lambda: next(steps) == 2)  # inside task 0
    assert events[-1]["event"] == "stopped"
    resumed = finish(run, tmp_path / "parts", resume=True)
    assert results(resumed) == results(whole)
    assert tables(tmp_path / "parts")["items.parquet"] == tables(tmp_path / "whole")["items.parquet"]


# -- refusals ---------------------------------------------------------------------------------------------


def test_more_components_than_blocks_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = planned(small_model(tmp_path / "model"), "strategy.components=3")
    (event,) = carry_out(run, tmp_path / "run")
    assert event == {
        "event": "refused",
        "reason": "strategy.components=3: the model has 2 transformer blocks; allowed: 1 to 2",
    }
    assert not (tmp_path / "run").exists()


def test_a_model_without_a_list_of_blocks_is_refused_in_one_line() -> None:
    learner = Learner(torch.nn.Linear(2, 2), OptimizerSettings(), torch.device("cpu"), seed=0)
    with pytest.raises(UsageError, match=r"^strategy freeze_component finds no list of .* in Linear; use"):
        strategy_of(learner)
