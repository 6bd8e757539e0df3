"""The design of a stream, as it declares it to metrics that need more than its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Window = tuple[int, int]


class Design(BaseModel):
    """Facts about a stream that metrics read; each is left out where the stream has no such thing.

    Attributes:
        recall: how a fact counts as recalled: ``exact_match``, greedy decoding gives exactly the answer, or
            ``forced_choice``, the answer is more probable than each other of the probe's choices (a tie is wrong);
            a probe without choices is then still asked for an exact match.
        local_window: steps after an injection in which its facts are watched.
        criterion: right answers in a row that count as recalled.
        max_exposures: most exposures a fact is given, one a step, asked after each.
        others: rows beside the fact in each step that states it.
        samples: number of sampled answers; one of them must be right.
        windows: (first position, one after the last) of each window trained again, by task label.
        scored: number of windows that are scored; the others come last and only serve as controls.
        zone: positions just behind, and just ahead of, a window.
        added_loops: task labels of loops that came after the others had run.
        choice_labels: name of a choice to the task label whose own answer it is, where every loop has an answer of
            its own to the same question.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recall: Literal["exact_match", "forced_choice"] = "exact_match"
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
