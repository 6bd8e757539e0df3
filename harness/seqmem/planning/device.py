"""The device to run on, chosen without torch."""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path

from seqmem.core.errors import UsageError, unknown


def choose_device(asked: str) -> str:
    """The device to run on; `auto` takes a GPU where there is one, without importing torch to look.

    Raises:
        UsageError: not a device name this build knows.
    """
    if asked == "auto":
        return "cuda" if _gpu_in_sight() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", asked):
        raise UsageError(unknown("device", asked, ["auto", "cpu", "cuda", "cuda:0"]))
    return asked


def _gpu_in_sight() -> bool:
    """An NVIDIA device that is not hidden, and a torch that is not a CPU build."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    devices = [
        *Path("/dev").glob("nvidia[0-9]*"),
        *Path("/dev").glob("dxg"),
    ]  # dxg: as Windows' Linux shows it
    return bool(devices) and not hidden and "+cpu" not in importlib.metadata.version("torch")
