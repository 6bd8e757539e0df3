"""Tests of what `sequential_sentences` trains and asks, row by row, against its protocol."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from built_streams import BuiltStream, content, maker
from outlines import check_outline
from reading import Letters
from small_runs import carry_out, installed, small_model

from seqmem import Experience, RunRecord, UsageError
from seqmem.core.options import validate
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.training.loop import update_stream_hash
from seqmem_scenarios.sequential_sentences import PRESETS, build, outline
from seqmem_scenarios.sequential_sentences.options import PEOPLE, SequentialSentencesOptions
from seqmem_scenarios.sequential_sentences.rows import OWN_KEPT
from seqmem_scenarios.sequential_sentences.sentences import Told, make_sentence
from seqmem_scenarios.world import ATTRIBUTE_BY_NAME, World, filler, holds_form

BASE: dict[str, Any] = {
    "arrivals": 24,
    "window": 4,
    "background_ratio": 0.5,
    "repeats": 2,
    "probed": 6,
    "probe_every": 5,
    "rest_steps": 5,
    "row_tokens": 32,
}
"""Options of these tests where they say nothing; presets may be tuned, what options mean may not change."""


class Built(BuiltStream[SequentialSentencesOptions]):
    @property
    def arrivals(self) -> list[Experience]:
        return self.of_phase("inject")

    def sentence(self, number: int, *, twin: bool = False) -> str:
        return Told(self.options, self.seed).asked(number).text(twin=twin)


made = maker(Built, "sequential_sentences", SequentialSentencesOptions, build, BASE)


def checked(**options: Any) -> SequentialSentencesOptions:
    return validate(SequentialSentencesOptions, {**BASE, **options}, "scenario sequential_sentences")


def stated(e: Experience) -> list[int]:
    """Numbers of the sentences that a batch states."""
    return [int(fact.removeprefix("sentence ")) for row in e.batches[0] for fact in row.facts]


# -- the window -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 5])
def test_each_arrival_s_batch_holds_the_last_sentences_and_is_trained_as_often_as_asked(window: int) -> None:
    built = made(window=window, repeats=3)
    assert len(built.arrivals) == 24
    for i, e in enumerate(built.arrivals):
        assert (e.index, e.name, e.task_label, e.steps) == (i, f"arrival {i}", None, 3)
        assert stated(e) == list(range(i - window + 1, i + 1))


def test_a_sentence_row_is_its_statement_in_one_wording_for_good() -> None:
    built = made(arrivals=40)
    texts: dict[str, set[str]] = {}
    for row in (row for row in built.rows if row.facts):
        texts.setdefault(row.facts[0], set()).add(built.text(row))
        assert row.loss_mask.tolist() == [False] + [True] * (len(row.input_ids) - 1)
    assert set(texts) == {f"sentence {n}" for n in range(-3, 40)}
    assert texts == {f"sentence {n}": {built.sentence(n)} for n in range(-3, 40)}


@pytest.mark.parametrize("options", [{}, {"window": 1}, {"window": 30}, {"repeats": 1, "rest_steps": 0}])
def test_exposures_are_as_many_as_steps_a_sentence_spends_in_the_window(options: dict[str, Any]) -> None:
    built = made(**options)
    o = built.options
    counts = Counter(
        fact for e in built.experiences for p in range(e.steps) for row in e.batch(p) for fact in row.facts
    )
    for n in range(1 - o.window, o.arrivals):
        inside = sum(0 <= i < o.arrivals for i in range(n, n + o.window))
        assert counts.pop(f"sentence {n}") == o.repeats * inside
    assert not counts


def test_people_are_all_different_attributes_balanced_and_values_of_their_sets() -> None:
    sentences = [make_sentence(0, n) for n in range(-12, 600)]
    for side in ("fact", "twin"):
        facts = [getattr(sentence, side) for sentence in sentences]
        assert len({fact.person.name for fact in facts}) == len({fact.id for fact in facts}) == len(facts)
        assert set(Counter(fact.attribute for fact in facts).values()) == {len(facts) // 6}
        assert all(fact.value in ATTRIBUTE_BY_NAME[fact.attribute].values for fact in facts)
    names = [{getattr(s, side).person.name for s in sentences} for side in ("fact", "twin")]
    assert names[0].isdisjoint(names[1])
    assert all(s.fact.value != s.twin.value and s.fact.attribute == s.twin.attribute for s in sentences)
    assert len({s.wording for s in sentences}) == 7


def test_the_world_has_as_many_people_as_are_counted_on() -> None:
    assert World(3).person("injected", PEOPLE - 1).name != World(3).person("injected", 0).name
    with pytest.raises(ValueError, match="population ends"):
        World(3).person("injected", PEOPLE)


# -- background -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "ratio"),
    [(4, "1/2"), (4, "0"), (3, "1/5"), (7, "3/10"), (8, "1/9"), (1, "1/21"), (4, "9/10"), (5, "1/6")],
)
def test_background_is_exact_over_every_twenty_consecutive_batches(window: int, ratio: str) -> None:
    built = made(
        window=window,
        background_ratio=float(Fraction(ratio)),
        arrivals=67,
        text=lambda index: f"Document {index} of the source.",
    )
    rows = [(sum(not row.facts for row in e.batches[0]), len(e.batches[0])) for e in built.arrivals]
    for first in range(67 - 20 + 1):
        behind, all_rows = (sum(column) for column in zip(*rows[first : first + 20], strict=True))
        assert Fraction(behind, all_rows) == Fraction(ratio)
    counts = [count for count, _ in rows]
    assert max(counts) - min(counts) <= 1, "counts are spread evenly"
    texts = [built.text(row) for row in built.rows if not row.facts]
    assert len(set(texts)) == len(texts), "no document is read twice"


@pytest.mark.parametrize(("window", "ratio", "nearest"), [(4, 0.3, (34, 80)), (1, 0.001, (0, 20))])
def test_a_ratio_that_cannot_be_exact_is_refused_with_the_nearest_that_can(
    window: int, ratio: float, nearest: tuple[int, int]
) -> None:
    rows, sentences = nearest
    with pytest.raises(UsageError) as refused:
        checked(window=window, background_ratio=ratio)
    share = rows / (rows + sentences)
    assert f"take {share:.9g} ({rows} rows)" in str(refused.value) and "\n" not in str(refused.value)
    taken = checked(window=window, background_ratio=float(f"{share:.9g}"))
    assert taken.background_before(taken.arrivals + 20) - taken.background_before(taken.arrivals) == rows


def test_the_rest_is_background_that_no_arrival_read_in_batches_of_the_same_size() -> None:
    built = made(background_ratio=0.2, window=8, text=lambda index: f"Document {index} of the source.")
    (rest,) = [e for e in built.experiences if e.phase == "rest"]
    assert (rest.moments, rest.steps, rest.task_label) == ("fresh", 5, None)
    assert {len(batch) for batch in rest.batches} == {8 + 2}
    read = {built.text(row) for e in built.arrivals for row in e.batches[0] if not row.facts}
    resting = [built.text(row) for batch in rest.batches for row in batch]
    assert len(set(resting)) == len(resting) and read.isdisjoint(resting)
    assert made(rest_steps=0).stream.length == 24


@pytest.mark.parametrize("row_tokens", [32, 100])
def test_a_plain_rest_is_the_rest_without_documents_in_a_probe_s_form(row_tokens: int) -> None:
    def text(index: int) -> str:
        return make_sentence(9, index).text() if index % 3 == 0 else filler(0, index)

    whole, plain = (made(text=text, rest_text=kind, row_tokens=row_tokens) for kind in ("any", "plain"))
    texts, kept = (
        [[whole.text(row) for row in e.batches[0]] for e in (b.experiences[0],)] for b in (whole, plain)
    )
    assert texts == kept, "what arrives is the same"
    texts, kept = (
        [row for batch in built.experiences[-1].batches for row in map(built.text, batch)]
        for built in (whole, plain)
    )
    assert len(texts) == len(kept) == len(set(kept))
    assert any(map(holds_form, texts)) and not any(map(holds_form, kept))
    if row_tokens == 32:  # a document a row: those without a form stay in their places
        changed = [place for place, (one, other) in enumerate(zip(texts, kept, strict=True)) if one != other]
        assert changed == [place for place, one in enumerate(texts) if holds_form(one)]
    check_outline(outline(plain.options), plain.stream, plain.trained, plain.heldout)


# -- context in training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("divider", [" ", "\n", " | ", "\n\n"])
def test_train_context_puts_the_window_s_earlier_sentences_in_front_and_trains_the_last(divider: str) -> None:
    built = made(train_context=2, divider=divider, window=4)
    for e in built.arrivals:
        oldest = e.index - 3
        for row in (row for row in e.batches[0] if row.facts):
            number = int(row.facts[0].removeprefix("sentence "))
            shown = range(max(oldest, number - 2), number)
            before = "".join(built.sentence(n) + divider for n in shown)
            assert built.text(row) == before + built.sentence(number)
            targets = [int(i) for i, t in zip(row.input_ids, row.loss_mask, strict=True) if t]
            assert built.tokenizer.decode(targets).strip() == built.sentence(number)
            assert len(row.facts) == 1


def test_the_whole_window_may_stand_in_front_and_rows_too_long_are_refused() -> None:
    built = made(train_context=4, window=4)
    longest = max(len(row.input_ids) for row in built.rows if row.facts)
    assert built.text(built.arrivals[9].batches[0][3]) == " ".join(built.sentence(n) for n in range(6, 10))
    assert made(train_context=4, max_positions=longest, context_sentences=0).stream.length
    with pytest.raises(
        UsageError, match=rf"train_context 4 makes a row of {longest} tokens, the model reads {longest - 1}"
    ):
        made(train_context=4, max_positions=longest - 1, context_sentences=0)
    assert made(train_context=1, window=1).stream.length == 25


# -- probes -----------------------------------------------------------------------------------------------


def test_sentences_are_asked_evenly_over_the_stream_the_last_included() -> None:
    assert checked(arrivals=24, probed=6).asked == [3, 7, 11, 15, 19, 23]
    assert checked(arrivals=10, probed=4).asked == [1, 4, 6, 9]
    assert checked(arrivals=5, probed=64).asked == [0, 1, 2, 3, 4]
    built = made()
    assert {p.position for p in built.of("verbatim")} == {3, 7, 11, 15, 19, 23}
    assert {p.fact for p in built.of("verbatim")} == {f"sentence {n}" for n in built.options.asked}


def test_every_asked_sentence_and_its_twin_is_asked_in_every_probe_form() -> None:
    built = made(arrivals=30, probed=30)
    asked = Counter((p.relation, p.twin_of is not None) for p in built.stream.probe_sets["ladder"])
    assert asked == {
        (form, twin): 30
        for form in ("last_token", "last_word", "verbatim", "paraphrase", "question")
        for twin in (False, True)
    }
    told = "\n".join(built.text(row) for row in built.rows)
    for probe in built.probes.values():
        if probe.relation == "general":
            continue
        own = built.sentence(probe.position or 0, twin=probe.twin_of is not None)
        assert probe.subject in probe.prompt and probe.subject in own
        assert probe.answer.strip() in own
        near = probe.relation in ("last_token", "last_word", "verbatim")
        if probe.context == 0:
            assert (f"{probe.prompt}{probe.answer}." == own) == near
            assert (probe.prompt in told) == (near and probe.twin_of is None)
        if probe.twin_of:
            assert probe.subject not in told
        if probe.relation == "last_token":
            assert probe.answer_start == len(probe.input_ids) - 1 and probe.chance is None
        elif probe.relation == "last_word":
            assert " " not in probe.answer.strip() and probe.chance is not None
        elif "-context " in probe.id:
            assert probe.chance is not None and probe.chance <= 1 / 60 and not probe.choices
        else:
            assert probe.chance == 1 / len(probe.choices) <= 1 / 2
    twins = {p.twin_of: p for p in built.of("question", twins=True)}
    for fact in built.of("question"):
        mirror = twins[fact.fact]
        assert mirror.prompt.replace(mirror.subject, "X") == fact.prompt.replace(fact.subject, "X")
        assert mirror.answer != fact.answer and mirror.position == fact.position


@pytest.mark.parametrize(
    "options", [{"probed": 30, "arrivals": 60}, {"probed": 24, "window": 1, "probe_every": 1}]
)
def test_answers_compete_that_are_trained_when_a_sentence_is_first_asked_for(options: dict[str, Any]) -> None:
    built = made(3, **options)
    o = built.options
    boundaries = [*range(0, o.arrivals, o.probe_every), o.arrivals]
    whole = [
        p for p in built.stream.probe_sets["ladder"] if p.relation in ("verbatim", "paraphrase", "question")
    ]
    assert whole
    for probe in whole:
        number = probe.position or 0
        fact = make_sentence(3, number).fact
        asked = next(arrival for arrival in boundaries if arrival > number)
        known = {
            sentence.fact.value
            for sentence in (make_sentence(3, n) for n in range(1 - o.window, asked))
            if sentence.fact.attribute == fact.attribute
        }
        assert probe.answer.strip() in probe.choice_names and fact.value in probe.choice_names
        assert len(set(probe.choices)) == len(probe.choices) == max(2, min(8, len(known)))
        assert set(probe.choice_names) <= known or len(known) == 1
        assert (probe.answer.strip() == fact.value) == (probe.twin_of is None)
    assert max(len(probe.choices) for probe in whole) == (8 if o.arrivals == 60 else 4)


def test_a_first_sentence_competes_with_the_next_that_is_trained_or_one_that_never_is() -> None:
    told = Told(checked(window=1, probe_every=1), 0)
    first, attribute = told.candidates(0), make_sentence(0, 0).fact.attribute
    alike = next(s.fact for s in (make_sentence(0, n) for n in range(6, 12)) if s.fact.attribute == attribute)
    assert first == (make_sentence(0, 0).fact.value, alike.value)
    alone = Told(checked(window=1, probe_every=1, arrivals=1), 0).candidates(0)
    assert len(set(alone)) == 2 and set(alone) <= set(ATTRIBUTE_BY_NAME[attribute].values)


@pytest.mark.parametrize("own", ["oldest", "newest"])
@pytest.mark.parametrize("divider", [" ", "\n"])
@pytest.mark.parametrize("form", ["question", "verbatim"])
def test_contexts_are_the_window_cut_from_its_oldest_sentence_on(own: str, divider: str, form: str) -> None:
    built = made(own_sentence=own, divider=divider, context_rung=form, context_sentences=3)
    contexts = built.stream.probe_sets["context"]
    assert Counter(p.context for p in contexts) == dict.fromkeys(range(4), 2 * 6)
    bare = {p.fact: p for p in contexts if p.context == 0}
    for probe in contexts:
        number, twin = probe.position or 0, probe.twin_of is not None
        last = number + 2 if own == "oldest" else number
        shown = range(last - probe.context + 1, last + 1)
        before = "".join(built.sentence(n, twin=twin) + divider for n in shown)
        assert probe.prompt == before + bare[probe.fact].prompt
        kept = own == "newest" or probe.context == 3
        assert (probe.group == OWN_KEPT) == (kept and probe.context > 0)
        # one sentence names the person, and the prompt does
        assert probe.prompt.count(probe.subject) == 1 + (kept and probe.context > 0)
        assert probe.relation == form and not probe.choices
        assert probe.chance is not None and probe.chance <= 1 / 60
    whole = made(window=6).stream.probe_sets["context"]
    assert max(p.context for p in whole) == 6


def test_without_context_sentences_no_context_is_asked() -> None:
    built = made(context_sentences=0)
    assert "context" not in built.stream.probe_sets
    schedules = {point.schedule for _, point in built.points}
    assert "context" not in schedules


def schedule(built: Built) -> dict[str, list[tuple[int, int]]]:
    """(experience, steps done in it) of every schedule's probes."""
    found: dict[str, list[tuple[int, int]]] = {}
    for e in built.experiences:
        for point in built.stream.probe_points(e.index):
            assert 0 <= point.after <= e.steps and point.probe_set in built.stream.probe_sets
            for name in point.schedule:
                found.setdefault(name, []).append((e.index, point.after))
    return found


def test_what_is_asked_when() -> None:
    thrice = [(0, 0), (24, 0), (24, 5)]
    assert schedule(made()) == {
        "boundary": [(0, 0), (5, 0), (10, 0), (15, 0), (20, 0), (24, 0), (24, 5)],
        "log": [(24, 0), (24, 1), (24, 2), (24, 4), (24, 5)],
        "ladder": thrice,
        "general": thrice,
        "context": thrice,
        "rest_text": [(24, 0), (24, 5)],
    }
    twice = [(0, 0), (6, 2)]
    assert schedule(made(rest_steps=0, arrivals=7, probe_every=4)) == {
        "boundary": [(0, 0), (4, 0), (6, 2)],
        "ladder": twice,
        "general": twice,
        "context": twice,
    }


def test_a_boundary_asks_token_word_and_verbatim_of_all() -> None:
    sets = made().stream.probe_sets
    assert Counter((p.relation, p.twin_of is not None) for p in sets["near"]) == {
        (form, twin): 6 for form in ("last_token", "last_word", "verbatim") for twin in (False, True)
    }
    assert {p.id for p in sets["near"]} <= {p.id for p in sets["ladder"]}


def test_sampling_is_decoded_as_the_options_say() -> None:
    decoding = made(temperature=0.7, top_k=5).stream.decoding
    assert decoding is not None and (decoding.temperature, decoding.top_k) == (0.7, 5)
    everything = made(top_k=None).stream.decoding
    assert everything is not None and everything.top_k is None


# -- the outline ------------------------------------------------------------------------------------------


def random_options(draw: random.Random) -> dict[str, Any]:
    window = draw.randrange(1, 8)
    arrivals = draw.randrange(1, 30)
    return {
        "arrivals": arrivals,
        "window": window,
        "background_ratio": draw.choice([0.0, 0.5, 1 / 21, 2 / 3]),
        "repeats": draw.randrange(1, 4),
        "context_sentences": draw.choice([None, draw.randrange(0, window + 1)]),
        "own_sentence": draw.choice(["oldest", "newest"]),
        "context_rung": draw.choice(["question", "verbatim"]),
        "train_context": draw.randrange(0, window + 1),
        "probed": draw.randrange(1, 10),
        "probe_every": draw.randrange(1, 6),
        "rest_steps": draw.randrange(0, 9),
        "row_tokens": draw.choice([16, 64, 100]),
    }


@pytest.mark.parametrize("number", range(16))
def test_the_outline_bounds_what_the_stream_really_holds(number: int) -> None:
    built = made(seed=number, **random_options(random.Random(number)))
    stated = outline(built.options)
    check_outline(stated, built.stream, built.trained, built.heldout)
    documents = (max(built.trained, default=-1) + 1, max(built.heldout, default=-1) + 1)
    assert documents == stated.documents, "no document more or less than announced"


@pytest.mark.parametrize("preset", ["smoke", "default", "pretrained"])
def test_the_outline_bounds_a_preset(preset: str) -> None:
    built = made(**{**SequentialSentencesOptions().model_dump(), **PRESETS[preset]})
    check_outline(outline(built.options), built.stream, built.trained, built.heldout)


def test_the_paper_s_preset_is_outlined_without_making_it() -> None:
    said = outline(checked(**{**SequentialSentencesOptions().model_dump(), **PRESETS["paper"]}))
    assert said.steps == 2000 and said.longest_row <= 2048
    assert said.documents[0] == 2 * (1000 * 100 + 1000 * 200)


# -- purity -----------------------------------------------------------------------------------------------


PINNED: dict[str, tuple[dict[str, Any], str]] = {
    "smoke": (dict(PRESETS["smoke"]), "b83bb20f28e1cf64"),
    "context in training": ({"train_context": 3, "divider": "\n"}, "eb6c733536885cbd"),
    "uneven background": ({"background_ratio": 0.2, "window": 3, "repeats": 1}, "a382bc5021074443"),
}


@pytest.mark.parametrize("case", PINNED)
def test_one_version_of_the_scenario_always_feeds_the_same_rows(case: str) -> None:
    """A change of these hashes is a new version of the scenario: raise it in its spec, then pin the new ones."""
    options, pinned = PINNED[case]
    options = {**options, "max_new_tokens": 64}
    assert content(made(0, Letters(), max_positions=4096, **options))[:16] == pinned
    assert content(made(1, Letters(), max_positions=4096, **options))[:16] != pinned


@pytest.mark.parametrize("options", [{}, {"train_context": 3}, {"background_ratio": 0.2, "window": 3}])
def test_an_experience_is_the_same_when_none_before_it_was_made(options: dict[str, Any]) -> None:
    whole = [update_stream_hash("", e) for e in made(5, **options).experiences]
    for index in (24, 23, 7, 0):
        assert update_stream_hash("", made(5, **options).stream.experience(index)) == whole[index]


def test_a_stream_of_a_hundred_thousand_arrivals_takes_no_more_memory_than_a_short_one() -> None:
    def peak(arrivals: int) -> int:
        tracemalloc.start()
        try:
            stream = made(arrivals=arrivals, probed=6).stream
            for index in (arrivals - 1, arrivals // 2, 3):
                stream.experience(index)
                stream.probe_points(index)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(300)  # what is made once for the world
    assert peak(100_000) < peak(300) + 200_000


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_sentences": 5}, "context_sentences (5) must be at most window (4)"),
        ({"train_context": 5}, "train_context (5) must be at most window (4)"),
        ({"background_ratio": 1.0}, "background_ratio"),
        ({"background_ratio": -0.1}, "background_ratio"),
        ({"background_ratio": 0.3}, "it must be a whole number: take 0.298245614 (34 rows)"),
        ({"temperature": 0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"arrivals": 0}, "arrivals"),
        ({"arrivals": 10**6}, "arrivals"),
        ({"divider": ""}, "divider"),
        ({"rest_text": "plain", "rest_steps": 0}, "rest_text plain needs rest_steps above 0"),
        ({"own_sentence": "middle"}, "own_sentence"),
        ({"max_new_tokens": 1}, "more than max_new_tokens (1): it could never be produced"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        made(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_more_context_than_the_model_holds_is_refused_with_both_numbers() -> None:
    longest = max(len(p.input_ids) for p in made().stream.probe_sets["context"])
    assert made(max_positions=longest).stream.length
    with pytest.raises(
        UsageError,
        match=rf"context_sentences 4 makes a probe of {longest} tokens, the model reads {longest - 1}; keep",
    ):
        made(max_positions=longest - 1)
    with pytest.raises(UsageError, match=r"probe .+ has \d+ tokens, the model reads 12"):
        made(max_positions=12)


# -- a run ------------------------------------------------------------------------------------------------


def test_a_run_records_what_the_plan_says(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    options = {"arrivals": 9, "window": 3, "repeats": 2, "probed": 9, "rest_steps": 2, "row_tokens": 24}
    request = Request(
        scenario=("sequential_sentences",),
        strategy=("naive",),
        model=(str(model),),
        preset="smoke",
        seeds="0",
        set=tuple(f"scenario.{name}={value}" for name, value in options.items()),
        device="cpu",
    )
    (run,) = plan(request, installed()).runs.values()
    assert carry_out(run, tmp_path / "run")[-1] == {"event": "finished"}
    record = RunRecord.open(tmp_path / "run")
    counts = record.exposures.groupby("fact")["count"].sum()
    for n in range(9):
        assert counts[f"sentence {n}"] == 2 * min(3, 9 - n)
    asked = record.asked(schedule="boundary")
    assert set(asked["step"]) == {0, 10, 18, 20} and asked["sampled"].between(0, 1).all()
    assert sorted(asked[asked["step"] == 0]["position"]) == list(range(9))
    assert record.info["contamination"] == {}
