"""`multi_lr`: shares of the parameters at rates of their own, exact to one optimizer per rate; and by frequency."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import Kind, make_model_folder, neox
from small_runs import carry_out, finish, planned, results, rows, small_model
from torch.nn import Parameter

from seqmem import Example, Experience, Strategy, UsageError
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.grid import PlannedRun
from seqmem.record.reader import RunRecord
from seqmem.training.learner import Learner
from seqmem_plugins.strategies.multi_lr import MultiLr, MultiLrOptions, apportion, draw_levels

GRANULARITIES = ("element", "row", "tensor", "block")
ROUGH = {"strategy.rates": [3, 1], "strategy.shares": [0.3, 0.7]}
"""Levels that five groups of a small model can be divided into."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def options_of(**values: Any) -> MultiLrOptions:
    return MultiLrOptions.model_validate(values)


def learner_of(settings: OptimizerSettings, seed: int = 0) -> Learner:
    return Learner(neox(), settings, torch.device("cpu"), seed)


@functools.cache
def rows_at(step: int) -> tuple[Example, ...]:
    draw = np.random.default_rng(step)
    mask = np.ones(16, np.bool_)
    return tuple(Example(draw.integers(0, 64, 16).astype(np.int32), mask) for _ in range(4))


def begin(learner: Learner, strategy: Strategy) -> None:
    """The first experience of a run."""
    strategy.setup(learner)
    strategy.before_experience(learner, Experience(0, "loop 0", "loop", 0, ()))


def train(learner: Learner, strategy: Strategy, steps: int) -> None:
    """The loop's step as far as it matters here."""
    for _ in range(steps):
        loss, _, _ = learner.loss(rows_at(learner.step))
        loss.backward()
        before = learner.copy_parameters()
        learner.optimizer.step()
        strategy.transform_update(learner, before)
        learner.optimizer.zero_grad(set_to_none=True)
        learner.step += 1


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in learner.parameters.items()}


# -- rates: exact ---------------------------------------------------------------------------------------

SETTINGS = {
    "adam": OptimizerSettings(name="adam", lr=1e-3),
    "adamw with decay": OptimizerSettings(name="adamw", lr=1e-3, weight_decay=0.1),
    "sgd with momentum": OptimizerSettings(name="sgd", lr=0.02, momentum=0.9, weight_decay=0.01),
}


def one_optimizer_per_rate(settings: OptimizerSettings, rates: Any, levels: Any, steps: int) -> Any:
    """Each rate has an optimizer of its own over all parameters; each element keeps what its own level's did."""
    learner = learner_of(settings)
    optimizers = []
    for rate in rates:
        scaled = settings.model_copy(update={"lr": settings.lr * rate})
        twin = Learner(learner.model, scaled, torch.device("cpu"), 0)
        optimizers.append(twin.optimizer)
    for step in range(steps):
        loss, _, _ = learner.loss(rows_at(step))
        loss.backward()
        start = weights(learner)
        ends = []
        for optimizer in optimizers:
            with torch.no_grad():
                for name, parameter in learner.parameters.items():
                    parameter.copy_(start[name])
            optimizer.step()
            ends.append(weights(learner))
        with torch.no_grad():
            for name, parameter in learner.parameters.items():
                for level, end in enumerate(ends):
                    mask = levels[name] == level
                    parameter[mask] = end[name][mask]
        learner.optimizer.zero_grad(set_to_none=True)
    return weights(learner)


@pytest.mark.parametrize("optimizer", SETTINGS)
def test_element_rates_equal_one_optimizer_per_rate(optimizer: str) -> None:
    settings, options = SETTINGS[optimizer], options_of()
    learner, strategy = learner_of(settings), MultiLr(options)
    start = weights(learner)
    begin(learner, strategy)
    levels = {
        name: torch.argmin((rates[..., None] - torch.tensor(options.rates)).abs(), dim=-1)
        for name, rates in learner.state["multi_lr.rates"].items()
    }
    train(learner, strategy, 27)
    expected = one_optimizer_per_rate(settings, options.rates, levels, 27)
    plain = learner_of(settings)
    train(plain, Strategy(), 27)
    moved = unlike_naive = 0.0
    for name, parameter in learner.parameters.items():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=0, atol=2e-5)
        moved = max(moved, float((parameter.detach() - start[name]).abs().max()))
        unlike_naive = max(
            unlike_naive, float((parameter.detach() - plain.parameters[name].detach()).abs().max())
        )
    assert moved > 1e-2 and unlike_naive > 1e-2  # far beyond what is allowed to differ


def test_one_step_of_adamw_by_hand() -> None:
    """The first step of AdamW moves every element by lr (sign + decay * parameter), times its rate."""
    learner = learner_of(OptimizerSettings(name="adamw", lr=1e-3, weight_decay=0.5, eps=1e-20))
    strategy = MultiLr(options_of())
    begin(learner, strategy)
    start = weights(learner)
    loss, _, _ = learner.loss(rows_at(0))
    loss.backward()
    signs = {name: parameter.grad.sign() for name, parameter in learner.parameters.items()}
    learner.optimizer.zero_grad(set_to_none=True)
    train(learner, strategy, 1)
    for name in ("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", "gpt_neox.final_layer_norm.weight"):
        rates = learner.state["multi_lr.rates"][name]
        assert set(rates.unique().tolist()) == {10.0, 1.0, np.float32(0.1)}
        expected = start[name] - 1e-3 * rates * (signs[name] + 0.5 * start[name])
        torch.testing.assert_close(learner.parameters[name].detach(), expected, rtol=0, atol=3e-6)


def test_a_rate_of_1_everywhere_is_naive_to_the_bit_and_a_rate_of_0_changes_nothing() -> None:
    plain, same, still = (learner_of(SETTINGS["adam"]) for _ in range(3))
    start = weights(still)
    for learner, rate in ((same, 1), (still, 0)):
        strategy = MultiLr(options_of(rates=[rate], shares=[1]))
        begin(learner, strategy)
        train(learner, strategy, 3)
    train(plain, Strategy(), 3)
    for name, parameter in plain.parameters.items():
        assert torch.equal(parameter, same.parameters[name])
        assert torch.equal(still.parameters[name], start[name])
        assert not torch.equal(parameter, start[name])


def test_what_the_step_is_compared_with_is_left_for_the_next_strategy() -> None:
    for schedule in ("rate", "frequency"):
        learner, strategy = learner_of(SETTINGS["adam"]), MultiLr(options_of(schedule=schedule))
        begin(learner, strategy)
        start = weights(learner)
        train(learner, strategy, 1)
        assert all(torch.equal(learner.before[name], start[name]) for name in start)


def test_parameters_without_a_gradient_stay_as_they_are() -> None:
    for schedule in ("rate", "frequency"):
        learner, strategy = learner_of(SETTINGS["adam"]), MultiLr(options_of(schedule=schedule))
        begin(learner, strategy)
        start = weights(learner)
        trained = {name for name in learner.parameters if "layers.1." in name}
        learner.set_trainable(trained)
        train(learner, strategy, 2)
        for name, parameter in learner.parameters.items():
            assert torch.equal(parameter.detach(), start[name]) == (name not in trained)


# -- shares ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "weights_", "expected"),
    [
        (10, (0.1, 0.3, 0.6), [1, 3, 6]),
        (7, (0.1, 0.3, 0.6), [1, 2, 4]),  # quotas .7, 2.1, 4.2: the one left goes to .7
        (100, (0.29, 0.71), [29, 71]),  # .29 * 100 is below 29 in floating point
        (5, (0.5, 0.5), [3, 2]),
        (3, (2, 0, 1), [2, 0, 1]),
        (0, (0, 0), [0, 0]),
    ],
)
def test_largest_remainders_by_hand(count: int, weights_: Any, expected: list[int]) -> None:
    assert apportion(count, weights_) == expected


SHAPES: dict[str, tuple[int, ...]] = {
    "embed_in.weight": (50, 8),
    "layers.0.up.weight": (24, 8),
    "layers.0.up.bias": (24,),
    "layers.1.up.weight": (24, 8),
    "layers.1.up.bias": (24,),
    "layers.2.up.weight": (24, 8),
    "layers.2.up.bias": (24,),
    "norm.weight": (8,),
    "norm.bias": (8,),
    "scale": (),
}
PARTS = {
    "element": 400 + 3 * (192 + 24) + 16 + 1,
    "row": 50 + 3 * 48 + 16 + 1,
    "tensor": 10,
    "block": 6,  # three blocks, the embedding, the norm, the scale
}


def drawn(granularity: str, seed: int = 0, **options: Any) -> dict[str, np.ndarray]:
    bits = np.random.PCG64(seed).random_raw
    return draw_levels(options_of(granularity=granularity, **options), SHAPES, bits)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("shares", [(0.1, 0.3, 0.6), (0.34, 0.33, 0.33)])
def test_shares_are_exact_by_count(granularity: str, shares: tuple[float, ...]) -> None:
    levels = drawn(granularity, shares=shares)
    assert {name: np.broadcast_shapes(level.shape, SHAPES[name]) for name, level in levels.items()} == SHAPES
    if granularity == "block":
        assert len({int(levels[name]) for name in SHAPES if name.startswith("layers.1.")}) == 1
        assert int(levels["norm.weight"]) == int(levels["norm.bias"])
        heads = [f"layers.{block}.up.bias" for block in range(3)] + ["embed_in.weight", "norm.bias", "scale"]
        counts = Counter(int(levels[name]) for name in heads)
    else:
        counts = Counter(np.concatenate([level.ravel() for level in levels.values()]).tolist())
    expected = apportion(PARTS[granularity], shares)
    assert [counts[level] for level in range(3)] == expected
    assert sum(expected) == PARTS[granularity]
    if granularity in ("element", "row"):  # within every tensor, too
        for name, level in levels.items():
            for number, share in enumerate(shares):
                assert abs((level == number).sum() - share * level.size) < 2, name
    if granularity == "row":
        assert levels["embed_in.weight"].shape == (50, 1)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_seed_and_nothing_else_decides_who_is_in_which_level(granularity: str) -> None:
    first, same = drawn(granularity, 5), drawn(granularity, 5)
    assert all(np.array_equal(first[name], same[name]) for name in SHAPES)
    others = [drawn(granularity, seed) for seed in range(6, 12)]
    assert any(not np.array_equal(first[name], other[name]) for other in others for name in SHAPES)


def test_every_element_is_as_likely_as_any_other_to_be_in_a_level() -> None:
    """Over 400 seeds each of the 50 rows of the embedding is in the first level about 40 times, s.d. 6."""
    hits = sum((drawn("row", seed)["embed_in.weight"] == 0).ravel().astype(int) for seed in range(400))
    assert hits.sum() == 400 * 5
    assert hits.min() > 40 - 5 * 6 and hits.max() < 40 + 5 * 6


def test_the_draw_is_the_one_it_always_was() -> None:
    """The bits are PCG64's, so a seed means the same levels on any machine and version of numpy."""
    levels = drawn("element", 0)["norm.weight"]
    bits = np.random.PCG64(0).random_raw(sum(np.prod(shape, dtype=int) for shape in SHAPES.values()))
    before = sum(np.prod(SHAPES[name], dtype=int) for name in list(SHAPES)[:7])
    ranks = np.argsort(np.argsort(bits[before : before + 8]))
    ordered = np.sort(levels)
    assert levels.tolist() == ordered[ranks].tolist()


# -- frequency ------------------------------------------------------------------------------------------


def test_for_sgd_a_level_moves_by_its_accumulated_gradient_when_it_is_due() -> None:
    """One parameter, gradients 1, 2, 3, ... at lr .5: level 0 moves every 2 steps, level 1 every 3."""

    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = Parameter(torch.zeros(4))

    learner = Learner(One(), OptimizerSettings(name="sgd", lr=0.5), torch.device("cpu"), 0)
    strategy = MultiLr(options_of(schedule="frequency", rates=[1, 10], shares=[0.5, 0.5], periods=[2, 3]))
    begin(learner, strategy)
    slow = learner.state["multi_lr.periods"]["value"] == 3
    assert int(slow.sum()) == 2
    value = learner.parameters["value"]
    expected = {
        # after step: (level 0, level 1), each minus lr times rate times the gradients since it last moved
        1: (0.0, 0.0),
        2: (-0.5 * (1 + 2), 0.0),
        3: (-1.5, -0.5 * 10 * (1 + 2 + 3)),
        4: (-0.5 * (1 + 2 + 3 + 4), -30.0),
        5: (-5.0, -30.0),
        6: (-0.5 * 21, -5.0 * 21),
    }
    for step, (quick_value, slow_value) in expected.items():
        value.grad = torch.full((4,), float(step))
        before = learner.copy_parameters()
        learner.optimizer.step()
        strategy.transform_update(learner, before)
        learner.step += 1
        assert value[~slow].tolist() == [quick_value] * 2, step
        assert value[slow].tolist() == [slow_value] * 2, step
    assert not learner.state["multi_lr.pending"]["value"].any()  # both were due at step 6


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_what_moves_at_a_step_is_what_is_due(granularity: str) -> None:
    learner = learner_of(SETTINGS["adam"])
    strategy = MultiLr(options_of(schedule="frequency", granularity=granularity, shares=[0.4, 0.3, 0.3]))
    begin(learner, strategy)
    periods = learner.state["multi_lr.periods"]
    for step in range(1, 17):
        start = weights(learner)
        train(learner, strategy, 1)
        for name, parameter in learner.parameters.items():
            due = (torch.remainder(step, periods[name]) == 0).expand(parameter.shape)
            moved = parameter.detach() != start[name]
            assert not (moved & ~due).any(), (step, name)
            if granularity in ("element", "row") and parameter.numel() > 1000 and "embed" not in name:
                assert moved[due].float().mean() > 0.99, (step, name)  # what is due does move


def test_periods_of_1_are_naive() -> None:
    plain, other = learner_of(SETTINGS["sgd with momentum"]), learner_of(SETTINGS["sgd with momentum"])
    strategy = MultiLr(options_of(schedule="frequency", shares=[1], periods=[1]))
    begin(other, strategy)
    train(plain, Strategy(), 5)
    train(other, strategy, 5)
    for name, parameter in plain.parameters.items():
        torch.testing.assert_close(parameter, other.parameters[name], rtol=0, atol=1e-6)


# -- options --------------------------------------------------------------------------------------------


def test_with_frequency_the_levels_differ_by_period_only_unless_rates_are_given() -> None:
    plain = options_of(schedule="frequency")
    assert plain.rates == (1, 1, 1) and plain.periods == (1, 4, 16)
    assert options_of(schedule="frequency", rates=[10, 1, 0.1]).rates == (10, 1, 0.1)
    assert options_of().rates == (10, 1, 0.1) and options_of().periods is None
    for options in (plain, options_of()):  # what a recipe keeps means the same when it is read back
        assert MultiLrOptions.model_validate(options.model_dump(mode="json")) == options


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"strategy.rates": [10, 1]},
            "rates [10,1] and shares [0.1,0.3,0.6] must be equally long, one per level; they are 2 and 3",
        ),
        ({"strategy.shares": [0.1, 0.3, 0.5]}, "shares [0.1,0.3,0.5] sum to 0.9; they must sum to 1"),
        ({"strategy.shares": [0.1, 0.3, 0.60001]}, "sum to 1.00001; they must sum to 1"),
        ({"strategy.shares": [0.1, 1.3, -0.4]}, "'shares' = [0.1, 1.3, -0.4] is not allowed"),
        ({"strategy.rates": [10, 1, -1]}, "'rates' = [10, 1, -1] is not allowed"),
        ({"strategy.periods": [1, 2, 4]}, "periods [1,2,4] are read with schedule=frequency only"),
        (
            {"strategy.periods": [1, 2], "strategy.schedule": "frequency"},
            "periods [1,2] and shares [0.1,0.3,0.6] must be equally long, one per level; they are 2 and 3",
        ),
        (
            {"strategy.periods": [1, 0, 2], "strategy.schedule": "frequency"},
            "'periods' = [1, 0, 2] is not allowed",
        ),
        (
            {"strategy.granularity": "block", "strategy.shares": [0.05, 0.05, 0.9]},
            "the model has 5 blocks and parts outside of them, and a share of 0.05 comes to none of them",
        ),
        (
            {"strategy.rates": [0, 0, 0]},
            "would train nothing: by rates [0,0,0] and shares [0.1,0.3,0.6] every level that has a share has "
            "rate 0; give one of them a rate above 0",
        ),
        ({"strategy.rates": [1, 0], "strategy.shares": [0, 1]}, "would train nothing: by rates [1,0]"),
        (
            {"strategy.schedule": "frequency", "strategy.periods": [17, 17, 20]},
            "would train nothing: by rates [1,1,1] and shares [0.1,0.3,0.6] the levels that train have periods "
            "from 17 steps up, and the stream has 16; give one of them a period of at most 16",
        ),
        (
            {"strategy.schedule": "frequency", "strategy.rates": [0, 1, 1], "strategy.periods": [1, 17, 18]},
            "periods from 17 steps up",
        ),
        (
            {
                "strategy.schedule": "frequency",
                "strategy.shares": [0, 0.5, 0.5],
                "strategy.periods": [1, 17, 18],
            },
            "periods from 17 steps up",
        ),
        ({"strategy.granularity": "heap"}, "it must be: element | row | tensor | block"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(options: dict[str, Any], reason: str, model: Path) -> None:
    with pytest.raises(UsageError) as refused:
        planned(model, "multi_lr", options)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_one_level_that_moves_once_is_enough(model: Path, tmp_path: Path) -> None:
    options = {"strategy.schedule": "frequency", "strategy.rates": [0, 1, 1], "strategy.periods": [1, 16, 99]}
    start = finish(planned(model, "naive", {"optimizer.lr": 1e-30}), tmp_path / "start")
    end = finish(planned(model, "multi_lr", options), tmp_path / "end")  # 16 steps: moves at the last
    assert end.info["final_weights"] != start.info["final_weights"]


def test_shares_may_miss_1_by_rounding() -> None:
    thirds = [1 / 3, 1 / 3, 1 / 3 + 5e-10]
    assert sum(apportion(10, options_of(shares=thirds).shares)) == 10


# -- whole runs -----------------------------------------------------------------------------------------


CHOICES = [(granularity, schedule) for granularity in GRANULARITIES for schedule in ("rate", "frequency")]


def chosen(granularity: str, schedule: str) -> dict[str, Any]:
    """Options of a run on a model of five groups."""
    options = {**ROUGH, "strategy.granularity": granularity, "strategy.schedule": schedule}
    return options | ({"strategy.periods": [1, 3]} if schedule == "frequency" else {})


def kept(run: PlannedRun, dtype: torch.dtype) -> int:
    """Bytes a learner of the planned run keeps beyond the plain one's, once it has made a step."""
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(run.model_folder, dtype=dtype)
    learner = Learner(loaded, run.recipe.optimizer, torch.device("cpu"), 0)
    strategy = MultiLr(MultiLrOptions.model_validate(run.recipe.strategy.options))
    begin(learner, strategy)
    start = weights(learner)
    train(learner, strategy, 3)
    assert any(not torch.equal(parameter, start[name]) for name, parameter in learner.parameters.items())
    return learner.extra_bytes()


@pytest.mark.parametrize("kind", ["gpt_neox", "opt", "gpt2", "llama"])  # two of these tie their embeddings
def test_the_plan_states_to_the_byte_what_is_kept(kind: Kind, tmp_path: Path) -> None:
    model = make_model_folder(kind, tmp_path, max_positions=512)
    for granularity, schedule in CHOICES:
        run = planned(model, "multi_lr", chosen(granularity, schedule))
        assert kept(run, torch.float32) == run.extra_bytes
        copies = 1 + (schedule == "frequency") + (granularity == "element")  # before, pending, rates
        assert run.extra_bytes >= copies * run.parameter_bytes


def test_half_precision_is_planned_right_and_trains(model: Path) -> None:
    for granularity, schedule in CHOICES:
        run = planned(model, "multi_lr", chosen(granularity, schedule), precision="bfloat16")
        assert kept(run, torch.bfloat16) == run.extra_bytes


@pytest.mark.parametrize("schedule", ["rate", "frequency"])
def test_a_stopped_run_ends_as_if_it_never_was(schedule: str, model: Path, tmp_path: Path) -> None:
    run = planned(model, "multi_lr", {"strategy.schedule": schedule})
    reference = finish(run, tmp_path / "reference")
    naive = finish(planned(model), tmp_path / "naive")
    assert reference.info["final_weights"] != naive.info["final_weights"]
    assert reference.info["extra_state_bytes"] == run.extra_bytes
    stops = itertools.count(1)
    for attempt in range(4):  # 16 steps, 5 at a time
        events = carry_out(
            run, tmp_path / "stopped", resume=attempt > 0, should_stop=lambda: next(stops) % 5 == 0
        )
    assert events[-1] == {"event": "finished"}
    assert results(RunRecord.open(tmp_path / "stopped")) == results(reference)
    steps, expected = (rows(tmp_path / name)["steps"] for name in ("stopped", "reference"))
    assert steps.equals(expected) and len(steps) == 16


def test_a_seed_of_the_run_is_a_draw_of_the_levels() -> None:
    assignments = []
    for seed in (0, 0, 1):
        learner = learner_of(SETTINGS["adam"], seed)
        begin(learner, MultiLr(options_of()))
        assignments.append(learner.state["multi_lr.rates"])
    first, same, other = assignments
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].numel() > 100)


def test_what_a_model_grows_trains_at_the_learning_rate_itself() -> None:
    learner, strategy = learner_of(SETTINGS["sgd with momentum"]), MultiLr(options_of(schedule="frequency"))
    begin(learner, strategy)
    grown = neox()
    old = grown.gpt_neox.layers[0].mlp.dense_h_to_4h
    wider = torch.nn.Linear(old.in_features, old.out_features + 8)
    out = grown.gpt_neox.layers[0].mlp.dense_4h_to_h
    grown.gpt_neox.layers[0].mlp.dense_h_to_4h = wider
    grown.gpt_neox.layers[0].mlp.dense_4h_to_h = torch.nn.Linear(out.in_features + 8, out.out_features)
    learner.adopt(grown)
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    rates, periods = learner.state["multi_lr.rates"][name], learner.state["multi_lr.periods"][name]
    assert rates.shape == periods.shape == wider.weight.shape and periods.dtype == torch.int16
    assert (rates[-8:] == 1).all() and (periods[-8:] == 1).all() and (periods[:-8] > 1).any()
    start = weights(learner)[name]
    train(learner, strategy, 1)
    moved = learner.parameters[name].detach() != start
    assert moved[-8:].float().mean() > 0.9
    assert torch.equal(moved[:-8] & (periods[:-8] > 1), torch.zeros_like(moved[:-8]))


def test_of_a_row_that_the_model_grows_one_number_is_kept() -> None:
    learner = learner_of(SETTINGS["adam"])
    options = options_of(granularity="row", schedule="frequency", periods=[2, 3, 4])
    begin(learner, strategy := MultiLr(options))
    kept_before = {key: tensor.clone() for key, tensor in learner.state["multi_lr.periods"].items()}
    learner.adopt(neox(blocks=3))
    train(learner, strategy, 1)
    for entry in ("multi_lr.rates", "multi_lr.periods"):
        for name, tensor in learner.state[entry].items():
            rows, *others = learner.parameters[name].shape
            assert tensor.shape == (rows, *[1] * len(others)), name
            if "layers.2." in name:
                assert (tensor == 1).all()
    now = learner.state["multi_lr.periods"]
    assert all(torch.equal(now[name], tensor) for name, tensor in kept_before.items())


def test_levels_are_drawn_when_all_strategies_are_set_up_and_then_never_again() -> None:
    learner, strategy = learner_of(SETTINGS["adam"]), MultiLr(options_of())
    strategy.setup(learner)
    learner.adopt(neox(blocks=3))  # what another strategy's setup may do
    begin(learner, strategy)
    rates = learner.state["multi_lr.rates"]["gpt_neox.layers.2.mlp.dense_h_to_4h.weight"]
    assert len(rates.unique()) == 3
    drawn_first = rates.clone()
    begin(learner, strategy)
    assert torch.equal(rates, drawn_first)
