from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest
from helpers_records import Answer, Layout, write_record

from seqmem.core.measures import Measure, Value
from seqmem.core.options import seeds_text
from seqmem.plugin.specs import MetricSpec
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.reporting.last_screen import MAX_LINES, WIDTH, last_screen
from seqmem.scoring.comparison import tabulate

HOSTILE = "=cmd|'x' <script>\x1b[31m\n# head\u202e " + "long " * 30
MEASURES = (
    Measure("score", "share", "higher", "recall at the end", margin=0.05),
    Measure("early", "share", "higher", "", role="learned"),
    Measure("damage", "nats/token", "lower", "", role="harm"),
    Measure("other", "share", "higher", "", role="twins"),
)


GATED = (
    *MEASURES,
    *(Measure(f"gate {n} {'long ' * 9}", "share", "higher", "", gate=0.05) for n in range(3)),
    *(Measure(f"detector {n} {'long ' * 9}", "nats", "none", "", effect=0.5) for n in range(4)),
)
"""The same with gates that all rows but the reference fail, and detectors."""


def spec(values: Mapping[str, float], measures: tuple[Measure, ...] = MEASURES) -> MetricSpec:
    """A row's value with noise that differs between rows and seeds; nobody measures twins."""

    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        label = run.info["label"]
        noise = float(np.random.default_rng([*label.encode(), run.seed]).normal(0, 0.04))
        return {
            "score": Value(min(max(values[label] + noise, 0.0), 1.0), 50),
            "early": Value(0.9, 50),
            "damage": Value(1.5, 4),
            "other": Value(None, reason="nobody asked twins"),
            **{
                one.name: Value(0.9 if label == "naive" else 0.1 + noise, 50)
                for one in measures[len(MEASURES) :]
            },
        }

    return MetricSpec("score", "1", "", measures, compute)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    layout = Layout(loops=2, cycles=1, facts=1, rest=4, even=2)
    return write_record(tmp_path_factory.mktemp("record") / "r", lambda ask, random: Answer(), layout)


def screen(
    record: RunRecord,
    values: Mapping[str, float],
    seeds: int,
    reference: str | None = "naive",
    more: str = "seqmem b",
    measures: tuple[Measure, ...] = MEASURES,
) -> list[str]:
    rows = []
    for label in values:
        runs = {
            seed: RunRecord(
                record.folder,
                {**record.info, "label": label, "id": f"{label}{seed}", "recipe": {"seed": seed}},
            )
            for seed in range(seeds)
        }
        facts = {"scenario": "memory_loops", "model": "tiny", "strategy": label}
        rows.append(Row(label, facts, runs, reference=reference))
    (comparison,) = tabulate(rows, [spec(values, measures)], {"memory_loops": "score"}).boards
    lines = last_screen(comparison, more)
    assert len(lines) <= MAX_LINES - 1 and max(map(len, lines)) <= WIDTH or more != "seqmem b"
    return lines


def test_three_seeds_say_what_they_can_see_and_how_to_add_more(record: RunRecord) -> None:
    lines = screen(record, {"naive": 0.5, "good": 0.6}, 3)
    assert lines[0] == "memory_loops on tiny, seeds 0-2."
    assert lines[1].startswith("Asked: recall at the end (score, share, higher is better")
    head, naive = (next(line for line in lines if word in line) for word in ("verdict", "reference"))
    assert head.split() == ["score", "minus", "naive", "sees", "verdict", "learned", "↑", "harm", "↓"]
    assert "learned: early; harm: damage (nats/token)" in lines
    assert naive.split()[0] == "naive" and naive.split()[-2:] == [".90", "1.5"]
    assert "80 % of such benches would detect; no verdict below 6 seeds" in " ".join(lines)
    assert lines[-1] == "More seeds in the same folder: seqmem b --seeds 0-5"


def test_two_seeds_claim_to_see_nothing(record: RunRecord) -> None:
    lines = screen(record, {"naive": 0.5, "good": 0.6}, 2)
    assert "2 seeds: an interval needs 3, a verdict 6" in lines and "80 %" not in " ".join(lines)


def test_a_difference_that_was_shown_asks_for_nothing_more(record: RunRecord) -> None:
    lines = screen(record, {"naive": 0.3, "good": 0.6}, 8)
    assert any(line.startswith("good") and "better (p .008)" in line for line in lines)
    assert lines[-1] == "Better than naive: good." and "p is adjusted for all rows" in " ".join(lines)


def test_what_was_not_shown_asks_for_the_seeds_that_see_the_margin(record: RunRecord) -> None:
    lines = screen(record, {"naive": 0.5, "same": 0.5, "likewise": 0.5}, 6)
    assert any("no difference shown" in line for line in lines)
    assert re.fullmatch(
        r"More seeds in the same folder \(for \.05 some \d\d\): seqmem b --seeds 0-11", lines[-1]
    )


def test_many_rows_and_hostile_names_stay_on_one_screen(record: RunRecord) -> None:
    values = {
        "naive": 0.1,
        HOSTILE: 0.9,
        **{f"row {number} {'x' * 40}": 0.2 + number / 100 for number in range(40)},
    }
    lines = screen(record, values, 6)
    text = "\n".join(lines)
    assert "... and 32 rows more" in text and "reference" in text
    assert "\x1b" not in text and "\u202e" not in text and "\n# head" not in text


def test_many_gates_and_detectors_stay_on_the_screen_with_their_rows(record: RunRecord) -> None:
    rows = {"naive": 0.5, **{f"row {number} {'x' * 40}": 0.2 + number / 100 for number in range(20)}}
    lines = screen(record, rows, 6, measures=GATED)
    text = "\n".join(lines)
    assert (
        "Not ranked, for a gate that was not passed: row" in text
        and "Against zero: detector 0" in text
        and "rows more" in text
    )


def test_without_reference_or_command_it_says_what_it_can(record: RunRecord) -> None:
    lines = screen(record, {"one": 0.5}, 3, reference=None)
    assert any("not compared" in line for line in lines) and not lines[-1].startswith("More seeds")
    assert not any("More seeds" in line for line in screen(record, {"naive": 0.5, "b": 0.5}, 3, more=""))


def test_seeds_are_written_as_they_are_typed() -> None:
    assert [seeds_text(seeds) for seeds in ([0, 1, 2], [3], [0, 2, 3])] == ["0-2", "3", "0,2,3"]
