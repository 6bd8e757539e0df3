"""A recipe with what a worker needs to carry it out here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqmem.core.data import Options
from seqmem.core.recipe import Recipe
from seqmem.planning.grid import PlannedRun
from seqmem.planning.request import Execution
from seqmem.planning.store import Store


class Job(Options):
    """A recipe with what a worker needs to carry it out here; nothing in it changes the result.

    Attributes:
        asked: the configuration as the user gave it, for the record.
        scenario_options, text_options: options with the paths of this machine, which the recipe leaves out.
        folder: the record's folder.
        lock: file that a process holds locked while it writes the record.
        model_folder: where the model's files lie on this machine.
        model_files: SHA-256 of them, by name, as they were when the run was planned.
        checkpoint_every: steps between checkpoints; None where minutes say it.
        checkpoint_minutes: minutes between checkpoints.
        keep_checkpoints: leave the last checkpoints in place when the run has finished.
        save_model: leave the trained model in the record's folder, as transformers loads it.
        activation_checkpointing: compute activations again in the backward instead of keeping them.
        resume: continue from the last checkpoint.
        disabled: plugins switched off by `-p no:NAME`.
        accept_audit: run though the audit before the first step fails.
    """

    recipe: Recipe
    asked: dict[str, Any]
    scenario_options: dict[str, Any]
    text_options: dict[str, Any]
    folder: str
    lock: str
    model_folder: str
    model_files: dict[str, str]
    checkpoint_every: int | None
    checkpoint_minutes: int | None = None
    keep_checkpoints: bool
    save_model: bool
    resume: bool
    disabled: list[str]
    activation_checkpointing: bool = False
    accept_audit: bool = False


def job_of(
    run: PlannedRun,
    store: Store,
    asked: Mapping[str, Any],
    execution: Execution | None = None,
    *,
    resume: bool = False,
) -> Job:
    """Return what a worker needs to carry out a planned run, by default as `Execution` has it."""
    execution = execution or Execution()
    return Job(
        recipe=run.recipe,
        asked=dict(asked),
        folder=str(store.record_folder(run).absolute()),
        lock=str(store.record_lock(run).absolute()),
        scenario_options=dict(run.scenario_options),
        text_options=dict(run.text_options),
        model_folder=str(run.model_folder.absolute()),
        model_files=dict(run.model_files),
        checkpoint_every=execution.checkpoint_steps,
        checkpoint_minutes=execution.checkpoint_minutes,
        keep_checkpoints=execution.keep_checkpoints,
        save_model=execution.save_models,
        resume=resume,
        disabled=sorted(execution.disabled),
        activation_checkpointing=run.activations.checkpointing,
        accept_audit=execution.accept_audit,
    )
