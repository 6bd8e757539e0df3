"""Scores of many rows at once, in as many processes as there are cores: metrics are pure functions of a run."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from seqmem.core.errors import PluginError
from seqmem.plugin.registry import Entry, Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.scoring.scores import SCORE_COLUMNS, failures, refuse_equal_labels, row_scores

WORTH = 24
"""Runs from which on other processes are worth their start: each imports pandas and the metrics anew."""

Values = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Task:
    """One row, by the folders of its records."""

    label: str
    runs: Mapping[int, Path]
    controls: Mapping[str, Mapping[int, Path]]
    metrics: Sequence[Entry]


def processes() -> Executor:
    """Return a pool of a process per core, each started when there is work for it; close it when done."""
    return ProcessPoolExecutor(os.cpu_count() or 1, multiprocessing.get_context("spawn"))


def scores_of(
    rows: Sequence[Row],
    metrics: Sequence[MetricSpec],
    registry: Registry | None = None,
    pool: Executor | None = None,
) -> tuple[pd.DataFrame, list[MetricSpec], list[str]]:
    """Score rows metric by metric, so that one which fails costs no other its values.

    Args:
        rows: scored one to a process where there are many runs.
        metrics: those wanted.
        registry: where another process finds them by name; needed with a pool.
        pool: `processes`; None scores in this one.

    Returns:
        The scores, the metrics that kept to the interface, and a line for every one that failed.
    """
    refuse_equal_labels(rows)
    if pool is not None and registry is not None and sum(len(row.runs) for row in rows) >= WORTH:
        entries = [registry.entry("metric", metric.name) for metric in metrics]
        found = list(pool.map(_scored_elsewhere, [_task(row, entries) for row in rows]))
    else:
        found = [_scored(row, metrics) for row in rows]
    broken: dict[str, None] = {}
    intact, values = [], []
    for place, metric in enumerate(metrics):
        faults = [of_row[place] for of_row in found if isinstance(of_row[place], str)]
        broken.update(dict.fromkeys(map(str, faults)))
        if not faults:
            intact.append(metric)
            values += [value for of_row in found for value in of_row[place]]
    scores = pd.DataFrame(values, columns=list(SCORE_COLUMNS))
    return scores, intact, [*broken, *failures(scores)]


def _task(row: Row, metrics: Sequence[Entry]) -> Task:
    runs = {seed: run.folder for seed, run in row.runs.items()}
    controls = {name: {seed: run.folder for seed, run in own.items()} for name, own in row.controls.items()}
    return Task(row.label, runs, controls, metrics)


def _scored_elsewhere(task: Task) -> list[Values | str]:
    def opened(folders: Mapping[int, Path]) -> dict[int, RunRecord]:
        return {seed: RunRecord.open(folder) for seed, folder in folders.items()}

    controls = {name: opened(folders) for name, folders in task.controls.items()}
    registry = Registry(task.metrics)
    metrics = [registry.load("metric", entry.name) for entry in task.metrics]
    return _scored(Row(task.label, {}, opened(task.runs), controls), metrics)


def _scored(row: Row, metrics: Sequence[MetricSpec]) -> list[Values | str]:
    """Return for each metric its values as plain tuples, or why it does not keep to the interface."""
    found: list[Values | str] = []
    for metric in metrics:
        try:
            found.append(row_scores(row, [metric]))
        except PluginError as error:
            found.append(str(error))
    return found
