"""Text from outside, such as a name in a stranger's package, made fit to be shown."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """One line of text: every kind of white space a blank, no control, format or surrogate characters.

    Format characters (Unicode Cf) are those that nobody sees and that turn the direction of what stands
    around them. Whatever text is printed, drawn or written to a table goes through here.
    """
    spaced = "".join(" " if sign.isspace() else sign for sign in text)
    return "".join(sign for sign in spaced if unicodedata.category(sign) not in ("Cc", "Cf", "Cs"))


def file_name(text: str) -> str:
    """Text as part of a file name: whatever is not a letter, digit, dot or one of ``-_=`` becomes ``-``."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_=.") else "-" for c in text).lstrip(".-")[
        :100
    ]
