"""The record of a run, read from its folder: everything a metric may use.

A record is a folder::

    run.json                    recipe, versions, hardware, status; rows and hash of each file below; its own hash
    items.parquet               one row per probe: what is asked
    experiences/part-*.parquet  one row per experience started
    probes/part-*.parquet       one row per probe asked
    steps/part-*.parquet        one row per optimizer step
    exposures/part-*.parquet    one row per fact stated in a trained step
    measured/part-*.parquet     one row per number a strategy measured in a step
    checkpoints/                only while the run is unfinished, or when kept
    model/                      the trained model, when asked for

Beside them lies progress.json, which other programs may watch; it is no part of the record and nothing here reads it.

A compact record (see `compact`) has one ``<table>.parquet`` per table that has rows instead. Its folder lies in the
archive of a row (see `archive`), its items in ``items.zip`` as ``items-<hash>.parquet``, with the hash that run.json
states. Unpacked, they lie beside its folder. All are read alike.

Parts are aligned with checkpoints: a part is on disk before the checkpoint that ends it, so a resumed run
deletes the parts its checkpoint does not know and writes them again. No time of day or duration is in a
table: two runs of one recipe give the same bytes.

A finished record proves itself: run.json holds its own hash and names every table's file, whose rows and bytes are
checked when it is read (`PROVEN`). A file that is missing, changed or not named there is an error, whoever reads.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from seqmem.core.design import Design
from seqmem.core.errors import UsageError
from seqmem.core.recipe import recipe_id
from seqmem.record.archive import read_bytes
from seqmem.record.files import unsealed
from seqmem.record.schema import PROVEN, READABLE, RUN_FILE
from seqmem.record.tables import Tables
from seqmem.record.upgrade import design_of

if TYPE_CHECKING:
    import pandas as pd  # only readers need it, and it is slow to import: workers write

_STATED = {"id": str, "recipe": dict, "status": str, "primary_relation": str}
"""Keys of every run.json, which readers rely on, with their types."""
_OBJECTS = ("code", "contamination", "hardware", "plugins", "versions")
"""Keys of run.json that hold an object where they hold anything."""
_IN_WORDS = {str: "text", dict: "an object", int: "a whole number"}
_JOINT = "\0"
"""Stands between the names of schedules while a list of them is one text; no name has it."""
_KEPT_ROWS = 20_000
"""Answers up to which `RunRecord.asked` keeps what it has found."""


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run as read from its folder, the only thing a metric sees. It changes nothing there."""

    folder: Path
    info: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> RunRecord:
        """Read a record's run.json; tables are read when first asked for.

        Raises:
            UsageError: there is no readable record in `folder`.
        """
        path = folder / RUN_FILE
        try:
            info = unsealed(read_bytes(path), since=PROVEN)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: not a readable run record ({error})") from error
        if info.get("format") not in READABLE:
            known = f"{', '.join(map(str, READABLE[:-1]))} and {READABLE[-1]}"
            raise UsageError(f"{folder}: record format {info.get('format')!r}, this version reads {known}")
        if wrong := _wrong_keys(info):
            raise UsageError(f"{path}: not a readable run record ({wrong})")
        record = cls(folder, info)
        record.tables.check()
        return record

    @property
    def id(self) -> str:
        """The hash of the run's recipe."""
        return str(self.info["id"])

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The plan of the run, with everything that determines it."""
        return self.info["recipe"]  # type: ignore[no-any-return]

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``stopped`` or ``failed``."""
        return str(self.info["status"])

    @property
    def seed(self) -> int:
        """The seed that varies data and training."""
        return int(self.recipe["seed"])

    @property
    def compact(self) -> bool:
        """Return whether it is laid out as `compact` writes it."""
        return self.tables.compact

    @cached_property
    def tables(self) -> Tables:
        """The files of its tables."""
        return Tables(self.folder, self.info)

    @cached_property
    def design(self) -> Design:
        """The design of the stream.

        Raises:
            UsageError: the record states something else.
        """
        try:
            return design_of(self.info)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(f"{self.folder}: not a valid design ({where}: {first['msg']})") from error

    @cached_property
    def items(self) -> pd.DataFrame:
        """One row per probe; columns as `ITEMS`, index 0..n-1."""
        frame: pd.DataFrame = self.tables.items().to_pandas()
        return frame

    @cached_property
    def experiences(self) -> pd.DataFrame:
        """Experiences in the order they ran; columns as `TABLES["experiences"]`, plus `visit`.

        `visit` counts earlier experiences of the same phase and task label, from 0.
        """
        table = self._frame("experiences")
        table["visit"] = table.groupby(["phase", "task_label"], dropna=False).cumcount()
        return table

    @cached_property
    def probes(self) -> pd.DataFrame:
        """All scored answers with their questions: `TABLES["probes"]` joined with `items`.

        `schedule` is a categorical column of tuples of names. `right` says whether the fact was recalled, by forced
        choice or exact match as the stream's design has it.
        """
        import pandas as pd

        answers = self.tables.read("probes")
        places = self._places_of(answers["probe"].combine_chunks())
        vars(self)["_places"] = places  # found here, where it costs least
        asked = self.items.drop(columns="probe").take(places)
        frame: pd.DataFrame = answers.drop_columns("schedule").to_pandas()
        place = answers.schema.get_field_index("schedule")
        frame.insert(place, "schedule", pd.Series(schedule_column(answers["schedule"])))
        frame.insert(place, "right", self._right(frame))
        return pd.concat([frame, asked.set_axis(frame.index)], axis="columns")

    def _right(self, answers: pd.DataFrame) -> pd.Series:
        if self.design.recall == "exact_match":
            return answers["correct"]
        chosen = answers["logprob"] > answers["best_other"]  # a tie is wrong
        return chosen.where(answers["best_other"].notna(), answers["correct"])

    def _places_of(self, probes: pa.Array) -> npt.NDArray[np.intp]:
        """Return for every name of a probe its row in `items`; merging on text would be ten times slower."""
        import pandas as pd

        asked = probes.dictionary_encode()
        known = pd.Index(self.items["probe"])
        if not known.is_unique:
            raise UsageError(f"{self.folder}: items name {known[known.duplicated()][0]!r} twice")
        places = known.get_indexer(asked.dictionary.to_pandas())
        if (places < 0).any():
            missing = asked.dictionary[int(places.argmin())].as_py()
            raise UsageError(f"{self.folder}: probes name {missing!r}, which is not among its items")
        return np.asarray(places[asked.indices.to_numpy()])

    @cached_property
    def _places(self) -> npt.NDArray[np.intp]:
        """Rows of `items` that were asked, one for every row of `probes`."""
        return self._places_of(pa.array(self.probes["probe"].to_numpy(object), pa.string()))

    @cached_property
    def _item_columns(self) -> dict[str, npt.NDArray[Any]]:
        """Columns by which `asked` chooses items, as arrays: frames take ten times as long to compare."""
        columns = {name: self.items[name].to_numpy(object) for name in ("relation", "cue")}
        columns |= {name: self.items[name].to_numpy() for name in ("task_known", "context")}
        return columns | {"twin": self.items["twin_of"].notna().to_numpy()}

    @cached_property
    def _asked(self) -> dict[tuple[Any, ...], pd.DataFrame]:
        """Answers that `asked` has found before: metrics ask the same again and again."""
        return {}

    @cached_property
    def schedules(self) -> frozenset[str]:
        """Names of the schedules on which anything was asked."""
        return frozenset().union(*self.probes["schedule"].cat.categories)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row per optimizer step; columns as `TABLES["steps"]`."""
        return self._frame("steps")

    @cached_property
    def exposures(self) -> pd.DataFrame:
        """Steps at which each fact was in the training rows; columns as `TABLES["exposures"]`."""
        return self._frame("exposures")

    @cached_property
    def measured(self) -> pd.DataFrame:
        """Numbers that the strategy measured step by step; columns as `TABLES["measured"]`."""
        return self._frame("measured")

    def _frame(self, table: str) -> pd.DataFrame:
        frame: pd.DataFrame = self.tables.read(table).to_pandas()
        return frame

    def asked(
        self,
        *,
        schedule: str | None = None,
        relation: str | None = None,
        cue: str = "none",
        twins: bool = False,
        context: int | None = 0,
        task_known: bool = False,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return rows of `probes` for one schedule, probe form and cue, of the trained facts or of their twins.

        `relation` None means the scenario's primary probe form, as stated in the record. `context` None means
        any context. `columns` names those wanted, None for all: every column costs time, those of text most.
        """
        key = (schedule, relation, cue, twins, context, task_known, columns and tuple(columns))
        if key in self._asked:
            return self._asked[key].copy(deep=False)
        items = self._item_columns
        fits = (items["relation"] == (relation or self.info["primary_relation"])) & (items["cue"] == cue)
        fits &= (items["twin"] == twins) & (items["task_known"] == task_known)
        if context is not None:
            fits &= items["context"] == context
        wanted = self.answering(fits)
        if schedule is not None:
            wanted &= scheduled(self.probes, schedule)
        rows = self.probes[wanted] if columns is None else self._part(wanted, columns)
        if len(rows) <= _KEPT_ROWS:
            self._asked[key] = rows.copy(deep=False)
        return rows

    def _part(self, wanted: npt.NDArray[np.bool_], columns: Sequence[str]) -> pd.DataFrame:
        import pandas as pd

        whole = self.probes  # a frame would first copy its columns whole
        return pd.DataFrame({name: whole[name].array[wanted] for name in columns}, index=whole.index[wanted])

    def answering(self, items: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Mark the rows of `probes` that answer one of the items that are marked, one mark per item."""
        return np.asarray(items[self._places])


def scheduled(rows: pd.DataFrame, schedule: str) -> npt.NDArray[np.bool_]:
    """Mark the rows of `RunRecord.probes` that were asked on a schedule."""
    due = rows["schedule"].cat
    named = np.array([schedule in names for names in due.categories], dtype=bool)
    return np.asarray(named[due.codes.to_numpy()])


def schedule_column(schedules: pa.ChunkedArray) -> pd.Categorical:
    """Hold each different list of names once, as a tuple, in alphabetical order: rows are many, lists few."""
    import pandas as pd

    joined = pc.binary_join(schedules, _JOINT).combine_chunks().dictionary_encode()
    names = [tuple(text.split(_JOINT)) for text in joined.dictionary.to_pylist()]
    found = pd.Categorical.from_codes(joined.indices.to_numpy(), pd.Index(names, tupleize_cols=False))
    return found.reorder_categories(pd.Index(sorted(names), tupleize_cols=False))


def _wrong_keys(info: Mapping[str, Any]) -> str:
    """Return the faults of a run.json that would stop readers; empty where there are none."""
    stated: dict[str, type] = {**_STATED, **{key: dict for key in _OBJECTS if info.get(key)}}
    proven, compact = info["format"] >= PROVEN, "compact" in info
    if compact:
        stated |= {"items": str, **({} if proven else {"tables": dict})}
    if proven and (compact or info.get("status") == "finished"):
        stated["files"] = dict
    faults = [_wrong_key(info, key, kind) for key, kind in stated.items()]
    if isinstance(info.get("recipe"), dict):
        faults.append(_wrong_key(info["recipe"], "seed", int, within="recipe."))
    if not any(faults) and info["id"] != (own := recipe_id(info["recipe"])):
        faults = [f"id must be the hash of the recipe, {own}, and is {reprlib.repr(info['id'])}"]
    return "; ".join(fault for fault in faults if fault)


def _wrong_key(stated: Mapping[str, Any], key: str, kind: type, within: str = "") -> str:
    if isinstance(stated.get(key), kind):
        return ""
    found = f"is {reprlib.repr(stated[key])}" if key in stated else "is missing"
    return f"{within}{key} must be {_IN_WORDS[kind]} and {found}"
