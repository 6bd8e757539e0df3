"""Contamination: a never-trained twin whose answer was trained after all, so that it is no control any more.

Seen in two ways. While a run trains, every background document that is handed out is searched for a twin's
subject together with its answer, and every trained row's facts are compared with the twins' ids: what is
found stands in the record. When a record is scored, twins that are answered far more often than guessing
explains say the same of a leak nobody saw. Such a run has no score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from seqmem.types import Stream, TextSource

if TYPE_CHECKING:
    from seqmem.record import RunRecord

IMPROBABLE = 1e-5
"""Twins answered as often as this improbably by guessing are taken for contaminated: 4.3 standard errors.
A table of a thousand clean runs loses one to it once in a hundred times."""


class Watch:
    """A text source that looks at every training document it hands out."""

    def __init__(self, text: TextSource, leaks: dict[str, str]) -> None:
        """Watch `text`; findings go to `leaks`, a twin's fact id to where its answer was found."""
        self.text = TextSource(train=self._train, heldout=text.heldout)
        self._source = text.train
        self._leaks = leaks
        self._answers: dict[str, list[tuple[str, str]]] = {}
        self._subjects: re.Pattern[str] | None = None
        self._early: list[int] | None = []

    def begin(self, stream: Stream) -> frozenset[str]:
        """Search for the twins of this stream, in the documents handed out already too; returns their ids."""
        twins = {p.fact: p for probes in stream.probe_sets.values() for p in probes if p.twin_of is not None}
        for probes in stream.probe_sets.values():
            for probe in probes:
                entry = (probe.fact, probe.answer.strip())
                if probe.twin_of is not None and probe.subject and entry[1]:
                    known = self._answers.setdefault(probe.subject, [])
                    known += [] if entry in known else [entry]
        if self._answers:
            longest_first = sorted(self._answers, key=lambda subject: (-len(subject), subject))
            self._subjects = re.compile("|".join(map(re.escape, longest_first)))
        early, self._early = self._early or [], None
        for index in early:
            self._search(index, self._source(index))
        return frozenset(twins)

    def _train(self, index: int) -> str:
        document = self._source(index)
        if self._early is not None:
            self._early.append(index)
        self._search(index, document)
        return document

    def _search(self, index: int, document: str) -> None:
        for subject in sorted(set(self._subjects.findall(document))) if self._subjects is not None else ():
            for fact, answer in self._answers[subject]:
                if answer in document:
                    self._leaks.setdefault(fact, f"background document {index}")


def contaminated(run: RunRecord) -> str:
    """Why the run's twins are no controls any more; empty where nothing speaks against them."""
    found: Mapping[str, str] = run.info.get("contamination") or {}
    if found:
        twin, where = next(iter(found.items()))
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return f"contaminated: the answer of the never-trained twin {twin!r} is in {where}{more}"
    asked = run.asked(twins=True)
    asked = asked[asked["chance"].notna()]
    if asked.empty:
        return ""
    last = asked[asked["step"] == asked["step"].max()].drop_duplicates("probe")
    right, count, chance = int(last["correct"].sum()), len(last), float(last["chance"].mean())
    before = asked[asked["step"] == asked["step"].min()].drop_duplicates("probe")["correct"].mean()
    expected = max(chance, float(before))  # a model that knew them before the run did not learn them in it
    if _tail(right, count, expected) < IMPROBABLE:
        return (
            f"contaminated: {right} of {count} never-trained twins are answered rightly at the end, guessing gives "
            f"{expected:.3g} of them"
        )
    return ""


def _tail(right: int, count: int, chance: float) -> float:
    """Probability of at least so many right answers by guessing."""
    from scipy import stats

    return float(stats.binom.sf(right - 1, count, chance))
