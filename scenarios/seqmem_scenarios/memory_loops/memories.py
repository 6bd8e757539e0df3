"""The facts that the loops of `memory_loops` hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from seqmem import UsageError
from seqmem_scenarios.candidates import Candidates
from seqmem_scenarios.common import trained_wordings
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions
from seqmem_scenarios.world import ATTRIBUTE_BY_NAME, Draw, Fact, make_facts


@dataclass(frozen=True)
class Memory:
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


def make_memories(options: MemoryLoopsOptions, seed: int) -> list[Memory]:
    """Return all facts of all loops, loop by loop."""
    size = options.facts_per_loop
    pairs = make_facts(seed, options.all_loops * size)
    by_loop = [pairs[loop * size : (loop + 1) * size] for loop in range(options.all_loops)]
    candidates = Candidates((fact for fact, _ in pairs), seed)
    memories: list[Memory] = []
    for loop, own in enumerate(by_loop):
        for place, (fact, twin) in enumerate(own):
            if options.variant == "conflict":
                answers = _distinct_values(seed, place, fact.attribute, len(by_loop))
                truths = {
                    other: Fact(fact.id, fact.person, fact.attribute, answers[other])
                    for other in range(len(by_loop))
                }
                # the same answers compete for the twin, and the same one counts as right
                memories.append(Memory(loop, fact, replace(twin, value=answers[loop]), truths, len(memories)))
            else:
                memories.append(Memory(loop, fact, candidates.twin(fact, twin), {loop: fact}, place))
    return memories


def make_new_facts(options: MemoryLoopsOptions, seed: int) -> list[Memory]:
    """Return as many facts as a loop has, trained on a branch after the rest and nowhere else."""
    size, loop = options.facts_per_loop, options.all_loops
    return [
        Memory(loop, fact, twin, {loop: fact}, place)
        for place, (fact, twin) in enumerate(make_facts(seed, (loop + 1) * size)[loop * size :])
    ]


def wording(options: MemoryLoopsOptions, memory: Memory, cycle: int, exposure: int) -> tuple[bool, int]:
    """Return if this exposure is a question, and in which wording; they differ between facts and exposures."""
    turn = cycle * options.exposures + exposure + memory.stated_at
    asked = options.train_on == "questions" or (options.train_on == "both" and turn % 2 == 1)
    number = turn // 2 if options.train_on == "both" else turn
    return asked, number % (questions(memory.fact) if asked else trained_wordings(memory.fact))


def questions(fact: Fact) -> int:
    """Return the number of ways in which a fact is asked for."""
    return len(ATTRIBUTE_BY_NAME[fact.attribute].questions)


def _distinct_values(seed: int, place: int, attribute: str, count: int) -> list[str]:
    """Return `count` different values of an attribute's closed set, and leave some for the twins."""
    values = ATTRIBUTE_BY_NAME[attribute].values
    if count >= len(values):
        raise UsageError(
            f"variant conflict needs {count} different answers, attribute {attribute} has {len(values)}"
        )
    return Draw("conflicting answers", seed, place).sample(values, count)
