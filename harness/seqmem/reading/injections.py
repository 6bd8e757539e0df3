"""Injections: the steps that state a fact, and the windows after them.

Notation of Chang et al. 2024 (arXiv 2406.11813): l is the log-probability of the answer, mean over its tokens.
t_i are the steps done right before injection i. LAM, the local acquisition maximum, is the step in
(t_i, t_i + window] at which l is highest. Items that are never trained, the group `never` and the twins, are
the control: what they do over the same steps is taken off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from seqmem.core.data import Relation
from seqmem.core.errors import NotApplicable
from seqmem.reading.curves import Watched, answer_curves, watch
from seqmem.reading.memory import once_per_run
from seqmem.reading.missing import Missing
from seqmem.record.reader import RunRecord

_NEVER_AGAIN = 2**62


@dataclass(frozen=True)
class Injection:
    """A fact is trained by the step that follows `start`, that is t_i, and watched up to step `until`."""

    fact: str
    group: str
    start: int
    until: int


@once_per_run
def injections(run: RunRecord) -> tuple[Injection, ...]:
    """Return every injection of every fact, by fact and step.

    An injection is a step of an experience of phase ``inject`` in which the protocol states the fact; a rehearsed
    statement is not one. A window ends early where its fact is injected again.

    Raises:
        NotApplicable: the scenario asks nothing on the schedule ``inject``, or declares no window.
    """
    window = run.design.local_window
    if window is None or "inject" not in run.schedules:
        raise NotApplicable("the scenario does not ask right before and after injections")
    groups = run.items.drop_duplicates("fact").set_index("fact")["group"]
    stated = run.exposures.join(groups, on="fact", how="inner")
    stated = stated[stated["count"] > stated["rehearsed"]]
    table = run.experiences[run.experiences["phase"] == "inject"]
    found = [
        stated[stated["step"].between(first + 1, first + steps)]
        for first, steps in zip(table["first_step"], table["steps"], strict=True)
    ]
    if not sum(map(len, found)):
        raise Missing("no fact is injected at a step of its own in this stream")
    return tuple(
        Injection(str(fact), str(group), start, min(start + window, following))
        for (fact, group), rows in pd.concat(found).groupby(["fact", "group"])
        for start, following in _with_next(sorted(rows["step"].tolist()))
    )


def first_injection(run: RunRecord) -> int:
    """Return the steps done before the first injection of all."""
    return min(one.start for one in injections(run))


@once_per_run
def injections_by_group(run: RunRecord, group: str | None = None) -> Mapping[str, list[Injection]]:
    """Return the injections by group; of one group, where it is named."""
    found: dict[str, list[Injection]] = defaultdict(list)
    for one in injections(run):
        if group in (None, one.group):
            found[one.group].append(one)
    if not found:
        raise Missing(f"no fact of the group {group!r} is injected in this stream")
    return dict(found)


@once_per_run
def injection_windows(run: RunRecord, relation: Relation, group: str) -> list[Watched]:
    """Watch every injection step of one group: its facts and the controls inside the window."""
    curves = answer_curves(run, relation)
    together: dict[tuple[int, int], set[str]] = defaultdict(set)
    for one in injections_by_group(run, group)[group]:
        if one.fact in curves.fact:
            together[one.start, one.until].add(one.fact)
    if not together:
        raise Missing(f"no injected fact of the group {group!r} was asked in the probe form {relation}")
    return [watch(curves, facts, start, start, until) for (start, until), facts in sorted(together.items())]


def _with_next(steps: list[int]) -> list[tuple[int, int]]:
    """Return the steps done before each of these steps, and before the one after it."""
    starts = [int(step) - 1 for step in steps]
    return list(zip(starts, [*starts[1:], _NEVER_AGAIN], strict=True))
