"""`sampled_recall` against probabilities written down by hand, and against answers really sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_records import seal_record

from seqmem import NotApplicable, RunRecord, Value
from seqmem.record.files import write_table
from seqmem.record.schema import FORMAT, ITEMS
from seqmem.record.writer import RecordWriter
from seqmem_plugins.metrics.sampled_recall import seqmem_metric

(SPEC,) = seqmem_metric()
TRAINED, END = 8, 12


def record(
    folder: Path,
    facts: Sequence[float | None],
    twins: Sequence[float | None] = (),
    *,
    options: Mapping[str, Any] = {"samples": 10},
    steps: tuple[int, ...] = (0, TRAINED, END),
) -> RunRecord:
    """A run whose facts are sampled rightly with these probabilities when training is done, never else."""
    folder.mkdir(parents=True)
    items: dict[str, list[Any]] = {name: [] for name in ITEMS.names}
    names = [f"f{n}" for n in range(len(facts))] + [f"t{n}" for n in range(len(twins))]
    for name in names:
        mirrored = name.replace("t", "f") if name[0] == "t" else None
        row = (name, name, mirrored, "verbatim", "none", None, "p", " a", 0.01, [], "", 0, 0, False)
        for column, value in zip(ITEMS.names, row, strict=True):
            items[column].append(value)
    write_table(folder / "items.parquet", items, ITEMS)
    writer = RecordWriter(folder)
    writer.add(
        "experiences",
        experience=[0, 1],
        name=["arrivals", "rest"],
        phase=["inject", "rest"],
        task_label=[None, None],
        first_step=[0, TRAINED],
        steps=[TRAINED, END - TRAINED],
        trains=["all", "all"],
        start_from=[None, None],
        save_as=[None, None],
    )
    for step in steps:
        probabilities = [*facts, *twins]
        found = [p if step == TRAINED or p is None else 0.0 for p in probabilities]
        n = len(names)
        fixed = {
            "step": step,
            "experience": 0,
            "after": step,
            "schedule": ("boundary", "log"),
            "logprob": -1.0,
        }
        fixed |= {
            "tokens": 1,
            "correct": False,
            "best_other": None,
            "rank": None,
            "choice": None,
            "in_form": None,
            "closed": None,
            "said": None,
        }
        writer.add(
            "probes", **{name: [value] * n for name, value in fixed.items()}, probe=names, sampled=found
        )
    writer.flush()
    info = {"format": FORMAT, "recipe": {"seed": 0}, "design": dict(options)}
    return seal_record(folder, {**info, "status": "finished", "primary_relation": "verbatim"})


def score(run: RunRecord) -> Mapping[str, Value]:
    found = SPEC.compute(run, {})
    assert set(found) == {measure.name for measure in SPEC.measures}
    return found


def test_recall_at_n_by_hand(tmp_path: Path) -> None:
    found = score(record(tmp_path / "r", [0.5, 0.1], [0.0, 0.05], options={"samples": 2}))
    assert found["sampled_recall"].value == pytest.approx((0.75 + 0.19) / 2)
    assert found["sampled_recall.one"].value == pytest.approx(0.3)
    assert found["sampled_recall.twins"].value == pytest.approx((1 - 0.95**2) / 2)
    assert found["sampled_recall"].n_items == 2


def test_certain_and_hopeless_and_very_rare_answers(tmp_path: Path) -> None:
    found = score(record(tmp_path / "a", [1.0, 0.0], options={"samples": 10}))
    assert found["sampled_recall"].value == 0.5
    rare = score(record(tmp_path / "b", [1e-18], options={"samples": 1000}))
    assert rare["sampled_recall"].value == pytest.approx(1e-15)
    rounded = score(record(tmp_path / "c", [1.0 + 1e-12]))
    assert rounded["sampled_recall"].value == 1.0


def test_it_is_what_drawing_answers_comes_to(tmp_path: Path) -> None:
    probabilities = [0.02, 0.2, 0.6, 0.01, 0.3]
    random = np.random.default_rng(0)
    drawn = (random.random((20_000, 7, 5)) < np.array(probabilities)).any(axis=1).mean()
    found = score(record(tmp_path / "r", probabilities, options={"samples": 7}))["sampled_recall"].value
    assert found == pytest.approx(drawn, abs=0.005)


def test_what_is_lacking_is_told(tmp_path: Path) -> None:
    alone = score(record(tmp_path / "a", [0.5]))
    assert alone["sampled_recall.twins"].reason == f"no twin was asked with sampling at step {TRAINED}"
    unsaid = score(record(tmp_path / "b", [0.5], options={}))
    assert unsaid["sampled_recall"].reason == "the scenario states no number of samples"
    assert unsaid["sampled_recall.one"].value == 0.5
    late = score(record(tmp_path / "c", [0.5], steps=(0, END)))
    assert late["sampled_recall.one"].reason == f"no fact was asked with sampling at step {TRAINED}"


def test_it_is_not_applicable_where_nothing_is_sampled(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable):
        SPEC.compute(record(tmp_path / "r", [None, None]), {})
