"""Checks of an outline against its stream, for tests of scenarios."""

from __future__ import annotations

from collections.abc import Iterable

from seqmem import Outline, Stream
from seqmem.core.count import counted
from seqmem.core.validate import checked


def check_outline(stated: Outline, stream: Stream, trained: Iterable[int], heldout: Iterable[int]) -> None:
    """Compare what can be counted without text, and see that nothing of the text goes beyond the bounds."""
    made = checked(stream, stated, "tested")
    experiences = [made.experience(index) for index in range(made.length)]
    assert stated.experiences == len(experiences)
    assert stated.steps == sum(e.steps for e in experiences)
    assert stated.loops == len({e.task_label for e in experiences} - {None})
    assert stated.branches == any(e.start_from is not None for e in experiences)
    kept: dict[str | None, int] = {None: 0}
    ends = [0]
    for e in experiences:
        ends.append((kept[e.start_from] if e.start_from else ends[-1]) + e.steps)
        kept[e.save_as] = ends[-1]
    assert stated.scheduled_steps == max(ends)
    sizes = [len(e.batches) for e in experiences]
    assert stated.held_batches == max(map(sum, zip(sizes, [*sizes[1:], 0], strict=True)))
    points = [point for e in experiences for point in stream.probe_points(e.index)]
    assert stated.probe_rows == sum(len(stream.probe_sets[point.probe_set]) for point in points)
    told = counted(stated, stream)
    assert told.train_tokens <= stated.train_tokens
    assert told.probe_tokens <= stated.probe_tokens
    assert told.longest_row <= stated.longest_row
    assert max(trained, default=-1) < stated.documents[0]
    assert max(heldout, default=-1) < stated.documents[1]
