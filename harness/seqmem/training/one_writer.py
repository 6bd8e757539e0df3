"""One process writes a run's record at a time."""

from __future__ import annotations

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
    path: Path, warn: Callable[[str], None], should_stop: Callable[[], bool] = lambda: False
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
    try:
        lock.acquire(blocking=False)
    except Timeout:
        warn("waits for another process that still writes this run; it ends at its next step")
        _wait_for(lock, should_stop)
    try:
        yield
    finally:
        lock.release()


def _wait_for(lock: FileLock, should_stop: Callable[[], bool]) -> None:
    try:
        lock.acquire(timeout=PATIENCE, cancel_check=should_stop)
    except Timeout as error:
        if should_stop():
            raise Stopped from error
        raise RunFailed(
            "another process still writes the record of this run, a worker of a bench that was killed, perhaps: "
            f"it holds {lock.lock_file} locked; end it, then go on with --resume"
        ) from error
