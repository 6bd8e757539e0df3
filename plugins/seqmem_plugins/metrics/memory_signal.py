"""Memory signal: where does the loss fall when a window is trained again?

D(p) = loss(p) after a window was trained again - loss(p) at the base it started from, in nats per token, at
every probed position p of the stream. Retraining moves all losses a little, wherever the window lies, so D is
compared twice: with D far from all windows in the same snapshot, and with the same positions in the snapshots
retrained on windows elsewhere: windows that share no position with this one nor with each other, zones included.
Signs are turned so that higher is better: a signal of .1 means that the loss fell by .1 nats per token more.

What moves everywhere need not move everywhere alike: moments carried over from the base keep pulling at what
it read last, so D has a shape over the stream, and the more of it the longer a window is. Controls are
therefore brought to the window's own share of that shape, read off the far positions of both.

The unit is the retrained snapshot, not the position: positions of one snapshot move together, and shifting
one curve along itself shows nothing. What may stand out by chance is read off how the control snapshots
differ from each other at the very positions that are scored.

Margin: .003 nats per token is a third of a per cent of the loss of a position, below what any window was seen to keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from seqmem import COLOURS, Measure, MetricSpec, NotApplicable, RunRecord, Value, clean, hookimpl, mean_band
from seqmem_plugins.metrics._curves import Missing, attempt, control

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"

Array = npt.NDArray[np.float64]
Region = Literal["inside", "behind", "ahead"]

_LEVEL = 0.95
_PANELS = 6
_LINES = 4
_BINS_PER_ZONE = 2
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
        """Probed positions of the region."""
        return int(self.controls.shape[1])

    @property
    def effect(self) -> float:
        """Signal over the standard deviation between control snapshots at one position (pooled)."""
        self._need_two()
        spread = float(np.sqrt(np.mean(np.var(self.controls, axis=0, ddof=1))))
        if spread == 0:
            raise Missing("the control snapshots do not differ at any position")
        return self.signal / spread

    @property
    def smallest(self) -> float:
        """t(.975, k - 1) s sqrt(1 + 1/k): one snapshot more, retrained elsewhere, stays below it 95 % of the time.

        s is the standard deviation over the k control snapshots of their means over the region.
        """
        self._need_two()
        k = len(self.controls)
        spread = float(np.std(self.controls.mean(axis=1), ddof=1))
        return float(stats.t.ppf((1 + _LEVEL) / 2, k - 1)) * spread * float(np.sqrt(1 + 1 / k))

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
        """First position of a window's region and the one after its last."""
        start, end = self.windows[label]
        behind, ahead = (start - self.zone, start), (end, end + self.zone)
        return {"inside": (start, end), "behind": behind, "ahead": ahead}[region]

    def apart(self, one: int, other: int) -> bool:
        """Whether two windows share no position, zones included."""
        (start, end), (first, last) = self.windows[one], self.windows[other]
        return end + self.zone <= first - self.zone or last + self.zone <= start - self.zone

    def controls(self, label: int, labels: Iterable[int]) -> list[int]:
        """Those of `labels` that lie apart from a window, and from each other: nested windows are no two controls."""
        found: list[int] = []
        for other in sorted(labels):
            if all(self.apart(other, each) for each in (label, *found)):
                found.append(other)
        return found

    @cached_property
    def near(self) -> pd.Index:
        """Positions in any window or zone."""
        positions = next(iter(self.after.values())).index
        inside = np.zeros(len(positions), dtype=bool)
        for start, end in self.windows:
            inside |= (positions >= start - self.zone) & (positions < end + self.zone)
        return positions[inside]

    def excess(self, change: pd.Series) -> pd.Series:
        """D(p) minus its mean far from all windows, in the same snapshot."""
        change = change.dropna()
        far = change[~change.index.isin(self.near)]
        if far.empty:
            raise Missing("no position far from all windows was probed")
        return change - far.mean()

    def contrasts(self, region: Region, changes: Mapping[int, pd.Series]) -> Iterator[Contrast]:
        """Every scored window against its controls, with D of each snapshot as given by task label."""
        table = pd.DataFrame({label: self.excess(change) for label, change in changes.items()})
        positions, near = table.index.to_numpy(), table.index.isin(self.near)
        beyond: dict[int, Array] = dict(zip(changes, table.to_numpy(dtype=float).T, strict=True))
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
        """Those of the snapshots at the end of their windows, by region: several measures read them."""
        regions: tuple[Region, ...] = ("inside", "behind", "ahead")
        return {region: list(self.contrasts(region, self.after)) for region in regions}

    @staticmethod
    def _alike(own: Array, controls: Array, far: npt.NDArray[np.bool_]) -> Array:
        """Controls with the window's own share of the shape that they have in common.

        The shape g(p) is the mean of the controls; the share of a snapshot is the least-squares slope of its far
        positions on g. A control becomes c(p) + (share of the window - share of c) g(p). With noise in g shares
        are a little too small, that is, the correction errs towards none.
        """
        shape = controls.mean(axis=0)
        size = float(np.nansum(shape[far] ** 2))
        if size < _FLAT**2:
            return controls
        share_of_own, *shares = np.nansum(np.vstack([own, controls])[:, far] * shape[far], axis=1) / size
        return np.asarray(controls + (share_of_own - np.array(shares))[:, None] * shape)


def changes_of(run: RunRecord) -> Changes:
    """Changes of loss since the base, of every snapshot in the record.

    Raises:
        NotApplicable: no window of a stream was trained again.
        Missing: the base or every window was not probed, or a loss is not finite.
    """
    options = run.recipe.get("scenario", {}).get("options", {})
    if not {"windows", "control_windows", "zone"} <= options.keys():
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
    windows = [(int(start), int(end)) for start, end in (*options["windows"], *options["control_windows"])]
    return Changes(windows, len(options["windows"]), int(options["zone"]), after, rested)


def _contrasts(changes: Changes, *regions: Region) -> list[Contrast]:
    return _some([one for region in regions for one in changes.contrasts_after[region]], *regions)


def _some(found: list[Contrast], *regions: Region) -> list[Contrast]:
    if not found:
        raise Missing(f"no scored window has a control snapshot and probed positions {' or '.join(regions)}")
    return found


def _mean(contrasts: Sequence[Contrast], numbers: Sequence[float]) -> Value:
    """The mean over windows, whatever their lengths; items are positions."""
    return Value(float(np.mean(numbers)), sum(contrast.positions for contrast in contrasts))


def signal(changes: Changes, *regions: Region) -> Value:
    """Mean over scored windows of -(d_w - mean_c d_c), d = mean over the region of D(p) minus mean far D.

    w is the window's snapshot, c run over the snapshots retrained elsewhere. Unit: nats per token; any
    number, 0 without a memory; above 0 the loss fell further where it was looked for.
    """
    found = _contrasts(changes, *regions)
    return _mean(found, [contrast.signal for contrast in found])


def effect(changes: Changes) -> Value:
    """Mean over scored windows of the signal inside over the spread between controls at one position.

    Unit: standard deviations (as Cohen's d, the spread being that of D between snapshots); any number.
    """
    found = _contrasts(changes, "inside")
    return _mean(found, [contrast.effect for contrast in found])


def smallest(changes: Changes, *regions: Region) -> Value:
    """Mean over scored windows of the smallest signal that one window would have shown; see `Contrast.smallest`.

    It credits neither the averaging over windows, which share controls, nor that over seeds: a signal below it
    may still be told from zero by the interval over seeds. Unit: nats per token; above 0; lower is better.
    """
    found = _contrasts(changes, *regions)
    return _mean(found, [contrast.smallest for contrast in found])


def kept(changes: Changes) -> Value:
    """The signal inside at the end of the rest, against the other windows' snapshots at the end of theirs.

    Unit: nats per token; any number.
    """
    ends = {label: by_step[max(by_step)] for label, by_step in changes.rested.items()}
    if not ends:
        raise Missing("no rest follows a window, or it was not probed")
    found = _some(list(changes.contrasts("inside", ends)), "inside")
    return _mean(found, [contrast.signal for contrast in found])


def order(changes: Changes, shuffled: Changes) -> Value:
    """The signal behind and ahead, minus the same after a base pass in random order.

    In the control the windows, the documents beside them and everything trained after the base are the same:
    what neighbours gain because they are about the same things drops out. Unit: nats per token; any number.
    """
    own, other = (signal(each, "behind", "ahead") for each in (changes, shuffled))
    assert own.value is not None and other.value is not None
    return Value(own.value - other.value, own.n_items)


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    try:
        changes = changes_of(run)
    except Missing as missing:
        return {measure.name: Value(None, reason=str(missing)) for measure in MEASURES}
    return {
        "memory_signal": attempt(lambda: signal(changes, "inside")),
        "memory_signal.behind": attempt(lambda: signal(changes, "behind")),
        "memory_signal.ahead": attempt(lambda: signal(changes, "ahead")),
        "memory_signal.order": attempt(lambda: order(changes, changes_of(control(controls, "shuffled")))),
        "memory_signal.kept": attempt(lambda: kept(changes)),
        "memory_signal.effect": attempt(lambda: effect(changes)),
        "memory_signal.smallest": attempt(lambda: smallest(changes, "inside")),
        "memory_signal.smallest_near": attempt(lambda: smallest(changes, "behind", "ahead")),
    }


# -- the figure -------------------------------------------------------------------------------------------


def draw(rows: Sequence[Row]) -> Figure | None:
    """D(p) over the stream, a panel per scored window, against what windows elsewhere do; then the rest.

    Per panel: the first rows' mean over seeds in bins that end where the window ends; the window and its zones
    shaded; the band holds 95 % of what the first row's line would be had its window been elsewhere. The last
    panel shows the signal inside over the rest, with 95 % t intervals over seeds.
    """
    from matplotlib.figure import Figure

    drawn = _drawable(rows)
    if not drawn:
        return None
    first = next(iter(drawn.values()))[0]
    scored, rest = min(first.scored, _PANELS), bool(first.rested)
    panels = scored + rest
    figure = Figure(figsize=(11, 1.2 + 2.3 * -(-panels // 2)), layout="constrained")
    grid = figure.subplots(-(-panels // 2), 2, squeeze=False)
    axes = [axis for line in grid for axis in line]
    for axis in axes[panels:]:
        axis.set_axis_off()
    for label, axis in enumerate(axes[:scored]):
        _draw_window(axis, label, first, drawn)
    limits = np.array([axis.get_ylim() for axis in axes[:scored]])
    for axis in axes[:scored]:
        axis.set_ylim(limits.min(), limits.max())
    for line in grid:
        line[0].set_ylabel("change of loss, far = 0\n(nats per token)")
    if rest:
        _draw_rest(axes[scored], drawn)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(_title(rows, drawn, first), x=0.01, ha="left", fontsize=10)
    return figure


def _drawable(rows: Sequence[Row]) -> dict[str, list[Changes]]:
    """Row label to its runs' changes, by seed, for the first rows with the windows of the first."""
    drawn: dict[str, list[Changes]] = {}
    shown: tuple[Any, ...] | None = None
    for row in rows:
        try:
            runs = [changes_of(row.runs[seed]) for seed in sorted(row.runs)]
        except (NotApplicable, Missing):
            continue
        if not runs:
            continue
        layout = (runs[0].windows, runs[0].scored, runs[0].zone)
        shown = shown or layout
        if layout == shown and len(drawn) < _LINES:
            drawn[row.label] = runs
    return drawn


def _title(rows: Sequence[Row], drawn: Mapping[str, Sequence[Changes]], first: Changes) -> str:
    row = next(row for row in rows if row.label in drawn)
    seeds = len(row.runs)
    parts = [str(row.facts[name]) for name in ("scenario", "model", "preset") if row.facts.get(name)]
    title = f"{', '.join(parts)} ({seeds} seed{'s' * (seeds > 1)}"
    if first.scored > _PANELS:
        title += f", first {_PANELS} of {first.scored} windows"
    if len(drawn) < len(rows):
        title += f", {len(drawn)} of {len(rows)} rows"
    return clean(title + ")")


def _edges(changes: Changes, label: int) -> Array:
    """Bin edges over the probed positions, some of which are the window's own ends."""
    start, end = changes.windows[label]
    positions = changes.after[label].index
    width = max(
        changes.zone / _BINS_PER_ZONE, float(positions[1] - positions[0]) if len(positions) > 1 else 1.0
    )
    inside = np.linspace(start, end, max(1, round((end - start) / width)) + 1)
    below = np.arange(start, positions[0] - width, -width)[:0:-1]
    above = np.arange(end, positions[-1] + 1 + width, width)[1:]
    return np.concatenate([below, inside, above])


def _binned(excess: pd.Series, edges: Array) -> Array:
    """Mean of every bin, NaN where it holds no probed position."""
    bins = np.digitize(excess.index.to_numpy(dtype=float), edges) - 1
    means = excess.groupby(bins).mean()
    return means.reindex(range(len(edges) - 1)).to_numpy(dtype=float)


def _draw_window(axis: Axes, label: int, first: Changes, drawn: Mapping[str, Sequence[Changes]]) -> None:
    start, end = first.windows[label]
    edges = _edges(first, label)
    centres = (edges[:-1] + edges[1:]) / 2
    axis.axvspan(start - first.zone, end + first.zone, color="#999999", alpha=0.15, linewidth=0)
    axis.axvspan(start, end, color="#E69F00", alpha=0.3, linewidth=0, label="window (zones in grey)")
    for number, (colour, (name, runs)) in enumerate(zip(COLOURS, drawn.items(), strict=False)):
        own = [_binned(run.excess(run.after[label]), edges) for run in runs]
        if number == 0:
            centre, half = _control_band(label, runs, edges)
            axis.fill_between(
                centres,
                centre - half,
                centre + half,
                color="#666666",
                alpha=0.35,
                linewidth=0,
                label="95 % if retrained elsewhere",
            )
        axis.plot(centres, mean_band(np.array(own))[0], color=colour, linewidth=1.2, label=clean(name))
    axis.axhline(0, color="#333333", linewidth=0.6)
    axis.set_xlim(first.after[label].index[0], first.after[label].index[-1] + 1)
    axis.set_title(f"window {start}-{end}")
    axis.set_xlabel("position in the stream")


def _control_band(label: int, runs: Sequence[Changes], edges: Array) -> tuple[Array, Array]:
    """Where the mean over seeds would lie, bin by bin, had the snapshot been retrained elsewhere: centre, half-width.

    Variance is pooled over seeds within each seed's controls; a control is left out in the bins of its own window
    and zones. Half-width t(.975) s sqrt((1 + 1/k) / seeds); NaN where no seed has two controls.
    """
    means, squares, freedom, factor = [], [], [], []
    for run in runs:
        curves = []
        for other in run.controls(label, run.after):
            start, end = run.windows[other]
            own = (edges[1:] > start - run.zone) & (edges[:-1] < end + run.zone)
            curves.append(np.where(own, np.nan, _binned(run.excess(run.after[other]), edges)))
        table = np.ma.masked_invalid(np.array(curves))
        count = table.count(axis=0)
        means.append(table.mean(axis=0).filled(np.nan))
        squares.append(((table - table.mean(axis=0)) ** 2).sum(axis=0).filled(0))
        freedom.append(np.maximum(count - 1, 0))
        factor.append(1 + 1 / np.maximum(count, 1))
    total = np.sum(freedom, axis=0)
    spread = np.sqrt(np.sum(squares, axis=0) / np.maximum(total, 1))
    quantile = stats.t.ppf((1 + _LEVEL) / 2, np.maximum(total, 1))
    half = quantile * spread * np.sqrt(np.mean(factor, axis=0) / len(runs))
    return mean_band(np.array(means))[0], np.where(total > 0, half, np.nan)


def _draw_rest(axis: Axes, drawn: Mapping[str, Sequence[Changes]]) -> None:
    """The signal inside against steps of rest; 0 is the end of the window."""
    for colour, (name, runs) in zip(COLOURS, drawn.items(), strict=False):
        curves = pd.DataFrame([_rest_curve(run) for run in runs])
        curves = curves[sorted(curves.columns)]
        mean, low, high = mean_band(curves.to_numpy(dtype=float))
        steps = curves.columns.to_numpy(dtype=float)
        axis.plot(steps, mean, color=colour, marker="o", markersize=3, linewidth=1.2, label=clean(name))
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.axhline(0, color="#333333", linewidth=0.6)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xticks(steps, [f"{step:g}" for step in steps])
    axis.set_xlim(-0.1, 1.1 * steps[-1])
    axis.minorticks_off()
    axis.set_title("all windows, over the rest (band: 95 % interval)")
    axis.set_xlabel("steps of rest")
    axis.set_ylabel("signal inside\n(nats per token)")


def _rest_curve(changes: Changes) -> dict[int, float]:
    """Steps of rest to the signal inside; windows that get no rest are no control here."""
    by_step: dict[int, dict[int, pd.Series]] = {}
    for label, rested in changes.rested.items():
        by_step.setdefault(0, {})[label] = changes.after[label]
        for step, change in rested.items():
            by_step.setdefault(step, {})[label] = change
    curve = {}
    for step, snapshots in by_step.items():
        found = list(changes.contrasts("inside", snapshots))
        if found:
            curve[step] = float(np.mean([contrast.signal for contrast in found]))
    return curve


MEASURES = (
    Measure(
        "memory_signal",
        "nats/token",
        "higher",
        "further fall of loss inside the window than at the same positions in snapshots retrained elsewhere",
        margin=0.003,
    ),
    Measure("memory_signal.behind", "nats/token", "none", "the same just behind the window"),
    Measure("memory_signal.ahead", "nats/token", "none", "the same just ahead of the window"),
    Measure(
        "memory_signal.order",
        "nats/token",
        "none",
        "behind and ahead, minus the same after a base pass in random order",
    ),
    Measure("memory_signal.kept", "nats/token", "higher", "signal inside the window at the end of the rest"),
    Measure(
        "memory_signal.effect",
        "SD",
        "higher",
        "signal inside in standard deviations between control snapshots at one position",
    ),
    Measure(
        "memory_signal.smallest",
        "nats/token",
        "lower",
        "smallest signal inside that one window would have shown against its controls",
    ),
    Measure(
        "memory_signal.smallest_near", "nats/token", "lower", "the same for the positions behind and ahead"
    ),
)


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="memory_signal",
            version="1",
            summary="fall of loss in and beside a window trained again, against windows elsewhere",
            measures=MEASURES,
            compute=_compute,
            draw=draw,
        )
    ]
