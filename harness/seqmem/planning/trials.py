"""The trials of a search: the values of each strategy's options, and a plan with a row for each combination."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqmem.core.errors import UsageError
from seqmem.core.options import parse_assignments, parse_seeds, parse_sweep
from seqmem.core.recipe import OptimizerSettings, Recipe
from seqmem.planning.expand import refuse_unused
from seqmem.planning.grid import Plan
from seqmem.planning.parse import distinct
from seqmem.planning.plan import plan
from seqmem.planning.request import Request, TuneRequest
from seqmem.planning.search import FIRST_TUNING_SEED, TUNABLE
from seqmem.plugin.composition import owners
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import StrategySpec

RATE_FACTORS = (1 / 3, 1, 3)
"""The learning rates of a search without a space, as multiples of the preset's."""

SAMPLE_SEED = 0

Space = Mapping[str, tuple[Any, ...]]
"""Option, as typed after ``--set``, to the values it may take."""


@dataclass(frozen=True)
class PlannedSearch:
    """One strategy's search before it is run.

    Attributes:
        sampled: size of the grid that the trials are a sample of; None where they are all of it.
        usual: values of the options, and of the learning rate, without a search.
        planned: its only board has a row for each trial.
    """

    spec: StrategySpec
    space: Space
    sampled: int | None
    usual: Mapping[str, Any]
    planned: Plan


def plan_searches(asked: TuneRequest, registry: Registry) -> list[PlannedSearch]:
    """Plan the search of every strategy, each with the same budget.

    Raises:
        UsageError: the request cannot be carried out.
    """
    for names, what in ((asked.scenario, "scenario"), (asked.model, "model")):
        if len(names) > 1:
            raise UsageError(f"a search is of one {what}; got {', '.join(names)}")
    distinct(asked.strategy, "--strategy")
    _check_seeds(asked.seeds)
    space = read_space(asked)
    searches = [_search(name, space, asked, registry) for name in asked.strategy]
    scopes = [option.partition(".") for option in space]
    refuse_unused(
        [name for scope, _, name in scopes if scope == "strategy"], [search.spec for search in searches]
    )
    return searches


def read_space(asked: TuneRequest) -> Space:
    """Return the values to try by option, as the user gives them.

    Raises:
        UsageError: an option of scenario or text, one that is set as well, or one named twice.
    """
    given = parse_assignments(asked.set)
    fixed = {f"{scope}.{name}" for scope, options in given.items() for name in options}
    fixed |= {"optimizer.lr"} if asked.lr is not None else frozenset()
    fixed |= {"optimizer.name"} if asked.optimizer is not None else frozenset()
    sweeps = [(f"{sweep.scope}.{sweep.name}", sweep.values) for sweep in map(parse_sweep, asked.space)]
    distinct([option for option, _ in sweeps], "--space", needed=False)
    for option, _ in sweeps:
        if not option.startswith(TUNABLE):
            raise UsageError(
                f"--space {option}: a search changes options of strategy or optimizer; with another scenario or text "
                "it would be another question"
            )
        if option in fixed:
            raise UsageError(f"--space {option}: it is set to one value as well; leave out one of the two")
    return dict(sweeps)


def sample(points: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Draw points without replacement, always the same ones, in their order."""
    # raw bits sorted: numpy keeps these the same in every version
    drawn = np.argsort(np.random.PCG64(SAMPLE_SEED).random_raw(len(points)), kind="stable")[:count]
    return [points[index] for index in sorted(drawn)]


def _check_seeds(text: str) -> None:
    first = min(parse_seeds(text))
    if first < FIRST_TUNING_SEED:
        raise UsageError(
            f"--seeds {text}: seed {first} is a scoring seed; tuning seeds are {FIRST_TUNING_SEED} and up, so "
            "that no row is scored on what it was tuned on"
        )


def _search(name: str, given: Space, asked: TuneRequest, registry: Registry) -> PlannedSearch:
    """Plan what is tried for one strategy.

    Raises:
        UsageError: a value is refused, no option applies, or the budget does not reach.
    """
    request = asked.as_bench(strategy=(name,))
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
    if whole * each > asked.budget:
        points = sample(points, asked.budget // each)
    if len(points) < min(2, whole):
        seeds = len(parse_seeds(asked.seeds))
        raise UsageError(
            f"--budget {asked.budget}: a trial of {name} takes {each} runs ({seeds} seeds"
            f"{', with controls' if each > seeds else ''}); a search needs at least {2 * each}"
        )
    sampled = whole if len(points) < whole else None
    return PlannedSearch(spec, space, sampled, usual, plan(request, registry, points))


def _usual(request: Request, registry: Registry, spec: StrategySpec, space: Space) -> Mapping[str, Any]:
    """Return the values of the options of the space, and of the learning rate, without a search."""
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
    """Return the value of an option in a recipe; a composition keeps them by part."""
    options = recipe.strategy.options
    part, option = owners(spec, name)[0], name.rpartition(".")[2]
    return options[part.name][option] if spec.parts else options[option]
