"""Verdicts: what the comparison of a row with the reference has shown, as an object and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from seqmem.core.measures import Interval, Measure
from seqmem.record.row import Row
from seqmem.scoring.cells import Cell
from seqmem.scoring.numbers import format_interval, format_margin, format_number, format_p
from seqmem.scoring.statistics import ALPHA, Difference

Finding = Literal[
    "better",
    "worse",
    "differs",  # of a measure without a better direction
    "alike",  # shown to lie inside the measure's margin
    "identical",  # the very weights of the reference
    "not_shown",
    "too_few_seeds",  # no outcome of the test could have been significant
    "no_test",
    "apart",  # trains on another stream: not one of the rows that are tested
    "no_pair",  # no seed in common with the reference
    "no_value",
    "no_reference",
    "reference",
]
SHOWN: tuple[Finding, ...] = ("better", "worse", "differs")


@dataclass(frozen=True)
class Verdict:
    """The verdict on a row against the reference, on the primary measure.

    Attributes:
        value: the row's own mean.
        difference: to the reference; None where nothing was compared.
        reason: why there is no value, no test, or no test that could tell.
        added: what metrics have to add of the row.
        graded: the verdict on the measure that says the same by degrees; None where there is none.
        failed: gates that the row fails, by name, and by what; ``search``: how its search was another. Empty where it
            may be ranked.
    """

    label: str
    reference: str | None
    measure: Measure
    finding: Finding
    value: Interval | None
    difference: Difference | None
    reason: str = ""
    added: str = ""
    graded: Verdict | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def unranked(self) -> str:
        """Why the row may not be ranked; empty where it may."""
        return in_words(self.failed)

    @property
    def by_degrees(self) -> Verdict | None:
        """The verdict by degrees, where it shows a difference and the primary measure does not."""
        graded = self.graded
        return graded if graded and graded.finding in SHOWN and self.finding not in SHOWN else None

    @property
    def seeds(self) -> int:
        """Seeds behind the value."""
        return self.value.n if self.value else 0

    @property
    def small(self) -> bool:
        """Say whether the difference was shown, and to be less than the measure's margin too."""
        return self.finding in SHOWN and self.difference is not None and bool(self.difference.equivalent)

    @property
    def shown_value(self) -> str:
        """The mean with its interval, or why there is none."""
        if self.value is None:
            return f"no value ({self.reason})"
        return format_interval(self.value, self.measure.unit)

    @property
    def shown_difference(self) -> str:
        """The difference with its interval; empty where nothing was compared."""
        return "" if self.difference is None else format_interval(self.difference.interval, self.measure.unit)

    @property
    def remark(self) -> str:
        """Return what else is known where the test said neither yes nor no."""
        found = self.difference
        if found is None or found.p is None:
            return ""
        p = f" (p {format_p(found.p)})"
        if self.finding == "too_few_seeds":
            return f", {self.reason}{p}"
        if self.finding == "not_shown" and found.detectable is not None:
            return f", the interval could have seen {format_number(found.detectable, self.measure.unit)}{p}"
        return p

    @property
    def outcome(self) -> str:
        """Return what the tests of the difference say; empty where nothing was compared."""
        margin = format_margin(self.measure)
        if self.finding in SHOWN:
            word: str = self.finding
            if word == "differs" and self.difference is not None:
                word = "higher" if self.difference.interval.mean > 0 else "lower"
            return f"{word}{self.remark}{f', but by less than {margin}' if self.small else ''}"
        words: dict[Finding, str] = {
            "alike": f"the same within ±{margin}{self.remark}",
            "not_shown": f"no difference shown{self.remark}",
            "too_few_seeds": f"no verdict{self.remark}",
            "no_test": f"no test ({self.reason})",
            "apart": "not tested, its stream is its own",
        }
        return words.get(self.finding, "")

    @property
    def text(self) -> str:
        """The verdict as the table's line in plain words, not escaped, with what metrics add."""
        tested = (
            self.graded is not None and self.graded.difference is not None and self.finding != "identical"
        )
        graded = self.graded._of_primary if self.graded and tested else ""
        unranked = f"not ranked: {self.unranked}" if self.unranked else ""
        return "; ".join(filter(None, (self._of_primary, graded, unranked, self.added)))

    @property
    def _of_primary(self) -> str:
        if self.finding == "identical":
            return (
                f"{self.label} had no effect here: its weights end bit for bit as those of {self.reference}"
            )
        head = f"{self.measure.name}: {self.label}"
        if self.value is None:
            return f"{head} has {self.shown_value}"
        short: dict[Finding, str] = {
            "reference": "the reference",
            "no_reference": "nothing to compare with",
            "no_pair": f"no seed in common with {self.reference}",
        }
        if self.finding in short:
            return f"{head} {self.shown_value}: {short[self.finding]}"
        difference = f"difference to {self.reference} {self.shown_difference}"
        return f"{head} {self.shown_value}, {difference}: {self.outcome}"


def in_words(failed: Mapping[str, str]) -> str:
    """Return why a row may not be ranked as one text, from `Verdict.failed`."""
    return "; ".join(why if name == "search" else f"{name} {why}" for name, why in failed.items())


def judge(
    row: Row, name: str | None, reference: Row | None, primary: Measure, cell: Cell, too_few: str
) -> Verdict:
    """Return what the row's primary measure says.

    Args:
        row: the row.
        name: label of the reference; None where rows are compared with nothing.
        reference: its row; None where it has none.
        primary: the measure.
        cell: the row's value of it.
        too_few: why the test could not have come out significant; empty where it could.
    """

    def verdict(finding: Finding, reason: str = cell.reason) -> Verdict:
        return Verdict(row.label, name, primary, finding, cell.interval, cell.difference, reason)

    found = cell.difference
    if name == row.label:
        return verdict("reference")
    if reference is not None and _same_weights(row, reference):
        return verdict("identical")
    if name is None:
        return verdict("no_reference")
    if cell.interval is None:
        return verdict("no_value")
    if found is None:
        return verdict("no_pair")
    if row.changes_stream:
        return verdict("apart", found.reason)
    if found.p is None:
        return verdict("no_test", found.reason)
    if found.p < ALPHA and primary.direction == "none":
        return verdict("differs")
    if found.p < ALPHA:
        higher = found.interval.mean > 0
        return verdict("better" if higher == (primary.direction == "higher") else "worse")
    if found.equivalent:
        return verdict("alike")
    return verdict("too_few_seeds", too_few) if too_few else verdict("not_shown")


def _same_weights(row: Row, reference: Row) -> bool:
    """Return whether a row ends in the very weights of the reference, seed by seed."""
    ends = [
        (row.runs[seed].info.get("final_weights"), reference.runs[seed].info.get("final_weights"))
        for seed in row.runs.keys() & reference.runs.keys()
    ]
    return bool(ends) and all(own is not None and own == other for own, other in ends)
