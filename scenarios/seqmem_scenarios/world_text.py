"""Text source `world`: everyday text of the synthetic world, as much as anybody asks for."""

from __future__ import annotations

from seqmem import Options, TextSource, TextSpec, hookimpl
from seqmem_scenarios.world import WORLD_VERSION, background

seqmem_api = ">=1,<2"

HELDOUT = 1_000_000_000
"""Held-out documents have indices from here on; training never gets that far."""


def _open(options: Options, seed: int, needed: tuple[int, int]) -> TextSource:
    return TextSource(
        train=lambda index: background(seed, index), heldout=lambda index: background(seed, HELDOUT + index)
    )


@hookimpl
def seqmem_text() -> list[TextSpec]:
    """Declare the source."""
    return [
        TextSpec(
            name="world",
            version=str(WORLD_VERSION),
            summary="Prose, dialogues and short biographies of the synthetic world; no download.",
            open=_open,
            fingerprint=lambda options: f"world-{WORLD_VERSION}",
        )
    ]
