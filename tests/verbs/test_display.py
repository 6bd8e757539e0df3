"""The display while runs go on, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from seqmem.verbs.display import Plain, Rich, Silent, choose

NAMES = {"a": "memory_loops naive s0", "b": "memory_loops moment_avg [bold] s0", "c": "third", "d": "fourth"}
STEPS = dict.fromkeys(NAMES, 100)

EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("a", {"event": "started", "step": 0, "steps": 100}),
    ("b", {"event": "started", "step": 40, "steps": 100}),
    ("a", {"event": "recall", "step": 0, "recall": {"loop 0": 0.0, "loop 1": 0.25, "twins": 0.0}}),
    ("a", {"event": "step", "step": 50, "experience": "loop 0 visit 1", "loss": 2.5}),
    ("b", {"event": "warning", "message": "checkpoint step-00000050 is damaged (x); trying the one before"}),
    ("b", {"event": "step", "step": 60, "experience": "rest unrelated", "loss": 1.5}),
    ("a", {"event": "recall", "step": 50, "recall": {"loop 0": 0.75, "loop 1": 0.5, "twins": 0.0}}),
    ("a", {"event": "finished"}),
    ("c", {"event": "failed", "reason": "the worker process ended with code 7"}),
    ("b", {"event": "stopped"}),
    ("d", {"event": "failed", "reason": "refused, because [red]nothing[/red] fits"}),
]


def test_elsewhere_than_on_a_terminal_there_is_a_line_per_run_that_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = Plain()
    plain.begin(NAMES, STEPS, reused=2)
    for run, event in EVENTS:
        plain.event(run, event)
    plain.end()
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0].startswith("4 runs to do, 400 steps")
    assert "2 finished before" in lines[0]
    assert lines.pop(1) == "memory_loops moment_avg [bold] s0: goes on from step 40 of 100"
    assert "trying the one before" in lines[1]
    assert [line.split("]", 1)[0] for line in lines[2:]] == ["[1/4", "[2/4", "[3/4", "[4/4"]
    assert "memory_loops naive s0 finished" in lines[2]
    assert "left" in lines[2]
    assert "third failed: the worker process ended with code 7" in lines[3]
    assert "moment_avg [bold] s0 stopped" in lines[4]
    assert "left" not in lines[5]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Return what would be on a terminal."""
    written = io.StringIO()

    def console(**options: Any) -> Console:
        return Console(file=written, force_terminal=True, width=150, color_system=None, legacy_windows=False)

    monkeypatch.setattr("seqmem.verbs.display.Console", console)
    return written


def seen(display: Rich, screen: io.StringIO) -> str:
    """The live area as it stands."""
    display._live.refresh()
    text = screen.getvalue()
    screen.truncate(0)
    screen.seek(0)
    return text


def test_on_a_terminal_progress_and_recall_per_loop_are_shown_as_they_change(screen: io.StringIO) -> None:
    display = Rich()
    display.begin(NAMES, STEPS, reused=2)
    try:
        assert "4 runs (2 reused)" in seen(display, screen)
        shown = []
        for run, event in EVENTS:
            display.event(run, event)
            shown.append(seen(display, screen))
        assert "memory_loops naive s0" in shown[0]
        assert "40/100" in shown[1]  # a resumed run starts where it was
        assert "loop 1" in shown[2]
        assert "0.25" in shown[2]
        assert "50/100" in shown[3]
        assert "loop 0 visit 1, loss 2.50 nats" in shown[3]
        assert "trying the one before" in shown[4]
        assert "moment_avg [bold] s0" in shown[5]  # names are no markup
        assert "0.75" in shown[6]
        assert (
            "0.75" not in shown[7].rsplit("4 runs", 1)[1]
        )  # a finished run leaves the table, in the last frame
        assert "third failed: the worker process ended with code 7" in shown[8]
        assert "[red]nothing[/red]" in shown[10]
        assert "0:00" in shown[10] or "-:--" in shown[10]
    finally:
        display.end()


def test_on_a_terminal_loading_probing_and_the_time_left_of_a_run_are_shown(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    display = Rich()
    display.begin(NAMES, STEPS, reused=0)
    try:
        display.event("a", {"event": "loading", "what": "model tiny"})
        assert "loading model tiny" in seen(display, screen)
        display.event("a", {"event": "started", "step": 0, "steps": 100})
        step = {"event": "step", "step": 50, "experience": "loop 0 visit 1", "loss": 2.5}
        display.event("a", step | {"seconds_left": 240.0})
        assert "about 4 min left" in seen(display, screen)
        display.event("a", {"event": "probing", "step": 50, "asked": 30, "of": 400, "seconds_left": 300.0})
        frame = seen(display, screen)
        assert (
            "loop 0 visit 1, loss 2.50 nats, 30 of 400 probes asked" in frame and "about 5 min left" in frame
        )
        later = time.monotonic() + 45
        monkeypatch.setattr(time, "monotonic", lambda: later)
        display.tick()
        assert "no news for 45 s" in seen(display, screen)
    finally:
        display.end()


def test_the_bar_of_all_runs_counts_each_step_once(screen: io.StringIO) -> None:
    display = Rich()
    display.begin(NAMES, STEPS, reused=0)
    for run, event in EVENTS[:8]:
        display.event(run, event)
    (whole,) = (task for task in display._progress.tasks if task.id == display._all)
    assert (whole.completed, whole.total) == (100 + 60, 400)
    display.end()


@pytest.mark.parametrize("events", [[], EVENTS[:1]])
def test_an_interruption_at_any_time_clears_the_screen(
    events: list[tuple[str, Mapping[str, Any]]], screen: io.StringIO
) -> None:
    display = Rich()
    display.begin(NAMES, STEPS, reused=0)
    for run, event in events:
        display.event(run, event)
    display.end()
    assert not display._live.is_started


def test_the_display_is_live_on_a_terminal_and_plain_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(choose("auto"), Rich)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert isinstance(choose("auto"), Plain)
    assert isinstance(choose("rich"), Rich)
    assert isinstance(choose("plain"), Plain)
    assert isinstance(choose("none"), Silent)


def test_nothing_is_shown_when_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Silent()
    silent.begin(NAMES, STEPS, 0)
    for run, event in EVENTS:
        silent.event(run, event)
    silent.end()
    assert capsys.readouterr() == ("", "")
