"""Families of tests: p-values that are adjusted together, and tests that could not have come out significant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from seqmem.scoring.sign_flips import step_down_max_t
from seqmem.scoring.statistics import ALPHA, Difference


def adjusted(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Return the differences of one family with `p` filled in where there is a test."""
    p_values = iter(step_down_max_t([found.by_seed for found in _tested(differences)]))
    return [
        replace(found, p=next(p_values)) if found is not None and found.raw_p is not None else found
        for found in differences
    ]


def too_few_seeds(differences: Sequence[Difference | None]) -> list[str]:
    """Return for each difference why its test could not have come out significant; empty where it could.

    That is so where even equal differences on all of its seeds, the other rows being as they are, would have an
    adjusted p of .05 or above: "no difference shown" would then say something about the number of seeds only. It
    happens to rows with fewer seeds than others.
    """
    family = [found.by_seed for found in _tested(differences)]
    most = max(map(len, family), default=0)
    hopeless = iter([len(own) < most and _hopeless(family, place) for place, own in enumerate(family)])
    return [
        f"with {found.interval.n} common seeds no outcome could have been told beside rows with {most}"
        if found is not None and found.raw_p is not None and next(hopeless)
        else ""
        for found in differences
    ]


def _hopeless(family: Sequence[Mapping[int, float]], place: int) -> bool:
    best = [dict.fromkeys(own, 1.0) if other == place else own for other, own in enumerate(family)]
    return step_down_max_t(best)[place] >= ALPHA


def _tested(differences: Sequence[Difference | None]) -> list[Difference]:
    return [found for found in differences if found is not None and found.raw_p is not None]
