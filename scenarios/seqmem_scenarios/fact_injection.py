"""`fact_injection`: facts are put into a stream of unrelated text; how fast are they learned, and how lost?

Four schedules:

* ``published`` (Chang et al. 2024, arXiv 2406.11813): every `spacing` steps one batch holds facts among its
  background rows. Group ``duplicate`` is injected each time in the same words, ``paraphrase`` each time in
  other words, ``once`` at the first injection only, ``never`` not at all.
* ``single_exposure``: the facts are trained for one pass (`exposures`), by themselves.
* ``mixed_batch``: passes over the facts in batches whose share of background rows is exact.
* ``long_term``: a stream of domains that follow one another, and every `group_every` of its experiences a new
  group of facts.

Each begins with `lead_in` steps on background text, which fill the optimizer's moments (the first step of a
fresh Adam is far larger than any later one, and would make the first injection stand out), and ends with a
rest on background text. What is asked, and when:

* ``inject``: every fact and twin on the rungs verbatim, paraphrase and question, right before every step that
  trains facts (its t_i) and after each of the next `local_window` steps;
* ``log``: the same at log-spaced steps of the rest;
* ``boundary``: before every experience and after the last, on the primary rung at least;
* ``ladder``: on every rung, and ``general``: held-out background text; at the start, when the injections are
  done, and at the end.

Where several are due after a step, it is asked once, with the largest of their sets.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import count, islice
from typing import Any, Literal

from pydantic import Field, model_validator

from seqmem import (
    NEVER,
    Batch,
    BuildContext,
    Example,
    Experience,
    Options,
    Outline,
    Probe,
    ProbePoint,
    Relation,
    ScenarioSpec,
    Stream,
    UsageError,
    answer_probe,
    hookimpl,
    text_example,
)
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_TOKENS,
    background_row,
    check_lengths,
    general_probes,
    joined,
    last_token,
    log_spaced,
)
from seqmem_scenarios.fact_sources import WORLD, Question, SourceFact, fingerprint, take
from seqmem_scenarios.world import Draw, World, biography, dialogue, filler, population

seqmem_api = ">=1,<2"

THREE: tuple[Relation, ...] = ("verbatim", "paraphrase", "question")
"""The rungs asked around injections and over the rest, from the trained words outwards."""
PUBLISHED = ("paraphrase", "duplicate", "once")
"""Groups of the schedule ``published`` in the order in which they take their facts from the source."""
KINDS = ("prose", "dialogues", "biographies")
"""The domains of the synthetic world."""
REST_STEPS = 256
"""A longer rest is made in experiences of so many steps: what an experience trains is in memory at once."""
_PAST_BACKGROUND = 500_000_000
"""Documents of the world's domains are numbered from here: its background never gets that far."""


class FactInjectionOptions(Options):
    """Options of `fact_injection`."""

    schedule: Literal["published", "single_exposure", "mixed_batch", "long_term"] = Field(
        "published", description="when facts are trained, and among what"
    )
    facts: str = Field(
        WORLD, min_length=1, description="world, or a file of facts: JSON lines or the published JSON"
    )
    facts_count: int = Field(12, ge=1, description="facts trained; in published and long_term, of each group")
    never_count: int = Field(12, ge=0, description="facts asked but never trained: the group never")
    lead_in: int = Field(16, ge=0, description="steps on background text before the first facts")
    exposures: int = Field(
        1, ge=1, description="times a fact is stated, each time in other words; not in published"
    )
    injections: int = Field(10, ge=1, description="published: times facts are injected")
    spacing: int = Field(16, ge=1, description="published: steps from one injection to the next")
    local_window: int = Field(
        10, ge=1, description="steps after an injection that are each followed by the probes of inject"
    )
    background_ratio: float = Field(
        0.0, ge=0, lt=1, description="share of background rows in a batch with facts; not in published"
    )
    groups: int = Field(6, ge=1, description="long_term: groups of facts")
    group_every: int = Field(
        2, ge=1, description="long_term: experiences of the stream from a group to the next"
    )
    domain_steps: int = Field(
        8, ge=1, description="long_term: steps of an experience of the stream, all of one domain"
    )
    domains: Literal["kinds", "source"] = Field(
        "kinds",
        description="long_term: the world's prose, dialogues and biographies in turn, or the text source in its order",
    )
    rest_steps: int = Field(96, ge=1, description="steps on background text afterwards")
    batch_size: int = Field(40, ge=1, description="rows of a step, at most")
    row_tokens: int = Field(32, ge=8, description="longest training row in tokens")

    @model_validator(mode="after")
    def _batches(self) -> FactInjectionOptions:
        if self.schedule == "published":
            if self.batch_size < len(PUBLISHED) * self.facts_count:
                raise ValueError(
                    f"batch_size ({self.batch_size}) must hold the {len(PUBLISHED)} groups of facts_count "
                    f"({self.facts_count}) facts that are injected first: "
                    f"{len(PUBLISHED) * self.facts_count} rows"
                )
            return self
        ratio, per_batch = self.ratio, self.batch_size * (1 - self.ratio)
        if per_batch.denominator != 1:
            raise ValueError(
                f"background_ratio {self.background_ratio} of batch_size {self.batch_size} is "
                f"{float(self.batch_size * ratio):g} rows; choose them so that it is a whole number"
            )
        left = self.facts_count % int(per_batch)
        if (left * ratio / (1 - ratio)).denominator != 1:
            raise ValueError(
                f"facts_count {self.facts_count} leaves a last batch of {left} facts, beside which background_ratio "
                f"{self.background_ratio} is no whole number of rows; make facts_count a multiple of {per_batch}"
            )
        return self

    @model_validator(mode="after")
    def _window(self) -> FactInjectionOptions:
        period = {
            "published": ("spacing", self.spacing),
            "long_term": ("group_every times domain_steps", self.group_every * self.domain_steps),
        }.get(self.schedule)
        if period is not None and self.local_window > period[1]:
            raise ValueError(
                f"local_window ({self.local_window}) must be at most {period[0]} ({period[1]}): "
                "windows of two injections would run into one another"
            )
        return self

    @model_validator(mode="after")
    def _enough_people(self) -> FactInjectionOptions:
        if self.facts == WORLD and self.all_facts > population("injected"):
            raise ValueError(
                f"{self.all_facts} facts need more people than the world has: {population('injected')}"
            )
        return self

    @property
    def ratio(self) -> Fraction:
        """The share of background as typed: .1 is a tenth."""
        return Fraction(str(self.background_ratio))

    @property
    def trained_groups(self) -> tuple[str, ...]:
        """Names of the groups that are trained, in the order in which they take facts from the source."""
        if self.schedule == "published":
            return PUBLISHED
        if self.schedule == "long_term":
            return tuple(f"group {number}" for number in range(self.groups))
        return ("facts",)

    @property
    def all_facts(self) -> int:
        """Facts needed, those that are never trained included."""
        return len(self.trained_groups) * self.facts_count + self.never_count

    @property
    def primary_relation(self) -> Relation:
        """Question where chance is known; of a file, whose prompts are open, the rung nearest the text."""
        return "question" if self.facts == WORLD else "verbatim"


Kind = Literal["lead-in", "injection", "pass", "group", "domain", "rest"]
_PHASES: Mapping[Kind, Literal["general", "rest"]] = {
    "lead-in": "general",
    "domain": "general",
    "rest": "rest",
}
"""Phases of the experiences that are not there for their facts."""


@dataclass(frozen=True)
class _Timetable:
    """What is trained when, by arithmetic on the options alone: any experience without those before it."""

    options: FactInjectionOptions

    @property
    def first(self) -> int:
        """Index of the first experience with facts."""
        return 1 if self.options.lead_in else 0

    @property
    def rest(self) -> int:
        """Index of the first experience of the rest."""
        o = self.options
        cycles = {"published": o.injections, "long_term": o.groups * (1 + o.group_every)}
        return self.first + cycles.get(o.schedule, o.exposures)

    @property
    def length(self) -> int:
        """Experiences of the stream."""
        return self.rest - (-self.options.rest_steps // REST_STEPS)

    @cached_property
    def pass_rows(self) -> tuple[tuple[int, int], ...]:
        """(rows with facts, rows of background) of every batch of one pass over a group's facts."""
        o = self.options
        per_batch = int(o.batch_size * (1 - o.ratio))
        counts = [min(per_batch, o.facts_count - done) for done in range(0, o.facts_count, per_batch)]
        return tuple((count, int(count * o.ratio / (1 - o.ratio))) for count in counts)

    def place(self, index: int) -> tuple[Kind, int]:
        """What an experience is, and which of its kind, from 0."""
        o, number = self.options, index - self.first
        if number < 0:
            return "lead-in", 0
        if index >= self.rest:
            return "rest", index - self.rest
        if o.schedule == "published":
            return "injection", number
        if o.schedule != "long_term":
            return "pass", number
        group, within = divmod(number, 1 + o.group_every)
        return ("domain", group * o.group_every + within - 1) if within else ("group", group)

    def steps(self, index: int) -> int:
        """Optimizer steps of an experience."""
        o, passes = self.options, len(self.pass_rows)
        kind, number = self.place(index)
        return {
            "lead-in": o.lead_in,
            "injection": o.spacing,
            "pass": passes,
            "group": o.exposures * passes,
            "domain": o.domain_steps,
            "rest": min(REST_STEPS, o.rest_steps - number * REST_STEPS),
        }[kind]

    def before(self, index: int) -> tuple[int, int]:
        """Steps, and rows of background, in the experiences before this one."""
        o, number = self.options, index - self.first
        if number < 0:
            return 0, 0
        if index > self.rest:
            steps, rows = self.before(self.rest)
            rested = (index - self.rest) * REST_STEPS
            return steps + rested, rows + rested * o.batch_size
        lead, steps = o.lead_in * o.batch_size, len(self.pass_rows)
        rows = sum(background for _, background in self.pass_rows)
        if o.schedule == "published":
            stated = 2 * o.facts_count * number + (o.facts_count if number else 0)
            return o.lead_in + number * o.spacing, lead + number * o.spacing * o.batch_size - stated
        if o.schedule != "long_term":
            return o.lead_in + number * steps, lead + number * rows
        group, within = divmod(number, 1 + o.group_every)
        groups, domains = group + bool(within), group * o.group_every + max(within - 1, 0)
        return (
            o.lead_in + groups * o.exposures * steps + domains * o.domain_steps,
            lead + groups * o.exposures * rows + domains * o.domain_steps * o.batch_size,
        )

    @property
    def from_world(self) -> bool:
        """What lies between lead-in and rest is made of the world's kinds of text, not of the text source."""
        return self.options.schedule == "long_term" and self.options.domains == "kinds"

    def first_row(self, index: int) -> int:
        """Number of an experience's first background row among those of its own origin."""
        row = self.before(index)[1]
        if self.from_world and index >= self.rest:
            row += self.options.lead_in * self.options.batch_size - self.before(self.rest)[1]
        return row

    def window(self, index: int) -> tuple[int, int]:
        """First and last step (steps done) of the probes around the injection begun last; before any, of the next."""
        o, number = self.options, max(index - self.first, 0)
        trained = 1
        if o.schedule == "published":
            begun = min(number, o.injections - 1)
        elif o.schedule == "long_term":
            begun = min(number // (1 + o.group_every), o.groups - 1) * (1 + o.group_every)
            trained = self.steps(self.first + begun)
        else:
            begun, trained = 0, o.exposures * len(self.pass_rows)
        start = self.before(self.first + begun)[0]
        return start, start + trained - 1 + o.local_window

    def points(self, index: int) -> tuple[ProbePoint, ...]:
        """When what is asked in an experience; see the top of this file."""
        start, rests = self.before(index)[0], self.before(self.rest)[0]
        end = rests + self.options.rest_steps
        begun, watched = self.window(index)
        when: Mapping[str, Container[int]] = {
            "boundary": {start, end},
            "inject": range(begun, watched + 1),
            "log": {rests + after for after in log_spaced(self.options.rest_steps)},
            "ladder": {0, rests, end},
        }
        points = []
        last = index == self.length - 1  # after the last step of any other, the next experience asks
        for after in range(self.steps(index) + last):
            due = [name for name, steps in when.items() if start + after in steps]
            if due:
                probe_set = "ladder" if "ladder" in due else "primary" if due == ["boundary"] else "three"
                points.append(ProbePoint(after, probe_set, "+".join(due)))
            if "ladder" in due:
                points.append(ProbePoint(after, "general", "general"))
        return tuple(points)


@dataclass(frozen=True)
class _Ask:
    """One question about one fact, before it is put into tokens."""

    fact: SourceFact
    question: Question
    number: int  # among the questions of its rung
    group: str
    task_label: int | None
    twin_of: str | None

    @property
    def id(self) -> str:
        """Of its probe."""
        return f"{self.fact.id}-{self.question.relation}-{self.number}"


def _asked(fact: SourceFact, group: str, task_label: int | None, twin_of: str | None = None) -> list[_Ask]:
    """Every question about a fact."""
    found: list[_Ask] = []
    for question in fact.questions:
        number = sum(ask.question.relation == question.relation for ask in found)
        found.append(_Ask(fact, question, number, group, task_label, twin_of))
    return found


def _grouped(options: FactInjectionOptions, facts: Sequence[SourceFact]) -> dict[str, Sequence[SourceFact]]:
    """The facts of every group, the never-trained ones last; the latter need no twins."""
    size = options.facts_count
    groups: dict[str, Sequence[SourceFact]] = {
        name: facts[place * size : (place + 1) * size] for place, name in enumerate(options.trained_groups)
    }
    never = [replace(fact, twins=()) for fact in facts[len(groups) * size :]]
    return {**groups, NEVER: never}


def _sets(options: FactInjectionOptions, groups: Mapping[str, Sequence[SourceFact]]) -> dict[str, list[_Ask]]:
    """What every probe set asks, held-out text apart."""
    facts: list[_Ask] = []
    twins: list[_Ask] = []
    for label, (group, members) in enumerate(groups.items()):
        numbered = label if group in options.trained_groups and options.schedule == "long_term" else None
        for fact in members:
            facts += _asked(fact, group, numbered)
            twins += [ask for twin in fact.twins for ask in _asked(twin, group, numbered, fact.id)]
    ladder = [*facts, *twins]
    return {
        "primary": [ask for ask in ladder if ask.question.relation == options.primary_relation],
        "three": [ask for ask in ladder if ask.question.relation in THREE],
        "ladder": ladder,
    }


class _Injection:
    """The stream of one seed. Every row is a pure function of (options, seed, place)."""

    def __init__(self, options: FactInjectionOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.table = _Timetable(options)
        self.groups = _grouped(options, _facts(options, context.seed))
        self.experience = lru_cache(maxsize=2)(self._experience)

    # -- training rows --------------------------------------------------------------------------------

    def _experience(self, index: int) -> Experience:
        kind, number = self.table.place(index)
        rows = count(self.table.first_row(index))
        make = {
            "lead-in": self._lead_in,
            "injection": self._injection,
            "pass": self._pass,
            "group": self._group,
            "domain": self._domain,
            "rest": self._rest,
        }[kind]
        return Experience(
            index=index,
            name=self._name(kind, number),
            phase=_PHASES.get(kind, "inject"),
            task_label=number if kind == "group" else None,
            batches=make(number, rows),
            moments="fresh" if index == self.table.rest else "carry",
        )

    def _name(self, kind: Kind, number: int) -> str:
        if kind == "domain":
            return f"domain {KINDS[number % len(KINDS)] if self.table.from_world else number}"
        return {"rest": "rest unrelated", "lead-in": "lead-in"}.get(kind, f"{kind} {number}")

    def _lead_in(self, number: int, rows: Iterator[int]) -> tuple[Batch, ...]:
        return tuple(self._background(self.options.batch_size, rows) for _ in range(self.options.lead_in))

    def _injection(self, number: int, rows: Iterator[int]) -> tuple[Batch, ...]:
        """A batch with facts, then background only, up to the next injection."""
        o = self.options
        stated = [
            self._fact_row(fact, number if group == "paraphrase" else 0)
            for group in (PUBLISHED if number == 0 else ("paraphrase", "duplicate"))
            for fact in self.groups[group]
        ]
        sizes = [o.batch_size - len(stated), *[o.batch_size] * (o.spacing - 1)]
        batches = [self._background(size, rows) for size in sizes]
        return ((*stated, *batches[0]), *batches[1:])

    def _pass(self, number: int, rows: Iterator[int]) -> tuple[Batch, ...]:
        """Every fact once, in the words of this turn and in an order of its own."""
        return self._stated("facts", number, rows, None)

    def _group(self, number: int, rows: Iterator[int]) -> tuple[Batch, ...]:
        """All exposures of a new group, among text of the domain that follows."""
        domain = number * self.options.group_every
        return tuple(
            batch
            for turn in range(self.options.exposures)
            for batch in self._stated(f"group {number}", turn, rows, domain)
        )

    def _domain(self, number: int, rows: Iterator[int]) -> tuple[Batch, ...]:
        o = self.options
        return tuple(self._background(o.batch_size, rows, number) for _ in range(o.domain_steps))

    def _rest(self, number: int, rows: Iterator[int]) -> tuple[Batch, ...]:
        steps = self.table.steps(self.table.rest + number)
        return tuple(self._background(self.options.batch_size, rows) for _ in range(steps))

    def _stated(self, group: str, turn: int, rows: Iterator[int], domain: int | None) -> tuple[Batch, ...]:
        """One pass over a group's facts, each batch with its exact share of background."""
        order = iter(Draw("fact order", self.context.seed, group, turn).shuffled(self.groups[group]))
        return tuple(
            (
                *(self._fact_row(next(order), turn) for _ in range(facts)),
                *self._background(background, rows, domain),
            )
            for facts, background in self.table.pass_rows
        )

    def _fact_row(self, fact: SourceFact, turn: int) -> Example:
        """A row that states one fact; wordings come round when there are fewer of them than turns."""
        text = fact.texts[turn % len(fact.texts)]
        return text_example(self.context.encode, text, facts=[fact.id], length=self.options.row_tokens)

    def _background(self, size: int, rows: Iterator[int], domain: int | None = None) -> Batch:
        """The next rows of background; of a domain of the world, where that is asked for."""
        made = []
        for row in islice(rows, size):
            if domain is not None and self.table.from_world:
                text = self._domain_text(domain % len(KINDS), row)
                made.append(text_example(self.context.encode, text, length=self.options.row_tokens))
            else:
                made.append(background_row(self.context, row, self.options.row_tokens))
        return tuple(made)

    def _domain_text(self, kind: int, row: int) -> str:
        """Row number `row` of one of the world's kinds of text."""
        seed, together = self.context.seed, joined(self.options.row_tokens)
        documents = [_PAST_BACKGROUND + row * together + place for place in range(together)]
        if KINDS[kind] == "prose":
            return "\n".join(filler(seed, index) for index in documents)
        if KINDS[kind] == "dialogues":
            return "\n".join(dialogue(seed, index) for index in documents)
        texts = []
        for index in documents:
            draw = Draw("domain biography", seed, index)
            person = World(seed).person("cast", draw.below(population("cast")))
            texts.append(biography(person, draw, questions=draw.below(3)))
        return "\n".join(texts)

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self) -> dict[str, tuple[Probe, ...]]:
        """All probes by set; a question has the same probe in every set."""
        asked = _sets(self.options, self.groups)
        probes = {ask.id: self._probe(ask) for ask in asked["ladder"]}
        sets = {name: tuple(probes[ask.id] for ask in questions) for name, questions in asked.items()}
        sets["general"] = general_probes(self.context, self.options.row_tokens)
        check_lengths(self.context, sets)
        return sets

    def _probe(self, ask: _Ask) -> Probe:
        fact, question = ask.fact, ask.question
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
            )
        except UsageError as error:
            raise UsageError(f"facts {self.options.facts!r}, item {fact.id!r}: {error}") from None
        length = len(probe.input_ids) - probe.answer_start
        if length >= self.context.max_positions:
            raise UsageError(
                f"facts {self.options.facts!r}, item {fact.id!r}: the answer {question.answer[:30].strip()!r}... has "
                f"{length} tokens, the model reads {self.context.max_positions}; shorten the answer"
            )
        return last_token(probe) if question.relation == "last_token" else probe

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


def _facts(options: FactInjectionOptions, seed: int) -> list[SourceFact]:
    """The facts a stream needs.

    Raises:
        UsageError: the source cannot give them, or an item cannot be paraphrased that should be.
    """
    facts = take(options.facts, options.all_facts, seed)
    if options.schedule == "published" and options.injections > 1:
        for fact in _grouped(options, facts)["paraphrase"]:
            if len(fact.texts) < 2:
                raise UsageError(
                    f"facts {options.facts!r}, item {fact.id!r} has no paraphrases, but is in the group paraphrase "
                    f"(the first {options.facts_count}); put items with paraphrases first"
                )
    return facts


def build(options: FactInjectionOptions, context: BuildContext) -> Stream:
    """The stream of one seed."""
    stream = _Injection(options, context)
    stream.check_rows()
    table = stream.table
    return Stream(table.length, stream.experience, table.points, stream.probe_sets())


def outline(options: FactInjectionOptions) -> Outline:
    """Steps, tokens and probes, counted without a tokenizer; a file of facts is read for its probes."""
    o, table = options, _Timetable(options)
    sets = _sets(o, _grouped(o, _facts(o, seed=0)))
    rows = {name: len(asked) for name, asked in sets.items()} | {"general": GENERAL_DOCUMENTS}
    tokens = {name: sum(map(_most_tokens, asked)) for name, asked in sets.items()}
    tokens["general"] = GENERAL_DOCUMENTS * o.row_tokens
    asked = [point.probe_set for index in range(table.length) for point in table.points(index)]
    steps, background = table.before(table.rest)
    source = o.lead_in * o.batch_size if table.from_world else background
    source += o.rest_steps * o.batch_size
    return Outline(
        steps=steps + o.rest_steps,
        train_tokens=(steps + o.rest_steps) * o.batch_size * o.row_tokens,
        probe_rows=sum(rows[name] for name in asked),
        probe_tokens=sum(tokens[name] for name in asked),
        loops=o.groups if o.schedule == "long_term" else 0,
        experiences=table.length,
        longest_row=max(o.row_tokens, PROBE_TOKENS if o.facts == WORLD else 0),
        documents=(source * joined(o.row_tokens), GENERAL_DOCUMENTS),
        primary="effectivity" if o.schedule in ("published", "single_exposure") else "retention",
        primary_relation=o.primary_relation,
    )


def _most_tokens(ask: _Ask) -> int:
    """Bound on the tokens of a probe: of a file's text no tokenizer makes more than bytes and a special token."""
    bare = len((ask.question.prompt + ask.question.answer).encode()) + 2
    return min(bare, PROBE_TOKENS) if ask.question.chance is not None else bare


def _fingerprint(options: FactInjectionOptions) -> str:
    """Hash of the facts; reads them all, so that a file that cannot be used is refused before any run."""
    if options.facts != WORLD:
        _facts(options, seed=0)
    return fingerprint(options.facts)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "facts_count": 2,
        "never_count": 2,
        "lead_in": 4,
        "injections": 3,
        "spacing": 4,
        "local_window": 3,
        "rest_steps": 8,
        "batch_size": 8,
    },
    "default": {},
    "single_exposure": {
        "schedule": "single_exposure",
        "facts_count": 10,
        "never_count": 10,
        "rest_steps": 256,
        "batch_size": 16,
        "row_tokens": 64,
    },
    "mixed_batch": {
        "schedule": "mixed_batch",
        "facts_count": 24,
        "background_ratio": 0.5,
        "exposures": 12,
        "batch_size": 16,
        "row_tokens": 64,
    },
    "long_term": {
        "schedule": "long_term",
        "background_ratio": 0.5,
        "exposures": 8,
        "domain_steps": 6,
        "local_window": 6,
        "rest_steps": 48,
        "batch_size": 24,
    },
    "published": {
        "facts_count": 40,
        "never_count": 10,
        "spacing": 100,
        "local_window": 50,
        "rest_steps": 500,
        "batch_size": 128,
        "row_tokens": 1024,
    },
    "paper": {
        "facts_count": 40,
        "never_count": 10,
        "spacing": 100,
        "local_window": 50,
        "rest_steps": 1500,
        "batch_size": 2048,
        "row_tokens": 2048,
    },
}

# As OLMo-7B was trained (its published configuration), the rate held at its peak.
_OLMO = {"name": "adamw", "lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.1, "clip": 1.0}
OPTIMIZER: Mapping[str, Mapping[str, Any]] = {
    "default": {"name": "adam", "lr": 1e-3},
    "published": _OLMO,
    "paper": _OLMO,
}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="fact_injection",
            version="1",
            summary="Facts are injected into a stream of text; how fast they are learned, and how lost.",
            options=FactInjectionOptions,
            presets=PRESETS,
            models={"published": "EleutherAI/pythia-410m", "paper": "EleutherAI/pythia-410m"},
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
            fingerprint=_fingerprint,
            local=("facts",),
            citation="Chang et al. 2024, arXiv 2406.11813 (schedule published, and its file of facts)",
        )
    ]
