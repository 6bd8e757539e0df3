"""Any causal language model, found and described without torch; `seqmem.training.model` loads it.

`resolve` runs in the parent process, where planning must stay light: it finds the folder, says what is
wrong with it in one line, and reads sizes from file headers. Weights are read from safetensors only; nothing
is ever unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from seqmem.core.choices import Attention, Precision
from seqmem.core.errors import UsageError, unknown
from seqmem.planning.model_files import (
    check_config,
    check_vocabulary,
    fingerprint,
    first_line,
    has_tokenizer,
    max_positions,
    parameter_shapes,
    read_config,
    weight_files,
)
from seqmem.plugin.registry import Registry

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "bf16-mixed": 4, "bfloat16": 2, "float16": 2}

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_DOWNLOADED = ("*.safetensors", "*.json", "*.txt", "*.model")
_NOT_DOWNLOADED = ("*/*", "consolidated*")  # copies of the same weights in other layouts


class ModelChoice(BaseModel):
    """A model as it was asked for: a name and how to load it; part of a run's recipe.

    Attributes:
        name: short name of a plugin's model, a local folder, or a Hugging Face id.
        revision: branch, tag or commit of a Hugging Face id.
        dtype: the precision: type of weights, gradients and optimizer state, or `bf16-mixed`.
        attention: the attention kernel.
        trust_remote_code: run Python code that comes with the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    revision: str | None = None
    dtype: Precision = "float32"
    attention: Attention = "sdpa"
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
        shapes: shape of every parameter by its name in the weight files, tied ones once.
        config: as config.json states it, the language part of a multi-modal one on top.
    """

    model: ResolvedModel
    folder: Path
    shapes: Mapping[str, tuple[int, ...]]
    config: Mapping[str, Any]


def resolve(choice: ModelChoice, registry: Registry) -> LocatedModel:
    """Find the model and check everything that can be checked without loading it; imports no torch.

    A short name wins over a folder of the same name (write `./tiny` for the folder), a folder over a
    Hugging Face id.

    Raises:
        UsageError: nothing of that name, or something in its files that cannot work.
    """
    if choice.attention == "flash_attention_2" and choice.dtype in ("float32", "bf16-mixed"):
        raise UsageError(
            "attention 'flash_attention_2' cannot run on weights in float32; "
            "use --precision bfloat16 (or float16), or --attention sdpa"
        )
    short_names = [entry.name for entry in registry.names("model")]
    folder = Path(choice.name).expanduser()
    commit = None
    if choice.name in short_names:
        located, shown = _plugin_folder(choice.name, registry), choice.name
    elif folder.is_dir():
        located, shown = folder, folder.resolve().name
    elif _looks_like_path(choice.name):
        problem = "is a file" if folder.is_file() else "does not exist"
        raise UsageError(
            f"model folder {choice.name!r} {problem}; give a folder with config.json, tokenizer and "
            f"safetensors weights, or a short name: {', '.join(short_names)}"
        )
    else:
        located, commit = _download(choice, short_names)
        shown = choice.name
    if choice.revision is not None and commit is None:
        raise UsageError(
            f"revision {choice.revision!r} only applies to a Hugging Face id, and {choice.name!r} is "
            f"{'a short name' if choice.name in short_names else 'a local folder'}; leave --revision out"
        )
    return _describe(located, choice, shown, commit)


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


def _download(choice: ModelChoice, short_names: Sequence[str]) -> tuple[Path, str]:
    """Fetch a Hugging Face id into its cache, or find it there; the folder and the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]

    patterns = [*_DOWNLOADED, "*.py"] if choice.trust_remote_code else [*_DOWNLOADED]
    name = choice.name
    try:
        folder = Path(
            snapshot_download(
                name, revision=choice.revision, allow_patterns=patterns, ignore_patterns=[*_NOT_DOWNLOADED]
            )
        )
    except RevisionNotFoundError:
        raise UsageError(
            f"model {name!r} has no revision {choice.revision!r} on Hugging Face; "
            "give a branch, tag or commit that its page lists"
        ) from None
    except GatedRepoError:
        raise UsageError(
            f"model {name!r} is gated on Hugging Face; accept its terms on its page, then run: hf auth login"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise _not_found(name, short_names, "Hugging Face shows no such model") from None
    except LocalEntryNotFoundError:
        reason = "Hugging Face cannot be reached while its cache does not hold it"
        raise _not_found(name, short_names, reason) from None
    except (OSError, TransportError) as error:
        raise UsageError(f"model {name!r} could not be downloaded: {first_line(error)}") from None
    # The cache keeps each snapshot in a folder named after its commit.
    return folder, folder.name


def _not_found(name: str, short_names: Sequence[str], reason: str) -> UsageError:
    if "/" in name:
        return UsageError(
            f"model {name!r} is not a local folder, and {reason}; "
            f"give a folder that is here or a short name: {', '.join(short_names)}"
        )
    return UsageError(
        f"{unknown('model', name, short_names)} A folder or a Hugging Face id works too, "
        f"but {name!r} is not a local folder, and {reason}."
    )


def _describe(folder: Path, choice: ModelChoice, shown: str, commit: str | None) -> LocatedModel:
    """Check the folder's files and read off what planning needs to know."""
    where = f"model {choice.name!r}"
    if (folder / "adapter_config.json").is_file():
        raise UsageError(f"{where} holds a PEFT adapter; merge it into its base model and save that")
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    if not has_tokenizer(folder, choice.trust_remote_code):
        missing.append("tokenizer (tokenizer.json)")
    weights = weight_files(folder, where)
    if not weights:
        missing.append("weights (model.safetensors)")
    if missing:
        pickled = not weights and any(any(folder.glob(pattern)) for pattern in _PICKLED)
        hint = (
            "; its pickled weights are never opened, because unpickling can run any code: give a revision "
            "that holds safetensors, or convert it once with save_pretrained"
            if pickled or (commit is not None and not weights)
            else ""
        )
        raise UsageError(f"{where} has no {' and no '.join(missing)}{hint}")

    config = read_config(folder / "config.json", where)
    check_config(config, where)
    check_vocabulary(folder, config, where)
    shapes = parameter_shapes(weights, config, where)
    model = ResolvedModel(
        name=shown,
        revision=commit,
        fingerprint=fingerprint(folder, weights, choice.trust_remote_code),
        parameters=sum(map(math.prod, shapes.values())),
        max_positions=max_positions(folder, config),
        architecture=str(config["model_type"]),
    )
    return LocatedModel(model, folder, shapes, config)
