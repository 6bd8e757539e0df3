"""Read records of older formats as the present one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seqmem.core.design import Design

DESIGN_FORMAT = 4
"""The first format whose run.json states the design."""


def with_lists_of_schedules(probes: pa.Table) -> pa.Table:
    """Return a table of probes with lists of schedules; before format 4 a "+" joined their names."""
    place = probes.schema.get_field_index("schedule")
    if place < 0 or pa.types.is_list(probes.schema.field(place).type):
        return probes
    return probes.set_column(place, "schedule", pc.split_pattern(probes["schedule"], "+"))


def design_of(info: Mapping[str, Any]) -> Design:
    """Return the design that a run.json states; before format 4 the scenario's options imply it."""
    if info["format"] >= DESIGN_FORMAT:
        return Design.model_validate(info.get("design", {}))
    options: Mapping[str, Any] = info["recipe"].get("scenario", {}).get("options", {})
    same = ("local_window", "criterion", "max_exposures", "others", "samples", "zone")
    found: dict[str, Any] = {name: options[name] for name in same if isinstance(options.get(name), int)}
    if {"windows", "control_windows"} <= options.keys():
        found["windows"] = (*options["windows"], *options["control_windows"])
        found["scored"] = len(options["windows"])
    if options.get("new_loop"):
        found["added_loops"] = (options["loops"],)
    if options.get("variant") == "conflict":
        loops = options["loops"] + bool(options["new_loop"])
        found["choice_labels"] = {f"loop {loop}": loop for loop in range(loops)}
    return Design.model_validate(found)
