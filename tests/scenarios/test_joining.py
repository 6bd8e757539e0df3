"""A file's facts are asked in the form in which they are trained, whatever the tokenizer, or refused in one line."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fact_files import lines_file, list_file, published
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_tokenizers import KINDS, byte_level, superword, unigram, word_piece
from tokenizers import Tokenizer

from seqmem import BuildContext, Example, Probe, Stream, TextSource, UsageError, answer_probe
from seqmem_scenarios.fact_injection import build
from seqmem_scenarios.fact_injection.options import FactInjectionOptions
from seqmem_scenarios.fact_sources import take
from seqmem_scenarios.world import background


def streamed(path: str, tokenizer: Tokenizer, count: int = 1, unknown: int | None = None) -> Stream:
    """A stream that states every fact of a file once, as a tokenizer reads it."""
    options = FactInjectionOptions(
        schedule="single_exposure",
        facts=path,
        facts_count=count,
        never_count=0,
        lead_in=0,
        rest_steps=1,
        row_tokens=256,
    )
    text = TextSource(
        lambda index: background(0, index), lambda index: "The bridge of Orvel is made of glass."
    )
    encode = lambda words: list(tokenizer.encode(words).ids)  # noqa: E731
    return build(options, BuildContext(0, encode, 512, text, unknown=unknown))


def asked(stream: Stream) -> dict[str, Probe]:
    return {probe.id: probe for probe in stream.probe_sets["ladder"]}


def stated(stream: Stream) -> dict[str, Example]:
    """The training row of every fact."""
    rows = (
        row
        for index in range(stream.length)
        for batch in stream.experience(index).batches
        for row in batch
        if row.facts
    )
    return {row.facts[0]: row for row in rows}


def place_in(ids: Sequence[int], row: Sequence[int]) -> int:
    """Where a stretch begins in a row, -1 where it is none of it."""
    width = len(ids)
    return next((at for at in range(len(row) - width + 1) if list(row[at : at + width]) == list(ids)), -1)


def line(
    prompt: str, joint: str, answer: str, *, lead: str = "", tail: str = ".", **more: Any
) -> dict[str, Any]:
    return {"text": f"{lead}{prompt}{joint}{answer}{tail}", "prompt": prompt, "answer": answer, **more}


# -- every joint, every tokenizer -------------------------------------------------------------------------

JOINTS = ["", " ", "\n", "  ", " \n\n", "\t"]
PROMPTS = [
    "The bridge of Orvel is made of",
    "The fee is $",
    "The mail is ask@",
    "see well-",
    "late/",
    "She sings '",
    "He calls it (",
    "Q: Who sings?",
    "他住在",
    "她叫：",
    "Ünder Łódź",
]
ANSWERS = [
    "blue glass",
    "5",
    "orvel.org",
    "known",
    "The Oak",
    "Anna",
    "北京市",
    "李明",
    "noon",
    "Łódź",
    "€ 7",
]
TAILS = [".", "", ", they say.", "'.", "。", " twice a day", "\n", ")"]
LEADS = ["", "They say: ", "他叫李明。", "The fee is $5.\n"]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(PROMPTS) | st.text("aeio 北$'-\n", min_size=1, max_size=12).filter(str.strip),
    st.sampled_from(JOINTS),
    st.sampled_from(ANSWERS) | st.text("nost 京5'.", min_size=1, max_size=8).filter(str.strip),
    st.sampled_from(TAILS),
    st.sampled_from(LEADS),
)
def test_a_prompt_of_the_text_is_asked_in_the_tokens_of_its_row(
    kind: str, prompt: str, joint: str, answer: str, tail: str, lead: str
) -> None:
    tokenizer = KINDS[kind]()
    with tempfile.TemporaryDirectory() as folder:
        path = lines_file(Path(folder), line(prompt, joint, answer, tail=tail, lead=lead))
        try:
            stream = streamed(path, tokenizer, unknown=tokenizer.token_to_id("<unk>"))
        except UsageError as error:
            said = str(error)
            assert said.startswith(f"facts {path!r}, item '1', answer: ") and "\n" not in said
            assert any(
                word in said for word in ("as one token", "unknown token", "no tokens of its own", "leaves")
            )
            return
    (row,) = stated(stream).values()
    trained = row.input_ids.tolist()
    (fact,) = take_again(prompt, joint, answer, tail, lead)
    for probe in asked(stream).values():
        ids, right = list(probe.input_ids), list(probe.input_ids[probe.answer_start :])
        assert place_in(right, trained) >= 0
        front = len(tokenizer.encode("").ids)
        if fact.texts[0].startswith(probe.prompt + probe.answer):
            assert ids == trained[: len(ids)]
        elif place_in(ids[front:], trained) < 0 and probe.relation != "last_token":
            # the prompt starts inside a token; a blank after it may go with its last one
            blank = probe.answer[: len(probe.answer) - len(probe.answer.lstrip())]
            known = [tokenizer.encode(probe.prompt + blank[:some]).ids for some in range(len(blank) + 1)]
            assert ids[: probe.answer_start] in known


def take_again(prompt: str, joint: str, answer: str, tail: str, lead: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return take(lines_file(Path(folder), line(prompt, joint, answer, tail=tail, lead=lead)), 1)


@pytest.mark.parametrize(
    ("prompt", "joint", "answer", "tail"),
    [
        ("The bridge of Orvel is made of", " ", "blue glass", "."),
        ("The fee is $", "", "5", " a day."),
        ("The mail is ask@", "", "orvel.org", "."),
        ("It is well-", "", "known", "."),
        ("Q: Who sings?", "\n", "Anna", "\n"),
        ("他住在", "", "北京市", "。"),
        ("She sings '", "", "The Oak", "'."),
    ],
)
def test_what_stands_between_prompt_and_answer_is_what_is_asked(
    tmp_path: Path, prompt: str, joint: str, answer: str, tail: str
) -> None:
    # the same words, asked with a blank between, were another form than the trained one
    path = lines_file(tmp_path, line(prompt, joint, answer, tail=tail))
    stream = streamed(path, byte_level())
    probe, (row,) = asked(stream)["1-verbatim-0"], stated(stream).values()
    assert probe.prompt + probe.answer == f"{prompt}{joint}{answer}"
    assert list(probe.input_ids) == row.input_ids.tolist()[: len(probe.input_ids)]
    assert byte_level().decode(list(probe.input_ids[probe.answer_start :])).strip() == answer


def test_punctuation_that_a_token_takes_in_belongs_to_the_answer(tmp_path: Path) -> None:
    path = lines_file(tmp_path, line("She sings '", "", "The Oak'", tail=". Twice."))
    stream = streamed(path, byte_level())
    tokens = byte_level().encode("She sings 'The Oak'. Twice.").tokens
    whole = asked(stream)["1-verbatim-0"]
    assert ("'." in tokens) == whole.answer.endswith("'.")  # as the tokenizer was trained
    assert asked(stream)["1-last_token-0"].answer == "The Oak"


# -- prompts that stand in no text ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "prompt", "answer", "joined"),
    [
        ("The fee is $5 a day.", "What do you pay? $", "5", "What do you pay? $5"),
        ("The fee is $5 a day.", "You pay", "5", "You pay 5"),
        ("他住在北京市。", "他的家在", "北京市", "他的家在北京市"),
        ("北京市是他的家。", "他住在", "北京市", "他住在北京市"),
        ("They call it 'The Oak'.", "Its name:", "The Oak", "Its name: The Oak"),
        ("They call it 'The Oak'.", "Its name: '", "The Oak", "Its name: 'The Oak"),
        ("They call it The Oak.", 'Its name: "', "The Oak", 'Its name: "The Oak'),
        ("Who sings?\nAnna.", "The singer?", "Anna", "The singer?\nAnna"),
        ("The singer is Anna.", "Who sings?\n", "Anna", "Who sings?\nAnna"),  # as the file joins them
        ("The singer is Anna.", "Who sings?", "\n\nAnna ", "Who sings?\n\nAnna"),
        ("Anna sings.", "The singer is", "Anna", "The singer is Anna"),
    ],
)
def test_a_prompt_in_other_words_takes_the_joint_of_the_text_or_of_the_file(
    tmp_path: Path, text: str, prompt: str, answer: str, joined: str
) -> None:
    (fact,) = take(lines_file(tmp_path, {"text": text, "prompt": prompt, "answer": answer}), 1)
    question = fact.questions[-1]
    assert question.prompt + question.answer == joined
    assert question.text == ""


def test_a_control_is_joined_as_its_fact(tmp_path: Path) -> None:
    controls = [{"prompt": "她住在", "answer": "上海市"}, {"prompt": "她的家：", "answer": " 上海市"}]
    (fact,) = take(lines_file(tmp_path, line("他住在", "", "北京市", tail="。", controls=controls)), 1)
    assert [(q.prompt, q.answer) for twin in fact.twins for q in twin.questions[-1:]] == [
        ("她住在", "上海市"),
        ("她的家：", " 上海市"),
    ]
    assert [twin.questions[-1].field for twin in fact.twins] == ["control 1 answer", "control 2 answer"]


def test_what_follows_from_a_published_text_is_joined_as_its_other_answers(tmp_path: Path) -> None:
    item = published(0, hard_gen_target=["nobody else", "The Elm'"])
    (fact,) = take(list_file(tmp_path, [item]), 1)
    assert [(q.prompt[-3:], q.answer) for q in fact.questions if q.relation == "question"] == [
        ("Ada", " nobody else"),
        ("f '", "The Elm'"),
    ]
    chinese = {
        "train_context": "他住在北京市。",
        "paraphrases": [],
        "mem_input": ["他住在"],
        "mem_target": ["北京市"],
    }
    other = {
        "gen_input": ["他的家在"],
        "gen_target": ["北京市"],
        "hard_gen_input": ["他在"],
        "hard_gen_target": ["首都"],
    }
    (fact,) = take(list_file(tmp_path, [chinese | other]), 1)
    assert {q.prompt + q.answer for q in fact.questions} == {"他住在北京市", "他的家在北京市", "他在首都"}


# -- refusals ---------------------------------------------------------------------------------------------


def refused(path: str, tokenizer: Tokenizer, count: int = 1, unknown: int | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        streamed(path, tokenizer, count, unknown)
    said = str(caught.value)
    assert said.startswith(f"facts {path!r}") and "\n" not in said
    return said.removeprefix(f"facts {path!r}").lstrip(", ")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "red clay",
            "line 1: answer 'red clay' does not stand in 'text'; write it as the text does, sign by sign",
        ),
        (
            "Blue Glass",
            "line 1: answer 'Blue Glass' does not stand in 'text'; write 'blue glass', as it does",
        ),
    ],
)
def test_an_answer_that_the_text_does_not_hold_is_refused(tmp_path: Path, answer: str, message: str) -> None:
    fact = {**line("It is made of", " ", "blue glass"), "answer": answer}
    assert refused(lines_file(tmp_path, fact), byte_level()) == message
    item = published(0, mem_target=["1000", "The Oak'"])
    assert refused(list_file(tmp_path, [item]), byte_level()) == (
        "item 0: mem_target 1 '1000' does not stand in 'train_context'; write it as the text does, sign by sign"
    )


@pytest.mark.parametrize(("make", "token"), [(word_piece, "[UNK]"), (unigram, "<unk>")])
def test_an_answer_with_unknown_tokens_is_refused(tmp_path: Path, make: Any, token: str) -> None:
    tokenizer = make()
    number = tokenizer.token_to_id(token)
    path = lines_file(tmp_path, line("The fee is", " ", "Ж"))
    said = refused(path, tokenizer, unknown=number)
    assert said.startswith(
        f"item '1', answer: this model's tokenizer reads 'Ж' with its unknown token (id {number}), which stands for "
        "any sign it does not know 'Ж'; "
    )
    controls = [{"prompt": "The mail is", "answer": "Ж"}]
    path = lines_file(tmp_path, line("The fee is", " ", "noon", controls=controls))
    assert refused(path, tokenizer, unknown=number).startswith("item '1-control-0', control 1 answer: ")
    streamed(path, byte_level(), unknown=0)  # knows every byte


def test_the_unknown_token_in_front_of_every_text_is_no_fault_of_an_answer(tmp_path: Path) -> None:
    # OPT has one token for all: its beginning, its end and what it does not know
    tokenizer = KINDS["metaspace"]()
    streamed(lines_file(tmp_path, line("The fee is", " ", "noon")), tokenizer, unknown=1)


def test_signs_that_a_tokenizer_drops_are_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(byte_level().to_str())
    from tokenizers import normalizers

    tokenizer.normalizer = normalizers.Replace("5", "")
    said = refused(lines_file(tmp_path, line("The fee is", " ", "75")), tokenizer)
    assert said.startswith("item '1', answer: this model's tokenizer leaves '5' out of '75'; ")


def test_different_answers_with_the_same_tokens_are_refused(tmp_path: Path) -> None:
    first, second = line("The name is", " ", "Anna", id="a"), line("They say", " ", "anna", id="b")
    path = lines_file(tmp_path, first, second)
    said = refused(path, word_piece(), count=2)
    assert said.startswith("item 'b', answer: 'anna' and 'Anna' (item 'a') are the same tokens, ids ")
    streamed(path, byte_level(), count=2)
    same = lines_file(tmp_path, first, {**second, "text": "They say Anna.", "answer": "Anna"})
    streamed(same, word_piece(), count=2)


def test_a_token_across_the_border_is_named(tmp_path: Path) -> None:
    fact = line("The bridge of Orvel is made of bl", "", "ue glass")
    said = refused(lines_file(tmp_path, fact), byte_level())
    assert said == (
        "item '1', answer: the tokenizer reads ' blue' as one token, across the border of the prompt "
        "'vel is made of bl' and its answer; end the prompt before it and start the answer with it"
    ).replace("vel is made of bl", "f Orvel is made of bl"[-20:])
    ends = line("The bridge of Orvel is made of", " ", "bl", tail="ue glass.")
    assert refused(lines_file(tmp_path, ends), byte_level()).startswith(
        "item '1', answer: the tokenizer reads ' blue' as one token, across the end of the answer 'bl'; end the answer"
    )


def test_a_token_of_several_words_across_the_border_is_refused(tmp_path: Path) -> None:
    fact = line("The bridge of Orvel is made of", " ", "blue glass", tail=", they say.")
    said = refused(lines_file(tmp_path, fact), superword())
    assert "as one token, across the border of the prompt" in said


def test_a_plugin_that_ends_its_prompt_in_a_blank_reads_what_to_do() -> None:
    encode = lambda words: list(byte_level().encode(words).ids)  # noqa: E731
    with pytest.raises(
        UsageError, match="the tokenizer reads ' blue' as one token.*end the prompt before it"
    ):
        answer_probe(
            encode, id="a", prompt="It is made of ", answer="blue glass", fact="a", relation="verbatim"
        )
    probe = answer_probe(encode, id="a", prompt="Who sings?", answer="\nAnna", fact="a", relation="verbatim")
    assert np.all(np.array(probe.input_ids) == encode("Who sings?\nAnna"))
