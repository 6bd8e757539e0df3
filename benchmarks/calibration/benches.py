"""Benches of a case: intervals and detectors over as many seeds as a leaderboard has, judged by the bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.calibration.beds import Array
from benchmarks.calibration.cases import CASES, Claim, ratio_of, spec_of
from seqmem.core.measures import Interval
from seqmem.scoring.ratios import ratio_interval
from seqmem.scoring.statistics import t_interval

IntArray = npt.NDArray[np.int_]

SEEDS = (3, 8)
BLOCKS = 10
"""Number of blocks that runs are split into, none of which shares a run with another: their spread is the error."""
PER_BLOCK = 400
"""Benches drawn from each block."""
COVERAGE = (0.93, 0.97)
MAX_ALARMS = 0.05
MIN_POWER = {"effect": 0.95, "power": 0.8}
MAX_BIAS = 0.05
FROM_BEST = ("kept", "within error", "missed")


@dataclass(frozen=True)
class Rate:
    """A share of benches and its Monte Carlo error, one standard error; None where no bench gave one."""

    share: float | None
    error: float


@dataclass(frozen=True)
class Figures:
    """Results of a measure over all benches of one number of seeds.

    Attributes:
        benches: benches made.
        covered: of those with an interval, the share whose 95 % t interval holds the truth.
        fired: of all benches, the share whose interval lies above zero.
        without: share of benches that had no interval: fewer than two of their seeds had a value, or all had
            the same, where tables print the mean alone.
    """

    benches: int
    covered: Rate
    fired: Rate
    without: float


@dataclass(frozen=True)
class Result:
    """A claim and what came of it.

    Attributes:
        mean, error: over all runs that had a value, with its Monte Carlo error.
        sd: between runs.
        missing: share of runs without a value.
        by_seeds: figures by number of seeds.
    """

    measure: str
    kind: str
    truth: float
    note: str
    held_at: tuple[int, ...]
    mean: float | None
    error: float
    sd: float
    missing: float
    by_seeds: Mapping[int, Figures]

    @property
    def bias(self) -> float | None:
        """Mean minus truth."""
        return None if self.mean is None else self.mean - self.truth


def one_run(case: str, seed: int) -> Mapping[str, float]:
    """Values by measure of one run; the same for the same arguments."""
    return CASES[case].run(np.random.default_rng([*case.encode(), seed]))


def runs(case: str, first: int, count: int) -> list[Mapping[str, float]]:
    """Several runs, for a worker process."""
    return [one_run(case, seed) for seed in range(first, first + count)]


def _rate(shares: Array, counts: Array) -> Rate:
    """Share over all blocks from the shares of each; blocks without a count say nothing."""
    if not counts.sum():
        return Rate(None, 0.0)
    share = float(np.average(shares, weights=counts))
    known = shares[counts > 0]
    spread = float(known.std(ddof=1)) / len(known) ** 0.5 if len(known) > 1 else 0.0
    # a share of 0 or 1 in every block is not free of error: at least that of half a bench
    return Rate(share, max(spread, 0.5 / float(counts.sum())))


def _drawn(values: IntArray, seeds: int) -> IntArray:
    """(benches, seeds) of one block: its runs are shuffled and cut into benches again and again."""
    random, cuts = np.random.default_rng(0), len(values) // seeds
    orders = [random.permutation(len(values))[: cuts * seeds] for _ in range(-(-PER_BLOCK // cuts))]
    return np.asarray(values[np.concatenate(orders)].reshape(-1, seeds)[:PER_BLOCK])


def figures(values: Array, truth: float, seeds: int, below: Array | None = None) -> Figures:
    """Benches drawn from runs, block by block; the runs of a bench are all different.

    Args:
        values: of all runs; of a ratio of means what stands above the line.
        truth: what intervals should hold.
        seeds: of a bench.
        below: what stands below the line.
    """
    shares, counts, without = np.zeros((2, BLOCKS)), np.zeros((2, BLOCKS)), 0
    for block, own in enumerate(np.array_split(np.arange(len(values)), BLOCKS)):
        covered, fired = [], []
        for bench in _drawn(own, seeds):
            interval = _interval(values[bench], None if below is None else below[bench])
            if interval is None or interval.low is None or interval.high is None:
                fired.append(False)
                continue
            covered.append(interval.low <= truth <= interval.high)
            fired.append(interval.low > 0)
        without += len(fired) - len(covered)
        shares[:, block] = np.mean(covered) if covered else 0, np.mean(fired)
        counts[:, block] = len(covered), len(fired)
    benches = BLOCKS * PER_BLOCK
    return Figures(benches, _rate(shares[0], counts[0]), _rate(shares[1], counts[1]), without / benches)


def _interval(values: Array, below: Array | None) -> Interval | None:
    """Return the interval of a bench, as a table would have it."""
    known = values[~np.isnan(values)].tolist()
    if below is not None:
        both = ~np.isnan(values) & ~np.isnan(below)
        return ratio_interval(dict(enumerate(values[both])), dict(enumerate(below[both])))
    return t_interval(known) if len(set(known)) > 1 else None


def result(claim: Claim, found: Sequence[Mapping[str, float]]) -> Result:
    """A claim held against the runs of its case; without benches where there are too few runs."""
    ratio = ratio_of(claim.measure)
    values, below = (_values(found, name) for name in ratio or (claim.measure, claim.measure))
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else None
    sd = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    if ratio is not None and mean is not None:
        blocks = zip(np.array_split(values, BLOCKS), np.array_split(below, BLOCKS), strict=True)
        mean = float(np.nanmean(values) / np.nanmean(below))
        each = [np.nanmean(above) / np.nanmean(under) for above, under in blocks]
        sd = float(np.std(each, ddof=1)) * (len(known) / BLOCKS) ** 0.5
    return Result(
        claim.measure,
        claim.kind,
        claim.truth,
        claim.note,
        claim.seeds,
        mean,
        sd / max(len(known), 1) ** 0.5,
        sd,
        float(np.isnan(values).mean()),
        {
            n: figures(values, claim.truth, n, None if ratio is None else below)
            for n in SEEDS
            if len(values) >= BLOCKS * n
        },
    )


def _values(found: Sequence[Mapping[str, float]], measure: str) -> Array:
    return np.array([one.get(measure, np.nan) for one in found])


def verdicts(one: Result) -> Mapping[int, str]:
    """Return ``kept``, ``within error``, ``missed`` or ``no value`` by number of seeds, 1 for single runs.

    A value must be covered 93 to 97 % of the time. A null may fire in 5 % and must be covered like a value, so that
    values below zero count too. A silent detector may fire in 5 %, an effect must fire in 95 %, a power in 80 %. A mean
    must lie within .05 of the truth. Within error: missed by less than two standard errors of the simulation. ``no
    value``: most benches of a null have no interval, so that its silence proves nothing.
    """
    found = {}
    if one.kind == "mean":
        bias = Rate(None if one.bias is None else abs(one.bias), one.error)
        return {1: _inside(bias, 0.0, MAX_BIAS)}
    for seeds, seen in one.by_seeds.items():
        if one.kind == "value":
            found[seeds] = _inside(seen.covered, *COVERAGE)
        elif one.kind in ("null", "silent"):
            judged = [_inside(seen.fired, 0.0, MAX_ALARMS)]
            if one.kind == "null":
                judged.append(_inside(seen.covered, *COVERAGE))
            found[seeds] = "no value" if seen.without > 0.5 else max(judged, key=FROM_BEST.index)
        elif one.kind in MIN_POWER and seeds in one.held_at:
            found[seeds] = _inside(seen.fired, MIN_POWER[one.kind], 1.0)
    return found


def _inside(rate: Rate, low: float, high: float) -> str:
    if rate.share is None:
        return "missed"
    beyond = max(low - rate.share, rate.share - high)
    return "kept" if beyond <= 0 else "within error" if beyond <= 2 * rate.error else "missed"


def versions(case: str) -> Mapping[str, str]:
    """Versions of the metrics a case holds to the truth."""
    return {metric: spec_of(metric).version for metric in sorted(CASES[case].metrics)}


def as_json(found: Result) -> Mapping[str, object]:
    """A result as plain values."""
    return asdict(found)


def from_json(stored: Mapping[str, object]) -> Result:
    """A result as `as_json` gave it, through a file."""
    fields = dict(stored)
    by_seeds = fields.pop("by_seeds")
    held_at = fields.pop("held_at")
    assert isinstance(by_seeds, dict) and isinstance(held_at, list | tuple)
    figures_by_seeds = {
        int(seeds): Figures(**{**seen, "covered": Rate(**seen["covered"]), "fired": Rate(**seen["fired"])})
        for seeds, seen in by_seeds.items()
    }
    return Result(
        **fields,  # type: ignore[arg-type]
        held_at=tuple(held_at),
        by_seeds=figures_by_seeds,
    )
