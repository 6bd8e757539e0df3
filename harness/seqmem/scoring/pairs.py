"""Two rows beside each other, on every measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from seqmem.core.errors import UsageError
from seqmem.core.measures import Interval, Measure
from seqmem.scoring.cells import Scores, by_seed, cell_of, is_paired, measured, read_scores
from seqmem.scoring.family import adjusted
from seqmem.scoring.statistics import Difference, paired_difference


@dataclass(frozen=True)
class PairComparison:
    """One measure of two rows, the first minus the second.

    Attributes:
        first, second: each row's own mean over all its seeds; None where no seed has a value.
        difference: over the seeds both have, `p` adjusted over the measures compared; None without such a seed.
        reason: why a row has no value, or there is no difference; empty where nothing is missing.
    """

    measure: Measure
    first: Interval | None
    second: Interval | None
    difference: Difference | None
    reason: str


def compare(scores: pd.DataFrame, a: str, b: str, measures: Sequence[Measure]) -> list[PairComparison]:
    """Compare row `a` minus row `b`, paired by seed, on each of the measures: one family of tests.

    Args:
        scores: what `score_rows` gave.
        a: label of a row in it.
        b: label of the row taken off.
        measures: those compared, in the order given.

    Raises:
        UsageError: `scores` has no such row, or both are the same.
    """
    labels = list(dict.fromkeys(map(str, scores["row"])))
    for label in (a, b):
        if label not in labels:
            raise UsageError(f"no row {label!r} with a finished run; rows: {', '.join(labels) or 'none'}")
    if a == b:
        raise UsageError(f"both rows are {a!r}; give two different ones of: {', '.join(labels)}")
    values = read_scores(scores)
    pairs = [_pair(values, a, b, measure) for measure in measures]
    tested = adjusted([pair.difference for pair in pairs])
    return [replace(pair, difference=difference) for pair, difference in zip(pairs, tested, strict=True)]


def _pair(scores: Scores, a: str, b: str, measure: Measure) -> PairComparison:
    own, other = by_seed(scores, a, measure.name), by_seed(scores, b, measure.name)
    counted = not is_paired(measure)
    found = None if counted else paired_difference(own, other, measure.margin)
    missing = {
        label: cell_of(scores, label, measure, None).reason
        if (label, measure.name) in scores
        else "no metric gives it"
        for label, seeds in ((a, own), (b, other))
        if not seeds
    }
    reason = "; ".join(f"{label}: {why}" for label, why in missing.items())
    if len(missing) == 2 and missing[a] == missing[b]:
        reason = missing[a]
    elif not missing and counted:
        reason = f"{'ratios of means' if measure.ratio else measure.unit} have no difference by seed"
    elif not missing and found is None:
        reason = f"no seed has a value in both {a} and {b}"
    first, second = (measured(scores, row, measure) for row in (a, b))
    return PairComparison(measure, first, second, found, reason)
