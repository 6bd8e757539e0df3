"""Verdicts: one object per row, made where the comparison is made and read by every writer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from seqmem import Measure, RunRecord
from seqmem.core.measures import Interval
from seqmem.record.row import Row
from seqmem.reporting.charts import FINDINGS
from seqmem.reporting.words import answer, headline
from seqmem.scoring.cells import Cell
from seqmem.scoring.comparison import Comparison
from seqmem.scoring.statistics import Difference
from seqmem.scoring.verdict import Finding, Verdict, judge

SCORE = Measure("score", "fraction", "higher", "a number", 0.05)
VALUE = Interval(0.5, 0.4, 0.6, 8)
SHOWN = Difference(Interval(0.2, 0.1, 0.3, 8), 0.01, raw_p=0.01, equivalent=False, detectable=0.1)
FEW = "with 8 common seeds and 7 comparisons a row that differs alone cannot be told, with 9 it can"


def row(label: str, weights: str = "") -> Row:
    runs = {0: RunRecord(Path(), {"final_weights": weights})} if weights else {}
    return Row(label, {}, runs, {}, "naive")


def verdict(
    difference: Difference | None = SHOWN,
    value: Interval | None = VALUE,
    *,
    measure: Measure = SCORE,
    few: str = "",
    reference: str | None = "naive",
    weights: tuple[str, str] = ("", ""),
) -> Verdict:
    compared = row("naive", weights[0]) if reference else None
    cell = Cell(value, 8, difference, "" if value else "nobody knows")
    return judge(row("other", weights[1]), reference, compared, measure, cell, few)


HIGHER = replace(SHOWN, interval=Interval(-0.2, -0.3, -0.1, 8))
QUIET = replace(SHOWN, p=0.5)
SMALL = replace(SHOWN, equivalent=True)
NO_TEST = replace(SHOWN, p=None, reason="3 common seeds: a test needs 6")


@pytest.mark.parametrize(
    ("made", "finding", "said"),
    [
        (verdict(), "better", "differs from naive: yes, better (p .010); difference .20 [.10, .30]"),
        (verdict(HIGHER), "worse", "differs from naive: yes, worse (p .010); difference -.20 [-.30, -.10]"),
        (
            verdict(HIGHER, measure=replace(SCORE, direction="lower")),
            "better",
            "differs from naive: yes, better (p .010); difference -.20 [-.30, -.10]",
        ),
        (
            verdict(measure=replace(SCORE, direction="none")),
            "differs",
            "differs from naive: yes, higher (p .010); difference .20 [.10, .30]",
        ),
        (
            verdict(SMALL),
            "better",
            "differs from naive: yes, better (p .010), but by less than .05; difference .20 [.10, .30]",
        ),
        (
            verdict(replace(QUIET, equivalent=True)),
            "alike",
            "differs from naive: no, the same within ±.05 (p .500); difference .20 [.10, .30]",
        ),
        (
            verdict(QUIET),
            "not_shown",
            "differs from naive: not shown, the interval could have seen .10 (p .500); difference .20 [.10, .30]",
        ),
        (
            verdict(replace(QUIET, detectable=None)),
            "not_shown",
            "differs from naive: not shown (p .500); difference .20 [.10, .30]",
        ),
        (
            verdict(QUIET, few=FEW),
            "too_few_seeds",
            f"differs from naive: not known, {FEW} (p .500); difference .20 [.10, .30]",
        ),
        (
            verdict(NO_TEST),
            "no_test",
            "differs from naive: not known, no test (3 common seeds: a test needs 6); difference .20 [.10, .30]",
        ),
        (verdict(None), "no_pair", "not compared with naive"),
        (verdict(None, None), "no_value", "not compared with naive"),
        (verdict(None, reference=None), "no_reference", "nothing to compare with"),
        (verdict(None, reference="other"), "reference", "the reference"),
        (
            verdict(QUIET, weights=("w", "w")),
            "identical",
            "differs from naive: no, other had no effect here: its weights end bit for bit as those of naive",
        ),
        (
            verdict(QUIET, weights=("w", "v")),
            "not_shown",
            "differs from naive: not shown, the interval could have seen .10 (p .500); difference .20 [.10, .30]",
        ),
    ],
)
def test_every_finding_has_its_words(made: Verdict, finding: Finding, said: str) -> None:
    assert made.finding == finding
    assert answer(made) == said


def test_every_finding_has_a_look() -> None:
    assert set(FINDINGS) == set(get_args(Finding))


def compared(*verdicts: Verdict) -> Comparison:
    rows = tuple(row(one.label) for one in verdicts)
    cells = {(one.label, "score"): Cell(one.value, 8, one.difference, "") for one in verdicts}
    by_label = {one.label: one for one in verdicts}
    return Comparison("s", "m", "naive", SCORE, rows, (SCORE,), cells, {}, {}, by_label, {}, {})


def test_the_headline_goes_by_findings_and_not_by_texts() -> None:
    """Rows that are called like outcomes, and one whose weights did not change though a metric sees a difference."""
    verdicts = [
        replace(verdict(), label="no verdict"),
        replace(verdict(QUIET), label="no difference shown"),
        replace(verdict(SMALL, weights=("w", "w")), label="idle"),
        replace(verdict(SMALL), label="slight"),
        replace(verdict(None, None), label="same"),
    ]
    assert headline(compared(*verdicts)) == (
        "Better than naive: no verdict, slight (by less than .05); no different from naive: idle; "
        "no difference from naive shown: no difference shown."
    )
