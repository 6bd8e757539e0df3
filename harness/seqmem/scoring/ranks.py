"""Ranks: how many rows are significantly better, and where that cannot be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqmem.core.measures import Measure
from seqmem.scoring.family import adjusted, too_few_seeds
from seqmem.scoring.sign_flips import MIN_SEEDS_FOR_P
from seqmem.scoring.statistics import ALPHA, Difference, paired_difference


def rank_rows(
    primary: Measure,
    seeds: Mapping[str, Mapping[int, float]],
    reference: str | None,
    judged: Mapping[str, Difference | None],
) -> tuple[dict[str, int | None], dict[str, str]]:
    """Return every row's rank, or None, and why the others have none.

    A rank is 1 + the number of significantly better rows. Against the reference the verdict counts, whatever other rows
    are ranked, so that no rank says what the verdict does not. The tests of one row against all others are one family.
    A row has no rank where one of these tests could not have been significant whatever its outcome.

    Args:
        primary: the measure.
        seeds: its values by row label and seed, of rows that may be ranked.
        reference: label of the row that verdicts compare with.
        judged: differences to it by row label, as verdicts have them.
    """
    ranks: dict[str, int | None] = {}
    reasons: dict[str, str] = {}
    sign = -1 if primary.direction == "lower" else 1
    for label, own in seeds.items():
        rivals = {name: other for name, other in seeds.items() if name != label and other}
        found = {name: paired_difference(other, own) for name, other in rivals.items()}
        reason = _no_rank(primary, len(seeds), own, list(found.values()))
        if reason:
            ranks[label], reasons[label] = None, reason
            continue
        if label == reference:
            better = sum(_better(judged.get(name), sign) for name in found)
        else:
            others = [one for name, one in found.items() if name != reference]
            better = sum(_better(one, sign) for one in adjusted(others))
            better += reference in found and _better(judged.get(label), -sign)
        ranks[label] = 1 + better
    return ranks, reasons


def _no_rank(
    primary: Measure, rows: int, own: Mapping[int, float], found: Sequence[Difference | None]
) -> str:
    """Return why a row has no rank; empty where it has one."""
    if primary.direction == "none":
        return f"{primary.name} has no better direction: no rank"
    if rows == 1:
        return "no other row may be ranked: no rank"
    if not own:
        return f"no value of {primary.name}: no rank"
    if not found:
        return f"no other row has a value of {primary.name}: no rank"
    common = min(difference.interval.n if difference else 0 for difference in found)
    if common < MIN_SEEDS_FOR_P:
        return f"no rank: {common} common seed{'s' * (common != 1)}, a test needs {MIN_SEEDS_FOR_P}"
    return next((f"no rank: {few}" for few in too_few_seeds(found) if few), "")


def _better(difference: Difference | None, sign: int) -> bool:
    """Return whether a difference was shown, in the direction that is better."""
    if difference is None or difference.p is None:
        return False
    return difference.p < ALPHA and sign * difference.interval.mean > 0
