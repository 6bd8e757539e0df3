"""The pace of this machine, measured once and kept in the user's cache."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from seqmem.core.cache import cache_folder
from seqmem.launch.pace import measure_pace
from seqmem.planning.pace import Pace
from seqmem.record.files import write_json

FILE = "pace.json"


def pace_of(device: str, precision: str, threads: int, say: Callable[[str], None]) -> Pace:
    """Return what is known of this machine's pace, or measure it, which takes some ten seconds.

    Args:
        device: to train on.
        precision: number type.
        threads: of a run.
        say: told before anything is measured.

    Raises:
        RunFailed: it cannot be measured.
    """
    path = cache_folder() / FILE
    name = setting(device, precision, threads)
    known = _read(path)
    try:
        return Pace.model_validate(known[name])
    except (KeyError, ValidationError):
        say("measuring the pace of this machine, once: some ten seconds")
    found = Pace.model_validate(measure_pace(device, precision, threads))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**_read(path), name: found.model_dump(mode="json")})
    return found


def setting(device: str, precision: str, threads: int) -> str:
    """Return the name under which the cache has the pace of this machine."""
    return f"{_processor()}, {device}, {precision}, {threads} threads, torch {version('torch')}"


def _processor() -> str:
    """Return the processor's name as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}
