"""A worker process: one job per line on standard input, one event per line on the pipe it was given.

Started as ``python -m seqmem.training.worker``. A line ``stop``, or the end of standard input (the parent is gone),
stops the current run at its next step, with a checkpoint. Everything libraries print goes to standard
error, which the parent keeps in a log.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from seqmem.planning.job import Job

CarryOut: TypeAlias = "Callable[[Job, Callable[[dict[str, Any]], None], Callable[[], bool]], None]"
"""Carries out a job, reporting events, until it is told to stop."""


def serve(load: Callable[[], CarryOut]) -> None:
    """Read jobs until standard input ends; `load` gives what carries one out, and may take its time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; Ctrl-C reaches the whole group
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    stop = threading.Event()
    jobs: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "stop":
                stop.set()
            else:
                jobs.put(line)
        stop.set()
        jobs.put(None)

    threading.Thread(target=listen, daemon=True).start()

    from seqmem.planning.job import Job

    carry_out = load()

    def report(event: dict[str, Any]) -> None:
        try:
            events.write(json.dumps(event) + "\n")
        except BrokenPipeError:  # the parent is gone: stop with a checkpoint, as for the end of input
            stop.set()

    report({"event": "ready"})
    while (line := jobs.get()) is not None and not stop.is_set():
        carry_out(Job.model_validate_json(line), report, stop.is_set)


def _execute() -> CarryOut:
    from seqmem.training.run import execute

    return execute


if __name__ == "__main__":
    serve(_execute)
