"""A memory in its own place, and what new facts cost old ones (docs/metrics: loop_contrast, interference)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .boundaries import Values, grid
from .records import Arms, Run


def contrast_measures(arms: Arms) -> Values:
    """docs/metrics/loop_contrast.md: the own place against others at equal age, and the gain of a cue."""
    found = cue_measures(arms.run)
    if arms.shuffled is None or arms.run.visits.empty or not arms.run.bare["inside"].any():
        return found
    elsewhere = inside(arms.shuffled)
    elsewhere = elsewhere[~elsewhere["own"]]
    for name, run in (("loop_contrast", arms.shuffled), ("loop_contrast.cyclic", arms.run)):
        own = inside(run)
        own = own[own["own"]]
        differences = []
        for visits, rows in own.groupby("visits"):
            known = elsewhere[elsewhere["visits"] == visits].groupby("age")["right"].mean()
            # Equal age: what is older or younger than any fact elsewhere has nothing to be held against.
            rows = rows[rows["age"].between(known.index.min(), known.index.max())]
            if len(rows):
                expected = np.interp(rows["age"], known.index, known)
                differences.append(float((rows["right"] - expected).mean()))
        if differences:
            found[name] = float(np.mean(differences)), int(own["fact"].nunique())
    return found


def inside(run: Run) -> pd.DataFrame:
    """Facts asked inside visits, with their visits so far, the steps since the last, and whether it is their own."""
    asked = run.bare[run.bare["inside"] & run.bare["twin_of"].isna()].drop_duplicates(["step", "fact"])
    visits = run.visits.sort_values("first_step")
    loops, starts, ends = (visits[name].to_numpy() for name in ("task_label", "first_step", "end"))
    step, loop = asked["step"].to_numpy()[:, None], asked["task_label"].to_numpy()[:, None]
    before = (loops == loop) & (ends <= step)
    rows = pd.DataFrame(
        {
            "fact": asked["fact"].to_numpy(),
            "right": asked["right"].to_numpy(dtype=float),
            "own": ((loops == loop) & (starts <= step) & (step < ends)).any(axis=1),
            "visits": before.sum(axis=1),
            "age": step[:, 0] - np.where(before, ends, 0).max(axis=1),
        }
    )
    return rows[rows["visits"] > 0]


def cue_measures(run: Run) -> Values:
    """What the own loop's text, or another's, adds to recall at the end of the loops, less the same of twins."""
    table = run.answers[
        run.answers["ladder"] & (run.answers["step"] == run.done) & ~run.answers["task_known"]
    ]
    table = table[table["relation"] == run.relation].assign(twin=table["twin_of"].notna())
    recall = table.assign(right=table["right"].astype(float)).groupby(["cue", "twin"])["right"].mean()
    found: Values = {}
    for name, cue in (("loop_contrast.cued", "own"), ("loop_contrast.cued_other", "other")):
        if (cue, True) in recall.index:
            facts, twins = (recall[cue, twin] - recall["none", twin] for twin in (False, True))
            found[name] = float(facts - twins), int(table.loc[~table["twin"], "fact"].nunique())
    return found


def interference_measures(run: Run) -> Values:
    """docs/metrics/interference.md: the rise of old facts' loss while a new group is first trained by itself."""
    if run.visits.empty:
        return {}
    at = run.bare[run.bare["boundary"]]
    group = run.loops
    first = run.visits.sort_values("first_step").drop_duplicates("task_label")
    found: dict[str, list[float]] = {"": [], "recall": [], "background": []}
    tables = {
        column: [grid(run, column, twins=twins, table=at) for twins in (False, True)]
        for column in ("loss", "right")
    }
    old: list[str] = []

    def rise(column: str, start: int, end: int) -> float:
        facts, twins = tables[column]
        own, beside = facts.loc[end] - facts.loc[start], twins.loc[end] - twins.loc[start]
        return float(np.nanmean(own[old]) - np.nanmean(beside))

    beside_all = True
    for start, end, label in first[["first_step", "end", "task_label"]].to_numpy():
        if old:
            found[""].append(rise("loss", start, end))
            found["recall"].append(-rise("right", start, end))
            near = run.experiences[run.experiences["phase"] == "general"]
            near = near[(near["first_step"] == end) | (near["first_step"] + near["steps"] == start)]
            costs = [
                rise("loss", begin, begin + n) / n for begin, n in near[["first_step", "steps"]].to_numpy()
            ]
            beside_all = beside_all and bool(costs)
            found["background"].append(float(np.mean(costs)) * (end - start) if costs else np.nan)
        old = old + [fact for fact in group.index if group[fact] == label]
    if not found[""]:
        return {}
    if not beside_all:
        del found["background"]
    return {
        f"interference.{name}".rstrip("."): (float(np.mean(rises)), len(group))
        for name, rises in found.items()
    }
