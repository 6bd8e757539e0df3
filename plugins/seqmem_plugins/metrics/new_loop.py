"""New loop: what does a loop added later need, and cost?

A loop counts as added when the names of its visits end with ", new", as `memory_loops` names those of its option
`new_loop`. None of its measures is given where no loop was added.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from seqmem import Measure, MetricSpec, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import (
    Missing,
    at_step,
    attempt,
    loop_visits,
    loops_of,
    questions,
    recall_by_loop,
)

seqmem_api = ">=1,<2"

NEW = ", new"
"""How the name of a visit to an added loop ends."""


def added_loops(visits: pd.DataFrame) -> list[int]:
    """Loops whose visits the scenario calls new.

    The name decides, not the order: with one cycle an added loop looks like the last of the old ones.
    """
    new = visits["name"].str.endswith(NEW)
    return sorted({int(loop) for loop in visits.loc[new, "loop"]})


def _added(run: RunRecord) -> list[int]:
    loops = added_loops(loop_visits(run))
    if not loops:
        raise Missing("no loop was added after the others had run")
    return loops


def _exposures_to_first_answer(run: RunRecord) -> pd.Series:
    """Exposures before each added fact's first right answer, infinite where it never came."""
    rows = questions(run, None)
    rows = rows[rows["task_label"].isin(_added(run))]
    first_right = rows[rows["correct"]].groupby("fact")["step"].min()
    counts = {}
    for fact in sorted(rows["fact"].unique()):
        exposed = run.exposures[run.exposures["fact"] == fact]
        step = first_right.get(fact, np.inf)
        counts[fact] = float(exposed.loc[exposed["step"] <= step, "count"].sum()) if step < np.inf else np.inf
    if not counts:
        raise Missing("no fact of the added loop was probed")
    return pd.Series(counts, dtype=float)


def exposures_to_criterion(run: RunRecord) -> Value:
    """Median over the added loop's facts of exposures up to the first right answer on the primary rung.

    Facts never answered count as more than any number; None when they are half or more. Probes come at
    boundaries and inside visits, so the number is an upper bound. Unit: exposures; range: 0 up; lower is
    better.
    """
    counts = _exposures_to_first_answer(run)
    median = float(counts.median())
    if not np.isfinite(median):
        never = int(np.isinf(counts).sum())
        raise Missing(f"{never} of the {len(counts)} added facts were never answered rightly")
    return Value(median, len(counts))


def reached(run: RunRecord) -> Value:
    """Share of the added loop's facts ever answered rightly.

    Unit: fraction; range 0 to 1; higher is better.
    """
    counts = _exposures_to_first_answer(run)
    return Value(float(np.isfinite(counts).mean()), len(counts))


def cost_to_others(run: RunRecord) -> Value:
    """Mean over visits to the added loop of the other loops' recall before minus after the visit.

    Unit: fraction; range -1 to 1; lower is better.
    """
    added = _added(run)
    recall = recall_by_loop(run)
    others = [loop for loop in loops_of(recall) if loop not in added]
    if not others:
        raise Missing("no fact of the other loops was probed")
    visits = loop_visits(run)
    drops = [
        float((at_step(recall, int(start)) - at_step(recall, int(end)))[others].mean())
        for start, end in visits.loc[visits["loop"].isin(added), ["start", "end"]].to_numpy()
    ]
    rows = questions(run)
    return Value(float(np.mean(drops)), int(rows.loc[rows["task_label"].isin(others), "fact"].nunique()))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {
        "new_loop": attempt(lambda: exposures_to_criterion(run)),
        "new_loop.reached": attempt(lambda: reached(run)),
        "new_loop.drop": attempt(lambda: cost_to_others(run)),
    }


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="new_loop",
            version="2",
            summary="exposures to learn a loop added later, and its cost to the old loops",
            measures=(
                Measure("new_loop", "exposures", "lower", "median exposures to the first right answer"),
                Measure("new_loop.reached", "fraction", "higher", "added facts ever answered rightly"),
                Measure(
                    "new_loop.drop", "fraction", "lower", "recall the old loops lose during a visit to it"
                ),
            ),
            compute=_compute,
        )
    ]
