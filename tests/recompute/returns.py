"""Does it come back? (docs/metrics: exact_rise, latent_revival, recovery)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from .boundaries import Values, grid
from .records import Arms, Run

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

SPLITS = 8
LEAST_EVEN, LEAST_FACTS, LEAST_ITEMS = 12, 4, 4


def left_alone(run: Run) -> frozenset[str]:
    """Trained facts that no training row states once the loops have ended."""
    stated = run.exposures
    return frozenset(stated["fact"]) - frozenset(stated.loc[stated["step"] > run.done, "fact"])


# -- exact_rise ---------------------------------------------------------------------------------------------


def exact_rise_measures(run: Run) -> Values:
    """docs/metrics/exact_rise.md: three curves over the rest, highest where other facts say, less the loops' end."""
    asked = run.answers
    asked = asked[(asked["cue"] == "none") & ~asked["task_known"] & asked["in_form"].notna()]
    form = "question" if (asked["relation"] == "question").any() else run.relation
    asked = asked[(asked["relation"] == form) & (asked["step"] >= run.done)]
    if run.rest is None or asked.empty:
        return {}
    found: Values = {}
    by_choice = (run.info.get("design") or {}).get("recall") == "forced_choice"
    columns = {"": "correct", "form": "in_form"} | ({"forced_choice": "right"} if by_choice else {})
    for name, column in columns.items():
        curves = changes(run, asked, column, less_twins=column != "in_form")
        if len(curves) < 2:
            continue
        read = [
            curves[rest][:, curves[half].mean(axis=0).argmax()].mean() for half, rest in halves(len(curves))
        ]
        found[f"exact_rise.{name}".rstrip(".")] = float(np.mean(read)), len(curves)
    return found


def changes(run: Run, asked: pd.DataFrame, column: str, *, less_twins: bool) -> Array:
    """Facts by steps of the rest: an answer less that at the end of the loops, and less the twin's change."""
    facts = grid(run, column, table=asked)
    alone = left_alone(run)
    facts = facts[[fact for fact in facts.columns if fact in alone]].dropna(axis=1)
    if less_twins:
        facts = facts - grid(run, column, twins=True, table=asked)[facts.columns]
    values = facts.to_numpy().T
    return np.asarray(values[:, 1:] - values[:, :1])


def halves(count: int) -> Iterator[tuple[Places, Places]]:
    """Eight times two random halves, each found on and read on; the page does not say which: as in the table."""
    random, by_name = np.random.default_rng(0), np.array(sorted(range(count), key=str))
    for _ in range(SPLITS):
        first, second = np.array_split(by_name[random.permutation(count)], 2)
        # Sorted, so that sums of floats run in the order of facts.
        yield np.sort(second), np.sort(first)
        yield np.sort(first), np.sort(second)


# -- latent_revival -----------------------------------------------------------------------------------------


def revival_measures(run: Run) -> Values:
    """docs/metrics/latent_revival.md: the largest rise of the margin over the twin's, read on other loops."""
    even = run.bare[run.bare["even"] & run.bare["margin"].notna() & (run.bare["step"] >= run.done)]
    alone = left_alone(run)
    facts, twins = grid(run, "margin", table=even), grid(run, "margin", twins=True, table=even)
    both = [fact for fact in facts.columns if fact in alone and fact in twins.columns]
    if len(facts) < LEAST_EVEN or len(both) < LEAST_FACTS:
        return {}
    own, beside = smooth(facts[both].to_numpy().T), smooth(twins[both].to_numpy().T)
    curves, loop = own - beside, run.loops[both].to_numpy()
    # Each loop counts alike, however many of its facts the rest leaves alone.
    means = np.array([curves[loop == name].mean(axis=0) for name in np.unique(loop)])
    if len(means) < 2:
        return {}
    read = []
    for half in itertools.combinations(range(len(means)), len(means) // 2):
        find = np.isin(range(len(means)), half)
        for one, other in ((find, ~find), (~find, find)):
            rise = pairs(means[one].mean(axis=0))
            before, after = np.unravel_index(rise.argmax(), rise.shape)
            read.append(float(pairs(means[other].mean(axis=0))[before, after]))
    rises, limits = largest(own), np.quantile(largest(beside), 0.95)
    share = float((rises > limits).mean() - 0.05)
    return {
        "latent_revival": (float(np.mean(read)), len(both)),
        "latent_revival.facts": (share, len(both)),
    }


def smooth(curves: Array) -> Array:
    """A running median of three probes; the first and the last have two and stay as they are."""
    windows = np.stack([curves[:, :-2], curves[:, 1:-1], curves[:, 2:]])
    return np.concatenate([curves[:, :1], np.median(windows, axis=0), curves[:, -1:]], axis=1)


def pairs(curve: Array) -> Array:
    """y_t - y_s for every s < t, nothing elsewhere."""
    rise = curve[None, :] - curve[:, None]
    return np.where(np.triu(np.ones_like(rise), 1) > 0, rise, -np.inf)


def largest(curves: Array) -> Array:
    """The largest rise of each curve in units of its roughness, the median of its absolute first differences."""
    rough = np.median(np.abs(np.diff(curves, axis=1)), axis=1)
    rises = np.array([max(pairs(curve).max(), 0.0) for curve in curves])
    # A curve that mostly stands still has no roughness: whatever it rises by is more than any.
    return np.asarray(rises / np.maximum(rough, 1e-12))


# -- recovery -----------------------------------------------------------------------------------------------


def recovery_measures(arms: Arms) -> Values:
    """docs/metrics/recovery.md: loss recovered before the next visit, in cyclic order and less shuffled order."""
    gaps = between_visits(arms.run)
    late = dict(list(gaps.items())[len(gaps) // 2 :])
    if not late or min(map(len, late.values())) < LEAST_ITEMS:
        return {}
    count = max(map(len, late.values()))
    recovered, forgotten = turning(late)
    found: Values = {"recovery.cyclic": (recovered, count), "recovery.forgotten": (forgotten, count)}
    if arms.shuffled is None:
        return found
    other = between_visits(arms.shuffled)
    # The same visits, ages and items: who leaves the shuffled curve early is taken out of the cyclic one too.
    shuffled = {
        visit: curves.reindex(columns=late[visit].columns) for visit, curves in other.items() if visit in late
    }
    cyclic = {
        visit: late[visit].loc[curves.index].where(curves.notna()) for visit, curves in shuffled.items()
    }
    if any(curves.diff(axis=1).iloc[:, 1:].isna().all().any() for curves in shuffled.values()):
        return found
    found["recovery"] = turning(cyclic)[0] - turning(shuffled)[0], count
    return found


def between_visits(run: Run) -> dict[int, pd.DataFrame]:
    """By number of the visit: the loss of every fact of all loops, by boundaries since, up to its next visit."""
    losses = grid(run, "loss", table=run.bare[run.bare["boundary"] & run.bare["task_label"].notna()])
    curves, steps, facts = losses.to_numpy(), losses.index.to_numpy(), losses.columns.to_numpy()
    # A fact that was first stated after a visit has nothing to lose yet.
    first = run.exposures.groupby("fact")["step"].min().reindex(facts).to_numpy()
    loops = run.loops[facts].to_numpy()
    found: dict[int, list[pd.DataFrame]] = {}
    for loop, visits in run.visits.sort_values("first_step").groupby("task_label"):
        ends, starts = visits["end"].to_numpy()[:-1], visits["first_step"].to_numpy()[1:]
        for number, (end, start) in enumerate(zip(ends, starts, strict=True)):
            mine, between = (loops == loop) & (first <= end), (steps >= end) & (steps <= start)
            table = pd.DataFrame(curves[between][:, mine].T, facts[mine])
            found.setdefault(number, []).append(table)
    tables = {
        number: pd.concat([part for part in parts if len(part)]) for number, parts in sorted(found.items())
    }
    return {number: table for number, table in tables.items() if table.shape[1] > 1}


def turning(gaps: dict[int, pd.DataFrame]) -> tuple[float, float]:
    """Max - pre and max - post of mean curves, the place of the maximum from one half, its height from the other."""
    random = np.random.default_rng(0)
    read: list[tuple[float, float]] = []
    for _, table in itertools.product(range(SPLITS), gaps.values()):
        losses, order = table.to_numpy(dtype=float), random.permutation(len(table))
        half = len(order) // 2
        for find, rest in ((order[:half], order[half:]), (order[half:], order[:half])):
            place, curve = mean_curve(losses[find]).argmax(), mean_curve(losses[rest])
            read.append((curve[place] - curve[-1], curve[place] - curve[0]))
    recovered, forgotten = np.mean(read, axis=0)
    return float(recovered), float(forgotten)


def mean_curve(losses: Array) -> Array:
    """The mean rise since the visit, from boundary to boundary over the items that are still waiting at both."""
    return np.concatenate([[0.0], np.nanmean(np.diff(losses, axis=1), axis=0).cumsum()])
