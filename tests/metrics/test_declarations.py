"""A metric is declared once, measure beside formula; what it reads of a stream's design the record says."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from helpers_records import Answer, Ask, Layout, write_record

import seqmem_plugins.metrics
from seqmem import Metric, Missing, NotApplicable, RunRecord, Value

METRICS = sorted(Path(seqmem_plugins.metrics.__file__).parent.rglob("*.py"))
FIGURES = [path.stem for path in METRICS if path.parent.name == "figures" and path.stem[0] != "_"]


def knows_all(ask: Ask, random: object) -> Answer:
    return Answer(not ask.twin)


@pytest.fixture
def run(tmp_path: Path) -> RunRecord:
    return write_record(tmp_path / "run", knows_all, Layout(rest=0))


def steps_of(run: RunRecord) -> int:
    return len(run.steps)


def test_measures_stand_in_the_order_of_their_declaration_with_the_formula_that_gives_them(
    run: RunRecord,
) -> None:
    metric = Metric("length", version="7", summary="how long", reads=steps_of, citation="nobody")

    @metric.measure("length", "steps", "none", "steps done", margin=2.0, role="tokens")
    def length(steps: int, times: int = 1) -> Value:
        return Value(float(times * steps), steps)

    metric.measure("length.double", "steps", "lower", "twice as many")(partial(length, times=2))

    (spec,) = metric.hook()
    assert (spec.name, spec.version, spec.summary, spec.citation) == ("length", "7", "how long", "nobody")
    assert [one.name for one in spec.measures] == ["length", "length.double"]
    assert (spec.measures[0].margin, spec.measures[0].role, spec.measures[1].direction) == (
        2.0,
        "tokens",
        "lower",
    )
    n = len(run.steps)
    assert spec.compute(run, {}) == {"length": Value(float(n), n), "length.double": Value(2.0 * n, n)}
    assert length(3) == Value(3.0, 3)  # a formula stays an ordinary function
    assert spec.draw is None


def test_a_measure_against_a_control_reads_it_when_it_asks_for_it(run: RunRecord) -> None:
    metric = Metric("more", version="1", summary="", reads=steps_of)

    @metric.against("shuffled", "more", "steps", "none", "more steps than the control")
    def more(steps: int, shuffled: Callable[[], int]) -> Value:
        return Value(float(steps - shuffled()), 1)

    (spec,) = metric.hook()
    assert spec.compute(run, {"shuffled": run})["more"] == Value(0.0, 1)
    assert spec.compute(run, {})["more"].reason == "needs the control 'shuffled', which was not run"


def test_what_cannot_be_read_costs_every_measure_and_what_does_not_apply_is_said(run: RunRecord) -> None:
    def nothing(run: RunRecord) -> int:
        raise Missing("nothing was asked")

    def never(run: RunRecord) -> int:
        raise NotApplicable("no scenario of mine")

    for reads in (nothing, never):
        metric = Metric("some", version="1", summary="", reads=reads)
        for name in ("some", "some.more"):
            metric.measure(name, "steps", "none", "")(lambda steps: Value(1.0, steps))
        (spec,) = metric.hook()
        if reads is nothing:
            assert [value.reason for value in spec.compute(run, {}).values()] == ["nothing was asked"] * 2
        else:
            with pytest.raises(NotApplicable, match="no scenario of mine"):
                spec.compute(run, {})


def test_figures_are_imported_when_they_are_drawn() -> None:
    """Scoring draws nothing, and matplotlib takes longer to import than all metrics."""
    modules = [point.module for point in entry_points(group="seqmem.metric")]
    code = "import importlib, sys\n"
    code += f"specs = [importlib.import_module(name).seqmem_metric()[0] for name in {modules}]\n"
    code += "assert 'matplotlib' not in sys.modules\n"
    code += "print(*sorted(spec.name for spec in specs if spec.draw))\n"
    code += f"for name in {FIGURES}:\n"
    code += "    assert callable(importlib.import_module(f'seqmem_plugins.metrics.figures.{name}').draw)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == FIGURES


@pytest.mark.parametrize("path", METRICS, ids=lambda path: path.stem)
def test_no_metric_reads_options_of_a_scenario(path: Path) -> None:
    """A stranger's scenario can use our metrics only when they ask the design, which every stream may declare."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            assert node.slice.value != "scenario" or "facts" in ast.unparse(node.value), (path, node.lineno)
