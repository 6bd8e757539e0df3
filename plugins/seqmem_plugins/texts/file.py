"""Background text from local files: plain text, JSON lines or Parquet, alone or in a folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from seqmem import TextSource, TextSpec, UsageError, hookimpl, utf8
from seqmem_plugins.texts.documents import Document, TextOptions, as_trained, document_of, source

seqmem_api = ">=1,<2"

SUFFIXES = (".txt", ".jsonl", ".parquet")

# Where a document may end, the best place first: a paragraph, a sentence, a line, a word.
_ENDS = tuple(
    re.compile(pattern)
    for pattern in (r"\n(?=\s*\n)", r"[.!?…][\"'”’»)\]]*(?=\s)|[。！？]", r"(?=\n)", r"(?=\s)")
)


class FileOptions(TextOptions):
    """Options of the text source `file`."""

    path: str = Field(description="a .txt, .jsonl or .parquet file, or a folder of such files")
    field: str = Field(
        "text", description="field of a JSONL or Parquet row that holds the text; a.b reaches into a"
    )
    domain: str | None = Field(
        None, description="field that names a row's domain; documents are then read domain by domain"
    )
    chunk_chars: int = Field(
        600, ge=50, description="plain text is cut into documents of at most this many characters"
    )


def open_text(options: FileOptions, seed: int, needed: tuple[int, int]) -> TextSource:
    """Return the documents of the file or files; the seed changes nothing (see `documents`)."""
    return source(_documents(options), needed, f"text {options.path!r}")


def fingerprint(options: FileOptions) -> str:
    """Return sha256 over the content of every file, and over their names where there are several."""
    files = _files(options.path)
    total = hashlib.sha256()
    for _, path in files:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if len(files) == 1:
            return digest
        name = path.relative_to(Path(options.path).expanduser()).as_posix()
        total.update(f"{name} {digest}\n".encode())
    return total.hexdigest()


def _files(path: str) -> list[tuple[str, Path]]:
    """Return every file with its name for messages, sorted by that name."""
    root = Path(path).expanduser()
    if root.is_file():
        if root.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"text {path!r} is none of {', '.join(SUFFIXES)}; convert it, or rename it if it is one"
            )
        return [(path, root)]
    if not root.is_dir():
        raise UsageError(f"text {path!r} does not exist; give a file or a folder with --set text.path=...")
    inside = {file.relative_to(root): file for file in root.rglob("*")}
    found = [
        (str(Path(path) / name), file)
        for name, file in sorted(inside.items())
        if file.is_file()
        and file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in name.parts)
    ]
    if not found:
        raise UsageError(f"text folder {path!r} holds no file ending in {', '.join(SUFFIXES)}")
    return found


def _documents(options: FileOptions) -> Iterator[Document]:
    for name, path in _files(options.path):
        where = f"text {name!r}"
        try:
            if not path.stat().st_size:
                raise UsageError(f"{where} is empty")
            found: Iterator[Document]
            if path.suffix.lower() == ".txt":
                if options.domain is not None:
                    raise UsageError(
                        f"{where} is plain text and has no field {options.domain!r} for a domain"
                    )
                found = ((text, "") for text in cut(_read(path, where), options.chunk_chars))
            elif path.suffix.lower() == ".jsonl":
                found = _json_lines(_read(path, where), options, where)
            else:
                found = _parquet(path, options, where)
            yield from as_trained(found, strip=options.strip)
        except OSError as error:
            raise UsageError(f"{where} cannot be read: {error.strerror or error}") from None


def _read(path: Path, where: str) -> str:
    return utf8(path.read_bytes(), where).replace("\r\n", "\n")


def cut(text: str, size: int) -> Iterator[str]:
    """Cut plain text into documents of at most `size` characters, at the best end in the later half.

    Together they are the whole text: white space stays at their ends.
    """
    start = 0
    while len(text) - start > size:
        rest = len(text) - start
        # Near the end of the text the last two documents share what is left, so that none is a scrap.
        stop = start + min(size, rest - size // 2)
        start, document = _next(text, start, stop)
        yield document
    yield text[start:]


def _next(text: str, start: int, stop: int) -> tuple[int, str]:
    middle = (start + stop) // 2
    for pattern in _ENDS:
        ends = [match.end() for match in pattern.finditer(text, middle, stop + 1) if match.end() <= stop]
        if ends:
            return ends[-1], text[start : ends[-1]]
    return stop, text[start:stop]


def _json_lines(text: str, options: FileOptions, where: str) -> Iterator[Document]:
    # Not splitlines: JSON strings may hold other line separators, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        at = f"{where} line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{at} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise UsageError(f"{at} is not a JSON object; write one object per line")
        yield document_of(row, options.field, options.domain, at)


def _parquet(path: Path, options: FileOptions, where: str) -> Iterator[Document]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as table:
            columns = table.schema_arrow.names
            read = []
            for option, field in (("field", options.field), ("domain", options.domain)):
                if field is None:
                    continue
                column = field if field in columns else field.split(".")[0]
                if column not in columns:
                    raise UsageError(
                        f"{where} has no field {field!r}; its fields are: {', '.join(columns) or 'none'}. "
                        f"Choose one with --set text.{option}=NAME"
                    )
                read.append(column)
            for batch in table.iter_batches(batch_size=256, columns=list(dict.fromkeys(read))):
                for row in batch.to_pylist():
                    yield document_of(row, options.field, options.domain, where)
    except pa.ArrowException as error:
        raise UsageError(f"{where} is not a readable Parquet file: {str(error).splitlines()[0]}") from None


@hookimpl
def seqmem_text() -> list[TextSpec]:
    """Declare the source of local files."""
    return [
        TextSpec(
            name="file",
            version="1",
            summary="local plain text, JSONL or Parquet",
            open=open_text,
            fingerprint=fingerprint,
            local=("path",),
            options=FileOptions,
        )
    ]
