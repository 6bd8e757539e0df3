"""The smallest embedded model, `nano`: small enough to be filled to the brim, and never pretrained.

Its tokenizer knows the names and the one-word values of the world in whole pieces, few enough that the
embedding takes a third of the parameters and not most of them; any other text is spelled letter by letter.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from seqmem_scenarios.model_sizes.corpus import END_OF_TEXT
from seqmem_scenarios.world import ATTRIBUTES, World

UNKNOWN = "<unk>"

_BLANK = "▁"
_POSITIONS = 256
_PEOPLE = 2000
"""Number of people of a role that bear all its first names and surnames."""
_HEAD = 3
"""Letters of a surname's head; the rest of it is its tail."""
_WORD, _LETTER = -1.0, -10.0
"""Scores of pieces. The reading of a text with the highest sum wins: whole words before letters."""


def nano_tokenizer() -> PreTrainedTokenizerFast:
    """Return a unigram tokenizer of the world's name parts, its one-word values, and printable ASCII.

    It puts no token in front of a text.
    """
    names = [person.name.split() for role in ("injected", "twin") for person in World().people(role, _PEOPLE)]
    firsts = [_BLANK + first for first, _ in names]
    heads = [_BLANK + last[:_HEAD] for _, last in names]
    tails = [last[_HEAD:] for _, last in names]
    values = [_BLANK + value for a in ATTRIBUTES for value in a.values if " " not in value]
    letters = [_BLANK, "\n", *(chr(code) for code in range(ord("!"), ord("~") + 1))]
    scores = dict.fromkeys((END_OF_TEXT, UNKNOWN), 0.0)
    scores |= dict.fromkeys(sorted({*firsts, *heads, *tails, *values}), _WORD)
    scores |= dict.fromkeys(letters, _LETTER)
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=1, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_BLANK)
    tokenizer.decoder = decoders.Metaspace(_BLANK)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=UNKNOWN,
        model_max_length=_POSITIONS,
    )


def nano_config(vocabulary: int) -> GPTNeoXConfig:
    """Return the configuration of two layers of width 36 with tied embeddings: about 50k parameters.

    The initial weights have a standard deviation of 0.1, not the customary 0.02: in a pilot with 8000 facts
    (scenario `saturation`, one seed) that stored 0.63 instead of 0.28 bits per parameter in 25 exposures.
    """
    return GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=36,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=144,
        max_position_embeddings=_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.1,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def make_nano(out: Path, seed: int = 0) -> None:
    """Write config, tokenizer and random weights to `out`; the caller's random state is left as it was.

    The shipped folder was made by it. Who trains from scratch draws weights of their own.
    """
    tokenizer = nano_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPTNeoXForCausalLM(nano_config(len(tokenizer)))
    model.save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)  # it only repeats config.json
    tokenizer.save_pretrained(out)
