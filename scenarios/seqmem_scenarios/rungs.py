"""The embedded models by short name: `nano` and `tiny` come with the package, `small` and `base` are made on demand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from seqmem import ModelSpec, hookimpl

seqmem_api = ">=1,<2"

SUMMARIES = {
    "nano": "GPT-NeoX of about 50k parameters with random weights, to be trained from scratch; comes with the package.",
    "tiny": "GPT-NeoX of about 1M parameters, pretrained on the synthetic world; comes with the package.",
    "small": "GPT-NeoX of about 8M parameters, made by `seqmem pretrain small`.",
    "base": "GPT-NeoX of about 50M parameters, made by `seqmem pretrain base`.",
}


def cache_folder() -> Path:
    """Where models made here are kept; `SEQMEM_CACHE` overrides the user's cache folder."""
    return Path(os.environ.get("SEQMEM_CACHE") or platformdirs.user_cache_dir("seqmem")) / "models"


def locate(rung: str) -> Path | None:
    """The folder of a rung: shipped with the package, or made earlier; None when neither."""
    for folder in (Path(__file__).parent / "ladder" / rung, cache_folder() / rung):
        if (folder / "model.safetensors").exists():
            return folder
    return None


def _pretrain(rung: str, out: Path | None, **arguments: Any) -> Mapping[str, Any]:
    from seqmem_scenarios.ladder import pretrain  # torch: only where a model is made

    folder = out or cache_folder() / rung
    return {"folder": str(folder), **pretrain(rung, folder, **arguments)}


def _spec(rung: str) -> ModelSpec:
    return ModelSpec(
        name=rung,
        version="1",
        summary=SUMMARIES[rung],
        locate=lambda: locate(rung),
        pretrain=None if rung == "nano" else lambda out, **arguments: _pretrain(rung, out, **arguments),
    )


@hookimpl
def seqmem_model() -> list[ModelSpec]:
    """Declare the ladder."""
    return [_spec(rung) for rung in SUMMARIES]
