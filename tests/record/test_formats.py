"""Records of older formats read as those of the present one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers_records import Answer, Ask, Layout, seal_record, write_compact, write_record

from seqmem import Design, ProbePoint, RunRecord, UsageError
from seqmem.core.recipe import recipe_id
from seqmem.reading import scheduled
from seqmem.record.schema import FORMAT

LAYOUT = Layout(loops=2, cycles=2, facts=2, rest=20, even=4)


def guesses(ask: Ask, random: np.random.Generator) -> Answer:
    return Answer(bool(random.random() < 0.5), 1.0)


def present(folder: Path, **info: Any) -> RunRecord:
    """A record of the present format in which some answers stand on two schedules."""
    run = write_record(folder, guesses, LAYOUT, info=info)
    part = next((run.folder / "probes").glob("*.parquet"))
    table = pq.read_table(part)
    names = [["even", "log"] if one == ["log"] else one for one in table["schedule"].to_pylist()]
    place = table.schema.names.index("schedule")
    pq.write_table(table.set_column(place, "schedule", pa.array(names, pa.list_(pa.string()))), part)
    return seal_record(run.folder, run.info)


def aged(run: RunRecord, options: Mapping[str, Any]) -> RunRecord:
    """The same record as format 3 has it: schedules joined by "+", and no design."""
    part = next((run.folder / "probes").glob("*.parquet"))
    table = pq.read_table(part)
    names = ["+".join(one) for one in table["schedule"].to_pylist()]
    pq.write_table(table.set_column(table.schema.names.index("schedule"), "schedule", pa.array(names)), part)
    recipe = {**run.recipe, "scenario": {"options": options}}
    kept = {key: value for key, value in run.info.items() if key not in ("design", "files")}
    folder = run.folder.rename(run.folder.with_name(f"run-{recipe_id(recipe)}"))
    old = {**kept, "format": 3, "recipe": recipe, "id": recipe_id(recipe)}
    (folder / "run.json").write_text(json.dumps(old))
    return RunRecord.open(folder)


def test_joined_schedules_are_read_as_lists(tmp_path: Path) -> None:
    run = present(tmp_path / "new")
    probes, even = run.probes, run.asked(schedule="even")
    assert run.schedules == {"boundary", "ladder", "inside", "even", "log", "general"}
    assert ("even", "log") in set(probes["schedule"]) and len(even) > len(run.asked(schedule="log")) > 0
    assert scheduled(probes, "even").sum() == (probes["schedule"].map(lambda names: "even" in names)).sum()
    old = aged(run, {})
    pd.testing.assert_frame_equal(old.probes, probes)
    pd.testing.assert_frame_equal(old.asked(schedule="even"), even)


def test_an_old_record_made_compact_is_one_of_the_present_format(tmp_path: Path) -> None:
    run = present(tmp_path / f"run-{recipe_id({'seed': 0})}")
    compact = RunRecord.open(write_compact(run, tmp_path / "new"))
    old = aged(run, {"new_loop": True, "loops": 2})
    again = RunRecord.open(write_compact(old, tmp_path / "old"))
    assert again.info["format"] == FORMAT and again.design == old.design == Design(added_loops=(2,))
    pd.testing.assert_frame_equal(again.probes, compact.probes)


@pytest.mark.parametrize(
    ("options", "design"),
    [
        ({"loops": 3, "variant": "own", "new_loop": False}, Design()),
        (
            {"loops": 2, "variant": "conflict", "new_loop": True},
            Design(added_loops=(2,), choice_labels={"loop 0": 0, "loop 1": 1, "loop 2": 2}),
        ),
        ({"local_window": 7, "facts_count": 4}, Design(local_window=7)),
        (
            {"criterion": 2, "max_exposures": 6, "others": 1},
            Design(criterion=2, max_exposures=6, others=1),
        ),
        ({"samples": 10}, Design(samples=10)),
        (
            {"windows": [[3, 5]], "control_windows": [[8, 9]], "zone": 1},
            Design(windows=((3, 5), (8, 9)), scored=1, zone=1),
        ),
        ({"criterion": "twice"}, Design()),
    ],
)
def test_the_design_of_an_old_record_is_that_of_its_options(
    options: dict[str, Any], design: Design, tmp_path: Path
) -> None:
    assert aged(present(tmp_path / "run"), options).design == design


def test_a_stated_design_is_read_back_and_another_is_refused(tmp_path: Path) -> None:
    design = Design(windows=((1, 2),), scored=1, zone=3, choice_labels={"a": 0})
    assert present(tmp_path / "run", design=design.stated()).design == design
    with pytest.raises(UsageError, match=r"not a valid design \(zoom: Extra inputs are not permitted\)"):
        _ = present(tmp_path / "other", design={"zoom": 1}).design


def test_a_probe_point_takes_one_text_apart() -> None:
    assert ProbePoint(0, "facts", "boundary+log") == ProbePoint(0, "facts", ("boundary", "log"))  # type: ignore[arg-type]
