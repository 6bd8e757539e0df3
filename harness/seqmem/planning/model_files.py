"""The files of a model folder: config, vocabulary, shapes and fingerprint, without torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from seqmem.core.errors import UsageError
from seqmem.core.sanitize import clean
from seqmem.planning.architecture import ties_embeddings
from seqmem.record.files import file_sha256

ASSUMED_POSITIONS = 2048
"""Longest row for a model whose files state no limit (ALiBi, recurrent): careful, and far more than a
scenario's row needs."""

_BLOCK = 1 << 24
"""Bytes of a weight file that are compared at a time."""

WEIGHTS = "model.safetensors"

PICKLED = "pytorch_model.bin"

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)

_TWO_WORDS = re.compile(r"[^\W\d_] +[^\W\d_]")
_BLANKS = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n", "ĉ": "\t", "č": "\r"})
"""White space as it stands in vocabularies."""

_NOT_CAUSAL = (
    "ForMaskedLM",
    "ForPreTraining",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)


def has_tokenizer(folder: Path, trust_remote_code: bool) -> bool:
    """Say whether the folder holds files that a tokenizer can be made of."""

    def there(*names: str) -> bool:
        return all((folder / name).is_file() for name in names)

    return (
        there("tokenizer.json")
        or there("vocab.json", "merges.txt")
        or there("vocab.txt")
        or any(folder.glob("*.model"))
        or (trust_remote_code and there("tokenizer_config.json"))
    )


def weight_files(folder: Path, where: str) -> list[Path]:
    """Return the files transformers would load: one file, else the parts its index names."""
    return _parts(folder, WEIGHTS, where)


def pickled_files(folder: Path, where: str) -> list[Path]:
    """Return the files of PyTorch that hold the weights: one file, else the parts its index names."""
    return _parts(folder, PICKLED, where)


def _parts(folder: Path, name: str, where: str) -> list[Path]:
    if (folder / name).is_file():
        return [folder / name]
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return []
    named = _json(index, where).get("weight_map")
    parts = sorted({str(part) for part in named.values()}) if isinstance(named, dict) else []
    if not parts or any(Path(part).name != part for part in parts):
        raise UsageError(f"{where} has a damaged {index.name}: its weight_map must name files beside it")
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
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} has a damaged {path.name}: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{where} has a damaged {path.name}: not a JSON object")
    return content


def read_config(path: Path, where: str) -> dict[str, Any]:
    """Return the config as read, with the language part of a multi-modal one on top."""
    config = _json(path, where)
    text = config.get("text_config")
    return {**text, **config} if isinstance(text, dict) else config


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse what is not a causal language model in full precision."""
    if not config.get("model_type"):
        raise UsageError(f"{where} has a config.json without model_type, so its architecture is unknown")
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise UsageError(f"{where} has a damaged config.json: architectures must be a list of names")
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


def check_vocabulary(folder: Path, config: Mapping[str, Any], where: str) -> list[str]:
    """Refuse a tokenizer whose own ids lie beyond the embedding: training would fail on an index.

    Returns:
        A line for tokens that span words, and one for tokens that were added without a row. Ordinary text never makes
        these, and a text that holds one is refused where it is encoded.
    """
    path, rows = folder / "tokenizer.json", config.get("vocab_size")
    if not path.is_file():
        return []
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        framed = tokenizer.encode("a b").ids
    except Exception as error:  # tokenizers raises bare Exception
        raise UsageError(f"{where} has a damaged tokenizer.json: {first_line(error)}") from None
    if not vocabulary:
        raise UsageError(f"{where} has a tokenizer.json without any token")
    if not isinstance(rows, int):
        return spanning_notes(vocabulary, where)
    beyond = sorted((index, token) for token, index in vocabulary.items() if index >= rows)
    if any(token not in added or index in framed for index, token in beyond):
        raise UsageError(
            f"{where} has a tokenizer with ids up to {beyond[-1][0]} but only {rows} embedding rows (vocab_size); "
            "the two do not belong together"
        )
    notes = spanning_notes(vocabulary, where)
    if not beyond:
        return notes
    return [
        *notes,
        f"{where}: {len(beyond)} of its tokenizer's added tokens have no row among the {rows} of the embedding, first "
        f"{clean(beyond[0][1])!r}: a text that holds one is refused",
    ]


def check_padding(config: Mapping[str, Any], where: str) -> list[str]:
    """Return a line for a padding id without an embedding row, with which torch would not make the embedding."""
    if not pads_beyond(config):
        return []
    return [
        f"{where}: pad_token_id {config['pad_token_id']} lies beyond the {config['vocab_size']} rows of its embedding; "
        "it is left out, for seqmem pads with nothing of the model's"
    ]


def pads_beyond(config: Mapping[str, Any]) -> bool:
    """Return whether the padding id has no embedding row."""
    pad, rows = config.get("pad_token_id"), config.get("vocab_size")
    return isinstance(pad, int) and isinstance(rows, int) and pad >= rows


def spanning_notes(vocabulary: Iterable[str], where: str) -> list[str]:
    """Return a line about tokens that span words, such as " of the"; none where a tokenizer has none."""
    words = (token.translate(_BLANKS).strip() for token in vocabulary)
    spanning = sorted({word for word in words if _TWO_WORDS.search(word)}, key=lambda word: (len(word), word))
    if not spanning:
        return []
    return [
        f"{where}: its tokenizer has {len(spanning):,} tokens that span words, such as {clean(spanning[0])!r}: where "
        "one reaches from a prompt into its answer, or from the answer on, the answer cannot be told and the run is "
        "refused; take a model whose tokens end at blanks"
    ]


def file_digests(folder: Path, weights: Sequence[Path], trust_remote_code: bool) -> dict[str, str]:
    """Return the SHA-256 of every file of a model that its results depend on: weights, config and tokenizer."""
    names = {"config.json", *_TOKENIZER_FILES, *(path.name for path in folder.glob("*.model"))}
    if trust_remote_code:
        names |= {path.name for path in folder.glob("*.py")}
    files = [*weights, *(folder / name for name in names if (folder / name).is_file())]
    return {path.name: file_digest(path) for path in sorted(files)}


def fingerprint(digests: Mapping[str, str]) -> str:
    """Return a hash over what `file_digests` gives: the model by content."""
    lines = "".join(f"{name} {digest}\n" for name, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def check_unchanged(folder: Path, planned: Mapping[str, str], where: str, trust_remote_code: bool) -> None:
    """Accept a model whose files are those that it was planned with, as `file_digests` gave them.

    Raises:
        UsageError: one was changed, taken away or added since.
    """
    now = file_digests(folder, weight_files(folder, where), trust_remote_code)
    for name in sorted(now.keys() | planned.keys()):
        if now.get(name) != planned.get(name):
            what = "is new" if name not in planned else "is gone" if name not in now else "was changed"
            raise UsageError(
                f"{where}: {folder / name} {what} since this run was planned; plan it anew with the files as they are"
            )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read once per state of it: a suite plans every part before it runs any."""
    state = path.stat()
    return _digest(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, inode: int, size: int, changed: int) -> str:
    return file_sha256(path)


def parameter_shapes(
    weights: Sequence[Path], config: Mapping[str, Any], where: str
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor that is trained, from the headers of the weight files.

    A head is left out where the loaded model shares its embedding's weights: the model ties the two, both are stored,
    and they are equal. Of two that differ transformers makes two, and of one alone both.
    """
    from safetensors import SafetensorError, safe_open

    shapes, files = {}, {}
    for path in weights:
        try:
            with safe_open(str(path), framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dict, it has no iterator
                    part = tensors.get_slice(name)
                    shape = tuple(part.get_shape())
                    if not _is_buffer(name, shape, part.get_dtype()):
                        shapes[name], files[name] = shape, path
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{where} has a damaged {path.name}: {first_line(error)}") from None
    if not shapes:
        raise UsageError(f"{where} has weight files without any parameter")
    for head in [name for name in ("lm_head.weight", "embed_out.weight") if name in shapes]:
        embeddings = [name for name in shapes if _is_embedding(name) and shapes[name] == shapes[head]]
        if embeddings and ties_embeddings(config) and _same_content(head, embeddings[0], files):
            del shapes[head]
    return shapes


def _is_embedding(name: str) -> bool:
    """Return whether a tensor is the embedding of tokens, going by its name; positions have one too."""
    part = name.split(".")[-2] if "." in name else name
    return part == "wte" or ("embed" in part and "pos" not in part and part != "embed_out")


def _same_content(one: str, other: str, files: Mapping[str, Path]) -> bool:
    """Return whether two stored tensors of one shape hold the same bytes."""
    return all(a == b for a, b in zip(_blocks(files[one], one), _blocks(files[other], other), strict=True))


def _blocks(path: Path, name: str) -> Iterator[bytes]:
    """Yield the bytes of a tensor; numpy, in which safetensors would give it, has no bfloat16."""
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        start, end = json.loads(file.read(header))[name]["data_offsets"]
        file.seek(8 + header + start)
        for left in range(end - start, 0, -_BLOCK):
            yield file.read(min(_BLOCK, left))


def _is_buffer(name: str, shape: Sequence[int], dtype: str) -> bool:
    """Return whether it is a constant that older files store as well: causal masks and rotary frequencies."""
    last = name.rpartition(".")[2]
    return (
        not dtype.startswith(("F", "BF"))
        or last in ("masked_bias", "inv_freq")
        or (last == "bias" and len(shape) > 2)
    )


def max_positions(folder: Path, config: Mapping[str, Any]) -> int:
    """Return the longest row the model can read, in tokens."""
    stated = stated_number(
        config, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx"
    )
    if stated is not None:
        return stated
    path = folder / "tokenizer_config.json"
    limit = _json(path, "the model").get("model_max_length") if path.is_file() else None
    # Tokenizers without a limit store an astronomically large one.
    return int(limit) if isinstance(limit, int | float) and 0 < limit < 1e7 else ASSUMED_POSITIONS


def stated_number(config: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of these settings that is a whole number above 0."""
    values = (config.get(name) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def first_line(error: BaseException) -> str:
    """Return an error's first line, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
