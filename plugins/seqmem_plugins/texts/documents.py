"""Shared parts of sources of documents: the held-out tenth, counting, and the field of a row.

Documents keep the order of their source, or are put in order of their domains. The seed shuffles nothing: every seed
trains on the same background and is measured on the same held-out documents. So perplexities are comparable between
seeds, and a source is read from its start only as far as needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from seqmem import Options, TextSource, UsageError

Document = tuple[str, str]
"""A text and the domain it belongs to, empty where none is asked for."""
EVERY = 10
"""One document in this many is held out: the 10th, the 20th and so on."""


class TextOptions(Options):
    """Options of every source of documents."""

    strip: bool = Field(
        True, description="cut white space at the ends of a document; false trains it as it is"
    )

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `strip` out at its default, so that the ids of runs stay what they were before there was one."""
        return {name: value for name, value in handler(self).items() if name != "strip" or value is not True}


def as_trained(documents: Iterable[Document], *, strip: bool) -> Iterator[Document]:
    """Yield the documents that are not blank, without white space at their ends or as they are."""
    for text, domain in documents:
        if text.strip():
            yield text.strip() if strip else text, domain


def source(documents: Iterable[Document], needed: tuple[int, int], where: str) -> TextSource:
    """Read as many documents as are needed, put them in order of their domains, split them by their place.

    Domains follow one another as they first appear; inside a domain documents keep their order. A document that equals
    a held-out one is not trained: the next ones take its place.

    Args:
        documents: in the order of the source, none of their texts blank.
        needed: documents for training and held-out documents.
        where: what is being read, for the error.

    Raises:
        UsageError: there are not enough documents.
    """
    train, heldout = needed
    wanted = max(_place_in_training(train - 1) + 1 if train else 0, heldout * EVERY)
    reading = iter(documents)
    found: list[Document] = []
    while True:
        more = list(islice(reading, wanted - len(found)))
        found += more
        read = _by_domain(found)
        # A copy each, so that a document cannot be reached through the other side.
        held = read[EVERY - 1 :: EVERY]
        never = frozenset(held)
        offered = [text for place, text in enumerate(read) if place % EVERY != EVERY - 1]
        kept = tuple(text for text in offered if text not in never)
        left_out = len(offered) - len(kept)
        if len(kept) >= train and len(held) >= heldout:
            break
        if not more:
            raise _too_short(where, len(read), wanted, train, left_out)
        wanted += max(train - len(kept), 1) if len(read) >= wanted else 0

    def at(side: tuple[str, ...], index: int) -> str:
        if not 0 <= index < len(side):
            raise IndexError(f"document {index} of {where} was not asked for; {len(side)} were")
        return side[index]

    note = f"training documents of {where} that equal held-out ones and are not trained: {left_out}"
    return TextSource(
        train=lambda index: at(kept, index),
        heldout=lambda index: at(held, index),
        note=note if left_out else "",
    )


def _by_domain(documents: list[Document]) -> tuple[str, ...]:
    place = {domain: number for number, domain in enumerate(dict.fromkeys(domain for _, domain in documents))}
    return tuple(text for text, domain in sorted(documents, key=lambda document: place[document[1]]))


def _too_short(where: str, read: int, wanted: int, train: int, left_out: int) -> UsageError:
    if not read:
        return UsageError(f"{where} holds no text")
    equal = f", and {left_out} that equal held-out ones are not trained" * (left_out > 0)
    return UsageError(
        f"{where} is too short: {read} document{'s' * (read > 1)}, but {wanted} are needed "
        f"({train} for training, and every {EVERY}th is held out{equal}); give more text or train less"
    )


def _place_in_training(index: int) -> int:
    """Return the place in the source of the training document with this index."""
    return index + index // (EVERY - 1)


def document_of(row: Mapping[str, Any], field: str, domain: str | None, where: str) -> Document:
    """Return a row's text and its domain; see `field_of`."""
    return field_of(row, field, where), "" if domain is None else field_of(
        row, domain, where, "domain"
    ).strip()


def field_of(row: Mapping[str, Any], field: str, where: str, option: str = "field") -> str:
    """Return the text of a field in one row, by its name or by a path such as ``message.content``.

    It is empty where the field holds null, so that the row is skipped.

    Raises:
        UsageError: the field is missing, or does not hold text.
    """
    value: Any = row
    steps = [field] if field in row else field.split(".")
    for step in steps:
        if not isinstance(value, Mapping) or step not in value:
            raise UsageError(
                f"{where} has no field {field!r}; its fields are: {', '.join(names(row)) or 'none'}. "
                f"Choose one with --set text.{option}=NAME"
            )
        value = value[step]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f"field {field!r} of {where} holds {type(value).__name__}, not text")
    if any("\ud800" <= sign <= "\udfff" for sign in value):
        raise UsageError(f"field {field!r} of {where} holds half of a surrogate pair, which is not text")
    return value


def names(row: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the fields of a row, nested ones as paths."""
    found = []
    for name, value in row.items():
        found += names(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [f"{prefix}{name}"]
    return found
