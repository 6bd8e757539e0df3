"""Blocks from which a scenario states its stream once; `Stream` and `Outline` both derive from it, lazily.

A `Schedule` is a row of blocks: a `Segment` is some experiences of one kind, a `Repeat` is segments in turn,
round after round, and `rest` is the usual last segment. Beside them stand the rules of what is asked when:
`ask` names a probe set, a schedule of the record and the steps, such as `start`, `end`, `every` and `log`.
Nothing is kept per experience: any experience is found by arithmetic, without those before it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from seqmem.core.asking import Rule
from seqmem.core.data import Batch, Decoding, Experience, Outline, Probe, ProbePoint, Relation, Stream
from seqmem.core.design import Design
from seqmem.core.segments import Place, Repeat, Segment

NO_DESIGN = Design()
"""Design of a stream whose tables alone tell metrics enough."""


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
    """Order of training, and the steps at which probe sets are asked.

    Rules that ask one set after the same step are one probe point, which names all their schedules.

    Attributes:
        blocks: segments, and rounds of segments, in their order.
        rules: the probe sets asked, and when.
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
        """Return the probe points of an experience, by steps done."""
        return tuple(
            ProbePoint(after, probe_set, tuple(schedules))
            for after, sets in sorted(self._due(self.place(index)).items())
            for probe_set, schedules in sets.items()
        )

    def _due(self, place: Place) -> Mapping[int, Mapping[str, list[str]]]:
        """Return the schedules that are due, by steps done and probe set."""
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
        design: Design = NO_DESIGN,
    ) -> Stream:
        """Return the stream; `make` gives the batches of an experience by its kind of segment."""

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
                update_norm=segment.update_norm,
            )

        return Stream(self.length, experience, self.points, probe_sets, decoding, design=design)

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
        """Return the cost of the stream: steps, experiences, labels and probes counted, tokens bounded.

        Args:
            sizes: of every probe set.
            train_tokens: bound on trained tokens.
            longest_row: bound on a row's tokens.
            documents: background documents needed, (train, heldout).
            primary: measure that rows are ranked by.
            primary_relation: probe form that metrics read unless they say otherwise.
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
            longest_path=self._longest_path(),
            held_batches=self._held_batches(),
        )

    def _held_batches(self) -> int:
        """Return the batches of the two largest experiences that follow one another."""
        batches = [place.segment.batches for place in self.places()]
        return max((sum(pair) for pair in zip(batches, [*batches[1:], 0], strict=True)), default=0)

    def _longest_path(self) -> int:
        """Return the steps from the start to the end of the longest branch."""
        kept: dict[str, int] = {}
        position = longest = 0
        for place in self.places():
            segment = place.segment
            if segment.start_from is not None:
                position = kept.get(segment.start_from, 0)
            position += place.steps
            longest = max(longest, position)
            if segment.save_as is not None:
                kept[segment.save_as] = position
        return longest
