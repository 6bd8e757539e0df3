"""Cost of a step when only the last quarter of a model's blocks is trained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.strategies.bar import Bar, batch, interleaved, learner, naive_step, random_neox
from seqmem import Batch, Experience
from seqmem.training.learner import Learner
from seqmem_plugins.strategies._freeze_component_plan import FreezeComponentOptions
from seqmem_plugins.strategies.freeze_component import FreezeComponent

LAYERS, HIDDEN = 12, 256
VISITS = 3
"""Times each row is trained within the experience."""


class _Component:
    """A learner that trains the last quarter of 12 blocks, on rows it visits again and again."""

    def __init__(self, cache: bool) -> None:
        options = FreezeComponentOptions.model_validate(
            {"components": 1, "span": LAYERS // 4, "cache": cache}
        )
        self.learner: Learner = learner(random_neox(HIDDEN, LAYERS))
        self.strategy = FreezeComponent(options)
        self.strategy.setup(self.learner)
        self.part = Experience(0, "task 0", "task", 0, (), trains="component")
        self.enter()

    def enter(self) -> None:
        """Begin an experience: nothing is kept."""
        self.strategy.before_experience(self.learner, self.part)
        self.learner.set_trainable(self.strategy.trainable(self.learner, self.part))

    def step(self, rows: Batch) -> float:
        """The loop's step, without records."""
        loss, _, _ = self.learner.loss(
            rows, lambda ids, prompt: self.strategy.forward(self.learner, ids, 0, prompt)
        )
        nats = loss.item()
        loss.backward()  # type: ignore[no-untyped-call]
        self.learner.clip()
        self.learner.optimizer.step()
        self.learner.optimizer.zero_grad(set_to_none=True)
        return nats

    def visits(self, rows: Batch) -> list[float]:
        """A whole experience that trains these rows `VISITS` times; the loss at each visit."""
        self.enter()
        return [self.step(rows) for _ in range(VISITS)]


def bars() -> Iterator[Bar]:
    """Steps of a component against full steps of the same model, and how far keeping activations moves results."""
    rows = batch()
    full, kept, uncached = learner(random_neox(HIDDEN, LAYERS)), _Component(True), _Component(False)
    seconds = interleaved(
        {
            "full": lambda: naive_step(full, rows),
            "visits": lambda: kept.visits(rows),
            "kept": lambda: kept.step(rows),
            "uncached": lambda: uncached.step(rows),
        },
        rounds=9,
    )
    step = {name: float(np.median(times)) for name, times in seconds.items()}
    step["visits"] /= VISITS
    where = f"{LAYERS} layers of {HIDDEN}, last quarter trained, 16 x 64 tokens"
    yield Bar(
        f"freeze_component: step over full step, mean of {VISITS} visits",
        step["visits"] / step["full"],
        0.40,
        note=f"{where}; uncached {step['uncached'] / step['full']:.2f}, "
        f"from the second visit on {step['kept'] / step['full']:.2f}",
    )
    one, other = _Component(True), _Component(False)
    apart = max(abs(a - b) for a, b in zip(one.visits(rows), other.visits(rows), strict=True))
    for name, parameter in one.learner.parameters.items():
        apart = max(apart, float((parameter - other.learner.parameters[name]).detach().abs().max()))
    yield Bar(
        "freeze_component: kept against uncached, largest difference",
        apart,
        1e-6,
        note=f"losses in nats and weights after {VISITS} steps",
    )
