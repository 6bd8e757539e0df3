"""`replay`: rehearse rows of earlier experiences beside the current ones.

A buffer filled by reservoir sampling (Vitter 1985, algorithm R), so that every row seen so far has the same
chance of being in it. Rows of the experience under way enter the buffer when it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from seqmem import TOKEN_BYTES, Batch, Example, Experience, Options, Strategy, StrategySpec, hookimpl

if TYPE_CHECKING:
    from seqmem import Learner

seqmem_api = ">=1,<2"


class ReplayOptions(Options):
    """Options of `replay`."""

    buffer: int = Field(128, ge=1, description="rows kept")
    rows: int = Field(4, ge=1, description="rehearsed rows per step")


class Replay(Strategy):
    """Reservoir buffer over the rows trained so far."""

    def __init__(self, options: ReplayOptions) -> None:
        self._options = options
        self._buffer: list[Example] = []
        self._seen = 0

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Draw rows from the buffer without replacement."""
        count = min(self._options.rows, len(self._buffer))
        chosen = learner.generator.choice(len(self._buffer), size=count, replace=False) if count else ()
        return [self._buffer[index] for index in chosen]

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """Offer the rows of the experience's batches to the reservoir; repeats of a batch count once."""
        if experience.trains == "none":
            return
        for row in (row for batch in experience.batches for row in batch):
            self._seen += 1
            if len(self._buffer) < self._options.buffer:
                self._buffer.append(row)
            elif (place := int(learner.generator.integers(self._seen))) < self._options.buffer:
                self._buffer[place] = row

    def unregistered_bytes(self) -> int:
        """Return the bytes of the buffered rows."""
        return sum(row.nbytes for row in self._buffer)

    def state_dict(self) -> dict[str, Any]:
        """Return the buffer's rows and the number of rows offered."""
        return {"rows": [row.to_json() for row in self._buffer], "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the buffer."""
        self._seen = state["seen"]
        self._buffer = [Example.from_json(row) for row in state["rows"]]


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="replay",
            version="1",
            summary="Rehearses rows of earlier experiences from a reservoir buffer.",
            options=ReplayOptions,
            build=Replay,
            planned_bytes=lambda options, footprint: (
                options.buffer * footprint.outline.longest_row * TOKEN_BYTES
            ),
            citation="Rolnick et al. 2019, Experience Replay for Continual Learning, arXiv 1811.11682",
        )
    ]
