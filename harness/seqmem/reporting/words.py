"""The verdict in words: what was asked, what came out, and whether it differs from the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from seqmem.core.data import NEVER
from seqmem.core.digits import ten_digits
from seqmem.core.measures import Measure
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.scoring.comparison import Board, Table
from seqmem.scoring.numbers import format_interval, format_margin, format_number
from seqmem.scoring.statistics import ALPHA, Difference, Interval, t_interval

Finding = Literal["better", "worse", "differs", "alike", "open", "untested", "reference", "none"]
"""What is known about a row against the reference: `alike` is shown to be the same, of `open` nothing is shown."""

_UNDECIDED, _NOT_SHOWN = "no verdict", "no difference shown"
"""How the leaderboard's outcomes begin that are neither a yes nor a no."""


@dataclass(frozen=True)
class Verdict:
    """One row's result in words.

    Attributes:
        value: the primary measure with its interval, or why there is none.
        twins: how many of the never-trained controls are answered rightly when last asked; empty without any.
        differs: whether it differs from the reference, with difference and p-value.
        seeds: seeds behind the value.
    """

    label: str
    measure: str
    value: str
    twins: str
    differs: str
    finding: Finding
    seeds: int

    @property
    def text(self) -> str:
        """The whole as one sentence, not escaped."""
        twins = f", {self.twins}" if self.twins else ""
        return f"{self.label}: {self.measure}: {self.value}{twins}; {self.differs}"


def recall_when_last_asked(runs: Sequence[RunRecord], *, controls: bool) -> Interval | None:
    """Share of uncued primary questions answered rightly at the last step at which any was asked.

    Args:
        runs: one per seed.
        controls: of the never-trained facts (twins and the group ``never``) instead of the trained ones.

    Returns:
        Mean over seeds with its 95 % t interval; None where nothing of the kind was asked, and for documents.
    """
    shares = []
    for run in runs:
        if run.info["primary_relation"] == "general":
            continue
        asked = pd.concat([run.asked(twins=False), run.asked(twins=True)])
        never = asked["twin_of"].notna() | (asked["group"] == NEVER)
        asked = asked[never == controls]
        if not asked.empty:
            shares.append(float(asked.loc[asked["step"] == asked["step"].max(), "correct"].mean()))
    return t_interval(shares) if shares else None


def judge(board: Board, row: Row) -> Verdict:
    """Put one row's primary result into words."""
    cell = board.cells[row.label, board.primary.name]
    value = f"no value ({cell.reason})"
    if cell.interval is not None:
        value = format_interval(cell.interval, board.primary.unit)
    twins = recall_when_last_asked([row.runs[seed] for seed in sorted(row.runs)], controls=True)
    differs, finding = _difference(board, row)
    return Verdict(
        label=row.label,
        measure=board.primary.summary or board.primary.name,
        value=value,
        twins="" if twins is None else _twins(twins.mean, board.primary.unit),
        differs=differs,
        finding=finding,
        seeds=cell.interval.n if cell.interval else 0,
    )


def _twins(recall: float, unit: str) -> str:
    """Recall of the controls; called so where the measure beside it is none."""
    return f"twins {'' if unit == 'fraction' else 'recalled '}{format_number(recall, 'fraction')}"


def _difference(board: Board, row: Row) -> tuple[str, Finding]:
    """Whether the row differs from the reference; the outcome of the test is the leaderboard's own wording."""
    primary, verdict = board.primary, board.verdicts[row.label]
    if board.reference == row.label:
        return "the reference", "reference"
    if board.reference is None:
        return "nothing to compare with", "none"
    cell = board.cells[row.label, primary.name]
    if cell.interval is None or cell.difference is None:
        return f"not compared with {board.reference}", "none"
    amount = format_interval(cell.difference.interval, primary.unit)
    value = format_interval(cell.interval, primary.unit)
    head = f"{primary.name}: {row.label} {value}, difference to {board.reference} {amount}: "
    if not verdict.startswith(head):  # the same weights: no test says more
        return f"differs from {board.reference}: no, {verdict}", "alike"
    outcome = verdict.removeprefix(head)
    answer, finding = _answer(cell.difference, primary, outcome)
    return f"differs from {board.reference}: {answer}; difference {amount}", finding


def _answer(difference: Difference, primary: Measure, outcome: str) -> tuple[str, Finding]:
    """Yes or no, and the outcome in the leaderboard's words."""
    if difference.p is None:
        return f"not known, {outcome}", "untested"
    if difference.p < ALPHA:
        if primary.direction == "none":
            return f"yes, {outcome}", "differs"
        better = (difference.interval.mean > 0) == (primary.direction == "higher")
        return f"yes, {outcome}", "better" if better else "worse"
    if difference.equivalent:
        return f"no, {outcome}", "alike"
    if outcome.startswith(_UNDECIDED):
        return f"not known{outcome.removeprefix(_UNDECIDED)}", "untested"
    return f"not shown{outcome.removeprefix(_NOT_SHOWN)}", "open"


def summary(board: Board, verdicts: Sequence[Verdict]) -> str:
    """The board in one sentence: who is better, who is worse, of whom nothing is shown."""
    said: dict[Finding, str] = {
        "better": f"better than {board.reference}",
        "worse": f"worse than {board.reference}",
        "differs": f"different from {board.reference}",
        "alike": f"no different from {board.reference}",
        "open": f"no difference from {board.reference} shown",
        "untested": f"too few seeds to tell from {board.reference}",
    }
    parts = []
    for finding, words in said.items():
        labels = [
            f"{verdict.label}{_by_less(board, verdict.label)}"
            for verdict in verdicts
            if verdict.finding == finding
        ]
        if labels:
            parts.append(f"{words}: {', '.join(labels)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else "No row to compare with another."


def _by_less(board: Board, label: str) -> str:
    """That a difference which was shown is smaller than one worth calling so; empty where it is not."""
    found = board.cells[label, board.primary.name].difference
    small = found is not None and found.p is not None and found.p < ALPHA and found.equivalent
    return f" (by less than {format_margin(board.primary)})" if small else ""


def in_order(board: Board) -> list[Row]:
    """The rows, best first where the primary measure has a better direction; those without a value last."""
    sign = {"higher": -1, "lower": 1, "none": 0}[board.primary.direction]

    def place(row: Row) -> tuple[bool, float]:
        interval = board.cells[row.label, board.primary.name].interval
        return (True, 0.0) if interval is None else (False, sign * ten_digits(interval.mean))

    return sorted(board.rows, key=place)


def verdict_lines(table: Table) -> list[str]:
    """Every row's verdict as a line of plain text, not escaped."""
    return [judge(board, row).text for board in table.boards for row in in_order(board)]
