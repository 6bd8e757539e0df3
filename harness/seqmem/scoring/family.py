"""Families of tests: p-values that are adjusted together, and tests that could not have come out significant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seqmem.scoring.statistics import Difference, false_discovery, seeds_needed, undecidable


def adjusted(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Return the differences of one family with `p` filled in where there is a test."""
    p_values = iter(false_discovery([found.raw_p or 0.0 for found in _tested(differences)]))
    return [
        replace(found, p=next(p_values)) if found is not None and found.raw_p is not None else found
        for found in differences
    ]


def too_few_seeds(differences: Sequence[Difference | None]) -> list[str]:
    """Return for each difference why its test could not have come out significant; empty where it could."""
    tested = _tested(differences)
    seeds = [found.interval.n for found in tested]
    hopeless = iter(undecidable([found.raw_p or 0.0 for found in tested], seeds))
    return [
        f"with {found.interval.n} common seeds and {len(tested)} comparisons a row that differs alone cannot be "
        f"told, with {seeds_needed(len(tested))} it can"
        if found is not None and found.raw_p is not None and next(hopeless)
        else ""
        for found in differences
    ]


def _tested(differences: Sequence[Difference | None]) -> list[Difference]:
    return [found for found in differences if found is not None and found.raw_p is not None]
