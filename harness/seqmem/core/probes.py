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

    Raises:
        UsageError: the tokenizer merges across the border, so that the answer's tokens cannot be told
            from the prompt's, or the answer is empty.
    """
    prefix, whole = encode(prompt), encode(prompt + answer)
    if whole[: len(prefix)] != prefix:
        raise UsageError(
            f"the tokenizer merges the end of {prompt[-20:]!r} with the answer {answer!r}; "
            "the answer's tokens cannot be told apart: start answers with a blank"
        )
    if len(whole) == len(prefix):
        raise UsageError(f"the answer {answer!r} has no tokens of its own after {prompt[-20:]!r}")
    return whole, len(prefix)


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
    **further: Any,
) -> Probe:
    """Return a probe for `answer` after `prompt`.

    Args:
        encode: text to ids, special tokens in front.
        id: unique in the stream.
        prompt: everything before the answer, cue included; must not end in a blank.
        answer: starts with a blank where the tokenizer is of the GPT kind.
        fact: id of the fact asked for.
        relation: probe form.
        cue: what the prompt starts with.
        choices: (name, continuation) of the closed set to score, the answer's own included.
        chance: probability of the answer under uniform guessing.
        task_label: loop or task of the fact.
        twin_of: id of the trained fact this never-trained twin mirrors.
        **further: any further field of `Probe`: subject, group, position, context, task_known.

    Raises:
        UsageError: see `continuation`.
    """
    ids, start = continuation(encode, prompt, answer)
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
