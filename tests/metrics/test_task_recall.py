"""`task_recall` on records whose answers are planted, and its figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_records import Answer, seal_record, write_record

from seqmem import NotApplicable, Row, RunRecord, Value
from seqmem.record.files import write_table
from seqmem.record.schema import FORMAT, ITEMS
from seqmem.record.writer import RecordWriter
from seqmem.reporting.figures import draw_metric
from seqmem_plugins.metrics.figures.task_recall import draw
from seqmem_plugins.metrics.task_recall import recall_by_task, routes, seqmem_metric, task_ends

(SPEC,) = seqmem_metric()

TASKS, FACTS, GENERAL, OWN, REST = 2, 4, 3, 5, 7
"""A stream of 3 general steps, then per task 5 of its own and 3 general ones, then 7 of rest: 26 steps."""
ENDS = {0: 8, 1: 16}
DONE, END = 19, 26

Says = Callable[[int, int, int, bool], bool]
"""(step, task, number of the fact, whether the task is known) to right or wrong."""


def record(
    folder: Path,
    says: Says,
    *,
    seed: int = 0,
    loss: Callable[[int, bool], float] = lambda step, known: 1.0,
    phases: bool = True,
    known: bool = True,
) -> RunRecord:
    """A run whose answers are `says`; without `phases` no task is trained on its own, as under `joint`."""
    folder.mkdir(parents=True)
    parts = [("general", "general", None, GENERAL, "all")]
    for task in range(TASKS):
        parts.append((f"task {task}", "task", task, OWN, "component"))
        parts.append((f"general after task {task}", "general", task, GENERAL, "others"))
    parts.append(("rest", "rest", None, REST, "all"))
    starts = [sum(part[3] for part in parts[:place]) for place in range(len(parts))]
    writer = RecordWriter(folder)
    writer.add(
        "experiences",
        experience=list(range(len(parts))),
        name=[part[0] for part in parts],
        phase=[part[1] if phases or part[1] == "rest" else "general" for part in parts],
        task_label=[part[2] if phases else None for part in parts],
        first_step=starts,
        steps=[part[3] for part in parts],
        trains=[part[4] for part in parts],
        start_from=[None] * len(parts),
        save_as=[None] * len(parts),
    )
    asked = [
        (task, number, twin, told)
        for told in ((False, True) if known else (False,))
        for task in range(TASKS)
        for number in range(FACTS)
        for twin in (False, True)
    ]

    def fact(task: int, number: int, twin: bool) -> str:
        return f"{'t' if twin else 'f'}{task}.{number}"

    names = [f"{fact(*who)}-{told}" for *who, told in asked]
    items: dict[str, list[Any]] = {
        "probe": names,
        "fact": [fact(*who) for *who, _ in asked],
        "twin_of": [fact(task, number, False) if twin else None for task, number, twin, _ in asked],
        "relation": ["question"] * len(asked),
        "cue": ["none"] * len(asked),
        "task_label": [task for task, *_ in asked],
        "prompt": ["prompt"] * len(asked),
        "answer": ["answer"] * len(asked),
        "chance": [0.01] * len(asked),
        "choices": [[]] * len(asked),
        "group": [""] * len(asked),
        "position": [task for task, *_ in asked],
        "context": [0] * len(asked),
        "task_known": [told for *_, told in asked],
    }
    write_table(folder / "items.parquet", items, ITEMS)
    count = len(asked)
    for experience, step in (*enumerate(starts), (len(parts) - 1, END)):
        writer.add(
            "probes",
            step=[step] * count,
            experience=[experience] * count,
            after=[step - starts[experience]] * count,
            schedule=[("boundary",)] * count,
            probe=names,
            logprob=[-loss(step, told) for *_, told in asked],
            tokens=[1] * count,
            correct=[not twin and says(step, task, number, told) for task, number, twin, told in asked],
            best_other=[None] * count,
            rank=[None] * count,
            choice=[None] * count,
            in_form=[None] * count,
            closed=[None] * count,
            sampled=[None] * count,
            said=[None] * count,
        )
    writer.flush()
    info = {
        "format": FORMAT,
        "recipe": {"seed": seed},
        "status": "finished",
        "primary_relation": "question",
    }
    return seal_record(folder, info)


def planted(step: int, task: int, number: int, known: bool) -> bool:
    """Right after a task 4 of 4 (known) or 3 of 4; at the end of the tasks 3, 2 or 1 of 4; nothing before."""
    if step < ENDS[task]:
        return False
    if step == ENDS[task]:
        return number < (4 if known else 3)
    if step < END:
        return number < (3 if known else 2 if task == 0 else 1)
    return False


def telling(step: int, known: bool) -> float:
    return 1.0 if known else 1.5


def test_recall_after_a_task_and_at_the_end_of_the_tasks_is_what_was_planted(tmp_path: Path) -> None:
    values = SPEC.compute(record(tmp_path / "run", planted, loss=telling), {})
    assert values == {
        "task_recall": Value((2 / 4 + 1 / 4) / 2, 8),
        "task_recall.known": Value(3 / 4, 8),
        "task_recall.routing": Value(3 / 4 - 3 / 8, 8),
        "task_recall.learned": Value(3 / 4, 8),
        "task_recall.learned_known": Value(1.0, 8),
    }
    assert list(values) == [measure.name for measure in SPEC.measures]


def test_tasks_count_alike_and_twins_do_not_count(tmp_path: Path) -> None:
    run = record(tmp_path / "run", lambda step, task, number, known: task == 0)
    table = recall_by_task(run, known=True)
    assert table[0].tolist() == [1.0] * 7 and table[1].tolist() == [0.0] * 7
    assert table.index.tolist() == [0, 3, 8, 11, 16, 19, 26]
    assert SPEC.compute(run, {})["task_recall"].value == 0.5


def test_where_telling_the_task_changes_nothing_there_is_no_cost_of_inferring_it(tmp_path: Path) -> None:
    run = record(tmp_path / "run", lambda step, task, number, known: number < 2)
    values = SPEC.compute(run, {})
    assert not routes(run)
    assert values["task_recall.routing"].value is None
    assert "the same whether the task is known or not" in values["task_recall.routing"].reason
    assert values["task_recall"] == values["task_recall.known"] == Value(0.5, 8)


def test_a_router_that_is_always_right_costs_nothing_but_is_seen(tmp_path: Path) -> None:
    """Log-probabilities differ a little although every answer is as right as before."""
    right = record(tmp_path / "run", lambda *_: True, loss=lambda step, known: 1.0 + 1e-9 * (not known))
    assert routes(right)
    assert SPEC.compute(right, {})["task_recall.routing"] == Value(0.0, 8)


def test_without_tasks_of_their_own_only_the_end_can_be_had(tmp_path: Path) -> None:
    run = record(tmp_path / "run", planted, loss=telling, phases=False)
    values = SPEC.compute(run, {})
    assert values["task_recall"] == Value(3 / 8, 8)
    for name in ("task_recall.learned", "task_recall.learned_known"):
        assert values[name].value is None and "no task is trained on its own" in values[name].reason
    assert task_ends(record(tmp_path / "other", planted)) == ENDS


def test_other_scenarios_have_nothing_for_it(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="no question is asked with its task known"):
        SPEC.compute(record(tmp_path / "bare", planted, known=False), {})
    with pytest.raises(NotApplicable):
        SPEC.compute(write_record(tmp_path / "loops", lambda ask, random: Answer()), {})


# -- figure -----------------------------------------------------------------------------------------------


def row_of(folder: Path, label: str, seeds: int, **changes: Any) -> Row:
    runs = {seed: record(folder / f"{label}-{seed}", planted, seed=seed, **changes) for seed in range(seeds)}
    facts = {"scenario": "freeze_loops", "strategy": label, "model": "tiny"}
    return Row(label=label, facts=facts, runs=runs)


def test_the_figure_has_a_panel_per_row_with_known_solid_and_inferred_dashed(tmp_path: Path) -> None:
    rows = [row_of(tmp_path, "routed", 2, loss=telling), row_of(tmp_path, "plain", 1)]
    figure = draw(rows)
    assert figure is not None
    first, second = figure.axes
    assert first.get_title() == "routed (2 seeds, no interval)"
    assert second.get_title() == "plain (1 seed, no interval; known = inferred, nothing is routed)"
    assert [line.get_linestyle() for line in first.lines] == ["-", "-", "--", "--"]
    known_first_task = first.lines[0]
    assert known_first_task.get_xdata().tolist() == [0, 3, 8, 11, 16, 19, 26]
    assert known_first_task.get_ydata().tolist() == [0, 0, 1, 0.75, 0.75, 0.75, 0]
    inferred_first_task = first.lines[2]
    assert inferred_first_task.get_ydata().tolist() == [0, 0, 0.75, 0.5, 0.5, 0.5, 0]
    assert known_first_task.get_color() == inferred_first_task.get_color() != first.lines[1].get_color()
    assert second.get_xlabel() == "optimizer steps"
    paths = draw_metric(SPEC, rows, tmp_path / "figure")
    assert paths is not None and all(path.stat().st_size > 5000 for path in paths)


def test_of_many_rows_the_first_four_are_drawn_and_the_figure_says_so(tmp_path: Path) -> None:
    rows = [row_of(tmp_path, f"strategy {number}", 1) for number in range(6)]
    figure = draw(rows)
    assert figure is not None and len(figure.axes) == 4
    assert "the first 4 of 6 rows" in (figure.get_suptitle() or "")


def test_there_is_no_figure_where_no_task_is_told(tmp_path: Path) -> None:
    assert draw([row_of(tmp_path, "bare", 1, known=False)]) is None
