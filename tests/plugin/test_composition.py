"""Several strategies as one: `--strategy a+b`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import finish, installed, planned, small_model
from torch import Tensor

from seqmem import Example, Options, Strategy, StrategySpec, UsageError
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.plugin.composition import Composed, compose, place, strategy_options
from seqmem.plugin.strategy import overrides
from seqmem.training.learner import Learner

CPU = torch.device("cpu")


class Table(torch.nn.Module):
    """A causal model of one table: the logits after a token are the token's row."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.arange(16.0).reshape(4, 4) / 16)

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


def row(*ids: int) -> Example:
    return Example(np.array(ids, np.int32), np.ones(len(ids), np.bool_))


class Adds(Strategy):
    """Penalty 2, gradient +1; then the gradient and the update are doubled; rehearses a row."""

    def __init__(self, mark: int, log: list[str]) -> None:
        self._mark, self._log = mark, log

    def rehearse(self, learner: Learner, batch: Any) -> list[Example]:
        return [row(self._mark, self._mark)]

    def add_gradient(self, learner: Learner) -> float:
        for parameter in learner.parameters.values():
            assert parameter.grad is not None
            parameter.grad.add_(1.0)
        return 2.0

    def transform_gradient(self, learner: Learner) -> None:
        self._log.append(f"gradient {self._mark}")

    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        self._log.append(f"update {self._mark}")

    def measured(self) -> Mapping[str, float]:
        return {f"adds{self._mark}": float(self._mark)}

    def state_dict(self) -> dict[str, Any]:
        return {"mark": self._mark}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._mark = state["mark"]

    def tensors(self) -> Mapping[str, Tensor]:
        return {"mark": torch.tensor(self._mark)}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        assert tensors["mark"] == self._mark

    def unregistered_bytes(self) -> int:
        return self._mark


def test_rows_join_penalties_add_and_changes_follow_in_the_order_written() -> None:
    log: list[str] = []
    both = Composed({"one": Adds(1, log), "two": Adds(2, log)})
    learner = Learner(Table(), OptimizerSettings(), CPU, seed=0)
    rehearsed = both.rehearse(learner, (row(0, 1),))
    assert [r.input_ids.tolist() for r in rehearsed] == [[1, 1], [2, 2]]
    learner.parameters["table"].grad = torch.zeros(4, 4)
    assert both.add_gradient(learner) == 4.0
    assert (learner.parameters["table"].grad == 2).all()
    both.transform_gradient(learner)
    both.transform_update(learner, {})
    assert log == ["gradient 1", "gradient 2", "update 1", "update 2"]
    assert both.measured() == {"adds1": 1.0, "adds2": 2.0}
    assert both.unregistered_bytes() == 3


def test_what_says_that_weights_stay_still_comes_last_after_a_step() -> None:
    class Ends(Strategy):
        def __init__(self, name: str) -> None:
            self._name = name

        def after_step(self, learner: Learner, batch: Any) -> None:
            order.append(self._name)

    order: list[str] = []
    both = compose(
        [
            StrategySpec(name, "1", name, lambda options, name=name: Ends(name), exclusive=exclusive)  # type: ignore[misc]
            for name, exclusive in (("a", ("model",)), ("b", ()), ("c", ("moments",)))
        ]
    )
    both.build(both.options()).after_step(Learner(Table(), OptimizerSettings(), CPU, seed=0), ())
    assert order == ["b", "c", "a"]


def test_state_is_kept_by_the_parts_names() -> None:
    both = Composed({"one": Adds(1, []), "two/x": Adds(2, [])})
    other = Composed({"one": Adds(7, []), "two/x": Adds(8, [])})
    assert both.state_dict() == {"one": {"mark": 1}, "two/x": {"mark": 2}}
    other.load_state_dict(both.state_dict())
    other.load_tensors(both.tensors())  # each part checks that it was given its own
    assert other.state_dict() == both.state_dict()


def test_trained_is_what_every_part_trains() -> None:
    class Only(Strategy):
        def __init__(self, *names: str) -> None:
            self._names = names

        def trainable(self, learner: Any, experience: Any) -> Any:
            return self._names or None

    learner: Any = None
    assert Composed({"a": Only(), "b": Only()}).trainable(learner, learner) is None
    assert Composed({"a": Only("x", "y"), "b": Only()}).trainable(learner, learner) == {"x", "y"}
    assert Composed({"a": Only("x", "y"), "b": Only("y", "z")}).trainable(learner, learner) == {"y"}


def test_a_step_of_any_part_counts_as_the_compositions() -> None:
    both = Composed({"plain": Strategy(), "adds": Adds(1, [])})
    assert overrides(both, "transform_update")
    assert not overrides(both, "forward")
    assert not overrides(Composed({"plain": Strategy()}), "add_gradient")


class Shared(Options):
    strength: float = 1.0


class Own(Shared):
    size: int = 3


def spec(name: str, options: type[Options] = Shared, exclusive: tuple[str, ...] = ()) -> StrategySpec:
    return StrategySpec(name, "1", f"{name}.", lambda options: Strategy(), options, exclusive=exclusive)


def test_options_go_to_the_part_they_belong_to() -> None:
    both = compose([spec("a"), spec("b", Own)])
    assert place(both, {"size": 5}) == {"a": {}, "b": {"size": 5}}
    assert place(both, {"a.strength": 2, "b.strength": 3}) == {"a": {"strength": 2}, "b": {"strength": 3}}
    assert place(spec("a"), {"a.strength": 2, "size": 4}) == {"strength": 2}
    options = strategy_options(both, {"b": {"size": 5}})
    assert (options.a.strength, options.b.size) == (1.0, 5)
    assert both.options(**options.model_dump()) == options


def test_an_option_that_two_parts_have_must_name_its_part() -> None:
    both = compose([spec("a"), spec("b", Own)])
    with pytest.raises(UsageError, match=r"write strategy\.a\.strength or strategy\.b\.strength"):
        place(both, {"strength": 2})
    with pytest.raises(UsageError, match="'size' of strategy b is given twice"):
        place(both, {"size": 2, "b.size": 3})


def test_what_cannot_go_together_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="a and b cannot go together, because both change .* moments"):
        compose([spec("a", exclusive=("moments",)), spec("b", exclusive=("model", "moments"))])
    with pytest.raises(UsageError, match="names a twice"):
        compose([spec("a"), spec("a")])
    assert compose([spec("a", exclusive=("moments",)), spec("b", exclusive=("model",))]).exclusive == (
        "moments",
        "model",
    )


def request(strategy: str, **changes: Any) -> Request:
    return Request(
        scenario=("memory_loops",), strategy=(strategy,), seeds="0", controls=False, device="cpu", **changes
    )


def test_a_composed_row_is_named_and_its_options_are_in_the_recipe() -> None:
    made = plan(
        request("moment_avg+replay", set=("strategy.buffer=3", "strategy.replay.rows=2")), installed()
    )
    label = "moment_avg+replay buffer=3 replay.rows=2"
    assert [r.label for r in made.boards[0].rows] == ["naive", label]
    recipe = made.runs[made.boards[0].rows[1].runs[0]].recipe
    assert recipe.strategy.options == {
        "moment_avg": {"init": "average", "moments": "both"},
        "replay": {"buffer": 3, "rows": 2},
    }
    assert recipe.strategy.version == "2+1"


@pytest.mark.parametrize(
    ("strategy", "assignment", "said"),
    [
        ("moment_avg+reset_optimizer", "scenario.loops=4", "cannot go together"),
        ("replay+replay", "scenario.loops=4", "names replay twice"),
        ("replay+", "scenario.loops=4", "'replay\\+' lacks a part"),
        ("Replay", "scenario.loops=4", "Did you mean 'replay'"),
        ("replay+nonsense", "scenario.loops=4", "unknown strategy 'nonsense'"),
        ("moment_avg+replay", "strategy.moment_avg.rows=3", "rows"),
        ("moment_avg+replay", "strategy.rows=0", "strategy replay: option 'rows' = 0 is not allowed"),
        ("moment_avg+replay", "strategy.nothing=0", "unknown option of strategy"),
    ],
)
def test_a_wrong_composition_is_one_clear_line(strategy: str, assignment: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        plan(request(strategy, set=(assignment,)), installed())
    assert "\n" not in str(caught.value)


def test_a_stream_without_loops_leaves_nothing_to_keep_per_loop(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    run = planned(model, "joint+moment_avg")
    assert run.extra_bytes == 0 < planned(model, "moment_avg").extra_bytes
    assert finish(run, tmp_path / "run").info["extra_state_bytes"] == 0


def test_a_sweep_reaches_the_part_it_belongs_to() -> None:
    made = plan(request("moment_avg+replay", sweep=("strategy.replay.rows=1,2",)), installed())
    rows = made.boards[0].rows
    assert [r.label for r in rows[1:]] == [f"moment_avg+replay replay.rows={n}" for n in (1, 2)]
    assert [r.facts["options"]["replay"]["rows"] for r in rows[1:]] == [1, 2]


def test_a_composition_ends_elsewhere_than_its_parts_and_the_plan_knows_its_bytes(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    ends = {}
    for strategy in ("moment_avg", "replay", "moment_avg+replay"):
        run = planned(model, strategy, {"scenario.facts_per_loop": 4})
        record = finish(run, tmp_path / strategy)
        ends[strategy] = record.info["final_weights"]
        assert record.info["extra_state_bytes"] <= run.extra_bytes  # the buffer may be less than full
    assert len(set(ends.values())) == 3
    assert planned(model, "moment_avg+replay").extra_bytes == sum(
        planned(model, one).extra_bytes for one in ("moment_avg", "replay")
    )
