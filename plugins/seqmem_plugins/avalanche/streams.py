"""A stream as an Avalanche benchmark: `to_avalanche`.

The train stream has one experience for each trained experience of the stream, made when it is asked for and not
kept, so that a stream of a hundred thousand takes no memory. Its dataset holds the rows of all steps in their
order, repeats written out, as (x, y, t): token ids (T,), targets (T,) already shifted with -100 where nothing is
to be predicted, and the task label (-1 for none). An Avalanche loop shuffles rows and cuts them into batches by
itself; `StreamSteps` makes it take the stream's own steps.

What is asked in the stream comes as further streams of the benchmark, one experience a task label, the answer's
tokens being the only targets: ``test`` (facts of the stream), ``control`` (facts that are never trained),
``general`` (held-out documents).

Importing this module imports Avalanche, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.scenarios.generic_scenario import CLScenario, SequenceCLStream
from avalanche.core import SupervisedPlugin

from seqmem import Batch, Example, Experience, Probe, Relation, Stream, UsageError, unpack
from seqmem_plugins.avalanche.rows import NO_TASK, token_dataset


class StreamExperience(DatasetExperience):  # type: ignore[misc]  # Avalanche is untyped
    """An Avalanche experience with task labels that knows where its rows come from.

    Attributes:
        source: the stream's experience: its name, phase, `moments`; None for rows that are only asked.
        step_rows: rows of each optimizer step, in order; they add up to the dataset's length.
        task_label, task_labels: as Avalanche's task-aware experiences have them.
    """

    def __init__(
        self,
        index: int,
        steps: Sequence[Sequence[Example]],
        task_label: int | None,
        source: Experience | None = None,
    ) -> None:
        """Make experience number `index` of these steps."""
        self.task_label = NO_TASK if task_label is None else task_label
        self.task_labels = [self.task_label]
        self.source = source
        self.step_rows = tuple(len(rows) for rows in steps)
        dataset = token_dataset([row for rows in steps for row in rows], self.task_label)
        super().__init__(dataset=dataset, current_experience=index)


class LazyStream(SequenceCLStream):  # type: ignore[misc]  # Avalanche is untyped
    """An Avalanche stream of known length whose experiences are made when they are asked for, and not kept."""

    def __init__(self, name: str, length: int, make: Callable[[int], StreamExperience]) -> None:
        """Make the stream `name`, whose experience at a place is that of `make`."""
        self._length = length
        self._make = make
        super().__init__(name, benchmark=None)

    def _full_length(self) -> int:
        return self._length

    def _make_experience(self, experience_idx: int) -> StreamExperience:
        return self._make(experience_idx)


class StreamSteps(SupervisedPlugin):  # type: ignore[misc]  # Avalanche is untyped
    """Avalanche plugin: train the stream's own steps, whatever `shuffle` and `train_mb_size` say.

    It stands first among the plugins: one that puts a loader of its own in place, as Replay does, still can.
    """

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Put the stream's steps in place of the shuffled batches."""
        strategy.dataloader = _Steps(strategy.adapted_dataset, strategy.experience.step_rows)


@dataclass(frozen=True)
class _Steps:
    """A data loader of given batches: the next `sizes[0]` rows, the next `sizes[1]`, and so on."""

    dataset: Any
    sizes: Sequence[int]

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Any]:
        start = 0
        for size in self.sizes:
            yield self.dataset.collate_fn([self.dataset[i] for i in range(start, start + size)])
            start += size


def to_avalanche(stream: Stream, *, relation: Relation | None = None) -> CLScenario:
    """Return a stream as an Avalanche benchmark; see the top of this file.

    An Avalanche loop cannot do everything: `moments="fresh"` is left to the caller (the experience's
    `source` has it), and every experience trains all parameters, also where the protocol names a component.
    Packed rows are split into their documents, which does not change the loss.

    Args:
        stream: the experiences and probes.
        relation: ask in this probe form only; in all of them by default.

    Returns:
        A benchmark with a `train_stream` and, where the stream asks anything, `test_stream`,
        `control_stream` and `general_stream`.

    Raises:
        UsageError: there is nothing to train; or, when such an experience is made, the stream returns to
            snapshots or weights its targets, for which an Avalanche dataset has no place.
    """
    if not isinstance(stream, Stream):
        raise UsageError(f"to_avalanche takes a seqmem.Stream, not a {type(stream).__name__}")
    length = stream.length
    # only the end of a stream rests without training
    while length and stream.experience(length - 1).trains == "none":
        length -= 1
    if not length:
        raise UsageError("the stream has no experience that trains anything, so it makes no benchmark")
    _check(stream.experience(0))
    streams = [LazyStream("train", length, lambda index: _trained(stream.experience(index)))]
    probes = {probe.id: probe for asked in stream.probe_sets.values() for probe in asked}.values()
    resting = _of_the_rest(stream)
    bare = [probe for probe in probes if probe.cue == "none" and not probe.context]
    for name, asked in (
        ("test", [p for p in bare if p.relation != "general" and not p.never_trained]),
        ("control", [p for p in bare if p.relation != "general" and p.never_trained]),
        ("general", [p for p in bare if p.relation == "general" and p.id not in resting]),
    ):
        wanted = [p for p in asked if relation in (None, p.relation) or name == "general"]
        if wanted:
            streams.append(_asked(name, wanted))
    return CLScenario(streams)


def _of_the_rest(stream: Stream) -> set[str]:
    """Return the probes that ask for nothing but rows of the rest, which are trained."""
    asked = [point for index in range(stream.length) for point in stream.probe_points(index)]
    sets = {point.probe_set for point in asked if set(point.schedule) == {"rest_text"}}
    return {probe.id for name in sets for probe in stream.probe_sets[name]}


def _check(experience: Experience) -> None:
    """Refuse what an Avalanche loop would silently do otherwise.

    Raises:
        UsageError: naming the experience.
    """
    if experience.start_from is not None or experience.save_as is not None:
        raise UsageError(
            f"{experience.name} returns to a snapshot or leaves one, which an Avalanche loop has no word for; "
            "run such a scenario with `seqmem bench`"
        )
    if experience.trains == "none":
        raise UsageError(f"{experience.name} trains nothing, which an Avalanche loop has no word for")


def _trained(experience: Experience) -> StreamExperience:
    """Return an experience of the stream: every step's rows, the repeats one after another."""
    _check(experience)
    batches = [_rows(batch, experience.name) for batch in experience.batches]
    steps = [rows for rows in batches for _ in range(experience.repeats)]
    return StreamExperience(experience.index, steps, experience.task_label, experience)


def _rows(batch: Batch, name: str) -> list[Example]:
    """Return the documents of a batch that have a target, a row each: without one the mean loss is NaN.

    Raises:
        UsageError: targets have weights, for which (x, y, t) has no place.
    """
    if any(row.weights is not None and np.any(row.weights[row.loss_mask] != 1) for row in batch):
        raise UsageError(
            f"{name} weights its targets, for which an Avalanche row (x, y, t) has no place; choose scenario options "
            "without weights"
        )
    return [part for row in batch for part in unpack(row) if part.loss_mask[1:].any()]


def _asked(name: str, probes: Sequence[Probe]) -> LazyStream:
    """Return a stream of probes: one experience for each task label, those of no task first."""
    labels = sorted({NO_TASK if probe.task_label is None else probe.task_label for probe in probes})

    def make(index: int) -> StreamExperience:
        label = None if labels[index] == NO_TASK else labels[index]
        rows = [_question(probe) for probe in probes if probe.task_label == label]
        return StreamExperience(index, [rows], label)

    return LazyStream(name, len(labels), make)


def _question(probe: Probe) -> Example:
    """Return a probe as a row whose targets are the answer's tokens."""
    ids = np.asarray(probe.input_ids, dtype=np.int32)
    return Example(ids, np.arange(len(ids)) >= probe.answer_start)
