"""Token rows made from text: training examples, and probes whose answer is exactly the tail of the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqmem.core.data import Cue, Example, Probe, Relation
from seqmem.core.errors import UsageError

Encode = Callable[[str], list[int]]

ROW_TOKENS = 4096
"""Tokens of a forward that asks probes, padding included: bounds the memory it takes."""


def text_example(
    encode: Encode, text: str, *, facts: Sequence[str] = (), length: int | None = None
) -> Example:
    """Return a training row whose every token but the first is a target.

    Args:
        encode: text to ids, special tokens in front.
        text: the document.
        facts: ids of the facts it states.
        length: cut to at most this many tokens; a row that states a fact is never cut.

    Raises:
        UsageError: a row that states a fact is longer than `length`.
    """
    ids = encode(text)
    if length is not None and len(ids) > length:
        if facts:
            raise UsageError(
                f"the document stating {facts[0]!r} has {len(ids)} tokens, more than the row's {length}; "
                "raise the row length or use shorter documents"
            )
        ids = ids[:length]
    mask = np.ones(len(ids), dtype=np.bool_)
    mask[0] = False
    return Example(np.asarray(ids, dtype=np.int32), mask, tuple(facts))


def continuation(encode: Encode, prompt: str, answer: str) -> tuple[list[int], int]:
    """Return the ids of prompt and answer as one row, and the place where the answer starts.

    White space between the two goes with the answer, or with the prompt where the tokenizer joins it to that.

    Raises:
        UsageError: a token reaches across the border, so that the answer's tokens cannot be told from the prompt's,
            or the answer is empty.
    """
    row = _Row(encode, prompt + answer)
    start, _ = row.border(len(prompt), _blanks(answer))
    if start == len(row.ids):
        raise UsageError(f"the answer {answer!r} has no tokens of its own after {prompt[-20:]!r}")
    return row.ids, start


def trained_continuation(encode: Encode, text: str, prompt: str, answer: str) -> tuple[list[int], int, str]:
    """Return ids and start as `continuation`, for a prompt that stands with its answer in a text that is trained.

    The ids are a stretch of the text's own row, after whatever the tokenizer puts in front. A prompt that starts
    inside a token has its own ids before the answer's. Where the answer's last token takes in punctuation after it,
    so does the answer, which is returned as well.

    Raises:
        UsageError: a token reaches across the border of prompt and answer, or from the answer into the next word.
    """
    row = _Row(encode, text)
    at = text.index(prompt + answer)
    middle, end = at + len(prompt), at + len(prompt + answer)
    start, border = row.border(middle, _blanks(answer))
    stop = row.tokens_before(end)
    while stop is None and end < len(text) and not text[end].isalnum():
        end += 1
        stop = row.tokens_before(end)
    if stop is None:
        raise UsageError(
            f"the tokenizer reads {row.around(end)!r} as one token, across the end of the answer {answer.strip()!r}; "
            "end the answer before it or take it in whole"
        )
    if stop <= start:
        raise UsageError(f"the answer {answer!r} has no tokens of its own after {prompt[-20:]!r}")
    before = _prompt_ids(row, at, border, start)
    return before + row.ids[start:stop], len(before), text[middle:end]


def _prompt_ids(row: _Row, at: int, border: int, start: int) -> list[int]:
    """Return the ids of a prompt from the row it stands in; a blank before it may go with its first token.

    Args:
        row: the text's.
        at: place in the text where the prompt starts.
        border: place where its last token ends.
        start: tokens of the row before that.
    """
    if at == 0:
        return row.ids[:start]
    empty = row.encode("")
    front = empty if row.ids[: len(empty)] == empty else []
    for place in range(at, len(row.text[:at].rstrip()) - 1, -1):
        first = row.tokens_before(place)
        if first is not None:
            return front + row.ids[max(first, len(front)) : start]
    return row.encode(row.text[at:border])


_NEAR = 32
"""Characters around a border that are looked at to name the token that reaches across it."""


class _Row:
    """A text with the ids of its row."""

    def __init__(self, encode: Encode, text: str) -> None:
        self.encode, self.text = encode, text
        self.ids = encode(text)

    def tokens_before(self, place: int) -> int | None:
        """Return the tokens before a place of the text; None where the place lies inside a token."""
        before = self.encode(self.text[:place])
        return len(before) if self.ids[: len(before)] == before else None

    def border(self, place: int, blanks: int) -> tuple[int, int]:
        """Return the tokens before a place, or before one of the `blanks` places after it, and that place.

        Raises:
            UsageError: all of them lie inside a token.
        """
        for after in range(place, place + blanks + 1):
            found = self.tokens_before(after)
            if found is not None:
                return found, after
        raise UsageError(
            f"the tokenizer reads {self.around(place)!r} as one token, across the border of the prompt "
            f"{self.text[max(place - 20, 0) : place]!r} and its answer; end the prompt before it and start the answer "
            "with it"
        )

    def around(self, place: int) -> str:
        """Return the text of the token that a place lies in, as far as that can be told."""
        left, right = place - 1, place + 1
        while left > max(place - _NEAR, 0) and self.tokens_before(left) is None:
            left -= 1
        while right < min(place + _NEAR, len(self.text)) and self.tokens_before(right) is None:
            right += 1
        return self.text[max(left, 0) : right]


def _blanks(answer: str) -> int:
    """Return the white space that an answer starts with."""
    return len(answer) - len(answer.lstrip())


def answer_probe(
    encode: Encode,
    *,
    id: str,
    prompt: str,
    answer: str,
    fact: str,
    relation: Relation,
    cue: Cue = "none",
    choices: Sequence[tuple[str, str]] = (),
    chance: float | None = None,
    task_label: int | None = None,
    twin_of: str | None = None,
    text: str | None = None,
    **further: Any,
) -> Probe:
    """Return a probe for `answer` after `prompt`.

    Args:
        encode: text to ids, special tokens in front.
        id: unique in the stream.
        prompt: everything before the answer, cue included, without white space at its end.
        answer: with the white space that stands between the two, where there is any.
        fact: id of the fact asked for.
        relation: probe form.
        cue: what the prompt starts with.
        choices: (name, continuation) of the closed set to score, the answer's own included.
        chance: probability of the answer under uniform guessing.
        task_label: loop or task of the fact.
        twin_of: id of the trained fact this never-trained twin mirrors.
        text: the trained text that `prompt + answer` stands in; the ids are then those of its row.
        **further: any further field of `Probe`: subject, group, position, context, task_known.

    Raises:
        UsageError: see `continuation` and `trained_continuation`.
    """
    if text is None:
        ids, start = continuation(encode, prompt, answer)
    else:
        ids, start, answer = trained_continuation(encode, text, prompt, answer)
    return Probe(
        id=id,
        input_ids=tuple(ids),
        answer_start=start,
        prompt=prompt,
        answer=answer,
        fact=fact,
        relation=relation,
        cue=cue,
        choices=tuple(tuple(continuation(encode, prompt, text)[0][start:]) for _, text in choices),
        choice_names=tuple(name for name, _ in choices),
        chance=chance,
        task_label=task_label,
        twin_of=twin_of,
        **further,
    )


def document_probe(
    encode: Encode,
    text: str,
    *,
    id: str,
    fact: str,
    length: int | None = None,
    task_label: int | None = None,
    **further: Any,
) -> Probe:
    """Return a probe of a whole document: the log-probability of every token after the first.

    `further` is any further field of `Probe`, such as its position.

    Raises:
        UsageError: the document has fewer than two tokens.
    """
    ids = encode(text)[:length]
    if len(ids) < 2:
        raise UsageError(f"document {fact!r} has fewer than two tokens")
    return Probe(
        id=id,
        input_ids=tuple(ids),
        answer_start=1,
        prompt="",
        answer=text,
        fact=fact,
        relation="general",
        task_label=task_label,
        **further,
    )
