"""The result of planning: runs by id, and the rows and tables they make."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqmem.core.data import Outline
from seqmem.core.recipe import Recipe
from seqmem.core.sanitize import file_name
from seqmem.planning.activations import Activations
from seqmem.planning.models import ResolvedModel
from seqmem.planning.pace import FORWARD, TRAIN, Pace
from seqmem.planning.request import Request
from seqmem.planning.search import Search

ROW_BYTES = 5
"""Bytes of a token of a plain training row: its id and whether it is a target."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The bytes that a run takes, and what its forwards come to on top.

    Attributes:
        parameter_bytes: of the weights alone.
        memory_bytes: weights, gradients, moments, a snapshot of them, all the strategy keeps.
        checkpoint_bytes: of one checkpoint on disk; random state and counters come on top.
        extra_bytes: what the strategy will keep beyond what the plain learner has; negative where it keeps less.
    """

    parameter_bytes: int
    memory_bytes: int
    extra_bytes: int
    checkpoint_bytes: int
    activations: Activations


@dataclass(frozen=True, kw_only=True)
class PlannedRun(Memory):
    """One run of the grid, with what it takes.

    Attributes:
        name: for people and for the record's folder: scenario, strategy, model, seed, control.
        scenario_options, text_options: options with the paths of this machine, which the recipe leaves out.
        model_files: SHA-256 of the model's files, by name, as they are planned with.
    """

    recipe: Recipe
    name: str
    scenario_options: Mapping[str, Any]
    text_options: Mapping[str, Any]
    model_folder: Path
    model_files: Mapping[str, str]
    outline: Outline

    @property
    def activation_bytes(self) -> int:
        """Estimate the bytes of the largest forward, in training or in probing, and its backward."""
        outline, limit = self.outline, self.recipe.micro_tokens
        batch = outline.step_tokens or math.ceil(outline.train_tokens / max(outline.steps, 1))
        tokens = max(batch if limit is None else min(batch, limit), outline.longest_row)
        return max(
            self.activations.in_training(tokens, outline.longest_row),
            self.activations.in_probing(outline.probe_tokens),
        )

    @property
    def peak_bytes(self) -> int:
        """Estimate the bytes that the run takes at most; the process comes on top."""
        return self.memory_bytes + self.activation_bytes + self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Estimate the bytes of the training rows that are in memory at once."""
        mean = self.outline.train_tokens / max(self.outline.steps, 1)
        return math.ceil(ROW_BYTES * mean * self.outline.held_batches)

    @property
    def operations(self) -> float:
        """Estimate the floating-point operations."""
        read = TRAIN * self.outline.train_tokens + FORWARD * self.outline.probe_tokens
        return float(self.recipe.model.parameters * read)

    def seconds(self, pace: Pace) -> float:
        """Estimate the time of the run, alone on a machine of this pace."""
        return pace.seconds(self.activations.shapes, self.outline)

    @property
    def folder(self) -> str:
        """Return the name of the record's folder."""
        return f"{file_name(self.name)}-{self.recipe.id}"


@dataclass(frozen=True)
class PlannedRow:
    """A row of the table to be: one arm of the grid over seeds; values are run ids.

    Attributes:
        search: how its strategy was tuned; None for one that takes its defaults.
    """

    label: str
    facts: Mapping[str, Any]
    runs: Mapping[int, str]
    controls: Mapping[str, Mapping[int, str]]
    reference: str | None
    swept: Mapping[str, Any]
    search: Search | None = None


@dataclass(frozen=True)
class PlannedBoard:
    """One table: all rows of one scenario."""

    scenario: str
    version: str
    primary: str
    rows: tuple[PlannedRow, ...]

    @property
    def name(self) -> str:
        """Return scenario and a hash of every run in it, and of what its rows were tuned by."""
        ids = sorted(
            i for row in self.rows for runs in (row.runs, *row.controls.values()) for i in runs.values()
        )
        # what a search has chosen may be the defaults: the same runs, another claim
        ids += [row.search.model_dump_json() for row in self.rows if row.search is not None]
        return f"{self.scenario}-{hashlib.sha256(' '.join(ids).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Plan:
    """All runs by id, and the tables they make.

    Attributes:
        left_out: strategies that cannot be loaded and models that cannot be used, each with its reason.
        searches: what `Request.tuned` names, by path as typed.
        models: those that can be used, by the name they were asked for.
        notes: lines about models that are used, for people.
    """

    request: Request
    runs: Mapping[str, PlannedRun]
    boards: tuple[PlannedBoard, ...]
    left_out: tuple[str, ...]
    searches: Mapping[str, Search] = field(default_factory=dict)
    models: Mapping[str, ResolvedModel] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def threads(self) -> int:
        """Return the threads of every run."""
        return next(iter(self.runs.values())).recipe.threads

    def asked(self) -> dict[str, Any]:
        """Return what the request asks beyond the defaults, and what the searches it names have chosen."""
        chosen = {
            path: {"scenario": search.scenario, "strategy": search.strategy, "chosen": search.chosen}
            for path, search in self.searches.items()
        }
        return self.request.asked() | ({"tuned": chosen} if chosen else {})
