"""The blocks of which streams are made."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outlines import check_outline
from reading import build_context

from seqmem import Batch, Example
from seqmem.streams import (
    Place,
    Repeat,
    Schedule,
    Segment,
    Size,
    When,
    ask,
    begin,
    end,
    every,
    finish,
    log,
    rest,
    start,
)


def made(**changes: object) -> Schedule:
    return Schedule(
        [
            Segment("lead", "general", 2, rows=8),
            Repeat(
                3,
                Segment("task", "task", 2, name="task {}".format, label=int, repeats=2),
                Segment("between", "general", 1, count=2, rows=4),
            ),
            Segment("task", "task", 1, name="task {}".format, label=int),
            rest(5, rows=20),
        ],
        [
            ask("small", "boundary", start(), finish()),
            ask("small", "log", log("rest")),
            ask("large", "ladder", begin(), begin("rest"), finish("task")),
            ask(lambda place: f"own {place.label}", "learning", every(2, "task")),
        ],
        covers={"large": ["small"]},
        **changes,  # type: ignore[arg-type]
    )


def written_out(schedule: Schedule) -> list[Segment]:
    return [
        segment
        for block in schedule.blocks
        for segment in (
            [block] * block.count
            if isinstance(block, Segment)
            else block.rounds * [s for s in block.segments for _ in range(s.count)]
        )
    ]


def test_places_count_what_stands_before_them() -> None:
    schedule = made()
    segments = written_out(schedule)
    assert schedule.length == len(segments) == 12
    for index, segment in enumerate(segments):
        place, before = schedule.place(index), segments[:index]
        assert (place.index, place.kind, place.last) == (index, segment.kind, index == 11)
        assert place.number == sum(other.kind == segment.kind for other in before)
        assert place.count == sum(other.kind == segment.kind for other in segments)
        assert place.done == sum(other.steps for other in before)
        assert place.row == sum(other.rows for other in before)
    assert schedule.steps == sum(segment.steps for segment in segments)
    assert schedule.rows == sum(segment.rows for segment in segments)
    assert [schedule.place(i).name for i in (0, 1, 10, 11)] == ["lead", "task 0", "task 3", "rest unrelated"]


@pytest.mark.parametrize("seed", range(20))
def test_places_of_random_blocks_are_those_of_the_blocks_written_out(seed: int) -> None:
    draw = random.Random(seed)

    def segment(kind: str) -> Segment:
        return Segment(kind, "general", draw.randrange(3), count=draw.randrange(4), rows=draw.randrange(5))

    schedule = Schedule(
        [
            draw.choice([segment("a"), Repeat(draw.randrange(4), segment("a"), segment("b"))])
            for _ in range(draw.randrange(1, 6))
        ],
        [],
    )
    segments = written_out(schedule)
    places = list(schedule.places())
    assert [place.kind for place in places] == [one.kind for one in segments]
    for index, place in enumerate(places):
        assert place.number == sum(one.kind == place.kind for one in segments[:index])
        assert place.done == sum(one.steps for one in segments[:index])
        assert place.row == sum(one.rows for one in segments[:index])


def test_rules_of_one_set_share_a_point_and_a_large_set_takes_the_place_of_a_small_one() -> None:
    def points(index: int) -> list[tuple[int, str, str]]:
        return [(p.after, p.probe_set, "+".join(p.schedule)) for p in made().points(index)]

    assert points(0) == [(0, "large", "boundary+ladder")]
    assert points(1) == [
        (0, "small", "boundary"),
        (0, "own 0", "learning"),
        (2, "own 0", "learning"),
        (4, "own 0", "learning"),
    ]
    assert points(10) == [(0, "small", "boundary"), (0, "own 3", "learning"), (1, "large", "ladder")]
    assert points(11) == [
        (0, "large", "boundary+log+ladder"),
        (1, "small", "log"),
        (2, "small", "log"),
        (4, "small", "log"),
        (5, "small", "boundary+log"),
    ]


def test_the_rest_is_left_out_where_it_has_no_steps() -> None:
    schedule = Schedule([Segment("task", "task", 1), rest(0)], [ask("all", "log", log("rest"), finish())])
    assert schedule.length == 1
    assert [point.after for point in schedule.points(0)] == [1]


def test_other_rules() -> None:
    schedule = Schedule(
        [Segment("task", "task", 3, count=4)],
        [
            ask("a", "boundary", start("task", each=3)),
            ask("b", "general", end("task")),
            ask("c", "log", When(lambda place: (place.number,))),
        ],
    )
    found = [[(p.after, p.probe_set) for p in schedule.points(index)] for index in range(4)]
    assert found == [
        [(0, "a"), (0, "c"), (3, "b")],
        [(1, "c"), (3, "b")],
        [(2, "c"), (3, "b")],
        [(0, "a"), (3, "b"), (3, "c")],
    ]


def test_a_rule_for_a_kind_that_no_segment_is_of_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no segment is of kind 'tsak'; kinds: task"):
        Schedule([Segment("task", "task", 1)], [ask("all", "boundary", start("tsak"))])


def test_an_index_outside_the_stream_is_refused() -> None:
    for index in (-1, 12):
        with pytest.raises(IndexError, match="of a stream of 12"):
            made().place(index)


def test_stream_and_outline_are_those_of_the_schedule() -> None:
    row = Example(np.arange(3, dtype=np.int32), np.array([False, True, True]))

    def batches(place: Place) -> Iterator[Batch]:
        for _ in range(place.segment.batches):
            yield (row,)

    schedule = made()
    stream = schedule.stream(dict.fromkeys(("lead", "task", "between", "rest"), batches), {})
    experiences = [stream.experience(index) for index in range(stream.length)]
    sizes = {"small": Size(2, 10), "large": Size(6, 60), **{f"own {n}": Size(1, 5) for n in range(4)}}
    outline = schedule.outline(
        sizes, train_tokens=1, longest_row=3, documents=(0, 0), primary="p", primary_relation="question"
    )
    assert outline.steps == sum(e.steps for e in experiences)
    assert (outline.experiences, outline.loops, outline.branches) == (12, 4, False)
    asked = [point.probe_set for index in range(12) for point in stream.probe_points(index)]
    assert outline.probe_rows == sum(sizes[name].probes for name in asked)
    assert outline.probe_tokens == sum(sizes[name].tokens for name in asked)
    assert (experiences[1].repeats, experiences[1].task_label, experiences[11].moments) == (2, 0, "fresh")


def test_the_example_of_the_page_is_a_stream_as_its_outline_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "streams.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "streams.md", "exec", dont_inherit=True), names)
    trained: set[int] = set()
    heldout: set[int] = set()
    options = names["TwoTasks"](rounds=3)
    stream = names["build"](options, build_context(0, trained.add, heldout.add))
    check_outline(names["outline"](options), stream, trained, heldout)
    assert [stream.experience(index).task_label for index in range(stream.length)] == [0, 1, 0, 1, 0, 1, None]
    assert trained == set(range(4))
