"""`joint`: the same rows in the same number of steps, independent and identically distributed.

Every training row of the stream, rests included, is shuffled over all steps, so nothing is ever far in the
past. It is not an upper bound: it may not have converged in this number of steps. It is a transform of the stream: the
learner trains as `naive` does. Probes keep their places, but no experience belongs to a loop.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from seqmem import Batch, Example, Experience, Strategy, StrategySpec, Stream, hookimpl

seqmem_api = ">=1,<2"


def shuffle_stream(stream: Stream, seed: int) -> Stream:
    """Deal all rows of all trained experiences anew; keep batch sizes and step counts.

    A batch trained `repeats` times becomes `repeats` steps of other rows, so every row is trained as often
    as before. The whole stream is read once for this.
    """

    @functools.cache
    def dealt() -> dict[int, tuple[Batch, ...]]:
        experiences = [stream.experience(index) for index in range(stream.length)]
        trained = [e for e in experiences if e.trains != "none"]
        rows: list[Example] = [
            row for e in trained for position in range(e.steps) for row in e.batch(position)
        ]
        # raw bits sorted: numpy keeps these the same in every version, its shuffles it does not
        order = iter(np.argsort(np.random.PCG64([seed, 0x101]).random_raw(len(rows)), kind="stable"))
        deal: dict[int, tuple[Batch, ...]] = {}
        for e in trained:
            sizes: Sequence[int] = [len(e.batch(position)) for position in range(e.steps)]
            deal[e.index] = tuple(tuple(rows[next(order)] for _ in range(size)) for size in sizes)
        return deal

    def experience(index: int) -> Experience:
        original = stream.experience(index)
        if original.trains == "none":
            return original
        mixed = replace(original, batches=dealt()[index], repeats=1, trains="all")
        if original.phase == "rest":
            return mixed
        return replace(mixed, name=f"joint {index}", phase="general", task_label=None)

    return replace(stream, experience=experience)


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="joint",
            version="1",
            summary="All rows of the stream shuffled over all its steps: the same data without an order.",
            build=lambda options: Strategy(),
            transform_stream=shuffle_stream,
            # no experience belongs to a loop, so nothing is kept per loop
            resize=lambda options, footprint: replace(footprint, outline=replace(footprint.outline, loops=0)),
        )
    ]
