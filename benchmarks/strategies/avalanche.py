"""Cost of `avalanche:Replay` over a long stream, which Avalanche's own loader makes grow."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.strategies.bar import Bar, batch, interleaved, learner, naive_step, tiny
from seqmem import Experience
from seqmem_plugins.avalanche._memories import Replay
from seqmem_plugins.avalanche.strategies import ReplayOptions

ROWS = 4
"""Rows of an experience, which has one step."""


def bars() -> Iterator[Bar]:
    """An experience of one step, rehearsal and consolidation included, early and late in a stream."""
    pupil, rows = learner(tiny()), batch(ROWS)
    early, late = _Stream(10), _Stream(200)
    work = {"naive": lambda: naive_step(pupil, rows), "early": early.experience, "late": late.experience}
    naive, at_10, at_200 = (1e3 * median(seconds) for seconds in interleaved(work, rounds=10).values())
    early, late = _Stream(10), _Stream(200)
    memory = interleaved({"early": early.memory, "late": late.memory}, rounds=10)
    alone_10, alone_200 = (1e3 * median(seconds) for seconds in memory.values())
    yield Bar(
        "avalanche:Replay, experience 200 / experience 10",
        at_200 / at_10,
        1.1,
        note=(
            f"{at_200:.0f} / {at_10:.0f} ms with {ROWS} rows and {ROWS} rehearsed, a plain step {naive:.0f} ms; "
            f"the memory alone {alone_200:.2f} / {alone_10:.2f} ms"
        ),
    )


class _Stream:
    """A run that has come to a given place of its stream; every call is one more experience."""

    def __init__(self, past: int) -> None:
        self._pupil = learner(tiny())
        self._strategy = Replay(ReplayOptions.model_validate({"batch_size_mem": ROWS}))
        self._strategy.setup(self._pupil)
        self._index = 0
        for _ in range(past):
            self.memory()

    def _visit(self) -> Experience:
        self._index += 1
        rows = batch(ROWS, seed=self._index)
        return Experience(self._index, f"experience {self._index}", "task", None, (rows,))

    def experience(self) -> None:
        """An experience of one step."""
        visit = self._visit()
        self._strategy.before_experience(self._pupil, visit)
        rehearsed = self._strategy.rehearse(self._pupil, visit.batch(0))
        naive_step(self._pupil, (*visit.batch(0), *rehearsed))
        self._strategy.after_experience(self._pupil, visit)

    def memory(self) -> None:
        """The same without the training."""
        visit = self._visit()
        self._strategy.before_experience(self._pupil, visit)
        self._strategy.rehearse(self._pupil, visit.batch(0))
        self._strategy.after_experience(self._pupil, visit)
