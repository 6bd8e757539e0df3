"""Parts of a report page made of synthetic records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from helpers_records import Answer, Ask, Layout, Learner, seal_record, write_record

from seqmem import Measure, MetricSpec, RunRecord, SuitePart, Value
from seqmem.core.measures import Interval
from seqmem.record.files import write_table
from seqmem.record.row import Row
from seqmem.record.schema import ITEMS, TABLES
from seqmem.reporting import Part
from seqmem.reporting.blocks import Block
from seqmem.reporting.fields import Field
from seqmem.reporting.page_section import Frame
from seqmem.reporting.suite_section import Section
from seqmem.scoring.comparison import tabulate
from seqmem.scoring.size_trend import SizeCurve, SizePoint
from seqmem.scoring.statistics import size_trend

SMALL = Layout(loops=3, cycles=2, facts=2, rest=20, even=4)
RETENTION = Measure("retention", "share", "higher", "memory of loop facts at the end of the rest")
SPEED = Measure("speed", "steps", "lower", "how fast")


def _end(run: RunRecord) -> Value:
    rows = run.asked()
    last = rows[rows["step"] == rows["step"].max()]
    return Value(float(last["correct"].mean()), len(last))


def metric(
    name: str = "retention", measures: Sequence[Measure] = (RETENTION, SPEED), reason: str = "no rest <here>"
) -> MetricSpec:
    """Recall at the end, and a second measure that never has a value."""

    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> dict[str, Value]:
        missing = {measure.name: Value(None, reason=reason) for measure in measures[1:]}
        return {measures[0].name: _end(run), **missing}

    return MetricSpec(name, "1", "a summary", tuple(measures), compute)


def remembers(share: float) -> Learner:
    """Trained facts are known from their first visit on, `share` of them in the rest; twins never."""

    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        known = not ask.twin and ask.seen > 0 and (ask.rest_step is None or random.random() < share)
        return Answer(known, 0.25 if known else 2.0)

    return learner


def info(strategy: str = "naive", seed: int = 0, **other: Any) -> dict[str, Any]:
    """Return what a run of the bench states of itself."""
    chosen = {"name": strategy, "version": "1", "content": "", "options": {"lam": 0.5, "rates": [1, 2]}}
    return {
        "recipe": {
            "seed": seed,
            "device": "cpu",
            "threads": 1,
            "scenario": {"name": "memory_loops", "version": "2", "options": {"loops": 3}},
            "strategy": chosen,
            "text": {"name": "world", "version": "1", "options": {}},
            "optimizer": {"name": "adam", "lr": 0.001},
            "model": {
                "name": "tiny",
                "parameters": 1000,
                "dtype": "float32",
                "fingerprint": "feedbeefcafe0123456789",
                "revision": None,
            },
        },
        "date": "2026-03-01",
        "versions": {"torch": "2.99.1", "python": "3.11.7"},
        "plugins": {"scenario": "seqmem 0.1.0"},
        "code": {"commit": "abcdef0123456789abcdef", "dirty": True},
        "hardware": {"device": "cpu", "machine": "x86_64", "system": "Linux", "cores": 2},
        **other,
    }


def row(folder: Path, label: str, share: float, seeds: int, *, controls: bool = False, **facts: Any) -> Row:
    """A row of synthetic runs, with shuffled controls where asked for."""

    def runs(where: Path, layout: Layout) -> dict[int, RunRecord]:
        return {
            seed: write_record(
                where / str(seed),
                remembers(share),
                layout,
                seed=seed,
                info=info(label, seed, id=f"{seed:016x}"),
            )
            for seed in range(seeds)
        }

    shuffled = (
        {"shuffled": runs(folder / "shuffled", Layout(**{**vars(SMALL), "shuffled": True}))}
        if controls
        else {}
    )
    stated = {"scenario": "memory_loops", "model": "tiny", "strategy": label, "preset": "default", **facts}
    return Row(label, stated, runs(folder / "own", SMALL), shuffled, "naive")


def part(rows: Sequence[Row], **other: Any) -> Part:
    """The rows with their table."""
    table = tabulate(rows, [other.pop("spec", metric())], {"memory_loops": "retention"})
    fields = {"name": "memory_loops", "reproduce": "seqmem bench --scenario memory_loops", **other}
    return Part(table=table, rows=rows, **fields)


def rewrite(run: RunRecord, *, items: Mapping[str, Any] | None = None, said: str | None = None) -> RunRecord:
    """The record with other texts in its items, and with what wrong answers began with."""
    asked = pq.read_table(run.folder / "items.parquet").to_pydict()
    for name, value in (items or {}).items():
        asked[name] = [value] * len(asked[name])
    write_table(run.folder / "items.parquet", asked, ITEMS)
    if said is not None:
        path = run.folder / "probes" / "part-00000.parquet"
        probes = pq.read_table(path).to_pydict()
        probes["said"] = [None if right else said for right in probes["correct"]]
        write_table(path, probes, TABLES["probes"])
    return seal_record(run.folder, run.info)


class Elements(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def frame(name: str) -> Frame:
    """What a suite's page says around its parts, everything that is named called so, with one size trend."""
    measure = Measure(name, name, "higher", name)
    points = [SizePoint(name, 10**power, Interval(power, None, None, 1)) for power in (5, 6)]
    trend = size_trend([(point.parameters, point.interval.mean) for point in points])
    nothing: Any = None
    section = Section(1, SuitePart(name, name, name, name, (name,)), nothing, None)
    section.curves = [SizeCurve(measure, name, tuple(points), trend)]
    models = Block(name, (name,), ((Field(name, name, value=name),),))
    return Frame(name, True, models, [("Source", name)], [name], [name], "a note", [section.trend()])
