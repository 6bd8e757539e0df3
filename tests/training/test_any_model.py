"""Any causal language model runs the main scenario: four architectures, other text, other number types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_folders import KINDS, VOCABULARY, Kind
from small_runs import carry_out, finish, planned, small_model

from seqmem.cli.app import run


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_runs_memory_loops(kind: Kind, tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", kind)

    record = finish(planned(model, "moment_avg"), tmp_path / "run")

    losses = record.steps["loss"]
    assert losses.notna().all() and losses.iloc[-1] < losses.iloc[0]
    assert record.recipe["model"]["name"] == "model"  # the folder's name, not where it lies


def test_bfloat16_keeps_state_in_bfloat16(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")

    full = finish(planned(model, "moment_avg"), tmp_path / "full")
    half = finish(planned(model, "moment_avg", precision="bfloat16"), tmp_path / "half")

    assert half.info["parameter_bytes"] * 2 == full.info["parameter_bytes"]
    assert half.info["extra_state_bytes"] < full.info["extra_state_bytes"]
    assert half.steps["loss"].notna().all()


def test_background_text_comes_from_a_file(tmp_path: Path) -> None:
    lines = [
        f"Line {i} of a story about the sea, the wind and the {i % 7} ships at anchor." for i in range(200)
    ]
    (tmp_path / "story.jsonl").write_text("".join(json.dumps({"body": line}) + "\n" for line in lines))
    model = small_model(tmp_path / "model")

    text = str(tmp_path / "story.jsonl")
    record = finish(
        planned(model, options={"text.field": "body"}, text=text), tmp_path / "run", checkpoint_every=1000
    )

    general = record.items[record.items["relation"] == "general"]
    assert len(general) == 8 + 4  # held out, and of the rest's four steps
    assert general["answer"].str.contains("story about the sea").all()
    assert record.recipe["text"]["name"] == "file" and record.recipe["text"]["content"]


def test_a_model_that_is_larger_than_its_files_said_is_named(tmp_path: Path) -> None:
    run = planned(small_model(tmp_path / "model"))
    believed = run.recipe.model.model_copy(update={"parameters": 7})
    recipe = run.recipe.model_copy(update={"model": believed})
    events = carry_out(run, tmp_path / "run", should_stop=lambda: True, recipe=recipe)
    (warning,) = [event["message"] for event in events if event["event"] == "warning"]
    assert f"has {run.recipe.model.parameters:,} parameters, its files were taken to hold 7" in warning
    right = carry_out(run, tmp_path / "other", should_stop=lambda: True)
    assert all(event["event"] != "warning" for event in right)


def test_an_architecture_without_sdpa_runs_and_the_plan_says_how(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    model = small_model(tmp_path / "model", "gpt2")
    (model / "model.safetensors").unlink()
    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2)
    BloomForCausalLM(config).save_pretrained(model)
    words = ["--scenario", "memory_loops", "--preset", "smoke", "--strategy", "naive", "--model", str(model)]
    assert run(["plan", *words]) == 0
    assert "--attention eager is taken" in capfd.readouterr().err

    record = finish(planned(model), tmp_path / "run")

    assert record.recipe["model"]["attention"] == "eager"
    losses = record.steps["loss"]
    assert losses.notna().all() and losses.iloc[-1] < losses.iloc[0]
