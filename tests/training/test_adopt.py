"""A learner whose model changes: registered state and moments follow its parameters."""

from __future__ import annotations

import pytest
import torch

from seqmem.core.recipe import OptimizerSettings
from seqmem.training.learner import Learner, ParameterState

CPU = torch.device("cpu")


def net(width: int, second: bool = True) -> torch.nn.Module:
    torch.manual_seed(width)
    layers = {"a": torch.nn.Linear(2, width)}
    if second:
        layers["b"] = torch.nn.Linear(2, 2)
    return torch.nn.ModuleDict(layers)


def trained(width: int = 3, name: str = "adam") -> Learner:
    learner = Learner(net(width), OptimizerSettings(name=name, momentum=0.9 if name == "sgd" else 0), CPU, 0)
    for parameter in learner.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    learner.optimizer.step()
    learner.optimizer.zero_grad()
    return learner


def test_old_values_lead_and_the_rest_is_filled() -> None:
    learner = trained()
    mask = learner.state.add("mask", fill=1.0)
    mask["a.weight"].fill_(7)
    rates = learner.state.put("rates", {"a.weight": torch.full((3, 1), 5.0)}, fill=2.0)
    old = learner.moments("main", "exp_avg")["a.weight"].clone()
    learner.adopt(net(5))
    assert learner.state["mask"] is mask and learner.state["rates"] is rates
    assert mask["a.weight"].tolist() == [[7, 7]] * 3 + [[1, 1]] * 2
    assert rates["a.weight"].tolist() == [[5], [5], [5], [2], [2]]  # what broadcasts goes on to
    moments = learner.moments("main", "exp_avg")["a.weight"]
    assert torch.equal(moments[:3], old) and not moments[3:].any()


def test_the_optimizer_goes_on_with_the_new_parameters() -> None:
    learner = trained()
    learner.adopt(net(5))
    (group,) = learner.optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in learner.model.parameters()]
    weight = learner.parameters["a.weight"]
    before = weight.detach().clone()
    weight.grad = torch.ones_like(weight)
    learner.optimizer.step()
    assert (weight != before).all()
    assert learner.optimizer.state[weight]["exp_avg"] is learner.moments("main", "exp_avg")["a.weight"]
    assert float(learner.moments("main", "step")["a.weight"]) == 2


def test_parameters_keep_the_state_of_those_they_come_from() -> None:
    learner = trained()
    scalars = learner.state.add("age", fill=-1.0, scalar=True)
    scalars["b.weight"].fill_(4)
    learner.moments("main", "exp_avg")["b.weight"].fill_(9)
    model = torch.nn.ModuleDict(
        {"a": torch.nn.Linear(2, 3), "b": torch.nn.Linear(2, 2), "c": torch.nn.Linear(2, 2)}
    )
    learner.adopt(model, {"c.weight": "b.weight", "c.bias": "b.bias", "b.weight": None, "b.bias": None})
    assert (learner.moments("main", "exp_avg")["c.weight"] == 9).all()
    assert not learner.moments("main", "exp_avg")["b.weight"].any()
    assert float(scalars["c.weight"]) == 4 and float(scalars["b.weight"]) == -1


def test_what_is_gone_is_forgotten_and_bytes_are_counted_against_the_first_model() -> None:
    learner = trained()
    assert learner.extra_bytes() == 0
    learner.adopt(net(3, second=False))
    assert set(learner.parameters) == {"a.weight", "a.bias"} == set(learner.moments("main", "exp_avg"))
    assert learner.extra_bytes() == -(6 * 4 * 3 + 2 * 4)  # six numbers, two moments, two clocks
    learner.adopt(net(5))
    assert learner.extra_bytes() == 6 * 4 * 3
    learner.parameters["a.weight"].grad = torch.zeros(5, 2)
    assert set(learner.copy_parameters()) == {"a.weight"}
    assert learner.extra_bytes() == 6 * 4 * 3 + sum(p.nbytes for p in learner.parameters.values())


def test_only_parameters_that_want_a_gradient_are_the_learners() -> None:
    learner = trained(name="sgd")
    model = net(3)
    model["a"].requires_grad_(False)
    learner.adopt(model)
    assert (
        set(learner.parameters) == {"b.weight", "b.bias"} == set(learner.moments("main", "momentum_buffer"))
    )


def test_what_a_larger_parameter_is_filled_with_is_restored_too() -> None:
    learner = trained()
    learner.state.add("mask", fill=1.0, dtype=torch.uint8)
    saved, fills = {k: t.clone() for k, t in learner.tensors().items()}, learner.state.fills()
    resumed = Learner(net(3), OptimizerSettings(), CPU, 0)  # the entry is not made yet
    resumed.restore(saved, fills, "main")
    resumed.adopt(net(4))
    assert resumed.state["mask"]["a.weight"].dtype == torch.uint8
    assert resumed.state["mask"]["a.weight"].tolist() == [[1, 1]] * 4


def test_a_name_is_taken_once() -> None:
    state = ParameterState({"a": torch.nn.Parameter(torch.zeros(2))})
    state.add("mask")
    with pytest.raises(KeyError):
        state.put("mask", {})
    state.remove("mask")
    assert "mask" not in state and state.bytes() == 0
