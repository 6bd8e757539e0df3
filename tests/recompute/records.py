"""The finished runs of a board as data frames (docs/leaderboards.md, "What is in a board")."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Texts = npt.NDArray[np.str_]

PROBES = ["step", "probe", "logprob", "tokens", "correct", "best_other", "in_form"]
ITEMS = ["fact", "twin_of", "relation", "cue", "task_label", "chance", "task_known", "competes", "code"]
Asked = tuple[Texts, pd.DataFrame]

SCHEDULES = ("boundary", "inside", "even", "log", "ladder", "general", "rest_text")


@dataclass(frozen=True)
class Run:
    """One finished run: what it was, what it was asked and answered, what it trained."""

    info: Mapping[str, Any]
    facts: Texts
    answers: pd.DataFrame
    experiences: pd.DataFrame
    exposures: pd.DataFrame
    steps: pd.DataFrame

    @property
    def row(self) -> str:
        return str(self.info["recipe"]["strategy"]["name"])

    @property
    def seed(self) -> int:
        return int(self.info["recipe"]["seed"])

    @property
    def relation(self) -> str:
        """The primary probe form."""
        return str(self.info["primary_relation"])

    @cached_property
    def rest(self) -> int | None:
        """The step at which the rest begins: the end of the loops."""
        rests = self.experiences[self.experiences["phase"] == "rest"]
        return int(rests["first_step"].min()) if len(rests) else None

    @cached_property
    def end(self) -> int:
        return int((self.experiences["first_step"] + self.experiences["steps"]).max())

    @cached_property
    def done(self) -> int:
        """When training was done: the end of the loops, or of a stream without a rest."""
        return self.end if self.rest is None else self.rest

    @cached_property
    def bare(self) -> pd.DataFrame:
        """Answers in the primary probe form, without a cue, the task not told."""
        table = self.answers
        return table[(table["relation"] == self.relation) & (table["cue"] == "none") & ~table["task_known"]]

    @cached_property
    def loops(self) -> pd.Series:
        """The loop or task of every fact."""
        asked = self.bare[self.bare["twin_of"].isna() & self.bare["task_label"].notna()]
        return asked.drop_duplicates("code").set_index("fact")["task_label"].sort_index()

    @cached_property
    def visits(self) -> pd.DataFrame:
        """Experiences that train a loop or a task by itself, with their last step."""
        table = self.experiences
        table = table[table["phase"].isin(["loop", "task"]) & table["task_label"].notna()]
        return table.assign(end=table["first_step"] + table["steps"])


@dataclass(frozen=True)
class Arms:
    """A run, and its control in shuffled order where there is one."""

    run: Run
    shuffled: Run | None


def read(board: Path) -> Iterator[Arms]:
    """Every run of the board that is no control, with its control."""
    shared, known = zipfile.ZipFile(board / "items.zip"), dict[str, Asked]()
    for path in sorted((board / "records").glob("*.zip")):
        archive = zipfile.ZipFile(path)
        own, controls = dict[int, Run](), dict[int, Run]()
        for name in archive.namelist():
            if name.endswith("/run.json"):
                run = load(archive, name.removesuffix("run.json"), shared, known)
                (controls if f"-s{run.seed}-shuffled-" in name else own)[run.seed] = run
        yield from (Arms(run, controls.get(seed)) for seed, run in sorted(own.items()))


def load(archive: zipfile.ZipFile, folder: str, shared: zipfile.ZipFile, known: dict[str, Asked]) -> Run:
    """The run in a folder of an archive; what was asked is shared between runs and read once."""
    info = json.loads(archive.read(f"{folder}run.json"))
    asked = str(info["items"])
    if asked not in known:
        known[asked] = items(parquet(shared, f"items-{asked}.parquet"))
    facts, lines = known[asked]
    answers = answered(parquet(archive, f"{folder}probes.parquet"), lines)
    # A fact is recalled by forced choice or exactly, as the scenario states (docs/what-counts-as-memory.md).
    by_choice = (info.get("design") or {}).get("recall") == "forced_choice"
    chosen = answers["competes"] & by_choice
    answers["right"] = np.where(chosen, answers["margin"] > 0, answers["correct"])
    tables = [
        parquet(archive, f"{folder}{name}.parquet").to_pandas()
        for name in ("experiences", "exposures", "steps")
    ]
    tables[1]["fact"] = tables[1]["fact"].astype(object)
    return Run(info, facts, answers, *tables)


def items(table: pa.Table) -> Asked:
    """The names of facts, and what was asked, a line per probe; its code is the place of the fact, or of the twin's."""
    frame = table.to_pandas().set_index("probe")
    frame["competes"] = frame.pop("choices").map(len) > 0
    about = frame["twin_of"].fillna(frame["fact"]).to_numpy(dtype=str)
    facts, frame["code"] = np.unique(about, return_inverse=True)
    # Plain objects, which pandas compares and groups soonest.
    return facts, frame[ITEMS].astype({name: object for name in ("fact", "twin_of", "relation", "cue")})


def answered(table: pa.Table, asked: pd.DataFrame) -> pd.DataFrame:
    """What was answered, beside what was asked, with a column per schedule; one that a format lacks is empty."""
    frame = table.select([name for name in PROBES if name in table.column_names]).to_pandas()
    frame = frame.reindex(columns=PROBES).astype({"logprob": float, "best_other": float, "probe": object})
    lines = asked.take(asked.index.get_indexer(frame["probe"]))
    frame = pd.concat([frame, lines.reset_index(drop=True)], axis=1)
    names = table["schedule"].combine_chunks()
    if pa.types.is_list(names.type):
        places, names = pc.list_parent_indices(names).to_numpy(), pc.list_flatten(names)
    else:  # up to format 3 a "+" joins the names
        parts = pc.split_pattern(names, "+")
        places, names = pc.list_parent_indices(parts).to_numpy(), pc.list_flatten(parts)
    asking = np.zeros((len(SCHEDULES), len(frame)), dtype=bool)
    for flags, schedule in zip(asking, SCHEDULES, strict=True):
        flags[places[pc.equal(names, schedule).to_numpy(zero_copy_only=False)]] = True
    frame = frame.assign(**dict(zip(SCHEDULES, asking, strict=True)))
    frame["loss"] = -frame["logprob"] / frame["tokens"]
    frame["margin"] = frame["logprob"] - frame["best_other"]
    return pd.DataFrame(frame)


def parquet(archive: zipfile.ZipFile, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(archive.read(name)), use_threads=False)
