"""Audit a model before it is trained: a stream's probes asked once, and its rows looked at; trains nothing.

Started as ``python -m seqmem.training.audit`` and given jobs as `seqmem.training.worker` is.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from seqmem.core.count import positions
from seqmem.core.data import Outline, Probe, Stream
from seqmem.planning.audit import (
    Asked,
    Audit,
    Check,
    Form,
    answer_checks,
    chance_checks,
    form_checks,
    form_of,
    forms_of,
)
from seqmem.planning.job import Job
from seqmem.planning.models import ModelChoice
from seqmem.planning.stream import build_stream, model_choice, tokenizer_of
from seqmem.planning.tokenizer import unknown_id
from seqmem.plugin.registry import Registry
from seqmem.training.model import load_model
from seqmem.training.probing import ProbeSet
from seqmem.training.reporting import Report
from seqmem.training.run import deterministic, reason_of
from seqmem.training.run_audit import asked_of
from seqmem.training.worker import serve

MAX_TOKENS = 2_000_000
"""Trained tokens up to which all rows are looked at: some ten seconds."""


def audit_job(
    job: Job,
    report: Report,
    should_stop: Callable[[], bool] = lambda: False,
    registry: Registry | None = None,
) -> None:
    """Audit a job's stream with its untrained model; progress and the outcome go to `report`, nothing is written.

    The last report has event ``finished`` with the ``audit``, ``stopped``, or ``failed`` with the ``reason``: that a
    scenario refuses its stream is what was to be found out.
    """
    try:
        registry = registry or Registry.from_environment(frozenset(job.disabled))
        with deterministic(job.recipe):
            found = audit(job, registry, report, should_stop)
    except _Stopped:
        report({"event": "stopped"})
    except Exception as error:  # the stream is refused, the model is too large, or a plugin is at fault
        report({"event": "failed", "reason": reason_of(error, job.recipe)})
    else:
        report({"event": "finished", "audit": found.model_dump(mode="json")})


class _Stopped(Exception):
    """The audit was asked to stop."""


def audit(
    job: Job,
    registry: Registry,
    report: Report = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Audit:
    """Return the audit of a job's stream with its untrained model.

    Raises:
        SeqmemError: stream or model cannot be built.
    """
    recipe = job.recipe
    report({"event": "loading", "what": "tokenizer and stream"})
    tokenizer = tokenizer_of(job)
    stream, outline = build_stream(job, registry, tokenizer)
    report(
        {"event": "loading", "what": f"model {recipe.model.name} ({recipe.model.parameters:,} parameters)"}
    )
    model = _model(
        job.model_folder, model_choice(recipe), recipe.device, recipe.seed if outline.from_scratch else None
    )
    probes = list(_once(probe for probes in stream.probe_sets.values() for probe in probes))
    questions = [probe for probe in probes if probe.relation != "general"]

    def on_block(done: int, blocks: int) -> None:
        if should_stop():
            raise _Stopped
        report({"event": "probing", "asked": len(questions) * done // blocks, "of": len(questions)})

    asked: list[Asked] = []
    if questions:
        answers = ProbeSet(questions, torch.device(recipe.device)).ask(model, on_block=on_block)
        asked = asked_of(questions, answers)
    report({"event": "loading", "what": "rows that are trained"})
    forms, longest = _with_rows(forms_of(asked, outline.primary_relation), questions, stream, outline)
    longest_probe = max(map(positions, probes), default=0)
    rows = (outline.longest_row if longest is None else longest, longest_probe, recipe.model.max_positions)
    recall = stream.design.recall
    checks = [
        *(c for form in forms if form.primary and recall == "forced_choice" for c in chance_checks(form)),
        *answer_checks(questions, unknown_id(tokenizer)),
        _length_check(rows),
        *form_checks(forms),
    ]
    return Audit(
        scenario=recipe.scenario.name,
        model=recipe.model.name,
        seed=recipe.seed,
        recall=recall,
        forms=tuple(forms),
        rows=rows,
        counted=longest is not None,
        checks=tuple(checks),
    )


@functools.lru_cache(maxsize=1)  # seeds in turn share it
def _model(folder: str, choice: ModelChoice, device: str, random_weights: int | None) -> nn.Module:
    model: nn.Module = load_model(Path(folder), choice, torch.device(device), random_weights=random_weights)
    return model


def _once(probes: Iterable[Probe]) -> Iterator[Probe]:
    """Yield each question once: a probe stands in several sets, and may be asked with and without the task given."""
    seen = set()
    for probe in probes:
        key = (form_of(probe), probe.fact, probe.twin_of, probe.input_ids, probe.answer_start, probe.choices)
        if key not in seen:
            seen.add(key)
            yield probe


def _length_check(rows: tuple[int, int, int]) -> Check:
    trained, probed, reads = rows
    text = (
        f"rows of {trained:,} tokens at most in training and {probed:,} in probes; the model reads {reads:,}"
    )
    if max(trained, probed) <= reads:
        return Check(state="ok", text=text)
    return Check(state="failed", text=f"{text}: shorten the rows or take a model that reads longer ones")


def _with_rows(
    forms: Sequence[Form], questions: Sequence[Probe], stream: Stream, outline: Outline
) -> tuple[list[Form], int | None]:
    """Return the forms with what rows that are trained say of them, and the longest such row; None of a long stream.

    A fact's answer is looked for in the rows that state the fact, with the tokens it is asked with.
    """
    if outline.train_tokens > MAX_TOKENS:
        return list(forms), None
    wanted: defaultdict[str, dict[int, bytes]] = defaultdict(dict)
    for number, probe in enumerate(questions):
        if not probe.never_trained:
            wanted[probe.fact][number] = _bytes(probe.input_ids[probe.answer_start :])
    stated: set[str] = set()
    longest = 0
    for index in range(stream.length):
        for row in (row for batch in stream.experience(index).batches for row in batch):
            longest = max(longest, len(row.input_ids))
            text = _bytes(row.input_ids) if row.facts else b""
            for fact in row.facts:
                stated.add(fact)
                waiting = wanted[fact]
                for number in [n for n, answer in waiting.items() if _holds(text, answer)]:
                    del waiting[number]
    missing = {number for waiting in wanted.values() for number in waiting}
    looked: defaultdict[str, list[bool]] = defaultdict(list)
    for number, probe in enumerate(questions):
        if probe.fact in stated and not probe.never_trained:
            looked[form_of(probe)].append(number not in missing)
    counted = {name: (sum(found), len(found)) for name, found in looked.items()}
    return [form.model_copy(update={"joined": counted.get(form.name)}) for form in forms], longest


_WIDTH = 4


def _bytes(ids: object) -> bytes:
    return np.asarray(ids, dtype="<i4").tobytes()


def _holds(row: bytes, answer: bytes) -> bool:
    """Return whether a row's ids hold those of an answer, one after the other."""
    at = row.find(answer)
    while at >= 0 and at % _WIDTH:
        at = row.find(answer, at + 1)
    return at >= 0


if __name__ == "__main__":
    serve(lambda: audit_job)
