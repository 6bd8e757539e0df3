"""Shared parts of sources of documents: the held-out tenth, counting, and the field of a row.

Documents keep the order of their source, or are put in order of their domains. The seed shuffles nothing: every seed
trains on the same background and is measured on the same held-out documents. So perplexities are comparable between
seeds, and a source is read from its start only as far as needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from seqmem import TextSource, UsageError

Document = tuple[str, str]
"""A text and the domain it belongs to, empty where none is asked for."""
EVERY = 10
"""One document in this many is held out: the 10th, the 20th and so on."""


def source(documents: Iterable[Document], needed: tuple[int, int], where: str) -> TextSource:
    """Read as many documents as are needed, put them in order of their domains, split them by their place.

    Domains follow one another as they first appear; inside a domain documents keep their order.

    Args:
        documents: in the order of the source, none of their texts blank.
        needed: documents for training and held-out documents.
        where: what is being read, for the error.

    Raises:
        UsageError: there are not enough documents.
    """
    train, heldout = needed
    wanted = max(_place_in_training(train - 1) + 1 if train else 0, heldout * EVERY)
    found = tuple(islice(documents, wanted))
    place = {domain: number for number, domain in enumerate(dict.fromkeys(domain for _, domain in found))}
    read = tuple(text for text, domain in sorted(found, key=lambda document: place[document[1]]))
    if len(read) < wanted:
        if not read:
            raise UsageError(f"{where} holds no text")
        raise UsageError(
            f"{where} is too short: {len(read)} document{'s' * (len(read) > 1)}, but {wanted} are needed "
            f"({train} for training, and every {EVERY}th is held out); give more text or train less"
        )
    # A copy each, so that a document cannot be reached through the other side.
    held = read[EVERY - 1 :: EVERY]
    kept = tuple(text for place, text in enumerate(read) if place % EVERY != EVERY - 1)

    def at(side: tuple[str, ...], index: int) -> str:
        if not 0 <= index < len(side):
            raise IndexError(f"document {index} of {where} was not asked for; {len(side)} were")
        return side[index]

    return TextSource(train=lambda index: at(kept, index), heldout=lambda index: at(held, index))


def _place_in_training(index: int) -> int:
    """Return the place in the source of the training document with this index."""
    return index + index // (EVERY - 1)


def document_of(row: Mapping[str, Any], field: str, domain: str | None, where: str) -> Document:
    """Return a row's text and its domain; see `field_of`."""
    return field_of(row, field, where), "" if domain is None else field_of(row, domain, where, "domain")


def field_of(row: Mapping[str, Any], field: str, where: str, option: str = "field") -> str:
    """Return the text of a field in one row, by its name or by a path such as ``message.content``.

    White space around it is cut. It is empty where the field holds null, so that the row is skipped.

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
    return value.strip()


def names(row: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the fields of a row, nested ones as paths."""
    found = []
    for name, value in row.items():
        found += names(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [f"{prefix}{name}"]
    return found
