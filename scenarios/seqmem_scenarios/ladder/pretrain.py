"""Pretrain a model of the ladder from its recipe, resumable at any checkpoint."""

import dataclasses
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from seqmem_scenarios.ladder.corpus import Batches, train_tokenizer
from seqmem_scenarios.ladder.evaluate import evaluate
from seqmem_scenarios.ladder.recipe import Recipe, recipe_of
from seqmem_scenarios.world import WORLD_VERSION

_CHECKPOINT = "checkpoint.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def pretrain(
    rung: str,
    out: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    resume: bool = False,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> dict[str, Any]:
    """Train the tokenizer and the model of a rung and write both, with `recipe.json`, to `out`.

    `steps` overrides the recipe's length, and with it the learning-rate schedule. With `resume` an
    unfinished run in `out` goes on from its last checkpoint and ends in the very weights it would
    have had without the break (same machine, same number of threads). `on_progress` is told the
    steps done, the steps in all and the last loss in nats per token. Returns what `recipe.json`
    holds.
    """
    recipe = recipe_of(rung)
    total = recipe.steps if steps is None else steps
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(recipe, seed)
    batches = Batches(recipe, seed, tokenizer)
    model = build_model(recipe, seed).to(device)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    identity = {"rung": rung, "seed": seed, "steps": total, "recipe": dataclasses.asdict(recipe)}
    checkpoint = out / _CHECKPOINT
    done = _load_checkpoint(checkpoint, identity, model, optimizer) if resume else 0
    for step in range(done, total):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, total)
        ids = torch.from_numpy(batches.batch(step)).to(device)  # (B, T), no padding
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())  # nats/token
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % recipe.checkpoint_every == 0 and step + 1 < total:
            _save_checkpoint(checkpoint, identity, step + 1, model, optimizer)
        if on_progress is not None:
            on_progress(step + 1, total, loss.item())
    figures = evaluate(model, tokenizer, seed=seed, known_people=recipe.mixture.known_people)
    record = {
        **identity,
        "tokens": total * recipe.batch_tokens,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "world_version": WORLD_VERSION,
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "safetensors": safetensors.__version__,
            "numpy": numpy.__version__,
        },
        "evaluation": figures,
    }
    model.save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)  # it only repeats config.json
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    checkpoint.unlink(missing_ok=True)
    return record


def build_model(recipe: Recipe, seed: int) -> GPTNeoXForCausalLM:
    """The untrained GPT-NeoX of a recipe, in fp32; the caller's random state is left as it was."""
    config = GPTNeoXConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=4 * recipe.hidden_size,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPTNeoXForCausalLM(config)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Linear warm-up to the recipe's rate, then linear decay to zero after the last step."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    return recipe.learning_rate * (total - step) / max(1, total - recipe.warmup)


def _save_checkpoint(
    path: Path,
    identity: dict[str, Any],
    step: int,
    model: GPTNeoXForCausalLM,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write weights and moments under a temporary name and rename: a break never leaves half."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[f"weight/{name}"] = parameter.detach().contiguous()
        for moment in _MOMENTS:
            tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment].contiguous()
    written = path.with_suffix(".partial")
    save_file(tensors, written, {"step": str(step), "identity": json.dumps(identity)})
    os.replace(written, path)


def _load_checkpoint(
    path: Path,
    identity: dict[str, Any],
    model: GPTNeoXForCausalLM,
    optimizer: torch.optim.Optimizer,
) -> int:
    """Restore weights and moments; returns the steps done, 0 without a checkpoint."""
    if not path.exists():
        return 0
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    if json.loads(metadata["identity"]) != json.loads(json.dumps(identity)):
        raise ValueError(
            f"{path} belongs to another run; give the same rung, seed and steps, or start afresh"
        )
    tensors = load_file(path, device=str(model.device))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"weight/{name}"])
            optimizer.state[parameter] = {moment: tensors[f"{moment}/{name}"] for moment in _MOMENTS}
    return int(metadata["step"])
