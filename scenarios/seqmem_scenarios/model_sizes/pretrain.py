"""Pretrain an embedded model from its recipe, resumable at any checkpoint."""

import dataclasses
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import safetensors
import tokenizers
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from seqmem import UsageError
from seqmem_scenarios.model_sizes.corpus import Batches, train_tokenizer
from seqmem_scenarios.model_sizes.evaluate import evaluate
from seqmem_scenarios.model_sizes.recipe import Recipe, recipe_of
from seqmem_scenarios.world import WORLD_VERSION

WEIGHTS = "model.safetensors"
"""The file that makes a folder a finished model: it appears last."""

_CHECKPOINT = "checkpoint.safetensors"
_SAVING = ".saving"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def pretrain(
    size: str,
    out: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    resume: bool = False,
    force: bool = False,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> dict[str, Any]:
    """Train the tokenizer and the model of a size and write both, with `recipe.json`, to `out`.

    `steps` overrides the recipe's length, and with it the learning-rate schedule. With `resume` an
    unfinished run in `out` goes on from its last checkpoint and ends in the very weights it would
    have had without the break (on one machine's CPU, with the same versions and number of threads).
    With `force` a finished model in `out` gives way once the new one is there, and an unfinished run
    is started over. `on_progress` gets the steps done, the steps in all and the last loss in nats
    per token. A KeyboardInterrupt from it leaves a checkpoint of that very step. The content of
    `recipe.json` is returned.

    Raises:
        UsageError: the device is missing, or `out` cannot be written or holds another model; then
            nothing is changed.
    """
    recipe = recipe_of(size)
    total = recipe.steps if steps is None else steps
    identity = {"rung": size, "seed": seed, "steps": total, "recipe": dataclasses.asdict(recipe)}
    checkpoint = out / _CHECKPOINT
    _check_device(device)
    _check_folder(out, resume, force)
    done = _steps_done(checkpoint, identity) if resume else 0
    _make_folder(out)
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
    if resume:
        _load_checkpoint(checkpoint, model, optimizer)
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
        saved = (step + 1) % recipe.checkpoint_every == 0 or step + 1 == total
        if saved:
            _save_checkpoint(checkpoint, identity, step + 1, model, optimizer)
        if on_progress is not None:
            try:
                on_progress(step + 1, total, loss.item())
            except KeyboardInterrupt:
                if not saved:
                    _save_checkpoint(checkpoint, identity, step + 1, model, optimizer)
                raise
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
    saving = out / _SAVING
    shutil.rmtree(saving, ignore_errors=True)
    _save_quietly(model, saving)
    (saving / "generation_config.json").unlink(missing_ok=True)  # it only repeats config.json
    tokenizer.save_pretrained(saving)
    (saving / "recipe.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    _move_in(saving, out)
    checkpoint.unlink(missing_ok=True)
    return record


def _save_quietly(model: GPTNeoXForCausalLM, folder: Path) -> None:
    """Save without transformers' own progress bar, which would break the caller's."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _check_device(name: str) -> None:
    """Refuse a device that is not here."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UsageError(f"device {name!r} is unknown; allowed: cpu, cuda, cuda:0")
    if name == "cpu":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UsageError(f"device {name}: torch sees no CUDA device here; use --device cpu")
    if torch.device(name).index is not None and torch.device(name).index >= count:
        raise UsageError(f"device {name}: torch sees {count} CUDA devices, the last one is cuda:{count - 1}")


def _check_folder(out: Path, resume: bool, force: bool) -> None:
    """Refuse to lose what is in the folder already, and to resume what is not there."""
    if resume and force:
        raise UsageError("--resume continues a run and --force starts it over: give one of them")
    try:
        finished, unfinished = (out / WEIGHTS).exists(), (out / _CHECKPOINT).exists()
    except OSError as error:
        raise _unwritable(out, error) from error
    if resume and not unfinished:
        why = "holds a finished model; --force replaces it" if finished else "holds no checkpoint"
        raise UsageError(f"nothing to resume: {out} {why}")
    if finished and not resume and not force:
        raise UsageError(f"{out} holds a finished model: --force replaces it, --out writes elsewhere")
    if unfinished and not resume and not force:
        raise UsageError(f"{out} holds an unfinished run: --resume continues it, --force starts over")


def _make_folder(out: Path) -> None:
    """Make the folder and write in it, which nothing but trying can tell."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write to {out}: {error.strerror}; choose another --out")


def _move_in(saving: Path, out: Path) -> None:
    """Move the finished files to their folder, the weights last: a break leaves no folder that looks made."""
    (out / WEIGHTS).unlink(missing_ok=True)  # an older model's weights must not meet the new tokenizer
    for path in sorted(saving.iterdir(), key=lambda path: path.name == WEIGHTS):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(path, out / path.name)
    saving.rmdir()


def build_model(recipe: Recipe, seed: int) -> GPTNeoXForCausalLM:
    """Return the untrained GPT-NeoX of a recipe, in fp32, without a change of the random state."""
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
    """Return the rate of a step: linear warm-up to the recipe's, then linear decay to zero after the last."""
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


def _steps_done(path: Path, identity: dict[str, Any]) -> int:
    """Return the number of steps done in a checkpoint of this very run."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
        made_by, done = dict(json.loads(metadata["identity"])), int(metadata["step"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}; --force starts over") from error
    differ = [
        f"{word} {made_by.get(name)}"
        for name, word in (("rung", "size"), ("seed", "seed"), ("steps", "steps"))
        if made_by.get(name) != identity[name]
    ]
    if not differ and made_by != json.loads(json.dumps(identity)):
        differ = ["another version of the recipe"]
    if differ:
        raise UsageError(f"{path} belongs to another run ({', '.join(differ)}); --force starts over")
    return done


def _load_checkpoint(path: Path, model: GPTNeoXForCausalLM, optimizer: torch.optim.Optimizer) -> None:
    """Restore weights and moments."""
    tensors = load_file(path, device=str(model.device))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"weight/{name}"])
            optimizer.state[parameter] = {moment: tensors[f"{moment}/{name}"] for moment in _MOMENTS}
