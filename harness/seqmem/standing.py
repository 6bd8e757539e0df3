"""Standing boards: leaderboards that anybody can build again from what is committed, without torch.

A standing board is a folder ``leaderboards/<scenario>-v<version>``::

    board.toml               the frozen rules, see `standing_rules`
    records/                 compact records, see `compact`; rows are what they say of themselves
    searches/<row>.json      how a tuned row was tuned, as `seqmem tune` left it
    cost.json                step times over the reference's, where they were measured
    manifest.json            SHA-256 of all of these and of the figures, and the versions of the metrics
    TABLE.md, table.csv, table.json, figures/*.svg    what `build` makes of them

`submit` adds rows, `build` makes the tables, `verify.verify` checks everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from seqmem.api import load_metrics
from seqmem.compact import items_hash, sha256, write_compact
from seqmem.errors import UsageError
from seqmem.leaderboard import Row, Table, sound, tabulate
from seqmem.plan import file_name
from seqmem.recipe import Recipe
from seqmem.record import RunRecord, json_text, read_items, read_table, write_json
from seqmem.registry import Registry
from seqmem.scoring_pool import scores_of
from seqmem.search import Search, check_recipe, read_search, search_from
from seqmem.standing_rules import RULES, Judge, Mismatch, Rules, read_rules
from seqmem.store import COST, find_boards, read_bench, read_cost
from seqmem.tables import escape_markdown, to_csv, to_json, to_markdown
from seqmem.types import MetricSpec

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

    probes = read_table(record, "probes").select(["step", "schedule", "probe"]).to_pandas()
    places = np.sort(hash_pandas_object(probes, index=False).to_numpy())
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
    placed: Sequence[Placed], asked: Sequence[Asked], judge: Judge, where: Callable[[RunRecord], str]
) -> Iterator[Mismatch]:
    """What is wrong between the runs of a board: seeds, controls, and whether all were given the same.

    `asked` is what each of the runs was asked, in their order.
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
    placed: Sequence[Placed], asked: Sequence[Asked], judge: Judge, where: Callable[[RunRecord], str]
) -> Iterator[Mismatch]:
    """Runs of a seed are asked the same, and trained on the same stream unless their strategy says otherwise."""
    groups: dict[tuple[str, str | None, int], list[tuple[Placed, Asked]]] = {}
    for one, own in zip(placed, asked, strict=True):
        groups.setdefault((one.recipe.model.name, one.control, one.recipe.seed), []).append((one, own))
    for (_, control, seed), members in groups.items():
        members.sort(key=lambda pair: (pair[0].recipe.strategy.name != judge.rules.reference, pair[0].label))
        first, expected = members[0]
        for other, own in members:
            stated, rung = other.record.info.get("steps"), judge.relations[control]
            for what, wanted, found in (
                ("steps, as run.json has them", stated, own.steps),
                ("rung that measures read, as the scenario has it", rung, own.relation),
                (f"items, as of row {first.label}", expected.items, own.items),
                (f"answers, as of row {first.label}", expected.answers, own.answers),
            ):
                if found != wanted:
                    yield Mismatch(where(other.record), what, str(wanted), str(found), other.label, seed)
        plain = [one for one, _ in members if not judge.transforms_stream(one.recipe.strategy.name)]
        for other in plain[1:]:
            wanted, found = (str(one.record.info.get("content")) for one in (plain[0], other))
            if found != wanted:
                what = f"content of the trained stream, as of row {plain[0].label}"
                yield Mismatch(where(other.record), what, wanted, found, other.label, seed)


# --- submitting -------------------------------------------------------------------------------------------


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
            spoilt = record.contamination if record.status == "finished" else ""
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
        asked = [asked_of(one.record) for one in both]
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


# --- tables and manifest ----------------------------------------------------------------------------------


def metric_versions(registry: Registry) -> dict[str, str]:
    """Installed metrics by name, with their versions."""
    return {metric.name: metric.version for metric in load_metrics(registry)[0]}


def manifest_of(folder: Path, metrics: Mapping[str, str]) -> dict[str, Any]:
    """What ``manifest.json`` must say of a board."""
    named = [RULES, COST]
    found = [folder / name for name in named if (folder / name).exists()]
    for part in (RECORDS, SEARCHES, FIGURES):
        found += [path for path in (folder / part).rglob("*") if path.is_file()]
    return {
        "format": 1,
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(found)},
        "metrics": dict(sorted(metrics.items())),
    }


def write_manifest(folder: Path, metrics: Mapping[str, str]) -> None:
    """Write ``manifest.json`` of a board."""
    write_json(folder / MANIFEST, manifest_of(folder, metrics))


def with_margin(metrics: Sequence[MetricSpec], rules: Rules) -> list[MetricSpec]:
    """The metrics, the primary measure with the board's own margin where it states one."""
    if rules.margin is None:
        return list(metrics)
    return [
        replace(
            metric,
            measures=tuple(
                replace(measure, margin=rules.margin) if measure.name == rules.primary else measure
                for measure in metric.measures
            ),
        )
        for metric in metrics
    ]


def score_standing(
    standing: Standing, metrics: Sequence[MetricSpec], pool: Executor | None = None
) -> tuple[Table, list[str]]:
    """The board's table, and a line for every metric that failed on it; `pool` as `scores_of` takes it."""
    rules = standing.rules
    scores, intact, broken = scores_of(standing.rows, metrics, standing.judge.registry, pool)
    table = tabulate(standing.rows, with_margin(intact, rules), {rules.scenario: rules.primary}, scores)
    return table, broken


def table_files(standing: Standing, table: Table) -> dict[str, str]:
    """The text of every table file of a board.

    ``table.json`` holds what has a value: cells, verdicts, ranks, and the value of every seed as
    ``{row: {measure: {seed: value}}}``; why others have none stands in ``table.csv``.
    """
    stated = json.loads(to_json(table))
    stated["cells"] = [cell for cell in stated["cells"] if cell["mean"] is not None]
    values: dict[str, dict[str, dict[str, float]]] = {}
    for one in stated.pop("scores"):
        if one["value"] is not None:
            measures = values.setdefault(one["row"], {})
            measures.setdefault(one["measure"], {})[str(one["seed"])] = one["value"]
    return {
        "TABLE.md": to_markdown(table) + _rules_in_words(standing),
        "table.csv": to_csv(table),
        "table.json": json_text({**stated, "values": values}),
    }


def _rules_in_words(standing: Standing) -> str:
    """The rules as a section of ``TABLE.md``."""
    rules = standing.rules
    chosen = "hyper-parameters are the defaults"
    if rules.hyperparameters == "searched":
        chosen = (
            f"hyper-parameters are the defaults, or chosen by a search of at most {rules.budget} runs on seeds "
            f"{rules.tuning_seeds}"
        )
    lines = [
        rules.question,
        f"Scenario {rules.scenario} version {rules.version}, preset {rules.preset}, seeds {rules.seeds}, "
        f"at least {rules.least} per row; controls: {', '.join(rules.controls) or 'none'}.",
        f"Ranked by {rules.primary} against {rules.reference}; {chosen}; "
        f"optimizer {rules.optimizer}; text {rules.text}; {rules.dtype}.",
        "Models: "
        + ", ".join(f"{name} ({print_[:16]})" for name, print_ in sorted(rules.models.items()))
        + ".",
        rules.eligibility,
    ]
    return "\n".join(["", "## Rules", "", *(f"- {escape_markdown(line)}" for line in lines), ""])


def build(
    folder: Path,
    metrics: Sequence[MetricSpec],
    registry: Registry,
    progress: Progress = lambda text: None,
    pool: Executor | None = None,
) -> tuple[Standing, Table, list[str]]:
    """Write tables, figures and manifest of a standing board from its records; `pool` as `scores_of` takes it.

    Returns:
        The board, its table, and a line for every metric that failed.

    Raises:
        UsageError: the board cannot be read, or has no rows.
    """
    progress(f"{folder.name}: reading")
    standing = read_standing(folder, registry)
    if not standing.rows:
        raise UsageError(f"{folder}: no rows yet; `seqmem leaderboard submit` brings some")
    progress(f"{folder.name}: scoring {len(standing.rows)} rows")
    table, broken = score_standing(standing, metrics, pool)
    for name, text in table_files(standing, table).items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    broken += _draw(standing, metrics, progress)
    write_manifest(folder, {metric.name: metric.version for metric in metrics})
    return standing, table, broken


def _draw(standing: Standing, metrics: Sequence[MetricSpec], progress: Progress) -> list[str]:
    """Draw the metrics' figures anew, as SVG only; a line for every figure that failed.

    Curves of single rows are on the page: as files they would take more room than the records.
    """
    from seqmem.figures import draw_metric

    broken: list[str] = []
    rows = sound(standing.rows)
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary)
        for metric in metrics:
            progress(f"{standing.folder.name}: drawing {metric.name}")
            try:
                draw_metric(metric, rows, drawn / file_name(metric.name))
            except Exception as error:  # a plugin's figure must not cost the table
                broken.append(f"figure of metric {metric.name!r}: {type(error).__name__}: {error}")
        figures = standing.folder / FIGURES
        shutil.rmtree(figures, ignore_errors=True)
        figures.mkdir()
        for path in sorted(drawn.glob("*.svg")):
            shutil.copyfile(path, figures / path.name)
    return broken


def index_page(built: Sequence[tuple[Standing, Table]]) -> str:
    """The page over several boards, as `report.page` makes it.

    Raises:
        ImportError: what the page is made with is not installed.
    """
    from seqmem.report import Part, page

    parts = [
        Part(
            standing.rules.name,
            table,
            standing.rows,
            reproduce(standing),
            rules={name: value for name, value in standing.rules.model_dump(mode="json").items() if value},
            question=standing.rules.question,
        )
        for standing, table in built
    ]
    return page("Leaderboards", parts)


def reproduce(standing: Standing) -> str:
    """The commands that make the runs of a board again: rows with their defaults, then those that were tuned."""
    tuned = [row for row in standing.rows if row.label in standing.searches]
    plain = [row for row in standing.rows if row not in tuned]
    lines = [_bench(standing, plain, ())] if plain else []
    # one at a time: a bench takes one search per strategy
    lines += [
        _bench(standing, [row], (f"{HOME}/{standing.rules.name}/{SEARCHES}/{file_name(row.label)}.json",))
        for row in tuned
    ]
    return "\n".join(lines)


def _bench(standing: Standing, rows: Sequence[Row], searches: Sequence[str]) -> str:
    import shlex

    rules, spec = standing.rules, standing.judge.scenario
    words = ["seqmem", "bench", "--scenario", rules.scenario]
    for strategy in dict.fromkeys(str(row.facts["strategy"]) for row in rows):
        words += ["--strategy", strategy]
    models = sorted({str(row.facts["model"]) for row in rows})
    for model in models if models != [spec.models.get(rules.preset, spec.model).partition("@")[0]] else ():
        words += ["--model", model]
    words += ["--preset", rules.preset] * (rules.preset != "default")
    words += ["--seeds", rules.seeds]
    for option, value in (("dtype", rules.dtype), ("probing", rules.probing), ("text", rules.text)):
        words += [f"--{option}", value] * (value != Rules.model_fields[option].default)
    for path in searches:
        words += ["--tuned", path]
    return shlex.join(words)


def new_board(scenario: str, home: Path, registry: Registry) -> Path:
    """Write a commented ``board.toml`` for a scenario's default preset, to be edited before the first row.

    Raises:
        UsageError: the scenario is not installed, or the board is there already.
    """
    from seqmem.models import ModelChoice, resolve
    from seqmem.options import validate
    from seqmem.standing_rules import rules_text

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
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RULES).write_text(
        rules_text(
            spec,
            spec.outline(options).primary,
            {model.name: model.fingerprint},
            text.fingerprint(text.options()),
        ),
        encoding="utf-8",
    )
    return folder
