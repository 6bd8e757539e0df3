"""Timetable of `memory_loops`: its training and its probes."""

from __future__ import annotations

from seqmem.streams import (
    Place,
    Schedule,
    Segment,
    When,
    ask,
    begin,
    every,
    finish,
    log,
    start,
)
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions
from seqmem_scenarios.world import Draw

UNRELATED = "unrelated"
"""Kind of the rest that trains background text, and name of the set of its own rows that are asked."""
RESTED = "rested"
"""Snapshot of the learner after the last rest phase, which branches return to."""


def schedule(options: MemoryLoopsOptions, seed: int = 0) -> Schedule:
    """State the stream: what is trained, and what is asked when; see the top of this package.

    The seed decides on the order of shuffled loops, on nothing that counts.
    """
    o = options
    facts = o.facts_per_loop > 0
    visits = ["visit", "new"] if o.new_loop else ["visit"]
    ends = [*visits, *o.rests][-1]  # the kind after which only branches come
    primary = "primary" if facts else "documents"
    whole = [begin(), *map(begin, o.rests[:1]), finish(ends)]
    resting = [
        ask(primary, "even", every(o.even_every, *o.rests)),
        ask(primary, "log", log(*o.rests)),
    ]
    learning = When(lambda place: _memory_steps(o, place), tuple(visits))
    rules = [
        ask(primary, "boundary", start(*visits, *o.rests), finish(ends)),
        ask(primary, "inside", When(lambda place: _before_its_memory(o, place), tuple(visits))),
        *(resting if o.rests else []),
        *([ask("ladder", "ladder", *whole)] if facts else []),
        ask("general", "general", *whole),
        *([ask(UNRELATED, "rest_text", begin(UNRELATED), finish(UNRELATED))] if UNRELATED in o.rests else []),
        *([ask(_own_facts, "learning", learning, every(1, "again"))] if o.relearn else []),
    ]
    return Schedule([*_visits(o, seed), *_rests(o), _branches(o)], rules)


def _own_facts(place: Place) -> str:
    return f"loop {place.label}"


def cycle(options: MemoryLoopsOptions, place: Place) -> int:
    """Return the cycle of a visit, from 0; the new loop's visits always hold its memory."""
    if place.kind == "new":
        return options.insert_at_cycle + place.number
    return place.number // options.loops


def _visits(o: MemoryLoopsOptions, seed: int) -> list[Segment]:
    def loop(number: int) -> int:
        turn, place = divmod(number, o.loops)
        if o.order == "cyclic":
            return place
        return Draw("loop order", seed, turn).shuffled(range(o.loops))[place]

    def visit(batches: int, cycles: int) -> Segment:
        return Segment(
            "visit",
            "loop",
            batches,
            count=cycles * o.loops,
            name=lambda number: f"loop {loop(number)} visit {number // o.loops}",
            label=loop,
            repeats=o.repeats,
        )

    return [
        visit(o.prose_steps, o.insert_at_cycle),
        visit(o.prose_steps + o.memory_batches(0), o.cycles - o.insert_at_cycle),
        Segment(
            "new",
            "loop",
            o.prose_steps + o.memory_batches(o.loops),
            count=o.new_loop,
            name=lambda number: f"loop {o.loops} visit {o.insert_at_cycle + number}, new",
            label=lambda number: o.loops,
            repeats=o.repeats,
        ),
    ]


def _rests(o: MemoryLoopsOptions) -> list[Segment]:
    return [
        Segment(
            kind,
            "rest",
            o.rest_steps,
            name=f"rest {kind.replace('_', ' ')}",
            trains="all" if o.rest_training else "none",
            moments="fresh" if kind == o.rests[0] else "carry",
            save_as=RESTED if o.relearn and kind == o.rests[-1] else None,
        )
        for kind in o.rests
    ]


def _branches(o: MemoryLoopsOptions) -> Segment:
    """Return the loops trained again, each on a branch of its own, and new facts on the last one."""
    return Segment(
        "again",
        "loop",
        o.memory_batches(0),
        count=o.branches,
        name=lambda loop: f"loop {loop} again" if loop < o.all_loops else "new facts",
        label=int,
        repeats=o.repeats,
        start_from=RESTED,
    )


def _before_its_memory(o: MemoryLoopsOptions, place: Place) -> tuple[int, ...]:
    """Return the step after the loop's prose, once the loop's memory has been trained in an earlier visit."""
    asked = o.insert_at and o.facts_per_loop and cycle(o, place) > o.insert_at_cycle
    return (o.insert_at * o.repeats,) if asked else ()


def _memory_steps(o: MemoryLoopsOptions, place: Place) -> range:
    """Return the steps before and after every step of the loop's first memory."""
    if place.label is None or cycle(o, place) != o.insert_at_cycle:
        return range(0)
    first = o.insert_at * o.repeats
    return range(first, first + o.memory_batches(place.label) * o.repeats + 1)
