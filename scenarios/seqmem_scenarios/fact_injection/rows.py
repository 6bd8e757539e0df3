"""The rows and probes of `fact_injection`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, islice

from seqmem import Batch, BuildContext, Example, Probe, UsageError, answer_probe, text_example
from seqmem.streams import Place, Schedule
from seqmem_scenarios.candidates import WHOLE, ClosedSets
from seqmem_scenarios.common import (
    SPARE,
    background_batches,
    background_row,
    check_lengths,
    general_probes,
    joined,
    last_token,
    rest_batches,
    rest_probes,
)
from seqmem_scenarios.fact_injection.asking import Ask, facts_of, grouped, sets
from seqmem_scenarios.fact_injection.dealing import turn_order
from seqmem_scenarios.fact_injection.legible import check_answers, check_question
from seqmem_scenarios.fact_injection.options import PUBLISHED, FactInjectionOptions
from seqmem_scenarios.fact_injection.timetable import KINDS, source_rows
from seqmem_scenarios.fact_sources import SourceFact
from seqmem_scenarios.world import Draw, World, biography, dialogue, filler, population

_PAST_BACKGROUND = 500_000_000
"""Documents of the world's domains are numbered from here: its background never gets that far."""


class Injection:
    """The stream of one seed. Every row is a pure function of (options, seed, place)."""

    def __init__(self, options: FactInjectionOptions, context: BuildContext, times: Schedule) -> None:
        self.options = options
        self.context = context
        self.times = times
        self.groups = grouped(options, facts_of(options, context.seed))
        self.closed_sets = ClosedSets()

    # -- training rows --------------------------------------------------------------------------------

    @property
    def makers(self) -> Mapping[str, Callable[[Place], Iterable[Batch]]]:
        """Makers of the batches of each kind of experience."""
        return {
            "lead-in": self._lead_in,
            "injection": self._injection,
            "pass": self._pass,
            "group": self._group,
            "domain": self._domain,
            "rest": self._rest,
        }

    def _lead_in(self, place: Place) -> Iterator[Batch]:
        o = self.options
        return background_batches(self.context, place.row, place.steps, o.batch_size, o.row_tokens)

    def _rest(self, place: Place) -> Iterator[Batch]:
        """Make background that follows what the text source has given before; in a plain rest without probe forms."""
        o, given = self.options, source_rows(self.options, self.times)
        before = place.row - self.times.first("rest").row  # rows of the rest
        first = self._rest_begins + before
        rows = range(first, first + place.steps * o.batch_size)
        return rest_batches(
            self.context, o.rest_text, rows, o.batch_size, o.row_tokens, given + SPARE * before
        )

    @property
    def _rest_begins(self) -> int:
        """Number of the rest's first row in the text source."""
        return source_rows(self.options, self.times) - self.options.rest_steps * self.options.batch_size

    def _rest_row(self, step: int) -> Example:
        row = self._rest_begins + step * self.options.batch_size
        return background_row(self.context, row, self.options.row_tokens)

    def _injection(self, place: Place) -> Iterator[Batch]:
        """Make a batch with facts, then background only, up to the next injection."""
        number, rows = place.number, count(place.row)
        stated = [
            self._fact_row(fact, number if group == "paraphrase" else 0)
            for group in (PUBLISHED if number == 0 else ("paraphrase", "duplicate"))
            for fact in self.groups[group]
        ]
        size = self.options.batch_size
        yield (*stated, *self._background(size - len(stated), rows))
        for _ in range(place.steps - 1):
            yield self._background(size, rows)

    def _pass(self, place: Place) -> Iterator[Batch]:
        """Make every fact once, in the words of this turn and in an order of its own."""
        return self._stated("facts", place.number, count(place.row), None)

    def _group(self, place: Place) -> Iterator[Batch]:
        """Make all exposures of a new group, among text of the domain that follows."""
        rows, domain = count(place.row), place.number * self.options.group_every
        for turn in range(self.options.exposures):
            yield from self._stated(f"group {place.number}", turn, rows, domain)

    def _domain(self, place: Place) -> Iterator[Batch]:
        rows = count(place.row)
        for _ in range(place.steps):
            yield self._background(self.options.batch_size, rows, place.number)

    def _stated(self, group: str, turn: int, rows: Iterator[int], domain: int | None) -> Iterator[Batch]:
        """Make one pass over a group's facts, each batch with its exact share of background."""
        order = (
            self.groups[group][place] for place in turn_order(self.options, self.context.seed, group, turn)
        )
        for facts, background in self.options.pass_rows:
            stated = [self._fact_row(next(order), turn) for _ in range(facts)]
            yield (*stated, *self._background(background, rows, domain))

    def _fact_row(self, fact: SourceFact, turn: int) -> Example:
        """Make a row that states one fact; wordings come round when there are fewer of them than turns."""
        text = fact.texts[turn % len(fact.texts)]
        return text_example(self.context.encode, text, facts=[fact.id], length=self.options.row_tokens)

    def _background(self, size: int, rows: Iterator[int], domain: int | None = None) -> Batch:
        """Make the next rows of background; of a domain of the world, where that is asked for."""
        if domain is None or not self.options.from_world:
            return tuple(
                background_row(self.context, row, self.options.row_tokens) for row in islice(rows, size)
            )
        texts = [self._domain_text(domain % len(KINDS), row) for row in islice(rows, size)]
        return tuple(
            text_example(self.context.encode, text, length=self.options.row_tokens) for text in texts
        )

    def _domain_text(self, kind: int, row: int) -> str:
        """Make row number `row` of one of the world's kinds of text."""
        seed, together = self.context.seed, joined(self.options.row_tokens)
        documents = [_PAST_BACKGROUND + row * together + place for place in range(together)]
        make = {"prose": filler, "dialogues": dialogue, "biographies": _biography}[KINDS[kind]]
        return "\n".join(make(seed, index) for index in documents)

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self) -> dict[str, tuple[Probe, ...]]:
        """Return all probes by set; a question has the same probe in every set."""
        asked = sets(self.options, self.groups)
        probes = {ask.id: self._probe(ask) for ask in asked["ladder"]}
        check_answers(self.options.facts, asked["ladder"], probes, self.context)
        made = {name: tuple(probes[ask.id] for ask in questions) for name, questions in asked.items()}
        made["general"] = general_probes(self.context, self.options.row_tokens)
        first = self.times.first("rest")
        made["rest"] = rest_probes(
            self.context, self.options.rest_text, first.steps, self._rest_row, lambda: self._rest(first)
        )
        check_lengths(self.context, made)
        return made

    def _probe(self, ask: Ask) -> Probe:
        fact, question = ask.fact, ask.question
        check_question(self.options.facts, ask, self.context)
        try:
            probe = answer_probe(
                self.context.encode,
                id=ask.id,
                prompt=question.prompt,
                answer=question.answer,
                fact=fact.id,
                relation=question.relation,
                chance=question.chance,
                task_label=ask.task_label,
                twin_of=ask.twin_of,
                subject=fact.subject,
                group=ask.group,
                text=question.text or None,
            )
        except UsageError as error:
            raise UsageError(f"{ask.place(self.options.facts)}: {error}") from None
        length = len(probe.input_ids) - probe.answer_start
        if length >= self.context.max_positions:
            raise UsageError(
                f"{ask.place(self.options.facts)}: the answer {question.answer[:30].strip()!r}... has "
                f"{length} tokens, the model reads {self.context.max_positions}; shorten the answer"
            )
        if question.relation == "last_token":
            return last_token(probe)
        if fact.of_world is None or question.relation not in WHOLE:
            return probe
        return self.closed_sets.competing(self.context, probe, fact.of_world, fact.candidates)

    # -- refusals -------------------------------------------------------------------------------------

    def check_rows(self) -> None:
        """Refuse facts that do not fit a row before anything is trained.

        Raises:
            UsageError: naming the fact.
        """
        o = self.options
        longest = min(o.row_tokens, self.context.max_positions)
        for group in o.trained_groups:
            turns = o.exposures if o.schedule != "published" else o.injections if group == "paraphrase" else 1
            for fact in self.groups[group]:
                for text in fact.texts[:turns]:
                    length = len(self.context.encode(text))
                    if length > longest:
                        raise UsageError(
                            f"facts {o.facts!r}, item {fact.id!r}: a text of it has {length} tokens, a training row "
                            f"holds {longest}; raise scenario.row_tokens, at most to what the model reads "
                            f"({self.context.max_positions}), or shorten the text"
                        )


def _biography(seed: int, index: int) -> str:
    draw = Draw("domain biography", seed, index)
    person = World(seed).person("cast", draw.below(population("cast")))
    return biography(person, draw, questions=draw.below(3))
