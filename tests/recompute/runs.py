"""All measures of one run."""

from __future__ import annotations

from .boundaries import Values, boundary_measures, first_measures, task_measures, twin_measures
from .halving import half_life_measures
from .places import contrast_measures, interference_measures
from .records import Arms
from .rest import cost_measures, exact_measures, form_measures, kept_measures, text_measures
from .returns import exact_rise_measures, recovery_measures, revival_measures


def values_of(arms: Arms) -> Values:
    """Every measure that has a value in a run; those of a contrast need its control."""
    run = arms.run
    found: Values = {}
    for measures in (
        boundary_measures,
        task_measures,
        first_measures,
        twin_measures,
        cost_measures,
        text_measures,
        form_measures,
        exact_measures,
        kept_measures,
        half_life_measures,
        exact_rise_measures,
        revival_measures,
        interference_measures,
    ):
        found |= measures(run)
    return found | recovery_measures(arms) | contrast_measures(arms)
