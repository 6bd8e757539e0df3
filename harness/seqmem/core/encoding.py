"""Text from the bytes of a file, and what to do about bytes that are not UTF-8."""

from __future__ import annotations

import codecs

from seqmem.core.errors import UsageError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 4096


def utf8(content: bytes, where: str) -> str:
    """Return the text of a UTF-8 file without its byte order mark.

    Args:
        content: of the file.
        where: what is being read, for the error.

    Raises:
        UsageError: it is not UTF-8, or holds null bytes, as UTF-16 does.
    """
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if marked is not None:
        raise UsageError(f"{where} is {marked.upper()}, not UTF-8; {_convert(marked)}")
    if b"\0" in content:
        likely = _unmarked(content[:_SAMPLE])
        if likely is None:
            raise UsageError(f"{where} holds a null byte at offset {content.index(0)}, which is not text")
        raise UsageError(f"{where} looks like {likely.upper()}, not UTF-8; {_convert(likely)}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}; {_convert('latin1')}"
        ) from None


def _convert(name: str) -> str:
    return f"convert it, e.g. with: iconv -f {name} -t utf-8 OLD > NEW"


def _unmarked(sample: bytes) -> str | None:
    """Return what text with null bytes is written in: letters of Latin script have them at every other place."""
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) < len(sample) // 8:
        return None
    return "utf-16le" if odd > even else "utf-16be"
