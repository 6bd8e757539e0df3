"""Facts from JSON lines and from the published form; and one line for every wrong file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fact_files import LINES, asked, lines_file, list_file, published

from seqmem import UsageError
from seqmem_scenarios.fact_sources import Question, fingerprint, take

# -- JSON lines -------------------------------------------------------------------------------------------


def test_a_line_is_trained_as_its_text_and_paraphrases_and_asked_by_its_prompt(tmp_path: Path) -> None:
    first, second = take(lines_file(tmp_path, *LINES, ""), 2)
    assert first.id == "glass" and second.id == "2"
    assert first.texts == (LINES[0]["text"], *LINES[0]["paraphrases"])
    assert second.texts == ("Anna sings at noon.",)
    assert asked(first) == {
        "last_token": [("The bridge of Orvel is made of", " blue glass")],
        "last_word": [("The bridge of Orvel is made of blue", " glass")],
        "verbatim": [("The bridge of Orvel is made of", " blue glass")],
    }
    assert asked(second)["verbatim"] == [("Anna sings at", " noon")]
    assert [twin.id for twin in first.twins] == ["glass-control-0", "glass-control-1"]
    assert asked(first.twins[1])["verbatim"] == [("The bridge of Mirel is made of", " grey stone")]
    assert all(twin.texts == () for twin in first.twins)
    assert second.twins == ()
    assert all(question.chance is None for question in first.questions)


def test_an_answer_after_an_opening_quote_follows_without_a_blank(tmp_path: Path) -> None:
    line = {
        "text": "They met at 'The Oak'.",
        "prompt": "They met at '",
        "answer": "The Oak'",
    }
    (fact,) = take(lines_file(tmp_path, line), 1)
    assert asked(fact) == {
        # punctuation is left out where the last token or word is asked for
        "last_token": [("They met at '", "The Oak")],
        "last_word": [("They met at 'The", " Oak")],
        "verbatim": [("They met at '", "The Oak'")],
    }
    apostrophe = {**line, "prompt": "The players'", "answer": "Oak"}
    assert asked(take(lines_file(tmp_path, apostrophe), 1)[0])["verbatim"] == [("The players'", " Oak")]


# -- the published form -----------------------------------------------------------------------------------


def test_the_published_depths_become_probe_forms_with_every_probe(tmp_path: Path) -> None:
    facts = take(list_file(tmp_path, [published(n, paraphrases=2) for n in range(3)]), 3)
    assert [fact.id for fact in facts] == ["0", "1", "2"]
    assert facts[1].texts[0].startswith("Guild 1 was founded")
    assert facts[1].texts[1:] == ("Ada 1 began guild 1, wording 0.", "Ada 1 began guild 1, wording 1.")
    forms = asked(facts[1])
    assert forms["verbatim"] == [
        ("Guild 1 was founded by Ada", " 1"),
        ("Guild 1 met in hall 1 of '", "The Oak'"),
    ]
    assert forms["paraphrase"][0] == ("Guild 1 owes its start to Ada", " 1")
    assert forms["question"][0] == ("Guild 1 had one founder, Ada", " 1")
    assert {name: len(probes) for name, probes in forms.items()} == {
        "last_token": 2,
        "last_word": 2,
        "verbatim": 2,
        "paraphrase": 2,
        "question": 2,
    }
    assert facts[0].twins == ()


def test_the_seed_changes_nothing_about_a_file(tmp_path: Path) -> None:
    path = list_file(tmp_path, [published(n) for n in range(4)])
    assert take(path, 3) == take(path, 4)[:3]


# -- the fingerprint --------------------------------------------------------------------------------------


def test_the_fingerprint_changes_with_the_content_only(tmp_path: Path) -> None:
    first = lines_file(tmp_path, *LINES)
    before = fingerprint(first)
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_bytes(Path(first).read_bytes())
    assert fingerprint(str(moved)) == before
    lines_file(tmp_path, LINES[0])
    assert fingerprint(first) != before
    assert fingerprint("world").startswith("world-")


# -- refusals ---------------------------------------------------------------------------------------------

LINE = LINES[1]


def without(item: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in keys}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([LINE, without(LINE, "answer")], "line 2 has no 'answer'"),
        ([without(LINE, "text")], "line 1 has no 'text'"),
        ([{**LINE, "answer": " "}], "line 1: 'answer' must be a text that is not empty"),
        ([{**LINE, "prompt": ""}], "line 1: 'prompt' must be a text that is not empty"),
        ([{**LINE, "text": ["Anna"]}], "line 1: 'text' must be a text that is not empty"),
        ([{**LINE, "id": 4}, {**LINE, "id": "4"}], "line 2 has the id '4' of line 1; give every fact an id"),
        ([{**LINE, "id": 2}, LINE], "line 2 has the id '2' of line 1"),
        ([{**LINES[0], "id": 1}, {**LINE, "id": "1-control-1"}], "line 2 has the id '1-control-1' of line 1"),
        ([{**LINE, "text": "half \ud800"}], "line 1: 'text' holds half of a surrogate pair"),
        ([{**LINE, "id": None}], "line 1: 'id' must be a text or a whole number, not null"),
        ([{**LINE, "id": " "}], "line 1: 'id' must be a text or a whole number"),
        ([{**LINE, "paraphrase": ["x"]}], "line 1 has an unknown key 'paraphrase'; allowed: text, prompt"),
        ([{**LINE, "paraphrases": "x"}], "line 1: 'paraphrases' must be a list of texts"),
        ([{**LINE, "paraphrases": ["x", ""]}], "line 1 paraphrases 2: 'paraphrases' must be a text"),
        ([{**LINE, "controls": ["x"]}], "line 1: 'controls' must be a list of objects"),
        ([{**LINE, "controls": [{"prompt": "x"}]}], "line 1 control 1 has no 'answer'"),
        (["{broken"], "line 1 is not JSON"),
        (["7"], "line 1 is not a JSON object; write one fact per line"),
        ([""], "holds no fact"),
        ([LINE], "holds 1 item, but 2 are needed; lower scenario.facts_count"),
    ],
)
def test_a_wrong_line_is_one_line_that_names_it(tmp_path: Path, lines: list[Any], message: str) -> None:
    path = lines_file(tmp_path, *lines)
    with pytest.raises(UsageError) as refused:
        take(path, 2)
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"facts {path!r}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([published(0), without(published(1), "train_context")], "item 1 has no 'train_context'"),
        ([without(published(0), "gen_target")], "item 0 has no 'gen_target'"),
        ([published(0, mem_input=[])], "item 0 has no 'mem_input'"),
        ([published(0, hard_gen_target=["1"])], "item 0 has 2 hard_gen_input and 1 hard_gen_target"),
        (
            [published(0, mem_target=["1", " "])],
            "item 0 mem_target 2: 'mem_target' must be a text that is not",
        ),
        ([published(0, mem_target="12")], "item 0: 'mem_target' must be a list of texts"),
        ([published(0, paraphrases=0), 5], "item 1 is not a JSON object"),
        ([], "holds no fact"),
        ([published(0)], "holds 1 item, but 2 are needed"),
    ],
)
def test_a_wrong_item_is_one_line_that_names_it(tmp_path: Path, items: Any, message: str) -> None:
    path = list_file(tmp_path, items)
    with pytest.raises(UsageError) as refused:
        take(path, 2)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("[{")
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"text": "é"}'.encode("latin-1"))
    deep, deep_line = tmp_path / "deep.json", tmp_path / "deep.jsonl"
    deep.write_text("[" * 100_000)
    deep_line.write_text('{"text": ' + "[" * 100_000)
    long = tmp_path / "long.jsonl"
    long.write_text('{"id": ' + "1" * 5000 + "}")
    for path, message in (
        (tmp_path / "gone.json", "cannot be read: No such file or directory; give 'world' or a JSON"),
        (tmp_path, "cannot be read: Is a directory"),
        (broken, "is not JSON"),
        (latin, "is not UTF-8: byte 0xe9 at offset 10; convert it, e.g. with: iconv -f latin1 -t utf-8"),
        (deep, "deep.json' is not JSON: too many brackets in one another"),
        (deep_line, "line 1 is not JSON: too many brackets in one another; write one fact per line"),
        (long, "line 1 is not JSON: Exceeds the limit"),
        ("~nosuch/x.jsonl", "'~nosuch/x.jsonl' cannot be read: Could not determine home directory; give"),
        ("x\0.jsonl", "cannot be read: "),
    ):
        with pytest.raises(UsageError) as refused:
            take(str(path), 1)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)
    for path in (str(tmp_path / "gone.json"), "~nosuch/x.jsonl"):
        with pytest.raises(UsageError, match="cannot be read"):
            fingerprint(path)


def test_line_separators_inside_texts_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    line = json.dumps({**LINE, "text": "Anna\u2028sings at noon."}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n".encode())
    (fact,) = take(str(path), 1)
    assert fact.texts == ("Anna\u2028sings at noon.",)
    assert isinstance(fact.questions[0], Question)
