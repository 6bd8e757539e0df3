"""Loop contrast: is a memory better in its own place than elsewhere?

In a loop every curve has the loop's period by construction, so each number here is against a control: equal age
elsewhere in shuffled order, a cue of the fact's own loop against none, or the answer trained last.

Version 2: both sides of `loop_contrast` are read inside the shuffled run, where places and ages part. Version 1, now
`loop_contrast.cyclic`, read the own side in cyclic order: a memory without any sense of place that only depends on the
order of what was trained showed there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "loop_contrast", version="2", summary="recall in a memory's own place against equal age elsewhere"
)
seqmem_metric = metric.hook


@reading.once_per_run
def _inside(run: RunRecord) -> pd.DataFrame:
    """Return the facts asked inside visits, before the memory block, with the visited loop as `current`."""
    visits = reading.loop_visits(run)
    rows = reading.questions(run, "inside")
    position = visits["start"].to_numpy().searchsorted(rows["step"].to_numpy(), side="right") - 1
    return rows.assign(
        current=visits["loop"].to_numpy()[position],
        cycle=visits["visit"].to_numpy()[position],
        trained_last=np.where(position > 0, visits["loop"].to_numpy()[position - 1], -1),
    )


@metric.against(
    "shuffled",
    "loop_contrast",
    "fraction",
    "higher",
    "recall in the own loop minus elsewhere at equal age, in shuffled order",
    effect=0.05,
)
def contrast(run: RunRecord, shuffled: Callable[[], RunRecord]) -> Value:
    """Return recall in the fact's own loop minus recall elsewhere at equal age, both inside the shuffled run.

    Own: loop k's facts inside loop k, after its prose and before its block is trained again (from the second visit
    on). Elsewhere: the same number of visits to k behind, inside another loop, read at the own rows' steps since k's
    last visit by linear interpolation over the ages found there; older and younger rows are left out. Averaged over
    numbers of visits. Unit: fraction; range -1 to 1; zero when recall depends on age and exposure only; above zero
    when the loop's prose brings its facts back. None without the control, or where it holds no fact of equal age.
    """
    other = shuffled()
    return _own_against_elsewhere(other, other)


@metric.against(
    "shuffled", "loop_contrast.cyclic", "fraction", "none", "the same, the own loop read in cyclic order"
)
def cyclic(run: RunRecord, shuffled: Callable[[], RunRecord]) -> Value:
    """Return recall in the own loop in cyclic order minus recall elsewhere at equal age in shuffled order.

    What depends on the order of training alone shows here too. Unit: fraction; range -1 to 1.
    """
    return _own_against_elsewhere(run, shuffled())


def _own_against_elsewhere(run: RunRecord, other: RunRecord) -> Value:
    """Return recall inside the facts' own loops in `run` minus that at equal age inside other loops in `other`."""
    own = reading.since_visit(run, _inside(run))
    own = own[own["current"] == own["task_label"]]
    elsewhere = reading.since_visit(other, _inside(other))
    elsewhere = elsewhere[elsewhere["current"] != elsewhere["task_label"]]
    differences = []
    for seen, rows in own.groupby("seen"):
        known = elsewhere[elsewhere["seen"] == seen].groupby("lag")["right"].mean()
        ages = known.index.to_numpy(dtype=float)
        lag = rows["lag"].to_numpy(dtype=float)
        inside = rows[(lag >= ages.min()) & (lag <= ages.max())] if len(ages) else rows.iloc[:0]
        if len(inside):
            expected = np.interp(inside["lag"].to_numpy(dtype=float), ages, known.to_numpy(dtype=float))
            differences.append(float((inside["right"].to_numpy(dtype=float) - expected).mean()))
    if not differences:
        raise Missing("the shuffled control has no fact of equal age and exposure elsewhere")
    return Value(float(np.mean(differences)), int(own["fact"].nunique()))


def cued(run: RunRecord, cue: str) -> Value:
    """Return the gain of a cue: (cued - uncued) recall of trained facts minus the same for their never-trained twins.

    Primary probe form, end of the loops, schedule ``ladder``. Unit: fraction; range -2 to 2; above zero when
    the cue helps the memory itself and not just the format.
    """
    end, gains, facts = reading.loops_end(run), [], 0
    for twins in (False, True):
        recall = []
        for asked in (cue, "none"):
            rows = reading.questions(run, "ladder", cue=asked, twins=twins)
            rows = reading.some(
                rows[rows["step"] == end], f"cue {asked!r} was not asked at the end of the loops"
            )
            recall.append(float(rows["right"].mean()))
            facts = facts or int(rows["fact"].nunique())
        gains.append(recall[0] - recall[1])
    return Value(gains[0] - gains[1], facts)


metric.measure(
    "loop_contrast.cued", "fraction", "higher", "gain of the own loop's text as a cue, less twins'"
)(partial(cued, cue="own"))
metric.measure("loop_contrast.cued_other", "fraction", "none", "gain of another loop's text, less twins'")(
    partial(cued, cue="other")
)


def _answered(run: RunRecord) -> pd.DataFrame:
    """Return inside rows from the second cycle on, with the loop whose answer was given, where loops compete."""
    rows, loop_of = _inside(run), reading.rival_loops(run)
    rows = rows[(rows["cycle"] >= 1) & rows["choice"].notna()]
    loops = [
        loop_of.get(names[int(choice)]) for names, choice in zip(rows["choices"], rows["choice"], strict=True)
    ]
    rows = rows.assign(given=pd.array(loops, dtype="Int64"))
    rows = reading.some(
        rows[rows["given"].notna()],
        "the choices of the probes are not the loops' answers: not the variant 'conflict'",
    )
    return rows


@metric.measure("loop_contrast.conflict", "fraction", "higher", "own loop's answers less those trained last")
def conflict(run: RunRecord) -> Value:
    """Return the share of answers that are the current loop's own minus the share that are the loop's trained last.

    Every question, asked inside loop k before its block, from the second cycle on; the answer given is the
    most probable choice. Only means over these probes are given: which loop's answer is given when, inside a visit
    or over the rest, is not. Unit: fraction; range -1 (pure recency) over 0 (guessing) to 1 (the place decides). None
    in other variants than `conflict`.
    """
    rows = _answered(run)
    own = (rows["given"] == rows["current"]).mean() - (rows["given"] == rows["trained_last"]).mean()
    return Value(float(own), int(rows["fact"].nunique()))


@metric.measure("loop_contrast.conflict_own", "share", "higher", "share of the own loop's answers")
def conflict_own(run: RunRecord) -> Value:
    """Return the share of answers that are the current loop's own; chance is one over the number of loops.

    Unit: share; range 0 to 1. The recency null is 0 where another loop was trained last.
    """
    rows = _answered(run)
    return Value(float((rows["given"] == rows["current"]).mean()), int(rows["fact"].nunique()))
