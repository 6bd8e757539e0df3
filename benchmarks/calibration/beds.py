"""Beds: what a record of a scenario's preset holds before anybody has answered.

Nothing about the layout is copied here: experiences, probes and exposures come from the stream that the
scenario builds, so a change of a preset is a change of the calibration.
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from seqmem import BuildContext, RunRecord, ScenarioSpec, Stream, TextSource
from seqmem.core.recipe import recipe_id
from seqmem.record.files import write_sealed
from seqmem.record.reader import schedule_column, scheduled
from seqmem.record.schema import FORMAT, ITEMS, RUN_FILE, TABLES
from seqmem.record.writer import RecordWriter
from seqmem_scenarios.world import background

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.bool_]

_WORD = re.compile(r"\s*\S+")
_VOCABULARY = 50_000
_MARGIN = 4.0
"""Nats by which rivals are less probable where a learner says nothing of them."""


def _encode(text: str) -> list[int]:
    """A token per word: what a model would read plays no part here, how long it is hardly any."""
    return [1, *(2 + zlib.crc32(word.encode()) % _VOCABULARY for word in _WORD.findall(text))]


@dataclass(frozen=True)
class Answers:
    """Answers of a learner, the same in every probe form.

    Attributes:
        loss: (curves, sweeps) nats per answer token.
        correct: (curves, sweeps) greedy decoding gives exactly the answer.
        margin: (curves, sweeps) log p(answer) - log p(best other choice), nats, used where rivals are scored;
            None for the same everywhere.
    """

    loss: Array
    correct: Rows
    margin: Array | None = None


@dataclass(frozen=True, eq=False)
class Bed:
    """The tables of a run without its answers.

    A *curve* is a fact or document that is asked again and again; a *sweep* is a step of an experience at which
    something is asked.

    Attributes:
        curve: (probe rows,) which curve a row belongs to.
        sweep: (probe rows,) which sweep a row belongs to.
        fact: (curves,) the fact's id.
        loop: (curves,) its task label, -1 where it has none.
        group: (curves,) its arm of the scenario's design.
        position: (curves,) its place along the scenario's axis, -1 where it has none.
        control: (curves,) never trained.
        step, experience, after: (sweeps,) steps done, experience, steps done inside it.
    """

    info: Mapping[str, Any]
    items: pd.DataFrame
    experiences: pd.DataFrame
    exposures: pd.DataFrame
    probes: pd.DataFrame
    curve: Ints
    sweep: Ints
    fact: npt.NDArray[np.object_]
    loop: Ints
    group: npt.NDArray[np.object_]
    position: Ints
    control: Rows
    step: Ints
    experience: Ints
    after: Ints

    @property
    def shape(self) -> tuple[int, int]:
        """(curves, sweeps)."""
        return len(self.fact), len(self.step)

    @cached_property
    def loops_end(self) -> int:
        """Steps done when the rest begins."""
        return int(self.experiences.loc[self.experiences["phase"] == "rest", "first_step"].iloc[0])

    @cached_property
    def rest_length(self) -> int:
        """Steps of the rest."""
        return int(self.experiences.loc[self.experiences["phase"] == "rest", "steps"].iloc[0])

    @cached_property
    def rest_step(self) -> Ints:
        """(sweeps,) steps since the rest began; negative before."""
        return self.step - self.loops_end

    @cached_property
    def even(self) -> Rows:
        """(sweeps,) asked on the schedule ``even``."""
        found = np.zeros(len(self.step), dtype=np.bool_)
        found[self.sweep[scheduled(self.probes, "even")]] = True
        return found

    @cached_property
    def seen(self) -> Ints:
        """(curves, sweeps) ended visits to the curve's own loop."""
        return self._of_loops(lambda ends: ends.searchsorted(self.step, side="right"))

    @cached_property
    def age(self) -> Ints:
        """(curves, sweeps) steps since the last visit to the curve's own loop ended; -1 before the first."""

        def since(ends: Ints) -> Ints:
            seen = ends.searchsorted(self.step, side="right")
            return np.where(seen > 0, self.step - np.concatenate([[0], ends])[seen], -1)

        return self._of_loops(since)

    @cached_property
    def inside_own(self) -> Rows:
        """(curves, sweeps) asked inside a visit to the curve's own loop, after it began."""
        visited = self.experiences["task_label"].fillna(-1).to_numpy(dtype=int)[self.experience]
        inside = (self.after > 0) & (self.step < self.loops_end)
        return np.asarray((self.loop[:, None] == visited) & inside)

    def _of_loops(self, read: Callable[[Ints], Ints]) -> Ints:
        """(curves, sweeps) what is read off the steps at which visits to the curve's own loop ended."""
        ends = self.experiences["first_step"] + self.experiences["steps"]
        own = {loop: ends[self.experiences["task_label"] == loop] for loop in set(self.loop.tolist())}
        rows = {loop: read(np.sort(found.to_numpy(dtype=np.int64))) for loop, found in own.items()}
        return np.array([rows[loop] for loop in self.loop.tolist()])

    # -- a record ---------------------------------------------------------------------------------------

    def record(self, answers: Answers, seed: int = 0) -> RunRecord:
        """The record of a learner that gave these answers, in memory."""
        place = (self.curve, self.sweep)
        logprob = -answers.loss[place] * self.probes["tokens"].to_numpy()
        margin = _MARGIN if answers.margin is None else answers.margin[place]
        rivals = np.where(self._has_rivals, logprob - margin, np.nan)
        run = RunRecord(Path("in memory"), {**self.info, "recipe": {**self.info["recipe"], "seed": seed}})
        vars(run).update(self._indices)
        vars(run)["items"] = self.items
        vars(run)["experiences"] = self.experiences
        vars(run)["exposures"] = self.exposures
        vars(run)["probes"] = self.probes.assign(
            logprob=logprob,
            correct=answers.correct[place],
            right=answers.correct[place],
            best_other=rivals,
        )
        return run

    @cached_property
    def _indices(self) -> Mapping[str, Any]:
        """Indices of the probe table as the record class makes them. All runs on this bed share them."""
        first = RunRecord(Path("in memory"), self.info)
        vars(first).update(items=self.items, probes=self.probes)
        return {"_places": first._places}

    @cached_property
    def _has_rivals(self) -> Rows:
        return self.probes["choices"].map(len).to_numpy() > 0

    def write(self, folder: Path, answers: Answers, seed: int = 0) -> RunRecord:
        """The same record through the disk."""
        run = self.record(answers, seed)
        folder.mkdir(parents=True)
        writer = RecordWriter(folder)
        writer.write_items(_columns(run.items, ITEMS.names))
        for name, frame in (
            ("probes", run.probes),
            ("experiences", run.experiences),
            ("exposures", run.exposures),
        ):
            writer.add(name, **_columns(frame, TABLES[name].names))
        writer.flush()
        info = {**run.info, "id": recipe_id(run.recipe), "files": writer.files}
        write_sealed(folder / RUN_FILE, info)
        return RunRecord.open(folder)


def _columns(frame: pd.DataFrame, names: list[str]) -> Mapping[str, list[Any]]:
    """Columns as lists, None where a value is missing."""
    found = {}
    for name in names:
        column = frame[name].astype(object)
        found[name] = column if name in ("choices", "schedule") else column.where(column.notna(), None)
    return {name: column.tolist() for name, column in found.items()}


@lru_cache(maxsize=64)
def bed(
    scenario: str,
    control: str = "",
    seed: int = 0,
    forms: tuple[str, ...] = (),
    changes: tuple[tuple[str, Any], ...] = (),
) -> Bed:
    """The bed of a scenario's preset `default`, or of one of its controls.

    Args:
        scenario: its name.
        control: the control's name; empty for the scenario itself.
        seed: of the stream.
        forms: what is asked in other probe forms, or with a cue, is left out, which saves time; empty for all.
        changes: options that differ from the preset's, by name.
    """
    spec: ScenarioSpec
    (spec,) = importlib.import_module(f"seqmem_scenarios.{scenario}").seqmem_scenario()
    chosen = {**spec.presets["default"], **(spec.controls[control] if control else {}), **dict(changes)}
    options = spec.options(**chosen)
    text = TextSource(lambda i: background(0, i), lambda i: background(1, i))
    stream = spec.build(options, BuildContext(seed, _encode, 4096, text))
    outline = spec.outline(options)
    recipe = {"seed": seed, "scenario": {"name": scenario, "options": options.model_dump(mode="json")}}
    info = {
        "format": FORMAT,
        "id": f"{scenario}-{control}-{seed}",
        "status": "finished",
        "recipe": recipe,
        # a synthetic learner says whether it is right: nothing competes
        "design": stream.design.model_copy(update={"recall": "exact_match"}).stated(),
        "primary_relation": outline.primary_relation,
    }
    return _walk(stream, info, forms)


def _walk(stream: Stream, info: Mapping[str, Any], forms: tuple[str, ...]) -> Bed:
    """Run through a stream and write down what a record would."""
    asked: list[tuple[Any, ...]] = []
    exposures: list[tuple[int, str, int]] = []
    experiences: list[tuple[Any, ...]] = []
    step = 0
    for index in range(stream.length):
        experience, due = stream.experience(index), defaultdict(list)
        for point in stream.probe_points(index):
            due[point.after].append(point)
        experiences.append(
            (
                index,
                experience.name,
                experience.phase,
                experience.task_label,
                step,
                experience.steps,
                experience.trains,
                experience.start_from,
                experience.save_as,
            )
        )
        for after in range(experience.steps + 1):
            for point in due[after]:
                for probe in stream.probe_sets[point.probe_set]:
                    if forms and (probe.relation not in forms or probe.cue != "none"):
                        continue
                    tokens = len(probe.input_ids) - probe.answer_start
                    asked.append((step + after, index, after, point.schedule, probe.id, tokens))
            if after < experience.steps:
                batch = experience.batches[after // experience.repeats]
                stated = Counter(fact for row in batch for fact in row.facts)
                exposures += [(step + after + 1, fact, count) for fact, count in stated.items()]
        step += experience.steps
    every = {probe.id: probe for probes in stream.probe_sets.values() for probe in probes}
    items = pd.DataFrame(
        [
            {
                **{name: getattr(probe, name) for name in ITEMS.names if name not in ("probe", "choices")},
                "probe": probe.id,
                "choices": list(probe.choice_names),
            }
            for probe in every.values()
        ]
    )[ITEMS.names].astype({"position": float, "task_label": float})
    columns = ["step", "experience", "after", "schedule", "probe", "tokens"]
    probes = pd.DataFrame(asked, columns=columns).merge(items, on="probe", how="left")
    unknown = {name: np.nan for name in ("best_other", "rank", "choice", "closed", "in_form", "sampled")}
    lists = pa.chunked_array([pa.array(probes["schedule"], pa.list_(pa.string()))])
    answered = {"logprob": 0.0, "correct": False, "right": False, "said": None}
    probes = probes.assign(**unknown, **answered, schedule=schedule_column(lists))
    trained = {fact for _, fact, _ in exposures}
    curves = items.drop_duplicates("fact").reset_index(drop=True)
    sweeps = probes[["step", "experience", "after"]].drop_duplicates().reset_index(drop=True)
    place = {fact: i for i, fact in enumerate(curves["fact"])}
    at = {tuple(row): i for i, row in enumerate(sweeps.to_numpy().tolist())}
    return Bed(
        info=info,
        items=items,
        experiences=_visits(pd.DataFrame(experiences, columns=TABLES["experiences"].names)),
        exposures=pd.DataFrame(exposures, columns=["step", "fact", "count"]).assign(rehearsed=0),
        probes=probes,
        curve=probes["fact"].map(place).to_numpy(dtype=np.int64),
        sweep=np.array(
            [at[tuple(row)] for row in probes[["step", "experience", "after"]].to_numpy().tolist()]
        ),
        fact=curves["fact"].to_numpy(dtype=object),
        loop=curves["task_label"].fillna(-1).to_numpy(dtype=np.int64),
        group=curves["group"].to_numpy(dtype=object),
        position=curves["position"].fillna(-1).to_numpy(dtype=np.int64),
        control=~curves["fact"].isin(trained).to_numpy(dtype=np.bool_),
        step=sweeps["step"].to_numpy(dtype=np.int64),
        experience=sweeps["experience"].to_numpy(dtype=np.int64),
        after=sweeps["after"].to_numpy(dtype=np.int64),
    )


def _visits(table: pd.DataFrame) -> pd.DataFrame:
    """Experiences with `visit`, as a record read from disk has it."""
    table["visit"] = table.groupby(["phase", "task_label"], dropna=False).cumcount()
    return table
