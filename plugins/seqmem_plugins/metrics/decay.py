"""Decay: how fast is what injections won lost again?

R(t) = [l(LAM + t) - l(t_1)] / [l(LAM) - l(t_1)] with l the log-probability of the answer, mean over its tokens; t the
steps since the last local maximum LAM; t_1 right before the first injection. Each bracket is minus that of the
never-trained items, and sums over facts are divided. LAM is found on half of the facts and controls, R read on
the other halves. A line b - a log10 t goes by least squares through one point per doubling of t (1, 2-3, 4-7, ...),
the mean of the probes inside, before R first reaches 0: equation 4 is for an improvement not yet lost.

Chang et al. 2024 (arXiv 2406.11813, equations 3 and 4) take R as a mean of ratios per probe, each from its own maximum,
without outliers, fitted over every step. On simulated curves with a true .20 that estimator reads .12 to .19. For
recall, right or wrong, in the rest see `retention.half_life`.

Mind: what is trained later on counts; under `replay` it is loss in spite of rehearsal. The tail of `once` holds the
injections of other facts, that of the other groups does not. Where the top of the curve is flat, noise decides
where on it LAM lies, and a is read too small: a true .20 reads .17 to .19. Where the maximum lies at the end of the
window, early t are not asked and the line begins later. Compare strategies on one preset, and look at the figure.

None where the improvement is under two standard errors over facts and controls (the share of nothing is
undefined), and under four points above 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqmem import COLOURS, Measure, MetricSpec, NotApplicable, Relation, RunRecord, Value, clean, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt
from seqmem_plugins.metrics._injections import GROUPS, Array, Injected, facts_of, kept, retained
from seqmem_plugins.metrics._panels import MOST_ROWS, finish, line, log_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"

MAIN: Relation = "verbatim"
_LEAST_POINTS = 4


@dataclass(frozen=True)
class Fit:
    """R(t) = start - a log10 t, least squares over points at every doubling of t.

    Attributes:
        a: decay constant, share of the improvement lost per tenfold of t.
        start: R at t = 1 on the line.
        r2: share of the variance of the points that the line explains.
        facts: behind the points.
    """

    a: float
    start: float
    r2: float
    facts: int


def until_lost(log_t: Array, share: Array) -> tuple[Array, Array]:
    """The points before R first reaches 0: equation 4 holds for t below that, later on there is nothing to lose."""
    lost = np.flatnonzero(share <= 0)
    end = int(lost[0]) if len(lost) else len(share)
    return log_t[:end], share[:end]


def fit(injected: Injected, relation: Relation = MAIN, group: str | None = None) -> Fit:
    """The line through retainability against log10 t, all facts of the group pooled."""
    parts = kept(injected, relation, group)
    log_t, share = until_lost(*retained(parts))
    if len(share) < _LEAST_POINTS:
        raise Missing(
            f"retainability was above 0 at {len(share)} doublings of the steps since the local maximum, "
            f"{_LEAST_POINTS} are needed"
        )
    slope, start = np.polyfit(log_t, share, 1)
    left = float(np.sum((share - start - slope * log_t) ** 2))
    total = float(np.sum((share - share.mean()) ** 2))
    r2 = 1 - left / total if total > 0 else 0.0
    return Fit(-float(slope), float(start), r2, facts_of(parts))


def decay(injected: Injected, relation: Relation = MAIN, group: str | None = None) -> Value:
    """Decay constant a = -slope of R(t) against log10 t, t = steps since the last local maximum.

    Equation 4 of Chang et al. 2024. Unit: fraction of the improvement per tenfold of steps; any number, 0
    where nothing is lost; lower is better.
    """
    found = fit(injected, relation, group)
    return Value(found.a, found.facts)


def linearity(injected: Injected) -> Value:
    """R^2 of the line behind `decay`: is retainability linear in log t?

    Unit: fraction; range 0 to 1; neither way is better.
    """
    found = fit(injected)
    return Value(found.r2, found.facts)


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    injected = Injected(run)
    return {
        "decay": attempt(lambda: decay(injected)),
        **{f"decay.{group}": attempt(partial(decay, injected, MAIN, group)) for group in GROUPS},
        "decay.on_paraphrase": attempt(lambda: decay(injected, "paraphrase")),
        "decay.on_question": attempt(lambda: decay(injected, "question")),
        "decay.r2": attempt(lambda: linearity(injected)),
    }


@dataclass(frozen=True)
class _Drawn:
    """R of one seed and the line through it, by doubling of t: seeds differ by a step or two in their maximum."""

    share: pd.Series
    line: pd.Series


def _drawn(row: Row, group: str) -> Mapping[int, _Drawn]:
    """What a seed has, for the seeds that have it."""
    found = {}
    for seed, run in sorted(row.runs.items()):
        try:
            injected = Injected(run)
            log_t, share = retained(kept(injected, MAIN, group))
        except (Missing, NotApplicable):
            continue
        middle = 1.5 * 2 ** np.floor(log_t / np.log10(2) + 1e-9)
        try:
            through = fit(injected, MAIN, group)
            before = len(until_lost(log_t, share)[0])
            fitted = pd.Series(through.start - through.a * log_t[:before], index=middle[:before])
        except Missing:
            fitted = pd.Series(dtype=float)
        found[seed] = _Drawn(pd.Series(share, index=middle), fitted)
    return found


def _groups(row: Row) -> list[str]:
    groups: set[str] = set()
    for run in row.runs.values():
        try:
            groups |= {one.group for one in Injected(run).injections}
        except (Missing, NotApplicable):
            continue
    return sorted(groups)


def draw(rows: Sequence[Row]) -> Figure | None:
    """Retainability against log t with the fitted lines, a line per group and a panel per table row."""
    from matplotlib.figure import Figure

    found = {
        row.label: {group: drawn for group in _groups(row) if (drawn := _drawn(row, group))} for row in rows
    }
    shown = [row for row in rows if found[row.label]]
    if not shown:
        return None
    width = min(len(shown), MOST_ROWS)
    figure = Figure(figsize=(2.6 + 3.6 * width, 3.8), layout="constrained")
    panels = figure.subplots(1, width, sharey=True, squeeze=False)[0]
    for row, axis in zip(shown, panels, strict=False):
        for (group, drawn), colour in zip(found[row.label].items(), COLOURS, strict=False):
            line(axis, {s: one.share for s, one in drawn.items()}, colour, group, style="", marker="o")
            fitted = pd.DataFrame({s: one.line for s, one in drawn.items()}).mean(axis=1).sort_index()
            axis.plot(fitted.index.to_numpy(), fitted.to_numpy(), color=colour, linewidth=1.0)
        axis.axhline(0, color="#bbbbbb", linewidth=0.8)
        log_steps(axis)
        axis.set_title(clean(row.label))
        axis.set_xlabel("steps since the last local maximum")
    panels[0].set_ylabel("retainability\n(share of the improvement)")
    finish(figure, shown, "Retainability of injected facts")
    return figure


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    unit = "fraction/tenfold"
    return [
        MetricSpec(
            name="decay",
            version="1",
            summary="loss of the improvement won by injections, per tenfold of steps",
            measures=(
                Measure("decay", unit, "lower", "decay constant, asked in the trained wording"),
                Measure("decay.duplicate", unit, "lower", "the same of facts repeated word for word"),
                Measure("decay.paraphrase", unit, "lower", "the same of facts repeated in other words"),
                Measure("decay.once", unit, "lower", "the same of facts injected once"),
                Measure("decay.on_paraphrase", unit, "lower", "decay when asked in an untrained wording"),
                Measure("decay.on_question", unit, "lower", "decay when asked as a question"),
                Measure("decay.r2", "fraction", "none", "how well a line in log steps describes the loss"),
            ),
            compute=_compute,
            draw=draw,
            citation="Chang et al. 2024, How do large language models acquire factual knowledge, arXiv 2406.11813",
        )
    ]
