"""`rolling_window`: a stream is trained once; then a window of it is trained again. Where does the loss fall?

The base pass trains positions 0..N-1 of a stream once, in order; what the learner is then is kept as the
snapshot ``base``. Every window [a, b) starts from that snapshot and trains positions a..b-1 again. The change
of loss D(p) = loss after the window - loss at the base tells, at every position p of the stream, what the
second look at the window brought back: inside it, just behind it, just ahead of it, or nowhere else. A
snapshot retrained elsewhere, read at the same positions, is the control; so windows serve as each other's
controls where they lie apart, and further control windows can be trained that are nothing but that.

After a scored window the learner rests on unrelated text, the same for every window. What is asked, and when:

* ``positions``: the loss of every `stride`-th position, after the base pass and after every window;
* ``log``: over a rest, at log-spaced steps, the positions in and beside the scored windows and a few of the
  others;
* ``general``: held-out background text, at the start and wherever ``positions`` are asked or a rest ends.

In the control ``shuffled`` the base pass trains the same documents in random order, everything else being
the same: neighbours of a window that gain for their content alone gain there too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from seqmem import (
    Batch,
    BuildContext,
    Design,
    Example,
    Outline,
    Probe,
    ScenarioSpec,
    Stream,
    document_probe,
    hookimpl,
)
from seqmem.streams import Place, Schedule, Segment, Size, When, ask, begin, end, log_spaced, rest
from seqmem_scenarios.common import (
    GENERAL_DOCUMENTS,
    background_batches,
    background_row,
    background_text,
    check_lengths,
    general_probes,
    general_size,
    joined,
)
from seqmem_scenarios.rolling_window.options import RollingWindowOptions, Window
from seqmem_scenarios.world import Draw

seqmem_api = ">=1,<2"


def schedule(options: RollingWindowOptions) -> Schedule:
    """State the stream: the base pass, control windows, then each scored window with its rest.

    Control windows come first, so that the stream ends with a scored window and its rest.
    """
    o, scored = options, len(options.windows)
    labels = (*range(scored, len(o.all_windows)), *range(scored))
    blocks = [Segment("base", "general", -(-o.positions // o.batch_size), name="base pass", save_as="base")]
    for label in labels:
        first, stop = o.all_windows[label]
        name = f"{'control ' if label >= scored else ''}window {first}-{stop}"
        steps = o.steps((first, stop))
        blocks.append(
            Segment(
                "window",
                "inject",
                steps,
                name=name,
                label=labels.__getitem__,
                start_from="base",
                update_norm=o.update_norm,
            )
        )
        if label < scored:
            blocks.append(rest(o.rest_steps, name=f"rest after {name}"))
    # step 0 of a rest is the end of its window, where all positions have just been asked
    rested = When(lambda place: log_spaced(place.steps)[1:], ("rest",))
    return Schedule(
        blocks,
        [
            ask("positions", "positions", end("base", "window")),
            ask("rest", "log", rested),
            ask("general", "general", begin(), end()),
        ],
    )


class _Windows:
    """The stream of one seed."""

    def __init__(self, options: RollingWindowOptions, context: BuildContext) -> None:
        self.options = options
        self.context = context
        self.first = Draw("stream start", context.seed).below(options.positions)

    def _source(self, position: int) -> int:
        """Return the background row at a position: the seed gives the first, and rows go round the source once.

        A text that is the same for every seed, such as a file, would make every seed the same run otherwise.
        """
        return (self.first + position) % self.options.positions

    # -- what is trained ------------------------------------------------------------------------------

    def base(self, place: Place) -> Iterator[Batch]:
        """Make the pass over all positions, in the order of the stream or a random one."""
        order: Sequence[int] = range(self.options.positions)
        if self.options.order == "shuffled":
            order = Draw("base order", self.context.seed).shuffled(order)
        return self._batches(order)

    def window(self, place: Place) -> Iterator[Batch]:
        """Make the passes over a window."""
        assert place.label is not None
        for _ in range(self.options.passes):
            yield from self._batches(range(*self.options.all_windows[place.label]))

    def rest(self, place: Place) -> Iterator[Batch]:
        """Make rows that lie behind the stream in the source; no window's rest has rows of its own."""
        o = self.options
        return background_batches(self.context, o.positions, place.steps, o.batch_size, o.row_tokens)

    def _batches(self, positions: Sequence[int]) -> Iterator[Batch]:
        size = self.options.batch_size
        for start in range(0, len(positions), size):
            yield tuple(self._row(position) for position in positions[start : start + size])

    def _row(self, position: int) -> Example:
        """Return a position's row; it names the position, so that its exposures are counted."""
        row = background_row(self.context, self._source(position), self.options.row_tokens)
        return replace(row, facts=(_fact(position),))

    # -- what is asked --------------------------------------------------------------------------------

    def probe_sets(self) -> Mapping[str, tuple[Probe, ...]]:
        """Return all probes by set."""
        o = self.options
        positions = {position: self._probe(position) for position in o.probed(0, o.positions)}
        sets = {
            "general": general_probes(self.context, o.row_tokens),
            "positions": tuple(positions.values()),
            "rest": tuple(positions[position] for position in o.rest_probed),
        }
        check_lengths(self.context, sets)
        return sets

    def _probe(self, position: int) -> Probe:
        return document_probe(
            self.context.encode,
            background_text(self.context, self._source(position), self.options.row_tokens),
            id=_fact(position),
            fact=_fact(position),
            length=self.options.row_tokens,
            position=position,
        )


def _fact(position: int) -> str:
    return f"position-{position}"


def build(options: RollingWindowOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    windows = _Windows(options, context)
    make = {"base": windows.base, "window": windows.window, "rest": windows.rest}
    design = Design(windows=options.all_windows, scored=len(options.windows), zone=options.zone)
    return schedule(options).stream(make, windows.probe_sets(), design=design)


def outline(options: RollingWindowOptions) -> Outline:
    """Return steps, tokens and probes, counted without making a document."""
    o = options
    rested = o.rest_steps * o.batch_size
    rows = o.positions + len(o.windows) * rested
    rows += o.passes * sum(end - start for start, end in o.all_windows)
    positions, rest_probed = len(o.probed(0, o.positions)), len(o.rest_probed)
    return schedule(o).outline(
        {
            "positions": Size(positions, positions * o.row_tokens),
            "rest": Size(rest_probed, rest_probed * o.row_tokens),
            "general": general_size(o.row_tokens),
        },
        train_tokens=rows * o.row_tokens,
        longest_row=o.row_tokens,
        documents=((o.positions + rested) * joined(o.row_tokens), GENERAL_DOCUMENTS),
        primary="memory_signal",
        primary_relation="general",
    )


NOTES_WINDOWS: tuple[Window, ...] = ((3000, 4000), (3750, 4000), (1000, 1500), (1400, 1500), (8000, 8500))
"""Windows of the research notes, in a stream of about 10000 positions."""

# The last control window keeps the far positions off the end of the stream: there the moments carried over from
# the base pass pull the loss down in every snapshot, and the more the longer its window is.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "positions": 48,
        "windows": ((8, 16), (32, 40)),
        "control_windows": ((20, 28),),
        "zone": 2,
        "rest_steps": 2,
        "batch_size": 8,
    },
    "default": {},
    # more windows than `default`: what lies beside them is small
    "matched": {
        "positions": 480,
        "windows": tuple((start, start + 20) for start in range(20, 440, 56)),
        "control_windows": ((464, 480),),
        "update_norm": 0.002,
    },
    "paper": {
        "positions": 10_000,
        "windows": NOTES_WINDOWS,
        "control_windows": ((5000, 5500), (6200, 6700), (9300, 9800)),
        "zone": 250,
        "passes": 1,
        "rest_steps": 500,
        "batch_size": 16,
        "row_tokens": 128,
    },
    "pretrained": {
        "positions": 160,
        "windows": ((48, 64), (60, 64), (16, 24), (128, 136)),
        "control_windows": ((80, 88), (104, 112), (148, 156)),
        "zone": 4,
        "stride": 2,
        "rest_steps": 4,
        "batch_size": 8,
        "row_tokens": 48,
    },
}

OPTIMIZER: Mapping[str, Mapping[str, Any]] = {
    "default": {"name": "adam", "lr": 1e-3},
    "paper": {"name": "adamw", "lr": 5e-5},
    "pretrained": {"name": "adam", "lr": 1e-4},
}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="rolling_window",
            version="1",
            summary="A stream is trained once, then windows of it again; where does the loss fall?",
            options=RollingWindowOptions,
            presets=PRESETS,
            models={"paper": "EleutherAI/pythia-410m@step3000"},
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
            # nothing is read from the control after its windows: it needs no rest
            controls={"shuffled": {"order": "shuffled", "rest_steps": 0}},
        )
    ]
