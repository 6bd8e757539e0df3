"""docs/records.md names every column of every table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seqmem.record.schema import ITEMS, TABLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "records.md"
COLUMNS = {**{name: schema.names for name, schema in TABLES.items()}, "items": ITEMS.names}


@pytest.mark.parametrize("table", COLUMNS)
def test_every_column_of_a_record_is_on_its_page(table: str) -> None:
    blocks = (
        PAGE.read_text("utf-8").partition("## What is in a record")[2].partition("\n## ")[0].split("\n\n")
    )
    (block,) = (block for block in blocks if block.startswith("|") and f"`{table}`" in block.splitlines()[0])
    named = {name for line in block.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert set(COLUMNS[table]) <= named
