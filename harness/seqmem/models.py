"""Any causal language model: found and described without torch, loaded with it.

`resolve` runs in the parent process, where planning must stay light: it finds the folder, says what is
wrong with it in one line, and reads sizes from file headers. `load_model` and `load_tokenizer` run where
training runs. Weights are read from safetensors only; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from seqmem.errors import UsageError, unknown

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16", "float16"]
Attention = Literal["eager", "sdpa", "flash_attention_2"]

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}

ASSUMED_POSITIONS = 2048
"""Longest row for a model whose files state no limit (ALiBi, recurrent): careful, and far more than a
scenario's row needs."""

_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_DOWNLOADED = ("*.safetensors", "*.json", "*.txt", "*.model")
_NOT_DOWNLOADED = ("*/*", "consolidated*")  # copies of the same weights in other layouts
_NOT_CAUSAL = (
    "ForMaskedLM",
    "ForPreTraining",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)


class ModelChoice(BaseModel):
    """What was asked for: a name and how to load it; part of a run's recipe.

    Attributes:
        name: short name of a plugin's model, a local folder, or a Hugging Face id.
        revision: branch, tag or commit of a Hugging Face id.
        dtype: type of weights, gradients and optimizer state.
        attention: the attention kernel.
        trust_remote_code: run Python code that comes with the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    revision: str | None = None
    dtype: Dtype = "float32"
    attention: Attention = "sdpa"
    trust_remote_code: bool = False


class ResolvedModel(BaseModel):
    """What was found, as it is written into a record; holds no path of this machine.

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


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class ModelRegistry(Protocol):
    """The two registry calls needed here."""

    def load(self, kind: Literal["model"], name: str, /) -> Any:
        """The spec of that name, a `ModelSpec`."""

    def names(self, kind: Literal["model"], /) -> Sequence[_Named]:
        """What is on offer, without loading it."""


def resolve(choice: ModelChoice, registry: ModelRegistry) -> LocatedModel:
    """Find the model and check everything that can be checked without loading it; imports no torch.

    A short name wins over a folder of the same name (write `./tiny` for the folder), a folder over a
    Hugging Face id.

    Raises:
        UsageError: nothing of that name, or something in its files that cannot work.
    """
    if choice.attention == "flash_attention_2" and choice.dtype == "float32":
        raise UsageError(
            "attention 'flash_attention_2' cannot run in float32; "
            "use --dtype bfloat16 (or float16), or --attention sdpa"
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


def _plugin_folder(name: str, registry: ModelRegistry) -> Path:
    spec = registry.load("model", name)
    folder: Path | None = spec.locate()
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
        raise UsageError(f"model {name!r} could not be downloaded: {_first_line(error)}") from None
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
    if not _has_tokenizer(folder, choice.trust_remote_code):
        missing.append("tokenizer (tokenizer.json)")
    weights = _weight_files(folder, where)
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

    config = _config(folder / "config.json", where)
    _check_config(config, where)
    _check_vocabulary(folder, config, where)
    shapes = _parameter_shapes(weights, config, where)
    model = ResolvedModel(
        name=shown,
        revision=commit,
        fingerprint=_fingerprint(folder, weights, choice.trust_remote_code),
        parameters=sum(map(math.prod, shapes.values())),
        max_positions=_max_positions(folder, config),
        architecture=str(config["model_type"]),
    )
    return LocatedModel(model, folder, shapes, config)


def _has_tokenizer(folder: Path, trust_remote_code: bool) -> bool:
    def there(*names: str) -> bool:
        return all((folder / name).is_file() for name in names)

    return (
        there("tokenizer.json")
        or there("vocab.json", "merges.txt")
        or there("vocab.txt")
        or any(folder.glob("*.model"))
        or (trust_remote_code and there("tokenizer_config.json"))
    )


def _weight_files(folder: Path, where: str) -> list[Path]:
    """The files transformers would load: one file, else the parts its index names."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    index = folder / _WEIGHTS_INDEX
    if not index.is_file():
        return []
    parts = sorted(set(_json(index, where).get("weight_map", {}).values()))
    absent = [part for part in parts if not (folder / part).is_file()]
    if absent:
        raise UsageError(
            f"{where} is incomplete: {absent[0]} is missing ({len(absent)} of {len(parts)} weight files); "
            "download it again"
        )
    return [folder / part for part in parts]


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{where} has a damaged {path.name}: {_first_line(error)}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{where} has a damaged {path.name}: not a JSON object")
    return content


def _config(path: Path, where: str) -> dict[str, Any]:
    """The config as read, with the language part of a multi-modal one on top."""
    config = _json(path, where)
    text = config.get("text_config")
    return {**text, **config} if isinstance(text, dict) else config


def _check_config(config: Mapping[str, Any], where: str) -> None:
    if not config.get("model_type"):
        raise UsageError(f"{where} has a config.json without model_type, so its architecture is unknown")
    architectures = config.get("architectures") or []
    if config.get("is_encoder_decoder") or any(str(name).endswith(_NOT_CAUSAL) for name in architectures):
        kind = architectures[0] if architectures else "an encoder-decoder"
        raise UsageError(
            f"{where} is {kind}, not a causal language model; seqmem scores answers left to right, "
            "so give one that AutoModelForCausalLM can load"
        )
    if config.get("quantization_config"):
        raise UsageError(
            f"{where} holds quantized weights, which cannot be trained; give the full-precision one"
        )


def _check_vocabulary(folder: Path, config: Mapping[str, Any], where: str) -> None:
    """Refuse a tokenizer whose ids lie beyond the embedding: training would fail on an index."""
    path, rows = folder / "tokenizer.json", config.get("vocab_size")
    if not path.is_file():
        return
    from tokenizers import Tokenizer

    try:
        vocabulary = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    except Exception as error:  # tokenizers raises bare Exception
        raise UsageError(f"{where} has a damaged tokenizer.json: {_first_line(error)}") from None
    largest = max(vocabulary.values(), default=-1)
    if largest < 0:
        raise UsageError(f"{where} has a tokenizer.json without any token")
    if isinstance(rows, int) and largest >= rows:
        raise UsageError(
            f"{where} has a tokenizer with ids up to {largest} but only {rows} embedding rows (vocab_size); "
            "the two do not belong together"
        )


def _fingerprint(folder: Path, weights: Sequence[Path], trust_remote_code: bool) -> str:
    names = {"config.json", *_TOKENIZER_FILES, *(path.name for path in folder.glob("*.model"))}
    if trust_remote_code:
        names |= {path.name for path in folder.glob("*.py")}
    files = [*weights, *(folder / name for name in names if (folder / name).is_file())]
    total = hashlib.sha256()
    for path in sorted(files):
        state = path.stat()
        total.update(f"{path.name} {_file_digest(path, state.st_size, state.st_mtime_ns)}\n".encode())
    return total.hexdigest()


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, once per state of it: a suite plans every part before it runs any."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parameter_shapes(
    weights: Sequence[Path], config: Mapping[str, Any], where: str
) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor that is trained, from the headers of the weight files alone."""
    from safetensors import SafetensorError, safe_open

    tied_head = {"lm_head.weight", "embed_out.weight"} if config.get("tie_word_embeddings") else set()
    shapes = {}
    for path in weights:
        try:
            with safe_open(str(path), framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dict, it has no iterator
                    part = tensors.get_slice(name)
                    shape = tuple(part.get_shape())
                    if name not in tied_head and not _is_buffer(name, shape, part.get_dtype()):
                        shapes[name] = shape
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{where} has a damaged {path.name}: {_first_line(error)}") from None
    if not shapes:
        raise UsageError(f"{where} has weight files without any parameter")
    return shapes


def _is_buffer(name: str, shape: Sequence[int], dtype: str) -> bool:
    """Constants that older checkpoints store beside parameters: causal masks and rotary frequencies."""
    last = name.rpartition(".")[2]
    return (
        not dtype.startswith(("F", "BF"))
        or last in ("masked_bias", "inv_freq")
        or (last == "bias" and len(shape) > 2)
    )


def _max_positions(folder: Path, config: Mapping[str, Any]) -> int:
    stated = _number(config, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
    if stated is not None:
        return stated
    path = folder / "tokenizer_config.json"
    limit = _json(path, "the model").get("model_max_length") if path.is_file() else None
    # Tokenizers without a limit store an astronomically large one.
    return int(limit) if isinstance(limit, int | float) and 0 < limit < 1e7 else ASSUMED_POSITIONS


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    values = (config.get(name) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def load_model(
    folder: Path,
    choice: ModelChoice,
    device: str | torch.device = "cpu",
    *,
    random_weights: int | None = None,
) -> PreTrainedModel:
    """The model in `choice.dtype` on `device`, in evaluation mode as transformers returns it.

    With `random_weights`, a seed, the architecture alone is taken and its weights are drawn anew.

    Raises:
        UsageError: the architecture or kernel is not available, weights are missing from the files
            (transformers would silently draw random ones), or the model sees later tokens.
    """
    import torch
    from transformers import AutoModelForCausalLM

    where = f"model {choice.name!r}"
    if random_weights is not None:
        return _untrained(folder, choice, random_weights).to(device)
    with _quiet():
        try:
            model, loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, choice.dtype),
                attn_implementation=choice.attention,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=choice.trust_remote_code,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            hint = ""
            if "trust_remote_code" in str(error):
                hint = "; it brings its own Python code, which runs only with --trust-remote-code"
            elif choice.attention != "eager" and "attention" in str(error).lower():
                other = "eager" if choice.attention == "sdpa" else "sdpa"
                hint = f"; try --attention {other}"
            raise UsageError(f"{where} could not be loaded: {_first_line(error)}{hint}") from error
    absent = sorted({*loaded["missing_keys"], *(key[0] for key in loaded["mismatched_keys"])})
    if absent:
        raise UsageError(
            f"{where} lacks {len(absent)} of its weights, first {absent[0]!r}; "
            "they would be random, so the model is not loaded"
        )
    model.to(device)
    _check_causal(model, where)
    return model


def _untrained(folder: Path, choice: ModelChoice, seed: int) -> PreTrainedModel:
    """The architecture of `folder` with the weights its own initialisation draws; drawn on the CPU."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = choice.trust_remote_code
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            dtype=getattr(torch, choice.dtype),
            attn_implementation=choice.attention,
            trust_remote_code=trust,
        )
    model.eval()
    _check_causal(model, f"model {choice.name!r}")
    return model


def _check_causal(model: PreTrainedModel, where: str) -> None:
    """Refuse a model whose outputs depend on later tokens: it would read its answers off the input."""
    import torch

    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    rows = torch.arange(6, device=model.device).repeat(2, 1) % vocabulary
    rows[1, -1] = vocabulary - 1
    training = model.training
    model.eval()
    with _quiet(), torch.no_grad():
        output = model(input_ids=rows, attention_mask=torch.ones_like(rows), use_cache=False)
        logits = output.logits[:, :-1].float()
    model.train(training)
    # Relative to the spread of the outputs: kernels may round the two rows differently.
    if (logits[0] - logits[1]).abs().max() > 0.05 * logits[0].std():
        raise UsageError(
            f"{where} reads later tokens while predicting earlier ones; give a causal language model"
        )


def check_saved(model: PreTrainedModel) -> None:
    """Refuse a model whose modules are not those that its configuration makes: nobody could load what it leaves.

    Raises:
        UsageError: it has others.
    """
    import torch

    with torch.device("meta"):
        as_loaded = type(model)(model.config).state_dict().keys()
    strange = sorted(model.state_dict().keys() ^ as_loaded)
    if strange:
        raise UsageError(
            f"--save-models: the strategy changes the model to what transformers cannot load back ({strange[0]}); "
            "leave the option out"
        )


def save_model(model: PreTrainedModel, folder: Path, source: Path, choice: ModelChoice) -> None:
    """The model as it stands, and the tokenizer of `source`, in the files that transformers reads."""
    with _quiet():
        model.save_pretrained(folder)
    load_tokenizer(source, choice).save_pretrained(folder)


def load_tokenizer(folder: Path, choice: ModelChoice) -> PreTrainedTokenizerBase:
    """The tokenizer that comes with the model.

    Raises:
        UsageError: transformers cannot build it from the folder's files.
    """
    from transformers import AutoTokenizer

    with _quiet():
        try:
            return AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=choice.trust_remote_code
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise UsageError(
                f"the tokenizer of model {choice.name!r} could not be loaded: {_first_line(error)}"
            ) from error


def vocabulary(folder: Path) -> int | None:
    """The model knows the token ids below this number; None where its config does not say."""
    return _number(_config(folder / "config.json", f"model {folder.name!r}"), "vocab_size")


def encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """Text to token ids: the tokenizer's own tokens in front (such as a BOS), none after the text.

    Some tokenizers also append an end token. It is left off: a prompt that ends in one says that nothing
    follows, and the answer would never be predicted from it.

    Raises:
        UsageError: the tokenizer rewrites the text itself when it adds its tokens.
    """

    def plain(text: str, special: bool) -> list[int]:
        return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    sample = "a b"
    bare, dressed = plain(sample, False), plain(sample, True)
    starts = [i for i in range(len(dressed) - len(bare) + 1) if dressed[i : i + len(bare)] == bare]
    if not bare or not starts:
        raise UsageError("the model's tokenizer does not encode plain text with its own tokens around it")
    front = dressed[: starts[0]]

    def encode(text: str) -> list[int]:
        return front + plain(text, False)

    return encode


def decoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[int]], str]:
    """Token ids to text as it stands, special tokens left out."""
    return lambda ids: str(
        tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, reports or progress bars of transformers; settings are put back afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
