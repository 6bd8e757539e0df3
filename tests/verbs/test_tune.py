"""`seqmem tune` and `bench --tuned`: what is tried, which trial wins, what is refused, and what goes on record."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_runs import SMALL, RememberingWorkers, installed, small_model

import seqmem
from seqmem import Measure, MetricSpec, RunRecord, UsageError, Value
from seqmem.cli.app import run as command_line
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.planning.search import Search, Trial, read_search
from seqmem.planning.store import find_boards
from seqmem.planning.trials import sample
from seqmem.record.files import unsealed, write_sealed
from seqmem.record.versions import installed_versions
from seqmem.verbs.choose import best_trial, distance
from seqmem.verbs.tune import TuneResult, Tuning, tune

TINY_RUNS = {
    **SMALL,
    "scenario.cycles": 1,
    "scenario.facts_per_loop": 1,
    "scenario.exposures": 1,
    "scenario.rest_steps": 2,
}
Table = Mapping[tuple[float, int], float | None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


class Counting(RememberingWorkers):
    """Runs jobs in this process and keeps what they were asked for."""

    started: list[str] = []
    asked: list[Mapping[str, Any]] = []

    def run(self, jobs: Any, on_event: Any, should_stop: Any, *rest: Any) -> Mapping[str, dict[str, Any]]:
        type(self).started += [f"{job.recipe.strategy.name} {job.recipe.seed}" for job in jobs]
        type(self).asked += [job.asked for job in jobs]
        return super().run(jobs, on_event, should_stop)


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers in this process; no figures, which take longer than these runs."""
    monkeypatch.setattr("seqmem.verbs.bench.Workers", Counting)
    monkeypatch.setattr(Counting, "started", [])
    monkeypatch.setattr(Counting, "asked", [])
    for name in ("draw_curves", "draw_sweep", "draw_metric"):
        monkeypatch.setattr(f"seqmem.reporting.figures.{name}", lambda *arguments: None)


def planted(values: Table, direction: Any = "higher") -> MetricSpec:
    """A metric that gives what is planted for a learning rate and seed; None is a missing value."""

    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        number = values[run.recipe["optimizer"]["lr"], run.seed]
        return {"planted": Value(number) if number is not None else Value(None, reason="not seen")}

    measure = Measure("planted", "points", direction, "What the test says.")
    return MetricSpec("planted", "1", "What the test says.", (measure,), compute)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(values: Table, direction: Any = "higher") -> None:
        monkeypatch.setattr(
            "seqmem.verbs.tune.load_metrics", lambda registry: ([planted(values, direction)], [])
        )

    return put


RATES = {"optimizer.lr": [1e-3, 2e-3]}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder that the searches of this file share, so that their runs are made once."""
    return tmp_path_factory.mktemp("out") / "out"


@pytest.fixture
def search(model: Path, out: Path, plant: Callable[..., None]) -> Callable[..., TuneResult]:
    """`seqmem.verbs.tune.tune` in small; a planted table says how good each rate is on each seed."""

    def run(
        values: Table | None = None,
        strategy: str | Sequence[str] = "naive",
        direction: str = "higher",
        **request: Any,
    ) -> TuneResult:
        if values is not None:
            plant(values, direction)
        asked: dict[str, Any] = {
            "space": RATES,
            "model": str(model),
            "preset": "smoke",
            "device": "cpu",
            "display": "none",
            "out": out,
            "set": TINY_RUNS,
            "measure": None if values is None else "planted",
            **request,
        }
        return tune("memory_loops", strategy, **asked)

    return run


def only(result: TuneResult) -> Tuning:
    (tuning,) = result.tunings
    return tuning


def even(one: float | None, other: float | None) -> Table:
    """The same on both seeds."""
    return {(rate, seed): value for rate, value in ((1e-3, one), (2e-3, other)) for seed in (100, 101)}


# -- which trial wins ---------------------------------------------------------------------------------------


def test_the_best_mean_over_the_tuning_seeds_wins(search: Callable[..., TuneResult]) -> None:
    values = {(1e-3, 100): 0.9, (1e-3, 101): 0.1, (2e-3, 100): 0.5, (2e-3, 101): 0.6}
    tuning = only(search(values))
    assert [trial.mean for trial in tuning.trials] == pytest.approx([0.5, 0.55])
    assert tuning.search is not None and tuning.search.chosen == {"optimizer.lr": 2e-3}
    lower = only(search(values, direction="lower"))
    assert lower.search is not None and lower.search.chosen == {"optimizer.lr": 1e-3}
    assert lower.search.direction == "lower"


def test_a_trial_that_lacks_a_value_for_a_seed_loses_and_says_why(search: Callable[..., TuneResult]) -> None:
    tuning = only(search({**even(0.2, 0.9), (2e-3, 101): None}))
    assert tuning.chosen == 0
    lost = tuning.trials[1]
    assert lost.mean is None and lost.values == {100: 0.9, 101: None} and lost.reasons == {101: "not seen"}
    assert "1 of 2 trials lack a value and cannot win" in tuning.notes


def test_a_run_that_fails_loses_and_the_search_goes_on(
    search: Callable[..., TuneResult], tmp_path: Path
) -> None:
    values = {(rate, seed): 1.0 for rate in (1e-3, 1e30) for seed in (100, 101)}
    tuning = only(search(values, space={"optimizer.lr": [1e-3, 1e30]}))
    assert tuning.chosen == 0
    assert set(tuning.trials[1].values.values()) == {None}
    assert tuning.trials[1].reasons[100].startswith("the run failed: the loss is")


def test_without_any_value_nothing_is_chosen_and_no_file_is_written(
    search: Callable[..., TuneResult], out: Path
) -> None:
    before = set(out.glob("tunings/*"))
    tuning = only(search(even(None, None), budget=11))
    assert (tuning.chosen, tuning.search, tuning.path) == (None, None, None)
    assert set(out.glob("tunings/*")) == before


def trial(mean: float | None, **options: Any) -> Trial:
    named = {name.replace("__", "."): value for name, value in options.items()}
    return Trial(options=named, values={100: mean}, reasons={}, mean=mean, runs=())


def test_of_equal_trials_the_one_nearest_the_usual_values_is_taken() -> None:
    measure = Measure("m", "u", "higher", "")
    rates = [trial(0.5, optimizer__lr=rate) for rate in (1e-4, 3e-3, 1e-3)]
    assert best_trial(rates, measure, {"optimizer.lr": 1e-3}) == 2
    assert best_trial(rates[:2], measure, {"optimizer.lr": 1e-3}) == 1  # ln 3 away, not ln 10
    assert best_trial(rates, measure, {}) == 0
    assert best_trial([*rates, trial(0.6, optimizer__lr=1.0)], measure, {"optimizer.lr": 1e-3}) == 3
    usual = {"strategy.lam": 100, "strategy.fisher": "sampled", "strategy.shift": 0}
    assert distance({"strategy.lam": 10}, usual) == (1, pytest.approx(math.log(10)))
    assert distance({"strategy.lam": 100, "strategy.fisher": "empirical"}, usual) == (1, 1.0)
    assert distance({"strategy.lam": 1000, "strategy.shift": -0.5}, usual) == (
        2,
        pytest.approx(math.log(10) + 0.5),
    )


# -- what is tried ------------------------------------------------------------------------------------------


def test_without_a_space_the_rate_is_tried_at_a_third_and_three_times_the_usual(
    search: Callable[..., TuneResult], model: Path
) -> None:
    (usual,) = plan(
        Request(
            scenario=("memory_loops",),
            strategy=("naive",),
            model=(str(model),),
            preset="smoke",
            seeds="100",
            controls=False,
        ),
        installed(),
    ).runs.values()
    lr = usual.recipe.optimizer.lr
    tuning = only(search(AnyRate(), space=(), seeds="100"))
    assert list(tuning.space) == ["optimizer.lr"]
    assert tuning.space["optimizer.lr"] == pytest.approx([lr / 3, lr, 3 * lr], rel=0.02)
    assert tuning.search is not None and tuning.search.chosen["optimizer.lr"] == pytest.approx(
        3 * lr, rel=0.02
    )
    assert any("the largest value of the space: widen it" in note for note in tuning.notes)


class AnyRate(dict[tuple[float, int], float | None]):
    """The higher the rate, the better."""

    def __missing__(self, key: tuple[float, int]) -> float:
        return key[0]


def test_a_best_value_inside_the_space_is_not_said_to_be_at_its_edge(
    search: Callable[..., TuneResult],
) -> None:
    peak = {(rate, 100): value for rate, value in ((1e-3, 0.1), (2e-3, 0.8), (4e-3, 0.3))}
    space = {"optimizer.lr": [1e-3, 2e-3, 4e-3]}
    assert only(search(peak, space=space, seeds=[100])).notes == ()
    flat = dict.fromkeys(peak, 0.5)
    (note,) = only(search(flat, space=space, seeds=[100])).notes
    assert "all trials have the same planted" in note


def test_more_than_the_budget_is_sampled_and_said_to_be(search: Callable[..., TuneResult]) -> None:
    space = {"optimizer.lr": [1e-3, 2e-3, 4e-3], "strategy.lam": [1, 10]}
    tuning = only(search(AnyRate(), "ewc", space=space, seeds="100", budget=2))
    assert tuning.sampled == 6 and len(tuning.trials) == 2
    assert any("2 of the 6 combinations: a random sample (seed 0)" in note for note in tuning.notes)
    again = only(search(AnyRate(), "ewc", space=space, seeds="100", budget=2))
    assert tuning.trials == again.trials
    points = [{"n": n} for n in range(40)]
    drawn = sample(points, 12)
    assert len(drawn) == 12 and drawn == sorted(drawn, key=lambda p: p["n"]) and drawn != points[:12]
    assert sample(points, 12) == drawn


def test_an_option_is_tried_for_the_strategies_that_have_it(search: Callable[..., TuneResult]) -> None:
    space = {"optimizer.lr": [1e-3, 2e-3], "strategy.lam": [1]}
    naive, ewc = search(AnyRate(), ("naive", "ewc"), space=space, seeds="100").tunings
    assert (list(naive.space), list(ewc.space)) == (["optimizer.lr"], ["optimizer.lr", "strategy.lam"])


def test_two_ways_to_write_a_value_are_one_trial(search: Callable[..., TuneResult]) -> None:
    tuning = only(search(AnyRate(), "ewc", space=["strategy.lam=1,1.0,10"], seeds="100"))
    assert [trial.options for trial in tuning.trials] == [{"strategy.lam": 1}, {"strategy.lam": 10}]
    assert tuning.search is not None and tuning.search.runs == 2


def test_a_part_of_a_composition_is_tuned_by_its_name(search: Callable[..., TuneResult]) -> None:
    tuning = only(search(AnyRate(), "ewc+replay", space={"strategy.ewc.lam": [1, 100]}, seeds="100"))
    assert tuning.search is not None and tuning.search.chosen == {"strategy.ewc.lam": 100}  # the usual one
    assert tuning.search.strategy == "ewc+replay"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"seeds": "0-1"}, "seed 0 is a scoring seed; tuning seeds are 100 and up"),
        ({"seeds": "99,100"}, "seed 99 is a scoring seed"),
        ({"budget": 3}, "a trial of naive takes 2 runs (2 seeds); a search needs at least 4"),
        ({"budget": 6, "controls": True}, "takes 4 runs (2 seeds, with controls); a search needs at least 8"),
        ({"measure": "retenton"}, "unknown measure 'retenton'. Did you mean 'retention'"),
        ({"measure": "distance_decay.over_twins"}, "neither higher nor lower is better"),
        (
            {"space": {"scenario.loops": [2, 3]}},
            "--space scenario.loops: a search changes options of strategy",
        ),
        ({"space": {"strategy.lam": [1, 2]}}, "naive has none of the options of --space (strategy.lam)"),
        ({"space": {**RATES, "strategy.lamm": [1]}}, "unknown option of strategy naive 'lamm'"),
        ({"space": RATES, "lr": 1e-3}, "--space optimizer.lr: it is set to one value as well"),
        ({"space": ["optimizer.lr=1e-3", "optimizer.lr=1e-2"]}, "--space optimizer.lr is given twice"),
        ({"space": {"optimizer.lr": [-1.0, 1e-3]}}, "option 'lr' = -1.0 is not allowed"),
        ({"space": {"optimizer.rate": [1, 2]}}, "unknown option of optimizer 'rate'"),
        ({"model": ["a", "b"]}, "a search is of one model; got a, b"),
        ({"budget": 0}, "--budget 0 is not allowed; it must be: integer >= 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    request_: dict[str, Any], said: str, search: Callable[..., TuneResult]
) -> None:
    with pytest.raises(UsageError) as refused:
        search(**request_)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert Counting.started == []


def test_what_the_preset_sweeps_must_be_set(model: Path) -> None:
    request = Request(
        scenario=("learning_threshold",),
        strategy=("naive",),
        model=(str(model),),
        seeds="100",
        reference=False,
    )
    with pytest.raises(
        UsageError, match="preset default of learning_threshold sweeps .*; set it to one value"
    ):
        plan(request, installed(), [{"optimizer.weight_decay": 0.1}])


# -- the file, and the bench that reads it ------------------------------------------------------------------


def test_the_same_command_gives_the_same_file_and_trains_nothing_again(
    search: Callable[..., TuneResult],
) -> None:
    first = only(search())
    assert first.path is not None and first.search is not None
    text = first.path.read_bytes()
    Counting.started.clear()
    second = only(search())
    assert second.path == first.path and second.path.read_bytes() == text
    assert Counting.started == []
    assert read_search(first.path) == first.search
    kept = json.loads(text)
    assert kept["measure"] == "retention" and kept["seeds"] == [100, 101]
    assert (kept["budget"], kept["runs"]) == (12, 4) and kept["space"] == {"optimizer.lr": [1e-3, 2e-3]}
    runs = [run for one in kept["trials"] for run in one["runs"]]
    records = [RunRecord.open(next((first.path.parents[1] / "records").glob(f"*-{run}"))) for run in runs]
    assert [(run.recipe["optimizer"]["lr"], run.seed) for run in records] == [
        (1e-3, 100),
        (1e-3, 101),
        (2e-3, 100),
        (2e-3, 101),
    ]
    assert kept["date"] == max(run.info["date"] for run in records)


def test_trials_of_another_version_are_kept_only_with_a_note(
    search: Callable[..., TuneResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("made by" in note for note in only(search(even(1, 2))).notes)
    installed = {**installed_versions(), "torch": "99.0"}
    monkeypatch.setattr("seqmem.planning.store.installed_versions", lambda: installed)
    Counting.started.clear()
    with pytest.raises(
        UsageError, match=r"made by torch .* installed is torch 99\.0 \(4 such runs\); .*--accept-versions"
    ):
        search(even(1, 2))
    notes = only(search(even(1, 2), accept_versions=True)).notes
    assert [note for note in notes if note.startswith("trials made by torch")]
    assert Counting.started == []


@pytest.fixture
def tuned(search: Callable[..., TuneResult]) -> Callable[[str], Path]:
    """The file of a search that chooses the rate 2e-3."""

    def make(strategy: str) -> Path:
        path = only(search(even(0.1, 0.9), strategy)).path
        assert path is not None
        return path

    return make


@pytest.fixture
def bench(model: Path, out: Path) -> Callable[..., Any]:
    def run(strategy: Any, tuned: Any, **request: Any) -> Any:
        settings = {
            "model": str(model),
            "preset": "smoke",
            "seeds": "0",
            "device": "cpu",
            "display": "none",
            "out": out,
            "set": TINY_RUNS,
            "controls": False,
            **request,
        }
        return seqmem.bench("memory_loops", strategy, tuned=tuned, **settings)

    return run


def test_what_was_chosen_is_applied_to_that_strategy_only_and_goes_on_record(
    tuned: Callable[[str], Path], bench: Callable[..., Any]
) -> None:
    path = tuned("ewc")
    board = bench("ewc", path).board
    naive, ewc = board.rows
    assert (naive.label, ewc.label, ewc.reference) == ("naive", "ewc (tuned)", "naive")
    assert ewc.runs[0].recipe["optimizer"]["lr"] == 2e-3
    assert naive.runs[0].recipe["optimizer"]["lr"] != 2e-3
    assert ewc.facts["search"] == {
        "budget": 12,
        "runs": 4,
        "seeds": [100, 101],
        "space": {"optimizer.lr": [1e-3, 2e-3]},
        "measure": "planted",
        "lowest": 0.1,
        "highest": 0.9,
    }
    assert "search" not in naive.facts
    described = json.loads((board.folder / "bench.json").read_text())
    assert [row["search"] for row in described["rows"]] == [None, unsealed(path.read_bytes(), since=0)]
    chosen = {"scenario": "memory_loops", "strategy": "ewc", "chosen": {"optimizer.lr": 2e-3}}
    assert described["asked"]["tuned"] == {str(path): chosen}
    assert ewc.runs[0].info["asked"]["tuned"] == {str(path): chosen}


def test_the_reference_can_be_tuned_too_and_a_default_that_was_chosen_is_the_same_run(
    search: Callable[..., TuneResult], bench: Callable[..., Any]
) -> None:
    plain = bench("naive", ())
    usual = plain.board.rows[0].runs[0].recipe["optimizer"]["lr"]
    path = only(search(AnyRate(), space={"optimizer.lr": [usual / 2, usual]}, seeds="100")).path
    Counting.started.clear()
    board = bench("naive", path).board
    (row,) = board.rows
    assert row.label == row.reference == "naive (tuned)"
    assert Counting.started == []  # the same recipe: the run is there already
    assert board.name != plain.board.name and len(find_boards(board.folder.parents[1])) >= 2


@pytest.mark.parametrize(
    ("changes", "request_", "said"),
    [
        ({"scenario": "fact_injection"}, {}, "made with scenario fact_injection, which is not in this bench"),
        ({"version": "0"}, {}, "made with version of memory_loops 0, this bench has"),
        ({"preset": "default"}, {}, "made with preset default, this bench has smoke"),
        ({"model": "other"}, {}, "made with model other, this bench has"),
        ({"strategy_version": "0"}, {}, "made with version of strategy naive 0, this bench has 1"),
        ({"strategy": "replay"}, {}, "tunes strategy replay, which is not in this bench"),
        ({}, {"seeds": "0,101"}, "was tuned on seed 101, which this bench scores on"),
        ({}, {"lr": 1e-3}, "chooses optimizer.lr for naive, which is set or swept as well"),
        ({}, {"sweep": "optimizer.lr=1e-3,2e-3"}, "chooses optimizer.lr for naive, which is set or swept"),
        ({}, {"optimizer": "adamw"}, 'the search had optimizer.name = "adam", this bench has "adamw"'),
        (
            {},
            {"set": {**TINY_RUNS, "scenario.rest_steps": 3}},
            "scenario.options.rest_steps = 2, this bench has 3",
        ),
        ({"chosen": {"optimizer.lr": 1e-3}}, {}, "what it chose is not the best it tried"),
        ({"chosen": {"optimizer.lr": 5.0}}, {}, "what it chose is not one of its trials"),
        ({"chosen": {"scenario.loops": 2}}, {}, "chooses scenario.loops, which is not an option of strategy"),
        ({"runs": 13}, {}, "13 runs of a budget of 12"),
        ({"runs": 1}, {}, "it says 1 runs and lists"),
        ({"space": {"optimizer.lr": [5.0]}}, {}, "has a value that is not one of [5.0]"),
        ({"space": {}}, {}, "is not of the options"),
        ({"seeds": [100, 102]}, {}, "has values on seeds"),
        ({"mean": 0.99}, {}, "has the mean 0.99 of values whose mean is"),
        ({"seeds": [0, 101]}, {}, "not all from 100 on"),
        ({"format": 3}, {}, "not a search file of `seqmem tune` (format:"),
    ],
)
def test_a_search_that_does_not_fit_is_refused_in_one_line(
    changes: dict[str, Any],
    request_: dict[str, Any],
    said: str,
    tuned: Callable[[str], Path],
    bench: Callable[..., Any],
    tmp_path: Path,
) -> None:
    path = tmp_path / "search.json"
    content = json.loads(tuned("naive").read_text())
    if "mean" in changes:
        content["trials"][0]["mean"] = changes["mean"]
        changes = {}
    write_sealed(path, {**content, **changes})
    Counting.started.clear()
    with pytest.raises(UsageError) as refused:
        bench("naive", path, **request_)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"--tuned {path}: ")
    assert Counting.started == []


def test_a_file_that_is_none_and_two_for_one_strategy_are_refused(
    tuned: Callable[[str], Path], bench: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        bench("naive", tmp_path / "gone.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(UsageError, match="not a search file of `seqmem tune`"):
        bench("naive", tmp_path / "text.json")
    first = tuned("naive")
    second = tmp_path / "again.json"
    second.write_text(first.read_text())
    with pytest.raises(UsageError, match="naive is tuned by .* already; give one"):
        bench("naive", (first, second))


def test_the_file_s_fields_are_those_that_boards_read() -> None:
    agreed = (
        "format scenario version preset model strategy strategy_version seeds budget runs measure direction"
    )
    assert {*agreed.split(), "space", "trials", "chosen", "date"} <= set(Search.model_fields)


# -- the command line ---------------------------------------------------------------------------------------


def arguments(model: Path, out: Path) -> list[str]:
    settings = [word for key, value in TINY_RUNS.items() for word in ("--set", f"{key}={value}")]
    words = ["--scenario", "memory_loops", "--model", str(model), "--preset", "smoke", "--device", "cpu"]
    return [*words, *settings, "--out", str(out), "--display", "none"]


def test_the_command_line_shows_every_trial_and_the_line_to_run_next(
    model: Path, out: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant({(1e-3, 100): 0.25, (1e-3, 101): 0.25, (2e-3, 100): 0.5, (2e-3, 101): None})
    words = arguments(model, out)
    asked = [
        "--strategy",
        "naive",
        "--measure",
        "planted",
        "--space",
        "optimizer.lr=1e-3,2e-3",
        "--budget",
        "10",
    ]
    assert command_line(["tune", *words, *asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "naive: planted (points, higher is better), 2 trials, 4 runs"
    assert lines[1].split() == ["optimizer.lr", "seed", "100", "seed", "101", "mean"]
    assert lines[2].split() == ["0.001", "0.25", "0.25", "0.25", "chosen"]
    assert lines[3].split() == ["0.002", "0.5", "-", "-", "not", "seen"]
    (following,) = [line for line in lines if line.startswith("  seqmem bench ")]
    again = shlex.split(following)[1:]
    assert command_line([*again, "--seeds", "0", "--no-controls", "--display", "none"]) == 0
    assert "naive (tuned)" in capsys.readouterr().out
    place = again.index("--out")
    assert command_line(["plan", *again[1:place], *again[place + 2 :], "--seeds", "0"]) == 0
    capsys.readouterr()
    assert command_line(["tune", *words, *asked, "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["searches"]
    assert shown["chosen"] == {"optimizer.lr": 1e-3} and Path(shown["file"]).exists()
    plant(even(None, None))
    assert command_line(["tune", *words, *asked]) == 1
    assert "no trial of naive has a value for every seed; nothing was chosen" in capsys.readouterr().err


def test_an_interrupted_search_chooses_nothing_and_says_how_to_go_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("seqmem.verbs.tune.carry_out", lambda *arguments, **settings: ({}, True))
    monkeypatch.setattr("sys.argv", ["seqmem", "tune", "--out", "there"])
    assert command_line(["tune", *arguments(model, tmp_path / "out"), "--strategy", "naive"]) == 130
    assert capsys.readouterr().err == "Stopped. Continue with: seqmem tune --out there --resume\n"
    assert not (tmp_path / "out" / "tunings").exists()
