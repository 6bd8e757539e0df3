"""Models that are added on this machine under a name, and removed again."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from seqmem.core.cache import Card, added_models, is_model_name, model_folder, read_card
from seqmem.core.errors import UsageError, unknown
from seqmem.planning.conversion import Source, convert, gguf_source
from seqmem.planning.model_files import first_line, has_tokenizer, pickled_files, weight_files
from seqmem.planning.models import FoundModel, LocatedModel, ModelChoice, describe, find, resolve
from seqmem.plugin.registry import ADDED, Registry


def add_model(
    source: str,
    name: str,
    registry: Registry,
    *,
    base: str | None = None,
    revision: str | None = None,
    force: bool = False,
) -> LocatedModel:
    """Convert or copy a model into the cache, so that `--model NAME` means it.

    Args:
        source: a GGUF file, a folder or Hugging Face id with safetensors, with files of PyTorch, or with an adapter.
        name: what it is called from now on.
        registry: whose models' names are taken.
        base: model that an adapter is merged into; by default the one the adapter names.
        revision: of a Hugging Face id.
        force: replace a model that was added under this name.

    Raises:
        UsageError: the name is taken, or the source is not a causal language model that can be read.
    """
    _check_name(name, registry, force)
    found = _source(source, revision, registry, base)
    choice = ModelChoice(name=name, attention="auto")
    convert(
        found,
        model_folder(name),
        f"model {source!r}",
        replace=force,
        check=lambda made: describe(FoundModel(made, name, None), choice),
    )
    return describe(FoundModel(model_folder(name), name, None), choice)


def remove_model(name: str) -> Path:
    """Delete a model that was added on this machine; return where it was.

    Raises:
        UsageError: none was added under this name.
    """
    names = [added for added, _ in added_models()]
    if name not in names:
        raise UsageError(unknown("added model", name, names))
    folder = model_folder(name)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as work:
        folder.rename(Path(work) / "removed")
    return folder


def card_of(name: str) -> Card:
    """Return the card of an added model."""
    card = read_card(model_folder(name))
    assert card is not None
    return card


def _check_name(name: str, registry: Registry, force: bool) -> None:
    if not is_model_name(name):
        raise UsageError(
            f"--name {name!r} is not allowed: up to 64 letters, digits, dots, - and _, the first a letter or digit"
        )
    owners = [
        listed for listed in registry.names("model") if listed.name == name and listed.distribution != ADDED
    ]
    if owners:
        raise UsageError(f"--name {name}: {owners[0].distribution} has a model of that name; take another")
    folder = model_folder(name)
    if not folder.exists():
        return
    card = read_card(folder)
    if card is None:
        raise UsageError(
            f"--name {name}: {folder} is there and was not added by this verb; take another name"
        )
    if not force:
        raise UsageError(
            f"model {name!r} is there already, from {card['name']} ({card['kind']}); replace it with --force, "
            f"take another --name, or remove it: seqmem model remove {name}"
        )


def _source(source: str, revision: str | None, registry: Registry, base: str | None) -> Source:
    path = Path(source).expanduser()
    short_names = [listed.name for listed in registry.names("model")]
    if path.is_file() and source not in short_names:
        _only_for("an adapter", base, "--base")
        _only_for("a Hugging Face id", revision, "--revision")
        return gguf_source(path)
    found = find(source, revision, registry)
    folder, where = found.folder, f"model {source!r}"
    if (folder / "adapter_config.json").is_file():
        return _adapter(found, where, base, registry)
    _only_for("an adapter", base, "--base")
    weights = weight_files(folder, where)
    if weights:
        return Source("safetensors", found.shown, folder, weights, found.commit, beside=(folder,))
    weights = pickled_files(folder, where)
    if not weights:
        describe(found, ModelChoice(name=source))  # says what is missing
    return Source("pytorch", found.shown, folder, weights, found.commit, beside=(folder,))


def _only_for(what: str, given: str | None, option: str) -> None:
    if given is not None:
        raise UsageError(f"{option} only applies to {what}; leave it out")


def _adapter(found: FoundModel, where: str, base: str | None, registry: Registry) -> Source:
    folder, config = found.folder, found.folder / "adapter_config.json"
    weights = [
        path
        for path in (folder / "adapter_model.safetensors", folder / "adapter_model.bin")
        if path.is_file()
    ]
    if not weights:
        raise UsageError(f"{where} is an adapter without adapter_model.safetensors or adapter_model.bin")
    try:
        settings: Any = json.loads(config.read_text(encoding="utf-8"))
        named = base or settings.get("base_model_name_or_path")
        pinned = None if base else settings.get("revision")
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"{where} has a damaged {config.name}: {first_line(error)}") from None
    if not isinstance(named, str) or not named:
        raise UsageError(f"{where} is an adapter that names no base model; give it with --base")
    local = Path(named).expanduser().is_dir() or named in {listed.name for listed in registry.names("model")}
    try:
        located = resolve(
            ModelChoice(
                name=named,
                revision=pinned if isinstance(pinned, str) and not local else None,
                attention="auto",
            ),
            registry,
        )
    except UsageError as error:
        raise UsageError(f"{where}: the base of its adapter: {error}; name another with --base") from None
    own = (folder,) if has_tokenizer(folder, trust_remote_code=False) else ()
    return Source(
        "peft",
        found.shown,
        folder,
        (weights[0], config),
        found.commit,
        beside=(located.folder, *own),
        base=located.folder,
        base_card={"name": located.model.name, "fingerprint": located.model.fingerprint},
    )
