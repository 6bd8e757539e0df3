"""The last screen of a bench: what was asked, what each row shows, what that could have seen, what next.

Everything else stands in the files. At most `MAX_LINES` lines of at most `WIDTH` columns, whatever was run.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence

from seqmem.core.measures import Measure, Role
from seqmem.core.options import seeds_text
from seqmem.core.sanitize import clean
from seqmem.record.row import Row
from seqmem.reporting.charts import FINDINGS
from seqmem.reporting.fields import arrow, chance_text
from seqmem.reporting.words import headline, measure_in_words
from seqmem.scoring.comparison import Comparison
from seqmem.scoring.numbers import format_margin, format_number, format_p
from seqmem.scoring.shares import MIN_SEEDS, too_few
from seqmem.scoring.sign_flips import MIN_SEEDS_FOR_P
from seqmem.scoring.verdict import Verdict

MAX_LINES = 25
WIDTH = 118
_ROWS = 10
_LABEL = 26
_ROLES: tuple[Role, ...] = ("learned", "kept", "harm", "twins")
"""Roles with a column of their own."""


def last_screen(comparison: Comparison, more: str) -> list[str]:
    """Return the lines, not escaped.

    Args:
        comparison: what was compared.
        more: the command of this bench without its seeds; empty where nobody typed one.
    """
    seeds = sorted({seed for row in comparison.rows for seed in row.runs})
    model = f" on {comparison.model}" if comparison.model else ""
    presets = sorted({str(row.facts["preset"]) for row in comparison.rows if row.facts.get("preset")})
    preset = f", preset {' and '.join(presets)}" if presets else ""
    lines = [f"{comparison.scenario}{model}{preset}, {_seeds_in_words(seeds)}.", *_asked(comparison), ""]
    below = [*_wrapped(_brackets(comparison)), "", *_wrapped(headline(comparison), 3)]
    below += [
        *_wrapped(_unranked(comparison)),
        *_wrapped(_detected(comparison)),
        *_next(comparison, seeds, more),
    ]
    room = MAX_LINES - 1 - len(lines) - len(below)  # the caller says where the files are
    lines += [*_table(comparison, room), *below]
    return [clean(line) for line in lines]


def _seeds_in_words(seeds: Sequence[int]) -> str:
    if not seeds:
        return "no finished run"
    return f"seed{'s' * (len(seeds) > 1)} {seeds_text(seeds)}"


def _wrapped(text: str, lines: int = 2) -> list[str]:
    return textwrap.wrap(text, WIDTH, max_lines=lines, placeholder=" ...") if text else []


def _asked(comparison: Comparison) -> list[str]:
    primary = comparison.primary
    better = {"higher": ", higher is better", "lower": ", lower is better", "none": ""}[primary.direction]
    chance = chance_text(comparison) if primary.unit == "share" else ""
    guessing = f"; guessing gives {chance}" if chance else ""
    unit = f", {primary.unit}" if primary.unit else ""
    return _wrapped(f"Asked: {measure_in_words(comparison)} ({primary.name}{unit}{better}{guessing})")


def _table(comparison: Comparison, room: int) -> list[str]:
    """Return the table with as many rows as fit into `room` lines; see `_rows`."""
    counts = range(min(_ROWS, len(comparison.rows)), 0, -1)
    return next(lines for count in counts if len(lines := _rows(comparison, count)) <= room or count == 1)


def _rows(comparison: Comparison, count: int) -> list[str]:
    """Return the best `count` rows, always with the reference, and a line on what the last columns mean."""
    rows = comparison.best_first()
    shown = rows[:count]
    reference = next((row for row in rows if row.label == comparison.reference), None)
    if reference is not None and reference not in shown:
        shown = [*shown[:-1], reference]
    roles = {role: found for role in _ROLES if (found := _of_role(comparison, role)) is not None}
    against = f"minus {comparison.reference}" if comparison.reference else "difference"
    head = ["", _short(comparison.primary.name), _short(against), "sees", "verdict"]
    plain = len(head)
    head += [f"{role} {arrow(measure)}".rstrip() for role, measure in roles.items()]
    head += ["step time"] if any(row.cost for row in shown) else []
    table = [head, *(_line(comparison, row, tuple(roles.values()), len(head)) for row in shown)]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    ends = list(itertools.accumulate(width + 2 for width in widths))
    fitting = sum(end - 2 <= WIDTH for end in ends)  # whole columns only
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (row[:fitting] + [""] * (len(head) - fitting) for row in table)
    ]
    if more := len(rows) - len(shown):
        lines.append(f"... and {more} row{'s' * (more > 1)} more")
    meanings = [_meaning(role, measure) for role, measure in list(roles.items())[: fitting - plain]]
    graded = next((one.by_degrees for one in comparison.verdicts.values() if one.by_degrees), None)
    meanings += [f"by degrees: {graded.measure.summary}"] if graded else []
    return [*lines, *_wrapped("; ".join(meanings))]


def _meaning(role: Role, measure: Measure) -> str:
    unit = "" if measure.unit == "share" else f" ({measure.unit})"
    return f"{role}: {measure.summary or measure.name}{unit}"


def _line(comparison: Comparison, row: Row, measures: Sequence[Measure], columns: int) -> list[str]:
    verdict = comparison.verdicts[row.label]
    value = "no value" if verdict.value is None else verdict.shown_value
    sees = _sees(verdict, comparison.primary)
    cells = [_short(clean(row.label)), value, verdict.shown_difference, sees, _word(verdict)]
    for measure in measures:
        interval = comparison.cells[row.label, measure.name].interval
        cells.append("-" if interval is None else format_number(interval.mean, measure.unit))
    if len(cells) < columns:
        cells.append("-" if row.cost is None else f"{row.cost:.2f}")
    return cells


def _word(verdict: Verdict) -> str:
    one = verdict.by_degrees or verdict
    found = one.difference
    p = "" if found is None or found.p is None else f" (p {format_p(found.p)})"
    return FINDINGS[one.finding].word + " by degrees" * (one is not verdict) + p + "*" * bool(verdict.failed)


def _detected(comparison: Comparison) -> str:
    """Return what the detectors found, and in which rows; empty without a test of any."""
    said = []
    for measure in comparison.measures:
        found = {
            row.label: one.detected
            for row in comparison.best_first()
            if (one := comparison.detections.get((row.label, measure.name))) is not None
        }
        together = comparison.detections.get((None, measure.name))
        rows = [label for label, detected in found.items() if detected == "found"]
        if rows:
            said.append(f"{measure.name} found in {', '.join(rows)}")
        elif together is not None and together.detected == "found":
            said.append(f"{measure.name} found in all rows together, in none alone")
        elif set(found.values()) - {"too few seeds"}:
            said.append(
                f"{measure.name} {'underpowered' if 'underpowered' in found.values() else 'not found'}"
            )
    return f"Against zero: {'; '.join(said)}." if said else ""


def _unranked(comparison: Comparison) -> str:
    """Return which rows may not be ranked, and for what."""
    verdicts = [comparison.verdicts[row.label] for row in comparison.best_first()]
    found = [f"{one.label} ({', '.join(one.failed)})" for one in verdicts if one.failed]
    return f"* Not ranked, for a gate that was not passed: {', '.join(found)}." if found else ""


def _of_role(comparison: Comparison, role: Role) -> Measure | None:
    """Return the first measure of a role that has a value; not the primary, which has a column of its own."""
    for measure in comparison.measures:
        if measure.role == role and measure.name != comparison.primary.name:
            if any(comparison.cells[row.label, measure.name].interval for row in comparison.rows):
                return measure
    return None


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 3]}..."


def _sees(verdict: Verdict, measure: Measure) -> str:
    found = verdict.difference
    if found is None:
        return ""
    if found.detectable is None or found.interval.n < MIN_SEEDS:
        return "-"
    return format_number(found.detectable, measure.unit)


def _brackets(comparison: Comparison) -> str:
    """Return what the brackets, `sees` and p are, as far as there are any."""
    found = [verdict.difference for verdict in comparison.verdicts.values() if verdict.difference]
    if not found:
        return ""
    seeds = min(one.interval.n for one in found)
    if seeds < MIN_SEEDS:
        return f"{too_few(seeds)}, a verdict {MIN_SEEDS_FOR_P}"
    few = f"no verdict below {MIN_SEEDS_FOR_P} seeds"
    p = few if seeds < MIN_SEEDS_FOR_P else "p is adjusted for all rows"
    sees = "sees: the true difference that 80 % of such benches would detect"
    return f"[ ]: 95 % intervals over seeds; {sees}; {p}"


def _next(comparison: Comparison, seeds: Sequence[int], more: str) -> list[str]:
    """Return the command that adds seeds to the same folder, twice as many at most, where more would say more."""
    needed = _needed(comparison)
    if not more or not seeds or needed <= len(seeds):
        return []
    wanted = max(min(needed, 2 * len(seeds)), MIN_SEEDS_FOR_P)
    free = (seed for seed in itertools.count(seeds[0]) if seed not in seeds)
    text = seeds_text(sorted([*seeds, *itertools.islice(free, wanted - len(seeds))]))
    margin = f" (for {format_margin(comparison.primary)} some {needed})" if needed > wanted else ""
    return [f"More seeds in the same folder{margin}: {more} --seeds {text}"]


def _needed(comparison: Comparison) -> int:
    """Return the seeds for a test of every row, or for telling a difference of the measure's margin."""
    margin, needed = comparison.primary.margin, 0
    for verdict in comparison.verdicts.values():
        found = verdict.difference
        if found is None or verdict.finding not in ("not_shown", "no_test", "too_few_seeds"):
            continue
        seeds = found.interval.n
        if seeds < MIN_SEEDS_FOR_P:
            needed = max(needed, MIN_SEEDS_FOR_P)
        elif margin is not None and found.detectable is not None:
            needed = max(needed, math.ceil(seeds * (found.detectable / margin) ** 2))
    return needed
