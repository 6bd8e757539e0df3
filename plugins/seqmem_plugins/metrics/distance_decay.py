"""Distance decay: how does recall fall with the distance from the trained words?

The last token of an answer, given all tokens before it, is easier than its last word, and often easy without
any memory: what the twins get right in a probe form is not memory either. Answers count by exact match in every probe
form, also where recall is by forced choice.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from seqmem import Metric, Missing, NotApplicable, RunRecord, Value, reading

seqmem_api = ">=1,<2"
metric = Metric(
    "distance_decay",
    version="1",
    summary="recall in every probe form when training was done, and its slope",
    figure="seqmem_plugins.metrics.figures.distance_decay",
)
seqmem_metric = metric.hook

FORMS = ("last_token", "last_word", "verbatim", "paraphrase", "question")
"""Probe forms from near the trained words outwards. The place of a form is its distance."""
_IN_ALL_FORMS = ("step", "fact", "twin_of", "relation", "correct")
MIN_FORMS = 3


@reading.once_per_run
def in_all_forms(run: RunRecord, *, twins: bool = False) -> pd.DataFrame:
    """Return the answers in every probe form when training was done: the last before the rest.

    Facts that were never trained by then are left out, and so are their twins.

    Raises:
        NotApplicable: they are never asked together.
        Missing: none was asked after any fact was trained.
    """
    rows: pd.DataFrame = pd.concat(
        [run.asked(schedule="ladder", relation=form, twins=twins, columns=_IN_ALL_FORMS) for form in FORMS]
    )
    if rows.empty:
        if twins:
            raise Missing("no twin was asked in every probe form: what is guessed cannot be told from memory")
        raise NotApplicable("facts are not asked in every probe form")
    rows = with_age(run, rows[rows["step"] <= reading.loops_end(run)])
    rows = reading.some(
        rows[(rows["step"] == rows["step"].max()) & (rows["age"] >= 0)],
        "the probe forms were not asked after a fact was trained",
    )
    return rows


def with_age(run: RunRecord, rows: pd.DataFrame) -> pd.DataFrame:
    """Add `age`, steps since the fact was first trained (a twin's: since its fact was); negative before."""
    first = reading.first_exposures(run)
    trained = rows["twin_of"].fillna(rows["fact"])
    return rows.assign(age=rows["step"] - trained.map(first).astype(float))


@reading.once_per_run
def recall(run: RunRecord, *, twins: bool = False) -> pd.Series:
    """Return the share answered rightly by probe form, the nearest first."""
    found = in_all_forms(run, twins=twins).groupby("relation")["correct"].mean()
    return found.reindex([form for form in FORMS if form in found.index])


def _of_facts(run: RunRecord, number: float) -> Value:
    return Value(number, int(in_all_forms(run)["fact"].nunique()))


@metric.measure("distance_decay", "fraction/distance", "none", "slope of recall over that of the twins")
def slope(run: RunRecord) -> Value:
    """Return the least-squares slope of recall minus the twins' recall over the probe form's distance, 0 to 4.

    Unit: fraction per place; range -.6 to .6 with all five probe forms, up to 1 either way with three; negative where
    memory thins out with distance.
    """
    over_twins = (recall(run) - recall(run, twins=True)).dropna()
    if len(over_twins) < MIN_FORMS:
        raise Missing(f"{len(over_twins)} probe forms were asked, {MIN_FORMS} are needed")
    distances = [FORMS.index(form) for form in over_twins.index]
    return _of_facts(run, float(np.polyfit(distances, over_twins.to_numpy(dtype=float), 1)[0]))


def token_minus_word(run: RunRecord, *, over_twins: bool = False) -> Value:
    """Return recall of the last token minus that of the last word; `over_twins`: minus the same of the twins.

    Unit: fraction; range -1 to 1 (-2 to 2 over twins); above 0 where single tokens outrun words.
    """
    sides = [recall(run, twins=twins) for twins in (False, True)[: 1 + over_twins]]
    for side in sides:
        if not {"last_token", "last_word"} <= set(side.index):
            raise Missing("the last token and the last word were not both asked")
    gaps = [float(side["last_token"] - side["last_word"]) for side in sides]
    return _of_facts(run, gaps[0] - sum(gaps[1:]))


metric.measure("distance_decay.token_minus_word", "fraction", "none", "last token minus last word")(
    token_minus_word
)
metric.measure("distance_decay.over_twins", "fraction", "none", "the same minus that of the twins")(
    partial(token_minus_word, over_twins=True)
)


def form(run: RunRecord, name: str) -> Value:
    """Return recall in one probe form. Unit: share; range 0 to 1; higher is better."""
    found = recall(run)
    if name not in found.index:
        raise Missing(f"the probe form {name} was not asked")
    return _of_facts(run, float(found[name]))


for _form in FORMS:
    _summary = f"recall in the probe form {_form.replace('_', ' ')}"
    metric.measure(f"distance_decay.{_form}", "share", "higher", _summary)(partial(form, name=_form))
