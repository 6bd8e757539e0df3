"""Streams that tests of scenarios build and look into, with what each was made of and has asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from reading import TOKENIZER, Letters, build_context
from tokenizers import Tokenizer

from seqmem import BuildContext, Example, Experience, Probe, ProbePoint, Stream
from seqmem.core.options import validate
from seqmem.training.loop import update_stream_hash

OptionsT = TypeVar("OptionsT")
BuiltT = TypeVar("BuiltT", bound="BuiltStream[Any]")


@dataclass
class BuiltStream(Generic[OptionsT]):
    """A stream with what it was made of, and the documents it has asked for, in order.

    `read_before` holds those that building it took, for its probes; `trained` those of its experiences.
    """

    options: OptionsT
    seed: int = 0
    tokenizer: Tokenizer | Letters = TOKENIZER
    stream: Stream = field(init=False)
    trained: list[int] = field(default_factory=list)
    read_before: list[int] = field(default_factory=list)
    heldout: list[int] = field(default_factory=list)

    @cached_property
    def experiences(self) -> list[Experience]:
        return [self.stream.experience(index) for index in range(self.stream.length)]

    def of_phase(self, phase: str) -> list[Experience]:
        return [e for e in self.experiences if e.phase == phase]

    @cached_property
    def rows(self) -> list[Example]:
        return [row for e in self.experiences for row in rows_of(e)]

    def text(self, row: Example, where: Any = slice(None)) -> str:
        return read(row, self.tokenizer, where)

    @cached_property
    def probes(self) -> dict[str, Probe]:
        return {probe.id: probe for probes in self.stream.probe_sets.values() for probe in probes}

    def of(self, relation: str, *, twins: bool = False, cue: str = "none", context: int = 0) -> list[Probe]:
        """One probe per fact or twin, in the order of the stream."""
        asked = (relation, cue, context, twins)
        return [
            p for p in self.probes.values() if (p.relation, p.cue, p.context, p.twin_of is not None) == asked
        ]

    def asked(self, probe_set: str, *, twins: bool = False) -> list[Probe]:
        return [p for p in self.stream.probe_sets[probe_set] if (p.twin_of is not None) == twins]

    @property
    def points(self) -> list[tuple[int, ProbePoint]]:
        """Every probe point with the index of its experience."""
        return [(i, point) for i in range(self.stream.length) for point in self.stream.probe_points(i)]


def maker(
    built_as: type[BuiltT],
    scenario: str,
    options_class: type[Any],
    build: Callable[[Any, BuildContext], Stream],
    base: Mapping[str, Any],
    **usual: Any,
) -> Callable[..., BuiltT]:
    """Makes the streams of a scenario: of `base` and `usual` where a test says nothing."""

    def made(
        seed: int = 0,
        tokenizer: Tokenizer | Letters = TOKENIZER,
        text: Callable[[int], str] | None = None,
        max_positions: int = 512,
        heldout_text: Callable[[int], str] | None = None,
        **options: Any,
    ) -> BuiltT:
        """The stream of some options; held-out documents are of the same text unless they have their own."""
        built = built_as(
            validate(options_class, {**base, **options}, f"scenario {scenario}"), seed, tokenizer
        )

        def context(words: Callable[[int], str] | None) -> BuildContext:
            return build_context(
                seed,
                built.trained.append,
                built.heldout.append,
                tokenizer=tokenizer,
                max_positions=max_positions,
                text=words,
            )

        given = context(text)
        if heldout_text:
            given = replace(given, text=replace(given.text, heldout=context(heldout_text).text.heldout))
        built.stream = build(built.options, given)
        built.read_before = built.trained[:]
        built.trained.clear()  # in place: the source goes on adding to it
        return built

    return lambda *given, **named: made(*given, **{**usual, **named})


def rows_of(e: Experience) -> list[Example]:
    return [row for batch in e.batches for row in batch]


def ids(rows: Sequence[Example]) -> list[tuple[int, ...]]:
    return [tuple(row.input_ids.tolist()) for row in rows]


def read(row: Example, tokenizer: Tokenizer | Letters = TOKENIZER, where: Any = slice(None)) -> str:
    return str(tokenizer.decode(row.input_ids[where].tolist()))


def content(built: BuiltStream[Any]) -> str:
    """The hash of all that a stream trains."""
    text = ""
    for e in built.experiences:
        text = update_stream_hash(text, e)
    return text
