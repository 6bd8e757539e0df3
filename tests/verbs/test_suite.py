"""A suite: what it plans, what it leaves out, what the page says, and the slope over model size."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from helpers_report import Elements
from paced import know_the_pace
from scipy import stats
from small_runs import RememberingWorkers, installed, small_model

from seqmem import PluginError, RunRecord, SuitePart, SuiteSpec, UsageError
from seqmem.cli.app import run as command_line
from seqmem.core.measures import Interval, Measure
from seqmem.planning.request import SuiteRequest
from seqmem.planning.suite import expand_models, plan_suite
from seqmem.plugin.registry import Entry, Registry, _installed
from seqmem.scoring.numbers import format_p, short_count
from seqmem.scoring.size_trend import SizeCurve, SizePoint, adjust
from seqmem.scoring.statistics import Trend, size_trend

ODD = "odd|*model*"
"""A name with signs that no file name, link or markup may take for its own."""

TOY = SuiteSpec(
    name="toy",
    version="1",
    summary="Two experiments <b>in small</b>.",
    parts=(
        SuitePart("First | part", "Is it *kept*?", "memory_loops", "smoke", ("general_ability", "retention")),
        SuitePart("Second part", "And probed less?", "memory_loops", "default", ("general_ability", "gone")),
    ),
    models={"embedded": ("tiny", "small", "base")},
)

SETTINGS = (
    "scenario.loops=2",
    "scenario.cycles=1",
    "scenario.facts_per_loop=2",
    "scenario.exposures=1",
    "scenario.batch_size=4",
    "scenario.rest_steps=6",
    "scenario.row_tokens=96",
)
"""The options of both parts, which differ in how often they are probed."""


class Counting(RememberingWorkers):
    """Runs jobs in this process, keeps a list of them, and interrupts itself when told to."""

    started: list[str] = []
    interrupt_after: int | None = None

    def run(self, jobs: Any, on_event: Any, should_stop: Any, *rest: Any) -> Mapping[str, dict[str, Any]]:
        def stop_now() -> bool:
            kind = type(self)
            if kind.interrupt_after is not None and len(kind.started) >= kind.interrupt_after:
                signal.raise_signal(signal.SIGINT)
            return bool(should_stop())

        outcome: dict[str, dict[str, Any]] = {}
        for job in jobs:
            if stop_now():
                break
            type(self).started.append(f"{job.recipe.model.name} {job.recipe.strategy.name} {job.recipe.seed}")
            outcome |= super().run([job], on_event, lambda: False)
        return outcome


def registry(suite: SuiteSpec = TOY) -> Registry:
    """The installed plugins and a suite of the tests' own."""
    plugins = Registry([*_installed(), Entry("suite", suite.name, "nowhere", "toys", "1")])
    plugins._specs["suite", suite.name] = suite
    return plugins


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three random models of different make and size, which cut text into the same tokens."""
    folder = tmp_path_factory.mktemp("models")
    small_model(folder / "first", "llama")
    small_model(folder / "second", "gpt_neox")
    small_model(folder / ODD, "gpt2")
    for name in ("first", ODD):
        for file in (folder / "second").glob("*token*"):
            shutil.copy(file, folder / name)
    return [str(folder / name) for name in ("first", "second", ODD)]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqmem.verbs.bench.Workers", Counting)
    monkeypatch.setattr(Counting, "started", [])
    monkeypatch.setattr(Counting, "interrupt_after", None)
    monkeypatch.setattr("seqmem.cli.suite.registry", lambda ctx: registry())
    # Scoring by every metric and drawing take longer than these small runs; the suite's own figures are drawn.
    monkeypatch.setattr("seqmem.reporting.figures.draw_curves", lambda *arguments: None)
    metrics = [installed().load("metric", name) for name in ("general_ability", "retention")]
    monkeypatch.setattr("seqmem.verbs.bench.load_metrics", lambda registry: (metrics, []))


def arguments(out: Path, models: list[str], *more: str) -> list[str]:
    words = [
        "suite",
        "toy",
        "--models",
        ",".join(models),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--no-controls",
    ]
    words += ["--seeds", "0", *(word for setting in SETTINGS for word in ("--set", setting))]
    return [*words, "--display", "none", *more]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture
def page(
    out: Path, models: list[str], unrendered: None, capsys: pytest.CaptureFixture[str]
) -> Iterator[Path]:
    """The folder of the page of three models and two strategies; trained by the first test that asks for it."""
    made = list(out.glob("suites/*"))
    if not made:
        assert command_line(arguments(out, models, "--strategy", "naive", "--strategy", "replay")) == 0
        assert len(Counting.started) == 2 * 3 * 2  # parts, models, strategies
        made = list(out.glob("suites/*"))
    (folder,) = made
    capsys.readouterr()
    yield folder


# -- the slope over model size ----------------------------------------------------------------------------


def test_the_slope_is_per_tenfold_parameters_and_its_interval_over_models() -> None:
    # residuals from .15, .5, .85: .05, -.1, .05; standard error sqrt(.015 / 1 / 2); t(.975, 1) = 12.7062
    trend = size_trend([(1e6, 0.2), (1e7, 0.4), (1e8, 0.9)])
    assert trend.slope == pytest.approx(0.35)
    assert (trend.low, trend.high) == (
        pytest.approx(0.35 - 12.7062 * 0.0866025, abs=1e-4),
        pytest.approx(0.35 + 12.7062 * 0.0866025, abs=1e-4),
    )
    assert trend.p is None and trend.reason == "3 sizes: a p-value needs 5"


@pytest.mark.parametrize(
    ("points", "slope", "reason"),
    [
        ([], None, "0 sizes: a slope needs 2"),
        ([(1e6, 0.2), (1e6, 0.4)], None, "1 size: a slope needs 2"),
        ([(1e6, 0.2), (1e8, 0.4)], 0.1, "2 sizes: an interval needs 3"),
        ([(1e6, 0.2), (1e6, 0.2), (1e8, 0.4)], 0.1, "2 sizes: an interval needs 3"),
        ([(1e6, 0.0), (1e7, 0.0), (1e8, 0.0)], 0.0, "every model has the same value: no spread"),
    ],
)
def test_few_sizes_have_no_interval_and_say_so(
    points: list[tuple[float, float]], slope: float | None, reason: str
) -> None:
    trend = size_trend(points)
    assert trend.slope == (None if slope is None else pytest.approx(slope))
    assert (trend.low, trend.high, trend.p) == (None, None, None)
    assert trend.reason.startswith(reason)


def test_five_sizes_have_a_p_value() -> None:
    points = [(1e6, 0.1), (1e7, 0.3), (1e8, 0.2), (1e9, 0.5), (1e10, 0.4)]
    x, y = np.log10([size for size, _ in points]), np.array([value for _, value in points])
    slope = float(np.polyfit(x, y, 1)[0])
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    error = float(np.sqrt((residual**2).sum() / 3 / ((x - x.mean()) ** 2).sum()))
    trend = size_trend(points)
    assert trend.slope == pytest.approx(slope)
    assert trend.p == pytest.approx(2 * stats.t.sf(slope / error, 3))
    assert trend.reason == ""
    assert size_trend(points[:4]).p is None


def test_the_interval_covers_a_known_slope_and_the_test_keeps_its_level() -> None:
    random = np.random.default_rng(0)
    sizes = [7e7, 1.6e8, 4.1e8, 1e9, 1.4e9, 2.8e9]
    covered, fired = [], []
    for _ in range(600):
        noise = random.normal(0, 0.1, len(sizes))
        trend = size_trend([(size, 0.2 * np.log10(size) + e) for size, e in zip(sizes, noise, strict=True)])
        assert trend.low is not None and trend.high is not None
        covered.append(trend.low <= 0.2 <= trend.high)
        null = size_trend(list(zip(sizes, noise.tolist(), strict=True)))
        assert null.p is not None
        fired.append(null.p < 0.05)
    assert 0.93 <= np.mean(covered) <= 0.97
    assert 0.03 <= np.mean(fired) <= 0.07


def test_the_slopes_of_a_page_are_one_family_of_tests() -> None:
    def curve(*values: float) -> SizeCurve:
        points = tuple(SizePoint("m", 10**i, Interval(v, None, None, 1)) for i, v in enumerate(values, 6))
        trend = size_trend([(point.parameters, point.interval.mean) for point in points])
        return SizeCurve(Measure("a", "fraction", "higher", ""), "naive", points, trend)

    steep, mild, flat = curve(1, 2, 3, 4, 5.1), curve(1, 2, 2, 3, 3), curve(1, 3, 2, 1, 3)
    few = curve(1, 2, 3)
    first, second = adjust([[mild, few], [flat, steep]])
    raw = [one.trend.p or 0 for one in (steep, mild, flat)]
    assert raw == sorted(raw) and few.trend.p is None
    assert first[1].p is None
    assert [first[0].p, second[0].p, second[1].p] == [
        pytest.approx(1.5 * raw[1]),
        pytest.approx(raw[2]),
        pytest.approx(3 * raw[0]),
    ]
    assert adjust([[], []]) == [[], []]


def test_parameters_are_shown_as_models_are_named() -> None:
    shown = [short_count(count) for count in (999, 50_000, 1_055_488, 410_000_000, 11_846_072_320)]
    assert shown == ["999", "50k", "1.06M", "410M", "11.8B"]


# -- what is planned --------------------------------------------------------------------------------------


def test_lists_of_models_stand_for_their_members_each_once() -> None:
    assert expand_models(TOY, "embedded, ./x,tiny") == ("tiny", "small", "base", "./x")
    with pytest.raises(UsageError, match="names no model; give names or one of: embedded"):
        expand_models(TOY, " , ")


def test_the_suite_that_comes_with_the_package_is_whole() -> None:
    plugins = Registry.from_environment()
    spec = plugins.load("suite", "episodic")
    measures = {
        measure.name
        for row in plugins.names("metric")
        for measure in plugins.load("metric", row.name).measures
    }
    for part in spec.parts:
        assert part.preset in plugins.load("scenario", part.scenario).presets
        assert set(part.measures) <= measures
    assert spec.models["embedded"] == ("tiny", "small", "base")
    assert spec.models["pythia"][0] == "EleutherAI/pythia-70m" and len(spec.models["pythia"]) == 8
    planned = plan_suite(
        "episodic", plugins, SuiteRequest(strategy=("naive", "replay"), seeds="0", device="cpu")
    )
    assert [len(plan.runs) for plan in planned.plans] == [2, 2, 2]
    assert len(planned.whole().runs) == 6
    assert {run.name.split(":")[0] for run in planned.whole().runs.values()} == {
        "single_exposure",
        "mixed_batch",
        "long_term",
    }


def test_embedded_models_that_are_not_made_are_named_with_the_command_that_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQMEM_CACHE", str(tmp_path / "cache"))
    know_the_pace(tmp_path / "cache")
    assert command_line(arguments(tmp_path / "out", ["embedded"], "--plan")) == 3
    said = capsys.readouterr()
    assert "memory_loops naive tiny s0" in said.out and "smoke: " in said.out and "default: " in said.out
    assert [line.split("; ")[1] for line in said.err.splitlines()] == [
        "make it with: seqmem pretrain small",
        "make it with: seqmem pretrain base",
    ]
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_read_the_rows_is_left_out(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from model_folders import make_model_folder

    make_model_folder("gpt2", tmp_path / "short", max_positions=16)
    capsys.readouterr()  # transformers says that it writes
    assert (
        command_line(arguments(tmp_path / "out", [str(tmp_path / "short"), models[0]], "--plan", "--json"))
        == 3
    )
    said = capsys.readouterr()
    assert said.err.startswith("seqmem: left out: scenario memory_loops needs rows of ")
    assert len(json.loads(said.out)) == 2  # two parts, one seed, one model


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--models", "nowhere/at-all"], "model 'nowhere/at-all' is not a local folder"),
        (["--models", "./gone,./away"], "none of the 2 models can be used; first: model folder './gone'"),
        (["--models", ","], "--models ',' names no model"),
        (["--strategy", "naiv"], "unknown strategy 'naiv'. Did you mean 'naive'?"),
        (
            ["--set", "scenario.loop=2"],
            "unknown option of scenario memory_loops 'loop'. Did you mean 'loops'?",
        ),
        (["--dtype", "float8"], "unknown --precision 'float8'."),
        (["--display", "loud"], "unknown --display 'loud'."),
        (["--resume"], "nothing to resume in"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(
    more: list[str],
    said: str,
    models: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert command_line(arguments(tmp_path / "out", models[:2], *more)) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    (line,) = streams.err.splitlines()
    assert line.startswith("seqmem: error: ") and said in line
    assert not (tmp_path / "out").exists()


def test_an_unknown_suite_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["suite", "episodi"]) == 2
    assert "unknown suite 'episodi'. Did you mean 'episodic'?" in capsys.readouterr().err


def test_a_suite_without_parts_is_a_plugins_fault() -> None:
    with pytest.raises(PluginError, match=r"suite 'hollow' of toys 1 \(nowhere\) declares no parts"):
        plan_suite("hollow", registry(SuiteSpec("hollow", "1", "", ())), SuiteRequest())


def test_a_suite_is_described(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("seqmem.cli.explore.registry", lambda ctx: registry())
    assert command_line(["describe", "toy"]) == 0
    said = capsys.readouterr().out
    assert "suite toy 1" in said and "Is it *kept*?" in said and "tiny, small, base" in said
    assert command_line(["describe", "toy", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parts"][1]["measures"] == ["general_ability", "gone"]
    assert told["models"] == {"embedded": ["tiny", "small", "base"]}


# -- the page ---------------------------------------------------------------------------------------------


def shown(page: Path) -> Elements:
    return Elements((page / "page.html").read_text("utf-8"))


def test_the_page_says_what_was_run_and_every_link_leads_somewhere(page: Path) -> None:
    elements = shown(page)
    text = elements.text
    links = [str(tag["href"]) for name, tag in elements.tags if name == "a" and "#" not in str(tag["href"])]
    data = json.loads((page / "page.json").read_text("utf-8"))
    assert sum(link.endswith("table.md") for link in links) == 2  # the tables of the parts
    for link in [*links, *(link for part in data["parts"] for link in part["figures"])]:
        assert (page / unquote(link)).is_file(), link
    for model in data["models"]:
        assert f"{model['parameters']:,}" in text
    wanted = (
        *("Suite toy", "Two experiments <b>in small</b>.", "Left out.", "measure gone: no metric gives it"),
        *("What was run", ODD, "Strategies naive (reference), replay", "Seeds 0", "Suite toy 1, seqmem"),
        *("1. First | part", "Is it *kept*?", f"Verdict on {ODD}", "Do it again"),
        *("2. Second part", "And probed less?", "Size trend", "1. First | part", "2. Second part"),
    )
    at = 0
    for words in wanted:
        assert words in text[at:], words
        at += text[at:].index(words)
    assert "Stopped" not in text and "not run yet" not in text


def test_the_page_draws_every_measure_over_the_sizes(page: Path) -> None:
    text = (page / "page.html").read_text("utf-8")
    charts = re.findall(r'<div class="chart sizes".*?<script type="application/json">(.*?)</script>', text)
    found = [json.loads(chart) for chart in charts]
    titles = ["general_ability (nats/token ↓)", "retention (share ↑)", "general_ability (nats/token ↓)"]
    assert [one["title"] for one in found] == titles
    for one in found:
        assert one["series"] == ["naive", "replay"]
        assert len(one["points"]) == 2 * 3 and len(one["lines"]) == 2 * 2
        assert {point["model"] for point in one["points"]} == {"first", "second", ODD}


def test_the_slope_on_the_page_is_that_of_the_seeds_means(page: Path) -> None:
    data = json.loads((page / "page.json").read_text("utf-8"))
    parameters = {model["name"]: model["parameters"] for model in data["models"]}
    for part in data["parts"]:
        found = {(trend["measure"], trend["strategy"]): trend for trend in part["size_trend"]}
        assert set(found) >= {("general_ability", "naive"), ("general_ability", "replay")}
        for (measure, strategy), trend in found.items():
            cells = {
                cell["model"]: cell["mean"]
                for cell in part["cells"]
                if cell["measure"] == measure and cell["row"] == f"{strategy} @ {cell['model']}"
            }
            x = [np.log10(parameters[model]) for model in cells]
            assert len(x) == 3
            assert trend["slope"] == pytest.approx(np.polyfit(x, list(cells.values()), 1)[0], abs=1e-8)
            assert trend["p"] is None and trend["sizes"] == 3
    first = data["parts"][0]["size_trend"][0]
    assert first["low"] < first["slope"] < first["high"]
    assert [point["seeds"] for point in first["points"]] == [1, 1, 1]
    sizes = [point["parameters"] for point in first["points"]]
    assert sizes == sorted(sizes)


def test_running_again_trains_nothing_and_a_missing_model_is_left_out_and_named(
    page: Path, out: Path, models: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in page.rglob("*") if path.is_file()}
    words = arguments(out, [*models, "./gone"], "--strategy", "naive", "--strategy", "replay", "--json")
    Counting.started.clear()  # of what made the page
    assert command_line(words) == 3
    assert Counting.started == []
    said = capsys.readouterr()
    assert said.err.startswith("seqmem: left out: model folder './gone' does not exist")
    told = json.loads(said.out)
    assert told["folder"] == str(page) and told["interrupted"] is False and len(told["models"]) == 3
    assert told["left_out"][0].startswith("model folder './gone' does not exist")
    after = {path: path.read_bytes() for path in page.rglob("*") if path.is_file()}
    text = after.pop(page / "page.html").decode()
    (line,) = re.findall(r"<li><bdi>model folder &#39;./gone&#39; does not exist.*?</bdi></li>", text)
    assert text.replace(line, "") == before.pop(page / "page.html").decode()
    assert (
        json.loads(after.pop(page / "page.json"))["parts"]
        == json.loads(before.pop(page / "page.json"))["parts"]
    )
    assert after == before, "the same figures"


def test_p_values_of_slopes_on_the_page_are_adjusted_over_all_of_it(
    models: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With tests planted for the three models there are: one trend stands out among all of the page's parts."""
    planted = chain([0.004], repeat(0.9))
    monkeypatch.setattr(
        "seqmem.scoring.size_trend.size_trend", lambda points: Trend(0.1, 0.05, 0.15, next(planted), 5)
    )
    assert command_line(arguments(tmp_path, models)) == 0
    (page,) = tmp_path.glob("suites/*")
    parts = json.loads((page / "page.json").read_text("utf-8"))["parts"]
    trends = [trend for part in parts for trend in part["size_trend"]]
    assert [bool(part["size_trend"]) for part in parts] == [True, True]
    assert [trend["p_unadjusted"] for trend in trends] == [0.004, *[0.9] * (len(trends) - 1)]
    assert [trend["p"] for trend in trends] == pytest.approx(
        [0.004 * len(trends), *[0.9] * (len(trends) - 1)]
    )
    text = (page / "page.html").read_text("utf-8")
    assert (
        f"P-values control the false discovery rate over all {len(trends)} size trends of this page" in text
    )
    assert text.count(f"<td>{format_p(0.004 * len(trends))}</td>") == 1


def test_contaminated_runs_are_named_and_not_in_the_slope(
    models: list[str], unrendered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(run: RunRecord) -> str:
        odd = Path(run.recipe["model"]["name"]).name == "first" and run.seed == 1
        return "contaminated: planted" if odd else ""

    monkeypatch.setattr("seqmem.record.contamination._contamination_of", spoilt)
    assert command_line(arguments(tmp_path, models[:2], "--smoke", "--seeds", "0-1")) == 0
    (page,) = tmp_path.glob("suites/*")
    assert "first, seed 1: contaminated: planted" in shown(page).text
    data = json.loads((page / "page.json").read_text("utf-8"))
    seeds = {
        (point["model"], point["seeds"])
        for trend in data["parts"][0]["size_trend"]
        for point in trend["points"]
    }
    assert seeds == {("first", 1), ("second", 2)}


def test_parts_that_come_to_the_same_runs_are_run_and_shown_once(models: list[str], tmp_path: Path) -> None:
    assert command_line(arguments(tmp_path, models[:1], "--smoke")) == 0
    assert len(Counting.started) == 1
    (page,) = tmp_path.glob("suites/*")
    text = shown(page).text
    assert text.count("preset smoke: the same runs as part 1, see there.") == 2  # contents and part
    assert "One model size was run" in text and "1 seed: an interval needs 3" in text


def test_ctrl_c_leaves_a_page_of_what_has_finished_and_resume_goes_on(
    models: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = arguments(tmp_path, models[:1], "--seeds", "0-1")
    monkeypatch.setattr(sys, "argv", ["seqmem", *words])
    monkeypatch.setattr(Counting, "interrupt_after", 1)
    assert command_line(words) == 130
    assert len(Counting.started) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("Stopped. Continue with: seqmem suite toy --models ")
    assert said.err.splitlines()[-1].endswith(" --resume")
    (page,) = tmp_path.glob("suites/*")
    text = shown(page).text
    assert "Stopped before its end" in text
    assert "naive, seed 1: not finished" in text and "preset default: not run yet" in text

    monkeypatch.setattr(Counting, "interrupt_after", None)
    assert command_line([*words, "--resume"]) == 0
    assert [name.rpartition(" ")[2] for name in Counting.started] == ["0", "1", "0", "1"]
    text = shown(page).text
    assert "Stopped" not in text and "not run yet" not in text and "not finished" not in text


def test_unfinished_runs_of_a_later_part_are_refused_before_anything_is_trained(
    models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments(tmp_path, models[:1])
    planned = plan_suite(
        "toy",
        registry(),
        SuiteRequest(models=models[0], seeds="0", set=SETTINGS, device="cpu", controls=False),
    )
    (later,) = planned.plans[1].runs.values()
    folder = tmp_path / "records" / later.folder
    (folder / "checkpoints" / "step-5").mkdir(parents=True)
    recipe = later.recipe.model_dump(mode="json")
    from seqmem.record.files import write_sealed
    from seqmem.record.schema import FORMAT
    from seqmem.record.versions import installed_versions

    info = {"format": FORMAT, "id": later.recipe.id, "recipe": recipe, "status": "stopped"}
    info["versions"] = installed_versions()
    write_sealed(folder / "run.json", {**info, "primary_relation": "question"})
    assert command_line(words) == 2
    assert "continue them with --resume or start them over with --force" in capsys.readouterr().err
    assert Counting.started == []
