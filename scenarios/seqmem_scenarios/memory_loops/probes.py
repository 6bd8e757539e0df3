"""Probes of `memory_loops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from seqmem import Cue, Probe, Relation, answer_probe, document_probe
from seqmem.streams import Size
from seqmem_scenarios.candidates import CANDIDATE_TOKENS, MAX_CANDIDATES, WHOLE, Candidates
from seqmem_scenarios.common import (
    PROBE_FORMS,
    PROBE_TOKENS,
    check_lengths,
    form_texts,
    general_probes,
    general_size,
    last_token,
    rest_probes,
    rest_size,
)
from seqmem_scenarios.memory_loops.memories import Memory, wording
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions
from seqmem_scenarios.memory_loops.rows import Rows
from seqmem_scenarios.memory_loops.timetable import UNRELATED
from seqmem_scenarios.world import Fact, question_prompt

CUED = 4
"""Probes of a fact with text in front: fact and twin, after text of the own and of another loop."""


def sizes(options: MemoryLoopsOptions) -> dict[str, Size]:
    """Return the size of every probe set."""
    o = options
    general = {"general": general_size(o.row_tokens)}
    if UNRELATED in o.rests:
        general[UNRELATED] = rest_size(o.rest_steps, o.row_tokens)
    if not o.facts_per_loop:
        documents = o.all_loops * o.prose_documents
        return {"documents": Size(documents, documents * o.row_tokens), **general}
    facts = o.all_loops * o.facts_per_loop
    competing = CANDIDATE_TOKENS * (o.all_loops if o.variant == "conflict" else MAX_CANDIDATES)
    cued, near = CUED * facts, len(PROBE_FORMS) - len(WHOLE)
    whole = 2 * len(WHOLE) * facts
    return {
        "primary": Size(2 * facts, 2 * facts * (PROBE_TOKENS + competing)),
        "ladder": Size(
            2 * near * facts + whole + cued,
            2 * near * facts * PROBE_TOKENS
            + (whole + cued) * (PROBE_TOKENS + competing)
            + cued * o.row_tokens,
        ),
        **{
            f"loop {loop}": Size(o.facts_per_loop, o.facts_per_loop * (PROBE_TOKENS + competing))
            for loop in range(o.branches)
        },
        **general,
    }


class Probes:
    """The probes of one seed."""

    def __init__(self, rows: Rows) -> None:
        self.options = rows.options
        self.context = rows.context
        self.rows = rows

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """Return all probes by set."""
        o, context = self.options, self.context
        general = general_probes(context, o.row_tokens)
        if not o.facts_per_loop:
            documents = tuple(
                document_probe(
                    context.encode,
                    self.rows.prose(loop, 0, i),
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
                "primary": tuple(p for m in self.rows.memories for p in self._bare(m, (o.asked_as,))),
                "ladder": tuple(p for m in self.rows.memories for p in self._all_forms(m)),
                "general": general,
            }
            if o.relearn:
                for memory in [*self.rows.memories, *self.rows.new_facts]:
                    name = f"loop {memory.loop}"
                    sets[name] = (*sets.get(name, ()), self._probe(memory, o.asked_as, twin=False))
        if UNRELATED in o.rests:
            rows, steps = self.rows, o.rest_steps
            sets[UNRELATED] = rest_probes(
                context, o.rest_text, steps, rows.unrelated_row, lambda: rows.unrelated(steps)
            )
        check_lengths(context, sets)
        return sets

    def _bare(self, memory: Memory, relations: Sequence[Relation]) -> list[Probe]:
        return [self._probe(memory, r, twin=twin) for r in relations for twin in (False, True)]

    def _all_forms(self, memory: Memory) -> list[Probe]:
        """Return every probe form bare, and the primary one after text of the own and of another loop."""
        other = (memory.loop + self.options.all_loops // 2) % self.options.all_loops
        cues: tuple[tuple[Cue, int], ...] = (("own", memory.loop), ("other", other))
        cued = [
            self._probe(memory, self.options.asked_as, twin=twin, cue=cue, place=place)
            for cue, place in cues
            for twin in (False, True)
        ]
        return self._bare(memory, PROBE_FORMS) + cued

    def _probe(
        self,
        memory: Memory,
        relation: Relation,
        *,
        twin: bool,
        cue: Cue = "none",
        place: int = 0,
    ) -> Probe:
        fact = memory.twin if twin else memory.truths[memory.loop]
        asked, form = wording(self.options, memory, self.options.insert_at_cycle, 0)  # as first trained
        prompt, right, chance = form_texts(fact, relation, form)
        if asked and relation in ("last_token", "verbatim"):
            prompt = question_prompt(fact, form)
        elif asked and relation == "last_word":
            prompt = " ".join([question_prompt(fact, form), *fact.value.split(" ")[:-1]])
        if cue != "none":
            prompt = f"{self._cut(self.rows.prose(place, self.options.cycles - 1, 0))} {prompt}"
        probe = answer_probe(
            self.context.encode,
            id=f"{fact.id}-{relation}-{cue}",
            prompt=prompt,
            answer=right,
            fact=fact.id,
            relation=relation,
            cue=cue,
            chance=chance,
            task_label=memory.loop,
            twin_of=memory.fact.id if twin else None,
            subject=fact.person.name,
        )
        if relation == "last_token":
            return last_token(probe)
        return self._competing(memory, fact, probe) if relation in WHOLE else probe

    def _competing(self, memory: Memory, fact: Fact, probe: Probe) -> Probe:
        """Return the probe with the answers that compete: every loop's own in `conflict`, else trained values."""
        if self.options.variant == "conflict":
            names = [truth.value for truth in memory.truths.values()]
            found = self._candidates.competing(self.context, probe, fact, names)
            return replace(found, choice_names=tuple(f"loop {loop}" for loop in memory.truths))
        candidates = self._candidates if memory.loop < self.options.all_loops else self._new_candidates
        return candidates.competing(self.context, probe, fact, candidates.of(memory.fact, memory.twin))

    @cached_property
    def _candidates(self) -> Candidates:
        return Candidates((memory.fact for memory in self.rows.memories), self.context.seed)

    @cached_property
    def _new_candidates(self) -> Candidates:
        """Return the candidates of facts that are trained after the loops' own."""
        facts = [memory.fact for memory in (*self.rows.new_facts, *self.rows.memories)]
        return Candidates(facts, self.context.seed)

    def _cut(self, text: str) -> str:
        """Return as much of the text as fits a training row."""
        fits, beyond = 0, len(text) + 1
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if len(self.context.encode(text[:middle])) <= self.options.row_tokens:
                fits = middle
            else:
                beyond = middle
        return text[:fits]
