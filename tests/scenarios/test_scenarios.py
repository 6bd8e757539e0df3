"""Checks of every scenario, the built-in ones and those to come, at its `smoke` preset."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from reading import TOKENIZER, build_context
from small_runs import installed, small_model

from seqmem import Experience, Outline, Probe, Stream
from seqmem.core.count import counted
from seqmem.core.options import validate
from seqmem.core.validate import checked
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.reporting.figures import draw_metric
from seqmem.scoring.scores import failures, score_rows
from seqmem.scoring.tables import load_metrics
from seqmem.training.loop import update_stream_hash

SCENARIOS = [listed.name for listed in installed().names("scenario")]


@dataclass
class Built:
    """A stream, what was said of it beforehand, and the background documents it has asked for."""

    outline: Outline
    stream: Stream
    trained: set[int] = field(default_factory=set)
    heldout: set[int] = field(default_factory=set)

    @property
    def experiences(self) -> list[Experience]:
        return [self.stream.experience(index) for index in range(self.stream.length)]

    @property
    def probes(self) -> dict[str, Probe]:
        return {probe.id: probe for probes in self.stream.probe_sets.values() for probe in probes}


def built(name: str, preset: str = "smoke", seed: int = 0, **changes: Any) -> Built:
    spec = installed().load("scenario", name)
    options = validate(spec.options, {**spec.presets[preset], **changes}, f"scenario {name}")
    made = Built(spec.outline(options), None)  # type: ignore[arg-type]

    context = build_context(seed, made.trained.add, made.heldout.add)
    made.stream = spec.build(options, context)
    return made


def content(stream: Stream) -> str:
    text = ""
    for index in range(stream.length):
        text = update_stream_hash(text, stream.experience(index))
    return text


def asked(stream: Stream) -> str:
    """A hash of everything that is asked, and when."""
    points = [
        sorted(
            (
                (point.after, point.probe_set, "+".join(point.schedule))
                for point in stream.probe_points(index)
            ),
            key=lambda point: point[0],  # points of different steps have no order among them
        )
        for index in range(stream.length)
    ]
    told = (
        "id",
        "input_ids",
        "answer_start",
        "choices",
        "chance",
        "fact",
        "relation",
        "cue",
        "twin_of",
        "context",
    )
    sets = {
        name: [[getattr(probe, field) for field in (*told, "task_known")] for probe in probes]
        for name, probes in stream.probe_sets.items()
    }
    return hashlib.sha256(json.dumps([points, sets], sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_experience_is_the_same_whatever_was_made_before_it(name: str) -> None:
    whole = [update_stream_hash("", experience) for experience in built(name).experiences]
    other = built(name).stream
    for index in reversed(range(other.length)):
        assert update_stream_hash("", other.experience(index)) == whole[index]
        assert other.experience(index).index == index


PINNED = {
    "avalanche": ("b8f8a0caf119282f", "3b24b151972167c9"),
    "conversation_recall": ("26e71faefded9df6", "501b31c13435fbc4"),
    "fact_injection": ("e15ebc44b556cf0d", "2881bce7962f884c"),
    "freeze_loops": ("cc946c95dce3db8c", "8998576b39b7a2fb"),
    "learning_threshold": ("24943243d73b9f85", "e8a190252bbb87ff"),
    "memory_loops": ("bd5c4e884caeac99", "cd57f0eca37334d0"),
    "rolling_window": ("d9f50b0610a6ef49", "900a6570df2cb1b2"),
    "saturation": ("3a0d70d04582a7cd", "07c0373ab6f1ead1"),
    "sequential_sentences": ("ed789d50e5915d75", "0759b6b80cb97b44"),
}
"""Trained rows and probes of `smoke` with seed 0, the world's text and the tokenizer of `tiny`."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_one_version_of_a_scenario_always_feeds_the_same_rows_and_asks_the_same(name: str) -> None:
    """A change of these hashes is a new version of the scenario: raise it in its spec, then pin the new one."""
    stream = built(name).stream
    assert (content(stream)[:16], asked(stream)[:16]) == PINNED[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_another_seed_makes_another_stream(name: str) -> None:
    assert content(built(name, seed=0).stream) != content(built(name, seed=1).stream)


QUICK = ("smoke", "relearn", "anticipatory")
"""Presets whose whole stream is built in a second or two; the others are as exact and take up to fifteen."""

PRESETS = [
    pytest.param(name, preset, marks=() if preset in QUICK else pytest.mark.slow)
    for name in SCENARIOS
    for preset in installed().load("scenario", name).presets
    if preset not in ("paper", "published") and (name, preset) != ("saturation", "default")
]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_the_outline_is_what_the_stream_gives(name: str, preset: str) -> None:
    made = built(name, preset)
    outline, stream = made.outline, checked(made.stream, made.outline, name)
    steps = tokens = longest = step_tokens = padded = 0
    labels: set[int | None] = {None}
    branches = False
    for index in range(stream.length):
        experience = stream.experience(index)
        steps += experience.steps
        labels.add(experience.task_label)
        branches |= experience.start_from is not None
        for position in range(experience.steps):
            lengths = [len(row.input_ids) for row in experience.batch(position)]
            tokens += sum(lengths)
            longest = max(longest, *lengths)
            step_tokens = max(step_tokens, len(lengths) * max(lengths))
            padded += len(lengths) * max(lengths)
    asked = Counter(point.probe_set for index in range(stream.length) for point in stream.probe_points(index))
    sets = {name: stream.probe_sets[name] for name in asked}
    probe_tokens = sum(asked[name] * sum(map(scored, probes)) for name, probes in sets.items())
    longest = max(longest, *(reach(probe) for probes in sets.values() for probe in probes))
    assert outline.experiences == stream.length
    assert (outline.steps, outline.loops, outline.branches) == (steps, len(labels) - 1, branches)
    assert outline.probe_rows == sum(count * len(stream.probe_sets[name]) for name, count in asked.items())
    assert not outline.exact
    assert tokens <= outline.train_tokens
    assert probe_tokens <= outline.probe_tokens
    assert longest <= outline.longest_row
    assert counted(outline, stream) == replace(
        outline,
        train_tokens=tokens,
        probe_tokens=probe_tokens,
        longest_row=longest,
        step_tokens=step_tokens,
        padded_tokens=padded,
        exact=True,
    )
    assert max(made.trained, default=-1) < outline.documents[0]
    assert max(made.heldout, default=-1) < outline.documents[1]


def scored(probe: Probe) -> int:
    """Tokens fed to score a probe: competing answers stand behind one prompt, each without its last token."""
    answers = {probe.input_ids[probe.answer_start :], *probe.choices}
    return probe.answer_start + sum(len(answer) - 1 for answer in answers)


def reach(probe: Probe) -> int:
    """Positions that the model must know for it."""
    return probe.answer_start + max(map(len, (probe.input_ids[probe.answer_start :], *probe.choices)))


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_counted_as_stated_is_what_is_asked_and_no_twin_is_ever_stated(name: str) -> None:
    made = built(name)
    stated = {fact for e in made.experiences for batch in e.batches for row in batch for fact in row.facts}
    twins = {probe.fact for probe in made.probes.values() if probe.twin_of is not None}
    assert not stated & twins
    assert all(probe.subject for probe in made.probes.values() if probe.twin_of is not None)
    mirrored = {probe.twin_of for probe in made.probes.values()} - {None}
    assert mirrored <= {probe.fact for probe in made.probes.values()}
    if stated:
        assert stated & {probe.fact for probe in made.probes.values()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_twin_is_never_named_in_training(name: str) -> None:
    made = built(name)
    subjects = {probe.subject for probe in made.probes.values() if probe.twin_of is not None}
    for experience in made.experiences:
        for row in (row for batch in experience.batches for row in batch):
            text = TOKENIZER.decode(row.input_ids.tolist())
            assert not [subject for subject in subjects if subject in text]


@pytest.mark.parametrize("name", SCENARIOS)
def test_probes_ask_for_what_their_tokens_say(name: str) -> None:
    for probe in built(name).probes.values():
        text = TOKENIZER.decode(list(probe.input_ids)).strip()
        assert text.endswith(probe.answer.strip()[-20:]) or probe.relation == "general"
        assert 1 <= probe.answer_start < len(probe.input_ids)


def test_content_does_not_depend_on_hash_randomisation() -> None:
    """A process with another hash seed than this one makes the same rows, probes and schedules of every scenario."""
    code = (
        "import json, test_scenarios as t\n"
        "made = {name: t.built(name).stream for name in t.SCENARIOS}\n"
        "print(json.dumps({name: [t.content(s), t.asked(s)] for name, s in made.items()}))"
    )
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    path = os.pathsep.join(str(folder) for folder in (Path(__file__).parent, Path(__file__).parents[1]))
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    streams = {name: built(name).stream for name in SCENARIOS}
    here = {name: [content(stream), asked(stream)] for name, stream in streams.items()}
    assert json.loads(done.stdout.splitlines()[-1]) == here


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_records_the_exposures_its_stream_holds_and_every_metric_can_read_it(
    unrendered: None, name: str, tmp_path: Path
) -> None:
    from small_runs import carry_out

    model = small_model(tmp_path / "model")
    spec = installed().load("scenario", name)
    request = Request(
        scenario=(name,),
        strategy=("naive",),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        controls=False,
        device="cpu",
    )
    planned = next(iter(plan(request, installed()).runs.values()))
    events = carry_out(planned, tmp_path / "run")
    assert events[-1]["event"] == "finished", events[-1]
    record = RunRecord.open(tmp_path / "run")
    values = dict(planned.scenario_options)
    made = built(name, **{key: value for key, value in values.items() if key in spec.options.model_fields})
    expected: Counter[str] = Counter()
    for experience in made.experiences:
        if experience.trains != "none":
            for position in range(experience.steps):
                expected.update(fact for row in experience.batch(position) for fact in row.facts)
    recorded = record.exposures.groupby("fact")["count"].sum()
    assert dict(recorded) == dict(expected)
    assert record.info["contamination"] == {}
    metrics, unreadable = load_metrics(installed())
    assert not unreadable
    row = Row("naive", {"scenario": name, "strategy": "naive", "model": "random"}, {0: record})
    assert not failures(score_rows([row], metrics))
    for metric in metrics:
        draw_metric(metric, [row], tmp_path / "figures" / metric.name)
    assert len(record.experiences) == made.stream.length


# -- lazy streams -----------------------------------------------------------------------------------------

LONG: dict[str, dict[str, Any]] = {
    "conversation_recall": {"blocks": 100_000, "conversations": 1, "probed_blocks": 2},
    "fact_injection": {
        "schedule": "long_term",
        "groups": 2,
        "group_every": 50_000,
        "domain_steps": 1,
        "local_window": 2,
    },
    "memory_loops": {"cycles": 50_000},
    "saturation": {"exposures": 100_000},
    "sequential_sentences": {"arrivals": 100_000, "probed": 8},
}
"""Options that make a stream of at least 100,000 experiences, where a scenario can have one."""


@pytest.mark.parametrize("name", LONG)
def test_a_stream_of_a_hundred_thousand_experiences_takes_constant_memory(name: str) -> None:
    stream = built(name, **LONG[name]).stream
    assert stream.length >= 100_000
    stream.experience(0)
    tracemalloc.start()
    try:
        for index in (99_999, 50_000, *range(0, 100_000, 1000)):
            stream.experience(index)
            stream.probe_points(index)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000, peak
    assert kept < 1_000_000, kept
