"""Bars of `cosine_steer`: how exactly the target is hit, and what a turn costs over the naive step."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from benchmarks.strategies.bar import Bar, batch, interleaved, learner, medium, naive_step, tiny
from seqmem import Batch, Experience
from seqmem.training.learner import Learner
from seqmem_plugins.strategies.cosine_steer import SPACES, CosineSteer, CosineSteerOptions

TARGETS = (-1, -0.9, -0.5, 0, 0.5, 0.9, 1)
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "adam": {"name": "adam", "lr": 1e-3},
    "sgd": {"name": "sgd", "lr": 0.2},
    "sgd with momentum": {"name": "sgd", "lr": 0.02, "momentum": 0.9},
}
STEPS = 3
"""Steps of a visit to a loop."""


def arms() -> Iterator[tuple[str, str]]:
    """Every space with every optimizer that has what it steers."""
    for space, name in itertools.product(SPACES, OPTIMIZERS):
        if space != "moment" or name != "sgd":
            yield space, name


def strategy(space: str, target: float) -> CosineSteer:
    """A fresh one."""
    options = CosineSteerOptions.model_validate({"space": space, "target": target})
    return SPACES[options.space](options)


def steered_step(pupil: Learner, steering: CosineSteer, rows: Batch) -> None:
    """The naive step with the strategy's own steps where the loop calls them."""
    loss, _, _ = pupil.loss(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    pupil.clip()
    steering.transform_gradient(pupil)
    before = pupil.copy_parameters()
    pupil.optimizer.step()
    steering.transform_update(pupil, before)
    pupil.optimizer.zero_grad(set_to_none=True)
    steering.after_step(pupil, rows)


def visit(loop: int) -> Experience:
    """A visit to a loop; what it trains is given step by step."""
    return Experience(loop, f"loop {loop}", "loop", loop, ())


def deviations(space: str, name: str) -> dict[str, float]:
    """Largest |achieved - target|, | |u|/|g| - 1 | and |cosine| over all targets, 2 loops visited twice each."""
    worst = {"target": 0.0, "norm": 0.0, "cosine": 0.0}
    for target in TARGETS:
        pupil, steering = learner(tiny(), **OPTIMIZERS[name]), strategy(space, target)
        for turn, loop in itertools.product(range(2), range(2)):
            steering.before_experience(pupil, visit(loop))
            for step in range(STEPS):
                steered_step(pupil, steering, batch(8, 32, seed=100 * loop + 10 * turn + step))
                found = steering.measured()
                if "cosine_steer.cosine" in found:
                    achieved = found["cosine_steer.cosine"]
                    worst["target"] = max(worst["target"], abs(achieved - target))
                    worst["norm"] = max(worst["norm"], abs(found["cosine_steer.norm"] - 1))
                    worst["cosine"] = max(worst["cosine"], abs(achieved))
    return worst


def cost(model: torch.nn.Module, space: str, name: str) -> float:
    """Time of what the strategy and the host add to a step, alone, over the time of a naive step."""
    pupil, steering, rows = learner(model, **OPTIMIZERS[name]), strategy(space, -0.5), batch()
    for loop in range(2):
        steering.before_experience(pupil, visit(loop))
        steered_step(pupil, steering, rows)
    loss, _, _ = pupil.loss(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {key: parameter.grad for key, parameter in pupil.parameters.items()}
    other = learner(model, **OPTIMIZERS[name])  # the same weights, moments of its own

    def added() -> None:
        for key, parameter in pupil.parameters.items():
            parameter.grad = gradients[key]
        steering.transform_gradient(pupil)
        if space == "update":
            before = pupil.copy_parameters()
            torch._foreach_mul_([p.data for p in pupil.parameters.values()], 1 + 1e-4)  # a step of some kind
            steering.transform_update(pupil, before)
        steering.after_step(pupil, rows)
        for parameter in pupil.parameters.values():
            parameter.grad = None

    work: Mapping[str, Callable[[], object]] = {"added": added, "naive": lambda: naive_step(other, rows)}
    seconds = {key: statistics.median(each) for key, each in interleaved(work).items()}
    return seconds["added"] / seconds["naive"]


def bars() -> Iterator[Bar]:
    """Exactness in every space, then cost."""
    worst = {arm: deviations(*arm) for arm in arms()}
    for space in SPACES:
        own = {name: found for (where, name), found in worst.items() if where == space}
        note = f"tiny, float32, targets {', '.join(map(str, TARGETS))}; {', '.join(own)}"
        for what, limit in (("target", 1e-3), ("norm", 1e-5)):
            figure = max(found[what] for found in own.values())
            yield Bar(f"cosine_steer {space}: distance from {what}", figure, limit, note=note)
    figure = max(found["cosine"] for found in worst.values())
    yield Bar("cosine_steer: largest |cosine| printed", figure, 1.0)
    for size, make in (("tiny", tiny), ("19M", medium)):
        for space in SPACES:
            figure = 1 + cost(make(), space, "adam")
            note = f"{size}, adam, 16 x 64 tokens, one thread; no limit is promised"
            yield Bar(f"cosine_steer {space} / naive step, {size}", figure, 1.25, note=note)
