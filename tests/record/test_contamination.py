"""A twin whose answer gets into training is reported, and the run has no score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_records import Answer, Ask, Layout, write_record
from hypothesis import given
from hypothesis import strategies as st
from small_runs import finish, installed, planned, small_model

from seqmem import Example, Probe, RunRecord, Stream, Value
from seqmem.core.measures import Measure
from seqmem.planning.tokenizer import bare_encoder, decoder
from seqmem.plugin.specs import MetricSpec
from seqmem.record.contamination import contaminated
from seqmem.record.row import Row
from seqmem.scoring.scores import score_rows, sound
from seqmem.training.leaks import ContaminationDetector
from seqmem_scenarios.world import make_facts, statement


def probe(fact: str, answer: str, prompt: str = "", **more: Any) -> Probe:
    return Probe(fact, (0, 1), 1, prompt, f" {answer}", fact, "question", **more)


def twin(fact: str, subject: str, answer: str) -> Probe:
    return probe(fact, answer, twin_of="f", subject=subject)


def decode(ids: list[int]) -> str:
    return bytes(ids).decode()


def row(text: str, *facts: str) -> Example:
    ids = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)
    return Example(ids, np.ones(len(ids), dtype=np.bool_), facts)


def encode(text: str) -> list[int]:
    return list(text.encode())


def leaks(texts: Sequence[str], *probes: Probe) -> list[list[str]]:
    detector = ContaminationDetector(probes, encode, decode)
    return [list(detector.scan([row(text)])) for text in texts]


def test_a_row_with_a_control_s_subject_and_answer_is_a_leak() -> None:
    texts = [
        "Dana Orfel went home.",
        "The crimson otter sleeps.",
        "The crimson  otter is on the\nbanner of Dana\nOrfel.",
        "Ivo Brant wears the crimson otter.",
        "Ivo Brant saw the silver haregrass.",  # another word that begins like the answer
    ]
    probes = (twin("t1", "Dana Orfel", "crimson otter"), twin("t2", "Ivo Brant", "silver hare"))
    assert leaks(texts, *probes) == [[], [], ["t1"], [], []]


def test_a_fact_that_is_never_trained_is_watched_like_a_twin() -> None:
    never = probe("n", "crimson otter", subject="Dana Orfel", group="never")
    assert leaks(["Dana Orfel wears the crimson otter."], never) == [["n"]]
    trained = probe("f", "crimson otter", subject="Dana Orfel", group="once")
    assert leaks(["Dana Orfel wears the crimson otter."], trained) == [[]]


def test_a_control_without_a_subject_is_known_by_its_prompt_and_answer() -> None:
    control = probe("c", "red clay", prompt="The bridge of Tarn is made of", group="never")
    texts = ["They say: The bridge of Tarn is made of red clay.", "Tarn has red clay.", "made of red clay"]
    assert leaks(texts, control) == [["c"], [], []]


def test_a_row_that_states_a_control_s_id_is_a_leak() -> None:
    detector = ContaminationDetector([twin("t1", "Dana Orfel", "crimson otter")], encode, decode)
    assert list(detector.scan([row("Some text.", "t1", "f")])) == ["t1"]


def test_subjects_that_begin_alike_or_overlap_are_all_looked_for() -> None:
    probes = (
        twin("city", "New York City", "blue"),
        twin("state", "New York", "red"),
        twin("paper", "York City Times", "green"),
    )
    texts = ["New York City is red.", "The New York City Times are green.", "New York City is blue and red."]
    assert leaks(texts, *probes) == [["state"], ["paper"], ["city", "state"]]


SHORT = st.text("ab ", min_size=1, max_size=4).filter(str.strip)


@given(st.lists(st.tuples(SHORT, SHORT), min_size=1, max_size=6), st.text("ab ", max_size=24))
def test_exactly_what_a_search_of_every_place_finds_is_found(
    controls: list[tuple[str, str]], text: str
) -> None:
    probes = [twin(str(number), *control) for number, control in enumerate(controls)]
    words = text.split()
    said = " ".join(words)

    def leaked(subject: str, answer: str) -> bool:
        whole = answer.split()
        return any(said.startswith(" ".join(subject.split()), place) for place in range(len(said))) and any(
            words[place : place + len(whole)] == whole for place in range(len(words))
        )

    expected = {probe.fact for probe, control in zip(probes, controls, strict=True) if leaked(*control)}
    assert set(*leaks([text], *probes)) == expected


def word_tokenizer(lower: bool) -> Any:
    """A tokenizer of whole words that knows no capitals: it lowers them, or has one token for all such words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = "[UNK] dana orfel ivo brant wears the crimson otter silver hare .".split()
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize(("lower", "other"), [(True, []), (False, ["t1"])])
def test_a_leak_is_seen_through_a_tokenizer_that_loses_capitals(lower: bool, other: list[str]) -> None:
    tokenizer = word_tokenizer(lower)
    read = bare_encoder(tokenizer)
    control = twin("t1", "Dana Orfel", "crimson Otter" if lower else "crimson otter")
    detector = ContaminationDetector([control], read, decoder(tokenizer, keep_special=True))

    def found(text: str) -> list[str]:
        ids = np.array(read(text), dtype=np.int32)
        return list(detector.scan([Example(ids, np.ones(len(ids), dtype=np.bool_), ())]))

    assert found("Dana Orfel wears the crimson otter.") == ["t1"]
    assert found("Dana Orfel wears the silver hare.") == []
    # where both names are words it does not know, the learner cannot tell them apart either
    assert found("Ivo Brant wears the crimson otter.") == other


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
    assert found["reason"].startswith("contaminated: the answer of the never-trained '0-")
    (drawn,) = sound([Row("naive", {}, {0: record}, controls={"shuffled": {0: record}})])
    assert not drawn.runs and not drawn.controls["shuffled"]


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
    assert record.info["contamination"] == {"0-1-twin": "loop 0 visit 0"}
    assert "contaminated" in contaminated(record)


def knowing(share: float, from_start: bool = False) -> Any:
    def learner(ask: Ask, random: Any) -> Answer:
        knows = ask.twin and random.random() < share and (from_start or ask.step > 0)
        return Answer(correct=bool(knows))

    return learner


def test_twins_answered_far_more_often_than_guessing_explains_are_contamination(tmp_path: Path) -> None:
    layout = Layout(loops=2, cycles=2, facts=16, rest=20)
    assert "never-trained facts are answered rightly" in contaminated(
        write_record(tmp_path / "leak", knowing(0.5), layout)
    )
    assert contaminated(write_record(tmp_path / "clean", knowing(0.0), layout)) == ""
    assert contaminated(write_record(tmp_path / "known", knowing(0.5, from_start=True), layout)) == ""
    for seed in range(10):  # guessing at the stated chance of .01
        assert contaminated(write_record(tmp_path / f"guess{seed}", knowing(0.01), layout, seed=seed)) == ""


def test_controls_asked_at_different_times_count_with_their_last_answers(tmp_path: Path) -> None:
    """Every loop's twins are known when last asked, though few are asked at the very end of the stream."""
    record = write_record(tmp_path / "run", knowing(0.6), Layout(loops=4, cycles=2, facts=8, rest=20))
    last = record.probes["step"].max()
    kept = record.probes[(record.probes["step"] < last) | (record.probes["fact"] == "t0.0")]
    fewer = RunRecord(record.folder, record.info)
    vars(fewer).update(items=record.items, probes=kept)
    assert "never-trained facts are answered rightly when last asked" in contaminated(fewer)


def test_a_contaminated_control_run_is_not_subtracted(tmp_path: Path) -> None:
    def compute(run: RunRecord, controls: Mapping[str, RunRecord]) -> Mapping[str, Value]:
        return {"m": Value(float(len(controls)), 1)}

    metric = MetricSpec("m", "1", "", (Measure("m", "", "none", ""),), compute)
    clean = write_record(tmp_path / "clean", knowing(0.0), Layout(facts=16))
    spoilt = write_record(tmp_path / "spoilt", knowing(0.6), Layout(facts=16))
    for control, expected in ((clean, 1.0), (spoilt, 0.0)):
        rows = [Row("naive", {}, {0: clean}, controls={"shuffled": {0: control}})]
        assert score_rows(rows, [metric])["value"].tolist() == [expected]


def test_the_answers_of_an_open_record_are_read_for_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write_record(tmp_path / "run", lambda ask, random: Answer(False, 1.0), Layout(loops=2, cycles=1))
    reads, answering = [], RunRecord.answering

    def counted(self: RunRecord, items: Any) -> Any:
        reads.append(self.folder)
        return answering(self, items)

    monkeypatch.setattr(RunRecord, "answering", counted)
    assert [contaminated(record) for _ in range(3)] == ["", "", ""]
    assert len(reads) == 1
    assert contaminated(RunRecord.open(record.folder)) == ""
    assert len(reads) == 2
