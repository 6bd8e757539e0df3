"""Compact records: a finished run in as few bytes as a leaderboard can be checked from.

A compact record is a folder with ``run.json`` and one Parquet file per table that has rows. A board keeps its records
in archives, one per row, and what was asked once for all runs that asked the same::

    records/<row>.zip/<run folder>/run.json        as the run left it, with "items", "files" and "compact"
    records/<row>.zip/<run folder>/probes.parquet  and so on
    items.zip/items-<H>.parquet                    H: hash of what it holds

Any Parquet reader reads these files: numbers are plain floats and integers. Three things make them small: the
answers to one probe stand together in the order of asking, numbers are rounded to what their use needs, and
Brotli compresses them with the bytes of floats split. Rounding is stated in ``run.json["compact"]``; tables are
otherwise as they were, but for the order of the rows of `probes`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqmem.core.errors import UsageError
from seqmem.record.files import Proof, sealed, sha256
from seqmem.record.reader import RunRecord
from seqmem.record.schema import ASKED_ORDER, FORMAT, TABLES
from seqmem.record.tables import items_hash

ROUNDING: Mapping[str, Mapping[str, tuple[float, int]]] = {
    "probes": {
        "logprob": (2**-6, 10),
        "best_other": (2**-6, 10),
        "closed": (2**-6, 10),
        "sampled": (2**-10, 7),
    },
    "steps": {"loss": (0, 10), "penalty": (0, 8), "grad_norm": (0, 8)},
    "measured": {"value": (0, 12)},
}
"""Columns that are rounded: to multiples of the first number, or to a number of binary digits, whichever is coarser.

The log-probability of an answer is at most .008 nats away from what was scored, or 1 part in 1024 where that is more
(beyond 8 nats). A probability is at most .0005 away, or 1 part in 128. A loss is at most 1 part in 1024 away.
"""

_OF_THE_MAKING = (
    "asked",
    "code",
    "date",
    "design",
    "device_bytes",
    "format",
    "hardware",
    "notes",
    "plugins",
    "resumed",
    "seconds",
    "sha256",
    "source",
    "tokenizer",
    "versions",
)
"""Keys of run.json in which two runs of one recipe may differ and be the same run: the recipe fixes the design."""

_PREFIXED = ("probe", "fact", "prompt")
"""Text columns whose neighbours begin alike."""


@dataclass(frozen=True)
class CompactRecord:
    """The files of a compact record.

    Attributes:
        name: of the record's folder.
        files: of the folder, by name.
        items: name and content of the file of items, which all runs that were asked the same share.
    """

    name: str
    files: Mapping[str, bytes]
    items: tuple[str, bytes]


def compact_of(record: RunRecord) -> CompactRecord:
    """Return the compact form of a finished run; its bytes depend on the record and the version of pyarrow only.

    Raises:
        UsageError: the run is not finished, its folder is not named after it, or a table cannot be read.
    """
    if record.status != "finished":
        raise UsageError(f"{record.folder}: the run is {record.status}; only finished runs are kept")
    name = record.folder.resolve().name
    if not name.endswith(f"-{record.id}"):
        raise UsageError(f"{record.folder}: the folder of run {record.id} must end in -{record.id}")
    items = record.tables.items()
    hashed = items_hash(items)
    tables: dict[str, bytes] = {}
    rows: dict[str, int] = {}
    for table_name in TABLES:
        table = record.tables.read(table_name)
        if table_name == "probes":
            table = _by_probe(table, items)
        if len(table):
            tables[table_name], rows[table_name] = _parquet(_rounded(table_name, table)), len(table)
    info = {
        **{key: value for key, value in record.info.items() if key != "tables"},  # of a compact one before
        "format": FORMAT,
        "design": record.design.stated(),
        "items": hashed,
        "files": {
            f"{table}.parquet": Proof(rows=rows[table], sha256=sha256(content))
            for table, content in tables.items()
        },
        "compact": {
            f"{table}.{column}": f"multiples of {step:g} or {digits} binary digits"
            for table, columns in ROUNDING.items()
            for column, (step, digits) in columns.items()
            if table in tables
        },
    }
    files = {f"{table}.parquet": content for table, content in tables.items()}
    return CompactRecord(
        name,
        {"run.json": _lines(sealed(info)).encode(), **files},
        (f"items-{hashed}.parquet", _parquet(items)),
    )


def check_same_run(there: RunRecord, again: CompactRecord) -> None:
    """Refuse another record than the one that is there; a run made again later, or in a newer format, is the same.

    Raises:
        UsageError: they differ in what the run was or did.
    """
    before, after = compact_of(there).files, again.files
    differing = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if differing and (
        differing != ["run.json"] or _outcome(before["run.json"]) != _outcome(after["run.json"])
    ):
        raise UsageError(
            f"{there.folder} holds another record of this run ({', '.join(differing)} differ); nothing is overwritten: "
            "move it away to replace it"
        )


def _lines(info: Mapping[str, Any]) -> str:
    """Return JSON of one value a line, without indentation: a third less, and `diff` still shows what changed."""
    return json.dumps(info, indent=0, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n"


def _by_probe(probes: pa.Table, items: pa.Table) -> pa.Table:
    """Return probes in the order of the items, the answers to each in the order of asking."""
    place = pc.index_in(probes["probe"], items["probe"].combine_chunks())
    ordered = probes.append_column("_place", place)
    ordered = ordered.sort_by([(name, "ascending") for name in ("_place", *ASKED_ORDER)])
    return ordered.drop_columns(["_place"])


def _rounded(name: str, table: pa.Table) -> pa.Table:
    """Return the table with its measured numbers rounded, as 32-bit floats where these hold them exactly."""
    for position, column in enumerate(table.schema.names):
        if column not in ROUNDING.get(name, {}):
            continue
        multiple, digits = ROUNDING[name][column]
        values = table[column].combine_chunks()
        missing = values.is_null().to_numpy(zero_copy_only=False)
        exact = values.fill_null(0.0).to_numpy(zero_copy_only=False)
        number = rounded(exact, multiple, digits)
        with np.errstate(over="ignore"):
            short = number.astype(np.float32)
        held = short if np.array_equal(short.astype(np.float64), number, equal_nan=True) else number
        table = table.set_column(position, column, pa.array(held, mask=missing, from_pandas=False))
    return table


def rounded(values: npt.NDArray[np.float64], multiple: float, digits: int) -> npt.NDArray[np.float64]:
    """Return the nearest multiples of a power of two that take no more than this number of binary digits.

    What is not finite stays as it is, and no zero is negative.
    """
    _, exponent = np.frexp(values)
    step = np.maximum(np.ldexp(1.0, exponent - digits), multiple or np.finfo(np.float64).smallest_subnormal)
    return np.asarray(np.round(values / step) * step + 0.0)


def _parquet(table: pa.Table) -> bytes:
    """Return a Parquet file of one row group without anything that only Arrow reads."""
    encodings: dict[str, str] = {}
    repeated: list[str] = []
    for field in table.schema:
        if pa.types.is_float32(field.type) or pa.types.is_float64(field.type):
            encodings[field.name] = "BYTE_STREAM_SPLIT"
        elif field.name in _PREFIXED:
            encodings[field.name] = "DELTA_BYTE_ARRAY"
        elif pa.types.is_list(field.type):
            repeated.append(f"{field.name}.list.element")
        elif pa.types.is_string(field.type):
            repeated.append(field.name)
        else:
            encodings[field.name] = "PLAIN"
    out = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(None),
        out,
        compression="brotli",
        compression_level=11,
        use_dictionary=repeated,
        column_encoding=encodings,
        write_statistics=False,
        store_schema=False,
        data_page_size=1 << 24,
        row_group_size=1 << 24,
    )
    return out.getvalue()


def _outcome(run: bytes) -> dict[str, Any]:
    """Return what a run.json says less how, when and where the run was made."""
    return {name: value for name, value in json.loads(run).items() if name not in _OF_THE_MAKING}
