"""`seqmem score`: any metric on stored runs, whatever they lie in."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from helpers_standing import record_of, registry, write_board

from seqmem import cli as _cli  # noqa: F401  (registers the verbs)
from seqmem import scoring_pool
from seqmem.api import load_metrics
from seqmem.cli.app import run as command
from seqmem.leaderboard import score_rows
from seqmem.standing import read_standing
from seqmem.stats import t_interval


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_board(tmp_path_factory.mktemp("standing"))


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
        ]
    )


def test_values_are_csv_or_a_table_for_people(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(output(capsys, str(board), "--metric", "retention", "--csv"))))
    assert {row["seed"] for row in rows} == {"0", "1"} and {row["metric"] for row in rows} == {"retention"}
    table = output(capsys, str(board), "--metric", "retention")
    assert "mean [95 %]" in table and "replay" in table


def test_wrong_requests_are_one_line(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--metric", "retentoin"], "Did you mean 'retention'?"),
        (["--metric", "retention", "--json", "--csv"], "give one of them"),
        ([], "Missing option '--metric'"),
    ):
        assert command(["score", str(board), *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_several_processes_score_what_one_does(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = load_metrics(registry())[0]
    rows = read_standing(board, registry()).rows
    monkeypatch.setattr(scoring_pool, "WORTH", 1)
    with scoring_pool.processes() as pool:
        scores, intact, broken = scoring_pool.scores_of(rows, metrics, registry(), pool)
    assert intact == metrics and broken == []
    alone = pd.concat([score_rows(rows, [metric]) for metric in metrics], ignore_index=True)
    pd.testing.assert_frame_equal(scores, alone)
