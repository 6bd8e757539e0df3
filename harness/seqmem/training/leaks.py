"""Search what is trained for the answers of never-trained controls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from seqmem.core.data import Example, Probe

if TYPE_CHECKING:
    pass


class Watch:
    """Looks for controls in what is trained."""

    def __init__(self, probes: Iterable[Probe], decode: Callable[[list[int]], str]) -> None:
        """Watch for the controls among these probes; `decode` turns token ids into text."""
        self._decode = decode
        self._ids: set[str] = set()
        self._answers: dict[str, dict[str, re.Pattern[str]]] = {}  # what gives a control away, by fact
        for probe in probes:
            if not probe.never_trained:
                continue
            self._ids.add(probe.fact)
            answer = _plain(probe.answer)
            sign = probe.subject or _plain(probe.prompt + probe.answer)
            if answer and probe.relation != "last_token":  # a whole answer is asked on other rungs too
                whole = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)")
                self._answers.setdefault(sign, {}).setdefault(probe.fact, whole)
        longest_first = sorted(self._answers, key=lambda sign: (-len(sign), sign))
        self._signs = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def look(self, rows: Sequence[Example]) -> Iterator[str]:
        """Ids of the controls whose answers these rows train."""
        for row in rows:
            yield from (fact for fact in row.facts if fact in self._ids)
            if self._signs is None:
                continue
            text = _plain(self._decode(row.input_ids.tolist()))
            for sign in dict.fromkeys(self._signs.findall(text)):
                yield from (fact for fact, answer in self._answers[sign].items() if answer.search(text))


def _plain(text: str) -> str:
    return " ".join(text.split())
