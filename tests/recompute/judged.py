"""Tests, gates, ranks and verdicts of rows (docs/how-to-read-a-row.md)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from .board import Board, testable
from .intervals import detectable, equivalent, max_t, student
from .pages import Measure
from .printed import bracketed, p_text, shown

LEVEL = 0.05


class Judge:
    """What is said of a board's rows beside the reference."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def differences(self, row: str, measure: str) -> list[float]:
        return self.board.differences(row, measure, self.board.reference)

    # -- tests against the reference ----------------------------------------------------------------------------

    @cached_property
    def adjusted(self) -> dict[tuple[str, str], float]:
        """p of every row that is tested, the primary measure and the graded one in one family."""
        board = self.board
        both = [board.primary, *([board.graded] if board.graded else [])]
        places = [(row, measure.name) for measure in both for row in board.judged]
        places = [place for place in places if testable(self.differences(*place))]
        return dict(zip(places, max_t([self.differences(*place) for place in places]), strict=True))

    def p(self, row: str, measure: str) -> str:
        """p, and behind it that of the row alone."""
        if (row, measure) not in self.adjusted:
            return "-"
        alone = max_t([self.differences(row, measure)])[0]
        return f"{p_text(self.adjusted[row, measure])} ({p_text(alone)})"

    def detectable(self, row: str, measure: Measure) -> str:
        return seen(self.differences(row, measure.name), measure.unit)

    def no_effect(self, row: str) -> str:
        found, margin = self.differences(row, self.board.primary.name), self.board.margin
        if not testable(found) or margin is None:
            return "-"
        return "shown" if equivalent(found, margin) else "not shown"

    # -- gates --------------------------------------------------------------------------------------------------

    def gates(self) -> dict[str, float]:
        """The gates that count: those of which the reference has a value."""
        board = self.board
        return {name: gate for name, gate in board.gates.items() if board.of(board.reference, name)}

    def failed(self, row: str) -> list[str]:
        """In words, the gates that a row is not shown to pass."""
        said = []
        for name, gate in self.gates().items():
            measure, found = self.board.measures[name], self.differences(row, name)
            if not found:
                said.append(f"{name} has no value")
                continue
            loss = [value if measure.better == "lower" else -value for value in found]
            low, high = student(loss)
            if high >= gate:
                shown_ = "is" if low > gate else "could be"
                mean = bracketed(float(np.mean(found)), student(found), measure.unit)
                than = f"{self.board.reference}'s by more than {shown(gate, measure.unit)}"
                said.append(f"{name} {shown_} worse than {than} (difference {mean})")
        return said

    def passed(self, row: str) -> str:
        if row == self.board.reference:
            return ""
        if row in self.board.apart:
            return "-"
        return "failed" if self.failed(row) else "passed"

    # -- ranks --------------------------------------------------------------------------------------------------

    @cached_property
    def ranks(self) -> dict[str, int]:
        """1 + the rows that are better: against the reference by the verdict, else by a family of the row's own."""
        board, name = self.board, self.board.primary.name
        sign = -1 if board.primary.better == "lower" else 1
        rows = [row for row in board.rows if row not in board.apart and not self.unranked(row)]
        found = {}
        for row in rows:
            others = [other for other in rows if other != row]
            family = [other for other in others if board.reference not in (row, other)]
            p = dict(zip(family, max_t([board.differences(o, name, row) for o in family]), strict=True))
            for other in set(others) - set(family):
                p[other] = self.adjusted[other if row == board.reference else row, name]
            ahead = {other: sign * float(np.mean(board.differences(other, name, row))) for other in others}
            found[row] = 1 + sum(p[other] < LEVEL and ahead[other] > 0 for other in others)
        return found

    def unranked(self, row: str) -> bool:
        """Whether a row has too few seeds, fails a gate, or was searched with another budget than the reference."""
        board = self.board
        if row == board.reference:
            return not testable(board.series(row, board.primary.name))
        budgets = [board.searches.get(name, {}).get("budget") for name in (row, board.reference)]
        few = not testable(self.differences(row, board.primary.name))
        return few or bool(self.failed(row)) or budgets[0] != budgets[1]

    def rank(self, row: str) -> str:
        return str(self.ranks.get(row, "-"))

    # -- in words -----------------------------------------------------------------------------------------------

    def verdict(self, row: str) -> list[str]:
        """The parts of a row's line above the tables."""
        board = self.board
        if row == board.reference:
            return [f"{board.primary.name}: {row} {board.cell(row, board.primary.name)}: the reference"]
        said = []
        for measure in [board.primary, *([board.graded] if board.graded else [])]:
            mean, difference = board.cell(row, measure.name), board.difference(row, measure.name)
            beside = f"difference to {board.reference} {difference}"
            said.append(f"{measure.name}: {row} {mean}, {beside}: {self.words(row, measure)}")
        failed = [] if row in board.apart else self.failed(row)
        if failed:
            said += [f"not ranked: {failed[0]}", *failed[1:]]
        return said + remarks(board, row)

    def words(self, row: str, measure: Measure) -> str:
        """The words of a verdict."""
        found = self.differences(row, measure.name)
        if row in self.board.apart:
            return "not tested, its stream is its own"
        if not testable(found):
            return f"no test ({len(found)} common seeds: a test needs 6)"
        p = self.adjusted[row, measure.name]
        margin = self.board.margin if measure == self.board.primary else None
        inside = margin is not None and equivalent(found, margin)
        limit = "" if margin is None else shown(margin, measure.unit)
        if p < LEVEL:
            up = float(np.mean(found)) > 0
            good = {"higher": ("worse", "better"), "lower": ("better", "worse")}
            word = good.get(measure.better, ("lower", "higher"))[up]
            said = f"{word}, but by less than {limit}" if inside else word
        elif inside:
            said = f"the same within ±{limit}"
        else:
            said = f"no difference shown, the interval could have seen {seen(found, measure.unit)}"
        return f"{said} (p {p_text(p)})"

    # -- detectors ----------------------------------------------------------------------------------------------

    def detector(self, measure: Measure, effect: float) -> dict[str, list[str]]:
        """Value, p, smallest detectable and verdict of every row, and of the mean of all rows by seed."""
        board, name = self.board, measure.name
        rows = {
            row: board.series(row, name) for row in [board.reference, *board.judged] if board.of(row, name)
        }
        adjusted = max_t(list(rows.values())) if all(map(testable, rows.values())) else []
        found = {
            row: detection(values, p, measure.unit, effect)
            for (row, values), p in zip(rows.items(), adjusted, strict=True)
        }
        pooled = board.pooled(name)
        found["all rows, mean by seed"] = detection(pooled, max_t([pooled])[0], measure.unit, effect)
        return found


def detection(values: Sequence[float], adjusted: float, unit: str, effect: float) -> list[str]:
    """docs/how-to-read-a-row.md, "Detectors"."""
    mean = float(np.mean(values))
    if adjusted < LEVEL:
        verdict = "found" if mean > 0 else "below zero"
    else:
        verdict = "not found" if detectable(values) <= effect else "underpowered"
    p = f"{p_text(adjusted)} ({p_text(max_t([values])[0])})"
    return [bracketed(mean, student(values), unit), p, seen(values, unit), verdict]


def seen(values: Sequence[float], unit: str) -> str:
    """The smallest detectable difference; none without a spread to work it out from."""
    if len(values) < 3 or np.ptp(values) < 1e-12:
        return "-"
    return shown(detectable(values), unit)


def remarks(board: Board, row: str) -> list[str]:
    """docs/metrics/exact_rise.md: a rise of exact answers is named for what it is, the form or the memory."""
    names = ("exact_rise", "exact_rise.form", "exact_rise.forced_choice")
    if not all(len(board.series(row, name)) >= 3 for name in names):
        return []
    values = {name: board.series(row, name) for name in names}
    above = {name for name in names if student(values[name])[0] > 0}
    exact, form, choice = (
        bracketed(float(np.mean(values[n])), student(values[n]), "fraction") for n in names
    )
    if names[2] in above:
        return [f"answers come back in the rest: forced choice rises by {choice} more than about twins"]
    learned = names[1] in above and np.mean(values[names[0]]) > 0
    if not learned and names[0] not in above:
        return []
    against = f"and forced choice is not shown to ({choice}): "
    said = f"exact answers rise by {exact} in the rest, "
    if not learned:
        return [f"{said}{against}no memory is shown to come back"]
    in_form = f"with {form} more of all answers in their form, "
    return [f"{said}{in_form}{against}the form of an answer is learned, no memory is shown to come back"]
