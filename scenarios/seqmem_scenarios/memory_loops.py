"""`memory_loops`: K loops of documents are visited in order for C cycles; each holds a memory; then comes rest.

A visit to loop k trains the loop's own prose and, at a chosen place among it, its memory: rows that state its
facts, one fact a row, each time in another wording. After the last cycle (and a new loop, where one is asked
for) the learner rests on text that holds none of the facts. What is asked, and when:

* ``boundary``: every fact and twin on the primary rung, before every experience and after the last;
* ``inside``: the same inside a visit, after the loop's prose and before its memory, once the loop has been
  trained before: is the memory there again in its own place?
* ``even`` and ``log``: the same over the rest, evenly spaced with the competing answers scored too, and
  log-spaced;
* ``ladder``: every rung and cue, and ``general``: held-out background text; at the start, when the loops
  are done, and at the end.

With `relearn` the learner is kept as the rest leaves it. For each loop a branch returns to it and trains the
memory's rows of the loop's first visit again, in the same order; a last branch trains as many facts that were
never trained, which is what learning takes without a memory. ``learning`` asks a loop's own facts before and
after every memory step, on the branches and in first visits.

With `facts_per_loop` 0 and background documents as loops this is the cyclic training of Yang et al. 2024
("Reawakening knowledge", arXiv 2403.09613): preset `anticipatory`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

from pydantic import Field, model_validator

from seqmem import (
    Batch,
    BuildContext,
    Example,
    Experience,
    Options,
    Outline,
    Probe,
    ProbePoint,
    ScenarioSpec,
    Stream,
    UsageError,
    answer_probe,
    document_probe,
    hookimpl,
    text_example,
)
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    PROBE_TOKENS,
    RUNGS,
    apart,
    check_lengths,
    general_probes,
    joined,
    last_token,
    log_spaced,
    rung_texts,
    trained_wordings,
)
from seqmem_scenarios.world import (
    ATTRIBUTE_BY_NAME,
    Draw,
    Fact,
    answer,
    make_facts,
    place_prose,
    population,
    qa,
    question_prompt,
    statement,
)

seqmem_api = ">=1,<2"

CHOICES = 4
"""Answers scored per probe where the margin is wanted, the right one included."""
RESTED = "rested"
"""Snapshot of the learner after the last rest phase, which branches return to."""


class MemoryLoopsOptions(Options):
    """Options of `memory_loops`."""

    variant: Literal["own", "conflict"] = Field(
        "own",
        description="own: facts of its own per loop; conflict: loop k trains every loop's question with its answer",
    )
    loops: int = Field(4, ge=2, le=200, description="loops visited in turn")
    cycles: int = Field(4, ge=1, description="times each loop is visited")
    facts_per_loop: int = Field(16, ge=0, description="facts each loop's memory holds; 0 for documents only")
    exposures: int = Field(
        6, ge=1, description="times a visit states each of its facts, each time in another wording"
    )
    insert_at: int = Field(1, ge=0, description="prose steps of a visit before its memory")
    insert_at_cycle: int = Field(0, ge=0, description="first cycle, from 0, whose visits hold the memory")
    prose_steps: int = Field(1, ge=0, description="steps of the loop's own prose in a visit")
    jitter: float = Field(
        0.0, ge=0, le=1, description="share of a loop's prose documents replaced each cycle"
    )
    order: Literal["cyclic", "shuffled"] = Field(
        "cyclic", description="fixed order, or a new random one each cycle"
    )
    new_loop: int = Field(0, ge=0, description="visits to a loop that is added after the others have run")
    rest: Literal["unrelated", "loops_without_memory", "both", "none"] = Field(
        "unrelated",
        description="trained afterwards: background text, the loops' prose, both in turn, nothing",
    )
    rest_steps: int = Field(48, ge=1, description="steps of each rest phase")
    rest_training: bool = Field(True, description="off: rest steps read the text and train nothing")
    train_on: Literal["statements", "questions", "both"] = Field(
        "statements", description="form in which facts are trained; both alternates over exposures"
    )
    setting: bool = Field(False, description="state each fact inside a sentence of its loop's prose")
    loop_text: Literal["place", "background"] = Field(
        "place", description="loop prose: a recognisable place of the world, or documents of the text source"
    )
    batch_size: int = Field(16, ge=1, description="rows per step")
    row_tokens: int = Field(64, ge=8, description="longest training row in tokens")
    repeats: int = Field(1, ge=1, description="times each batch is trained in a row")
    even_every: int = Field(4, ge=1, description="rest steps between evenly spaced probes")
    relearn: bool = Field(
        False,
        description="after the rest, train each loop's memory again on a branch of its own, step by step",
    )

    @model_validator(mode="after")
    def _consistent(self) -> MemoryLoopsOptions:
        if self.insert_at > self.prose_steps:
            raise ValueError(f"insert_at ({self.insert_at}) must be at most prose_steps ({self.prose_steps})")
        if self.insert_at_cycle >= self.cycles:
            raise ValueError(f"insert_at_cycle ({self.insert_at_cycle}) must be below cycles ({self.cycles})")
        if self.facts_per_loop == 0 and self.prose_steps == 0:
            raise ValueError("a loop needs facts_per_loop or prose_steps above 0")
        if self.prose_steps == 0 and ("loops_without_memory" in self.rests or self.loop_text == "background"):
            which = (
                "rest loops_without_memory"
                if "loops_without_memory" in self.rests
                else "loop_text background"
            )
            raise ValueError(f"{which} needs prose_steps of at least 1: there is no prose")
        return self

    @model_validator(mode="after")
    def _can_relearn(self) -> MemoryLoopsOptions:
        needs = {
            "facts_per_loop above 0": self.facts_per_loop > 0,
            "a rest phase": self.rest != "none",
            "variant own": self.variant == "own",
            "setting off": not self.setting,
        }
        missing = [need for need, met in needs.items() if not met]
        if self.relearn and missing:
            raise ValueError(f"relearn needs {missing[0]}")
        return self

    @model_validator(mode="after")
    def _enough_people(self) -> MemoryLoopsOptions:
        groups = self.all_loops + int(self.relearn)
        if groups * self.facts_per_loop > population("injected"):
            raise ValueError(
                f"{groups} loops of {self.facts_per_loop} facts_per_loop need more people than the world "
                f"has: {population('injected')}"
            )
        return self

    @property
    def all_loops(self) -> int:
        """Loops, the new one included."""
        return self.loops + (1 if self.new_loop else 0)

    @property
    def visits(self) -> int:
        """Visits to all loops, the new one included."""
        return self.cycles * self.loops + self.new_loop

    def known(self, loop: int) -> int:
        """Loops whose questions a visit may state: the new loop's only in its own visits."""
        return self.all_loops if loop == self.loops else self.loops

    def memory_batches(self, loop: int) -> int:
        """Batches of the memory in one visit to a loop."""
        rows = self.facts_per_loop * (self.known(loop) if self.variant == "conflict" else 1)
        return self.exposures * -(-rows // self.batch_size)

    @property
    def rests(self) -> tuple[str, ...]:
        """Rest phases in order."""
        return {"none": (), "both": ("unrelated", "loops_without_memory")}.get(self.rest, (self.rest,))

    @property
    def branches(self) -> int:
        """Branches after the rest: one per loop, and one of new facts."""
        return self.all_loops + 1 if self.relearn else 0

    def visit_steps(self, loop: int, cycle: int) -> int:
        """Optimizer steps of a visit to this loop in this cycle."""
        memory = self.memory_batches(loop) if cycle >= self.insert_at_cycle else 0
        return (self.prose_steps + memory) * self.repeats


@dataclass(frozen=True)
class _Memory:
    """A fact of a loop as it is trained and asked.

    Attributes:
        truths: what a visit to each loop states about this fact's person: the fact itself for its own loop;
            in `conflict`, every loop's own answer.
        stated_at: place among the facts a visit states, which decides the wording of each exposure.
    """

    loop: int
    fact: Fact
    twin: Fact
    truths: Mapping[int, Fact]
    stated_at: int


class _Loops:
    """The stream of one seed. Every document and row is a pure function of (options, seed, place)."""

    def __init__(self, options: MemoryLoopsOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.experience = lru_cache(maxsize=4)(self._experience)

    # -- what is where --------------------------------------------------------------------------------

    def visit(self, index: int) -> tuple[int, int]:
        """(loop, cycle) of a visit, by its place in the order they run."""
        o = self.options
        cycle, place = divmod(index, o.loops)
        if cycle >= o.cycles:
            # the new loop's visits always hold its memory, whatever insert_at_cycle says of the others
            return o.loops, o.insert_at_cycle + index - o.cycles * o.loops
        if o.order == "cyclic":
            return place, cycle
        return Draw("loop order", self.context.seed, cycle).shuffled(range(o.loops))[place], cycle

    @property
    def ends(self) -> int:
        """Experiences up to the end of the rest; branches follow."""
        return self.options.visits + len(self.options.rests)

    @property
    def length(self) -> int:
        """Experiences of the stream."""
        return self.ends + self.options.branches

    @cached_property
    def memories(self) -> list[_Memory]:
        """All facts of all loops, loop by loop."""
        o = self.options
        pairs = make_facts(self.context.seed, o.all_loops * o.facts_per_loop)
        by_loop = [pairs[k * o.facts_per_loop : (k + 1) * o.facts_per_loop] for k in range(o.all_loops)]
        memories: list[_Memory] = []
        for loop, own in enumerate(by_loop):
            for place, (fact, twin) in enumerate(own):
                truths = self._truths(loop, place, fact, by_loop)
                stated_at = len(memories) if o.variant == "conflict" else place
                wrong = (truth.value for truth in truths.values())
                memories.append(_Memory(loop, fact, apart(twin, wrong, self.context.seed), truths, stated_at))
        return memories

    @cached_property
    def new_facts(self) -> list[_Memory]:
        """As many facts as a loop has, trained on a branch after the rest and nowhere else."""
        o, loop = self.options, self.options.all_loops
        pairs = make_facts(self.context.seed, (loop + 1) * o.facts_per_loop)[loop * o.facts_per_loop :]
        return [
            _Memory(loop, fact, apart(twin, [fact.value], self.context.seed), {loop: fact}, place)
            for place, (fact, twin) in enumerate(pairs)
        ]

    def _truths(
        self, loop: int, place: int, fact: Fact, by_loop: Sequence[Sequence[tuple[Fact, Fact]]]
    ) -> Mapping[int, Fact]:
        if self.options.variant == "own":
            return {loop: fact}
        answers = _distinct_values(self.context.seed, place, fact.attribute, len(by_loop))
        return {
            other: Fact(fact.id, fact.person, fact.attribute, answers[other]) for other in range(len(by_loop))
        }

    # -- training rows --------------------------------------------------------------------------------

    def prose(self, loop: int, cycle: int, index: int) -> str:
        """Prose document `index` of a loop as it stands in this cycle; `jitter` replaces a share of them."""
        o = self.options
        documents = o.prose_steps * o.batch_size
        if o.loop_text == "background":
            index %= documents  # more settings are asked for than there are documents when a memory is large
        changed = round(o.jitter * documents)
        # each cycle replaces the next `changed` documents in turn
        edition = sum((index - c * changed) % documents < changed for c in range(cycle)) if changed else 0
        if o.loop_text == "background":
            count = joined(o.row_tokens)
            first = self._rest_documents + count * ((edition * o.all_loops + loop) * documents + index)
            return "\n".join(self.context.text.train(first + i) for i in range(count))
        return place_prose(self.context.seed, loop, edition * 100_000 + index)

    @property
    def _rest_documents(self) -> int:
        return self.options.rest_steps * self.options.batch_size if "unrelated" in self.options.rests else 0

    def _row(self, text: str, facts: Sequence[str] = ()) -> Example:
        return text_example(self.context.encode, text, facts=facts, length=self.options.row_tokens)

    def _prose_batch(self, loop: int, cycle: int, step: int) -> Batch:
        size = self.options.batch_size
        return tuple(self._row(self.prose(loop, cycle, step * size + i)) for i in range(size))

    def _wording(self, memory: _Memory, cycle: int, exposure: int) -> tuple[bool, int]:
        """Whether this exposure is a question, and in which wording; they differ between facts and exposures."""
        o = self.options
        turn = cycle * o.exposures + exposure + memory.stated_at
        asked = o.train_on == "questions" or (o.train_on == "both" and turn % 2 == 1)
        wording = turn // 2 if o.train_on == "both" else turn
        return asked, wording % (_questions(memory.fact) if asked else trained_wordings(memory.fact))

    def _memory_row(self, memory: _Memory, loop: int, cycle: int, exposure: int) -> Example:
        """One fact in the wording of this exposure."""
        o = self.options
        fact = memory.truths[loop]
        asked, wording = self._wording(memory, cycle, exposure)
        text = qa(fact, wording) if asked else statement(fact, wording)
        if o.setting:
            opening = self.prose(loop, cycle, memory.stated_at).split(". ")[0].rstrip(".") + "."
            if len(self.context.encode(f"{opening} {text}")) <= o.row_tokens:
                text = f"{opening} {text}"
        return self._row(text, [fact.id])

    def _memory_batches(self, loop: int, cycle: int) -> list[Batch]:
        o = self.options
        if loop == o.all_loops:
            stated = self.new_facts
        else:
            stated = [m for m in self.memories if loop in m.truths and m.loop < o.known(loop)]
        batches = []
        for exposure in range(o.exposures):
            rows = [self._memory_row(memory, loop, cycle, exposure) for memory in stated]
            batches += [tuple(rows[i : i + o.batch_size]) for i in range(0, len(rows), o.batch_size)]
        return batches

    def _experience(self, index: int) -> Experience:
        o = self.options
        if index < o.visits:
            loop, cycle = self.visit(index)
            prose = [self._prose_batch(loop, cycle, step) for step in range(o.prose_steps)]
            memory = self._memory_batches(loop, cycle) if cycle >= o.insert_at_cycle else []
            new = ", new" if loop == o.loops else ""
            return Experience(
                index=index,
                name=f"loop {loop} visit {cycle}{new}",
                phase="loop",
                task_label=loop,
                batches=(*prose[: o.insert_at], *memory, *prose[o.insert_at :]),
                repeats=o.repeats,
            )
        if index >= self.ends:
            loop = index - self.ends
            return Experience(
                index=index,
                name=f"loop {loop} again" if loop < o.all_loops else "new facts",
                phase="loop",
                task_label=loop,
                batches=tuple(self._memory_batches(loop, o.insert_at_cycle)),
                repeats=o.repeats,
                start_from=RESTED,
            )
        place = index - o.visits
        kind = o.rests[place]
        make = self._unrelated_batch if kind == "unrelated" else self._memoryless_batch
        return Experience(
            index=index,
            name=f"rest {kind.replace('_', ' ')}",
            phase="rest",
            task_label=None,
            batches=tuple(make(step) for step in range(o.rest_steps)),
            trains="all" if o.rest_training else "none",
            moments="fresh" if place == 0 else "carry",
            save_as=RESTED if o.relearn and index == self.ends - 1 else None,
        )

    def _unrelated_batch(self, step: int) -> Batch:
        size = self.options.batch_size
        return tuple(self._row(self.context.text.train(step * size + i)) for i in range(size))

    def _memoryless_batch(self, step: int) -> Batch:
        """The loops' prose in turn, memory left out."""
        o = self.options
        visit, within = divmod(step, o.prose_steps)
        return self._prose_batch(visit % o.loops, o.cycles - 1, within)

    # -- probes ---------------------------------------------------------------------------------------

    def probe_points(self, index: int) -> tuple[ProbePoint, ...]:
        """When what is asked; see the top of this file."""
        o = self.options
        primary = "primary" if o.facts_per_loop else "documents"
        if index >= self.ends:
            return self._learning(index - self.ends, 0)
        last = index == self.ends - 1
        whole = ("ladder", "general") if o.facts_per_loop else ("general",)
        if index < o.visits:
            loop, cycle = self.visit(index)
            points = [ProbePoint(0, primary, "boundary")]
            if index == 0:
                points += [ProbePoint(0, name, name) for name in whole]
            if o.facts_per_loop and 0 < o.insert_at and cycle > o.insert_at_cycle:
                points.append(ProbePoint(o.insert_at * o.repeats, primary, "inside"))
            if o.relearn and cycle == o.insert_at_cycle:
                points += self._learning(loop, o.insert_at * o.repeats)
            if last:
                end = o.visit_steps(loop, cycle)
                points += [
                    ProbePoint(end, primary, "boundary"),
                    *(ProbePoint(end, name, name) for name in whole),
                ]
            return tuple(points)
        even = set(range(0, o.rest_steps + 1, o.even_every))
        log = set(log_spaced(o.rest_steps))
        points = []
        for after in sorted(even | log):
            names = [name for name, places in (("even", even), ("log", log)) if after in places]
            if after == 0 or (last and after == o.rest_steps):
                names.insert(0, "boundary")
            probe_set = "margin" if after in even and o.facts_per_loop else primary
            points.append(ProbePoint(after, probe_set, "+".join(names)))
            if (index == o.visits and after == 0) or (last and after == o.rest_steps):
                points += [ProbePoint(after, name, name) for name in whole]
        return tuple(points)

    def _learning(self, loop: int, start: int) -> tuple[ProbePoint, ...]:
        """A loop's own facts before its memory, which begins at step `start`, and after every step of it."""
        steps = self.options.memory_batches(loop) * self.options.repeats
        return tuple(ProbePoint(start + i, f"loop {loop}", "learning") for i in range(steps + 1))

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """All probes by set."""
        o, context = self.options, self.context
        general = general_probes(context, o.row_tokens)
        if not o.facts_per_loop:
            documents = tuple(
                document_probe(
                    context.encode,
                    self.prose(loop, 0, i),
                    id=f"document-{loop}-{i}",
                    fact=f"document-{loop}-{i}",
                    length=o.row_tokens,
                    task_label=loop,
                )
                for loop in range(o.all_loops)
                for i in range(o.prose_steps * o.batch_size)
            )
            sets: dict[str, tuple[Probe, ...]] = {"documents": documents, "general": general}
        else:
            sets = {
                "primary": tuple(p for m in self.memories for p in self._bare(m, ("question",))),
                "margin": tuple(self._margin(m) for m in self.memories)
                + tuple(self._probe(m, "question", twin=True) for m in self.memories),
                "ladder": tuple(p for m in self.memories for p in self._ladder(m)),
                "general": general,
            }
            if o.variant == "conflict":
                sets["primary"] = sets["margin"]
            if o.relearn:
                for memory in [*self.memories, *self.new_facts]:
                    name = f"loop {memory.loop}"
                    sets[name] = (*sets.get(name, ()), self._probe(memory, "question", twin=False))
        check_lengths(context, sets)
        return sets

    def check_rows(self) -> None:
        """Refuse facts that do not fit a row before anything is trained.

        Raises:
            UsageError: naming the fact; of a fact's answers the longest stands for the others.
        """
        for memory in [*self.memories, *(self.new_facts if self.options.relearn else ())]:
            fact = max(memory.truths.values(), key=lambda truth: len(truth.value))
            texts = [statement(fact, wording) for wording in range(trained_wordings(fact))]
            asked = [qa(fact, wording) for wording in range(_questions(fact))]
            for text in {"statements": texts, "questions": asked}.get(self.options.train_on, texts + asked):
                self._row(text, [fact.id])

    def _bare(self, memory: _Memory, relations: Sequence[Any]) -> list[Probe]:
        return [self._probe(memory, r, twin=twin) for r in relations for twin in (False, True)]

    def _ladder(self, memory: _Memory) -> list[Probe]:
        """Every rung bare, and the primary one after text of the own and of another loop."""
        other = (memory.loop + self.options.all_loops // 2) % self.options.all_loops
        cued = [
            self._probe(memory, "question", twin=twin, cue=cue, place=place)
            for cue, place in (("own", memory.loop), ("other", other))
            for twin in (False, True)
        ]
        return self._bare(memory, RUNGS) + cued

    def _margin(self, memory: _Memory) -> Probe:
        """The primary rung with competing answers: every loop's in `conflict`, else ones of like facts."""
        if self.options.variant == "conflict":
            choices = [(f"loop {loop}", answer(fact)) for loop, fact in memory.truths.items()]
        else:
            right = memory.fact
            rivals = [
                m.fact
                for m in self.memories
                if m.fact.attribute == right.attribute and m.fact.value != right.value
            ]
            values = list(dict.fromkeys([right.value, *(fact.value for fact in rivals)]))
            choices = [(value, f" {value}") for value in values[:CHOICES]]
        return self._probe(memory, "question", twin=False, choices=choices)

    def _probe(
        self,
        memory: _Memory,
        relation: Any,
        *,
        twin: bool,
        cue: Any = "none",
        place: int = 0,
        choices: Sequence[tuple[str, str]] = (),
    ) -> Probe:
        fact = memory.twin if twin else memory.truths[memory.loop]
        asked, wording = self._wording(memory, self.options.insert_at_cycle, 0)  # as first trained
        prompt, right, chance = rung_texts(fact, relation, wording)
        if asked and relation in ("last_token", "verbatim"):
            prompt = question_prompt(fact, wording)
        elif asked and relation == "last_word":
            prompt = " ".join([question_prompt(fact, wording), *fact.value.split(" ")[:-1]])
        if cue != "none":
            prompt = f"{self._cut(self.prose(place, self.options.cycles - 1, 0))} {prompt}"
        suffix = "-margin" if choices else ""
        probe = answer_probe(
            self.context.encode,
            id=f"{fact.id}-{relation}-{cue}{suffix}",
            prompt=prompt,
            answer=right,
            fact=fact.id,
            relation=relation,
            cue=cue,
            choices=choices,
            chance=chance,
            task_label=memory.loop,
            twin_of=memory.fact.id if twin else None,
            subject=fact.person.name,
        )
        return last_token(probe) if relation == "last_token" else probe

    def _cut(self, text: str) -> str:
        """As much of the text as fits a training row."""
        fits, beyond = 0, len(text) + 1
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if len(self.context.encode(text[:middle])) <= self.options.row_tokens:
                fits = middle
            else:
                beyond = middle
        return text[:fits]


def _questions(fact: Fact) -> int:
    return len(ATTRIBUTE_BY_NAME[fact.attribute].questions)


def _distinct_values(seed: int, place: int, attribute: str, count: int) -> list[str]:
    """`count` different values of an attribute's closed set, which leave some for the twins."""
    values = ATTRIBUTE_BY_NAME[attribute].values
    if count >= len(values):
        raise UsageError(
            f"variant conflict needs {count} different answers, attribute {attribute} has {len(values)}"
        )
    return Draw("conflicting answers", seed, place).sample(values, count)


def build(options: MemoryLoopsOptions, context: BuildContext) -> Stream:
    """The stream of one seed."""
    loops = _Loops(options, context)
    loops.check_rows()
    return Stream(loops.length, loops.experience, loops.probe_points, loops.probe_sets())


def outline(options: MemoryLoopsOptions) -> Outline:
    """Steps, tokens and probes, counted without making a document."""
    o = options
    steps = o.loops * sum(o.visit_steps(0, cycle) for cycle in range(o.cycles))
    steps += o.new_loop * o.visit_steps(o.loops, o.insert_at_cycle) + len(o.rests) * o.rest_steps
    learning = o.memory_batches(0) * o.repeats
    steps += o.branches * learning
    prose = o.prose_steps * o.batch_size
    last_cycle = max(o.cycles - 1, o.insert_at_cycle + o.new_loop - 1)
    editions = 1 + last_cycle if o.jitter else 1
    documents = prose * joined(o.row_tokens) * o.all_loops * editions if o.loop_text == "background" else 0
    documents += o.rest_steps * o.batch_size if "unrelated" in o.rests else 0
    # probes: a sweep asks every fact and twin, or every document; rivals are rows of their own
    facts = o.all_loops * o.facts_per_loop
    per_sweep = 2 * facts or o.all_loops * prose
    even = len(o.rests) * (1 + o.rest_steps // o.even_every)
    sweeps = 2 * o.visits + 1 + even + len(o.rests) * (2 + o.rest_steps.bit_length())
    conflict = o.variant == "conflict"
    rivals = facts * (sweeps * (o.all_loops - 1) if conflict else even * (CHOICES - 1))
    bare = sweeps * per_sweep + rivals + (3 * 5 * per_sweep if facts else 0)
    bare += 2 * o.branches * (learning + 1) * o.facts_per_loop  # first visits and branches
    cued = 3 * 2 * per_sweep if facts else 0
    general = 3 * GENERAL_DOCUMENTS
    return Outline(
        steps=steps,
        train_tokens=steps * o.batch_size * o.row_tokens,
        probe_rows=bare + cued + general,
        probe_tokens=bare * (PROBE_TOKENS if facts else o.row_tokens)
        + cued * (PROBE_TOKENS + o.row_tokens)
        + general * o.row_tokens,
        loops=o.branches or o.all_loops,
        experiences=o.visits + len(o.rests) + o.branches,
        longest_row=o.row_tokens + (PROBE_TOKENS if o.facts_per_loop else 0),
        documents=(documents, GENERAL_DOCUMENTS),
        primary=_primary(o),
        primary_relation="question" if o.facts_per_loop else "general",
        branches=o.relearn,
    )


def _primary(options: MemoryLoopsOptions) -> str:
    if options.relearn:
        return "relearning_savings"
    return "retention" if options.facts_per_loop else "recovery"


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "loops": 2,
        "cycles": 2,
        "facts_per_loop": 4,
        "exposures": 2,
        "batch_size": 4,
        "rest_steps": 6,
        "even_every": 2,
    },
    "default": {},
    "paper": {
        "loops": 8,
        "cycles": 8,
        "facts_per_loop": 16,
        "batch_size": 16,
        "row_tokens": 128,
        "rest_steps": 500,
        "even_every": 10,
    },
    "anticipatory": {
        "loops": 25,
        "cycles": 5,
        "facts_per_loop": 0,
        "prose_steps": 1,
        "insert_at": 0,
        "loop_text": "background",
        "repeats": 10,
        "batch_size": 1,
        "row_tokens": 256,
        "rest": "none",
    },
    "relearn": {"cycles": 1, "exposures": 24, "relearn": True},
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {
    "default": {"name": "adam", "lr": 1e-3},
    "anticipatory": {"name": "sgd", "lr": 1e-3},
}

RATES: Mapping[str, float] = {"sgd": 0.3}
"""Without momentum .1 learns half of the facts and .5 diverges now and then, both on `tiny`."""


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="memory_loops",
            version="2",
            summary="Loops of documents, each with a memory, visited in cycles; then rest.",
            options=MemoryLoopsOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            rates=RATES,
            outline=outline,
            build=build,
            controls={"shuffled": {"order": "shuffled"}},
            citation="Yang et al. 2024, Reawakening knowledge, arXiv 2403.09613 (preset anticipatory)",
        )
    ]
