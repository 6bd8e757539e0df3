"""The nouns a plugin author meets: examples, experiences, streams, probes, and the specs plugins declare.

No torch in this file: listing, planning and scoring must stay light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from seqmem.core.design import Design

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

Phase = Literal["inject", "loop", "task", "general", "rest"]
Relation = Literal["last_token", "last_word", "verbatim", "paraphrase", "question", "general"]
Cue = Literal["none", "own", "other"]
NEVER = "never"
"""Group of the facts that are asked as controls and never trained."""
LOOP_PHASES: tuple[Phase, ...] = ("loop", "task", "inject")
"""Phases that train the material of one loop or task, where the experience has a task label."""
TOKEN_BYTES = 13
"""Bytes a token of an `Example` takes at most: id 4, place in the mask 1, weight 4, segment 4."""
Trains = Literal["all", "component", "others", "none"]


class Options(BaseModel):
    """Base of every plugin's options: typed, frozen, and an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One training row.

    Attributes:
        input_ids: (T,) int32 token ids.
        loss_mask: (T,) True where the token is a target, predicted from the tokens before it;
            position 0 has nothing before it and never counts.
        facts: ids of the facts this row states, one entry per statement; exposures are counted from it.
        weights: (T,) float32 weight of each target in the loss, above 0; None for 1 everywhere. The loss is
            the weighted sum over all targets of a batch divided by the sum of their weights.
        segments: (T,) number of the document each token belongs to, ascending from 0, where the row packs
            several; attention, positions and loss then stay inside a document. None for one document.
    """

    input_ids: IntArray
    loss_mask: BoolArray
    facts: tuple[str, ...] = ()
    weights: FloatArray | None = None
    segments: IntArray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self.input_ids, self.loss_mask, self.weights, self.segments)
        return sum(array.nbytes for array in arrays if array is not None)

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values, for a strategy's `state_dict`."""
        return {
            "input_ids": self.input_ids.tolist(),
            "loss_mask": self.loss_mask.tolist(),
            "facts": list(self.facts),
            "weights": None if self.weights is None else self.weights.tolist(),
            "segments": None if self.segments is None else self.segments.tolist(),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Example:
        """Return the row that gave these values."""
        return cls(
            input_ids=np.asarray(row["input_ids"], dtype=np.int32),
            loss_mask=np.asarray(row["loss_mask"], dtype=np.bool_),
            facts=tuple(row["facts"]),
            weights=None if row["weights"] is None else np.asarray(row["weights"], dtype=np.float32),
            segments=None if row["segments"] is None else np.asarray(row["segments"], dtype=np.int32),
        )


Batch = tuple[Example, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Experience:
    """A stretch of training that belongs together; what a strategy is given.

    Attributes:
        index: place in the stream, from 0.
        name: for people, e.g. ``loop 2, cycle 3``.
        phase: what part of the protocol this is.
        task_label: which loop or task is trained, or None.
        batches: one optimizer step each; rows may differ in length, the host pads on the right.
        repeats: every batch is trained this many times in a row.
        trains: what the protocol wants trained: ``all`` parameters; only the component of this task
            (``component``); all but that component (``others``); ``none``: the steps are counted but
            nothing is trained. A strategy decides which parameters make up a component (`Strategy.trainable`);
            one that has none trains all of them.
        start_from: name of a snapshot the learner returns to before this experience.
        save_as: name under which the learner's state after this experience is kept as a snapshot.
        moments: ``fresh`` makes the host start this experience with zeroed optimizer state, the
            same for every strategy.
        update_norm: the host scales the change that every step makes to this norm, a share of the norm of
            all weights, so that learners are compared at the same distance; None leaves it as it is.
    """

    index: int
    name: str
    phase: Phase
    task_label: int | None
    batches: tuple[Batch, ...]
    repeats: int = 1
    trains: Trains = "all"
    moments: Literal["carry", "fresh"] = "carry"
    start_from: str | None = None
    save_as: str | None = None
    update_norm: float | None = None

    @property
    def of_a_loop(self) -> bool:
        """Return whether it trains the material of one loop or task, not general text or rest."""
        return self.task_label is not None and self.phase in LOOP_PHASES and self.trains != "none"

    @property
    def steps(self) -> int:
        """Optimizer steps in this experience."""
        return len(self.batches) * self.repeats

    def batch(self, position: int) -> Batch:
        """Return the batch trained as step `position` (0-based) of this experience."""
        return self.batches[position // self.repeats]


@dataclass(frozen=True, slots=True)
class Probe:
    """One question asked of the model, scored by a teacher-forced forward.

    Attributes:
        id: unique in the stream.
        input_ids: prompt and answer as one row of token ids, the tokenizer's own prefix included.
        answer_start: index in `input_ids` of the answer's first token, at least 1.
        prompt, answer: the same as text.
        choices: ids of every continuation that competes with the answer, the answer's own included, e.g. every
            loop's answer; empty when only the answer is scored.
        choice_names: a label per choice.
        closed_set: ids of every continuation that has the form of an answer; empty for open text. A greedy answer
            that begins as one of them does comes in the right form, whether right or wrong.
        chance: probability of the answer under uniform guessing, among its choices where recall is by forced
            choice (see `Design`), else in its closed set; None for open text.
        fact: id of the fact asked for, or of the document.
        relation: probe form: how far the question is from the text that was trained.
        cue: text put before the prompt: none, from the fact's own loop, from another loop.
        task_label: loop or task the fact belongs to, or None.
        twin_of: for a never-trained twin, the id of the trained fact it mirrors.
        subject: whom or what the fact is about, as text; a trained row that holds the subject of a control
            together with its answer is reported as contamination.
        group: arm of the scenario's design the fact belongs to, e.g. ``duplicate``; ``never`` for facts
            that are asked and never trained.
        position: place of the fact along the scenario's axis, e.g. its place in the stream, or turns back.
        context: sentences or turns of context kept in front of the prompt.
        task_known: the learner is told the fact's task label when asked.
    """

    id: str
    input_ids: tuple[int, ...]
    answer_start: int
    prompt: str
    answer: str
    fact: str
    relation: Relation
    cue: Cue = "none"
    choices: tuple[tuple[int, ...], ...] = ()
    choice_names: tuple[str, ...] = ()
    closed_set: tuple[tuple[int, ...], ...] = ()
    chance: float | None = None
    task_label: int | None = None
    twin_of: str | None = None
    subject: str = ""
    group: str = ""
    position: int | None = None
    context: int = 0
    task_known: bool = False

    @property
    def never_trained(self) -> bool:
        """Return whether the fact is a control: a twin, or one of the group ``never``."""
        return self.twin_of is not None or self.group == NEVER


@dataclass(frozen=True, slots=True)
class Decoding:
    """Sampled decoding whose exact success probability is put on record beside greedy's right or wrong.

    Attributes:
        temperature: divides the logits, above 0.
        top_k: number of most probable tokens that may be sampled; None for all.
    """

    temperature: float = 1.0
    top_k: int | None = None


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """Place at which a probe set is asked: after `after` steps of an experience (0 = before its first).

    Attributes:
        after: optimizer steps done in this experience.
        probe_set: key into `Stream.probe_sets`.
        schedule: names of the schedules this point belongs to; each metric says which one it reads. A text is split
            at "+".
    """

    after: int
    probe_set: str
    schedule: tuple[str, ...]

    def __post_init__(self) -> None:
        """Split the text that plugins of the first API version write."""
        if isinstance(self.schedule, str):
            object.__setattr__(self, "schedule", tuple(self.schedule.split("+")))


@dataclass(frozen=True)
class Stream:
    """Experiences made on demand, and the probes about them, as a scenario builds them.

    Experience i is a pure function of (options, seed, i): nothing before it has to be made first.
    Probe points are kept apart from experiences because a strategy is given experiences only.

    Attributes:
        decoding: where sampled decoding is asked for besides greedy.
        schedules: names of schedules that only metrics of one's own read, beside those of the host.
        design: facts about the stream that metrics read from its records.
    """

    length: int
    experience: Callable[[int], Experience]
    probe_points: Callable[[int], tuple[ProbePoint, ...]]
    probe_sets: Mapping[str, tuple[Probe, ...]]
    decoding: Decoding | None = None
    schedules: tuple[str, ...] = ()
    design: Design = Design()


@dataclass(frozen=True)
class TextSource:
    """Background text by index, the same document for the same index every time.

    Attributes:
        train: documents for training, by index from 0.
        heldout: documents never offered by `train`, for measuring general ability.
        note: what the record has to say of them; empty for nothing.
    """

    train: Callable[[int], str]
    heldout: Callable[[int], str]
    note: str = ""


@dataclass(frozen=True)
class BuildContext:
    """Arguments with which a scenario builds its stream.

    Attributes:
        seed: varies data and order.
        encode: text to token ids with the model's own special tokens in front.
        max_positions: longest row the model can read, in tokens.
        text: background documents.
        decode: token ids to text; None where no tokenizer is at hand.
        vocabulary: the model knows the token ids below it; None where it does not say.
        unknown: id of the tokenizer's token for what it does not know; None where there is none.
    """

    seed: int
    encode: Callable[[str], list[int]]
    max_positions: int
    text: TextSource
    decode: Callable[[list[int]], str] | None = None
    vocabulary: int | None = None
    unknown: int | None = None


@dataclass(frozen=True)
class Outline:
    """Cost of a stream, known without building it.

    Attributes:
        steps: optimizer steps.
        train_tokens: tokens of all rows trained, padding excluded; an upper bound unless `exact`.
        probe_rows: probes asked, each as often as it is asked: rows of the record.
        probe_tokens: tokens of all rows that scoring them takes, those of competing answers included; an upper
            bound unless `exact`.
        loops: number of distinct task labels.
        experiences: length of the stream.
        longest_row: tokens the model must be able to read at once; an upper bound unless `exact`.
        documents: background documents needed from the text source, (train, heldout).
        primary: name of the measure rows are ranked by.
        primary_relation: the probe form that metrics read unless they say otherwise.
        branches: experiences return to snapshots; strategies that mix the whole stream cannot run it.
        from_scratch: the model starts from random weights drawn with the run's seed, not from its own.
        exact: tokens and rows have been counted in the stream itself.
        step_tokens: tokens of the largest batch, padding included; 0 where it has not been counted.
        padded_tokens: tokens of all batches, padding included; 0 where they have not been counted.
        held_batches: batches whose rows are in memory at once; 0 where it is not known.
        longest_path: steps from the stream's start to the end of the longest branch; 0 for all steps.
    """

    steps: int
    train_tokens: int
    probe_rows: int
    probe_tokens: int
    loops: int
    experiences: int
    longest_row: int
    documents: tuple[int, int]
    primary: str
    primary_relation: Relation
    branches: bool = False
    from_scratch: bool = False
    exact: bool = False
    step_tokens: int = 0
    padded_tokens: int = 0
    held_batches: int = 0
    longest_path: int = 0

    @property
    def scheduled_steps(self) -> int:
        """Return the steps over which a schedule of the learning rate goes."""
        return self.longest_path or self.steps
