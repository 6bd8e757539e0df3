"""Any causal language model, found and described without torch; `seqmem.training.model` loads it.

`resolve` runs in the parent process, where planning must stay light: it finds the folder, says what is
wrong with it in one line, and reads sizes from file headers. Weights are read from safetensors only; a model that
holds files of PyTorch is converted first (`seqmem.planning.conversion`).
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from seqmem.core.choices import Attention, AttentionChoice, Precision
from seqmem.core.errors import UsageError
from seqmem.planning.architecture import choose_attention
from seqmem.planning.conversion import in_safetensors
from seqmem.planning.hub import download
from seqmem.planning.model_files import (
    check_config,
    check_padding,
    check_vocabulary,
    file_digests,
    fingerprint,
    has_tokenizer,
    max_positions,
    parameter_shapes,
    pickled_files,
    read_config,
    weight_files,
)
from seqmem.plugin.registry import Registry

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "bf16-mixed": 4, "bfloat16": 2, "float16": 2}

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class ModelChoice(BaseModel):
    """A model as it was asked for: a name and how to load it; part of a run's recipe.

    Attributes:
        name: short name of a plugin's model, a local folder, or a Hugging Face id.
        revision: branch, tag or commit of a Hugging Face id.
        dtype: the precision: type of weights, gradients and optimizer state, or `bf16-mixed`.
        attention: the attention kernel; ``auto`` leaves it to `resolve`.
        trust_remote_code: run Python code that comes with the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    revision: str | None = None
    dtype: Precision = "float32"
    attention: AttentionChoice = "sdpa"
    trust_remote_code: bool = False


class ResolvedModel(BaseModel):
    """A model as it was found and is written into a record; holds no path of this machine.

    Attributes:
        name: short name or Hugging Face id; for a local folder the folder's own name.
        revision: commit of a Hugging Face id, else None.
        fingerprint: sha256 over the names and contents of weights, config and tokenizer files.
        parameters: trainable numbers, tied ones counted once, read from the weights' headers.
        max_positions: longest row the model can read, in tokens.
        architecture: the config's `model_type`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    revision: str | None
    fingerprint: str
    parameters: int
    max_positions: int
    architecture: str


@dataclass(frozen=True)
class LocatedModel:
    """A resolved model, where it lies on this machine, and its layout; none of this is in recipes.

    Attributes:
        files: SHA-256 of each file that the fingerprint covers, by name.
        shapes: shape of every parameter by its name in the weight files, tied ones once.
        config: as config.json states it, the language part of a multi-modal one on top.
        attention: the kernel that is taken.
        notes: lines about what was found and made to work.
    """

    model: ResolvedModel
    folder: Path
    files: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    config: Mapping[str, Any]
    attention: Attention
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundModel:
    """The folder behind a name.

    Attributes:
        shown: the name in tables and records; no path.
        commit: of a Hugging Face id, else None.
    """

    folder: Path
    shown: str
    commit: str | None


def resolve(choice: ModelChoice, registry: Registry) -> LocatedModel:
    """Find the model and check everything that can be checked without loading it; imports no torch.

    Raises:
        UsageError: nothing of that name, or something in its files that cannot work.
    """
    if choice.attention == "flash_attention_2" and choice.dtype in ("float32", "bf16-mixed"):
        raise UsageError(
            "attention 'flash_attention_2' cannot run on weights in float32; "
            "use --precision bfloat16 (or float16), or --attention sdpa"
        )
    return describe(find(choice.name, choice.revision, registry, code=choice.trust_remote_code), choice)


def find(name: str, revision: str | None, registry: Registry, *, code: bool = False) -> FoundModel:
    """Find the folder of a model.

    A short name wins over a folder of the same name (write `./tiny` for the folder), a folder over a
    Hugging Face id.

    Args:
        name: a short name, a folder or a Hugging Face id.
        revision: of a Hugging Face id.
        registry: where short names are found.
        code: fetch the code that comes with a Hugging Face id too.

    Raises:
        UsageError: nothing of that name.
    """
    short_names = [entry.name for entry in registry.names("model")]
    folder = Path(name).expanduser()
    if name not in short_names and not folder.is_dir():
        if _looks_like_path(name) or folder.is_file():
            if folder.suffix == ".gguf" and folder.is_file():
                raise UsageError(f"model {name!r} is a GGUF file; {_adding(name)}")
            problem = "is a file" if folder.is_file() else "does not exist"
            raise UsageError(
                f"model folder {name!r} {problem}; give a folder with config.json, tokenizer and "
                f"weights, or a short name: {', '.join(short_names)}"
            )
        located, commit = download(name, revision, short_names, code=code)
        return FoundModel(located, name, commit)
    if revision is not None:
        raise UsageError(
            f"revision {revision!r} only applies to a Hugging Face id, and {name!r} is "
            f"{'a short name' if name in short_names else 'a local folder'}; leave --revision out"
        )
    if name in short_names:
        return FoundModel(_plugin_folder(name, registry), name, None)
    return FoundModel(folder, folder.resolve().name, None)


def _adding(name: str) -> str:
    return f"convert it once with: seqmem model add {shlex.quote(name)} --name NAME, then give --model NAME"


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or name.endswith("/")


def _plugin_folder(name: str, registry: Registry) -> Path:
    spec = registry.load("model", name)
    folder = spec.locate()
    if folder is None:
        fix = (
            f"make it with: seqmem pretrain {name}"
            if spec.pretrain
            else "its plugin does not say how to make it"
        )
        raise UsageError(f"model {name!r} is not on this machine yet; {fix}")
    return folder


def describe(found: FoundModel, choice: ModelChoice) -> LocatedModel:
    """Check the folder's files and read off what planning needs to know.

    Raises:
        UsageError: something in the files cannot work.
    """
    folder, where = found.folder, f"model {choice.name!r}"
    if (folder / "adapter_config.json").is_file():
        raise UsageError(f"{where} holds a PEFT adapter; {_adding(choice.name)}")
    weights = weight_files(folder, where)
    pickled = [] if weights else pickled_files(folder, where)
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    if not has_tokenizer(folder, choice.trust_remote_code):
        missing.append("tokenizer (tokenizer.json)")
    if not weights and not pickled:
        missing.append("weights (model.safetensors or pytorch_model.bin)")
    if missing:
        strange = [] if weights or pickled else [p.name for one in _PICKLED for p in folder.glob(one)]
        hint = (
            f"; of {strange[0]} nobody knows what it holds: save the model with save_pretrained"
            if strange
            else ""
        )
        raise UsageError(f"{where} has no {' and no '.join(missing)}{hint}")

    config = read_config(folder / "config.json", where)
    check_config(config, where)
    notes = [*check_padding(config, where), *check_vocabulary(folder, config, where)]
    attention, said = choose_attention(choice.attention, config, where)
    if pickled:
        folder = in_safetensors(folder, found.shown, found.commit, where)
        weights = weight_files(folder, where)
    shapes = parameter_shapes(weights, config, where)
    files = file_digests(folder, weights, choice.trust_remote_code)
    model = ResolvedModel(
        name=found.shown,
        revision=found.commit,
        fingerprint=fingerprint(files),
        parameters=sum(map(math.prod, shapes.values())),
        max_positions=max_positions(folder, config),
        architecture=str(config["model_type"]),
    )
    return LocatedModel(model, folder, files, shapes, config, attention, (*notes, *said))
