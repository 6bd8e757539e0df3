"""Experiences of one kind, one after another, and the place of each in its stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from seqmem.core.data import Phase, Trains


@dataclass(frozen=True, slots=True)
class Place:
    """One experience as a schedule knows it, before anything of it is made.

    Attributes:
        index: place in the stream, from 0.
        segment: the segment it belongs to.
        number: experiences of its kind before it.
        count: experiences of its kind in the stream.
        done: optimizer steps of the stream before it.
        row: background rows that the experiences before it take.
        last: it ends the stream.
    """

    index: int
    segment: Segment
    number: int
    count: int
    done: int
    row: int
    last: bool

    @property
    def kind(self) -> str:
        """Kind of its segment."""
        return self.segment.kind

    @property
    def steps(self) -> int:
        """Optimizer steps of the experience."""
        return self.segment.steps

    @property
    def label(self) -> int | None:
        """Task label of the experience."""
        return None if self.segment.label is None else self.segment.label(self.number)

    @property
    def name(self) -> str:
        """Name of the experience."""
        name = self.segment.name
        return (name or self.kind) if isinstance(name, str) else name(self.number)


@dataclass(frozen=True, slots=True)
class Segment:
    """Experiences of one kind, one after another.

    Attributes:
        kind: the word by which rules and makers of batches name it.
        phase, repeats, trains, moments, start_from, save_as, update_norm: as of `Experience`.
        batches: batches of each experience.
        count: experiences; 0 leaves the segment out.
        rows: background rows that each experience takes, numbered on from those of the experiences before it.
        name: of every experience, or by its number; the kind unless given.
        label: task label of an experience by its number.
    """

    kind: str
    phase: Phase
    batches: int
    count: int = 1
    rows: int = 0
    name: str | Callable[[int], str] = ""
    label: Callable[[int], int] | None = None
    repeats: int = 1
    trains: Trains = "all"
    moments: Literal["carry", "fresh"] = "carry"
    start_from: str | None = None
    save_as: str | None = None
    update_norm: float | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps of each experience."""
        return self.batches * self.repeats


class Repeat:
    """Segments in turn, round after round."""

    def __init__(self, rounds: int, *segments: Segment) -> None:
        """Take the segments of one round, of different kinds."""
        self.rounds = rounds
        self.segments = segments
        self.length = sum(segment.count for segment in segments)
        self.steps = sum(segment.count * segment.steps for segment in segments)
        self.rows = sum(segment.count * segment.rows for segment in segments)


def rest(
    steps: int, *, rows: int = 0, name: str = "rest unrelated", kind: str = "rest", save_as: str | None = None
) -> Segment:
    """Return the segment in which a learner rests, its optimizer state new; none where `steps` is 0."""
    return Segment(
        kind, "rest", steps, count=min(steps, 1), rows=rows, name=name, moments="fresh", save_as=save_as
    )
