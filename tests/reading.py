"""Tools of the tests of streams: tokenizers, and background text that notes which documents were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from tracemalloc import is_tracing
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer

from seqmem import BuildContext, TextSource
from seqmem_scenarios.embedded import locate
from seqmem_scenarios.world import background


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


def _kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what was made for the tests that follow, but not where a test measures the memory of a stream."""
    kept = lru_cache(maxsize=50_000)(make)
    return lambda *key: (make if is_tracing() else kept)(*key)


_document = _kept(background)
_encoded = _kept(lambda encode, text: tuple(encode(text).ids))


def build_context(
    seed: int,
    trained: Callable[[int], object],
    heldout: Callable[[int], object],
    *,
    tokenizer: Tokenizer | Letters = TOKENIZER,
    max_positions: int = 512,
    text: Callable[[int], str] | None = None,
) -> BuildContext:
    """The context a scenario is built with; `trained` and `heldout` are told the index of every document asked for.

    The documents are the world's, or `text` of their index.
    """

    def document(asked: Callable[[int], object], first: int) -> Callable[[int], str]:
        def at(index: int) -> str:
            asked(index)
            return text(index) if text else _document(seed, first + index)

        return at

    source = TextSource(document(trained, 0), document(heldout, 10**9))
    return BuildContext(seed, lambda words: list(_encoded(tokenizer.encode, words)), max_positions, source)
