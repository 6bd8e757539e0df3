"""Time pairs of jobs in a process of its own, one after the other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from seqmem.core.errors import RunFailed
from seqmem.core.process import start_module
from seqmem.planning.job import Job


def time_pairs(pairs: Sequence[tuple[Job, Job]], threads: int) -> Iterator[dict[str, Any]]:
    """Yield for each pair ``result``, as `seqmem.training.step_time.measure` gives it, and the ``machine``.

    Args:
        pairs: a row's job and its reference's.
        threads: threads of the process.

    Raises:
        RunFailed: the process ended before its work was done.
    """
    process = start_module("seqmem.training.step_time", threads, log=subprocess.DEVNULL)
    assert process.stdin is not None and process.stdout is not None
    try:
        for pair in pairs:
            line = json.dumps([job.model_dump(mode="json") for job in pair])
            try:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # its end is told below
            answer = process.stdout.readline()
            if not answer.endswith("\n"):
                raise RunFailed(f"the process that times steps ended with code {process.wait()}")
            yield json.loads(answer)
    finally:
        process.kill()
        process.communicate()
