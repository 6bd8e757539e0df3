"""Exposures to criterion: how often must a new fact be stated until it is recalled?

A fact is recalled once it is answered rightly at `criterion` probes in a row; its exposures to criterion are
those before the first of them. A fact that never gets there is censored at the last number of exposures from
which enough probes were left, `max_exposures` - `criterion` + 1, the *limit*: all that is known is that it needs
more. Kaplan and Meier's estimate (1958) of the share not yet recalled after k
exposures, S(k), uses both kinds.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value, reading
from seqmem_plugins.metrics._trials import limit, restricted_mean, survival, trials

NAME = "exposures_to_criterion"


def asked_after_exposures(run: RunRecord) -> RunRecord:
    """Return the run, where facts are asked after every one of their exposures."""
    if "exposure" not in run.schedules:
        raise NotApplicable("no fact is asked after every one of its exposures")
    return run


seqmem_api = ">=1,<2"
metric = Metric(
    NAME,
    version="1",
    summary="exposures until a new fact is recalled, and what survives",
    reads=asked_after_exposures,
    citation="Kaplan & Meier 1958, Nonparametric Estimation from Incomplete Observations",
    figure="seqmem_plugins.metrics.figures.exposures_to_criterion",
)
seqmem_metric = metric.hook


@metric.measure(
    NAME, "exposures", "lower", "restricted mean, facts never recalled counting as the limit", margin=1.0
)
def exposures_to_criterion(run: RunRecord) -> Value:
    """Return the restricted mean of exposures to criterion: the area under S up to the limit.

    A fact that never reached the criterion counts as the limit, so with any of them this is a lower bound;
    `.reached` says how many there are. Unit: exposures; range: 0 to the limit; lower is better.
    """
    return Value(restricted_mean(trials(run), limit(run)), len(trials(run)))


@metric.measure(f"{NAME}.median", "exposures", "lower", "Kaplan-Meier median")
def median(run: RunRecord) -> Value:
    """Return the Kaplan-Meier median: the smallest number of exposures k with S(k) <= 1/2.

    Unit: exposures; range: 0 to the limit; lower is better. None where more than half of the facts never
    reached the criterion.
    """
    found = trials(run)
    times, share = survival(found)
    below = times[share <= 0.5]
    if not len(below):
        never = sum(not trial.reached for trial in found)
        raise Missing(f"{never} of {len(found)} facts were not recalled within {limit(run)} exposures")
    return Value(float(below[0]), len(found))


@metric.measure(f"{NAME}.reached", "share", "higher", "facts that reached the criterion")
def reached(run: RunRecord, *, twins: bool = False) -> Value:
    """Return the share of facts, or of never-trained twins, that reached the criterion within the exposures given.

    Unit: share; range 0 to 1. Of facts higher is better; of twins it is false alarms, and lower is better.
    """
    found = trials(run, twins=twins)
    return Value(float(np.mean([trial.reached for trial in found])), len(found))


def _learned(run: RunRecord) -> dict[str, int | None]:
    """Return the step at which each fact reached the criterion, of those that did."""
    when = {trial.fact: trial.step for trial in trials(run) if trial.reached}
    if not when:
        raise Missing("no fact reached the criterion")
    return when


@metric.measure(f"{NAME}.survived", "share", "higher", "of those, still right after background")
def survived(run: RunRecord) -> Value:
    """Return the share of the facts that reached the criterion which are still right after the background that follows.

    The background comes after all exposures, however early the criterion was reached. Unit: share; range 0 to
    1; higher is better.
    """
    learned = _learned(run)
    rows = run.asked(schedule="survival")
    rows = reading.some(
        rows[rows["fact"].isin(learned)], "no fact was asked after the background that follows"
    )
    return Value(float(rows["right"].mean()), len(learned))


metric.measure(f"{NAME}.twins", "share", "lower", "never-trained twins that reached it")(
    partial(reached, twins=True)
)


@metric.measure(f"{NAME}.spill", "share", "lower", "the fact's answer to its twin's question")
def spill(run: RunRecord) -> Value:
    """Return the mean probability of the fact's answer to its *twin's* question, when the fact is first recalled.

    A memory of one person leaves it near the answer's chance; an answer given to everybody makes it as large as
    the fact's own. Over facts that reached the criterion. Unit: share; range 0 to 1; lower is
    better.
    """
    when = _learned(run)
    rows = run.asked(schedule="exposure", twins=True)
    rows = reading.some(
        rows[(rows["step"] == rows["twin_of"].map(when)) & rows["best_other"].notna()],
        "the fact's answer was not scored on its twin's question",
    )
    return Value(float(np.exp(rows["best_other"]).mean()), len(rows))


@metric.measure(f"{NAME}.harm", "nats/token", "lower", "rise of held-out loss over the exposures")
def harm(run: RunRecord) -> Value:
    """Return held-out loss after all exposures, mean over facts, minus held-out loss at the base they started from.

    Unit: nats per token; range: any number; lower is better: what learning the fact costs the language model.
    """
    table = run.experiences.set_index("experience")
    rows = run.asked(schedule="general", relation="general")
    rows = rows[rows["step"] == rows["experience"].map(table["first_step"] + table["steps"])]
    sums = rows.groupby("experience")[["logprob", "tokens"]].sum()
    loss = -sums["logprob"] / sums["tokens"]
    base = loss[loss.index.isin(table.index[table["save_as"].notna()])]
    after = loss[loss.index.isin(table.index[table["start_from"].notna()])]
    if base.empty or after.empty:
        raise Missing("held-out text was not asked at the base and after the exposures")
    return Value(float(after.mean() - base.mean()), len(after))
