"""The model `nano`: shipped, small, reproducible, and made to be trained from scratch."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
import torch
from small_runs import installed
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from seqmem.cli.app import run
from seqmem.planning.models import ModelChoice, resolve
from seqmem.planning.tokenizer import encoder
from seqmem.training.model import load_model
from seqmem_scenarios.embedded import locate
from seqmem_scenarios.model_sizes.untrained import make_nano, nano_tokenizer
from seqmem_scenarios.saturation import TOLD
from seqmem_scenarios.world import World, background, population

CHOICE = ModelChoice(name="nano")
FILES = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve(CHOICE, installed()).folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


def test_it_is_shipped_complete_small_and_without_pickle(folder: Path) -> None:
    assert folder == locate("nano")
    assert folder.parent.name == "model_sizes"  # not in a cache
    assert {path.name for path in folder.iterdir()} == FILES
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 300_000


def test_it_has_about_50k_parameters_and_a_third_of_them_in_the_embedding(folder: Path) -> None:
    found = resolve(CHOICE, installed()).model
    model = load_model(folder, CHOICE)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert 45_000 <= found.parameters <= 55_000
    embedding = model.get_input_embeddings().weight
    assert embedding is model.get_output_embeddings().weight
    assert embedding.numel() <= 0.4 * found.parameters


def test_it_has_no_pretraining(capsys: pytest.CaptureFixture[str]) -> None:
    assert installed().load("model", "nano").pretrain is None
    assert run(["pretrain", "nano"]) == 2
    assert capsys.readouterr().err == "seqmem: error: model nano has no recipe to train it from\n"


def test_it_can_be_made_again(folder: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    make_nano(tmp_path / "nano")
    assert torch.equal(before, torch.random.get_rng_state())
    assert {path.name for path in (tmp_path / "nano").iterdir()} == FILES
    for name in ("config.json", "tokenizer.json"):
        shipped, made = (json.loads((where / name).read_text()) for where in (folder, tmp_path / "nano"))
        assert {**shipped, "transformers_version": 0} == {**made, "transformers_version": 0}
    weights, again = (load_model(where, CHOICE).state_dict() for where in (folder, tmp_path / "nano"))
    for name, tensor in weights.items():
        torch.testing.assert_close(again[name], tensor)


def test_weights_from_scratch_are_the_seed_s_own(folder: Path) -> None:
    one, same, other = (load_model(folder, CHOICE, random_weights=seed).state_dict() for seed in (1, 1, 2))
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    assert torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name])
    assert float(one[name].std()) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("role", ["injected", "twin"])
def test_names_are_three_pieces_for_trained_people_and_twins_alike(
    role: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    numbers = [*range(2000), *range(2000, population("injected"), 37)]
    names = [World(5).person(role, number).name for number in numbers]  # type: ignore[arg-type]
    assert {len(ids) for ids in tokenizer(names)["input_ids"]} == {3}


def test_values_are_one_piece_each_and_no_two_the_same(tokenizer: PreTrainedTokenizerBase) -> None:
    for attribute in TOLD:
        rows = tokenizer([f"Ada Balden {value}" for value in attribute.values])["input_ids"]
        assert {len(ids) for ids in rows} == {len(tokenizer("Ada Balden")["input_ids"]) + 1}
        assert len({ids[-1] for ids in rows}) == len(attribute.values)


def test_text_comes_back_as_it_went_in(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = [background(3, index) for index in range(40)] + [
        string.printable.strip(),
        "Two  blanks\n\nand lines",
    ]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id in tokenizer("größer")["input_ids"]


def test_nothing_stands_in_front_of_a_text(tokenizer: PreTrainedTokenizerBase) -> None:
    assert encoder(tokenizer)("Ada Balden") == nano_tokenizer()("Ada Balden")["input_ids"]
    assert len(encoder(tokenizer)("Ada")) == 1
