"""The embedded models by short name: `nano` and `tiny` come with the package, `small` and `base` are made on demand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqmem import ModelSpec, hookimpl, model_folder

seqmem_api = ">=1,<2"

SUMMARIES = {
    "nano": "GPT-NeoX of about 50k parameters with random weights, to be trained from scratch; comes with the package.",
    "tiny": "GPT-NeoX of about 1M parameters, pretrained on the synthetic world; comes with the package.",
    "small": "GPT-NeoX of about 8M parameters, made by `seqmem pretrain small`.",
    "base": "GPT-NeoX of about 50M parameters, made by `seqmem pretrain base`.",
}


def locate(size: str) -> Path | None:
    """Return the folder of an embedded model, shipped or made earlier; None where there is none."""
    for folder in (Path(__file__).parent / "model_sizes" / size, model_folder(size)):
        if (folder / "model.safetensors").exists():
            return folder
    return None


def _pretrain(size: str, out: Path | None, **arguments: Any) -> Mapping[str, Any]:
    from seqmem_scenarios.model_sizes import pretrain  # torch: only where a model is made

    folder = out or model_folder(size)
    return {"folder": str(folder), **pretrain(size, folder, **arguments)}


def _spec(size: str) -> ModelSpec:
    return ModelSpec(
        name=size,
        version="1",
        summary=SUMMARIES[size],
        locate=lambda: locate(size),
        pretrain=None if size == "nano" else lambda out, **arguments: _pretrain(size, out, **arguments),
    )


@hookimpl
def seqmem_model() -> list[ModelSpec]:
    """Declare the embedded models."""
    return [_spec(size) for size in SUMMARIES]
