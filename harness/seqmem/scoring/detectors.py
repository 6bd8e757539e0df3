"""Detectors: measures that are held against zero, each as one contrast whose smallest effect is stated beforehand.

A detector that did not fire says something only where it could have: beside its p-value stands whether an effect of the
size that its metric states (`Measure.effect`) would have been seen in 80 % of repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seqmem.core.measures import Measure
from seqmem.scoring.cells import Scores, by_seed
from seqmem.scoring.family import adjusted, too_few_seeds
from seqmem.scoring.sign_flips import MIN_SEEDS_FOR_P
from seqmem.scoring.statistics import ALPHA, Difference, paired_difference

Detected = Literal["found", "below zero", "not found", "underpowered", "too few seeds"]


@dataclass(frozen=True)
class Detection:
    """What a detector says of a row.

    Attributes:
        contrast: the measure's values against zero; its p is adjusted over the rows of the table.
        detected: ``found`` and ``below zero`` where p is under .05; ``not found`` where it is not, though the stated
            effect would have been seen in 80 % of repeats; ``underpowered`` where it would not; ``too few seeds`` below
            six, and where fewer than in other rows leave no outcome that could have been shown.
    """

    contrast: Difference
    detected: Detected


def detections(
    labels: Sequence[str], measures: Sequence[Measure], scores: Scores
) -> dict[tuple[str | None, str], Detection]:
    """Return what every detector says of every row that has a value, by row and measure.

    Under None it says so of all these rows together: of their mean by seed, over the seeds that all of them have. A
    memory that no row shows alone may be seen in all of them, since rows share their seeds and not all of their noise.
    """
    found: dict[tuple[str | None, str], Detection] = {}
    for measure in measures:
        if measure.effect is None:
            continue
        contrasts = {
            label: _against_zero(by_seed(scores, label, measure.name))
            for label in labels
            if by_seed(scores, label, measure.name)
        }
        family = list(contrasts.values())
        for label, contrast, few in zip(contrasts, adjusted(family), too_few_seeds(family), strict=True):
            if contrast is not None:
                detected = "too few seeds" if few else _detected(contrast, measure.effect)
                found[label, measure.name] = Detection(contrast, detected)
        (together,) = adjusted([_together([one for one in contrasts.values() if one is not None])])
        if len(contrasts) > 1 and together is not None:
            found[None, measure.name] = Detection(together, _detected(together, measure.effect))
    return found


def _together(contrasts: Sequence[Difference]) -> Difference | None:
    """Return the mean of rows by seed against zero; None without a common seed."""
    common = set.intersection(*(set(one.by_seed) for one in contrasts)) if contrasts else set()
    means = {seed: sum(one.by_seed[seed] for one in contrasts) / len(contrasts) for seed in sorted(common)}
    return _against_zero(means)


def _against_zero(values: Mapping[int, float]) -> Difference | None:
    return paired_difference(values, dict.fromkeys(values, 0.0))


def _detected(contrast: Difference, effect: float) -> Detected:
    if contrast.interval.n < MIN_SEEDS_FOR_P or contrast.p is None:
        return "too few seeds"
    if contrast.p < ALPHA:
        return "found" if contrast.interval.mean > 0 else "below zero"
    if contrast.detectable is not None and contrast.detectable > effect:
        return "underpowered"
    return "not found"
