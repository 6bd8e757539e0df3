"""`freeze_component`: what makes up a component, what stays still, what is kept, and who is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import KINDS, Kind, make_model_folder
from small_runs import carry_out, finish, installed, results, small_model, tables

from seqmem import Example, Experience, UsageError
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.grid import PlannedRun
from seqmem.planning.models import ModelChoice, resolve
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.plugin.specs import Footprint
from seqmem.training.learner import Learner
from seqmem_plugins.strategies._freeze_component_plan import (
    FreezeComponentOptions,
    check_model,
    planned_bytes,
)
from seqmem_plugins.strategies._router import Router
from seqmem_plugins.strategies.freeze_component import FreezeComponent
from seqmem_scenarios.freeze_loops import FreezeLoopsOptions, outline

BLOCKS = {"gpt_neox": "gpt_neox.layers", "opt": "model.decoder.layers", "gpt2": "transformer.h"}
"""The place of the blocks in each architecture; Llama keeps them in `model.layers`."""
ADAM = OptimizerSettings(lr=1e-2)
PARTS = ("blocks", "mlps", "heads", "added_blocks", "lora", "pattern")
SWITCHED = ("added_blocks", "lora")


def network(kind: Kind, layers: int = 2) -> Any:
    """A random model without dropout: 32 wide, 4 heads (Llama: 2 key heads), a vocabulary of 64."""
    from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, OPTConfig

    ends = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    common = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4, **ends}
    config: Any
    if kind == "gpt2":
        drops = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
        config = GPT2Config(n_embd=32, n_layer=layers, n_head=4, n_positions=32, **drops, **ends)
    elif kind == "gpt_neox":
        config = GPTNeoXConfig(intermediate_size=48, **common)
    elif kind == "opt":
        config = OPTConfig(ffn_dim=48, word_embed_proj_dim=32, dropout=0.0, **common)
    else:
        config = LlamaConfig(intermediate_size=48, num_key_value_heads=2, **common)
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(config)


def pupil(kind: Kind = "gpt_neox", layers: int = 2, settings: OptimizerSettings = ADAM) -> Learner:
    return Learner(network(kind, layers), settings, torch.device("cpu"), seed=0)


def options_of(part: str = "blocks", **values: Any) -> FreezeComponentOptions:
    if part == "pattern":
        values = {"patterns": ("1.*.bias", "0.*norm*.weight"), **values}
    return FreezeComponentOptions.model_validate({"component": part, **values})


def strategy_of(learner: Learner, part: str = "blocks", **values: Any) -> FreezeComponent:
    strategy = FreezeComponent(options_of(part, **values))
    strategy.setup(learner)
    return strategy


def experience(trains: Any, task: int | None, batches: Sequence[Sequence[Example]] = ()) -> Experience:
    return Experience(0, "part", "task", task, tuple(tuple(batch) for batch in batches), trains=trains)


def row(*ids: int) -> Example:
    return Example(np.array(ids, np.int32), np.ones(len(ids), np.bool_))


def random_rows(count: int, seed: int = 0, longest: int = 12) -> list[Example]:
    draw = np.random.default_rng(seed)
    return [row(*draw.integers(1, 64, draw.integers(5, longest + 1)).tolist()) for _ in range(count)]


def step(learner: Learner, strategy: FreezeComponent, rows: Sequence[Example], label: int | None) -> float:
    """The loop's step."""
    loss, _, _ = learner.loss(rows, lambda ids, prompt: strategy.forward(learner, ids, label, prompt))
    loss.backward()
    strategy.add_gradient(learner)
    learner.clip()
    strategy.transform_gradient(learner)
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    strategy.after_step(learner, tuple(rows))
    return loss.item()


def visit(learner: Learner, strategy: FreezeComponent, part: Experience) -> list[float]:
    strategy.before_experience(learner, part)
    learner.set_trainable(strategy.trainable(learner, part))
    losses = [
        step(learner, strategy, part.batch(position), part.task_label) for position in range(part.steps)
    ]
    strategy.after_experience(learner, part)
    return losses


def state_of(learner: Learner) -> dict[str, list[torch.Tensor]]:
    """Weights and both moments of every parameter, copied."""
    moments = [learner.moments("main", moment) for moment in learner.settings.moments]
    return {
        name: [parameter.detach().clone(), *(tensors[name].clone() for tensors in moments)]
        for name, parameter in learner.parameters.items()
    }


# -- which parameters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_component_of_a_task_is_one_block_counted_from_the_end(kind: Kind) -> None:
    learner = pupil(kind)
    strategy, path = strategy_of(learner), BLOCKS.get(kind, "model.layers")
    every = set(learner.parameters)
    for task, block in ((0, 1), (1, 0), (2, 1), (7, 0)):
        own = {name for name in every if name.startswith(f"{path}.{block}.")}
        assert len(own) > 5
        assert set(strategy.trainable(learner, experience("component", task)) or ()) == own
        assert set(strategy.trainable(learner, experience("others", task)) or ()) == every - own
    for trains in ("all", "none"):
        assert strategy.trainable(learner, experience(trains, 0)) is None
    assert strategy.trainable(learner, experience("component", None)) is None


def test_a_component_may_span_several_blocks() -> None:
    learner = pupil(layers=5)
    strategy = strategy_of(learner, span=2)
    for task, blocks in ((0, {"3", "4"}), (1, {"1", "2"}), (2, {"3", "4"})):
        own = strategy.trainable(learner, experience("component", task)) or ()
        assert {name.split(".")[2] for name in own} == blocks


@pytest.mark.parametrize("kind", KINDS)
def test_mlps_are_the_mlps_and_nothing_else_of_their_block(kind: Kind) -> None:
    learner = pupil(kind)
    own = set(strategy_of(learner, "mlps").trainable(learner, experience("component", 0)) or ())
    path = f"{BLOCKS.get(kind, 'model.layers')}.1."
    inner = ("fc1.", "fc2.") if kind == "opt" else ("mlp.",)
    assert own == {n for n in learner.parameters if n.startswith(path) and n[len(path) :].startswith(inner)}
    assert own


def test_patterns_name_components_by_whole_name_or_its_end() -> None:
    learner = pupil()
    strategy = strategy_of(
        learner, "pattern", patterns=("gpt_neox.layers.1.mlp.*", "lm_head.weight", "0.mlp.*")
    )
    found = [set(strategy.trainable(learner, experience("component", task)) or ()) for task in range(4)]
    assert all(name.startswith("gpt_neox.layers.1.mlp.") for name in found[0]) and len(found[0]) == 4
    assert found[1] == {"lm_head.weight"}
    assert all(name.startswith("gpt_neox.layers.0.mlp.") for name in found[2])
    assert found[3] == found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_s_slices_are_all_that_its_output_depends_on(kind: Kind) -> None:
    """With the output columns of every other head at zero, only the head's slices move the attention's output."""
    learner = pupil(kind)
    strategy = strategy_of(learner, "heads", components=4 if kind != "llama" else 2)
    for task, component in enumerate(strategy._components):
        name = next(n for n in component if n.split(".")[-2] in ("dense", "out_proj", "c_proj", "o_proj"))
        assert {n.split(".")[2 if kind != "opt" else 3] for n in component} == {"1"}
        weight = learner.parameters[name]
        part = component[name]
        assert part is not None
        kept = weight.detach().clone()
        with torch.no_grad():
            others = [place for place in range(32) if place not in part.places]
            weight.index_fill_(part.dim, torch.tensor(others), 0.0)
        learner.loss(random_rows(3))[0].backward()
        for other, parameter in learner.parameters.items():
            if not other.startswith(name.rsplit(".", 2)[0]) or other == name or other not in component:
                continue
            own = component[other]
            assert own is not None and parameter.grad is not None
            gradient = parameter.grad.movedim(own.dim, 0)
            reached = gradient.reshape(len(gradient), -1).abs().sum(1)
            outside = [place for place in range(len(reached)) if place not in own.places]
            assert not reached[outside].any(), (task, other)
            assert reached[list(own.places)].any(), (task, other)
        learner.optimizer.zero_grad()
        with torch.no_grad():
            weight.copy_(kept)


def test_heads_without_slices_of_the_same_places() -> None:
    learner = pupil()
    first, second = strategy_of(learner, "heads", span=2)._components
    for name, part in first.items():
        other = second[name]
        assert part is not None and other is not None
        assert not set(part.places) & set(other.places)
        assert len({*part.places, *other.places}) == learner.parameters[name].shape[part.dim]


# -- what stays still -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_stays_bit_for_bit_moments_too_and_the_rest_moves(kind: Kind, part: str) -> None:
    learner = pupil(kind, settings=OptimizerSettings(name="adamw", lr=1e-2, weight_decay=0.1))
    patterns = {"gpt2": ("1.*.bias", "0.ln_*.weight"), "llama": ("1.mlp.*", "0.*layernorm.weight")}
    values = {"patterns": patterns[kind]} if part == "pattern" and kind in patterns else {}
    strategy = strategy_of(learner, part, **values)
    visit(learner, strategy, experience("all", 1, [random_rows(4, seed=9)]))  # moments that are not zero
    for trains, task in (("component", 0), ("others", 0), ("component", 1)):
        before = state_of(learner)
        component = strategy._components[task]
        visit(learner, strategy, experience(trains, task, [random_rows(4), random_rows(4, seed=1)]))
        moved = 0
        for name, tensors in state_of(learner).items():
            own = torch.zeros_like(tensors[0], dtype=torch.bool)
            if name in component:
                piece = component[name]
                if piece is None:
                    own[...] = True
                else:
                    own.index_fill_(piece.dim, torch.tensor(piece.places), True)
            frozen = own if trains == "others" else ~own
            for old, new in zip(before[name], tensors, strict=True):
                assert torch.equal(old[frozen], new[frozen]), (trains, name)
                moved += int((old[~frozen] != new[~frozen]).sum())
        assert moved > 50, (trains, task)


def test_put_back_slices_would_move_if_they_were_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FreezeComponent, "after_step", lambda self, learner, batch: None)
    learner = pupil()
    strategy = strategy_of(learner, "heads")
    visit(learner, strategy, experience("all", 1, [random_rows(4, seed=9)]))
    name = "gpt_neox.layers.1.attention.query_key_value.weight"
    before = state_of(learner)[name]
    visit(learner, strategy, experience("component", 0, [random_rows(4)]))
    assert all(not torch.equal(*pair) for pair in zip(before, state_of(learner)[name], strict=True))


def test_a_frozen_head_takes_no_part_in_the_gradient_s_norm() -> None:
    learner = pupil()
    strategy = strategy_of(learner, "heads")
    part = experience("component", 0)
    strategy.before_experience(learner, part)
    learner.set_trainable(strategy.trainable(learner, part))
    learner.loss(random_rows(3))[0].backward()
    whole = learner.clip()
    strategy.add_gradient(learner)
    assert 0 < learner.clip() < 0.9 * whole


def test_unfreezing_keeps_moments_or_resets_them_with_their_clock() -> None:
    for how in ("keep", "reset"):
        learner = pupil()
        strategy = strategy_of(learner, moments_on_unfreeze=how)
        visit(learner, strategy, experience("all", None, [random_rows(4)]))
        visit(learner, strategy, experience("component", 0, [random_rows(4)]))
        before, clock = state_of(learner), {n: t.clone() for n, t in learner.moments("main", "step").items()}
        strategy.before_experience(learner, experience("others", 0))  # block 1 is frozen, all else unfrozen
        for name, (_, *moments) in state_of(learner).items():
            again = how == "reset" and not name.startswith("gpt_neox.layers.1.")
            same = all(torch.equal(*pair) for pair in zip(before[name][1:], moments, strict=True))
            assert same != again, (how, name)
            steps = float(learner.moments("main", "step")[name])
            assert steps == (0 if again else float(clock[name])), (how, name)
        strategy.before_experience(learner, experience("all", None))  # now block 1 is unfrozen
        own = [n for n in learner.parameters if n.startswith("gpt_neox.layers.1.")]
        left = any(
            bool(learner.moments("main", m)[n].any()) for n in own for m in ("exp_avg", "exp_avg_sq", "step")
        )
        assert left == (how == "keep")


# -- kept activations -------------------------------------------------------------------------------------


def shuffled_visits(seed: int = 5) -> Experience:
    """Twelve rows of unlike length, each trained three times, in ever other company."""
    rows, draw = random_rows(12), np.random.default_rng(seed)
    order = [draw.permutation(12) for _ in range(3)]
    return experience("component", 0, [[rows[i] for i in part] for o in order for part in np.split(o, 3)])


@pytest.mark.parametrize("part", ["blocks", "heads", "lora", "added_blocks"])
@pytest.mark.parametrize("kind", KINDS)
def test_keeping_activations_changes_no_result_beyond_rounding(kind: Kind, part: str) -> None:
    ends = []
    for cache in (True, False):
        learner = pupil(kind, layers=3)
        strategy = strategy_of(learner, part, cache=cache)
        losses = visit(learner, strategy, shuffled_visits())
        assert losses[-1] < losses[0]
        ends.append((losses, {n: p.detach() for n, p in learner.parameters.items()}))
        assert bool(strategy._cache.peak) == cache
    assert ends[0][0] == pytest.approx(ends[1][0], abs=1e-6)
    # Adam divides by the gradient's size, which for a key's bias is rounding and nothing else
    for name, tensor in ends[0][1].items():
        if not name.endswith(("k_proj.bias", "query_key_value.bias", "c_attn.bias")):
            assert float((tensor - ends[1][1][name]).abs().max()) < 1e-6, name


def blocks_run(learner: Learner) -> tuple[list[tuple[int, int, bool]], list[Any]]:
    """Notes (block, rows, builds a graph) at each call of a block."""
    calls: list[tuple[int, int, bool]] = []

    def hook(number: int) -> Any:
        return lambda module, inputs, output: calls.append((number, len(output), output.requires_grad))

    layers: Any = learner.model.get_submodule("gpt_neox.layers")
    return calls, [layer.register_forward_hook(hook(n)) for n, layer in enumerate(layers)]


def test_on_later_visits_only_the_suffix_is_computed_and_the_prefix_builds_no_graph() -> None:
    learner = pupil(layers=4)
    strategy = strategy_of(learner)
    part = experience("component", 1)  # block 2 of 0 to 3
    strategy.before_experience(learner, part)
    learner.set_trainable(strategy.trainable(learner, part))
    calls, _ = blocks_run(learner)
    rows = random_rows(4)
    for count, expected in (
        (3, [(0, 3, False), (1, 3, False), (2, 3, True), (3, 3, True)]),
        (3, [(2, 3, True), (3, 3, True)]),
        (4, [(0, 1, False), (1, 1, False), (2, 4, True), (3, 4, True)]),
    ):
        calls.clear()
        step(learner, strategy, [*rows[1:3], rows[0], rows[3]][:count], 1)
        longer = len(rows[3].input_ids) > max(len(r.input_ids) for r in rows[:3])
        assert not longer  # else all rows would be computed anew
        assert calls == expected
    strategy.after_experience(learner, part)
    assert strategy._cache.tensors() == {} and strategy.unregistered_bytes() > 0
    calls.clear()
    with torch.no_grad():  # a probe runs the model as it is
        strategy.forward(learner, torch.ones(2, 5, dtype=torch.long), None, torch.tensor([2, 2]))
    assert [number for number, *_ in calls] == [0, 1, 2, 3]


def test_rows_are_known_by_their_ids_whatever_pads_them() -> None:
    from seqmem_plugins.strategies._prefix_cache import PrefixCache

    cache, asked = PrefixCache(10**6), []

    def compute(ids: torch.Tensor) -> torch.Tensor:
        asked.append(ids.tolist())
        return ids[:, :, None].float()

    cache.hidden(torch.tensor([[1, 2, 0], [3, 4, 5]]), compute)
    assert cache.hidden(torch.tensor([[1, 2], [3, 4]]), compute)[:, :, 0].tolist() == [[1, 2], [3, 4]]
    assert asked[1:] == [[[3, 4]]]  # another row than 3 4 5
    assert cache.hidden(torch.tensor([[1, 2, 0, 0]]), compute).shape == (1, 4, 1)
    assert asked[2:] == [[[1, 2, 0, 0]]]  # wider than what was kept
    cache.hidden(torch.tensor([[2, 1]]), compute)
    assert asked[3:] == [[[2, 1]]]


def test_no_more_is_kept_than_the_limit() -> None:
    from seqmem_plugins.strategies._prefix_cache import PrefixCache

    cache = PrefixCache(3 * 4 * 2)  # two rows of three numbers
    ids = torch.tensor([[1, 1, 1], [2, 2, 2], [3, 3, 3]])
    for _ in range(2):
        given = cache.hidden(ids, lambda rows: rows[:, :, None].float())
        assert given[:, :, 0].tolist() == ids.tolist()
    assert len(cache.tensors()) == 2 and cache.peak == 24


def test_what_is_drawn_anew_at_every_visit_is_not_kept() -> None:
    learner = Learner(network("gpt_neox"), ADAM, torch.device("cpu"), seed=0)
    config: Any = learner.model.config
    config.hidden_dropout = 0.1
    strategy = strategy_of(learner)
    visit(learner, strategy, experience("component", 0, [random_rows(2)]))
    assert strategy.unregistered_bytes() == 0


def test_dropout_under_any_name_is_found_by_its_modules() -> None:
    for chance, kept in ((0.0, True), (0.1, False)):
        learner = pupil()
        module: Any = learner.model.get_submodule("gpt_neox.layers.0")
        module.residual_dropout = torch.nn.Dropout(chance)
        strategy = strategy_of(learner)
        visit(learner, strategy, experience("component", 0, [random_rows(2)]))
        assert bool(strategy.unregistered_bytes()) == kept


def gemma() -> Any:
    """Four blocks, the first and third of which see three tokens, by their number."""
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=3,
        layer_types=["sliding_attention", "full_attention"] * 2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("part", ["blocks", "pattern"])
def test_blocks_that_go_by_their_number_are_never_computed_apart(part: str) -> None:
    from seqmem_plugins.strategies._block_list import BlockList

    model = gemma()
    learner = Learner(model, ADAM, torch.device("cpu"), seed=0)
    values = {"patterns": ("layers.3.mlp.*",)} if part == "pattern" else {}
    strategy = strategy_of(learner, part, **values)
    learner.set_trainable(strategy.trainable(learner, experience("component", 0)))
    ids = torch.randint(1, 64, (2, 12), generator=torch.Generator().manual_seed(0))
    own = model(input_ids=ids, use_cache=False).logits
    assert torch.equal(strategy.forward(learner, ids, 0, None), own)
    visit(learner, strategy, experience("component", 0, [random_rows(3)] * 2))
    assert strategy.unregistered_bytes() == 0
    shapes = {name: tuple(parameter.shape) for name, parameter in learner.parameters.items()}
    planned = footprint(shapes, model.config.to_dict())
    assert planned_bytes(options_of(part, **values), planned) == 0
    for switched in SWITCHED:
        with pytest.raises(UsageError, match="does not know the parts of a 'gemma3_text' model"):
            check_model(options_of(switched), planned)
    # the last block apart would be given what is the first one's by number
    own = model(input_ids=ids, use_cache=False).logits
    apart = BlockList(model)
    given = apart.logits_from(ids, [3], apart.hidden_after(ids, [0, 1, 2]))
    assert (given - own).abs().max() > 1e-4


def test_nothing_is_kept_where_the_embeddings_are_trained() -> None:
    learner = pupil("gpt2")
    strategy = strategy_of(learner, "pattern", patterns=("wte.weight", "ln_f.*"))
    visit(learner, strategy, experience("component", 0, [random_rows(2)]))
    assert strategy.unregistered_bytes() == 0
    losses = visit(learner, strategy, experience("component", 1, [random_rows(2)] * 2))  # after all blocks
    assert strategy.unregistered_bytes() > 0 and losses[1] < losses[0]


# -- routing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["blocks", "mlps", "heads", "pattern"])
def test_what_is_always_in_the_path_is_not_routed(part: str) -> None:
    learner = pupil()
    strategy = strategy_of(learner, part)
    visit(learner, strategy, experience("component", 0, [random_rows(3)]))
    ids = torch.randint(1, 64, (3, 9))
    with torch.no_grad():
        own = learner.model(input_ids=ids, use_cache=False).logits
        for label in (None, 0, 1):
            assert torch.equal(strategy.forward(learner, ids, label, torch.tensor([3, 3, 3])), own)


@pytest.mark.parametrize("part", SWITCHED)
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_task_s_component_is_in_the_path_and_a_new_one_changes_nothing(
    kind: Kind, part: str
) -> None:
    learner = pupil(kind)
    ids = torch.randint(1, 64, (3, 9))
    with torch.no_grad():
        plain = learner.model(input_ids=ids, use_cache=False).logits
        strategy = strategy_of(learner, part, components=3)

        def ask(label: int | None) -> torch.Tensor:
            return strategy.forward(learner, ids, label, torch.tensor([3, 3, 3]))

        for label in (None, 0, 1, 2):
            assert torch.allclose(ask(label), plain, atol=1e-5)
    visit(learner, strategy, experience("component", 1, [random_rows(3)] * 2))
    with torch.no_grad():
        assert (ask(1) - plain).abs().max() > 1e-3
        assert torch.equal(ask(4), ask(1))
        assert torch.allclose(ask(0), plain, atol=1e-5) and torch.allclose(ask(2), plain, atol=1e-5)
        # in training, text without a label is of no task
        assert torch.allclose(strategy.forward(learner, ids, None, None), plain, atol=1e-5)


def taught_router() -> tuple[Router, torch.Tensor]:
    """Component 1 read tokens 1 to 3, component 2 tokens 4 to 6, both token 7; component 0 nothing."""
    router = Router(3, 10, torch.device("cpu"))
    router.learn(1, [row(1, 2, 3, 7), row(7, 2)])
    router.learn(2, [row(4, 5, 6, 7), row(7, 5)])
    return router, torch.eye(10)


def test_the_nearest_component_is_chosen_among_those_that_were_trained() -> None:
    router, embedding = taught_router()
    prompts = torch.tensor([[7, 2, 3], [7, 5, 4], [1, 1, 7]])
    assert router.choose(embedding, prompts, torch.tensor([3, 3, 3])) == [1, 2, 1]
    new = Router(3, 10, torch.device("cpu"))
    assert new.choose(embedding, prompts, torch.tensor([3, 3, 3])) == [None, None, None]
    assert router.counts[1].tolist() == [0, 1, 2, 1, 0, 0, 0, 2, 0, 0]


def test_a_prompt_of_tokens_never_trained_is_still_given_a_component() -> None:
    router, embedding = taught_router()
    assert router.choose(embedding, torch.tensor([[8, 9]]), torch.tensor([2]))[0] in (1, 2)


def test_the_router_reads_the_prompt_and_not_the_answer() -> None:
    router, embedding = taught_router()
    prompt = torch.tensor([2, 1])
    for answer in (4, 1):
        ids = torch.tensor([[7, 2, *[answer] * 8], [5, *[answer] * 9]])
        assert router.choose(embedding, ids, prompt) == [1, 2]
    assert router.choose(embedding, torch.tensor([[7, 2, *[4] * 8]]), torch.tensor([10])) == [2]


@pytest.mark.parametrize("part", SWITCHED)
def test_rows_of_one_forward_go_to_their_own_components(part: str) -> None:
    learner = pupil()
    strategy = strategy_of(learner, part)
    for task, tokens in ((0, range(1, 20)), (1, range(30, 50))):
        visit(learner, strategy, experience("component", task, [[row(*tokens)]] * 2))
    ids = torch.tensor([[31, 32, 33, 5, 6], [4, 5, 6, 40, 41], [35, 36, 37, 3, 3]])
    with torch.no_grad():
        mixed = strategy.forward(learner, ids, None, torch.tensor([3, 3, 3]))
        for line, task in ((0, 1), (1, 0), (2, 1)):
            own = strategy.forward(learner, ids[line : line + 1], task, torch.tensor([3]))
            other = strategy.forward(learner, ids[line : line + 1], 1 - task, torch.tensor([3]))
            assert torch.allclose(mixed[line], own[0], atol=1e-5)
            assert not torch.allclose(mixed[line], other[0], atol=1e-3)


def test_a_task_s_general_text_tells_the_router_nothing() -> None:
    learner = pupil()
    strategy = strategy_of(learner, "lora")
    visit(learner, strategy, experience("others", 0, [random_rows(2)]))
    visit(learner, strategy, experience("all", None, [random_rows(2)]))
    assert not strategy._router.counts.any()
    visit(learner, strategy, experience("component", 3, [[row(5, 6, 6)]]))
    assert strategy._router.counts.sum(1).tolist() == [0, 3]


# -- whole runs -------------------------------------------------------------------------------------------

SMOKE = {"scenario.row_tokens": "96", "scenario.exposures": "4"}


def planned(model: Path, *sets: str, strategy: str = "freeze_component") -> PlannedRun:
    values = SMOKE | dict(text.split("=", 1) for text in sets)
    request = Request(
        scenario=("freeze_loops",),
        strategy=(strategy,),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        set=tuple(f"{name}={value}" for name, value in values.items()),
        reference=False,
        controls=False,
        device="cpu",
    )
    (run,) = plan(request, installed()).runs.values()
    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield small_model(tmp_path_factory.mktemp("model"))


def test_it_ends_elsewhere_than_naive_which_ignores_what_the_protocol_wants(
    model: Path, tmp_path: Path
) -> None:
    frozen = finish(planned(model), tmp_path / "frozen")
    plain = finish(planned(model, strategy="naive"), tmp_path / "plain")
    assert frozen.info["content"] == plain.info["content"]  # the same rows
    assert frozen.info["final_weights"] != plain.info["final_weights"]


@pytest.mark.parametrize("part", ["blocks", "heads", "added_blocks", "lora"])
def test_a_run_stopped_inside_a_frozen_stretch_goes_on_to_the_same_end(
    part: str, model: Path, tmp_path: Path
) -> None:
    sets = [f"strategy.component={part}"]
    if part == "blocks":
        sets.append("strategy.moments_on_unfreeze=reset")
    run = planned(model, *sets)
    whole = finish(run, tmp_path / "whole", checkpoint_every=1000)
    steps = iter(range(1000))
    # three of task 0's four steps are done, so rows were kept
    events = carry_out(run, tmp_path / "parts", should_stop=lambda: next(steps) == 4)
    assert events[-1]["event"] == "stopped"
    resumed = finish(run, tmp_path / "parts", resume=True)
    assert results(resumed) == results(whole)
    assert resumed.info["extra_state_bytes"] == whole.info["extra_state_bytes"]
    assert tables(tmp_path / "parts")["items.parquet"] == tables(tmp_path / "whole")["items.parquet"]


@pytest.mark.parametrize("part", SWITCHED)
@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_states_the_bytes_of_what_is_added(part: str, kind: Kind, tmp_path: Path) -> None:
    """Exact but for what is kept of activations, where the plan states a bound."""
    folder = small_model(tmp_path / "model", kind)
    sets = (f"strategy.component={part}", "strategy.span=2", "scenario.tasks=1", "scenario.rest_steps=1")
    uncached = planned(folder, *sets, "strategy.cache=false", "scenario.exposures=1")
    run = finish(uncached, tmp_path / "run")
    assert run.info["extra_state_bytes"] == uncached.extra_bytes > 0


def test_the_plan_states_a_bound_of_what_is_kept(model: Path, tmp_path: Path) -> None:
    run = planned(model)
    kept = finish(run, tmp_path / "run").info["extra_state_bytes"]
    assert 0 < kept <= run.extra_bytes < planned(model, "scenario.exposures=5").extra_bytes
    assert planned(model, "strategy.cache_mib=1", "scenario.exposures=400").extra_bytes == 2**20
    assert planned(model, "strategy.cache=false").extra_bytes == 0


@pytest.mark.parametrize("part", SWITCHED)
def test_questions_are_answered_by_the_task_told_or_the_task_inferred(
    part: str, model: Path, tmp_path: Path
) -> None:
    record = finish(planned(model, f"strategy.component={part}"), tmp_path / "run")
    last = {
        known: record.asked(schedule="boundary", task_known=known).groupby("fact")["logprob"].last()
        for known in (True, False)
    }
    assert (last[True] - last[False]).abs().max() > 1e-6


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            ["components=3"],
            "strategy.components=3 with strategy.span=1: the model has 2 transformer blocks, not 3;",
        ),
        (
            ["components=2", "span=2"],
            "span=2: the model has 2 transformer blocks, not 4; allowed: components",
        ),
        (["component=mlps", "components=3"], "the model has 2 MLPs, not 3"),
        (["component=heads", "components=5"], "the model has 4 attention heads, not 5"),
        (
            ["component=lora", "span=3"],
            "strategy.span=3: the model has 2 transformer blocks, not 3; allowed: span",
        ),
        (
            ["component=pattern", 'patterns=["gpt_neox.layers.7.mlp.*"]'],
            "'gpt_neox.layers.7.mlp.*' matches no parameter; near: gpt_neox.layers.",
        ),
        (
            ["component=pattern", 'patterns=["1.mlp.*", "lm_haed.weight"]'],
            "'lm_haed.weight' matches no parameter",
        ),
        (
            ["component=pattern", 'patterns=["1.mlp.*", "*"]'],
            "strategy.patterns: '*' matches every parameter, so nothing would be left to train beside",
        ),
        (
            ["component=pattern", 'patterns=["[gl][pm]*"]'],  # in the weight file the head is embed_out
            "strategy.patterns: '[gl][pm]*' matches every parameter",
        ),
        (["component=pattern"], "component=pattern goes with patterns"),
        (['patterns=["1.mlp.*"]'], "component=pattern goes with patterns"),
        (["component=heads", "moments_on_unfreeze=reset"], "allowed with component=heads: keep"),
        (["component=limbs"], "component"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_training(
    sets: list[str], said: str, model: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        planned(model, *(f"strategy.{option}" for option in sets))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def footprint(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> Footprint:
    return Footprint(shapes, 4, ("exp_avg", "exp_avg_sq"), config, outline(FreezeLoopsOptions()))


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_of_the_loaded_model_s_names_are_taken(kind: Kind, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    located = resolve(ModelChoice(name=str(make_model_folder(kind, tmp_path))), installed())
    learner = Learner(AutoModelForCausalLM.from_pretrained(tmp_path), ADAM, torch.device("cpu"), seed=0)
    for name in learner.parameters:
        options = options_of("pattern", patterns=(name,))
        check_model(options, footprint(located.shapes, located.config))
        FreezeComponent(options).setup(learner)
    with pytest.raises(UsageError, match="matches no parameter; near: "):
        FreezeComponent(options_of("pattern", patterns=("nothing",))).setup(learner)


def test_a_pattern_of_every_loaded_name_is_refused_where_the_file_has_other_names() -> None:
    with pytest.raises(UsageError, match="'\\*t\\*' matches every parameter"):
        FreezeComponent(options_of("pattern", patterns=("lm_head.*", "*t*"))).setup(pupil())
    shapes = {"wte.weight": (64, 32), "h.0.mlp.c_fc.bias": (128,)}
    config = {"model_type": "gpt2"}
    with pytest.raises(UsageError, match="matches every parameter"):
        check_model(options_of("pattern", patterns=("transformer.*",)), footprint(shapes, config))
    # a head of its own is left out
    with_head = footprint({**shapes, "lm_head.weight": (64, 32)}, config)
    check_model(options_of("pattern", patterns=("transformer.*",)), with_head)


@pytest.mark.parametrize("part", SWITCHED)
def test_what_is_switched_needs_tasks(part: str, model: Path) -> None:
    from small_runs import planned as plan_of

    with pytest.raises(UsageError, match=f"strategy.component={part}: this stream has no task labels, so .*"):
        plan_of(model, "freeze_component", {"strategy.component": part}, scenario="fact_injection")
    assert plan_of(model, "freeze_component", scenario="fact_injection")


def test_a_model_without_blocks_or_of_unknown_parts_is_refused() -> None:
    mamba = {"model_type": "mamba"}
    with pytest.raises(UsageError, match="finds no transformer blocks in this 'mamba' model; use"):
        check_model(options_of(), footprint({"mixer.weight": (2, 2)}, mamba))
    with pytest.raises(UsageError, match="does not know the parts of a 'mamba' model"):
        check_model(options_of("mlps"), footprint({"layers.7.mixer.weight": (2, 2)}, mamba))


def test_two_parts_that_both_want_the_model_are_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="freeze_component and lora cannot go together"):
        planned(model, strategy="freeze_component+lora")
