"""Turn recall: is what was said n turns ago reproduced on cue?

Read at the first question after the conversation's own training, without the dialogue in front. All turns of a
conversation are trained equally often, so what differs between them is their place: a slope below zero is
recency. With the dialogue in front the model can read the answer; the twins' dialogues, never trained, say how
much of that needs no memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqmem import COLOURS, Measure, MetricSpec, NotApplicable, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt, loops_end

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"

LEAST_TURNS = 3


def at_end(run: RunRecord, *, twins: bool = False) -> pd.DataFrame:
    """Answers on the primary rung at the end of each fact's own conversation; `position` is turns back.

    `gain` is log p(answer) per token then, minus the same before any training (nats per token).

    Raises:
        NotApplicable: no probe asks for a turn of a conversation.
        Missing: no conversation was trained on its own, or was asked about when it ended.
    """
    if not (run.items["group"] == "turn").any():
        raise NotApplicable("no turn of a conversation is asked for")
    table = run.experiences
    blocks = table[(table["phase"] == "inject") & table["task_label"].notna()]
    if blocks.empty:
        raise Missing("no conversation is trained on its own in this stream")
    end_of = (blocks["first_step"] + blocks["steps"]).groupby(blocks["task_label"].astype(int)).max()
    rows = run.asked(schedule="boundary", twins=twins)
    rows = rows[rows["group"] == "turn"]
    rows = rows.assign(score=rows["logprob"] / rows["tokens"], end=rows["task_label"].map(end_of))
    before = rows[rows["step"] == 0].set_index("probe")["score"]
    rows = rows[rows["step"] == rows["end"]].drop_duplicates("probe")
    if rows.empty:
        raise Missing("no conversation was asked about when it ended")
    return rows.assign(gain=rows["score"] - rows["probe"].map(before))


def by_turn(run: RunRecord, column: str, *, twins: bool = False) -> pd.Series:
    """Mean of a column of `at_end` by turns back, 1 for the last turn."""
    return at_end(run, twins=twins).groupby("position")[column].mean().rename(index=int)


def gain_by_turn(run: RunRecord) -> pd.Series:
    """Gain of trained facts minus that of their never-trained twins by turns back, nats per token."""
    twins = at_end(run, twins=True)
    if twins.empty:
        raise Missing("no twin was asked when its conversation ended")
    facts = at_end(run)
    over_twin = facts["gain"] - facts["fact"].map(twins.set_index("twin_of")["gain"])
    by_turn = over_twin.groupby(facts["position"]).mean().dropna().rename(index=int)
    if by_turn.empty:
        raise Missing("turns were not asked before training")
    return by_turn


def mean(curve: pd.Series, facts: int) -> Value:
    """Mean over turns back, each counting alike: of recall, or of the gain over twins.

    Gain is log p(answer) / tokens when the conversation ended minus the same before training, minus that of the
    twins. Unit: fraction, 0 to 1, or nats per token, any number; higher is better. None where no conversation is
    trained on its own.
    """
    return Value(float(curve.mean()), facts)


def slope(curve: pd.Series, facts: int) -> Value:
    """Least-squares slope over turns back, per turn; below zero the last turns are known best.

    Unit: fraction or nats per token, per turn back; range: any number; no direction is better. None under three turns
    back.
    """
    if len(curve) < LEAST_TURNS:
        raise Missing(f"{len(curve)} turns back were asked, {LEAST_TURNS} are needed")
    return Value(float(np.polyfit(curve.index.to_numpy(float), curve.to_numpy(float), 1)[0]), facts)


def read(run: RunRecord, *, twins: bool = False) -> Value:
    """Recall with the dialogue in front when the conversations were done.

    Unit: fraction; range 0 to 1. The twins' is reading alone.
    """
    rows = run.asked(schedule="ladder", twins=twins, context=None)
    rows = rows[(rows["group"] == "turn") & (rows["context"] > 0) & (rows["step"] == loops_end(run))]
    if rows.empty:
        raise Missing("no turn was asked for with the dialogue in front when the conversations were done")
    return Value(float(rows["correct"].mean()), int(rows["fact"].nunique()))


def _facts(run: RunRecord) -> int:
    return int(at_end(run)["fact"].nunique())


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    return {
        "turn_recall": attempt(lambda: mean(by_turn(run, "correct"), _facts(run))),
        "turn_recall.slope": attempt(lambda: slope(by_turn(run, "correct"), _facts(run))),
        "turn_recall.gain": attempt(lambda: mean(gain_by_turn(run), _facts(run))),
        "turn_recall.gain_slope": attempt(lambda: slope(gain_by_turn(run), _facts(run))),
        "turn_recall.read": attempt(lambda: read(run)),
        "turn_recall.read_twins": attempt(lambda: read(run, twins=True)),
    }


# -- figure -----------------------------------------------------------------------------------------------


def _draw(rows: Sequence[Row]) -> Figure | None:
    """Recall, and below it the gain over twins, against turns back; a line per row, twins dashed."""
    from matplotlib.figure import Figure

    from seqmem_plugins.metrics._panels import MOST_ROWS, finish, line

    drawn = [row for row in rows if all(_asked(run) for run in row.runs.values())]
    if not drawn:
        return None
    figure = Figure(figsize=(9, 6), layout="constrained")
    recall, gain = figure.subplots(2, 1, sharex=True)
    for row, colour in zip(drawn[:MOST_ROWS], COLOURS, strict=False):
        line(
            recall,
            {seed: by_turn(run, "correct") for seed, run in row.runs.items()},
            colour,
            row.label,
            marker="o",
        )
        twins = {seed: by_turn(run, "correct", twins=True) for seed, run in row.runs.items()}
        line(recall, twins, colour, f"{row.label}, twins", style="--")
        line(
            gain,
            {seed: gain_by_turn(run) for seed, run in row.runs.items()},
            colour,
            row.label,
            marker="o",
        )
    recall.set_ylim(-0.03, 1.03)
    recall.set_ylabel("recall (share right)")
    gain.axhline(0, color="#999999", linewidth=0.8)
    gain.set_ylabel("gain of answer log p\nover twins (nats per token)")
    gain.set_xlabel("turns back from the end of the conversation (1: last turn)")
    gain.xaxis.get_major_locator().set_params(integer=True)
    for axis in (recall, gain):
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    finish(figure, drawn, "recall by turns back")
    return figure


def _asked(run: RunRecord) -> bool:
    """Whether the figure's curves can be had of this run."""
    try:
        gain_by_turn(run)
    except (Missing, NotApplicable):
        return False
    return True


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="turn_recall",
            version="1",
            summary="recall of a conversation's turns when it ended, by turns back",
            measures=(
                Measure(
                    "turn_recall",
                    "fraction",
                    "higher",
                    "recall of turns when their conversation ended",
                    margin=0.05,
                ),
                Measure("turn_recall.slope", "fraction/turn", "none", "its slope over turns back"),
                Measure(
                    "turn_recall.gain", "nats/token", "higher", "gain of answer log p over twins by then"
                ),
                Measure("turn_recall.gain_slope", "nats/token/turn", "none", "its slope over turns back"),
                Measure("turn_recall.read", "fraction", "higher", "recall with the dialogue in front"),
                Measure(
                    "turn_recall.read_twins", "fraction", "none", "the same for twins: reading, no memory"
                ),
            ),
            compute=_compute,
            draw=_draw,
        )
    ]
