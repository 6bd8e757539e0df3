"""Plans of requests: proposals of the scenario, sweeps of several options, files that scenarios read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from model_folders import make_model_folder
from pydantic import Field
from small_runs import installed, job_of, planned, small_model

import seqmem
from seqmem import ScenarioSpec, UsageError
from seqmem.planning.grid import Plan
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.training.checkpoint import digest
from seqmem.training.run import build_run
from seqmem.verbs.bench import default_workers
from seqmem.verbs.tune import tune
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions


class Changed:
    """The installed plugins, with a scenario changed."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        return getattr(installed(), name)

    def load(self, kind: Any, name: str) -> Any:
        spec = installed().load(kind, name)
        return replace(spec, **self._changes) if isinstance(spec, ScenarioSpec) else spec


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def made(
    changes: Mapping[str, Any] | None = None, strategy: tuple[str, ...] = ("naive",), **request: Any
) -> Plan:
    registry: Any = Changed(**(changes or {}))
    asked = {"scenario": ("memory_loops",), "strategy": strategy, "preset": "smoke", "seeds": "0", **request}
    return plan(Request(**{"controls": False, "device": "cpu", **asked}), registry)


def labels(planned: Plan) -> list[str]:
    return [row.label for board in planned.boards for row in board.rows]


def test_without_a_model_the_scenario_s_own_is_taken(model: Path) -> None:
    (run,) = made({"model": str(model)}).runs.values()
    assert run.recipe.model.name == model.name
    (run,) = made().runs.values()
    assert run.recipe.model.name == "tiny"
    (run,) = made({"model": "no such model"}, model=(str(model),)).runs.values()
    assert run.recipe.model.name == model.name


def test_a_preset_may_propose_a_model_and_its_revision(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def resolve(choice: Any, registry: Any) -> Any:
        asked.append((choice.name, choice.revision))
        return located

    from seqmem.planning.models import ModelChoice
    from seqmem.planning.models import resolve as truly

    located = truly(ModelChoice(name=str(model)), installed())
    monkeypatch.setattr("seqmem.planning.resolve.resolve", resolve)
    changes = {"models": {"smoke": "big/model@step3000"}}
    made(changes)
    made(changes, revision="step1")
    made(changes, model=("other/model",))
    made({"models": {"paper": "big/model@step3000"}})
    assert asked == [
        ("big/model", "step3000"),
        ("big/model", "step1"),
        ("other/model", None),
        ("tiny", None),
    ]


SWEEP = {"smoke": ("scenario.loops=2,3", "optimizer.lr=0.001,0.01")}


def test_a_preset_s_sweep_is_every_combination() -> None:
    assert labels(made({"sweep": SWEEP})) == [
        f"naive scenario.loops={loops} optimizer.lr={lr}" for loops in (2, 3) for lr in (0.001, 0.01)
    ]


@pytest.mark.parametrize(
    ("request_", "left"),
    [
        ({"lr": 0.5}, ["naive scenario.loops=2", "naive scenario.loops=3"]),
        ({"set": ("optimizer.lr=0.5",)}, ["naive scenario.loops=2", "naive scenario.loops=3"]),
        ({"set": ("scenario.loops=4", "optimizer.lr=0.5")}, ["naive"]),
        ({"sweep": ("scenario.cycles=2,3",)}, ["naive scenario.cycles=2", "naive scenario.cycles=3"]),
    ],
)
def test_what_the_user_sets_or_sweeps_replaces_the_preset_s_sweep(
    request_: dict[str, Any], left: list[str]
) -> None:
    assert labels(made({"sweep": SWEEP}, **request_)) == left


def test_a_strategy_without_a_swept_option_has_one_row_per_value_of_the_others() -> None:
    sweep = ("strategy.buffer=4,8", "scenario.loops=2,3")
    assert labels(made(strategy=("replay",), sweep=sweep)) == [
        "naive scenario.loops=2",
        "naive scenario.loops=3",
        *(f"replay buffer={buffer} scenario.loops={loops}" for buffer in (4, 8) for loops in (2, 3)),
    ]
    rows = made(strategy=("replay",), sweep=sweep).boards[0].rows
    assert [row.reference for row in rows[2:]] == ["naive scenario.loops=2", "naive scenario.loops=3"] * 2


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (("scenario.loops=2,3", "scenario.loops=4,5"), "--sweep scenario.loops is given twice"),
        (("text.path=a,b",), "not of text"),
    ],
)
def test_a_wrong_sweep_is_refused_in_one_line(sweep: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(sweep=sweep)


def test_a_row_says_that_its_strategy_changes_the_stream() -> None:
    rows = made(strategy=("joint", "replay")).boards[0].rows
    assert [(row.label, row.facts.get("changes_stream")) for row in rows] == [
        ("naive", None),
        ("joint", True),
        ("replay", None),
    ]


def test_a_strategy_that_mixes_the_whole_stream_cannot_run_one_with_branches() -> None:
    def branching(options: Any) -> Any:
        return replace(installed().load("scenario", "memory_loops").outline(options), branches=True)

    with pytest.raises(
        UsageError, match="strategy joint mixes the whole stream, scenario memory_loops returns"
    ):
        made({"outline": branching}, strategy=("joint",))
    (run,) = made({"outline": branching}).runs.values()
    (plain,) = made().runs.values()
    kept = (
        plain.memory_bytes - plain.parameter_bytes
    )  # all but the gradients: weights, two moments, their clocks
    assert run.memory_bytes == plain.memory_bytes + kept
    assert 3 * plain.parameter_bytes < kept < 3.01 * plain.parameter_bytes


class WithFile(MemoryLoopsOptions):
    """Options that name a file."""

    facts_file: str = Field("", description="a file of facts")


def test_a_file_that_a_scenario_reads_is_known_by_name_and_content_not_by_place(tmp_path: Path) -> None:
    changes = {
        "options": WithFile,
        "local": ("facts_file",),
        "fingerprint": lambda options: Path(options.facts_file).read_text(),
    }
    ids = {}
    for folder, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "facts.jsonl"
        path.write_text(text)
        (run,) = made(changes, set=(f"scenario.facts_file={path}",)).runs.values()
        assert run.recipe.scenario.options["facts_file"] == "facts.jsonl"
        assert run.scenario_options["facts_file"] == str(path)
        ids[folder] = run.recipe.id
    assert ids["a"] == ids["b"] != ids["c"]


def test_a_model_from_scratch_has_weights_of_its_seed_and_none_of_its_own(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", seed=5)

    def scratch(options: Any) -> Any:
        return replace(installed().load("scenario", "memory_loops").outline(options), from_scratch=True)

    def first_weights(registry: Any, seed: int) -> str:
        run, _ = build_run(job_of(planned(model, seed=seed, registry=registry), tmp_path / "run"), registry)
        return digest(run.learner.tensors())

    anew: Any = Changed(outline=scratch)
    assert first_weights(anew, 0) == first_weights(anew, 0)
    assert first_weights(installed(), 0) == first_weights(installed(), 1)
    assert len({first_weights(anew, 0), first_weights(anew, 1), first_weights(installed(), 0)}) == 3


def test_another_optimizer_takes_the_scenarios_rate_for_it() -> None:
    asked = Request(scenario=("memory_loops",), strategy=("naive",), seeds="0", controls=False, device="cpu")
    found = {}
    for changes in ({}, {"optimizer": "sgd"}, {"optimizer": "sgd", "lr": 0.1}, {"optimizer": "adamw"}):
        (run,) = plan(replace(asked, **changes), installed()).runs.values()
        found[str(changes)] = (run.recipe.optimizer.name, run.recipe.optimizer.lr)
    assert list(found.values()) == [("adam", 1e-3), ("sgd", 0.3), ("sgd", 0.1), ("adamw", 1e-3)]


def test_a_sweep_over_optimizers_gives_each_its_rate() -> None:
    asked = Request(
        scenario=("memory_loops",),
        strategy=("naive",),
        seeds="0",
        controls=False,
        device="cpu",
        sweep=("optimizer.name=adam,sgd",),
    )
    rates = {
        run.recipe.optimizer.name: run.recipe.optimizer.lr for run in plan(asked, installed()).runs.values()
    }
    assert rates == {"adam": 1e-3, "sgd": 0.3}


def ranked_by_loops(options: Any) -> Any:
    """The outline of memory_loops, of a scenario that ranks by another measure from three loops on."""
    outline = installed().load("scenario", "memory_loops").outline(options)
    return replace(outline, primary="retention" if options.loops < 3 else "recovery")


@pytest.mark.parametrize("loops", ["2,3", "3,2"])
def test_rows_that_no_one_measure_ranks_are_refused_in_any_order(loops: str) -> None:
    with pytest.raises(UsageError, match="one table of memory_loops cannot rank .*retention") as refused:
        made({"outline": ranked_by_loops}, sweep=(f"scenario.loops={loops}",))
    assert "'naive scenario.loops=3' by recovery" in str(refused.value)
    (board,) = made({"outline": ranked_by_loops}, sweep=("scenario.loops=3,4",)).boards
    assert board.primary == "recovery"


def test_rows_of_the_same_runs_are_one_row() -> None:
    planned = made(strategy=("replay",), sweep=("scenario.loops=2,2.0", "strategy.buffer=4,8,4.0"))
    assert labels(planned) == [
        "naive scenario.loops=2",
        "replay scenario.loops=2 buffer=4",
        "replay scenario.loops=2 buffer=8",
    ]
    assert [row.reference for row in planned.boards[0].rows] == ["naive scenario.loops=2"] * 3
    assert len(planned.runs) == 3


@pytest.fixture(scope="module")
def short_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads too few tokens for any scenario."""
    folder = tmp_path_factory.mktemp("short") / "short"
    make_model_folder("gpt2", folder, max_positions=16)
    return folder


@pytest.mark.parametrize("refused_first", [True, False])
@pytest.mark.parametrize("absent", [True, False])
def test_a_model_that_cannot_be_used_is_left_out_and_named_wherever_it_stands(
    refused_first: bool, absent: bool, model: Path, short_model: Path
) -> None:
    bad = "./gone" if absent else str(short_model)
    models = (bad, str(model)) if refused_first else (str(model), bad)
    planned = made(model=models)
    assert {run.recipe.model.name for run in planned.runs.values()} == {model.name}
    assert labels(planned) == ["naive"] and list(planned.models) == [str(model)]
    (reason,) = planned.left_out
    assert ("does not exist" if absent else "model short reads 16") in reason


def test_without_a_model_that_can_be_used_nothing_is_planned(short_model: Path) -> None:
    with pytest.raises(UsageError, match="model short reads 16"):
        made(model=(str(short_model),))
    with pytest.raises(UsageError, match="none of the 2 models can be used; first: model folder './gone'"):
        made(model=("./gone", str(short_model)))


@pytest.mark.parametrize(
    ("verb", "argument", "near"),
    [
        ("bench", "sed", "seeds"),
        ("bench", "pre_set", "preset"),
        ("tune", "budgett", "budget"),
        ("tune", "sweep", "seeds"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_nearest(verb: str, argument: str, near: str) -> None:
    call = seqmem.bench if verb == "bench" else tune
    with pytest.raises(
        UsageError, match=f"unknown argument of seqmem.{verb} '{argument}'. Did you mean '{near}'"
    ):
        call("memory_loops", "naive", **{argument: 1})


@pytest.mark.parametrize(("seeds", "threads"), [("0", 8), ("0-2", 2), ("0-8", 1)])
def test_auto_shares_the_cores_among_the_runs(
    seeds: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    whole = made(seeds=seeds, threads="auto")
    assert whole.threads == whole.request.threads == threads
    assert whole.runs.keys() == made(seeds=seeds, threads=threads).runs.keys()
    assert default_workers(whole) == 8 // threads


def test_a_control_that_is_asked_for_by_name_stands_beside_the_row() -> None:
    planned = made(control=("plain_rest",))
    assert [list(row.controls) for row in planned.boards[0].rows] == [["plain_rest"]]
    with pytest.raises(UsageError, match="unknown control of memory_loops 'plain'.*plain_rest, shuffled"):
        made(control=("plain",))
