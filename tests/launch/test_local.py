"""Worker processes: what they find, and what becomes of the jobs they refuse."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seqmem import UsageError
from seqmem.core.process import start_module
from seqmem.launch.local import Workers

LOOK = """
import json, os, sys
try:
    import tokenizers
    found = tokenizers.__file__
except BaseException as error:
    found = repr(error)
print(json.dumps({"tokenizers": found, "path": sys.path, "threads": os.environ["OMP_NUM_THREADS"]}))
"""


def test_a_worker_finds_what_this_process_finds_and_nothing_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tokenizers

    here, ours = tmp_path / "here", tmp_path / "ours"
    here.mkdir()
    ours.mkdir()
    (here / "tokenizers.py").write_text("raise ImportError('the one of the current folder')")
    (ours / "look_around.py").write_text(LOOK)
    monkeypatch.syspath_prepend(ours)
    monkeypatch.chdir(here)
    process = start_module("look_around", 3, subprocess.DEVNULL)
    found = json.loads(process.communicate()[0])
    assert found["tokenizers"] == tokenizers.__file__
    assert str(ours) in found["path"] and str(here) not in found["path"]
    assert found["threads"] == "3"


ANSWER = """
import json, sys
print(json.dumps({"event": "ready"}), flush=True)
for line in sys.stdin:
    events = {"refuse": ["refused"], "train": ["started", "finished"]}[line.strip()]
    for event in events:
        reason = {"reason": "no such thing"} if event == "refused" else {}
        print(json.dumps({"event": event, **reason}), flush=True)
"""


def outcome(does: Sequence[str], workers: int) -> tuple[dict[str, Any], list[str]]:
    """The last event of each job, and the jobs that were told of, by name."""
    jobs: list[Any] = [
        SimpleNamespace(recipe=SimpleNamespace(id=f"{number} {what}"), model_dump_json=lambda what=what: what)
        for number, what in enumerate(does)
    ]
    told: list[str] = []
    with Workers(workers, module="answers") as pool:
        found = pool.run(jobs, lambda run, event: told.append(f"{run} {event['event']}"), lambda: False)
    return dict(found), told


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "answers.py").write_text(ANSWER)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize("does", sorted(set(itertools.permutations(["refuse", "train", "refuse"]))))
@pytest.mark.parametrize("workers", [1, 2])
def test_a_refused_run_has_failed_and_the_others_go_on_whatever_their_order(
    does: tuple[str, ...], workers: int
) -> None:
    found, told = outcome(does, workers)
    assert len(found) == 3
    for name, event in found.items():
        refused = {"event": "failed", "reason": "no such thing"}
        assert event == (refused if name.endswith("refuse") else {"event": "finished"})
        assert f"{name} {event['event']}" in told


@pytest.mark.usefixtures("answers")
def test_only_where_all_are_refused_is_it_a_wrong_request() -> None:
    with pytest.raises(UsageError, match=r"^no such thing$"):
        outcome(["refuse", "refuse"], 1)
    assert outcome([], 1) == ({}, [])
