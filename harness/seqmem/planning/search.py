"""A search file: what `seqmem tune` tried, what came of it, and what was chosen; `bench --tuned` reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from seqmem.core.data import Options
from seqmem.core.errors import UsageError
from seqmem.core.recipe import Recipe
from seqmem.record.files import json_text, sealed, unsealed

FIRST_TUNING_SEED = 100
"""Seeds from here on are for tuning, those below for scoring."""

TUNABLE = ("strategy.", "optimizer.")
"""Options a search may choose: of the learner, not of what it is asked to learn."""

FREE = ("seed", "device", "threads", "probing", "micro_tokens")
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

    @property
    def typed(self) -> str:
        """Return its options as they are typed."""
        return " ".join(f"{name}={json.dumps(value)}" for name, value in self.options.items())

    @model_validator(mode="after")
    def _mean_is_of_values(self) -> Trial:
        if self.mean != mean_of(self.values):
            raise ValueError(
                f"its trial {self.typed} has the mean {self.mean} of values whose mean is {mean_of(self.values)}"
            )
        return self


SEARCH_FORMAT: Literal[2] = 2
"""The first one whose files hold a hash of themselves."""


class Search(Options):
    """One strategy's search on one scenario.

    Attributes:
        budget: runs allowed.
        runs: runs made.
        space: option to the values it might take; the trials are all combinations, or a sample of them.
        recipe: what determined the chosen trial's runs, but for `FREE`; a row tuned by this search has the same.
        date: day of the last of its runs.
    """

    format: Literal[1, 2] = SEARCH_FORMAT
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
        """Return what a table says of it; how far its trials range says how much hangs on the choice."""
        means = [trial.mean for trial in self.trials if trial.mean is not None]
        return {
            "budget": self.budget,
            "runs": self.runs,
            "seeds": list(self.seeds),
            "space": {option: list(values) for option, values in self.space.items()},
            "measure": self.measure,
            "lowest": min(means, default=None),
            "highest": max(means, default=None),
        }

    @model_validator(mode="after")
    def _runs_fit_seeds_and_budget(self) -> Search:
        if any(seed < FIRST_TUNING_SEED for seed in self.seeds):
            raise ValueError(f"its seeds {list(self.seeds)} are not all from {FIRST_TUNING_SEED} on")
        if self.runs > self.budget:
            raise ValueError(f"it says {self.runs} runs of a budget of {self.budget}")
        made = len({run for trial in self.trials for run in trial.runs})
        if made != self.runs:
            raise ValueError(f"it says {self.runs} runs and lists {made}")
        return self

    @model_validator(mode="after")
    def _trials_are_of_the_space(self) -> Search:
        for trial in self.trials:
            fault = ""
            if trial.options.keys() != self.space.keys():
                fault = f"is not of the options {', '.join(self.space)}"
            elif strange := [o for o, value in trial.options.items() if value not in self.space[o]]:
                fault = f"has a value that is not one of {json.dumps(self.space[strange[0]])}"
            elif trial.values.keys() != set(self.seeds):
                fault = f"has values on seeds {sorted(trial.values)} instead of {sorted(self.seeds)}"
            if fault:
                raise ValueError(f"its trial {trial.typed} {fault}")
        return self

    @model_validator(mode="after")
    def _chosen_is_the_best(self) -> Search:
        strange = [option for option in self.chosen if not option.startswith(TUNABLE)]
        if strange:
            raise ValueError(f"it chooses {strange[0]}, which is not an option of strategy or optimizer")
        means = [trial.mean for trial in self.trials if trial.options == self.chosen]
        if not means or means[0] is None:
            raise ValueError("what it chose is not one of its trials with a value")
        for trial in self.trials:
            if trial.mean is not None and better(self.direction, trial.mean, means[0]):
                raise ValueError(f"what it chose is not the best it tried: {trial.typed} is better")
        return self


def mean_of(values: Mapping[int, float | None]) -> float | None:
    """Return the mean over seeds; None unless every seed has a value."""
    known = [value for value in values.values() if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def better(direction: str, one: float, other: float) -> bool:
    """Return whether a mean is better than another."""
    return one > other if direction == "higher" else one < other


def read_search(path: Path) -> Search:
    """Read a search file.

    Raises:
        UsageError: it cannot be read, or contradicts itself: what it chose is not the best it tried, it went
            over its budget, or it used scoring seeds.
    """
    try:
        content = unsealed(path.read_bytes(), since=SEARCH_FORMAT)
    except OSError as error:
        raise UsageError(f"--tuned {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"--tuned {path}: not a search file of `seqmem tune` ({error})") from error
    return search_from(content, f"--tuned {path}")


def search_text(search: Search) -> str:
    """Return what a search's file says."""
    said = search.model_dump(mode="json")
    return json_text(said if search.format < SEARCH_FORMAT else sealed(said))


def search_from(content: Any, where: str) -> Search:
    """Return the search that the content of a file says; `where` begins what is said of a wrong one.

    Raises:
        UsageError: it is not a search, or contradicts itself.
    """
    try:
        return Search.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "value_error":
            raise UsageError(f"{where}: {first['ctx']['error']}; search again with `seqmem tune`") from error
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise UsageError(f"{where}: not a search file of `seqmem tune` ({place}: {first['msg']})") from error


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
    """Return the recipe without what a row may differ in."""
    return recipe.model_dump(mode="json", exclude=set(FREE))


def _flat(values: Mapping[str, Any], front: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values by dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{front}{name}.")
        else:
            yield f"{front}{name}", value
