from __future__ import annotations

import gc
import importlib
import warnings
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from helpers_records import Answer, Ask, Layout, Learner, write_record

from seqmem import MetricSpec, NotApplicable, RunRecord, Value
from seqmem.reading import Missing, first_exposures, questions, scheduled
from seqmem_plugins.metrics._half_life import Fits, fit_half_lives
from seqmem_plugins.metrics.latent_revival import rise_read_elsewhere

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
    "layout",
    [
        Layout(),
        Layout(documents=True, facts=1, rest=0),
        Layout(cycles=1, rest=0),
        Layout(joint=True),
        Layout(joint=True, documents=True, rest=0),
        Layout(rehearsed=8),
        Layout(added_loop=True, cycles=2),
    ],
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
    assert number(score("retention", run)["retention.half_life"]) == pytest.approx(np.log10(200))
    assert number(score("retention", run)["retention.censored"]) == 1


def test_accuracies_of_a_memory_of_one_visit(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", fades(0.1))
    assert number(score("average_accuracy", run)["average_accuracy"]) == 0
    assert number(score("learning_accuracy", run)["learning_accuracy"]) == 1
    assert number(score("forgetting", run)["forgetting"]) == 1
    assert number(score("backward_transfer", run)["backward_transfer"]) == -1


def test_facts_of_no_loop_are_none_of_the_items(tmp_path: Path) -> None:
    """As the group `never` of `fact_injection`, which is asked beside the groups that are trained."""
    run = write_record(tmp_path / "run", fades(1e9))
    labels = run.items["task_label"]
    vars(run)["items"] = run.items.assign(task_label=labels.where(labels != 3))
    assert score("average_accuracy", run)["average_accuracy"] == Value(1.0, 24)


def test_half_life_of_the_rest_is_found(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        rank = (ask.loop * 50 + ask.number + 0.5) / 200
        return Answer(not ask.twin and rank < 2 ** (-(ask.rest_step or 0) / 60))

    run = write_record(tmp_path / "run", learner, Layout(facts=50))
    values = score("retention", run)
    assert number(values["retention"]) == pytest.approx(2 ** (-200 / 60), abs=0.01)
    assert 10 ** number(values["retention.half_life"]) == pytest.approx(60, rel=0.03)
    assert number(values["retention.censored"]) == 0
    low, high = (number(values[f"retention.half_life_{end}"]) for end in ("low", "high"))
    assert np.log10(40) < low < np.log10(60) < high < np.log10(90)


def test_fit_prefers_the_form_that_made_the_curve() -> None:
    steps = np.unique(np.geomspace(1, 1000, 15).astype(int)).astype(float)
    made = [
        0.8 * np.exp(-steps / 100),
        0.8 * (1 + steps) ** -0.3,
        0.9 - 0.2 * np.log10(1 + steps),
        0.5 + 0.01 * (-1) ** np.arange(len(steps)),
    ]
    found = fit_half_lives(steps, np.array(made))
    assert found.name.tolist() == ["exponential", "power", "log-linear", "constant"]
    assert found.half_life[:2] == pytest.approx([100 * np.log(2), 2 ** (1 / 0.3) - 1], rel=1e-3)
    assert found.half_life[2] == pytest.approx(10 ** (0.45 / 0.2) - 1, rel=1e-3)
    assert np.isinf(found.half_life[3])


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
    assert number(values["loop_contrast.cyclic"]) == pytest.approx(0.5, abs=0.12)
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


def anticipatory(tmp_path: Path, share: float, noise: float, seed: int, measure: str = "recovery") -> float:
    layout = {"loops": 25, "facts": 1, "rest": 0, "documents": True}
    cyclic = write_record(tmp_path / f"c{seed}", documents(share, noise), Layout(**layout), seed=seed)  # type: ignore[arg-type]
    order = Layout(**layout, shuffled=True)  # type: ignore[arg-type]
    shuffled = write_record(tmp_path / f"s{seed}", documents(0, noise), order, seed=seed)
    return number(score("recovery", cyclic, {"shuffled": shuffled})[measure])


def test_recovery_is_zero_in_noise(tmp_path: Path) -> None:
    assert np.mean([anticipatory(tmp_path, 0.0, 0.3, seed) for seed in range(8)]) == pytest.approx(
        0, abs=0.06
    )


def test_recovery_finds_a_true_half_of_one_nat(tmp_path: Path) -> None:
    found = [anticipatory(tmp_path, 0.5, 0.2, seed) for seed in range(6)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)
    share = [anticipatory(tmp_path, 0.5, 0.2, seed, "recovery.share") for seed in range(6, 12)]
    assert np.mean(share) == pytest.approx(0.5, abs=0.1)
    lost = [anticipatory(tmp_path, 0.5, 0.2, seed, "recovery.forgotten") for seed in range(12, 18)]
    assert np.mean(lost) == pytest.approx(1.0, abs=0.1)


def test_where_nothing_is_forgotten_recovery_is_nothing_and_its_share_is_undefined(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        return Answer(loss=2 + 0.2 * random.standard_normal())

    layouts = (Layout(loops=25, facts=1, rest=0, documents=True, shuffled=order) for order in (False, True))
    run, other = (write_record(tmp_path / f"{i}", learner, layout) for i, layout in enumerate(layouts))
    values = score("recovery", run, {"shuffled": other})
    assert abs(number(values["recovery"])) < 0.5
    assert values["recovery.share"].value is None or abs(number(values["recovery.forgotten"])) < 0.5


@pytest.mark.parametrize("loss", [2.0, 0.0])
def test_recovery_of_flat_curves_divides_by_nothing(loss: float, tmp_path: Path) -> None:
    layout = Layout(loops=10, facts=1, rest=0, documents=True)
    run = write_record(tmp_path / "run", lambda ask, random: Answer(loss=loss), layout)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = score("recovery", run, {"shuffled": run})
    assert number(values["recovery"]) == number(values["recovery.cyclic"]) == 0
    assert "does not rise" in values["recovery.share"].reason


def fading(random: np.random.Generator, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Curves of 64 facts of 4 loops over 13 probes that decay by 3 nats, and the loop of each."""
    return 3 * np.exp(-np.arange(13) / 10) + noise, np.repeat(np.arange(4), 16)


NOISES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "normal": lambda random: 0.3 * random.standard_normal((64, 13)),
    "heavy": lambda random: 0.3 * random.standard_t(3, (64, 13)),
    "uneven": lambda random: 0.3 * np.exp(random.standard_normal((64, 1))) * random.standard_normal((64, 13)),
    "of loops": lambda random: 0.3 * np.repeat(random.standard_normal((4, 13)), 16, axis=0),
}


@pytest.mark.parametrize("kind", NOISES)
def test_latent_revival_is_not_above_zero_in_any_noise(kind: str) -> None:
    random = np.random.default_rng(1)
    found = [rise_read_elsewhere(*fading(random, NOISES[kind](random))) for _ in range(40)]
    assert np.mean(found) < 2 * np.std(found) / np.sqrt(40)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize(("share", "size"), [(1.0, 2.0), (1 / 3, 3.0)])
def test_latent_revival_finds_a_known_return(kind: str, share: float, size: float) -> None:
    random, found = np.random.default_rng(2), []
    for _ in range(20):
        curves, loops = fading(random, NOISES[kind](random))
        curves[random.random(64) < share, random.integers(4, 11) :] += size
        found.append(rise_read_elsewhere(curves, loops))
    assert 0.5 * share * size < np.mean(found) < share * size


def revives(ask: Ask, random: np.random.Generator) -> Answer:
    """All facts come back by 3 nats in the second half of the rest; twins rise by 1, as in a model that is mended."""
    after = ask.rest_step or 0
    back = 3.0 * (after > 80) if not ask.twin else 0.0
    known = 3 * np.exp(-after / 50) if not ask.twin else 0.0
    mended = after / 160
    return Answer(loss=-(known + back + mended + 0.3 * random.standard_normal()) / 2, best_other=0.0)


def test_latent_revival_of_a_record_is_read_over_its_twins(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", revives, Layout(even=13, facts=16))
    value = score("latent_revival", run)["latent_revival"]
    assert value.n_items == 64
    assert 1.5 < number(value) < 3.2

    def mends(ask: Ask, random: np.random.Generator) -> Answer:
        return Answer(loss=-(ask.rest_step or 0) / 50 - 0.1 * random.standard_normal(), best_other=0.0)

    mended = write_record(tmp_path / "mended", mends, Layout(even=13, facts=16))
    assert abs(number(score("latent_revival", mended)["latent_revival"])) < 0.2


def test_latent_revival_leaves_out_what_is_trained_in_the_rest(tmp_path: Path) -> None:
    some = score("latent_revival", write_record(tmp_path / "some", revives, Layout(rehearsed=6)))
    assert some["latent_revival"].n_items == 4 * 2
    few = score("latent_revival", write_record(tmp_path / "few", revives, Layout(loops=2, rehearsed=7)))
    assert (
        "2 curves of 40 even probes with a twin's (14 facts are trained again" in few["latent_revival"].reason
    )
    for name, layout in (("all", Layout(rehearsed=8)), ("joint", Layout(joint=True))):
        value = score("latent_revival", write_record(tmp_path / name, revives, layout))["latent_revival"]
        assert value.value is None and "trained again during the rest" in value.reason


def test_retention_counts_what_is_rehearsed_in_the_rest(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        return Answer(not ask.twin and (ask.number < 4 or not ask.rest_step))

    value = score("retention", write_record(tmp_path / "run", learner, Layout(rehearsed=4)))["retention"]
    assert value == Value(0.5, 32)


def test_joint_has_recall_but_no_visits(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        return Answer(not ask.twin and ask.number < (6 if ask.rest_step == 0 else 4), 2.0, best_other=-2.0)

    runs = [
        write_record(tmp_path / order, learner, Layout(joint=True, shuffled=order == "shuffled"))
        for order in ("cyclic", "shuffled")
    ]
    values = {}
    for name in NAMES:
        values |= score(name, runs[0], {"shuffled": runs[1]})
    assert number(values["average_accuracy"]) == number(values["retention"]) == 0.5
    assert 0.5 < number(values["retention.auc"]) < 0.6
    assert number(values["twin_recall"]) == 0
    assert number(values["general_ability.loops"]) == pytest.approx(0.2)
    for name in (
        "learning_accuracy backward_transfer forgetting loop_contrast recovery recovery.cyclic "
        "recovery.forgotten recovery.share new_loop new_loop.reached new_loop.drop"
    ).split():
        assert values[name].reason == "no loop is visited on its own in this stream"


def test_recovery_refuses_infinite_losses(tmp_path: Path) -> None:
    layout = Layout(loops=10, facts=1, rest=0, documents=True)
    run = write_record(tmp_path / "run", lambda ask, random: Answer(loss=float("inf")), layout)
    assert "infinite" in score("recovery", run)["recovery.cyclic"].reason


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


def test_new_loop_is_told_by_its_name_in_a_single_cycle(tmp_path: Path) -> None:
    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        return Answer(not ask.twin and ask.seen > 0)

    run = write_record(tmp_path / "run", learner, Layout(cycles=1, added_loop=True))
    assert number(score("new_loop", run)["new_loop"]) == 6


def test_new_loop_counts_no_answer_from_before_training_and_no_single_one(tmp_path: Path) -> None:
    """One of every four facts is recalled for good; the others are right before training, once after it, or both."""

    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        before = ask.seen == 0
        once = ask.seen == 1 and ask.age == 0
        return Answer(not ask.twin and [before, once, before or once, ask.seen > 0][ask.number % 4])

    run = write_record(tmp_path / "run", learner, Layout(added_loop=True))
    values = score("new_loop", run)
    assert number(values["new_loop.reached"]) == 0.25
    assert values["new_loop"].reason == "6 of the 8 added facts were not recalled after they had been trained"


def test_new_loop_needs_two_answers_after_its_training(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", fades(1e9), Layout(cycles=1, added_loop=True, rest=0))
    values = score("new_loop", run)
    assert all(
        "asked 1 time(s), 2 are needed" in values[name].reason for name in ("new_loop", "new_loop.reached")
    )


def in_conflict(run: RunRecord) -> RunRecord:
    """As `conflict` states it: every fact where a loop's own are, and all are rehearsed as a visit begins."""
    facts = run.items.loc[run.items["twin_of"].isna() & run.items["task_label"].notna(), "fact"].unique()
    visits = run.experiences[run.experiences["phase"] == "loop"]
    rows = [
        pd.MultiIndex.from_product([steps, facts, [1], [again]], names=run.exposures.columns).to_frame(
            index=False
        )
        for steps, again in ((visits["first_step"] + 1, 1), (run.exposures["step"].unique(), 0))
    ]
    vars(run)["exposures"] = pd.concat(rows, ignore_index=True)
    return run


@pytest.mark.parametrize("shuffled", [False, True])
def test_in_conflict_a_fact_counts_from_its_own_loops_statement_on(shuffled: bool, tmp_path: Path) -> None:
    layout = Layout(conflict=True, cycles=2, shuffled=shuffled)
    run = in_conflict(write_record(tmp_path / "run", fades(1e9), layout))
    for name in ("initial_recall", "anytime_accuracy"):
        assert score(name, run)[name] == Value(1.0, 32)
    # as in `own`: four steps of prose, then six that state the facts
    found = score("initial_recall", run)
    assert (number(found["initial_recall.lag"]), number(found["initial_recall.exposures"])) == (5, 6)
    with pytest.raises(NotApplicable, match="by itself"):
        score("interference", run)


def test_in_conflict_joint_counts_from_the_first_statement(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", fades(1e9), Layout(conflict=True, joint=True))
    first = first_exposures(run)
    assert len(first) == 32 and (first == 1).all()


def test_the_half_lifes_interval_is_over_facts_asked_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts resampled without one that was asked throughout would leave a step without recall."""
    layout = Layout(loops=2, facts=2)
    run = write_record(tmp_path / "run", fades(50), layout)
    asked, log = run.probes, scheduled(run.probes, "log")
    fitted: list[int] = []

    def counted(steps: npt.NDArray[np.float64], recall: npt.NDArray[np.float64]) -> Fits:
        fitted.append(len(recall))
        return fit_half_lives(steps, recall)

    monkeypatch.setattr("seqmem_plugins.metrics.retention.fit_half_lives", counted)
    for left_out, items in (([], 4), (["f0.0"], 3), (["f0.0", "f0.1", "f1.0"], 0)):
        part = RunRecord(run.folder, run.info)
        vars(part)["probes"] = asked[~(log & asked["fact"].isin(left_out))].reset_index(drop=True)
        values = score("retention", part)
        assert values["retention"].value is not None and values["retention.half_life"].value is not None
        ends = [values[f"retention.half_life_{end}"] for end in ("low", "high")]
        assert [end.n_items for end in ends] == [items] * 2
    assert "1 of the facts were asked at every step" in ends[0].reason
    assert sum(curves > 1 for curves in fitted) == 2  # both ends from one set of fits


def test_what_metrics_keep_of_a_record_goes_with_it(tmp_path: Path) -> None:
    """Measures share what they read; a long calibration must not hold every record it has scored."""
    run = write_record(tmp_path / "run", fades(20.0), Layout())
    for name in NAMES:
        score(name, run)
    for _ in range(2):
        with pytest.raises(Missing, match="no probe of facts on the schedule 'never'"):
            questions(run, "never")
    alive = weakref.ref(run)
    del run
    gc.collect()
    assert alive() is None


def test_a_caller_may_add_columns_to_what_metrics_share(tmp_path: Path) -> None:
    run = write_record(tmp_path / "run", fades(20.0), Layout())
    first = questions(run)
    first["mine"] = 1
    assert "mine" not in questions(run) and len(questions(run)) == len(first)
