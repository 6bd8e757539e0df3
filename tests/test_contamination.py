"""A twin whose answer gets into training is reported, and the run has no score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers_records import Answer, Ask, Layout, write_record
from small_runs import finish, installed, planned, small_model

from seqmem import Probe, RunRecord, Stream, TextSource, Value
from seqmem.contamination import Watch, contaminated
from seqmem.leaderboard import Row, score_rows
from seqmem.types import Measure, MetricSpec
from seqmem_scenarios.world import make_facts, statement


def twin(fact: str, subject: str, answer: str) -> Probe:
    return Probe(fact, (0, 1), 1, "", f" {answer}", fact, "question", twin_of="f", subject=subject)


def watched(documents: list[str], *probes: Probe, early: tuple[int, ...] = ()) -> dict[str, str]:
    leaks: dict[str, str] = {}
    watch = Watch(TextSource(documents.__getitem__, documents.__getitem__), leaks)
    for index in early:
        watch.text.train(index)
    stream = Stream(0, lambda i: None, lambda i: (), {"all": probes})  # type: ignore[arg-type, return-value]
    assert watch.begin(stream) == {probe.fact for probe in probes if probe.twin_of}
    for index in range(len(documents)):
        if index not in early:
            assert watch.text.train(index) == documents[index]
    return leaks


def test_a_document_with_a_twin_s_subject_and_answer_is_a_leak() -> None:
    documents = [
        "Dana Orfel went home.",
        "The crimson otter sleeps.",
        "The crimson otter is on the banner of Dana Orfel.",
        "Ivo Brant wears the crimson otter.",
    ]
    probes = (twin("t1", "Dana Orfel", "crimson otter"), twin("t2", "Ivo Brant", "silver hare"))
    assert watched(documents, *probes) == {"t1": "background document 2"}
    assert watched(documents, *probes, early=(2,)) == {"t1": "background document 2"}
    assert watched(documents[:2], *probes) == {}


def test_a_trained_fact_s_own_answer_is_no_leak() -> None:
    trained = Probe("f", (0, 1), 1, "", " crimson otter", "f", "question", subject="Dana Orfel")
    assert watched(["Dana Orfel wears the crimson otter."], trained) == {}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def answer_metric() -> MetricSpec:
    return MetricSpec(
        "m", "1", "", (Measure("m", "fraction", "higher", ""),), lambda run, controls: {"m": Value(0.5, 1)}
    )


def scores(record: RunRecord) -> Mapping[str, Any]:
    return score_rows([Row("naive", {}, {0: record})], [answer_metric()]).iloc[0].to_dict()


def text_file(path: Path, documents: list[str]) -> Path:
    path.write_text("\n\n".join(documents))
    return path


@pytest.mark.parametrize("leaking", [True, False])
def test_a_leak_planted_in_the_background_is_reported_instead_of_a_score(
    leaking: bool, model: Path, tmp_path: Path
) -> None:
    facts = make_facts(0, 4)  # those of a run with seed 0: two loops of two facts
    said = [f"On day {n} nothing happened at all, as on the day before it." for n in range(2000)]
    stated = [statement(pair[1] if leaking else pair[0], 0) for pair in facts]
    documents = [f"{text} {stated[n % 4]}" for n, text in enumerate(said)]
    source = text_file(tmp_path / "text.txt", documents)
    run = planned(model, text=str(source))
    record = finish(run, tmp_path / "run")
    found = scores(record)
    if not leaking:
        assert record.info["contamination"] == {}
        assert found["value"] == 0.5
        return
    assert set(record.info["contamination"]) <= {pair[1].id for pair in facts}
    assert record.info["contamination"]
    assert found["value"] != found["value"]  # NaN: no score
    assert found["reason"].startswith("contaminated: the answer of the never-trained twin '0-")


def test_a_row_that_states_a_twin_is_a_leak_too(model: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    registry = installed()
    spec = registry.load("scenario", "memory_loops")

    def build(options: Any, context: Any) -> Stream:
        stream = spec.build(options, context)

        def experience(index: int) -> Any:
            made = stream.experience(index)
            if index:
                return made
            first, *others = made.batches
            return replace(made, batches=((replace(first[0], facts=("0-1-twin",)), *first[1:]), *others))

        return replace(stream, experience=experience)

    class Leaky:
        def __getattr__(self, name: str) -> Any:
            return getattr(registry, name)

        def load(self, kind: Any, name: str) -> Any:
            return replace(spec, build=build) if kind == "scenario" else registry.load(kind, name)

    record = finish(planned(model), tmp_path / "run", registry=Leaky())  # type: ignore[arg-type]
    assert record.info["contamination"] == {"0-1-twin": "training rows of loop 0 visit 0"}
    assert "contaminated" in contaminated(record)


def knowing(share: float, from_start: bool = False) -> Any:
    def learner(ask: Ask, random: Any) -> Answer:
        knows = ask.twin and random.random() < share and (from_start or ask.step > 0)
        return Answer(correct=bool(knows))

    return learner


def test_twins_answered_far_more_often_than_guessing_explains_are_contamination(tmp_path: Path) -> None:
    layout = Layout(loops=2, cycles=2, facts=16, rest=20)
    assert "never-trained twins are answered rightly" in contaminated(
        write_record(tmp_path / "leak", knowing(0.5), layout)
    )
    assert contaminated(write_record(tmp_path / "clean", knowing(0.0), layout)) == ""
    assert contaminated(write_record(tmp_path / "known", knowing(0.5, from_start=True), layout)) == ""
    for seed in range(10):  # guessing at the stated chance of .01
        assert contaminated(write_record(tmp_path / f"guess{seed}", knowing(0.01), layout, seed=seed)) == ""
