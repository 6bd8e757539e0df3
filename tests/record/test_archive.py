"""Archives: the same bytes everywhere, and records in them are read as those in folders are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest
from helpers_records import Answer, Layout, write_record

from seqmem.core.errors import UsageError
from seqmem.core.recipe import recipe_id
from seqmem.record.archive import archive_of, exists, members, packed, read_bytes, write_archive
from seqmem.record.compact import compact_of
from seqmem.record.reader import RunRecord
from seqmem.record.tables import ITEMS_ARCHIVE

FILES = {"b/run.json": b"{}", "b/probes.parquet": b"PAR1", "a/run.json": b"[]"}


def test_an_archive_has_the_same_bytes_on_every_day_and_python() -> None:
    content = packed(FILES)
    assert content == packed(dict(reversed(FILES.items())))
    assert (
        hashlib.sha256(content).hexdigest()
        == "3ab2c57b78617b7f6fac0e5614015542ee3359f5d0fdf41850a0a1c218f01297"
    )


def test_members_are_read_by_paths_into_the_archive(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    write_archive(archive, FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"] and members(archive) == FILES
    assert read_bytes(archive / "b" / "probes.parquet") == b"PAR1"
    assert exists(archive / "a" / "run.json") and not exists(archive / "c" / "run.json")
    assert archive_of(archive / "a") == archive and archive_of(archive) is None
    with pytest.raises(FileNotFoundError, match=r"x\.zip/c/run\.json"):
        read_bytes(archive / "c" / "run.json")
    write_archive(archive, {"c/run.json": b"1"})  # what was read before is not kept
    assert read_bytes(archive / "c" / "run.json") == b"1"


def test_a_folder_that_is_called_like_an_archive_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "x.zip"
    folder.mkdir()
    (folder / "run.json").write_bytes(b"1")
    assert read_bytes(folder / "run.json") == b"1" and exists(folder / "run.json")


def test_what_is_not_an_archive_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK, but not really")
    with pytest.raises(UsageError, match=r"x\.zip: cannot be read as a ZIP file of stored members"):
        RunRecord.open(path / "run")


def test_a_record_in_an_archive_reads_as_the_one_in_a_folder(tmp_path: Path) -> None:
    full = write_record(
        tmp_path / f"run-{recipe_id({'seed': 0})}",
        lambda ask, random: Answer(loss=2.0),
        Layout(loops=2, cycles=2, facts=2),
    )
    compact = compact_of(full)
    archive = tmp_path / "records" / "row.zip"
    write_archive(archive, {f"{compact.name}/{name}": content for name, content in compact.files.items()})
    write_archive(tmp_path / ITEMS_ARCHIVE, dict([compact.items]))
    record = RunRecord.open(archive / compact.name)
    assert record.folder.name == compact.name and record.compact and record.id == full.id
    for table in ("items", "experiences", "exposures", "steps"):
        pd.testing.assert_frame_equal(
            getattr(record, table), getattr(full, table), check_exact=False, rtol=2e-4
        )
    assert len(record.asked(schedule="boundary")) == len(full.asked(schedule="boundary")) > 0
