"""`ewc`: the importance is the Fisher information it says it is, and the penalty holds exactly what it weighs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from model_folders import Kind
from small_runs import carry_out, finish, planned, results, rows, small_model

from seqmem import Example, Experience, UsageError, pack
from seqmem.core.recipe import OptimizerSettings
from seqmem.record.reader import RunRecord
from seqmem.training.learner import Learner
from seqmem_plugins.strategies.ewc import ANCHOR, EWC, FISHER, EWCOptions

ADAM = OptimizerSettings(name="adam", lr=1e-2)
WORDS = 4
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


# -- learners small enough to follow by hand ----------------------------------------------------------------


class Bigram(torch.nn.Module):
    """Next-token logits from a table and a bias."""

    def __init__(self, words: int = WORDS) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(words, words, generator=generator))
        self.bias = torch.nn.Parameter(torch.randn(words, generator=generator))
        self.calls: list[tuple[int, ...]] = []

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        self.calls += [tuple(ids) for ids in input_ids.tolist()]
        return SimpleNamespace(logits=self.table[input_ids] + self.bias)


class Reader(torch.nn.Module):
    """Reads all tokens so far: positions share weights, and one position's score depends on those before."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.embedding = torch.nn.Parameter(0.5 * torch.randn(WORDS, 3, generator=generator))
        self.mix = torch.nn.Parameter(0.5 * torch.randn(3, 3, generator=generator))
        self.out = torch.nn.Parameter(0.5 * torch.randn(3, WORDS, generator=generator))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        hidden = torch.tanh(self.embedding[input_ids].cumsum(1) @ self.mix)
        return SimpleNamespace(logits=self.dropout(hidden) @ self.out)


def learner_of(module: torch.nn.Module | None = None, seed: int = 0) -> Learner:
    return Learner(module or Bigram(), ADAM, torch.device("cpu"), seed=seed)


def strategy_for(learner: Learner, **options: Any) -> EWC:
    strategy = EWC(EWCOptions(**options))
    strategy.setup(learner)
    return strategy


def row(*tokens: int, targets: Iterable[int] | None = None, **extra: Any) -> Example:
    """A row whose targets are the tokens at these places; all where nothing is said."""
    mask = np.zeros(len(tokens), np.bool_)
    mask[list(range(len(tokens)) if targets is None else targets)] = True
    return Example(np.array(tokens, np.int32), mask, **extra)


def visit(*examples: Example, phase: Any = "task", trains: Any = "all") -> Experience:
    return Experience(0, "visit", phase, 0, tuple((example,) for example in examples), trains=trains)


def train(learner: Learner, strategy: EWC, *examples: Example, steps: int = 2) -> None:
    """Steps as the loop makes them, without the end of the experience."""
    for _ in range(steps):
        loss, _, _ = learner.loss(examples)
        loss.backward()
        strategy.add_gradient(learner)
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)


def copied(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def test_importance_is_of_the_forward_that_is_trained() -> None:
    """The weights on the route of the task matter where another part of a composition routes."""
    learner = learner_of()
    labels = []

    def route(input_ids: torch.Tensor, task_label: int | None) -> torch.Tensor:
        labels.append(task_label)
        return learner.parameters["table"][input_ids]

    learner.route = route
    strategy_for(learner).after_experience(learner, visit(row(0, 1, 2)))
    assert labels == [0]
    assert learner.state[FISHER]["table"].any() and not learner.state[FISHER]["bias"].any()


# -- the sampled Fisher -----------------------------------------------------------------------------------


def exact_fisher(learner: Learner, examples: Iterable[Example]) -> Tensors:
    """By its definition: the mean over every way to label a row, weighted by the model's probability of it."""
    means: list[Tensors] = []
    learner.model.eval()
    for example in examples:
        targets = np.flatnonzero(example.loss_mask[1:])
        ids = torch.from_numpy(example.input_ids.astype(np.int64))[None]
        mean = {name: torch.zeros_like(p) for name, p in learner.parameters.items()}
        for labels in itertools.product(range(WORDS), repeat=len(targets)):
            logits = learner.model(input_ids=ids, use_cache=False).logits[0]
            logp = logits.log_softmax(-1)[targets, list(labels)].sum()
            gradients = torch.autograd.grad(logp, list(learner.parameters.values()))
            for name, gradient in zip(learner.parameters, gradients, strict=True):
                mean[name] += logp.detach().exp() * gradient**2 / len(targets)
        means.append(mean)
    learner.model.train()
    return {name: torch.stack([mean[name] for mean in means]).mean(0) for name in learner.parameters}


def distance(estimate: Tensors, exact: Tensors) -> float:
    """Sum of the absolute errors over the sum of the exact values."""
    return float(
        sum((estimate[name] - exact[name]).abs().sum() for name in exact)
        / sum(exact[name].abs().sum() for name in exact)
    )


def test_the_sampled_fisher_converges_to_the_exact_one() -> None:
    learner = learner_of(Reader())
    strategy = strategy_for(learner, fisher="sampled")
    examples = [row(0, 1, 2, 3), row(3, 3, 1), row(2, 0, 1, 1, targets=(2, 3))]
    exact = exact_fisher(learner, examples)
    errors = {}
    for draws in range(1, 1201):  # nothing is trained between: gamma = 1 adds up draws of one Fisher
        strategy.after_experience(learner, visit(*examples))
        if draws in (12, 1200):
            mean = {name: tensor / draws for name, tensor in learner.state[FISHER].items()}
            errors[draws] = distance(mean, exact)
    assert errors[1200] < 0.04
    assert errors[1200] < errors[12] / 3  # expected: a tenth
    true_labels = learner_of(Reader())
    strategy_for(true_labels, fisher="empirical").after_experience(true_labels, visit(*examples))
    assert distance(true_labels.state[FISHER], exact) > 0.2  # what the bound above can tell apart
    assert learner.model.training


def test_labels_are_drawn_from_the_learners_generator() -> None:
    fishers = []
    for seed in (0, 0, 1):
        learner = learner_of(seed=seed)
        strategy_for(learner).after_experience(learner, visit(row(0, 1, 2), row(3, 2, 1)))
        fishers.append(learner.state[FISHER]["table"])
    assert torch.equal(fishers[0], fishers[1])
    assert not torch.equal(fishers[0], fishers[2])


# -- the empirical Fisher -----------------------------------------------------------------------------------


def by_hand(learner: Learner, example: Example) -> tuple[np.ndarray, np.ndarray, int]:
    """Gradient of a row's summed log p for the bigram model, in float64: table, bias, number of targets."""
    table, bias = (learner.parameters[name].detach().double().numpy() for name in ("table", "bias"))
    gradient, count = np.zeros_like(table), 0
    for place in np.flatnonzero(example.loss_mask):
        if place == 0 or (example.segments is not None and np.diff(example.segments)[place - 1]):
            continue
        previous, target = example.input_ids[place - 1], example.input_ids[place]
        p = np.exp(table[previous] + bias)
        gradient[previous] += np.eye(len(bias))[target] - p / p.sum()
        count += 1
    return gradient, gradient.sum(0), count


def empirical_by_hand(learner: Learner, *examples: Example) -> tuple[np.ndarray, np.ndarray]:
    scores = [by_hand(learner, example) for example in examples]
    table = np.mean([table**2 / count for table, _, count in scores], axis=0)
    return table, np.mean([bias**2 / count for _, bias, count in scores], axis=0)


def holds(learner: Learner, entry: str, expected: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(
        np.allclose(learner.state[entry][name].numpy(), value, rtol=1e-5, atol=1e-7)
        for name, value in zip(("table", "bias"), expected, strict=True)
    )


ROWS = (row(0, 1, 2, 3, 3, 1), row(3, 1, 1, targets=(0, 1)), row(2, 0, 3, 1, targets=(2, 3)))


def test_the_empirical_fisher_is_the_hand_computed_one_and_not_the_square_of_a_batch_mean() -> None:
    learner = learner_of()
    strategy_for(learner, fisher="empirical").after_experience(learner, visit(*ROWS))
    assert holds(learner, FISHER, empirical_by_hand(learner, *ROWS))
    loss, _, _ = learner.loss(ROWS)
    loss.backward()
    for name, parameter in learner.parameters.items():
        mean_squared = parameter.grad**2
        assert (mean_squared - learner.state[FISHER][name]).abs().sum() > 0.5 * mean_squared.sum()


def test_rows_without_a_target_and_rows_seen_before_count_for_nothing() -> None:
    learner = learner_of()
    silent = row(1, 2, 3, targets=(0,))  # a row's first token has nothing before it
    examples = (ROWS[0], silent, ROWS[1], row(*ROWS[0].input_ids.tolist()), ROWS[2])
    strategy_for(learner, fisher="empirical").after_experience(learner, visit(*examples))
    assert holds(learner, FISHER, empirical_by_hand(learner, *ROWS))


def test_an_experience_without_any_target_is_not_consolidated() -> None:
    learner = learner_of()
    strategy = strategy_for(learner)
    strategy.after_experience(learner, visit(row(1, 2, 3, targets=(0,))))
    assert strategy.state_dict() == {"consolidated": False}


def test_packed_documents_count_as_the_sequences_they_are() -> None:
    (packed,) = pack(ROWS, 64)
    assert packed.segments is not None
    learner = learner_of()
    strategy_for(learner, fisher="empirical").after_experience(learner, visit(packed))
    assert holds(learner, FISHER, empirical_by_hand(learner, *ROWS))


def test_no_more_rows_are_read_than_asked_for() -> None:
    drawn = set()
    for seed in range(12):
        learner = learner_of(seed=seed)
        strategy_for(learner, fisher="empirical", examples=2).after_experience(learner, visit(*ROWS))
        assert isinstance(learner.model, Bigram)
        assert len(learner.model.calls) == len(set(learner.model.calls)) == 2
        chosen = [example for example in ROWS if tuple(example.input_ids) in learner.model.calls]
        assert holds(learner, FISHER, empirical_by_hand(learner, *chosen))
        drawn.add(frozenset(learner.model.calls))
    assert len(drawn) == 3  # every pair is drawn by some seed


# -- consolidation ----------------------------------------------------------------------------------------


def test_importance_decays_online_and_the_anchor_is_the_last_experiences_end() -> None:
    learner = learner_of()
    strategy = strategy_for(learner, fisher="empirical", gamma=0.5)
    new = []
    for example in ROWS:
        train(learner, strategy, example)
        new.append(empirical_by_hand(learner, example))
        strategy.after_experience(learner, visit(example))
    expected = [a / 4 + b / 2 + c for a, b, c in zip(*new, strict=True)]
    assert holds(learner, FISHER, (expected[0], expected[1]))
    at_the_end = copied(learner.parameters)
    train(learner, strategy, ROWS[0])
    for name, anchor in learner.state[ANCHOR].items():
        assert torch.equal(anchor, at_the_end[name])
        assert not torch.equal(anchor, learner.parameters[name])


@pytest.mark.parametrize(("phase", "trains"), [("rest", "all"), ("task", "none")])
def test_rest_and_what_trains_nothing_are_not_consolidated(phase: Any, trains: Any) -> None:
    learner = learner_of()
    strategy = strategy_for(learner)
    strategy.after_experience(learner, visit(*ROWS))
    before = {entry: copied(learner.state[entry]) for entry in (FISHER, ANCHOR)}
    drawn = learner.generator.bit_generator.state
    train(learner, strategy, ROWS[0])
    strategy.after_experience(learner, visit(*ROWS, phase=phase, trains=trains))
    for entry, tensors in before.items():
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in learner.state[entry].items())
    assert learner.generator.bit_generator.state == drawn
    train(learner, strategy, ROWS[0])
    loss, _, _ = learner.loss(ROWS)
    loss.backward()
    assert strategy.add_gradient(learner) > 0  # in rest too what was learned is held


def test_importance_is_asked_of_all_weights_and_leaves_everything_as_it_was() -> None:
    learner = learner_of()
    strategy = strategy_for(learner, fisher="empirical")
    learner.set_trainable({"bias"})
    loss, _, _ = learner.loss(ROWS)
    loss.backward()
    grad = learner.parameters["bias"].grad
    assert grad is not None
    kept, weights = grad.clone(), copied(learner.parameters)
    strategy.after_experience(learner, visit(*ROWS))
    assert holds(learner, FISHER, empirical_by_hand(learner, *ROWS))
    assert learner.parameters["table"].grad is None
    assert learner.parameters["bias"].grad is grad and torch.equal(grad, kept)
    assert [p.requires_grad for p in learner.parameters.values()] == [False, True]
    assert all(torch.equal(p, weights[name]) for name, p in learner.parameters.items())


# -- the penalty --------------------------------------------------------------------------------------------


def moved_learner(**options: Any) -> tuple[Learner, EWC]:
    """One experience consolidated, then trained away from it; the gradients of another batch are in place."""
    learner = learner_of()
    strategy = strategy_for(learner, **options)
    strategy.after_experience(learner, visit(*ROWS))
    train(learner, strategy, ROWS[2], steps=5)
    loss, _, _ = learner.loss([ROWS[1]])
    loss.backward()
    return learner, strategy


def gradients(learner: Learner) -> Tensors:
    return {name: p.grad.clone() for name, p in learner.parameters.items() if p.grad is not None}


@pytest.mark.parametrize("group", [2**24, 1])
def test_the_gradient_is_the_penaltys_and_is_added_to_the_losss(
    group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqmem_plugins.strategies.ewc.GROUP", group)
    learner, strategy = moved_learner(lam=7.0)
    before = gradients(learner)
    fisher, anchor = learner.state[FISHER], learner.state[ANCHOR]
    parts = [(fisher[k] * (p - anchor[k]) ** 2).sum() for k, p in learner.parameters.items()]
    penalty = 7.0 / 2 * torch.stack(parts).sum()
    expected = torch.autograd.grad(penalty, list(learner.parameters.values()))
    assert strategy.add_gradient(learner) == pytest.approx(penalty.item(), rel=1e-5)
    for (name, after), force in zip(gradients(learner).items(), expected, strict=True):
        assert force.abs().max() > 1e-3
        torch.testing.assert_close(after, before[name] + force)


def test_the_gradient_is_avalanches_with_twice_its_lambda() -> None:
    from avalanche.training.plugins import EWCPlugin
    from avalanche.training.utils import ParamData

    learner, strategy = moved_learner(lam=6.0)
    before = gradients(learner)
    value = strategy.add_gradient(learner)
    ours = {name: after - before[name] for name, after in gradients(learner).items()}
    plugin = EWCPlugin(ewc_lambda=3.0, mode="online", decay_factor=1.0)  # without a 1/2
    for theirs, entry in ((plugin.importances, FISHER), (plugin.saved_params, ANCHOR)):
        theirs[0] = {k: ParamData(k, t.shape, init_tensor=t) for k, t in learner.state[entry].items()}
    loss = torch.zeros(())
    frame = SimpleNamespace(
        clock=SimpleNamespace(train_exp_counter=1), model=learner.model, device="cpu", loss=loss
    )
    learner.optimizer.zero_grad()
    plugin.before_backward(frame)
    frame.loss.backward()
    assert value == pytest.approx(frame.loss.item(), rel=1e-5)
    for name, gradient in gradients(learner).items():
        assert gradient.abs().max() > 1e-3
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_frozen_parameter_gets_no_gradient_and_costs_no_penalty() -> None:
    learner, strategy = moved_learner(lam=7.0)
    learner.parameters["table"].grad = None
    bias = learner.parameters["bias"].detach()
    expected = 7.0 / 2 * (learner.state[FISHER]["bias"] * (bias - learner.state[ANCHOR]["bias"]) ** 2).sum()
    assert strategy.add_gradient(learner) == pytest.approx(float(expected), rel=1e-5)
    assert expected > 0
    assert learner.parameters["table"].grad is None
    learner.parameters["bias"].grad = None
    assert strategy.add_gradient(learner) == 0


def test_weights_that_the_model_grew_are_not_held() -> None:
    learner, strategy = moved_learner()
    grown = Bigram(WORDS + 1)
    learner.adopt(grown)
    for parameter in grown.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert strategy.add_gradient(learner) > 0
    for gradient in gradients(learner).values():
        assert gradient[:WORDS, ...].any()
        assert not gradient[WORDS:].any()
    assert not grown.table.grad[:, WORDS].any()


def test_an_importance_too_small_for_half_precision_is_kept() -> None:
    learner = learner_of(Bigram().half())
    with torch.no_grad():
        for parameter in learner.parameters.values():
            parameter.zero_()
        learner.parameters["bias"][1] = 11.0  # token 1 is all but certain
    strategy = strategy_for(learner, fisher="empirical")
    strategy.after_experience(learner, visit(row(1, 1, 1)))
    importance = learner.state[FISHER]["table"][1, 1]
    assert importance > 0
    assert importance.half() == 0


# -- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"lam": -1}, {"gamma": 1.5}, {"gamma": -0.1}, {"fisher": "exact"}, {"examples": 0}],
)
def test_a_wrong_option_is_one_line_before_anything_runs(wrong: dict[str, Any], model: Path) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(UsageError) as refused:
        planned(model, "ewc", {f"strategy.{name}": value})
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)


# -- whole runs ---------------------------------------------------------------------------------------------


def test_the_first_experience_is_free_and_later_ones_pay(model: Path, tmp_path: Path) -> None:
    record = finish(planned(model, "ewc"), tmp_path / "ewc")
    steps = record.steps
    by_experience = {index: group["penalty"].to_numpy() for index, group in steps.groupby("experience")}
    assert not by_experience.pop(0).any()
    assert len(by_experience) >= 3
    for penalties in by_experience.values():
        assert penalties[0] == 0  # the weights are still where they were anchored
        assert (penalties[1:] > 0).all()
    naive = finish(planned(model, "naive"), tmp_path / "naive")
    assert record.info["final_weights"] != naive.info["final_weights"]


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2"])  # gpt2 has dropout: random numbers in training
def test_a_penalty_of_strength_zero_is_naive_to_the_bit(kind: Kind, tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", kind)
    naive = finish(planned(model, "naive"), tmp_path / "naive")
    free = finish(planned(model, "ewc", {"strategy.lam": 0}), tmp_path / "free")
    assert free.info["final_weights"] == naive.info["final_weights"]


def test_every_choice_ends_elsewhere(model: Path, tmp_path: Path) -> None:
    choices: list[dict[str, Any]] = [
        {},
        {"strategy.fisher": "empirical"},
        {"strategy.gamma": 0},
        {"strategy.lam": 3000},
        {"strategy.examples": 1},
    ]
    ends = {
        finish(planned(model, "ewc", choice), tmp_path / str(number)).info["final_weights"]
        for number, choice in enumerate(choices)
    }
    assert len(ends) == len(choices)


def stop_after(steps: int) -> Any:
    asked = itertools.count(1)
    return lambda: next(asked) >= steps


def test_a_run_stopped_now_and_then_ends_as_if_it_never_was(model: Path, tmp_path: Path) -> None:
    run = planned(model, "ewc", {"strategy.examples": 3, "strategy.gamma": 0.9, "scenario.rest_steps": 3})
    reference, folder = finish(run, tmp_path / "reference"), tmp_path / "stopped"
    ends = [carry_out(run, folder, should_stop=stop_after(2))[-1]["event"]]
    while ends[-1] == "stopped":
        ends.append(carry_out(run, folder, should_stop=stop_after(2), resume=True)[-1]["event"])
    assert len(ends) > 5 and ends[-1] == "finished"
    assert results(RunRecord.open(folder)) == results(reference)
    for name, frame in rows(reference.folder).items():
        pd.testing.assert_frame_equal(rows(folder)[name], frame, check_exact=True)


@pytest.mark.parametrize("kind", ["gpt_neox", "opt", "gpt2", "llama"])
def test_the_plan_states_to_the_byte_what_the_run_will_keep(kind: Kind, tmp_path: Path) -> None:
    cut = {"scenario.cycles": 1, "scenario.rest": "none"}
    run = planned(small_model(tmp_path / "model", kind), "ewc", cut)
    record = finish(run, tmp_path / "run")
    assert record.info["extra_state_bytes"] == run.extra_bytes == 2 * record.info["parameter_bytes"]


def test_half_precision_is_planned_right_too(model: Path, tmp_path: Path) -> None:
    run = planned(model, "ewc", {"scenario.cycles": 1, "scenario.rest": "none"}, precision="bfloat16")
    record = finish(run, tmp_path / "run")
    # the anchor in two bytes a number, the importance in four
    assert record.info["extra_state_bytes"] == run.extra_bytes == 3 * record.info["parameter_bytes"]
    assert record.steps["penalty"].max() > 0


def test_memory_does_not_grow_with_the_number_of_experiences(model: Path) -> None:
    few, many = (planned(model, "ewc", {"scenario.cycles": cycles}) for cycles in (1, 50))
    assert many.outline.experiences > 10 * few.outline.experiences
    assert many.extra_bytes == few.extra_bytes > 0
