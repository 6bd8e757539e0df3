"""Compact records: the same bytes every time, the same tables but for the stated rounding, the same metrics."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers_records import Answer, Ask, Layout, seal_record, write_compact, write_record

from seqmem.core.errors import UsageError
from seqmem.core.recipe import recipe_id
from seqmem.plugin.registry import Registry
from seqmem.record.compact import ROUNDING, check_same_run, compact_of, rounded
from seqmem.record.files import sha256, write_sealed
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.record.schema import TABLES
from seqmem.record.tables import items_hash
from seqmem.scoring.scores import score_rows

RUN = f"run-s0-{recipe_id({'seed': 0})}"
SMALL = Layout(loops=2, cycles=2, facts=2, rest=20, even=4)


def learner(ask: Ask, random: np.random.Generator) -> Answer:
    kept = 0.0 if ask.twin or not ask.seen else 0.8 * np.exp(-ask.age / 50)
    return Answer(bool(random.random() < kept), float(3 - 2 * kept + random.random()), -1.5, 0)


@pytest.fixture
def full(tmp_path: Path) -> RunRecord:
    return write_record(tmp_path / "full" / RUN, learner, SMALL)


def test_a_record_is_made_compact_twice_to_the_same_bytes(full: RunRecord, tmp_path: Path) -> None:
    first = compact_of(full)
    assert compact_of(RunRecord.open(full.folder)) == first
    assert compact_of(RunRecord.open(write_compact(full, tmp_path / "a"))) == first
    assert sorted(first.files) == [
        "experiences.parquet",
        "exposures.parquet",
        "probes.parquet",
        "run.json",
        "steps.parquet",
    ]


def test_tables_come_back_but_for_the_stated_rounding(full: RunRecord, tmp_path: Path) -> None:
    compact = RunRecord.open(write_compact(full, tmp_path / "a"))
    for name in ("experiences", "exposures", "measured", "steps"):
        pd.testing.assert_frame_equal(
            getattr(compact, name), getattr(full, name), check_exact=False, rtol=2e-4
        )
    pd.testing.assert_frame_equal(compact.items, full.items)
    keys = ["experience", "step", "after", "schedule", "probe"]
    ours = compact.probes.sort_values(keys, ignore_index=True)
    theirs = full.probes.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(ours.drop(columns="logprob"), theirs.drop(columns="logprob"))
    far = (ours["logprob"] - theirs["logprob"]).abs()
    assert far.max() > 0 and (far <= np.maximum(2**-7, theirs["logprob"].abs() * 2**-10)).all()
    assert compact.probes["step"].is_monotonic_increasing
    assert set(compact.info["compact"]) == {
        f"{table}.{column}" for table in ("probes", "steps") for column in ROUNDING[table]
    }


def test_run_json_states_the_hash_of_every_table_and_of_the_items(full: RunRecord, tmp_path: Path) -> None:
    folder = write_compact(full, tmp_path / "a")
    info = json.loads((folder / "run.json").read_text())
    assert info["files"] == {
        path.name: {"rows": len(pq.read_table(path)), "sha256": sha256(path.read_bytes())}
        for path in folder.glob("*.parquet")
    }
    (items,) = (tmp_path / "a").glob("items-*.parquet")
    assert items.name == f"items-{info['items']}.parquet"
    assert (
        info["items"] == items_hash(full.tables.items()) == items_hash(RunRecord.open(folder).tables.items())
    )


def test_rounding_keeps_what_is_not_finite_and_is_not_done_twice() -> None:
    values = np.array([0.3, -1e-9, np.nan, np.inf, -np.inf, -1234.567, 1e-30, 5e-324, 3.9999])
    fixed = rounded(values, 2**-9, 53)
    assert fixed[0] == 154 / 512 and fixed[1] == 0 and math.copysign(1, fixed[1]) == 1
    digits = rounded(values, 0, 11)
    assert digits[5] == -1235.0 and digits[7] == 5e-324 and digits[8] == 4.0
    assert abs(digits[6] / values[6] - 1) <= 2**-11
    both = rounded(values, 2**-9, 11)
    assert (both[0], both[5], both[8]) == (154 / 512, -1235.0, 4.0)
    for found, multiple, places in ((fixed, 2**-9, 53), (digits, 0, 11), (both, 2**-9, 11)):
        np.testing.assert_array_equal(found[2:5], [np.nan, np.inf, -np.inf])
        np.testing.assert_array_equal(rounded(found, multiple, places), found)


def test_odd_numbers_survive(full: RunRecord, tmp_path: Path) -> None:
    part = next((full.folder / "probes").glob("part-*.parquet"))
    table = pq.read_table(part)
    logprob = table["logprob"].to_pylist()
    logprob[:4] = [float("nan"), float("-inf"), -1e300, -0.0]
    choice = pa.array([0.5, None, *table["best_other"].to_pylist()[2:]], pa.float64())
    table = table.set_column(table.schema.names.index("logprob"), "logprob", pa.array(logprob, pa.float64()))
    pq.write_table(table.set_column(table.schema.names.index("best_other"), "best_other", choice), part)
    odd = seal_record(full.folder, full.info)
    compact = RunRecord.open(write_compact(odd, tmp_path / "a"))
    asked = odd.tables.read("probes")
    first = [(asked["probe"][i].as_py(), tuple(asked["schedule"][i].as_py())) for i in range(4)]
    back = compact.tables.read("probes").to_pylist()
    found = {(row["probe"], tuple(row["schedule"])): row for row in reversed(back) if row["step"] == 0}
    numbers = [found[key]["logprob"] for key in first]
    assert (
        math.isnan(numbers[0]) and numbers[1] == -math.inf and numbers[2] == pytest.approx(-1e300, rel=1e-3)
    )
    assert [found[key]["best_other"] for key in first[:2]] == [0.5, None]


def test_plain_readers_need_to_know_nothing(full: RunRecord, tmp_path: Path) -> None:
    folder = write_compact(full, tmp_path / "a")
    table = pq.read_table(folder / "probes.parquet")
    assert table.schema.names == TABLES["probes"].names
    assert table.schema.metadata is None
    plain = pd.read_parquet(folder / "probes.parquet")
    assert plain["logprob"].dtype == np.float32 and plain["step"].dtype == np.int32


def test_metrics_agree_on_both_layouts(tmp_path: Path) -> None:
    registry = Registry.from_environment()
    metrics = [
        registry.load("metric", name) for name in ("retention", "general_ability", "cost", "twin_recall")
    ]
    full = [
        write_record(tmp_path / "full" / f"run-{recipe_id({'seed': seed})}", learner, SMALL, seed=seed)
        for seed in (0, 1)
    ]
    compact = [RunRecord.open(write_compact(run, tmp_path / "a")) for run in full]
    ours, theirs = (
        score_rows([Row("row", {}, {run.seed: run for run in runs})], metrics) for runs in (compact, full)
    )
    pd.testing.assert_frame_equal(ours, theirs, check_exact=False, rtol=0, atol=4e-3)
    assert ours["value"].notna().sum() > 10


def test_another_record_of_a_run_is_refused(full: RunRecord, tmp_path: Path) -> None:
    there = RunRecord.open(write_compact(full, tmp_path / "a"))
    other = write_record(tmp_path / "other" / RUN, lambda ask, random: Answer(loss=2.0), SMALL)
    with pytest.raises(
        UsageError, match=r"holds another record of this run .*probes.parquet, run.json differ"
    ):
        check_same_run(there, compact_of(other))


def test_the_same_run_made_again_is_the_same_record(full: RunRecord, tmp_path: Path) -> None:
    there = RunRecord.open(write_compact(full, tmp_path / "a"))
    again = write_record(
        tmp_path / "again" / RUN, learner, SMALL, info={"seconds": 9.0, "date": "2026-05-05"}
    )
    check_same_run(there, compact_of(again))
    other = write_record(tmp_path / "o" / RUN, learner, SMALL, info={"final_weights": "others"})
    with pytest.raises(UsageError, match=r"\(run.json differ\)"):
        check_same_run(there, compact_of(other))


def test_the_same_run_made_again_in_a_newer_format_is_the_same_record(
    full: RunRecord, tmp_path: Path
) -> None:
    folder = write_compact(full, tmp_path / "a")
    probes = pq.read_table(folder / "probes.parquet")
    place = probes.schema.names.index("schedule")
    joined = pc.binary_join(probes["schedule"], "+")
    pq.write_table(probes.set_column(place, "schedule", joined), folder / "probes.parquet")
    info = json.loads((folder / "run.json").read_text())
    for later in ("design", "files", "sha256"):
        info.pop(later)
    tables = {path.stem: sha256(path.read_bytes()) for path in folder.glob("*.parquet")}
    (folder / "run.json").write_text(json.dumps({**info, "format": 3, "tables": tables}))
    check_same_run(RunRecord.open(folder), compact_of(full))


def test_only_finished_runs_under_their_own_name_are_kept(tmp_path: Path) -> None:
    unfinished = write_record(tmp_path / "u" / RUN, learner, SMALL, info={"status": "failed"})
    with pytest.raises(UsageError, match="the run is failed; only finished runs"):
        compact_of(unfinished)
    misnamed = write_record(tmp_path / "m" / "run-of-another", learner, SMALL)
    with pytest.raises(UsageError, match=f"must end in -{misnamed.id}"):
        compact_of(misnamed)


def test_a_record_whose_items_are_gone_or_strange_says_so(full: RunRecord, tmp_path: Path) -> None:
    folder = write_compact(full, tmp_path / "a")
    for items in (tmp_path / "a").glob("items-*.parquet"):
        items.unlink()
    with pytest.raises(UsageError, match=r"items-[0-9a-f]{16}.parquet: cannot be read"):
        _ = RunRecord.open(folder).probes
    info = json.loads((folder / "run.json").read_text())
    write_sealed(folder / "run.json", {**info, "items": "../../etc/passwd"})
    with pytest.raises(UsageError, match="names no items but"):
        _ = RunRecord.open(folder).items


def test_a_probe_that_no_item_explains_is_an_error(full: RunRecord) -> None:
    items = pq.read_table(full.folder / "items.parquet")
    pq.write_table(items.slice(1), full.folder / "items.parquet")
    seal_record(full.folder, full.info)
    with pytest.raises(UsageError, match=f"probes name '{items['probe'][0]}', which is not among its items"):
        _ = RunRecord.open(full.folder).probes


def asked_slowly(run: RunRecord, **wanted: Any) -> pd.DataFrame:
    """`asked` row by row, as its docstring defines it."""
    rows = run.probes
    keep = [
        row["relation"] == wanted["relation"]
        and row["cue"] == wanted["cue"]
        and pd.notna(row["twin_of"]) == wanted["twins"]
        and (wanted["schedule"] is None or wanted["schedule"] in row["schedule"])
        for _, row in rows.iterrows()
    ]
    return rows[keep]


@pytest.mark.parametrize("schedule", ["boundary", "ladder", "even", None, "none such"])
@pytest.mark.parametrize("twins", [True, False])
def test_asked_gives_the_rows_asked_for(full: RunRecord, schedule: str | None, twins: bool) -> None:
    for relation, cue in (("question", "none"), ("verbatim", "own")):
        wanted: dict[str, Any] = {"schedule": schedule, "relation": relation, "cue": cue, "twins": twins}
        pd.testing.assert_frame_equal(full.asked(**wanted), asked_slowly(full, **wanted))


@pytest.mark.slow
def test_a_million_answers_are_joined_in_a_few_times_what_reading_them_takes(tmp_path: Path) -> None:
    small = write_record(tmp_path / "full" / RUN, learner, SMALL)
    part = next((small.folder / "probes").glob("part-*.parquet"))
    table = pq.read_table(part)
    boundary = len(small.asked(schedule="boundary"))
    copies = -(-1_000_000 // len(table))
    for number in range(1, copies):
        shutil.copy(part, part.with_name(f"part-{number:05d}.parquet"))
    run = RunRecord.open(small.folder)
    started = time.process_time()
    plain = pa.concat_tables(map(pq.read_table, sorted(part.parent.glob("*.parquet")))).to_pandas()
    between = time.process_time()
    asked = run.asked(schedule="boundary")
    ratio = (time.process_time() - between) / (between - started)
    assert len(run.probes) == len(plain) == copies * len(table) >= 1_000_000
    assert len(asked) == copies * boundary
    print(f"\njoined in {ratio:.1f} times what a plain reading of the parts takes")
    assert ratio < 3
