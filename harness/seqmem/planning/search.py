"""A search file: what `seqmem tune` tried, what came of it, and what was chosen; `bench --tuned` reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from seqmem.core.data import Options
from seqmem.core.errors import UsageError
from seqmem.core.recipe import Recipe

FIRST_TUNING_SEED = 100
"""Seeds from here on are for tuning, those below for scoring."""

TUNABLE = ("strategy.", "optimizer.")
"""Options a search may choose: of the learner, not of what it is asked to learn."""

FREE = ("seed", "device", "threads", "probing")
"""Parts of a recipe in which a row may differ from the search that tuned it."""


class Trial(Options):
    """One point of the space.

    Attributes:
        options: option to value, as typed after ``--set``.
        values: tuning seed to the measure's value there, or None.
        reasons: why a seed has no value.
        mean: over all seeds; None unless every seed has a value.
        runs: ids of its runs.
    """

    options: dict[str, Any]
    values: dict[int, float | None]
    reasons: dict[int, str]
    mean: float | None
    runs: tuple[str, ...]


class Search(Options):
    """One strategy's search on one scenario.

    Attributes:
        budget: runs allowed.
        runs: runs made.
        space: option to the values it might take; the trials are all combinations, or a sample of them.
        recipe: what determined the chosen trial's runs, but for `FREE`; a row tuned by this search has the same.
        date: day of the last of its runs.
    """

    format: Literal[1] = 1
    scenario: str
    version: str
    preset: str
    model: str
    strategy: str
    strategy_version: str
    seeds: tuple[int, ...]
    budget: int
    runs: int
    measure: str
    direction: Literal["higher", "lower"]
    space: dict[str, tuple[Any, ...]]
    trials: tuple[Trial, ...]
    chosen: dict[str, Any]
    recipe: dict[str, Any]
    date: str

    def short(self) -> dict[str, Any]:
        """What a table says of it."""
        return {
            "budget": self.budget,
            "runs": self.runs,
            "seeds": list(self.seeds),
            "space": {option: list(values) for option, values in self.space.items()},
        }


def read_search(path: Path) -> Search:
    """Read a search file and see that it says what follows from its trials.

    Raises:
        UsageError: there is none, or it contradicts itself: what it chose is not the best it tried, it went
            over its budget, or it used scoring seeds.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--tuned {path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--tuned {path}: no search file of `seqmem tune` ({error})") from error
    return search_from(content, f"--tuned {path}")


def search_from(content: Any, where: str) -> Search:
    """A search from the content of its file; `where` begins what is said of a wrong one.

    Raises:
        UsageError: it is none, or contradicts itself.
    """
    try:
        search = Search.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise UsageError(f"{where}: no search file of `seqmem tune` ({place}: {first['msg']})") from error
    fault = _contradiction(search)
    if fault:
        raise UsageError(f"{where}: {fault}; search again with `seqmem tune`")
    return search


def better(direction: str, one: float, other: float) -> bool:
    """Whether a mean is better than another."""
    return one > other if direction == "higher" else one < other


def _contradiction(search: Search) -> str:
    """What in the file cannot be; empty where nothing is."""
    if any(seed < FIRST_TUNING_SEED for seed in search.seeds):
        return f"its seeds {list(search.seeds)} are not all from {FIRST_TUNING_SEED} on"
    strange = [option for option in search.chosen if not option.startswith(TUNABLE)]
    if strange:
        return f"it chooses {strange[0]}, which is no option of strategy or optimizer"
    if search.runs > search.budget:
        return f"it says {search.runs} runs of a budget of {search.budget}"
    made = len({run for trial in search.trials for run in trial.runs})
    if made != search.runs:
        return f"it says {search.runs} runs and lists {made}"
    for trial in search.trials:
        fault = _fault_of(trial, search)
        if fault:
            return f"its trial {_typed(trial.options)} {fault}"
    chosen = [trial for trial in search.trials if trial.options == search.chosen]
    if not chosen or chosen[0].mean is None:
        return "what it chose is none of its trials with a value"
    for trial in search.trials:
        if trial.mean is not None and better(search.direction, trial.mean, chosen[0].mean):
            return f"what it chose is not the best it tried: {_typed(trial.options)} is better"
    return ""


def _fault_of(trial: Trial, search: Search) -> str:
    """What in a trial cannot be; empty where nothing is."""
    if trial.options.keys() != search.space.keys():
        return f"is not of the options {', '.join(search.space)}"
    for option, value in trial.options.items():
        if value not in search.space[option]:
            return f"has a value that is none of {json.dumps(search.space[option])}"
    if trial.values.keys() != set(search.seeds):
        return f"has values on seeds {sorted(trial.values)} instead of {sorted(search.seeds)}"
    known = [value for value in trial.values.values() if value is not None]
    mean = math.fsum(known) / len(known) if known and len(known) == len(trial.values) else None
    if trial.mean != mean:
        return f"has the mean {trial.mean} of values whose mean is {mean}"
    return ""


def check_plan(
    search: Search,
    path: str,
    *,
    version: str,
    preset: str,
    strategy_version: str,
    seeds: Sequence[int],
) -> None:
    """Refuse a search that was made for something else, as far as it is known before recipes are made.

    Raises:
        UsageError: it was.
    """
    for what, here, there in (
        (f"version of {search.scenario}", version, search.version),
        ("preset", preset, search.preset),
        (f"version of strategy {search.strategy}", strategy_version, search.strategy_version),
    ):
        if here != there:
            raise UsageError(f"--tuned {path}: made with {what} {there}, this bench has {here}; tune again")
    both = sorted(set(seeds) & set(search.seeds))
    if both:
        raise UsageError(
            f"--tuned {path}: was tuned on seed {both[0]}, which this bench scores on; "
            "leave it out of --seeds"
        )


def check_recipe(search: Search, path: str, recipe: Recipe) -> None:
    """Refuse a search of another model, or of other options or optimizer settings than this row's.

    Raises:
        UsageError: naming the first difference.
    """
    if recipe.model.name != search.model:
        raise UsageError(
            f"--tuned {path}: made with model {search.model}, this bench has {recipe.model.name}; tune again"
        )
    here, there = dict(_flat(kept_recipe(recipe))), dict(_flat(search.recipe))
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise UsageError(
                f"--tuned {path}: the search had {name} = {json.dumps(there.get(name))}, "
                f"this bench has {json.dumps(here.get(name))}; give both the same settings"
            )


def kept_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe without what a row may differ in."""
    return recipe.model_dump(mode="json", exclude=set(FREE))


def _flat(values: Mapping[str, Any], front: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{front}{name}.")
        else:
            yield f"{front}{name}", value


def _typed(options: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in options.items())
