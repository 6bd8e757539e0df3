"""Windows of a stream that are trained again, and snapshots of the learner after each: for `memory_signal`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from seqmem import Missing, NotApplicable, RunRecord, reading
from seqmem.reading import Array, Rows

Region = Literal["inside", "behind", "ahead"]

LEVEL = 0.95
_FLAT = 1e-9
"""A shape smaller than this, in nats per token, is rounding."""


@dataclass(frozen=True)
class Contrast:
    """A window's snapshot against its controls, over the positions of one region.

    Attributes:
        signal: how much further the loss fell than in the controls, nats per token.
        controls: (controls, positions) change of loss beyond far positions in the snapshots retrained
            elsewhere, nats per token.
    """

    signal: float
    controls: Array

    @property
    def positions(self) -> int:
        """Count the probed positions of the region."""
        return int(self.controls.shape[1])

    @property
    def effect(self) -> float:
        """Return the signal over the standard deviation between control snapshots at one position (pooled)."""
        self._need_two()
        spread = float(np.sqrt(np.mean(np.var(self.controls, axis=0, ddof=1))))
        if spread == 0:
            raise Missing("the control snapshots do not differ at any position")
        return self.signal / spread

    @property
    def smallest(self) -> float:
        """Return t(.975, k - 1) s sqrt(1 + 1/k), below which one snapshot more, retrained elsewhere, stays in 95 %.

        s is the standard deviation over the k control snapshots of their means over the region.
        """
        self._need_two()
        k = len(self.controls)
        spread = float(np.std(self.controls.mean(axis=1), ddof=1))
        return float(stats.t.ppf((1 + LEVEL) / 2, k - 1)) * spread * float(np.sqrt(1 + 1 / k))

    def _need_two(self) -> None:
        if len(self.controls) < 2:
            raise Missing("a spread needs two control snapshots, a window has one: add control windows")


@dataclass(frozen=True)
class Changes:
    """Changes of loss of one run, nats per token, by position.

    Attributes:
        windows: (start, end) by task label, scored ones first.
        scored: how many are scored.
        zone: positions just behind and just ahead.
        after: task label to D at the end of the window.
        rested: task label to steps of rest to D.
    """

    windows: Sequence[tuple[int, int]]
    scored: int
    zone: int
    after: Mapping[int, pd.Series]
    rested: Mapping[int, Mapping[int, pd.Series]]

    def bounds(self, label: int, region: Region) -> tuple[int, int]:
        """Return the first position of a window's region and the one after its last."""
        start, end = self.windows[label]
        behind, ahead = (start - self.zone, start), (end, end + self.zone)
        return {"inside": (start, end), "behind": behind, "ahead": ahead}[region]

    def apart(self, one: int, other: int) -> bool:
        """Return whether two windows have no position in common, zones included."""
        (start, end), (first, last) = self.windows[one], self.windows[other]
        return end + self.zone <= first - self.zone or last + self.zone <= start - self.zone

    def controls(self, label: int, labels: Iterable[int]) -> list[int]:
        """Return those of `labels` that lie apart from a window, and from each other: nested ones count once."""
        found: list[int] = []
        for other in sorted(labels):
            if all(self.apart(other, each) for each in (label, *found)):
                found.append(other)
        return found

    @cached_property
    def near(self) -> pd.Index:
        """Return the positions in any window or zone."""
        positions = next(iter(self.after.values())).index
        inside = np.zeros(len(positions), dtype=bool)
        for start, end in self.windows:
            inside |= (positions >= start - self.zone) & (positions < end + self.zone)
        return positions[inside]

    def excess(self, change: pd.Series) -> pd.Series:
        """Return D(p) minus its mean far from all windows, in the same snapshot."""
        change = change.dropna()
        far = reading.some(
            change[~change.index.isin(self.near)], "no position far from all windows was probed"
        )
        return change - far.mean()

    def contrasts(self, region: Region, changes: Mapping[int, pd.Series]) -> Iterator[Contrast]:
        """Compare every scored window with its controls, with D of each snapshot as given by task label."""
        table = pd.DataFrame({label: self.excess(change) for label, change in changes.items()})
        positions, near = table.index.to_numpy(), table.index.isin(self.near)
        beyond = dict(zip(changes, table.to_numpy(dtype=float).T, strict=True))
        for label in range(self.scored):
            others = self.controls(label, beyond)
            if label not in beyond or not others:
                continue
            start, end = self.bounds(label, region)
            own = beyond[label]
            read = (positions >= start) & (positions < end) & ~np.isnan(own)
            if not read.any():  # the window lies at an end of the stream
                continue
            controls = self._alike(own, np.stack([beyond[other] for other in others]), ~near)[:, read]
            yield Contrast(float(controls.mean() - own[read].mean()), controls)

    @cached_property
    def contrasts_after(self) -> Mapping[Region, Sequence[Contrast]]:
        """Return the contrasts of the snapshots at the end of their windows, by region."""
        regions: tuple[Region, ...] = ("inside", "behind", "ahead")
        return {region: list(self.contrasts(region, self.after)) for region in regions}

    @staticmethod
    def _alike(own: Array, controls: Array, far: Rows) -> Array:
        """Return controls with the window's own share of the shape that they have in common.

        The shape g(p) is the mean of the controls; the share of a snapshot is the least-squares slope of its far
        positions on g. A control becomes c(p) + (share of the window - share of c) g(p).
        """
        shape = controls.mean(axis=0)
        size = float(np.nansum(shape[far] ** 2))
        if size < _FLAT**2:
            return controls
        share_of_own, *shares = np.nansum(np.vstack([own, controls])[:, far] * shape[far], axis=1) / size
        return np.asarray(controls + (share_of_own - np.array(shares))[:, None] * shape)


def changes_of(run: RunRecord) -> Changes:
    """Return the changes of loss since the base, of every snapshot in the record.

    Raises:
        NotApplicable: no window of a stream was trained again.
        Missing: the base or every window was not probed, or a loss is not finite.
    """
    design = run.design
    if not design.windows or design.zone is None:
        raise NotApplicable("no window of a stream is trained again")
    columns = ("experience", "after", "position", "logprob", "tokens")
    rows = pd.concat(
        [run.asked(schedule=name, relation="general", columns=columns) for name in ("positions", "log")]
    )
    rows = rows[rows["position"].notna()]
    losses = rows.assign(loss=-rows["logprob"] / rows["tokens"], position=rows["position"].astype(int)).pivot(
        index="position", columns=["experience", "after"], values="loss"
    )
    if np.isinf(losses.to_numpy()).any():
        raise Missing("a probed position had no probability at all: its loss is infinite")
    parts = run.experiences.set_index("experience")
    # a rest belongs to the window before it
    window = parts["task_label"].where(parts["phase"] == "inject").ffill()
    base: pd.Series | None = None
    after: dict[int, pd.Series] = {}
    rested: dict[int, dict[int, pd.Series]] = {}
    asked: list[tuple[int, int]] = losses.columns.to_list()  # type: ignore[assignment]
    for experience, steps in asked:
        loss, phase = losses[experience, steps], parts.loc[experience, "phase"]
        if phase == "general":
            base = loss
        elif base is not None and phase == "rest":
            rested.setdefault(int(window.loc[experience]), {})[steps] = loss - base
        elif base is not None:
            after[int(window.loc[experience])] = loss - base
    if base is None:
        raise Missing("the positions were not probed at the base")
    if not after:
        raise Missing("the positions were not probed after any window")
    return Changes(design.windows, design.scored, design.zone, after, rested)
