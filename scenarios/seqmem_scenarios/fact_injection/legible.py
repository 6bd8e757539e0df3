"""Answers that a tokenizer cannot tell: unknown signs, and different answers with the same tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from seqmem import BuildContext, Probe, UsageError
from seqmem_scenarios.candidates import WHOLE
from seqmem_scenarios.fact_injection.asking import Ask

_SILENT = ("Mn", "Cc", "Cf")
"""Categories of signs that a tokenizer may leave out, or put into the sign before, without losing a word."""


def check_answers(
    source: str, asked: Sequence[Ask], probes: Mapping[str, Probe], context: BuildContext
) -> None:
    """Refuse answers that the model cannot read, or cannot tell from one another, before anything is trained.

    Args:
        source: of the facts, for messages.
        asked: every question.
        probes: its probe, by its id.
        context: of the scenario's build.

    Raises:
        UsageError: naming item, field and token.
    """
    seen: dict[tuple[int, ...], tuple[str, Ask]] = {}
    for ask in asked:
        if ask.question.relation not in WHOLE:
            continue  # a part of an answer that is asked whole as well
        probe = probes[ask.id]
        answer, ids = probe.answer.strip(), probe.input_ids[probe.answer_start :]
        _check_known(ask.place(source), answer, ids, context)
        before, first = seen.setdefault(ids, (answer, ask))
        if before != answer and first.fact.id != ask.fact.id:
            raise UsageError(
                f"{ask.place(source)}: {answer!r} and {before!r} (item {first.fact.id!r}) are the same tokens, "
                f"{_listed(ids)}, in this model's tokenizer, so an answer of one is an answer of the other; "
                "change one of them or take another model"
            )


def check_question(source: str, ask: Ask, context: BuildContext) -> None:
    """Refuse a question whose answer, by itself, has signs that the model cannot read.

    Raises:
        UsageError: naming item, field and token.
    """
    answer = ask.question.answer.strip()
    _check_known(ask.place(source), answer, _own_ids(answer, context), context)


def _check_known(place: str, answer: str, ids: Sequence[int], context: BuildContext) -> None:
    """Refuse an answer with the unknown token, or with a sign of which no token is left."""
    unread = [sign for sign in answer if not sign.isspace() and _is_lost(sign, context)]
    if context.unknown in ids:
        signs = f" {unread[0]!r}" if unread else ""
        raise UsageError(
            f"{place}: this model's tokenizer reads {answer!r} with its unknown token (id {context.unknown}), "
            f"which stands for any sign it does not know{signs}; write the answer in signs it knows or take another "
            "model"
        )
    if unread:
        raise UsageError(
            f"{place}: this model's tokenizer leaves {unread[0]!r} out of {answer!r}; write the answer in signs it "
            "knows or take another model"
        )


def _is_lost(sign: str, context: BuildContext) -> bool:
    ids = _own_ids(sign, context)
    return context.unknown in ids or (not ids and unicodedata.category(sign) not in _SILENT)


def _own_ids(text: str, context: BuildContext) -> list[int]:
    """Return a text's ids without those in front of every text, among which OPT has its unknown token."""
    ids, front = context.encode(text), context.encode("")
    return ids[len(front) :] if ids[: len(front)] == front else ids


def _listed(ids: Sequence[int]) -> str:
    return "ids " + " ".join(map(str, ids[:8])) + " ..." * (len(ids) > 8)
