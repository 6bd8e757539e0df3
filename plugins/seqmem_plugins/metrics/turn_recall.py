"""Turn recall: is what was said n turns ago reproduced on cue?

Read at the first question after the conversation's own training, without the dialogue in front. All turns of a
conversation are trained equally often, so what differs between them is their place: a slope below zero is
recency. With the dialogue in front the model can read the answer; the twins' dialogues, never trained, say how
much of that needs no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "turn_recall",
    version="1",
    summary="recall of a conversation's turns when it ended, by turns back",
    figure="seqmem_plugins.metrics.figures.turn_recall",
)
seqmem_metric = metric.hook

MIN_TURNS = 3


def at_end(run: RunRecord, *, twins: bool = False) -> pd.DataFrame:
    """Return the answers in the primary probe form at the end of each fact's own conversation.

    `position` is turns back.
    `gain` is log p(answer) per token then, minus the same before any training (nats per token).

    Raises:
        NotApplicable: no probe asks for a turn of a conversation.
        Missing: no conversation was trained on its own, or was asked about when it ended.
    """
    if not (run.items["group"] == "turn").any():
        raise NotApplicable("no turn of a conversation is asked for")
    table = run.experiences
    blocks = reading.some(
        table[(table["phase"] == "inject") & table["task_label"].notna()],
        "no conversation is trained on its own in this stream",
    )
    end_of = (blocks["first_step"] + blocks["steps"]).groupby(blocks["task_label"].astype(int)).max()
    rows = run.asked(schedule="boundary", twins=twins)
    rows = rows[rows["group"] == "turn"]
    rows = rows.assign(score=rows["logprob"] / rows["tokens"], end=rows["task_label"].map(end_of))
    before = rows[rows["step"] == 0].set_index("probe")["score"]
    rows = reading.some(
        rows[rows["step"] == rows["end"]].drop_duplicates("probe"),
        "no conversation was asked about when it ended",
    )
    return rows.assign(gain=rows["score"] - rows["probe"].map(before))


def by_turn(run: RunRecord, column: str, *, twins: bool = False) -> pd.Series:
    """Return the mean of a column of `at_end` by turns back, 1 for the last turn."""
    return at_end(run, twins=twins).groupby("position")[column].mean().rename(index=int)


def gain_by_turn(run: RunRecord) -> pd.Series:
    """Return the gain of trained facts minus that of their never-trained twins by turns back, nats per token."""
    twins = reading.some(at_end(run, twins=True), "no twin was asked when its conversation ended")
    facts = at_end(run)
    over_twin = facts["gain"] - facts["fact"].map(twins.set_index("twin_of")["gain"])
    by_turn = reading.some(
        over_twin.groupby(facts["position"]).mean().dropna().rename(index=int),
        "turns were not asked before training",
    )
    return by_turn


def _facts(run: RunRecord) -> int:
    return int(at_end(run)["fact"].nunique())


def recall_by_turn(run: RunRecord) -> pd.Series:
    """Return recall by turns back."""
    return by_turn(run, "right")


Curve = Callable[[RunRecord], pd.Series]


@metric.measure(
    "turn_recall", "share", "higher", "recall of turns when their conversation ended", margin=0.05
)
def mean(run: RunRecord, curve: Curve = recall_by_turn) -> Value:
    """Return the mean over turns back, each counting alike: of recall, or of the gain over twins.

    Gain is log p(answer) / tokens when the conversation ended minus the same before training, minus that of the
    twins. Unit: fraction, 0 to 1, or nats per token, any number; higher is better. None where no conversation is
    trained on its own.
    """
    return Value(float(curve(run).mean()), _facts(run))


@metric.measure("turn_recall.slope", "fraction/turn", "none", "its slope over turns back")
def slope(run: RunRecord, curve: Curve = recall_by_turn) -> Value:
    """Return the least-squares slope over turns back, per turn; below zero the last turns are known best.

    Unit: fraction or nats per token, per turn back; range: any number; no direction is better. None under three turns
    back.
    """
    turns = curve(run)
    if len(turns) < MIN_TURNS:
        raise Missing(f"{len(turns)} turns back were asked, {MIN_TURNS} are needed")
    return Value(float(np.polyfit(turns.index.to_numpy(float), turns.to_numpy(float), 1)[0]), _facts(run))


metric.measure("turn_recall.gain", "nats/token", "higher", "gain of answer log p over twins by then")(
    partial(mean, curve=gain_by_turn)
)
metric.measure("turn_recall.gain_slope", "nats/token/turn", "none", "its slope over turns back")(
    partial(slope, curve=gain_by_turn)
)


@metric.measure("turn_recall.read", "share", "higher", "recall with the dialogue in front")
def read(run: RunRecord, *, twins: bool = False) -> Value:
    """Return recall with the dialogue in front when the conversations were done.

    Unit: share; range 0 to 1. The twins' is reading alone.
    """
    rows = run.asked(schedule="ladder", twins=twins, context=None)
    rows = reading.some(
        rows[(rows["group"] == "turn") & (rows["context"] > 0) & (rows["step"] == reading.loops_end(run))],
        "no turn was asked for with the dialogue in front when the conversations were done",
    )
    return Value(float(rows["right"].mean()), int(rows["fact"].nunique()))


metric.measure("turn_recall.read_twins", "share", "none", "the same for twins: reading, no memory")(
    partial(read, twins=True)
)
