"""The rows and probes of `freeze_loops`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

from seqmem import Batch, BuildContext, Example, Probe, Relation
from seqmem.streams import Place
from seqmem_scenarios.candidates import WHOLE, Candidates
from seqmem_scenarios.common import (
    PROBE_FORMS,
    background_batches,
    background_row,
    check_lengths,
    fact_probe,
    general_probes,
    rest_probes,
    statement_row,
    trained_wordings,
)
from seqmem_scenarios.freeze_loops.options import FreezeLoopsOptions
from seqmem_scenarios.world import ATTRIBUTES, Draw, Fact, make_facts


@dataclass(frozen=True)
class Taught:
    """A fact of a task with its never-trained twin, and its place among the task's facts."""

    task: int
    place: int
    fact: Fact
    twin: Fact


class Tasks:
    """The stream of one seed."""

    def __init__(self, options: FreezeLoopsOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context

    @cached_property
    def candidates(self) -> Candidates:
        """The answers that compete, facts of the same attribute for each other."""
        return Candidates((fact for fact, _, _ in self._dealt), self.context.seed)

    @cached_property
    def tasks(self) -> tuple[tuple[Taught, ...], ...]:
        """The facts of every task."""
        tasks: list[list[Taught]] = [[] for _ in range(self.options.tasks)]
        for fact, twin, task in self._dealt:
            taught = Taught(task, len(tasks[task]), fact, self.candidates.twin(fact, twin))
            tasks[task].append(taught)
        return tuple(tuple(task) for task in tasks)

    @cached_property
    def _dealt(self) -> list[tuple[Fact, Fact, int]]:
        """Every fact with its twin and its task; attributes are dealt to tasks in random order."""
        o, seed = self.options, self.context.seed
        kinds = Draw("kinds of tasks", seed).shuffled([attribute.name for attribute in ATTRIBUTES])
        asking = [kinds[task % len(kinds)] for task in range(o.tasks)]
        waiting: defaultdict[str, list[int]] = defaultdict(list)
        dealt = []
        # each round of make_facts holds one fact for every entry of `asking`
        for fact, twin in make_facts(seed, o.tasks * o.facts_per_task, asking):
            alike = waiting[fact.attribute]
            if not alike:
                alike += [task for task, kind in enumerate(asking) if kind == fact.attribute]
            dealt.append((fact, twin, alike.pop(0)))
        return dealt

    # -- training rows --------------------------------------------------------------------------------

    def general(self, place: Place) -> Iterator[Batch]:
        """Make general text; no stretch has rows of another."""
        o = self.options
        return background_batches(self.context, place.row, place.steps, o.batch_size, o.row_tokens)

    def _general_row(self, place: Place, step: int) -> Example:
        o = self.options
        return background_row(self.context, place.row + step * o.batch_size, o.row_tokens)

    def task(self, place: Place) -> Iterator[Batch]:
        """Make passes over the task's facts, one fact a row, each time in another wording."""
        o = self.options
        for exposure in range(o.exposures):
            rows = [
                statement_row(self.context, taught.fact, exposure + taught.place, o.row_tokens)
                for taught in self.tasks[place.number]
            ]
            yield from (tuple(rows[i : i + o.batch_size]) for i in range(0, len(rows), o.batch_size))

    def check_rows(self) -> None:
        """Refuse facts that do not fit a row before anything is trained.

        Raises:
            UsageError: naming the fact.
        """
        for taught in (taught for task in self.tasks for taught in task):
            for wording in range(trained_wordings(taught.fact)):
                statement_row(self.context, taught.fact, wording, self.options.row_tokens)

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self, rest: Place) -> Mapping[str, tuple[Probe, ...]]:
        """Return all probes by set; `rest` is the rest's place in the stream."""
        inferred = self._probes(("question",))
        sets = {
            "inferred": inferred,
            "known": tuple(replace(p, id=f"{p.id}-known", task_known=True) for p in inferred),
            "ladder": self._probes(PROBE_FORMS),
            "general": general_probes(self.context, self.options.row_tokens),
            "rest": rest_probes(
                self.context, "any", rest.steps, partial(self._general_row, rest), lambda: self.general(rest)
            ),
        }
        check_lengths(self.context, sets)
        return sets

    def _probes(self, relations: tuple[Relation, ...]) -> tuple[Probe, ...]:
        return tuple(
            self._probe(taught, relation, twin=twin)
            for relation in relations
            for task in self.tasks
            for taught in task
            for twin in (False, True)
        )

    def _probe(self, taught: Taught, relation: Relation, *, twin: bool) -> Probe:
        asked = taught.twin if twin else taught.fact
        probe = fact_probe(
            self.context,
            asked,
            relation,
            twin_of=taught.fact if twin else None,
            wording=taught.place % trained_wordings(taught.fact),
            position=taught.task,
            group=taught.fact.attribute,
            task_label=taught.task,
        )
        if relation not in WHOLE:
            return probe
        values = self.candidates.of(taught.fact, taught.twin)
        return self.candidates.competing(self.context, probe, asked, values)
