"""Tiny tokenizers of the kinds in the wild, and one whose tokens span words."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LINES = [
    "The bridge of Orvel is made of blue glass, they say.",
    "The fee is $5 and the mail is ask@orvel.org; see well-known/late notes.",
    "他住在北京市。他叫李明。她住在上海市。",
    "Q: Who sings?\nAnna sings at noon.\nShe sings 'The Oak' (twice) a day.",
] * 20


@cache
def byte_level() -> Tokenizer:
    """As GPT-2 has it: English; of other scripts it knows the bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _trained(
        tokenizer,
        trainers.BpeTrainer(
            vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
        [line for line in LINES if line.isascii()],
    )


@cache
def metaspace() -> Tokenizer:
    """As Llama has it, with a token in front; bytes for what it does not know."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Metaspace()])
    special = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    _trained(tokenizer, trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@cache
def word_piece() -> Tokenizer:
    """As BERT has it: lower case, accents cut, [UNK] for a word with an unknown sign; nothing in front."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _trained(
        tokenizer,
        trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]"], show_progress=False),
    )


@cache
def unigram() -> Tokenizer:
    """As T5 has it: no bytes for what it does not know, which becomes <unk>."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _trained(
        tokenizer,
        trainers.UnigramTrainer(
            vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        ),
    )


@cache
def superword() -> Tokenizer:
    """Its tokens span words: nothing parts a text before it merges."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    tokenizer.decoder = decoders.Metaspace()
    return _trained(
        tokenizer, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], show_progress=False)
    )


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": byte_level,
    "metaspace": metaspace,
    "word_piece": word_piece,
    "unigram": unigram,
    "superword": superword,
}


def _trained(tokenizer: Tokenizer, trainer: object, lines: list[str] = LINES) -> Tokenizer:
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer
