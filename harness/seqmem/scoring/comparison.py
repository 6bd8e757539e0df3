"""Tables from records: rows, intervals, paired differences. A pure function of what is stored.

`score_rows` turns rows into per-seed values, `tabulate` those into a `Table`, which `reporting` prints. Two
builds from the same records give the same bytes: nothing here looks at a clock or a folder name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from seqmem.core.digits import ten_digits
from seqmem.core.errors import UsageError
from seqmem.core.measures import Measure
from seqmem.plugin.specs import MetricSpec
from seqmem.record.row import Row
from seqmem.record.versions import DECISIVE, named, versions_of
from seqmem.scoring.cells import Cell, Scores, by_seed, cell_of, read_scores
from seqmem.scoring.detectors import Detection, detections
from seqmem.scoring.family import adjusted, too_few_seeds
from seqmem.scoring.gates import failed_gates, gates_of, unequal_search
from seqmem.scoring.moderated import lent
from seqmem.scoring.outliers import outlying_seed
from seqmem.scoring.ranks import rank_rows
from seqmem.scoring.scores import score_rows
from seqmem.scoring.verdict import Verdict, in_words, judge

APART = "it trains on a stream of its own, so that it is shown beside the others and not tested"
"""Why a row that changes the stream is not tested."""


@dataclass(frozen=True)
class Comparison:
    """Rows that are compared with each other: one scenario, one model, one reference.

    Attributes:
        cells: by (row label, measure name).
        ranks: row label to rank, or None.
        no_rank: row label to the reason it has none.
        verdicts: row label to what its primary measure shows.
        detections: by (row label, measure name), of the measures that are held against zero; the label is None for all
            rows together.
        outlying: row label to the seed that lies far from its others on the primary measure, of rows that have one.
        gates: measures in which a row must not be worse than the reference to be ranked.
        chance: recall that guessing gives in the primary probe form; None where it is not known.

    Where no metric gives the primary measure, `primary` is a stand-in without unit and direction: every cell
    of it is missing and says why.
    """

    scenario: str
    model: str
    reference: str | None
    primary: Measure
    rows: tuple[Row, ...]
    measures: tuple[Measure, ...]
    cells: Mapping[tuple[str, str], Cell]
    ranks: Mapping[str, int | None]
    no_rank: Mapping[str, str]
    verdicts: Mapping[str, Verdict]
    detections: Mapping[tuple[str | None, str], Detection]
    outlying: Mapping[str, int]
    gates: tuple[Measure, ...] = ()
    chance: float | None = None

    def best_first(self) -> list[Row]:
        """Return the rows, best first where the primary measure has a better direction, those without a value last."""
        sign = {"higher": -1, "lower": 1, "none": 0}[self.primary.direction]

        def place(row: Row) -> tuple[bool, float]:
            interval = self.cells[row.label, self.primary.name].interval
            return (True, 0.0) if interval is None else (False, sign * ten_digits(interval.mean))

        return sorted(self.rows, key=place)


@dataclass(frozen=True)
class Table:
    """The table that the writers print.

    Attributes:
        boards: groups of comparable rows.
        scores: the per-seed values it was made of, columns as `SCORE_COLUMNS`.
    """

    boards: tuple[Comparison, ...]
    scores: pd.DataFrame


def tabulate(
    rows: Sequence[Row],
    metrics: Sequence[MetricSpec],
    primary: Mapping[str, str],
    scores: pd.DataFrame | None = None,
) -> Table:
    """Group rows that can be compared, and compare them.

    Where no metric gives the primary measure (left out, or failing), the table has no ranks and says why.

    Args:
        rows: the rows of one or several scenarios and models.
        metrics: those to compute.
        primary: the measure rows are ranked by, per scenario (`Row.facts["scenario"]`).
        scores: what `score_rows` gave, so that figures and tables share one scoring.

    Raises:
        UsageError: no rows.
    """
    if not rows:
        raise UsageError("no runs to tabulate")
    scores = score_rows(rows, metrics) if scores is None else scores
    values = read_scores(scores)
    measures = tuple(measure for metric in metrics for measure in metric.measures)
    groups: dict[tuple[str, str, str | None], list[Row]] = {}
    for row in rows:
        key = (str(row.facts.get("scenario", "")), str(row.facts.get("model", "")), row.reference)
        groups.setdefault(key, []).append(row)
    boards = []
    for (scenario, model, reference), members in groups.items():
        wanted = primary.get(scenario, "primary measure")
        compared = _compare(scenario, model, reference, wanted, tuple(members), measures, values)
        verdicts = {
            label: replace(verdict, added=_added(metrics, label, compared.cells))
            for label, verdict in compared.verdicts.items()
        }
        boards.append(replace(compared, verdicts=verdicts))
    return Table(tuple(boards), scores)


def _added(metrics: Sequence[MetricSpec], label: str, cells: Mapping[tuple[str, str], Cell]) -> str:
    """Return what the metrics have to add to a row's verdict."""
    said = []
    for metric in metrics:
        if metric.remark is not None:
            found = {one.name: cells[label, one.name].interval for one in metric.measures}
            said.append(metric.remark({name: mean for name, mean in found.items() if mean is not None}))
    return "; ".join(filter(None, said))


def _compare(
    scenario: str,
    model: str,
    reference: str | None,
    wanted: str,
    rows: tuple[Row, ...],
    measures: tuple[Measure, ...],
    scores: Scores,
) -> Comparison:
    primary = next((measure for measure in measures if measure.name == wanted), None)
    absent = ""
    if primary is None:
        absent = f"no metric gives {wanted!r}: it was left out, is not installed or failed"
        primary = Measure(wanted, "", "none", absent)
        measures = (primary, *measures)
    labels = [row.label for row in rows]
    cells = {
        (label, measure.name): cell_of(scores, label, measure, reference)
        for label in labels
        for measure in measures
    }
    for measure in measures:
        found = lent([cells[label, measure.name].difference for label in labels])
        for label, difference in zip(labels, found, strict=True):
            cells[label, measure.name] = replace(cells[label, measure.name], difference=difference)
    if absent:
        cells |= {(label, primary.name): Cell(None, 0, None, absent) for label in labels}
    apart = {row.label: APART for row in rows if row.changes_stream and row.label != reference}
    judged = [primary, *(measure for measure in measures if measure.name == primary.graded)]
    few = _test(labels, judged, apart, cells)
    compared = next((row for row in rows if row.label == reference), None)
    gates = gates_of(measures, cells, reference)
    failed = {
        row.label: _unranked(row, rows, compared, gates, cells, primary)
        for row in rows
        if row is not compared and row.label not in apart
    }
    unranked = apart | {label: in_words(why) for label, why in failed.items() if why}
    ranks, no_rank = rank_rows(
        primary,
        {label: by_seed(scores, label, primary.name) for label in labels if label not in unranked},
        reference,
        {label: cells[label, primary.name].difference for label in labels},
    )
    ranks |= dict.fromkeys(unranked)
    no_rank |= {label: f"{why}: no rank" for label, why in unranked.items()}
    if absent:
        no_rank = {label: f"{absent}; no rank" for label in labels}
    verdicts = {}
    for row in rows:
        own, *graded = (
            judge(
                row,
                reference,
                compared,
                measure,
                cells[row.label, measure.name],
                few[row.label, measure.name],
            )
            for measure in judged
        )
        verdicts[row.label] = replace(
            own, graded=graded[0] if graded else None, failed=failed.get(row.label, {})
        )
    for notes in (_versions(rows), _accepted(rows)):
        for label, note in notes.items():
            cell = cells[label, primary.name]
            cells[label, primary.name] = replace(cell, reason="; ".join(filter(None, (cell.reason, note))))
    chance = _chance(rows)
    far = {label: outlying_seed(by_seed(scores, label, primary.name)) for label in labels}
    outlying = {label: seed for label, seed in far.items() if seed is not None}
    return Comparison(
        scenario,
        model,
        reference,
        primary,
        rows,
        measures,
        cells,
        ranks,
        no_rank,
        verdicts,
        detections(labels, measures, scores),
        outlying,
        tuple(gates),
        chance,
    )


def _unranked(
    row: Row,
    rows: Sequence[Row],
    reference: Row | None,
    gates: Sequence[Measure],
    cells: Mapping[tuple[str, str], Cell],
    primary: Measure,
) -> dict[str, str]:
    """Return why a row may not be ranked: the gates it fails, by name, and how it was searched; empty where it may."""
    failed: dict[str, str] = {}
    if reference is not None:
        own = cells[row.label, primary.name].difference
        seeds = own.interval.n if own else 0
        failed = failed_gates(row.label, reference.label, gates, cells, seeds)
    unequal = unequal_search(row, rows, reference)
    return {**failed, "search": unequal} if unequal else failed


def _test(
    labels: Sequence[str],
    judged: Sequence[Measure],
    apart: Mapping[str, str],
    cells: dict[tuple[str, str], Cell],
) -> dict[tuple[str, str], str]:
    """Adjust the tests of all rows on the measures that are judged, as one family, in `cells`.

    Returns:
        For each row and measure why its test could not have come out significant; empty where it could.
    """
    places = [(label, measure.name) for measure in judged for label in labels]
    differences = [None if place[0] in apart else cells[place].difference for place in places]
    for place, difference in zip(places, adjusted(differences), strict=True):
        own = cells[place].difference
        if place[0] in apart and own is not None:
            difference = replace(own, reason=APART)
        cells[place] = replace(cells[place], difference=difference)
    return dict(zip(places, too_few_seeds(differences), strict=True))


def _versions(rows: Sequence[Row]) -> dict[str, str]:
    """Return by row which versions made it, for rows that were kept and where the rows of a board differ in it."""
    made = {
        row.label: versions_of(run for runs in (row.runs, *row.controls.values()) for run in runs.values())
        for row in rows
    }
    differing = [
        package for package in DECISIVE if len(set().union(*(found[package] for found in made.values()))) > 1
    ]
    notes = {row.label: row.kept for row in rows if row.kept}
    for row in rows:
        if differing and row.runs and not row.kept:
            notes[row.label] = f"made by {named(made[row.label], differing)}, unlike other rows of this table"
    return notes


def _accepted(rows: Sequence[Row]) -> dict[str, str]:
    """Return by row what failed in the audit of its runs before their first step, and was accepted."""
    notes = {}
    for row in rows:
        failed = {
            seed: run.info["accepted_audit"]
            for seed, run in row.runs.items()
            if run.info.get("accepted_audit")
        }
        if failed:
            seed = min(failed)
            more = f" and {len(failed) - 1} more seeds" if len(failed) > 1 else ""
            notes[row.label] = f"run by --accept-audit: seed {seed}{more}: {failed[seed][0]}"
    return notes


def _chance(rows: Sequence[Row]) -> float | None:
    """Return the mean chance of the trained facts' uncued primary questions, over the first row's seeds."""
    runs = next(([*row.runs.values()] for row in rows if row.runs), [])
    if not runs or runs[0].info["primary_relation"] == "general":  # documents: nobody can guess them
        return None
    found = []
    for run in runs:
        items = run.items
        asked = (items["relation"] == run.info["primary_relation"]) & (items["cue"] == "none")
        found.append(items.loc[asked & items["twin_of"].isna(), "chance"].dropna().mean())
    known = [float(chance) for chance in found if chance == chance]
    return sum(known) / len(known) if known else None
