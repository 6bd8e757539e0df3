"""A finished table in its folder: Markdown, CSV, JSON and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqmem.core.errors import UsageError, unknown
from seqmem.core.sanitize import file_names
from seqmem.planning.store import find_boards, read_bench
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.files import write_text
from seqmem.record.row import Row
from seqmem.reporting.exports import to_csv, to_json, to_records
from seqmem.reporting.markdown import to_markdown
from seqmem.scoring.comparison import Table
from seqmem.scoring.scores import sound
from seqmem.scoring.tables import load_metrics, score

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MAX_CURVES = 12
"""Swept rows up to which each has a figure of its own."""


@dataclass(frozen=True)
class BoardFiles:
    """A finished table and its files.

    Attributes:
        folder: where its Markdown, CSV, JSON and figures lie.
        rows: the records behind it.
        leaderboard: values, intervals and differences.
        broken: metrics that failed on these records, each with its reason.
    """

    name: str
    folder: Path
    rows: Sequence[Row]
    leaderboard: Table
    broken: Sequence[str]

    @property
    def table(self) -> pd.DataFrame:
        """One line per row and measure: mean, interval, difference to the reference."""
        import pandas as pd

        return pd.DataFrame(to_records(self.leaderboard))

    @property
    def values(self) -> pd.DataFrame:
        """One line per row, seed and measure."""
        return self.leaderboard.scores

    @property
    def figures(self) -> list[Path]:
        """The PNG figures."""
        return sorted(self.folder.glob("figures/*.png"))

    def plot(self, row: str) -> Figure:
        """Recall and answer loss of a row over steps, as a matplotlib figure a notebook shows.

        Raises:
            UsageError: there is no such row, or nothing of it to draw.
        """
        from seqmem.reporting.figures import curves_figure

        found = {listed.label: listed for listed in self.rows}
        if row not in found:
            raise UsageError(unknown("row", row, found))
        return curves_figure(found[row])

    def _repr_html_(self) -> str:
        """The table, in a notebook."""
        return str(self.table.to_html())


def rebuild(path: Path, disabled: frozenset[str] = frozenset()) -> tuple[list[BoardFiles], list[str]]:
    """Make the tables and figures of stored boards again, from their records alone.

    Returns:
        The boards, and the metrics that could not be loaded, each with its reason.

    Raises:
        UsageError: there is no board at `path`.
    """
    metrics, unreadable = load_metrics(Registry.from_environment(disabled))
    boards = []
    for folder in find_boards(path):
        described, rows = read_bench(folder)
        boards.append(
            write_board(folder, described["name"], described["scenario"], described["primary"], rows, metrics)
        )
    return boards, unreadable


def write_board(
    folder: Path, name: str, scenario: str, primary: str, rows: Sequence[Row], metrics: Sequence[MetricSpec]
) -> BoardFiles:
    """Score the rows, write tables and figures."""
    from seqmem.reporting.figures import draw_curves, draw_metric, draw_sweep, has_curves
    from seqmem.reporting.trade_off import draw_trade_offs

    table, broken = score(scenario, primary, rows, metrics)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (
        ("table.md", to_markdown(table)),
        ("table.csv", to_csv(table)),
        ("table.json", to_json(table)),
    ):
        write_text(folder / file, text)
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    drawn = sound(rows)
    stems = file_names(
        [
            *(f"curves {row.label}" for row in drawn),
            *(name for metric in metrics for name in (metric.name, f"sweep {metric.name}")),
        ]
    )
    many = sum(bool(row.swept) for row in drawn) > MAX_CURVES
    for row in drawn:
        # of a fine sweep, or one over learning rates or stream sizes, the other figures tell more
        surface = any(many or not option.startswith("strategy.") for option in row.swept)
        if not surface and has_curves(row):
            draw_curves(row, figures / stems[f"curves {row.label}"])
    draw_trade_offs(table, figures)
    for metric in metrics:
        try:
            draw_metric(metric, drawn, figures / stems[metric.name])
        except Exception as error:  # a plugin's figure must not cost the table
            broken.append(f"figure of metric {metric.name!r}: {type(error).__name__}: {error}")
    if any(row.swept for row in rows):
        for metric in metrics:
            measure = metric.measures[0]
            if table.scores.loc[table.scores["measure"] == measure.name, "value"].notna().any():
                draw_sweep(rows, table.scores, measure, figures / stems[f"sweep {metric.name}"])
    return BoardFiles(name, folder, rows, table, broken)
