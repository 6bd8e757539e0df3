"""`seqmem score`: any metric on stored runs, whatever they lie in."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers_boards import edit_run, record_of, registry, unpack, write_board

from seqmem import cli as _cli  # noqa: F401  (registers the verbs)
from seqmem.board.published import read_board
from seqmem.cli.app import run as command
from seqmem.core.errors import UsageError
from seqmem.planning.store import read_bench
from seqmem.record.files import file_sha256, write_sealed
from seqmem.record.reader import RunRecord
from seqmem.scoring import pool as scoring_pool
from seqmem.scoring.scores import score_rows
from seqmem.scoring.statistics import t_interval
from seqmem.scoring.tables import load_metrics


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_board(tmp_path_factory.mktemp("published"))


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert command(["score", *words]) == 0, capsys.readouterr()
    return str(capsys.readouterr().out)


def test_a_record_alone_is_scored(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = record_of(board, "replay", 1)
    stated = json.loads(output(capsys, str(folder), "--metric", "cost", "--json"))
    values = {one["measure"]: one for one in stated["values"]}
    # two loops visited twice for ten steps each and twenty of rest, of a hundred tokens
    assert values["cost.steps"]["value"] == 60 and values["cost"]["value"] == 6000
    assert (values["cost"]["seed"], values["cost"]["row"]) == (1, folder.name)


def test_rows_have_intervals_over_their_seeds_wherever_they_lie(
    board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stated = json.loads(output(capsys, str(board), "--metric", "retention", "--metric", "cost", "--json"))
    mean = next(one for one in stated["means"] if (one["row"], one["measure"]) == ("replay", "retention"))
    by_seed = {
        one["seed"]: one["value"]
        for one in stated["values"]
        if (one["row"], one["measure"]) == ("replay", "retention")
    }
    expected = t_interval([by_seed[0], by_seed[1]])
    assert (mean["mean"], mean["low"], mean["high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    assert {one["metric"] for one in stated["values"]} == {"retention", "cost"}
    # the bench the board came from holds full records: the tables agree but for the rounding
    bench = json.loads(output(capsys, str(board.parents[1] / "out"), "--metric", "retention", "--json"))
    assert [one["value"] for one in bench["values"]] == pytest.approx(
        [
            one["value"]
            for row in ("naive", "replay", "joint")
            for one in stated["values"]
            if (one["row"], one["metric"]) == (row, "retention")
        ],
        abs=0.002,  # log-probabilities of boards are rounded to one part in 1024
    )


def test_values_are_csv_or_a_table_for_people(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(output(capsys, str(board), "--metric", "retention", "--csv"))))
    assert {row["seed"] for row in rows} == {"0", "1"} and {row["metric"] for row in rows} == {"retention"}
    table = output(capsys, str(board), "--metric", "retention")
    assert "mean [95 %]" in table and "replay" in table


def test_a_name_that_is_a_formula_is_text_in_the_csv(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = next((board.parents[1] / "out" / "records").glob("*replay*"))
    folder = shutil.copytree(record, tmp_path / "=cmd|'x'!A1")
    rows = list(csv.DictReader(io.StringIO(output(capsys, str(folder), "--metric", "cost", "--csv"))))
    assert {row["row"] for row in rows} == {f"'{folder.name}"}
    assert all(float(row["value"]) >= 0 for row in rows)  # numbers stay numbers


def test_wrong_requests_are_one_line(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--metric", "retentoin"], "Did you mean 'retention'?"),
        (["--metric", "retention", "--json", "--csv"], "give one of them"),
        ([], "Missing option '--metric'"),
    ):
        assert command(["score", str(board), *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_rows_of_several_boards_are_told_apart(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def labels(*folders: Path) -> set[str]:
        stated = json.loads(output(capsys, *map(str, folders), "--metric", "cost", "--json"))
        return {one["row"] for one in stated["values"]}

    other, namesake = tmp_path / "other", tmp_path / board.name
    for copy in (other, namesake):
        shutil.copytree(board, copy)
    assert labels(board, board) == {"naive", "replay", "joint"}
    assert labels(board, other) == {f"{b.name}: {r}" for b in (board, other) for r in labels(board)}
    assert labels(board, namesake) == {f"{b}: {r}" for b in (board, namesake) for r in labels(board)}
    records = [record_of(one, "replay", 1) for one in (board, other)]
    assert labels(*records) == {str(record) for record in records}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *(
            (lambda info, key=key: info.pop(key), f"({key} must be {kind} and is missing)")
            for key, kind in (
                ("id", "text"),
                ("recipe", "an object"),
                ("status", "text"),
                ("primary_relation", "text"),
                ("items", "text"),
                ("files", "an object"),
            )
        ),
        (lambda info: info.update(recipe=["x"]), "(recipe must be an object and is ['x'])"),
        (lambda info: info["recipe"].pop("seed"), "(recipe.seed must be a whole number and is missing)"),
        (lambda info: info.update(contamination=["x"]), "(contamination must be an object and is ['x'])"),
    ],
)
def test_a_record_that_lacks_what_readers_need_is_one_line(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Any], Any], said: str
) -> None:
    record = unpack(record_of(board, "replay", 1), tmp_path)
    edit_run(record, change)
    assert command(["score", str(record), "--metric", "retention"]) == 2
    error = capsys.readouterr().err
    assert error == f"seqmem: error: {record / 'run.json'}: not a readable run record {said}\n"


@pytest.mark.parametrize("text", ["[]", "null", '{"a":', "[" * 100_000])
def test_a_run_json_that_is_no_object_is_a_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match=f"{tmp_path}.*: not a readable run record"):
        RunRecord.open(tmp_path)


def proof(path: Path) -> dict[str, Any]:
    return {"rows": pq.read_metadata(path).num_rows, "sha256": file_sha256(path)}


def test_a_damaged_table_is_one_line(board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = unpack(record_of(board, "replay", 1), tmp_path)
    path = record / "probes.parquet"
    whole = pq.read_table(path)
    place = whole.schema.names.index("logprob")
    wrong = whole.set_column(place, "logprob", pa.array(["x"] * len(whole)))
    for table, said in (
        (wrong, "cannot be read as Parquet (Failed to parse string: 'x' as a scalar of type double)"),
        (whole.drop_columns(["step"]), "cannot be read, it lacks the columns step"),
    ):
        pq.write_table(table, path)
        edit_run(record, lambda info: info["files"].update({path.name: proof(path)}))
        assert command(["score", str(record), "--metric", "retention"]) == 2
        assert capsys.readouterr().err == f"seqmem: error: {path}: {said}\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *(
            (lambda bench, key=key: bench.pop(key), f"{key}: Field required")
            for key in ("name", "scenario", "version", "primary", "asked", "rows")
        ),
        (lambda bench: bench["rows"][0].update(runs=[]), "rows.0.runs: Input should be an object"),
        (lambda bench: bench["rows"][0].update(search={"x": 1}), "rows.0.search.scenario: Field required"),
        (lambda bench: bench["rows"].insert(0, 1), "rows.0: Input should be an object"),
    ],
)
def test_a_damaged_bench_names_the_file_and_the_key(
    board: Path, tmp_path: Path, change: Callable[[Any], Any], said: str
) -> None:
    (described,) = (board.parents[1] / "out" / "boards").glob("*/bench.json")
    bench = json.loads(described.read_text("utf-8"))
    change(bench)
    path = tmp_path / described.name
    write_sealed(path, bench)
    with pytest.raises(UsageError) as raised:
        read_bench(tmp_path)
    assert str(raised.value) == f"{path}: not a readable board ({said})"


@pytest.mark.parametrize("text", ["[]", '{"a":', "[" * 100_000])
def test_a_bench_json_that_is_no_object_is_a_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "bench.json").write_text(text)
    with pytest.raises(UsageError, match=r"bench\.json: not a readable board \("):
        read_bench(tmp_path)


def test_several_processes_score_what_one_does(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = load_metrics(registry())[0]
    rows = read_board(board, registry()).rows
    monkeypatch.setattr(scoring_pool, "WORTH", 1)
    with scoring_pool.processes() as pool:
        scores, intact, broken = scoring_pool.scores_of(rows, metrics, registry(), pool)
    assert intact == metrics and broken == []
    alone = pd.concat([score_rows(rows, [metric]) for metric in metrics], ignore_index=True)
    pd.testing.assert_frame_equal(scores, alone)
