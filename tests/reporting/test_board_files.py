"""The files of a finished table."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_records import Answer, Ask, Layout, write_record
from small_runs import installed

from seqmem.record.row import Row
from seqmem.reporting.board_files import write_board


def test_rows_whose_labels_differ_in_signs_alone_have_figures_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("seqmem.reporting.figures.draw_curves", lambda row, stem: drawn.append(stem.name))
    monkeypatch.setattr("seqmem.reporting.figures.draw_metric", lambda *arguments: None)

    def knows(ask: Ask, random: object) -> Answer:
        return Answer(not ask.twin and ask.seen > 0, 1.0)

    record = write_record(tmp_path / "run", knows, Layout(loops=2, cycles=2, facts=2, rest=8))
    facts = {"scenario": "memory_loops", "strategy": "naive", "model": "tiny"}
    rows = [Row(f"naive init={value}", facts, {0: record}) for value in ("a/b", "a:b", "c")]
    write_board(
        tmp_path / "board",
        "board",
        "memory_loops",
        "retention",
        rows,
        [installed().load("metric", "retention")],
    )
    assert len(set(drawn)) == 3 and drawn[2] == "curves-naive-init=c"
