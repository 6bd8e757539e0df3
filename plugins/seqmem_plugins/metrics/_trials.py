"""Facts on their way to the criterion of `exposures_to_criterion`, and Kaplan and Meier's estimate over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import CensoredData, ecdf

from seqmem import Missing, RunRecord, reading


@dataclass(frozen=True)
class Trial:
    """A fact or twin, and what became of it.

    Attributes:
        exposures: of the fact before the first of the right answers that make up the criterion; where it was
            not reached, of the last probe from which it could have been.
        reached: the criterion was reached.
        step: optimizer steps done at that first right answer, None where it was not reached.
    """

    fact: str
    exposures: int
    reached: bool
    step: int | None


@reading.once_per_run
def trials(run: RunRecord, *, twins: bool = False) -> list[Trial]:
    """Return one trial per fact; a twin's exposures are those of its fact, and its answer is its own."""
    rows = reading.some(
        run.asked(schedule="exposure", twins=twins),
        f"no {'twin' if twins else 'fact'} was asked after every exposure",
    )
    criterion, _ = _declared(run)
    stated = run.exposures.groupby("fact")
    found = []
    for fact, asked in rows.sort_values("step").groupby("fact", sort=False):
        own = stated.get_group(str(asked["twin_of"].iloc[0]) if twins else str(fact))
        steps = asked["step"].to_numpy()
        done = np.append(0, own["count"].cumsum())[own["step"].searchsorted(steps, side="right")]
        first = reading.first_run(asked["right"].to_numpy(dtype=bool), criterion)
        if first is None:
            found.append(Trial(str(fact), int(done[-criterion]), False, None))
        else:
            found.append(Trial(str(fact), int(done[first]), True, int(steps[first])))
    return found


def _declared(run: RunRecord) -> tuple[int, int]:
    """Return the criterion and the most exposures, as the stream declares them."""
    criterion, most = run.design.criterion, run.design.max_exposures
    if criterion is None or most is None:
        raise Missing("the stream declares no criterion, or not how many exposures it gives")
    return criterion, most


def limit(run: RunRecord) -> int:
    """Return the most exposures from which the criterion can be reached: its right answers have to follow."""
    criterion, most = _declared(run)
    return most - criterion + 1


def survival(found: Sequence[Trial]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return Kaplan-Meier's numbers of exposures, ascending, and S just after each; S is 1 before the first."""
    times = [float(trial.exposures) for trial in found if trial.reached]
    censored = [float(trial.exposures) for trial in found if not trial.reached]
    curve = ecdf(CensoredData(uncensored=np.array(times), right=np.array(censored))).sf
    return np.asarray(curve.quantiles, dtype=float), np.asarray(curve.probabilities, dtype=float)


def restricted_mean(found: Sequence[Trial], limit: int) -> float:
    """Return the area under S from 0 to `limit`: the mean of exposures, a fact that needs more counting `limit`."""
    times, share = survival(found)
    edges = np.clip(np.concatenate([[0.0], times, [float(limit)]]), 0.0, limit)
    return float(np.sum(np.diff(edges) * np.concatenate([[1.0], share])))
