"""A worker process: one job per line on standard input, one event per line on the pipe it was given.

Started as ``python -m seqmem.training.worker``. A line is the worker's secret, a blank and the job; events carry the
run's id and the secret. A line ``stop``, or the end of standard input (the parent is gone), stops the current run at
its next step, with a checkpoint. Everything libraries print goes to standard error, which the parent keeps in a log.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from seqmem.planning.job import Job

CarryOut: TypeAlias = "Callable[[Job, Callable[[dict[str, Any]], None], Callable[[], bool]], None]"
"""Carries out a job, reporting events, until it is told to stop."""

ENDS = ("finished", "stopped", "failed", "refused")
"""Events after which a worker is free."""

ORPHANED = 540.0
"""Seconds that a run may take to its next step after the parent has gone; less than another bench waits for it."""


def serve(load: Callable[[], CarryOut]) -> None:
    """Read jobs until standard input ends; `load` gives what carries one out, and may take its time.

    After a run whose plugins have changed the process, no other is begun in it: the end of that run says so.
    """
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
        time.sleep(ORPHANED)
        os._exit(1)  # a step that never ends would hold the record's lock for ever

    threading.Thread(target=listen, daemon=True).start()

    from seqmem.planning.job import Job

    carry_out = load()

    def tell(event: dict[str, Any]) -> None:
        try:
            events.write(json.dumps(event) + "\n")
        except BrokenPipeError:  # the parent is gone: stop with a checkpoint, as for the end of input
            stop.set()

    tell({"event": "ready"})
    spent = False
    while not spent and (line := jobs.get()) is not None and not stop.is_set():
        secret, _, text = line.partition(" ")
        job = Job.model_validate_json(text)
        mark = {"run": job.recipe.id, "secret": secret}
        before = surroundings()

        def report(
            event: dict[str, Any],
            mark: dict[str, str] = mark,
            before: Mapping[str, object] = before,
        ) -> None:
            nonlocal spent
            if event["event"] in ENDS:
                spent = surroundings() != before
                event = event | {"spent": spent}
            tell(event | mark)

        carry_out(job, report, stop.is_set)
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(0)  # a thread that a plugin left would keep the process


def surroundings() -> Mapping[str, object]:
    """Return what of this process the results of a run may depend on, and no run sets anew."""
    import torch

    # tqdm, which libraries show loading with, starts a thread that stays
    threads = {thread.ident for thread in threading.enumerate() if type(thread).__name__ != "TMonitor"}
    return {
        "threads": threads,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
    }


def _execute() -> CarryOut:
    from seqmem.training.run import execute

    return execute


if __name__ == "__main__":
    serve(_execute)
