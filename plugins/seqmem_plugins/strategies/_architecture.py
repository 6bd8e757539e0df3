"""The parts of a causal language model by name: blocks, their depth, their MLPs and attention.

Imports no torch: the same functions read the names of a loaded model's parameters and those of a weight
file's header.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seqmem import UsageError

if TYPE_CHECKING:
    from torch import nn

BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
"""The number of a transformer block in a parameter's name."""


_ATTENTION = ("attention", "attn", "self_attention", "self_attn")
"""Names of a block's attention."""
_ATTENTION_OUT = ("c_proj", "dense", "o_proj", "out_proj")
_MLP_OUT = ("c_proj", "dense_4h_to_h", "down_proj", "fc2")
"""Last names of the modules whose output joins the residual stream."""
_FUSED = "gate_up_proj"
"""Last name of a matrix that holds two matrices into the MLP, one after the other."""
_POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")
"""Norms of what attention and MLP give, where a block has both; the first alone stands before the MLP."""
TRANSPOSED = ("gpt2", "openai-gpt")
"""Architectures whose matrices are (in, out)."""
_WIDTHS: Mapping[str, str | None] = {
    "bloom": None,
    "falcon": "ffn_hidden_size",
    "gpt2": "n_inner",
    "opt": "ffn_dim",
}
"""Configuration key of the MLP's inner width where it is not `intermediate_size`; None where there is none."""

FREEZABLE = ("gpt2", "gpt_neox", "llama", "opt")
"""Architectures whose blocks compute the same in another list of blocks, and whose heads are known."""
GROWABLE = (
    *FREEZABLE,
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
)
"""Architectures that are known to compute the same when they have grown."""


@dataclass(frozen=True)
class Family:
    """Names within one block of an architecture, and the keys of its configuration.

    Attributes:
        attention: prefix of the attention's parameters.
        attention_out: module whose output attention adds to the residual stream.
        mlp_in: modules from the residual stream into the MLP.
        mlp_out: module whose output the MLP adds to the residual stream.
        post_norms: modules that normalise what the two add; empty where none do.
        layers, width: configuration keys of the number of blocks and of the MLP's inner width; no width where the
            architecture fixes it.
        transposed: weights are (in, out), as GPT-2's Conv1D keeps them.
    """

    attention: str
    attention_out: str
    mlp_in: tuple[str, ...]
    mlp_out: str
    layers: str
    width: str | None
    post_norms: tuple[str, ...] = ()
    transposed: bool = False

    def in_mlp(self, name: str) -> bool:
        """Return whether a parameter of a block belongs to its MLP."""
        rest = BLOCK.split(name)[-1]
        return any(rest.startswith(f"{module}.") for module in (*self.mlp_in, self.mlp_out))

    @property
    def outputs(self) -> tuple[str, str]:
        """Return the modules whose outputs are added to the residual stream."""
        return self.attention_out, self.mlp_out


def family_of(
    config: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    strategy: str,
    kinds: Sequence[str] = GROWABLE,
) -> Family:
    """Return the parts of a model, found by the names in its first block.

    Args:
        config: the model's configuration.
        shapes: shape of every parameter by name.
        strategy: who asks.
        kinds: architectures that it works with.

    Raises:
        UsageError: the model is of another architecture, or its parts are not found.
    """
    kind = str(config.get("model_type"))
    matrices = [BLOCK.split(name)[-1].removesuffix(".weight") for name in matrices_of(shapes, [0])]
    attention = [name for name in matrices if in_attention(name)]
    mlp = [name for name in matrices if not in_attention(name)]
    attention_out = [name for name in attention if name.rpartition(".")[2] in _ATTENTION_OUT]
    mlp_out = [name for name in mlp if name.rpartition(".")[2] in _MLP_OUT]
    if kind not in kinds or len(attention_out) != 1 or len(mlp_out) != 1:
        raise UsageError(
            f"strategy {strategy} does not know the parts of a {kind!r} model; "
            f"it works with {', '.join(sorted(kinds))}"
        )
    names = {BLOCK.split(name)[-1] for name in shapes if block_of(name) == 0}
    post = all(f"{norm}.weight" in names for norm in _POST_NORMS)
    return Family(
        attention=attention_out[0].rpartition(".")[0],
        attention_out=attention_out[0],
        mlp_in=tuple(name for name in mlp if name != mlp_out[0]),
        mlp_out=mlp_out[0],
        layers="n_layer" if "n_layer" in config else "num_hidden_layers",
        width=_WIDTHS.get(kind, "intermediate_size"),
        post_norms=_POST_NORMS if post else (),
        transposed=kind in TRANSPOSED,
    )


def in_attention(rest: str) -> bool:
    """Return whether a part of a block, named from the block on, belongs to its attention."""
    return rest.partition(".")[0] in _ATTENTION


def matrices_of(shapes: Mapping[str, tuple[int, ...]], blocks: Collection[int]) -> list[str]:
    """Return the names of the weight matrices of these blocks."""
    return [
        name
        for name, shape in shapes.items()
        if block_of(name) in blocks and len(shape) == 2 and name.endswith(".weight")
    ]


def is_fused(name: str) -> bool:
    """Return whether a parameter holds two matrices into the MLP, one after the other."""
    return f".{_FUSED}." in name


def config_of(model: nn.Module) -> Mapping[str, Any]:
    """Return a model's configuration by name, with the defaults that its config.json may leave out."""
    config: Any = model.config
    values: Mapping[str, Any] = config.to_dict()
    return values


def shapes_of(parameters: Mapping[str, nn.Parameter]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its name in a plan."""
    return {name: tuple(parameter.shape) for name, parameter in parameters.items()}


def block_of(name: str) -> int | None:
    """Return the number of the transformer block a parameter belongs to, from 0; None outside of the blocks."""
    found = BLOCK.search(name)
    return int(found[1]) if found else None


def block_count(names: Iterable[str]) -> int:
    """Return the number of transformer blocks that the parameters' names show."""
    return max((block + 1 for name in names if (block := block_of(name)) is not None), default=0)


EMBEDDINGS = re.compile(r"(?:^|\.)(?:embed_in|embed_tokens|embed_positions|wte|wpe|word_embeddings)\.")


def depth_of(names: Iterable[str]) -> dict[str, float]:
    """Return the depth of every parameter: 0 for embeddings, 1 to n for the n blocks, n + 1 after them.

    A head tied to the embeddings counts as embeddings.
    """
    listed = list(names)
    last = block_count(listed)
    depths = {}
    for name in listed:
        block = block_of(name)
        after = 0 if EMBEDDINGS.search(name) else last + 1
        depths[name] = float(after if block is None else block + 1)
    return depths
