"""The page's sentences: what came out for every row, and for all of them in one."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from seqmem.core.data import NEVER
from seqmem.core.measures import Interval
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.scoring.comparison import Comparison, Table
from seqmem.scoring.numbers import format_margin, format_number
from seqmem.scoring.shares import share_interval
from seqmem.scoring.verdict import SHOWN, Finding, Verdict


def recall_when_last_asked(runs: Sequence[RunRecord], *, controls: bool) -> Interval | None:
    """Return the share of uncued primary questions answered rightly at the last step at which any was asked.

    Args:
        runs: one per seed.
        controls: of the never-trained facts (twins and the group ``never``) instead of the trained ones.

    Returns:
        Mean over seeds with its 95 % interval; None where nothing of the kind was asked, and for documents.
    """
    shares, items = [], []
    for run in runs:
        if run.info["primary_relation"] == "general":
            continue
        asked = pd.concat([run.asked(twins=False), run.asked(twins=True)])
        never = asked["twin_of"].notna() | (asked["group"] == NEVER)
        asked = asked[never == controls]
        if not asked.empty:
            last = asked[asked["step"] == asked["step"].max()]
            shares.append(float(last["right"].mean()))
            items.append(int(last["fact"].nunique()))
    return share_interval(shares, items) if shares else None


def twins_in_words(verdict: Verdict, row: Row) -> str:
    """Return how many never-trained twins are answered rightly when last asked; empty without any."""
    recall = recall_when_last_asked([row.runs[seed] for seed in sorted(row.runs)], controls=True)
    if recall is None:
        return ""
    recalled = "" if verdict.measure.unit == "share" else "recalled "
    return f"twins {recalled}{format_number(recall.mean, 'share')}"


def answer(verdict: Verdict) -> str:
    """Return whether the row differs from the reference, not escaped."""
    if verdict.finding == "reference":
        return "the reference"
    if verdict.finding == "no_reference":
        return "nothing to compare with"
    if verdict.finding in ("no_value", "no_pair"):
        return f"not compared with {verdict.reference}"
    question = f"differs from {verdict.reference}"
    if verdict.finding == "identical":
        return f"{question}: no, {verdict.text}"
    words: dict[Finding, str] = {
        "alike": f"no, {verdict.outcome}",
        "not_shown": f"not shown{verdict.remark}",
        "too_few_seeds": f"not known{verdict.remark}",
        "no_test": f"not known, {verdict.outcome}",
        "apart": verdict.outcome,
        **dict.fromkeys(SHOWN, f"yes, {verdict.outcome}"),
    }
    text = f"{question}: {words[verdict.finding]}; difference {verdict.shown_difference}"
    if verdict.by_degrees:
        text += f"; by degrees ({verdict.by_degrees.measure.name}): {verdict.by_degrees.outcome}"
    return f"{text}; not ranked: {verdict.unranked}" if verdict.unranked else text


def headline(comparison: Comparison) -> str:
    """Return the comparison in one sentence: who is better, who is worse, of whom nothing is shown."""
    reference = comparison.reference
    by_words: dict[str, tuple[Finding, ...]] = {
        f"better than {reference}": ("better",),
        f"worse than {reference}": ("worse",),
        f"different from {reference}": ("differs",),
        f"no different from {reference}": ("alike", "identical"),
        f"no difference from {reference} shown": ("not_shown",),
        f"too few seeds to tell from {reference}": ("too_few_seeds", "no_test"),
    }
    verdicts = [comparison.verdicts[row.label] for row in comparison.best_first()]
    small = f" (by less than {format_margin(comparison.primary)})"
    parts = []

    def named(verdict: Verdict) -> str:
        return f"{verdict.label}{small * verdict.small}{' (not ranked)' if verdict.unranked else ''}"

    for words, findings in by_words.items():
        labels = [named(one) for one in verdicts if one.finding in findings and not one.by_degrees]
        if labels:
            parts.append(f"{words}: {', '.join(labels)}")
    for finding in SHOWN:
        by_degrees = [one for one in verdicts if one.by_degrees and one.by_degrees.finding == finding]
        if by_degrees:
            word = "different" if finding == "differs" else finding
            named_rows = ", ".join(map(named, by_degrees))
            parts.append(f"{word} by degrees only ({comparison.primary.graded}): {named_rows}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else "No row to compare with another."


def measure_in_words(comparison: Comparison) -> str:
    """Return what the primary measure is about."""
    return comparison.primary.summary or comparison.primary.name


def verdict_lines(table: Table) -> list[str]:
    """Return every row's verdict as a line of plain text, not escaped."""
    lines = []
    for comparison in table.boards:
        for row in comparison.best_first():
            verdict = comparison.verdicts[row.label]
            twins = twins_in_words(verdict, row)
            value = f"{verdict.shown_value}, {twins}" if twins else verdict.shown_value
            lines.append(f"{row.label}: {measure_in_words(comparison)}: {value}; {answer(verdict)}")
    return lines
