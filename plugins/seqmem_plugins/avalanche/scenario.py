"""`avalanche`: an Avalanche benchmark of token blocks, trained experience by experience, its blocks asked for.

A benchmark is anything with a `train_stream` of experiences that hold a `dataset` of token blocks, as Avalanche's
have, and perhaps a `test_stream`. A block is a row of token ids x, or (x, y) or (x, y, t) with y the token wanted
after each of x (-100 where none is): the targets, already shifted, that Avalanche's own loop needs. Without y
every token but the first is a target. Tokens after a row's last target (padding) change nothing and are left out.

Experience i trains the blocks of `train_stream[i]`, `epochs` times over, `batch_size` a step; its task label is
the one of its dataset where every experience has exactly one, else its place. Then the model rests on background
text. Asked on the schedule ``boundary``, before every experience and after the last, and over the rest: the last
tokens of trained blocks given all before them (probe form ``verbatim``). Never-trained twins are blocks of
`test_stream[i]`; one with the same tokens before its answer as a trained block is not a control and is left out.

Planning has to know how many blocks there are, so it calls the function that makes the benchmark: this runs the
code that the user names, and imports what that code imports. No other scenario's planning does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import Field, field_validator

from seqmem import (
    Batch,
    BuildContext,
    Example,
    Options,
    Outline,
    Probe,
    ScenarioSpec,
    Stream,
    UsageError,
    document_probe,
    hookimpl,
    text_example,
)
from seqmem.streams import Place, Schedule, Segment, Size, ask, begin, finish, log, rest, start
from seqmem_plugins.avalanche._benchmark import Survey, opened, survey_of

seqmem_api = ">=1,<2"

GENERAL_DOCUMENTS = 8
"""Held-out background documents whose loss tells what general ability is left."""


class AvalancheOptions(Options):
    """Options of `avalanche`."""

    benchmark: str = Field(
        "seqmem_plugins.avalanche.example:key_values",
        description="package.module:function that returns the benchmark, called with the run's seed where it takes "
        "`seed`, else without arguments; naming it runs its code",
    )
    epochs: int = Field(
        16, ge=1, description="times an experience's blocks are trained before the next comes"
    )
    batch_size: int = Field(8, ge=1, description="blocks per step")
    shuffle: bool = Field(
        True, description="a new order of the blocks in every epoch, as Avalanche's loop has by default"
    )
    probed: int = Field(
        16, ge=1, description="blocks of each experience asked for, at most; and as many twins"
    )
    answer_tokens: int = Field(2, ge=1, description="last tokens of a block, asked for after the rest of it")
    rest_steps: int = Field(8, ge=0, description="steps on background text after the last experience")
    row_tokens: int = Field(64, ge=8, description="longest background row in tokens")

    @field_validator("benchmark")
    @classmethod
    def _names_a_function(cls, name: str) -> str:
        module, _, function = name.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), function)):
            raise ValueError(f"benchmark {name!r} names no function: write package.module:function")
        return name


def schedule(options: AvalancheOptions, survey: Survey) -> Schedule:
    """State the stream: what is trained, and what is asked when; see the top of this file."""
    o, edges = options, (begin(), begin("rest"), finish())
    return Schedule(
        [
            *(
                Segment(
                    "task",
                    "task",
                    o.epochs * -(-blocks // o.batch_size),
                    name="experience {}".format,
                    label=survey.labels.__getitem__,
                )
                for blocks in survey.train
            ),
            rest(o.rest_steps, rows=o.rest_steps * o.batch_size),
        ],
        [
            ask("blocks", "boundary", start(), finish()),
            ask("blocks", "log", log("rest")),
            ask("general", "general", *edges),
        ],
    )


class _Blocks:
    """The stream of one seed."""

    def __init__(self, options: AvalancheOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.survey = _checked(options, context)
        self.rows = lru_cache(maxsize=4)(opened(options.benchmark, context.seed).rows)

    # -- training rows --------------------------------------------------------------------------------

    def task(self, place: Place) -> Iterator[Batch]:
        """Make the epochs of an experience of the benchmark."""
        o, index = self.options, place.number
        for epoch in range(o.epochs):
            rows = [Example(row.input_ids, row.loss_mask, (_fact(row),)) for row in self.rows("train", index)]
            if o.shuffle:
                key = f"{self.context.seed} {index} {epoch}"
                places = sorted(
                    range(len(rows)), key=lambda i: hashlib.sha256(f"{key} {i}".encode()).digest()
                )
                rows = [rows[place] for place in places]
            yield from (tuple(rows[i : i + o.batch_size]) for i in range(0, len(rows), o.batch_size))

    def rest(self, place: Place) -> Iterator[Batch]:
        """Make the rest's background."""
        size = self.options.batch_size
        for first in range(0, place.steps * size, size):
            yield tuple(self._background(index) for index in range(first, first + size))

    def _background(self, index: int) -> Example:
        encode, text = self.context.encode, self.context.text.train(index)
        return text_example(encode, text, length=self.options.row_tokens)

    # -- probes ---------------------------------------------------------------------------------------

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """Return blocks of every experience with their twins, and held-out background documents."""
        general = tuple(
            document_probe(
                self.context.encode,
                self.context.text.heldout(i),
                id=f"general-{i}",
                fact=f"heldout-{i}",
                length=self.options.row_tokens,
            )
            for i in range(GENERAL_DOCUMENTS)
        )
        return {"blocks": tuple(self._block_probes()), "general": general}

    def _block_probes(self) -> Iterator[Probe]:
        trained = {
            self._prompt(row) for index in range(len(self.survey.train)) for row in self.rows("train", index)
        }
        asked: set[str] = set()
        for index, count in enumerate(self.survey.train):
            rows = self.rows("train", index)
            held = self.rows("test", index) if index < len(self.survey.test) else []
            controls = iter([row for row in held if self._prompt(row) not in trained])
            number = min(self.options.probed, count)
            for place in range(number):
                row = rows[(place + 1) * count // number - 1]
                if _fact(row) in asked:
                    continue  # an earlier experience trained it too
                asked.add(_fact(row))
                yield self._probe(row, index)
                twin = next((c for c in controls if _fact(c) not in asked), None)
                if twin is not None:
                    asked.add(_fact(twin))
                    yield self._probe(twin, index, twin_of=_fact(row))

    def _prompt(self, row: Example) -> bytes:
        """Return the text that stands for a block's tokens before its answer."""
        return hashlib.sha256(row.input_ids[: -self.options.answer_tokens].tobytes()).digest()[:12]

    def _probe(self, row: Example, index: int, twin_of: str | None = None) -> Probe:
        start = len(row.input_ids) - self.options.answer_tokens
        prompt, answer = self._texts(row.input_ids[:start].tolist(), row.input_ids[start:].tolist())
        return Probe(
            id=f"{_fact(row)}-verbatim",
            input_ids=tuple(row.input_ids.tolist()),
            answer_start=start,
            prompt=prompt,
            answer=answer,
            fact=_fact(row),
            relation="verbatim",
            task_label=self.survey.labels[index],
            twin_of=twin_of,
            subject=prompt,
            position=index,
        )

    def _texts(self, prompt: list[int], answer: list[int]) -> tuple[str, str]:
        """Return prompt and answer as text; without a decoder the prompt's ids and an empty answer."""
        decode = self.context.decode
        if decode is None:
            return " ".join(map(str, prompt)), ""
        return decode(prompt), decode(answer)


def _fact(row: Example) -> str:
    """Return a block's id, the same wherever and however often it is trained."""
    return hashlib.sha256(row.input_ids.tobytes()).hexdigest()[:12]


def _checked(options: AvalancheOptions, context: BuildContext) -> Survey:
    """Return the summary of the benchmark with this seed.

    Raises:
        UsageError: the model cannot read it, or it differs from the planned one.
    """
    name, seed = options.benchmark, context.seed
    survey, planned = survey_of(name, seed), survey_of(name, 0)
    if (survey.train, survey.test) != (planned.train, planned.test):
        raise UsageError(
            f"benchmark {name} holds other numbers of blocks with seed {seed} than with seed 0, with which runs are "
            "planned; they must be the same for every seed"
        )
    if survey.longest > context.max_positions:
        raise UsageError(
            f"benchmark {name} holds a block of {survey.longest} tokens, the model reads {context.max_positions}; "
            "cut the blocks or take another model"
        )
    if context.vocabulary is not None and survey.largest >= context.vocabulary:
        raise UsageError(
            f"benchmark {name} holds token id {survey.largest}, the model knows ids below {context.vocabulary}; "
            "make its blocks with the model's own tokenizer"
        )
    _check_answers(options, survey)
    return survey


def _check_answers(options: AvalancheOptions, survey: Survey) -> None:
    if survey.shortest <= options.answer_tokens:
        raise UsageError(
            f"answer_tokens {options.answer_tokens} leaves nothing before the answer in a block of "
            f"{survey.shortest} tokens, the shortest of benchmark {options.benchmark}; ask for fewer"
        )


def build(options: AvalancheOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    made = _Blocks(options, context)
    make = {"task": made.task, "rest": made.rest}
    return schedule(options, made.survey).stream(make, made.probe_sets())


def outline(options: AvalancheOptions) -> Outline:
    """Return steps, tokens and probes, counted in the benchmark as it is with seed 0."""
    o, survey = options, survey_of(options.benchmark, 0)
    _check_answers(o, survey)
    plan = schedule(o, survey)
    tasks = len(survey.train)
    held = [*survey.test, *[0] * tasks][:tasks]
    asked = [min(o.probed, count) for count in survey.train]
    probes = sum(asked) + sum(min(own, count) for own, count in zip(asked, held, strict=True))
    return plan.outline(
        {
            "blocks": Size(probes, probes * survey.longest),
            "general": Size(GENERAL_DOCUMENTS, GENERAL_DOCUMENTS * o.row_tokens),
        },
        train_tokens=o.epochs * sum(survey.train) * survey.longest + plan.rows * o.row_tokens,
        longest_row=max(survey.longest, o.row_tokens),
        documents=(plan.rows, GENERAL_DOCUMENTS),
        primary="average_accuracy",
        primary_relation="verbatim",
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"epochs": 3, "probed": 4, "rest_steps": 4},
    "default": {},
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {"default": {"name": "adam", "lr": 5e-4}}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="avalanche",
            version="1",
            summary="An Avalanche benchmark of token blocks, trained experience by experience; then rest.",
            options=AvalancheOptions,
            presets=PRESETS,
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
            fingerprint=lambda options: survey_of(options.benchmark, 0).content,
            citation="Carta et al. 2023, Avalanche: A PyTorch Library for Deep Continual Learning, JMLR 24(363)",
        )
    ]
