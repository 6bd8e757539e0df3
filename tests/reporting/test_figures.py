from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from helpers_records import Answer, Ask, Layout, write_record

from seqmem import Measure, UsageError
from seqmem.record.row import Row
from seqmem.reporting.figures import draw_curves, draw_sweep
from seqmem.scoring.scores import SCORE_COLUMNS

SMALL = Layout(loops=3, cycles=2, facts=2, rest=20, even=4)
FACTS = {"scenario": "memory_loops", "strategy": "naive $x_1$", "model": "tiny"}
MEASURE = Measure("score", "fraction", "higher", "a number")


def learner(ask: Ask, random: object) -> Answer:
    return Answer(ask.seen > 0 and ask.number == 0, 2.0 - 0.1 * ask.seen)


def row_of(folder: Path, seeds: int, layout: Layout = SMALL) -> Row:
    return Row(
        "naive",
        FACTS,
        {seed: write_record(folder / str(seed), learner, layout, seed=seed) for seed in range(seeds)},
    )


@pytest.mark.parametrize("seeds", [1, 2])
def test_curves_are_drawn_and_the_svg_is_the_same_twice(seeds: int, tmp_path: Path) -> None:
    row = row_of(tmp_path / "runs", seeds)
    png, svg = draw_curves(row, tmp_path / "figures" / "curves")
    assert png.name == "curves.png" and png.read_bytes().startswith(b"\x89PNG")
    again = draw_curves(row, tmp_path / "again" / "curves")
    assert svg.read_bytes() == again[1].read_bytes() and png.read_bytes() == again[0].read_bytes()
    assert b"<dc:date>" not in svg.read_bytes()


@pytest.mark.parametrize(
    "layout",
    [
        Layout(loops=10, facts=1, rest=0, cycles=2, documents=True),
        Layout(loops=3, facts=1, rest=0, cycles=2, documents=True),
        Layout(loops=3, facts=1, cycles=2, shuffled=True, rest=8, even=2),
    ],
    ids=["map", "documents", "shuffled"],
)
def test_other_streams_are_drawn(layout: Layout, tmp_path: Path) -> None:
    png, svg = draw_curves(row_of(tmp_path / "runs", 2, layout), tmp_path / "curves")
    assert png.stat().st_size > 5000 and svg.stat().st_size > 5000


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished run"):
        draw_curves(Row("naive", FACTS, {}), tmp_path / "curves")


def sweep(values: list[object]) -> tuple[list[Row], pd.DataFrame]:
    rows = [Row(f"steer {value}", FACTS, {}, swept={"strategy.target": value}) for value in values]
    rows.append(Row("naive", FACTS, {}))
    scores = [
        (row.label, seed, "score", "score", 0.1 * place + 0.01 * seed, 5, "")
        for place, row in enumerate(rows)
        for seed in range(1 if place == 0 else 3)
    ]
    return rows, pd.DataFrame(scores, columns=list(SCORE_COLUMNS))


@pytest.mark.parametrize("values", [[-1, 0.5, 1], ["zero", "average", "last"], [True, False]])
def test_sweeps_are_drawn(values: list[object], tmp_path: Path) -> None:
    rows, scores = sweep(values)
    first = draw_sweep(rows, scores, MEASURE, tmp_path / "a" / "sweep")
    second = draw_sweep(rows, scores, MEASURE, tmp_path / "b" / "sweep")
    assert [path.suffix for path in first] == [".png", ".svg"]
    assert first[1].read_bytes() == second[1].read_bytes()


def test_sweep_needs_a_swept_row_and_a_value(tmp_path: Path) -> None:
    rows, scores = sweep([1, 2])
    with pytest.raises(UsageError, match="no row was swept"):
        draw_sweep(rows[-1:], scores, MEASURE, tmp_path / "sweep")
    with pytest.raises(UsageError, match="no row has a value"):
        draw_sweep(rows, scores.iloc[:0], MEASURE, tmp_path / "sweep")
