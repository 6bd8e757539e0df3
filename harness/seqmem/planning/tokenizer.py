"""The model's tokenizer: text to token ids and back, without torch."""

from __future__ import annotations

import hashlib
import json
import warnings
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from seqmem.core.errors import UsageError
from seqmem.core.sanitize import clean
from seqmem.planning.model_files import first_line, read_config, stated_number
from seqmem.planning.models import ModelChoice

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHORT = 1000
"""Characters up to which a text's ids are remembered."""

_REMEMBERED = 2**14
"""Texts whose ids are remembered: tens of megabytes at most."""


def load_tokenizer(folder: Path, choice: ModelChoice) -> PreTrainedTokenizerBase:
    """Return the tokenizer that comes with the model.

    Raises:
        UsageError: transformers cannot build it from the folder's files.
    """
    from transformers import AutoTokenizer

    with quiet():
        try:
            return AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=choice.trust_remote_code
            )
        except Exception as error:  # whatever its classes make of files that are not as they should be
            raise UsageError(
                f"the tokenizer of model {choice.name!r} could not be loaded: {first_line(error)}"
            ) from error


def vocabulary(folder: Path) -> int | None:
    """Return the number below which the model knows token ids; None where its config does not say."""
    return stated_number(read_config(folder / "config.json", f"model {folder.name!r}"), "vocab_size")


def within(encode: Callable[[str], list[int]], rows: int | None) -> Callable[[str], list[int]]:
    """Return an encoder that refuses text for which the embedding has no row: tokens may be added without one.

    The refusal is a UsageError.
    """
    if rows is None:
        return encode

    def checked(text: str) -> list[int]:
        ids = encode(text)
        if max(ids, default=-1) >= rows:
            raise UsageError(
                f"a text holds token id {max(ids)}, and the model's embedding has {rows} rows: {clean(text)[:80]!r}; "
                "take that token out of the text, or take another model"
            )
        return ids

    return checked


@lru_cache(maxsize=4)
def encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """Return a function from text to token ids: the tokenizer's own in front (such as a BOS), none after it.

    Some tokenizers also append an end token. It is left off: a prompt that ends in one says that nothing
    follows, and the answer would never be predicted from it.

    Short texts are remembered: a stream says the same in many places, and so do the streams of one seed.

    Raises:
        UsageError: the tokenizer rewrites the text itself when it adds its tokens.
    """
    return _remembering(
        _framed(
            lambda text, special: list(
                tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
            )
        )
    )


def _remembering(encode: Callable[[str], list[int]]) -> Callable[[str], list[int]]:
    """Return the encoder with a memory for short texts; every call gives a list of its own."""

    @lru_cache(maxsize=_REMEMBERED)
    def ids(text: str) -> array[int]:
        return array("q", encode(text))

    return lambda text: ids(text).tolist() if len(text) <= _SHORT else encode(text)


def plain_encoder(folder: Path) -> Callable[[str], list[int]] | None:
    """Return the encoder of a folder's tokenizer.json, which needs no torch; None where there is no such file.

    Raises:
        UsageError: the tokenizer rewrites the text itself when it adds its tokens.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = Tokenizer.from_file(str(file))
    return _framed(lambda text, special: list(tokenizer.encode(text, add_special_tokens=special).ids))


def _framed(plain: Callable[[str, bool], list[int]]) -> Callable[[str], list[int]]:
    """Return what encodes text with the tokenizer's own tokens in front, and none after it."""
    sample = "a b"
    bare, dressed = plain(sample, False), plain(sample, True)
    starts = [i for i in range(len(dressed) - len(bare) + 1) if dressed[i : i + len(bare)] == bare]
    if not bare or not starts:
        raise UsageError("the model's tokenizer does not encode plain text with its own tokens around it")
    front = dressed[: starts[0]]

    def encode(text: str) -> list[int]:
        return front + plain(text, False)

    return encode


def unknown_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id that stands for what the tokenizer does not know; None where it has none."""
    stated = tokenizer.unk_token_id
    if stated is not None:
        return int(stated)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    model = json.loads(backend.to_str())["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    return None if token is None else backend.token_to_id(token)


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of how the tokenizer cuts text: two models of one hash read every text as the same tokens.

    Tokens that it puts around a text do not count, nor how its files are laid out.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        way: object = sorted(tokenizer.get_vocab().items())
    else:
        whole = json.loads(backend.to_str())
        way = [whole[name] for name in ("normalizer", "pre_tokenizer", "model", "added_tokens")]
    return hashlib.sha256(json.dumps(way, sort_keys=True).encode()).hexdigest()


def bare_encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """Return a function from text to its own token ids, without any that the tokenizer adds."""
    return lambda text: list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def decoder(tokenizer: PreTrainedTokenizerBase, *, keep_special: bool = False) -> Callable[[list[int]], str]:
    """Return a function from token ids to text as it stands, special tokens left out unless they are kept."""
    return lambda ids: str(
        tokenizer.decode(ids, skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False)
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, reports and progress bars of transformers; settings are put back afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
