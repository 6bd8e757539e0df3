"""Published boards: rules, submitting, building, and finding them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers_boards import (
    edit_recipe,
    edit_run,
    others,
    record_of,
    registry,
    reseal,
    unpack,
    write_bench,
    write_board,
    write_rules,
)

from seqmem import Measure, MetricSpec, Value
from seqmem import cli as _cli  # noqa: F401  (registers the verbs)
from seqmem.board.build import build, reproduce
from seqmem.board.judge import Judge
from seqmem.board.layout import published_boards, row_archives
from seqmem.board.new import new_board
from seqmem.board.published import read_board
from seqmem.board.rules import board_name, read_rules
from seqmem.board.submit import submit
from seqmem.board.verify import verify
from seqmem.cli.app import run as command
from seqmem.core.errors import UsageError
from seqmem.core.recipe import Recipe
from seqmem.core.sanitize import distinct_file_name
from seqmem.planning.grid import Plan
from seqmem.planning.search import Search, Trial, kept_recipe
from seqmem.record.files import write_sealed
from seqmem.scoring.tables import load_metrics


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_board(tmp_path_factory.mktemp("published"))


@pytest.fixture
def board(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / original.name))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def built(folder: Path) -> dict[str, bytes]:
    build(folder, load_metrics(registry())[0], registry())
    return content(folder)


def test_rows_are_what_the_records_say(board: Path) -> None:
    published = read_board(board, registry())
    assert [row.label for row in published.rows] == ["naive", "joint", "replay"]
    for row in published.rows:
        assert sorted(row.runs) == sorted(row.controls["shuffled"]) == [0, 1]
        assert row.reference == "naive" and not row.failed
        assert row.changes_stream == (row.label == "joint")
        assert row.runs[0].recipe["strategy"]["name"] == row.label
        assert row.controls["shuffled"][1].recipe["scenario"]["options"]["order"] == "shuffled"


def test_a_board_is_built_twice_to_the_same_bytes_elsewhere_and_later_too(
    board: Path, tmp_path: Path
) -> None:
    first = content(board)
    assert {"TABLE.md", "table.csv", "table.json", "manifest.json", "figures/distance_decay.svg"} <= set(
        first
    )
    assert not [name for name in first if name.endswith(".png")]
    assert built(board) == first
    elsewhere = Path(shutil.copytree(board, tmp_path / "else where" / board.name))
    for path in elsewhere.rglob("*"):
        os.utime(path, (1e9, 1e9))
    code = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path\n"
        "from helpers_boards import registry\nfrom seqmem.verbs.bench import load_metrics\n"
        "from seqmem.board.build import build\n"
        f"build(Path({str(elsewhere)!r}), load_metrics(registry())[0], registry())\n"
    )
    odd = {"PYTHONHASHSEED": "7", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONUTF8": "0"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**os.environ, **odd}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert content(elsewhere) == first


def test_submitting_again_adds_nothing_and_another_record_is_refused(original: Path, board: Path) -> None:
    out = original.parents[1] / "out"
    (again,) = submit(out, board, registry())
    assert (len(again.added), len(again.known), again.faults) == (0, 12, ())
    assert content(board) == content(original)
    edit_run(record_of(board, "naive", 0), lambda info: info.update(final_weights="other"))
    with pytest.raises(UsageError, match=r"holds another record of this run \(run.json differ\)"):
        submit(out, board, registry())


def faults(home: Path, planned: Plan, change: Any = None, **rules: Any) -> list[str]:
    """Return the faults that submitting to a fresh board finds. Nothing may be copied then."""
    run = next(iter(planned.runs.values())).recipe
    folder = home / "boards here" / board_name("memory_loops", run.scenario.version, "smoke")
    write_rules(folder, planned, **rules)
    if change is not None:
        change(home / "out")
    (submitted,) = submit(home / "out", folder, registry())
    assert not submitted.faults or sorted(p.name for p in folder.iterdir()) == ["board.toml"]
    return [fault.line for fault in submitted.faults]


@pytest.mark.parametrize(
    ("request_", "rules", "expected"),
    [
        ({"seeds": "0"}, {}, "row replay, seed 1: run: expected a record, found none"),
        ({"controls": False}, {}, "row naive, seed 0: run of control shuffled: expected a record, found none"),
        ({"reference": False, "strategy": ("replay",)}, {}, "reference row: expected naive, found replay"),
        ({"set": ("scenario.cycles=3",)}, {}, "cycles = 3 instead of"),
        ({"set": ("strategy.rows=3",)}, {}, 'the defaults, or options chosen by a search, found {"rows": 3}'),
        ({"lr": 0.5}, {}, 'optimizer: expected {"lr": 0.001} as the preset has it, found {"lr": 0.5}'),
        ({}, {"models": {"base": "f" * 64}}, "model: expected base, found tiny"),
        ({}, {"models": {"tiny": "f" * 64}}, "fingerprint of model tiny: expected ffff"),
        ({}, {"seeds": "0", "tuning_seeds": "1-2"}, "found 1, a tuning seed"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused(
    tmp_path: Path, request_: dict[str, Any], rules: dict[str, Any], expected: str
) -> None:
    planned = write_bench(tmp_path / "out", **{"strategy": ("naive", "replay"), **request_})
    found = faults(tmp_path, planned, **rules)
    assert any(expected in line for line in found), found


def searched(planned: Plan, seeds: tuple[int, ...] = (100, 101), runs: int = 2, **changes: Any) -> Search:
    """A search that chose what the `replay` row of the plan has."""
    run = next(run for run in planned.runs.values() if run.recipe.strategy.name == "replay").recipe
    preset = next(r.recipe for r in planned.runs.values() if "shuffled" not in r.name).scenario
    recipe = Recipe.model_validate(kept_recipe(run) | {"seed": 0, "device": "cpu", "threads": 1})
    recipe = recipe.model_copy(update={"scenario": preset})
    options = {"strategy.rows": run.strategy.options["rows"]}
    values = dict(zip(seeds, (0.5, 0.7), strict=True))
    ids = tuple(map(str, range(runs)))
    trial = Trial(options=options, values=values, reasons={}, mean=0.6, runs=ids)
    stated: dict[str, Any] = dict(
        scenario="memory_loops",
        version=run.scenario.version,
        preset="smoke",
        model="tiny",
        strategy="replay",
        strategy_version=run.strategy.version,
        seeds=seeds,
        budget=8,
        runs=runs,
        measure="retention",
        direction="higher",
        space={"strategy.rows": (3,)},
        trials=(trial,),
        chosen=options,
        recipe=kept_recipe(recipe),
        date="2026-01-01",
    )
    return Search.model_construct(**{**stated, **changes})  # unchecked: some tests want one that is wrong


def tuned_bench(home: Path, **changes: Any) -> Plan:
    planned = write_bench(home / "out", strategy=("naive", "replay"), set=("strategy.rows=3",))
    (described,) = (home / "out" / "boards").glob("*/bench.json")
    bench = json.loads(described.read_text())
    for row in bench["rows"]:
        if row["label"].startswith("replay"):
            row["search"] = searched(planned, **changes).model_dump(mode="json")
    write_sealed(described, bench)
    return planned


TUNED = f"{distinct_file_name('replay (tuned)')}.json"


def test_a_tuned_row_brings_its_search_and_a_changed_search_is_named(
    unrendered: None, tmp_path: Path
) -> None:
    planned = tuned_bench(tmp_path)
    assert faults(tmp_path, planned) == []
    (folder,) = published_boards(tmp_path / "boards here")
    assert sorted(p.name for p in (folder / "searches").iterdir()) == [TUNED]
    built(folder)
    published = read_board(folder, registry())
    assert [row.label for row in published.rows] == ["naive", "replay (tuned)"]
    assert published.rows[1].facts["search"]["budget"] == 8
    assert verify(folder, registry()) == []
    path = folder / "searches" / TUNED
    sound = path.read_text()
    for before, after in (('"mean": 0.6', '"mean": 0.7'), ("101", "102"), ('"budget": 8', '"budget": 9')):
        path.write_text(sound.replace(before, after))
        assert any(f"searches/{TUNED}: SHA-256" in one.line for one in verify(folder, registry()))
    tried = {"strategy.rows": 4}
    (trial,) = json.loads(sound)["trials"]
    other = {"chosen": tried, "space": {"strategy.rows": [4]}, "trials": [{**trial, "options": tried}]}
    write_sealed(path, {**json.loads(sound), **other})
    found = [one.line for one in verify(folder, registry())]
    assert any(
        "seed 1: strategy.rows, as the search has chosen it: expected 4, found 3" in line for line in found
    )
    path.write_text(sound.replace('"rows": 3', '"rows": 4'))
    found = [one.line for one in verify(folder, registry())]
    assert any(f"searches/{TUNED}: file: expected none of this name" in line for line in found)


@pytest.mark.parametrize(
    ("changes", "rules", "expected"),
    [
        ({"seeds": (100, 105)}, {}, "seeds of the search: expected tuning seeds 100-101, found [105]"),
        ({"runs": 9, "budget": 9}, {}, "runs of the search: expected at most 8, found 9"),
        ({"preset": "default"}, {}, "what was searched on: expected memory_loops"),
        ({}, {"hyperparameters": "defaults"}, "hyper-parameters: expected the defaults: this board allows no search"),
    ],
)  # fmt: skip
def test_a_search_that_breaks_a_rule_is_refused(
    tmp_path: Path, changes: dict[str, Any], rules: dict[str, Any], expected: str
) -> None:
    planned = tuned_bench(tmp_path, **changes)
    found = faults(tmp_path, planned, **rules)
    assert any(expected in line for line in found), found


def test_a_search_whose_measure_goes_the_other_way_is_refused(tmp_path: Path) -> None:
    planned = tuned_bench(tmp_path, direction="lower")
    found = faults(tmp_path, planned)
    assert any("measure of the search" in line and "retention, lower is better" in line for line in found)


def test_a_search_that_contradicts_itself_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    planned = tuned_bench(tmp_path, space={"strategy.rows": (7, 9)})
    with pytest.raises(
        UsageError,
        match=r"bench.json: .*rows.1.search: .*its trial strategy.rows=3 has a value .* not one of \[7, 9\]",
    ):
        faults(tmp_path, planned)
    (folder,) = published_boards(tmp_path / "boards here")
    assert [path.name for path in folder.iterdir()] == ["board.toml"]


def test_a_row_whose_search_chose_the_defaults_stays_the_row_it_was(original: Path, board: Path) -> None:
    out = board.parent / "out"
    planned = write_bench(out)
    run = next(run for run in planned.runs.values() if run.recipe.strategy.name == "naive").recipe
    rate = {"optimizer.lr": run.optimizer.lr}
    trial = Trial(options=rate, values={100: 0.5, 101: 0.7}, reasons={}, mean=0.6, runs=("a", "b"))
    search = searched(
        write_bench(board.parent / "other", strategy=("replay",)),
        strategy="naive",
        strategy_version=run.strategy.version,
        space={"optimizer.lr": (run.optimizer.lr,)},
        trials=(trial,),
        chosen=rate,
        recipe=kept_recipe(run),
    )
    (described,) = (out / "boards").glob("*/bench.json")
    bench = json.loads(described.read_text())
    bench["rows"][0]["search"] = search.model_dump(mode="json")
    write_sealed(described, bench)
    (again,) = submit(out, board, registry())
    assert (len(again.added), again.faults) == (0, ())
    assert content(board) == content(original)


def test_a_conflict_is_found_before_anything_is_copied(original: Path, board: Path) -> None:
    out = board.parent / "out"
    planned = write_bench(out, strategy=("ewc", "replay"), reference=False)
    run = next(run for run in planned.runs.values() if run.recipe.strategy.name == "replay")
    (record,) = (out / "records").glob(f"*-{run.recipe.id}")
    edit_run(record, lambda info: info.update(final_weights="other"))
    with pytest.raises(UsageError, match="holds another record of this run"):
        submit(out, board, registry())
    assert content(board) == content(original)


def without(record: Path, table: str) -> None:
    """Make a record one of a run that has left no such table."""
    (record / table / "part-00000.parquet").unlink()
    reseal(record)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda record: without(record, "probes"),
            "row replay, seed 0: answers, as of row naive: expected",
        ),
        (
            lambda record: without(record, "steps"),
            "row replay, seed 0: steps, as run.json has them: expected 60, found 0",
        ),
        (
            lambda record: edit_run(record, lambda info: info.update(primary_relation="last_token")),
            "probe form that measures read, as the scenario has it: expected question, found last_token",
        ),
    ],
)
def test_a_run_that_was_not_asked_the_same_is_refused(tmp_path: Path, change: Any, expected: str) -> None:
    planned = write_bench(tmp_path / "out", strategy=("naive", "replay"))
    run = next(
        run
        for run in planned.runs.values()
        if (run.recipe.strategy.name, run.recipe.seed) == ("replay", 0) and "shuffled" not in run.name
    )
    (record,) = (tmp_path / "out" / "records").glob(f"*-{run.recipe.id}")
    change(record)
    found = faults(tmp_path, planned)
    assert any(expected in line for line in found), found


FIELDS = "betas, clip, eps, lr, momentum, name, schedule, warmup, weight_decay"
ADVICE = "the run was made by seqmem 0.1.0: install that version, or make the run again with this one"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda record: edit_recipe(record, lambda recipe: recipe["optimizer"].update(novel=1)),
            f"recipe.optimizer.novel: not a field that this version knows, allowed: {FIELDS}; {ADVICE}",
        ),
        (
            lambda record: edit_recipe(record, lambda recipe: recipe.update(novel=1)),
            "recipe.novel: not a field that this version knows, allowed: device, micro_tokens, model, ",
        ),
        (
            lambda record: edit_recipe(record, lambda recipe: recipe.pop("model")),
            f"recipe.model: Field required; {ADVICE}",
        ),
        (
            lambda record: (record / "probes" / "part-00000.parquet").write_bytes(b"torn") and None,
            "probes/part-00000.parquet: was changed or damaged",
        ),
    ],
)
def test_a_record_that_cannot_be_read_is_one_line(tmp_path: Path, change: Any, expected: str) -> None:
    planned = write_bench(tmp_path / "out", strategy=("naive",))
    run = next(run for run in planned.runs.values() if "shuffled" not in run.name)
    (record,) = (tmp_path / "out" / "records").glob(f"*-{run.recipe.id}")
    record = change(record) or record
    (line,) = faults(tmp_path, planned)
    assert line.startswith(
        f"{record.name}: row naive, seed {run.recipe.seed}: record: expected one that can be read"
    )
    assert expected in line and str(record) in line and "\n" not in line


def test_adding_a_row_leaves_the_archives_of_others_as_they_are(board: Path) -> None:
    out = board.parent / "out"
    write_bench(out, strategy=("ewc",), reference=False)
    times = {path: path.stat().st_mtime_ns for path in [*row_archives(board), board / "items.zip"]}
    (added,) = submit(out, board, registry())
    assert (len(added.added), added.faults) == (4, ())
    new = {path: path.stat().st_mtime_ns for path in [*row_archives(board), board / "items.zip"]}
    assert new.keys() - times.keys() == {board / "records" / "ewc.zip"}
    assert {path: new[path] for path in times} == times


def test_records_in_folders_of_their_own_are_refused_with_the_way_out(board: Path) -> None:
    unpack(record_of(board, "naive", 0), board / "records")
    with pytest.raises(
        UsageError, match="now lie in one archive per row; take .* away and submit the runs again"
    ):
        read_board(board, registry())
    (line,) = [one.line for one in verify(board, registry())]
    assert line.startswith("records: archives: expected ones that can be read")


def test_the_command_that_makes_a_board_again_has_what_is_not_the_default(board: Path) -> None:
    published = read_board(board, registry())
    assert reproduce(published) == (
        "seqmem bench --scenario memory_loops --strategy naive --strategy joint --strategy replay "
        "--preset smoke --seeds 0-1"
    )
    rules = published.rules.model_copy(update={"dtype": "bfloat16", "text": "pile"})
    rows = [replace(row, facts={**row.facts, "model": "nano"}) for row in published.rows]
    said = reproduce(replace(published, judge=Judge(rules, registry()), rows=rows))
    assert all(words in said for words in ("--model nano", "--precision bfloat16", "--text pile"))
    tuned = rows[2].label
    search: Any = object()
    searched = replace(published, rows=rows)
    vars(searched)["searches"] = {tuned: search}
    (line,) = reproduce(searched).splitlines()
    assert line.endswith(f"--tuned leaderboards/{published.rules.name}/searches/{tuned}.json")
    again = replace(searched, rows=[*rows, replace(rows[2], label="replay rows=8")])
    vars(again)["searches"] = {}
    assert [line.count("--strategy replay") for line in reproduce(again).splitlines()] == [1, 1]


def test_step_times_come_along_under_the_boards_labels(tmp_path: Path) -> None:
    planned = write_bench(tmp_path / "out", strategy=("naive", "replay"))
    (bench,) = (tmp_path / "out" / "boards").iterdir()
    cost = {
        "format": 1,
        "reference": "naive",
        "machine": {"cores": 2},
        "rows": {"replay": {"ratio": 1.5, "low": 1.4, "high": 1.6, "steps": 10}},
    }
    write_sealed(bench / "cost.json", cost)
    assert faults(tmp_path, planned) == []
    (folder,) = published_boards(tmp_path / "boards here")
    assert {row.label: row.cost for row in read_board(folder, registry()).rows} == {
        "naive": None,
        "replay": 1.5,
    }
    write_sealed(bench / "cost.json", {**cost, "machine": {"cores": 4}})
    with pytest.raises(UsageError, match="step times of another machine"):
        submit(tmp_path / "out", folder, registry())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": "0-9", "tuning_seeds": "9-12"}, "seed 9 is a scoring seed and a tuning seed"),
        ({"seeds": "0,x"}, r"seeds: seeds '0,x': 'x' is not a valid seed"),
        ({"least_seeds": 3}, "least_seeds = 3, but there are 2 scoring seeds"),
        ({"tuning_seeds": ""}, '"searched" needs tuning_seeds and a budget'),
        ({"margin": 0}, "margin: Input should be greater than 0"),
        ({"optimiser": "free"}, "unknown key 'optimiser'. Did you mean 'optimizer'"),
        ({"question": None}, "question: Field required"),
    ],
)
def test_wrong_rules_are_one_clear_line(
    original: Path, tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    folder = tmp_path / "memory_loops-v1"
    stated = {**read_rules(original).model_dump(), **changes}
    lines = [f"{k} = {json.dumps(v)}" for k, v in stated.items() if v is not None and k != "models"]
    lines += ["[models]", 'tiny = "x"']
    folder.mkdir()
    (folder / "board.toml").write_text("\n".join(lines))
    with pytest.raises(UsageError, match=expected) as caught:
        read_rules(folder)
    assert "\n" not in str(caught.value) and str(folder / "board.toml") in str(caught.value)


def test_a_margin_of_the_board_replaces_the_measures(board: Path) -> None:
    from seqmem.board.build import by_rules, score_board

    published = read_board(board, registry())
    rules = replace_margin(published.rules, 0.123)
    metrics = by_rules(load_metrics(registry())[0], rules)
    margins = {measure.name: measure.margin for metric in metrics for measure in metric.measures}
    assert margins["retention"] == 0.123 and margins["retention.auc"] != 0.123
    table, _ = score_board(replace(published, judge=Judge(rules, registry())), load_metrics(registry())[0])
    assert table.boards[0].primary.margin == 0.123


def replace_margin(rules: Any, margin: float) -> Any:
    return rules.model_copy(update={"margin": margin})


def test_a_board_has_the_gates_of_its_rules_and_no_others(board: Path) -> None:
    from seqmem.board.build import score_board

    published, metrics = read_board(board, registry()), load_metrics(registry())[0]

    def gates(stated: dict[str, float]) -> list[tuple[str, float | None]]:
        rules = published.rules.model_copy(update={"gates": stated})
        table, _ = score_board(replace(published, judge=Judge(rules, registry())), metrics)
        return [(gate.name, gate.gate) for gate in table.boards[0].gates]

    assert gates({}) == []
    assert gates({"retention.auc": 0.2}) == [("retention.auc", 0.2)]
    for name in (
        "retention.aux",
        "distance_decay",
        "rest_loss",
    ):  # misspelt, without direction, not installed here
        with pytest.raises(UsageError, match=f"{published.rules.name}: gates: unknown measure '{name}'"):
            gates({name: 0.05})
    silent = Measure("silent", "share", "higher", "")
    nothing = Value(None, reason="nobody was asked")
    metrics.append(MetricSpec("silent", "1", "", (silent,), lambda run, controls: {"silent": nothing}))
    with pytest.raises(UsageError, match=r"naive has no value of silent \(nobody was asked\); take it out"):
        gates({"silent": 0.05})
    published = replace(published, rows=[row for row in published.rows if row.label != "naive"])
    assert gates({"retention": 0.05}) == []  # the reference comes later


def test_on_a_board_of_equal_searches_every_row_needs_one(board: Path) -> None:
    published = read_board(board, registry())
    stated = {"hyperparameters": "equal_search", "budget": 12, "tuning_seeds": "100-101"}
    judge = Judge(published.rules.model_copy(update=stated), registry())
    wanted = {}
    for one in published.placed:
        faults = [fault for fault in judge.faults(one.record, one.recipe, None) if fault[0] == "search"]
        wanted[one.recipe.strategy.name] = faults
    assert wanted["naive"] == wanted["replay"] == [("search", "one of 12 runs, as every row has", "none")]
    assert wanted["joint"] == []  # it has no rank


def test_a_new_board_has_rules_that_can_be_read(tmp_path: Path) -> None:
    folder = new_board("freeze_loops", tmp_path, registry())
    rules = read_rules(folder)
    assert folder.name == rules.name and rules.primary == "task_recall" and rules.reference == "naive"
    assert published_boards(tmp_path) == published_boards(folder) == [folder]
    other = new_board("freeze_loops", tmp_path / "other", registry(), "smoke")
    assert other.name == read_rules(other).name == f"{folder.name}-smoke"
    with pytest.raises(UsageError, match="unknown preset of freeze_loops 'smok'. Did you mean 'smoke'"):
        new_board("freeze_loops", tmp_path, registry(), "smok")
    with pytest.raises(UsageError, match="no rows yet"):
        build(folder, load_metrics(registry())[0], registry())
    with pytest.raises(UsageError, match="is there already"):
        new_board("freeze_loops", tmp_path, registry())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"board\.toml: cannot be written"):
        new_board("freeze_loops", tmp_path / "file", registry())


def test_a_bench_without_a_board_is_told_how_to_begin_one(original: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="`seqmem leaderboard new memory_loops --preset smoke` writes its rules"
    ):
        submit(original.parents[1] / "out", tmp_path / "nowhere", registry())


def test_the_verbs_work_on_published_boards(
    board: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = [word for name in sorted(others()) for word in ("-p", f"no:{name}")]

    def output(*words: str, code: int = 0) -> str:
        assert command([*fewer, "leaderboard", *words]) == code, capsys.readouterr()
        return str(capsys.readouterr().out)

    where = str(board)
    assert "## memory\\_loops, tiny" in output("show", where)
    assert json.loads(output("show", where, "--json"))[0]["name"] == board.name
    assert output("show", where, "--format", "csv").startswith("scenario,model,row,measure")
    assert "\\begin{table}" in output("show", where, "--format", "latex")
    assert command(["leaderboard", "show", where, "--format", "pdf"]) == 2
    capsys.readouterr()
    assert "replay minus naive" in output("compare", "replay", "naive", where)
    (compared,) = json.loads(output("compare", "replay", "naive", where, "--json"))
    retention = next(one for one in compared["measures"] if one["measure"]["name"] == "retention")
    rows = {row.label: row for row in read_board(board, registry()).rows}
    own = [retention[side]["mean"] for side in ("first", "second")]
    assert retention["difference"]["interval"]["mean"] == pytest.approx(own[0] - own[1]) and len(rows) == 3
    assert command([*fewer, "leaderboard", "compare", "replay", "nobody", where]) == 2
    assert "rows: naive, joint, replay" in capsys.readouterr().err
    with monkeypatch.context() as patch:  # as of a board of many runs
        patch.setattr("seqmem.scoring.pool.WORTH", 0)
        assert output("verify", where) == f"{board.name}: no mismatches\n"
    (board / "table.csv").write_text("row\n")
    stated = json.loads(output("verify", where, "--json", code=1))
    assert stated["mismatches"] == sum(len(one["mismatches"]) for one in stated["boards"]) > 0


def test_a_board_without_rows_is_left_out_among_others(
    unrendered: None, board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for alone it is an error that says what to do."""
    new_board("freeze_loops", board.parent, registry())
    without = [word for name in sorted(others()) for word in ("-p", f"no:{name}")]
    assert command([*without, "leaderboard", "build", str(board.parent)]) == 3
    said = capsys.readouterr()
    assert "freeze_loops-v3: no rows yet" in said.err and board.name in said.out
    assert command([*without, "leaderboard", "show", str(board.parent / "freeze_loops-v3")]) == 2
    assert "no rows yet; `seqmem leaderboard submit` brings some" in capsys.readouterr().err
    assert command([*without, "leaderboard", "show", str(board.parent), "--format", "csv"]) == 3
    assert "freeze_loops-v3: no rows yet" in capsys.readouterr().err
