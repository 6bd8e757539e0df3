"""Probes of `memory_loops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqmem import Cue, Probe, Relation, answer_probe, document_probe
from seqmem.streams import Size
from seqmem_scenarios.common import (
    PROBE_FORMS,
    PROBE_TOKENS,
    bare_size,
    check_lengths,
    form_texts,
    general_probes,
    general_size,
    last_token,
)
from seqmem_scenarios.memory_loops.memories import Memory, wording
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions
from seqmem_scenarios.memory_loops.rows import Rows
from seqmem_scenarios.world import answer, question_prompt

CHOICES = 4
"""Answers scored per probe where the margin is wanted, the right one included."""
CUED = 4
"""Probes of a fact with text in front: fact and twin, after text of the own and of another loop."""


def sizes(options: MemoryLoopsOptions) -> dict[str, Size]:
    """Return the size of every probe set."""
    o = options
    general = {"general": general_size(o.row_tokens)}
    if not o.facts_per_loop:
        documents = o.all_loops * o.prose_documents
        return {"documents": Size(documents, documents * o.row_tokens), **general}
    facts = o.all_loops * o.facts_per_loop
    rivals = facts * (o.all_loops if o.variant == "conflict" else CHOICES)  # rows of their own
    margin = Size(2 * facts, (2 * facts + rivals) * PROBE_TOKENS)
    cued = CUED * facts
    return {
        "primary": margin if o.variant == "conflict" else bare_size(2 * facts),
        "margin": margin,
        "ladder": Size(
            2 * len(PROBE_FORMS) * facts + cued,
            2 * len(PROBE_FORMS) * facts * PROBE_TOKENS + cued * (PROBE_TOKENS + o.row_tokens),
        ),
        **{f"loop {loop}": bare_size(o.facts_per_loop) for loop in range(o.branches)},
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
                "primary": tuple(p for m in self.rows.memories for p in self._bare(m, ("question",))),
                "margin": tuple(self._margin(m) for m in self.rows.memories)
                + tuple(self._probe(m, "question", twin=True) for m in self.rows.memories),
                "ladder": tuple(p for m in self.rows.memories for p in self._all_forms(m)),
                "general": general,
            }
            if o.variant == "conflict":
                sets["primary"] = sets["margin"]
            if o.relearn:
                for memory in [*self.rows.memories, *self.rows.new_facts]:
                    name = f"loop {memory.loop}"
                    sets[name] = (*sets.get(name, ()), self._probe(memory, "question", twin=False))
        check_lengths(context, sets)
        return sets

    def _bare(self, memory: Memory, relations: Sequence[Relation]) -> list[Probe]:
        return [self._probe(memory, r, twin=twin) for r in relations for twin in (False, True)]

    def _all_forms(self, memory: Memory) -> list[Probe]:
        """Return every probe form bare, and the primary one after text of the own and of another loop."""
        other = (memory.loop + self.options.all_loops // 2) % self.options.all_loops
        cues: tuple[tuple[Cue, int], ...] = (("own", memory.loop), ("other", other))
        cued = [
            self._probe(memory, "question", twin=twin, cue=cue, place=place)
            for cue, place in cues
            for twin in (False, True)
        ]
        return self._bare(memory, PROBE_FORMS) + cued

    def _margin(self, memory: Memory) -> Probe:
        """Return probes with competing answers: every loop's in `conflict`, else those of like facts."""
        if self.options.variant == "conflict":
            choices = [(f"loop {loop}", answer(fact)) for loop, fact in memory.truths.items()]
        else:
            right = memory.fact
            rivals = [
                m.fact
                for m in self.rows.memories
                if m.fact.attribute == right.attribute and m.fact.value != right.value
            ]
            values = list(dict.fromkeys([right.value, *(fact.value for fact in rivals)]))
            choices = [(value, f" {value}") for value in values[:CHOICES]]
        return self._probe(memory, "question", twin=False, choices=choices)

    def _probe(
        self,
        memory: Memory,
        relation: Relation,
        *,
        twin: bool,
        cue: Cue = "none",
        place: int = 0,
        choices: Sequence[tuple[str, str]] = (),
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
        """Return as much of the text as fits a training row."""
        fits, beyond = 0, len(text) + 1
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if len(self.context.encode(text[:middle])) <= self.options.row_tokens:
                fits = middle
            else:
                beyond = middle
        return text[:fits]
