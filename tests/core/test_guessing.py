"""Refusing by chance: models that guess, with and without a taste of their own, are told from those that know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from built_streams import BuiltStream, maker

from seqmem import Probe
from seqmem.core.guessing import IMPROBABLE, expected, is_improbable, preferring, standard_error
from seqmem_scenarios import freeze_loops, memory_loops
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions

MADE: dict[str, tuple[Callable[..., BuiltStream[Any]], str]] = {
    "memory_loops": (
        maker(BuiltStream, "memory_loops", MemoryLoopsOptions, memory_loops.build, {}),
        "primary",
    ),
    "freeze_loops": (
        maker(BuiltStream, "freeze_loops", freeze_loops.FreezeLoopsOptions, freeze_loops.build, {}),
        "inferred",
    ),
}
SMOKE: dict[str, dict[str, Any]] = {
    "memory_loops": dict(memory_loops.PRESETS["smoke"]),
    "freeze_loops": dict(freeze_loops.PRESETS["smoke"]),
}


def right_answers(probes: list[Probe], taste: float, models: int, seed: int) -> np.ndarray:
    """Right answers of models that weigh a taste for answers against noise in every question."""
    generator = np.random.default_rng(seed)
    values = {ids: n for n, ids in enumerate(dict.fromkeys(c for p in probes for c in p.choices))}
    liked = generator.normal(size=(models, len(values)))
    right = np.zeros(models, dtype=int)
    for probe in probes:
        own = [values[ids] for ids in probe.choices]
        score = taste * liked[:, own] + (1 - taste) * generator.normal(size=(models, len(own)))
        right += score.argmax(axis=1) == probe.choices.index(probe.input_ids[probe.answer_start :])
    return right


@pytest.mark.parametrize("preset", ["smoke", "default"])
@pytest.mark.parametrize("scenario", MADE)
def test_fewer_than_one_in_a_thousand_models_that_guess_are_refused(scenario: str, preset: str) -> None:
    make, probe_set = MADE[scenario]
    runs = {taste: 0 for taste in (0.0, 0.5, 1.0)}
    refused = dict(runs)
    for seed in range(4):
        built = make(seed, **(SMOKE[scenario] if preset == "smoke" else {}))
        for twins in (False, True):
            probes = list(built.asked(probe_set, twins=twins))
            for taste in runs:
                counts = right_answers(probes, taste, 2000, seed)
                assert abs(counts.mean() - expected(probes)) < 5 * standard_error(probes) / np.sqrt(2000)
                assert counts.std() < 1.1 * standard_error(probes)
                runs[taste] += 2000
                found, times = np.unique(counts, return_counts=True)
                refused[taste] += sum(
                    int(n) for right, n in zip(found, times, strict=True) if is_improbable(probes, int(right))
                )
    # facts and twins are two tests of one run
    assert all(2 * refused[taste] / runs[taste] < 1e-3 for taste in runs), (refused, runs)


@pytest.mark.parametrize("preset", ["smoke", "default"])
@pytest.mark.parametrize("scenario", MADE)
def test_a_model_that_knows_all_is_told(scenario: str, preset: str) -> None:
    make, probe_set = MADE[scenario]
    probes = list(make(0, **(SMOKE[scenario] if preset == "smoke" else {})).asked(probe_set))
    if len(probes) > 6:  # 6 of 6 right is possible by guessing, see below
        assert is_improbable(probes, len(probes))
    assert not is_improbable(probes, round(expected(probes)))


def question(number: int, choices: tuple[int, ...]) -> Probe:
    return Probe(
        id=str(number),
        input_ids=(0, choices[0]),
        answer_start=1,
        prompt="",
        answer=str(choices[0]),
        fact=str(number),
        relation="question",
        choices=tuple((choice,) for choice in sorted(choices)),
    )


def test_facts_that_share_candidates_and_answer_stand_and_fall_together() -> None:
    alike = [question(number, (1, 2, 3, 4)) for number in range(12)]
    drawn = preferring(alike, 4000)
    assert set(drawn.tolist()) == {0, 12} and abs(drawn.mean() - 3) < 0.4
    assert standard_error(alike) == pytest.approx(12 * np.sqrt(3 / 16), rel=0.05)
    assert not is_improbable(alike, 12)  # a taste for one answer explains it
    apart = [
        question(number, (4 * number, 4 * number + 1, 4 * number + 2, 4 * number + 3)) for number in range(12)
    ]
    assert standard_error(apart) == pytest.approx(np.sqrt(12 * 3 / 16), rel=0.05)
    assert is_improbable(apart, 12) and IMPROBABLE == 1e-4
    few = [replace(probe) for probe in apart[:4]]
    assert not is_improbable(few, 4)  # one model in 256 that guesses
