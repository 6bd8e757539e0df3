"""Files of ours: written whole or not at all, and able to prove that they are as they were written.

A JSON file proves itself by the SHA-256 of all else it says, which it holds under `SEAL`. A table is proved by what
the JSON file that names it says of its rows and bytes (`Proof`). Nobody is kept from changing a file and its proof
alike: what is found is damage, and changes by those who do not know of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import pyarrow as pa  # planning a run and reading JSON need none of it, and it is slow to import

SEAL = "sha256"
"""Key of a sealed JSON file under which the SHA-256 of its other keys stands."""


class Proof(TypedDict):
    """Proves a table's file: its number of rows, and the SHA-256 of its bytes in hex."""

    rows: int
    sha256: str


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a content, in hex."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, which may be large, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Accept files of a folder that are as their proofs say.

    Raises:
        ValueError: one is missing, or was changed.
    """
    for name, proof in files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{name} is missing")
        if file_sha256(path) != proof["sha256"]:
            raise ValueError(f"{name} was changed or damaged")


def json_text(value: Any) -> str:
    """Return JSON in the layout of all our files: the same text for the same value."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n"


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value with its own hash; an earlier one is replaced."""
    # through JSON, so that what is no JSON of itself, such as a tuple, has the hash of what is read back
    bare = {key: content for key, content in json.loads(json.dumps(value)).items() if key != SEAL}
    return {**bare, SEAL: _hash_of(bare)}


def unsealed(content: bytes, *, since: int) -> dict[str, Any]:
    """Return what a sealed JSON file says, without its hash.

    Args:
        content: of the file.
        since: first format with a hash; in a file of an earlier one it may be missing.

    Raises:
        ValueError: it is not a JSON object, lacks its hash, or was changed.
    """
    try:
        value = json.loads(content.decode("utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"{reprlib.repr(value)} is not an object")
        stated, found = value.pop(SEAL, None), _hash_of(value)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error
    older = isinstance(value.get("format"), int) and value["format"] < since
    if stated != found and not (older and stated is None):
        raise ValueError(f"it was changed or damaged: its {SEAL} is not that of what it says")
    return value


def _hash_of(value: Mapping[str, Any]) -> str:
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def write_text(path: Path, text: str) -> None:
    """Write text that can be made again, in UTF-8 with lines that end in a line feed, whole or not at all."""
    with whole_file(path, lasting=False) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any, *, lasting: bool = True) -> None:
    """Write JSON so that a reader finds the old file or the new one, never half of one.

    What is not `lasting` is not waited for: a machine that loses power may lose it.
    """
    with whole_file(path, lasting) as file:
        file.write(json_text(value).encode())


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with its own hash, as `write_json` does."""
    write_json(path, sealed(value))


def write_table(path: Path, rows: Mapping[str, Sequence[Any]], schema: pa.Schema) -> Proof:
    """Write one Parquet file whole, and return what proves it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {name: pa.array(rows[name], schema.field(name).type) for name in schema.names}, schema=schema
    )
    content = io.BytesIO()
    pq.write_table(table, content)
    with whole_file(path) as file:
        file.write(content.getbuffer())
    return Proof(rows=len(table), sha256=sha256(content.getvalue()))


@contextmanager
def whole_file(path: Path, lasting: bool = True) -> Iterator[IO[bytes]]:
    """Give a file to write that takes the place of `path` when it is whole; where it cannot be, nothing of it stays.

    Devices and pipes are written as they are.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            yield device
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
