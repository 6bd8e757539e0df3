"""Coupling: does what stood in the context go over into the weights?

With the context full, an untrained model can read the answer in it. Training is to hand over: as the context
is taken away sentence by sentence, accuracy is to stay where it was. What a context gives anybody is taken
off by the twins, whose contexts hold never-trained sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value, reading

Step = Callable[[RunRecord], int]

MIN_ROOM = 0.2
"""Accuracy that the full context must give above chance: below, there is nothing to hand over."""
OWN_KEPT = "own sentence kept"
"""Group of the probes whose context holds the asked sentence itself."""


def answers_in_context(run: RunRecord, *, twins: bool) -> pd.DataFrame:
    """Return the answers of the schedule ``context``, in the probe form it asks, whatever stood in front.

    Raises:
        NotApplicable: nothing was asked with more and with less context.
    """
    asked = [
        run.asked(schedule="context", relation=str(relation), context=None, twins=twins)
        for relation in run.items.loc[run.items["context"] > 0, "relation"].unique()
    ]
    if not asked or (not twins and asked[0]["context"].nunique() < 2):
        raise NotApplicable("no question is asked with more and with less context")
    return pd.concat(asked)


def _asked_in_context(run: RunRecord) -> RunRecord:
    answers_in_context(run, twins=False)
    return run


seqmem_api = ">=1,<2"
metric = Metric(
    "coupling",
    version="1",
    summary="what a context gave before training, given by the parameters after it",
    reads=_asked_in_context,
    figure="seqmem_plugins.metrics.figures.coupling",
)
seqmem_metric = metric.hook


def accuracy(run: RunRecord, *, twins: bool) -> pd.DataFrame:
    """Return A_t(c), the share answered rightly; rows are steps, columns sentences of context kept, none to full."""
    rows = answers_in_context(run, twins=twins)
    return rows.pivot_table(index="step", columns="context", values="right", aggfunc="mean")


def kappa(before: float, after: Sequence[float], chance: float) -> float:
    """Return 1 - mean_c max(0, A_0(full) - A_t(c)) / (A_0(full) - chance).

    Args:
        before: A_0(full), accuracy before training with the full context, a fraction.
        after: A_t(c), accuracy afterwards for every context from full to none.
        chance: accuracy of guessing.

    Returns:
        At most 1: nothing is lost as the context goes. 0 and below: without it nothing is left.

    Raises:
        Missing: the denominator is under `MIN_ROOM`.
    """
    room = before - chance
    if room < MIN_ROOM:
        raise Missing(
            f"with the full context accuracy is {before:.2f} before training, under {MIN_ROOM} above chance: "
            "there is nothing to hand over"
        )
    return 1 - sum(max(0.0, before - a) for a in after) / len(after) / room


def coupled(run: RunRecord, at: Step = reading.loops_end, *, twins: bool = False) -> Value:
    """Return kappa at a step, of the trained facts or of their twins.

    Unit: fraction; range: at most 1; higher is better.
    """
    step = at(run)
    rows = reading.some(answers_in_context(run, twins=twins), "no twin was asked in context")
    table = accuracy(run, twins=twins)
    for needed, when in ((0, "before training"), (step, f"at step {step}")):
        if needed not in table.index:
            raise Missing(f"contexts were not asked {when}")
    before, after = (table.loc[[at]].to_numpy(dtype=float)[0].tolist() for at in (0, step))
    value = kappa(before[-1], after, rows["chance"].to_numpy(dtype=float).mean())
    return Value(value, int(rows["fact"].nunique()))


@metric.measure(
    "coupling", "fraction", "higher", "kappa minus the twins' kappa when training was done", margin=0.05
)
def net(run: RunRecord, at: Step = reading.loops_end) -> Value:
    """Return kappa of the trained facts minus that of their twins, whose answers only the context can give.

    kappa_t = 1 - mean_c max(0, A_0(full) - A_t(c)) / (A_0(full) - chance), A being accuracy, c the context from full
    to none, 0 before training and t when training was done, or the end of the stream (`coupling.end`). Unit:
    fraction; range: about -1 to 1, 0 where training handed nothing over; higher is better. None where A_0(full) is
    less than .2 above chance: there is nothing to hand over.
    """
    facts, twins = coupled(run, at), coupled(run, at, twins=True)
    assert facts.value is not None and twins.value is not None
    return Value(facts.value - twins.value, facts.n_items)


metric.measure("coupling.end", "fraction", "higher", "the same at the end of the stream")(
    partial(net, at=reading.stream_end)
)
metric.measure("coupling.facts", "fraction", "higher", "kappa of the trained facts alone")(coupled)
metric.measure("coupling.twins", "fraction", "none", "kappa of the twins: what the context gives")(
    partial(coupled, twins=True)
)


@metric.measure("coupling.own_kept", "share", "none", "share of contexts holding the asked sentence")
def own_kept(run: RunRecord) -> Value:
    """Return the share of the contexts asked, the empty one left out, that hold the asked sentence itself.

    Unit: share; range 0 to 1. 1: it stays to the last, and can be read in a context of any length; near 0:
    it goes first, and whatever is answered without it is remembered.
    """
    rows = answers_in_context(run, twins=False).drop_duplicates("probe")
    rows = rows[rows["context"] > 0]
    return Value(float((rows["group"] == OWN_KEPT).mean()), int(rows["fact"].nunique()))
