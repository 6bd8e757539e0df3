"""Count the tokens of a plan in its streams, where text and tokenizer are at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from seqmem.core.count import counted
from seqmem.core.data import Outline
from seqmem.core.errors import SeqmemError
from seqmem.planning.grid import Plan, PlannedRun
from seqmem.planning.stream import stream_of
from seqmem.planning.tokenizer import plain_encoder
from seqmem.plugin.registry import Registry

MAX_TOKENS = 2_000_000
"""Trained tokens of all streams of a plan that are counted, by their bounds: some ten seconds."""


def count_tokens(planned: Plan, registry: Registry) -> Plan:
    """Return the plan with exact outlines; those of long streams and of text that is not here stay bounds.

    What a text has to say of itself, and why a stream refuses, is added to the plan's notes.
    """
    found: dict[str, Outline] = {}
    notes = list(planned.notes)
    left = MAX_TOKENS
    runs = {}
    for identity, run in planned.runs.items():
        key = repr(what_is_read(run))
        if key not in found and run.outline.train_tokens <= left:
            left -= run.outline.train_tokens
            found[key] = _counted(run, registry, notes.append)
        runs[identity] = replace(run, outline=found.get(key, run.outline))
    return replace(planned, runs=runs, notes=tuple(dict.fromkeys(notes)))


def what_is_read(run: PlannedRun) -> tuple[object, ...]:
    """Return all that a run's stream depends on; runs that differ in nothing of it read the same."""
    recipe = run.recipe
    return recipe.scenario, run.scenario_options, recipe.text, run.text_options, run.model_folder, recipe.seed


def _counted(run: PlannedRun, registry: Registry, say: Callable[[str], None]) -> Outline:
    if registry.load("text", run.recipe.text.name).remote:
        return run.outline
    try:
        encode = plain_encoder(run.model_folder)
        if encode is None:
            return run.outline
        stream, outline = stream_of(run, registry, encode, say=lambda note: say(f"{run.name}: {note}"))
        return counted(outline, stream)
    except SeqmemError as error:
        say(f"{run.name} will be refused: {error}")
        return run.outline
