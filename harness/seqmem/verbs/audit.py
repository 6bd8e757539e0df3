"""The audit from end to end, for the command line and for notebooks alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmem.core.errors import UsageError
from seqmem.core.sanitize import clean
from seqmem.launch.local import Workers
from seqmem.planning.audit import Audit, Check
from seqmem.planning.counting import what_is_read
from seqmem.planning.grid import PlannedRun
from seqmem.planning.job import job_of
from seqmem.planning.plan import plan
from seqmem.planning.request import AuditRequest, Execution, keywords, read
from seqmem.planning.store import Store
from seqmem.plugin.registry import Registry
from seqmem.verbs.display import LINE_SECONDS
from seqmem.verbs.interrupt import interruptible

MODULE = "seqmem.training.audit"


@dataclass(frozen=True)
class AuditResult:
    """The outcome of an audit.

    Attributes:
        audits: by run name.
        failed: run name to reason, for streams that could not be asked.
        left_out: models that cannot be used, each with its reason.
        interrupted: Ctrl-C stopped it.
    """

    audits: Mapping[str, Audit]
    failed: Mapping[str, str]
    left_out: Sequence[str]
    interrupted: bool

    @property
    def passed(self) -> bool:
        """Return whether every audit passes."""
        return not self.failed and all(audit.passed for audit in self.audits.values())


@keywords(AuditRequest, Execution)
def audit(model: str, scenario: str | Sequence[str], **given: Any) -> AuditResult:
    """Ask the probes of scenarios once with untrained models, and check what a run needs of them; trains nothing.

    Args:
        model: a model that is listed, a folder or a Hugging Face id.
        scenario: scenario names, one or several.
        **given: any further field of `AuditRequest`, and of `Execution`; see `bench`.

    Raises:
        UsageError: the request cannot be carried out.
    """
    request, execution = read(AuditRequest, {"model": model, "scenario": scenario, **given}, "audit")
    if not request.scenario:
        raise UsageError("no scenario given; name one with --scenario, see: seqmem list")
    registry = Registry.from_environment(execution.disabled)
    found: dict[str, PlannedRun] = {}
    left_out: list[str] = []
    notes: list[Check] = []
    for name in request.scenario:
        reference = registry.load("scenario", name).reference
        planned = plan(request.as_bench(scenario=(name,), strategy=(reference,)), registry)
        for run in planned.runs.values():
            found.setdefault(repr(what_is_read(run)), run)
        left_out += planned.left_out
        notes += [Check(state="told", text=note) for note in planned.notes]
    runs = {run.recipe.id: run for run in found.values()}
    jobs = [job_of(run, Store(Path()), {}, execution) for run in runs.values()]
    lines = _Lines({identity: run.name for identity, run in runs.items()}, shown=execution.display != "none")
    with (
        interruptible() as interrupted,
        Workers(1, max(run.recipe.threads for run in runs.values()), MODULE) as pool,
    ):
        outcome = pool.run(jobs, lines.event, interrupted.is_set)
    audits = {
        run.name: _with_notes(Audit.model_validate(outcome[identity]["audit"]), notes)
        for identity, run in runs.items()
        if "audit" in outcome.get(identity, {})
    }
    failed = {runs[i].name: str(event["reason"]) for i, event in outcome.items() if "reason" in event}
    stopped = interrupted.is_set() and len(audits) + len(failed) < len(runs)
    return AuditResult(audits, failed, tuple(dict.fromkeys(left_out)), stopped)


def _with_notes(found: Audit, notes: Sequence[Check]) -> Audit:
    """Return an audit with what planning notes about the model, once."""
    return found.model_copy(update={"checks": (*found.checks, *dict.fromkeys(notes))})


class _Lines:
    """Says on standard error what is being loaded, and now and then how many probes are asked."""

    def __init__(self, names: Mapping[str, str], *, shown: bool) -> None:
        self._names, self._shown, self._said = names, shown, time.monotonic()

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """Take an event of the process that asks."""
        if event["event"] == "loading":
            self._say(f"{self._names[run]}: loading {event['what']}")
        elif event["event"] == "probing" and time.monotonic() - self._said >= LINE_SECONDS:
            self._say(f"{self._names[run]}: {event['asked']:,} of {event['of']:,} probes asked")

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        if self._shown:
            print(clean(f"seqmem: {text}"), file=sys.stderr, flush=True)
