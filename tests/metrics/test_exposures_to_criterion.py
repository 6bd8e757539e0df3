"""`exposures_to_criterion` on records whose answers are planted: criterion, censoring, survival, and its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_records import Answer, seal_record, write_record

from seqmem import NotApplicable, Row, RunRecord, Value
from seqmem.reading import first_run
from seqmem.record.files import write_table
from seqmem.record.schema import FORMAT, ITEMS
from seqmem.record.writer import RecordWriter
from seqmem.reporting.figures import draw_metric
from seqmem_plugins.metrics._trials import Trial, restricted_mean, survival, trials
from seqmem_plugins.metrics.exposures_to_criterion import seqmem_metric
from seqmem_plugins.metrics.figures.exposures_to_criterion import cell_of, draw

(SPEC,) = seqmem_metric()
NAME = "exposures_to_criterion"
LIMIT, BASE, AFTER = 10, 3, 4
"""Exposures of each fact, steps before the facts, and steps after each fact's exposures."""


@dataclass(frozen=True)
class Fact:
    """A planted fact: right answers by exposures done (0 to 10), and what the twin says."""

    right: Sequence[int]
    survives: bool = False
    twin_right: Sequence[int] = ()
    spill: float = 0.0
    loss: float = 2.0
    count: int = 1


def always_from(exposures: int | None, **more: Any) -> Fact:
    """Right from this number of exposures on; None for never."""
    return Fact(range(exposures, LIMIT + 1) if exposures is not None else (), **more)


def record(
    folder: Path,
    facts: Sequence[Fact],
    *,
    criterion: int = 1,
    seed: int = 0,
    lr: float = 1e-3,
    others: int = 0,
    base_loss: float = 2.0,
    survival_asked: bool = True,
) -> RunRecord:
    """A run in which every fact is stated `count` times a step over ten steps."""
    folder.mkdir(parents=True)
    items: dict[str, list[Any]] = {name: [] for name in ITEMS.names}

    def item(probe: str, twin_of: str | None, number: int | None, relation: str) -> None:
        chance = None if relation == "general" else 0.01
        row = (
            *(probe, probe, twin_of, relation, "none", number, "prompt", "answer", chance),
            *([], "", number, 0, False),
        )
        for name, value in zip(ITEMS.names, row, strict=True):
            items[name].append(value)

    for number in range(len(facts)):
        item(f"f{number}", None, number, "question")
        item(f"t{number}", f"f{number}", number, "question")
    item("document", None, None, "general")
    write_table(folder / "items.parquet", items, ITEMS)

    writer = RecordWriter(folder)

    def visit(index: int, phase: str, label: int | None, first: int, steps: int) -> None:
        writer.add(
            "experiences",
            experience=[index],
            name=[f"part {index}"],
            phase=[phase],
            task_label=[label],
            first_step=[first],
            steps=[steps],
            trains=["all"],
            start_from=["base" if phase == "inject" else None],
            save_as=["base" if index == 0 else None],
        )

    def ask(step: int, index: int, schedule: str, **rows: Sequence[Any]) -> None:
        n = len(rows["probe"])
        empty = {name: [None] * n for name in ("best_other", "rank", "choice", "in_form")}
        writer.add(
            "probes",
            **{
                **{"step": [step] * n, "experience": [index] * n, "after": [0] * n, "tokens": [1] * n},
                **{
                    "schedule": [(schedule,)] * n,
                    "closed": [None] * n,
                    "sampled": [None] * n,
                    "said": [None] * n,
                },
                **empty,
                **rows,
            },
        )

    def general(step: int, index: int, loss: float) -> None:
        ask(step, index, "general", probe=["document"], logprob=[-loss], correct=[False])

    visit(0, "general", None, 0, BASE)
    general(0, 0, 9.0)  # before the base: not what facts start from
    general(BASE, 0, base_loss)
    step = BASE
    for number, fact in enumerate(facts):
        visit(1 + 2 * number, "inject", number, step, LIMIT)
        for done in range(LIMIT + 1):
            ask(
                step + done,
                1 + 2 * number,
                "exposure",
                probe=[f"f{number}", f"t{number}"],
                logprob=[-1.0, -2.0],
                correct=[done in fact.right, done in fact.twin_right],
                best_other=[None, log(fact.spill) if fact.spill else -50.0 - done],
            )
        at = list(range(step + 1, step + LIMIT + 1))
        writer.add(
            "exposures",
            step=at,
            fact=[f"f{number}"] * LIMIT,
            count=[fact.count] * LIMIT,
            rehearsed=[0] * LIMIT,
        )
        step += LIMIT
        general(step, 1 + 2 * number, fact.loss)
        visit(2 + 2 * number, "general", None, step, AFTER)
        step += AFTER
        if survival_asked:
            ask(
                step,
                2 + 2 * number,
                "survival",
                probe=[f"f{number}", f"t{number}"],
                logprob=[-1.0, -2.0],
                correct=[fact.survives, False],
            )
    general(step, 2 * len(facts), 99.0)  # after the last background: nothing's exposures end there
    writer.flush()
    options = {"criterion": criterion, "max_exposures": LIMIT, "others": others}
    info = {
        "format": FORMAT,
        "recipe": {"seed": seed, "optimizer": {"lr": lr}},
        "design": options,
        "status": "finished",
        "primary_relation": "question",
    }
    return seal_record(folder, info)


def score(run: RunRecord) -> Mapping[str, Value]:
    return SPEC.compute(run, {})


def number(value: Value) -> float:
    assert value.value is not None, value.reason
    return value.value


# -- the criterion ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "length", "start"),
    [
        ([0, 0, 1, 1], 2, 2),
        ([0, 1, 0, 1, 1, 0], 2, 3),
        ([0, 1, 0, 1, 1, 0], 1, 1),
        ([1, 1, 1], 3, 0),
        ([0, 0, 0, 1], 2, None),
        ([0, 1, 0, 1], 2, None),
        ([], 1, None),
    ],
)
def test_a_run_of_right_answers_is_found_where_it_begins(
    right: list[int], length: int, start: int | None
) -> None:
    assert first_run(np.array(right, dtype=bool), length) == start


def test_exposures_are_those_before_the_first_of_the_right_answers_in_a_row(tmp_path: Path) -> None:
    facts = [
        Fact((2, 4, 5, 6)),  # once right and wrong again: with two in a row, 4
        Fact((0, 1)),  # known before it was ever stated
        Fact((10,)),  # right once, too late for two in a row
        Fact((3, 5, 7, 9)),  # never twice in a row
    ]
    for criterion, expected in (
        (1, [(2, True), (0, True), (10, True), (3, True)]),
        (2, [(4, True), (0, True), (9, False), (9, False)]),
        (3, [(4, True), (8, False), (8, False), (8, False)]),
    ):
        found = trials(record(tmp_path / str(criterion), facts, criterion=criterion))
        assert [(trial.exposures, trial.reached) for trial in found] == expected
        assert [trial.fact for trial in found] == ["f0", "f1", "f2", "f3"]


def test_exposures_are_counted_from_what_was_trained_not_from_steps(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [always_from(3, count=2), always_from(None, count=3)])
    assert [trial.exposures for trial in trials(run)] == [6, 30]


# -- Kaplan-Meier -----------------------------------------------------------------------------------------


def trial(exposures: int, reached: bool = True) -> Trial:
    return Trial("f", exposures, reached, 0 if reached else None)


def test_kaplan_meier_by_hand() -> None:
    found = [trial(2), trial(3), trial(3, False), trial(5), trial(8, False), trial(8)]
    times, share = survival(found)
    # at risk 6, 5, 3, 2: S falls by 1/6, 1/5, 1/3, 1/2 of itself; a fact censored at k is still at risk at k
    assert times.tolist() == [2, 3, 5, 8]
    assert share == pytest.approx([5 / 6, 4 / 6, 4 / 9, 2 / 9])
    assert restricted_mean(found, 10) == pytest.approx(2 + 5 / 6 + 2 * 4 / 6 + 3 * 4 / 9 + 2 * 2 / 9)


def test_with_one_limit_for_all_the_restricted_mean_is_the_mean_with_the_censored_at_the_limit() -> None:
    found = [trial(2), trial(5), trial(10, False), trial(3)]
    assert restricted_mean(found, 10) == pytest.approx((2 + 5 + 10 + 3) / 4)
    assert restricted_mean([trial(10, False)] * 3, 10) == 10
    assert restricted_mean([trial(0)] * 3, 10) == 0


def test_the_measures_of_a_planted_record(tmp_path: Path) -> None:
    facts = [
        always_from(2, survives=True, spill=0.1, loss=2.5),
        always_from(3, survives=False, spill=0.3, loss=2.7),
        always_from(5, survives=True, spill=0.5, loss=2.0),
        always_from(None, survives=True, spill=0.9, loss=3.2, twin_right=(4, 5, 6)),
    ]
    values = score(record(tmp_path / "run", facts, criterion=2))
    assert list(values) == [measure.name for measure in SPEC.measures]
    assert {name.removeprefix(NAME): number(value) for name, value in values.items()} == {
        "": pytest.approx((2 + 3 + 5 + 9) / 4),  # a run of two begins at 9 exposures or before
        ".median": 3,
        ".reached": 0.75,
        ".survived": pytest.approx(2 / 3),  # of those that reached it
        ".twins": 0.25,
        ".spill": pytest.approx((0.1 + 0.3 + 0.5) / 3),  # of those, when they did
        ".harm": pytest.approx((0.5 + 0.7 + 0.0 + 1.2) / 4),
    }
    assert [value.n_items for value in values.values()] == [4, 4, 4, 3, 4, 3, 4]


def test_spill_is_read_when_the_fact_is_first_recalled(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [always_from(7)])
    assert number(score(run)[f"{NAME}.spill"]) == pytest.approx(exp(-57))


def test_censoring_is_stated_where_the_criterion_is_never_reached(tmp_path: Path) -> None:
    values = score(record(tmp_path / "most", [always_from(1), *[always_from(None)] * 2]))
    assert values[f"{NAME}.median"].value is None
    assert values[f"{NAME}.median"].reason == "2 of 3 facts were not recalled within 10 exposures"
    assert number(values[NAME]) == pytest.approx(7)
    assert number(values[f"{NAME}.reached"]) == pytest.approx(1 / 3)
    half = score(record(tmp_path / "half", [always_from(4), always_from(None)]))
    assert half[f"{NAME}.median"] == Value(4.0, 2)  # S(4) is one half
    never = score(record(tmp_path / "never", [always_from(None)] * 2))
    assert never[NAME] == Value(10.0, 2) and never[f"{NAME}.reached"] == Value(0.0, 2)
    for name in ("survived", "spill"):
        assert never[f"{NAME}.{name}"].reason == "no fact reached the criterion"


@pytest.mark.parametrize("criterion", [1, 2, 4])
def test_a_fact_is_censored_at_the_last_exposure_from_which_it_could_have_been_recalled(
    criterion: int, tmp_path: Path
) -> None:
    """A fact right from just there has its exposures; one right an exposure later is known to need more."""
    limit = LIMIT - criterion + 1
    late, later = always_from(limit), always_from(limit + 1)
    run = record(tmp_path / "run", [late, later], criterion=criterion)
    assert [(trial.exposures, trial.reached) for trial in trials(run)] == [(limit, True), (limit, False)]
    missed = record(tmp_path / "missed", [later] * 2, criterion=criterion)
    values = score(missed)
    assert values[NAME] == Value(float(limit), 2)
    assert values[f"{NAME}.median"].reason == f"2 of 2 facts were not recalled within {limit} exposures"
    cell = cell_of(Row("naive", {}, {0: missed}))
    assert cell is not None and cell.text == f"> {limit}\n0 of 2"


def test_what_was_not_asked_is_missing_with_a_reason(tmp_path: Path) -> None:
    values = score(record(tmp_path / "run", [always_from(1)], survival_asked=False))
    assert values[f"{NAME}.survived"].reason == "no fact was asked after the background that follows"


def test_other_scenarios_have_nothing_for_it(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="no fact is asked after every one of its exposures"):
        score(write_record(tmp_path / "loops", lambda ask, random: Answer()))


def test_a_known_chance_of_learning_is_recovered(tmp_path: Path) -> None:
    """Each exposure teaches a fact with probability .15: the mean over runs is that of the truth.

    E min(K, 10) = sum over k < 10 of .85^k, and P(K <= 10) = 1 - .85^10.
    """
    draw_numbers = np.random.default_rng(3)
    means, shares = [], []
    for seed in range(12):
        needed = draw_numbers.geometric(0.15, size=20)
        facts = [always_from(int(k) if k <= LIMIT else None) for k in needed]
        values = score(record(tmp_path / str(seed), facts, seed=seed))
        means.append(number(values[NAME]))
        shares.append(number(values[f"{NAME}.reached"]))
    for found, truth in ((means, sum(0.85**k for k in range(LIMIT))), (shares, 1 - 0.85**LIMIT)):
        error = np.std(found, ddof=1) / np.sqrt(len(found))
        assert abs(np.mean(found) - truth) < 3 * error
        assert error < 0.3


# -- figure -----------------------------------------------------------------------------------------------


def row_of(
    folder: Path,
    plans: Sequence[Sequence[Fact]],
    *,
    strategy: str = "naive",
    lr: float = 1e-3,
    others: int = 0,
    swept: Sequence[str] = ("optimizer.lr", "scenario.others"),
    **more: Any,
) -> Row:
    values = {"optimizer.lr": lr, "scenario.others": others, **more}
    label = " ".join([strategy, *(f"{name}={values[name]}" for name in (*swept, *more))])
    runs = {
        seed: record(folder / label / str(seed), facts, seed=seed, lr=lr, others=others)
        for seed, facts in enumerate(plans)
    }
    return Row(
        label=label,
        facts={"scenario": "learning_threshold", "model": "tiny", "strategy": strategy},
        runs=runs,
        swept={name: values[name] for name in (*swept, *more)},
    )


def texts(axis: Any) -> dict[tuple[float, float], str]:
    return {(text.get_position()[0], text.get_position()[1]): text.get_text() for text in axis.texts}


def test_the_surface_shows_means_over_seeds_and_marks_censored_cells(tmp_path: Path) -> None:
    rows = [
        row_of(tmp_path, [[always_from(2)] * 2, [always_from(3)] * 2], lr=1e-3, others=0),
        row_of(tmp_path, [[always_from(4), always_from(None)]] * 2, lr=1e-3, others=15),
        row_of(tmp_path, [[always_from(None)] * 2] * 2, lr=1e-2, others=15),
    ]
    figure = draw(rows)
    assert figure is not None
    surface = figure.axes[0]
    assert texts(surface) == {
        (0, 0): "2.5\n4 of 4",
        (1, 0): "≥ 7.0\n2 of 4",
        (1, 1): "> 10\n0 of 4",
    }
    assert [label.get_text() for label in surface.get_xticklabels()] == ["0", "15"]
    assert [label.get_text() for label in surface.get_yticklabels()] == ["0.001", "0.01"]
    (image,) = surface.images
    shown = np.ma.filled(image.get_array(), np.nan)
    np.testing.assert_allclose(shown, [[2.5, 7.0], [np.nan, 10.0]])
    assert "mean over 2 seeds" in (figure.get_suptitle() or "")
    paths = draw_metric(SPEC, rows, tmp_path / "figure")
    assert paths is not None and all(path.stat().st_size > 5000 for path in paths)


def test_there_is_a_panel_per_strategy_and_per_value_of_what_else_is_swept(tmp_path: Path) -> None:
    rows = [
        row_of(tmp_path, [[always_from(2)]], strategy=strategy, lr=lr, **{"scenario.criterion": criterion})
        for strategy in ("naive", "ewc")
        for criterion in (1, 2)
        for lr in (1e-3, 1e-2)
    ]
    figure = draw(rows)
    assert figure is not None
    panels = [axis for axis in figure.axes if axis.images and axis.get_visible()]
    assert [axis.get_title() for axis in panels] == [
        f"{strategy} scenario.criterion={criterion}" for strategy in ("naive", "ewc") for criterion in (1, 2)
    ]


def test_one_swept_option_is_enough_and_none_is_too_few(tmp_path: Path) -> None:
    rates = [
        row_of(tmp_path / "lr", [[always_from(2)]], lr=lr, swept=["optimizer.lr"]) for lr in (1e-3, 1e-2)
    ]
    figure = draw(rates)
    assert figure is not None and len(texts(figure.axes[0])) == 2
    assert draw([row_of(tmp_path / "none", [[always_from(2)]], swept=[])]) is None


def test_the_batch_mix_is_read_from_the_design_whatever_the_option_is_called(tmp_path: Path) -> None:
    rows = [
        row_of(tmp_path, [[always_from(2)]], others=mix, swept=["scenario.mix"], **{"scenario.mix": mix})
        for mix in (0, 15)
    ]
    figure = draw(rows)
    assert figure is not None
    assert figure.axes[0].get_title() == "naive"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "15"]


def test_rows_of_another_scenario_are_not_drawn(tmp_path: Path) -> None:
    loops = write_record(tmp_path / "loops", lambda ask, random: Answer())
    row = Row(label="loops", facts={"strategy": "naive"}, runs={0: loops}, swept={"optimizer.lr": 1e-3})
    assert draw([row]) is None
