"""Measures of recall at the boundaries between visits (docs/metrics/README.md, "Symbols", and each measure's page)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .records import Run

Values = dict[str, tuple[float, int]]
"""Measure to its value in a run and the items behind it, of which only shares make use."""


def grid(run: Run, column: str, *, twins: bool = False, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """What was answered, step by fact; a twin stands under the name of its fact. None where nothing was."""
    asked = run.bare if table is None else table
    asked = asked[asked["twin_of"].notna() if twins else asked["twin_of"].isna()]
    steps, place = np.unique(asked["step"], return_inverse=True)
    values = np.full((len(steps), len(run.facts)), np.nan)
    code = asked["code"].to_numpy()
    values[place, code] = asked[column].to_numpy(dtype=float)
    answered = np.unique(code)
    return pd.DataFrame(values[:, answered], steps, run.facts[answered])


def mean(values: pd.Series | pd.DataFrame | list[float]) -> float:
    return float(np.mean(np.asarray(values)))


def at(recall: pd.DataFrame, step: int, loop: float) -> float:
    """Recall of a loop at a step."""
    return float(recall[loop].to_numpy()[recall.index.get_loc(step)])


def by_loop(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """The mean over the facts of each loop, a_lj: step by loop."""
    return table.T.groupby(run.loops.reindex(table.columns)).mean().T


def boundary_measures(run: Run) -> Values:
    """Recall of loops over the boundaries of the stream, in the end, and since their last visits."""
    found: Values = {}
    answers = grid(run, "right", table=run.bare[run.bare["boundary"]])
    recall, count = by_loop(run, answers), answers.shape[1]
    loops = [float(loop) for loop in recall.columns]
    found["average_accuracy"] = mean(recall.loc[run.end]), count
    found["anytime_accuracy"] = anytime(run, recall), count
    visits = run.visits.groupby("task_label")
    last, first = visits["end"].max().to_dict(), visits["first_step"].min().to_dict()
    if not set(loops) <= set(last):
        return found
    own = {loop: at(recall, last[loop], loop) for loop in loops}
    found["learning_accuracy"] = mean(list(own.values())), count
    before = [loop for loop in loops if last[loop] < run.end]
    if before:
        ends = {loop: at(recall, run.end, loop) for loop in before}
        found["backward_transfer"] = mean([ends[loop] - own[loop] for loop in before]), count
        best = recall[(recall.index > 0) & (recall.index < run.end)].max()
        found["forgetting"] = mean([float(best[loop]) - ends[loop] for loop in before]), count
        found |= worst_case(run, before, last)
    later = [loop for loop in loops if first[loop] > min(first.values())]
    if 0 in recall.index and later:
        gains = [at(recall, first[loop], loop) - at(recall, 0, loop) for loop in later]
        found["forward_transfer"] = mean(gains), count
    return found


def anytime(run: Run, recall: pd.DataFrame) -> float:
    """docs/metrics/anytime_accuracy.md: the mean over boundaries of the mean over the loops stated by then."""
    stated = run.exposures.assign(loop=run.exposures["fact"].map(run.loops))
    since = stated.groupby("loop")["step"].min().reindex(recall.columns)
    known = recall.where(recall.index.to_numpy()[:, None] >= since.to_numpy()[None, :])
    return float(known.mean(axis=1).dropna().mean())


def worst_case(run: Run, before: list[float], last: Mapping[Any, int]) -> Values:
    """docs/metrics/worst_case_accuracy.md: the lowest since a loop's last visit, over all probes of all its facts."""
    asked = run.bare[run.bare[["boundary", "inside", "even", "log"]].any(axis=1)]
    answers = grid(run, "right", table=asked)
    recall, count = by_loop(run, answers), answers.shape[1]
    least = mean([float(recall.loc[recall.index >= last[loop], loop].min()) for loop in before])
    value, loops = least, [float(loop) for loop in recall.columns]
    current = [loop for loop in loops if loop not in before]
    if current:
        value = at(recall, run.end, current[0]) / len(loops) + (1 - 1 / len(loops)) * least
    return {"worst_case_accuracy": (value, count), "worst_case_accuracy.minimum": (least, count)}


def task_measures(run: Run) -> Values:
    """docs/metrics/task_recall.md: recall of tasks when they are done and right after each, told and not told."""
    tasks = run.answers[(run.answers["relation"] == run.relation) & run.answers["boundary"]]
    told = tasks[tasks["task_known"]]
    if told.empty or run.rest is None:
        return {}
    found: Values = {}
    last = run.visits.groupby("task_label")["end"].max().to_dict()
    known, inferred = grid(run, "right", table=told), grid(run, "right", table=run.bare[run.bare["boundary"]])
    for behind, answers in (("", inferred), ("known", known)):
        recall, count = by_loop(run, answers), answers.shape[1]
        found[f"task_recall.{behind}".rstrip(".")] = mean(recall.loc[run.rest]), count
        named = [float(task) for task in recall.columns]
        if set(named) <= set(last):
            own = mean([at(recall, last[task], task) for task in named])
            found["task_recall.learned" + (behind and "_known")] = own, count
    if not (known.eq(inferred).all(axis=None) and same_losses(run, told)):
        found["task_recall.routing"] = found["task_recall.known"][0] - found["task_recall"][0], known.shape[1]
    return found


def same_losses(run: Run, told: pd.DataFrame) -> bool:
    """Whether telling the task changes no answer at all, to the bit."""
    bare = run.bare[run.bare["boundary"]]
    both = told.merge(bare, on=["step", "fact"], suffixes=("", "_inferred"))
    return bool((both["logprob"] == both["logprob_inferred"]).all())


def first_measures(run: Run) -> Values:
    """docs/metrics/initial_recall.md: the first answer after a fact's first exposure, in two probe forms."""
    found: Values = {}
    first = run.exposures.groupby("fact")["step"].min()
    for name, relation in (("initial_recall", run.relation), ("initial_recall.verbatim", "verbatim")):
        table = run.answers
        table = table[(table["relation"] == relation) & (table["cue"] == "none") & ~table["task_known"]]
        table = table.assign(first=table["fact"].map(first))
        asked = (
            table[table["step"] >= table["first"]].sort_values("step", kind="stable").drop_duplicates("fact")
        )
        if asked.empty:
            continue
        found[name] = float(asked["right"].mean()), len(asked)
        if relation == run.relation:
            found["initial_recall.lag"] = float((asked["step"] - asked["first"]).mean()), len(asked)
            by_then = run.exposures.merge(asked[["fact", "step"]], on="fact", suffixes=("", "_asked"))
            times = by_then.loc[by_then["step"] <= by_then["step_asked"], "count"].sum()
            found["initial_recall.exposures"] = float(times / len(asked)), len(asked)
    return found


def twin_measures(run: Run) -> Values:
    """docs/metrics/twin_recall.md: never-trained twins recalled at the end of the loops."""
    twins = grid(run, "right", twins=True, table=run.bare[run.bare["boundary"]])
    return {"twin_recall": (mean(twins.loc[run.done]), twins.shape[1])}
