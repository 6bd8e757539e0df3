"""The time of a step of each row beside its reference's, written beside every board."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seqmem.launch.step_time import time_pairs
from seqmem.planning.grid import Plan, PlannedBoard
from seqmem.planning.job import job_of
from seqmem.planning.request import Execution
from seqmem.planning.store import COST_FORMAT, Store

NO_REFERENCE = {"reason": "there is no reference row in this bench"}


def measure_board(
    planned: Plan,
    board: PlannedBoard,
    store: Store,
    say: Callable[[str], None] = lambda text: None,
    disabled: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Time every row of a board beside its reference; the reference beside itself, which shows the noise.

    Args:
        planned: the bench.
        board: one of its boards.
        store: the output folder.
        say: told of every row before it is measured.
        disabled: plugins to leave out.

    Returns:
        The content of ``cost.json``: by row label ``ratio``, ``low``, ``high``, ``steps`` and the label of the
        row's ``reference``, or the ``reason`` why a row has none; ``milliseconds`` of a step on a GPU only.
        ``reference`` at the top is the first row's.
    """
    execution = Execution(disabled=disabled)
    by_label = {row.label: row for row in board.rows}
    compared = [(row, by_label[row.reference]) for row in board.rows if row.reference in by_label]
    pairs = []
    for row, reference in compared:
        seed = min(row.runs)
        own, other = planned.runs[row.runs[seed]], planned.runs[reference.runs[seed]]
        pairs.append((job_of(own, store, {}, execution), job_of(other, store, {}, execution)))
    rows: dict[str, dict[str, Any]] = {row.label: dict(NO_REFERENCE) for row in board.rows}
    machine: dict[str, Any] = {}
    timed = time_pairs(pairs, planned.threads)
    for number, (row, reference) in enumerate(compared, 1):
        say(f"step time [{number}/{len(compared)}] {row.label}")
        found = next(timed)
        machine = found["machine"]
        named = {} if "reason" in found["result"] else {"reference": reference.label}
        rows[row.label] = found["result"] | named
    return {"format": COST_FORMAT, "rows": rows, "reference": board.rows[0].reference, "machine": machine}
