"""Recovery: does loss fall again before a document comes round?

Between two visits of a loop, loss rises and, where the next visit is anticipated, falls again before it (Yang et al.
2024, arXiv 2403.09613). The naive score of one run is positive in pure noise, because a maximum of noisy values lies
above both ends. Here the place of the maximum is found on a random half of the items and read on the other half, over
8 splits, and shuffled order, in which nothing can be anticipated, is read at the same ages and subtracted. The later
half of the gaps between visits counts, the middle one too. The mean curve adds up mean changes from boundary to
boundary, each over the items that still wait at both; an item that is first stated after the visit does not count.
The halves of a gap are permutations of its items, by loop and name, by numpy's `default_rng(0)`. Items are facts by
answer loss; in preset `anticipatory` documents by -log p / tokens.

`recovery` is in nats and has a value whether or not anything is forgotten: it is one contrast, against zero over
seeds. What share of the forgotten (`recovery.forgotten`) that is, the score of the paper, is `recovery.share`: of a
row the ratio of the two means over seeds, since in a run that forgets next to nothing its own may be anything.

None without the control (`recovery` and its share), under 4 items, where no loop is visited twice and where too few
items wait for a whole cycle in shuffled order; the share of a run also where its loss does not rise between visits.

Version 4: the share is one of means. Version 3 took the mean of the runs' shares, each of its own order's forgetting,
and had no value where a run forgot little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from seqmem import Metric, Missing, RunRecord, Value, reading
from seqmem.reading import Array

seqmem_api = ">=1,<2"
metric = Metric(
    "recovery",
    version="4",
    summary="anticipatory recovery before re-exposure, against shuffled order",
    citation="Yang et al. 2024, Reawakening knowledge, arXiv 2403.09613",
)
seqmem_metric = metric.hook

_SPLITS = 8
_MIN_ITEMS = 4


@dataclass(frozen=True)
class _Gap:
    """Losses of items between two visits: (items, boundaries), NaN from the item's own next visit on.

    Column 0 is the boundary right after the visit, the last column right before the next one in cyclic order.
    """

    visit: int
    losses: Array


def _gaps(run: RunRecord, widths: Mapping[int, int] | None = None) -> list[_Gap]:
    """Return aligned loss curves by visit number; `widths` cuts them to the columns another run has."""
    visits = reading.loop_visits(run)
    rows = reading.answers(run, "boundary")
    rows = rows[rows["task_label"].notna()]
    losses = rows.pivot_table(index="step", columns="fact", values="loss", aggfunc="mean")
    curves = losses.to_numpy(dtype=float).T
    if np.isinf(curves).any():
        raise Missing("a probed answer had no probability at all: its loss is infinite")
    loops = rows.groupby("fact")["task_label"].first().loc[losses.columns].to_numpy(dtype=int)
    known = np.zeros(len(curves))
    if run.info["primary_relation"] != "general":
        known = losses.columns.to_series().map(reading.first_exposures(run)).to_numpy(dtype=float)
    boundaries = losses.index.to_numpy()
    gaps = []
    for number in range(int(visits["visit"].max())):
        pieces: list[Array] = []
        for loop in np.unique(loops):
            own = visits[(visits["loop"] == loop) & visits["visit"].isin([number, number + 1])]
            if len(own) < 2:
                continue
            visited, again = int(own["end"].iloc[0]), int(own["start"].iloc[1])
            between = (boundaries >= visited) & (boundaries <= again)
            # A fact first stated after this visit has nothing to lose yet.
            pieces.extend(curves[(loops == loop) & (known <= visited)][:, between])
        if not pieces:
            continue
        width = min(map(len, pieces)) if widths is None else widths.get(number, 0)
        if width < 2:
            continue
        table = np.full((len(pieces), width), np.nan)
        for row, piece in zip(table, pieces, strict=True):
            row[: len(piece)] = piece[:width]
        gaps.append(_Gap(number, table))
    return gaps


def _mean_curve(losses: Array) -> Array:
    """Return the mean rise since the visit, chained over boundaries from the items not yet visited again.

    Chaining keeps items with short gaps from bending the curve when they leave.
    """
    steps = np.diff(losses, axis=1)
    known = ~np.isnan(steps)
    if not known.any(axis=0).all():
        raise Missing("too few items are unvisited for a whole cycle")
    rises = np.where(known, steps, 0).sum(axis=0) / known.sum(axis=0)
    return np.concatenate([[0.0], np.cumsum(rises)])


def _readings(gaps: list[_Gap]) -> tuple[float, float]:
    """Return mean max - pre and max - post, nats per token; the place of the maximum comes from the other half."""
    random = np.random.default_rng(0)
    recovered, forgotten = [], []
    for _ in range(_SPLITS):
        halves: list[tuple[float, float]] = []
        for gap in gaps:
            order = random.permutation(len(gap.losses))
            half = len(order) // 2
            for find, read in ((order[:half], order[half:]), (order[half:], order[:half])):
                place = int(np.argmax(_mean_curve(gap.losses[find])))
                curve = _mean_curve(gap.losses[read])
                halves.append((curve[place] - curve[-1], curve[place]))
        recovered.append(sum(half[0] for half in halves))
        forgotten.append(sum(half[1] for half in halves))
    return float(np.mean(recovered)) / (2 * len(gaps)), float(np.mean(forgotten)) / (2 * len(gaps))


def _check(gaps: list[_Gap]) -> None:
    """Refuse gaps with too few items to be halved."""
    if any(len(gap.losses) < _MIN_ITEMS for gap in gaps):
        raise Missing(f"fewer than {_MIN_ITEMS} items between two visits")


@reading.once_per_run
def _late(run: RunRecord) -> list[_Gap]:
    """Return the later half of the gaps: anticipation needs to have seen the order before."""
    gaps = _gaps(run)
    if not gaps:
        raise Missing("no loop is visited twice")
    late = gaps[len(gaps) // 2 :]
    _check(late)
    return late


def _late_shuffled(run: RunRecord, shuffled: RunRecord) -> list[_Gap]:
    """Return the gaps of shuffled order at the visits and ages of cyclic order."""
    gaps = _gaps(shuffled, {gap.visit: gap.losses.shape[1] for gap in _late(run)})
    if not gaps:
        raise Missing("the shuffled control has no gap between visits to compare with")
    _check(gaps)
    return gaps


def _pairs(run: RunRecord, shuffled: RunRecord) -> tuple[list[_Gap], list[_Gap]]:
    """Return the late gaps of cyclic and of shuffled order, item by item at the same ages.

    In shuffled order items leave at their next visit. Those are taken out of cyclic order at the same age: with more
    items there the maximum would be found better, and curves that only rise would seem to recover.
    """
    own = {gap.visit: gap.losses for gap in _late(run)}
    pairs = [(gap, own[gap.visit]) for gap in _late_shuffled(run, shuffled) if gap.visit in own]
    if any(gap.losses.shape != losses.shape for gap, losses in pairs):
        raise Missing(
            "the shuffled control asks for other items than the run: they cannot be compared one by one"
        )
    cyclic = [_Gap(gap.visit, np.where(np.isnan(gap.losses), np.nan, losses)) for gap, losses in pairs]
    return cyclic, [gap for gap, _ in pairs]


@reading.once_per_run
def _in_cyclic_order(run: RunRecord) -> tuple[float, float]:
    """Return what is recovered and what is forgotten in the order as trained."""
    return _readings(_late(run))


@reading.once_per_run
def _beyond_shuffled(run: RunRecord, shuffled: RunRecord) -> Value:
    """Return what is recovered in cyclic order minus the same in shuffled order."""
    own, other = _pairs(run, shuffled)
    return Value(_readings(own)[0] - _readings(other)[0], _items(own))


def _items(gaps: list[_Gap]) -> int:
    return max(len(gap.losses) for gap in gaps)


@metric.against(
    "shuffled",
    "recovery",
    "nats/token",
    "higher",
    "loss recovered before the next visit, cyclic minus shuffled",
    effect=0.1,
)
def recovery(run: RunRecord, shuffled: Callable[[], RunRecord]) -> Value:
    """Return (max - pre) in cyclic order minus the same in shuffled order, of the mean loss curve between two visits.

    Between two visits to an item's loop, `pre` is its loss right before the second, `max` the loss where it is highest.
    Age counts visits, which are equally long. In shuffled order items leave the curve at their next visit; in cyclic
    order they are taken out at the same age, and `pre` is read at the same age in both. Unit: nats per token; any
    number, 0 without anticipation.
    """
    return _beyond_shuffled(run, shuffled())


@metric.measure("recovery.cyclic", "nats/token", "none", "loss recovered in the order as trained")
def in_cyclic_order(run: RunRecord) -> Value:
    """Return max - pre in the order as trained.

    Unit: nats per token; above 0 also for curves that merely wiggle.
    """
    return Value(_in_cyclic_order(run)[0], _items(_late(run)))


@metric.measure(
    "recovery.forgotten", "nats/token", "none", "loss that rises between visits, in the order as trained"
)
def forgotten(run: RunRecord) -> Value:
    """Return max - post in the order as trained, `post` being the loss right after the first of the two visits.

    Unit: nats per token; any number, below zero where learning goes on after the visit.
    """
    return Value(_in_cyclic_order(run)[1], _items(_late(run)))


@metric.against(
    "shuffled",
    "recovery.share",
    "fraction",
    "none",
    "share of what was forgotten that is recovered",
    ratio=("recovery", "recovery.forgotten"),
)
def share(run: RunRecord, shuffled: Callable[[], RunRecord]) -> Value:
    """Return R = (max - pre) / (max - post): `recovery` over `recovery.forgotten` (Yang et al. 2024).

    Of a row: their means over seeds, one over the other. Unit: fraction; any number, 0 without anticipation and 1
    where all that was forgotten is back.
    """
    lost, found = _in_cyclic_order(run)[1], _beyond_shuffled(run, shuffled())
    assert found.value is not None
    if lost <= 0:
        raise Missing("loss does not rise between visits: nothing is forgotten that could recover")
    return Value(found.value / lost, found.n_items)
