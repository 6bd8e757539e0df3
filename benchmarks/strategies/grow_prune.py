"""`grow_prune`: what growth does to the logits, pruning to the budget and the moments, and the masks to a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.strategies.bar import Bar, batch, interleaved, learner, medium, naive_step, tiny
from seqmem import Experience
from seqmem.training.learner import Learner
from seqmem_plugins.strategies._grow_prune_plan import GrowPruneOptions
from seqmem_plugins.strategies._growth import add_blocks, widen
from seqmem_plugins.strategies.grow_prune import MASK, GrowPrune

GROW: dict[str, Callable[[Any], Any]] = {
    "blocks": lambda model: add_blocks(model, 2, np.random.default_rng(0), "even")[0],
    "width": lambda model: widen(model, 64, np.random.default_rng(0))[0],
}


def bars() -> Iterator[Bar]:
    """Growth on all architectures, a trained run of growths and prunings, and the cost of the masks."""
    models = {**_architectures(), "tiny": tiny(), "medium": medium()}
    for grow, change in GROW.items():
        found = {name: _moved(model, change) for name, model in models.items()}
        figures = ", ".join(f"{name} {moved:.0e}" for name, moved in found.items())
        yield Bar(f"grow_prune: change of a logit at growth, {grow}", max(found.values()), 1e-5, note=figures)
    yield from _kept()
    for name, model, rounds in (("tiny", tiny(), 30), ("medium", medium(), 5)):
        yield _cost(name, model, rounds)


def _architectures() -> dict[str, Any]:
    """A small model of each family with no number left at zero."""
    from transformers import AutoConfig, AutoModelForCausalLM

    size = {"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    models = {}
    for kind, more in {
        "gpt_neox": {"intermediate_size": 256},
        "opt": {"ffn_dim": 256, "word_embed_proj_dim": 64},
        "gpt2": {},
        "llama": {"intermediate_size": 256},
    }.items():
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **size, **ends, **more)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        models[kind] = model
    return models


@torch.no_grad()
def _moved(model: Any, change: Callable[[Any], Any]) -> float:
    """Largest change of a logit over 4 rows of 64 tokens."""
    model.eval()
    rows = torch.from_numpy(np.stack([row.input_ids for row in batch(4, vocabulary=512)])).long()
    before = model(input_ids=rows, use_cache=False).logits
    after = change(model)(input_ids=rows, use_cache=False).logits
    return float((after - before).abs().max())


def _train(pupil: Learner, strategy: GrowPrune, experience: Experience) -> Iterator[None]:
    """An experience as the loop trains it; stops before its first step and after each."""
    strategy.before_experience(pupil, experience)
    yield
    for position in range(experience.steps):
        rows = experience.batch(position)
        loss, _, _ = pupil.loss(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        strategy.add_gradient(pupil)
        pupil.clip()
        strategy.transform_gradient(pupil)
        pupil.optimizer.step()
        pupil.optimizer.zero_grad(set_to_none=True)
        strategy.after_step(pupil, rows)
        yield


def _visit(index: int, steps: int) -> Experience:
    batches = tuple(batch(4, vocabulary=512, seed=10 * index + step) for step in range(steps))
    return Experience(index, f"experience {index}", "task", None, batches)


def _pruned(model: Any, options: dict[str, Any], optimizer: str) -> tuple[Learner, GrowPrune]:
    settings: dict[str, Any] = {"adamw": {"weight_decay": 0.1}, "sgd": {"momentum": 0.9}}.get(optimizer, {})
    pupil = learner(model.train(), optimizer, **settings)  # type: ignore[arg-type]
    strategy = GrowPrune(GrowPruneOptions.model_validate(options))
    strategy.setup(pupil)
    return pupil, strategy


def _kept() -> Iterator[Bar]:
    """Three growths within a budget of 1.1, on every architecture and optimizer, looked at after every step."""
    excess = missing = moments = pruned = 0.0
    for optimizer in ("adam", "adamw", "sgd"):
        for model in _architectures().values():
            pupil, strategy = _pruned(model, {"budget": 1.1, "growths": 3}, optimizer)
            budget = int(1.1 * sum(p.numel() for p in pupil.parameters.values()))
            for index in range(4):
                for _ in _train(pupil, strategy, _visit(index, 5)):
                    masks = pupil.state[MASK]
                    zeros = sum(int((~mask).sum()) for mask in masks.values())
                    ones = sum(p.numel() for p in pupil.parameters.values()) - zeros
                    excess = max(excess, ones - budget)
                    missing = max(missing, abs(ones - budget) if zeros else 0)
                    pruned = max(pruned, zeros)
                    for moment in pupil.settings.moments:
                        tensors = pupil.moments("main", moment)
                        moments = max(
                            moments, *(float((tensors[k].abs() * ~m).max()) for k, m in masks.items())
                        )
    note = f"4 architectures, 3 optimizers, 3 growths, every step; up to {pruned:,.0f} weights pruned"
    yield Bar("grow_prune: parameters kept beyond the budget", excess, 0, note=note)
    yield Bar("grow_prune: distance to the budget once pruned", missing, 0, note=note)
    yield Bar("grow_prune: largest |moment| of a pruned weight", moments, 0, note=note)


def _cost(name: str, model: Any, rounds: int) -> Bar:
    """The masks of a step alone, every matrix of every block masked, over a plain step of the same model."""
    pupil, strategy = _pruned(model, {"budget": 1, "growths": 1}, "adam")
    rows = batch(vocabulary=512)
    for index in range(2):
        for _ in _train(pupil, strategy, _visit(index, 1)):
            pass
    loss, _, _ = pupil.loss(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {key: parameter.grad for key, parameter in pupil.parameters.items()}

    def masks() -> None:
        for key, parameter in pupil.parameters.items():
            parameter.grad = gradients[key]
        strategy.transform_gradient(pupil)
        strategy.after_step(pupil, rows)
        pupil.optimizer.zero_grad(set_to_none=True)

    seconds = interleaved({"naive": lambda: naive_step(pupil, rows), "masks": masks}, rounds)
    naive, added = median(seconds["naive"]), median(seconds["masks"])
    return Bar(
        f"grow_prune masks / naive, {name}",
        1 + added / naive,
        1.05,
        note=f"the masks alone take {1e3 * added:.1f} ms, a plain step of the grown model {1e3 * naive:.0f} ms",
    )
