"""Blocks from which a scenario states its stream once; `Stream` and `Outline` both derive from it, lazily.

A `Schedule` is a row of blocks: a `Segment` is some experiences of one kind, a `Repeat` is segments in turn,
round after round, and `rest` is the usual last segment. Beside them stand the rules of what is asked when:
`ask` names a probe set, a schedule of the record and the places, such as `start`, `end`, `every` and `log`.
Nothing is kept per experience: any experience is found by arithmetic, without those before it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

from seqmem.core.data import (
    Batch,
    Decoding,
    Experience,
    Outline,
    Phase,
    Probe,
    ProbePoint,
    Relation,
    Stream,
    Trains,
)


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
        phase, repeats, trains, moments, start_from, save_as: as of `Experience`.
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


# -- when something is asked ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class When:
    """Numbers of steps done in an experience after which something is asked.

    Attributes:
        steps: those numbers, given the experience's place.
        kinds: kinds of segments that are meant; all unless given.
    """

    steps: Callable[[Place], Iterable[int]]
    kinds: tuple[str, ...] = ()


def start(*kinds: str, each: int = 1) -> When:
    """Ask before every experience of these kinds, or before one in `each` of them."""
    return When(lambda place: (0,) if place.number % each == 0 else (), kinds)


def end(*kinds: str) -> When:
    """Ask after every experience of these kinds."""
    return When(lambda place: (place.steps,), kinds)


def begin(kind: str = "") -> When:
    """Ask before the first experience of a kind, or of the stream."""
    if not kind:
        return When(lambda place: (0,) if place.index == 0 else ())
    return When(lambda place: (0,) if place.number == 0 else (), (kind,))


def finish(kind: str = "") -> When:
    """Ask after the last experience of a kind, or of the stream."""
    if not kind:
        return When(lambda place: (place.steps,) if place.last else ())
    return When(lambda place: (place.steps,) if place.number == place.count - 1 else (), (kind,))


def every(steps: int, *kinds: str) -> When:
    """Ask after every so many steps of every experience of these kinds, its start included."""
    return When(lambda place: range(0, place.steps + 1, steps), kinds)


def log(*kinds: str) -> When:
    """Ask at log-spaced steps of every experience of these kinds, both its ends included."""
    return When(lambda place: log_spaced(place.steps), kinds)


def log_spaced(steps: int) -> tuple[int, ...]:
    """Return 0, the powers of two below `steps`, and `steps`."""
    return tuple(sorted({0, steps, *(2**power for power in range(steps.bit_length()) if 2**power < steps)}))


@dataclass(frozen=True, slots=True)
class Rule:
    """A probe set that is asked under the name of one schedule; made by `ask`."""

    probe_set: str | Callable[[Place], str]
    schedule: str
    when: tuple[When, ...]


def ask(probe_set: str | Callable[[Place], str], schedule: str, *when: When) -> Rule:
    """Return the rule that asks a probe set, which may depend on the place, on a schedule."""
    return Rule(probe_set, schedule, when)


# -- the schedule -----------------------------------------------------------------------------------------


class Size(NamedTuple):
    """Probes of a set, and a bound on the tokens of all rows that scoring them takes."""

    probes: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Block:
    """A block with what comes before it in the stream."""

    rounds: Repeat
    first: int
    done: int
    row: int
    numbers: Mapping[str, int]


@dataclass
class Schedule:
    """What is trained, in which order, and what is asked when.

    Rules that ask one set after the same step are one probe point, which names all their schedules.

    Attributes:
        blocks: segments, and rounds of segments, in their order.
        rules: what is asked when.
        covers: probe sets that are asked in place of smaller ones due at the same step, the largest last.
    """

    blocks: Sequence[Segment | Repeat]
    rules: Sequence[Rule]
    covers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Count what stands before every block.

        Raises:
            ValueError: a rule names a kind that no segment is of.
        """
        self.length = self.steps = self.rows = 0
        kinds: Counter[str] = Counter()
        self._blocks: list[_Block] = []
        for block in self.blocks:
            rounds = block if isinstance(block, Repeat) else Repeat(1, block)
            if rounds.rounds * rounds.length:
                self._blocks.append(_Block(rounds, self.length, self.steps, self.rows, dict(kinds)))
            self.length += rounds.rounds * rounds.length
            self.steps += rounds.rounds * rounds.steps
            self.rows += rounds.rounds * rounds.rows
            kinds.update({segment.kind: rounds.rounds * segment.count for segment in rounds.segments})
        self._kinds = kinds
        self._firsts = [block.first for block in self._blocks]
        named = {kind for rule in self.rules for when in rule.when for kind in when.kinds}
        if not named <= set(kinds):
            raise ValueError(f"no segment is of kind {min(named - set(kinds))!r}; kinds: {', '.join(kinds)}")
        self._rules = {
            kind: [
                (rule, [when.steps for when in rule.when if not when.kinds or kind in when.kinds])
                for rule in self.rules
            ]
            for kind in kinds
        }

    def place(self, index: int) -> Place:
        """Return an experience's place by arithmetic.

        Raises:
            IndexError: the stream has no such experience.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"experience {index} of a stream of {self.length}")
        block = self._blocks[bisect_right(self._firsts, index) - 1]
        round_, within = divmod(index - block.first, block.rounds.length)
        done = block.done + round_ * block.rounds.steps
        row = block.row + round_ * block.rounds.rows
        for segment in block.rounds.segments:
            passed = min(within, segment.count)
            done += passed * segment.steps
            row += passed * segment.rows
            within -= passed
            if passed < segment.count:
                break
        number = block.numbers.get(segment.kind, 0) + round_ * segment.count + passed
        count, last = self._kinds[segment.kind], index == self.length - 1
        return Place(index, segment, number, count, done, row, last)

    def first(self, kind: str) -> Place:
        """Return the place of the first experience of a kind.

        Raises:
            KeyError: there is none.
        """
        for block in self._blocks:
            passed = 0
            for segment in block.rounds.segments:
                if segment.kind == kind and segment.count:
                    return self.place(block.first + passed)
                passed += segment.count
        raise KeyError(kind)

    def places(self) -> Iterator[Place]:
        """Return every place in turn."""
        return map(self.place, range(self.length))

    def points(self, index: int) -> tuple[ProbePoint, ...]:
        """Return when what is asked in an experience, by steps done."""
        return tuple(
            ProbePoint(after, probe_set, "+".join(schedules))
            for after, sets in sorted(self._due(self.place(index)).items())
            for probe_set, schedules in sets.items()
        )

    def _due(self, place: Place) -> Mapping[int, Mapping[str, list[str]]]:
        """Return schedules by probe set by steps done."""
        asked: dict[int, list[tuple[str, str]]] = {}
        for rule, when in self._rules[place.kind]:
            steps = {after for steps in when for after in steps(place)}
            if steps:
                probe_set = rule.probe_set if isinstance(rule.probe_set, str) else rule.probe_set(place)
                for after in steps:
                    asked.setdefault(after, []).append((probe_set, rule.schedule))
        due: dict[int, dict[str, list[str]]] = {}
        for after, pairs in asked.items():
            present = {probe_set for probe_set, _ in pairs}
            larger = {small: big for big in self.covers if big in present for small in self.covers[big]}
            sets = due.setdefault(after, {})
            for probe_set, schedule in pairs:
                sets.setdefault(larger.get(probe_set, probe_set), []).append(schedule)
        return due

    def stream(
        self,
        make: Mapping[str, Callable[[Place], Iterable[Batch]]],
        probe_sets: Mapping[str, tuple[Probe, ...]],
        decoding: Decoding | None = None,
    ) -> Stream:
        """Return the stream of which `make` gives the batches, by kind of segment."""

        @lru_cache(maxsize=2)  # what an experience trains is in memory at once
        def experience(index: int) -> Experience:
            place = self.place(index)
            segment = place.segment
            return Experience(
                index=index,
                name=place.name,
                phase=segment.phase,
                task_label=place.label,
                batches=tuple(make[segment.kind](place)),
                repeats=segment.repeats,
                trains=segment.trains,
                moments=segment.moments,
                start_from=segment.start_from,
                save_as=segment.save_as,
            )

        return Stream(self.length, experience, self.points, probe_sets, decoding)

    def outline(
        self,
        sizes: Mapping[str, Size],
        *,
        train_tokens: int,
        longest_row: int,
        documents: tuple[int, int],
        primary: str,
        primary_relation: Relation,
        from_scratch: bool = False,
    ) -> Outline:
        """Return what the stream costs: steps, experiences, labels and probes as counted, tokens as bounded.

        Args:
            sizes: of every probe set.
            train_tokens: bound on trained tokens.
            longest_row: bound on a row's tokens.
            documents: background documents needed, (train, heldout).
            primary: measure that rows are ranked by.
            primary_relation: rung that metrics read unless they say otherwise.
            from_scratch: the model starts from random weights.
        """
        labels: set[int | None] = {None}
        asked: Counter[str] = Counter()
        for place in self.places():
            labels.add(place.label)
            for sets in self._due(place).values():
                asked.update(sets.keys())
        used = {segment for block in self._blocks for segment in block.rounds.segments if segment.count}
        return Outline(
            steps=self.steps,
            train_tokens=train_tokens,
            probe_rows=sum(count * sizes[name].probes for name, count in asked.items()),
            probe_tokens=sum(count * sizes[name].tokens for name, count in asked.items()),
            loops=len(labels) - 1,
            experiences=self.length,
            longest_row=longest_row,
            documents=documents,
            primary=primary,
            primary_relation=primary_relation,
            branches=any(segment.start_from is not None for segment in used),
            from_scratch=from_scratch,
        )
