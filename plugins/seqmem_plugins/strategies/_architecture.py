"""The parts of a causal language model by name: blocks, their depth, their MLPs and attention.

Imports no torch: the same functions read the names of a loaded model's parameters and those of a weight
file's header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seqmem import UsageError

if TYPE_CHECKING:
    from torch import nn

BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
"""The number of a transformer block in a parameter's name."""


@dataclass(frozen=True)
class Family:
    """Names within one block of an architecture, and the keys of its configuration.

    Attributes:
        attention: prefix of the attention's parameters.
        attention_out: module whose output attention adds to the residual stream.
        mlp_in: modules from the residual stream into the MLP.
        mlp_out: module whose output the MLP adds to the residual stream.
        layers, width: configuration keys of the number of blocks and of the MLP's inner width.
        transposed: weights are (in, out), as GPT-2's Conv1D keeps them.
    """

    attention: str
    attention_out: str
    mlp_in: tuple[str, ...]
    mlp_out: str
    layers: str
    width: str
    transposed: bool = False

    def in_mlp(self, name: str) -> bool:
        """Return whether a parameter of a block belongs to its MLP."""
        rest = BLOCK.split(name)[-1]
        return any(rest.startswith(f"{module}.") for module in (*self.mlp_in, self.mlp_out))


FAMILIES: Mapping[str, Family] = {
    "gpt_neox": Family(
        attention="attention",
        attention_out="attention.dense",
        mlp_in=("mlp.dense_h_to_4h",),
        mlp_out="mlp.dense_4h_to_h",
        layers="num_hidden_layers",
        width="intermediate_size",
    ),
    "opt": Family(
        attention="self_attn",
        attention_out="self_attn.out_proj",
        mlp_in=("fc1",),
        mlp_out="fc2",
        layers="num_hidden_layers",
        width="ffn_dim",
    ),
    "gpt2": Family(
        attention="attn",
        attention_out="attn.c_proj",
        mlp_in=("mlp.c_fc",),
        mlp_out="mlp.c_proj",
        layers="n_layer",
        width="n_inner",
        transposed=True,
    ),
    "llama": Family(
        attention="self_attn",
        attention_out="self_attn.o_proj",
        mlp_in=("mlp.gate_proj", "mlp.up_proj"),
        mlp_out="mlp.down_proj",
        layers="num_hidden_layers",
        width="intermediate_size",
    ),
}


def family_of(config: Mapping[str, Any], strategy: str) -> Family:
    """Return the family a configuration belongs to.

    Raises:
        UsageError: the family is not known here.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UsageError(
            f"strategy {strategy} does not know the parts of a {kind!r} model; "
            f"it works with {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[str(kind)]


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
