"""A full disk, told apart from other faults and said in one line."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from seqmem.core.errors import DiskFull

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException) -> bool:
    """Return whether an error says that there is no room on the disk, or none left of the user's quota."""
    if isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL):
        return True
    # safetensors has no class for it: its text ends with the number
    return any(f"(os error {number})" in str(error) for number in _FULL)


def disk_full(folder: Path, needed: int | None = None) -> DiskFull:
    """Return the error that names a run's folder, the bytes needed and free, and what to do."""
    free = shutil.disk_usage(folder).free
    wanted = "more is needed" if needed is None else f"{needed:,} are needed for a checkpoint"
    saved = sorted((folder / "checkpoints").glob("step-*"))
    onward = f"--resume goes on from step {int(saved[-1].name[5:])}" if saved else "the run starts over"
    return DiskFull(
        f"the disk is full: {folder} has {free:,} bytes free and {wanted}; make room, then {onward}"
    )
