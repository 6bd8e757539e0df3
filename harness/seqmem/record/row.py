"""A row of a table: the records of one arm of the grid, over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seqmem.record.reader import RunRecord


@dataclass(frozen=True)
class Row:
    """One line of a leaderboard: an arm of the grid, over seeds.

    Attributes:
        label: its name in the table, e.g. ``moment_avg init=zero``.
        facts: scenario, model, strategy and options, which distinguish the row, and that it `changes_stream`.
        runs: finished record by seed.
        controls: control name to record by seed.
        reference: label of the row this one is compared with; its own label for the reference itself,
            None where there is no reference.
        swept: swept option to its value, e.g. ``{"strategy.target": 0.5}``.
        failed: seed to the one-line reason of a run that did not finish.
        kept: versions that made its runs, where those of the bench differ and are accepted.
        cost: time of a training step over that of the reference row's; None where it was not measured.
    """

    label: str
    facts: Mapping[str, Any]
    runs: Mapping[int, RunRecord]
    controls: Mapping[str, Mapping[int, RunRecord]] = field(default_factory=dict)
    reference: str | None = None
    swept: Mapping[str, Any] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    cost: float | None = None
    kept: str = ""

    @property
    def changes_stream(self) -> bool:
        """Say whether its strategy trains on another stream than the scenario's, as `joint` does: nothing to rank."""
        return bool(self.facts.get("changes_stream"))
