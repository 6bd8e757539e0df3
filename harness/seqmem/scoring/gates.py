"""Gates: what is asked of a row before it is ranked.

A learner that learns nothing forgets nothing, and one that was searched for longer is luckier. So a row is ranked only
where it was shown not to be worse than the reference in what it has to learn and to leave intact (`Measure.gate`), and
where it was searched with the same budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqmem.core.digits import ten_digits
from seqmem.core.measures import Measure
from seqmem.record.row import Row
from seqmem.scoring.cells import Cell
from seqmem.scoring.numbers import format_bound, format_interval
from seqmem.scoring.sign_flips import MIN_SEEDS_FOR_P


def gates_of(
    measures: Sequence[Measure], cells: Mapping[tuple[str, str], Cell], reference: str | None
) -> list[Measure]:
    """Return the measures that are gates here: those that the reference has a value of."""
    if reference is None:
        return []
    return [one for one in measures if one.gate is not None and _has_value(cells, reference, one)]


def failed_gates(
    label: str,
    reference: str,
    gates: Sequence[Measure],
    cells: Mapping[tuple[str, str], Cell],
    seeds: int,
) -> dict[str, str]:
    """Return the gates a row fails, by name, and by what; empty where it passes all of them.

    A gate is passed where the 95 % interval of the difference to the reference excludes a loss of the gate or more: not
    to be inferior has to be shown (non-inferiority, as in Schuirmann 1987 with one margin), on all seeds that the rank
    would rest on. With fewer seeds than a rank needs only a loss that was shown to be larger is a failure.

    Args:
        label: of the row.
        reference: label of the reference.
        gates: as `gates_of` gives them.
        cells: of all rows and measures.
        seeds: common seeds of the row and the reference on the primary measure.
    """
    failed: dict[str, str] = {}
    ranked = seeds >= MIN_SEEDS_FOR_P
    for gate in gates:
        assert gate.gate is not None
        difference = cells[label, gate.name].difference
        common = difference.interval.n if difference else 0
        if difference is None or (ranked and common < seeds):
            failed[gate.name] = f"has a value to compare with {reference}'s on {common} of {seeds} seeds"
            continue
        found = difference.interval
        if found.low is None or found.high is None:
            continue
        losses = (-found.high, -found.low) if gate.direction == "higher" else (found.low, found.high)
        least, most = map(ten_digits, losses)
        margin = f"{format_bound(gate.gate, gate.unit)} (difference {format_interval(found, gate.unit)})"
        if least >= gate.gate:
            failed[gate.name] = f"is worse than {reference}'s by more than {margin}"
        elif most >= gate.gate and ranked:
            failed[gate.name] = f"could be worse than {reference}'s by more than {margin}"
    return failed


def unequal_search(row: Row, rows: Sequence[Row], reference: Row | None) -> str:
    """Return how a row's search differs in budget from the reference's; empty where it does not.

    Without a reference all rows have to have the same budget.
    """
    own = _budget(row)
    if reference is None:
        budgets = sorted({_budget(one) for one in rows})
        return (
            f"the rows were searched with {' and '.join(map(_in_words, budgets))}" if len(budgets) > 1 else ""
        )
    other = _budget(reference)
    if own == other:
        return ""
    return f"searched with {_in_words(own)}, {reference.label} with {_in_words(other)}: give both the same budget"


def _budget(row: Row) -> int:
    search: Mapping[str, Any] = row.facts.get("search") or {}
    return int(search.get("budget", 0))


def _in_words(budget: int) -> str:
    return f"a budget of {budget} runs" if budget else "no budget"


def _has_value(cells: Mapping[tuple[str, str], Cell], label: str, measure: Measure) -> bool:
    cell = cells.get((label, measure.name))
    return cell is not None and cell.interval is not None
