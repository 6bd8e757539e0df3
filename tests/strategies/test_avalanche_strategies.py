"""`avalanche:NAME`: eight of Avalanche's plugins in this host's loop, each seen to act, its faults worked around."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from grown_models import loaded
from model_folders import Kind
from small_runs import carry_out, finish, finished, installed, planned, results, rows, small_model

from seqmem import Example, Experience, RunFailed, Strategy, UsageError, pack
from seqmem.core.recipe import OptimizerSettings
from seqmem.plugin.registry import Registry
from seqmem.record.reader import RunRecord
from seqmem.training.learner import Learner
from seqmem_plugins.avalanche.strategies import seqmem_not_offered, seqmem_strategy

SPECS = {spec.name: spec for spec in seqmem_strategy()}
ONLINE = {"mode": "online", "decay_factor": 0.9}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name.partition(":")[2]: (name, {}) for name in SPECS},
    "EWC online": ("avalanche:EWC", ONLINE),
}
PENALTIES = ("EWC", "EWC online", "LwF", "SynapticIntelligence", "MAS", "RWalk")
# strengths at which the small models here are pulled visibly
STRONG: dict[str, dict[str, Any]] = {
    "EWC": {"ewc_lambda": 5.0},
    "EWC online": {"ewc_lambda": 5.0, **ONLINE},
    "SynapticIntelligence": {"si_lambda": 100.0},
    "MAS": {"lambda_reg": 0.1},
    "RWalk": {"ewc_lambda": 0.5},
    "LwF": {"alpha": 2.0, "temperature": 1.5},
    "Replay": {"mem_size": 5, "batch_size_mem": 2},
    "AGEM": {"patterns_per_experience": 2, "sample_size": 4},
    "GEM": {"patterns_per_experience": 2},
}


def test_every_one_of_the_family_is_tested_here() -> None:
    assert set(STRONG) == set(CASES)


def build(case: str, **options: Any) -> Any:
    spec = SPECS[CASES[case][0]]
    return spec.build(spec.options(**(options or STRONG[case])))


# -- a learner small enough to follow by hand -----------------------------------------------------------


class Bigram(torch.nn.Module):
    """Next-token logits from a table and a bias, plus a frozen shift of every logit."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(7, 7, generator=generator))
        self.frozen = torch.nn.Parameter(torch.randn(7, generator=generator), requires_grad=False)
        self.bias = torch.nn.Parameter(torch.randn(7, generator=generator))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.table[input_ids] + self.bias + self.frozen)


def learner_of(name: Any = "adam", lr: float = 0.05, **settings: Any) -> Learner:
    return Learner(Bigram(), OptimizerSettings(name=name, lr=lr, **settings), torch.device("cpu"), seed=3)


def example(*ids: int) -> Example:
    return Example(np.array(ids, dtype=np.int32), np.ones(len(ids), np.bool_))


def visit(index: int, steps: int = 3, phase: Any = "loop", trains: Any = "all", width: int = 5) -> Experience:
    """Each experience has tokens of its own to follow one another."""
    draw = np.random.default_rng(index)
    mask = np.array([False, *[True] * (width - 1)])
    batches = tuple(
        tuple(Example(draw.integers(0, 7, width).astype(np.int32), mask) for _ in range(2))
        for _ in range(steps)
    )
    return Experience(index, f"experience {index}", phase, None, batches, trains=trains)


def one_step(learner: Learner, strategy: Strategy, batch: Sequence[Example]) -> float:
    """The loop's step, without records; the penalty."""
    assert all(parameter.grad is None for parameter in learner.parameters.values())
    rehearsed = strategy.rehearse(learner, tuple(batch))
    assert all(parameter.grad is None for parameter in learner.parameters.values())
    assert learner.model.training
    loss, _, _ = learner.loss([*batch, *rehearsed])
    loss.backward()
    penalty = strategy.add_gradient(learner)
    learner.clip()
    strategy.transform_gradient(learner)
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    strategy.after_step(learner, tuple(batch))
    learner.step += 1
    return penalty


def train(learner: Learner, strategy: Strategy, experience: Experience) -> list[float]:
    strategy.before_experience(learner, experience)
    learner.set_trainable(None)
    penalties = [one_step(learner, strategy, experience.batch(i)) for i in range(experience.steps)]
    strategy.after_experience(learner, experience)
    assert all(parameter.grad is None for parameter in learner.parameters.values())
    assert learner.model.training
    return penalties


def entries(learner: Learner) -> dict[str, dict[str, torch.Tensor]]:
    """The registry's entries of the plugin, copied."""
    return {
        name: {key: tensor.clone() for key, tensor in learner.state[name].items()}
        for name in learner.state
        if name.startswith("avalanche.")
    }


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in learner.parameters.items()}


# -- each acts ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def naive(model: Path) -> RunRecord:
    return finished(planned(model, "naive", probing="none"))


def planned_case(model: Path, case: str, options: Mapping[str, Any] | None = None, **request: Any) -> Any:
    name, own = CASES[case]
    return planned(
        model, name, {**{f"strategy.{k}": v for k, v in own.items()}, **(options or {})}, **request
    )


def stop_after(steps: int) -> Any:
    asked = itertools.count(1)
    return lambda: next(asked) >= steps


@pytest.mark.parametrize("case", CASES)
def test_with_its_defaults_it_acts(case: str, model: Path, naive: RunRecord) -> None:
    run = planned_case(model, case, probing="none")
    record = finished(run)
    assert record.info["final_weights"] != naive.info["final_weights"]
    # until the first experience has ended all is as without it: no row shuffled, no random number drawn
    first = (record.steps["experience"] == 0).to_numpy()
    assert record.steps["loss"][first].tolist() == naive.steps["loss"][first].tolist()
    assert (record.steps["penalty"][first] == 0).all()
    if case in PENALTIES:
        later = record.steps["penalty"][~first].to_numpy()
        assert np.isfinite(later).all()
        assert later.max() > 1e-6
    elif case == "Replay":
        assert set(record.steps["rehearsed"][~first]) == {2, 4}  # as many as the step has
    else:
        projected = record.measured["value"].to_numpy()
        assert set(record.measured["name"]) == {f"avalanche.{case}.projected"}
        assert len(projected) == (~first).sum()
        assert 0 < projected.sum() < len(projected)
    # whatever is kept was planned
    if case in ("EWC", "Replay", "AGEM", "GEM"):
        assert 0 < record.info["extra_state_bytes"] <= run.extra_bytes
    else:
        assert 0 < record.info["extra_state_bytes"] == run.extra_bytes


def test_stopped_inside_experiences_at_their_ends_and_in_the_rest_it_resumes_to_the_bit(
    model: Path, tmp_path: Path
) -> None:
    """The one case that is no strategy of its own; tests/strategies/test_strategies.py does so with all of them."""
    run = planned_case(model, "EWC online")
    record = finish(run, tmp_path / "whole")
    folder = tmp_path / "stopped"
    ends = [carry_out(run, folder, should_stop=stop_after(5))[-1]["event"]]
    for steps in (2, 3, 99):
        ends.append(carry_out(run, folder, should_stop=stop_after(steps), resume=True)[-1]["event"])
    assert ends == ["stopped"] * 3 + ["finished"]
    assert results(RunRecord.open(folder)) == results(record)
    for name, frame in rows(tmp_path / "whole").items():
        assert frame.equals(rows(folder)[name]), name


@pytest.mark.parametrize("case", ["RWalk", "LwF", "AGEM"])
def test_with_dropout_it_resumes_to_the_bit_too(case: str, tmp_path: Path) -> None:
    kind: Kind = "gpt2"
    run = planned_case(small_model(tmp_path / "model", kind), case, {"scenario.cycles": 1})
    record, folder = finish(run, tmp_path / "whole"), tmp_path / "stopped"
    events = carry_out(run, folder, should_stop=stop_after(4))
    assert events[-1]["event"] == "stopped"
    finish(run, folder, resume=True)
    assert results(RunRecord.open(folder)) == results(record)


@pytest.mark.parametrize("case", ["EWC", "Replay"])
def test_being_probed_changes_nothing(case: str, model: Path, tmp_path: Path) -> None:
    """Avalanche's periodic evaluation ends in other weights."""
    often = finish(planned_case(model, case, probing="every"), tmp_path / "every")
    never = finish(planned_case(model, case, probing="none"), tmp_path / "none")
    assert len(often.probes) > 0 == len(never.probes)
    assert often.info["final_weights"] == never.info["final_weights"]


@pytest.mark.parametrize("case", CASES)
def test_the_optimizer_keeps_its_state_and_its_parameters(case: str) -> None:
    """Avalanche's first `train()` wipes the state, and adds frozen parameters."""
    learner, strategy = learner_of(), build(case)
    frozen = learner.model.frozen.detach().clone()
    strategy.setup(learner)
    optimizer = learner.optimizer
    for index in range(3):
        train(learner, strategy, visit(index))
    assert learner.optimizer is optimizer
    (group,) = optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in learner.parameters.values()}
    assert {float(age) for age in learner.moments("main", "step").values()} == {9}  # a clock never set back
    assert all(tensor.any() for tensor in learner.moments("main", "exp_avg").values())
    assert torch.equal(learner.model.frozen, frozen)
    for entry in entries(learner).values():
        assert entry.keys() == learner.parameters.keys()


@pytest.mark.parametrize("case", CASES)
def test_no_random_state_but_the_learners_is_drawn_from(case: str) -> None:
    learner, strategy = learner_of(), build(case)
    strategy.setup(learner)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    for index in range(3):
        train(learner, strategy, visit(index))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), str(np.random.get_state())) == before[1:]


@pytest.mark.parametrize("case", CASES)
def test_a_rest_is_trained_under_the_plugin_and_not_consolidated(case: str) -> None:
    learner, strategy = learner_of(), build(case)
    strategy.setup(learner)
    train(learner, strategy, visit(0))
    kept, state = entries(learner), strategy.state_dict()
    assert kept or case in ("Replay", "AGEM", "GEM")
    rest = visit(1, phase="rest")
    strategy.before_experience(learner, rest)
    learner.set_trainable(None)
    acted = []
    for position in range(rest.steps):
        if case == "Replay":
            assert len(strategy.rehearse(learner, rest.batch(position))) == 2
        acted.append(one_step(learner, strategy, rest.batch(position)))
        acted += strategy.measured().values()
    if case in PENALTIES:
        assert max(acted) > 0
    elif case != "Replay":
        assert len(acted) == 2 * rest.steps  # it looked at every gradient
    strategy.after_experience(learner, rest)
    assert {n: e.keys() for n, e in entries(learner).items()} == {n: e.keys() for n, e in kept.items()}
    for name, entry in entries(learner).items():
        assert all(torch.equal(tensor, kept[name][key]) for key, tensor in entry.items()), name
    after = strategy.state_dict()
    moving = {"learns", "begun", "steps", "most", "scratch"}
    assert {k: v for k, v in after.items() if k not in moving} == {
        k: v for k, v in state.items() if k not in moving
    }


@pytest.mark.parametrize("case", CASES)
def test_a_rest_without_training_and_rows_without_targets_leave_it_as_it_was(case: str) -> None:
    learner, strategy = learner_of(), build(case)
    strategy.setup(learner)
    silent = Example(np.arange(5, dtype=np.int32), np.zeros(5, np.bool_))
    quiet = Experience(0, "quiet", "general", None, ((silent,),))
    strategy.before_experience(learner, quiet)
    strategy.after_experience(learner, quiet)
    strategy.before_experience(learner, visit(1, phase="rest", trains="none"))
    strategy.after_experience(learner, visit(1, phase="rest", trains="none"))
    assert not entries(learner)
    assert strategy.state_dict()["experiences"] == 0


# -- the same as Avalanche's own loop -------------------------------------------------------------------


class Flat(torch.nn.Module):
    """A causal model as Avalanche's loop takes it: logits (B * T, V)."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=x, use_cache=False).logits
        return logits.flatten(0, 1)


def in_avalanche(plugin: Any, experiences: Sequence[Experience], learner: Learner) -> dict[str, torch.Tensor]:
    """Train with Avalanche's template, told to leave the optimizer alone and the rows in order; the weights."""
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.templates import SupervisedTemplate

    from seqmem_plugins.avalanche.rows import token_dataset

    class Kept(SupervisedTemplate):  # type: ignore[misc]
        def make_optimizer(self, **kwargs: Any) -> None:
            self.optimized_param_id = dict(self.model.named_parameters())

    class Flattened(torch.nn.CrossEntropyLoss):
        def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return super().forward(outputs, targets.flatten())

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No loggers specified")
        silent = EvaluationPlugin()
    loop = Kept(
        model=Flat(learner.model),
        optimizer=learner.optimizer,
        criterion=Flattened(ignore_index=-100),
        train_mb_size=2,
        train_epochs=1,
        plugins=[plugin],
        evaluator=silent,
    )
    datasets = [token_dataset([row for batch in e.batches for row in batch], 0) for e in experiences]
    for experience in benchmark_from_datasets(train=datasets).train_stream:
        loop.train(experience, shuffle=False, num_workers=0)
    return weights(learner)


@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.parametrize("case", ["EWC", "EWC online", "MAS", "RWalk"])
def test_weights_end_where_avalanches_own_loop_takes_them(case: str, name: str) -> None:
    from avalanche.training.plugins import EWCPlugin, MASPlugin, RWalkPlugin

    stock = {
        "EWC": lambda: EWCPlugin(5.0),
        "EWC online": lambda: EWCPlugin(5.0, mode="online", decay_factor=0.9),
        "MAS": lambda: MASPlugin(0.1, 0.5),
        "RWalk": lambda: RWalkPlugin(0.5, 0.9, 1),
    }[case]()
    experiences = [visit(index) for index in range(4)]
    lr = {"adam": 0.05, "sgd": 0.2}[name]
    theirs = in_avalanche(stock, experiences, learner_of(name, lr))
    learner, strategy = learner_of(name, lr), build(case)
    strategy.setup(learner)
    penalties = [penalty for e in experiences for penalty in train(learner, strategy, e)]
    alone = learner_of(name, lr)
    for experience in experiences:
        train(alone, Strategy(), experience)
    for key, parameter in weights(learner).items():
        torch.testing.assert_close(parameter, theirs[key], rtol=1e-5, atol=1e-5)
        assert (parameter - alone.parameters[key]).abs().max() > 1e-3  # and the plugin mattered
    assert max(penalties) > 1e-3


# -- importances and penalties by hand ------------------------------------------------------------------


def test_ewcs_penalty_is_the_sum_over_past_experiences() -> None:
    learner, strategy = learner_of("sgd", 0.2), build("EWC", ewc_lambda=3.0)
    strategy.setup(learner)
    anchors, importances = [], []
    for index in range(2):
        experience = visit(index, steps=2)
        train(learner, strategy, experience)
        anchors.append(weights(learner))
        squares = {key: torch.zeros_like(p) for key, p in learner.parameters.items()}
        for batch in experience.batches:
            loss, _, _ = learner.loss(batch)
            for key, gradient in zip(
                squares, torch.autograd.grad(loss, list(learner.parameters.values())), strict=True
            ):
                squares[key] += gradient**2 / 2
        importances.append(squares)
    assert set(entries(learner)) == {
        f"avalanche.EWC.{what}.{number}" for what in ("importance", "anchor") for number in (0, 1)
    }
    last = visit(2, steps=2)
    strategy.before_experience(learner, last)
    one_step(learner, strategy, last.batch(0))
    here = weights(learner)
    expected = 3.0 * sum(
        float((f[key] * (here[key] - a[key]) ** 2).sum())
        for f, a in zip(importances, anchors, strict=True)
        for key in here
    )
    # at the same place the gradient is the penalty's alone
    strategy.rehearse(learner, last.batch(1))
    penalty = strategy.add_gradient(learner)
    assert penalty == pytest.approx(expected, rel=1e-5) and penalty > 0
    for key, parameter in learner.parameters.items():
        force = sum(
            2 * 3.0 * f[key] * (here[key] - a[key]) for f, a in zip(importances, anchors, strict=True)
        )
        torch.testing.assert_close(parameter.grad, force, rtol=1e-5, atol=1e-8)


def test_synaptic_importance_is_the_paths_work_over_its_length() -> None:
    learner, strategy = learner_of("sgd", 0.2), build("SynapticIntelligence", si_lambda=1.0, eps=1e-3)
    strategy.setup(learner)
    experience = visit(0)
    start = weights(learner)
    work = {key: torch.zeros_like(p) for key, p in start.items()}
    strategy.before_experience(learner, experience)
    for position in range(3):
        before = weights(learner)
        loss, _, _ = learner.loss(experience.batch(position))
        gradients = torch.autograd.grad(loss, list(learner.parameters.values()))
        one_step(learner, strategy, experience.batch(position))
        for key, gradient in zip(work, gradients, strict=True):
            work[key] += gradient * (learner.parameters[key].detach() - before[key])
    strategy.after_experience(learner, experience)
    for key, importance in learner.state["avalanche.SynapticIntelligence.importance"].items():
        way = learner.parameters[key].detach() - start[key]
        expected = (-work[key] / (way**2 + 1e-3)).clamp(max=1e-3)
        torch.testing.assert_close(importance, expected, rtol=1e-4, atol=1e-7)
        assert importance.abs().max() > 0
    # the anchor stands where the experience ended and does not move along
    train(learner, strategy, visit(1, phase="rest"))
    anchor = learner.state["avalanche.SynapticIntelligence.anchor"]
    assert all((anchor[key] - p).abs().max() > 1e-3 for key, p in learner.parameters.items())


def test_lwf_distils_the_former_model_over_every_token() -> None:
    learner, strategy = learner_of("sgd", 0.2), build("LwF", alpha=2.0, temperature=1.5)
    strategy.setup(learner)
    train(learner, strategy, visit(0))
    former = Bigram()
    former.load_state_dict(learner.model.state_dict())
    again = visit(1)
    strategy.before_experience(learner, again)
    one_step(learner, strategy, again.batch(0))
    # rows of different lengths: padding is not distilled
    uneven = (example(1, 2, 3, 4, 5), example(6, 5))
    strategy.rehearse(learner, uneven)
    penalty = strategy.add_gradient(learner)
    distances = []
    for row in uneven:
        ids = torch.from_numpy(row.input_ids).long()[None]
        p = (former(ids, False).logits[0] / 1.5).softmax(-1)
        q = (learner.model(ids, False).logits[0] / 1.5).softmax(-1)
        distances += (p * (p / q).log()).sum(-1).tolist()
    assert penalty == pytest.approx(2.0 * sum(distances) / 7, rel=1e-3) and penalty > 1e-4
    assert all(p.grad is not None and p.grad.any() for p in learner.parameters.values())


def test_walking_less_than_an_interval_leaves_a_number() -> None:
    """Avalanche divides 0 by 0 where no interval of `delta_t` steps ended in the first experience."""
    learner, strategy = learner_of(), build("RWalk", ewc_lambda=0.5, delta_t=100)
    strategy.setup(learner)
    penalties = [penalty for index in range(3) for penalty in train(learner, strategy, visit(index))]
    assert all(math.isfinite(penalty) for penalty in penalties)
    assert max(penalties) > 1e-4


# -- a plugin without effect ----------------------------------------------------------------------------


def test_avalanches_own_synaptic_intelligence_is_reported_as_having_no_effect(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    from avalanche.training.plugins import SynapticIntelligencePlugin

    from seqmem_plugins.avalanche import _standin

    class Stock(_standin.SynapticIntelligence):
        before_training_exp = SynapticIntelligencePlugin.before_training_exp
        before_training_iteration = SynapticIntelligencePlugin.before_training_iteration

    monkeypatch.setattr(_standin, "SynapticIntelligence", Stock)
    end = carry_out(planned_case(model, "SynapticIntelligence"), tmp_path / "run")[-1]
    assert end["event"] == "failed"
    assert end["reason"].startswith("avalanche:SynapticIntelligence has no effect after loop 0 visit 0: ")
    assert "its importance of every weight is exactly 0" in end["reason"]


def test_distilling_one_class_is_reported_as_having_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    from avalanche.training.regularization import LearningWithoutForgetting

    whole = LearningWithoutForgetting._distillation_loss
    monkeypatch.setattr(
        LearningWithoutForgetting,
        "_distillation_loss",
        lambda self, out, former, units: whole(self, out, former, [0]),
    )
    learner, strategy = learner_of(), build("LwF")
    strategy.setup(learner)
    train(learner, strategy, visit(0))
    with pytest.raises(
        RunFailed, match="has no effect after experience 1: at every step its penalty was 0, but"
    ):
        train(learner, strategy, visit(1))


def test_distilling_is_judged_anew_in_each_experience_and_rounding_is_no_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from seqmem_plugins.avalanche import _standin

    learner, strategy = learner_of(), build("LwF", alpha=1.0)
    strategy.setup(learner)
    train(learner, strategy, visit(0))
    assert max(train(learner, strategy, visit(1))) > 1e-4
    monkeypatch.setattr(
        _standin.Teacher, "__call__", lambda self, x: learner.logits(x.ids, None)[x.real] + 1.0
    )
    resting = train(learner, strategy, visit(2, phase="rest"))  # not judged: nothing is consolidated
    train(learner, strategy, visit(3, steps=1))  # nor by one step, at which the model may be the former one
    assert 0 < max(map(abs, resting)) < 1e-7
    with pytest.raises(RunFailed, match="has no effect after experience 4"):
        train(learner, strategy, visit(4))


def dropping(lr: float) -> Learner:
    """A small GPT-2 that drops a tenth of everything in training."""
    model = copy.deepcopy(loaded("gpt2"))
    assert model.config.resid_pdrop == 0.1
    torch.manual_seed(0)
    return Learner(model, OptimizerSettings(name="adam", lr=lr), torch.device("cpu"), seed=3)


def test_dropout_is_no_distance_between_a_model_and_its_former_self() -> None:
    learner, strategy = dropping(lr=1e-20), build("LwF")
    strategy.setup(learner)
    before = weights(learner)
    train(learner, strategy, visit(0))
    with pytest.raises(
        RunFailed, match="has no effect after experience 1: at every step its penalty was 0, but"
    ):
        train(learner, strategy, visit(1))
    assert all(torch.equal(parameter, before[name]) for name, parameter in weights(learner).items())
    learner, strategy = dropping(lr=1e-3), build("LwF")
    strategy.setup(learner)
    train(learner, strategy, visit(0))
    first, *later = train(learner, strategy, visit(1))
    assert first < 1e-6 < 1e-4 < max(later)


def test_distilling_with_strength_zero_is_naive_to_the_bit_with_dropout() -> None:
    ends = []
    for strategy in (build("LwF", alpha=0.0), Strategy()):
        learner = dropping(lr=1e-2)
        strategy.setup(learner)
        for index in range(2):
            train(learner, strategy, visit(index))
        ends.append(weights(learner))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("EWC", {"ewc_lambda": 0.0}),
        ("SynapticIntelligence", {"si_lambda": 0.0}),
        ("MAS", {"lambda_reg": 0.0}),
        ("RWalk", {"ewc_lambda": 0.0}),
        ("LwF", {"alpha": 0.0}),
    ],
)
def test_a_penalty_of_strength_zero_is_naive(case: str, options: dict[str, Any]) -> None:
    learner, alone, strategy = learner_of(), learner_of(), build(case, **options)
    strategy.setup(learner)
    for index in range(3):
        assert train(learner, strategy, visit(index)) == [0.0] * 3
        train(alone, Strategy(), visit(index))
    assert all(torch.equal(p, alone.parameters[key]) for key, p in learner.parameters.items())


# -- memories -------------------------------------------------------------------------------------------


def ids(rows: Sequence[Example]) -> list[tuple[int, ...]]:
    return [tuple(row.input_ids.tolist()) for row in rows]


def test_replay_keeps_rows_of_all_experiences_alike_and_shows_them() -> None:
    learner, strategy = learner_of(), build("Replay", mem_size=6, batch_size_mem=4)
    strategy.setup(learner)
    experiences = [visit(index) for index in range(3)]
    for past, experience in enumerate(experiences):
        strategy.before_experience(learner, experience)
        learner.set_trainable(None)
        rehearsed = strategy.rehearse(learner, experience.batch(0))
        known = {key: e.index for e in experiences[:past] for batch in e.batches for key in ids(batch)}
        assert len(rehearsed) == (4 if past else 0)
        assert len(set(ids(rehearsed))) == len(rehearsed)  # without replacement
        assert set(ids(rehearsed)) <= known.keys()
        train(learner, strategy, experience)
    groups = [group["rows"] for group in strategy.state_dict()["groups"]]
    assert [len(group) for group in groups] == [2, 2, 2]
    for group, experience in zip(groups, experiences, strict=True):
        own = {key for batch in experience.batches for key in ids(batch)}
        assert {tuple(row["input_ids"]) for row in group} <= own
    assert strategy.unregistered_bytes() == 6 * 5 * 5


def test_with_more_experiences_than_room_the_storage_policy_keeps_the_oldest() -> None:
    """Avalanche's policy, as it is; what can no longer be filled is not carried along."""
    learner, strategy = learner_of(), build("Replay", mem_size=2, batch_size_mem=2)
    strategy.setup(learner)
    for index in range(5):
        train(learner, strategy, visit(index, steps=1))
    groups = strategy.state_dict()["groups"]
    assert [len(group["rows"]) for group in groups] == [1, 1]
    own = [{key for batch in visit(index, steps=1).batches for key in ids(batch)} for index in (0, 1)]
    assert all(tuple(g["rows"][0]["input_ids"]) in known for g, known in zip(groups, own, strict=True))
    policy = strategy._plugin.storage_policy
    assert len(policy.buffer_groups) == 2 and policy._num_exps == 5


def gradient_of(learner: Learner, rows: Sequence[Example]) -> torch.Tensor:
    loss, _, _ = learner.loss(rows)
    gradients = torch.autograd.grad(loss, list(learner.parameters.values()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def projected_case(
    case: str, **options: Any
) -> tuple[Learner, Any, list[list[Example]], torch.Tensor, torch.Tensor]:
    """Three experiences, then a step that unlearns them: (..., kept rows, gradient, what is made of it)."""
    learner, strategy = learner_of("sgd", 0.2), build(case, **options)
    strategy.setup(learner)
    for index, answer in enumerate((2, 3, 4)):
        rows = (example(1, answer, 5), example(1, answer, 6))
        train(learner, strategy, Experience(index, str(index), "loop", None, (rows,), repeats=4))
    last = Experience(3, "last", "loop", None, ((example(1, 0, 3),),))
    strategy.before_experience(learner, last)
    batch = last.batch(0)
    strategy.rehearse(learner, batch)
    kept = strategy._plugin.buffers
    learned, _, _ = learner.loss([row for rows in kept for row in rows])
    (learner.loss(batch)[0] - 3 * learned).backward()
    plain = torch.cat([p.grad.flatten() for p in learner.parameters.values() if p.grad is not None])
    strategy.transform_gradient(learner)
    made = torch.cat([p.grad.flatten() for p in learner.parameters.values() if p.grad is not None])
    return learner, strategy, kept, plain, made


def test_agem_takes_out_what_goes_against_the_memory_on_average() -> None:
    learner, strategy, kept, plain, made = projected_case("AGEM", patterns_per_experience=2, sample_size=6)
    assert [len(rows) for rows in kept] == [2, 2, 2]
    reference = gradient_of(learner, [row for rows in kept for row in rows])  # the sample is all of it
    assert torch.dot(plain, reference) < -1e-3
    expected = plain - torch.dot(plain, reference) / torch.dot(reference, reference) * reference
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-6)
    assert strategy.measured() == {"avalanche.AGEM.projected": 1.0}
    assert strategy.measured() == {}


def test_gem_goes_against_no_past_experience() -> None:
    learner, strategy, kept, plain, made = projected_case(
        "GEM", patterns_per_experience=2, memory_strength=0.0
    )
    references = torch.stack([gradient_of(learner, rows) for rows in kept])
    assert (references @ plain < -1e-3).any()
    assert (references @ made > -1e-2).all()  # the solver is given a regularised problem
    assert strategy.measured() == {"avalanche.GEM.projected": 1.0}


def test_agem_draws_with_more_experiences_than_it_samples() -> None:
    """Avalanche asks for 0 rows of each and fails."""
    learner, strategy = learner_of(), build("AGEM", patterns_per_experience=1, sample_size=2)
    strategy.setup(learner)
    for index in range(5):
        train(learner, strategy, visit(index))
    drawn = {tuple(row) for _ in range(30) for row in strategy._plugin.sample_from_memory()[0].ids.tolist()}
    assert len(drawn) == 5
    assert len(strategy._plugin.sample_from_memory()[0].ids) == 2


def test_one_step_of_replay_costs_the_same_after_many_experiences() -> None:
    """Counted, not timed: what is kept and walked over does not grow with the stream."""
    learner, strategy = learner_of(), build("Replay", mem_size=4, batch_size_mem=2)
    strategy.setup(learner)
    sizes = []
    for index in range(40):
        train(learner, strategy, visit(index, steps=1))
        sizes.append((len(strategy._rows), len(strategy._plugin.storage_policy.buffer_groups)))
    assert set(sizes[4:]) == {(4, 4)}


# -- with others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "others",
    [
        "avalanche:MAS+moment_avg",
        "ewc+avalanche:Replay",
        "avalanche:EWC+avalanche:Replay",
        "replay+avalanche:AGEM",
        "avalanche:SynapticIntelligence+avalanche:LwF",
    ],
)
def test_it_goes_together_with_other_strategies(
    others: str, model: Path, naive: RunRecord, tmp_path: Path
) -> None:
    run = planned(model, others, {"scenario.cycles": 1})
    record, folder = finish(run, tmp_path / "whole"), tmp_path / "stopped"
    assert record.info["final_weights"] != naive.info["final_weights"]
    events = carry_out(run, folder, should_stop=stop_after(5))
    assert events[-1]["event"] == "stopped"
    finish(run, folder, resume=True)
    assert results(RunRecord.open(folder)) == results(record)


@pytest.mark.parametrize("case", CASES)
def test_what_a_plugin_asks_the_model_goes_the_way_of_the_experience(case: str) -> None:
    """Consolidations, reference gradients and RWalk's steps; also in an experience that is resumed inside."""
    learner, strategy = learner_of(), build(case)
    asked: list[int | None] = []

    def route(input_ids: torch.Tensor, label: int | None) -> torch.Tensor:
        asked.append(label)
        logits: torch.Tensor = learner.model(input_ids, False).logits
        return logits

    learner.route = route
    strategy.setup(learner)
    seen = {}
    for index, label in enumerate((4, None, 6)):
        asked.clear()
        train(learner, strategy, replace(visit(index), task_label=label))
        seen[label] = set(asked)
    if case in ("Replay", "SynapticIntelligence"):  # neither asks the model anything
        assert seen == {4: set(), None: set(), 6: set()}
    else:
        assert seen[None] == {None} and seen[6] == {6}
    again = build(case)
    again.setup(learner)
    again.load_state_dict(json.loads(json.dumps(strategy.state_dict())))
    asked.clear()
    again._standin.show(visit(3).batch(0))
    again._standin.model(again._standin.mb_x)
    assert asked == [6]


@pytest.mark.parametrize("case", ["EWC", "MAS"])
def test_beside_added_blocks_what_is_not_on_the_way_has_no_importance(
    case: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqmem_plugins.avalanche import _penalties
    from seqmem_plugins.strategies._architecture import block_of

    found: list[tuple[int | None, dict[int | None, float]]] = []

    class Watched(getattr(_penalties, case)):  # type: ignore[misc]
        def after_experience(self, learner: Learner, experience: Experience) -> None:
            counter = self._standin.clock.train_exp_counter
            super().after_experience(learner, experience)
            if self._standin.clock.train_exp_counter == counter:
                return
            importance = learner.state[
                f"avalanche.{case}.importance" + (f".{counter}" if case == "EWC" else "")
            ]
            sums: dict[int | None, float] = {}
            for key, tensor in importance.items():
                sums[block_of(key)] = sums.get(block_of(key), 0.0) + float(tensor.sum())
            found.append((experience.task_label, sums))

    name = f"avalanche:{case}"
    registry = Registry.from_environment()
    spec = registry.load("strategy", name)
    monkeypatch.setitem(registry._specs, ("strategy", name), replace(spec, build=Watched))
    run = planned(
        model,
        f"freeze_component+{name}",
        {
            "strategy.freeze_component.component": "added_blocks",
            "strategy.freeze_component.components": 2,
            "scenario.row_tokens": 96,
            "scenario.exposures": 4,
        },
        scenario="freeze_loops",
        registry=registry,
    )
    finish(run, tmp_path / "run", registry=registry)
    assert {None, 0, 1} == {label for label, _ in found}
    blocks = max(number for number in found[0][1] if number is not None) + 1
    before = dict.fromkeys((blocks - 2, blocks - 1), 0.0)
    for label, sums in found:
        assert sums[blocks - 3] > 0  # the last block of the model as it came
        for added in before:
            # MAS carries half of what was there along
            carried = before[added] / 2 if case == "MAS" else 0.0
            if label is not None and added == blocks - 1 - label:
                assert sums[added] > 1.01 * carried
            else:
                assert sums[added] == pytest.approx(carried)
            before[added] = sums[added]


@pytest.mark.parametrize("other", ["freeze_component", "lora"])
def test_distilling_is_refused_beside_a_strategy_that_routes(other: str) -> None:
    with pytest.raises(UsageError, match="cannot go together, because both change the learner's forward"):
        installed().load("strategy", f"{other}+avalanche:LwF")


def test_rows_count_as_often_as_the_batches_list_them() -> None:
    """And not as often as `repeats` trains them."""
    sums = []
    for batches, repeats in (
        (((example(1, 2, 3), example(4, 5, 6)),), 1),
        (((example(1, 2, 3), example(4, 5, 6)),), 3),
        (((example(1, 2, 3), example(4, 5, 6)), (example(1, 2, 3), example(1, 2, 3))), 1),
    ):
        learner, strategy = learner_of("sgd", 1e-12), build("MAS")
        strategy.setup(learner)
        train(learner, strategy, Experience(0, "one", "loop", None, batches, repeats=repeats))
        importance = learner.state["avalanche.MAS.importance"]["table"]
        sums.append((float(importance[1].sum()), float(importance[4].sum())))
    once, thrice, listed = sums
    assert thrice == pytest.approx(once)
    assert listed[0] == pytest.approx(1.5 * once[0], rel=1e-4)
    assert listed[1] == pytest.approx(0.5 * once[1], rel=1e-4)


def test_penalties_add_up_and_two_projections_do_not() -> None:
    one, other = learner_of("sgd", 0.2), learner_of("sgd", 0.2)
    both = [build("EWC"), build("MAS")]
    for strategy in both:
        strategy.setup(one)
    alone = build("EWC")
    alone.setup(other)
    for strategy, learner in ((both[0], one), (alone, other)):
        train(learner, strategy, visit(0))
    for key, tensor in one.state["avalanche.EWC.importance.0"].items():
        assert torch.equal(tensor, other.state["avalanche.EWC.importance.0"][key])
    with pytest.raises(UsageError, match="cannot go together, because both change the learner's gradient"):
        installed().load("strategy", "avalanche:AGEM+avalanche:GEM")


@pytest.mark.parametrize("case", PENALTIES)
def test_a_weight_that_grows_is_free_and_the_others_stay_held(case: str) -> None:
    """The registry resizes what belongs to parameters; the plugin takes it from there."""
    learner, strategy = learner_of(), build(case)
    strategy.setup(learner)
    train(learner, strategy, visit(0))

    class Wider(Bigram):
        def __init__(self, former: Bigram) -> None:
            super().__init__()
            self.load_state_dict(former.state_dict())
            self.gain = torch.nn.Parameter(torch.zeros(7))

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
            return SimpleNamespace(logits=super().forward(input_ids, use_cache).logits + self.gain)

    learner.adopt(Wider(learner.model))
    penalties = train(learner, strategy, visit(1))
    assert max(penalties) > 0
    assert all(entry.keys() == learner.parameters.keys() for entry in entries(learner).values())


# -- wrong requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        (
            "avalanche:EWC",
            {"strategy.mode": "online"},
            "mode=online needs decay_factor, a number from 0 to 1",
        ),
        ("avalanche:EWC", {"strategy.decay_factor": 0.5}, "decay_factor=0.5 is used by mode=online only"),
        ("avalanche:EWC", {"strategy.mode": "seperate"}, "it must be: separate | online"),
        ("avalanche:MAS", {"strategy.alpha": 2}, "option 'alpha' = 2 is not allowed"),
        (
            "avalanche:CWRStar",
            {},
            "strategy avalanche:CWRStar is not offered: it keeps the output weights of each class",
        ),
        ("avalanche:EWCPlugin", {}, "Did you mean 'avalanche:EWC'?"),
    ],
)
def test_a_wrong_request_is_one_clear_line(
    name: str, options: dict[str, Any], reason: str, model: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        planned(model, name, options)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_gem_without_its_solver_is_refused(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    from seqmem_plugins.avalanche import strategies

    monkeypatch.setattr(strategies, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="avalanche:GEM needs the quadprog package, which is not installed"):
        planned(model, "avalanche:GEM")


def test_what_numpy_cannot_hold_is_refused_and_the_rest_runs_in_half_precision(
    model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="needs a model in float32, not one of 2 bytes a number"):
        planned_case(model, "SynapticIntelligence", precision="bfloat16")
    for case in ("EWC online", "RWalk", "LwF", "GEM"):
        run = planned_case(model, case, {"scenario.cycles": 1, "scenario.rest": "none"}, precision="bfloat16")
        record = finish(run, tmp_path / case)
        if case != "GEM":
            assert record.info["extra_state_bytes"] == run.extra_bytes, case


def test_each_name_not_offered_says_why_and_is_no_strategy_here() -> None:
    assert not seqmem_not_offered.keys() & SPECS.keys()
    for reason in seqmem_not_offered.values():
        assert "no class label" in reason and "\n" not in reason


def test_planning_imports_no_torch_and_no_avalanche() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from seqmem_plugins.avalanche.strategies import seqmem_strategy\n"
        "for s in seqmem_strategy():\n"
        "    s.build(s.options())\n"
        "assert not {'torch', 'avalanche'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- rows -----------------------------------------------------------------------------------------------


def test_rows_become_inputs_and_shifted_targets() -> None:
    from seqmem_plugins.avalanche.rows import token_dataset

    partly = Example(np.array([4, 5, 6, 1], np.int32), np.array([True, False, True, True]))
    dataset = token_dataset([partly, example(2, 3)], None)
    assert [[part.tolist() for part in row[:2]] + [row[2]] for row in (dataset[0], dataset[1])] == [
        [[4, 5, 6, 1], [-100, 6, 1, -100], -1],
        [[2, 3, 0, 0], [3, -100, -100, -100], -1],
    ]
    assert list(dataset.targets_task_labels) == [-1, -1]
    assert list(token_dataset([partly], 3).targets_task_labels) == [3]


def test_packed_rows_come_apart() -> None:
    from seqmem_plugins.avalanche.rows import token_dataset

    packed = pack([example(4, 5, 6), example(2, 3)], 8)
    assert len(packed) == 1
    dataset = token_dataset(packed, 0)
    assert [row[0].tolist() for row in (dataset[0], dataset[1])] == [[4, 5, 6], [2, 3, 0]]
    assert [row[1].tolist() for row in (dataset[0], dataset[1])] == [[5, 6, -100], [3, -100, -100]]
