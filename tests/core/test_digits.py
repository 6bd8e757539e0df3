"""Figures do not depend on the last bits of the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers_report import row
from rich.console import Console

from seqmem import Measure, MetricSpec, RunRecord, Value
from seqmem.board.differences import same_figures
from seqmem.core.digits import fixed, rounded, significant, ten_digits
from seqmem.plugin.specs import SuitePart
from seqmem.record.row import Row
from seqmem.reporting import Part, page
from seqmem.reporting.exports import to_csv, to_json
from seqmem.reporting.latex import to_latex
from seqmem.reporting.markdown import comparison_markdown, to_markdown
from seqmem.reporting.page_section import Frame
from seqmem.reporting.suite_section import Section
from seqmem.reporting.terminal import comparison_rich, to_rich
from seqmem.reporting.words import verdict_lines
from seqmem.scoring.comparison import Table, tabulate
from seqmem.scoring.numbers import format_margin, format_number, format_p, short_count
from seqmem.scoring.pairs import compare
from seqmem.scoring.scores import score_rows
from seqmem.scoring.size_trend import SizeCurve, size_curves
from seqmem.scoring.statistics import paired_difference, size_trend, t_interval

SEEDS = 8
NOISE = 1e-12


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (999.6, "1,000"),
        (999.4, "999"),
        (-999.6, "-1,000"),
        (12345.6, "12,346"),
        (0.0009996, "0.001"),
        (0.003125, "0.00313"),
    ],
)
def test_no_figure_is_in_powers_of_ten_above_the_point(value: float, text: str) -> None:
    assert significant(value) == format_number(value, "steps") == text


def test_counts_of_parameters_go_up_to_the_next_unit() -> None:
    counts = (999, 999_400, 999_600, 999_600_000, 1_200_000_000_000)
    assert [short_count(count) for count in counts] == ["999", "999k", "1M", "1B", "1,200B"]


def test_a_large_margin_is_written_out() -> None:
    assert format_margin(Measure("m", "steps", "lower", "", margin=2e6)) == "2,000,000"


@pytest.mark.parametrize("value", [0.003125, 0.125, 0.9255, 25.35, 10132.5, 0.0005, 999.5, 3.0, 0.145, 0.05])
def test_what_lies_on_the_edge_of_two_texts_has_one(value: float) -> None:
    near = [value * (1 + sign * size) for sign in (-1, 1) for size in (1e-16, 1e-14, NOISE)]
    for shown in (
        lambda v: format_number(v, "fraction"),
        lambda v: format_number(v, "steps"),
        lambda v: format_p(v),
        lambda v: fixed(v, 3),
        lambda v: str(rounded(v, 3)),
    ):
        assert {shown(one) for one in near} == {shown(value)}


def test_the_rounding_is_that_of_the_published_tables() -> None:
    shown = [format_number(value, "") for value in (0.0031249999999999999, 0.0031250000000000002, 10132.5)]
    assert shown == ["0.00313", "0.00313", "10,132"]
    assert format_number(0.125, "fraction") == ".12"


def test_what_the_last_bits_leave_of_a_sum_is_nothing() -> None:
    assert t_interval([0.1, 0.2, -0.3]).mean == 0.0
    equal = paired_difference({0: 0.3, 1: 0.7, 2: 0.6}, {0: 0.1 + 0.2, 1: 0.7 + 1e-13, 2: 0.6})
    assert equal is not None and equal.interval.mean == equal.interval.low == equal.interval.high == 0.0
    assert equal.detectable is None
    assert size_trend([(1e6, 0.3), (1e7, 0.1 + 0.2), (1e8, 0.3)]).slope == 0.0


# --- every float of the scores perturbed ---------------------------------------------------------------------

MEASURES = (
    Measure("retention", "share", "higher", "memory", margin=0.05),
    Measure("edge", "fraction/distance", "higher", "on the edge of two texts"),
    Measure("long", "steps", "lower", "around a thousand"),
    Measure("drawn", "nats", "none", "any number"),
    Measure("cancels", "nats", "none", "differences whose mean is 0"),
)
SHARES = {"naive": 0.25, "replay": 0.875, "same": 0.25, "ewc": 0.3}


def _values(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    name, seed = str(run.recipe["strategy"]["name"]), run.seed
    place = list(SHARES).index(name)
    wave = (-1) ** seed
    drawn = np.random.default_rng([place, seed]).normal()
    found = {
        "retention": SHARES[name] + 0.0625 * (seed % 3),
        "edge": 0.05 + 0.003125 * place,
        "long": 999.5 + 10 * place + wave,
        "drawn": drawn,
        "cancels": 0.7 + 0.1 * place * wave,
    }
    return {measure: Value(float(value), 10) for measure, value in found.items()}


METRIC = MetricSpec("toy", "1", "a summary", MEASURES, _values)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("rows")
    made = [row(folder / label, label, 0.5, SEEDS) for label in SHARES]
    return [replace(one, cost=1.125) for one in made]


def written(rows: list[Row], scores: pd.DataFrame) -> dict[str, str]:
    """Everything that is printed of the rows."""
    table = tabulate(rows, [METRIC], {"memory_loops": "retention"}, scores)
    compared = compare(scores, "replay", "naive", MEASURES)
    console = Console(file=StringIO(), width=250)
    console.print(to_rich(table), comparison_rich(compared, "replay", "naive"))
    part = SuitePart("A part", "Why?", "memory_loops", "default", tuple(m.name for m in MEASURES))
    nothing: Any = None
    section = Section(1, part, nothing, None)
    section.curves = _curves(table)
    return {
        "markdown": to_markdown(table),
        "latex": to_latex(table),
        "terminal": console.file.getvalue(),  # type: ignore[attr-defined]
        "comparison": comparison_markdown(compared, "replay", "naive"),
        "words": "\n".join(verdict_lines(table)),
        "page": page("A page", [Part("memory_loops", table, rows, "seqmem bench")]),
        "suite": page(
            "A suite", [], Frame("", False, section.trend_block(), (), (), (), "", [section.trend()])
        ),
        "csv": to_csv(table),
        "json": to_json(table),
    }


def _curves(table: Table) -> list[SizeCurve]:
    """Curves over three models, on each of which the table's rows have other values."""
    (board,) = table.boards
    boards = []
    for size in range(3):
        name = f"model {size}"
        rows = [
            replace(row, label=f"{row.label} @ {name}", facts={**row.facts, "model": name})
            for row in board.rows
        ]
        cells = {}
        for (label, measure), cell in board.cells.items():
            assert cell.interval is not None
            interval = replace(cell.interval, mean=cell.interval.mean * (1 + size**2))
            cells[f"{label} @ {name}", measure] = replace(cell, interval=interval)
        boards.append(replace(board, model=name, rows=tuple(rows), cells=cells))
    parameters = {f"model {size}": 10 ** (5 + size) for size in range(3)}
    curves = size_curves(Table(tuple(boards), table.scores), ("retention", "edge"), parameters)
    assert {len(curve.points) for curve in curves} == {3}
    return curves


@pytest.mark.parametrize("seed", range(2))
def test_noise_in_the_last_bits_of_every_score_changes_no_text(rows: list[Row], seed: int) -> None:
    scores = score_rows(rows, [METRIC])
    expected = written(rows, scores)
    for text in ("0.00313", "1,000", ".25", "p .0"):
        assert text in expected["terminal"] or text in expected["words"]
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), len(scores))
    found = written(rows, scores.assign(value=scores["value"] * (1 + NOISE * signs)))
    for kind in ("csv", "json"):  # ten digits of differences of such numbers
        assert same_figures(found.pop(kind), expected.pop(kind)), kind
    assert found == expected


def test_ten_digits_of_nothing_are_nothing() -> None:
    assert ten_digits(None) is None
    assert ten_digits(1 / 3) == 0.3333333333
