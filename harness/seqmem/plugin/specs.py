"""The specs a plugin declares, one class per kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmem.core.data import BuildContext, Options, Outline, Stream, TextSource
from seqmem.core.measures import Interval, Measure, Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmem.plugin.strategy import Strategy
    from seqmem.record.reader import RunRecord
    from seqmem.record.row import Row

API_VERSION = "1.0"
"""The plugin API this host offers; a plugin states the range it was written for in `seqmem_api`."""


@dataclass(frozen=True)
class Footprint:
    """The state of a learner, as known before training: counts and bytes are exact.

    Attributes:
        shapes: shape of every parameter the optimizer works on, by its name in the weight files, tied ones once.
        frozen: numbers in parameters the optimizer never works on.
        value_bytes: bytes of one number of a parameter, of its gradient or of its moment.
        moments: names of the optimizer's moments.
        config: the model's configuration as its config.json states it.
        outline: what the stream will cost.
    """

    shapes: Mapping[str, tuple[int, ...]]
    value_bytes: int
    moments: tuple[str, ...]
    config: Mapping[str, Any]
    outline: Outline
    frozen: int = 0

    @property
    def numbers(self) -> int:
        """Numbers in the parameters the optimizer works on."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def trained_bytes(self) -> int:
        """Bytes of one tensor per parameter the optimizer works on: an anchor, an importance, a gradient."""
        return self.numbers * self.value_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters."""
        return (self.numbers + self.frozen) * self.value_bytes

    @property
    def context_bytes(self) -> int:
        """Bytes of one moment context: every moment, and its age as one float32 per parameter tensor."""
        return len(self.moments) * self.trained_bytes + 4 * len(self.shapes)


@dataclass(frozen=True)
class ScenarioSpec:
    """A scenario as a plugin declares it.

    Attributes:
        presets: name to option values; must hold ``smoke`` and ``default``.
        optimizer: optimizer settings a preset proposes, by preset name; ``default`` is the fallback.
        controls: name of a control to the option values that make it, run beside every strategy.
        further_controls: the same, of controls that are run only where they are asked for by name.
        reference: name of the strategy every row is compared with.
        model: model trained unless the user names one.
        models: by preset, instead of `model`; a Hugging Face id may name its revision: ``id@step3000``.
        rates: learning rate by optimizer name, taken when the user names another optimizer than the preset's.
        sweep: options swept unless the user sweeps others, by preset name, as typed after ``--sweep``.
        fingerprint: options to a string that changes with the content of files they name, for the run's id;
            raises UsageError when one is missing or unreadable.
        local: options that say where files lie on this machine; recipes keep only their last part.
    """

    name: str
    version: str
    summary: str
    options: type[Options]
    presets: Mapping[str, Mapping[str, Any]]
    optimizer: Mapping[str, Mapping[str, Any]]
    outline: Callable[[Any], Outline]
    build: Callable[[Any, BuildContext], Stream]
    reference: str = "naive"
    controls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    further_controls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model: str = "tiny"
    models: Mapping[str, str] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    sweep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fingerprint: Callable[[Any], str] | None = None
    local: tuple[str, ...] = ()
    citation: str = ""

    @property
    def all_controls(self) -> Mapping[str, Mapping[str, Any]]:
        """Controls of both kinds."""
        return {**self.controls, **self.further_controls}


@dataclass(frozen=True)
class StrategySpec:
    """A strategy as a plugin declares it.

    Attributes:
        build: options to a fresh strategy object.
        resize: the largest footprint that it can make, by additions to the model or removals from the optimizer.
        planned_bytes: upper bound on the bytes it keeps besides (moment contexts, anchors, a buffer); given its
            options and the footprint after every `resize`. The host counts the tensors `transform_update` gets.
        exclusive: parts of the learner that only one strategy of a composition may change: ``moments``, ``model``,
            ``forward``, or a word of its own.
        transform_stream: replaces the stream before training, from (stream, seed); for `joint`.
        check: refuses settings it cannot work with; raises UsageError. Given the options and the
            optimizer settings.
        check_model: refuses a model it cannot work with, by its config and shapes; raises UsageError. Given the
            options and the footprint.
        parts: specs of a composition's strategies, in the order written; filled in by the host.
    """

    name: str
    version: str
    summary: str
    build: Callable[[Any], Strategy]
    options: type[Options] = Options
    resize: Callable[[Any, Footprint], Footprint] | None = None
    planned_bytes: Callable[[Any, Footprint], int] | None = None
    exclusive: tuple[str, ...] = ()
    transform_stream: Callable[[Stream, int], Stream] | None = None
    check: Callable[[Any, Any], None] | None = None
    check_model: Callable[[Any, Footprint], None] | None = None
    citation: str = ""
    parts: tuple[StrategySpec, ...] = ()


@dataclass(frozen=True)
class MetricSpec:
    """A metric as a plugin declares it: a pure function of stored records.

    Attributes:
        measures: the numbers it gives; the first carries the metric's name.
        compute: (run, its controls by name) to a Value per measure name. The controls are runs of the
            same strategy and seed under the scenario's control options; a missing one gives None with
            a reason, not an error. Raises NotApplicable where the scenario has nothing to measure.
        draw: the figure that shows it, from the rows of a table; None where these rows have nothing to draw.
        remark: what a row's verdict has to add, from the mean over seeds of each measure that has one; empty for
            nothing.
    """

    name: str
    version: str
    summary: str
    measures: tuple[Measure, ...]
    compute: Callable[[RunRecord, Mapping[str, RunRecord]], Mapping[str, Value]]
    draw: Callable[[Sequence[Row]], Figure | None] | None = None
    remark: Callable[[Mapping[str, Interval]], str] | None = None
    citation: str = ""

    def __post_init__(self) -> None:
        """Refuse a measure that names another which the metric does not give."""
        names = [measure.name for measure in self.measures]
        for measure in self.measures:
            for what, named in (("graded", measure.graded), *(("ratio", one) for one in measure.ratio or ())):
                if named and named not in names:
                    raise ValueError(
                        f"measure {measure.name}: {what} is {named!r}, allowed: {', '.join(names)}"
                    )


@dataclass(frozen=True)
class ModelSpec:
    """A model that comes with a plugin, by a short name.

    Attributes:
        locate: folder holding safetensors weights, config and tokenizer, or None when not made yet.
        pretrain: makes it: (folder or None for the user's cache, *, seed, steps or None, device, resume,
            on_progress(step, steps, loss); force only when asked) to its figures, ``folder`` among them.
    """

    name: str
    version: str
    summary: str
    locate: Callable[[], Path | None]
    pretrain: Callable[..., Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class TextSpec:
    """A source of background text.

    Attributes:
        open: (options, seed, documents needed as (train, heldout)) to the source; raises UsageError
            when the text is missing, unreadable or too short.
        fingerprint: options to a string that changes with the content, for the run's id.
        local: options that say where the text lies on this machine; recipes keep only their last part.
        remote: opening it may read from the network; planning does not.
    """

    name: str
    version: str
    summary: str
    open: Callable[[Any, int, tuple[int, int]], TextSource]
    fingerprint: Callable[[Any], str]
    options: type[Options] = Options
    local: tuple[str, ...] = ()
    remote: bool = False


@dataclass(frozen=True)
class SuitePart:
    """One experiment of a suite: a bench of one scenario.

    Attributes:
        title: heading of its section on the page.
        question: the question it answers, in a sentence.
        measures: measures shown against model size, the most telling first.
    """

    title: str
    question: str
    scenario: str
    preset: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class SuiteSpec:
    """Several experiments that belong together, run over a list of models and put on one page.

    Attributes:
        models: lists of models by a short name that users may type.
    """

    name: str
    version: str
    summary: str
    parts: tuple[SuitePart, ...]
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    citation: str = ""
