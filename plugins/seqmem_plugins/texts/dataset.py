"""Background text from the `datasets` library: a Hugging Face id, a local folder, or a builder with files."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

from pydantic import Field

from seqmem import TextSource, TextSpec, UsageError, hookimpl
from seqmem_plugins.texts.documents import Document, TextOptions, as_trained, document_of, source

seqmem_api = ">=1,<2"


class DatasetOptions(TextOptions):
    """Options of the text source `dataset`."""

    id: str = Field(
        min_length=1,
        description="a Hugging Face id, a folder of data files, or a builder such as csv with data_files",
    )
    config: str | None = Field(None, description="configuration of the dataset, where it has several")
    split: str = Field("train", description="split that documents are taken from")
    field: str = Field("text", description="field of a row that holds the text; a.b reaches into a")
    domain: str | None = Field(
        None,
        description="field that names a row's domain, e.g. meta.pile_set_name; read domain by domain then",
    )
    revision: str | None = Field(
        None, description="branch, tag or commit; without one, a changed dataset goes unnoticed"
    )
    data_files: str | None = Field(None, description="files for a builder, * allowed, e.g. data/*.csv")
    streaming: bool = Field(
        True, description="read only as far as documents are needed; false downloads the dataset first"
    )


def open_text(options: DatasetOptions, seed: int, needed: tuple[int, int]) -> TextSource:
    """Return the dataset's first documents; the seed changes nothing (see `documents`)."""
    where = f"dataset {options.id!r} split {options.split!r}"
    with _quiet():
        return source(_documents(options, where), needed, where)


def fingerprint(options: DatasetOptions) -> str:
    """Return sha256 over id, config, split and revision, and over the content of the files where they are local."""
    identity = (options.id, options.config, options.split, options.revision, options.data_files)
    total = hashlib.sha256(json.dumps(identity).encode())
    root = Path(options.id).expanduser()
    files = [path for path in root.rglob("*") if path.is_file()] if root.is_dir() else []
    if options.data_files is not None:
        files += [Path(name) for name in glob(options.data_files, recursive=True)]
    for path in sorted(files):
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _documents(options: DatasetOptions, where: str) -> Iterator[Document]:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    from pyarrow import ArrowException

    try:
        found = (document_of(row, options.field, options.domain, where) for row in _rows(options))
        yield from as_trained(found, strip=options.strip)
    except (OSError, ValueError, KeyError, RuntimeError, HTTPError, ArrowException) as error:
        # Besides their own, all of these pass through from the libraries that datasets reads with.
        if isinstance(error.__cause__, StopIteration):
            raise UsageError(f"{where} cannot be read: no file matches {options.data_files!r}") from None
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"{where} cannot be read: {lines[0]}") from None


def _rows(options: DatasetOptions) -> Iterator[dict[str, object]]:
    from datasets import load_dataset

    extra = {} if options.data_files is None else {"data_files": options.data_files}
    root = Path(options.id).expanduser()
    yield from load_dataset(
        str(root) if root.is_dir() else options.id,
        options.config,
        split=options.split,
        revision=options.revision,
        streaming=options.streaming,
        **extra,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars, retry notices and warnings of the libraries, and restore the settings afterwards."""
    import datasets

    bars = datasets.are_progress_bars_disabled()
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()


@hookimpl
def seqmem_text() -> list[TextSpec]:
    """Declare the source of all that `datasets.load_dataset` can open."""
    return [
        TextSpec(
            name="dataset",
            version="1",
            summary="any dataset of the datasets library, by id or local folder, streamed",
            open=open_text,
            fingerprint=fingerprint,
            options=DatasetOptions,
            remote=True,
        )
    ]
