"""`cosine_steer`: the target is reached exactly, the norm stays, and everything else stays as it was."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import carry_out, finish, installed, planned, results, rows, small_model

from seqmem import Experience, NotApplicable, Row, RunRecord, Strategy, UsageError
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.training.learner import Learner
from seqmem_plugins.metrics.update_cosine import seqmem_metric
from seqmem_plugins.strategies.cosine_steer import SPACES, CosineSteer, CosineSteerOptions

TARGETS = (-1, -0.9, -0.5, 0, 0.5, 0.9, 1)
TRAINED_TARGETS = (-1, 0, 0.9)
"""Targets of whole runs: an end, the middle, and one close to the other end."""
ADAM: dict[str, Any] = {}
SGD = {"optimizer.name": "sgd", "optimizer.lr": 0.5}
MOMENTUM = {**SGD, "optimizer.momentum": 0.9}
ARMS = {
    ("gradient", "adam"): ADAM,
    ("gradient", "sgd"): SGD,
    ("update", "adam"): ADAM,
    ("update", "adamw"): {"optimizer.name": "adamw", "optimizer.weight_decay": 0.1},
    ("update", "sgd"): SGD,
    ("moment", "adam"): ADAM,
    ("moment", "sgd"): MOMENTUM,
}
NO_PROBES = {"probing": "none"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


# -- vectors of two numbers, by hand -------------------------------------------------------------------


class Numbers(torch.nn.Module):
    """Parameters `x`, `y` and `z` of one number each, so that a vector lies across parameters."""

    def __init__(self) -> None:
        super().__init__()
        for name in "xyz":
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(1)))


def numbers(**settings: Any) -> Learner:
    return Learner(
        Numbers(), OptimizerSettings(**{"name": "sgd", "lr": 1.0, **settings}), torch.device("cpu"), seed=0
    )


def strategy_of(**options: Any) -> CosineSteer:
    checked = CosineSteerOptions(**options)
    return SPACES[checked.space](checked)


def visit(loop: int | None, phase: Any = "loop", trains: Any = "all") -> Experience:
    return Experience(0, f"loop {loop}", phase, loop, (), trains=trains)


def take_step(learner: Learner, strategy: Strategy, gradient: Sequence[float | None]) -> None:
    """The loop's step with this gradient; None for a parameter that has none."""
    for parameter, value in zip(learner.parameters.values(), gradient, strict=True):
        parameter.grad = None if value is None else torch.tensor([float(value)])
    strategy.transform_gradient(learner)
    before = learner.copy_parameters()
    learner.optimizer.step()
    strategy.transform_update(learner, before)
    strategy.after_step(learner, ())


def gradient_of(learner: Learner) -> list[float | None]:
    return [None if p.grad is None else float(p.grad) for p in learner.parameters.values()]


def values_of(learner: Learner) -> list[float]:
    return [float(p.detach()) for p in learner.parameters.values()]


def loop_of(learner: Learner, loop: int) -> list[float]:
    return [float(t) for t in learner.state[f"cosine_steer.loop {loop}"].values()]


@pytest.mark.parametrize(
    ("target", "gradient", "expected"),
    [
        (0.8, (3, 4), (4, 3)),
        (0.8, (3, -4), (4, -3)),  # it stays on its own side of the reference
        (-0.8, (3, 4), (-4, 3)),
        (0.6, (3, 4), (3, 4)),  # it had that angle already
        (0, (3, 4), (0, 5)),
        (1, (3, 4), (5, 0)),
        (-1, (3, 4), (-5, 0)),
        (1, (-5, 0), (5, 0)),  # along the reference every direction is known
        (0.28, (-3, -4), (1.4, -4.8)),
    ],
)
def test_two_numbers_are_turned_as_computed_by_hand(
    target: float, gradient: tuple[float, float], expected: tuple[float, float]
) -> None:
    learner, strategy = numbers(), strategy_of(target=target, space="gradient")
    strategy.before_experience(learner, visit(0))
    take_step(learner, strategy, (2, 0, None))
    assert gradient_of(learner) == [2, 0, None]  # no other loop yet
    assert strategy.measured() == {}
    strategy.before_experience(learner, visit(1))
    take_step(learner, strategy, (*gradient, None))
    assert gradient_of(learner)[:2] == pytest.approx(expected, abs=1e-6)
    measured = strategy.measured()
    assert measured["cosine_steer.cosine"] == pytest.approx(target, abs=1e-7)
    assert measured["cosine_steer.before"] == pytest.approx(gradient[0] / 5)
    assert measured["cosine_steer.norm"] == pytest.approx(1)
    projection = sum(a * b for a, b in zip(gradient, expected, strict=True)) / 25
    assert measured["cosine_steer.projection"] == pytest.approx(projection, abs=1e-7)
    assert measured["cosine_steer.unsteered"] == 0


def test_the_optimizers_step_is_turned_about_where_it_started() -> None:
    learner, strategy = numbers(), strategy_of(target=0.8, space="update")
    strategy.before_experience(learner, visit(0))
    take_step(learner, strategy, (-2, 0, 0))  # a step of (2, 0, 0)
    strategy.before_experience(learner, visit(1))
    take_step(learner, strategy, (-3, -4, 0))
    assert values_of(learner) == pytest.approx([2 + 4, 3, 0])


def test_the_moment_is_turned_after_the_step_and_the_next_step_starts_from_it() -> None:
    learner, strategy = numbers(momentum=0.5), strategy_of(target=0.8, space="moment")
    strategy.before_experience(learner, visit(0))
    take_step(learner, strategy, (2, 0, 0))
    learner.reset_moments()
    learner.use_moments("main")
    strategy.before_experience(learner, visit(1))
    started = values_of(learner)
    take_step(learner, strategy, (3, 4, 0))
    moment = [float(t) for t in learner.moments("main", "momentum_buffer").values()]
    assert moment == pytest.approx([4, 3, 0])
    assert values_of(learner) == pytest.approx(
        [started[0] - 3, started[1] - 4, 0]
    )  # this step was the optimizer's
    take_step(learner, strategy, (0, 0, 0))  # momentum alone: half of what was made of it
    assert values_of(learner) == pytest.approx([started[0] - 3 - 2, started[1] - 4 - 1.5, 0])
    # the means are of gradients, whatever became of the moment: (3, 4) and (0, 0), the later weighing more
    weight = 0.1 / (1 - 0.9**2)
    assert loop_of(learner, 1) == pytest.approx([3 * (1 - weight), 4 * (1 - weight), 0])


def test_parameters_without_a_gradient_are_outside() -> None:
    """The cosine is over what is trained: the reference's part in z, large as it is, counts for nothing."""
    learner, strategy = numbers(), strategy_of(target=0.8, space="gradient")
    strategy.before_experience(learner, visit(0))
    take_step(learner, strategy, (2, 0, 100))
    strategy.before_experience(learner, visit(1))
    take_step(learner, strategy, (3, 4, None))
    assert gradient_of(learner) == [pytest.approx(4), pytest.approx(3), None]
    assert loop_of(learner, 1) == [3, 4, 0]


@pytest.mark.parametrize("decay", [0, 0.5, 0.9, 1])
def test_a_running_mean_is_the_exponential_mean_of_what_was_not_steered(decay: float) -> None:
    learner, strategy = numbers(), strategy_of(target=-1, space="gradient", decay=decay)
    strategy.before_experience(learner, visit(0))
    take_step(learner, strategy, (1, 1, 0))
    gradients = [(1, 0, 0), (0, 3, 0), (5, 1, 0), (2, -4, 0)]
    strategy.before_experience(learner, visit(1))
    for gradient in gradients:
        take_step(learner, strategy, gradient)
        assert gradient_of(learner) != list(gradient)
    weights = np.array([decay**age if decay or not age else 0.0 for age in (3, 2, 1, 0)])
    expected = weights @ np.array(gradients) / weights.sum()
    assert loop_of(learner, 1) == pytest.approx(expected.tolist(), abs=1e-6)


def test_the_reference_is_the_mean_of_the_other_loops_and_holds_until_the_loop_is_left() -> None:
    learner, strategy = numbers(), strategy_of(space="gradient")
    for loop, gradient in enumerate([(1, 0, 0), (0, 5, 0), (0, 0, 3)]):
        strategy.before_experience(learner, visit(loop))
        take_step(learner, strategy, gradient)
    reference = learner.state["cosine_steer.reference"]
    assert [float(t) for t in reference.values()] == [0.5, 2.5, 0]
    take_step(learner, strategy, (7, 7, 7))
    assert [float(t) for t in reference.values()] == [0.5, 2.5, 0]
    strategy.before_experience(learner, visit(0))
    third = loop_of(learner, 2)
    assert [float(t) for t in reference.values()] == pytest.approx(
        [third[0] / 2, (5 + third[1]) / 2, third[2] / 2]
    )


def test_the_null_is_the_cosine_with_the_loops_own_mean_so_far() -> None:
    learner, strategy = numbers(), strategy_of(space="gradient", decay=1)
    strategy.before_experience(learner, visit(0))
    take_step(learner, strategy, (1, 0, 0))
    assert strategy.measured() == {}
    take_step(learner, strategy, (0, 1, 0))
    assert strategy.measured() == {"cosine_steer.within": 0}
    take_step(learner, strategy, (3, 4, 0))  # the mean so far is (.5, .5)
    assert strategy.measured() == {"cosine_steer.within": pytest.approx(7 / (5 * math.sqrt(2)))}


def test_of_moments_no_null_is_measured_on_gradients(model: Path, tmp_path: Path) -> None:
    learner, strategy = numbers(momentum=0.5), strategy_of(target=0.8, space="moment")
    strategy.before_experience(learner, visit(0))
    for _ in range(2):
        take_step(learner, strategy, (2, 0, 0))
        assert strategy.measured() == {}
    strategy.before_experience(learner, visit(1))
    told_of = {f"cosine_steer.{name}" for name in ("before", "cosine", "norm", "projection", "unsteered")}
    for _ in range(2):
        take_step(learner, strategy, (3, 4, 0))
        assert strategy.measured().keys() == told_of
    for space in SPACES:
        run = planned(model, "cosine_steer", {"strategy.space": space}, **NO_PROBES)
        found = scores(finish(run, tmp_path / space))
        assert (found["update_cosine.null"] is None) == (space == "moment")
        assert found["update_cosine.before"] is not None


@pytest.mark.parametrize(
    ("first", "second", "target", "known"),
    [
        ((2, 0, 0), (3, 0, 0), 0.5, {"before": 1.0}),  # along the reference: nowhere to turn
        ((2, 0, 0), (-3, 0, 0), 0.5, {"before": -1.0}),
        ((2, 0, 0), (3, 0.02, 0), 0, {"before": pytest.approx(1, abs=1e-4)}),  # all but along it
        ((2, 0, 0), (0, 0, 0), 1, {}),
        ((0, 0, 0), (3, 4, 0), 1, {}),
    ],
)
def test_a_step_that_cannot_be_turned_is_left_alone_and_counted(
    first: Sequence[float], second: Sequence[float], target: float, known: Mapping[str, Any]
) -> None:
    learner, strategy = numbers(), strategy_of(target=target, space="gradient")
    strategy.before_experience(learner, visit(0))
    take_step(learner, strategy, first)
    strategy.before_experience(learner, visit(1))
    take_step(learner, strategy, second)
    assert gradient_of(learner) == [pytest.approx(value) for value in second]
    expected = {"unsteered": 1.0, **known}
    assert strategy.measured() == {f"cosine_steer.{name}": value for name, value in expected.items()}


@pytest.mark.parametrize(
    "rest", [visit(None, "rest"), visit(1, "rest"), visit(1, "general"), visit(1, trains="none")]
)
def test_nothing_is_steered_averaged_or_measured_outside_loops(rest: Experience) -> None:
    learner, strategy = numbers(), strategy_of(target=-1, space="gradient")
    strategy.before_experience(learner, visit(0))
    take_step(learner, strategy, (2, 0, 0))
    kept = {name: tensor.clone() for name, tensor in learner.state.tensors().items()}
    strategy.before_experience(learner, rest)
    for parameter in learner.parameters.values():
        parameter.grad = torch.ones(1)
    strategy.transform_gradient(learner)
    assert gradient_of(learner) == [1, 1, 1]
    assert strategy.measured() == {}
    assert all(torch.equal(learner.state.tensors()[name], tensor) for name, tensor in kept.items())
    assert learner.state.tensors().keys() == kept.keys()


@pytest.mark.parametrize("sine", [0.011, 0.1])
@pytest.mark.parametrize("target", TARGETS)
def test_the_norm_is_kept_close_to_the_reference_too(sine: float, target: float) -> None:
    """The limit below which nothing is turned holds: where g and r all but coincide the turn divides by little."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.nn.Linear(300, 300, bias=False)
    learner = Learner(wide, OptimizerSettings(name="sgd"), torch.device("cpu"), seed=0)
    strategy = strategy_of(target=target, space="gradient")
    first, noise = (torch.randn(300, 300, generator=generator) for _ in range(2))
    along = first / first.norm()
    across = noise - (noise * along).sum() * along
    gradient = math.sqrt(1 - sine**2) * along + sine * across / across.norm()
    for loop, each in enumerate((first, gradient)):
        strategy.before_experience(learner, visit(loop))
        wide.weight.grad = each.clone()
        strategy.transform_gradient(learner)
    made, r, g = wide.weight.grad.double(), first.double(), gradient.double()
    assert float((made * r).sum() / made.norm() / r.norm()) == pytest.approx(target, abs=1e-5)
    assert float(made.norm() / g.norm()) == pytest.approx(1, abs=1e-5)


# -- whole runs -----------------------------------------------------------------------------------------


def measured(record: RunRecord) -> pd.DataFrame:
    table = record.measured.pivot(index="step", columns="name", values="value")
    return table.rename(columns=lambda name: name.removeprefix("cosine_steer."))


@pytest.mark.parametrize(("space", "optimizer"), ARMS)
def test_every_target_is_reached_with_the_norm_unchanged_and_learns_otherwise(
    space: str, optimizer: str, model: Path, tmp_path: Path
) -> None:
    arm = {**ARMS[space, optimizer], "scenario.rest_steps": 2}
    naive = finish(planned(model, "naive", arm, **NO_PROBES), tmp_path / "naive")
    weights = {naive.info["final_weights"]}
    for target in TRAINED_TARGETS:
        options = {**arm, "strategy.space": space, "strategy.target": target}
        record = finish(planned(model, "cosine_steer", options, **NO_PROBES), tmp_path / str(target))
        table = measured(record).dropna(subset="unsteered")
        loops = record.experiences[record.experiences["phase"] == "loop"]
        assert len(table) == loops["steps"].iloc[1:].sum()  # all but the first visit
        assert not table["unsteered"].any()
        assert (table["cosine"] - target).abs().max() < 1e-3
        assert (table["norm"] - 1).abs().max() < 1e-5
        assert (
            record.measured.loc[record.measured["name"] != "cosine_steer.projection", "value"].abs().max()
            < 1.001
        )
        for name in ("cosine", "before", *(["within"] if space != "moment" else [])):
            assert table[name].abs().max() <= 1
        assert (table["before"] - target).abs().min() > 1e-3  # there was something to do
        weights.add(record.info["final_weights"])
    assert len(weights) == 1 + len(TRAINED_TARGETS)


def test_what_is_measured_is_what_happened(model: Path) -> None:
    """Cosine, norm and projection computed here, from copies of all parameters around the steps of a real model."""
    from transformers import AutoModelForCausalLM

    from seqmem import Example

    learner = Learner(
        AutoModelForCausalLM.from_pretrained(model),
        OptimizerSettings(name="adam"),
        torch.device("cpu"),
        seed=0,
    )
    strategy = strategy_of(target=-0.5, space="update")
    draw = np.random.default_rng(0)
    for loop, _ in itertools.product((0, 1), range(2)):
        strategy.before_experience(learner, visit(loop))
        rows = [Example(draw.integers(0, 50, 12).astype(np.int32), np.ones(12, bool)) for _ in range(2)]
        learner.loss(rows)[0].backward()
        before = learner.copy_parameters()
        start = flat(learner.parameters)
        learner.optimizer.step()
        wanted = flat(learner.parameters) - start
        strategy.transform_update(learner, before)
        made = flat(learner.parameters) - start
        learner.optimizer.zero_grad()
    reference = flat(learner.state["cosine_steer.reference"])
    found = strategy.measured()
    assert found["cosine_steer.cosine"] == pytest.approx(cosine(made, reference), abs=1e-7)
    assert found["cosine_steer.before"] == pytest.approx(cosine(wanted, reference), abs=1e-6)
    assert found["cosine_steer.norm"] == pytest.approx(float(made.norm() / wanted.norm()), abs=1e-6)
    projection = float(made @ wanted / (wanted @ wanted))
    assert found["cosine_steer.projection"] == pytest.approx(projection, abs=1e-6)
    assert cosine(made, reference) == pytest.approx(-0.5, abs=1e-3)


def flat(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors.values()])


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one @ other / one.norm() / other.norm())


@pytest.mark.parametrize("space", SPACES)
def test_a_run_stopped_inside_a_loop_goes_on_as_if_it_never_was(
    space: str, model: Path, tmp_path: Path
) -> None:
    options = {"strategy.space": space, "strategy.target": -0.5, "scenario.rest_steps": 2}
    run = planned(model, "cosine_steer", options, **NO_PROBES)
    whole, folder, stops = finish(run, tmp_path / "whole"), tmp_path / "stopped", (5, 9)
    for number, steps in enumerate(stops):  # inside the second loop's first visit, and the first one's second
        asked = itertools.count(1 + stops[number - 1] * bool(number))
        stopped = carry_out(run, folder, should_stop=lambda: next(asked) >= steps, resume=bool(number))  # noqa: B023
        assert stopped[-1]["event"] == "stopped"
    resumed = finish(run, folder, resume=True)
    assert results(resumed) == results(whole)
    for name, table in rows(folder).items():
        pd.testing.assert_frame_equal(table, rows(tmp_path / "whole")[name], check_exact=True)
    pd.testing.assert_frame_equal(resumed.measured, whole.measured, check_exact=True)


@pytest.mark.parametrize(
    ("space", "options"),
    [
        ("gradient", {"scenario.loops": 3}),
        ("update", {"scenario.new_loop": 1}),
        ("moment", {"scenario.rest": "none"}),
        ("update", SGD),
    ],
)
def test_the_plan_states_to_the_byte_what_the_run_keeps(
    space: str, options: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    run = planned(model, "cosine_steer", {**options, "strategy.space": space}, **NO_PROBES)
    record = finish(run, tmp_path / "run")
    loops = options.get("scenario.loops", 2) + options.get("scenario.new_loop", 0)
    models = loops + 1 + (space == "update")  # of an update the host keeps where it started
    assert record.info["extra_state_bytes"] == run.extra_bytes == models * record.info["parameter_bytes"]


def test_where_there_are_no_loops_nothing_is_kept(model: Path) -> None:
    request = Request(
        scenario=("fact_injection",),
        strategy=("cosine_steer",),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        set=("strategy.space=gradient",),
        reference=False,
        controls=False,
        device="cpu",
    )
    (run,) = plan(request, installed()).runs.values()
    assert run.extra_bytes == 0


def test_bfloat16_is_planned_right_and_its_gradients_are_turned_to_the_target(
    model: Path, tmp_path: Path
) -> None:
    options = {"strategy.space": "gradient", "strategy.target": 0.5}
    run = planned(model, "cosine_steer", options, precision="bfloat16", **NO_PROBES)
    record = finish(run, tmp_path / "run")
    assert record.info["extra_state_bytes"] == run.extra_bytes
    assert (measured(record)["cosine"] - 0.5).abs().max() < 1e-3


@pytest.mark.parametrize("target", ["-1.01", "1.5", "nan", "up"])
def test_a_target_outside_is_one_line(target: str, model: Path) -> None:
    with pytest.raises(UsageError) as refused:
        planned(model, "cosine_steer", {"strategy.target": target})
    message = str(refused.value)
    assert "target" in message and target in message and "\n" not in message
    if target != "up":
        assert "1" in message.replace(target, "")  # says what is allowed


def test_a_moment_that_is_not_there_is_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="sgd without momentum has none.*optimizer.momentum=0.9") as refused:
        planned(model, "cosine_steer", {**SGD, "strategy.space": "moment"})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("space", ("update", "moment"))
def test_it_goes_together_with_replay_and_with_moments_per_loop(
    space: str, model: Path, tmp_path: Path
) -> None:
    options = {"strategy.cosine_steer.target": -0.5, "strategy.cosine_steer.space": space}
    for strategy in ("cosine_steer+replay", "moment_avg+cosine_steer"):
        record = finish(planned(model, strategy, options, **NO_PROBES), tmp_path / strategy)
        assert (measured(record)["cosine"] + 0.5).abs().max() < 1e-3
        assert scores(record)["update_cosine.miss"] < 1e-3  # finds the target where a composition holds it
        other = strategy.replace("cosine_steer", "").strip("+")
        alone = finish(planned(model, other, {}, **NO_PROBES), tmp_path / other)
        assert record.info["final_weights"] != alone.info["final_weights"]
    replayed = RunRecord.open(tmp_path / "cosine_steer+replay")
    assert replayed.steps["rehearsed"].any()


# -- the metric -----------------------------------------------------------------------------------------


def scores(record: RunRecord) -> dict[str, float | None]:
    (spec,) = seqmem_metric()
    found = spec.compute(record, {})
    assert list(found) == [measure.name for measure in spec.measures]
    return {name: value.value for name, value in found.items()}


def told(tmp_path: Path, **columns: Sequence[float | None]) -> RunRecord:
    """A record of two visits to two loops and a rest whose strategy measured these numbers, step by step."""
    record = RunRecord(tmp_path, {"recipe": {"strategy": {"options": {"target": 0.5}}}})
    measured = [
        (step, f"cosine_steer.{name}", value)
        for name, values in columns.items()
        for step, value in enumerate(values, start=1)
        if value is not None
    ]
    record.__dict__["measured"] = pd.DataFrame(measured, columns=["step", "name", "value"]).astype(
        {"name": "str"}
    )
    record.__dict__["experiences"] = pd.DataFrame(
        {
            "phase": ["loop", "loop", "rest"],
            "task_label": [0, 1, None],
            "trains": ["all", "all", "all"],
            "steps": [2, 3, 5],
        }
    )
    return record


def test_the_metric_reads_what_was_measured(tmp_path: Path) -> None:
    record = told(
        tmp_path,
        within=(None, 0.9, None, 0.7, 0.5),
        before=(None, None, 0.1, 0.3, 1.0),
        cosine=(None, None, 0.5, 0.52, None),
        norm=(None, None, 1.0, 0.98, None),
        projection=(None, None, -0.6, -0.2, None),
        unsteered=(None, None, 0, 0, 1),
    )
    assert scores(record) == {
        "update_cosine": pytest.approx(0.51),
        "update_cosine.before": pytest.approx(1.4 / 3),
        "update_cosine.null": pytest.approx(0.7),
        "update_cosine.miss": pytest.approx(0.02),
        "update_cosine.stretch": pytest.approx(0.02),
        "update_cosine.projection": pytest.approx(-0.4),
        "update_cosine.ascent": 1.0,
        "update_cosine.steered": pytest.approx(2 / 5),
    }


def test_a_single_loop_has_a_null_and_no_cosine(tmp_path: Path) -> None:
    found = scores(told(tmp_path, within=(None, 0.9)))
    assert found.pop("update_cosine.null") == 0.9
    assert found.pop("update_cosine.steered") == 0
    assert set(found.values()) == {None}


def test_there_is_nothing_to_score_where_nothing_was_measured(model: Path, tmp_path: Path) -> None:
    record = finish(planned(model, "naive", {"scenario.cycles": 1}, **NO_PROBES), tmp_path / "naive")
    with pytest.raises(NotApplicable, match="measures no cosine"):
        scores(record)


def test_the_figure_shows_loss_and_recall_against_the_target(model: Path, tmp_path: Path) -> None:
    rows = []
    for optimizer, settings in (("adam", ADAM), ("sgd", SGD)):
        for target in (None, -0.5, 0.5):
            name = "naive" if target is None else "cosine_steer"
            swept: dict[str, Any] = {"optimizer.name": optimizer}
            if target is not None:
                swept["strategy.target"] = target
            options = {**settings, **({} if target is None else {"strategy.target": target})}
            label = f"{name} {target} {optimizer}"
            record = finish(planned(model, name, options), tmp_path / label)
            rows.append(Row(label, {"strategy": name}, {0: record}, swept=swept))
    (spec,) = seqmem_metric()
    assert spec.draw is not None
    figure = spec.draw(rows)
    assert figure is not None
    assert len(figure.axes) == 4  # loss and recall, at the end of the loops and of the rest
    for axis in figure.axes:
        lines = {str(line.get_label()): line for line in axis.get_lines()}
        assert set(lines) == {
            "cosine_steer optimizer.name=adam",
            "cosine_steer optimizer.name=sgd",
            "naive None adam",
            "naive None sgd",
        }
        for optimizer in ("adam", "sgd"):
            steered, level = (
                lines[f"cosine_steer optimizer.name={optimizer}"],
                lines[f"naive None {optimizer}"],
            )
            assert list(steered.get_xdata()) == [-0.5, 0.5]
            assert steered.get_color() == level.get_color()
    asked = rows[1].runs[0].asked(schedule="boundary")
    last = asked[asked["step"] == asked["step"].max()]
    loss = float((-last["logprob"] / last["tokens"]).mean())
    shown = figure.axes[1].get_lines()[0].get_ydata()
    assert float(np.asarray(shown)[0]) == pytest.approx(loss)
    assert spec.draw([rows[0], rows[1]]) is None  # one target does not make a line
    assert spec.draw([rows[0]]) is None
