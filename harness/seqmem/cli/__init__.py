"""The command line. One file per group of verbs; whatever is heavy is imported inside a verb.

`seqmem --help` and `seqmem list` must answer at once, so nothing that a module of this package imports at its
top may import torch, pandas, transformers, matplotlib or pydantic's models.
"""

from __future__ import annotations

import os
import sys

from seqmem.cli import (
    audit,
    bench,
    boards,
    doctor,
    explore,
    model,
    plan,
    pretrain,
    report,
    score,
    suite,
    tune,
)
from seqmem.cli.app import run

__all__ = [
    "audit",
    "bench",
    "boards",
    "doctor",
    "explore",
    "main",
    "model",
    "plan",
    "pretrain",
    "report",
    "score",
    "suite",
    "tune",
]


def main() -> None:
    """The console script `seqmem`."""
    # a stream that was closed, or whose encoding lacks a sign, must not end what took hours
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        getattr(sys, name).reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))
