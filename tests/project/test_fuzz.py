"""Every reader of a file: whatever stands in it, one line or what it said before, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers_boards import registry, write_bench, write_board
from hypothesis import HealthCheck, Phase, given, settings
from model_folders import make_model_folder
from mutations import wrong_bytes, wrong_file
from small_runs import carry_out, finished, planned, small_model

from seqmem.board.published import read_board
from seqmem.core.errors import SeqmemError
from seqmem.planning.models import ModelChoice
from seqmem.planning.store import read_bench, read_cost
from seqmem.record.reader import RunRecord
from seqmem.record.schema import TABLES
from seqmem.training.checkpoint import load_last

CASES = int(os.environ.get("SEQMEM_FUZZ", "25"))
"""Of each file."""


@dataclass(frozen=True)
class Kind:
    """A file that something reads.

    Attributes:
        read: what the reader takes from it.
        proven: it proves itself: what is read at all is what was written.
    """

    path: Path
    read: Callable[[], Any]
    proven: bool


def record_says(folder: Path) -> str:
    record = RunRecord.open(folder)
    return json.dumps(record.info, sort_keys=True) + "".join(
        getattr(record, name).to_json() for name in ("items", *TABLES)
    )


def model_says(folder: Path) -> str:
    from seqmem.planning.models import FoundModel, describe
    from seqmem.planning.tokenizer import load_tokenizer

    choice = ModelChoice(name=str(folder))
    found = describe(FoundModel(folder, "model", None), choice)
    return f"{found.model} {load_tokenizer(folder, choice).vocab_size}"


def facts_say(path: Path) -> str:
    from seqmem_scenarios.fact_sources import fingerprint, take

    return f"{fingerprint(str(path))} {take(str(path), 2)}"


def text_says(path: Path) -> str:
    from seqmem_plugins.texts.file import FileOptions, fingerprint, open_text

    options = FileOptions(path=str(path))
    source = open_text(options, 0, (2, 1))
    return f"{fingerprint(options)} {source.train(0)}"


def checkpoint_says(folder: Path) -> str:
    from seqmem.training.checkpoint import digest

    warned: list[str] = []
    found = load_last(folder, warned.append)
    assert found is not None and all("\n" not in line for line in warned)
    return json.dumps(found.state, sort_keys=True) + digest(found.tensors)


def bench_says(folder: Path) -> str:
    described, rows = read_bench(folder)
    return json.dumps(described, sort_keys=True) + str([(row.label, sorted(row.runs)) for row in rows])


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    """One file of every kind, and what reads it."""
    from seqmem.core.cache import CARD, read_card
    from seqmem.record.files import write_sealed
    from seqmem.verbs.pace import _read as read_paces

    home = tmp_path_factory.mktemp("files")
    run = planned(small_model(home / "trained"))
    plain = Path(shutil.copytree(finished(run).folder, home / finished(run).folder.name))
    stopped = home / "stopped"
    asked = iter(range(1000))
    carry_out(run, stopped, should_stop=lambda: next(asked) >= 5, checkpoint_every=50)
    (checkpoint,) = (stopped / "checkpoints").iterdir()
    write_bench(home / "out")
    (bench,) = (home / "out" / "boards").iterdir()
    write_sealed(bench / "cost.json", {"format": 2, "machine": {}, "rows": {"naive": {"ratio": 1.0}}})
    board = write_board(home / "published")
    archive = board / "records" / "replay.zip"
    model = make_model_folder("gpt2", home / "model")
    card = {
        "kind": "gguf",
        "name": "a.gguf",
        "revision": None,
        "sha256": "0" * 64,
        "files": {},
        "versions": {},
    }
    (model / CARD).write_text(json.dumps(card))
    fact = {"text": "The bridge of Orvel is blue.", "prompt": "The bridge of Orvel is", "answer": "blue"}
    (home / "facts.jsonl").write_text("\n".join(json.dumps({**fact, "id": str(n)}) for n in range(3)))
    published = {"train_context": fact["text"], "paraphrases": [f"Yes: {fact['text']}"]}
    for depth in ("mem", "gen", "hard_gen"):
        published |= {f"{depth}_input": [fact["prompt"]], f"{depth}_target": [fact["answer"]]}
    (home / "published.json").write_text(json.dumps([published] * 3))
    text = home / "text.jsonl"
    text.write_text("\n".join(json.dumps({"text": f"Rain falls on day {n}. " * 8}) for n in range(40)))
    paces = home / "pace.json"
    paces.write_text(json.dumps({"a processor": {"seconds": 1.0}}))

    def read_published() -> str:
        return str([(row.label, sorted(row.runs)) for row in read_board(board, registry()).rows])

    def model_of(name: str) -> Kind:
        return Kind(model / name, lambda: model_says(model), proven=False)

    return {
        "run.json": Kind(plain / "run.json", lambda: record_says(plain), proven=True),
        "table": Kind(plain / "probes/part-00000.parquet", lambda: record_says(plain), proven=True),
        "items": Kind(plain / "items.parquet", lambda: record_says(plain), proven=True),
        "state.json": Kind(
            checkpoint / "state.json", lambda: checkpoint_says(checkpoint.parent), proven=True
        ),
        "tensors": Kind(
            checkpoint / "tensors.safetensors", lambda: checkpoint_says(checkpoint.parent), proven=True
        ),
        "bench.json": Kind(bench / "bench.json", lambda: bench_says(bench), proven=True),
        "cost.json": Kind(bench / "cost.json", lambda: read_cost(bench), proven=True),
        "board.toml": Kind(board / "board.toml", read_published, proven=False),
        "archive": Kind(archive, read_published, proven=False),
        "items.zip": Kind(board / "items.zip", read_published, proven=False),
        "config.json": model_of("config.json"),
        "weights": model_of("model.safetensors"),
        "tokenizer.json": model_of("tokenizer.json"),
        "tokenizer_config.json": model_of("tokenizer_config.json"),
        "card": Kind(model / CARD, lambda: read_card(model), proven=False),
        "facts": Kind(home / "facts.jsonl", lambda: facts_say(home / "facts.jsonl"), proven=False),
        "published": Kind(home / "published.json", lambda: facts_say(home / "published.json"), proven=False),
        "text": Kind(text, lambda: text_says(text), proven=False),
        "pace": Kind(paces, lambda: read_paces(paces), proven=False),
    }


NAMES = (
    "run.json",
    "table",
    "items",
    "state.json",
    "tensors",
    "bench.json",
    "cost.json",
    "board.toml",
    "archive",
    "items.zip",
    "config.json",
    "weights",
    "tokenizer.json",
    "tokenizer_config.json",
    "card",
    "facts",
    "text",
    "pace",
    "published",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_one_line_or_says_what_it_said(name: str, kinds: dict[str, Kind]) -> None:
    kind = kinds[name]
    content = kind.path.read_bytes()
    before = kind.read()
    wrong = wrong_file(content) if kind.path.suffix == ".json" else wrong_bytes(content)

    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=CASES < 100,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(wrong)
    def check(damaged: bytes) -> None:
        kind.path.write_bytes(damaged)
        try:
            after = kind.read()
        except SeqmemError as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert after == before or not kind.proven

    try:
        check()
    finally:
        kind.path.write_bytes(content)
    assert kind.read() == before
