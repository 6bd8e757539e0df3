"""Numbers that cannot be had, each with the reason that the user reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import pandas as pd

from seqmem.core.errors import NotApplicable
from seqmem.core.measures import Value
from seqmem.record.reader import RunRecord

Found = TypeVar("Found")
Table = TypeVar("Table", pd.DataFrame, pd.Series)


class Missing(Exception):
    """A measure cannot be had from this record; the text is the reason shown to the user."""


def attempt(measure: Callable[[], Value]) -> Value:
    """Return the measure's value, or None with the reason it gave."""
    try:
        return measure()
    except Missing as missing:
        return Value(None, reason=str(missing))


def some(rows: Table, reason: str) -> Table:
    """Return the rows, where there are any.

    Raises:
        Missing: there are none, for this reason.
    """
    if rows.empty:
        raise Missing(reason)
    return rows


def control(controls: Mapping[str, RunRecord], name: str) -> RunRecord:
    """Return the control run `name` of the same strategy and seed."""
    if name not in controls:
        raise Missing(f"needs the control {name!r}, which was not run")
    return controls[name]


def by_seed(runs: Mapping[int, RunRecord], read: Callable[[RunRecord], Found]) -> dict[int, Found]:
    """Read the runs of a row, those left out that have nothing to read; by seed, ascending."""
    found = {}
    for seed, run in sorted(runs.items()):
        try:
            found[seed] = read(run)
        except (Missing, NotApplicable):
            continue
    return found
