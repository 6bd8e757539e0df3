"""Plasticity against stability: the front, and what the figure and the page show of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from seqmem.core.measures import Measure
from seqmem.plugin.specs import MetricSpec
from seqmem.record.row import Row
from seqmem.reporting.trade_off import draw_trade_offs, points, trade_off_charts
from seqmem.scoring.comparison import Comparison, Table, tabulate
from seqmem.scoring.scores import SCORE_COLUMNS

METRIC = MetricSpec(
    "kept",
    "1",
    "",
    (Measure("kept", "share", "higher", ""), Measure("harm", "nats/token", "lower", "", gate=0.05)),
    lambda run, controls: {},
)


def table(rows: Mapping[str, tuple[float, float]]) -> Table:
    lines = [
        (label, seed, "kept", name, mean + 0.001 * seed, 10, "")
        for label, means in rows.items()
        for name, mean in zip(("kept", "harm"), means, strict=True)
        for seed in range(6)
    ]
    made = [
        Row(label, {"scenario": "s", "model": "m", "changes_stream": label == "mixed"}, {}, reference="naive")
        for label in rows
    ]
    return tabulate(made, [METRIC], {"s": "kept"}, pd.DataFrame(lines, columns=list(SCORE_COLUMNS)))


def compared(rows: Mapping[str, tuple[float, float]]) -> Comparison:
    return table(rows).boards[0]


ROWS = {
    "naive": (0.4, 0.10),
    "keeps": (0.8, 0.30),  # most is kept, at a price that fails the gate
    "between": (0.6, 0.12),
    "beaten": (0.5, 0.13),  # worse than between in both
    "mixed": (0.9, 0.01),  # another stream
}


def test_the_front_holds_the_rows_that_no_other_beats_in_both() -> None:
    found = {one.label: one for one in points(compared(ROWS), METRIC.measures[1])}
    assert {label for label, one in found.items() if one.front} == {"naive", "keeps", "between"}
    assert {label for label, one in found.items() if not one.ranked} == {"keeps", "mixed"}


def test_of_equal_rows_all_are_on_the_front() -> None:
    found = points(compared({"naive": (0.4, 0.1), "same": (0.4, 0.1)}), METRIC.measures[1])
    assert all(one.front for one in found)


def test_a_chart_holds_what_the_table_says() -> None:
    (chart,) = trade_off_charts(compared(ROWS))
    assert chart["x"] == "harm (nats/token ↓)" and chart["y"] == "kept (share ↑)"
    assert chart["series"][0] == "mixed" and len(chart["points"]) == len(ROWS)
    assert [point["x"] for point in chart["front"]] == sorted(point["x"] for point in chart["front"])


def test_a_row_has_the_same_colour_in_every_chart_also_where_it_has_no_value() -> None:
    one = compared(ROWS)
    cells = {place: cell for place, cell in one.cells.items() if place[1] == "kept"}
    cells |= {(row.label, "harm"): replace(one.cells[row.label, "harm"]) for row in one.rows}
    cells["beaten", "harm"] = replace(cells["beaten", "harm"], interval=None)
    (chart,) = trade_off_charts(replace(one, cells=cells))
    assert "beaten" in chart["series"] and len(chart["points"]) == len(ROWS) - 1


def test_every_comparison_of_a_sweep_has_a_figure_of_its_own(tmp_path: Path) -> None:
    one = compared(ROWS)
    boards = (replace(one, reference="naive lr=1"), replace(one, reference="naive lr=2"))
    draw_trade_offs(Table(boards, pd.DataFrame()), tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_where_lower_is_better_both_axes_are_turned() -> None:
    one = compared(ROWS)
    (chart,) = trade_off_charts(replace(one, primary=replace(one.primary, direction="lower")))
    assert chart["turned"] == ["x", "y"]
    assert trade_off_charts(one)[0]["turned"] == ["x"]


def test_a_table_without_gates_has_no_figure(tmp_path: Path) -> None:
    draw_trade_offs(table(ROWS), tmp_path / "gated")
    assert sorted(path.name for path in (tmp_path / "gated").iterdir()) == [
        "plasticity-and-stability.png",
        "plasticity-and-stability.svg",
    ]
    without = Table((), pd.DataFrame())
    draw_trade_offs(without, tmp_path / "none")
    assert not (tmp_path / "none").exists()
