"""Run jobs on local worker processes, one run at a time each.

One process per core with one thread each is faster than one process with all threads, for models of this
size. A worker that dies takes one run with it: the run is reported failed and the worker is replaced.
"""

from __future__ import annotations

import json
import queue
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqmem.core.errors import UsageError
from seqmem.core.process import start_module
from seqmem.planning.job import Job

OnEvent = Callable[[str, dict[str, Any]], None]
"""Called with a job's run id and an event of its worker."""

ENDS = ("finished", "stopped", "failed")


@dataclass
class _Worker:
    """A worker process and what it is doing."""

    process: subprocess.Popen[str]
    log: Any
    reader: threading.Thread | None = None
    job: Job | None = None

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is noticed by its reader thread

    def ask_to_end(self) -> None:
        """Close its standard input: a run under way stops with a checkpoint."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass

    def clear(self) -> int:
        """Wait for its end, let go of its pipes and return the exit code; the log stays open."""
        self.ask_to_end()
        code = self.process.wait()
        if self.reader is not None:
            self.reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


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
        """Let every worker come to its end: a run under way stops with a checkpoint."""
        for worker in self._workers:
            worker.ask_to_end()
        for worker in self._workers:
            worker.clear()
            worker.log.close()

    def run(
        self,
        jobs: Sequence[Job],
        on_event: OnEvent,
        should_stop: Callable[[], bool],
        on_tick: Callable[[], None] = lambda: None,
    ) -> Mapping[str, dict[str, Any]]:
        """Carry out all jobs and return the last event of each by run id; `on_tick` is called every so often meanwhile.

        After `should_stop` says so, runs under way stop with a checkpoint and the rest is not started.

        A run that is refused counts as failed, and the others go on.

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
            job = worker.job
            if event is None:
                event = self._died(worker)
                if not stopping:  # also when nothing waits: the pool may be given more
                    self._workers[self._workers.index(worker)] = worker = self._start()
            if job is None or event["event"] == "ready":
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
            worker.job = waiting.popleft()
            worker.send(worker.job.model_dump_json())

    def _start(self) -> _Worker:
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        process = start_module(self._module, self._threads, log)
        worker = _Worker(process, log)
        worker.reader = threading.Thread(target=self._read, args=(worker,), daemon=True)
        worker.reader.start()
        return worker

    def _read(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        try:
            for line in worker.process.stdout:
                self._messages.put((worker, json.loads(line)))
        except ValueError:
            pass  # half a line: the process was killed while writing it
        finally:
            self._messages.put((worker, None))

    def _died(self, worker: _Worker) -> dict[str, Any]:
        code = worker.clear()
        with worker.log as log:
            log.seek(0)
            last = [line.strip() for line in log.read().splitlines() if line.strip()][-1:]
        detail = f": {last[0]}" if last else ""
        killed = (
            " (killed; out of memory? give fewer --workers or a smaller --model; --resume goes on from its last checkpoint)"
            if code in (-9, 137)
            else ""
        )
        return {"event": "failed", "reason": f"the worker process ended with code {code}{killed}{detail}"}
