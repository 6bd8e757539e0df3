"""The choice of a search's trial, and notes on it for the reader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seqmem.core.measures import Measure
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.search import Trial, better
from seqmem.planning.trials import SAMPLE_SEED, PlannedSearch
from seqmem.plugin.composition import owners
from seqmem.plugin.specs import StrategySpec

Options = Mapping[str, Any]
"""Option, as typed after ``--set``, to value."""


def best_trial(trials: Sequence[Trial], measure: Measure, usual: Options) -> int | None:
    """Return the index of the best trial; of equal ones the nearest to the usual values, then the first."""
    best: int | None = None
    for index, trial in enumerate(trials):
        if trial.mean is None:
            continue
        leader = None if best is None else trials[best]
        if leader is None or leader.mean is None or better(measure.direction, trial.mean, leader.mean):
            best = index
        elif trial.mean == leader.mean and distance(trial.options, usual) < distance(leader.options, usual):
            best = index
    return best


def distance(options: Options, usual: Options) -> tuple[int, float]:
    """Return how far options are from the usual values: how many differ, then the sum of their distances.

    Of two numbers of one sign the distance is |ln(value / usual)|, of other numbers the difference, else 1.
    """
    distances = [_distance(value, usual[option]) for option, value in options.items() if option in usual]
    return sum(distance > 0 for distance in distances), math.fsum(distances)


def notes(search: PlannedSearch, trials: Sequence[Trial], chosen: int | None, measure: Measure) -> list[str]:
    """Return what a reader should know of a search, a sentence each."""
    sentences = []
    if search.sampled is not None:
        sentences.append(
            f"the budget reaches for {len(trials)} of the {search.sampled} combinations: a random sample "
            f"(seed {SAMPLE_SEED}); --budget {search.sampled * len(trials[0].runs)} tries all"
        )
    lost = sum(trial.mean is None for trial in trials)
    if lost:
        sentences.append(f"{lost} of {len(trials)} trials lack a value and cannot win")
    if chosen is None:
        return sentences
    means = {trial.mean for trial in trials if trial.mean is not None}
    if len(means) == 1 and len(trials) - lost > 1:
        sentences.append(f"all trials have the same {measure.name}: the values nearest the default are taken")
        return sentences
    alike = [trial.options for trial in trials if trial.mean == trials[chosen].mean]
    if len(alike) > 1:
        sentences.append(f"{len(alike)} trials are equally good: the nearest to the usual values is taken")
    for option, value in trials[chosen].options.items():
        side = _edge(value, search.space[option])
        settled = all(options[option] == value for options in alike)
        if side and settled and not _is_bound(search.spec, option, value):
            sentences.append(f"best at {option}={value}, the {side} value of the space: widen it")
    return sentences


def _distance(value: Any, usual: Any) -> float:
    if value == usual:
        return 0.0
    if not (_is_number(value) and _is_number(usual)):
        return 1.0
    return abs(math.log(value / usual)) if value * usual > 0 else abs(float(value) - float(usual))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _edge(value: Any, values: Sequence[Any]) -> str:
    """Return ``smallest`` or ``largest`` for a number at the end of the values tried, else nothing."""
    if len(values) < 2 or not all(map(_is_number, values)):
        return ""
    return {min(values): "smallest", max(values): "largest"}.get(value, "")


def _is_bound(spec: StrategySpec, option: str, value: Any) -> bool:
    """Return whether the option may not go beyond the value at all."""
    scope, _, name = option.partition(".")
    declared = OptimizerSettings if scope == "optimizer" else owners(spec, name)[0].options
    field = declared.model_fields[name.rpartition(".")[2]]
    return any(value in (getattr(limit, "ge", None), getattr(limit, "le", None)) for limit in field.metadata)
