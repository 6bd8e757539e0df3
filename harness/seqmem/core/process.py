"""A module of ours as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

_START = """
import json, runpy, sys
module, sys.path[:] = sys.argv[1], json.loads(sys.argv[2])
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Environment of a process that trains: with it, CUDA gives the same bytes for the same run."""


def start_module(module: str, threads: int, log: Any) -> subprocess.Popen[str]:
    """Start a module of ours as a process of `threads` threads that talks over pipes; errors go to `log`.

    It finds the modules that this process finds. `python -m` would look in the current folder first.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _START, module, json.dumps([str(folder) for folder in sys.path])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        env=DETERMINISTIC
        | os.environ
        | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"},
        process_group=0,  # a terminal's Ctrl-C goes to the parent, which then says stop
    )
