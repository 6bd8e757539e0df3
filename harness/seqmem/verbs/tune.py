"""`seqmem tune`: learning rate and options searched on seeds of their own, with a stated budget of runs.

Every trial is a row of an ordinary plan, so finished runs are reused, unfinished ones resumed, and workers and
display are those of a bench. What was tried and what came of it goes to a search file (`search.py`).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqmem.core.errors import UsageError, unknown
from seqmem.core.measures import Measure
from seqmem.core.options import parse_assignments, parse_seeds, parse_sweep
from seqmem.core.recipe import OptimizerSettings, Recipe
from seqmem.core.sanitize import file_name
from seqmem.planning.grid import Plan
from seqmem.planning.job import CHECKPOINT_EVERY
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.planning.search import FIRST_TUNING_SEED, Search, Trial, better, kept_recipe
from seqmem.planning.store import Store
from seqmem.plugin.composition import owners
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec, StrategySpec
from seqmem.record.row import Row
from seqmem.record.schema import write_json
from seqmem.scoring.scores import score_rows
from seqmem.scoring.tables import load_metrics
from seqmem.verbs.bench import carry_out, request_of
from seqmem.verbs.display import DisplayName

SEEDS = f"{FIRST_TUNING_SEED}-{FIRST_TUNING_SEED + 1}"
BUDGET = 12
RATE_FACTORS = (1 / 3, 1, 3)
"""The learning rates of a search without a space, as multiples of the preset's."""
SAMPLE_SEED = 0

Options = Mapping[str, Any]
"""Option, as typed after ``--set``, to value."""


@dataclass(frozen=True)
class Tuning:
    """What a search of one strategy came to.

    Attributes:
        space: option to the values it might take.
        trials: what was tried, in the order of the grid.
        chosen: index of the trial chosen; None where no trial has a value for every seed.
        sampled: size of the grid that the trials are a sample of; None where they are all of it.
        notes: what a reader should know, a sentence each.
        search: the content of the file; None where nothing was chosen.
        path: where the file is.
    """

    strategy: str
    measure: Measure
    space: Mapping[str, Sequence[Any]]
    trials: tuple[Trial, ...]
    chosen: int | None
    sampled: int | None
    notes: tuple[str, ...]
    search: Search | None
    path: Path | None


@dataclass(frozen=True)
class TuneResult:
    """What `tune` leaves.

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


@dataclass(frozen=True)
class _Question:
    """One strategy's search before it is run; the plan's only board has a row per point."""

    spec: StrategySpec
    space: dict[str, tuple[Any, ...]]
    points: tuple[Options, ...]
    sampled: int | None
    usual: Options
    planned: Plan


def tune(
    scenario: str,
    strategy: str | Sequence[str],
    *,
    space: Mapping[str, Sequence[Any]] | Sequence[str] = (),
    seeds: str | Sequence[int] = SEEDS,
    budget: int = BUDGET,
    measure: str | None = None,
    controls: bool = False,
    model: str | Sequence[str] = (),
    set: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path = "runs",
    workers: int | None = None,
    resume: bool = False,
    force: bool = False,
    accept_versions: bool = False,
    checkpoint_every: int = CHECKPOINT_EVERY,
    display: DisplayName = "auto",
    disabled: frozenset[str] = frozenset(),
    **request: Any,
) -> TuneResult:
    """Search the options of one or several strategies, each with the same budget.

    The grid of the space where it fits the budget, else a sample of it. The best mean of the measure over the
    tuning seeds is chosen; a trial that lacks a value for a seed loses; of equal ones the nearest to the default.

    Args:
        scenario: name of the scenario.
        strategy: strategy names, one or several.
        space: options to try, as ``{"optimizer.lr": [1e-3, 3e-3]}`` or ``["optimizer.lr=1e-3,3e-3"]``; a strategy
            option is tried for the strategies that have it. By default the learning rate, at a third of the usual,
            the usual, and three times it.
        seeds: tuning seeds, from `FIRST_TUNING_SEED` on.
        budget: runs each strategy may take, controls included.
        measure: what is best; by default the scenario's primary measure.
        controls: run the scenario's controls too, for a measure that needs them.
        model: the model; the scenario proposes one.
        set: options as ``{"scenario.loops": 4}`` or ``["scenario.loops=4"]``.
        out: output folder; finished runs in it are reused.
        workers: processes, one run each at a time; by default one per core, on a GPU one.
        resume: continue unfinished runs from their last checkpoints.
        force: run again what is finished, start over what is not.
        accept_versions: keep runs that other versions of torch, transformers or seqmem made; a note says so.
        checkpoint_every: steps between checkpoints.
        display: what to show meanwhile.
        disabled: plugins to leave out.
        **request: fields of `Request`: preset, text, optimizer, lr, revision, dtype, attention, device, threads,
            probing.

    Raises:
        UsageError: the request cannot be carried out; nothing was written.
    """
    registry = Registry.from_environment(disabled)
    asked = request_of(
        scenario,
        strategy,
        model,
        set,
        seeds=seeds,
        reference=False,
        controls=controls,
        **request,
    )
    if len(asked.model) > 1:
        raise UsageError(f"a search is of one model; got {', '.join(asked.model)}")
    used = _tuning_seeds(asked.seeds)
    given = _space(space, asked)
    questions = [_question(name, given, asked, budget, len(used), registry) for name in asked.strategy]
    _refuse_unused(given, questions)
    metrics, unreadable = load_metrics(registry)
    primary = questions[0].planned.boards[0].primary
    metric, wanted = _measure(measure or primary, metrics)
    whole = Plan(
        asked,
        {run_id: run for question in questions for run_id, run in question.planned.runs.items()},
        tuple(question.planned.boards[0] for question in questions),
        (),
    )
    store = Store(Path(out))
    on_record = {
        **asked.asked(),
        "tune": {
            "space": {name: list(values) for name, values in given.items()},
            "budget": budget,
            "measure": wanted.name,
        },
    }
    with store.locked():
        outcome, interrupted = carry_out(
            whole,
            store,
            on_record,
            workers=workers,
            resume=resume,
            force=force,
            accept_versions=accept_versions,
            checkpoint_every=checkpoint_every,
            display=display,
            disabled=disabled,
        )
        tunings = []
        for question in questions if not interrupted else ():
            rows = store.rows(question.planned, question.planned.boards[0], outcome)
            tunings.append(_judge(question, rows, metric, wanted, budget, store))
    return TuneResult(asked, tuple(tunings), tuple(unreadable), interrupted)


def _tuning_seeds(text: str) -> tuple[int, ...]:
    """The seeds asked for.

    Raises:
        UsageError: one of them is for scoring.
    """
    seeds = parse_seeds(text)
    if min(seeds) < FIRST_TUNING_SEED:
        raise UsageError(
            f"--seeds {text}: seed {min(seeds)} is a scoring seed; tuning seeds are {FIRST_TUNING_SEED} and up, so "
            "that no row is scored on what it was tuned on"
        )
    return seeds


def _space(
    space: Mapping[str, Sequence[Any]] | Sequence[str], request: Request
) -> dict[str, tuple[Any, ...]]:
    """Option to the values to be tried, as the user gives them.

    Raises:
        UsageError: an option of scenario or text, one that is set as well, or one named twice.
    """
    if isinstance(space, Mapping):
        listed = [(option, tuple(values)) for option, values in space.items()]
    else:
        texts = (space,) if isinstance(space, str) else space
        listed = [(f"{s.scope}.{s.name}", s.values) for s in map(parse_sweep, texts)]
    fixed = {f"{scope}.{name}" for scope, given in parse_assignments(request.set).items() for name in given}
    fixed |= {"optimizer.lr"} if request.lr is not None else frozenset()
    fixed |= {"optimizer.name"} if request.optimizer is not None else frozenset()
    found: dict[str, tuple[Any, ...]] = {}
    for option, values in listed:
        if option.partition(".")[0] not in ("strategy", "optimizer"):
            raise UsageError(
                f"--space {option}: a search changes options of strategy or optimizer; with another scenario or text "
                "it would be another question"
            )
        if option in fixed:
            raise UsageError(f"--space {option}: it is set to one value as well; leave out one of the two")
        if option in found:
            raise UsageError(f"--space {option} is given twice")
        if not values:
            raise UsageError(f"--space {option} names no value")
        found[option] = values
    return found


def _question(
    name: str,
    given: Mapping[str, tuple[Any, ...]],
    asked: Request,
    budget: int,
    seeds: int,
    registry: Registry,
) -> _Question:
    """What is tried for one strategy.

    Raises:
        UsageError: a value is refused, no option applies, or the budget does not reach.
    """
    request = Request(**{**vars(asked), "strategy": (name,)})
    spec: StrategySpec = registry.load("strategy", name)
    space = {
        option: values
        for option, values in given.items()
        if option.startswith("optimizer.") or owners(spec, option.removeprefix("strategy."))
    }
    if given and not space:
        raise UsageError(
            f"strategy {name} has none of the options of --space ({', '.join(given)}); "
            "add --space optimizer.lr=... or search it on its own"
        )
    usual = _usual(request, registry, spec, space)
    if not space:
        rates = [float(f"{usual['optimizer.lr'] * factor:.2g}") for factor in RATE_FACTORS]
        space = {"optimizer.lr": tuple(rates)}
    points = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    each = len(plan(request, registry, points[:1]).runs)
    whole = len(points)
    if whole * each > budget:
        points = _sample(points, budget // each)
    if len(points) < min(2, whole):
        raise UsageError(
            f"--budget {budget}: a trial of {name} takes {each} runs ({seeds} seeds"
            f"{', with controls' if each > seeds else ''}); a search needs at least {2 * each}"
        )
    return _Question(
        spec,
        space,
        tuple(points),
        whole if len(points) < whole else None,
        usual,
        plan(request, registry, points),
    )


def _usual(
    request: Request, registry: Registry, spec: StrategySpec, space: Mapping[str, Sequence[Any]]
) -> Options:
    """What the options of the space, and the learning rate, are when nobody searches."""
    try:
        recipe = next(iter(plan(request, registry, [{}]).runs.values())).recipe
    except UsageError:
        if not space:
            raise
        return {}  # a strategy with an option that has no default
    found: dict[str, Any] = {"optimizer.lr": recipe.optimizer.lr}
    for option in space:
        scope, _, name = option.partition(".")
        if scope == "optimizer" and name in OptimizerSettings.model_fields:
            found[option] = getattr(recipe.optimizer, name)
        elif scope == "strategy":
            found[option] = _strategy_value(recipe, spec, name)
    return found


def _strategy_value(recipe: Recipe, spec: StrategySpec, name: str) -> Any:
    """An option's value in a recipe; a composition keeps them by part."""
    options = recipe.strategy.options
    part, option = owners(spec, name)[0], name.rpartition(".")[2]
    return options[part.name][option] if spec.parts else options[option]


def _sample(points: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many of the points, drawn without replacement, in their order; always the same ones."""
    # raw bits sorted: numpy keeps these the same in every version
    drawn = np.argsort(np.random.PCG64(SAMPLE_SEED).random_raw(len(points)), kind="stable")[:count]
    return [points[index] for index in sorted(drawn)]


def _refuse_unused(given: Mapping[str, Any], questions: Sequence[_Question]) -> None:
    """Every option of the space must be somebody's.

    Raises:
        UsageError: one is nobody's.
    """
    for option in given:
        if not any(option in question.space for question in questions):
            known = {
                key
                for q in questions
                for part in q.spec.parts or (q.spec,)
                for key in part.options.model_fields
            }
            what = f"option of strategy {' or '.join(q.spec.name for q in questions)}"
            raise UsageError(unknown(what, option.removeprefix("strategy."), known))


def _measure(name: str, metrics: Sequence[MetricSpec]) -> tuple[MetricSpec, Measure]:
    """The measure by name and the metric that gives it.

    Raises:
        UsageError: no metric gives it, or neither way of it is better.
    """
    found = {measure.name: (metric, measure) for metric in metrics for measure in metric.measures}
    if name not in found:
        raise UsageError(unknown("measure", name, found))
    if found[name][1].direction == "none":
        raise UsageError(f"--measure {name}: neither way of it is better, so nothing can be best")
    return found[name]


def _judge(
    question: _Question,
    rows: Sequence[Row],
    metric: MetricSpec,
    measure: Measure,
    budget: int,
    store: Store,
) -> Tuning:
    """Score the trials, choose one, and write the file."""
    planned = question.planned
    (board,) = planned.boards
    scores = score_rows(rows, [metric])
    scores = scores[scores["measure"] == measure.name]
    trials = []
    for point, planned_row, row in zip(question.points, board.rows, rows, strict=True):
        own = scores[scores["row"] == row.label]
        found = {int(seed): float(value) for seed, value in zip(own["seed"], own["value"], strict=True)}
        said = {int(seed): str(reason) for seed, reason in zip(own["seed"], own["reason"], strict=True)}
        values = {
            seed: None if math.isnan(found.get(seed, math.nan)) else found[seed] for seed in planned_row.runs
        }
        reasons = {
            seed: said[seed] if seed in said else f"the run failed: {row.failed[seed]}"
            for seed, value in values.items()
            if value is None
        }
        known = [value for value in values.values() if value is not None]
        runs = [planned_row.runs, *planned_row.controls.values()]
        trials.append(
            Trial(
                options=dict(point),
                values=values,
                reasons=reasons,
                mean=math.fsum(known) / len(known) if len(known) == len(values) else None,
                runs=tuple(run_id for by_seed in runs for run_id in by_seed.values()),
            )
        )
    chosen = _choose(trials, measure, question.usual)
    notes = _notes(question, trials, chosen, measure)
    notes += dict.fromkeys(f"trials {row.kept}" for row in rows if row.kept)
    if chosen is None:
        return _tuning(question, measure, trials, None, notes, None, None)
    recipe = planned.runs[trials[chosen].runs[0]].recipe
    dates = [str(run.info["date"]) for row in rows for run in row.runs.values()]
    search = Search(
        scenario=board.scenario,
        version=board.version,
        preset=planned.request.preset,
        model=recipe.model.name,
        strategy=question.spec.name,
        strategy_version=question.spec.version,
        seeds=tuple(trials[0].values),
        budget=budget,
        runs=len(planned.runs),
        measure=measure.name,
        direction=measure.direction,  # type: ignore[arg-type]  # "none" was refused
        space=question.space,
        trials=tuple(trials),
        chosen=trials[chosen].options,
        recipe=kept_recipe(recipe),
        date=max(dates),
    )
    path = store.folder / "tunings" / _file(search)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, search.model_dump(mode="json"))
    return _tuning(question, measure, trials, chosen, notes, search, path)


def _tuning(
    question: _Question,
    measure: Measure,
    trials: Sequence[Trial],
    chosen: int | None,
    notes: Sequence[str],
    search: Search | None,
    path: Path | None,
) -> Tuning:
    return Tuning(
        question.spec.name,
        measure,
        question.space,
        tuple(trials),
        chosen,
        question.sampled,
        tuple(notes),
        search,
        path,
    )


def _file(search: Search) -> str:
    """The file's name; another set of runs, measure or budget is another search."""
    runs = sorted(run_id for trial in search.trials for run_id in trial.runs)
    text = " ".join([*runs, search.measure, str(search.budget)])
    short = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{search.scenario}-{file_name(search.strategy)}-{short}.json"


def _choose(trials: Sequence[Trial], measure: Measure, usual: Options) -> int | None:
    """Index of the best trial; of equal ones the nearest to the usual values, then the first."""
    best: int | None = None
    for index, trial in enumerate(trials):
        if trial.mean is None:
            continue
        leader = None if best is None else trials[best]
        if leader is None or leader.mean is None or better(measure.direction, trial.mean, leader.mean):
            best = index
        elif trial.mean == leader.mean and _away(trial.options, usual) < _away(leader.options, usual):
            best = index
    return best


def _away(options: Options, usual: Options) -> tuple[int, float]:
    """How far from the usual values: options that differ, then the sum of their distances.

    Of two numbers of one sign the distance is |ln(value / usual)|, of other numbers the difference, else 1.
    """
    distances = [_distance(value, usual[option]) for option, value in options.items() if option in usual]
    return sum(distance > 0 for distance in distances), math.fsum(distances)


def _distance(value: Any, usual: Any) -> float:
    if value == usual:
        return 0.0
    if not (_is_number(value) and _is_number(usual)):
        return 1.0
    return abs(math.log(value / usual)) if value * usual > 0 else abs(float(value) - float(usual))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _notes(question: _Question, trials: Sequence[Trial], chosen: int | None, measure: Measure) -> list[str]:
    """What a reader should know of the search."""
    notes = []
    if question.sampled is not None:
        notes.append(
            f"the budget reaches for {len(trials)} of the {question.sampled} combinations: a random sample "
            f"(seed {SAMPLE_SEED}); --budget {question.sampled * len(trials[0].runs)} tries all"
        )
    lost = sum(trial.mean is None for trial in trials)
    if lost:
        notes.append(f"{lost} of {len(trials)} trials lack a value and cannot win")
    if chosen is None:
        return notes
    means = {trial.mean for trial in trials if trial.mean is not None}
    if len(means) == 1 and len(trials) - lost > 1:
        notes.append(
            f"all trials have the same {measure.name}: the values nearest the default stand, nothing was found"
        )
        return notes
    alike = [trial.options for trial in trials if trial.mean == trials[chosen].mean]
    if len(alike) > 1:
        notes.append(f"{len(alike)} trials are equally good: taken was the nearest to the usual values")
    for option, value in trials[chosen].options.items():
        side = _edge(value, question.space[option])
        settled = all(options[option] == value for options in alike)
        if side and settled and not _bound(question.spec, option, value):
            notes.append(f"best at {option}={value}, the {side} value of the space: widen it")
    return notes


def _edge(value: Any, values: Sequence[Any]) -> str:
    """``smallest`` or ``largest`` for a number at the end of the values tried; empty inside, and for no numbers."""
    if len(values) < 2 or not all(map(_is_number, values)):
        return ""
    return {min(values): "smallest", max(values): "largest"}.get(value, "")


def _bound(spec: StrategySpec, option: str, value: Any) -> bool:
    """Whether the option may not go beyond the value at all."""
    scope, _, name = option.partition(".")
    declared = OptimizerSettings if scope == "optimizer" else owners(spec, name)[0].options
    field = declared.model_fields[name.rpartition(".")[2]]
    return any(value in (getattr(limit, "ge", None), getattr(limit, "le", None)) for limit in field.metadata)
