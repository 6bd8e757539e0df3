"""Standing boards: leaderboards that anybody can build again from what is committed, without torch.

A standing board is a folder ``leaderboards/<scenario>-v<version>``::

    board.toml               the frozen rules, see `standing_rules`
    records/                 compact records, see `compact`; rows are what they say of themselves
    searches/<row>.json      how a tuned row was tuned, as `seqmem tune` left it
    cost.json                step times over the reference's, where they were measured
    manifest.json            SHA-256 of all of these and of the figures, and the versions of the metrics
    TABLE.md, table.csv, table.json, figures/*.svg    what `standing_tables` makes of them

Here a board is read. `standing_submit` adds rows, `standing_tables` makes what is printed, `verify` checks everything.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from pydantic import ValidationError

from seqmem.board.rules import RULES, Judge, Mismatch, Rules, read_rules
from seqmem.core.errors import UsageError
from seqmem.core.recipe import Recipe
from seqmem.planning.search import Search, check_recipe, read_search
from seqmem.planning.store import read_cost
from seqmem.plugin.registry import Registry
from seqmem.record.compact import items_hash
from seqmem.record.reader import RunRecord, read_items, read_table
from seqmem.record.row import Row

MANIFEST = "manifest.json"
TABLES = ("TABLE.md", "table.csv", "table.json")
RECORDS, SEARCHES, FIGURES = "records", "searches", "figures"
HOME = Path("leaderboards")
"""Where standing boards are looked for and put."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Standing:
    """A standing board as its folder has it.

    Attributes:
        rows: by what the records say of themselves, the reference first, the others by name.
        searches: row label to how it was tuned.
    """

    rules: Rules
    rows: list[Row]
    folder: Path
    judge: Judge
    searches: Mapping[str, Search]


@dataclass(frozen=True)
class Asked:
    """What a run was asked, and how long it is: the same for all runs of a seed, whatever trained them.

    Attributes:
        items: hash of what could be asked.
        answers: how many answers there are, with a hash of which probe was asked when and on which schedule.
        steps: rows of the table of steps.
        relation: the rung that measures read unless they say otherwise.
    """

    items: str
    answers: str
    steps: int
    relation: str


def asked_of(record: RunRecord) -> Asked:
    """Read what a run was asked.

    Raises:
        UsageError: a table of it cannot be read.
    """
    from pandas.util import hash_pandas_object

    probes = read_table(record, "probes").select(["step", "schedule", "probe"])
    probes = probes.set_column(1, "schedule", pc.binary_join(probes["schedule"], "+"))
    places = np.sort(hash_pandas_object(probes.to_pandas(), index=False).to_numpy())
    return Asked(
        items=str(record.info["items"]) if record.compact else items_hash(read_items(record)),
        answers=f"{len(probes):,} answers, {hashlib.sha256(places.tobytes()).hexdigest()[:16]}",
        steps=len(read_table(record, "steps")),
        relation=str(record.info["primary_relation"]),
    )


@dataclass(frozen=True)
class Placed:
    """A record with its place on a board.

    Attributes:
        control: name of the control it is; None for a run itself.
    """

    record: RunRecord
    recipe: Recipe
    label: str
    control: str | None
    search: Search | None


def find_standing(path: Path) -> list[Path]:
    """Standing boards in a folder, or the one that `path` is; none where there is none."""
    if (path / RULES).exists():
        return [path]
    return sorted(found.parent for found in path.glob(f"*/{RULES}"))


def read_standing(folder: Path, registry: Registry | None = None) -> Standing:
    """A standing board with its rows.

    Raises:
        UsageError: rules or a record cannot be read, or a record has no place on the board.
    """
    rules = read_rules(folder)
    judge = Judge(rules, registry or Registry.from_environment())
    searches = [read_search(path) for path in sorted((folder / SEARCHES).glob("*.json"))]
    placed = [place(judge, RunRecord.open(path), searches) for path in record_folders(folder)]
    return Standing(
        rules,
        rows_of(placed, judge, read_cost(folder)),
        folder,
        judge,
        {one.label: one.search for one in placed if one.search is not None},
    )


def record_folders(folder: Path) -> list[Path]:
    """Folders of the records of a board."""
    records = folder / RECORDS
    return sorted(path for path in records.iterdir() if path.is_dir()) if records.is_dir() else []


def place(judge: Judge, record: RunRecord, searches: Sequence[Search]) -> Placed:
    """Which row and control of the board a record is.

    Raises:
        UsageError: it is none.
    """
    try:
        recipe = Recipe.model_validate(record.recipe)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{record.folder}: no recipe ({where}: {first['msg']})") from error
    try:
        control = judge.control_of(recipe)
    except UsageError as error:
        raise UsageError(f"{record.folder}: scenario options of no row of this board ({error})") from error
    search = _search_of(judge, recipe, searches)
    return Placed(record, recipe, judge.label(recipe, search), control, search)


def _search_of(judge: Judge, recipe: Recipe, searches: Sequence[Search]) -> Search | None:
    """The search that chose a run's options; that of a control is the one of the run it belongs to.

    A search that chose the defaults leads to the very runs that nobody tuned: they stay what they are.
    """
    if not judge.changes(recipe):
        return None
    own = judge.without_control(recipe)
    for search in searches:
        if (search.strategy, search.model) == (recipe.strategy.name, recipe.model.name):
            with contextlib.suppress(UsageError):
                check_recipe(search, "", own)
                return search
    return None


def rows_of(placed: Sequence[Placed], judge: Judge, cost: Mapping[str, float]) -> list[Row]:
    """Rows of the board; of two records for one place the first is taken, `check_rows` names the other."""
    rules = judge.rules
    groups: dict[str, list[Placed]] = {}
    for one in placed:
        groups.setdefault(one.label, []).append(one)
    references = {
        one.recipe.model.name: one.label
        for one in placed
        if one.label in (rules.reference, f"{rules.reference} @ {one.recipe.model.name}")
    }
    rows = []
    for label in sorted(groups, key=lambda label: (label not in references.values(), label)):
        members, first = groups[label], groups[label][0]
        by_control: dict[str | None, dict[int, RunRecord]] = {
            None: {},
            **{name: {} for name in rules.controls},
        }
        for one in members:
            by_control[one.control].setdefault(one.recipe.seed, one.record)
        runs = by_control.pop(None)
        facts = {
            "scenario": rules.scenario,
            "strategy": first.recipe.strategy.name,
            "model": first.recipe.model.name,
            "preset": rules.preset,
            "options": first.recipe.strategy.options,
            "optimizer": f"{first.recipe.optimizer.name} {first.recipe.optimizer.lr:g}",
            **({} if first.search is None else {"search": first.search.short()}),
        }
        rows.append(
            Row(
                label=label,
                facts=facts,
                runs=dict(sorted(runs.items())),
                controls={str(name): dict(sorted(found.items())) for name, found in by_control.items()},
                reference=references.get(first.recipe.model.name),
                failed={seed: "no record" for seed in rules.scoring if seed not in runs},
                cost=cost.get(label),
            )
        )
    return rows


def check_rows(
    placed: Sequence[Placed], asked: Mapping[Path, Asked], judge: Judge, where: Callable[[RunRecord], str]
) -> Iterator[Mismatch]:
    """What is wrong between the runs of a board: seeds, controls, and whether all were given the same.

    `asked` has what each run was asked, by the folder of its record.
    """
    rules = judge.rules
    places: dict[tuple[str, str | None, int], list[Placed]] = {}
    for one in placed:
        places.setdefault((one.label, one.control, one.recipe.seed), []).append(one)
    for (label, control, seed), found in places.items():
        for other in found[1:]:
            what = f"run{f' of control {control}' if control else ''}"
            yield Mismatch(
                where(other.record), what, f"only {found[0].record.folder.name}", "another", label, seed
            )
    labels = sorted({one.label for one in placed})
    for label in labels:
        own = {seed for row, control, seed in places if (row, control) == (label, None)}
        missing = [seed for seed in rules.scoring if seed not in own]
        if len(own) < rules.least:
            for seed in missing:
                yield Mismatch(RECORDS, "run", "a record", "none", label, seed)
        for name in rules.controls:
            has = {seed for row, control, seed in places if (row, control) == (label, name)}
            for seed in sorted(own - has):
                yield Mismatch(RECORDS, f"run of control {name}", "a record", "none", label, seed)
            for seed in sorted(has - own):
                yield Mismatch(RECORDS, f"run beside its control {name}", "a record", "none", label, seed)
    for model in sorted({one.recipe.model.name for one in placed}):
        rows = {one.label for one in placed if one.recipe.model.name == model}
        if not rows & {rules.reference, f"{rules.reference} @ {model}"}:
            yield Mismatch(RECORDS, "reference row", rules.reference, ", ".join(sorted(rows)))
    yield from _same_for_all(placed, asked, judge, where)


def _same_for_all(
    placed: Sequence[Placed], asked: Mapping[Path, Asked], judge: Judge, where: Callable[[RunRecord], str]
) -> Iterator[Mismatch]:
    """Runs of a seed are asked the same, and trained on the same stream unless their strategy says otherwise."""
    groups: dict[tuple[str, str | None, int], list[Placed]] = {}
    for one in placed:
        groups.setdefault((one.recipe.model.name, one.control, one.recipe.seed), []).append(one)
    for (_, control, seed), members in groups.items():
        members.sort(key=lambda one: (one.recipe.strategy.name != judge.rules.reference, one.label))
        first, expected = members[0], asked[members[0].record.folder]
        for other in members:
            own = asked[other.record.folder]
            stated, rung = other.record.info.get("steps"), judge.relations[control]
            for what, wanted, found in (
                ("steps, as run.json has them", stated, own.steps),
                ("rung that measures read, as the scenario has it", rung, own.relation),
                (f"items, as of row {first.label}", expected.items, own.items),
                (f"answers, as of row {first.label}", expected.answers, own.answers),
            ):
                if found != wanted:
                    yield Mismatch(where(other.record), what, str(wanted), str(found), other.label, seed)
        plain = [one for one in members if not judge.transforms_stream(one.recipe.strategy.name)]
        for other in plain[1:]:
            wanted, found = (str(one.record.info.get("content")) for one in (plain[0], other))
            if found != wanted:
                what = f"content of the trained stream, as of row {plain[0].label}"
                yield Mismatch(where(other.record), what, wanted, found, other.label, seed)
