"""Checkpoints: tensors in safetensors, the rest in JSON, whole or not at all, the last two kept, or one large one."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqmem.core.disk import disk_full, is_full
from seqmem.core.errors import CheckpointError
from seqmem.record.files import check_files, file_sha256, json_text, unsealed, write_sealed

KEPT = 2
LARGE = 10**9
"""Bytes of a checkpoint above which one is kept. A new one is whole before the one before it goes."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on.

    Attributes:
        tensors: weights, buffers, per-parameter state, random state.
        state: clock, place in the stream, strategy state, number of record parts.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes, in name order."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under its step number; older ones beyond `KEPT` go, of a large one all older ones.

    Raises:
        DiskFull: there is no room for it; the ones before are as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover)
    needed = size(checkpoint)
    if shutil.disk_usage(folder).free < needed:
        raise disk_full(folder.parent, needed)
    try:
        _write(folder, checkpoint)
    except (OSError, SafetensorError) as error:
        if not is_full(error):
            raise
        for half in folder.glob(".step-*"):
            shutil.rmtree(half)
        raise disk_full(folder.parent, needed) from error
    found = sorted(folder.glob("step-*"))
    made = found.index(_place(folder, checkpoint))  # damaged ones may stand after it
    kept = found[: made + 1][-(KEPT if needed <= LARGE else 1) :]
    for old in found:
        if old not in kept:
            shutil.rmtree(old)


def size(checkpoint: Checkpoint) -> int:
    """Return the bytes that a checkpoint takes on disk, but for the names and shapes of its tensors."""
    return sum(t.nbytes for t in checkpoint.tensors.values()) + len(json_text(checkpoint.state))


def _place(folder: Path, checkpoint: Checkpoint) -> Path:
    return folder / f"step-{checkpoint.state['step']:08d}"


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    final = _place(folder, checkpoint)
    if final.exists():
        if _is_whole(final):
            return  # of the same step of the same run: it says the same
        shutil.rmtree(final)
    work = folder / f".{final.name}"
    work.mkdir()
    # a clone per tensor: safetensors refuses tensors that share memory
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in checkpoint.tensors.items()}
    save_file(tensors, work / "tensors.safetensors")
    _sync(work / "tensors.safetensors")
    digest = file_sha256(work / "tensors.safetensors")
    write_sealed(work / "state.json", {**checkpoint.state, "tensors_sha256": digest})
    os.replace(work, final)
    _sync(folder)


def load_last(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest readable checkpoint whose rows are on disk as it left them.

    A damaged one is named through `warn` and the one before is tried.

    Raises:
        CheckpointError: there are checkpoints and none can be read.
    """
    found = sorted(folder.glob("step-*"), reverse=True)
    for path in found:
        try:
            state = _state_of(path)
            check_files(folder.parent, state["files"])
            return Checkpoint(load_file(path / "tensors.safetensors"), state)
        except (OSError, ValueError, KeyError) as error:
            warn(f"checkpoint {path.name} is damaged ({error}); trying the one before")
    if found:
        raise CheckpointError(f"{folder}: not a readable checkpoint; start over with --force")
    return None


def _state_of(path: Path) -> dict[str, Any]:
    """Return the state of a checkpoint whose tensors are as they were written."""
    state = unsealed((path / "state.json").read_bytes(), since=0)
    if file_sha256(path / "tensors.safetensors") != state.pop("tensors_sha256"):
        raise ValueError("its tensors were changed or damaged")
    return state


def _is_whole(path: Path) -> bool:
    try:
        _state_of(path)
    except (OSError, ValueError, KeyError):
        return False
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
