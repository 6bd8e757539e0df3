"""Records prove themselves: whatever is changed, cut, missing, doubled or renamed is an error that names the file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers_boards import edit_run, write_bench
from helpers_records import Answer, Ask, Layout, write_compact, write_record

from seqmem.core.errors import UsageError
from seqmem.core.recipe import recipe_id
from seqmem.planning.store import read_bench
from seqmem.record.archive import write_archive
from seqmem.record.compact import compact_of
from seqmem.record.files import sealed, unsealed, write_sealed
from seqmem.record.reader import RunRecord
from seqmem.record.schema import TABLES
from seqmem.record.tables import ITEMS_ARCHIVE

SMALL = Layout(loops=2, cycles=1, facts=2, rest=6, even=2)
FLIPS = 12
"""Bits flipped in each file, and as many cuts."""


def learner(ask: Ask, draw: np.random.Generator) -> Answer:
    return Answer(bool(draw.random() < 0.5), float(3 + draw.random()), -1.5, 0)


def written(folder: Path) -> RunRecord:
    return write_record(folder / f"run-{recipe_id({'seed': 0})}", learner, SMALL)


def plain(folder: Path) -> Path:
    return written(folder).folder


def compact(folder: Path) -> Path:
    return write_compact(written(folder / "full"), folder / "compact")


def archived(folder: Path) -> Path:
    made = compact_of(written(folder / "full"))
    archive = folder / "board" / "records" / "row.zip"
    write_archive(archive, {f"{made.name}/{name}": content for name, content in made.files.items()})
    write_archive(folder / "board" / ITEMS_ARCHIVE, dict([made.items]))
    return archive / made.name


def said(record: Path) -> dict[str, str]:
    """Everything that a record says."""
    run = RunRecord.open(record)
    frames = {name: getattr(run, name) for name in ("items", *TABLES)}
    return {"run.json": json.dumps(run.info)} | {name: frame.to_json() for name, frame in frames.items()}


@pytest.mark.parametrize("layout", [plain, compact, archived])
def test_no_flipped_bit_and_no_cut_changes_what_a_record_says(
    layout: Callable[[Path], Path], tmp_path: Path
) -> None:
    record = layout(tmp_path)
    before = said(record)
    home = record if layout is plain else record.parents[2 if layout is archived else 0]
    draw, refused = random.Random(1), 0
    files = sorted(path for path in home.rglob("*") if path.is_file())
    for path in files:
        content = path.read_bytes()
        for number in range(2 * FLIPS):
            damaged = bytearray(content)
            if number < FLIPS:
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
            else:
                del damaged[draw.randrange(len(damaged)) :]
            path.write_bytes(damaged)
            try:
                assert said(record) == before
            except UsageError as error:
                refused += 1
                assert "\n" not in str(error) and str(tmp_path) in str(error)
        path.write_bytes(content)
    assert said(record) == before and refused > 0.8 * 2 * FLIPS * len(files)


def part_of(record: Path, table: str) -> Path:
    return record / table / "part-00000.parquet"


@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_part_that_is_missing_doubled_or_renamed_is_named(table: str, tmp_path: Path) -> None:
    record = plain(tmp_path)
    part, other = part_of(record, table), record / table / "part-00001.parquet"
    shutil.copyfile(part, other)
    with pytest.raises(UsageError, match=f"{table}/part-00001.parquet does not belong there"):
        RunRecord.open(record)
    part.unlink()
    with pytest.raises(UsageError, match=f"{table}/part-00000.parquet is missing"):
        RunRecord.open(record)
    other.unlink()
    with pytest.raises(UsageError, match=f"{table}/part-00000.parquet is missing"):
        RunRecord.open(record)


def test_parts_of_one_record_do_not_pass_as_those_of_another(tmp_path: Path) -> None:
    record = plain(tmp_path / "a")
    other = write_record(tmp_path / "b" / "run", learner, SMALL, seed=1)
    shutil.copyfile(part_of(other.folder, "probes"), part_of(record, "probes"))
    with pytest.raises(UsageError, match=r"probes/part-00000.parquet: was changed or damaged"):
        _ = RunRecord.open(record).probes


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {"seed": 1}},
        {"steps": 3},
        {"final": "0" * 64},
        {"contamination": {}},
        {"status": "failed"},
        {"format": 5},
        {"sha256": None},
    ],
)
def test_a_run_json_that_was_edited_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    path = plain(tmp_path) / "run.json"
    info = json.loads(path.read_text()) | {"contamination": {"t0": "loop 0"}}
    write_sealed(path, info)
    RunRecord.open(path.parent)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=r"run.json: not a readable run record \(it was changed or damaged"):
        RunRecord.open(path.parent)


def test_an_id_that_is_not_of_its_recipe_is_refused_though_the_hash_agrees(tmp_path: Path) -> None:
    record = plain(tmp_path)
    edit_run(record, lambda info: info["recipe"].update(seed=1))
    with pytest.raises(UsageError, match="id must be the hash of the recipe"):
        RunRecord.open(record)


def test_one_record_is_not_three_seeds(tmp_path: Path) -> None:
    write_bench(tmp_path, strategy=("naive",))
    (described,) = tmp_path.glob("boards/*/bench.json")
    bench = json.loads(described.read_text())
    runs = bench["rows"][0]["runs"]
    bench["rows"][0]["runs"] = {**runs, "7": runs["0"]}
    described.write_text(json.dumps(bench))
    with pytest.raises(UsageError, match=r"bench.json: not a readable board \(it was changed or damaged"):
        read_bench(described.parent)
    write_sealed(described, bench)
    with pytest.raises(UsageError, match=r"for seed 7, which is the record of run [0-9a-f]{16} with seed 0"):
        read_bench(described.parent)


def test_the_hash_of_a_file_is_that_of_what_it_says_however_it_is_set() -> None:
    value = {"b": (1, 2.5), "a": {3: "ä"}}
    text = json.dumps(sealed(value), indent=7, ensure_ascii=True)
    assert unsealed(text.encode(), since=0) == {"b": [1, 2.5], "a": {"3": "ä"}}
    assert sealed(sealed(value)) == sealed(value)
    for wrong in ("[]", "1", "{}", '{"sha256": "0"}', "[" * 100_000, '{"a":'):
        with pytest.raises(ValueError):
            unsealed(wrong.encode(), since=0)
    assert unsealed(b'{"format": 1}', since=2) == {"format": 1}
    with pytest.raises(ValueError):
        unsealed(b'{"format": 2}', since=2)
