"""Search what is trained for the answers of never-trained controls."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from seqmem.core.data import Example, Probe


class ContaminationDetector:
    """Finds controls in what is trained, as far as the learner can tell them apart.

    Rows are compared as their token ids read, and controls after the same round trip: a tokenizer may change
    letters to lower case or have one token for all words that it does not know.
    """

    def __init__(
        self,
        probes: Iterable[Probe],
        encode: Callable[[str], list[int]],
        decode: Callable[[list[int]], str],
    ) -> None:
        """Watch for the controls among these probes; `encode` adds no tokens, `decode` leaves none out."""
        self._decode = decode
        self._ids: set[str] = set()
        self._answers: dict[str, dict[str, re.Pattern[str]]] = {}  # what gives a control away, by fact

        @functools.cache  # a control is asked in several ways
        def as_read(text: str) -> str:
            return _plain(decode(encode(text)))

        for probe in probes:
            if not probe.never_trained:
                continue
            self._ids.add(probe.fact)
            answer = as_read(probe.answer)
            sign = as_read(probe.subject) or as_read(probe.prompt + probe.answer)
            if answer and probe.relation != "last_token":  # a whole answer is asked in other probe forms too
                whole = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)")
                self._answers.setdefault(sign, {}).setdefault(probe.fact, whole)
        self._any_sign = re.compile("|".join(map(re.escape, self._answers))) if self._answers else None

    def scan(self, rows: Sequence[Example]) -> Iterator[str]:
        """Yield the ids of the controls whose answers these rows train."""
        for row in rows:
            yield from (fact for fact in row.facts if fact in self._ids)
            if self._any_sign is None:
                continue
            text = _plain(self._decode(row.input_ids.tolist()))
            # nearly no row holds a sign, and one search says so; signs may overlap, so a hit has all looked for
            if self._any_sign.search(text) is None:
                continue
            for sign, answers in self._answers.items():
                if sign in text:
                    yield from (fact for fact, answer in answers.items() if answer.search(text))


def _plain(text: str) -> str:
    return " ".join(text.split())
