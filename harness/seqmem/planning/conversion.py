"""Turn a model in another form into a folder with safetensors, once, in a process of its own.

Planning reads sizes and hashes of safetensors only. What holds pickled weights, a GGUF file or an adapter is
therefore converted before it is planned with. The process imports torch and carries out nothing that a file holds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from seqmem.core.cache import CARD, Card, SourceKind, cache_folder
from seqmem.core.errors import UsageError
from seqmem.core.process import start_module
from seqmem.core.sanitize import clean
from seqmem.planning.model_files import file_digest, first_line, pickled_files
from seqmem.record.versions import installed_version

_FORMAT = "1"
"""Raised when the conversion changes what it writes: models converted before are then converted again."""

_SMALL = ("*.json", "*.txt", "*.model", "*.jinja", "*.py")
"""Files of a model beside its weights: configuration, tokenizer, and code, which is copied and not run."""

_NOT_COPIED = ("*.index.json", "adapter_config.json", CARD)

_PACKAGES = ("seqmem", "torch", "transformers", "safetensors", "gguf", "peft")


@dataclass(frozen=True)
class Source:
    """A model in the form in which it was found.

    Attributes:
        name: for people and for the card: a file's or folder's own name, or a Hugging Face id.
        path: the GGUF file, or the folder.
        weights: files that hold the weights.
        beside: folders whose small files come along; a later one's wins.
        base: folder of the model that an adapter changes.
        base_card: its name and fingerprint.
    """

    kind: SourceKind
    name: str
    path: Path
    weights: Sequence[Path]
    revision: str | None = None
    beside: Sequence[Path] = ()
    base: Path | None = None
    base_card: Mapping[str, str] = field(default_factory=dict)

    def card(self) -> Card:
        """Return where the model comes from; reads its weights once."""
        files = {path.name: file_digest(path) for path in sorted(self.weights)}
        lines = "".join(f"{digest}  {name}\n" for name, digest in files.items())
        whole = next(iter(files.values())) if len(files) == 1 else hashlib.sha256(lines.encode()).hexdigest()
        card: Card = {
            "kind": self.kind,
            "name": self.name,
            "revision": self.revision,
            "sha256": whole,
            "files": files,
            "versions": {package: installed_version(package) for package in _PACKAGES},
        }
        if self.base_card:
            card["base"] = dict(self.base_card)
        return card


def in_safetensors(folder: Path, name: str, revision: str | None, where: str) -> Path:
    """Return the folder itself, or the converted copy of one whose weights are in files of PyTorch only.

    The copy lies in the cache under a hash of all that it was made of.

    Raises:
        UsageError: the files hold anything but tensors, or are damaged.
    """
    weights = pickled_files(folder, where)
    if not weights:
        return folder
    source = Source("pytorch", name, folder, weights, revision, beside=(folder,))
    parts = sorted({*weights, *small_files(folder)})
    content = "".join(f"{path.name} {file_digest(path)}\n" for path in parts)
    key = hashlib.sha256(f"{_FORMAT}\n{content}".encode()).hexdigest()[:16]
    target = cache_folder() / "converted" / key
    if not target.is_dir():
        convert(source, target, where)
    return target


def small_files(folder: Path) -> list[Path]:
    """Return the files that come along with the weights."""
    left_out = {path for pattern in _NOT_COPIED for path in folder.glob(pattern)}
    found = {path for pattern in _SMALL for path in folder.glob(pattern) if path.is_file()}
    return sorted(found - left_out)


def convert(
    source: Source,
    target: Path,
    where: str,
    *,
    replace: bool = False,
    check: Callable[[Path], object] = lambda made: None,
) -> None:
    """Write the source as a model folder with its card to `target`, whole or not at all.

    One that another process has written meanwhile is left as it is, unless it is to be replaced.

    Args:
        source: what is converted.
        target: the folder to be.
        where: the model, for messages.
        replace: put it in place of what is there.
        check: refuses the folder before it is put in its place.

    Raises:
        UsageError: the source cannot be converted, or there is no room for it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(target.parent / f".{target.name}.lock"),
            tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work,
        ):
            if target.exists() and not replace:
                return
            made = Path(work) / "made"
            made.mkdir()
            card = source.card()
            for folder in source.beside:
                for path in small_files(folder):
                    shutil.copyfile(path, made / path.name)
            if source.kind == "safetensors":
                _copy_weights(source, made)
            else:
                _run(source, made, where)
            (made / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
            check(made)
            if target.exists():
                target.rename(Path(work) / "before")
            made.rename(target)
    except OSError as error:
        raise UsageError(f"{where} could not be written to {target.parent}: {first_line(error)}") from None


def _copy_weights(source: Source, made: Path) -> None:
    index = source.path / "model.safetensors.index.json"
    for path in [*source.weights, *([index] if len(source.weights) > 1 else [])]:
        _say(f"{source.name}: copying {path.name}")
        shutil.copyfile(path, made / path.name)


def _run(source: Source, made: Path, where: str) -> None:
    """Have `seqmem.training.convert` write the weights, saying on standard error how far it is."""
    job = {
        "kind": source.kind,
        "path": str(source.path.absolute()),
        "weights": [str(path.absolute()) for path in source.weights],
        "base": None if source.base is None else str(source.base.absolute()),
        "target": str(made.absolute()),
    }
    _say(f"{source.name}: converting to safetensors, once")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = start_module("seqmem.training.convert", 1, log)
        assert process.stdin is not None and process.stdout is not None
        last: dict[str, Any] = {}
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                last = json.loads(line)
                if last["event"] == "progress":
                    _say(f"{source.name}: {last['message']}")
            code = process.wait()
        except BrokenPipeError:
            code = process.wait()
        finally:
            process.kill()
            process.communicate()
        if last.get("event") == "refused":
            raise UsageError(f"{where}: {last['reason']}")
        if last.get("event") != "finished":
            log.seek(0)
            said = [line.strip() for line in log.read().splitlines() if line.strip()][-1:]
            killed = " (killed; out of memory?)" if code in (-9, 137) else ""
            detail = f": {said[0]}" if said else ""
            raise UsageError(f"{where}: the process that converts it ended with code {code}{killed}{detail}")


def _say(text: str) -> None:
    print(clean(f"seqmem: {text}"), file=sys.stderr, flush=True)


def gguf_source(path: Path) -> Source:
    """Return a GGUF file as a source.

    Raises:
        UsageError: it is not such a file, or the package that reads them is missing.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UsageError(
                f"{str(path)!r} is not a GGUF file; give one, a model folder or a Hugging Face id"
            )
    if installed_version("gguf") == "not installed":
        raise UsageError(f"{str(path)!r}: reading GGUF needs the package gguf: pip install 'seqmem[gguf]'")
    return Source("gguf", path.name, path, (path,))
