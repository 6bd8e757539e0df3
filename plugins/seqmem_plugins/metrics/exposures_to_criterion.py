"""Exposures to criterion: how often must a new fact be stated until it is recalled?

A fact is recalled once it is answered rightly at `criterion` probes in a row; its exposures to criterion are
those before the first of them. A fact that never gets there is censored at the last number of exposures from
which so many probes were left, `max_exposures` - `criterion` + 1, the *limit*: all that is known is that it needs
more. Kaplan and Meier's estimate (1958) of the share not yet recalled after k
exposures, S(k), uses both kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import CensoredData, ecdf

from seqmem import Measure, MetricSpec, NotApplicable, Row, RunRecord, Value, clean, hookimpl
from seqmem_plugins.metrics._curves import Missing, attempt, first_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

seqmem_api = ">=1,<2"

_MOST_PANELS = 6
"""Heat maps that one figure has room for."""


@dataclass(frozen=True)
class Trial:
    """What became of one fact or twin.

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


def trials(run: RunRecord, *, twins: bool = False) -> list[Trial]:
    """One trial per fact; a twin's exposures are those of its fact, and its answer is its own."""
    rows = run.asked(schedule="exposure", twins=twins)
    if rows.empty:
        raise Missing(f"no {'twin' if twins else 'fact'} was asked after every exposure")
    criterion = int(run.recipe["scenario"]["options"]["criterion"])
    stated = run.exposures.groupby("fact")
    found = []
    for fact, asked in rows.sort_values("step").groupby("fact", sort=False):
        own = stated.get_group(str(asked["twin_of"].iloc[0]) if twins else str(fact))
        steps = asked["step"].to_numpy()
        done = np.append(0, own["count"].cumsum())[own["step"].searchsorted(steps, side="right")]
        first = first_run(asked["correct"].to_numpy(dtype=bool), criterion)
        if first is None:
            found.append(Trial(str(fact), int(done[-criterion]), False, None))
        else:
            found.append(Trial(str(fact), int(done[first]), True, int(steps[first])))
    return found


def survival(found: Sequence[Trial]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Kaplan-Meier: numbers of exposures, ascending, and S just after each; S is 1 before the first."""
    times = [float(trial.exposures) for trial in found if trial.reached]
    censored = [float(trial.exposures) for trial in found if not trial.reached]
    curve = ecdf(CensoredData(uncensored=np.array(times), right=np.array(censored))).sf
    return np.asarray(curve.quantiles, dtype=float), np.asarray(curve.probabilities, dtype=float)


def restricted_mean(found: Sequence[Trial], limit: int) -> float:
    """Area under S from 0 to `limit`: the mean number of exposures, a fact that needs more counting `limit`."""
    times, share = survival(found)
    edges = np.clip(np.concatenate([[0.0], times, [float(limit)]]), 0.0, limit)
    return float(np.sum(np.diff(edges) * np.concatenate([[1.0], share])))


def exposures_to_criterion(run: RunRecord, found: Sequence[Trial]) -> Value:
    """Restricted mean of exposures to criterion: the area under S up to the limit.

    A fact that never reached the criterion counts as the limit, so with any of them this is a lower bound;
    `.reached` says how many there are. Unit: exposures; range: 0 to the limit; lower is better.
    """
    return Value(restricted_mean(found, _limit(run)), len(found))


def median(run: RunRecord, found: Sequence[Trial]) -> Value:
    """Kaplan-Meier median: the smallest number of exposures k with S(k) <= 1/2.

    Unit: exposures; range: 0 to the limit; lower is better. None where more than half of the facts never
    reached the criterion.
    """
    times, share = survival(found)
    below = times[share <= 0.5]
    if not len(below):
        never = sum(not trial.reached for trial in found)
        raise Missing(f"{never} of {len(found)} facts were not recalled within {_limit(run)} exposures")
    return Value(float(below[0]), len(found))


def reached(found: Sequence[Trial]) -> Value:
    """Share of facts, or of never-trained twins, that reached the criterion within the exposures given.

    Unit: fraction; range 0 to 1. Of facts higher is better; of twins it is false alarms, and lower is better.
    """
    return Value(float(np.mean([trial.reached for trial in found])), len(found))


def survived(run: RunRecord, found: Sequence[Trial]) -> Value:
    """Share of the facts that reached the criterion which are still right after the background that follows.

    The background comes after all exposures, however early the criterion was reached. Unit: fraction; range 0 to
    1; higher is better.
    """
    learned = [trial.fact for trial in found if trial.reached]
    if not learned:
        raise Missing("no fact reached the criterion")
    rows = run.asked(schedule="survival")
    rows = rows[rows["fact"].isin(learned)]
    if rows.empty:
        raise Missing("no fact was asked after the background that follows")
    return Value(float(rows["correct"].mean()), len(learned))


def spill(run: RunRecord, found: Sequence[Trial]) -> Value:
    """Mean probability of the fact's answer to its *twin's* question, when the fact is first recalled.

    A memory of one person leaves it near the answer's chance; an answer given to everybody makes it as large as
    the fact's own. Over facts that reached the criterion. Unit: fraction (probability); range 0 to 1; lower is
    better.
    """
    when = {trial.fact: trial.step for trial in found if trial.reached}
    if not when:
        raise Missing("no fact reached the criterion")
    rows = run.asked(schedule="exposure", twins=True)
    rows = rows[(rows["step"] == rows["twin_of"].map(when)) & rows["best_other"].notna()]
    if rows.empty:
        raise Missing("the fact's answer was not scored on its twin's question")
    return Value(float(np.exp(rows["best_other"]).mean()), len(rows))


def harm(run: RunRecord) -> Value:
    """Mean over facts of held-out loss after all exposures, minus held-out loss at the base they started from.

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


def _limit(run: RunRecord) -> int:
    """The most exposures from which the criterion can be reached: its right answers have to follow."""
    options = run.recipe["scenario"]["options"]
    return int(options["max_exposures"]) - int(options["criterion"]) + 1


def _measured(run: RunRecord) -> bool:
    return bool((run.probes["schedule"] == "exposure").any())


def _compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
    if not _measured(run):
        raise NotApplicable("no fact is asked after every one of its exposures")
    found = trials(run)
    return {
        "exposures_to_criterion": exposures_to_criterion(run, found),
        "exposures_to_criterion.median": attempt(lambda: median(run, found)),
        "exposures_to_criterion.reached": reached(found),
        "exposures_to_criterion.survived": attempt(lambda: survived(run, found)),
        "exposures_to_criterion.twins": attempt(lambda: reached(trials(run, twins=True))),
        "exposures_to_criterion.spill": attempt(lambda: spill(run, found)),
        "exposures_to_criterion.harm": attempt(lambda: harm(run)),
    }


# -- figure -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One learning rate with one batch mix, over seeds.

    Attributes:
        mean: mean over seeds of the restricted mean, in exposures.
        reached, facts: facts that reached the criterion, and all, seeds pooled.
        limit: most exposures from which the criterion can be reached.
    """

    mean: float
    reached: int
    facts: int
    limit: int

    @property
    def text(self) -> str:
        """What stands in the map: with censored facts the mean is a bound, with nothing else there is no mean."""
        share = f"\n{self.reached} of {self.facts}"
        if not self.reached:
            return f"> {self.limit}{share}"
        return f"{'' if self.reached == self.facts else '≥ '}{self.mean:.1f}{share}"


def cell_of(row: Row) -> Cell | None:
    """The row's cell; None where it has no run that measures exposures."""
    runs = [run for run in row.runs.values() if _measured(run)]
    if not runs:
        return None
    found = [trials(run) for run in runs]
    means = [restricted_mean(own, _limit(run)) for own, run in zip(found, runs, strict=True)]
    pooled = [trial for own in found for trial in own]
    return Cell(
        float(np.mean(means)), sum(trial.reached for trial in pooled), len(pooled), max(map(_limit, runs))
    )


_AXES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
    # swept option: label of its axis, and where a recipe keeps it
    "optimizer.lr": ("learning rate", lambda recipe: recipe["optimizer"]["lr"]),
    "scenario.others": (
        "background rows beside the fact in each step",
        lambda recipe: recipe["scenario"]["options"]["others"],
    ),
}


def draw(rows: Sequence[Row]) -> Figure | None:
    """The surface: exposures over learning rate and batch mix, a panel per strategy; None where neither is swept."""
    from matplotlib.figure import Figure

    if not any(option in row.swept for row in rows for option in _AXES):
        return None
    panels: dict[str, dict[tuple[Any, ...], Cell]] = {}
    for row in rows:
        cell = cell_of(row)
        if cell is not None:
            recipe = next(iter(row.runs.values())).recipe
            place = tuple(read(recipe) for _, read in _AXES.values())
            panels.setdefault(_panel_title(row), {})[place] = cell
    if not panels:
        return None
    shown = list(panels.items())[:_MOST_PANELS]
    rates, mixes = (
        sorted({place[axis] for _, surface in shown for place in surface}) for axis in range(len(_AXES))
    )
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    width = max(2.4 if columns > 1 else 4.4, 0.9 * len(mixes) + 1.0)  # room for the title
    figure = Figure(
        figsize=(width * columns + 1.6, (0.62 * len(rates) + 1.1) * lines + 0.7), layout="constrained"
    )
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    limit = max(cell.limit for _, surface in shown for cell in surface.values())
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, (title, surface) in zip(axes.flat, shown, strict=False):
        image = _heat_map(axis, surface, rates, mixes, limit)
        axis.set_title(clean(title))
    figure.colorbar(image, ax=axes, label="exposures to criterion (restricted mean)", shrink=0.9)
    for axis in axes[:, 0]:
        axis.set_ylabel(_AXES["optimizer.lr"][0])
    figure.supxlabel(_AXES["scenario.others"][0], fontsize=9)
    figure.suptitle(_title(rows, len(panels) - len(shown)), x=0.01, ha="left", fontsize=10)
    return figure


def _heat_map(
    axis: Axes,
    surface: Mapping[tuple[Any, ...], Cell],
    rates: Sequence[Any],
    mixes: Sequence[Any],
    limit: int,
) -> Any:
    values = np.full((len(rates), len(mixes)), np.nan)
    for (rate, mix), cell in surface.items():
        place = rates.index(rate), mixes.index(mix)
        values[place] = cell.mean
        dark = cell.mean > 0.5 * limit
        axis.text(
            place[1],
            place[0],
            cell.text,
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize=8,
        )
    image = axis.imshow(values, cmap="cividis_r", vmin=0, vmax=limit, aspect="auto", origin="lower")
    axis.set_xticks(range(len(mixes)), [str(mix) for mix in mixes])
    axis.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axis.tick_params(length=0)
    return image


def _panel_title(row: Row) -> str:
    """The strategy, and what else was swept."""
    others = [f"{name}={value}" for name, value in sorted(row.swept.items()) if name not in _AXES]
    return " ".join([str(row.facts.get("strategy", row.label)), *others])


def _title(rows: Sequence[Row], left_out: int) -> str:
    facts, seeds = rows[0].facts, max(len(row.runs) for row in rows)
    more = f"; {left_out} panels left out" if left_out else ""
    return "\n".join(
        clean(line)
        for line in (
            f"{facts.get('scenario', '')}, {facts.get('model', '')}: exposures until a new fact is recalled",
            f"mean over {seeds} seed{'s' * (seeds > 1)}; below, how many of the facts ever were{more}",
        )
    )


@hookimpl
def seqmem_metric() -> list[MetricSpec]:
    """The metric offered here."""
    name = "exposures_to_criterion"
    return [
        MetricSpec(
            name=name,
            version="1",
            summary="exposures until a new fact is recalled, and what survives",
            measures=(
                Measure(
                    name,
                    "exposures",
                    "lower",
                    "restricted mean, facts never recalled counting as the limit",
                    margin=1.0,
                ),
                Measure(f"{name}.median", "exposures", "lower", "Kaplan-Meier median"),
                Measure(f"{name}.reached", "fraction", "higher", "facts that reached the criterion"),
                Measure(f"{name}.survived", "fraction", "higher", "of those, still right after background"),
                Measure(f"{name}.twins", "fraction", "lower", "never-trained twins that reached it"),
                Measure(f"{name}.spill", "fraction", "lower", "the fact's answer to its twin's question"),
                Measure(f"{name}.harm", "nats/token", "lower", "rise of held-out loss over the exposures"),
            ),
            compute=_compute,
            draw=draw,
            citation="Kaplan & Meier 1958, Nonparametric Estimation from Incomplete Observations",
        )
    ]
