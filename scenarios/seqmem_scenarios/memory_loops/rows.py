"""The training rows of `memory_loops`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice

from seqmem import Batch, BuildContext, Example, text_example
from seqmem.streams import Place
from seqmem_scenarios.common import joined, rest_texts, trained_wordings
from seqmem_scenarios.memory_loops.memories import Memory, make_memories, make_new_facts, questions, wording
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions
from seqmem_scenarios.memory_loops.timetable import UNRELATED, cycle
from seqmem_scenarios.world import place_prose, qa, statement


class Rows:
    """The rows of one seed. Every document and row is a pure function of (options, seed, place)."""

    def __init__(self, options: MemoryLoopsOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context

    @cached_property
    def memories(self) -> list[Memory]:
        """All facts of all loops, loop by loop."""
        return make_memories(self.options, self.context.seed)

    @cached_property
    def new_facts(self) -> list[Memory]:
        """The facts of the last branch."""
        return make_new_facts(self.options, self.context.seed) if self.options.relearn else []

    @property
    def makers(self) -> Mapping[str, Callable[[Place], Iterable[Batch]]]:
        """Makers of the batches of each kind of experience."""
        return {
            "visit": self._visit,
            "new": self._visit,
            UNRELATED: lambda place: self.unrelated(place.steps),
            "loops_without_memory": self._memoryless,
            "again": lambda place: self._memory(place.number, self.options.insert_at_cycle),
        }

    def _visit(self, place: Place) -> Iterator[Batch]:
        """Make the loop's prose with its memory inside."""
        o, turn, loop = self.options, cycle(self.options, place), place.label
        assert loop is not None
        prose = [self._prose_batch(loop, turn, step) for step in range(o.prose_steps)]
        yield from prose[: o.insert_at]
        if turn >= o.insert_at_cycle:
            yield from self._memory(loop, turn)
        yield from prose[o.insert_at :]

    def _memory(self, loop: int, cycle: int) -> Iterator[Batch]:
        """Make every exposure of the facts that a loop states."""
        o = self.options
        stated = self.new_facts
        if loop < o.all_loops:
            stated = [m for m in self.memories if loop in m.truths and m.loop < o.known(loop)]
        for exposure in range(o.exposures):
            rows = [self._memory_row(memory, loop, cycle, exposure) for memory in stated]
            yield from (tuple(rows[i : i + o.batch_size]) for i in range(0, len(rows), o.batch_size))

    def _memory_row(self, memory: Memory, loop: int, cycle: int, exposure: int) -> Example:
        """Return the row of a fact in the wording of this exposure."""
        o = self.options
        fact = memory.truths[loop]
        asked, form = wording(o, memory, cycle, exposure)
        text = qa(fact, form) if asked else statement(fact, form)
        if o.setting:
            opening = self.prose(loop, cycle, memory.stated_at).split(". ")[0].rstrip(".") + "."
            if len(self.context.encode(f"{opening} {text}")) <= o.row_tokens:
                text = f"{opening} {text}"
        return self._row(text, [fact.id])

    def prose(self, loop: int, cycle: int, index: int) -> str:
        """Return prose document `index` of a loop as it stands in this cycle; `jitter` replaces a share of them."""
        o = self.options
        documents = o.prose_documents
        if o.loop_text == "background":
            index %= documents  # more settings are asked for than there are documents when a memory is large
        changed = round(o.jitter * documents)
        # each cycle replaces the next `changed` documents in turn
        edition = sum((index - c * changed) % documents < changed for c in range(cycle)) if changed else 0
        if o.loop_text == "background":
            count = joined(o.row_tokens)
            first = o.rest_documents + count * ((edition * o.all_loops + loop) * documents + index)
            return "\n".join(self.context.text.train(first + i) for i in range(count))
        return place_prose(self.context.seed, loop, edition * 100_000 + index)

    def _row(self, text: str, facts: Sequence[str] = ()) -> Example:
        return text_example(self.context.encode, text, facts=facts, length=self.options.row_tokens)

    def _prose_batch(self, loop: int, cycle: int, step: int) -> Batch:
        size = self.options.batch_size
        return tuple(self._row(self.prose(loop, cycle, step * size + i)) for i in range(size))

    def unrelated_row(self, step: int) -> Example:
        """Return the first row of a step of a rest on any background text."""
        return self._row(self.context.text.train(step * self.options.batch_size))

    def unrelated(self, steps: int) -> Iterator[Batch]:
        """Make a rest on background text."""
        o = self.options
        texts = rest_texts(self.context, o.rest_text, range(o.rest_documents), o.documents)
        for _ in range(steps):
            yield tuple(map(self._row, islice(texts, o.batch_size)))

    def _memoryless(self, place: Place) -> Iterator[Batch]:
        """Make the loops' prose in turn, memory left out."""
        o = self.options
        for step in range(place.steps):
            visit, within = divmod(step, o.prose_steps)
            yield self._prose_batch(visit % o.loops, o.cycles - 1, within)

    def check_rows(self) -> None:
        """Refuse facts that do not fit a row before anything is trained.

        Raises:
            UsageError: naming the fact; of a fact's answers the longest stands for the others.
        """
        for memory in [*self.memories, *self.new_facts]:
            fact = max(memory.truths.values(), key=lambda truth: len(truth.value))
            texts = [statement(fact, form) for form in range(trained_wordings(fact))]
            asked = [qa(fact, form) for form in range(questions(fact))]
            for text in {"statements": texts, "questions": asked}.get(self.options.train_on, texts + asked):
                self._row(text, [fact.id])
