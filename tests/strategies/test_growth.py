"""Larger models that compute what the smaller one did, for every architecture that can grow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grown_models import IDS, kernel, loaded, logits
from model_folders import KINDS, MORE_KINDS, Kind

from seqmem import UsageError
from seqmem_plugins.strategies._architecture import GROWABLE, Family, block_count, block_of, family_of
from seqmem_plugins.strategies._growth import (
    add_blocks,
    check_blocks,
    larger,
    rebuilt,
    widen,
    width_axis,
    width_of,
    with_new,
)

GROW: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "two blocks at the end": lambda model: add_blocks(model, 2, np.random.default_rng(0)),
    "three blocks between": lambda model: add_blocks(model, 3, np.random.default_rng(0), "even"),
    "width": lambda model: widen(model, 24, np.random.default_rng(0)),
}


ALL = (*KINDS, *MORE_KINDS)
CASES = [
    *((kind, how) for kind in KINDS for how in GROW),
    *((kind, "three blocks between") for kind in MORE_KINDS),
    *((kind, "width") for kind in MORE_KINDS if kind != "bloom"),
]


def test_every_architecture_that_grows_is_tested_here() -> None:
    assert sorted(GROWABLE) == sorted(ALL)


def family(model: Any) -> Family:
    return family_of(model.config.to_dict(), shapes_of(model), "growth")


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_a_larger_model_has_the_same_logits_also_when_saved_and_loaded(
    kind: Kind, how: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    model = loaded(kind)
    before, random = logits(model), torch.get_rng_state()
    kept = {name: parameter.clone() for name, parameter in model.named_parameters()}
    new, origins = GROW[how](model)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(parameter, kept[name]) for name, parameter in model.named_parameters())
    assert sum(map(torch.numel, new.parameters())) > sum(map(torch.numel, model.parameters()))
    assert (logits(new) - before).abs().max() <= 1e-5
    assert before.std() > 0.1
    assert origins.keys() == dict(new.named_parameters()).keys()
    new.save_pretrained(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=kernel(kind))
    assert torch.equal(logits(saved), logits(new))


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_what_is_new_learns_from_the_first_step_and_what_keeps_the_logits_is_needed(
    kind: Kind, how: str
) -> None:
    model = loaded(kind)
    parts, (new, origins) = family(model), GROW[how](model)
    new(input_ids=IDS, labels=IDS).loss.backward()
    ends = [parts.mlp_out] if how == "width" else (parts.post_norms or parts.outputs)
    outputs = {
        name: parameter
        for name, parameter in new.named_parameters()
        if (how == "width" or origins[name] is None) and any(f".{end}.weight" in name for end in ends)
    }
    assert len(outputs) == (len(ends) * (new.config.num_hidden_layers - 2 if how != "width" else 2))
    for name, parameter in outputs.items():
        axis, old = width_axis(name, parts), 0
        if how == "width":
            assert axis is not None
            old = model.get_parameter(name).shape[axis]
            assert torch.equal(parameter.narrow(axis, 0, old), model.get_parameter(name))
        axis = axis or 0
        fresh = parameter.detach().narrow(axis, old, parameter.shape[axis] - old)
        # a norm of Gemma multiplies by 1 more than it holds
        assert (
            not (fresh + 1).any()
            if kind.startswith("gemma") and parts.post_norms and how != "width"
            else not fresh.any()
        )
        assert parameter.grad.narrow(axis, old, parameter.shape[axis] - old).any()
        fresh.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    assert (logits(new) - logits(model)).abs().max() > 1e-2  # so the zeros are what keeps them


@pytest.mark.parametrize("kind", ALL)
def test_the_shapes_that_are_planned_are_those_that_are_built(kind: Kind) -> None:
    model = loaded(kind)
    shapes, parts = shapes_of(model), family(model)
    blocks, _ = GROW["two blocks at the end"](model)
    assert larger(shapes, parts, blocks=2) == shapes_of(blocks)
    if kind == "bloom":
        return
    wider, origins = widen(blocks, 24, np.random.default_rng(0))
    assert larger(shapes, parts, blocks=2, width=24) == shapes_of(wider)
    assert width_of(shapes_of(wider), parts) == width_of(shapes, parts) + 24
    assert all(origin == name for name, origin in origins.items())
    # the names of a weight file may lack the model's prefix
    bare = {name.split(".", 1)[1]: shape for name, shape in shapes.items() if block_of(name) is not None}
    assert block_count(larger(bare, parts, blocks=2)) == 4


def test_new_blocks_stand_at_the_end_or_evenly() -> None:
    assert with_new(3, 2, "end") == [0, 1, 2, None, None]
    assert with_new(4, 2, "even") == [0, 1, None, 2, 3, None]
    assert with_new(2, 3, "even") == [0, None, 1, None, None]
    assert with_new(4, 1, "even") == with_new(4, 1, "end")
    model = loaded("gpt_neox")
    new, origins = add_blocks(model, 2, np.random.default_rng(0), "even")
    name = "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight"
    assert [origins[name.format(block)] for block in range(4)] == [name.format(0), None, name.format(1), None]
    assert torch.equal(new.get_parameter(name.format(2)), model.get_parameter(name.format(1)))


@pytest.mark.parametrize("kind", ALL)
def test_growing_and_shrinking_back_gives_the_old_model_to_the_bit(kind: Kind) -> None:
    model, draw = loaded(kind), np.random.default_rng(0)
    new, _ = add_blocks(model, 1, draw)
    if kind != "bloom":
        new, _ = widen(new, 24, draw)
    back, _ = rebuilt(new, range(2), width_of(shapes_of(model), family(model)), draw)
    assert shapes_of(back) == shapes_of(model)
    assert all(torch.equal(p, model.get_parameter(name)) for name, p in back.named_parameters())
    assert torch.equal(logits(back), logits(model))


def test_new_weights_follow_the_generator() -> None:
    model = loaded("gpt2")
    one, _ = add_blocks(model, 1, np.random.default_rng(0))
    same, _ = add_blocks(model, 1, np.random.default_rng(0))
    other, _ = add_blocks(model, 1, np.random.default_rng(1))
    name = "transformer.h.2.attn.c_attn.weight"
    assert torch.equal(one.get_parameter(name), same.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_dtype_kernel_and_mode_are_kept() -> None:
    model = loaded("llama", max_position_embeddings=128).to(torch.bfloat16).train()
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq.float()
    new, _ = add_blocks(model, 1, np.random.default_rng(0))
    assert {parameter.dtype for parameter in new.parameters()} == {torch.bfloat16}
    assert new.model.rotary_emb.inv_freq.dtype == torch.float32
    assert new.training and new.config._attn_implementation == "sdpa"
    assert torch.equal(logits(new.eval()), logits(model.eval()))


def test_blocks_that_could_not_be_the_identity_are_refused_in_one_line() -> None:
    post = loaded("opt", do_layer_norm_before=False)
    with pytest.raises(UsageError, match="normalises after each block .*; widen its MLPs instead"):
        add_blocks(post, 1, np.random.default_rng(0))
    wider, _ = widen(post, 8, np.random.default_rng(0))
    assert (logits(wider) - logits(post)).abs().max() <= 1e-5
    scaled = loaded("gpt2", scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(UsageError, match="depends on a block's number .*; add them at the end"):
        add_blocks(scaled, 2, np.random.default_rng(0), "even")
    passed_on = loaded("bloom", apply_residual_connection_post_layernorm=True)
    with pytest.raises(UsageError, match="what a block passes on is normalised") as refused:
        add_blocks(passed_on, 1, np.random.default_rng(0))
    assert "widen" not in str(refused.value)  # which it cannot do
    llama = loaded("llama")
    with pytest.raises(UsageError, match="says something of each block \\(layer_scales\\); widen"):
        check_blocks({**llama.config.to_dict(), "layer_scales": [1, 2]}, shapes_of(llama), "growth")
    for shapes in (shapes_of(llama), {}):
        with pytest.raises(
            UsageError, match="growth does not know the parts of a 'mamba' model; it works with bloom, falcon"
        ):
            check_blocks({"model_type": "mamba"}, shapes, "growth")
    with pytest.raises(UsageError, match="cannot widen the MLPs of a 'bloom' model: .*; add blocks instead"):
        widen(loaded("bloom"), 8, np.random.default_rng(0))


def test_a_new_block_is_of_the_kind_of_the_one_before_it() -> None:
    sliding, full = "sliding_attention", "full_attention"
    model = loaded("gemma3_text")
    end, _ = add_blocks(model, 2, np.random.default_rng(0))
    even, _ = add_blocks(model, 2, np.random.default_rng(0), "even")
    assert end.config.layer_types == [sliding, full, full, full]
    assert even.config.layer_types == [sliding, sliding, full, full]
    assert add_blocks(loaded("smollm3"), 1, np.random.default_rng(0))[0].config.no_rope_layers == [1, 0, 0]
    assert model.config.layer_types == [sliding, full]
