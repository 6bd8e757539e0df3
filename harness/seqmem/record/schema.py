"""The layout of a record: formats, tables and their columns."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

FORMAT = 6

READABLE = (2, 3, 4, 5, 6)
"""Formats that are read: 2 has no column `said`; up to 3 a "+" joins schedules, and no design is stated;
up to 4 there are no columns `rank` and `in_form`; up to 5 run.json does not prove itself and its tables."""

PROVEN = 6
"""The first format whose run.json holds its own hash and states every table's rows and bytes."""

ASKED_ORDER = ("experience", "step", "after")
"""Columns that say when a probe was asked: experiences run one after the other."""

ITEMS_FILE = "items.parquet"
"""File in a record that says what is asked."""

RUN_FILE = "run.json"
"""File in a record that says what the run was, and proves the others."""

MODEL = "model"
"""Folder in a record that holds the trained model."""

PROGRESS = "progress.json"
"""File beside a record's run.json that says how far the run is; no part of the record."""

TABLES: Mapping[str, pa.Schema] = {
    "probes": pa.schema(
        [
            ("step", pa.int32()),  # optimizer steps done when asked
            ("experience", pa.int32()),
            ("after", pa.int32()),  # steps done inside that experience
            ("schedule", pa.list_(pa.string())),  # names of the schedules asking here
            ("probe", pa.string()),
            ("logprob", pa.float64()),  # of the whole answer, nats
            ("tokens", pa.int32()),  # answer tokens
            ("correct", pa.bool_()),  # greedy decoding gives exactly the answer
            ("best_other", pa.float64()),  # highest log-probability among the other choices, nats, or null
            ("rank", pa.int32()),  # of the answer among its choices, 1 for the most probable, or null
            ("choice", pa.int32()),  # index in the probe's choices of the most probable one, or null
            ("closed", pa.float64()),  # log-probability renormalised over the choices, nats, or null
            ("in_form", pa.bool_()),  # greedy decoding begins as a member of the closed set does, or null
            ("sampled", pa.float64()),  # probability that one sampled answer is exactly the answer, or null
            ("said", pa.string()),  # a wrong greedy answer up to its first wrong token; see training.probing
        ]
    ),
    "steps": pa.schema(
        [
            ("step", pa.int32()),  # steps done after this one, from 1
            ("experience", pa.int32()),
            ("loss", pa.float64()),  # nats per target token, rehearsed ones included
            ("penalty", pa.float64()),
            ("grad_norm", pa.float64()),  # before clipping
            ("lr", pa.float64()),  # the optimizer's; of several groups the mean over the numbers they train
            ("tokens", pa.int32()),  # tokens read by the forward, padding excluded
            ("targets", pa.int32()),  # tokens the loss counts
            ("rehearsed", pa.int32()),  # rehearsed rows among them
        ]
    ),
    "exposures": pa.schema(
        [
            ("step", pa.int32()),  # steps done after the one that trained it
            ("fact", pa.string()),
            ("count", pa.int32()),  # statements in the step's rows
            ("rehearsed", pa.int32()),  # of them in rows the strategy rehearsed, not the protocol's own
        ]
    ),
    "measured": pa.schema(
        [
            ("step", pa.int32()),  # steps done after the one it was measured in
            ("name", pa.string()),  # as the strategy calls it, e.g. cosine_steer.cosine
            ("value", pa.float64()),
        ]
    ),
    "experiences": pa.schema(
        [
            ("experience", pa.int32()),
            ("name", pa.string()),
            ("phase", pa.string()),
            ("task_label", pa.int32()),
            ("first_step", pa.int32()),  # steps done before it
            ("steps", pa.int32()),
            ("trains", pa.string()),
            ("start_from", pa.string()),  # snapshot the learner returned to, or null
            ("save_as", pa.string()),  # snapshot made of the learner afterwards, or null
        ]
    ),
}

ITEMS = pa.schema(
    [
        ("probe", pa.string()),
        ("fact", pa.string()),
        ("twin_of", pa.string()),  # null for a trained fact
        ("relation", pa.string()),
        ("cue", pa.string()),
        ("task_label", pa.int32()),  # null where there is none
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("chance", pa.float64()),
        ("choices", pa.list_(pa.string())),
        ("group", pa.string()),  # arm of the scenario's design, or empty
        ("position", pa.int32()),  # place along the scenario's axis, or null
        ("context", pa.int32()),  # sentences or turns kept in front of the prompt
        ("task_known", pa.bool_()),  # the learner is told the task label
    ]
)
