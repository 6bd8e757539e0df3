"""Gates: who may be ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import pytest

from seqmem.core.measures import Measure, Value
from seqmem.plugin.specs import MetricSpec
from seqmem.record.row import Row
from seqmem.reporting.blocks import section
from seqmem.scoring.comparison import Comparison, tabulate
from seqmem.scoring.scores import SCORE_COLUMNS

KEPT = Measure("kept", "share", "higher", "", margin=0.05)
HARM = Measure("harm", "nats/token", "lower", "", gate=0.05)
LEARNED = Measure("learned", "share", "higher", "", gate=0.05)
METRIC = MetricSpec("kept", "1", "", (KEPT, HARM, LEARNED), lambda run, controls: {})
NOISE = (0.011, -0.008, 0.003, -0.012, 0.007, -0.001, 0.009, -0.009)


def compared(
    rows: Mapping[str, Mapping[str, float]],
    *,
    seeds: int = 8,
    searches: Mapping[str, int] | None = None,
    metric: MetricSpec = METRIC,
    missing: Mapping[tuple[str, str], Sequence[int]] | None = None,
    changes_stream: Sequence[str] = (),
    reference: str | None = "naive",
) -> Comparison:
    """A table of rows whose measures have these means, with a little noise of their own."""
    lines = [
        (label, seed, metric.name, name, mean + NOISE[seed] * (1 + place), 10, "")
        for place, (label, means) in enumerate(rows.items())
        for name, mean in means.items()
        for seed in range(seeds)
        if seed not in (missing or {}).get((label, name), ())
    ]
    made: Sequence[Row] = [
        Row(
            label,
            {"scenario": "s", "model": "m", "changes_stream": label in changes_stream}
            | ({"search": search(budget)} if budget else {}),
            {},
            reference=reference,
        )
        for label in rows
        for budget in [(searches or {}).get(label, 0)]
    ]
    scores = pd.DataFrame(lines, columns=list(SCORE_COLUMNS))
    return tabulate(made, [metric], {"s": "kept"}, scores).boards[0]


def search(budget: int) -> dict[str, object]:
    return {
        "budget": budget, "runs": budget, "seeds": [100], "space": {},
        "measure": "kept", "lowest": 0.2, "highest": 0.7,
    }  # fmt: skip


GOOD = {"kept": 0.5, "harm": 0.1, "learned": 0.9}


@pytest.mark.parametrize(
    ("row", "passes"),
    [
        ({"kept": 0.8, "harm": 0.1, "learned": 0.9}, True),
        ({"kept": 0.8, "harm": 0.12, "learned": 0.89}, True),  # a little worse, and shown to be no more
        ({"kept": 0.8, "harm": 0.3, "learned": 0.9}, False),
        ({"kept": 0.8, "harm": 0.1, "learned": 0.5}, False),
        ({"kept": 0.8, "harm": 0.02, "learned": 1.0}, True),  # better is no fault
        ({"kept": 0.8, "learned": 0.9}, False),  # the reference has a value and this row has none
    ],
)
def test_a_row_that_loses_more_than_a_gate_is_not_ranked(row: Mapping[str, float], passes: bool) -> None:
    found = compared({"naive": GOOD, "poor": {**GOOD, "kept": 0.3}, "other": row})
    assert found.ranks["poor"] == (3 if passes else 2)
    assert (found.ranks["other"] == 1) is passes
    assert found.ranks["naive"] == (2 if passes else 1)  # who fails is not above anybody
    assert bool(found.verdicts["other"].unranked) is not passes
    assert found.verdicts["other"].finding == "better"  # what was shown stays shown


def test_a_loss_that_could_be_larger_than_the_gate_fails_it() -> None:
    found = compared({"naive": GOOD, "other": {**GOOD, "harm": 0.145}})
    assert found.ranks["other"] is None
    assert "harm could be worse than naive's by more than 0.05" in found.no_rank["other"]


@pytest.mark.parametrize("without", [range(4, 8), range(2, 8), (7,)])
def test_a_gate_has_to_be_shown_on_all_seeds_that_the_rank_rests_on(without: Sequence[int]) -> None:
    rows = {"naive": GOOD, "poor": {**GOOD, "kept": 0.3}, "other": {**GOOD, "kept": 0.8}}
    found = compared(rows, missing={("other", "harm"): without})
    assert found.ranks["other"] is None
    assert (
        f"harm has a value to compare with naive's on {8 - len(without)} of 8 seeds" in found.no_rank["other"]
    )


def test_a_reference_that_changes_the_stream_is_compared_with_as_any_other() -> None:
    found = compared({"naive": GOOD, "other": {**GOOD, "kept": 0.8}}, changes_stream=("naive",))
    assert found.ranks == {"naive": 2, "other": 1}
    assert section(found).blocks


def test_without_a_reference_unequal_budgets_rank_nobody() -> None:
    found = compared({"a": GOOD, "b": {**GOOD, "kept": 0.8}}, searches={"a": 4, "b": 400}, reference=None)
    assert found.ranks == {"a": None, "b": None}
    assert "a budget of 4 runs and a budget of 400 runs" in found.no_rank["a"]


def test_a_gate_is_printed_as_it_is_stated() -> None:
    fine = replace(METRIC, measures=(KEPT, replace(HARM, gate=0.025)))
    found = compared({"naive": {"kept": 0.5, "harm": 0.1}, "other": {"kept": 0.5, "harm": 0.3}}, metric=fine)
    assert "by more than 0.025 " in found.no_rank["other"]
    assert any("gate 0.025" in column for block in section(found).blocks for column in block.columns)


def test_on_three_seeds_only_a_shown_loss_fails() -> None:
    unsure = compared({"naive": GOOD, "other": {**GOOD, "harm": 0.145}}, seeds=3)
    assert unsure.verdicts["other"].unranked == ""
    sure = compared({"naive": GOOD, "other": {**GOOD, "harm": 0.4}}, seeds=3)
    assert sure.verdicts["other"].unranked.startswith("harm is worse than naive's by more than 0.05")


def test_a_gate_that_the_reference_has_no_value_of_asks_nothing() -> None:
    rows = {"naive": {"kept": 0.5}, "other": {"kept": 0.8}}
    assert compared(rows).gates == ()
    assert compared(rows).ranks == {"naive": 2, "other": 1}


def test_rows_with_unequal_searches_are_not_ranked_together() -> None:
    rows = {"naive": GOOD, "tuned": {**GOOD, "kept": 0.7}, "plain": {**GOOD, "kept": 0.7}}
    found = compared(rows, searches={"naive": 12, "tuned": 12})
    assert found.ranks == {"naive": 2, "tuned": 1, "plain": None}
    assert found.no_rank["plain"].startswith("searched with no budget, naive with a budget of 12 runs")


@pytest.mark.parametrize(
    ("measure", "fault"),
    [
        ({"direction": "none", "gate": 0.1}, "needs a better direction"),
        ({"direction": "higher", "gate": 0.0}, "must be above 0"),
    ],
)
def test_a_gate_that_nobody_could_fail_is_refused(measure: Mapping[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Measure("score", "share", summary="", **measure)  # type: ignore[arg-type]


GRADED = MetricSpec(
    "kept",
    "1",
    "",
    (Measure("kept", "share", "higher", "", graded="kept.graded"),
     Measure("kept.graded", "nats/token", "higher", "")),
    lambda run, controls: {"kept": Value(1.0), "kept.graded": Value(1.0)},
)  # fmt: skip


def test_the_graded_measure_is_judged_beside_the_primary() -> None:
    found = compared({"naive": {"kept": 0.5, "kept.graded": 1.0}, "other": {"kept": 0.501, "kept.graded": 2.0}},
                     metric=GRADED)  # fmt: skip
    verdict = found.verdicts["other"]
    assert verdict.finding == "not_shown"
    assert verdict.graded is not None and verdict.graded.finding == "better"
    assert verdict.by_degrees is verdict.graded
    assert "kept.graded: other 2" in verdict.text and "better (p .0" in verdict.text


def test_both_measures_are_one_family() -> None:
    rows = {
        "naive": {"kept": 0.5, "kept.graded": 1.0},
        **{f"row {n}": {"kept": 0.5, "kept.graded": 1.0} for n in range(3)},
    }
    both = compared(rows, metric=GRADED)
    alone = compared({label: {"kept": means["kept"]} for label, means in rows.items()}, metric=GRADED)
    for label in rows.keys() - {"naive"}:
        ours, theirs = (found.cells[label, "kept"].difference for found in (both, alone))
        assert ours is not None and theirs is not None
        assert ours.p is not None and theirs.p is not None and ours.p >= theirs.p


def test_a_measure_by_degrees_that_is_not_given_is_refused() -> None:
    with pytest.raises(ValueError, match="graded is 'gone', allowed: kept"):
        MetricSpec("kept", "1", "", (Measure("kept", "share", "higher", "", graded="gone"),), lambda r, c: {})
