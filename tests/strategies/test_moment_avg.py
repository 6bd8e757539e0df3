"""`moment_avg`: one moment context per loop, made once from the average of the others, exchanged by reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import Kind
from safetensors.torch import load_file
from small_runs import carry_out, finish, planned, results, small_model
from torch.utils._python_dispatch import TorchDispatchMode

from seqmem import Example, Experience, Strategy, UsageError
from seqmem.core.recipe import OptimizerSettings
from seqmem.training.learner import Learner
from seqmem_plugins.strategies.moment_avg import MomentAverage, MomentAvgOptions

ADAM = OptimizerSettings(name="adam", lr=1e-2)
ADAMW = OptimizerSettings(name="adamw", lr=1e-2, weight_decay=0.1)
MOMENTUM = OptimizerSettings(name="sgd", lr=0.1, momentum=0.9)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


# -- a learner small enough to follow by hand -----------------------------------------------------------


class Bigram(torch.nn.Module):
    """Next-token logits from a table and a bias: two parameters, 7 * 7 + 7 numbers."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(7, 7, generator=generator))
        self.bias = torch.nn.Parameter(torch.randn(7, generator=generator))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(logits=self.table[input_ids] + self.bias)


NUMBERS = 7 * 7 + 7


def learner_of(settings: OptimizerSettings) -> Learner:
    return Learner(Bigram(), settings, torch.device("cpu"), seed=0)


def visit(loop: int, steps: int, index: int = 0, phase: Any = "loop", trains: Any = "all") -> Experience:
    draw = np.random.default_rng([loop, index])
    mask = np.array([False, True, True, True])
    rows = [Example(draw.integers(0, 7, 4).astype(np.int32), mask) for _ in range(steps)]
    label = loop if phase == "loop" else None
    return Experience(index, f"loop {loop}", phase, label, tuple((row,) for row in rows), trains=trains)


def train_visit(learner: Learner, strategy: Strategy, experience: Experience) -> None:
    strategy.before_experience(learner, experience)
    for position in range(experience.steps):
        loss, _, _ = learner.loss(experience.batch(position))
        loss.backward()
        learner.optimizer.step()
        learner.optimizer.zero_grad()
    strategy.after_experience(learner, experience)


class Written(TorchDispatchMode):
    """Counts the bytes of every tensor that an operation makes or writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        views = func.is_view or func.overloadpacket._qualified_op_name in ("aten::_local_scalar_dense",)
        if not views:
            made = out if isinstance(out, tuple | list) else [out]
            self.bytes += sum(t.nbytes for t in made if isinstance(t, torch.Tensor))
            if not made or out is None:  # foreach operations write in place and return nothing
                self.bytes += sum(t.nbytes for t in args[0] if isinstance(t, torch.Tensor))
        return out


@contextmanager
def counted() -> Iterator[Written]:
    with Written() as written:
        yield written


def test_the_byte_count_of_these_tests_sees_copies_of_every_kind() -> None:
    a, b = torch.ones(10), torch.zeros(10)
    changes = {
        "copy": lambda: b.copy_(a),
        "clone": lambda: a.clone(),
        "add in place": lambda: b.add_(a, alpha=0.5),
        "zeros": lambda: torch.zeros_like(a),
        "foreach": lambda: torch._foreach_zero_([b]),
        "fill": lambda: b.fill_(1),
    }
    for name, change in changes.items():
        with counted() as written:
            change()
        assert written.bytes == 40, name
    with counted() as written:
        a.view(2, 5), a.detach(), a[2:], float(a[0])
    assert written.bytes == 0


@pytest.mark.parametrize("settings", [ADAM, ADAMW, MOMENTUM], ids=lambda settings: settings.name)
def test_entering_and_leaving_a_loop_moves_no_data_once_it_is_known(settings: OptimizerSettings) -> None:
    learner, strategy = learner_of(settings), MomentAverage(MomentAvgOptions())
    tensors = {}
    for loop in range(3):
        train_visit(learner, strategy, visit(loop, 3))
        tensors[loop] = addresses(learner)
    for loop in (0, 2, 1, 1, 0):
        again = visit(loop, 2, index=9)
        with counted() as written:
            strategy.before_experience(learner, again)
        assert written.bytes == 0
        assert addresses(learner) == tensors[loop]  # the loop's very tensors, not copies
        with counted() as written:
            strategy.after_experience(learner, again)
        assert written.bytes == 0
    with counted() as written:
        strategy.before_experience(learner, visit(0, 2, phase="rest"))
    assert written.bytes == 0
    assert addresses(learner).isdisjoint(set.union(*tensors.values()))


def addresses(learner: Learner) -> set[int]:
    """Return the addresses of the optimizer's state in memory."""
    return {
        tensor.data_ptr()
        for state in learner.optimizer.state.values()
        for tensor in state.values()
        if isinstance(tensor, torch.Tensor)
    }


@pytest.mark.parametrize("settings", [ADAM, MOMENTUM], ids=lambda settings: settings.name)
def test_entering_a_new_loop_moves_one_average(settings: OptimizerSettings) -> None:
    """One average: a new context is written once as zeros and then read-and-added once per other loop."""
    learner, strategy = learner_of(settings), MomentAverage(MomentAvgOptions())
    context = (
        len(settings.moments) * NUMBERS * 4 + 2 * 4
    )  # bytes: moments, and a clock for each of two tensors
    for known in range(4):
        new = visit(known, 3)
        with counted() as written:
            strategy.before_experience(learner, new)
        moments, clocks = context - 8, 8
        added = known * moments + (clocks if known else 0)
        assert written.bytes == context + added
        train_visit(learner, strategy, new)
        with counted() as written:
            strategy.after_experience(learner, new)
        assert written.bytes == 0


# -- what the average is --------------------------------------------------------------------------------


def test_a_new_loop_starts_from_the_mean_of_the_bias_corrected_moments() -> None:
    learner, strategy = learner_of(ADAM), MomentAverage(MomentAvgOptions())
    for loop, steps in ((0, 2), (1, 5), (2, 1)):
        train_visit(learner, strategy, visit(loop, steps))
    train_visit(learner, strategy, visit(0, 7, index=1))
    # ages: loop 0: 2 + 7; loop 1: began at 2, 5 more; loop 2: began at max(2, 7), 1 more
    ages = {0: 9, 1: 7, 2: 8}
    for loop, age in ages.items():
        assert {float(t) for t in learner.moments(f"loop {loop}", "step").values()} == {age}
    old = {
        (loop, moment): {k: t.double().clone() for k, t in learner.moments(f"loop {loop}", moment).items()}
        for loop in ages
        for moment in ("exp_avg", "exp_avg_sq")
    }
    strategy.before_experience(learner, visit(3, 1))
    assert learner.active_moments == "loop 3"
    for key, parameter in learner.parameters.items():
        state = learner.optimizer.state[parameter]
        assert float(state["step"]) == 9  # the largest age
        for moment, beta in (("exp_avg", 0.9), ("exp_avg_sq", 0.999)):
            corrected = [old[loop, moment][key] / (1 - beta**age) for loop, age in ages.items()]
            expected = sum(corrected) / 3 * (1 - beta**9)
            torch.testing.assert_close(state[moment].double(), expected, rtol=1e-6, atol=1e-12)
            plain = sum(old[loop, moment][key] for loop in ages) / 3
            assert not torch.allclose(state[moment].double(), plain, rtol=1e-3)  # the correction matters
    for (loop, moment), before in old.items():  # the others keep what they had
        for key, tensor in learner.moments(f"loop {loop}", moment).items():
            assert torch.equal(tensor.double(), before[key])


def test_the_first_step_in_a_new_loop_is_adams_with_those_moments() -> None:
    learner, strategy = learner_of(ADAM), MomentAverage(MomentAvgOptions())
    train_visit(learner, strategy, visit(0, 3))
    train_visit(learner, strategy, visit(1, 4))
    strategy.before_experience(learner, visit(2, 1))
    before = {key: p.detach().double().clone() for key, p in learner.parameters.items()}
    m = {key: t.double().clone() for key, t in learner.moments("loop 2", "exp_avg").items()}
    v = {key: t.double().clone() for key, t in learner.moments("loop 2", "exp_avg_sq").items()}
    loss, _, _ = learner.loss(visit(2, 1).batch(0))
    loss.backward()
    gradient = {key: p.grad.double().clone() for key, p in learner.parameters.items()}
    learner.optimizer.step()
    t = 7 + 1
    for key, parameter in learner.parameters.items():
        m_hat = (0.9 * m[key] + 0.1 * gradient[key]) / (1 - 0.9**t)
        v_hat = (0.999 * v[key] + 0.001 * gradient[key] ** 2) / (1 - 0.999**t)
        expected = before[key] - 1e-2 * m_hat / (v_hat.sqrt() + 1e-8)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_momentum_of_sgd_is_averaged_as_it_is() -> None:
    learner, strategy = learner_of(MOMENTUM), MomentAverage(MomentAvgOptions())
    for loop, steps in ((0, 2), (1, 5)):
        train_visit(learner, strategy, visit(loop, steps))
    strategy.before_experience(learner, visit(2, 1))
    for key, tensor in learner.moments("loop 2", "momentum_buffer").items():
        both = [learner.moments(f"loop {loop}", "momentum_buffer")[key] for loop in (0, 1)]
        torch.testing.assert_close(tensor, (both[0] + both[1]) / 2)


def test_the_first_loop_of_all_starts_from_nothing() -> None:
    learner, strategy = learner_of(ADAM), MomentAverage(MomentAvgOptions())
    strategy.before_experience(learner, visit(4, 1))
    assert learner.active_moments == "loop 4"
    assert all(not tensor.any() for state in learner.optimizer.state.values() for tensor in state.values())


def test_rest_trains_with_the_common_context_and_contributes_to_no_average() -> None:
    learner, strategy = learner_of(ADAM), MomentAverage(MomentAvgOptions())
    train_visit(learner, strategy, visit(0, 3))
    kept = {key: tensor.clone() for key, tensor in learner.moments("loop 0", "exp_avg").items()}
    train_visit(learner, strategy, visit(0, 5, phase="rest"))
    assert learner.active_moments == "main"
    assert all(torch.equal(learner.moments("loop 0", "exp_avg")[key], t) for key, t in kept.items())
    strategy.before_experience(learner, visit(1, 1))
    assert {float(t) for t in learner.moments("loop 1", "step").values()} == {3}  # not main's 5
    for key, tensor in learner.moments("loop 1", "exp_avg").items():
        torch.testing.assert_close(tensor, kept[key])


def test_a_rest_without_training_exchanges_nothing() -> None:
    learner, strategy = learner_of(ADAM), MomentAverage(MomentAvgOptions())
    train_visit(learner, strategy, visit(0, 3))
    strategy.before_experience(learner, visit(1, 3, phase="rest", trains="none"))
    assert learner.active_moments == "loop 0"


MADE = {
    # what init makes of each moment and of the clock, given (mean, last, zero)
    ("average", "both"): ("mean", "mean", "oldest"),
    ("average", "m"): ("mean", "last", "oldest"),
    ("average", "v"): ("last", "mean", "oldest"),
    ("last", "both"): ("last", "last", "last"),
    ("last", "m"): ("last", "last", "last"),
    ("last", "v"): ("last", "last", "last"),
    ("zero", "both"): ("zero", "zero", "zero"),
    ("zero", "m"): ("zero", "last", "last"),
}


@pytest.mark.parametrize(("init", "moments"), MADE)
def test_each_ablation_makes_the_bias_corrected_moments_it_names(init: Any, moments: Any) -> None:
    """In `average` with one moment, the other is the last loop's: its value, whatever the new loop's age."""
    options = MomentAvgOptions(init=init, moments=moments)
    learner, strategy = learner_of(ADAM), MomentAverage(options)
    for loop, steps in ((0, 2), (1, 6), (2, 2)):
        train_visit(learner, strategy, visit(loop, steps))
    train_visit(learner, strategy, visit(0, 12, index=1))
    train_visit(learner, strategy, visit(2, 3, index=1))  # the last loop is not the oldest
    ages = {loop: float(learner.moments(f"loop {loop}", "step")["bias"]) for loop in range(3)}
    last, oldest = 2, max(ages.values())
    if init == "average":
        assert ages[last] < oldest
    strategy.before_experience(learner, visit(3, 1))
    age = float(learner.moments("loop 3", "step")["bias"])
    *made, clock = MADE[init, moments]
    assert age == {"oldest": oldest, "last": ages[last], "zero": 0}[clock]
    for moment, beta, source in zip(("exp_avg", "exp_avg_sq"), (0.9, 0.999), made, strict=True):

        def corrected(loop: int, key: str, moment: str = moment, beta: float = beta) -> torch.Tensor:
            return learner.moments(f"loop {loop}", moment)[key].double() / (1 - beta ** ages[loop])

        for key, tensor in learner.moments("loop 3", moment).items():
            if source == "zero":
                assert not tensor.any()
                continue
            expected = corrected(last, key)
            if source == "mean":
                expected = sum(corrected(loop, key) for loop in range(3)) / 3
            torch.testing.assert_close(tensor.double() / (1 - beta**age), expected, rtol=1e-5, atol=1e-12)


# -- whole runs -----------------------------------------------------------------------------------------

SGD = {"optimizer.name": "sgd", "optimizer.lr": 0.5}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adamw": {"optimizer.name": "adamw", "optimizer.weight_decay": 0.1},
    "sgd with momentum": {**SGD, "optimizer.momentum": 0.9},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_shared_moments_are_naive_to_the_bit(optimizer: str, model: Path, tmp_path: Path) -> None:
    options = OPTIMIZERS[optimizer]
    naive = finish(planned(model, "naive", options), tmp_path / "naive")
    shared = finish(planned(model, "moment_avg", {**options, "strategy.init": "shared"}), tmp_path / "shared")
    assert {k: v for k, v in results(shared).items() if k != "id"} == {
        k: v for k, v in results(naive).items() if k != "id"
    }
    assert shared.info["extra_state_bytes"] == 0


def test_every_ablation_runs_and_learns_otherwise_than_naive_and_than_the_rest(
    model: Path, tmp_path: Path
) -> None:
    weights = {}
    for init in ("average", "zero", "last"):
        for moments in ("both", "m", "v"):
            if (init, moments) == ("zero", "v"):
                continue
            options = {"scenario.loops": 3, "strategy.init": init, "strategy.moments": moments}
            record = finish(planned(model, "moment_avg", options), tmp_path / f"{init}-{moments}")
            weights[init, moments] = record.info["final_weights"]
    # whatever moments it names, `last` copies both
    assert weights["last", "m"] == weights["last", "v"] == weights["last", "both"]
    naive = finish(planned(model, "naive", {"scenario.loops": 3}), tmp_path / "naive")
    different = {naive.info["final_weights"], *weights.values()}
    assert len(different) == 1 + len(weights) - 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (SGD, "sgd without momentum has none; use --optimizer adam or --set optimizer.momentum=0.9"),
        ({**SGD, "strategy.init": "shared"}, "sgd without momentum has none"),
        (
            {"strategy.init": "zero", "strategy.moments": "v"},
            "would divide the last loop's m by a v of zero; use moments=m or both",
        ),
        (
            {**OPTIMIZERS["sgd with momentum"], "strategy.moments": "m"},
            "sgd has one moment, its momentum; allowed: both",
        ),
    ],
)
def test_what_cannot_be_averaged_is_refused_with_the_reason(
    options: dict[str, Any], reason: str, model: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        planned(model, "moment_avg", options)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("init", ["average", "shared"])
def test_the_plan_states_to_the_byte_what_the_run_will_keep(
    optimizer: str, init: str, model: Path, tmp_path: Path
) -> None:
    run = planned(model, "moment_avg", {**OPTIMIZERS[optimizer], "strategy.init": init, "scenario.loops": 3})
    record = finish(run, tmp_path / "run", checkpoint_every=run.outline.steps, keep_checkpoints=True)
    assert record.info["extra_state_bytes"] == run.extra_bytes
    (last,) = (tmp_path / "run" / "checkpoints").iterdir()
    contexts = {name.split(".")[1] for name in load_file(last / "tensors.safetensors") if ":moments." in name}
    assert contexts == {"main"} | ({"loop 0", "loop 1", "loop 2"} if init == "average" else set())
    if init == "average":
        moments = len(run.recipe.optimizer.moments)
        assert run.extra_bytes // (3 * moments) >= record.info["parameter_bytes"]


@pytest.mark.parametrize(
    "kind", ["opt", "gpt2", "llama"]
)  # gpt_neox is above; two of these tie their embeddings
def test_the_plan_is_right_for_every_architecture(kind: Kind, tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", kind)
    run = planned(
        model, "moment_avg", {"scenario.new_loop": 1, "scenario.cycles": 1, "scenario.rest": "none"}
    )
    record = finish(run, tmp_path / "run")
    assert record.info["extra_state_bytes"] == run.extra_bytes > 0
    assert record.info["parameter_bytes"] == run.parameter_bytes


def test_half_precision_is_planned_right_too(model: Path, tmp_path: Path) -> None:
    run = planned(model, "moment_avg", {"scenario.rest": "none"}, precision="bfloat16")
    events = carry_out(run, tmp_path / "run")
    assert events[-1] == {"event": "finished"}
    from seqmem.record.reader import RunRecord

    assert RunRecord.open(tmp_path / "run").info["extra_state_bytes"] == run.extra_bytes
