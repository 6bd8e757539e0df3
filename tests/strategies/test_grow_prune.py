"""`grow_prune`: growth keeps the logits, pruning keeps the budget, and what is pruned or old stays as it is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grown_models import loaded, logits
from model_folders import KINDS, VOCABULARY, Kind
from safetensors.torch import load_file
from small_runs import carry_out, finish, installed, planned, results, rows, small_model

from seqmem import Example, Experience, RunRecord, UsageError
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.training.learner import Learner
from seqmem_plugins.strategies import grow_prune
from seqmem_plugins.strategies._architecture import block_of
from seqmem_plugins.strategies._grow_prune_plan import GrowPruneOptions
from seqmem_plugins.strategies._growth import widen
from seqmem_plugins.strategies.grow_prune import GrowPrune

SETTINGS = {
    "adam": OptimizerSettings(name="adam", lr=1e-2, weight_decay=0.1),
    "adamw": OptimizerSettings(name="adamw", lr=1e-2, weight_decay=0.1),
    "sgd": OptimizerSettings(name="sgd", lr=0.5, momentum=0.9, weight_decay=0.01),
}
GROW = ("blocks", "width")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


# -- a learner that is trained step by step -------------------------------------------------------------


def learner_of(kind: Kind = "gpt_neox", optimizer: str = "adam") -> Learner:
    """A fresh copy of a small model, dropout off, as a learner."""
    model, _ = widen(loaded(kind), 0, np.random.default_rng(0))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return Learner(model, SETTINGS[optimizer], torch.device("cpu"), seed=0)


def strategy_of(learner: Learner, **options: Any) -> GrowPrune:
    strategy = GrowPrune(GrowPruneOptions.model_validate(options))
    strategy.setup(learner)
    return strategy


def visit(index: int, steps: int = 3, trains: Any = "all", label: int | None = None) -> Experience:
    draw = np.random.default_rng(index)
    batches = tuple(
        tuple(Example(line.astype(np.int32), np.ones(12, np.bool_)) for line in pair)
        for pair in draw.integers(1, VOCABULARY, (steps, 2, 12))
    )
    return Experience(index, f"visit {index}", "loop", label, batches, trains=trains)


def stepped(learner: Learner, strategy: GrowPrune, experience: Experience) -> Iterator[int]:
    """Train an experience as the loop does; stops before the first step (0) and after each (1, 2, ...)."""
    strategy.before_experience(learner, experience)
    yield 0
    learner.set_trainable(strategy.trainable(learner, experience))
    for position in range(experience.steps):
        loss, _, _ = learner.loss(experience.batch(position))
        loss.backward()
        assert strategy.add_gradient(learner) == 0
        learner.clip()
        strategy.transform_gradient(learner)
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
        strategy.after_step(learner, experience.batch(position))
        yield position + 1
    strategy.after_experience(learner, experience)


def train(learner: Learner, strategy: GrowPrune, *experiences: Experience) -> None:
    for experience in experiences:
        for _ in stepped(learner, strategy, experience):
            pass


def masks(learner: Learner) -> dict[str, torch.Tensor]:
    return learner.state["grow_prune.mask"]


def numbers(learner: Learner) -> int:
    return sum(parameter.numel() for parameter in learner.parameters.values())


def ones(learner: Learner) -> int:
    """Counted from scratch: what has no mask is kept."""
    return numbers(learner) - sum(int((~mask).sum()) for mask in masks(learner).values())


def copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


# -- growth ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grow", GROW)
@pytest.mark.parametrize("kind", KINDS)
def test_growth_keeps_the_logits_and_everything_grows_with_the_model(
    kind: Kind, grow: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    learner = learner_of(kind)
    strategy = strategy_of(learner, grow=grow, budget=2, growths=1)
    learner.add_moments("other")
    learner.state.add("fisher", fill=0.0)
    train(learner, strategy, visit(0))
    before, size = logits(learner.model.eval()), numbers(learner)
    old = copies(learner.moments("main", "exp_avg"))
    strategy.before_experience(learner, visit(1))
    assert (logits(learner.model.eval()) - before).abs().max() <= 1e-5
    assert numbers(learner) > size
    for entry in ("moments.main.exp_avg", "moments.other.exp_avg_sq", "fisher"):
        assert learner.state[entry].keys() == learner.parameters.keys()
        assert all(t.shape == learner.parameters[name].shape for name, t in learner.state[entry].items())
    if grow == "blocks":
        new = learner.parameters.keys() - old.keys()
        assert {block_of(name) for name in new} == {2}
        assert all(torch.equal(learner.moments("main", "exp_avg")[name], old[name]) for name in old)
        assert not any(learner.moments("main", "exp_avg")[name].any() for name in new)
    train(learner, strategy, visit(1))  # grows no more, and what is new is trained
    learner.model.eval()
    assert (logits(learner.model) - before).abs().max() > 1e-2
    learner.model.save_pretrained(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="sdpa")
    assert torch.equal(logits(saved), logits(learner.model))


def test_moments_of_widened_tensors_are_put_at_age_1_with_their_corrected_values() -> None:
    learner = learner_of()
    strategy = strategy_of(learner, grow="width", budget=2)
    train(learner, strategy, visit(0, 5))
    name, still = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight", "gpt_neox.layers.0.attention.dense.weight"
    betas = dict(zip(("exp_avg", "exp_avg_sq"), (0.9, 0.999), strict=True))
    old = {moment: copies(learner.moments("main", moment)) for moment in betas}
    strategy.before_experience(learner, visit(1))
    assert float(learner.moments("main", "step")[name]) == 1
    assert float(learner.moments("main", "step")[still]) == 5
    for moment, beta in betas.items():
        corrected = learner.moments("main", moment)[name] / (1 - beta)
        torch.testing.assert_close(corrected[:64], old[moment][name] / (1 - beta**5))
        assert not corrected[64:].any()
        assert torch.equal(learner.moments("main", moment)[still], old[moment][still])


def test_state_of_two_matrices_in_one_grows_within_each_of_them() -> None:
    learner = learner_of("phi3")
    strategy = strategy_of(
        learner, grow="width", prune="fisher", amount=100, growths=1, budget=1.1, train="new"
    )
    other = learner.state.add("other", fill=3.0)
    train(learner, strategy, visit(0))
    name = "model.layers.1.mlp.gate_up_proj.weight"
    other[name].copy_(torch.arange(128.0)[:, None].expand(128, 32))
    entries = ("moments.main.exp_avg", "moments.main.exp_avg_sq", "grow_prune.fisher", "other")
    old = {entry: learner.state[entry][name].clone() for entry in entries}
    strategy.before_experience(learner, visit(1))
    kept = masks(learner)[name]
    for entry, before in old.items():
        after = learner.state[entry][name]
        assert after.shape == learner.parameters[name].shape == (328, 32)
        for half in range(2):
            was, new = before[64 * half : 64 * half + 64], after[164 * half : 164 * half + 164]
            if entry.startswith("moments."):  # pruned to 0, and put at age 1
                stays = kept[164 * half : 164 * half + 64]
                ratio = (new[:64] / was)[stays & (was != 0)]
                torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
                assert not new[:64][~stays].any()
            else:
                assert torch.equal(new[:64], was)
            assert (new[64:] == (3 if entry == "other" else 0)).all()
    assert 0 < int((~kept).sum()) and kept[64:164].all() and kept[228:].all()
    assert not learner.parameters[name].detach()[~kept].any()
    weight = learner.parameters[name].detach()
    assert weight[kept].all()
    before = weight.clone()
    train(learner, strategy, visit(1))
    still = (weight == before).all(1)
    assert still.tolist() == 2 * [*[True] * 64, *[False] * 100]


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text", "olmo2", "olmo3", "llama"])
def test_a_new_block_stays_near_the_identity_at_its_first_step(kind: Kind) -> None:
    """A norm behind a projection of zeros would make 1 of whatever the projection gives after a step."""
    learner = learner_of(kind)
    strategy = strategy_of(learner, train="new", growths=1, budget=2)
    learner.optimizer.param_groups[0]["lr"] = 1e-5
    train(learner, strategy, visit(0, 1))
    strategy.before_experience(learner, visit(1, 1))
    learner.optimizer.param_groups[0]["lr"] = 1e-5
    before = logits(learner.model.eval())
    train(learner, strategy, visit(1, 1))
    moved = (logits(learner.model.eval()) - before).abs().max()
    assert 0 < moved < 1e-3


@pytest.mark.parametrize("renewed", [True, False])
def test_at_their_old_age_new_weights_would_take_steps_several_times_too_large(
    renewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not renewed:
        monkeypatch.setattr(grow_prune, "_renew_ages", lambda learner, names: None)
    learner = learner_of()
    strategy = strategy_of(learner, grow="width", growths=1, budget=2)
    train(learner, strategy, visit(0))
    for step in learner.moments("main", "step").values():
        step.fill_(2000)
    name, largest, before = "gpt_neox.layers.0.mlp.dense_4h_to_h.weight", 0.0, torch.empty(0)
    for done in stepped(learner, strategy, replace(visit(1, 1), repeats=8)):
        now = learner.parameters[name].detach()[:, 64:].clone()
        largest = max(largest, float((now - before).abs().max())) if done else 0.0
        before = now
    rate = learner.settings.lr
    assert (0.5 * rate < largest < 1.2 * rate) if renewed else largest > 4 * rate


@pytest.mark.parametrize("at", ["every", "new_task"])
def test_it_grows_when_the_options_say_and_never_in_a_rest_without_training(at: str) -> None:
    learner = learner_of()
    strategy = strategy_of(learner, at=at, every=2, growths=2, budget=3)
    blocks = []
    for index, label in enumerate([None, 7, 7, None, 8, 7, 9, 10]):
        strategy.before_experience(learner, visit(index, label=label, trains="none" if index == 4 else "all"))
        blocks.append(max(block_of(name) or 0 for name in learner.parameters) + 1)
    # a task met first where nothing is trained is met later
    grown = {"every": [2, 2, 3, 3, 3, 3, 4, 4], "new_task": [2, 2, 2, 2, 2, 2, 3, 4]}
    assert blocks == grown[at]


# -- pruning --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prune", ["magnitude", "fisher"])
@pytest.mark.parametrize("grow", GROW)
@pytest.mark.parametrize("kind", KINDS)
def test_the_budget_is_never_exceeded_and_met_exactly_where_there_was_pruning(
    kind: Kind, grow: str, prune: str
) -> None:
    learner = learner_of(kind)
    strategy = strategy_of(learner, grow=grow, prune=prune, budget=1.07, growths=3)
    budget = int(1.07 * numbers(learner))
    kept = []
    for index in range(4):
        for _ in stepped(learner, strategy, visit(index, 2)):
            kept.append(ones(learner))
            nonzero = sum(int(p.count_nonzero()) for p in learner.parameters.values())
            assert nonzero <= kept[-1] <= budget
        assert strategy.measured() == {"grow_prune.kept": ones(learner)}
    assert kept[-1] == budget
    assert numbers(learner) > budget
    assert all(block_of(name) is not None and mask.dim() == 2 for name, mask in masks(learner).items())


def test_the_smallest_weights_of_all_blocks_go_and_of_equal_ones_the_first() -> None:
    learner = learner_of()
    strategy = strategy_of(learner, budget=1, growths=1)
    block = sum(p.numel() for name, p in learner.parameters.items() if block_of(name) == 0)
    names = list(masks(learner))
    assert len(names) == 8
    with torch.no_grad():
        for name in names:
            learner.parameters[name].fill_(1.0)
        learner.parameters[names[5]][:, :3] = -0.5
        learner.parameters[names[2]][1, 2] = -1.5
    half = 3 * learner.parameters[names[5]].shape[0]
    first = learner.parameters[names[0]].numel()
    strategy.before_experience(learner, visit(1))
    assert not masks(learner)[names[5]][:, :3].any()
    left = block - half  # the rest of what must go are the first among those of size 1
    flat = torch.cat([masks(learner)[name].flatten() for name in names])
    offsets = np.cumsum([0, *(masks(learner)[name].numel() for name in names)])
    assert left > first
    expected = torch.ones(len(flat), dtype=torch.bool)
    kept_one = int(offsets[2]) + masks(learner)[names[2]].shape[1] + 2
    expected[: left + (1 if left > kept_one else 0)] = False
    expected[kept_one] = True
    cut = torch.zeros_like(masks(learner)[names[5]])
    cut[:, :3] = True
    expected[int(offsets[5]) : int(offsets[6])] &= ~cut.flatten()
    assert torch.equal(flat, expected)
    assert int((~flat).sum()) == block
    for name in names:
        weight = learner.parameters[name]
        assert not weight[~masks(learner)[name]].any()
        assert weight[masks(learner)[name]].all()


def test_the_fisher_mean_is_that_of_squared_gradients_and_ranks_by_f_w_squared() -> None:
    learner = learner_of()
    strategy = strategy_of(learner, prune="fisher", budget=1, growths=1)
    first = visit(0, 3)
    squares: dict[str, list[torch.Tensor]] = {}
    add = strategy.add_gradient

    def spied(pupil: Learner) -> float:
        for name, parameter in pupil.parameters.items():
            squares.setdefault(name, []).append(parameter.grad.clone() ** 2)
        return add(pupil)

    strategy.add_gradient = spied  # type: ignore[method-assign]
    train(learner, strategy, first)
    importance = []
    for name, fisher in learner.state["grow_prune.fisher"].items():
        assert len(squares[name]) == 3
        torch.testing.assert_close(fisher, sum(squares[name]) / 3)
        importance.append((fisher * learner.parameters[name].detach() ** 2).flatten())
    ranked = torch.cat(importance)
    old = list(masks(learner))
    strategy.before_experience(learner, visit(1))
    mask = torch.cat([masks(learner)[name].flatten() for name in old])
    assert 0 < int((~mask).sum()) < len(mask)
    assert ranked[~mask].max() <= ranked[mask].min()
    magnitude = learner_of()
    other = strategy_of(magnitude, budget=1, growths=1)
    train(magnitude, other, first)
    other.before_experience(magnitude, visit(1))
    assert not torch.equal(mask, torch.cat([masks(magnitude)[name].flatten() for name in old]))


@pytest.mark.parametrize("optimizer", SETTINGS)
@pytest.mark.parametrize("grow", GROW)
def test_what_is_pruned_stays_zero_with_its_moments_in_every_context(grow: str, optimizer: str) -> None:
    learner = learner_of(optimizer=optimizer)
    strategy = strategy_of(learner, grow=grow, budget=1.01, growths=2)
    train(learner, strategy, visit(0))
    learner.add_moments("other")
    learner.use_moments("other")
    train(learner, strategy, visit(1))  # trains the old moments of main no more
    learner.use_moments("main")
    seen = 0
    for index in (2, 3):
        for _ in stepped(learner, strategy, visit(index)):
            for name, mask in masks(learner).items():
                assert not learner.parameters[name].detach()[~mask].any()
                seen += int((~mask).sum())
                for context in ("main", "other"):
                    for moment in learner.settings.moments:
                        assert not learner.moments(context, moment)[name][~mask].any()
    assert seen > 0
    trained = "gpt_neox.layers.0.attention.dense.weight"
    assert all(learner.moments(context, moment)[trained].any() for context in ("main", "other"))


@pytest.mark.parametrize("optimizer", SETTINGS)
def test_without_the_masks_the_moments_would_come_back(optimizer: str) -> None:
    learner = learner_of(optimizer=optimizer)
    strategy = strategy_of(learner, budget=1.01, growths=1)
    train(learner, strategy, visit(0), visit(1))
    strategy._masked = []  # the mask is there, and nobody looks at it
    train(learner, strategy, visit(2))
    moment = learner.settings.moments[0]
    assert any(learner.moments("main", moment)[name][~mask].any() for name, mask in masks(learner).items())
    assert any(learner.parameters[name].detach()[~mask].any() for name, mask in masks(learner).items())


def test_a_composition_that_writes_to_pruned_weights_does_not_revive_them() -> None:
    learner = learner_of()
    strategy = strategy_of(learner, budget=1.01, growths=1)
    train(learner, strategy, visit(0), visit(1))
    transform = strategy.transform_gradient

    def disturbed(pupil: Learner) -> None:
        transform(pupil)
        for parameter in pupil.parameters.values():  # as another part's transform might
            parameter.grad.add_(0.1)

    strategy.transform_gradient = disturbed  # type: ignore[method-assign]
    train(learner, strategy, visit(2))
    for name, mask in masks(learner).items():
        assert not learner.parameters[name].detach()[~mask].any()
        assert not learner.moments("main", "exp_avg")[name][~mask].any()


# -- training only what is new ----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", SETTINGS)
@pytest.mark.parametrize("grow", GROW)
def test_with_train_new_everything_older_is_still_to_the_bit(grow: str, optimizer: str) -> None:
    learner = learner_of("gpt2", optimizer)
    strategy = strategy_of(learner, grow=grow, train="new", budget=1.05, growths=2)
    budget = int(1.05 * numbers(learner))
    train(learner, strategy, visit(0), visit(1))
    old = {name: tuple(parameter.shape) for name, parameter in learner.parameters.items()}
    strategy.before_experience(learner, visit(2))

    def everything() -> dict[str, torch.Tensor]:
        tensors = {f"weight:{name}": p for name, p in learner.parameters.items()}
        for moment in learner.settings.moments:
            tensors |= {f"{moment}:{name}": t for name, t in learner.moments("main", moment).items()}
        return copies(tensors)

    before = everything()
    train(learner, strategy, visit(3))
    after = everything()
    moved = 0
    for flat, tensor in after.items():
        shape = old.get(flat.split(":")[1])
        change = (tensor != before[flat]).clone()
        moved += int(change.sum())
        if shape is not None:
            assert not change[tuple(slice(0, size) for size in shape)].any()
    assert moved > 100
    assert ones(learner) == budget


# -- whole runs -----------------------------------------------------------------------------------------

SHORT = {"scenario.cycles": 1, "scenario.rest_steps": 2}
TIGHT: dict[str, dict[str, Any]] = {
    "blocks": {"strategy.budget": 1.2, "strategy.growths": 2},
    "width, new": {"strategy.grow": "width", "strategy.train": "new", "strategy.budget": 1.05},
    "even, fisher, sgd": {
        "strategy.prune": "fisher",
        "strategy.place": "even",
        "strategy.amount": 2,
        "strategy.budget": 1.4,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.5,
        "optimizer.momentum": 0.9,
    },
}


@pytest.mark.parametrize("how", TIGHT)
def test_a_run_stopped_after_every_single_step_ends_as_if_it_never_was(
    how: str, model: Path, tmp_path: Path
) -> None:
    run = planned(model, "grow_prune", {**SHORT, **TIGHT[how]})
    reference, folder = finish(run, tmp_path / "reference"), tmp_path / "stopped"

    def once() -> Any:
        asked = itertools.count(1)
        return lambda: next(asked) >= 1

    ends = [carry_out(run, folder, should_stop=once())[-1]["event"]]
    while ends[-1] == "stopped":
        ends.append(carry_out(run, folder, should_stop=once(), resume=True)[-1]["event"])
    assert ends == ["stopped"] * run.outline.steps + ["finished"]
    assert results(RunRecord.open(folder)) == results(reference)
    for name, frame in rows(reference.folder).items():
        assert rows(folder)[name].equals(frame)
    assert reference.info["extra_state_bytes"] == run.extra_bytes > 0
    kept = reference.measured.set_index("step")["value"]
    assert kept.iloc[0] == run.recipe.model.parameters < kept.iloc[-1]
    assert kept.max() == kept.iloc[-1] == int(TIGHT[how]["strategy.budget"] * run.recipe.model.parameters)


# gpt_neox is above; gemma2 has norms behind its projections and blocks of two kinds
@pytest.mark.parametrize("kind", ["opt", "gpt2", "llama", "gemma2"])
def test_the_plan_is_right_for_every_architecture_and_the_effect_is_not_zero(
    kind: Kind, tmp_path: Path
) -> None:
    folder = small_model(tmp_path / "model", kind)
    naive = finish(planned(folder, "naive", SHORT), tmp_path / "naive")
    for grow in GROW:
        run = planned(folder, "grow_prune", {**SHORT, "strategy.grow": grow, "strategy.budget": 1.05})
        record = finish(run, tmp_path / grow)
        assert record.info["extra_state_bytes"] == run.extra_bytes > 0
        first = record.steps["experience"] == 0  # nothing has grown yet
        assert record.steps["loss"][first].tolist() == naive.steps["loss"][first].tolist()
        assert record.steps["loss"][~first].tolist() != naive.steps["loss"][~first].tolist()


def test_half_precision_is_planned_right_too(model: Path, tmp_path: Path) -> None:
    options = {**SHORT, "strategy.prune": "fisher", "strategy.grow": "width", "strategy.budget": 1.05}
    run = planned(model, "grow_prune", options, precision="bfloat16")
    record = finish(run, tmp_path / "run")
    assert record.info["extra_state_bytes"] == run.extra_bytes > 0
    assert record.measured["value"].max() == int(1.05 * run.recipe.model.parameters)


@pytest.mark.parametrize("strategy", ["grow_prune+ewc", "grow_prune+moment_avg", "moment_avg+grow_prune"])
def test_it_composes_with_what_keeps_state_for_every_parameter(
    strategy: str, model: Path, tmp_path: Path
) -> None:
    options = {"strategy.grow_prune.budget": 1.1, "scenario.loops": 3, "scenario.cycles": 1}
    run = planned(model, strategy, options)
    record = finish(run, tmp_path / "run", keep_checkpoints=True, checkpoint_every=run.outline.steps)
    assert record.info["extra_state_bytes"] == run.extra_bytes > 0
    (last,) = (tmp_path / "run" / "checkpoints").iterdir()
    tensors = load_file(last / "tensors.safetensors")
    own = {
        name.removeprefix("state:grow_prune.mask:"): t for name, t in tensors.items() if ":grow_prune" in name
    }
    assert sum(int((~mask).sum()) for mask in own.values()) > 0
    checked = 0
    for flat, tensor in tensors.items():
        entry, _, name = flat.removeprefix("state:").rpartition(":")
        if flat.startswith("state:") and tensor.dim():
            assert tensor.shape == tensors[f"weights:{name}"].shape
            if entry.startswith("moments.") and name in own:
                assert not tensor[~own[name]].any()
                checked += bool(tensor.any())
    assert checked
    if "ewc" in strategy:
        assert record.steps["penalty"].max() > 0


def test_the_model_shrinks_when_the_stream_returns_to_a_snapshot(model: Path, tmp_path: Path) -> None:
    asked = Request(
        scenario=("rolling_window",),
        strategy=("grow_prune",),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        set=("strategy.budget=1.1",),
        reference=False,
        controls=False,
        device="cpu",
    )
    (run,) = plan(asked, installed()).runs.values()
    record = finish(run, tmp_path / "reference")
    kept = record.measured.merge(record.steps, on="step").merge(record.experiences, on="experience")
    back = record.experiences[record.experiences["start_from"].notna()]
    assert len(back) >= 2
    budget = int(1.1 * run.recipe.model.parameters)
    assert kept["value"].max() == budget
    sizes = kept.groupby("experience")["value"].unique()
    assert all(len(size) == 1 for size in sizes)  # between experiences only
    event = carry_out(run, tmp_path / "stopped", should_stop=_every(5))[-1]["event"]
    stops = 0
    while event == "stopped":
        stops += 1
        event = carry_out(run, tmp_path / "stopped", should_stop=_every(5), resume=True)[-1]["event"]
    assert stops >= 2
    assert results(RunRecord.open(tmp_path / "stopped")) == results(record)


def _every(steps: int) -> Any:
    asked = itertools.count(1)
    return lambda: next(asked) >= steps


@pytest.mark.parametrize(
    ("kind", "grow"), [("gpt_neox", "blocks"), ("gpt_neox", "width"), ("gemma2", "blocks")]
)
def test_reshape_gives_the_structure_of_any_state_from_any_other(kind: Kind, grow: str) -> None:
    learner = learner_of(kind)
    strategy = strategy_of(learner, grow=grow, amount=2, place="even", growths=2, budget=2)
    shapes = []
    states = []
    types = []
    for index in range(3):
        train(learner, strategy, visit(index, 1))
        shapes.append({name: tuple(p.shape) for name, p in learner.parameters.items()})
        states.append(json.loads(json.dumps(strategy.state_dict())))
        types.append(getattr(learner.model.config, "layer_types", None))
    assert len({sum(map(np.prod, each.values())) for each in shapes}) == 3
    for target in (0, 2, 1, 1, 0):
        strategy.reshape(learner, states[target])
        strategy.load_state_dict(states[target])
        assert {name: tuple(p.shape) for name, p in learner.parameters.items()} == shapes[target]
        assert strategy.state_dict() == states[target]
        assert getattr(learner.model.config, "layer_types", None) == types[target]


# -- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"strategy.prune": "none", "strategy.growths": 1, "strategy.budget": 1.1},
            "strategy.budget=1.1: 54,912 parameters may be kept, 49,920 are when growth 1 of 1 adds 8,544 (1 block), "
            "and prune=none frees nothing; allowed: at least 1.172, or fewer growths",
        ),
        (
            {"strategy.amount": 9, "strategy.budget": 1},
            "49,920 parameters may be kept, 49,920 are when growth 1 of 2 adds 76,896 (9 blocks), and pruning can "
            "free 16,384; allowed: at least 2.213, or fewer growths",
        ),
        (
            {
                "strategy.grow": "width",
                "strategy.amount": 16,
                "strategy.prune": "none",
                "strategy.budget": 1.05,
            },
            "growth 2 of 2 adds 2,080 (16 inner units per MLP), and prune=none frees nothing",
        ),
        ({"strategy.budget": 0.5}, "budget"),
        ({"strategy.at": "new_task", "scenario.loops": 2, "strategy.every": 0}, "every"),
        (
            {"strategy.every": 50},
            "this stream has 5 experiences, so the model would never grow; allowed: at most 4",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_training(
    options: dict[str, Any], reason: str, model: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        planned(model, "grow_prune", options)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_least_budget_that_is_named_is_enough(model: Path, tmp_path: Path) -> None:
    tight = {**SHORT, "strategy.amount": 9, "strategy.growths": 1, "strategy.budget": 2.213}
    run = planned(model, "grow_prune", tight)
    record = finish(run, tmp_path / "run")
    assert record.measured["value"].max() == int(2.213 * run.recipe.model.parameters)


def test_a_stream_without_tasks_and_a_model_that_cannot_grow_are_refused(model: Path, tmp_path: Path) -> None:
    asked = {
        "scenario": ("fact_injection",),
        "strategy": ("grow_prune",),
        "model": (str(model),),
        "preset": "smoke",
        "seeds": "0",
        "reference": False,
        "controls": False,
        "device": "cpu",
    }
    assert plan(Request(**asked), installed()).runs  # the default needs no tasks
    with pytest.raises(UsageError, match="has 0 task labels, .* would never grow; use at=every"):
        plan(Request(**asked, set=("strategy.at=new_task",)), installed())
    # every branch starts where no task was met, so each of its tasks would be the first
    branching = Request(**{**asked, "scenario": ("learning_threshold",), "set": ("strategy.at=new_task",)})
    with pytest.raises(UsageError, match="at=new_task: this stream returns to snapshots .*; use at=every"):
        plan(branching, installed())
    folder = small_model(tmp_path / "opt", "opt")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "do_layer_norm_before": False}))
    with pytest.raises(UsageError, match="widen its MLPs instead"):
        planned(folder, "grow_prune")
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "xglm"}))
    with pytest.raises(
        UsageError, match="does not know the parts of a 'xglm' model; it works with bloom, "
    ) as no:
        planned(folder, "grow_prune")
    assert "\n" not in str(no.value)
    with pytest.raises(UsageError, match="cannot widen the MLPs of a 'bloom' model: .*; add blocks instead"):
        planned(small_model(tmp_path / "bloom", "bloom"), "grow_prune", {"strategy.grow": "width"})


def test_a_part_that_owns_the_model_too_is_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="grow_prune twice"):
        planned(model, "grow_prune+grow_prune")
