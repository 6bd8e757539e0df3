"""Models under a name of their own: from GGUF, from an adapter, from a folder; listed, replaced, removed."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from converting import ConvertingHere
from gguf_files import write_gguf
from model_folders import as_pickled, make_model_folder

from seqmem.cli.app import run
from seqmem.core.cache import CARD, model_folder, read_card
from seqmem.core.errors import PluginError, UsageError
from seqmem.planning.models import LocatedModel, ModelChoice, resolve
from seqmem.planning.tokenizer import encoder, load_tokenizer
from seqmem.plugin.registry import Registry
from seqmem.training.model import load_model
from seqmem.verbs.models import add_model, remove_model

IDS = torch.arange(3 * 40).view(3, 40) * 7 % 512


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQMEM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are converted in this process: that one of its own can do it is seen where a GGUF file becomes a model."""
    monkeypatch.setattr("seqmem.planning.conversion.start_module", ConvertingHere)


def registry() -> Registry:
    return Registry.from_environment()


def add(source: object, name: str = "mine", **settings: Any) -> LocatedModel:
    return add_model(str(source), name, registry(), **settings)


def refused(source: object, name: str = "mine", **settings: Any) -> str:
    with pytest.raises(UsageError) as caught:
        add(source, name, **settings)
    assert "\n" not in str(caught.value)
    assert not any(path.name.startswith(f".{name}-") for path in model_folder("x").parent.glob(".*"))
    return str(caught.value)


@torch.no_grad()
def logits(folder: Path) -> torch.Tensor:
    model = load_model(folder, ModelChoice(name=str(folder)))
    return model(input_ids=IDS, use_cache=False).logits


def test_a_gguf_file_becomes_a_model_of_that_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_model_folder("llama", tmp_path / "llama")
    path = write_gguf(folder, tmp_path / "small.gguf")
    located = add(path, "small-llama")
    progress = capfd.readouterr().err
    assert "dequantising" in progress and "converting the tokenizer" in progress
    assert located.folder == model_folder("small-llama")
    assert (located.model.name, located.model.architecture) == ("small-llama", "llama")
    assert located.model.max_positions == 256
    assert torch.allclose(logits(located.folder), logits(folder), atol=1e-5)
    text = "Who lives in the old town? 東京."
    own, other = (load_tokenizer(one, ModelChoice(name="x")) for one in (located.folder, folder))
    assert (
        own(text, add_special_tokens=False)["input_ids"] == other(text, add_special_tokens=False)["input_ids"]
    )
    assert encoder(own)("") in ([], [1])

    card = read_card(located.folder)
    assert card is not None and (card["kind"], card["name"]) == ("gguf", "small.gguf")
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(tmp_path) not in (located.folder / CARD).read_text()
    assert "quantization_config" not in located.config

    # from here on it is a name like any other
    names = {listed.name: listed for listed in registry().names("model")}
    assert names["small-llama"].version == "(gguf)" and {"tiny", "base"} <= names.keys()
    found = resolve(ModelChoice(name="small-llama", attention="auto"), registry())
    assert found == located
    assert card["sha256"] in registry().load("model", "small-llama").summary
    assert run(["list", "model"]) == 0 and "added (gguf)" in capfd.readouterr().out


def test_what_is_not_a_gguf_file_or_is_cut_off(here: None, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"something else")
    assert "is not a GGUF file" in refused(path)
    whole = write_gguf(make_model_folder("llama", tmp_path / "llama"), tmp_path / "whole.gguf")
    path.write_bytes(whole.read_bytes()[:-5000])
    assert "could not be converted" in refused(path)
    with pytest.raises(UsageError, match="seqmem model add .*model.gguf --name NAME"):
        resolve(ModelChoice(name=str(path)), registry())


def test_gguf_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqmem.planning.conversion.installed_version", lambda name: "not installed")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert "pip install 'seqmem[gguf]'" in refused(tmp_path / "model.gguf")


def make_adapter(base: Path, folder: Path, **settings: Any) -> torch.Tensor:
    """Write a LoRA adapter that changes the model; returns the logits of the model with it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks for what transformers has renamed
        torch.manual_seed(5)
        changed = get_peft_model(
            model, LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM", **settings)
        )
    changed.save_pretrained(folder)
    changed.eval()
    with torch.no_grad():
        return changed(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("pickled", [False, True])
def test_an_adapter_is_merged_into_its_base(pickled: bool, here: None, tmp_path: Path) -> None:
    base = make_model_folder("llama", tmp_path / "base-model")
    expected = make_adapter(base, tmp_path / "adapter")
    assert not torch.allclose(expected, logits(base), atol=1e-3)
    if pickled:
        from safetensors.torch import load_file

        stored = tmp_path / "adapter" / "adapter_model.safetensors"
        torch.save(load_file(stored), stored.with_name("adapter_model.bin"))
        stored.unlink()
        as_pickled(base)
    located = add(tmp_path / "adapter", "merged")
    assert torch.allclose(logits(located.folder), expected, atol=1e-5)
    card = read_card(located.folder)
    assert card is not None and card["kind"] == "peft" and card["base"]["name"] == "base-model"
    assert card["base"]["fingerprint"] == resolve(ModelChoice(name=str(base)), registry()).model.fingerprint


def test_adapters_that_cannot_be_merged(here: None, tmp_path: Path) -> None:
    base = make_model_folder("llama", tmp_path / "base")
    adapter = tmp_path / "adapter"
    make_adapter(base, adapter)
    with pytest.raises(UsageError, match="holds a PEFT adapter; convert it once with: seqmem model add"):
        resolve(ModelChoice(name=str(adapter)), registry())
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "./gone"}))
    assert "the base of its adapter" in refused(adapter) and "--base" in refused(adapter)
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    assert "names no base model" in refused(adapter)
    other = make_model_folder("gpt_neox", tmp_path / "other")
    assert "could not be converted" in refused(adapter, base=str(other))
    (adapter / "adapter_model.safetensors").unlink()
    assert "without adapter_model.safetensors" in refused(adapter)


def test_a_folder_is_added_replaced_and_removed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_model_folder("gpt2", tmp_path / "one")
    plain = resolve(ModelChoice(name=str(folder)), registry()).model
    located = add(folder)
    assert located.model.fingerprint == plain.fingerprint, "a copy is the same model"
    line = refused(folder)
    assert (
        "is there already, from one (safetensors)" in line
        and "--force" in line
        and "model remove mine" in line
    )

    other = make_model_folder("gpt2", tmp_path / "other", seed=1)
    (other / "config.json").write_text("{}")
    assert "without model_type" in refused(other, force=True)
    assert resolve(ModelChoice(name="mine"), registry()).model == located.model, "what was there stays"

    other = make_model_folder("opt", tmp_path / "other", seed=1)
    assert add(other, force=True).model.architecture == "opt"
    assert run(["model", "remove", "mine"]) == 0 and "Removed mine" in capfd.readouterr().out
    assert "mine" not in {listed.name for listed in registry().names("model")}
    with pytest.raises(UsageError, match="unknown added model 'mine'"):
        remove_model("mine")
    assert not model_folder("mine").exists()


def test_names_that_cannot_be_taken(tmp_path: Path) -> None:
    folder = make_model_folder("gpt2", tmp_path / "one")
    for name in ("", "a/b", "../x", ".hidden", "a b", "a+b", "x" * 65, "id@main", "a,b", "mine\n"):
        assert "is not allowed" in refused(folder, name)
    for name in ("tiny", "base"):
        assert "has a model of that name" in refused(folder, name)
    model_folder("there").mkdir(parents=True)
    assert "was not added by this verb" in refused(folder, "there", force=True)
    assert "only applies to an adapter" in refused(folder, base="tiny")
    assert "does not exist" in refused(tmp_path / "nowhere")


def test_a_name_that_a_plugin_takes_later_is_a_conflict(tmp_path: Path) -> None:
    add(make_model_folder("gpt2", tmp_path / "one"), "mine")
    shutil.copytree(model_folder("mine"), model_folder("tiny"))
    with pytest.raises(PluginError, match="offered by seqmem .* and added .safetensors"):
        registry().load("model", "tiny")


def test_a_broken_card_hides_nothing(tmp_path: Path) -> None:
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"kind": 3}')):
        model_folder(name).mkdir(parents=True)
        (model_folder(name) / CARD).write_text(text)
    assert {"a", "b", "c"}.isdisjoint(listed.name for listed in registry().names("model"))


def test_the_verb_prints_what_was_added(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_model_folder("gpt2", tmp_path / "one")
    assert run(["model", "add", str(folder), "--name", "mine"]) == 0
    said = capfd.readouterr().out
    assert "Added mine: gpt2" in said and "--model mine" in said and "sha256" in said
    assert run(["model", "add", str(folder), "--name", "other", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["source"]["kind"] == "safetensors" and found["model"]["name"] == "other"
    assert run(["model", "add", str(folder), "--name", "mine"]) == 2
    assert capfd.readouterr().err.count("\n") == 1
