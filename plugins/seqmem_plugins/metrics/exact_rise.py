"""Exact rise: where answers come back in the rest, is it the memory, or only the form of an answer?

Text that holds questions with bare answers teaches how an answer looks. Facts that a model knew all along are then
said, and to the eye they come back with nobody training them. Three curves over the rest tell the two apart, each
counted from the end of the loops: exact answers, answers in the right form (right or wrong), and forced choice among
trained answers, which asks for no form. They are those of the question, the probe form farthest from what is
trained, or of the primary form where no question is asked.

A maximum of noisy values lies above their mean, so the step at which a curve is highest is found on half of the facts
and read on the other half, over 8 splits (permutations of the facts in alphabetical order by numpy's
`default_rng(0)`); without a rise the value is 0, or below where all is forgotten. Probes of every schedule in the
rest count. Of exact answers and forced choice the twin's are taken off, fact by fact: a twin was never learned and
cannot come back.

What the form in the rest's own text does is the difference to the control `plain_rest`, whose rest holds no sentence
in the forms that are asked (`--control plain_rest`).

None without a rest, under two facts, and where no closed set was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import pandas as pd

from seqmem import Interval, Metric, Missing, Relation, RunRecord, Value, format_interval, reading
from seqmem.reading import Array

_COLUMNS = ("step", "experience", "probe", "fact", "twin_of", "correct", "right", "in_form")


class Resting:
    """Answers in one probe form, from the end of the loops to the end of the rest."""

    def __init__(self, run: RunRecord, relation: Relation | None = None) -> None:
        """Read a run.

        Args:
            run: the record.
            relation: probe form; None for the question, or the primary form where no question is asked.
        """
        self.run, self._relation = run, relation

    @cached_property
    def relation(self) -> Relation:
        """The probe form that is read."""
        primary: Relation = self._relation or self.run.info["primary_relation"]
        asked = self.run.asked(relation="question", columns=("in_form",))["in_form"].notna().any()
        return "question" if asked and self._relation is None else primary

    @cached_property
    def _asked(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the rows about trained facts that the rest leaves alone, and those about their twins."""
        first, steps = reading.loops_end(self.run), reading.rest_steps(self.run)
        tables = []
        for twins in (False, True):
            rows = self.run.asked(relation=self.relation, twins=twins, columns=_COLUMNS)
            rows = rows[(rows["step"] >= first) & (rows["step"] <= first + steps) & rows["in_form"].notna()]
            rows = rows.drop_duplicates(["step", "probe"])
            tables.append(rows.assign(fact=rows["twin_of"]) if twins else rows)
        facts = reading.some(tables[0], "no closed set was asked in the rest: answers have no form")
        left_alone = set(self.run.exposures["fact"]) - reading.trained_in_rest(self.run)
        facts = reading.some(
            facts[facts["fact"].isin(left_alone)],
            "every fact is trained again in the rest: nothing comes back",
        )
        return facts, tables[1]

    def share(self, column: str, *, twins: bool) -> pd.Series:
        """Return the share of answers for which a column holds, by steps since the loops ended."""
        table = _table(self._asked[twins], column)
        return table.mean().rename(lambda step: step - reading.loops_end(self.run))

    def curves(self, column: str, *, less_twins: bool) -> Array:
        """Return (facts, steps in the rest), the change of an answer since the loops ended."""
        facts, twins = (_table(rows, column) for rows in self._asked)
        if less_twins and not twins.empty:
            facts = facts.sub(twins).dropna(axis="columns", how="all").dropna()
        values = facts.to_numpy(dtype=float)
        if values.shape[1] < 2:
            raise Missing("nothing was asked in the rest: nothing can be seen to come back")
        return np.asarray(values[:, 1:] - values[:, :1])

    def rise(self, column: str, *, less_twins: bool) -> Value:
        """Return the mean change at the step where it is largest, the step found on other facts."""
        curves = self.curves(column, less_twins=less_twins)
        names = [np.arange(len(curves)).astype(str)]
        found = [
            curves[read][:, curves[find].mean(axis=0).argmax()].mean()
            for (find,), (read,) in reading.splits(names)
        ]
        return Value(float(np.mean(found)), len(curves))


def _table(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return facts by steps, those facts and steps at which all was asked."""
    return (
        rows.assign(value=rows[column].astype(float))
        .pivot_table(index="fact", columns="step", values="value", aggfunc="mean")
        .dropna()
    )


seqmem_api = ">=1,<2"
metric = Metric(
    "exact_rise",
    version="1",
    summary="rise of exact answers over the rest, beside that of their form and of forced choice",
    reads=Resting,
    figure="seqmem_plugins.metrics.figures.exact_rise",
)
seqmem_metric = metric.hook


@metric.measure("exact_rise", "fraction", "none", "rise of exact answers over the rest, less that of twins")
def exact(rest: Resting) -> Value:
    """Return the rise of exact answers from the end of the loops to where it is largest in the rest, less the twins'.

    Unit: fraction; range -1 to 1; neither way is better.
    """
    return rest.rise("correct", less_twins=True)


@metric.measure("exact_rise.form", "fraction", "none", "rise of the rate of answers in the right form")
def form(rest: Resting) -> Value:
    """Return the same of answers, right or wrong, that begin as one of the closed set does.

    Unit: fraction; range -1 to 1; neither way is better.
    """
    return rest.rise("in_form", less_twins=False)


@metric.measure("exact_rise.forced_choice", "fraction", "none", "rise of forced choice, less that of twins")
def forced_choice(rest: Resting) -> Value:
    """Return the same of recall by forced choice, less the twins': above 0, answers come back.

    Unit: fraction; range -1 to 1; neither way is better. None where recall is by exact match.
    """
    if rest.run.design.recall != "forced_choice":
        raise Missing("recall is by exact match: no competing answers were scored")
    return rest.rise("right", less_twins=True)


@metric.against(
    "plain_rest",
    "exact_rise.taught",
    "fraction",
    "none",
    "rise of exact answers beyond that in a rest without their form",
)
def taught(rest: Resting, control: Callable[[], Resting]) -> Value:
    """Return the rise of exact answers less that of the run whose rest holds no text in the forms that are asked.

    Unit: fraction; range -2 to 2; neither way is better. None where the control was not run.
    """
    plain = exact(control())
    own = exact(rest)
    return Value((own.value or 0.0) - (plain.value or 0.0), own.n_items)


@metric.remark
def remark(means: Mapping[str, Interval]) -> str:
    """Name a rise for what it is; one is shown where its interval over seeds lies above 0.

    A form that is shown to be learned is named wherever exact answers are more in the mean: it is a warning, no claim.
    """

    def shown(name: str) -> str:
        return format_interval(means[name], "fraction")

    rises = {name for name, mean in means.items() if mean.low is not None and mean.low > 0}
    if "exact_rise.forced_choice" in rises:
        return (
            f"answers come back in the rest: forced choice rises by {shown('exact_rise.forced_choice')} more than "
            "about twins"
        )
    learned = "exact_rise.form" in rises and "exact_rise" in means and means["exact_rise"].mean > 0
    if "exact_rise" not in rises and not learned:
        return ""
    said = f"exact answers rise by {shown('exact_rise')} in the rest, "
    if "exact_rise.forced_choice" not in means:
        return f"{said}and without competing answers nobody can tell whether memory or form comes back"
    against = f"and forced choice is not shown to ({shown('exact_rise.forced_choice')}): "
    if not learned:
        return f"{said}{against}no memory is shown to come back"
    said += f"with {shown('exact_rise.form')} more of all answers in their form, {against}"
    said += "the form of an answer is learned, no memory is shown to come back"
    if "exact_rise.taught" in means:
        said += f"; a rest without that form has {shown('exact_rise.taught')} less of it"
    return said
