"""`coupling` against records whose accuracies are written down by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers_records import seal_record

from seqmem import NotApplicable, Row, RunRecord, Value
from seqmem.reading import Missing as CannotBeHad
from seqmem.record.files import write_table
from seqmem.record.schema import FORMAT, ITEMS
from seqmem.record.writer import RecordWriter
from seqmem_plugins.metrics.coupling import MIN_ROOM, OWN_KEPT, kappa, seqmem_metric
from seqmem_scenarios.sequential_sentences import rows

(SPEC,) = seqmem_metric()
FACTS = 20
TRAINED, END = 30, 40
"""Steps when the last sentence had arrived, and when the rest was over."""

Accuracy = Callable[[int, int, bool], float]
"""Share right of (step, sentences of context kept, twins)."""


def record(
    folder: Path,
    accuracy: Accuracy,
    *,
    full: int = 3,
    chance: float | None = 0.0,
    steps: tuple[int, ...] = (0, TRAINED, END),
    twins: bool = True,
    relation: str = "question",
    own: Callable[[int], bool] = lambda kept: kept == 3,
) -> RunRecord:
    """A run whose facts, and twins, are answered as often as `accuracy` says on the schedule ``context``."""
    folder.mkdir(parents=True)
    items: dict[str, list[Any]] = {name: [] for name in ITEMS.names}
    probes = []
    for number in range(FACTS):
        for twin in (False, True) if twins else (False,):
            for kept in range(full + 1):
                probe = f"{number}{'t' * twin}-{kept}"
                fact, mirrored = (f"t{number}", f"f{number}") if twin else (f"f{number}", None)
                group = OWN_KEPT if kept and own(kept) else ""
                row = (probe, fact, mirrored, relation, "none", None, "p", " a", chance, [], group, number)
                for name, value in zip(ITEMS.names, (*row, kept, False), strict=True):
                    items[name].append(value)
                probes.append((probe, number, twin, kept))
    write_table(folder / "items.parquet", items, ITEMS)
    writer = RecordWriter(folder)
    phases = [("inject", 0, TRAINED), ("rest", TRAINED, END - TRAINED)]
    writer.add(
        "experiences",
        experience=[0, 1],
        name=["arrivals", "rest"],
        phase=[phase for phase, *_ in phases],
        task_label=[None, None],
        first_step=[first for _, first, _ in phases],
        steps=[count for *_, count in phases],
        trains=["all", "all"],
        start_from=[None, None],
        save_as=[None, None],
    )
    for step in steps:
        right = [number < round(accuracy(step, kept, twin) * FACTS) for _, number, twin, kept in probes]
        n = len(probes)
        writer.add(
            "probes",
            step=[step] * n,
            experience=[0] * n,
            after=[step] * n,
            schedule=[("general", "context")] * n,
            probe=[probe for probe, *_ in probes],
            logprob=[-1.0] * n,
            tokens=[1] * n,
            correct=right,
            best_other=[None] * n,
            rank=[None] * n,
            choice=[None] * n,
            in_form=[None] * n,
            closed=[None] * n,
            sampled=[None] * n,
            said=[None] * n,
        )
    writer.flush()
    info = {"format": FORMAT, "recipe": {"seed": 0}, "primary_relation": "verbatim"}
    return seal_record(folder, {**info, "status": "finished"})


def score(run: RunRecord) -> Mapping[str, Value]:
    found = SPEC.compute(run, {})
    assert set(found) == {measure.name for measure in SPEC.measures}
    return found


def reads(step: int, kept: int, twin: bool) -> float:
    """Whoever has the full context reads the answer in it, nobody knows it without."""
    return 0.9 if kept == 3 else 0.0


def test_kappa_by_hand() -> None:
    # (.8-.8) + (.8-.6) + (.8-.4) + (.8-.2) over 4 = .3; room .8-.05 = .75; 1 - .3/.75 = .6
    assert kappa(0.8, [0.8, 0.6, 0.4, 0.2], 0.05) == pytest.approx(0.6)
    # better than before training counts as no loss, not as a gain
    assert kappa(0.8, [1.0, 1.0, 0.8, 0.4], 0.0) == pytest.approx(1 - 0.1 / 0.8)
    assert kappa(0.5, [0.5, 0.5], 0.1) == 1.0
    assert kappa(0.5, [0.1, 0.1], 0.1) == pytest.approx(0.0)


def test_too_little_room_gives_no_number_with_the_reason() -> None:
    assert kappa(0.05 + MIN_ROOM, [0.0], 0.05) < 0.1
    with pytest.raises(CannotBeHad, match=r"accuracy is 0\.24 before training, under 0\.2 above chance"):
        kappa(0.24, [0.2], 0.05)


def test_a_lossless_hand_over_is_one_minus_what_the_context_gives_anybody(tmp_path: Path) -> None:
    found = score(
        record(
            tmp_path / "r",
            lambda step, kept, twin: 0.9 if step == TRAINED and not twin else reads(0, kept, 0),
        )
    )
    assert found["coupling.facts"].value == pytest.approx(1.0)
    assert found["coupling.twins"].value == pytest.approx(1 / 4)  # the full context of four
    assert found["coupling"].value == pytest.approx(3 / 4)
    assert found["coupling.end"].value == pytest.approx(0.0)  # all forgotten in the rest
    assert found["coupling"].n_items == FACTS


def test_nothing_handed_over_is_zero_whether_the_own_sentence_stays_or_goes(tmp_path: Path) -> None:
    for name, accuracy in (("goes", reads), ("stays", lambda step, kept, twin: 0.9 if kept else 0.0)):
        found = score(record(tmp_path / name, accuracy))
        assert found["coupling"].value == pytest.approx(0.0)
    assert found["coupling.twins"].value == pytest.approx(3 / 4)


def test_half_of_it_handed_over_reads_a_half_of_what_can_be(tmp_path: Path) -> None:
    def half(step: int, kept: int, twin: bool) -> float:
        return 0.5 if step == TRAINED and not twin and kept < 3 else reads(step, kept, twin)

    # three contexts of four lack .4 of .9: kappa 1 - (3 * .4 / 4) / .9 = 2/3; twins 1/4
    assert score(record(tmp_path / "r", half))["coupling"].value == pytest.approx(2 / 3 - 1 / 4)


def test_chance_is_taken_off(tmp_path: Path) -> None:
    found = score(record(tmp_path / "r", lambda step, kept, twin: 0.9 if kept == 3 else 0.1, chance=0.1))
    assert found["coupling.facts"].value == pytest.approx(1 / 4)


def test_the_share_of_contexts_with_the_own_sentence_is_told(tmp_path: Path) -> None:
    assert score(record(tmp_path / "a", reads))["coupling.own_kept"].value == pytest.approx(1 / 3)
    kept = record(tmp_path / "b", reads, own=lambda kept: True)
    assert score(kept)["coupling.own_kept"].value == 1.0
    assert rows.OWN_KEPT == OWN_KEPT


def test_a_model_that_cannot_read_has_no_coupling(tmp_path: Path) -> None:
    found = score(record(tmp_path / "r", lambda step, kept, twin: 0.1))
    assert found["coupling"].value is None and "there is nothing to hand over" in found["coupling"].reason


def test_what_was_not_asked_gives_no_number_with_the_reason(tmp_path: Path) -> None:
    late = score(record(tmp_path / "late", reads, steps=(TRAINED, END)))
    assert late["coupling"].reason == "contexts were not asked before training"
    early = score(record(tmp_path / "early", reads, steps=(0, END)))
    assert early["coupling"].reason == f"contexts were not asked at step {TRAINED}"
    assert early["coupling.end"].value is not None
    alone = score(record(tmp_path / "alone", reads, twins=False))
    assert alone["coupling"].reason == "no twin was asked in context"
    assert alone["coupling.facts"].value is not None


def test_it_is_not_applicable_where_no_context_is_swept(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable):
        SPEC.compute(record(tmp_path / "r", reads, full=0), {})


def test_the_figure_has_a_panel_a_row_with_facts_twins_and_guessing(tmp_path: Path) -> None:
    assert SPEC.draw is not None
    rows = [
        Row(
            label=f"row {n}",
            facts={"scenario": "s", "strategy": "naive", "model": "m"},
            runs={seed: record(tmp_path / f"{n}{seed}", reads, chance=0.02) for seed in (0, 1)},
        )
        for n in range(2)
    ]
    figure = SPEC.draw(rows)
    assert figure is not None and len(figure.axes) == 2
    axis = figure.axes[0]
    assert axis.get_title() == "row 0" and axis.xaxis_inverted()
    full = {line.get_label(): line.get_ydata()[-1] for line in axis.lines if len(line.get_xdata()) == 4}
    assert full["before training"] == full["at the end, twins"] == pytest.approx(0.9)
    assert len(axis.lines) == 7
    assert SPEC.draw([Row("r", {}, {0: record(tmp_path / "bare", reads, full=0)})]) is None
