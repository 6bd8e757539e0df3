"""The calibration itself: a small share of it, planted errors that it must find, and that its page is current."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from benchmarks.calibration import rules
from benchmarks.calibration.__main__ import RESULTS, load, main, results_of
from benchmarks.calibration.beds import Answers, bed
from benchmarks.calibration.benches import (
    Figures,
    Rate,
    Result,
    as_json,
    figures,
    from_json,
    one_run,
    result,
    runs,
    verdicts,
    versions,
)
from benchmarks.calibration.cases import CASES, Claim, loops, score, spec_of
from benchmarks.calibration.page import page, smallest_visible

from seqmem import RunRecord, Value
from seqmem_plugins.metrics import recovery

PAGE = Path(__file__).resolve().parents[2] / "docs" / "calibration.md"
SEEDS = 16

# measures of a case whose mean over 16 runs must lie within four standard errors of the truth
CHECKED = {
    "exponential": ("retention", "retention.auc", "retention.half_life", "backward_transfer", "interference"),
    "half recovered": ("recovery",),
    "forgetting, noise phi 0.8": ("recovery", "loop_contrast"),
    "window remembered": ("memory_signal", "memory_signal.behind"),
    "injections": ("effectivity", "decay"),
    "swing": ("oscillation",),
}


@cache
def made_runs(case: str) -> list[Mapping[str, float]]:
    return runs(case, 0, SEEDS)


@cache
def claims_of(case: str) -> Mapping[str, Claim]:
    return {claim.measure: claim for claim in CASES[case].claims() if claim.kind != "effect"}


def off(case: str, found: list[Mapping[str, float]], measure: str) -> float:
    """Distance of the mean from the truth, in standard errors."""
    one = result(claims_of(case)[measure], found)
    assert one.mean is not None and one.missing == 0
    return (one.mean - one.truth) / one.error


@pytest.mark.parametrize("case", CHECKED)
def test_metrics_return_the_truth(case: str) -> None:
    found = made_runs(case)
    for measure in CHECKED[case]:
        assert abs(off(case, found, measure)) < 4, measure


def biased(measure: str, by: float) -> Callable[[str, list[Mapping[str, float]]], float]:
    return lambda case, found: off(case, [{**one, measure: one[measure] + by} for one in found], measure)


@pytest.mark.parametrize(
    ("case", "measure", "by"),
    [
        ("exponential", "retention", 0.1),
        ("exponential", "retention.half_life", 0.15),
        ("half recovered", "recovery", 0.2),
        ("window remembered", "memory_signal", 0.03),
    ],
)
def test_a_planted_bias_is_found(case: str, measure: str, by: float) -> None:
    assert abs(biased(measure, by)(case, made_runs(case))) > 4


def test_a_metric_without_its_control_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery read at the maximum of all items, with nothing subtracted, sees recovery in noise."""

    def naive(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        gaps = recovery._late(run)
        curve = recovery._mean_curve(gaps[0].losses)
        recovered = float(curve.max() - curve[-1])
        return {measure.name: Value(recovered, 64) for measure in spec_of("recovery").measures}

    broken = replace(spec_of("recovery"), compute=naive)
    monkeypatch.setattr("benchmarks.calibration.cases.spec_of", lambda name: broken)
    monkeypatch.setattr("benchmarks.calibration.cases.shuffled", lambda random: loops())
    found = [one_run("noisy, nothing recovered", seed) for seed in range(40)]
    assert off("noisy, nothing recovered", found, "recovery") > 4


def test_a_run_is_the_same_for_its_number() -> None:
    assert one_run("power law", 3) == one_run("power law", 3) != one_run("power law", 4)


def test_a_record_through_the_disk_scores_the_same(tmp_path: Path) -> None:
    for scenario, metrics in (
        ("memory_loops", ("retention", "initial_recall", "interference", "latent_revival", "loop_contrast")),
        ("rolling_window", ("memory_signal",)),
    ):
        made, random = bed(scenario), np.random.default_rng(1)
        loss = 3 + random.standard_normal(made.shape)
        answers = Answers(loss, random.random(made.shape) < 0.5, random.standard_normal(made.shape))
        disk = made.write(tmp_path / scenario, answers)
        found = score(metrics, made.record(answers))
        assert found == pytest.approx(score(metrics, disk), nan_ok=True, abs=0, rel=0)
        assert np.isfinite([found[metric] for metric in metrics if metric != "loop_contrast"]).all()


# -- benches ----------------------------------------------------------------------------------------------


def test_normal_values_are_covered_and_a_null_fires_as_often_as_it_should() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 3000)
    for seeds in (3, 8):
        seen = figures(values, 0.3, seeds)
        assert seen.benches == 4000 and seen.without == 0
        assert seen.covered.share == pytest.approx(0.95, abs=0.015) and 0 < seen.covered.error < 0.01
        assert figures(values - 0.3, 0.0, seeds).fired.share == pytest.approx(0.025, abs=0.01)
    assert figures(values + 10, 0.0, 8).fired.share == 1
    wrong = figures(values + 0.8, 0.3, 8).covered.share
    assert wrong is not None and wrong < 0.7


def test_benches_without_two_values_have_no_interval() -> None:
    values = np.full(300, np.nan)
    values[::50] = 1.0
    seen = figures(values, 1.0, 3)
    assert seen.without > 0.9 and (seen.fired.share or 0) < 0.1


def made(kind: str, share: float, error: float = 0.01) -> Result:
    rate = Rate(share, error)
    return Result("m", kind, 0.0, "", (3, 8), 0.0, 0.1, 0.1, 0.0, {8: Figures(4000, rate, rate, 0.0)})


@pytest.mark.parametrize(
    ("kind", "share", "verdict"),
    [
        ("value", 0.95, "kept"),
        ("value", 0.915, "within error"),
        ("value", 0.90, "missed"),
        ("value", 0.995, "missed"),
        ("silent", 0.05, "kept"),
        ("silent", 0.065, "within error"),
        ("silent", 0.08, "missed"),
        ("effect", 0.96, "kept"),
        ("effect", 0.92, "missed"),
        ("power", 0.81, "kept"),
        ("power", 0.75, "missed"),
    ],
)
def test_a_bar_is_judged_as_it_stands(kind: str, share: float, verdict: str) -> None:
    assert verdicts(made(kind, share)) == {8: verdict}
    assert not verdicts(made("bias", share))


@pytest.mark.parametrize(("mean", "verdict"), [(0.0, "kept"), (0.1, "missed"), (-0.1, "missed")])
def test_a_null_may_not_lie_on_either_side_of_zero(mean: float, verdict: str) -> None:
    values = np.random.default_rng(1).normal(mean, 0.1, 3000)
    found = verdicts(result(Claim("m", "null", 0.0), [{"m": value} for value in values]))
    assert found[8] == verdict


def test_a_metric_that_says_nothing_keeps_no_bar() -> None:
    for kind in ("null", "silent"):
        assert verdicts(result(Claim("m", kind, 0.0), [{"m": np.nan}] * 300)) == {
            3: "no value",
            8: "no value",
        }


def test_a_result_survives_the_file() -> None:
    one = result(
        Claim("m", "null", 0.0), [{"m": value} for value in np.random.default_rng(0).normal(size=300)]
    )
    assert from_json(as_json(one)) == one  # type: ignore[comparison-overlap]


def test_smallest_visible_effect_is_seen_as_often_as_said() -> None:
    random = np.random.default_rng(0)
    for seeds in (3, 8):
        values = random.normal(smallest_visible(2.0, seeds), 2.0, 6000)
        assert figures(values, 0.0, seeds).fired.share == pytest.approx(0.95, abs=0.02)


def test_a_wrong_case_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nonsense"])
    assert "no case begins with nonsense" in capsys.readouterr().err


# -- the rules ----------------------------------------------------------------------------------------------


def test_the_rules_are_simulated_with_the_functions_of_the_tables() -> None:
    """A small share of the page: in most of the thirty cases and all tables the rules hold, and t does not."""
    text = rules.page(benches=40, tables=20)
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| 0.")]
    covers = np.array([[float(row[3]), float(row[4])] for row in rows])
    assert len(rows) == 30 and (covers[:, 1] > 85).all() and covers[:, 1].mean() > 95 > covers[:, 0].mean()
    shown = next(line for line in text.splitlines() if line.startswith("| nine, one differs by 3 SD"))
    before, now = (float(cell.strip(" %")) for cell in shown.split("|")[2:4])
    assert before < 50 < 90 < now


def test_the_page_of_the_rules_is_whole() -> None:
    text = (PAGE.parent / "calibration-rules.md").read_text("utf-8")
    assert text.count("\n| 0.") == 30
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        line for line in rules.PAGE.splitlines() if line.startswith("#")
    ]


# -- the page ---------------------------------------------------------------------------------------------


def test_the_page_is_made_of_the_figures_on_file() -> None:
    assert PAGE.read_text("utf-8") == page(load(), results_of(load()))


def test_every_case_was_measured_with_the_metrics_as_they_are() -> None:
    stored = load()
    stale = {name for name in CASES if name not in stored or stored[name]["versions"] != versions(name)}
    assert not stale, (
        f"run `python -m benchmarks.calibration --write docs/calibration.md` for {sorted(stale)}"
    )
    assert RESULTS.is_file()
