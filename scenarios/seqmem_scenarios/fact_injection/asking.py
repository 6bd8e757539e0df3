"""The facts of `fact_injection` in their groups, and what is asked about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from seqmem import NEVER, UsageError
from seqmem_scenarios.candidates import CANDIDATE_TOKENS, MAX_CANDIDATES, WHOLE
from seqmem_scenarios.common import PROBE_TOKENS
from seqmem_scenarios.fact_injection.dealing import deal
from seqmem_scenarios.fact_injection.options import FactInjectionOptions
from seqmem_scenarios.fact_sources import WORLD, Question, SourceFact, take


@dataclass(frozen=True)
class Ask:
    """One question about one fact, before it is put into tokens."""

    fact: SourceFact
    question: Question
    number: int  # among the questions of its probe form
    group: str
    task_label: int | None
    twin_of: str | None

    @property
    def id(self) -> str:
        """Id of its probe."""
        return f"{self.fact.id}-{self.question.relation}-{self.number}"

    def place(self, source: str) -> str:
        """Return where a source has it, for messages."""
        return f"facts {source!r}, item {self.fact.id!r}, {self.question.field}"


def _asked(fact: SourceFact, group: str, task_label: int | None, twin_of: str | None = None) -> list[Ask]:
    """Return every question about a fact."""
    found: list[Ask] = []
    for question in fact.questions:
        number = sum(ask.question.relation == question.relation for ask in found)
        found.append(Ask(fact, question, number, group, task_label, twin_of))
    return found


def grouped(options: FactInjectionOptions, facts: Sequence[SourceFact]) -> dict[str, Sequence[SourceFact]]:
    """Return the facts of every group, the never-trained ones last and without twins."""
    size = options.facts_count
    groups: dict[str, Sequence[SourceFact]] = {
        name: facts[place * size : (place + 1) * size] for place, name in enumerate(options.trained_groups)
    }
    never = [replace(fact, twins=()) for fact in facts[len(groups) * size :]]
    return {**groups, NEVER: never}


def sets(options: FactInjectionOptions, groups: Mapping[str, Sequence[SourceFact]]) -> dict[str, list[Ask]]:
    """Return the questions of every probe set, held-out text apart."""
    facts: list[Ask] = []
    twins: list[Ask] = []
    for label, (group, members) in enumerate(groups.items()):
        numbered = label if group in options.trained_groups and options.schedule == "long_term" else None
        for fact in members:
            facts += _asked(fact, group, numbered)
            twins += [ask for twin in fact.twins for ask in _asked(twin, group, numbered, fact.id)]
    all_forms = [*facts, *twins]
    return {
        "primary": [ask for ask in all_forms if ask.question.relation == options.primary_relation],
        "three": [ask for ask in all_forms if ask.question.relation in WHOLE],
        "ladder": all_forms,
    }


def facts_of(options: FactInjectionOptions, seed: int) -> list[SourceFact]:
    """Return the facts a stream needs.

    Raises:
        UsageError: the source cannot give them, or an item lacks the paraphrases that its group needs.
    """
    if options.facts == WORLD:
        return deal(options, seed)
    facts = take(options.facts, options.all_facts)
    if options.schedule == "published" and options.injections > 1:
        for fact in grouped(options, facts)["paraphrase"]:
            if len(fact.texts) < 2:
                raise UsageError(
                    f"facts {options.facts!r}, item {fact.id!r} has no paraphrases, but is in the group paraphrase "
                    f"(the first {options.facts_count}); put items with paraphrases first"
                )
    return facts


def most_tokens(ask: Ask) -> int:
    """Return a bound on the tokens of a probe: a file's text has at most a token per byte and a special one."""
    bare = len((ask.question.prompt + ask.question.answer).encode()) + 2
    if ask.question.chance is not None:
        bare = min(bare, PROBE_TOKENS)
    if ask.question.relation not in WHOLE or not ask.fact.candidates:
        return bare
    # which fact a never-trained one is asked like, and so its candidates, differ between seeds
    return bare + CANDIDATE_TOKENS * (MAX_CANDIDATES if ask.group == NEVER else len(ask.fact.candidates))
