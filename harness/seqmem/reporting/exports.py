"""Tables for programs: CSV and JSON, every measure of every row."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pandas as pd

from seqmem.core.sanitize import clean
from seqmem.reporting.blocks import TABLE_NOTE
from seqmem.scoring.comparison import Table
from seqmem.scoring.numbers import ten_digits


def to_records(table: Table) -> list[dict[str, Any]]:
    """Return one flat dict per row and measure: what CSV and JSON hold."""
    records = []
    for comparison in table.boards:
        for row in comparison.rows:
            for measure in comparison.measures:
                cell = comparison.cells[row.label, measure.name]
                interval, difference = cell.interval, cell.difference
                to_reference = difference.interval if difference else None
                is_primary = measure.name == comparison.primary.name
                records.append(
                    {
                        "scenario": comparison.scenario,
                        "model": comparison.model,
                        "row": row.label,
                        "measure": measure.name,
                        "unit": measure.unit,
                        "direction": measure.direction,
                        "primary": is_primary,
                        "mean": ten_digits(interval.mean if interval else None),
                        "low": ten_digits(interval.low if interval else None),
                        "high": ten_digits(interval.high if interval else None),
                        "seeds": interval.n if interval else 0,
                        "items": cell.items,
                        "reference": comparison.reference,
                        "difference": ten_digits(to_reference.mean if to_reference else None),
                        "difference_low": ten_digits(to_reference.low if to_reference else None),
                        "difference_high": ten_digits(to_reference.high if to_reference else None),
                        "p": ten_digits(difference.p if difference else None),
                        "raw_p": ten_digits(difference.raw_p if difference else None),
                        "detectable": ten_digits(difference.detectable if difference else None),
                        "margin": ten_digits(measure.margin),
                        "equivalent": difference.equivalent if difference else None,
                        "rank": comparison.ranks[row.label] if is_primary else None,
                        "step_time": ten_digits(row.cost) if is_primary else None,
                        "reason": cell.reason,
                        "no_rank": comparison.no_rank.get(row.label, "") if is_primary else "",
                        "no_p": difference.reason if difference else "",
                    }
                )
    return records


def to_csv(table: Table) -> str:
    """Return the table as CSV, one line per row and measure; missing is empty, its reason in its own column."""
    records = to_records(table)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        [{name: _spreadsheet_safe(value) for name, value in record.items()} for record in records]
    )
    return out.getvalue()


def _spreadsheet_safe(value: Any) -> Any:
    """Return text with a quote in front where a spreadsheet would run it as a formula."""
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def to_json(table: Table) -> str:
    """Return the table with verdicts and per-seed values as JSON; missing is null."""
    value = {
        "format": 1,
        "note": TABLE_NOTE,
        "cells": to_records(table),
        "verdicts": [
            {
                "scenario": comparison.scenario,
                "model": comparison.model,
                "row": row.label,
                "verdict": comparison.verdicts[row.label].text,
            }
            for comparison in table.boards
            for row in comparison.rows
        ],
        "chance": [
            {
                "scenario": comparison.scenario,
                "model": comparison.model,
                "chance": ten_digits(comparison.chance),
            }
            for comparison in table.boards
        ],
        "failed": {
            row.label: {str(seed): row.failed[seed] for seed in sorted(row.failed)}
            for comparison in table.boards
            for row in comparison.rows
            if row.failed
        },
        "runs": {
            row.label: {str(seed): row.runs[seed].id for seed in sorted(row.runs)}
            for comparison in table.boards
            for row in comparison.rows
        },
        "scores": [
            {**record, "value": None if pd.isna(record["value"]) else ten_digits(record["value"])}
            for record in table.scores.to_dict("records")
        ],
    }
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n"
