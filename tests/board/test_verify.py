"""Verifying a published board: nothing that was changed by hand goes unnoticed, and no torch is needed."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helpers_boards
import pyarrow as pa
import pytest
from helpers_boards import (
    edit_recipe,
    edit_run,
    files_of,
    get_table,
    put,
    put_table,
    record_of,
    remove,
    rename,
    write_board,
)

from seqmem.board.build import metric_versions
from seqmem.board.layout import record_folders, write_manifest
from seqmem.board.rules import read_rules
from seqmem.board.verify import verify
from seqmem.plugin.registry import Registry
from seqmem.record.archive import members, read_bytes, write_archive
from seqmem.record.files import sha256

METRICS = ("retention", "cost")
"""Scored at every verification: what takes long to score has no part in this."""


def registry() -> Registry:
    return helpers_boards.registry(METRICS)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_board(tmp_path_factory.mktemp("published"), METRICS)


@pytest.fixture
def board(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / original.name))


def lines(folder: Path) -> list[str]:
    return [one.line for one in verify(folder, registry())]


def relisted(folder: Path) -> None:
    """Make the manifest agree with the files again, as one would who wants to get away with it."""
    write_manifest(folder, metric_versions(registry()))


def rehashed(record: Path) -> None:
    """Make a run.json agree with its tables again."""

    def hashes(info: dict[str, Any]) -> None:
        info["files"] = {
            name: {
                "rows": len(get_table(record / name)),
                "sha256": sha256(read_bytes(record / name)),
            }
            for name in info["files"]
        }

    edit_run(record, hashes)


def test_a_sound_board_has_no_mismatch(board: Path) -> None:
    assert lines(board) == []


@pytest.mark.parametrize(("size", "passes"), [(1e-10, True), (1e-8, False)])
def test_a_number_that_another_processor_rounds_differently_is_no_mismatch(
    board: Path, size: float, passes: bool
) -> None:
    csv_file, json_file = board / "table.csv", board / "table.json"
    mean = next(c["mean"] for c in json.loads(json_file.read_text())["cells"] if len(str(c["mean"])) > 11)
    for path in (csv_file, json_file):
        path.write_text(path.read_text().replace(str(mean), str(mean * (1 + 5 * size))))
    found = lines(board)
    assert (found == []) is passes
    assert passes or all(str(mean) in line for line in found if "further" not in line)


def test_another_text_of_the_same_number_is_a_mismatch(board: Path) -> None:
    path = board / "table.csv"
    text, changed = re.subn(r",(\d+\.\d+),", r",\g<1>0,", path.read_text(), count=1)
    assert changed
    path.write_text(text)
    assert [line for line in lines(board) if line.startswith("table.csv")]


def test_verify_needs_no_torch(board: Path, tmp_path: Path) -> None:
    blocked = ("torch", "transformers", "avalanche", "peft", "tokenizers", "datasets")
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked}:\n"
        "            raise ImportError(f'{name} is not here')\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from seqmem.cli import main\n"
        f"sys.argv = ['seqmem', 'leaderboard', 'verify', {str(board)!r}]\n"
        "main()\n"
    )
    sound = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (sound.returncode, sound.stderr) == (0, ""), sound.stdout
    assert sound.stdout == f"{board.name}: no mismatches\n"
    (board / "table.csv").write_text((board / "table.csv").read_text().replace("retention", "retentoin", 1))
    wrong = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert f"{board.name}/table.csv: row naive: line 2" in wrong.stdout or "retentoin" in wrong.stdout


def swap(one: Path, other: Path, name: str = "probes.parquet") -> None:
    first, second = read_bytes(one / name), read_bytes(other / name)
    assert first != second
    put(one / name, second)
    put(other / name, first)


def test_a_table_swapped_between_two_records_is_named(board: Path) -> None:
    one, other = record_of(board, "naive", 0), record_of(board, "replay", 0)
    swap(one, other)
    relisted(board)
    found = lines(board)
    for record in (one, other):
        assert any(
            f"records/{record.parent.name}/{record.name}/probes.parquet: SHA-256, as run.json has it" in line
            for line in found
        )


def test_swapped_records_of_two_seeds_are_named(board: Path) -> None:
    one, other = record_of(board, "naive", 0), record_of(board, "naive", 1)
    rename(one, "away")
    rename(other, one.name)
    rename(one.with_name("away"), other.name)
    relisted(board)
    found = [line for line in lines(board) if "end of the folder's name" in line]
    assert len(found) == 2
    assert f"records/naive.zip/{one.name}: row naive, seed 1: " in found[0] + found[1]


def test_a_record_of_another_strategy_in_place_is_named(board: Path) -> None:
    one, other = record_of(board, "naive", 0), record_of(board, "replay", 0)
    rename(one, one.name, files_of(other))
    relisted(board)
    found = lines(board)
    assert any(
        f"records/naive.zip/{one.name}: row replay, seed 0: end of the folder's name" in line
        for line in found
    )
    assert any("row naive, seed 0: run: expected a record, found none" in line for line in found)
    assert any("row replay, seed 0: run: expected only" in line for line in found)


def test_a_missing_seed_is_named_though_manifest_and_tables_agree(board: Path) -> None:
    from seqmem.board.build import build
    from seqmem.scoring.tables import load_metrics

    remove(record_of(board, "replay", 1))
    assert any(line.endswith("found no such file") for line in lines(board))
    build(board, load_metrics(registry())[0], registry())
    found = lines(board)
    assert "records: row replay, seed 1: run: expected a record, found none" in found
    assert (
        "records: row replay, seed 1: run beside its control shuffled: expected a record, found none" in found
    )


def test_a_missing_control_is_named(board: Path) -> None:
    remove(record_of(board, "replay", 1, "shuffled"))
    relisted(board)
    assert "records: row replay, seed 1: run of control shuffled: expected a record, found none" in lines(
        board
    )


def test_another_scenario_version_is_named(board: Path) -> None:
    path = board / "board.toml"
    version = read_rules(board).version
    path.write_text(path.read_text().replace(f'version = "{version}"', 'version = "0"'))
    relisted(board)
    found = lines(board)
    assert any(f"naive, seed 0: scenario version: expected 0, found {version}" in line for line in found)
    assert any("name of the board's folder: expected memory_loops-v0-smoke" in line for line in found)


def test_another_recipe_under_the_old_id_is_named(board: Path) -> None:
    record = record_of(board, "replay", 0)
    edit_run(record, lambda info: info["recipe"]["optimizer"].update(lr=0.5))
    relisted(board)
    assert "id must be the hash of the recipe" in "\n".join(lines(board))


def change_recipe(**changes: Any) -> Callable[[Path], object]:
    """The change of a record to one whose recipe differs here."""

    def differ(recipe: dict[str, Any]) -> None:
        for name, value in changes.items():
            place, _, key = name.rpartition("__")
            (recipe[place] if place else recipe)[key] = value

    return lambda record: edit_recipe(record, differ)


def change_run(**changes: Any) -> Callable[[Path], object]:
    """The change of a record to one whose run.json differs here."""
    return lambda record: edit_run(record, lambda info: info.update(changes))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (change_recipe(model__fingerprint="f" * 64), "fingerprint of model tiny"),
        (change_recipe(model__dtype="bfloat16"), "dtype: expected float32"),
        (change_recipe(probing="every"), "probing: expected schedule"),
        (change_recipe(optimizer__lr=0.5), 'optimizer: expected {"lr"'),
        (change_recipe(strategy__version="0"), "version of strategy replay"),
        (change_recipe(text__content="another"), "content of the text"),
        (change_recipe(seed=100), "found 100, a tuning seed"),
        (change_run(contamination={"twin": "loop 0"}), "controls: expected never trained"),
        (change_run(content="else"), "content of the trained stream, as of row naive"),
        (change_run(status="running"), "status: expected finished"),
        (change_run(accepted_audit=["twins"]), "audit before the first step: expected passed"),
    ],
)
def test_a_run_that_breaks_a_rule_is_named(
    board: Path, change: Callable[[Path], object], expected: str
) -> None:
    change(record_of(board, "replay", 0))
    relisted(board)
    assert any("row replay" in line and expected in line for line in lines(board)), lines(board)


def test_joint_may_train_another_stream_and_a_changed_cell_moves_the_tables(board: Path) -> None:
    edit_run(record_of(board, "joint", 0), lambda info: info.update(content="as joint likes it"))
    relisted(board)
    assert lines(board) == []
    record = record_of(board, "joint", 0)
    table = get_table(record / "probes.parquet")
    wrong = pa.array([False] * len(table))
    put_table(
        record / "probes.parquet", table.set_column(table.schema.names.index("correct"), "correct", wrong)
    )
    rehashed(record)
    relisted(board)
    found = lines(board)
    assert found and all(line.startswith(("TABLE.md", "table.csv", "table.json")) for line in found)
    assert any("row joint" in line for line in found)


def test_other_items_for_one_strategy_are_named(board: Path) -> None:
    record = record_of(board, "replay", 0)
    archive = board / "items.zip"
    named = f"items-{json.loads(read_bytes(record / 'run.json'))['items']}.parquet"
    files = members(archive)
    write_archive(archive, {**files, "items-0123456789abcdef.parquet": files[named]})
    edit_run(record, lambda info: info.update(items="0123456789abcdef"))
    relisted(board)
    found = "\n".join(lines(board))
    assert "items-0123456789abcdef.parquet: was changed or damaged: the hash in its name is not" in found


def test_strange_files_and_metrics_are_named(board: Path) -> None:
    (board / "notes.txt").write_text("psst")
    archive = board / "items.zip"
    write_archive(archive, {**members(archive), "items-0000000000000000.parquet": b""})
    manifest = json.loads((board / "manifest.json").read_text())
    manifest["metrics"]["retention"] = "0"
    manifest["metrics"]["telepathy"] = "1"
    (board / "manifest.json").write_text(json.dumps(manifest))
    found = "\n".join(lines(board))
    assert "notes.txt: file: expected none of this name" in found
    assert "items.zip/items-0000000000000000.parquet: file: expected none of this name" in found
    assert "version of metric retention" in found
    assert "metric telepathy" in found


def test_a_table_taken_away_is_named_though_everything_else_agrees(board: Path) -> None:
    record = record_of(board, "replay", 0)
    put(record / "probes.parquet", None)
    edit_run(record, lambda info: info["files"].pop("probes.parquet"))
    relisted(board)
    found = "\n".join(lines(board))
    assert "row replay, seed 0: answers, as of row naive: expected" in found and "found 0 answers" in found


def nested(record: Path) -> None:
    put(record / "run.json", b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: edit_run(record, lambda info: info.pop("items")),
        lambda record: edit_run(record, lambda info: info.pop("compact")),
        lambda record: edit_run(record, lambda info: info.pop("primary_relation")),
        lambda record: edit_run(record, lambda info: info.pop("files")),
        lambda record: put(record / "run.json", b"[1]"),
        nested,
    ],
)
def test_a_damaged_record_is_named_and_the_others_are_checked(board: Path, change: Any) -> None:
    record = record_of(board, "replay", 0)
    change(record)
    put(record_of(board, "joint", 1) / "steps.parquet", None)
    found = lines(board)
    assert any(line.startswith(f"records/replay.zip/{record.name}") for line in found)
    assert any("joint" in line and "steps.parquet is missing" in line for line in found)


@pytest.mark.parametrize("metrics", [[1], "all", None, {"retention": float("nan")}])
def test_a_damaged_manifest_is_named(board: Path, metrics: Any) -> None:
    manifest = json.loads((board / "manifest.json").read_text())
    (board / "manifest.json").write_text(json.dumps({**manifest, "metrics": metrics}))
    assert any(line.startswith("manifest.json: ") for line in lines(board))


def test_tables_without_the_primary_measure_are_named(board: Path) -> None:
    from seqmem.board.build import build
    from seqmem.scoring.tables import load_metrics

    without = [metric for metric in load_metrics(registry())[0] if metric.name != "retention"]
    build(board, without, registry())
    assert lines(board) == [
        "manifest.json: metrics: expected one that gives the primary measure retention, found none"
    ]


def test_files_that_the_manifest_lists_and_a_board_has_no_use_for_are_named(board: Path) -> None:
    record = record_of(board, "replay", 0)
    plain = ("records/notes.txt", "figures/run.html", "searches/a.txt")
    for name in plain:
        (board / name).parent.mkdir(exist_ok=True)
        (board / name).write_text("psst")
    inside = [f"records/replay.zip/{record.name}/more.parquet", "records/replay.zip/notes.txt"]
    write_archive(
        record.parent,
        {**members(record.parent), **{n.removeprefix("records/replay.zip/"): b"psst" for n in inside}},
    )
    relisted(board)
    found = lines(board)
    assert {line.partition(": ")[0] for line in found if "none of this name" in line} == {*plain, *inside}


def test_a_link_is_named(board: Path, tmp_path: Path) -> None:
    archive = record_of(board, "replay", 0).parent
    archive.rename(tmp_path / archive.name)
    archive.symlink_to(tmp_path / archive.name)
    relisted(board)
    assert any(
        line.startswith("records/replay.zip: file: expected none that points") for line in lines(board)
    )


def test_a_record_in_the_archive_of_another_row_is_named(board: Path) -> None:
    record = record_of(board, "replay", 0)
    naive = record.parent.with_name("naive.zip")
    moved = {f"{record.name}/{name}": content for name, content in files_of(record).items()}
    write_archive(naive, {**members(naive), **moved})
    remove(record)
    relisted(board)
    assert {line for line in lines(board) if "SHA-256" not in line} == {
        f"records/naive.zip/{record.name}: file: expected none of this name, found one",
        f"records/replay.zip/{record.name}: file: expected one, found none",
    }


def test_an_archive_with_the_same_members_in_other_bytes_is_named(board: Path) -> None:
    archive = board / "records" / "replay.zip"
    with zipfile.ZipFile(archive, "a") as opened:
        opened.comment = b"psst"
    relisted(board)
    assert lines(board) == [
        "records/replay.zip: bytes: expected those that `submit` writes, found the same members in others"
    ]


@pytest.mark.parametrize("name", ["records/replay.zip", "items.zip"])
def test_an_archive_that_cannot_be_read_is_named(board: Path, name: str) -> None:
    content = (board / name).read_bytes()
    (board / name).write_bytes(content[: len(content) // 2])
    (line,) = lines(board)
    assert (
        line.startswith("records: archives: expected ones that can be read, found ") and f"/{name}: " in line
    )
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("bomb", b"0" * 1000)
    (board / name).write_bytes(compressed.getvalue())
    (line,) = lines(board)
    assert "stored members (bomb is compressed)" in line


# --- tampering ----------------------------------------------------------------------------------------------


def tamper(folder: Path, dice: random.Random) -> str:
    """Change one value somewhere on the board; says where."""
    kinds: list[Callable[[Path, random.Random], str]] = [
        _cell,
        _run_value,
        _text("board.toml"),
        _text("table.csv"),
        _text("TABLE.md"),
        _json("table.json"),
        _json("manifest.json"),
        _item,
        _byte,
    ]
    return dice.choice(kinds)(folder, dice)


def _another(value: Any, dice: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + dice.choice((-1, 1))
    if isinstance(value, float):
        return value * 1.01 + 0.001
    return f"{value}x" if isinstance(value, str) else 1


def _cell(folder: Path, dice: random.Random) -> str:
    record = dice.choice(record_folders(folder))
    return _changed_cell(record / dice.choice(sorted(files_of(record).keys() - {"run.json"})), dice)


def _item(folder: Path, dice: random.Random) -> str:
    archive = folder / "items.zip"
    return _changed_cell(archive / dice.choice(sorted(members(archive))), dice)


def _byte(folder: Path, dice: random.Random) -> str:
    path = dice.choice(sorted(folder.rglob("*.zip")))
    content = bytearray(path.read_bytes())
    place = dice.randrange(len(content))
    content[place] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    return f"{path.name}[{place}]"


def _changed_cell(path: Path, dice: random.Random) -> str:
    table = get_table(path)
    names = [name for name in table.schema.names if not pa.types.is_list(table.schema.field(name).type)]
    column, row = dice.choice(names), dice.randrange(len(table))
    values = table[column].to_pylist()
    before = values[row]
    kind = table.schema.field(column).type
    values[row] = _another("" if before is None and pa.types.is_string(kind) else before, dice)
    changed = table.set_column(table.schema.names.index(column), column, pa.array(values, kind))
    put_table(path, changed)
    return f"{path.name} {column}[{row}] {before!r}"


def _leaves(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every single value."""
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    found = []
    for key, inner in pairs:
        found += _leaves(inner) if isinstance(inner, dict | list) and inner else [(value, key)]
    return found


def _changed_json(path: Path, dice: random.Random) -> str:
    value = json.loads(read_bytes(path))
    container, key = dice.choice(_leaves(value))
    before = container[key]
    container[key] = _another(before, dice)
    put(path, (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode())
    return f"{path.name} {key} {before!r}"


def _run_value(folder: Path, dice: random.Random) -> str:
    return _changed_json(dice.choice(record_folders(folder)) / "run.json", dice)


def _json(name: str) -> Callable[[Path, random.Random], str]:
    return lambda folder, dice: _changed_json(folder / name, dice)


def _text(name: str) -> Callable[[Path, random.Random], str]:
    def change(folder: Path, dice: random.Random) -> str:
        text = (folder / name).read_text(encoding="utf-8")
        places = [place for place, sign in enumerate(text) if sign.isalnum()]
        place = dice.choice(places)
        digit = dice.choice([sign for sign in "0123456789" if sign != text[place]])
        (folder / name).write_text(text[:place] + digit + text[place + 1 :], encoding="utf-8")
        return f"{name} at {place}"

    return change


def caught(original: Path, home: Path, seeds: range) -> list[str]:
    """Tamper once per seed, each time with a fresh copy; what verify did not see."""
    missed = []
    for seed in seeds:
        folder = Path(shutil.copytree(original, home / str(seed) / original.name))
        where = tamper(folder, random.Random(seed))
        if not verify(folder, registry()):
            missed.append(f"{seed}: {where}")
        shutil.rmtree(home / str(seed))
    return missed


def test_random_changes_are_caught(original: Path, tmp_path: Path) -> None:
    assert caught(original, tmp_path, range(12)) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_random_changes_are_caught(original: Path, tmp_path: Path) -> None:
    assert caught(original, tmp_path, range(1000, 1200)) == []


def test_metrics_of_the_small_board_are_few() -> None:
    assert set(metric_versions(registry())) == set(METRICS)
