"""The values of a board's rows by measure and seed, and the cells that tables print of them."""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .intervals import LEAST_SEEDS, clopper_pearson, fieller, korn_graubard, student
from .pages import Measure, measures
from .printed import bracketed, shown
from .records import Arms, read
from .runs import values_of

LEAST_FOR_INTERVAL = 3

RATIOS = {"recovery.share": ("recovery", "recovery.forgotten")}
"""docs/metrics/recovery.md: of a row the mean of one measure over the mean of another."""

GRADED = {"retention": "retention.graded"}
"""docs/how-to-read-a-row.md, "By degrees": the measure that is tested in one family with the primary one."""

BySeed = Mapping[int, tuple[float, int]]


class Board:
    """A published board, computed from its records and its rules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rules = tomllib.loads((folder / "board.toml").read_text("utf-8"))
        self.measures = measures()
        self.values: dict[tuple[str, str], dict[int, tuple[float, int]]] = defaultdict(dict)
        self.seeds: dict[str, set[int]] = defaultdict(set)
        self.streams: dict[tuple[str, int], object] = {}
        self.chances: dict[int, float] = {}
        self.by_choice = False
        for arms in read(folder):
            self._add(arms)

    def _add(self, arms: Arms) -> None:
        run = arms.run
        self.seeds[run.row].add(run.seed)
        self.streams[run.row, run.seed] = run.experiences["name"].tolist()
        self.by_choice = (run.info.get("design") or {}).get("recall") == "forced_choice"
        asked = run.bare[run.bare["fact"].isin(run.exposures["fact"].unique())].drop_duplicates("probe")
        self.chances[run.seed] = float(asked["chance"].mean())
        for measure, found in values_of(arms).items():
            self.values[run.row, measure][run.seed] = found

    # -- what the rules and the records say of rows -------------------------------------------------------------

    @property
    def primary(self) -> Measure:
        return self.measures[self.rules["primary"]]

    @property
    def graded(self) -> Measure | None:
        return self.measures.get(GRADED.get(self.primary.name, ""))

    @property
    def reference(self) -> str:
        return str(self.rules["reference"])

    @property
    def margin(self) -> float | None:
        """The smallest difference worth calling one: the board's, or the one that the measure states."""
        stated = self.rules.get("margin", self.primary.margin)
        return None if stated is None else float(stated)

    @property
    def gates(self) -> Mapping[str, float]:
        return dict(self.rules.get("gates", {}))

    @cached_property
    def rows(self) -> list[str]:
        """The reference, then the others by name."""
        return sorted(self.seeds, key=lambda row: (row != self.reference, row))

    @cached_property
    def apart(self) -> frozenset[str]:
        """Rows that train on a stream of their own: other experiences than the reference's."""
        own = self.streams
        return frozenset(
            row for row, seed in own if own[row, seed] != own.get((self.reference, seed), own[row, seed])
        )

    @cached_property
    def judged(self) -> list[str]:
        return [row for row in self.rows if row != self.reference and row not in self.apart]

    @cached_property
    def searches(self) -> Mapping[str, Mapping[str, Any]]:
        """How rows were tuned, by row."""
        files = (self.folder / "searches").glob("*.json")
        found = [json.loads(path.read_text("utf-8")) for path in sorted(files)]
        return {str(search["strategy"]): search for search in found}

    # -- values over seeds --------------------------------------------------------------------------------------

    def of(self, row: str, measure: str) -> BySeed:
        """The values of a row by seed, empty where it has none."""
        found = self.values.get((row, measure), {})
        return {seed: found[seed] for seed in sorted(found)}

    def series(self, row: str, measure: str) -> list[float]:
        return [value for value, _ in self.of(row, measure).values()]

    def differences(self, row: str, measure: str, to: str) -> list[float]:
        """Differences paired by seed, on the seeds that both have."""
        own, other = self.of(row, measure), self.of(to, measure)
        return [own[seed][0] - other[seed][0] for seed in own if seed in other]

    def pooled(self, measure: str) -> list[float]:
        """The mean of all rows that are tested, by seed."""
        rows = [self.of(row, measure) for row in [self.reference, *self.judged]]
        seeds = sorted({seed for row in rows for seed in row})
        return [float(np.mean([row[seed][0] for row in rows if seed in row])) for seed in seeds]

    # -- cells --------------------------------------------------------------------------------------------------

    def cell(self, row: str, name: str) -> str:
        """The mean of a row with its interval, and how many of its seeds have a value; "-" where none has."""
        if name in RATIOS:
            return self._ratio(row, *RATIOS[name])
        found, unit = self.of(row, name), self.measures[name].unit
        if not found:
            return "-"
        values, items = zip(*found.values(), strict=True)
        if unit == "runs":
            text = counted(values)
        else:
            text = bracketed(float(np.mean(values)), interval(values, items, unit), unit)
        missing = len(found) < len(self.seeds[row])
        return f"{text}, {len(found)} of {len(self.seeds[row])} seeds" if missing else text

    def difference(self, row: str, name: str) -> str:
        """The mean difference to the reference with Student's interval; "-" without a common seed."""
        found = self.differences(row, name, self.reference)
        unit = self.measures[name].unit
        return bracketed(float(np.mean(found)), interval(found, None, unit), unit) if found else "-"

    def _ratio(self, row: str, above: str, below: str) -> str:
        """docs/how-to-read-a-row.md, "Ratios of two measures"; none where nothing was forgotten in the mean."""
        over, under = self.of(row, above), self.of(row, below)
        both = [seed for seed in over if seed in under]
        x, y = [over[seed][0] for seed in both], [under[seed][0] for seed in both]
        if not both or np.mean(y) <= 0:
            return "-"
        ends = fieller(x, y) if len(x) >= LEAST_FOR_INTERVAL else None
        return bracketed(float(np.mean(x) / np.mean(y)), ends, "fraction")

    def has_value(self, name: str) -> bool:
        if name in RATIOS:
            return any(self.cell(row, name) != "-" for row in self.rows)
        return any(self.of(row, name) for row in self.rows)

    def chance(self) -> str:
        """What guessing gets in the primary probe form: three digits, without a leading zero."""
        return f"{np.mean(list(self.chances.values())):.3g}".replace("0.", ".", 1)

    def items(self, row: str) -> int:
        return sum(count for _, count in self.of(row, self.primary.name).values())

    def plain(self, row: str, measure: str) -> str:
        """A mean without its interval."""
        values = self.series(row, measure)
        return shown(float(np.mean(values)), self.measures[measure].unit) if values else "-"


def interval(values: Sequence[float], items: Sequence[int] | None, unit: str) -> tuple[float, float] | None:
    """The 95 % interval of a mean, from three seeds up; items are given for values, not for differences."""
    if len(values) < LEAST_FOR_INTERVAL:
        return None
    return korn_graubard(values, items) if unit == "share" and items else student(values)


def counted(values: Sequence[float]) -> str:
    """Runs that have what is asked for, with the exact binomial interval."""
    count, total = int(sum(values)), len(values)
    text = f"{count} of {total}"
    if total < LEAST_FOR_INTERVAL:
        return text
    low, high = clopper_pearson(count, total)
    return f"{text} [{shown(low, 'share')}, {shown(high, 'share')}]"


def testable(values: Sequence[float]) -> bool:
    return len(values) >= LEAST_SEEDS
