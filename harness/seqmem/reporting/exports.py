"""Tables for programs: CSV and JSON, every measure of every row."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from seqmem.core.digits import ten_digits
from seqmem.core.measures import Measure
from seqmem.core.sanitize import cell_text
from seqmem.record.files import json_text
from seqmem.record.row import Row
from seqmem.reporting.blocks import TABLE_NOTE
from seqmem.scoring.comparison import Comparison, Table


def ten_digits_each(value: Any) -> Any:
    """Return JSON values with every float at ten digits, and None for NaN."""
    if isinstance(value, dict):
        return {name: ten_digits_each(one) for name, one in value.items()}
    if isinstance(value, list):
        return [ten_digits_each(one) for one in value]
    if isinstance(value, float):
        return None if math.isnan(value) else ten_digits(value)
    return value


def to_records(table: Table) -> list[dict[str, Any]]:
    """Return one flat dict per row and measure: what CSV and JSON hold."""
    return [
        ten_digits_each(_record(comparison, row, measure))
        for comparison in table.boards
        for row in comparison.rows
        for measure in comparison.measures
    ]


def _record(comparison: Comparison, row: Row, measure: Measure) -> dict[str, Any]:
    cell = comparison.cells[row.label, measure.name]
    interval, difference = cell.interval, cell.difference
    to_reference = difference.interval if difference else None
    detection = comparison.detections.get((row.label, measure.name))
    is_primary = measure.name == comparison.primary.name
    return {
        "scenario": comparison.scenario,
        "model": comparison.model,
        "row": row.label,
        "measure": measure.name,
        "unit": measure.unit,
        "direction": measure.direction,
        "primary": is_primary,
        "mean": interval and interval.mean,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "seeds": interval.n if interval else 0,
        "items": cell.items,
        "reference": comparison.reference,
        "difference": to_reference and to_reference.mean,
        "difference_low": to_reference and to_reference.low,
        "difference_high": to_reference and to_reference.high,
        "p": difference and difference.p,
        "raw_p": difference and difference.raw_p,
        "detectable": difference and difference.detectable,
        "margin": measure.margin,
        "gate": measure.gate,
        "effect": measure.effect,
        "p_against_zero": detection and detection.contrast.p,
        "detected": detection and detection.detected,
        "equivalent": difference and difference.equivalent,
        "rank": comparison.ranks[row.label] if is_primary else None,
        "step_time": row.cost if is_primary else None,
        "reason": cell.reason,
        "no_rank": comparison.no_rank.get(row.label, "") if is_primary else "",
        "no_p": difference.reason if difference else "",
    }


def to_csv(table: Table) -> str:
    """Return the table as CSV, one line per row and measure; missing is empty, its reason in its own column."""
    records = to_records(table)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: cell_text(value) for name, value in record.items()} for record in records])
    return out.getvalue()


def to_json(table: Table) -> str:
    """Return `json_values` as text."""
    return json_text(json_values(table))


def json_values(table: Table) -> dict[str, Any]:
    """Return the table with verdicts and per-seed values as JSON values; missing is None."""
    named = [
        (comparison, {"scenario": comparison.scenario, "model": comparison.model})
        for comparison in table.boards
    ]
    rows = [row for comparison in table.boards for row in comparison.rows]
    value: dict[str, Any] = {
        "format": 1,
        "note": TABLE_NOTE,
        "cells": to_records(table),
        "verdicts": [
            {**names, "row": row.label, "verdict": comparison.verdicts[row.label].text}
            for comparison, names in named
            for row in comparison.rows
        ],
        "chance": [{**names, "chance": comparison.chance} for comparison, names in named],
        "failed": {
            row.label: {str(seed): row.failed[seed] for seed in sorted(row.failed)}
            for row in rows
            if row.failed
        },
        "runs": {row.label: {str(seed): row.runs[seed].id for seed in sorted(row.runs)} for row in rows},
        "scores": table.scores.to_dict("records"),
    }
    return {name: ten_digits_each(one) for name, one in value.items()}
