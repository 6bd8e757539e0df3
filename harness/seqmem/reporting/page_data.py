"""The data of the page's script: curves and answers, as much of the records as fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seqmem.core.sanitize import clean
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.reporting import curves
from seqmem.reporting.answers import Pools, answers
from seqmem.reporting.page_section import EmptyPart, Part
from seqmem.scoring.scores import sound


@dataclass(frozen=True)
class _Detail:
    """An amount of records that travels with the page; the first that fits is taken."""

    steps: int
    facts: int
    seeds: int
    all_forms: bool
    rows: int = 60


_DETAILS = (
    _Detail(steps=160, facts=16, seeds=3, all_forms=True),
    _Detail(steps=120, facts=12, seeds=2, all_forms=True),
    _Detail(steps=120, facts=8, seeds=2, all_forms=False),
    _Detail(steps=100, facts=8, seeds=1, all_forms=False),
    _Detail(steps=80, facts=4, seeds=1, all_forms=False),
    _Detail(steps=50, facts=4, seeds=1, all_forms=False, rows=20),
    _Detail(steps=40, facts=0, seeds=0, all_forms=False, rows=20),
)


@dataclass(frozen=True)
class PartData:
    """The data of one part, and what was left out of it, in words."""

    curves: dict[str, Any] | None = None
    answers: dict[str, Any] | None = None
    left_out: tuple[str, ...] = ()


def page_data(
    parts: Sequence[Part | EmptyPart], fits: Callable[[Sequence[PartData]], bool]
) -> list[PartData]:
    """Return the data of all parts in the finest detail that fits, or else in the coarsest."""
    read = [_Reading(part) if isinstance(part, Part) else None for part in parts]
    made = [PartData() for _ in parts]
    for detail in _DETAILS:
        made = [PartData() if reading is None else reading.data(detail) for reading in read]
        if fits(made):
            break
    return made


class _Reading:
    """The records of one part, read once and then made as small as it takes."""

    def __init__(self, part: Part) -> None:
        ordered = [row for comparison in part.table.boards for row in comparison.best_first()]
        self.rows = [row for row in sound(ordered) if row.runs]
        self.chance = part.table.boards[0].chance
        self._asked: dict[tuple[str, str], curves.Asked] = {}

    def _read(self, row: Row, arm: str, runs: Sequence[RunRecord]) -> curves.Asked:
        key = (row.label, arm)
        if key not in self._asked:
            self._asked[key] = curves.read(runs)
        return self._asked[key]

    def _own(self, row: Row) -> curves.Asked:
        return self._read(row, "", [row.runs[seed] for seed in sorted(row.runs)])

    def data(self, detail: _Detail) -> PartData:
        """Return the part in this detail."""
        rows = self.rows[: detail.rows]
        if not rows:
            return PartData()
        drawn = self._curves(rows, detail)
        given = self._answers(rows, detail) if detail.facts and detail.seeds else None
        return PartData(drawn, given, self._left_out(detail, self._own(rows[0]), given is not None))

    def _curves(self, rows: Sequence[Row], detail: _Detail) -> dict[str, Any]:
        steps, phases = curves.Pool(), curves.Pool()
        first = self._own(rows[0])
        facts = first.few(min(first.facts), detail.facts)
        listed = []
        for row in rows:
            made = []
            for arm, runs in curves.arms(row).items():
                asked = self._read(row, arm, runs)
                if asked.frame.empty or asked.frame["control"].all():
                    continue
                one = curves.curves(asked, facts if not arm else [], detail.steps, steps)
                one["phases"] = phases.number(tuple(map(tuple, curves.phases(runs))))
                made.append({"name": clean(arm), **one})
            listed.append({"label": clean(row.label), "reference": row.label == row.reference, "arms": made})
        documents = next(iter(rows[0].runs.values())).info["primary_relation"] == "general"
        return {
            "rows": listed,
            "steps": steps.values,
            "phases": phases.values,
            "documents": documents,
            "chance": self.chance,
        }

    def _answers(self, rows: Sequence[Row], detail: _Detail) -> dict[str, Any]:
        pools, phases, runs = Pools(), curves.Pool(), []
        for number, row in enumerate(rows):
            chosen = self._own(row)
            for seed in sorted(row.runs)[: detail.seeds]:
                facts = chosen.few(seed, detail.facts)
                found = answers(row.runs[seed], facts, all_forms=detail.all_forms, pools=pools)
                when = phases.number(tuple(map(tuple, curves.phases([row.runs[seed]]))))
                runs.append({"row": number, "seed": seed, "phases": when, "answers": found})
        return {**pools.values(), "phases": phases.values, "runs": runs}

    def _left_out(self, detail: _Detail, known: curves.Asked, answered: bool) -> tuple[str, ...]:
        """Return sentences about what the records hold and the page does not."""
        said = []
        if len(self.rows) > detail.rows:
            said.append(f"Curves and answers are of the first {detail.rows} of {len(self.rows)} rows.")
        longest = max(frame.frame["step"].nunique() for frame in self._asked.values())
        if longest > detail.steps:
            said.append(
                f"Curves show {detail.steps} evenly chosen steps of up to {longest} at which facts were asked."
            )
        most_facts = max(map(known.count, known.facts))
        if most_facts > detail.facts:
            said.append(
                f"Single facts and their answers: {detail.facts} of {most_facts} in a run, chosen in turn from every "
                "loop or group; averages are of all facts."
            )
        most = max(len(row.runs) for row in self.rows)
        if answered and most > detail.seeds:
            said.append(f"Answers are of the first {detail.seeds} of up to {most} seeds.")
        if answered and not detail.all_forms:
            said.append("Answers are of the primary question; the records hold the other probe forms too.")
        if not answered:
            said.append("Answers are in the records only.")
        return tuple(said)
