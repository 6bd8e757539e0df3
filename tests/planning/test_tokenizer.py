"""What a tokenizer does not know, how it cuts text, and tokens that span words, said while planning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from model_folders import make_model_folder
from odd_tokenizers import KINDS, superword, unigram, word_piece
from small_runs import job_of, planned
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from seqmem.cli.app import run as command_line
from seqmem.planning.model_files import spanning_notes
from seqmem.planning.models import ModelChoice
from seqmem.planning.stream import tokenizer_of
from seqmem.planning.tokenizer import encoder, load_tokenizer, tokenizer_hash, unknown_id


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
    line, *refused = capsys.readouterr().err.splitlines()
    assert line.startswith(f"seqmem: model {str(folder)!r}: its tokenizer has ")
    assert refused and all(" will be refused: the tokenizer reads " in other for other in refused)
    assert "tokens that span words, such as" in line


def test_a_tokenizer_is_loaded_again_only_where_its_folder_has_changed(tmp_path: Path) -> None:
    model = make_model_folder("gpt2", tmp_path / "model")
    job = job_of(planned(model), tmp_path / "run")
    first = tokenizer_of(job)
    assert tokenizer_of(job) is first
    changed = json.loads((model / "tokenizer.json").read_text())
    changed["added_tokens"][0]["lstrip"] = True
    (model / "tokenizer.json").write_text(json.dumps(changed))
    assert tokenizer_of(job) is not first


def test_a_text_is_read_once_and_its_tokens_are_the_callers_own(tmp_path: Path) -> None:
    folder = make_model_folder("llama", tmp_path / "model")
    tokenizer = load_tokenizer(folder, ModelChoice(name=str(folder)))
    encode, asked = encoder(tokenizer), 0

    def counting(self: Any, *arguments: Any, **settings: Any) -> Any:
        nonlocal asked
        asked += 1
        return read(self, *arguments, **settings)

    read = type(tokenizer).__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tokenizer), "__call__", counting)
        first = encode("the old town")
        expected = list(first)
        first.append(7)
        assert encode("the old town") == expected and asked == 1
        long = "the old town " * 100
        assert encode(long) == encode(long) and asked == 3, "long texts are not remembered"
    assert expected == list(tokenizer("the old town")["input_ids"])
