"""The user's cache, and the models in it: each a folder with a card that says where it comes from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

import platformdirs

CARD = "seqmem-source.json"
"""File beside the weights of a model that was converted or copied here."""

SourceKind = Literal["safetensors", "pytorch", "gguf", "peft"]


class Card(TypedDict):
    """Where a model comes from.

    Attributes:
        name: of the file or folder it was made from, or a Hugging Face id; no path.
        revision: commit of a Hugging Face id.
        sha256: of the one file that held the weights; of several, of the lines that `sha256sum` prints of them.
        files: SHA-256 of each by name.
        base: name and fingerprint of the model that an adapter was merged into.
        versions: of the packages that wrote the weights.
    """

    kind: SourceKind
    name: str
    revision: str | None
    sha256: str
    files: dict[str, str]
    base: NotRequired[dict[str, str]]
    versions: dict[str, str]


def cache_folder() -> Path:
    """Return the cache folder of this user; the environment variable `SEQMEM_CACHE` names another."""
    return Path(os.environ.get("SEQMEM_CACHE") or platformdirs.user_cache_dir("seqmem"))


def model_folder(name: str) -> Path:
    """Return the folder of a model that is made or added on this machine."""
    return cache_folder() / "models" / name


def is_model_name(name: str) -> bool:
    """Return whether a model can be called so: one folder's name, which no option reads as anything else."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is not None


def read_card(folder: Path) -> Card | None:
    """Return the card of a model's folder; None where there is none that can be read."""
    try:
        card: Any = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(card, dict) or not all(
        isinstance(card.get(key), str) for key in ("kind", "name", "sha256")
    ):
        return None
    return cast("Card", card)


def added_models() -> Iterator[tuple[str, Card]]:
    """Yield the models that were added on this machine, by name, with their cards."""
    folder = cache_folder() / "models"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        card = read_card(path) if is_model_name(path.name) else None
        if card is not None:
            yield path.name, card
