"""One process writes a run's record at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from seqmem.core.errors import RunFailed
from seqmem.training.loop import Stopped

PATIENCE = 600.0
"""Seconds that a run waits for another process; a large model's last questions and checkpoint take minutes."""


@contextmanager
def one_writer(
    path: Path, loading: Callable[[str], None], should_stop: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Hold a run's record against other processes, by the lock at `path`.

    A worker whose bench was killed goes on to its next step and leaves a checkpoint there. A bench that is started at
    once waits for it here: two writers would leave a record with holes.

    Raises:
        Stopped: `should_stop` said so while this waited.
        RunFailed: the other process did not end in time.
        OSError: the lock cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    last = time.monotonic() + PATIENCE
    while True:
        try:
            lock.acquire(timeout=0.2)
            break
        except Timeout:
            loading("the end of another process that still writes this run")
        if should_stop():
            raise Stopped
        if time.monotonic() > last:
            raise RunFailed(
                "another process still writes the record of this run, a worker of a bench that was killed, perhaps: "
                f"it holds {path} locked; end it, then go on with --resume"
            )
    try:
        yield
    finally:
        lock.release()
