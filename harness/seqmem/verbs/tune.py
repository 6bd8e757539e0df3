"""`seqmem tune`: learning rate and options searched on seeds of their own, with a stated budget of runs.

Every trial is a row of an ordinary plan, so finished runs are reused, unfinished ones resumed, and workers and
display are those of a bench. What was tried and what came of it goes to a search file (`planning/search.py`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmem.core.errors import UsageError, unknown
from seqmem.core.measures import Measure
from seqmem.core.sanitize import file_name
from seqmem.planning.grid import Plan, PlannedRow
from seqmem.planning.request import Execution, Request, TuneRequest, keywords, read
from seqmem.planning.search import Search, Trial, kept_recipe, mean_of, search_text
from seqmem.planning.store import Store
from seqmem.planning.trials import PlannedSearch, Space, plan_searches, read_space
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.files import write_text
from seqmem.record.row import Row
from seqmem.scoring.scores import score_rows
from seqmem.scoring.tables import load_metrics
from seqmem.verbs.bench import carry_out
from seqmem.verbs.choose import best_trial, notes
from seqmem.verbs.display import say_notes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tuning:
    """The outcome of one strategy's search.

    Attributes:
        trials: what was tried, in the order of the grid.
        chosen: index of the trial chosen; None where no trial has a value for every seed.
        sampled: size of the grid that the trials are a sample of; None where they are all of it.
        notes: what a reader should know, a sentence each.
        search: the content of the file; None where nothing was chosen.
        path: where the file is.
    """

    strategy: str
    measure: Measure
    space: Space
    trials: tuple[Trial, ...]
    chosen: int | None
    sampled: int | None
    notes: tuple[str, ...]
    search: Search | None
    path: Path | None


@dataclass(frozen=True)
class TuneResult:
    """The outcome of `tune`.

    Attributes:
        request: what was asked for, as one bench.
        tunings: a search per strategy; none when interrupted.
        unreadable: metrics that could not be loaded, each with its reason.
        interrupted: Ctrl-C stopped it; what had finished is kept and reused.
    """

    request: Request
    tunings: tuple[Tuning, ...]
    unreadable: tuple[str, ...]
    interrupted: bool


@keywords(TuneRequest, Execution)
def tune(scenario: str, strategy: str | Sequence[str], **given: Any) -> TuneResult:
    """Search the options of one or several strategies, each with the same budget.

    The grid of the space where it fits the budget, else a sample of it. The best mean of the measure over the
    tuning seeds is chosen. A trial that lacks a value for a seed loses. Of equal ones the nearest to the default wins.

    Args:
        scenario: name of the scenario.
        strategy: strategy names, one or several.
        **given: any further field of `TuneRequest`, which says what is searched, and of `Execution`, which says how.
            A space may be a mapping, ``space={"optimizer.lr": [1e-3, 3e-3]}``; an option of a strategy is tried for
            the strategies that have it.

    Raises:
        UsageError: the request cannot be carried out; nothing was written.
    """
    asked, execution = read(
        TuneRequest,
        {"scenario": scenario, "strategy": strategy, **given},
        "tune",
        without=("sweep", "tuned", "reference", "measure_cost"),
    )
    registry = Registry.from_environment(execution.disabled)
    searches = plan_searches(asked, registry)
    say_notes(dict.fromkeys(note for search in searches for note in search.planned.notes), execution.display)
    metrics, unreadable = load_metrics(registry)
    metric, measure = _measure(asked.measure or searches[0].planned.boards[0].primary, metrics)
    runs = {run_id: run for search in searches for run_id, run in search.planned.runs.items()}
    whole = Plan(asked.as_bench(), runs, tuple(search.planned.boards[0] for search in searches), ())
    store = Store(execution.out)
    on_record = {
        **asked.asked(),
        "tune": {
            "space": {option: list(values) for option, values in read_space(asked).items()},
            "budget": asked.budget,
            "measure": measure.name,
        },
    }
    with store.locked():
        outcome, interrupted = carry_out(whole, store, on_record, execution)
        tunings = []
        for search in searches if not interrupted else ():
            rows = store.rows(search.planned, search.planned.boards[0], outcome)
            tunings.append(_judge(search, rows, metric, measure, asked.budget, store))
    return TuneResult(whole.request, tuple(tunings), tuple(unreadable), interrupted)


def _measure(name: str, metrics: Sequence[MetricSpec]) -> tuple[MetricSpec, Measure]:
    """Return the measure of a name and the metric that gives it.

    Raises:
        UsageError: no metric gives it, or neither direction of it is better.
    """
    found = {measure.name: (metric, measure) for metric in metrics for measure in metric.measures}
    if name not in found:
        raise UsageError(unknown("measure", name, found))
    if found[name][1].direction == "none":
        raise UsageError(
            f"--measure {name}: neither higher nor lower is better, so no trial is best; take another measure"
        )
    return found[name]


def _judge(
    search: PlannedSearch,
    rows: Sequence[Row],
    metric: MetricSpec,
    measure: Measure,
    budget: int,
    store: Store,
) -> Tuning:
    """Score the trials, choose one, and write the file."""
    planned = search.planned
    (board,) = planned.boards
    scores = score_rows(rows, [metric])
    scores = scores[scores["measure"] == measure.name]
    trials = tuple(
        _trial(planned_row, row, scores[scores["row"] == row.label])
        for planned_row, row in zip(board.rows, rows, strict=True)
    )
    chosen = best_trial(trials, measure, search.usual)
    kept = dict.fromkeys(f"trials {row.kept}" for row in rows if row.kept)
    found, path = None, None
    if chosen is not None:
        recipe = planned.runs[trials[chosen].runs[0]].recipe
        found = Search(
            scenario=board.scenario,
            version=board.version,
            preset=planned.request.preset,
            model=recipe.model.name,
            strategy=search.spec.name,
            strategy_version=search.spec.version,
            seeds=tuple(trials[0].values),
            budget=budget,
            runs=len(planned.runs),
            measure=measure.name,
            direction=measure.direction,  # type: ignore[arg-type]  # "none" was refused
            space=dict(search.space),
            trials=trials,
            chosen=trials[chosen].options,
            recipe=kept_recipe(recipe),
            date=max(str(run.info["date"]) for row in rows for run in row.runs.values()),
        )
        path = store.folder / "tunings" / _file(found)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, search_text(found))
    return Tuning(
        search.spec.name,
        measure,
        search.space,
        trials,
        chosen,
        search.sampled,
        (*notes(search, trials, chosen, measure), *kept),
        found,
        path,
    )


def _trial(planned: PlannedRow, row: Row, scores: pd.DataFrame) -> Trial:
    """Return a trial with its values; a seed without one says why."""
    found = {int(seed): float(value) for seed, value in zip(scores["seed"], scores["value"], strict=True)}
    reasons = {int(seed): str(reason) for seed, reason in zip(scores["seed"], scores["reason"], strict=True)}
    values = {seed: None if math.isnan(found.get(seed, math.nan)) else found[seed] for seed in planned.runs}
    return Trial(
        options=dict(planned.swept),
        values=values,
        reasons={
            seed: reasons[seed] if seed in reasons else f"the run failed: {row.failed[seed]}"
            for seed, value in values.items()
            if value is None
        },
        mean=mean_of(values),
        runs=tuple(i for runs in (planned.runs, *planned.controls.values()) for i in runs.values()),
    )


def _file(search: Search) -> str:
    """Name the file; another set of runs, measure or budget is another search."""
    runs = sorted(run_id for trial in search.trials for run_id in trial.runs)
    text = " ".join([*runs, search.measure, str(search.budget)])
    short = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{search.scenario}-{file_name(search.strategy)}-{short}.json"
