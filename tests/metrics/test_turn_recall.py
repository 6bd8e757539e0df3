"""`turn_recall` against records whose answers are planted turn by turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_records import seal_record, write_record

from seqmem import NotApplicable, Row, RunRecord, Value
from seqmem.record.files import write_table
from seqmem.record.schema import FORMAT, ITEMS, TABLES
from seqmem.record.writer import RecordWriter
from seqmem_plugins.metrics.turn_recall import seqmem_metric

(SPEC,) = seqmem_metric()

BLOCKS, TURNS, FACTS, STEPS, REST = 3, 4, 5, 10, 6
"""Facts per block and turn; a block lasts STEPS."""

Answer = Callable[[int, int, int, bool, int], tuple[bool, float]]
"""(block, turns back, number, twin, step) to right or wrong, and log p of the answer's two tokens."""


def record(
    folder: Path,
    answer: Answer,
    *,
    group: str = "turn",
    joint: bool = False,
    context: int = TURNS,
    blocks: int = BLOCKS,
    turns: int = TURNS,
    seed: int = 0,
) -> RunRecord:
    """A run of the scenario's shape: blocks one after another, then a rest."""
    folder.mkdir(parents=True)
    writer = RecordWriter(folder)
    end = blocks * STEPS
    writer.add(
        "experiences",
        experience=list(range(blocks + 1)),
        name=[*(f"block {b}" for b in range(blocks)), "rest"],
        phase=["general" if joint else "inject"] * blocks + ["rest"],
        task_label=[None if joint else b for b in range(blocks)] + [None],
        first_step=[b * STEPS for b in range(blocks + 1)],
        steps=[STEPS] * blocks + [REST],
        trains=["all"] * (blocks + 1),
        start_from=[None] * (blocks + 1),
        save_as=[None] * (blocks + 1),
    )
    asked = [
        (b, back, n, twin)
        for b in range(blocks)
        for back in range(1, turns + 1)
        for n in range(FACTS)
        for twin in (False, True)
    ]
    items: list[dict[str, Any]] = []
    for (b, back, n, twin), shown in [(a, c) for c in sorted({0, context}) for a in asked]:
        fact = f"{b}-{back}-{n}"
        items.append(
            {
                "probe": f"{fact}{'-twin' * twin}{'-context' * (shown > 0)}",
                "fact": f"{fact}{'-twin' * twin}",
                "twin_of": fact if twin else None,
                "relation": "verbatim",
                "cue": "none",
                "task_label": b,
                "prompt": "prompt",
                "answer": "answer",
                "chance": 0.01,
                "choices": [],
                "group": group,
                "position": back,
                "context": shown,
                "task_known": False,
            }
        )
    write_table(folder / "items.parquet", {name: [i[name] for i in items] for name in ITEMS.names}, ITEMS)

    def ask(step: int, experience: int, schedule: str, shown: int) -> None:
        rows: dict[str, list[Any]] = {name: [] for name in TABLES["probes"].names}
        for item, (b, back, n, twin) in zip([i for i in items if i["context"] == shown], asked, strict=True):
            correct, logprob = answer(b, back, n, twin, step)
            known = {
                "step": step,
                "experience": experience,
                "after": 0,
                "schedule": schedule.split("+"),
                "probe": item["probe"],
                "logprob": logprob,
                "tokens": 2,
                "correct": not correct if shown else correct,
            }
            for name, column in rows.items():
                column.append(known.get(name))
        writer.add("probes", **rows)

    for b in range(blocks + 1):
        ask(b * STEPS, b, "boundary", 0)
        if b in (0, blocks) and context:
            ask(b * STEPS, b, "ladder", context)
    ask(end + REST, blocks, "boundary+log", 0)
    writer.flush()
    info = {
        "format": FORMAT,
        "recipe": {"seed": seed},
        "status": "finished",
        "primary_relation": "verbatim",
    }
    return seal_record(folder, info)


def values(run: RunRecord) -> dict[str, Value]:
    found = SPEC.compute(run, {})
    assert list(found) == [measure.name for measure in SPEC.measures]
    return dict(found)


def planted(b: int, back: int, n: int, twin: bool, step: int) -> tuple[bool, float]:
    """At its block's end a fact `back` turns back is right for 5 - back of 5; it gains 3 - back/2 nats a token.

    At every other time it is as before training, so that reading the wrong moment shows. Everything drifts
    by a nat a token, twins too; they gain no more.
    """
    own = step == (b + 1) * STEPS
    drift = 0.0 if step == 0 else 1.0
    gain = 3 - back / 2 if own and not twin else 0.0
    return own and not twin and n < FACTS - back, 2 * (-8 - 0.1 * n + drift + gain)


def test_recall_gain_and_their_slopes_are_those_planted(tmp_path: Path) -> None:
    found = values(record(tmp_path / "r", planted))
    shares = np.array([4, 3, 2, 1]) / 5
    assert found["turn_recall"].value == pytest.approx(shares.mean())
    assert found["turn_recall.slope"].value == pytest.approx(-0.2)
    assert found["turn_recall.gain"].value == pytest.approx(np.mean([2.5, 2, 1.5, 1]))
    assert found["turn_recall.gain_slope"].value == pytest.approx(-0.5)
    assert found["turn_recall"].n_items == BLOCKS * TURNS * FACTS


def test_a_common_drift_of_facts_and_twins_is_no_gain(tmp_path: Path) -> None:
    def drift(b: int, back: int, n: int, twin: bool, step: int) -> tuple[bool, float]:
        return False, -16 + 0.3 * step * back

    found = values(record(tmp_path / "r", drift))
    assert found["turn_recall.gain"].value == pytest.approx(0)
    assert found["turn_recall.gain_slope"].value == pytest.approx(0)
    assert found["turn_recall"].value == 0


def test_each_turn_back_counts_alike_however_many_facts_it_has(tmp_path: Path) -> None:
    """Only the last turn of block 0 is known: a third of one turn in four."""

    def one(b: int, back: int, n: int, twin: bool, step: int) -> tuple[bool, float]:
        return b == 0 and back == 1, -10.0

    assert values(record(tmp_path / "r", one))["turn_recall"].value == pytest.approx(1 / 12)


def test_reading_is_told_from_memory_by_the_twins(tmp_path: Path) -> None:
    # with the dialogue in front the record says the opposite of what it says without
    def bare(b: int, back: int, n: int, twin: bool, step: int) -> tuple[bool, float]:
        return (n == 0) if twin else (n < 2), -10.0

    found = values(record(tmp_path / "r", bare))
    assert found["turn_recall.read"].value == pytest.approx(3 / 5)
    assert found["turn_recall.read_twins"].value == pytest.approx(4 / 5)
    assert found["turn_recall"].value == pytest.approx(2 / 5)


def test_without_the_dialogue_in_front_nothing_was_read(tmp_path: Path) -> None:
    found = values(record(tmp_path / "r", planted, context=0))
    assert found["turn_recall.read"].value is None
    assert found["turn_recall.read"].reason == (
        "no turn was asked for with the dialogue in front when the conversations were done"
    )
    assert found["turn_recall"].value is not None


def test_two_turns_have_no_slope(tmp_path: Path) -> None:
    found = values(record(tmp_path / "r", planted, turns=2))
    assert found["turn_recall.slope"].reason == "2 turns back were asked, 3 are needed"
    assert found["turn_recall"].value == pytest.approx(0.7)


def test_under_joint_no_conversation_ends(tmp_path: Path) -> None:
    found = values(record(tmp_path / "r", planted, joint=True))
    assert found["turn_recall"].reason == "no conversation is trained on its own in this stream"
    assert found["turn_recall.read"].value is not None


@pytest.mark.parametrize("loops", [False, True])
def test_records_of_other_scenarios_have_nothing_for_it(tmp_path: Path, loops: bool) -> None:
    from helpers_records import Answer as Reply

    run = (
        write_record(tmp_path / "r", lambda ask, random: Reply())
        if loops
        else record(tmp_path / "r", planted, group="")
    )
    with pytest.raises(NotApplicable, match="no turn of a conversation is asked for"):
        SPEC.compute(run, {})


# -- the figure -------------------------------------------------------------------------------------------


def row(folder: Path, label: str, seeds: int, **how: Any) -> Row:
    runs = {seed: record(folder / f"{label}-{seed}", planted, seed=seed, **how) for seed in range(seeds)}
    return Row(label, {"scenario": "conversation_recall", "model": "tiny"}, runs)


def test_the_figure_has_a_line_per_row_and_one_for_its_twins(tmp_path: Path) -> None:
    assert SPEC.draw is not None
    figure = SPEC.draw([row(tmp_path, "naive", 2), row(tmp_path, "replay", 1)])
    assert figure is not None
    recall, gain = figure.axes
    curves = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in recall.lines}
    assert curves == {
        "naive": pytest.approx([0.8, 0.6, 0.4, 0.2]),
        "naive, twins": [0, 0, 0, 0],
        "replay": pytest.approx([0.8, 0.6, 0.4, 0.2]),
        "replay, twins": [0, 0, 0, 0],
    }
    drawn = [line for line in gain.lines if line.get_label() in ("naive", "replay")]
    assert all(np.asarray(line.get_ydata()) == pytest.approx([2.5, 2, 1.5, 1]) for line in drawn)
    assert "nats per token" in gain.get_ylabel()


def test_labels_in_the_figure_are_clean(tmp_path: Path) -> None:
    assert SPEC.draw is not None
    (odd,) = [replace(row(tmp_path, "naive", 1), label="na\u202eive\tx\0")]
    figure = SPEC.draw([odd])
    assert figure is not None
    drawn = [str(line.get_label()) for axis in figure.axes for line in axis.lines]
    assert [label for label in drawn if not label.startswith("_")] == ["naive x", "naive x, twins", "naive x"]


def test_rows_that_have_no_turns_are_not_drawn(tmp_path: Path) -> None:
    assert SPEC.draw is not None
    assert SPEC.draw([row(tmp_path, "joint", 1, joint=True)]) is None
    assert SPEC.draw([row(tmp_path, "other", 1, group="")]) is None
