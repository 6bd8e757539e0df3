"""What the user asks for; every field is an option of the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from seqmem.core.recipe import Probing
from seqmem.planning.models import Attention, Dtype


@dataclass(frozen=True)
class Request:
    """A bench as the user asks for it; every field is a command-line option of the same name.

    No `model` means the one each scenario proposes; no `sweep` means what the scenario's preset sweeps.
    """

    scenario: tuple[str, ...]
    strategy: tuple[str, ...]
    model: tuple[str, ...] = ()
    preset: str = "default"
    seeds: str = "0-2"
    set: tuple[str, ...] = ()
    sweep: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()
    text: str = "world"
    optimizer: str | None = None
    lr: float | None = None
    revision: str | None = None
    dtype: Dtype = "float32"
    attention: Attention = "sdpa"
    trust_remote_code: bool = False
    device: str = "auto"
    threads: int = 1
    probing: Probing = "schedule"
    reference: bool = True
    controls: bool = True

    def asked(self) -> dict[str, Any]:
        """What differs from the defaults, for the record."""
        return {
            f.name: list(value) if isinstance(value, tuple) else value
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default
        }
