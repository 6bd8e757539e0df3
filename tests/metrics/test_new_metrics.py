"""Forward transfer, anytime and worst-case accuracy, relearning savings and oscillation, on records made by hand."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_records import seal_record

from seqmem import NotApplicable, RunRecord, Value
from seqmem.reading import (
    loop_visits,
    loops_end,
    stream_answers,
    stream_end,
    stream_exposures,
)
from seqmem.record.files import write_table
from seqmem.record.schema import FORMAT, ITEMS, TABLES
from seqmem.record.writer import RecordWriter
from seqmem_plugins.metrics.relearning_savings import curve
from seqmem_plugins.metrics.worst_case_accuracy import recall_by_probe

FACTS = 4
"""Facts of a loop; recall is given as a share of them."""


@dataclass
class Made:
    """A record as it is written down: experiences one after the other, and what was asked when.

    Attributes:
        parts: name, phase, loop, steps, snapshot returned to, snapshot kept.
        asked: step, experience, steps done in it, schedules, fact, loop, twin, right, log-probability per token.
        stated: step and fact.
    """

    parts: list[tuple[str, str, int | None, int, str | None, str | None]] = field(default_factory=list)
    asked: list[tuple[int, int, int, str, str, int, bool, bool, float]] = field(default_factory=list)
    stated: list[tuple[int, str]] = field(default_factory=list)

    def part(
        self, phase: str, loop: int | None, steps: int, start: str | None = None, keep: str | None = None
    ) -> None:
        self.parts.append((f"{phase} {loop}", phase, loop, steps, start, keep))

    def start(self, index: int) -> int:
        return sum(part[3] for part in self.parts[:index])

    def ask(
        self, index: int, after: int, schedule: str, recall: Mapping[int, float], facts: int = FACTS
    ) -> None:
        """The first facts of each loop are answered rightly, up to its share."""
        for loop, share in recall.items():
            for i in range(facts):
                row = (f"f{loop}.{i}", loop, False, i < share * FACTS, 0.0)
                self.asked.append((self.start(index) + after, index, after, schedule.split("+"), *row))

    def state(self, index: int, loop: int) -> None:
        """A visit's last step states the loop's facts."""
        step = self.start(index + 1)
        self.stated += [(step, f"f{loop}.{i}") for i in range(FACTS)]

    def write(self, folder: Path) -> RunRecord:
        folder.mkdir(parents=True)
        facts = {fact: (loop, twin) for *_, fact, loop, twin, _, _ in self.asked}
        count = len(facts)
        items: dict[str, Sequence[Any]] = {
            "probe": list(facts),
            "fact": list(facts),
            "twin_of": [fact.replace("t", "f") if twin else None for fact, (_, twin) in facts.items()],
            "relation": ["question"] * count,
            "cue": ["none"] * count,
            "task_label": [loop for loop, _ in facts.values()],
            "chance": [0.01] * count,
            "choices": [[]] * count,
            "context": [0] * count,
            "task_known": [False] * count,
        }
        write_table(
            folder / "items.parquet", {name: [""] * count for name in ITEMS.names} | fill(items), ITEMS
        )
        writer = RecordWriter(folder)
        writer.add(
            "experiences",
            experience=range(len(self.parts)),
            name=[part[0] for part in self.parts],
            phase=[part[1] for part in self.parts],
            task_label=[part[2] for part in self.parts],
            first_step=[self.start(i) for i in range(len(self.parts))],
            steps=[part[3] for part in self.parts],
            trains=["all"] * len(self.parts),
            start_from=[part[4] for part in self.parts],
            save_as=[part[5] for part in self.parts],
        )
        rows = len(self.asked)
        columns: dict[str, Sequence[Any]] = {name: [None] * rows for name in TABLES["probes"].names}
        for place, name in enumerate(("step", "experience", "after", "schedule", "probe")):
            columns[name] = [row[place] for row in self.asked]
        columns |= {"tokens": [2] * rows, "correct": [row[7] for row in self.asked]}
        columns["logprob"] = [2 * row[8] for row in self.asked]
        writer.add("probes", **columns)
        writer.add(
            "exposures",
            step=[step for step, _ in self.stated],
            fact=[fact for _, fact in self.stated],
            count=[1] * len(self.stated),
            rehearsed=[0] * len(self.stated),
        )
        writer.flush()
        info = {"format": FORMAT, "recipe": {"seed": 0}, "status": "finished"}
        return seal_record(folder, {**info, "primary_relation": "question"})


def fill(items: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    return {**items, "position": [None] * len(items["probe"])}


def score(name: str, run: RunRecord) -> Mapping[str, Value]:
    (spec,) = importlib.import_module(f"seqmem_plugins.metrics.{name}").seqmem_metric()
    values: Mapping[str, Value] = spec.compute(run, {})
    assert list(values) == [measure.name for measure in spec.measures] and spec.measures[0].name == name
    return values


def number(value: Value) -> float:
    assert value.value is not None, value.reason
    return value.value


def loops(*boundaries: Mapping[int, float], rest: Mapping[int, float] | None = None) -> Made:
    """Visits of 4 steps to loops 0, 1, ... once each; recall at the boundaries; a rest of 6 steps if any."""
    made = Made()
    for loop in range(len(boundaries) - 1):
        made.part("loop", loop, 4)
        made.ask(loop, 0, "boundary", boundaries[loop])
        made.state(loop, loop)
    if rest is None:
        made.ask(len(boundaries) - 2, 4, "boundary", boundaries[-1])
    else:
        made.part("rest", None, 6)
        made.ask(len(boundaries) - 1, 0, "boundary", boundaries[-1])
        made.ask(len(boundaries) - 1, 6, "boundary", rest)
    return made


# -- accuracies -------------------------------------------------------------------------------------------


def test_forward_transfer_is_what_was_gained_before_the_first_visit(tmp_path: Path) -> None:
    run = loops(
        {0: 0.5, 1: 0.25, 2: 0.0}, {0: 1, 1: 0.5, 2: 0.25}, {0: 1, 1: 1, 2: 0.75}, {0: 1, 1: 1, 2: 1}
    ).write(tmp_path / "r")
    # loop 1: .5 - .25 before visit 1, loop 2: .75 - 0 before visit 2; loop 0 comes first
    assert number(score("forward_transfer", run)["forward_transfer"]) == pytest.approx((0.25 + 0.75) / 2)
    assert score("forward_transfer", run)["forward_transfer"].n_items == 12
    alone = loops({0: 0.0}, {0: 1.0}).write(tmp_path / "alone")
    assert score("forward_transfer", alone)["forward_transfer"].reason == "no loop came after another"


def test_anytime_accuracy_counts_what_was_trained_by_then(tmp_path: Path) -> None:
    run = loops({0: 1, 1: 1}, {0: 0.75, 1: 1.0}, {0: 0.5, 1: 1.0}, rest={0: 0.25, 1: 0.25}).write(
        tmp_path / "r"
    )
    # before training nothing counts; after visit 0 loop 0 alone
    expected = (0.75 + (0.5 + 1.0) / 2 + (0.25 + 0.25) / 2) / 3
    assert number(score("anytime_accuracy", run)["anytime_accuracy"]) == pytest.approx(expected)


def test_anytime_accuracy_needs_no_visits(tmp_path: Path) -> None:
    made = loops({0: 0, 1: 0}, {0: 0.5, 1: 0.25}, {0: 1, 1: 1})
    made.parts = [("joint", "general", None, *part[3:]) for part in made.parts]
    made.stated = [(1, f"f{loop}.{i}") for loop in (0, 1) for i in range(FACTS)]
    run = made.write(tmp_path / "r")
    assert number(score("anytime_accuracy", run)["anytime_accuracy"]) == pytest.approx((0.375 + 1) / 2)
    assert "never visited on its own" in score("forward_transfer", run)["forward_transfer"].reason or (
        "no loop is visited" in score("forward_transfer", run)["forward_transfer"].reason
    )


def test_worst_case_accuracy_sees_a_drop_between_boundaries(tmp_path: Path) -> None:
    made = loops({0: 0, 1: 0}, {0: 0.75, 1: 0}, {0: 0.5, 1: 1}, rest={0: 0.5, 1: 0.75})
    made.ask(0, 2, "inside", {0: 0, 1: 0})  # while loop 0 is being trained
    made.ask(1, 2, "inside", {0: 0.25, 1: 0.25})  # loop 0's gap; loop 1 is still being trained
    made.ask(2, 3, "even+log", {0: 0.5, 1: 0.5})
    made.ask(2, 4, "odd", {0: 0, 1: 0}, facts=2)  # not all facts: no recall of a loop
    run = made.write(tmp_path / "r")
    values = score("worst_case_accuracy", run)
    assert number(values["worst_case_accuracy.minimum"]) == pytest.approx((0.25 + 0.5) / 2)
    assert values["worst_case_accuracy"] == values["worst_case_accuracy.minimum"]
    assert 12 not in recall_by_probe(run).index


def test_worst_case_accuracy_adds_the_loop_trained_last(tmp_path: Path) -> None:
    run = loops({0: 0, 1: 0}, {0: 0.75, 1: 0}, {0: 0.5, 1: 1}).write(tmp_path / "r")
    values = score("worst_case_accuracy", run)
    assert number(values["worst_case_accuracy.minimum"]) == 0.5
    assert number(values["worst_case_accuracy"]) == pytest.approx(1.0 / 2 + (1 - 1 / 2) * 0.5)


# -- learning again ---------------------------------------------------------------------------------------

LEARNED = {0: (0, 0, 0.25, 0.75, 1), 1: (0, 0.25, 0.25, 0.75, 1)}  # on average half at step 2.5
AGAIN = {0: (0.25, 0.5, 1, 1, 1), 1: (0.25, 0.5, 1, 1, 1)}  # half at step 1
NEW = (0.0, 0.0, 0.25, 0.25, 0.75)  # half at step 3.5


def relearned(
    first: Mapping[int, Sequence[float]] = LEARNED,
    again: Mapping[int, Sequence[float]] = AGAIN,
    new: Sequence[float] | None = NEW,
) -> Made:
    """Two loops of one prose step and four of memory, a rest, and branches."""
    made = Made()
    for loop in (0, 1):
        made.part("loop", loop, 5)
    made.part("rest", None, 6, keep="rested")
    branches = {**again, **({2: new} if new is not None else {})}
    for loop in branches:
        made.part("loop", loop, 4, start="rested")
    for index, recall in enumerate(({0: 0, 1: 0}, {0: 1, 1: 0}, {0: 0.5, 1: 1})):
        made.ask(index, 0, "boundary", recall)
    made.ask(2, 6, "boundary", {0: 0.25, 1: 0.5})
    for loop, shares in first.items():
        made.state(loop, loop)
        for step, share in enumerate(shares):
            made.ask(loop, 1 + step, "learning", {loop: share})
    for index, (loop, shares) in enumerate(branches.items(), start=3):
        made.state(index, loop)
        for step, share in enumerate(shares):
            made.ask(index, step, "learning", {loop: share})
    return made


def test_relearning_savings_by_hand(tmp_path: Path) -> None:
    run = relearned().write(tmp_path / "r")
    assert curve(run, "first").tolist() == [0, 0.125, 0.25, 0.75, 1]
    values = {
        name.partition(".")[2]: number(value) for name, value in score("relearning_savings", run).items()
    }
    assert values["first"] == pytest.approx(2.5)
    assert values["again"] == pytest.approx(1.0)
    assert values["new"] == pytest.approx(3.5)
    assert values[""] == pytest.approx((2.5 - 1.0) / 2.5)
    assert values["beyond_new"] == pytest.approx((3.5 - 1.0) / 2.5)


def test_a_memory_that_is_still_there_saves_everything(tmp_path: Path) -> None:
    run = relearned(again={0: (0.5,) * 5, 1: (0.75,) * 5}).write(tmp_path / "r")
    assert score("relearning_savings", run)["relearning_savings"] == Value(1.0, 8)


def test_relearning_that_is_not_reached_is_censored_with_the_reason(tmp_path: Path) -> None:
    never = {0: (0, 0, 0, 0, 0.25), 1: (0, 0, 0, 0, 0.5)}
    values = score("relearning_savings", relearned(again=never).write(tmp_path / "again"))
    said = "recall stays under 0.5 through 4 steps of training it again: it takes more"
    assert values["relearning_savings"].reason == values["relearning_savings.again"].reason == said
    assert number(values["relearning_savings.first"]) == pytest.approx(2.5)
    known = {0: (0.5,) * 5, 1: (0.5,) * 5}
    values = score("relearning_savings", relearned(first=known).write(tmp_path / "known"))
    assert "known before they are trained" in values["relearning_savings"].reason
    values = score("relearning_savings", relearned(new=None).write(tmp_path / "new"))
    assert "new facts was not probed" in values["relearning_savings.beyond_new"].reason
    assert number(values["relearning_savings"]) == pytest.approx(0.6)
    with pytest.raises(NotApplicable):
        score("relearning_savings", loops({0: 0}, {0: 1}).write(tmp_path / "plain"))


def test_branches_after_the_rest_do_not_move_the_end_of_the_stream(tmp_path: Path) -> None:
    branched, plain = relearned(), relearned()
    plain.parts = [(*part[:5], None) for part in plain.parts[:3]]
    plain.asked = [row for row in plain.asked if row[1] < 3]
    plain.stated = [(step, fact) for step, fact in plain.stated if step <= 16]
    run, alone = branched.write(tmp_path / "r"), plain.write(tmp_path / "alone")
    assert (loops_end(run), stream_end(run)) == (loops_end(alone), stream_end(alone)) == (10, 16)
    assert loop_visits(run).equals(loop_visits(alone))
    assert set(stream_exposures(run)["fact"]) == {f"f{loop}.{i}" for loop in (0, 1) for i in range(FACTS)}
    assert len(stream_answers(run)) == len(stream_answers(alone)) < len(run.asked())
    names = "average_accuracy anytime_accuracy backward_transfer forgetting forward_transfer initial_recall "
    names += "learning_accuracy worst_case_accuracy retention"
    for name in names.split():
        assert score(name, run) == score(name, alone), name
    assert number(score("average_accuracy", run)["average_accuracy"]) == 0.375
    assert number(score("learning_accuracy", run)["learning_accuracy"]) == 1


def test_a_branch_from_elsewhere_is_part_of_the_stream(tmp_path: Path) -> None:
    made = loops({0: 0, 1: 0}, {0: 1, 1: 0}, {0: 1, 1: 1})
    made.parts = [(*made.parts[0][:5], "base"), (*made.parts[1][:4], "base", None)]
    run = made.write(tmp_path / "r")
    assert stream_end(run) == 8 and len(loop_visits(run)) == 2


# -- oscillation ------------------------------------------------------------------------------------------

PERIOD = 8
"""Steps of a cycle of two loops of 4 steps."""

Course = Callable[[int, int, int], float]
"""A loop, a fact's number and steps since the rest began, to the log-probability per token."""


def rested(
    folder: Path, facts: Course, twins: Course, *, again: int = 0, every: int = 1, visits: int = 4
) -> RunRecord:
    """Visits to two loops in turn, and a rest of 48 steps; fact 0 of loop 0 is trained again `again` steps into it."""
    made = Made()
    for visit in range(visits):
        made.part("loop", visit % 2, 4)
        made.state(visit, visit % 2)
    made.part("rest", None, 48)
    begin = 4 * visits
    for after in range(0, 49, every):
        for loop in (0, 1):
            for i in range(FACTS):
                place = (begin + after, visits, after, ("even",))
                made.asked.append((*place, f"f{loop}.{i}", loop, False, False, facts(loop, i, after)))
                made.asked.append((*place, f"t{loop}.{i}", loop, True, False, twins(loop, i, after)))
    if again:
        made.stated.append((begin + again, "f0.0"))
    return made.write(folder)


def swing(size: float, shift: float = 0.0) -> Course:
    """Best in the middle of what would be the loop's next visit, on a curve that only decays."""

    def course(loop: int, number: int, after: int) -> float:
        due = 4 * loop + 2 + shift  # the visits before the rest end with a whole cycle
        return float(-1 - np.log1p(after) + size * np.cos(2 * np.pi * (after - due) / PERIOD))

    return course


def shaken(seed: int) -> Course:
    wobble = 0.05 * np.random.default_rng(seed).standard_normal((2, FACTS, 49))
    return lambda loop, number, after: float(-3 + 0.1 * np.log1p(after) + wobble[loop, number, after])


def test_oscillation_is_the_amplitude_in_the_loops_own_cycle(tmp_path: Path) -> None:
    value = score("oscillation", rested(tmp_path / "r", swing(0.5), shaken(0)))["oscillation"]
    assert number(value) == pytest.approx(0.5, abs=0.02) and value.n_items == 2 * FACTS


def test_oscillation_that_twins_share_is_none(tmp_path: Path) -> None:
    run = rested(tmp_path / "r", swing(0.5), swing(0.5))
    assert number(score("oscillation", run)["oscillation"]) == pytest.approx(0, abs=1e-9)


def test_oscillation_out_of_phase_is_below_zero_and_noise_is_either(tmp_path: Path) -> None:
    run = rested(tmp_path / "opposite", swing(0.5, shift=PERIOD / 2), shaken(1))
    assert number(score("oscillation", run)["oscillation"]) == pytest.approx(-0.5, abs=0.02)
    noise = [
        number(score("oscillation", rested(tmp_path / f"{n}", shaken(n), shaken(n + 50)))["oscillation"])
        for n in range(10)
    ]
    assert min(noise) < 0 < max(noise) and np.abs(noise).max() < 0.02


def test_a_fact_trained_again_in_the_rest_is_left_out_of_oscillation(tmp_path: Path) -> None:
    still = shaken(2)

    def first_swings(loop: int, number: int, after: int) -> float:
        return swing(4.0)(loop, number, after) if (loop, number) == (0, 0) else still(loop, number, after)

    told = score("oscillation", rested(tmp_path / "told", first_swings, still, again=3))["oscillation"]
    assert told.n_items == 2 * FACTS - 1 and abs(number(told)) < 0.02
    untold = score("oscillation", rested(tmp_path / "r", first_swings, still))["oscillation"]
    assert number(untold) == pytest.approx(4 / FACTS / 2, abs=0.05)


def test_oscillation_needs_enough_probes_and_a_cycle(tmp_path: Path) -> None:
    still = shaken(3)
    few = score("oscillation", rested(tmp_path / "few", still, still, every=4))["oscillation"]
    assert few.reason == "13 even probes in the rest, 40 are needed: set scenario.even_every lower"
    once = score("oscillation", rested(tmp_path / "once", still, still, visits=2))["oscillation"]
    assert once.reason == "no loop is visited twice: there is no cycle"
