"""Adding to standing boards: rules for a new one, and the rows of a bench, where every run keeps to the rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmem.board.build import metric_versions, write_manifest
from seqmem.board.published import (
    HOME,
    RECORDS,
    SEARCHES,
    Placed,
    Progress,
    asked_of,
    check_rows,
    place,
    read_standing,
    record_folders,
)
from seqmem.board.rules import RULES, Mismatch, rules_text
from seqmem.core.errors import UsageError
from seqmem.core.recipe import Recipe
from seqmem.core.sanitize import file_name
from seqmem.planning.search import search_from
from seqmem.planning.store import COST, find_boards, read_bench, read_cost
from seqmem.plugin.registry import Registry
from seqmem.record.compact import write_compact
from seqmem.record.contamination import contaminated
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.record.schema import json_text, write_json


@dataclass(frozen=True)
class Submitted:
    """What came of a submission to one board.

    Attributes:
        added: folders of records that are new there.
        known: folders of records that were there already.
        faults: what breaks the rules; then nothing was copied.
    """

    board: Path
    added: tuple[str, ...]
    known: tuple[str, ...]
    faults: tuple[Mismatch, ...]


def submit(
    runs: Path,
    to: Path | None = None,
    registry: Registry | None = None,
    progress: Progress = lambda text: None,
) -> list[Submitted]:
    """Copy the rows of benches to their standing boards, where every run keeps to the rules.

    Args:
        runs: output folder of benches, or one board in it.
        to: the standing board; by default ``leaderboards/<scenario>-v<version>``.
        registry: where plugins are found.
        progress: told what is being done.

    Returns:
        One entry per bench. A bench of which one run breaks a rule is not copied at all.

    Raises:
        UsageError: there is no bench or no such standing board, or another record of a run lies there.
    """
    registry = registry or Registry.from_environment()
    submitted = []
    for bench in find_boards(runs):
        described, rows = read_bench(bench)
        board = to or HOME / f"{described['scenario']}-v{described['version']}"
        if not (board / RULES).exists():
            raise UsageError(
                f"{board}: no standing board there; `seqmem leaderboard new {described['scenario']}` writes its rules"
            )
        submitted.append(_submit(bench, described, rows, board, registry, progress))
    return submitted


def _submit(
    bench: Path,
    described: Mapping[str, Any],
    rows: Sequence[Row],
    board: Path,
    registry: Registry,
    progress: Progress,
) -> Submitted:
    standing = read_standing(board, registry)
    judge = standing.judge
    faults: list[Mismatch] = []
    placed: list[Placed] = []
    labels: dict[str, str] = {}
    for row, stated in zip(rows, described["rows"], strict=True):
        progress(f"{board.name}: checking {row.label}")
        searches = []
        if stated.get("search"):
            searches.append(search_from(stated["search"], f"{bench}: search of {row.label}"))
        for seed, reason in row.failed.items():
            faults.append(Mismatch(str(bench), "run", "finished", reason, row.label, seed))
        for record in [*row.runs.values(), *(r for runs in row.controls.values() for r in runs.values())]:
            seed = record.seed
            try:
                one = place(judge, record, searches)
            except UsageError as error:
                recipe = Recipe.model_validate(record.recipe)
                wrong = [*judge.faults(record, recipe, None)] or [("run", "one of this board", str(error))]
                faults += [Mismatch(record.folder.name, *fault, row.label, seed) for fault in wrong]
                continue
            spoilt = contaminated(record) if record.status == "finished" else ""
            found = judge.faults(record, one.recipe, one.search, spoilt)
            faults += [Mismatch(record.folder.name, *fault, row.label, seed) for fault in found]
            placed.append(one)
            labels[row.label] = one.label
    here = {path.name for path in record_folders(board)}
    kept = [
        place(judge, RunRecord.open(path), list(standing.searches.values())) for path in record_folders(board)
    ]
    new = [one for one in placed if one.record.folder.name not in here]
    if not faults:
        both = [*kept, *new]
        asked = {one.record.folder: asked_of(one.record) for one in both}
        faults += check_rows(both, asked, judge, lambda record: record.folder.name)
    if faults:
        return Submitted(board, (), (), tuple(faults))
    # all that may refuse comes before the first new file
    costs = _joined_costs(board, bench, labels)
    searched = _search_files(board, placed)
    for one in sorted(placed, key=lambda one: one.record.folder.name not in here):
        progress(f"{board.name}: writing {one.record.folder.name}")
        write_compact(one.record, board / RECORDS)  # of a run that is here: sees that it is the same
    for path, text in searched.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if costs:
        write_json(board / COST, costs)
    write_manifest(board, metric_versions(registry))
    names = [one.record.folder.name for one in placed]
    return Submitted(
        board,
        tuple(sorted(name for name in names if name not in here)),
        tuple(sorted(name for name in names if name in here)),
        (),
    )


def _search_files(board: Path, placed: Sequence[Placed]) -> dict[Path, str]:
    """How the rows were tuned: the files to be kept on the board.

    Raises:
        UsageError: a row was tuned otherwise before.
    """
    found: dict[Path, str] = {}
    for one in placed:
        if one.search is None:
            continue
        path = board / SEARCHES / f"{file_name(one.label)}.json"
        found[path] = json_text(one.search.model_dump(mode="json"))
        if path.exists() and path.read_text(encoding="utf-8") != found[path]:
            raise UsageError(f"{path}: row {one.label!r} is here with another search; nothing is overwritten")
    return found


def _joined_costs(board: Path, bench: Path, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """The board's step times and the bench's, under the board's labels; None where neither has any.

    Raises:
        UsageError: they were measured on different machines.
    """
    read_cost(bench)  # refuses what is no cost file
    if not (bench / COST).exists():
        return None
    brought = json.loads((bench / COST).read_text(encoding="utf-8"))
    brought["rows"] = {labels[label]: row for label, row in brought["rows"].items() if label in labels}
    if not (board / COST).exists():
        return dict(brought)
    there = json.loads((board / COST).read_text(encoding="utf-8"))
    if there["machine"] != brought["machine"]:
        raise UsageError(
            f"{bench / COST}: step times of another machine than those of {board / COST}; take one of the two away"
        )
    return {**there, "rows": {**there["rows"], **brought["rows"]}}


def new_board(scenario: str, home: Path, registry: Registry) -> Path:
    """Write a commented ``board.toml`` for a scenario's default preset, to be edited before the first row.

    Raises:
        UsageError: the scenario is not installed, the board is there already, or cannot be written.
    """
    from seqmem.core.options import validate
    from seqmem.planning.models import ModelChoice, resolve

    spec = registry.load("scenario", scenario)
    folder = home / f"{spec.name}-v{spec.version}"
    if (folder / RULES).exists():
        raise UsageError(f"{folder / RULES} is there already; rules are frozen once a board has rows")
    name, _, revision = spec.models.get("default", spec.model).partition("@")
    choice = ModelChoice(
        name=name, revision=revision or None, dtype="float32", attention="sdpa", trust_remote_code=False
    )
    model = resolve(choice, registry).model
    text = registry.load("text", "world")
    options = validate(spec.options, spec.presets["default"], f"scenario {spec.name}")
    rules = rules_text(
        spec,
        spec.outline(options).primary,
        {model.name: model.fingerprint},
        text.fingerprint(text.options()),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RULES).write_text(rules, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder / RULES}: cannot be written ({error.strerror})") from error
    return folder
