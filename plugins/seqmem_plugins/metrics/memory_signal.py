"""Memory signal: where does the loss fall when a window is trained again?

D(p) = loss(p) after a window was trained again - loss(p) at the base it started from, in nats per token, at
every probed position p of the stream. Retraining moves all losses a little, wherever the window lies, so D is
compared twice: with D far from all windows in the same snapshot, and with the same positions in the snapshots
retrained on windows elsewhere: windows that have no position in common with this one or with each other, zones
included.
Signs are turned so that higher is better: a signal of .1 means that the loss fell by .1 nats per token more.

What moves everywhere need not move everywhere alike: moments carried over from the base keep pulling at what
it read last, so D has a shape over the stream, and the more of it the longer a window is. Controls are
therefore brought to the window's own share of that shape, read off the far positions of both.

The unit is the retrained snapshot, not the position: positions of one snapshot move together, and shifting
one curve along itself shows nothing. What may stand out by chance is read off how the control snapshots
differ from each other at the very positions that are scored.

What neighbours gain because they are about the same things drops out against a base pass in random order:
`memory_signal.behind_order` and `memory_signal.ahead_order` are two contrasts, each against zero over seeds, and with
the correction for the shape that stands above, fixed before anybody looks. Version 1 had both in one number,
`memory_signal.order`, in which what lies behind and what lies ahead hid each other.

Margin: .003 nats per token is a third of a per cent of the loss of a position, below what any window was seen to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from seqmem import Metric, Missing, Value
from seqmem_plugins.metrics._windows import Changes, Contrast, Region, changes_of

seqmem_api = ">=1,<2"
metric = Metric(
    "memory_signal",
    version="2",
    summary="fall of loss in and beside a window trained again, against windows elsewhere",
    reads=changes_of,
    figure="seqmem_plugins.metrics.figures.memory_signal",
)
seqmem_metric = metric.hook


def _contrasts(changes: Changes, *regions: Region) -> list[Contrast]:
    return _some([one for region in regions for one in changes.contrasts_after[region]], *regions)


def _some(found: list[Contrast], *regions: Region) -> list[Contrast]:
    if not found:
        raise Missing(f"no scored window has a control snapshot and probed positions {' or '.join(regions)}")
    return found


def _mean(contrasts: Sequence[Contrast], numbers: Sequence[float]) -> Value:
    """Return the mean over windows, whatever their lengths; items are positions."""
    return Value(float(np.mean(numbers)), sum(contrast.positions for contrast in contrasts))


@metric.measure(
    "memory_signal",
    "nats/token",
    "higher",
    "further fall of loss inside the window than at the same positions in snapshots retrained elsewhere",
    margin=0.003,
)
def signal(changes: Changes, regions: Sequence[Region] = ("inside",)) -> Value:
    """Return the mean over scored windows of -(d_w - mean_c d_c), d = mean over the region of D(p) minus mean far D.

    w is the window's snapshot, c run over the snapshots retrained elsewhere. Unit: nats per token; any
    number, 0 without a memory; above 0 the loss fell further where it was looked for.
    """
    found = _contrasts(changes, *regions)
    return _mean(found, [contrast.signal for contrast in found])


metric.measure("memory_signal.behind", "nats/token", "none", "the same just behind the window")(
    partial(signal, regions=("behind",))
)
metric.measure("memory_signal.ahead", "nats/token", "none", "the same just ahead of the window")(
    partial(signal, regions=("ahead",))
)


def order(changes: Changes, shuffled: Callable[[], Changes], region: Region) -> Value:
    """Return the signal behind, or ahead, minus the same after a base pass in random order.

    In the control the windows, the documents beside them and everything trained after the base are the same:
    what neighbours gain because they are about the same things drops out. Unit: nats per token; any number.
    """
    own, other = (signal(each, (region,)) for each in (changes, shuffled()))
    assert own.value is not None and other.value is not None
    return Value(own.value - other.value, own.n_items)


for _region in ("behind", "ahead"):
    metric.against(
        "shuffled",
        f"memory_signal.{_region}_order",
        "nats/token",
        "none",
        f"{_region}, minus the same after a base pass in random order",
        effect=0.003,
    )(partial(order, region=_region))


@metric.measure(
    "memory_signal.kept",
    "nats/token",
    "higher",
    "signal inside the window at the end of the rest",
    role="kept",
)
def kept(changes: Changes) -> Value:
    """Return the signal inside at the end of the rest, against the other windows' snapshots at the end of theirs.

    Unit: nats per token; any number.
    """
    ends = {label: by_step[max(by_step)] for label, by_step in changes.rested.items()}
    if not ends:
        raise Missing("no rest follows a window, or it was not probed")
    found = _some(list(changes.contrasts("inside", ends)), "inside")
    return _mean(found, [contrast.signal for contrast in found])


@metric.measure(
    "memory_signal.effect",
    "SD",
    "higher",
    "signal inside in standard deviations between control snapshots at one position",
)
def effect(changes: Changes) -> Value:
    """Return the mean over scored windows of the signal inside over the spread between controls at one position.

    Unit: standard deviations (as Cohen's d, the spread being that of D between snapshots); any number.
    """
    found = _contrasts(changes, "inside")
    return _mean(found, [contrast.effect for contrast in found])


@metric.measure(
    "memory_signal.smallest",
    "nats/token",
    "lower",
    "smallest signal inside that one window would have shown against its controls",
)
def smallest(changes: Changes, regions: Sequence[Region] = ("inside",)) -> Value:
    """Return the mean over scored windows of the smallest signal that one window would have shown.

    A signal below it may still be told from zero by the interval over seeds. Unit: nats per token; above 0; lower is
    better.
    """
    found = _contrasts(changes, *regions)
    return _mean(found, [contrast.smallest for contrast in found])


metric.measure(
    "memory_signal.smallest_near", "nats/token", "lower", "the same for the positions behind and ahead"
)(partial(smallest, regions=("behind", "ahead")))
