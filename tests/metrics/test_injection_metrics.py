"""Metrics of fact injection on records of a learner whose memory is known: what was planted comes back."""

from __future__ import annotations

import importlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from helpers_records import Answer, Ask, Layout, on_schedules, write_record

from seqmem import BuildContext, MetricSpec, NotApplicable, RunRecord, TextSource, Value
from seqmem.reading import injections
from seqmem.record.row import Row
from seqmem.record.schema import FORMAT
from seqmem_plugins.metrics._retained import kept, retained
from seqmem_scenarios.fact_injection import build
from seqmem_scenarios.fact_injection.options import FactInjectionOptions
from seqmem_scenarios.world import background

Array = npt.NDArray[np.float64]

TRAINED = ("duplicate", "paraphrase", "once")
FORMS = ("verbatim", "paraphrase", "question")
NAMES = ("initial_recall", "decay", "effectivity", "interference")


def spec_of(name: str) -> MetricSpec:
    spec: MetricSpec
    (spec,) = importlib.import_module(f"seqmem_plugins.metrics.{name}").seqmem_metric()
    return spec


def score(name: str, run: RunRecord) -> Mapping[str, Value]:
    return spec_of(name).compute(run, {})


def number(value: Value) -> float:
    assert value.value is not None, value.reason
    return value.value


# -- a schedule of injections ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """Groups of facts injected every `spacing` steps; every step is asked up to the rest, then log-spaced ones."""

    facts: int = 4
    never: int = 4
    twins: bool = False
    injections: int = 3
    spacing: int = 10
    window: int = 5
    rest: int = 128
    probes: int = 1
    rehearsed: bool = False  # a strategy states every fact at every step from the second on
    joint: bool = False  # no experience injects
    forms: tuple[str, ...] = FORMS

    @property
    def starts(self) -> list[int]:
        return [i * self.spacing for i in range(self.injections)]

    @property
    def asked(self) -> list[int]:
        rest = self.injections * self.spacing
        return [
            *range(rest),
            *(rest + t for t in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if t <= self.rest),
        ]

    def injected(self, group: str) -> list[int]:
        return {"once": self.starts[:1], "never": [], "twin": []}.get(group, self.starts)


Learner = Callable[[str, str, Array, np.random.Generator], Array]
"""(group, probe form, (n, k) steps) to l of n probes, nats per token."""


def changed(run: RunRecord, **tables: pd.DataFrame) -> RunRecord:
    """The same record with other tables in place of some."""
    again = RunRecord(run.folder, run.info)
    kept = {name: vars(run)[name] for name in ("items", "probes", "exposures", "experiences")}
    vars(again).update(kept | tables)
    return again


def record(learner: Learner, schedule: Schedule = Schedule(), seed: int = 0, **options: Any) -> RunRecord:
    """The record of a run in memory: the same tables as a run leaves on disk, as far as the metrics read them."""
    s, random = schedule, np.random.default_rng(seed)
    counts = dict.fromkeys(TRAINED, s.facts) | {"never": s.never}
    items, probes, steps = [], [], np.array(s.asked)
    for group, count in {**counts, **({"twin": s.facts} if s.twins else {})}.items():
        for form in s.forms:
            at = np.broadcast_to(steps, (count * s.probes, len(steps))).astype(float)
            values = learner(group, form, at, random)
            for place, row in enumerate(values):
                fact = f"{group}-{place // s.probes}"
                probe = f"{fact}-{form}-{place % s.probes}"
                items.append(
                    {
                        "probe": probe,
                        "fact": fact,
                        "twin_of": f"once-{place // s.probes}" if group == "twin" else None,
                        "relation": form,
                        "group": "once" if group == "twin" else group,
                        "task_label": None,
                    }
                )
                asked = ~np.isnan(row)
                probes.append(pd.DataFrame({"step": steps[asked], "probe": probe, "logprob": 3 * row[asked]}))
    table = pd.DataFrame(items).assign(cue="none", context=0, task_known=False, choices=None)
    end = s.starts[-1] + s.spacing
    exposures = []  # step, fact, count, rehearsed
    for group in TRAINED:
        own = {start + 1 for start in s.injected(group)}
        again = set(range(2, end + s.rest)) if s.rehearsed else set()
        exposures += [
            (t, f"{group}-{i}", (t in own) + (t in again), int(t in again))
            for i in range(s.facts)
            for t in sorted(own | again)
        ]
    run = RunRecord(
        Path("in memory"),
        {
            "id": "x",
            "status": "finished",
            "primary_relation": "question",
            "format": FORMAT,
            "recipe": {"seed": seed},
            "design": {"local_window": s.window, **options},
        },
    )
    asked_rows = pd.concat(probes)
    asked_rows = asked_rows.assign(
        tokens=3,
        schedule=on_schedules([("boundary", "inject")] * len(asked_rows)),
        experience=0,
        best_other=np.nan,
        choice=np.nan,
    )
    vars(run)["items"] = table
    right = asked_rows["logprob"] > -3
    vars(run)["probes"] = asked_rows.assign(correct=right, right=right).merge(table, on="probe")
    vars(run)["exposures"] = pd.DataFrame(exposures, columns=["step", "fact", "count", "rehearsed"])
    vars(run)["experiences"] = pd.DataFrame(
        {
            "phase": ["general" if s.joint else "inject"] * s.injections + ["rest"],
            "task_label": None,
            "first_step": [*s.starts, end],
            "steps": [s.spacing] * s.injections + [s.rest],
            "start_from": None,
            "save_as": None,
        }
    )
    return run


def planted(
    rise: Mapping[str, float], a: float = 0.2, *, peak: int = 2, schedule: Schedule = Schedule()
) -> Learner:
    """l rises by `rise` within `peak` steps of an injection and falls back by half; after the last by a log10 t."""

    def learner(group: str, form: str, at: Array, random: np.random.Generator) -> Array:
        won = np.zeros(at.shape)
        for number, start in enumerate(starts := schedule.injected(group)):
            size = rise[group] * {"verbatim": 1.0, "paraphrase": 0.5, "question": 0.25}[form]
            since, before = at - start, number * size / 2
            after = before + size * np.where(since == peak, 1.0, 0.5)
            if start == starts[-1]:
                after = (before + size) * (1 - a * np.log10(np.clip(since - peak, 1, None)))
            won = np.where(since >= peak, after, won)
        return won - 5

    return learner


RISE = {"duplicate": 1.0, "paraphrase": 0.6, "once": 0.8}


def noisy(learner: Learner, sd: float, phi: float = 0.0) -> Learner:
    """The same with AR(1) noise of this standard deviation in every curve."""

    def noised(group: str, form: str, at: Array, random: np.random.Generator) -> Array:
        noise = random.normal(0, sd, at.shape)
        for t in range(1, at.shape[1]):
            noise[:, t] = phi * noise[:, t - 1] + np.sqrt(1 - phi**2) * noise[:, t]
        return np.asarray(learner(group, form, at, random) + noise)

    return noised


def flat(group: str, form: str, at: Array, random: np.random.Generator) -> Array:
    return np.full(at.shape, -4.0)


# -- effectivity, local maximum, retainability ------------------------------------------------------------


def test_planted_rises_come_back_exactly() -> None:
    found = score("effectivity", record(planted(RISE)))
    assert {group: number(found[f"effectivity.{group}"]) for group in TRAINED} == pytest.approx(RISE)
    # four facts, injected three, three and one times
    assert number(found["effectivity"]) == pytest.approx((3 * 1.0 + 3 * 0.6 + 0.8) / 7)
    assert number(found["effectivity.on_paraphrase"]) == pytest.approx((3 * 1.0 + 3 * 0.6 + 0.8) / 14)
    assert number(found["effectivity.on_question"]) == pytest.approx((3 * 1.0 + 3 * 0.6 + 0.8) / 28)
    assert number(found["effectivity.never"]) == number(found["effectivity.drift"]) == 0
    assert number(found["effectivity.local_maximum"]) == 2
    assert found["effectivity"].n_items == 12 and found["effectivity.never"].n_items == 4
    assert found["effectivity.local_maximum"].n_items == 12  # facts, not their injections


def test_planted_decay_comes_back_exactly() -> None:
    run = record(planted(RISE, a=0.2))
    found = score("decay", run)
    for name in (
        "decay",
        *(f"decay.{group}" for group in TRAINED),
        "decay.on_paraphrase",
        "decay.on_question",
    ):
        assert number(found[name]) == pytest.approx(0.2), name
    assert number(found["decay.r2"]) == pytest.approx(1)
    # improvement at the last maximum is 2, 1.2 and .8; the stream ends 136 steps after it, for `once` 156
    tops, times = np.array([2.0, 1.2, 0.8]), np.array([136, 136, 156])
    left = (tops * (1 - 0.2 * np.log10(times))).sum() / tops.sum()
    assert number(score("effectivity", run)["effectivity.retainability"]) == pytest.approx(left)


def test_what_moves_trained_and_never_trained_items_alike_is_no_memory() -> None:
    def drifting(group: str, form: str, at: Array, random: np.random.Generator) -> Array:
        return np.asarray(planted(RISE)(group, form, at, random) - 0.02 * at)

    still, moved = record(planted(RISE)), record(drifting)
    for name in ("decay", "decay.r2", "decay.once"):
        assert number(score("decay", moved)[name]) == pytest.approx(number(score("decay", still)[name]))
    ends = [number(score("effectivity", run)["effectivity.retainability"]) for run in (still, moved)]
    assert ends[0] == pytest.approx(ends[1])
    assert number(score("effectivity", moved)["effectivity.drift"]) == pytest.approx(-0.02 * 158)


NOISE = Schedule(rest=0, forms=("verbatim",))


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_noise_alone_has_no_effectivity(phi: float) -> None:
    """Each probe's own maximum lies well above the start: read there, noise would pass for learning."""
    found = [score("effectivity", record(noisy(flat, 0.5, phi), NOISE, seed)) for seed in range(32)]
    for name in ("effectivity", "effectivity.duplicate", "effectivity.once", "effectivity.published"):
        values = [number(one[name]) for one in found]
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        # the parts of one run agree on where noise has its maximum, so that reading them in turn averages little
        assert error < 0.11 and abs(np.mean(values)) < 3 * error, (name, np.mean(values), error)
    assert np.mean([number(one["effectivity.never"]) for one in found]) > 0.2


def test_a_planted_rise_and_decay_are_found_in_noise() -> None:
    """With noise of half the smallest rise; each probe's own maximum, minus that of noise, reads too low."""
    schedule = Schedule(facts=8, never=8, forms=("verbatim",))
    runs = [record(noisy(planted(RISE), 0.3), schedule, seed) for seed in range(24)]
    found = [{**score("effectivity", run), **score("decay", run)} for run in runs]
    true = {"effectivity": 5.6 / 7, "effectivity.duplicate": 1.0, "effectivity.once": 0.8, "decay": 0.2}
    for name, expected in true.items():
        values = [number(one[name]) for one in found]
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        # a line through a flat top and noise is a little less steep than the truth
        slack = 0.03 if name == "decay" else 0.0
        assert error < 0.06 and abs(np.mean(values) - expected) < 3 * error + slack, (
            name,
            np.mean(values),
            error,
        )
    assert np.mean([number(one["effectivity.published"]) for one in found]) < 0.65


def test_noise_has_no_retainability_and_no_decay() -> None:
    runs = [record(noisy(flat, 0.5), Schedule(forms=("verbatim",)), seed) for seed in range(20)]
    found = [score("decay", run)["decay.once"] for run in runs]
    undefined = [one for one in found if one.value is None and "two standard errors" in one.reason]
    assert len(undefined) >= 12  # the maximum is picked in noise: some of twenty pass two standard errors


def test_what_is_lost_is_lost_once() -> None:
    """The slope is read before the improvement is gone; the flat rest after it says nothing about the speed."""

    def soon_lost(group: str, form: str, at: Array, random: np.random.Generator) -> Array:
        return np.maximum(planted(RISE, a=0.9)(group, form, at, random), -5.0)

    assert number(score("decay", record(soon_lost))["decay.duplicate"]) == pytest.approx(0.9, abs=0.01)
    at_once = score("decay", record(planted(RISE, a=3.0)))["decay"]
    assert at_once.value is None and "above 0 at" in at_once.reason


def test_rehearsed_facts_are_not_injected_ones() -> None:
    run = record(planted(RISE), Schedule(rehearsed=True))
    assert {group: number(score("effectivity", run)[f"effectivity.{group}"]) for group in TRAINED} == (
        pytest.approx(RISE)
    )
    seen = injections(run)
    assert [one.start for one in seen if one.fact == "duplicate-0"] == [0, 10, 20]
    assert [one.start for one in seen if one.fact == "once-0"] == [0]
    assert {one.until - one.start for one in seen} == {5}


def test_twins_are_controls_where_they_were_asked_beside_the_facts() -> None:
    """Twins are flat, the group `never` rises by .3 at step 12, when a maximum is due: half of the controls each."""

    def learner(group: str, form: str, at: Array, random: np.random.Generator) -> Array:
        value = planted(RISE)(group if group in TRAINED else "never", form, at, random)
        return np.asarray(value + 0.3 * (at == 12) * (group == "never"))

    def sparse(group: str, form: str, at: Array, random: np.random.Generator) -> Array:
        value = learner(group, form, at, random)
        return np.where((at % 10 == 0) | (at > 30) | (group != "twin"), value, np.nan)

    both = score("effectivity", record(learner, Schedule(twins=True)))
    assert number(both["effectivity.duplicate"]) == pytest.approx(1 - 0.15 / 3)
    assert both["effectivity.never"].n_items == 8
    only_never = score("effectivity", record(sparse, Schedule(twins=True)))
    assert number(only_never["effectivity.duplicate"]) == pytest.approx(1 - 0.3 / 3)


def test_several_probes_of_a_fact_count_alike() -> None:
    found = score("effectivity", record(planted(RISE), Schedule(probes=5)))
    assert number(found["effectivity.duplicate"]) == pytest.approx(1) and found["effectivity"].n_items == 12
    assert number(score("decay", record(planted(RISE), Schedule(probes=5)))["decay"]) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("schedule", "measure", "reason"),
    [
        (Schedule(never=0), "effectivity", "no control"),
        (Schedule(never=0), "effectivity.drift", "no never-trained item"),
        (Schedule(joint=True), "effectivity", "no fact is injected at a step of its own"),
        (Schedule(joint=True), "decay.once", "no fact is injected at a step of its own"),
        (Schedule(forms=("question",)), "effectivity.once", "nothing was asked in the probe form verbatim"),
        (Schedule(forms=("verbatim",)), "decay.on_question", "nothing was asked in the probe form question"),
        (Schedule(rest=0, spacing=6), "decay.duplicate", "doublings"),
    ],
)
def test_what_cannot_be_had_says_why(schedule: Schedule, measure: str, reason: str) -> None:
    value = score(measure.split(".")[0], record(planted(RISE, schedule=schedule), schedule))[measure]
    assert value.value is None and reason in value.reason


def test_a_group_that_is_not_there_is_named() -> None:
    run = record(planted(RISE))
    vars(run)["items"] = run.items.replace({"group": {"once": "facts"}})
    assert "'once'" in score("effectivity", run)["effectivity.once"].reason
    assert "'once'" in score("decay", run)["decay.once"].reason
    assert number(score("effectivity", run)["effectivity"]) == pytest.approx((3 * 1.0 + 3 * 0.6 + 0.8) / 7)


def test_exposures_in_a_row_have_windows_of_one_step() -> None:
    """A fact stated at each of four steps of an experience has three windows cut short, and a whole one."""
    run = record(flat)
    vars(run)["items"] = run.items.assign(group="facts")
    vars(run)["exposures"] = pd.DataFrame(
        {"step": [1, 2, 3, 4], "fact": "once-0", "count": 1, "rehearsed": 0}
    )
    windows = [(one.start, one.until) for one in injections(run)]
    assert windows == [(0, 1), (1, 2), (2, 3), (3, 8)]


@pytest.mark.parametrize("labels", [(0, 1, 2, None), (None,) * 4])
def test_facts_that_only_a_strategy_states_are_not_injected_whatever_the_schedule(
    labels: tuple[int | None, ...],
) -> None:
    """With groups of other names than the published ones, in experiences with a label and without."""
    run = record(flat)
    number = {"duplicate": 0, "paraphrase": 1, "once": 2}
    table = run.items.assign(group="group", task_label=run.items["fact"].str.split("-").str[0].map(number))
    vars(run)["items"] = table
    vars(run)["experiences"] = run.experiences.assign(task_label=labels)
    rows = [
        (1, "duplicate-0", 1, 0),
        (11, "paraphrase-0", 2, 1),  # stated by both
        (11, "duplicate-0", 1, 1),
        (21, "once-0", 1, 0),
        (21, "paraphrase-0", 3, 3),
        (30, "once-0", 1, 0),
        (31, "once-0", 1, 0),  # in the rest
    ]
    vars(run)["exposures"] = pd.DataFrame(rows, columns=["step", "fact", "count", "rehearsed"])
    found = [(one.fact, one.start) for one in injections(run)]
    assert found == [("duplicate-0", 0), ("once-0", 20), ("once-0", 29), ("paraphrase-0", 10)]


def test_retainability_has_a_point_for_every_doubling() -> None:
    log_t, share = retained(kept(record(planted(RISE, a=0.2)), "verbatim", "duplicate"))
    # the last maximum is at step 22; asked are t = 1 to 8, 9 (boundary), 10, 12, 16, 24, 40, 72 and 136
    expected = [[1], [2, 3], [4, 5, 6, 7], [8, 9, 10, 12], [16, 24], [40], [72], [136]]
    assert log_t == pytest.approx([np.log10(times).mean() for times in expected])
    assert share == pytest.approx(1 - 0.2 * log_t)


# -- the scenario itself, with a learner in place of a model -----------------------------------------------


def simulated(options: FactInjectionOptions) -> RunRecord:
    """Run the stream with a learner whose l rises by .5 at every exposure and never falls; right once exposed."""
    text = TextSource(lambda i: background(0, i), lambda i: background(1, i))
    context = BuildContext(0, lambda words: [256, *words.encode()], 512, text)
    stream = build(options, context)
    counts: Counter[str] = Counter()
    probes, exposures, experiences = [], [], []
    step = 0
    for index in range(stream.length):
        experience, due = stream.experience(index), defaultdict(list)
        for point in stream.probe_points(index):
            due[point.after].append(point)
        experiences.append((experience.phase, experience.task_label, step, experience.steps, None, None))
        for after in range(experience.steps + 1):
            for point in due[after]:
                for probe in stream.probe_sets[point.probe_set]:
                    known = counts[probe.fact]
                    probes.append(
                        (step + after, index, point.schedule, probe.id, 2 * (0.5 * known - 4), 2, known > 0)
                    )
            if after < experience.steps:
                for fact in (fact for row in experience.batch(after) for fact in row.facts):
                    counts[fact] += 1
                    exposures.append((step + after + 1, fact, 1, 0))
        step += experience.steps
    every = {probe.id: probe for asked in stream.probe_sets.values() for probe in asked}
    fields = ("fact", "twin_of", "relation", "cue", "task_label", "group", "context", "task_known")
    items = pd.DataFrame([{"probe": i, **{f: getattr(p, f) for f in fields}} for i, p in every.items()])
    items = items.assign(choices=None)
    names = ["step", "experience", "schedule", "probe", "logprob", "tokens", "correct"]
    stated = {"recipe": {"seed": 0}, "design": stream.design.stated()}
    run = RunRecord(
        Path("in memory"), {"format": FORMAT, "primary_relation": options.primary_relation, **stated}
    )
    vars(run)["items"] = items
    answers = pd.DataFrame(probes, columns=names).assign(best_other=np.nan, choice=np.nan)
    answers = answers.assign(right=answers["correct"])
    answers = answers.assign(schedule=on_schedules(answers["schedule"]))
    vars(run)["probes"] = answers.merge(items, on="probe")
    vars(run)["exposures"] = pd.DataFrame(exposures, columns=["step", "fact", "count", "rehearsed"])
    columns = ["phase", "task_label", "first_step", "steps", "start_from", "save_as"]
    vars(run)["experiences"] = pd.DataFrame(experiences, columns=columns)
    return run


SMALL: Mapping[str, Any] = {"facts_count": 4, "never_count": 3, "rest_steps": 16, "row_tokens": 200}


@pytest.mark.parametrize(
    "options",
    [
        {"injections": 3, "spacing": 5, "local_window": 4, "batch_size": 14},
        {"injections": 3, "spacing": 5, "local_window": 4, "batch_size": 14, "never_count": 0},
        {"schedule": "single_exposure", "local_window": 4, "batch_size": 2},
        {"schedule": "mixed_batch", "exposures": 3, "background_ratio": 0.5, "batch_size": 4},
        {
            "schedule": "long_term",
            "exposures": 2,
            "groups": 3,
            "domain_steps": 3,
            "local_window": 4,
            "batch_size": 4,
        },
    ],
    ids=lambda options: options.get("schedule", f"published, {options.get('never_count', 3)} never"),
)
def test_every_schedule_of_the_scenario_is_read(options: Mapping[str, Any]) -> None:
    run = simulated(FactInjectionOptions(**{**SMALL, **options}))
    rise = score("effectivity", run)
    assert number(rise["effectivity"]) == pytest.approx(0.5)
    assert number(rise["effectivity.on_question"]) == pytest.approx(0.5)
    assert number(rise["effectivity.never"]) == number(rise["effectivity.drift"]) == 0
    assert number(rise["effectivity.retainability"]) == pytest.approx(1)
    assert number(score("decay", run)["decay"]) == pytest.approx(0, abs=1e-9)
    first = score("initial_recall", run)
    assert (number(first["initial_recall"]), number(first["initial_recall.lag"])) == (1, 0)
    assert number(first["initial_recall.exposures"]) == 1
    for group in TRAINED:
        there = "schedule" not in options
        assert (rise[f"effectivity.{group}"].value is not None) == there
    if options.get("schedule") == "long_term":
        cost = score("interference", run)
        assert [number(value) for value in cost.values()] == pytest.approx([0, 0, 0])
    else:
        with pytest.raises(NotApplicable, match="no group of facts"):
            score("interference", run)


# -- initial recall and interference on loops -------------------------------------------------------------


def test_initial_recall_reads_the_first_probe_after_the_first_exposure(tmp_path: Path) -> None:
    """Four steps of prose, then six that state the loop's facts: first stated at step 5, first asked at step 10."""

    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        fresh = ask.seen == 1 and ask.age == 0
        return Answer(not ask.twin and fresh and ask.number % 4 == 0)

    found = score("initial_recall", write_record(tmp_path / "run", learner))
    assert found["initial_recall"] == Value(0.25, 32)
    assert number(found["initial_recall.lag"]) == 5 and number(found["initial_recall.exposures"]) == 6
    # verbatim is first asked when the loops are done, after another four visits
    assert number(found["initial_recall.verbatim"]) == 0


def test_an_answer_given_after_going_back_to_a_snapshot_is_none_of_this_fact() -> None:
    def right_later(group: str, form: str, at: Array, random: np.random.Generator) -> Array:
        return np.where((at > 0) & (at % 10 == 0), -1.0, np.where(at == 1, np.nan, -4.0))

    run = record(right_later)
    assert number(score("initial_recall", run)["initial_recall"]) == 0  # first asked at step 2, wrongly
    assert number(score("initial_recall", run)["initial_recall.lag"]) == 1
    probes = run.probes.assign(experience=(run.probes["step"] // 10).clip(upper=3))
    run = changed(
        run,
        probes=probes[probes["step"] >= 10],
        experiences=run.experiences.assign(start_from=[None, "base", None, None]),
        exposures=run.exposures[run.exposures["step"] == 1],
    )
    assert "asked after" in score("initial_recall", run)["initial_recall"].reason


def test_interference_is_what_new_loops_cost_the_old_ones(tmp_path: Path) -> None:
    """Each loop that comes after a fact's own adds .3 to its loss, and the second one makes the answer wrong."""

    def learner(ask: Ask, random: np.random.Generator) -> Answer:
        drift = 0.01 * ask.step
        if ask.twin or not ask.seen:
            return Answer(False, 4.0 + drift)
        later = ask.step // 10 - ask.loop - 1
        return Answer(later < 2, 1.0 + 0.3 * later + drift)

    run = write_record(tmp_path / "run", learner, Layout(cycles=1))
    found = score("interference", run)
    assert number(found["interference"]) == pytest.approx(0.3)
    # the fourth loop costs one of three older ones its answers, the third one of two, the second none
    assert number(found["interference.recall"]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert found["interference"].n_items == 24  # the last loop's facts are never older ones
    assert "not every group" in found["interference.background"].reason
    again = score("interference", write_record(tmp_path / "again", learner, Layout(cycles=3)))
    assert number(again["interference"]) == pytest.approx(0.3)  # loops are new on their first visit only


def test_interference_is_compared_with_background() -> None:
    """Eight steps of a new group cost .05 a step, background .02 a step."""
    phases = ["inject", "general", "general"] * 3 + ["rest"]
    lengths = [8, 6, 6] * 3 + [10]
    starts = np.cumsum([0, *lengths]).tolist()
    rate = np.repeat([{"inject": 0.05, "general": 0.02, "rest": 0.0}[phase] for phase in phases], lengths)
    loss = np.concatenate([[0.0], np.cumsum(rate)])
    run = record(flat)
    groups = {"duplicate": 0, "paraphrase": 1, "once": 2}
    labels = run.items["fact"].str.split("-").str[0].map(groups)
    vars(run)["items"] = run.items.assign(task_label=labels)
    probes = run.items.query("relation == 'question'").merge(pd.DataFrame({"step": starts}), how="cross")
    trained = probes["task_label"].notna()
    probes["logprob"] = -np.where(trained, loss[probes["step"]], 0.005 * probes["step"]) * 3
    schedule = on_schedules([("boundary",)] * len(probes))
    vars(run)["probes"] = probes.assign(tokens=3, schedule=schedule, experience=0, correct=True, right=True)
    vars(run)["experiences"] = pd.DataFrame(
        {
            "phase": phases,
            "task_label": [0, None, None, 1, None, None, 2, None, None, None],
            "first_step": starts[:-1],
            "steps": lengths,
            "start_from": None,
            "save_as": None,
        }
    )
    firsts = {"duplicate": 1, "paraphrase": 21, "once": 41}
    vars(run)["exposures"] = pd.DataFrame(
        [(step, f"{group}-{i}", 1, 0) for group, step in firsts.items() for i in range(4)],
        columns=["step", "fact", "count", "rehearsed"],
    )
    found = score("interference", run)
    assert number(found["interference"]) == pytest.approx(8 * (0.05 - 0.005))
    assert number(found["interference.background"]) == pytest.approx(8 * (0.02 - 0.005))
    assert number(found["interference.recall"]) == 0
    beside_all_but_last = run.experiences.assign(
        phase=[*phases[:5], "task", phases[6], "task", "task", "rest"]
    )
    partly = score("interference", changed(run, experiences=beside_all_but_last))["interference.background"]
    assert partly.value is None and "not every group" in partly.reason
    trained = run.items["group"] != "never"
    run = changed(run, items=run.items[trained], probes=run.probes[run.probes["group"] != "never"])
    assert "no control" in score("interference", run)["interference"].reason


# -- where they do not apply, and what they draw ----------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_specs_are_complete(name: str) -> None:
    spec = spec_of(name)
    module = importlib.import_module(f"seqmem_plugins.metrics.{name}")
    assert module.seqmem_api == ">=1,<2" and spec.name == name == spec.measures[0].name
    assert all(measure.unit and measure.summary for measure in spec.measures)
    assert all(measure.name.split(".")[0] == name for measure in spec.measures)


@pytest.mark.parametrize(
    "schedule", [Schedule(), Schedule(twins=True), Schedule(never=0), Schedule(joint=True)]
)
def test_every_measure_is_a_number_or_a_reason(schedule: Schedule) -> None:
    run = record(planted(RISE), schedule)
    for name in ("initial_recall", "decay", "effectivity"):
        values = score(name, run)
        assert list(values) == [measure.name for measure in spec_of(name).measures]
        assert all(value.value is not None or value.reason for value in values.values())


def test_scenarios_without_injections_or_questions_are_left_out(tmp_path: Path) -> None:
    loops = write_record(tmp_path / "loops", lambda ask, random: Answer(), Layout(cycles=1))
    documents = write_record(
        tmp_path / "documents", lambda ask, random: Answer(), Layout(documents=True, facts=1, rest=0)
    )
    for name in ("decay", "effectivity"):
        with pytest.raises(NotApplicable, match="injections"):
            score(name, loops)
    for name in ("initial_recall", "interference"):
        with pytest.raises(NotApplicable):
            score(name, documents)


def row(*runs: RunRecord, label: str = "naive") -> Row:
    facts = {"scenario": "fact_injection", "model": "tiny", "strategy": label}
    return Row(label, facts, dict(enumerate(runs)))


@pytest.mark.parametrize(("name", "panels"), [("effectivity", 3), ("decay", 1), ("initial_recall", 2)])
def test_figures_show_what_was_measured(name: str, panels: int) -> None:
    runs = [record(noisy(planted(RISE), 0.05), Schedule(twins=True), seed) for seed in range(2)]
    draw = spec_of(name).draw
    assert draw is not None
    figure = draw([row(*runs)])
    assert figure is not None and len(figure.axes) == panels
    assert all(axis.get_xlabel() and axis.lines for axis in figure.axes)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert (
        labels
        == {
            "effectivity": ["duplicate", "once", "paraphrase", "never trained"],
            "decay": ["duplicate", "once", "paraphrase"],
            "initial_recall": ["naive", "naive, twins"],
        }[name]
    )
    several = draw([row(*runs, label=str(place)) for place in range(5)])
    assert several is not None and "first 3 of 5 rows" in str(several.get_suptitle()).replace("\n", " ")
    assert (
        draw([row(record(planted(RISE), Schedule(joint=True)))] if name != "initial_recall" else []) is None
    )


def test_the_decay_figure_reads_as_planted() -> None:
    draw = spec_of("decay").draw
    assert draw is not None
    figure = draw([row(record(planted(RISE, a=0.2)))])
    assert figure is not None
    points = figure.axes[0].lines[0]
    assert list(points.get_xdata()) == [1.5, 3, 6, 12, 24, 48, 96, 192]
    first = np.asarray(points.get_ydata(), dtype=float)
    assert first[0] == pytest.approx(1) and first[-1] == pytest.approx(1 - 0.2 * np.log10(136))


def test_the_interference_figure_has_a_line_per_group(tmp_path: Path) -> None:
    draw = spec_of("interference").draw
    assert draw is not None
    runs = [
        write_record(
            tmp_path / str(seed),
            lambda ask, random: Answer(loss=2.0 - 0.1 * ask.seen),
            Layout(cycles=1),
            seed=seed,
        )
        for seed in range(2)
    ]
    figure = draw([row(*runs)])
    assert figure is not None
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["group 0", "group 1", "group 2", "group 3", "never trained"]
    assert draw([row(record(flat))]) is None
