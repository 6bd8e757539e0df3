"""Rises of an answer's log-probability in the windows after injections, for `effectivity`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seqmem import Relation, RunRecord, Value, reading
from seqmem.reading import Array, Rows, Steps, Watched

PARTS = 8
"""Into which facts and controls are split, where there are as many. With more parts the maximum is found better and
what was learned is read whole; with fewer, different places are read and noise alone spreads less."""


@dataclass(frozen=True, eq=False)
class Rises:
    """Injections of one group's facts, watched over windows of one length.

    Attributes:
        lags: (k,) steps since t_i that every window was asked at.
        windows: the facts injected at a step and the controls, each with the changes since then.
    """

    lags: Steps
    windows: list[Watched]

    @property
    def rows(self) -> int:
        """Count probes times injections."""
        return sum(len(seen.facts) for seen in self.windows)

    @cached_property
    def _inside(self) -> list[Rows]:
        return [np.isin(seen.steps - seen.start, self.lags) for seen in self.windows]

    def _better(self, own: Sequence[Rows], control: Sequence[Rows]) -> Array:
        return reading.mean_better(self.windows, self._inside, own, control)

    def mean(self) -> Array:
        """Return (k,), the mean of all facts minus all controls."""
        own = [np.ones(len(seen.facts), dtype=np.bool_) for seen in self.windows]
        return self._better(own, [np.ones(len(seen.controls), dtype=np.bool_) for seen in self.windows])

    def crossed(self) -> float:
        """Return the mean of each part of the facts minus one of the controls where all others have their maximum."""
        if len(self.lags) == 1:  # nowhere to choose from
            return float(self.mean()[0])
        facts = [seen.facts for seen in self.windows]
        controls = [seen.controls for seen in self.windows]
        parts = max(2, min(PARTS, reading.items_in(facts), reading.items_in(controls)))
        found, rows = [], []
        for (find, read), (find_control, read_control) in zip(
            reading.splits(facts, parts), reading.splits(controls, parts), strict=True
        ):
            place = self._better(find, find_control).argmax()
            found.append(self._better(read, read_control)[place])
            rows.append(sum(int(mine.sum()) for mine in read))
        return float(np.average(found, weights=rows))


@reading.once_per_run
def rises(run: RunRecord, relation: Relation, group: str | None) -> list[Rises]:
    """Return every injection, by group and length of window."""
    found = []
    for name in reading.injections_by_group(run, group):
        by_length: dict[int, list[Watched]] = defaultdict(list)
        for seen in reading.injection_windows(run, relation, name):
            by_length[int(seen.steps[-1]) - seen.start].append(seen)
        for windows in by_length.values():
            lags = set.intersection(*(set((seen.steps - seen.start).tolist()) for seen in windows))
            found.append(Rises(np.array(sorted(lags)), windows))
    return found


def pooled(parts: list[Rises], values: Sequence[float]) -> Value:
    """Return the mean of the values, weighed by the injections behind them; its items are the facts."""
    mean = np.average(values, weights=[part.rows for part in parts])
    return Value(float(mean), reading.items_in([seen.facts for part in parts for seen in part.windows]))
