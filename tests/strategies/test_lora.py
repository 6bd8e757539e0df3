"""`lora`: adapters alone are trained, a new one changes nothing, and each task may have its own."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grown_models import loaded
from model_folders import KINDS, MORE_KINDS, Kind
from small_runs import carry_out, finish, planned, results, small_model, tables

from seqmem import Example, Experience, Footprint, Outline, UsageError
from seqmem.core.recipe import OptimizerSettings
from seqmem.training.learner import Learner
from seqmem_plugins.strategies._adapters import use_adapter
from seqmem_plugins.strategies._architecture import block_of, shapes_of
from seqmem_plugins.strategies.lora import Lora, LoraOptions, LoraPerTask, build, check_model, resize

ADAM = OptimizerSettings(lr=1e-2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    return {kind: small_model(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


def pupil(folder: Path) -> Learner:
    from transformers import AutoModelForCausalLM

    return Learner(AutoModelForCausalLM.from_pretrained(folder), ADAM, torch.device("cpu"), seed=0)


def strategy_of(learner: Learner, **values: Any) -> Lora:
    strategy = build(LoraOptions.model_validate(values))
    assert isinstance(strategy, Lora)
    strategy.setup(learner)
    return strategy


def logits(learner: Learner, ids: torch.Tensor) -> torch.Tensor:
    learner.model.eval()
    with torch.no_grad():
        given: torch.Tensor = learner.model(input_ids=ids, use_cache=False).logits
    learner.model.train()
    return given


def visit(learner: Learner, strategy: Lora, task: int | None, steps: int = 2) -> None:
    part = Experience(0, "part", "task", task, ())
    strategy.before_experience(learner, part)
    learner.set_trainable(strategy.trainable(learner, part))
    draw = np.random.default_rng(0 if task is None else task + 1)
    rows = [Example(draw.integers(1, 500, 9).astype(np.int32), np.ones(9, np.bool_)) for _ in range(3)]
    for _ in range(steps):
        loss, _, _ = learner.loss(rows, lambda ids, prompt: strategy.forward(learner, ids, task, prompt))
        loss.backward()
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)


IDS = torch.randint(1, 500, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_leaves_every_logit_bit_for_bit_and_training_moves_them(
    kind: Kind, folders: dict[Kind, Path]
) -> None:
    learner = pupil(folders[kind])
    plain = logits(learner, IDS)
    random = torch.get_rng_state()
    strategy = strategy_of(learner)
    assert torch.equal(torch.get_rng_state(), random)  # nobody else's draws move
    assert torch.equal(logits(learner, IDS), plain)
    visit(learner, strategy, None)
    assert (logits(learner, IDS) - plain).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_alone_are_trained_and_all_of_them(kind: Kind, folders: dict[Kind, Path]) -> None:
    learner = pupil(folders[kind])
    strategy = strategy_of(learner)
    assert all(".lora_" in name for name in learner.parameters)
    before = {name: parameter.detach().clone() for name, parameter in learner.model.named_parameters()}
    visit(learner, strategy, None)
    for name, parameter in learner.model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in learner.parameters), name


def test_an_adapter_adds_alpha_over_rank_b_a_x(folders: dict[Kind, Path]) -> None:
    for kind in ("gpt_neox", "gpt2"):
        learner = pupil(folders[kind])
        path = {"gpt_neox": "gpt_neox.layers.1.mlp.dense_4h_to_h", "gpt2": "transformer.h.1.mlp.c_proj"}[kind]
        x = torch.randn(3, 64 if kind == "gpt_neox" else 128)
        plain = learner.model.get_submodule(path)(x)
        strategy_of(learner, rank=2, alpha=6)
        a, b = (learner.parameters[f"{path}.lora_{half}.shared.weight"] for half in "AB")
        assert a.shape == (2, x.shape[1]) and b.shape == (32, 2) and a.any() and not b.any()
        with torch.no_grad():
            b.normal_()
            given = learner.model.get_submodule(path)(x)
        assert torch.allclose(given, plain + 3 * (x @ a.T @ b.T), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_the_matrices_of_attention_and_mlp(kind: Kind, folders: dict[Kind, Path]) -> None:
    found: dict[str, set[str]] = {}
    for targets in ("attention", "mlp", "both"):
        learner = pupil(folders[kind])
        strategy_of(learner, targets=targets)
        found[targets] = {name.split(".lora_")[0] for name in learner.parameters}
    assert found["both"] == found["attention"] | found["mlp"]
    assert not found["attention"] & found["mlp"]
    matrices = {"gpt_neox": (2, 2), "opt": (4, 2), "gpt2": (2, 2), "llama": (4, 3)}[kind]
    assert (len(found["attention"]), len(found["mlp"])) == tuple(2 * count for count in matrices)
    assert all("attn" in name or "attention" in name for name in found["attention"])


def test_the_random_halves_come_from_the_run_s_generator(folders: dict[Kind, Path]) -> None:
    halves = []
    for seed in (0, 0, 1):
        learner = pupil(folders["gpt_neox"])
        learner.generator = np.random.Generator(np.random.PCG64(seed))
        strategy_of(learner)
        halves.append(next(p for n, p in learner.parameters.items() if ".lora_A." in n))
    assert torch.equal(halves[0], halves[1]) and not torch.equal(halves[0], halves[2])


def footprint(shapes: dict[str, tuple[int, ...]], config: dict[str, Any]) -> Footprint:
    outline = Outline(1, 1, 1, 1, 1, 1, 8, (1, 1), "recall", "prompt")
    return Footprint(shapes, 4, ("exp_avg", "exp_avg_sq"), config, outline)


@pytest.mark.parametrize("kind", [*MORE_KINDS, "gptj", "mpt", "stablelm"])
def test_adapters_are_put_into_other_architectures_as_planned_and_alone_get_gradients(kind: Any) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    if kind in MORE_KINDS:
        model = copy.deepcopy(loaded(kind))
    else:
        size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        more = {"vocab_size": 512, "rotary_dim": 8, "num_key_value_heads": 2}
        config = AutoConfig.for_model(kind, **size, **more)
        model = AutoModelForCausalLM.from_config(config)
    learner = Learner(model, ADAM, torch.device("cpu"), seed=0)
    plain, shapes = logits(learner, IDS), shapes_of(learner.parameters)
    planned_shapes = resize(LoraOptions(), footprint(shapes, model.config.to_dict())).shapes
    strategy_of(learner)
    assert shapes_of(learner.parameters) == planned_shapes
    assert torch.equal(logits(learner, IDS), plain)
    # every matrix of a block has one, and nothing else
    matrices = {name for name, shape in shapes.items() if block_of(name) is not None and len(shape) == 2}
    assert {name.split(".lora_")[0] + ".weight" for name in learner.parameters} == matrices
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            if ".lora_B." in name:
                parameter.normal_(std=0.1)
    learner.model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    for name, parameter in learner.model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == (".lora_" in name), name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.layers.0.mlp.experts.gate_up_proj", "it holds 'model.layers.0.mlp.experts.gate_up_proj'"),
        ("model.layers.0.mixer.in_proj.weight", "attention or MLP is missing"),
        ("vision.layers.0.self_attn.q_proj.weight", "it has 2 lists of blocks"),
    ],
)
def test_blocks_of_other_parts_are_refused_in_one_line(name: str, reason: str) -> None:
    planned = footprint({name: (8, 8), "model.layers.0.mlp.fc1.weight": (8, 8)}, {"model_type": "strange"})
    with pytest.raises(
        UsageError, match=f"adapters into a 'strange' model: {reason}; it works with"
    ) as refused:
        check_model(LoraOptions(), planned)
    assert "\n" not in str(refused.value)


# -- an adapter for each task -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_task_trains_and_is_answered_by_its_own_adapter(kind: Kind, folders: dict[Kind, Path]) -> None:
    learner = pupil(folders[kind])
    learner.model.eval()
    plain = logits(learner, IDS)
    strategy = strategy_of(learner, adapters="per_task", tasks=3)
    assert isinstance(strategy, LoraPerTask)

    def ask(label: int | None) -> torch.Tensor:
        with torch.no_grad():
            return strategy.forward(learner, IDS, label, torch.tensor([3, 3]))

    before = {name: parameter.detach().clone() for name, parameter in learner.parameters.items()}
    learner.model.train(False)
    visit(learner, strategy, 1)
    learner.model.train(False)
    changed = {
        name for name, parameter in learner.parameters.items() if not torch.equal(parameter, before[name])
    }
    assert changed == {name for name in learner.parameters if ".task1." in name}
    assert torch.equal(ask(0), plain) and torch.equal(ask(2), plain)
    assert (ask(1) - plain).abs().max() > 1e-4
    assert torch.equal(ask(4), ask(1))
    # where the task is not known, or there is none, the adapter trained last answers, and is trained
    assert torch.equal(ask(None), ask(1))
    answered = ask(1)
    visit(learner, strategy, None)
    learner.model.train(False)
    assert not torch.equal(ask(1), answered) and torch.equal(ask(0), plain)


def test_changing_the_active_adapter_leaves_what_requires_a_gradient(folders: dict[Kind, Path]) -> None:
    learner = pupil(folders["gpt_neox"])
    strategy_of(learner, adapters="per_task", tasks=2)
    asked = {name: number % 3 == 0 for number, name in enumerate(learner.parameters)}
    for name, parameter in learner.parameters.items():
        parameter.requires_grad_(asked[name])
    before = ["task0"]
    for adapter in ("task1", "task0", None, "task1"):
        assert use_adapter(learner.model, adapter) == before
        before = [] if adapter is None else [adapter]
        assert {name: parameter.requires_grad for name, parameter in learner.parameters.items()} == asked


def test_asking_leaves_the_trained_adapter_in_place(folders: dict[Kind, Path]) -> None:
    learner = pupil(folders["gpt_neox"])
    strategy = strategy_of(learner, adapters="per_task", tasks=2)
    visit(learner, strategy, 1)
    trained = logits(learner, IDS)
    with torch.no_grad():
        asked = strategy.forward(learner, IDS, 0, torch.tensor([3, 3]))
    assert torch.equal(logits(learner, IDS), trained) and not torch.equal(asked, trained)


# -- whole runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_states_exactly_what_the_run_keeps_less_than_a_plain_one(
    kind: Kind, folders: dict[Kind, Path], tmp_path: Path
) -> None:
    options = {
        "strategy.adapters": "per_task" if kind in ("opt", "llama") else "shared",
        "strategy.tasks": 3,
        "strategy.rank": 2,
        "scenario.cycles": 1,
        "scenario.rest_steps": 1,
        "scenario.exposures": 1,
    }
    run = planned(folders[kind], "lora", options)
    record = finish(run, tmp_path / "run")
    assert record.info["extra_state_bytes"] == run.extra_bytes < 0


def test_the_bytes_by_hand(folders: dict[Kind, Path]) -> None:
    learner = pupil(folders["gpt_neox"])
    base = sum(parameter.numel() for parameter in learner.parameters.values())
    tensors = len(learner.parameters)
    strategy_of(learner, rank=2, targets="mlp")
    sizes = [2 * (32 + 64)] * 4  # up and down in two blocks
    assert sum(math.prod(p.shape) for p in learner.parameters.values()) == sum(sizes)
    # weights and two moments of the adapters come, two moments of the rest go; a clock of 4 bytes per tensor
    assert learner.extra_bytes() == 3 * 4 * sum(sizes) + 4 * 8 - 2 * 4 * base - 4 * tensors


@pytest.mark.parametrize("adapters", ["shared", "per_task"])
def test_a_stopped_run_goes_on_to_the_same_end_and_ends_elsewhere_than_naive(
    adapters: str, folders: dict[Kind, Path], tmp_path: Path
) -> None:
    run = planned(folders["gpt_neox"], "lora", {"strategy.adapters": adapters})
    whole = finish(run, tmp_path / "whole", checkpoint_every=1000)
    steps = iter(range(1000))
    events = carry_out(run, tmp_path / "parts", should_stop=lambda: next(steps) == 4)
    assert events[-1]["event"] == "stopped"
    resumed = finish(run, tmp_path / "parts", resume=True)
    assert results(resumed) == results(whole)
    assert tables(tmp_path / "parts")["items.parquet"] == tables(tmp_path / "whole")["items.parquet"]
    plain = finish(planned(folders["gpt_neox"]), tmp_path / "plain")
    last = {name: record.steps["loss"].iloc[-1] for name, record in (("lora", whole), ("plain", plain))}
    assert last["lora"] != last["plain"]


def test_more_tasks_than_adapters_are_refused(folders: dict[Kind, Path]) -> None:
    with pytest.raises(
        UsageError, match=r"^strategy.tasks=1: the stream has 2 tasks, .* use strategy.tasks=2"
    ):
        planned(folders["gpt_neox"], "lora", {"strategy.adapters": "per_task", "strategy.tasks": 1})
    planned(folders["gpt_neox"], "lora", {"strategy.tasks": 1})  # shared: one is enough
