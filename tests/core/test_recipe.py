"""The id of a run is a hash of its recipe's JSON, which what came later must not change."""

from __future__ import annotations

from typing import Any

import pytest

from seqmem.core.recipe import ModelIdentity, OptimizerSettings, PluginChoice, Recipe


def recipe(optimizer: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    return Recipe(
        scenario=PluginChoice(name="memory_loops", version="2", options={"loops": 4}),
        strategy=PluginChoice(name="naive", version="1"),
        model=ModelIdentity(
            name="tiny",
            revision=None,
            fingerprint="00",
            parameters=1000,
            max_positions=512,
            dtype="float32",
            attention="sdpa",
            trust_remote_code=False,
        ),
        text=PluginChoice(name="world", version="1", content="11"),
        optimizer=OptimizerSettings.model_validate(optimizer or {}),
        seed=0,
        device="cpu",
        threads=1,
        **changes,
    )


PINNED = {
    "b260c744c726eaf7": recipe(),
    "bb164e395adb5e72": recipe({"name": "sgd", "lr": 0.5, "momentum": 0.9, "clip": 1.0}),
    "6fbe4950e88740be": recipe({"lr": 1e-4}, probing="every"),
}
"""As they were before any setting was added."""


@pytest.mark.parametrize("pinned", PINNED)
def test_default_settings_have_the_ids_they_always_had(pinned: str) -> None:
    assert PINNED[pinned].id == pinned


@pytest.mark.parametrize(
    ("optimizer", "later"),
    [({}, {"micro_tokens": 2048}), ({"schedule": "cosine"}, {}), ({"warmup": 0.01}, {})],
)
def test_what_came_later_is_in_the_id_and_comes_back_from_json(
    optimizer: dict[str, Any], later: dict[str, Any]
) -> None:
    changed = recipe(optimizer, **later)
    assert changed.id not in PINNED
    assert Recipe.model_validate_json(changed.model_dump_json()) == changed
    stated, before = changed.model_dump(mode="json"), recipe().model_dump(mode="json")
    assert set(stated) - set(before) == set(later)
    assert set(stated["optimizer"]) - set(before["optimizer"]) == set(optimizer)
