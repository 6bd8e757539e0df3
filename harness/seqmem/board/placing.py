"""The places of records on a board: which row and control each one is, and what its run was asked."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from pydantic import BaseModel, ValidationError

from seqmem.board.judge import Judge
from seqmem.board.mismatch import Fault
from seqmem.core.errors import SeqmemError, UsageError
from seqmem.core.recipe import Recipe
from seqmem.planning.search import Search, check_recipe
from seqmem.record.contamination import contaminated
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.record.tables import items_hash


@dataclass(frozen=True)
class Placed:
    """A record with its place on a board.

    Attributes:
        control: name of the control that it is; None for a run itself.
    """

    record: RunRecord
    recipe: Recipe
    label: str
    control: str | None
    search: Search | None


@dataclass(frozen=True)
class Answered:
    """The questions that the answers of a run show.

    Attributes:
        items: hash of what could be asked.
        asked: number of answers, with a hash of which probe was asked when and on which schedule.
        steps: rows of the table of steps.
        relation: the probe form that measures read by default.
        contamination: why its controls were trained; empty where they were not.
    """

    items: str
    asked: str
    steps: int
    relation: str
    contamination: str


def unreadable(error: Exception) -> Fault:
    """Return the fault of a record on which reading failed: whatever a foreign file does is its own fault."""
    reason = str(error) if isinstance(error, SeqmemError) else f"{type(error).__name__}: {error}"
    return "record", "one that can be read", reason


def recipe_of(record: RunRecord) -> Recipe:
    """Return the recipe of a record.

    Raises:
        UsageError: this version cannot read it; one line names the field and what to do.
    """
    try:
        return Recipe.model_validate(record.recipe)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = [str(part) for part in first["loc"]]
        reason = first["msg"]
        if first["type"] == "extra_forbidden":
            reason = f"not a field that this version knows, allowed: {', '.join(_fields(path[:-1]))}"
        written = record.info.get("versions", {}).get("seqmem", "an unknown version")
        raise UsageError(
            f"{record.folder}: recipe.{'.'.join(path)}: {reason}; the run was made by seqmem {written}: "
            "install that version, or make the run again with this one"
        ) from error


def _fields(path: Sequence[str]) -> list[str]:
    """Return the fields of a part of recipes."""
    model: type[BaseModel] = Recipe
    for name in path:
        part = model.model_fields[name].annotation
        if not isinstance(part, type) or not issubclass(part, BaseModel):
            return []
        model = part
    return sorted(model.model_fields)


def place(judge: Judge, record: RunRecord, searches: Sequence[Search]) -> Placed:
    """Return a record with its row and control.

    Raises:
        UsageError: its recipe cannot be read, or it belongs to no row of the board.
    """
    recipe = recipe_of(record)
    try:
        control = judge.control_of(recipe)
    except UsageError as error:
        raise UsageError(f"{record.folder}: scenario options of no row of this board ({error})") from error
    search = _search_of(judge, recipe, searches)
    return Placed(record, recipe, judge.label(recipe, search), control, search)


def _search_of(judge: Judge, recipe: Recipe, searches: Sequence[Search]) -> Search | None:
    """Return the search that chose a run's options; a control has that of its run.

    Where not every row has to be searched, a search that chose the defaults leads to the runs that nobody tuned: they
    stay without one.
    """
    if judge.rules.hyperparameters != "equal_search" and not judge.changes(recipe):
        return None
    own = judge.without_control(recipe)
    for search in searches:
        if (search.strategy, search.model) == (recipe.strategy.name, recipe.model.name):
            with contextlib.suppress(UsageError):
                check_recipe(search, "", own)
                return search
    return None


def examine(
    judge: Judge, record: RunRecord, searches: Sequence[Search], contamination: str
) -> tuple[Placed | None, list[Fault]]:
    """Return a record with its place, None where it has none, and what of it breaks the rules."""
    try:
        recipe = recipe_of(record)
        try:
            one = place(judge, record, searches)
        except UsageError:  # of no row: the faults say why
            return None, [*judge.faults(record, recipe, None, contamination)]
        return one, [*judge.faults(record, recipe, one.search, contamination)]
    except Exception as error:
        return None, [unreadable(error)]


def answered(record: RunRecord) -> Answered:
    """Read what the answers of a run say.

    Raises:
        UsageError: a table of it cannot be read.
    """
    from pandas.util import hash_pandas_object

    probes = record.tables.read("probes").select(["step", "schedule", "probe"])
    probes = probes.set_column(1, "schedule", pc.binary_join(probes["schedule"], "+"))
    places = np.sort(hash_pandas_object(probes.to_pandas(), index=False).to_numpy())
    return Answered(
        items=str(record.info["items"]) if record.compact else items_hash(record.tables.items()),
        asked=f"{len(probes):,} answers, {hashlib.sha256(places.tobytes()).hexdigest()[:16]}",
        steps=len(record.tables.read("steps")),
        relation=str(record.info["primary_relation"]),
        contamination=contaminated(record) if record.status == "finished" else "",
    )


def rows_of(placed: Sequence[Placed], judge: Judge, cost: Mapping[str, float]) -> list[Row]:
    """Return the rows of a board, the reference first, the others by label.

    Of two records for one place the first is taken; `check_runs` names the other.
    """
    groups: dict[str, list[Placed]] = {}
    for one in placed:
        groups.setdefault(one.label, []).append(one)
    reference = judge.rules.reference
    references = {
        one.recipe.model.name: one.label
        for one in placed
        if one.label in (reference, f"{reference} @ {one.recipe.model.name}")
    }
    labels = sorted(groups, key=lambda label: (label not in references.values(), label))
    return [
        _row(groups[label], judge, references.get(groups[label][0].recipe.model.name), cost.get(label))
        for label in labels
    ]


def _row(members: Sequence[Placed], judge: Judge, reference: str | None, cost: float | None) -> Row:
    rules, first = judge.rules, members[0]
    runs: dict[int, RunRecord] = {}
    controls: dict[str, dict[int, RunRecord]] = {name: {} for name in rules.controls}
    for one in sorted(members, key=lambda one: one.recipe.seed):
        of_control = runs if one.control is None else controls[one.control]
        of_control.setdefault(one.recipe.seed, one.record)
    facts: dict[str, Any] = {
        "scenario": rules.scenario,
        "strategy": first.recipe.strategy.name,
        "model": first.recipe.model.name,
        "preset": rules.preset,
        "options": first.recipe.strategy.options,
        "optimizer": f"{first.recipe.optimizer.name} {first.recipe.optimizer.lr:g}",
    }
    if judge.transforms_stream(first.recipe.strategy.name):
        facts["changes_stream"] = True
    if first.search is not None:
        facts["search"] = first.search.short()
    return Row(
        label=first.label,
        facts=facts,
        runs=runs,
        controls=controls,
        reference=reference,
        failed={seed: "no record" for seed in rules.scoring if seed not in runs},
        cost=cost,
    )
