"""Build the shared parts of scenarios: background rows, and probes of the world's facts in every form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

from seqmem import (
    Batch,
    BuildContext,
    Example,
    Probe,
    Relation,
    UsageError,
    answer_probe,
    document_probe,
    text_example,
)
from seqmem.streams import Size
from seqmem_scenarios.world import (
    ATTRIBUTE_BY_NAME,
    Draw,
    Fact,
    answer,
    holds_form,
    question_prompt,
    statement,
    statement_prompt,
)

GENERAL_DOCUMENTS = 8
"""Held-out background documents whose loss tells what general ability is left."""
REST_ROWS = 16
"""Most rows of the rest that are asked, to tell how much of it is learned."""
SHORT_DOCUMENT = 64
"""Tokens that a background document is taken to have at least."""
PROBE_TOKENS = 40
"""Generous bound on a bare prompt with its answer, for outlines."""

RestText = Literal["any", "plain"]
REST_TEXT = (
    "unrelated text of the rest: any; plain: without statements and questions in the forms that are asked"
)
"""Description of the option `rest_text`."""
SPARE = 3
"""Further documents per document of a plain rest, from which others are taken in the place of those with a form."""

PROBE_FORMS: tuple[Relation, ...] = ("last_token", "last_word", "verbatim", "paraphrase", "question")
"""Probe forms by their distance from the trained text, nearest first."""


def general_size(row_tokens: int) -> Size:
    """Return the size of the held-out probes."""
    return Size(GENERAL_DOCUMENTS, GENERAL_DOCUMENTS * row_tokens)


def rest_size(steps: int, row_tokens: int) -> Size:
    """Return the size of the probes of a rest's own rows."""
    rows = min(REST_ROWS, steps)
    return Size(rows, rows * row_tokens)


def bare_size(probes: int, candidates: int = 0) -> Size:
    """Return the size of a set of bare prompts with their answers, and with as many tokens of candidates."""
    return Size(probes, probes * PROBE_TOKENS + candidates)


def joined(row_tokens: int) -> int:
    """Return background documents joined to fill a row, then cut: single documents may be short."""
    return -(-row_tokens // SHORT_DOCUMENT)


def spare(kind: RestText, rest: int) -> int:
    """Return how many extra documents (or rows of them) a plain rest may need; any other rest needs none."""
    return SPARE * rest if kind == "plain" else 0


def rest_texts(
    context: BuildContext, kind: RestText, numbers: Sequence[int], spare_from: int
) -> Iterator[str]:
    """Return background documents of a rest; in a plain one others take the place of those that hold a form.

    Args:
        context: of the scenario's build.
        kind: of the option `rest_text`.
        numbers: of the documents.
        spare_from: number of the first document that the stream leaves free.

    Raises:
        UsageError: too few documents are without a form.
    """
    others = iter(range(spare_from, spare_from + spare(kind, len(numbers))))
    for number in numbers:
        text = context.text.train(number)
        while kind == "plain" and holds_form(text):
            following = next(others, None)
            if following is None:
                raise UsageError(
                    "rest_text plain: over three in four documents of the text hold statements or questions in the "
                    "forms that are asked; choose another --text, or rest_text any"
                )
            text = context.text.train(following)
        yield text


def rest_batches(
    context: BuildContext,
    kind: RestText,
    rows: range,
    size: int,
    row_tokens: int,
    spare_from: int,
) -> Iterator[Batch]:
    """Return a rest of background rows in batches of `size`, of whatever text or of plain text.

    Args:
        context: of the scenario's build.
        kind: of the option `rest_text`.
        rows: numbers of the rest's background rows, as `background_row` counts them.
        size: rows of a batch.
        row_tokens: longest row.
        spare_from: number of the first row that the stream leaves free.

    Raises:
        UsageError: see `rest_texts`.
    """
    count = joined(row_tokens)
    texts = rest_texts(context, kind, range(rows.start * count, rows.stop * count), spare_from * count)
    for _ in range(len(rows) // size):
        yield tuple(
            text_example(context.encode, "\n".join(islice(texts, count)), length=row_tokens)
            for _ in range(size)
        )


def background_text(context: BuildContext, index: int, row_tokens: int) -> str:
    """Return background row number `index` as text: as many documents as fill a row, each used in one row only."""
    count = joined(row_tokens)
    return "\n".join(context.text.train(index * count + i) for i in range(count))


def background_row(context: BuildContext, index: int, row_tokens: int) -> Example:
    """Return background row number `index`, at most `row_tokens` tokens."""
    return text_example(context.encode, background_text(context, index, row_tokens), length=row_tokens)


def background_batches(
    context: BuildContext, first: int, batches: int, size: int, row_tokens: int
) -> Iterator[Batch]:
    """Return the batches of `size` background rows each, from row number `first` on."""
    for start in range(first, first + batches * size, size):
        yield tuple(background_row(context, start + place, row_tokens) for place in range(size))


def general_probes(context: BuildContext, row_tokens: int) -> tuple[Probe, ...]:
    """Return probes of held-out background documents."""
    return tuple(
        document_probe(
            context.encode,
            context.text.heldout(i),
            id=f"general-{i}",
            fact=f"heldout-{i}",
            length=row_tokens,
        )
        for i in range(GENERAL_DOCUMENTS)
    )


def rest_probes(
    context: BuildContext,
    kind: RestText,
    steps: int,
    row: Callable[[int], Example],
    batches: Callable[[], Iterable[Batch]],
) -> tuple[Probe, ...]:
    """Return probes of a rest's own rows as they are trained: the first row of each of `REST_ROWS` steps.

    Args:
        context: of the scenario's build.
        kind: of the option `rest_text`.
        steps: of the rest.
        row: the first row of a step of a rest on any text, by arithmetic: no other document is read for it.
        batches: the whole rest; a plain one has other documents in the place of some, so that it is made to be read.
    """
    rows = min(REST_ROWS, steps)
    asked = [number * steps // rows for number in range(rows)]
    if kind == "any":
        found = {step: row(step) for step in asked}
    else:
        found = {step: batch[0] for step, batch in enumerate(batches()) if step in asked}
    return tuple(_row_probe(context, made, f"rest-{step}") for step, made in found.items())


def _row_probe(context: BuildContext, row: Example, name: str) -> Probe:
    """Return the probe of a background row: the log-probability of every token after the first."""
    ids = tuple(row.input_ids.tolist())
    text = context.decode(list(ids)) if context.decode is not None else ""
    return Probe(name, ids, 1, prompt="", answer=text, fact=name, relation="general")


def trained_wordings(fact: Fact) -> int:
    """Return the number of a statement's trained wordings; the last one is kept for the paraphrase."""
    return len(ATTRIBUTE_BY_NAME[fact.attribute].statements) - 1


def statement_row(context: BuildContext, fact: Fact, wording: int, row_tokens: int) -> Example:
    """Return a world fact in one of its trained wordings, counted modulo their number, as a row of its own.

    Raises:
        UsageError: it has more than `row_tokens` tokens.
    """
    text = statement(fact, wording % trained_wordings(fact))
    return text_example(context.encode, text, facts=[fact.id], length=row_tokens)


def form_texts(fact: Fact, relation: Relation, wording: int = 0) -> tuple[str, str, float | None]:
    """Return prompt, answer and chance of a world fact in one probe form.

    Args:
        fact: the fact asked for.
        relation: probe form.
        wording: the statement as first trained, which the near probe forms continue.
    """
    values = ATTRIBUTE_BY_NAME[fact.attribute].values
    prompt, right, chance = statement_prompt(fact, wording), answer(fact), 1 / len(values)
    if relation == "question":
        prompt = question_prompt(fact, 0)
    elif relation == "paraphrase":
        prompt = statement_prompt(fact, trained_wordings(fact))
    elif relation == "last_word":
        words = fact.value.split(" ")
        prompt, right = " ".join([prompt, *words[:-1]]), f" {words[-1]}"
        chance = 1 / len({value.split(" ")[-1] for value in values})
    return prompt, right, None if relation == "last_token" else chance


def last_token(probe: Probe) -> Probe:
    """Return the probe of the answer's last token only; its chance is not known in a tokenizer's terms."""
    return replace(probe, answer_start=len(probe.input_ids) - 1, chance=None)


def fact_probe(
    context: BuildContext,
    fact: Fact,
    relation: Relation,
    *,
    twin_of: Fact | None = None,
    wording: int = 0,
    before: str = "",
    kept: int = 0,
    position: int | None = None,
    group: str = "",
    task_label: int | None = None,
    choices: Sequence[tuple[str, str]] = (),
    suffix: str = "",
) -> Probe:
    """Return a probe of a world fact, or of its twin, in one probe form.

    Args:
        context: of the scenario's build.
        fact: the fact, or the twin, that is asked for.
        relation: probe form.
        twin_of: the trained fact, where `fact` is its twin.
        wording: the statement as first trained.
        before: text put in front of the prompt, without a blank at its end.
        kept: number of sentences or turns of context in `before`.
        position: place of the fact along the scenario's axis.
        group: arm of the scenario's design.
        task_label: loop or task of the fact.
        choices: competing answers, the right one included.
        suffix: distinguishes probes of one fact in one probe form.
    """
    prompt, right, chance = form_texts(fact, relation, wording)
    probe = answer_probe(
        context.encode,
        id=f"{fact.id}-{relation}{suffix}",
        prompt=f"{before} {prompt}" if before else prompt,
        answer=right,
        fact=fact.id,
        relation=relation,
        choices=choices,
        chance=chance,
        task_label=task_label,
        twin_of=twin_of.id if twin_of else None,
        subject=fact.person.name,
        group=group,
        position=position,
        context=kept,
    )
    return last_token(probe) if relation == "last_token" else probe


def apart(twin: Fact, stated: Iterable[str], *key: str | int) -> Fact:
    """Return the twin with a value outside `stated`, drawn with `key` where it has to change."""
    taken = set(stated)
    if twin.value not in taken:
        return twin
    free = [value for value in ATTRIBUTE_BY_NAME[twin.attribute].values if value not in taken]
    return replace(twin, value=Draw("twin apart", *key, twin.id).pick(free))


def check_lengths(context: BuildContext, probe_sets: Mapping[str, Sequence[Probe]]) -> None:
    """Refuse probes that the model cannot read.

    Raises:
        UsageError: naming the longest probe.
    """
    rows = [(_longest_row(probe), probe.id) for probes in probe_sets.values() for probe in probes]
    length, longest = max(rows, default=(0, ""))
    if length > context.max_positions:
        raise UsageError(f"probe {longest} has {length} tokens, the model reads {context.max_positions}")


def _longest_row(probe: Probe) -> int:
    """Return the tokens of the longest row that scoring a probe takes."""
    return max(len(probe.input_ids), probe.answer_start + max(map(len, probe.choices), default=0))
