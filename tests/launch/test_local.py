"""Worker processes: what they find, and what becomes of the jobs they refuse."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
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
import json, os, sys
print(json.dumps({"event": "ready"}), flush=True)
for line in sys.stdin:
    secret, _, text = line.partition(" ")
    job = json.loads(text)
    events = {
        "refuse": [{"event": "refused", "reason": "no such thing"}],
        "train": [{"event": "started"}, {"event": "finished"}],
        "spend": [{"event": "finished", "spent": True}],
        "lie": [{"event": "finished", "secret": "guessed"}],
        "name another": [{"event": "finished", "run": "0 train"}],
    }
    if job["does"] == "print":
        print("noise", flush=True)
    if job["does"] == "swallow":
        print("half a line", end="", flush=True)
    if job["does"] == "hang":
        import time
        time.sleep(600)
    if job["does"] == "die":
        print("dying of", job["run"], file=sys.stderr, flush=True)
        sys.exit(7)
    for event in events.get(job["does"], [{"event": "finished"}]):
        print(json.dumps({"run": job["run"], "secret": secret, "from": os.getpid()} | event), flush=True)
"""


def outcome(
    does: Sequence[str], workers: int, doubt: Callable[[Any], str] = lambda job: ""
) -> tuple[dict[str, Any], list[str]]:
    """The last event of each job, and the jobs that were told of, by name."""
    told: list[str] = []
    with Workers(workers, module="answers") as pool:
        found = pool.run(
            jobs_of(does),
            lambda run, event: told.append(f"{run} {event['event']}"),
            lambda: False,
            doubt=doubt,
        )
    return {run: {k: v for k, v in event.items() if k != "from"} for run, event in found.items()}, told


def jobs_of(does: Sequence[str]) -> list[Any]:
    """Jobs that do this, as far as workers look at them."""
    named = [{"run": f"{number} {what}", "does": what} for number, what in enumerate(does)]
    return [
        SimpleNamespace(recipe=SimpleNamespace(id=one["run"]), model_dump_json=partial(json.dumps, one))
        for one in named
    ]


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


NOISE = {
    "event": "failed",
    "reason": "something in its worker wrote to the pipe of the worker's events; the worker was ended",
}


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize("what", ["print", "swallow", "lie", "name another"])
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_no_event_of_the_run_itself_fails_that_run_and_no_other(what: str, workers: int) -> None:
    found, told = outcome(["train", what, "train", what, "train"], workers)
    assert found == {
        f"{number} {does}": NOISE if does == what else {"event": "finished"}
        for number, does in enumerate(["train", what, "train", what, "train"])
    }
    assert f"1 {what} finished" not in told


@pytest.mark.usefixtures("answers")
def test_a_dead_worker_is_explained_by_what_it_said_in_its_last_job() -> None:
    found, _ = outcome(["die", "train", "die"], 1)
    for number in (0, 2):
        reason = f"the worker process ended with code 7: dying of {number} die"
        assert found[f"{number} die"] == {"event": "failed", "reason": reason}
    assert found["1 train"] == {"event": "finished"}


@pytest.mark.usefixtures("answers")
def test_a_worker_that_a_plugin_has_changed_gets_no_other_run() -> None:
    for does, processes in (("train", 1), ("spend", 3)):
        with Workers(1, module="answers") as pool:
            found = pool.run(jobs_of([does] * 3), lambda run, event: None, lambda: False)
        assert len({event["from"] for event in found.values()}) == processes


@pytest.mark.usefixtures("answers")
def test_a_run_has_finished_only_if_its_record_says_so() -> None:
    found, told = outcome(
        ["train", "train"], 1, lambda job: "there is no record" * job.recipe.id.startswith("1")
    )
    assert found["0 train"] == {"event": "finished"}
    reason = "its worker says that it has finished, and there is no record"
    assert found["1 train"] == {"event": "failed", "reason": reason}
    assert told == ["0 train started", "0 train finished", "1 train started", "1 train failed"]


@pytest.mark.usefixtures("answers")
def test_workers_that_nobody_waits_for_end_within_five_seconds() -> None:
    def interrupt() -> None:
        if time.monotonic() - begun > 0.5:
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Workers(2, module="answers") as pool:
        processes = [worker.process for worker in pool._workers]
        pool.run(jobs_of(["hang", "hang"]), lambda run, event: None, lambda: False, interrupt)
    assert time.monotonic() - begun < 6
    assert [process.returncode for process in processes] == [-9, -9]
