"""Decay: how fast is what injections won lost again?

R(t) = [l(LAM + t) - l(t_1)] / [l(LAM) - l(t_1)] with l the log-probability of the answer, mean over its tokens. t are
the steps since the last local maximum LAM, t_1 lies right before the first injection. Each bracket is minus that of the
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

from dataclasses import dataclass
from functools import partial

import numpy as np

from seqmem import Metric, Missing, Relation, RunRecord, Value
from seqmem.reading import Array
from seqmem_plugins.metrics._retained import GROUPS, MAIN, facts_of, kept, retained

seqmem_api = ">=1,<2"
metric = Metric(
    "decay",
    version="1",
    summary="loss of the improvement won by injections, per tenfold of steps",
    citation="Chang et al. 2024, How do large language models acquire factual knowledge, arXiv 2406.11813",
    figure="seqmem_plugins.metrics.figures.decay",
)
seqmem_metric = metric.hook

UNIT = "fraction/tenfold"
_MIN_POINTS = 4


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
    """Return the points before R first reaches 0: equation 4 holds for t below that, later nothing is left to lose."""
    lost = np.flatnonzero(share <= 0)
    end = int(lost[0]) if len(lost) else len(share)
    return log_t[:end], share[:end]


def fit(run: RunRecord, relation: Relation = MAIN, group: str | None = None) -> Fit:
    """Fit the line through retainability against log10 t, all facts of the group pooled."""
    parts = kept(run, relation, group)
    log_t, share = until_lost(*retained(parts))
    if len(share) < _MIN_POINTS:
        raise Missing(
            f"retainability was above 0 at {len(share)} doublings of the steps since the local maximum, "
            f"{_MIN_POINTS} are needed"
        )
    slope, start = np.polyfit(log_t, share, 1)
    left = float(np.sum((share - start - slope * log_t) ** 2))
    total = float(np.sum((share - share.mean()) ** 2))
    r2 = 1 - left / total if total > 0 else 0.0
    return Fit(-float(slope), float(start), r2, facts_of(parts))


@metric.measure("decay", UNIT, "lower", "decay constant, asked in the trained wording")
def decay(run: RunRecord, relation: Relation = MAIN, group: str | None = None) -> Value:
    """Return the decay constant a = -slope of R(t) against log10 t, t = steps since the last local maximum.

    Equation 4 of Chang et al. 2024. Unit: fraction of the improvement per tenfold of steps; any number, 0
    where nothing is lost; lower is better.
    """
    found = fit(run, relation, group)
    return Value(found.a, found.facts)


for _group, _summary in GROUPS.items():
    metric.measure(f"decay.{_group}", UNIT, "lower", _summary)(partial(decay, group=_group))
metric.measure("decay.on_paraphrase", UNIT, "lower", "decay when asked in an untrained wording")(
    partial(decay, relation="paraphrase")
)
metric.measure("decay.on_question", UNIT, "lower", "decay when asked as a question")(
    partial(decay, relation="question")
)


@metric.measure("decay.r2", "fraction", "none", "how well a line in log steps describes the loss")
def linearity(run: RunRecord) -> Value:
    """Return R^2 of the line behind `decay`: is retainability linear in log t?

    Unit: share; range 0 to 1; no direction is better.
    """
    found = fit(run)
    return Value(found.r2, found.facts)
