"""Text from outside, such as a name in a stranger's package, made fit to be shown."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """Return text fit for one line: white space as blanks, without control, format or surrogate characters.

    Format characters (Unicode Cf) are invisible and can turn the direction of the text around them. All text that is
    printed, drawn or written to a table goes through here.
    """
    spaced = "".join(" " if sign.isspace() else sign for sign in text)
    return "".join(sign for sign in spaced if unicodedata.category(sign) not in ("Cc", "Cf", "Cs"))


def file_name(text: str) -> str:
    """Return text as part of a file name: ``-`` in place of all but letters, digits, dots and ``-_=``."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_=.") else "-" for c in text).lstrip(".-")[
        :100
    ]
