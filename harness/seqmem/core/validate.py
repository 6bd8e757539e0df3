"""Check a stream against what it declares, before anything is trained on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from seqmem.core.data import Cue, Experience, Outline, Phase, Probe, Relation, Stream, Trains
from seqmem.core.errors import PluginError, unknown

SCHEDULES = (
    "boundary",
    "context",
    "even",
    "exposure",
    "general",
    "inject",
    "inside",
    "ladder",
    "learning",
    "log",
    "positions",
    "rest_text",
    "survival",
)
"""Schedules that metrics read; a stream names any other of its own in `Stream.schedules`."""


def checked(stream: Stream, outline: Outline, scenario: str) -> Stream:
    """Check a stream as far as possible without making an experience, and return it.

    Every experience is checked when it is made, so a long stream needs no more memory than before. Checks that depend
    on earlier experiences are made where experiences are made in their order, as in a run.

    Args:
        stream: as the scenario has built it.
        outline: the scenario's own.
        scenario: its name, for messages.

    Raises:
        PluginError: the stream contradicts its declarations; names scenario, experience, field and allowed values.
    """
    where = f"scenario {scenario}"
    _check_probes(stream.probe_sets, where)
    _check_length(stream, outline, where)
    _check_points(stream, outline, where)
    order = _InOrder(stream, outline, where)

    def experience(index: int) -> Experience:
        made = stream.experience(index)
        at = f"{where}, experience {index} ({made.name!r})"
        _check_experience(stream, index, made, at)
        order.check(index, made, at)
        return made

    return replace(stream, experience=experience)


def _known(what: str, value: str, allowed: Iterable[str], where: str) -> None:
    names = tuple(allowed)
    if value not in names:
        raise PluginError(f"{where}: {unknown(what, value, names)}")


def _check_probes(sets: Mapping[str, tuple[Probe, ...]], where: str) -> None:
    seen: dict[str, tuple[Probe, str]] = {}
    for name, probes in sets.items():
        for probe in probes:
            at = f"{where}, probe {probe.id!r} of set {name!r}"
            _known("relation", probe.relation, get_args(Relation), at)
            _known("cue", probe.cue, get_args(Cue), at)
            other, elsewhere = seen.setdefault(probe.id, (probe, name))
            if other != probe:
                raise PluginError(
                    f"{at}: set {elsewhere!r} has another probe of this id; ids must be unique in a stream"
                )
        for identity, count in Counter(probe.id for probe in probes).items():
            if count > 1:
                raise PluginError(
                    f"{where}, probe {identity!r}: set {name!r} holds it {count} times; once is allowed"
                )


def _check_length(stream: Stream, outline: Outline, where: str) -> None:
    if stream.length < 1:
        raise PluginError(f"{where}: length is {stream.length}; a stream needs at least 1 experience")
    if stream.length != outline.experiences:
        raise PluginError(
            f"{where}: length is {stream.length}, but its outline says {outline.experiences} experiences; "
            "they must be equal"
        )


def _check_points(stream: Stream, outline: Outline, where: str) -> None:
    schedules = {*SCHEDULES, *stream.schedules}
    rows = 0
    for index in range(stream.length):
        for point in stream.probe_points(index):
            at = f"{where}, experience {index}, probe point after step {point.after}"
            _known("probe_set", point.probe_set, stream.probe_sets, at)
            for name in point.schedule:
                if name not in schedules:
                    hint = "declare one of your own in Stream.schedules"
                    raise PluginError(f"{at}: {unknown('schedule', name, schedules)} Or {hint}.")
            rows += len(stream.probe_sets[point.probe_set])
    if rows > outline.probe_rows:
        raise PluginError(
            f"{where}: {rows} probes are asked, but its outline says probe_rows {outline.probe_rows}; "
            "it must count them all"
        )


def _check_experience(stream: Stream, index: int, made: Experience, at: str) -> None:
    if made.index != index:
        raise PluginError(
            f"{at}: index is {made.index}, it must be {index}: indices ascend from 0 without gaps"
        )
    _known("phase", made.phase, get_args(Phase), at)
    _known("trains", made.trains, get_args(Trains), at)
    if made.repeats < 1:
        raise PluginError(f"{at}: repeats is {made.repeats}, it must be at least 1")
    if made.update_norm is not None and not 0 < made.update_norm < math.inf:
        raise PluginError(f"{at}: update_norm is {made.update_norm}, it must be above 0, or None")
    if not made.batches and made.save_as is None:
        raise PluginError(
            f"{at}: batches is empty; an experience needs a batch unless it only saves a snapshot"
        )
    for number, batch in enumerate(made.batches):
        if not batch:
            raise PluginError(f"{at}: batch {number} is empty; every batch needs at least 1 row")
    for point in stream.probe_points(index):
        if not 0 <= point.after <= made.steps:
            raise PluginError(
                f"{at}: a probe point is after step {point.after} of {made.steps}; allowed: 0 to {made.steps}"
            )


@dataclass
class _InOrder:
    """Totals over experiences made in their order, from the first on."""

    stream: Stream
    outline: Outline
    where: str
    due: int = 0
    steps: int = 0
    saved: list[str] = field(default_factory=list)
    labels: set[int] = field(default_factory=set)

    def check(self, index: int, made: Experience, at: str) -> None:
        """Check an experience against those before it, provided they were made in their order.

        Raises:
            PluginError: a snapshot was never saved, or the outline differs.
        """
        if index != self.due:
            return
        self.due += 1
        if made.start_from is not None:
            _known("start_from", made.start_from, self.saved, at)
        if made.save_as is not None and made.save_as not in self.saved:
            self.saved.append(made.save_as)
        self.steps += made.steps
        last = self.due == self.stream.length
        if self.steps > self.outline.steps or (last and self.steps != self.outline.steps):
            raise PluginError(
                f"{at}: the stream has {'' if last else 'at least '}{self.steps} steps, but its outline says "
                f"{self.outline.steps}; they must be equal"
            )
        if made.task_label is not None:
            self.labels.add(made.task_label)
        if len(self.labels) > self.outline.loops:
            raise PluginError(
                f"{at}: task_label {made.task_label} makes {len(self.labels)} labels, but its outline says loops "
                f"{self.outline.loops}; it must count every label"
            )
