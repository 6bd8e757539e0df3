"""What a tokenizer does not know, how it cuts text, and tokens that span words, said while planning."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_folders import make_model_folder
from odd_tokenizers import KINDS, superword, unigram, word_piece
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from seqmem.cli.app import run as command_line
from seqmem.planning.model_files import spanning_notes
from seqmem.planning.tokenizer import tokenizer_hash, unknown_id


def wrapped(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def test_the_unknown_token_is_found_whether_or_not_it_is_declared() -> None:
    number = word_piece().token_to_id("[UNK]")
    assert unknown_id(wrapped(word_piece(), unk_token="[UNK]")) == number
    assert unknown_id(wrapped(word_piece())) == number
    assert unknown_id(wrapped(unigram())) == unigram().token_to_id("<unk>")
    assert unknown_id(wrapped(KINDS["byte_level"]())) is None


def test_the_hash_is_that_of_the_cuts_not_of_the_files(tmp_path: Path) -> None:
    hashes = {kind: tokenizer_hash(wrapped(make())) for kind, make in KINDS.items()}
    assert len(set(hashes.values())) == len(KINDS)
    wrapped(word_piece(), model_max_length=77).save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path, padding_side="left")
    assert tokenizer_hash(again) == hashes["word_piece"]


def test_tokens_that_span_words_are_counted() -> None:
    assert spanning_notes(superword().get_vocab(), "m")[0].startswith("m: its tokenizer has ")
    assert "such as 'in the':" in spanning_notes(["Ġof", "ĠofĠthe", "ĠĠ", "inĠthe", "1 000", "a_b"], "m")[0]
    assert spanning_notes(["ĊĠĠĠĠĊ", "Ċ    Ċ", "ĉ ĉ", "Ġof"], "m") == []  # white space is no word
    for kind in ("byte_level", "metaspace", "word_piece", "unigram"):
        assert spanning_notes(KINDS[kind]().get_vocab(), "m") == []


def test_a_plan_says_that_tokens_span_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_model_folder("gpt_neox", tmp_path / "model")
    capsys.readouterr()
    words = [
        "plan",
        "--scenario",
        "memory_loops",
        "--strategy",
        "naive",
        "--preset",
        "smoke",
        "--device",
        "cpu",
    ]
    assert command_line([*words, "--model", str(folder)]) == 0
    assert capsys.readouterr().err == ""
    wrapped(superword()).save_pretrained(folder)
    assert command_line([*words, "--model", str(folder)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"seqmem: model {str(folder)!r}: its tokenizer has ")
    assert "tokens that span words, such as" in line
