"""Contamination: a never-trained control that was trained after all.

Controls are never-trained twins and facts of the group ``never``. A leak is seen in two ways. While a run
trains, the text of every trained row is searched for a control's subject together with its answer (for a
control without a subject, for its prompt and answer as they are asked), and the row's facts for its id: what
is found stands in the record. When a record is scored, controls that are answered far more often than
guessing explains say the same of a leak nobody saw. Such a run has no score and is not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from seqmem.core.data import NEVER
from seqmem.core.digits import significant
from seqmem.record.reader import RunRecord

IMPROBABLE = 1e-5
"""Controls answered as often as this improbably by guessing are taken for contaminated: 4.3 standard errors.
A table of a thousand clean runs loses one to it once in a hundred times."""


_FOUND: WeakKeyDictionary[RunRecord, str] = WeakKeyDictionary()
"""Findings of records that are still in use: every table and figure asks again."""


def contaminated(run: RunRecord) -> str:
    """Return why the run's never-trained controls are not controls; empty where they are."""
    if run not in _FOUND:
        _FOUND[run] = _contamination_of(run)
    return _FOUND[run]


def _contamination_of(run: RunRecord) -> str:
    found: Mapping[str, str] = run.info.get("contamination") or {}
    if found:
        control, where = next(iter(found.items()))
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return f"contaminated: the answer of the never-trained {control!r} was trained in {where}{more}"
    items = run.items
    wanted = (items["relation"] == run.info["primary_relation"]) & (items["cue"] == "none")
    wanted &= (items["context"] == 0) & items["chance"].notna()
    wanted &= items["twin_of"].notna() | (items["group"] == NEVER)
    asked = run.probes.loc[
        run.answering(wanted.to_numpy(dtype=bool)), ["step", "probe", "right", "chance"]
    ].sort_values("step")
    if asked.empty:
        return ""
    first, last = (asked.drop_duplicates("probe", keep=which) for which in ("first", "last"))
    right, count = int(last["right"].sum()), len(last)
    # a model that knew them before the run did not learn them in it
    expected = max(float(last["chance"].mean()), float(first["right"].mean()))
    if _tail(right, count, expected) >= IMPROBABLE:
        return ""
    return (
        f"contaminated: {right} of {count} never-trained facts are answered rightly when last asked, guessing gives "
        f"{significant(expected)} of them"
    )


def _tail(right: int, count: int, chance: float) -> float:
    """Return the probability of at least this many right answers by guessing."""
    from scipy import stats

    return float(stats.binom.sf(right - 1, count, chance))
