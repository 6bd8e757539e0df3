import importlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from seqmem import UsageError
from seqmem_scenarios.model_sizes import RECIPES, TINY, Recipe, evaluate, pretrain
from seqmem_scenarios.model_sizes.corpus import END_OF_TEXT, Batches, Corpus, train_tokenizer
from seqmem_scenarios.model_sizes.pretrain import build_model, learning_rate
from seqmem_scenarios.world import (
    World,
    answer,
    make_facts,
    place_prose,
    population,
    question_prompt,
    statement_prompt,
)

# The package has a function of the module's name.
making = importlib.import_module("seqmem_scenarios.model_sizes.pretrain")

NANO = Recipe(
    hidden_size=16,
    layers=1,
    heads=2,
    steps=7,
    learning_rate=1e-3,
    batch_tokens=512,
    vocabulary=400,
    warmup=2,
    checkpoint_every=3,
    tokenizer_documents=200,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture
def nano(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "nano", NANO)


def test_shipped_folder_is_complete_small_and_without_pickle() -> None:
    names = {path.name for path in TINY.iterdir()}
    assert names == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "recipe.json",
    }
    assert sum(path.stat().st_size for path in TINY.iterdir()) <= 5_000_000


def test_shipped_recipe_is_the_default_one() -> None:
    record = json.loads((TINY / "recipe.json").read_text())
    assert record["recipe"] == json.loads(json.dumps(asdict(RECIPES["tiny"])))
    assert record["steps"] == RECIPES["tiny"].steps
    assert record["seed"] == 0


def test_shipped_tokenizer_is_the_one_its_recipe_trains(tokenizer: PreTrainedTokenizerFast) -> None:
    trained = train_tokenizer(RECIPES["tiny"], 0)
    assert trained.get_vocab() == tokenizer.get_vocab()


def test_shipped_model_meets_its_bars_on_a_sample() -> None:
    figures = evaluate(TINY, questions=150, general_documents=20)
    assert figures["closed_book_known"]["share"] >= 0.9
    assert figures["open_book_unseen"]["share"] >= 0.9
    assert figures["closed_book_unseen"]["share"] <= 0.06
    assert figures["general"]["perplexity"] < 4


def test_recorded_figures_meet_the_bars() -> None:
    figures = json.loads((TINY / "recipe.json").read_text())["evaluation"]
    for name in ("closed_book_known", "open_book_unseen"):
        assert figures[name]["n"] >= 500 and figures[name]["share"] >= 0.95
    unseen = figures["closed_book_unseen"]
    chance, n = unseen["chance"], unseen["n"]
    assert n >= 500
    assert abs(unseen["share"] - chance) <= 3 * (chance * (1 - chance) / n) ** 0.5


def test_encoding_puts_the_end_of_text_in_front(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("Q: Where?")["input_ids"]
    assert ids[0] == tokenizer.eos_token_id == tokenizer.bos_token_id == tokenizer.pad_token_id == 0
    assert tokenizer.decode(ids) == f"{END_OF_TEXT}Q: Where?"
    text = "Zoë paid 35 €,\n  and left…"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_prompt_ids_are_a_prefix_of_prompt_and_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    for fact, _ in make_facts(9, 60):
        for wording in range(8):
            for prompt in (question_prompt(fact, wording), statement_prompt(fact, wording)):
                ids = tokenizer(prompt)["input_ids"]
                assert tokenizer(prompt + answer(fact))["input_ids"][: len(ids)] == ids


def test_place_prose_has_its_length(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [place_prose(seed, loop, index) for seed in range(3) for loop in range(8) for index in range(25)]
    lengths = sorted(len(ids) - 1 for ids in tokenizer(texts)["input_ids"])
    assert 20 <= lengths[0] and lengths[-1] <= 50
    assert 25 <= lengths[len(lengths) // 20] and lengths[-len(lengths) // 20] <= 42


def test_names_cost_alike_whether_known_or_not(tokenizer: PreTrainedTokenizerFast) -> None:
    def cost(role: Any) -> float:
        names = [f" {person.name}" for person in World().people(role, 140)]
        return sum(len(tokenizer(name)["input_ids"]) - 1 for name in names) / len(names)

    assert abs(cost("known") - cost("injected")) < 0.3
    assert abs(cost("injected") - cost("twin")) < 0.3


@pytest.mark.parametrize(("size", "millions"), [("tiny", 1.05), ("small", 8.0), ("base", 50.0)])
def test_models_have_their_size(size: str, millions: float) -> None:
    with torch.device("meta"):
        model = build_model(RECIPES[size], 0)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == pytest.approx(millions * 1e6, rel=0.1)


def test_batches_are_pure_full_and_begin_with_documents(tokenizer: PreTrainedTokenizerFast) -> None:
    recipe = RECIPES["tiny"]
    for step in (0, 3):
        batch = Batches(recipe, 0, tokenizer).batch(step)
        assert batch.size == recipe.batch_tokens
        assert batch.shape[1] == (recipe.long_block if step == 3 else recipe.block)
        assert (batch[:, 0] == 0).all()
        assert (batch == Batches(recipe, 0, tokenizer).batch(step)).all()


def test_oneoff_people_are_never_asked_about_bare() -> None:
    corpus = Corpus(replace(RECIPES["tiny"].mixture, known=0.0, oneoff=1.0), 0)
    documents = corpus.documents(5)
    for _ in range(300):
        assert not next(documents).startswith("Q:")


def test_no_evaluated_or_injected_person_is_in_the_corpus() -> None:
    barred = {
        person.name.split()[-1]
        for role in ("unseen", "injected", "twin")
        for person in World().people(role, population(role) // 32)
    }
    documents = Corpus(RECIPES["tiny"].mixture, 0).documents(0)
    words = {word.strip(".,:?") for _ in range(1000) for word in next(documents).split()}
    assert not words & barred


def test_a_resumed_run_ends_in_the_same_weights(nano: None, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop_at_five(done: int, total: int, loss: float) -> None:
        if done == 5:
            raise Stop

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    seen: list[tuple[int, int, float]] = []
    record = pretrain("nano", whole, on_progress=lambda *at: seen.append(at))
    assert [at[:2] for at in seen] == [(step, 7) for step in range(1, 8)]
    with pytest.raises(Stop):
        pretrain("nano", broken, on_progress=stop_at_five)
    resumed: list[int] = []
    pretrain("nano", broken, resume=True, on_progress=lambda done, total, loss: resumed.append(done))
    assert resumed == [4, 5, 6, 7]
    one, other = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()
    assert json.loads((whole / "recipe.json").read_text()) == json.loads(json.dumps(record))
    assert record["tokens"] == 7 * 512
    AutoModelForCausalLM.from_pretrained(whole)


def test_resuming_another_run_is_an_error(nano: None, tmp_path: Path) -> None:
    def stop(done: int, total: int, loss: float) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain("nano", tmp_path, on_progress=stop)
    with pytest.raises(UsageError, match=r"belongs to another run \(seed 0\)"):
        pretrain("nano", tmp_path, seed=1, resume=True)
    resumed: list[int] = []
    pretrain("nano", tmp_path, resume=True, on_progress=lambda done, total, loss: resumed.append(done))
    assert resumed == [5, 6, 7], "Ctrl-C leaves a checkpoint of the step it came after"


def test_what_is_in_the_folder_is_not_lost_unasked(nano: None, tmp_path: Path) -> None:
    def stop(done: int, total: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(UsageError, match="nothing to resume: .* holds no checkpoint"):
        pretrain("nano", tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()
    (tmp_path / "model.safetensors").write_bytes(b"somebody's")
    for asked, said in (
        ({}, "holds a finished model: --force replaces it"),
        ({"resume": True}, "nothing to resume: .* holds a finished model"),
        ({"resume": True, "force": True}, "give one of them"),
    ):
        with pytest.raises(UsageError, match=said):
            pretrain("nano", tmp_path, **asked)
    with pytest.raises(KeyboardInterrupt):
        pretrain("nano", tmp_path, force=True, on_progress=stop)
    assert (tmp_path / "model.safetensors").read_bytes() == b"somebody's", "until the new one is there"
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="holds an unfinished run: --resume continues it"):
        pretrain("nano", tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"broken")
    with pytest.raises(UsageError, match="checkpoint.safetensors cannot be read"):
        pretrain("nano", tmp_path, resume=True)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "gpu", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(
    nano: None, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"device '?{device}'?"):
        pretrain("nano", tmp_path / "new", device=device)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_refused(nano: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="cannot write to"):
            pretrain("nano", out)


@pytest.mark.parametrize("moved", range(5))
def test_a_break_while_saving_leaves_no_folder_that_looks_made(
    nano: None, moved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after `moved` of the five files, with an older model in the folder."""
    saving = tmp_path / ".saving"
    saving.mkdir()
    for name in (
        "model.safetensors",
        "config.json",
        "recipe.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        (saving / name).write_text("new")
        (tmp_path / name).write_text("old")
    left = iter(range(moved))
    replace_file = making.os.replace

    def replace_or_die(*paths: Path) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        replace_file(*paths)

    monkeypatch.setattr(making.os, "replace", replace_or_die)
    with pytest.raises(KeyboardInterrupt):
        making._move_in(saving, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    monkeypatch.setattr(making.os, "replace", replace_file)
    making._move_in(saving, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("model.safetensors", "config.json", "recipe.json", "tokenizer.json", "tokenizer_config.json"), "new"
    )


def test_an_unknown_size_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tiny, small, base"):
        pretrain("huge", tmp_path)


def test_learning_rate_warms_up_and_decays() -> None:
    recipe = RECIPES["tiny"]
    rates = [learning_rate(recipe, step, 1000) for step in range(1000)]
    assert rates[99] == pytest.approx(recipe.learning_rate)
    assert rates[:100] == sorted(rates[:100]) and rates[100:] == sorted(rates[100:], reverse=True)
    assert 0 < rates[-1] < rates[0]


def test_building_a_model_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    one, other = build_model(NANO, 3), build_model(NANO, 3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
