"""Folders that hold files of PyTorch only are planned and run like any other."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from converting import ConvertingHere
from model_folders import Kind, as_pickled, make_model_folder
from small_runs import finish, planned, small_model

from seqmem.core.cache import CARD, cache_folder, read_card
from seqmem.core.errors import UsageError
from seqmem.planning.conversion import small_files
from seqmem.planning.models import LocatedModel, ModelChoice, resolve
from seqmem.plugin.registry import Registry
from seqmem.training.model import load_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQMEM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are converted in this process; two tests below start one of its own."""
    monkeypatch.setattr("seqmem.planning.conversion.start_module", ConvertingHere)


def found(folder: Path | str, **settings: Any) -> LocatedModel:
    return resolve(ModelChoice(name=str(folder), **settings), Registry([]))


def refused(folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        found(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Makes:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(("kind", "parts"), [("opt", 1), ("gpt_neox", 3)])
def test_the_converted_model_is_the_model(
    kind: Kind,
    parts: int,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if parts == 1:
        monkeypatch.setattr("seqmem.planning.conversion.start_module", ConvertingHere)
    folder = make_model_folder(kind, tmp_path / "model")
    before = load_model(folder, ModelChoice(name=str(folder)))
    plain = found(folder)
    as_pickled(folder, parts=parts)

    located = found(folder)
    assert "converting to safetensors, once" in capfd.readouterr().err
    assert located.model.name == "model" and located.model.parameters == plain.model.parameters
    assert located.folder.parent == cache_folder() / "converted"
    assert len(list(located.folder.glob("*.safetensors"))) == parts
    after = load_model(located.folder, ModelChoice(name=str(folder)))
    expected, tensors = before.state_dict(), after.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)

    again = found(folder)
    assert capfd.readouterr().err == "" and again == located, "it is converted once"
    card = read_card(located.folder)
    assert card is not None and (card["kind"], card["name"]) == ("pytorch", "model")
    assert card["files"] == {path.name: sha256(path) for path in folder.glob("*.bin")}
    if parts == 1:
        assert card["sha256"] == sha256(folder / "pytorch_model.bin")
    # the small files as they are, so that the fingerprint is the same on every machine
    assert {path.name for path in small_files(folder)} <= {path.name for path in located.folder.iterdir()}
    shutil.rmtree(located.folder)
    monkeypatch.setattr("seqmem.planning.conversion.start_module", ConvertingHere)
    assert found(folder).model == located.model


def test_a_run_says_what_its_model_was_made_of(here: None, tmp_path: Path) -> None:
    folder = as_pickled(small_model(tmp_path / "model", "opt"))
    run = planned(folder)
    record = finish(run, tmp_path / "run")
    assert record.info["source"] == {
        "kind": "pytorch",
        "name": "model",
        "revision": None,
        "sha256": sha256(folder / "pytorch_model.bin"),
    }
    assert "source" not in json.dumps(record.recipe)
    losses = record.steps["loss"]
    assert losses.notna().all() and losses.iloc[-1] < losses.iloc[0]


def test_a_malicious_folder_is_refused_while_planning(tmp_path: Path, cache: Path) -> None:
    folder = make_model_folder("opt", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    ran = tmp_path / "ran"
    torch.save({"model.decoder.embed_tokens.weight": Makes(ran)}, folder / "pytorch_model.bin")
    line = refused(folder)
    assert "pytorch_model.bin asks for" in line and "nothing in it was run" in line
    assert not ran.exists()
    assert [path.name for path in (cache / "converted").iterdir() if path.is_dir()] == []


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    folder = as_pickled(make_model_folder("gpt_neox", tmp_path / "model"), parts=3)
    (folder / "pytorch_model-00002-of-00003.bin").unlink()
    line = refused(folder)
    assert "pytorch_model-00002-of-00003.bin is missing (1 of 3 weight files)" in line


@pytest.mark.parametrize("places", [{"weight": "../../secret.bin"}, {"weight": "/etc/passwd"}, {}, [1], None])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_an_index_that_points_elsewhere_is_refused(name: str, places: object, tmp_path: Path) -> None:
    folder = make_model_folder("gpt_neox", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / f"{name}.index.json").write_text(json.dumps({"weight_map": places}))
    assert f"damaged {name}.index.json" in refused(folder)


def test_files_that_nobody_can_name_are_not_opened(tmp_path: Path) -> None:
    folder = make_model_folder("gpt_neox", tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "checkpoint.pt")
    assert "checkpoint.pt" in refused(folder) and "save_pretrained" in refused(folder)


def test_what_cannot_work_is_said_before_anything_is_converted(tmp_path: Path, cache: Path) -> None:
    folder = as_pickled(make_model_folder("gpt_neox", tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    assert "only 100 embedding rows" in refused(folder)
    assert not cache.exists()


def test_an_id_without_safetensors_is_fetched_with_its_files_of_pytorch(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    stored = as_pickled(make_model_folder("opt", tmp_path / "stored"))
    snapshot = tmp_path / commit
    asked: list[list[str]] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str], **_: object) -> str:
        asked.append(allow_patterns)
        snapshot.mkdir(exist_ok=True)
        for pattern in allow_patterns:
            for path in stored.glob(pattern):
                shutil.copy(path, snapshot)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    located = found("facebook/opt-125m")
    assert (located.model.name, located.model.revision) == ("facebook/opt-125m", commit)
    assert len(asked) == 2 and not any(".bin" in pattern for pattern in asked[0])
    card = read_card(located.folder)
    assert card is not None and (card["name"], card["revision"]) == ("facebook/opt-125m", commit)
    assert (located.folder / CARD).is_file()
