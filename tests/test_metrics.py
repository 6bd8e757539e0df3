from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from helpers_records import Answer, Ask, Layout, Learner, write_record

from seqmem import MetricSpec, RunRecord, Value
from seqmem_plugins.metrics.latent_revival import excess_rise
from seqmem_plugins.metrics.retention import fit_half_life

NAMES = (
    "average_accuracy backward_transfer cost forgetting general_ability latent_revival learning_accuracy "
    "loop_contrast new_loop recovery retention twin_recall"
).split()


def spec_of(name: str) -> MetricSpec:
    (spec,) = importlib.import_module(f"seqmem_plugins.metrics.{name}").seqmem_metric()
    return spec


def score(name: str, run: RunRecord, controls: Mapping[str, RunRecord] | None = None) -> Mapping[str, Value]:
    return spec_of(name).compute(run, controls or {})


def number(value: Value) -> float:
    assert value.value is not None, value.reason
    return value.value


def fades(half_life: float, *, start: float = 1.0, in_place: float = 0.0) -> Learner:
    """Recall start * 2^(-age/half_life); `in_place` is added inside the fact's own loop."""

    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        if ask.twin or not ask.seen:
            return Answer(False, 4.0, best_other=-2.0)
        chance = start * 2 ** (-ask.age / half_life) + in_place * (ask.current == ask.loop)
        return Answer(bool(random.random() < chance), 4.0 - 3.0 * chance, best_other=-2.0)

    return learner


@pytest.mark.parametrize("name", NAMES)
def test_specs_are_complete(name: str) -> None:
    spec = spec_of(name)
    module = importlib.import_module(f"seqmem_plugins.metrics.{name}")
    assert module.seqmem_api == ">=1,<2" and spec.name == name == spec.measures[0].name
    assert all(measure.unit and measure.summary for measure in spec.measures)
    assert all(measure.name.split(".")[0] == name for measure in spec.measures)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "layout", [Layout(), Layout(documents=True, facts=1, rest=0), Layout(cycles=1, rest=0)]
)
def test_every_measure_is_a_number_or_a_reason(name: str, layout: Layout, tmp_path: Path) -> None:
    values = score(name, write_record(tmp_path / "run", fades(100), layout))
    assert list(values) == [measure.name for measure in spec_of(name).measures]
    assert all(value.value is not None or value.reason for value in values.values())


def test_accuracies_of_a_perfect_memory(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", fades(1e9))
    assert score("average_accuracy", run)["average_accuracy"] == Value(1.0, 32)
    assert number(score("learning_accuracy", run)["learning_accuracy"]) == 1
    assert number(score("forgetting", run)["forgetting"]) == 0
    assert number(score("backward_transfer", run)["backward_transfer"]) == 0
    assert number(score("twin_recall", run)["twin_recall"]) == 0
    assert number(score("retention", run)["retention.auc"]) == 1
    assert "does not fall" in score("retention", run)["retention.half_life"].reason


def test_accuracies_of_a_memory_of_one_visit(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", fades(0.1))
    assert number(score("average_accuracy", run)["average_accuracy"]) == 0
    assert number(score("learning_accuracy", run)["learning_accuracy"]) == 1
    assert number(score("forgetting", run)["forgetting"]) == 1
    assert number(score("backward_transfer", run)["backward_transfer"]) == -1


def test_half_life_of_the_rest_is_found(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        rank = (ask.loop * 50 + ask.number + 0.5) / 200
        return Answer(not ask.twin and rank < 2 ** (-(ask.rest_step or 0) / 60))

    run = write_record(tmp_path / "run", learner, Layout(facts=50))
    values = score("retention", run)
    assert number(values["retention"]) == pytest.approx(2 ** (-200 / 60), abs=0.01)
    assert number(values["retention.half_life"]) == pytest.approx(60, rel=0.03)


def test_fit_prefers_the_form_that_made_the_curve() -> None:
    steps = np.unique(np.geomspace(1, 1000, 15).astype(int)).astype(float)
    assert fit_half_life(steps, 0.8 * np.exp(-steps / 100)) == (
        pytest.approx(100 * np.log(2), rel=1e-3),
        "exponential",
    )
    assert fit_half_life(steps, 0.8 * (1 + steps) ** -0.3) == (
        pytest.approx(2 ** (1 / 0.3) - 1, rel=1e-3),
        "power",
    )
    assert fit_half_life(steps, 0.9 - 0.2 * np.log10(1 + steps))[1] == "log-linear"
    assert fit_half_life(steps, 0.5 + 0.01 * (-1) ** np.arange(len(steps)))[1] == "constant"


def test_loop_contrast_is_zero_when_recall_depends_on_age_alone(tmp_path: Path) -> None:
    found = []
    for seed in range(10):
        runs = [
            write_record(
                tmp_path / f"{seed}{shuffled}",
                fades(25),
                Layout(shuffled=shuffled, rest=20, even=2),
                seed=seed,
            )
            for shuffled in (False, True)
        ]
        values = score("loop_contrast", runs[0], {"shuffled": runs[1]})
        found.append((number(values["loop_contrast"]), number(values["loop_contrast.cued"])))
    assert np.mean(found, axis=0) == pytest.approx([0, 0], abs=0.07)


def test_loop_contrast_finds_memory_in_its_place(tmp_path: Path) -> None:
    learner = fades(25, in_place=0.5)
    runs = [
        write_record(tmp_path / f"{shuffled}", learner, Layout(shuffled=shuffled, facts=20))
        for shuffled in (0, 1)
    ]
    values = score("loop_contrast", runs[0], {"shuffled": runs[1]})
    assert number(values["loop_contrast"]) == pytest.approx(0.5, abs=0.12)
    assert "not the variant" in values["loop_contrast.conflict"].reason
    assert "control 'shuffled'" in score("loop_contrast", runs[0])["loop_contrast"].reason


def test_cue_gain_is_less_the_twins(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        share = (
            {"none": 2, "own": 6, "other": 3}[ask.cue]
            if not ask.twin
            else {"none": 0, "own": 1, "other": 1}[ask.cue]
        )
        return Answer(ask.number < share)

    values = score("loop_contrast", write_record(tmp_path / "run", learner))
    assert number(values["loop_contrast.cued"]) == pytest.approx(4 / 8 - 1 / 8)
    assert number(values["loop_contrast.cued_other"]) == pytest.approx(1 / 8 - 1 / 8)


@pytest.mark.parametrize(("place", "expected", "own"), [(False, -1.0, 0.0), (True, 1.0, 1.0)])
def test_conflict_tells_place_from_recency(place: bool, expected: float, own: float, tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        return Answer(choice=ask.current if place and ask.current is not None else ask.trained_last)

    values = score("loop_contrast", write_record(tmp_path / "run", learner, Layout(conflict=True)))
    assert number(values["loop_contrast.conflict"]) == expected
    assert number(values["loop_contrast.conflict_own"]) == own


def documents(anticipates: float, noise: float, loops: int = 25) -> Learner:
    """Loss saturates with age and, in cyclic order, falls again before the next visit by a known share."""

    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        peak = (loops - 1) // 2
        loss = min(ask.age_visits, peak) / peak if ask.seen else 1.0
        if ask.seen and ask.age_visits > peak:
            loss -= anticipates * (ask.age_visits - peak) / (loops - 1 - peak)
        return Answer(loss=2 + loss + noise * random.standard_normal())

    return learner


def anticipatory(tmp_path: Path, share: float, noise: float, seed: int) -> float:
    layout = {"loops": 25, "facts": 1, "rest": 0, "documents": True}
    cyclic = write_record(tmp_path / f"c{seed}", documents(share, noise), Layout(**layout), seed=seed)  # type: ignore[arg-type]
    order = Layout(**layout, shuffled=True)  # type: ignore[arg-type]
    shuffled = write_record(tmp_path / f"s{seed}", documents(0, noise), order, seed=seed)
    return number(score("recovery", cyclic, {"shuffled": shuffled})["recovery"])


def test_recovery_is_zero_in_noise(tmp_path: Path) -> None:
    assert np.mean([anticipatory(tmp_path, 0.0, 0.3, seed) for seed in range(8)]) == pytest.approx(
        0, abs=0.06
    )


def test_recovery_finds_a_true_half(tmp_path: Path) -> None:
    assert np.mean([anticipatory(tmp_path, 0.5, 0.2, seed) for seed in range(6)]) == pytest.approx(
        0.5, abs=0.1
    )


def test_recovery_refuses_curves_that_do_not_rise(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        return Answer(loss=2 + 0.2 * random.standard_normal())

    run = write_record(tmp_path / "run", learner, Layout(loops=10, facts=1, rest=0, documents=True))
    assert score("recovery", run)["recovery.cyclic"].value is None


def noisy(curves: int, probes: int, phi: float, random: np.random.Generator) -> np.ndarray:
    noise = np.zeros((curves, probes))
    noise[:, 0] = random.standard_normal(curves)
    for t in range(1, probes):
        noise[:, t] = phi * noise[:, t - 1] + np.sqrt(1 - phi**2) * random.standard_normal(curves)
    return 3 * np.exp(-np.arange(probes) / 10) + 0.3 * noise


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_latent_revival_is_zero_in_correlated_noise(phi: float) -> None:
    random = np.random.default_rng(1)
    found = [excess_rise(noisy(32, 40, phi, random), random).mean() for _ in range(8)]
    assert np.mean(found) == pytest.approx(0, abs=0.05)


def test_latent_revival_finds_a_large_return(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        after = ask.rest_step or 0
        back = 3.0 * (ask.number % 3 == 0 and abs(after - 100 - 10 * ask.loop) < 6)
        return Answer(
            loss=-(3 * np.exp(-after / 50) + back + 0.3 * random.standard_normal()) / 2, best_other=0.0
        )

    values = score("latent_revival", write_record(tmp_path / "run", learner))
    assert number(values["latent_revival"]) > 0.1


def test_general_ability_and_cost(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", fades(10))
    general = score("general_ability", run)
    assert number(general["general_ability"]) == pytest.approx(0.4)
    assert number(general["general_ability.loops"]) == pytest.approx(0.2)
    cost = score("cost", run)
    assert [number(value) for value in cost.values()] == [40000, 400, 400, 3]


def test_new_loop_counts_exposures_and_the_drop(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        hurt = ask.trained_last == 4 and ask.loop < 4 and ask.number < 2
        return Answer(not ask.twin and ask.seen > 0 and not hurt)

    values = score("new_loop", write_record(tmp_path / "run", learner, Layout(added_loop=True)))
    assert number(values["new_loop"]) == 6
    assert number(values["new_loop.reached"]) == 1
    assert number(values["new_loop.drop"]) == pytest.approx(0.25)
    assert (
        "no loop was added" in score("new_loop", write_record(tmp_path / "plain", learner))["new_loop"].reason
    )
