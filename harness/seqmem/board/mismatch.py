"""Faults of a board, or of a run that is to stand on one."""

from __future__ import annotations

from dataclasses import dataclass

Fault = tuple[str, str, str]
"""A fault of one record: what it is about, what is expected, and what was found."""


@dataclass(frozen=True)
class Mismatch:
    """One thing that differs from what it must be.

    Attributes:
        where: file or folder, relative to the board.
        row, seed: of the run, where it concerns one.
    """

    where: str
    what: str
    expected: str
    found: str
    row: str = ""
    seed: int | None = None

    @property
    def line(self) -> str:
        """Return all of it on one line."""
        run = ", ".join(
            [f"row {self.row}"] * bool(self.row) + [f"seed {self.seed}"] * (self.seed is not None)
        )
        parts = [self.where, run, f"{self.what}: expected {self.expected}, found {self.found}"]
        return ": ".join(part for part in parts if part)
