"""Measure the pace of this machine in a process of its own."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from seqmem.core.errors import RunFailed
from seqmem.core.process import start_module


def measure_pace(device: str, precision: str, threads: int) -> dict[str, Any]:
    """Return what `seqmem.training.pace.measure` gives.

    Raises:
        RunFailed: the process ended without an answer.
    """
    process = start_module("seqmem.training.pace", threads, log=subprocess.DEVNULL)
    answer, _ = process.communicate(json.dumps([device, precision]) + "\n")
    if process.returncode:
        raise RunFailed(f"the process that measures the pace ended with code {process.returncode}")
    found: dict[str, Any] = json.loads(answer)
    return found
