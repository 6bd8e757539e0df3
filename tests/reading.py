"""Tokenizers that tests of streams read with: the shipped one, and one that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from tokenizers import Tokenizer

from seqmem_scenarios.rungs import locate


def shipped_tokenizer(name: str = "tiny") -> Tokenizer:
    """The tokenizer of a model that comes with the package."""
    folder = locate(name)
    assert folder is not None
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


TOKENIZER = shipped_tokenizer()


class Letters:
    """One token per byte after a first one: the same for ever, whatever becomes of the shipped tokenizer."""

    def encode(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(ids=[256, *text.encode()])

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token for token in ids if token < 256).decode()
