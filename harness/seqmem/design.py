"""What a stream declares of its own design, for metrics that its tables alone do not tell enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

Window = tuple[int, int]


class Design(BaseModel):
    """Facts about a stream that metrics read; each is left out where the stream has no such thing.

    Attributes:
        local_window: steps after an injection in which its facts are watched.
        criterion: right answers in a row that count as recalled.
        max_exposures: most exposures a fact is given, one a step, asked after each.
        others: rows beside the fact in each step that states it.
        samples: sampled answers of which one must be right.
        windows: (first position, one after the last) of each window trained again, by task label.
        scored: how many of the windows are scored; the others, which come last, only serve as controls.
        zone: positions just behind, and just ahead of, a window.
        added_loops: task labels of loops that came after the others had run.
        choice_labels: name of a choice to the task label whose own answer it is, where every loop has an answer of
            its own to the same question.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    local_window: int | None = None
    criterion: int | None = None
    max_exposures: int | None = None
    others: int | None = None
    samples: int | None = None
    windows: tuple[Window, ...] = ()
    scored: int = 0
    zone: int | None = None
    added_loops: tuple[int, ...] = ()
    choice_labels: Mapping[str, int] = {}

    def stated(self) -> dict[str, Any]:
        """Return what the stream declares, as JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)


def design_from_options(options: Mapping[str, Any]) -> Design:
    """Return the design of a stream whose record does not state it (formats before 4), from its scenario's options."""
    same = ("local_window", "criterion", "max_exposures", "others", "samples", "zone")
    found: dict[str, Any] = {name: options[name] for name in same if name in options}
    if "windows" in options:
        found["windows"] = (*options["windows"], *options["control_windows"])
        found["scored"] = len(options["windows"])
    loops = options.get("loops", 0) + bool(options.get("new_loop"))
    if options.get("new_loop"):
        found["added_loops"] = (options["loops"],)
    if options.get("variant") == "conflict":
        found["choice_labels"] = {f"loop {loop}": loop for loop in range(loops)}
    return Design.model_validate(found)
