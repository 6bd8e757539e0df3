"""`bits_per_parameter` on records whose probabilities are known, and the figure it draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers_records import Answer, seal_record, write_record

from seqmem import MetricSpec, NotApplicable, RunRecord, Value
from seqmem.record.files import write_table
from seqmem.record.row import Row
from seqmem.record.schema import FORMAT, ITEMS
from seqmem.record.writer import RecordWriter
from seqmem.reporting.figures import draw_metric
from seqmem_plugins.metrics.bits_per_parameter import (
    capacity,
    exposures_at,
    learned_bits,
    offered_bits,
    seqmem_metric,
    trained_facts,
)

(SPEC,) = seqmem_metric()
STEPS = (0, 10, 20)


def record(
    folder: Path,
    known: Sequence[Mapping[str, float]],
    twins: Mapping[str, float] | None = None,
    *,
    values: int = 4,
    trained: int = 0,
    parameters: int = 100,
    each: int = 2,
    **changes: Any,
) -> RunRecord:
    """A run that asks at steps 0, 10 and 20.

    Args:
        folder: where it is written.
        known: per boundary, fact to the probability of its value, renormalised over the closed set.
        twins: twin to the same, at every boundary.
        values: size of the closed set, scored whole.
        trained: facts stated in training; by default those asked for.
        parameters: of the model.
        each: statements of each fact by step 10; as many follow.
        **changes: columns of the items or the probes that are to be otherwise.
    """
    folder.mkdir(parents=True)
    facts, others = list(known[0]), list(twins or {})
    count = len(facts) + len(others)
    items: dict[str, Any] = {
        "probe": [f"{fact}-verbatim" for fact in [*facts, *others]],
        "fact": [*facts, *others],
        "twin_of": [*[None] * len(facts), *facts[: len(others)]],
        "relation": ["verbatim"] * count,
        "cue": ["none"] * count,
        "task_label": [None] * count,
        "prompt": ["Ada Balden"] * count,
        "answer": [" rose"] * count,
        "chance": [1 / values] * count,
        "choices": [[str(value) for value in range(values)]] * count,
        "group": [""] * count,
        "position": [0] * count,
        "context": [0] * count,
        "task_known": [False] * count,
    }
    write_table(
        folder / "items.parquet", {**items, **{k: v for k, v in changes.items() if k in items}}, ITEMS
    )
    writer = RecordWriter(folder)
    for experience, (step, asked) in enumerate(zip(STEPS, known, strict=False)):
        closed = [math.log(asked[fact]) for fact in facts] + [math.log(p) for p in (twins or {}).values()]
        probes: dict[str, Any] = {
            "step": [step] * count,
            "experience": [experience] * count,
            "after": [0] * count,
            "schedule": [("boundary",)] * count,
            "probe": items["probe"],
            "logprob": [-9.0] * count,
            "tokens": [1] * count,
            "correct": [False] * count,
            "best_other": [None] * count,
            "rank": [None] * count,
            "choice": [None] * count,
            "in_form": [None] * count,
            "closed": closed,
            "sampled": [None] * count,
            "said": [None] * count,
        }
        writer.add("probes", **{**probes, **{k: v for k, v in changes.items() if k in probes}})
    stated = [f"stated {number}" for number in range(trained)] or facts
    for step in (5, 10, 15, 20):
        writer.add(
            "exposures",
            step=[step] * len(stated),
            fact=stated,
            count=[each // 2] * len(stated),
            rehearsed=[0] * len(stated),
        )
    writer.flush()
    info = {
        "format": FORMAT,
        "recipe": {"seed": 0, "model": {"parameters": parameters}},
        "status": "finished",
        "primary_relation": "verbatim",
    }
    return seal_record(folder, info)


def score(run: RunRecord) -> Mapping[str, Value]:
    return SPEC.compute(run, {})


def number(value: Value) -> float:
    assert value.value is not None, value.reason
    return value.value


GUESS = {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}
HALF = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5}
MIXED = {"a": 1.0, "b": 0.5, "c": 0.25, "d": 0.125}  # 2, 1, 0 and -1 bits


def test_the_bits_of_an_item_are_log_v_minus_the_cross_entropy(tmp_path: Path) -> None:
    bits = learned_bits(record(tmp_path / "run", [GUESS, HALF, MIXED]))
    assert bits.loc[0].to_list() == pytest.approx([0, 0, 0, 0])
    assert bits.loc[10].to_list() == pytest.approx([1, 1, 1, 1])
    assert bits.loc[20].to_list() == pytest.approx([2, 1, 0, -1])


def test_capacity_is_the_mean_times_the_facts_over_the_parameters(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [GUESS, HALF, MIXED])
    assert capacity(run).to_list() == pytest.approx([0, 4 / 100, 0.5 * 4 / 100])
    values = score(run)
    assert values["bits_per_parameter"].n_items == 4
    assert number(values["bits_per_parameter"]) == pytest.approx(0.02)
    assert number(values["bits_per_parameter.share"]) == pytest.approx(0.25)


def test_facts_asked_for_stand_for_all_that_were_trained(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [GUESS, HALF, HALF], trained=40, parameters=50)
    assert trained_facts(run) == 40
    assert number(score(run)["bits_per_parameter"]) == pytest.approx(40 / 50)
    assert number(score(run)["bits_per_parameter.share"]) == pytest.approx(0.5)


def test_the_floor_is_under_the_mean_and_not_under_each_item(tmp_path: Path) -> None:
    sure_and_wrong = {"a": 1.0, "b": 1e-3, "c": 0.25, "d": 0.25}  # 2, -8, 0, 0 bits
    values = score(record(tmp_path / "run", [GUESS, HALF, sure_and_wrong]))
    assert number(values["bits_per_parameter"]) == 0
    assert number(values["bits_per_parameter.share"]) == 0


def test_whoever_knows_half_of_the_set_is_out_has_one_bit(tmp_path: Path) -> None:
    knows = {str(n): 2**n / 64 for n in range(7)}  # n of 6 bits
    run = record(tmp_path / "run", [knows] * 3, values=64, parameters=42)
    assert learned_bits(run).loc[20].to_list() == pytest.approx([0, 1, 2, 3, 4, 5, 6])
    assert offered_bits(run) == pytest.approx(6)
    assert number(score(run)["bits_per_parameter"]) == pytest.approx(21 / 42)
    assert number(score(run)["bits_per_parameter.share"]) == pytest.approx(0.5)


def test_a_leak_shows_in_the_twins(tmp_path: Path) -> None:
    twins = {f"{fact}-twin": p for fact, p in GUESS.items()}
    clean = score(record(tmp_path / "clean", [GUESS, HALF, HALF], twins))
    leaky = score(record(tmp_path / "leaky", [GUESS, HALF, HALF], {twin: 1.0 for twin in twins}))
    assert number(clean["bits_per_parameter.twins"]) == 0
    assert number(leaky["bits_per_parameter.twins"]) == pytest.approx(2 * 4 / 100)
    assert clean["bits_per_parameter.twins"].n_items == 4
    assert clean["bits_per_parameter"] == leaky["bits_per_parameter"]


def test_without_twins_there_is_a_reason(tmp_path: Path) -> None:
    values = score(record(tmp_path / "run", [GUESS, HALF, HALF]))
    assert values["bits_per_parameter.twins"].value is None
    assert "no twin" in values["bits_per_parameter.twins"].reason


@pytest.mark.parametrize(
    "changes",
    [
        {"closed": [None] * 4},
        {"choices": [["0", "1"]] * 4},  # competes with two values, drawn from four
        {"chance": [None] * 4},
        {"schedule": [("even",)] * 4},
    ],
)
def test_it_does_not_apply_where_no_whole_closed_set_was_scored(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(NotApplicable, match="closed set"):
        score(record(tmp_path / "run", [GUESS, HALF, HALF], **changes))


def test_it_does_not_apply_to_loops_of_facts(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", lambda ask, random: Answer(True, 0.1, best_other=-2.0))
    with pytest.raises(NotApplicable):
        score(run)


def test_exposures_are_counted_from_what_was_trained(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [GUESS, HALF, HALF], trained=7, each=8)
    assert exposures_at(run, [0, 4, 5, 10, 12, 20]) == [0, 0, 4, 8, 8, 16]


def test_the_spec_names_what_it_gives(tmp_path: Path) -> None:
    assert isinstance(SPEC, MetricSpec) and SPEC.measures[0].name == SPEC.name
    assert list(score(record(tmp_path / "run", [GUESS, HALF, HALF]))) == [m.name for m in SPEC.measures]


# -- the figure -------------------------------------------------------------------------------------------


def row(folder: Path, facts: int, strategy: str = "naive", seeds: int = 2, **swept: Any) -> Row:
    runs = {
        seed: record(folder / f"{strategy}-{facts}-{seed}-{swept}", [GUESS, HALF, MIXED], trained=facts)
        for seed in range(seeds)
    }
    told = {"scenario": "saturation", "strategy": strategy, "model": "nano"}
    return Row(f"{strategy} {facts}", told, runs, swept={"scenario.facts": facts, **swept})


def drawn(rows: Sequence[Row]) -> Any:
    assert SPEC.draw is not None
    return SPEC.draw(rows)


def test_a_sweep_of_facts_has_a_line_per_number_of_exposures(tmp_path: Path) -> None:
    figure = drawn([row(tmp_path, 160), row(tmp_path, 40), row(tmp_path, 80)])
    (axis,) = figure.axes
    lines = {line.get_label(): line for line in axis.lines}
    assert {"2 exposures", "4 exposures", "bits offered"} < set(lines)
    assert list(lines["2 exposures"].get_xdata()) == [40, 80, 160]
    assert list(lines["2 exposures"].get_ydata()) == pytest.approx([0.4, 0.8, 1.6])
    assert list(lines["4 exposures"].get_ydata()) == pytest.approx([0.2, 0.4, 0.8])
    assert list(lines["bits offered"].get_ydata()) == pytest.approx([0.8, 1.6, 3.2])
    assert {line.get_ydata()[0] for line in axis.lines if len(set(line.get_ydata())) == 1} >= {1, 2}
    assert axis.get_xlabel() == "facts trained" and "per parameter" in axis.get_ylabel()
    assert "saturation, nano" in figure.get_suptitle() and "2 seeds" in figure.get_suptitle()


def test_a_failed_seed_leaves_a_gap(tmp_path: Path) -> None:
    figure = drawn([row(tmp_path, 40, seeds=3), row(tmp_path, 80, seeds=1)])
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "2 exposures")
    assert list(line.get_ydata()) == pytest.approx([0.4, 0.8])


def test_one_number_of_facts_is_drawn_against_exposures(tmp_path: Path) -> None:
    figure = drawn([row(tmp_path, 40), row(tmp_path, 40, "replay")])
    (axis,) = figure.axes
    curves = [line for line in axis.lines if "40 facts" in str(line.get_label())]
    assert len(curves) == 2
    assert list(curves[0].get_xdata()) == [2, 4]
    assert list(curves[0].get_ydata()) == pytest.approx([0.4, 0.2])
    assert "exposures" in axis.get_xlabel()


def test_arms_get_panels_of_their_own_and_the_title_says_what_is_left_out(tmp_path: Path) -> None:
    rows = [
        row(tmp_path, facts, seeds=1, **{"optimizer.lr": rate}) for facts in (40, 80) for rate in range(6)
    ]
    figure = drawn(rows)
    assert [axis.get_title() for axis in figure.axes] == [f"naive nano optimizer.lr={n}" for n in range(4)]
    assert "first 8 of 12 rows" in figure.get_suptitle()


def test_the_host_writes_the_figure(tmp_path: Path) -> None:
    written = draw_metric(SPEC, [row(tmp_path, 40), row(tmp_path, 80)], tmp_path / "figures" / "bits")
    assert written is not None and all(path.stat().st_size > 1000 for path in written)
