"""Checkpoints: tensors in safetensors, the rest in JSON, whole or not at all, the last two kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqmem.core.errors import CheckpointError
from seqmem.record.schema import write_json

KEPT = 2


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
    """Write a checkpoint under its step number; older ones beyond `KEPT` go."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover)
    final = folder / f"step-{checkpoint.state['step']:08d}"
    work = folder / f".{final.name}"
    work.mkdir()
    # a clone per tensor: safetensors refuses tensors that share memory
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in checkpoint.tensors.items()}
    save_file(tensors, work / "tensors.safetensors")
    _sync(work / "tensors.safetensors")
    state = {**checkpoint.state, "tensors_sha256": _file_digest(work / "tensors.safetensors")}
    write_json(work / "state.json", {**state, "state_sha256": _state_digest(state)})
    if final.exists():
        shutil.rmtree(final)
    os.replace(work, final)
    _sync(folder)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def load_last(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest readable checkpoint; a damaged one is named through `warn` and the one before is tried.

    Raises:
        CheckpointError: there are checkpoints and none can be read.
    """
    found = sorted(folder.glob("step-*"), reverse=True)
    for path in found:
        try:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if not isinstance(state, dict) or state.pop("state_sha256") != _state_digest(state):
                raise ValueError("state does not match its hash")
            if _file_digest(path / "tensors.safetensors") != state.pop("tensors_sha256"):
                raise ValueError("tensors do not match their hash")
            return Checkpoint(load_file(path / "tensors.safetensors"), state)
        except (OSError, ValueError, KeyError) as error:
            warn(f"checkpoint {path.name} is damaged ({error}); trying the one before")
    if found:
        raise CheckpointError(f"{folder}: not a readable checkpoint; start over with --force")
    return None


def _state_digest(state: dict[str, Any]) -> str:
    """Return the SHA-256 of the state as it reads back from JSON."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(state)), sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
