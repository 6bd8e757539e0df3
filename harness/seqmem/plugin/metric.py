"""A metric as its module writes it down: each measure is declared beside its formula.

For instance::

    metric = Metric("retention", version="2", summary="recall over the rest phase")
    seqmem_metric = metric.hook

    @metric.measure("retention", "fraction", "higher", "recall at the end of the rest", margin=0.05)
    def retention(run: RunRecord) -> Value: ...
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from seqmem.core.measures import Direction, Interval, Measure, Role, Value
from seqmem.plugin.hookspecs import hookimpl
from seqmem.plugin.specs import MetricSpec
from seqmem.reading.missing import Missing, attempt, control
from seqmem.record.reader import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmem.record.row import Row

Read = TypeVar("Read")
Controls = Mapping[str, RunRecord]
Further = ParamSpec("Further")
"""Arguments that a formula has beside what it reads, each with a default."""
Formula = Callable[Concatenate[Read, Further], Value]
Remark = Callable[[Mapping[str, Interval]], str]
Paired = Callable[[Read, Callable[[], Read]], Value]


@dataclass(frozen=True)
class Declared(Generic[Read]):
    """A measure with its formula.

    Attributes:
        formula: the function as written, or a `partial` of it.
        compute: what was read, and the controls, to the value.
    """

    measure: Measure
    formula: Callable[..., Value]
    compute: Callable[[Read, Controls], Value]


class Metric(Generic[Read]):
    """Collection of measures with their formulas, in the order of declaration, and their `MetricSpec`.

    A formula is a function of what `reads` makes of a run, and raises `Missing` with a reason where the run has no
    such number.
    """

    @overload
    def __init__(
        self: Metric[RunRecord],
        name: str,
        *,
        version: str,
        summary: str,
        citation: str = "",
        figure: str | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        *,
        version: str,
        summary: str,
        reads: Callable[[RunRecord], Read],
        citation: str = "",
        figure: str | None = None,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        *,
        version: str,
        summary: str,
        reads: Callable[[RunRecord], Any] = lambda run: run,
        citation: str = "",
        figure: str | None = None,
    ) -> None:
        """Declare a metric.

        Args:
            name: also that of its first measure.
            version: grows when its numbers change.
            summary: the quantity it measures, in half a sentence.
            reads: turns a run into the formulas' argument; the run itself unless it is given. Raises `NotApplicable`
                where a run has nothing to measure.
            citation: its source.
            figure: module whose function `draw` makes the figure; it is imported when a figure is drawn.
        """
        self.name, self.version, self.summary, self.citation = name, version, summary, citation
        self.declared: list[Declared[Read]] = []
        self._reads, self._figure = reads, figure
        self._remark: Remark | None = None

    def measure(
        self,
        name: str,
        unit: str,
        direction: Direction,
        summary: str,
        *,
        margin: float | None = None,
        role: Role = "",
        gate: float | None = None,
        graded: str = "",
        effect: float | None = None,
        ratio: tuple[str, str] | None = None,
    ) -> Callable[[Formula[Read, Further]], Formula[Read, Further]]:
        """Declare a measure of the formula that follows; the arguments are those of `Measure`."""

        def declare(formula: Formula[Read, Further]) -> Formula[Read, Further]:
            declared = Measure(name, unit, direction, summary, margin, role, gate, graded, effect, ratio)
            plain = cast("Callable[[Read], Value]", formula)
            self.declared.append(Declared(declared, formula, lambda read, controls: plain(read)))
            return formula

        return declare

    def against(
        self,
        other: str,
        name: str,
        unit: str,
        direction: Direction,
        summary: str,
        *,
        margin: float | None = None,
        effect: float | None = None,
        ratio: tuple[str, str] | None = None,
    ) -> Callable[[Paired[Read]], Paired[Read]]:
        """Declare a measure of a run beside its control run `other`.

        The formula is given what was read of the run, and a function that reads the control. That function raises
        `Missing` where the control was not run.
        """

        def declare(formula: Paired[Read]) -> Paired[Read]:
            def compute(read: Read, controls: Controls) -> Value:
                return formula(read, lambda: self._reads(control(controls, other)))

            declared = Measure(name, unit, direction, summary, margin, effect=effect, ratio=ratio)
            self.declared.append(Declared(declared, formula, compute))
            return formula

        return declare

    def remark(self, words: Remark) -> Remark:
        """Declare what a row's verdict has to add, as `MetricSpec.remark` says, by the function that follows."""
        self._remark = words
        return words

    def compute(self, run: RunRecord, controls: Controls) -> dict[str, Value]:
        """Return every measure of a run, as `MetricSpec.compute` says."""
        try:
            read = self._reads(run)
        except Missing as missing:
            return {one.measure.name: Value(None, reason=str(missing)) for one in self.declared}
        return {one.measure.name: attempt(partial(one.compute, read, controls)) for one in self.declared}

    def draw(self, rows: Sequence[Row]) -> Figure | None:
        """Return the figure of a table's rows; None where the rows or the metric have nothing to draw."""
        if self._figure is None:
            return None
        drawn: Figure | None = importlib.import_module(self._figure).draw(rows)
        return drawn

    @hookimpl
    def hook(self) -> list[MetricSpec]:
        """Declare the metric to the host; a module offers it under the name `seqmem_metric`."""
        return [
            MetricSpec(
                name=self.name,
                version=self.version,
                summary=self.summary,
                measures=tuple(one.measure for one in self.declared),
                compute=self.compute,
                draw=self.draw if self._figure else None,
                remark=self._remark,
                citation=self.citation,
            )
        ]
