"""What TABLE.md should print of a board: every cell of its tables, its verdicts and the lines below the tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .board import RATIOS, Board, testable
from .intervals import outlier
from .judged import Judge
from .pages import Measure
from .printed import Table, shown

DETECTORS = (
    "latent_revival",
    "loop_contrast",
    "memory_signal.ahead_order",
    "memory_signal.behind_order",
    "oscillation",
    "recovery",
)
"""docs/how-to-read-a-row.md, "Detectors": the measures that are held against zero."""

Line = Sequence[str]
"""The cells of a line."""


class Page:
    """The figures of a board, by table and line."""

    def __init__(self, board: Board) -> None:
        self.board, self.judge = board, Judge(board)
        costs = board.folder / "cost.json"
        self.costs = json.loads(costs.read_text("utf-8"))["rows"] if costs.exists() else {}
        self.printing: Mapping[str, Callable[[Table, Sequence[str]], Line]] = {
            "Primary measure": lambda table, line: self.primary(line[0]),
            "Cost and evidence": lambda table, line: self.cost(line[0]),
            "By degrees": lambda table, line: self.degrees(line[0]),
            "Gates": lambda table, line: self.gates(line[0]),
            "Detectors": self.detectors,
            "All measures": lambda table, line: self.means(line[0], table.head[2:]),
            self.compared: lambda table, line: self.differences(line[0], table.head[2:]),
        }

    @property
    def compared(self) -> str:
        return f"All measures, difference to {self.board.reference}, paired by seed"

    # -- lines of tables ----------------------------------------------------------------------------------------

    def primary(self, row: str) -> Line:
        name = self.board.primary.name
        cells = [
            row,
            self.judge.rank(row),
            self.board.cell(row, name),
            *self.against(row, self.board.primary),
        ]
        return [*cells, "" if row == self.board.reference else self.judge.no_effect(row)]

    def degrees(self, row: str) -> Line:
        assert self.board.graded
        return [row, self.board.cell(row, self.board.graded.name), *self.against(row, self.board.graded)]

    def against(self, row: str, measure: Measure) -> Line:
        """Difference, p and smallest detectable, empty for the reference."""
        if row == self.board.reference:
            return ["reference", "", ""]
        difference = self.board.difference(row, measure.name)
        return [difference, self.judge.p(row, measure.name), self.judge.detectable(row, measure)]

    def cost(self, row: str) -> Line:
        board, timed = self.board, self.costs.get(row, {})
        time = f"{timed['ratio']:.2f}" if "ratio" in timed else "-"
        count = len(board.of(row, board.primary.name))
        return [
            row,
            time,
            board.plain(row, "cost.state"),
            board.plain(row, "cost"),
            str(count),
            str(board.items(row)),
        ]

    def gates(self, row: str) -> Line:
        board = self.board
        if row == board.reference:
            cells = ["reference"] * len(self.judge.gates())
        else:
            cells = [board.difference(row, name) for name in self.judge.gates()]
        return [row, *cells, self.judge.passed(row), self.searched(row)]

    def searched(self, row: str) -> str:
        """docs/how-to-read-a-row.md, "Gates": on which seeds, and how far the measure ranged over the trials."""
        search = self.board.searches.get(row)
        if search is None:
            return "not searched"
        means = [np.mean(list(trial["values"].values())) for trial in search["trials"] if trial["values"]]
        unit, seeds = self.board.measures[search["measure"]].unit, sorted(search["seeds"])
        runs = sum(len(trial["runs"]) for trial in search["trials"])
        ranged = f"{search['measure']} {shown(float(min(means)), unit)} to {shown(float(max(means)), unit)}"
        return f"{runs} of {search['budget']} runs on seeds {seeds[0]}-{seeds[-1]}, {ranged}"

    def detectors(self, table: Table, line: Sequence[str]) -> Line:
        """A row's line."""
        name = line[0].partition(" ")[0]
        measure = self.board.measures[name]
        effect = measure.effect or 0.0
        value, p, least, verdict = self.judge.detector(measure, effect).get(line[1], ["?"] * 4)
        looked_for = shown(effect, measure.unit)
        return [f"{name} ({measure.headed})", line[1], value, p, least, looked_for, verdict]

    def means(self, name: str, rows: Sequence[str]) -> Line:
        return [name, self.board.measures[name].headed, *(self.board.cell(row, name) for row in rows)]

    def differences(self, name: str, rows: Sequence[str]) -> Line:
        return [name, self.board.measures[name].headed, *(self.board.difference(row, name) for row in rows)]

    # -- headings and what tables list --------------------------------------------------------------------------

    def heading(self, table: Table) -> Line:
        """The heading of a table, its rows as printed where it is one of all measures."""
        board, reference = self.board, self.board.reference
        against = [f"difference to {reference}", "p (alone)", "smallest detectable"]
        if table.title == "Primary measure":
            limit = "" if board.margin is None else f" (within ±{shown(board.margin, board.primary.unit)})"
            return ["row", "rank", self.headed(board.primary.name), *against, f"no effect{limit}"]
        if table.title == "By degrees":
            assert board.graded
            return ["row", self.headed(board.graded.name), *against]
        if table.title == "Cost and evidence":
            counted = ["trained tokens", "seeds", "items"]
            return ["row", f"step time / {reference}", "extra state (model sizes)", *counted]
        if table.title == "Gates":
            gates = self.judge.gates().items()
            sizes = [
                f"{self.headed(name)}, gate {shown(gate, board.measures[name].unit)}" for name, gate in gates
            ]
            return ["row", *sizes, "all", "searched"]
        if table.title == "Detectors":
            return ["detector", "row", "value", "p (alone)", "smallest detectable", "looked for", "verdict"]
        return ["measure", "unit", *table.head[2:]]

    def headed(self, name: str) -> str:
        return f"{name} ({self.board.measures[name].headed})"

    def lines(self) -> Mapping[str, Sequence[str]]:
        """What every table lists, a line each: rows or measures."""
        board = self.board
        valued = [name for name in board.measures if board.has_value(name)]
        beside = [row for row in board.rows if row != board.reference]
        held = [name for name in DETECTORS if board.has_value(name)]
        rows = {"Primary measure": board.rows, "Cost and evidence": board.rows}
        if board.graded:
            rows["By degrees"] = board.rows
        if self.judge.gates():
            rows["Gates"] = board.rows
        if held:
            rows["Detectors"] = [
                f"{self.headed(name)}, {row}"
                for name in held
                for row in [*self.judge.detector(board.measures[name], 0)]
            ]
        rows["All measures"] = valued
        if beside:
            rows[self.compared] = [
                name for name in valued if board.measures[name].unit != "runs" and name not in RATIOS
            ]
        return rows

    # -- around the tables --------------------------------------------------------------------------------------

    def verdicts(self) -> list[str]:
        return ["; ".join(self.judge.verdict(row)) for row in self.board.rows]

    def below(self) -> str:
        """The line below the first table: chance, and seeds that lie far from the others of their row."""
        board, said = self.board, []
        if board.primary.unit == "share":
            how = "; recall is by forced choice among candidates" if board.by_choice else ""
            said.append(f"Chance on the primary probe form: {board.chance()}{how}")
        far = []
        for row in board.rows:
            values = board.series(row, board.primary.name)
            place = outlier(values) if testable(values) else None
            if place is not None:
                far.append(f"{row} {list(board.of(row, board.primary.name))[place]}")
        if far:
            said.append(f"Seeds that lie far from the row's others (Grubbs, 1 %): {', '.join(far)}")
        return ". ".join(said)
