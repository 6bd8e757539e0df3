from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from helpers_records import Answer, Ask, Layout, Learner, write_record
from rich.console import Console

from seqmem import Measure, MetricSpec, PluginError, RunRecord, UsageError, Value, tables
from seqmem import leaderboard as lb
from seqmem.leaderboard import Row

SMALL = Layout(loops=2, cycles=1, facts=1, rest=4, even=2)
PRIMARY = {"memory_loops": "score"}


def quiet(ask: Ask, random: object) -> Answer:
    return Answer()


def row(
    folder: Path,
    label: str,
    seeds: int,
    *,
    reference: str | None = "naive",
    learner: Learner = quiet,
    **more: object,
) -> Row:
    records = {
        seed: write_record(folder / f"{hash(label)}-{seed}", learner, SMALL, seed=seed)
        for seed in range(seeds)
    }
    for seed, record in records.items():
        records[seed] = RunRecord(record.folder, {**record.info, "label": label, "id": f"{label}{seed}"})
    facts = {"scenario": "memory_loops", "model": "tiny", "strategy": label}
    return Row(label, facts, records, reference=reference, **more)  # type: ignore[arg-type]


def metric(values: Mapping[str, float | None], direction: str = "higher") -> MetricSpec:
    """Gives a row's value plus a hundredth per seed; odd seeds of a row named None give no value."""

    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        value = values[run.info["label"]]
        if value is None:
            return {"score": Value(None, reason="nobody | knows")}
        return {"score": Value(value + 0.01 * (run.seed % 3), 10)}

    measure = Measure("score", "fraction", direction, "a number")  # type: ignore[arg-type]
    return MetricSpec("score", "1", "a number", (measure,), compute)


def test_a_row_that_ends_in_the_references_weights_is_said_to_have_no_effect(tmp_path: Path) -> None:
    def ending(label: str, *weights: str) -> Row:
        made = row(tmp_path, label, len(weights))
        runs = {
            seed: RunRecord(run.folder, {**run.info, "final_weights": weights[seed]})
            for seed, run in made.runs.items()
        }
        return lb.replace(made, runs=runs)

    rows = [ending("naive", "a", "b"), ending("idle", "a", "b"), ending("once", "a", "c")]
    values = metric({"naive": 0.3, "idle": 0.3, "once": 0.3})
    verdicts = lb.tabulate(rows, [values], PRIMARY).boards[0].verdicts
    assert verdicts["idle"] == "idle had no effect here: its weights end bit for bit as those of naive"
    assert "no effect" not in verdicts["once"] + verdicts["naive"]


def test_scores_are_long_and_missing_is_no_zero(tmp_path: Path) -> None:
    rows = [row(tmp_path, "naive", 2), row(tmp_path, "ewc", 1)]
    scores = lb.score_rows(rows, [metric({"naive": 0.5, "ewc": None})])
    assert tuple(scores.columns) == lb.SCORE_COLUMNS and len(scores) == 3
    assert scores["value"].isna().tolist() == [False, False, True]
    assert scores["reason"].tolist()[2] == "nobody | knows"


def test_table_states_interval_difference_p_and_rank(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", "good", "same")]
    table = lb.tabulate(rows, [metric({"naive": 0.3, "good": 0.6, "same": 0.3})], PRIMARY)
    (board,) = table.boards
    cell = board.cells["good", "score"]
    assert cell.interval is not None and cell.interval.n == 8 and cell.items == 80
    assert cell.difference is not None and cell.difference.interval.mean == pytest.approx(0.3)
    assert cell.difference.p == pytest.approx(2 * 2 / 256)
    assert board.ranks == {"naive": 2, "good": 1, "same": 2}
    assert board.verdicts["good"].endswith("better (p .016)")
    assert "no difference shown (p 1.000)" in board.verdicts["same"]
    assert board.verdicts["naive"].endswith("the reference")


def test_lower_is_better_where_a_measure_says_so(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", "more")]
    (board,) = lb.tabulate(rows, [metric({"naive": 0.3, "more": 0.6}, "lower")], PRIMARY).boards
    assert board.ranks == {"naive": 1, "more": 2}
    assert "worse" in board.verdicts["more"]


def test_few_seeds_have_no_rank_and_no_p(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 3) for name in ("naive", "good")]
    table = lb.tabulate(rows, [metric({"naive": 0.3, "good": 0.6})], PRIMARY)
    (board,) = table.boards
    assert board.ranks == {"naive": None, "good": None}
    assert "3 common seeds: a rank among 2 rows needs 6" in board.no_rank["good"]
    assert "no test (3 common seeds: a test needs 6)" in board.verdicts["good"]
    assert board.cells["good", "score"].difference is not None


def test_six_seeds_cannot_decide_two_comparisons(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 6) for name in ("naive", "good", "best")]
    (board,) = lb.tabulate(rows, [metric({"naive": 0.1, "good": 0.5, "best": 0.9})], PRIMARY).boards
    assert "no verdict, 6 seeds cannot decide 2 comparisons, 7 can" in board.verdicts["best"]
    assert board.ranks["best"] is None


def test_one_seed_and_no_value_are_said(tmp_path: Path) -> None:
    rows = [row(tmp_path, "naive", 1), row(tmp_path, "ewc", 1, failed={4: "NaN loss"})]
    text = tables.to_markdown(lb.tabulate(rows, [metric({"naive": 0.3, "ewc": None})], PRIMARY))
    assert "one seed: no interval" in text
    assert "nobody \\| knows" in text
    assert "seed 4 failed: NaN loss" in text
    assert "a pretrained checkpoint is one" in text
    assert "| - (" in text


def test_rows_of_another_model_are_another_board(tmp_path: Path) -> None:
    other = row(tmp_path, "other", 2, reference=None)
    other = Row(other.label, {**other.facts, "model": "small"}, other.runs)
    table = lb.tabulate([row(tmp_path, "naive", 2), other], [metric({"naive": 0.3, "other": 0.5})], PRIMARY)
    assert [board.model for board in table.boards] == ["tiny", "small"]
    assert "nothing to compare with" in table.boards[1].verdicts["other"]


HOSTILE = (
    "=cmd|'x' <script>alert(1)</script> [red]b[/red] **b** https://evil.example \x1b[31m\u202e @me\n# head"
)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    table = lb.tabulate(
        [row(tmp_path, "naive", 2), row(tmp_path, HOSTILE, 2)],
        [metric({"naive": 0.3, HOSTILE: 0.5})],
        PRIMARY,
    )
    text = tables.to_markdown(table)
    assert "<script" not in text and "\n# head" not in text and "https://" not in text and "**b**" not in text
    assert "\x1b" not in text and "\u202e" not in text and "@me" not in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths <= {5, 4, 8}
    lines = list(csv.DictReader(io.StringIO(tables.to_csv(table))))
    assert all(not line["row"].startswith("=") for line in lines)
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(tables.to_rich(table))
    shown = console.export_text()
    assert "[red]b[/red]" in shown and "\x1b" not in shown


def test_builds_are_the_same_bytes(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 3) for name in ("naive", "good")]
    spec = metric({"naive": 0.3, "good": 0.6})
    for write in (tables.to_markdown, tables.to_csv, tables.to_json):
        assert write(lb.tabulate(rows, [spec], PRIMARY)) == write(lb.tabulate(rows, [spec], PRIMARY))


def test_json_holds_what_a_reader_needs_to_check(tmp_path: Path) -> None:
    rows = [row(tmp_path, "naive", 2), row(tmp_path, "ewc", 1)]
    value = json.loads(tables.to_json(lb.tabulate(rows, [metric({"naive": 0.3, "ewc": None})], PRIMARY)))
    cells = {cell["row"]: cell for cell in value["cells"]}
    assert cells["ewc"]["mean"] is None and cells["ewc"]["reason"]
    assert cells["naive"]["seeds"] == 2 and cells["naive"]["items"] == 20
    assert len(value["scores"]) == 3 and value["scores"][2]["value"] is None
    assert value["runs"]["naive"] == {"0": "naive0", "1": "naive1"}


def test_wrong_requests_name_what_is_wrong(tmp_path: Path) -> None:
    naive = row(tmp_path, "naive", 1)
    spec = metric({"naive": 0.3})
    with pytest.raises(UsageError, match="two rows are called 'naive'"):
        lb.score_rows([naive, naive], [spec])
    with pytest.raises(UsageError, match="no runs"):
        lb.tabulate([], [spec], PRIMARY)
    broken = MetricSpec("score", "1", "", spec.measures, lambda run, controls: {})
    with pytest.raises(PluginError, match="it declares"):
        lb.score_rows([naive], [broken])
    bare = MetricSpec("score", "1", "", spec.measures, lambda run, controls: {"score": 0.3})  # type: ignore[dict-item]
    with pytest.raises(PluginError, match="gave float for 'score', not a seqmem.Value"):
        lb.score_rows([naive], [bare])


def test_a_metric_that_fails_costs_one_run(tmp_path: Path) -> None:
    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        if run.id == "good2":
            raise ZeroDivisionError("no\ncontrol")
        np.divide(1.0, np.zeros(1))  # its warning must not reach the terminal
        return {"score": Value(float("nan") if run.id == "good5" else 0.1 * run.seed)}

    spec = MetricSpec("score", "1", "", metric({}).measures, compute)
    rows = [row(tmp_path, name, 8) for name in ("naive", "good")]
    table = lb.tabulate(rows, [spec], PRIMARY)
    cell = table.boards[0].cells["good", "score"]
    assert cell.interval is not None and cell.interval.n == 6
    assert "seed 2: the metric failed: ZeroDivisionError: no control" in cell.reason
    assert "seed 5: the metric failed: ValueError: a Value must be finite, got nan" in cell.reason
    assert lb.failures(table.scores) == [
        "metric 'score' failed on good, seed 2: ZeroDivisionError: no control",
        "metric 'score' failed on good, seed 5: ValueError: a Value must be finite, got nan; use None with a "
        "reason",
    ]
    assert table.boards[0].ranks == {"naive": 1, "good": 1}


def test_without_the_primary_measure_there_is_a_table_without_ranks(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", "good")]
    spec = metric({"naive": 0.3, "good": 0.6})
    table = lb.tabulate(rows, [spec], {"memory_loops": "retention"})
    (board,) = table.boards
    assert board.ranks == {"naive": None, "good": None}
    assert "no metric gives 'retention'" in board.no_rank["good"]
    assert "retention: good has no value (no metric gives 'retention'" in board.verdicts["good"]
    assert board.cells["good", "score"].interval is not None
    text = tables.to_markdown(table)
    assert "no metric gives 'retention'" in text and "| .61 \\[.60, .62\\]" in text
    assert json.loads(tables.to_json(table)) and tables.to_csv(table).count("no metric gives") == 4


def test_without_any_metric_the_table_is_empty_but_valid(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 2) for name in ("naive", "good")]
    assert lb.score_rows(rows, []).empty and lb.failures(lb.score_rows(rows, [])) == []
    table = lb.tabulate(rows, [], PRIMARY)
    assert "no metric gives 'score'" in tables.to_markdown(table)
    assert json.loads(tables.to_json(table))["scores"] == []
    assert [line["mean"] for line in csv.DictReader(io.StringIO(tables.to_csv(table)))] == ["", ""]
    Console(file=io.StringIO()).print(tables.to_rich(table))


def test_chance_stands_below_the_primary_measure(tmp_path: Path) -> None:
    table = lb.tabulate([row(tmp_path, "naive", 1)], [metric({"naive": 0.3})], PRIMARY)
    text = tables.to_markdown(table)
    assert (
        text.index("### Primary") < text.index("\nChance on the primary rung: .01\n") < text.index("### All")
    )
    assert json.loads(tables.to_json(table))["chance"][0]["chance"] == 0.01
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(tables.to_rich(table, all_measures=False))
    assert "Chance on the primary rung: .01" in console.export_text()
    documents = write_record(tmp_path / "d", quiet, Layout(loops=2, facts=1, rest=0, documents=True))
    record = RunRecord(documents.folder, {**documents.info, "label": "naive"})
    plain = Row("naive", {"scenario": "memory_loops"}, {0: record})
    assert "Chance" not in tables.to_markdown(lb.tabulate([plain], [metric({"naive": 0.3})], PRIMARY))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.414, "fraction", ".41"),
        (-0.02, "fraction", "-.02"),
        (-0.001, "fraction", ".00"),
        (1.0, "fraction", "1.00"),
        (-1.2, "fraction", "-1.20"),
        (40000.0, "tokens", "40,000"),
        (60.7123, "steps", "60.7"),
        (1234.5, "steps", "1,234"),
        (0.4, "nats/token", "0.4"),
    ],
)
def test_numbers_are_short(value: float, unit: str, text: str) -> None:
    assert lb.format_number(value, unit) == text


def test_rows_beyond_the_page_continue_below(tmp_path: Path) -> None:
    names = ["naive", *(f"arm{i}" for i in range(6))]
    rows = [row(tmp_path, name, 2) for name in names]
    text = tables.to_markdown(lb.tabulate(rows, [metric(dict.fromkeys(names, 0.5))], PRIMARY))
    assert text.count("### All measures\n") == 2


def test_scoring_and_tables_need_no_torch() -> None:
    names = "average_accuracy cost latent_revival loop_contrast new_loop recovery retention"
    imports = "".join(f"import seqmem_plugins.metrics.{name}; " for name in names.split())
    check = f"import sys; import seqmem.leaderboard, seqmem.figures; {imports}print('torch' in sys.modules)"
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", check], env={**os.environ, **paths}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
