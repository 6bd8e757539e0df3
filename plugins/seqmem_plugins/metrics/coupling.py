"""Coupling: does what stood in the context go over into the weights?

With the context full, an untrained model can read the answer in it. Training is to hand over: as the context
is taken away sentence by sentence, accuracy is to stay where it was. What a context gives anybody is taken
off by the twins, whose contexts hold never-trained sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from seqmem import Measure, MetricSpec, NotApplicable, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt, loops_end, stream_end

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"

LEAST_ROOM = 0.2
"""Accuracy that the full context must give above chance: below, there is nothing to hand over."""


OWN_KEPT = "own sentence kept"
"""Group of the probes whose context holds the asked sentence itself."""


def answers_in_context(run: RunRecord, *, twins: bool) -> pd.DataFrame:
    """Answers of the schedule ``context``, on the rung it asks, whatever stood in front.

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


def accuracy(run: RunRecord, *, twins: bool) -> pd.DataFrame:
    """A_t(c): share answered rightly; rows are steps, columns sentences of context kept, none to full."""
    rows = answers_in_context(run, twins=twins)
    return rows.pivot_table(index="step", columns="context", values="correct", aggfunc="mean")


def kappa(before: float, after: Sequence[float], chance: float) -> float:
    """1 - mean_c max(0, A_0(full) - A_t(c)) / (A_0(full) - chance).

    Args:
        before: A_0(full), accuracy before training with the full context, a fraction.
        after: A_t(c), accuracy afterwards for every context from full to none.
        chance: accuracy of guessing.

    Returns:
        At most 1: nothing is lost as the context goes. 0 and below: without it nothing is left.

    Raises:
        Missing: the denominator is under `LEAST_ROOM`.
    """
    room = before - chance
    if room < LEAST_ROOM:
        raise Missing(
            f"with the full context accuracy is {before:.2f} before training, under {LEAST_ROOM} above chance: "
            "there is nothing to hand over"
        )
    return 1 - sum(max(0.0, before - a) for a in after) / len(after) / room


def coupled(run: RunRecord, step: int, *, twins: bool = False) -> Value:
    """Kappa at a step, of the trained facts or of their twins.

    Unit: fraction; range: at most 1; higher is better.
    """
    rows = answers_in_context(run, twins=twins)
    if rows.empty:
        raise Missing("no twin was asked in context")
    table = accuracy(run, twins=twins)
    for needed, when in ((0, "before training"), (step, f"at step {step}")):
        if needed not in table.index:
            raise Missing(f"contexts were not asked {when}")
    before, after = (table.loc[[at]].to_numpy(dtype=float)[0].tolist() for at in (0, step))
    value = kappa(before[-1], after, rows["chance"].to_numpy(dtype=float).mean())
    return Value(value, int(rows["fact"].nunique()))


def net(run: RunRecord, step: int) -> Value:
    """Kappa of the trained facts minus that of their twins, whose answers only the context can give.

    kappa_t = 1 - mean_c max(0, A_0(full) - A_t(c)) / (A_0(full) - chance), A being accuracy, c the context from full
    to none, 0 before training and t when training was done, or the end of the stream (`coupling.end`). Unit:
    fraction; range: about -1 to 1, 0 where training handed nothing over; higher is better. None where A_0(full) is
    less than .2 above chance: there is nothing to hand over.
    """
    facts, twins = coupled(run, step), coupled(run, step, twins=True)
    assert facts.value is not None and twins.value is not None
    return Value(facts.value - twins.value, facts.n_items)


def own_kept(run: RunRecord) -> Value:
    """Share of the contexts asked, the empty one left out, that hold the asked sentence itself.

    Unit: fraction; range 0 to 1. 1: it stays to the last, and can be read in a context of any length; near 0:
    it goes first, and whatever is answered without it is remembered.
    """
    rows = answers_in_context(run, twins=False).drop_duplicates("probe")
    rows = rows[rows["context"] > 0]
    return Value(float((rows["group"] == OWN_KEPT).mean()), int(rows["fact"].nunique()))


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    answers_in_context(run, twins=False)
    return {
        "coupling": attempt(lambda: net(run, loops_end(run))),
        "coupling.end": attempt(lambda: net(run, stream_end(run))),
        "coupling.facts": attempt(lambda: coupled(run, loops_end(run))),
        "coupling.twins": attempt(lambda: coupled(run, loops_end(run), twins=True)),
        "coupling.own_kept": attempt(lambda: own_kept(run)),
    }


def _draw(rows: Sequence[Row]) -> Figure | None:
    """Accuracy against context kept: before training, when it was done and at the end; a panel per row."""
    from matplotlib.figure import Figure

    from seqmem import COLOURS, clean
    from seqmem_plugins.metrics._panels import MOST_ROWS, finish, line

    drawn = [row for row in rows if all(_asked(run) for run in row.runs.values())]
    if not drawn:
        return None
    shown = drawn[:MOST_ROWS]
    figure = Figure(figsize=(4.6 * len(shown) + 2.4, 4.0), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, row in zip(axes, shown, strict=True):
        runs = list(row.runs.values())
        times = [(0, "before training"), (loops_end(runs[0]), "when training was done")]
        times += [(stream_end(runs[0]), "at the end")] if stream_end(runs[0]) > times[-1][0] else []
        for colour, (step, when) in zip(COLOURS, times, strict=False):
            for twins, style in ((False, "-"), (True, "--")):
                tables = {run.seed: accuracy(run, twins=twins) for run in runs}
                curves = {seed: table.T[step] for seed, table in tables.items() if step in table.index}
                if curves:
                    line(axis, curves, colour, f"{when}{', twins' * twins}", style=style, marker="o")
        chance = answers_in_context(runs[0], twins=False)["chance"].mean()
        axis.axhline(chance, color="#000000", linestyle=":", linewidth=0.8, label="guessing")
        axis.set_ylim(-0.03, 1.03)
        axis.set_title(clean(row.label))
        axis.set_xlabel("context kept before the prompt (sentences)")
        axis.invert_xaxis()
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes[0].set_ylabel("accuracy (share right)")
    finish(figure, drawn, "accuracy against context kept")
    return figure


def _asked(run: RunRecord) -> bool:
    """The run has something to draw."""
    try:
        return not answers_in_context(run, twins=False).empty
    except NotApplicable:
        return False


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    return [
        MetricSpec(
            name="coupling",
            version="1",
            summary="what a context gave before training, given by the parameters after it",
            measures=(
                Measure(
                    "coupling",
                    "fraction",
                    "higher",
                    "kappa minus the twins' kappa when training was done",
                    margin=0.05,
                ),
                Measure("coupling.end", "fraction", "higher", "the same at the end of the stream"),
                Measure("coupling.facts", "fraction", "higher", "kappa of the trained facts alone"),
                Measure("coupling.twins", "fraction", "none", "kappa of the twins: what the context gives"),
                Measure(
                    "coupling.own_kept", "fraction", "none", "share of contexts holding the asked sentence"
                ),
            ),
            compute=_compute,
            draw=_draw,
        )
    ]
