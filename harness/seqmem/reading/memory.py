"""Readings of a record that are kept, because many metrics ask for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import pandas as pd

from seqmem.reading.missing import Missing
from seqmem.record.reader import RunRecord

Asked = ParamSpec("Asked")
Found = TypeVar("Found")

_KEPT_ROWS = 20_000
"""Rows up to which a table is kept: beyond, making it again costs less than holding it."""


def once_per_run(
    read: Callable[Concatenate[RunRecord, Asked], Found],
) -> Callable[Concatenate[RunRecord, Asked], Found]:
    """Keep what a pure function reads from a record for as long as the record lives.

    What it reads must not hold the record. A table is handed out as a copy that shares its data, so that a caller
    may add columns.
    """
    by_run: WeakKeyDictionary[RunRecord, dict[Any, Any]] = WeakKeyDictionary()

    @wraps(read)
    def from_memory(run: RunRecord, /, *args: Asked.args, **named: Asked.kwargs) -> Found:
        known = by_run.setdefault(run, {})
        key = (args, *sorted(named.items()))
        if key not in known:
            try:
                found: Found | Missing = read(run, *args, **named)
            except Missing as missing:
                found = Missing(*missing.args)  # the one raised holds the record, by its traceback
            if isinstance(found, pd.DataFrame | pd.Series) and len(found) > _KEPT_ROWS:
                return found
            known[key] = found
        found = known[key]
        if isinstance(found, Missing):
            raise Missing(*found.args)
        return found.copy(deep=False) if isinstance(found, pd.DataFrame | pd.Series) else found

    return from_memory
