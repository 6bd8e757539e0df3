"""What the pages docs/metrics/*.md state of every measure: its unit, which way is better, its margin, and the
effect that a detector looks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

METRICS = Path(__file__).resolve().parents[2] / "docs" / "metrics"


@dataclass(frozen=True)
class Measure:
    """A line of the table "Measures" of a metric's page."""

    name: str
    unit: str
    better: str
    margin: float | None
    effect: float | None

    @property
    def headed(self) -> str:
        """Its unit with the arrow that says which way is better, as a heading has it."""
        return self.unit + {"higher": " ↑", "lower": " ↓"}.get(self.better, "")


def measures() -> Mapping[str, Measure]:
    """Every measure of every page, in the order of the pages."""
    found = {}
    for page in sorted(METRICS.glob("*.md")):
        stated = page.read_text("utf-8").partition("## Measures")[2].partition("\n## ")[0]
        head, *lines = [
            re.split(r" *\| *", line)[1:-1] for line in stated.splitlines() if line[:1] == "|"
        ] or [[]]
        for line in lines[1:]:
            cells = dict(zip(head, line, strict=False))
            name = cells["measure"].strip("`")
            found[name] = Measure(
                name, cells["unit"], cells["better"], number(cells["margin"]), number(cells.get("looks for"))
            )
    return found


def number(cell: str | None) -> float | None:
    return float(cell) if cell else None
