"""The device to run on, chosen without torch."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from seqmem.core.errors import UsageError, unknown


def choose_device(asked: str) -> str:
    """Return the device to run on; `auto` takes a GPU where there is one, without importing torch to look.

    Raises:
        UsageError: not a device name this build knows.
    """
    if asked == "auto":
        return "cuda" if _gpu_in_sight() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", asked):
        raise UsageError(unknown("device", asked, ["auto", "cpu", "cuda", "cuda:0"]))
    return asked


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu_in_sight() -> bool:
    """Return whether there is an NVIDIA device that is not hidden, and a torch that is built for one."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and bool(_devices()) and _built_for_cuda(_version_file())


def _devices() -> list[Path]:
    # dxg: as Windows' Linux shows it
    return [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg")]


def _version_file() -> Path | None:
    """Return the file in which torch states what it is built for; finding it executes nothing of torch."""
    found = importlib.util.find_spec("torch")
    return None if found is None or found.origin is None else Path(found.origin).with_name("version.py")


def _built_for_cuda(version: Path | None) -> bool:
    """Return whether torch's version file states a CUDA version: ``cuda: Optional[str] = '13.0'``."""
    if version is None or not version.is_file():
        return False
    stated = re.search(r"^cuda\b[^=\n]*=\s*(.*?)\s*$", version.read_text(encoding="utf-8"), re.MULTILINE)
    return stated is not None and stated[1] != "None"
