from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_records import Answer, Ask, Layout, Learner, write_record
from rich.console import Console

from seqmem import Measure, MetricSpec, PluginError, RunRecord, UsageError, Value
from seqmem.cli.app import run as command
from seqmem.planning.store import read_cost
from seqmem.record.row import Row
from seqmem.reporting.exports import to_csv, to_json, to_records
from seqmem.reporting.latex import escape_latex, to_latex
from seqmem.reporting.markdown import comparison_markdown, to_markdown
from seqmem.reporting.terminal import comparison_rich, to_rich
from seqmem.scoring.comparison import tabulate
from seqmem.scoring.numbers import format_number
from seqmem.scoring.pairs import compare
from seqmem.scoring.scores import SCORE_COLUMNS, failures, score_rows

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
        return replace(made, runs=runs)

    rows = [ending("naive", "a", "b"), ending("idle", "a", "b"), ending("once", "a", "c")]
    values = metric({"naive": 0.3, "idle": 0.3, "once": 0.3})
    verdicts = tabulate(rows, [values], PRIMARY).boards[0].verdicts
    assert verdicts["idle"].text == "idle had no effect here: its weights end bit for bit as those of naive"
    assert "no effect" not in verdicts["once"].text + verdicts["naive"].text


def test_scores_are_long_and_missing_is_no_zero(tmp_path: Path) -> None:
    rows = [row(tmp_path, "naive", 2), row(tmp_path, "ewc", 1)]
    scores = score_rows(rows, [metric({"naive": 0.5, "ewc": None})])
    assert tuple(scores.columns) == SCORE_COLUMNS and len(scores) == 3
    assert scores["value"].isna().tolist() == [False, False, True]
    assert scores["reason"].tolist()[2] == "nobody | knows"


def test_table_states_interval_difference_p_and_rank(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", "good", "same")]
    table = tabulate(rows, [metric({"naive": 0.3, "good": 0.6, "same": 0.3})], PRIMARY)
    (board,) = table.boards
    cell = board.cells["good", "score"]
    assert cell.interval is not None and cell.interval.n == 8 and cell.items == 80
    assert cell.difference is not None and cell.difference.interval.mean == pytest.approx(0.3)
    assert cell.difference.p == pytest.approx(2 / 256)
    assert board.ranks == {"naive": 2, "good": 1, "same": 2}
    assert board.verdicts["good"].text.endswith("better (p .008)")
    assert "no difference shown (p 1.000)" in board.verdicts["same"].text
    assert board.verdicts["naive"].text.endswith("the reference")
    assert cell.difference.raw_p == pytest.approx(2 / 256)


def test_lower_is_better_where_a_measure_says_so(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", "more")]
    (board,) = tabulate(rows, [metric({"naive": 0.3, "more": 0.6}, "lower")], PRIMARY).boards
    assert board.ranks == {"naive": 1, "more": 2}
    assert "worse" in board.verdicts["more"].text


def test_few_seeds_have_no_rank_and_no_p(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 3) for name in ("naive", "good")]
    table = tabulate(rows, [metric({"naive": 0.3, "good": 0.6})], PRIMARY)
    (board,) = table.boards
    assert board.ranks == {"naive": None, "good": None}
    assert board.no_rank["good"] == "no rank: 3 common seeds, a test needs 6"
    assert "no test (3 common seeds: a test needs 6)" in board.verdicts["good"].text
    assert board.cells["good", "score"].difference is not None


def test_six_seeds_decide_two_comparisons_where_both_differ(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 6) for name in ("naive", "good", "best")]
    (board,) = tabulate(rows, [metric({"naive": 0.1, "good": 0.5, "best": 0.9})], PRIMARY).boards
    assert board.verdicts["best"].text.endswith("better (p .031)")
    assert board.ranks == {"naive": 3, "good": 2, "best": 1}


def test_six_seeds_decide_where_one_row_of_many_differs(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 6) for name in ("naive", "good", *"abcd")]
    means = {"naive": 0.1, "good": 0.5, **dict.fromkeys("abcd", 0.1)}
    (board,) = tabulate(rows, [metric(means)], PRIMARY).boards
    assert board.verdicts["good"].text.endswith(": better (p .031)")
    assert board.verdicts["a"].text.endswith(": no difference shown (p 1.000)")
    assert board.ranks == {"naive": 2, "good": 1, **dict.fromkeys("abcd", 2)}


def test_ranks_and_verdicts_go_by_adjusted_p_values(tmp_path: Path) -> None:
    """6 of 256 ways to set the signs are as far out as `slight`: .023 alone; of two rows like it p is larger."""
    slight = (-0.04, 0.27, 0.21, 0.35, 0.02, 0.17, 0.19, 0.06)
    mixed = (0.3, -0.2, 0.2, 0.1, -0.3, 0.25, -0.1, -0.2)

    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        added = {"slight": slight, "mixed": mixed, "other": mixed[::-1]}.get(run.info["label"], (0.0,) * 8)
        return {"score": Value(0.3 + added[run.seed])}

    rows = [row(tmp_path, name, 8) for name in ("naive", "mixed", "other", "slight")]
    spec = MetricSpec("score", "1", "", metric({}).measures, compute)
    (board,) = tabulate(rows, [spec], PRIMARY).boards
    difference = board.cells["slight", "score"].difference
    assert difference is not None and difference.raw_p == pytest.approx(6 / 256)
    assert difference.p is not None and difference.p > 0.05
    assert "no difference shown" in board.verdicts["slight"].text
    assert board.ranks["naive"] == board.ranks["mixed"] == board.ranks["other"] == 1


def test_a_rank_never_says_what_the_verdict_does_not(tmp_path: Path) -> None:
    """`slight` beats the reference alone, and not among rows of which two fail a gate: neither is it ranked higher."""
    added = {
        "slight": (-0.04, 0.27, 0.21, 0.35, 0.02, 0.17, 0.19, 0.06),
        "harms": (0.3, -0.2, 0.2, 0.1, -0.3, 0.25, -0.1, -0.2),
        "breaks": (-0.2, -0.1, 0.25, -0.3, 0.1, 0.2, -0.2, 0.3),
    }

    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        label, noise = run.info["label"], 0.001 * run.seed
        harm = 1.0 if label in ("harms", "breaks") else 0.0
        return {"score": Value(0.3 + added.get(label, (0.0,) * 8)[run.seed]), "harm": Value(harm + noise)}

    measures = (Measure("score", "fraction", "higher", ""), Measure("harm", "nats", "lower", "", gate=0.1))
    rows = [row(tmp_path, name, 8) for name in ("naive", "slight", "harms", "breaks")]
    (board,) = tabulate(rows, [MetricSpec("score", "1", "", measures, compute)], PRIMARY).boards
    difference = board.cells["slight", "score"].difference
    assert difference is not None and difference.raw_p is not None and difference.p is not None
    assert difference.raw_p < 0.05 < difference.p
    assert board.ranks == {"naive": 1, "slight": 1, "harms": None, "breaks": None}


def test_a_row_with_a_stream_of_its_own_stands_beside_the_others(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", "good", "joint")]
    rows[2] = replace(rows[2], facts={**rows[2].facts, "changes_stream": True})
    spec = noisy({"naive": 0.3, "good": 0.31, "joint": 0.9})
    (board,) = tabulate(rows, [spec], PRIMARY).boards
    (alone,) = tabulate(rows[:2], [spec], PRIMARY).boards
    cell = board.cells["joint", "score"]
    assert cell.difference is not None and cell.difference.p is None
    assert cell.difference.interval.mean == pytest.approx(0.6)
    assert board.ranks["joint"] is None and "stream of its own" in board.no_rank["joint"]
    assert board.ranks["naive"] == alone.ranks["naive"]
    assert board.verdicts["good"] == alone.verdicts["good"]
    assert board.verdicts["joint"].finding == "apart"
    assert board.verdicts["joint"].text.endswith(": not tested, its stream is its own")


NOISE = (0.02, -0.02, 0.01, -0.01, 0.0, 0.02, -0.02, 0.0)


def noisy(means: Mapping[str, float], margin: float | None = None, direction: str = "higher") -> MetricSpec:
    """Gives a row's mean, and `NOISE` per seed to every row but the reference."""

    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        label = run.info["label"]
        return {"score": Value(means[label] + (NOISE[run.seed] if label != "naive" else 0.0), 10)}

    measure = Measure("score", "fraction", direction, "a number", margin)  # type: ignore[arg-type]
    return MetricSpec("score", "1", "a number", (measure,), compute)


@pytest.mark.parametrize(
    ("mean", "margin", "direction", "said"),
    [
        (0.5, None, "higher", "better (p .008)"),
        (0.5, None, "lower", "worse (p .008)"),
        (0.5, None, "none", "higher (p .008)"),
        (0.1, None, "none", "lower (p .008)"),
        (0.35, 0.075, "higher", "better (p .008), but by less than .075"),
        (0.3, 0.05, "higher", "the same within ±.05 (p 1.000)"),
        (0.3, 0.005, "higher", "no difference shown, the interval could have seen .02 (p 1.000)"),
        (0.3, None, "higher", "no difference shown, the interval could have seen .02 (p 1.000)"),
    ],
)
def test_a_verdict_is_one_of_few_outcomes(
    mean: float, margin: float | None, direction: str, said: str, tmp_path: Path
) -> None:
    """s of `NOISE` is .01604: detectable 1.156 s = .0185; 90 % interval of no difference: +-.0107."""
    rows = [row(tmp_path, name, 8) for name in ("naive", "other")]
    (board,) = tabulate(rows, [noisy({"naive": 0.3, "other": mean}, margin, direction)], PRIMARY).boards
    assert board.verdicts["other"].text.partition("]: ")[2] == said


def test_only_the_primary_measure_is_tested(tmp_path: Path) -> None:
    measures = (*metric({}).measures, Measure("other", "fraction", "higher", "another number"))
    spec = MetricSpec(
        "two", "1", "", measures, lambda run, _: {m.name: Value(0.1 * run.seed) for m in measures}
    )
    rows = [row(tmp_path, name, 8) for name in ("naive", "good")]
    (board,) = tabulate(rows, [spec], PRIMARY).boards
    first, second = (board.cells["good", name].difference for name in ("score", "other"))
    assert first is not None and second is not None
    assert (first.p, second.p, second.raw_p) == (1.0, None, 1.0)


def cells_of(text: str, title: str) -> list[dict[str, str]]:
    """The lines of the table under a heading of Markdown, by column."""
    lines = [line for line in text.partition(f"### {title}\n")[2].splitlines() if line][:99]
    lines = lines[: next(i for i, line in enumerate([*lines, ""]) if not line.startswith("|"))]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, cells, strict=True)) for cells in body]


def test_the_first_tables_hold_tests_and_costs(tmp_path: Path) -> None:
    spec = noisy({"naive": 0.3, "other": 0.3}, margin=0.05)
    bill = (
        Measure("read", "tokens", "lower", "", role="tokens"),
        Measure("kept", "model sizes", "lower", "", role="state"),
    )
    costs = MetricSpec("bill", "1", "", bill, lambda run, _: {"read": Value(73474.0), "kept": Value(0.5)})
    rows = [row(tmp_path, "naive", 8), replace(row(tmp_path, "other", 8), cost=1.324)]
    table = tabulate(rows, [spec, costs], PRIMARY)
    text = to_markdown(table)
    naive, other = cells_of(text, "Primary measure")
    assert other["p (alone)"] == "1.000 (1.000)" and other["smallest detectable"] == ".02"
    assert other["no effect (within ±.05)"] == "shown"
    assert naive["difference to naive"] == "reference" and naive["p (alone)"] == ""
    naive, other = cells_of(text, "Cost and evidence")
    assert other["step time / naive"] == "1.32" and naive["step time / naive"] == "- (1)"
    assert "(1) not measured: seqmem bench --measure-cost" in text
    assert (other["extra state (model sizes)"], other["trained tokens"]) == ("0.5", "73,474")
    assert (other["seeds"], other["items"]) == ("8", "80")
    found = {record["row"]: record for record in to_records(table) if record["primary"]}
    assert found["other"]["step_time"] == 1.324 and found["other"]["equivalent"] is True
    assert found["other"]["detectable"] == pytest.approx(0.01854, abs=1e-5)
    assert found["other"]["raw_p"] == found["other"]["p"] == 1.0 and found["other"]["margin"] == 0.05
    assert found["naive"]["raw_p"] is None and found["naive"]["step_time"] is None


def test_costs_nobody_measures_say_so(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", "other")]
    text = to_markdown(tabulate(rows, [metric({"naive": 0.3, "other": 0.6})], PRIMARY))
    assert cells_of(text, "Cost and evidence")[1]["trained tokens"].startswith("- (")
    assert "no metric gives it" in text
    assert "the measure states no margin within which rows are alike" in text
    assert "every seed gives the same difference" in text


def test_the_first_tables_fit_a_terminal_of_120_columns(tmp_path: Path) -> None:
    names = ("naive", "avalanche:SynapticIntelligence")
    rows = [row(tmp_path, name, 8) for name in names]
    spec = noisy(dict(zip(names, (0.9, 0.3), strict=True)), margin=0.025)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(to_rich(tabulate(rows, [spec], PRIMARY), all_measures=False))
    shown = console.export_text()
    assert "│ avalanche:SynapticIntelligence │ 2    │ .30 [.29, .31] │ -.60 [-.61, -.59] │ .008 " in shown
    assert "…" not in shown


def two_measures(good: float) -> MetricSpec:
    """`up` differs by `good` with a little noise, `still` not at all, `half` lacks its odd seeds in `good`."""
    measures = tuple(
        Measure(name, "fraction", "higher", "", margin)
        for name, margin in (("up", 0.05), ("still", 0.05), ("half", None))
    )

    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        mine = run.info["label"] == "good"
        up = 0.3 + mine * (good + NOISE[run.seed])
        half = Value(None, reason="odd") if mine and run.seed % 2 else Value(0.1 * run.seed)
        return {"up": Value(up), "still": Value(0.5), "half": half}

    return MetricSpec("two", "1", "", measures, compute)


def test_two_rows_are_compared_on_every_measure_as_one_family(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", "good", "third")]
    spec = two_measures(0.4)
    scores = score_rows(rows, [spec])
    up, still, half = compare(scores, "good", "naive", spec.measures)
    assert up.difference is not None and up.difference.interval.mean == pytest.approx(0.4)
    assert up.difference.raw_p == pytest.approx(2 / 256)
    assert up.difference.p == pytest.approx(2 / 256)
    assert up.difference.equivalent is False
    assert up.first is not None and up.first.mean == pytest.approx(0.7)
    assert up.second is not None and up.second.mean == pytest.approx(0.3)
    assert still.difference is not None and still.difference.equivalent is True
    assert still.difference.p == 1.0 and still.difference.detectable is None
    assert half.difference is not None and half.difference.interval.n == 4 and half.difference.p is None
    assert half.second is not None and half.second.n == 8 and half.reason == ""
    back = compare(scores, "naive", "good", spec.measures)[0].difference
    assert back is not None and back.interval.mean == pytest.approx(-0.4)


def test_a_comparison_without_common_seeds_says_so(tmp_path: Path) -> None:
    spec = metric({"naive": 0.3, "none": None, "late": 0.3})
    rows = [row(tmp_path, "naive", 2), row(tmp_path, "none", 2), row(tmp_path, "late", 4)]
    rows[2] = replace(rows[2], runs={seed: rows[2].runs[seed] for seed in (2, 3)})
    scores = score_rows(rows, [spec])
    (found,) = compare(scores, "none", "naive", spec.measures)
    assert found.difference is None and found.first is None
    assert found.reason == "none: nobody | knows"
    (found,) = compare(scores, "late", "naive", spec.measures)
    assert found.difference is None and found.reason == "no seed has a value in both late and naive"
    for a, b, said in (
        ("naiv", "late", "no row 'naiv' with a finished run; rows: naive, none, late"),
        ("late", "late", "both rows are 'late'; give two different ones of: naive, none, late"),
    ):
        with pytest.raises(UsageError, match=said):
            compare(scores, a, b, spec.measures)


def test_a_comparison_is_printed_whole(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", HOSTILE)]
    absent = Measure("absent", "steps", "none", "")
    spec = noisy({"naive": 0.3, HOSTILE: 0.5}, margin=0.05)
    found = compare(score_rows(rows, [spec]), HOSTILE, "naive", (*spec.measures, absent))
    text = comparison_markdown(found, HOSTILE, "naive")
    assert text == comparison_markdown(found, HOSTILE, "naive")
    assert "| score | fraction ↑ | .20 \\[.19, .21\\] | .008 (.008) | .02 | not shown | 8 |" in text
    assert "| score | fraction ↑ | .50 \\[.49, .51\\] | .30 |" in text
    assert "| absent | no metric gives it |" in text
    assert "<script" not in text and "\n# head" not in text and "\x1b" not in text and "@me" not in text
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(comparison_rich(found, HOSTILE, "naive"))
    shown = console.export_text()
    assert ".20 [.19, .21]" in shown and "[red]b[/red]" in shown and "\x1b" not in shown


def test_one_seed_and_no_value_are_said(tmp_path: Path) -> None:
    rows = [row(tmp_path, "naive", 1), row(tmp_path, "ewc", 1, failed={4: "NaN loss"})]
    text = to_markdown(tabulate(rows, [metric({"naive": 0.3, "ewc": None})], PRIMARY))
    assert "1 seed: an interval needs 3" in text
    assert "nobody \\| knows" in text
    assert "seed 4 failed: NaN loss" in text
    assert "a pretrained checkpoint is one" in text
    assert "| - (" in text


def test_rows_of_another_model_are_another_board(tmp_path: Path) -> None:
    other = row(tmp_path, "other", 2, reference=None)
    other = Row(other.label, {**other.facts, "model": "small"}, other.runs)
    table = tabulate([row(tmp_path, "naive", 2), other], [metric({"naive": 0.3, "other": 0.5})], PRIMARY)
    assert [board.model for board in table.boards] == ["tiny", "small"]
    assert "nothing to compare with" in table.boards[1].verdicts["other"].text


HOSTILE = (
    "=cmd|'x' <script>alert(1)</script> [red]b[/red] **b** https://evil.example \x1b[31m\u202e @me\n# head"
)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    table = tabulate(
        [row(tmp_path, "naive", 2), row(tmp_path, HOSTILE, 2)],
        [metric({"naive": 0.3, HOSTILE: 0.5})],
        PRIMARY,
    )
    text = to_markdown(table)
    assert "<script" not in text and "\n# head" not in text and "https://" not in text and "**b**" not in text
    assert "\x1b" not in text and "\u202e" not in text and "@me" not in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths <= {5, 4, 8, 7}
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert all(not line["row"].startswith("=") for line in lines)
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(to_rich(table))
    shown = console.export_text()
    assert "[red]b[/red]" in shown and "\x1b" not in shown


def test_builds_are_the_same_bytes(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 3) for name in ("naive", "good")]
    spec = metric({"naive": 0.3, "good": 0.6})
    for write in (to_markdown, to_csv, to_json, to_latex):
        assert write(tabulate(rows, [spec], PRIMARY)) == write(tabulate(rows, [spec], PRIMARY))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        (
            r"a&b%c$d#e_f{g}h~i^j\k",
            r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k",
        ),
        ("score ↑ ↓ → ± − ×", r"score $\uparrow$ $\downarrow$ $\rightarrow$ $\pm$ $-$ $\times$"),
        (".41 [-.35, 2]", r".41 {[}$-$.35, 2{]}"),
        ("x-2 --lr=-1 ''a,,b", r"x-2 -{}-lr=$-$1 '{}'a,{},b"),
        ('*a <b> |c| `d` "e"', r"{*}a $<$b$>$ $|$c$|$ {`}d{`} {''}e{''}"),
        ("é Ö 中 Ω ß\n\x1b[31m\u202e", r"é Ö {[}U+4E2D{]} {[}U+03A9{]} {[}U+00DF{]} {[}31m"),
        (
            r"\input{/etc/passwd} ^^41",
            r"\textbackslash{}input\{/etc/passwd\} \textasciicircum{}\textasciicircum{}41",
        ),
    ],
)
def test_latex_prints_text_as_it_is(text: str, escaped: str) -> None:
    assert escape_latex(text) == escaped


KNOWN_COMMANDS = {
    *("begin", "end", "centering", "footnotesize", "setlength", "tabcolsep", "caption", "par", "usepackage"),
    *("toprule", "midrule", "bottomrule", "textasciitilde", "textasciicircum", "textbackslash"),
    *("uparrow", "downarrow", "rightarrow", "leftarrow", "pm", "times"),
}


def test_a_latex_table_is_whole_and_uses_known_commands_only(tmp_path: Path) -> None:
    hostile = r"\evil{x} & 50% $a$ #1 a_b ^^41 ~ } {" + HOSTILE
    rows = [row(tmp_path, "naive", 8), row(tmp_path, hostile, 8)]
    text = to_latex(tabulate(rows, [noisy({"naive": 0.3, hostile: 0.1}, margin=0.05)], PRIMARY))
    source = text.partition("\n")[2]  # after the comment
    assert set(re.findall(r"\\([a-zA-Z]+)", source)) <= KNOWN_COMMANDS
    plain = re.sub(r"\\[^a-zA-Z]", "", source)
    assert not re.search(r"[%#~^]", plain) and plain.count("$") % 2 == 0
    depth = 0
    for sign in plain:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\begin\{(\w+)\}", source) == ["table", *["tabular"] * 5, "table", *["tabular"] * 4]
    assert source.count(r"\begin{") == source.count(r"\end{")
    first, second = source.split(r"\begin{table}")[1:]
    for part, columns in ((first, 7), (second, 6)):
        body = part.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
        assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [columns - 1] * 2
        assert all(line.endswith(r" \\") for line in body)
    assert r"\caption{memory\_loops, tiny: primary measure. A seed varies" in first
    assert r"$-$.20 {[}$-$.21, $-$.19{]} & .008 (.008) & .02 & not shown \\" in first
    assert (
        "\n\\par (1) not measured: seqmem bench -{}-measure-cost\n" in second and "measure-cost" not in first
    )


def test_json_holds_what_a_reader_needs_to_check(tmp_path: Path) -> None:
    rows = [row(tmp_path, "naive", 2), row(tmp_path, "ewc", 1)]
    value = json.loads(to_json(tabulate(rows, [metric({"naive": 0.3, "ewc": None})], PRIMARY)))
    cells = {cell["row"]: cell for cell in value["cells"]}
    assert cells["ewc"]["mean"] is None and cells["ewc"]["reason"]
    assert cells["naive"]["seeds"] == 2 and cells["naive"]["items"] == 20
    assert len(value["scores"]) == 3 and value["scores"][2]["value"] is None
    assert value["runs"]["naive"] == {"0": "naive0", "1": "naive1"}


def test_wrong_requests_name_what_is_wrong(tmp_path: Path) -> None:
    naive = row(tmp_path, "naive", 1)
    spec = metric({"naive": 0.3})
    with pytest.raises(UsageError, match="two rows are called 'naive'"):
        score_rows([naive, naive], [spec])
    with pytest.raises(UsageError, match="no runs"):
        tabulate([], [spec], PRIMARY)
    broken = MetricSpec("score", "1", "", spec.measures, lambda run, controls: {})
    with pytest.raises(PluginError, match="it declares"):
        score_rows([naive], [broken])
    bare = MetricSpec("score", "1", "", spec.measures, lambda run, controls: {"score": 0.3})  # type: ignore[dict-item]
    with pytest.raises(PluginError, match="gave float for 'score', not a seqmem.Value"):
        score_rows([naive], [bare])


def test_a_metric_that_fails_costs_one_run(tmp_path: Path) -> None:
    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        if run.id == "good2":
            raise ZeroDivisionError("no\ncontrol")
        np.divide(1.0, np.zeros(1))  # its warning must not reach the terminal
        return {"score": Value(float("nan") if run.id == "good5" else 0.1 * run.seed)}

    spec = MetricSpec("score", "1", "", metric({}).measures, compute)
    rows = [row(tmp_path, name, 8) for name in ("naive", "good")]
    table = tabulate(rows, [spec], PRIMARY)
    cell = table.boards[0].cells["good", "score"]
    assert cell.interval is not None and cell.interval.n == 6
    assert "seed 2: the metric failed: ZeroDivisionError: no control" in cell.reason
    assert "seed 5: the metric failed: ValueError: a Value must be finite, got nan" in cell.reason
    assert failures(table.scores) == [
        "metric 'score' failed on good, seed 2: ZeroDivisionError: no control",
        "metric 'score' failed on good, seed 5: ValueError: a Value must be finite, got nan; use None with a "
        "reason",
    ]
    assert table.boards[0].ranks == {"naive": 1, "good": 1}


def test_without_the_primary_measure_there_is_a_table_without_ranks(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 8) for name in ("naive", "good")]
    spec = metric({"naive": 0.3, "good": 0.6})
    table = tabulate(rows, [spec], {"memory_loops": "retention"})
    (board,) = table.boards
    assert board.ranks == {"naive": None, "good": None}
    assert "no metric gives 'retention'" in board.no_rank["good"]
    assert "retention: good has no value (no metric gives 'retention'" in board.verdicts["good"].text
    assert board.cells["good", "score"].interval is not None
    text = to_markdown(table)
    assert "no metric gives 'retention'" in text and "| .61 \\[.60, .62\\]" in text
    assert json.loads(to_json(table)) and to_csv(table).count("no metric gives") == 4


def test_without_any_metric_the_table_is_empty_but_valid(tmp_path: Path) -> None:
    rows = [row(tmp_path, name, 2) for name in ("naive", "good")]
    assert score_rows(rows, []).empty and failures(score_rows(rows, [])) == []
    table = tabulate(rows, [], PRIMARY)
    assert "no metric gives 'score'" in to_markdown(table)
    assert json.loads(to_json(table))["scores"] == []
    assert [line["mean"] for line in csv.DictReader(io.StringIO(to_csv(table)))] == ["", ""]
    Console(file=io.StringIO()).print(to_rich(table))


def test_chance_stands_below_the_primary_measure(tmp_path: Path) -> None:
    table = tabulate([row(tmp_path, "naive", 1)], [metric({"naive": 0.3})], PRIMARY)
    text = to_markdown(table)
    assert (
        text.index("### Primary")
        < text.index("\nChance on the primary probe form: .01\n")
        < text.index("### All")
    )
    assert json.loads(to_json(table))["chance"][0]["chance"] == 0.01
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(to_rich(table, all_measures=False))
    assert "Chance on the primary probe form: .01" in console.export_text()
    documents = write_record(tmp_path / "d", quiet, Layout(loops=2, facts=1, rest=0, documents=True))
    record = RunRecord(documents.folder, {**documents.info, "label": "naive"})
    plain = Row("naive", {"scenario": "memory_loops"}, {0: record})
    assert "Chance" not in to_markdown(tabulate([plain], [metric({"naive": 0.3})], PRIMARY))


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
    assert format_number(value, unit) == text


def test_rows_beyond_the_page_continue_below(tmp_path: Path) -> None:
    names = ["naive", *(f"arm{i}" for i in range(6))]
    rows = [row(tmp_path, name, 2) for name in names]
    text = to_markdown(tabulate(rows, [metric(dict.fromkeys(names, 0.5))], PRIMARY))
    assert text.count("### All measures\n") == 2


def test_show_names_boards_without_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["leaderboard", "new", "saturation", "--in", str(tmp_path)]) == 0
    (board,) = tmp_path.iterdir()
    capsys.readouterr()
    assert command(["leaderboard", "show", str(tmp_path)]) == 3
    assert capsys.readouterr().err == f"seqmem: left out: {board}: no rows yet\n"
    assert command(["leaderboard", "show", str(board)]) == 2
    assert "no rows yet; `seqmem leaderboard submit` brings some" in capsys.readouterr().err


@pytest.mark.parametrize("ratio", ["NaN", "Infinity"])
def test_a_step_time_that_is_no_number_is_one_line(tmp_path: Path, ratio: str) -> None:
    (tmp_path / "cost.json").write_text(f'{{"format": 1, "rows": {{"replay": {{"ratio": {ratio}}}}}}}')
    with pytest.raises(
        UsageError, match=r"cost\.json: not a readable cost file \(the ratio of replay is .*not a finite"
    ):
        read_cost(tmp_path)


def test_scoring_and_tables_need_no_torch() -> None:
    names = "average_accuracy cost latent_revival loop_contrast new_loop recovery retention"
    imports = "".join(f"import seqmem_plugins.metrics.{name}; " for name in names.split())
    ours = "import seqmem.scoring.comparison, seqmem.reporting.figures"
    check = f"import sys; {ours}; {imports}print('torch' in sys.modules)"
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", check], env={**os.environ, **paths}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
