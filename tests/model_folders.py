"""Tiny randomly initialised models with a tokenizer, as folders that transformers can load."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Kind = Literal[
    "gpt_neox",
    "opt",
    "gpt2",
    "llama",
    "bloom",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3_text",
    "mistral",
    "olmo",
    "olmo2",
    "olmo3",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
]
KINDS: tuple[Kind, ...] = ("gpt_neox", "opt", "gpt2", "llama")
"""One of every layout that most tests are held to."""
MORE_KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in KINDS)
"""Further architectures that grow and get adapters."""
WINDOW = 8
"""Tokens that sliding attention of these models sees."""

VOCABULARY = 512
_END = "<|endoftext|>"
# What each family's own tokenizer puts in front of every text.
_PREFIX: dict[str, str] = {"opt": "</s>", "llama": "<s>"}


def make_tokenizer(prefix: str | None = None, *, appends_end: bool = False) -> Tokenizer:
    """A byte-level BPE with an end token (id 0), an optional token in front and at the end of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [_END, *([prefix] if prefix else [])]
    words = ["the", "of", "a", "in", "lives", "works", "town", "river", "was", "who", "where", "old"]
    lines = [f"{a} {b} {c}. " for a in words for b in words for c in words[:5]]
    tokenizer.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    front, back = (f"{prefix} " if prefix else ""), (f" {_END}" if appends_end else "")
    if front or back:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{front}$A{back}", special_tokens=[(token, i) for i, token in enumerate(specials)]
        )
    return tokenizer


def make_model_folder(
    kind: Kind, path: Path, *, max_positions: int = 256, appends_end: bool = False, seed: int = 0
) -> Path:
    """Write config, safetensors weights and tokenizer of a model of about 100k parameters to `path`."""
    return Path(shutil.copytree(_made(kind, max_positions, appends_end, seed), path, dirs_exist_ok=True))


@functools.cache
def shelf() -> Path:
    """A folder for what this process makes once."""
    folder = Path(tempfile.mkdtemp(prefix="seqmem-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _made(kind: Kind, max_positions: int, appends_end: bool, seed: int) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    prefix = _PREFIX.get(kind)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(prefix, appends_end=appends_end),
        eos_token=_END,
        bos_token=prefix or _END,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(_config(kind, max_positions))
    path = Path(tempfile.mkdtemp(dir=shelf()))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def as_pickled(folder: Path, *, parts: int = 1, **how: Any) -> Path:
    """Put the weights of a folder into `parts` files of PyTorch, in place of safetensors."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if parts == 1:
        torch.save(tensors, folder / "pytorch_model.bin", **how)
        return folder
    places: dict[str, str] = {}
    for number in range(parts):
        name = f"pytorch_model-{number + 1:05}-of-{parts:05}.bin"
        own = dict(list(tensors.items())[number::parts])
        torch.save(own, folder / name, **how)
        places |= dict.fromkeys(own, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def _config(kind: Kind, max_positions: int) -> Any:
    from transformers import AutoConfig, GPT2Config, GPTNeoXConfig, LlamaConfig, OPTConfig

    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if kind == "gpt2":
        return GPT2Config(
            vocab_size=VOCABULARY, n_positions=max_positions, n_embd=32, n_layer=2, n_head=2, **ends
        )
    common = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": max_positions,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        **ends,
    }
    if kind == "gpt_neox":
        return GPTNeoXConfig(intermediate_size=64, **common)
    if kind == "opt":
        return OPTConfig(ffn_dim=64, word_embed_proj_dim=32, **common)
    if kind == "llama":
        return LlamaConfig(intermediate_size=64, num_key_value_heads=1, **common)
    return AutoConfig.for_model(
        kind, **common, **_MORE.get(kind, {"intermediate_size": 64, "num_key_value_heads": 1})
    )


_GEMMA = {"intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 16}
_MIXED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_MORE: dict[str, dict[str, Any]] = {
    "bloom": {},
    "falcon": {"bias": True},
    "gemma": _GEMMA,
    "gemma2": {**_GEMMA, **_MIXED},
    "gemma3_text": {**_GEMMA, **_MIXED},
    "mistral": {**_GEMMA, "sliding_window": WINDOW},
    "olmo3": {"intermediate_size": 64, **_MIXED},
    "phi": {"intermediate_size": 64},
    "smollm3": {"intermediate_size": 64, "num_key_value_heads": 1, "no_rope_layers": [1, 0]},
}


def neox(blocks: int = 2) -> Any:
    """32 wide, attention without bias.

    A bias of attention's keys adds the same to all scores of a query where it is not rotated, and softmax does not
    see it: its gradient is 0 but for rounding, which Adam divides by itself. No two orders of summation agree there.
    """
    import torch
    from transformers import AutoModelForCausalLM, GPTNeoXConfig

    config = GPTNeoXConfig(
        vocab_size=64,
        max_position_embeddings=32,
        hidden_size=32,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        intermediate_size=64,
        attention_bias=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(config)
