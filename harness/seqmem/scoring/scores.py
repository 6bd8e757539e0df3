"""Values of every metric on every run, and what could not be had."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from seqmem.core.errors import NotApplicable, PluginError, UsageError
from seqmem.core.measures import Measure, Value
from seqmem.plugin.specs import MetricSpec
from seqmem.record.contamination import contaminated
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row

SCORE_COLUMNS = ("row", "seed", "metric", "measure", "value", "n_items", "reason")

FAILED = "the metric failed: "
"""Begins the reason of a value that is missing because its metric raised an exception."""


def score_rows(rows: Sequence[Row], metrics: Sequence[MetricSpec]) -> pd.DataFrame:
    """Return every measure of every finished run: a long frame, columns as `SCORE_COLUMNS`, value NaN for None.

    A metric that raises, or makes a value that is not finite, costs that run's values only: they are missing
    with a reason that begins with `FAILED`; `failures` lists them. A contaminated run has no values at all.

    Raises:
        UsageError: two rows share a label.
        PluginError: a metric does not give exactly the measures it declares, each as a Value.
    """
    refuse_equal_labels(rows)
    scores = [values for row in rows for values in row_scores(row, metrics)]
    return pd.DataFrame(scores, columns=list(SCORE_COLUMNS))


def row_scores(row: Row, metrics: Sequence[MetricSpec]) -> list[tuple[Any, ...]]:
    """Return the lines of one row in what `score_rows` gives.

    Raises:
        PluginError: as `score_rows`.
    """
    scores: list[tuple[Any, ...]] = []
    for seed in sorted(row.runs):
        controls = {name: runs[seed] for name, runs in sorted(row.controls.items()) if seed in runs}
        controls = {name: run for name, run in controls.items() if not contaminated(run)}
        spoilt = contaminated(row.runs[seed])
        for metric in metrics:
            for measure, value in _compute(metric, row.runs[seed], controls):
                value = Value(None, reason=spoilt) if spoilt else value
                number = float("nan") if value.value is None else float(value.value)
                scores.append((row.label, seed, metric.name, measure, number, value.n_items, value.reason))
    return scores


def refuse_equal_labels(rows: Sequence[Row]) -> None:
    """Raise `UsageError` where two rows share a label."""
    labels = [row.label for row in rows]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(f"two rows are called {twice[0]!r}; rows need different labels")


def sound(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without their contaminated runs and controls: what may be drawn."""

    def clean_runs(runs: Mapping[int, RunRecord]) -> dict[int, RunRecord]:
        return {seed: run for seed, run in runs.items() if not contaminated(run)}

    return [
        replace(
            row,
            runs=clean_runs(row.runs),
            controls={name: clean_runs(runs) for name, runs in row.controls.items()},
        )
        for row in rows
    ]


def _compute(
    metric: MetricSpec, run: RunRecord, controls: Mapping[str, RunRecord]
) -> list[tuple[str, Value]]:
    names = [measure.name for measure in metric.measures]
    try:
        with warnings.catch_warnings():
            # What comes of a division by zero is not finite, and Value refuses it with a reason.
            warnings.simplefilter("ignore", RuntimeWarning)
            values = metric.compute(run, controls)
    except NotApplicable as error:
        return [(name, Value(None, reason=str(error))) for name in names]
    except Exception as error:
        # One odd run, such as one whose loss became NaN, must not cost what the others trained for.
        missing = Value(None, reason=f"{FAILED}{type(error).__name__}: {' '.join(str(error).split())}")
        return [(name, missing) for name in names]
    if not isinstance(values, Mapping) or set(values) != set(names):
        given = str(sorted(map(str, values))) if isinstance(values, Mapping) else type(values).__name__
        raise PluginError(f"metric {metric.name!r} gave {given}, it declares {sorted(names)}")
    for name in names:
        if not isinstance(values[name], Value):
            kind = type(values[name]).__name__
            raise PluginError(f"metric {metric.name!r} gave {kind} for {name!r}, not a seqmem.Value")
    return [(measure.name, _possible(measure, values[measure.name])) for measure in metric.measures]


_ALLOWED = {"share": "0 to 1", "p-value": "0 to 1", "runs": "0 or 1"}
_ROUNDING = 1e-9
"""By so much a mean of shares may leave 0 to 1."""


def _possible(measure: Measure, value: Value) -> Value:
    """Return the value, or None with the reason where it lies outside what its unit allows."""
    number, unit = value.value, measure.unit
    if number is None or unit not in _ALLOWED:
        return value
    within = min(max(number, 0.0), 1.0)
    if abs(number - within) > _ROUNDING or (unit == "runs" and within not in (0, 1)):
        return Value(None, reason=f"{FAILED}{number} of unit {unit}, which is {_ALLOWED[unit]}")
    return replace(value, value=within)


def failures(scores: pd.DataFrame) -> list[str]:
    """Return a line per metric and row with runs on which the metric raised an exception."""
    failed = scores[scores["reason"].astype(str).str.startswith(FAILED)]
    runs = failed.drop_duplicates(["row", "seed", "metric"])
    return [
        f"metric {str(metric)!r} failed on {label}, {seeds_in_words(group['seed'])}: "
        + str(reason).removeprefix(FAILED)
        for (metric, label, reason), group in runs.groupby(["metric", "row", "reason"], sort=False)
    ]


def seeds_in_words(seeds: Iterable[Any]) -> str:
    """Return ``seed 1`` or ``seeds 1, 2``."""
    listed = [str(seed) for seed in seeds]
    return f"seed{'s' * (len(listed) > 1)} {', '.join(listed)}"
