"""The page of a suite for programs: what ``page.json`` holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seqmem.core.version import __version__
from seqmem.reporting.exports import ten_digits_each, to_records
from seqmem.reporting.suite_section import Section, left_out, versions
from seqmem.scoring.size_trend import SizeCurve

if TYPE_CHECKING:
    from seqmem.planning.suite import SuitePlan

FORMAT = 1


def suite_data(suite: SuitePlan, sections: Sequence[Section], interrupted: bool) -> dict[str, Any]:
    """Return the whole page as JSON values."""
    request = suite.request
    asked = ("strategy", "seeds", "set", "text", "precision", "threads", "controls")
    listed = {name: getattr(request, name) for name in asked}
    return {
        "format": FORMAT,
        "suite": suite.spec.name,
        "version": suite.spec.version,
        "summary": suite.spec.summary,
        "seqmem": __version__,
        "ran_with": versions(sections),
        "models": [
            {name: getattr(model, name) for name in ("name", "parameters", "revision", "fingerprint")}
            for model in suite.models
        ],
        "asked": {**listed, "device": device_of(suite)},
        "left_out": left_out(sections, suite.left_out),
        "interrupted": interrupted,
        "parts": [_part(section) for section in sections],
    }


def device_of(suite: SuitePlan) -> str:
    """Return the device that the runs are planned for."""
    return next(iter(suite.plans[0].runs.values())).recipe.device


def _part(section: Section) -> dict[str, Any]:
    data: dict[str, Any] = {
        "number": section.number,
        "title": section.part.title,
        "question": section.part.question,
        "scenario": section.planned.scenario,
        "version": section.planned.version,
        "preset": section.part.preset,
        "board": section.planned.name,
        "same_runs_as": section.same_as,
        "failed": section.failed,
    }
    cells = to_records(section.board.leaderboard) if section.board is not None else []
    comparisons = section.board.leaderboard.boards if section.board is not None else ()
    return {
        **data,
        "cells": [cell for cell in cells if cell["measure"] in section.part.measures],
        "verdicts": {row.label: one.verdicts[row.label].text for one in comparisons for row in one.rows},
        "figures": [link for _, link in section.links[1:]],
        "size_trend": [ten_digits_each(_curve(curve)) for curve in section.curves],
    }


def _curve(curve: SizeCurve) -> dict[str, Any]:
    trend = curve.trend
    return {
        "measure": curve.measure.name,
        "unit": f"{curve.measure.unit} per tenfold parameters",
        "strategy": curve.arm,
        "points": [
            {
                "model": point.model,
                "parameters": point.parameters,
                **{name: getattr(point.interval, name) for name in ("mean", "low", "high")},
                "seeds": point.interval.n,
            }
            for point in curve.points
        ],
        "slope": trend.slope,
        "low": trend.low,
        "high": trend.high,
        "p": curve.p,
        "p_unadjusted": trend.p,
        "sizes": trend.sizes,
        "reason": trend.reason,
    }
