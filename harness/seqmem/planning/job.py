"""A recipe with what a worker needs to carry it out here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqmem.core.data import Options
from seqmem.core.recipe import Recipe
from seqmem.planning.grid import PlannedRun
from seqmem.planning.store import Store

if TYPE_CHECKING:
    pass


class Job(Options):
    """A recipe with what a worker needs to carry it out here; nothing in it changes the result.

    Attributes:
        asked: the configuration as the user gave it, for the record.
        scenario_options, text_options: options with the paths of this machine, which the recipe leaves out.
        folder: the record's folder.
        model_folder: where the model's files lie on this machine.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: leave the last checkpoints in place when the run has finished.
        save_model: leave the trained model in the record's folder, as transformers loads it.
        resume: continue from the last checkpoint.
        disabled: plugins switched off by `-p no:NAME`.
    """

    recipe: Recipe
    asked: dict[str, Any]
    scenario_options: dict[str, Any]
    text_options: dict[str, Any]
    folder: str
    model_folder: str
    checkpoint_every: int
    keep_checkpoints: bool
    save_model: bool
    resume: bool
    disabled: list[str]


CHECKPOINT_EVERY = 50


def job_of(
    run: PlannedRun,
    store: Store,
    asked: Mapping[str, Any],
    *,
    checkpoint_every: int = CHECKPOINT_EVERY,
    keep_checkpoints: bool = False,
    save_models: bool = False,
    resume: bool = False,
    disabled: frozenset[str] = frozenset(),
) -> Job:
    """What a worker needs to carry out a planned run."""
    return Job(
        recipe=run.recipe,
        asked=dict(asked),
        folder=str(store.record_folder(run).absolute()),
        scenario_options=dict(run.scenario_options),
        text_options=dict(run.text_options),
        model_folder=str(run.model_folder.absolute()),
        checkpoint_every=checkpoint_every,
        keep_checkpoints=keep_checkpoints,
        save_model=save_models,
        resume=resume,
        disabled=sorted(disabled),
    )
