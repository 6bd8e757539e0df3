"""Text from outside, such as a name in a stranger's package, made fit to be shown."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any


def clean(text: str) -> str:
    """Return text fit for one line: white space as blanks, without control, format or surrogate characters.

    Format characters (Unicode Cf) are invisible and can turn the direction of the text around them. All text that is
    printed, drawn or written to a table goes through here.
    """
    spaced = "".join(" " if sign.isspace() else sign for sign in text)
    return "".join(sign for sign in spaced if unicodedata.category(sign) not in ("Cc", "Cf", "Cs"))


def cell_text(value: Any) -> Any:
    """Return a cell of a CSV file: text fit for one line, quoted where a spreadsheet would run it as a formula."""
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text


def file_name(text: str) -> str:
    """Return text as part of a file name: ``-`` in place of all but letters, digits, dots and ``-_=``."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_=.") else "-" for c in text).lstrip(".-")[
        :100
    ]


def distinct_file_name(text: str) -> str:
    """Return a file name that no other text has: a hash follows where signs were replaced or left out."""
    name = file_name(text)
    return name if name == text else f"{name}-{_short_hash(text)}"


def file_names(texts: Iterable[str]) -> dict[str, str]:
    """Return a name for each of the texts that name files of one folder; names that would be the same get a hash.

    Names that differ in case alone count as the same: some file systems keep only one of them.
    """
    plain = {text: file_name(text) for text in texts}
    count = Counter(name.casefold() for name in plain.values())
    return {
        text: name if count[name.casefold()] == 1 else f"{name}-{_short_hash(text)}"
        for text, name in plain.items()
    }


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
