"""Distance decay: how does recall fall with the distance from the trained words?

The last token of an answer, given all tokens before it, is easier than its last word, and often easy without
any memory: what the twins get right on a rung is no memory either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqmem import Measure, MetricSpec, NotApplicable, RunRecord, Value, hookimpl
from seqmem_plugins.metrics._curves import (
    Missing,
    attempt,
    first_exposures,
    loops_end,
    once_per_run,
    stream_answers,
    stream_end,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from seqmem import Row

seqmem_api = ">=1,<2"

RUNGS = ("last_token", "last_word", "verbatim", "paraphrase", "question")
"""The ladder outwards; a rung's place in it is its distance."""
NEAREST = (("last_token", "last token"), ("last_word", "last word"))
_ON_LADDER = ("step", "fact", "twin_of", "relation", "correct")
LEAST_RUNGS = 3
LEAST_FACTS = 4
"""Facts of like age that make a point of a curve: fewer are noise."""


@once_per_run
def on_ladder(run: RunRecord, *, twins: bool = False) -> pd.DataFrame:
    """Answers on every rung when training was done: the last ladder asked before the rest.

    Facts that were never trained by then are left out, and so are their twins.

    Raises:
        NotApplicable: no ladder is asked.
        Missing: none was asked after any fact was trained.
    """
    rows: pd.DataFrame = pd.concat(
        [run.asked(schedule="ladder", relation=rung, twins=twins, columns=_ON_LADDER) for rung in RUNGS]
    )
    if rows.empty:
        if twins:
            raise Missing("no twin was asked on the ladder: what is guessed cannot be told from memory")
        raise NotApplicable("no ladder of rungs is asked")
    rows = with_age(run, rows[rows["step"] <= loops_end(run)])
    rows = rows[(rows["step"] == rows["step"].max()) & (rows["age"] >= 0)]
    if rows.empty:
        raise Missing("the ladder was not asked after a fact was trained")
    return rows


def with_age(run: RunRecord, rows: pd.DataFrame) -> pd.DataFrame:
    """Add `age`, steps since the fact was first trained (a twin's: since its fact was); negative before."""
    first = first_exposures(run)
    trained = rows["twin_of"].fillna(rows["fact"])
    return rows.assign(age=rows["step"] - trained.map(first).astype(float))


def recall(run: RunRecord, *, twins: bool = False) -> pd.Series:
    """Share answered rightly by rung, in the order of the ladder."""
    found = on_ladder(run, twins=twins).groupby("relation")["correct"].mean()
    return found.reindex([rung for rung in RUNGS if rung in found.index])


Recalled = Callable[[bool], pd.Series]
"""Recall by rung of the facts, or of the twins where True is asked for."""


def slope(recalled: Recalled) -> float:
    """Least-squares slope of recall minus the twins' recall over the rung's place, 0 to 4.

    Unit: fraction per rung; range -.6 to .6 with all five rungs, up to 1 either way with three; negative where memory
    thins out with distance.
    """
    over_twins = (recalled(False) - recalled(True)).dropna()
    if len(over_twins) < LEAST_RUNGS:
        raise Missing(f"{len(over_twins)} rungs were asked, {LEAST_RUNGS} are needed")
    places = [RUNGS.index(rung) for rung in over_twins.index]
    return float(np.polyfit(places, over_twins.to_numpy(dtype=float), 1)[0])


def rung(recalled: Recalled, name: str) -> float:
    """Recall on one rung. Unit: fraction; range 0 to 1; higher is better."""
    found = recalled(False)
    if name not in found.index:
        raise Missing(f"the rung {name} was not asked")
    return float(found[name])


def token_minus_word(recalled: Recalled, *, over_twins: bool = False) -> float:
    """Recall of the last token minus that of the last word; `over_twins`: minus the same of the twins.

    Unit: fraction; range -1 to 1 (-2 to 2 over twins); above 0 where single tokens outrun words.
    """
    sides = [recalled(twins) for twins in (False, True)[: 1 + over_twins]]
    for side in sides:
        if not {"last_token", "last_word"} <= set(side.index):
            raise Missing("the last token and the last word were not both asked")
    gaps = [float(side["last_token"] - side["last_word"]) for side in sides]
    return gaps[0] - sum(gaps[1:])


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    recalled = cache(
        lambda twins: recall(run, twins=twins)
    )  # the ladder is long, and every measure climbs it
    facts = cache(lambda: int(on_ladder(run)["fact"].nunique()))

    def measure(read: Callable[[Recalled], float]) -> Value:
        return attempt(lambda: Value(read(recalled), facts()))

    return {
        "distance_decay": measure(slope),
        "distance_decay.token_minus_word": measure(token_minus_word),
        "distance_decay.over_twins": measure(partial(token_minus_word, over_twins=True)),
        **{f"distance_decay.{name}": measure(partial(rung, name=name)) for name in RUNGS},
    }


# -- figure -----------------------------------------------------------------------------------------------


def curve(run: RunRecord, relation: str, by: str, *, twins: bool) -> pd.Series:
    """Recall of one rung, whichever schedule asked, by ``step`` or by ``bin`` of age.

    By step only facts count that were trained by then, each as its own twin's measure. Ages share a bin with
    their power of two: -1 before the fact was trained, 0 right after its first step, 1, 2 for 2 and 3, ...;
    bins of fewer than `LEAST_FACTS` facts are left out.
    """
    rows = with_age(
        run, stream_answers(run, relation=relation, twins=twins).drop_duplicates(["step", "probe"])
    )
    rows = rows[rows["age"].notna()]
    bins = np.where(rows["age"] > 0, np.floor(np.log2(np.maximum(rows["age"], 1))) + 1, np.sign(rows["age"]))
    rows = rows.assign(bin=bins) if by == "bin" else rows[rows["age"] >= 0]
    points = rows.groupby(by).agg(recall=("correct", "mean"), facts=("fact", "nunique"))
    return points.loc[points["facts"] >= (LEAST_FACTS if by == "bin" else 1), "recall"]


def _draw(rows: Sequence[Row]) -> Figure | None:
    """Recall along the ladder; last token and last word over steps and since training; rows stacked."""
    from matplotlib.figure import Figure

    from seqmem_plugins.metrics._panels import MOST_ROWS, finish

    drawn = [row for row in rows if all(_asked(run) for run in row.runs.values())]
    if not drawn:
        return None
    shown = drawn[:MOST_ROWS]
    figure = Figure(figsize=(13.5, 0.6 + 3.2 * len(shown)), layout="constrained")
    for axes, row in zip(figure.subplots(len(shown), 3, sharey=True, squeeze=False), shown, strict=True):
        runs = list(row.runs.values())
        _draw_ladder(axes[0], runs, row.label)
        _draw_curves(axes[1], runs, "step")
        _draw_curves(axes[2], runs, "bin")
        axes[0].set_ylim(-0.03, 1.03)
    finish(figure, drawn, "recall along the distance ladder")
    return figure


def _asked(run: RunRecord) -> bool:
    """The run has a ladder to draw."""
    try:
        return not on_ladder(run).empty
    except (Missing, NotApplicable):
        return False


def _draw_ladder(axis: Axes, runs: Sequence[RunRecord], label: str) -> None:
    from seqmem import COLOURS, clean
    from seqmem_plugins.metrics._panels import CONTROL, line

    sides = ((False, COLOURS[0], "all rungs", "-"), (True, CONTROL, "all rungs, never-trained twins", "--"))
    for twins, colour, name, style in sides:
        found = {run.seed: recall(run, twins=twins) for run in runs if not twins or _has_twins(run)}
        places = {seed: one.rename(RUNGS.index) for seed, one in found.items()}
        if places:
            line(axis, places, colour, name, style=style, marker="o")
    axis.set_xticks(range(len(RUNGS)), [name.replace("_", "\n") for name in RUNGS])
    axis.set_title(clean(label))
    axis.set_xlabel("rung of the ladder, when training was done")
    axis.set_ylabel("recall (share right)")
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)


def _draw_curves(axis: Axes, runs: Sequence[RunRecord], by: str) -> None:
    """Last token and last word over steps, or since each fact was first trained."""
    from seqmem import COLOURS
    from seqmem_plugins.metrics._panels import line

    for (relation, name), colour in zip(NEAREST, COLOURS[1:], strict=False):
        for twins, style in ((False, "-"), (True, "--")):
            curves = {run.seed: curve(run, relation, by, twins=twins) for run in runs}
            curves = {seed: one for seed, one in curves.items() if len(one)}
            if curves:
                line(axis, curves, colour, f"{name}{', twins' * twins}", style=style, marker=".")
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    if by == "step":
        axis.set_xlabel("optimizer steps (facts trained by then)")
        axis.axvspan(
            loops_end(runs[0]), stream_end(runs[0]), color="#999999", alpha=0.15, linewidth=0, label="rest"
        )
        return
    last = int(max((np.max(plot.get_xdata()) for plot in axis.lines), default=0))
    ages = ["before", "0", "1", *(f"{2**n}-{2 ** (n + 1) - 1}" for n in range(1, last))]
    axis.set_xticks(range(-1, last + 1), ages[: last + 2], rotation=45)
    axis.set_xlabel("optimizer steps since the fact was first trained")


def _has_twins(run: RunRecord) -> bool:
    return not run.asked(schedule="ladder", relation="verbatim", twins=True).empty


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    words = [name.replace("_", " ") for name in RUNGS]
    return [
        MetricSpec(
            name="distance_decay",
            version="1",
            summary="recall along the distance ladder when training was done, and its slope",
            measures=(
                Measure("distance_decay", "fraction/rung", "none", "slope of recall over that of the twins"),
                Measure("distance_decay.token_minus_word", "fraction", "none", "last token minus last word"),
                Measure("distance_decay.over_twins", "fraction", "none", "the same minus that of the twins"),
                *(
                    Measure(f"distance_decay.{name}", "fraction", "higher", f"recall on the rung {word}")
                    for name, word in zip(RUNGS, words, strict=True)
                ),
            ),
            compute=_compute,
            draw=_draw,
        )
    ]
