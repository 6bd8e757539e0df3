"""Timetable of `fact_injection`: its training and its probes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from seqmem.streams import (
    Place,
    Repeat,
    Schedule,
    Segment,
    When,
    ask,
    begin,
    finish,
    log_spaced,
    rest,
    start,
)
from seqmem_scenarios.fact_injection.options import PUBLISHED, FactInjectionOptions

KINDS = ("prose", "dialogues", "biographies")
"""The domains of the synthetic world."""
REST_STEPS = 256
"""A longer rest is made in experiences of this many steps: what an experience trains is in memory at once."""


def schedule(options: FactInjectionOptions) -> Schedule:
    """State the stream: what is trained, and what is asked when; see the top of this package."""
    o = options
    lead_in = Segment("lead-in", "general", o.lead_in, count=min(o.lead_in, 1), rows=o.lead_in * o.batch_size)
    rests = [
        rest(steps, rows=steps * o.batch_size)
        for steps in (min(REST_STEPS, o.rest_steps - done) for done in range(0, o.rest_steps, REST_STEPS))
    ]
    return Schedule(
        [lead_in, *_injections(o), rests[0], *(replace(later, moments="carry") for later in rests[1:])],
        [
            ask("primary", "boundary", start(), finish()),
            ask("three", "inject", _around_injections(o)),
            ask("three", "log", _over_the_rest(o.rest_steps)),
            ask("ladder", "ladder", begin(), begin("rest"), finish()),
            ask("general", "general", begin(), begin("rest"), finish()),
            ask("rest", "rest_text", begin("rest"), finish()),
        ],
        covers={"three": ["primary"], "ladder": ["primary", "three"]},
    )


def source_rows(options: FactInjectionOptions, times: Schedule) -> int:
    """Return the rows that the text source gives."""
    if options.from_world:
        return (options.lead_in + options.rest_steps) * options.batch_size
    return times.rows


def _injections(o: FactInjectionOptions) -> Sequence[Segment | Repeat]:
    """Return what lies between lead-in and rest."""
    passes, background = len(o.pass_rows), sum(background for _, background in o.pass_rows)
    if o.schedule == "published":
        steps, rows, name = o.spacing, o.spacing * o.batch_size, "injection {}".format
        first = Segment(
            "injection",
            "inject",
            steps,
            rows=rows - len(PUBLISHED) * o.facts_count,
            name=name,
            update_norm=o.update_norm,
        )
        # the group that is injected once stands in the first only
        return [first, replace(first, count=o.injections - 1, rows=first.rows + o.facts_count)]
    if o.schedule == "long_term":
        group = Segment(
            "group",
            "inject",
            o.exposures * passes,
            rows=o.exposures * background,
            name="group {}".format,
            label=int,
            update_norm=o.update_norm,
        )
        domain = Segment(
            "domain",
            "general",
            o.domain_steps,
            count=o.group_every,
            rows=o.domain_steps * o.batch_size,
            name=lambda number: f"domain {KINDS[number % len(KINDS)] if o.from_world else number}",
            update_norm=o.update_norm,
        )
        return [Repeat(o.groups, group, domain)]
    return [
        Segment(
            "pass",
            "inject",
            passes,
            count=o.exposures,
            rows=background,
            name="pass {}".format,
            update_norm=o.update_norm,
        )
    ]


def _around_injections(o: FactInjectionOptions) -> When:
    """Ask before every step that trains facts and after each of the next `local_window` steps."""
    trained = 1 if o.schedule == "published" else o.exposures * len(o.pass_rows)
    period, times = {
        "published": (o.spacing, o.injections),
        "long_term": (trained + o.group_every * o.domain_steps, o.groups),
    }.get(o.schedule, (trained, 1))

    def steps(place: Place) -> Iterable[int]:
        for after in _own(place):
            since = place.done + after - o.lead_in
            if since >= 0 and since - min(since // period, times - 1) * period < trained + o.local_window:
                yield after

    return When(steps)


def _over_the_rest(rest_steps: int) -> When:
    """Ask at log-spaced steps of the whole rest, of however many experiences it is made."""
    spaced = log_spaced(rest_steps)

    def steps(place: Place) -> Iterable[int]:
        own, before = _own(place), place.number * REST_STEPS
        return [after - before for after in spaced if after - before in own]

    return When(steps, ("rest",))


def _own(place: Place) -> range:
    """Return the numbers of steps after which an experience asks: after its last step the next one does."""
    return range(place.steps + place.last)
