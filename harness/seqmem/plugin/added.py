"""Models that `seqmem model add` has put into the cache, offered as a plugin offers its own."""

from __future__ import annotations

from functools import partial

from seqmem.core.cache import added_models, model_folder
from seqmem.plugin.hookspecs import hookimpl
from seqmem.plugin.specs import ModelSpec

seqmem_api = ">=1,<2"


@hookimpl
def seqmem_model() -> list[ModelSpec]:
    """Declare a model per folder with a card; its version is the beginning of its source's hash."""
    return [
        ModelSpec(
            name=name,
            version=card["sha256"][:12],
            summary=f"Added on this machine from {card['name']} ({card['kind']}, sha256 {card['sha256']}).",
            locate=partial(model_folder, name),
        )
        for name, card in added_models()
    ]
