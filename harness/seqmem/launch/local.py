"""Run jobs on local worker processes, one run at a time each.

One process per core with one thread each is faster than one process with all threads, for models of this
size. A worker that dies takes one run with it: the run is reported failed and the worker is replaced.

Events are believed with the run's id and a secret that goes to the worker with its job; what else comes through the
pipe of events was written by somebody else, and its run has failed. Plugins share the worker's process and could find
the secret: what is kept out is noise, and forgery that does not look for it (docs/records.md).
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seqmem.core.errors import UsageError
from seqmem.core.process import start_module
from seqmem.planning.job import Job

OnEvent = Callable[[str, dict[str, Any]], None]
"""Called with a job's run id and an event of its worker."""

ENDS = ("finished", "stopped", "failed")

PATIENCE = 2.0
"""Seconds in which workers that nobody waits for come to their end by themselves."""


@dataclass(eq=False)
class _Worker:
    """A worker process and what it is doing.

    Attributes:
        log: what its libraries print; `begin` is where that of the present job begins.
    """

    process: subprocess.Popen[str]
    log: Any
    reader: threading.Thread | None = None
    job: Job | None = None
    begin: int = 0
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def give(self, job: Job) -> None:
        self.job, self.begin = job, os.fstat(self.log.fileno()).st_size
        self.send(f"{self.secret} {job.model_dump_json()}")

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # its end is noticed by its reader thread

    def own(self, event: dict[str, Any]) -> bool:
        """Take the mark off an event and say whether it is one of the present job's."""
        mark = (event.pop("run", None), event.pop("secret", None))
        return self.job is not None and mark == (self.job.recipe.id, self.secret)

    def ask_to_end(self) -> None:
        """Close its standard input: a run under way stops with a checkpoint."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass

    def clear(self, patience: float = PATIENCE) -> int:
        """End the process, by force after `patience` seconds, and return its exit code. The log stays open."""
        if self.process.returncode is not None:
            return self.process.returncode
        self.ask_to_end()
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
        try:  # with what its plugins have started
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        code = self.process.wait() if code is None else code
        if self.reader is not None:
            self.reader.join(PATIENCE)
            if not self.reader.is_alive() and self.process.stdout is not None:
                self.process.stdout.close()
        return code

    def last_words(self) -> str:
        """Return the last line that was printed while it was at its present job."""
        self.log.seek(self.begin)
        lines = [line.strip() for line in self.log.read().splitlines() if line.strip()]
        return lines[-1] if lines else ""


class Workers:
    """A fixed number of worker processes, started at once so that they load while the parent plans."""

    def __init__(self, count: int, threads: int = 1, module: str = "seqmem.training.worker") -> None:
        """Start `count` processes of `threads` threads each, in which `module` reads jobs and reports events."""
        self._module = module
        self._messages: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._threads = threads
        self._workers = [self._start() for _ in range(count)]

    def __len__(self) -> int:
        return len(self._workers)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        """End every worker. One that is at work, after a second Ctrl-C or a fault here, has `PATIENCE` to stop."""
        for worker in self._workers:
            worker.ask_to_end()
        until = time.monotonic() + PATIENCE
        for worker in self._workers:
            worker.clear(max(0.0, until - time.monotonic()))
            worker.log.close()

    def run(
        self,
        jobs: Sequence[Job],
        on_event: OnEvent,
        should_stop: Callable[[], bool],
        on_tick: Callable[[], None] = lambda: None,
        doubt: Callable[[Job], str] = lambda job: "",
    ) -> Mapping[str, dict[str, Any]]:
        """Carry out all jobs and return the last event of each by run id; `on_tick` is called every so often meanwhile.

        After `should_stop` says so, runs under way stop with a checkpoint and the rest is not started.

        A run that is refused counts as failed, and the others go on. So does one whose worker says that it has finished
        where `doubt` gives a reason not to believe it.

        Raises:
            UsageError: every run was refused: nothing was written.
        """
        waiting = deque(jobs)
        refused: dict[str, dict[str, Any]] = {}  # told in the end, when it is clear that not all are
        outcome: dict[str, dict[str, Any]] = {}
        stopping = False
        for worker in self._workers:
            self._give(worker, waiting)
        while any(worker.job for worker in self._workers):
            on_tick()
            if should_stop() and not stopping:
                stopping = True
                waiting.clear()
                for worker in self._workers:
                    worker.send("stop")
            try:
                worker, event = self._messages.get(timeout=0.1)
            except queue.Empty:
                continue
            job, spent = worker.job, False
            if worker not in self._workers or (event is not None and event.get("event") == "ready"):
                continue
            if event is None or not worker.own(event):
                if event is not None and job is None:
                    continue
                event, spent = self._ended(worker, noise=event is not None), True
            else:
                spent = bool(event.pop("spent", False))
            if job is not None and event["event"] == "finished" and (why := doubt(job)):
                event = {"event": "failed", "reason": f"its worker says that it has finished, and {why}"}
            if spent:
                worker = self._replace(worker, again=not stopping)
            if job is None:
                continue
            if event["event"] == "refused":
                event = event | {"event": "failed"}
                refused[job.recipe.id] = event
            else:
                on_event(job.recipe.id, event)
            if event["event"] in ENDS:
                outcome[job.recipe.id] = event
                worker.job = None
                if not stopping:
                    self._give(worker, waiting)
        if refused and len(refused) == len(jobs):
            raise UsageError("; ".join(dict.fromkeys(refused[job.recipe.id]["reason"] for job in jobs)))
        for run_id, event in refused.items():
            on_event(run_id, event)
        return outcome

    def _give(self, worker: _Worker, waiting: deque[Job]) -> None:
        if waiting:
            worker.give(waiting.popleft())

    def _start(self) -> _Worker:
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        process = start_module(self._module, self._threads, log)
        worker = _Worker(process, log)
        worker.reader = threading.Thread(target=self._read, args=(worker,), daemon=True)
        worker.reader.start()
        return worker

    def _replace(self, worker: _Worker, *, again: bool) -> _Worker:
        """End a worker that gets no other job; the one in its place, where there is to be one, is new."""
        worker.clear()
        worker.job = None
        if not again:
            return worker
        worker.log.close()
        new = self._workers[self._workers.index(worker)] = self._start()
        return new

    def _read(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        try:
            for line in worker.process.stdout:
                self._messages.put((worker, _event(line)))
        except ValueError:
            pass  # bytes that are no text, or a pipe that was closed under it
        finally:
            self._messages.put((worker, None))

    def _ended(self, worker: _Worker, *, noise: bool) -> dict[str, Any]:
        """Return how a run ends whose worker has died, or is ended because its events cannot be believed."""
        if noise:
            worker.clear(0)
            reason = "something in its worker wrote to the pipe of the worker's events; the worker was ended"
            return {"event": "failed", "reason": reason}
        code = worker.clear()
        detail = f": {worker.last_words()}" if worker.last_words() else ""
        killed = (
            " (killed; out of memory? give fewer --workers; --resume goes on from its last checkpoint)"
            if code in (-9, 137)
            else ""
        )
        return {"event": "failed", "reason": f"the worker process ended with code {code}{killed}{detail}"}


def _event(line: str) -> dict[str, Any]:
    """Return the event that a line says; of a line that says none, one without a run."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else {"event": "noise"}
