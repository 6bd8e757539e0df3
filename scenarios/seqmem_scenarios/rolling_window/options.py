"""Options of `rolling_window`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seqmem import Options

Window = tuple[int, int]


class RollingWindowOptions(Options):
    """Options of `rolling_window`."""

    positions: int = Field(400, ge=4, description="positions of the stream; each is one background row")
    windows: tuple[Window, ...] = Field(
        ((120, 160), (150, 160), (40, 60), (56, 60), (320, 340)),
        min_length=1,
        description="scored windows, first position and the one after the last, e.g. [[120,160],[320,340]]",
    )
    control_windows: tuple[Window, ...] = Field(
        ((200, 220), (248, 268), (372, 392)),
        description="windows that only serve as controls: trained and probed, neither scored nor rested on",
    )
    zone: int = Field(10, ge=1, description="positions just behind, and just ahead of, a window")
    passes: int = Field(2, ge=1, description="times a window is trained again, in order")
    update_norm: float | None = Field(
        None,
        gt=0,
        description="in windows, scale the change of every step to this share of the weights' norm; null: as the "
        "optimizer makes it",
    )
    order: Literal["stream", "shuffled"] = Field(
        "stream", description="order of the base pass: that of the stream, or a random one"
    )
    stride: int = Field(
        1, ge=1, description="positions from one that is probed to the next; 1 for high resolution"
    )
    rest_steps: int = Field(16, ge=0, description="steps on unrelated text after each scored window")
    rest_stride: int = Field(
        5, ge=1, description="during a rest one in this many of the probed positions away from scored windows"
    )
    batch_size: int = Field(10, ge=1, description="positions per step, one after the other")
    row_tokens: int = Field(64, ge=8, description="longest row in tokens")

    @model_validator(mode="after")
    def _windows_fit(self) -> RollingWindowOptions:
        for place, (start, stop) in enumerate(self.all_windows):
            name = f"window [{start}, {stop}]"
            if not 0 <= start < self.positions or stop > self.positions:
                raise ValueError(
                    f"{name} lies outside the stream: it must lie within 0 and positions ({self.positions})"
                )
            if start >= stop:
                raise ValueError(f"{name} is empty: its end must be above its start")
            if (start, stop) in self.all_windows[:place]:
                raise ValueError(f"{name} is given twice")
            if not self.probed(start, stop):
                raise ValueError(f"no probed position lies in {name}: stride ({self.stride}) must be smaller")
        return self

    @model_validator(mode="after")
    def _controls_exist(self) -> RollingWindowOptions:
        for start, stop in self.windows:
            if not any(self.apart((start, stop), other) for other in self.all_windows):
                raise ValueError(
                    f"window [{start}, {stop}] has no control: no other window lies twice the zone ({self.zone}) or "
                    "more away from it; add one to control_windows, or make the zone smaller"
                )
        if not self.far:
            raise ValueError(
                "windows and their zones leave no position far from all of them; use fewer or shorter windows, "
                "or a smaller zone"
            )
        return self

    @property
    def all_windows(self) -> tuple[Window, ...]:
        """Scored windows, then those that are only controls; a window's place here is its task label."""
        return (*self.windows, *self.control_windows)

    def probed(self, start: int, end: int) -> range:
        """Return the probed positions from `start` to before `end`, cut at the ends of the stream."""
        first = -(-max(start, 0) // self.stride) * self.stride
        return range(first, min(end, self.positions), self.stride)

    def span(self, window: Window) -> Window:
        """Return the positions of a window with its zones."""
        return window[0] - self.zone, window[1] + self.zone

    def apart(self, one: Window, other: Window) -> bool:
        """Return whether two windows have no position in common, zones included."""
        (start, end), (first, last) = self.span(one), self.span(other)
        return end <= first or last <= start

    @property
    def far(self) -> list[int]:
        """Probed positions in no window and no zone."""
        return self._outside(self.all_windows)

    @property
    def rest_probed(self) -> list[int]:
        """Positions probed during a rest: in the spans of scored windows all, of the others a few."""
        outside = self._outside(self.windows)
        left_out = {position for n, position in enumerate(outside) if n % self.rest_stride}
        return [position for position in self.probed(0, self.positions) if position not in left_out]

    def _outside(self, windows: tuple[Window, ...]) -> list[int]:
        near = {position for window in windows for position in self.probed(*self.span(window))}
        return [position for position in self.probed(0, self.positions) if position not in near]

    def steps(self, window: Window) -> int:
        """Return the optimizer steps of retraining a window."""
        return self.passes * -(-(window[1] - window[0]) // self.batch_size)
