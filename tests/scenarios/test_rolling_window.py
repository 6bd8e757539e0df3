"""Tests of what `rolling_window` trains and asks, row by row, against its protocol."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from built_streams import BuiltStream, content, maker
from outlines import check_outline
from reading import Letters
from small_runs import finish, installed, small_model

from seqmem import Example, Experience, Probe, RunRecord, UsageError
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.training.loop import update_stream_hash
from seqmem_scenarios.rolling_window import NOTES_WINDOWS, PRESETS, build, outline
from seqmem_scenarios.rolling_window.options import RollingWindowOptions
from seqmem_scenarios.world import background

BASE: dict[str, Any] = {
    "positions": 40,
    "windows": [[8, 14], [30, 33]],
    "control_windows": [[20, 23]],
    "zone": 2,
    "passes": 2,
    "rest_steps": 5,
    "rest_stride": 3,
    "batch_size": 4,
    "row_tokens": 32,
}
"""Options of these tests where they say nothing; presets may be tuned, what options mean may not change."""


class Built(BuiltStream[RollingWindowOptions]):
    @property
    def positions(self) -> dict[int, Probe]:
        return {probe.position or 0: probe for probe in self.stream.probe_sets["positions"]}


def numbered(seed: int, index: int) -> str:
    return f"Document {index} of source {seed}." + " More." * (index % 7)


make = maker(Built, "rolling_window", RollingWindowOptions, build, BASE)


def made(seed: int = 0, document: Callable[[int, int], str] = numbered, **options: Any) -> Built:
    """The stream of some options; one token per letter, and every document says which one it is."""
    return make(
        seed,
        Letters(),
        lambda index: document(seed, index),
        heldout_text=lambda index: f"Held out, number {index}.",
        **options,
    )


def text(row: Example) -> str:
    return bytes(row.input_ids[1:].tolist()).decode()


def positions(batch: Sequence[Example]) -> list[int]:
    """The positions a batch trains, as its rows name them."""
    return [int(row.facts[0].removeprefix("position-")) for row in batch]


def numbers(e: Experience) -> list[int]:
    """The number of the background document in every row of an experience."""
    return [int(text(row).split()[1]) for batch in e.batches for row in batch]


# -- what is trained --------------------------------------------------------------------------------------


FIRST = 22
"""The start of the stream of seed 0 among 40 rows of the source."""


def test_the_base_pass_trains_every_position_once_in_order() -> None:
    base = made().experiences[0]
    assert (base.phase, base.task_label, base.save_as, base.start_from) == ("general", None, "base", None)
    assert [positions(batch) for batch in base.batches] == [list(range(s, s + 4)) for s in range(0, 40, 4)]
    for batch in base.batches:
        for position, row in zip(positions(batch), batch, strict=True):
            assert text(row).startswith(f"Document {(FIRST + position) % 40} of")
            assert row.loss_mask.tolist() == [False] + [True] * (len(row.input_ids) - 1)
    assert [len(batch) for batch in made(positions=39).experiences[0].batches] == [4] * 9 + [3]


def test_a_text_that_is_the_same_for_every_seed_does_not_make_every_seed_the_same_run() -> None:
    streams = [
        numbers(made(seed, document=lambda seed, index: f"Document {index} of a file.").experiences[0])
        for seed in range(4)
    ]
    assert len({stream[0] for stream in streams}) == 4
    for stream in streams:  # each goes once round the source
        assert stream == [*range(stream[0], 40), *range(stream[0])]


def test_every_window_starts_from_the_base_and_trains_its_positions_again_in_order() -> None:
    windows = made().of_phase("inject")
    assert [(e.name, e.task_label) for e in windows] == [
        ("control window 20-23", 2),
        ("window 8-14", 0),
        ("window 30-33", 1),
    ]
    assert all((e.start_from, e.save_as, e.moments) == ("base", None, "carry") for e in windows)
    trained = {e.task_label: [positions(batch) for batch in e.batches] for e in windows}
    assert trained == {
        0: 2 * [[8, 9, 10, 11], [12, 13]],
        1: 2 * [[30, 31, 32]],
        2: 2 * [[20, 21, 22]],
    }
    assert [len(e.batches) for e in made(passes=5).of_phase("inject")] == [5, 10, 5]


def test_the_rows_of_a_window_are_the_very_rows_of_the_base() -> None:
    base, *later = made().experiences
    first = {row.facts: row.input_ids.tolist() for batch in base.batches for row in batch}
    again = [row for e in later if e.phase == "inject" for batch in e.batches for row in batch]
    assert len(again) == 2 * (6 + 3 + 3)
    assert all(row.input_ids.tolist() == first[row.facts] for row in again)


def test_every_scored_window_is_followed_by_the_same_rest_on_other_text() -> None:
    built = made()
    assert [e.phase for e in built.experiences] == ["general", "inject", "inject", "rest", "inject", "rest"]
    rests = built.of_phase("rest")
    assert [e.name for e in rests] == ["rest after window 8-14", "rest after window 30-33"]
    assert all((e.moments, e.start_from, e.task_label) == ("fresh", None, None) for e in rests)
    assert [numbers(e) for e in rests] == 2 * [list(range(40, 60))]
    assert all(row.facts == () for e in rests for batch in e.batches for row in batch)
    assert not made(rest_steps=0).of_phase("rest")


def test_a_shuffled_base_trains_the_same_documents_in_an_order_of_the_seed_and_changes_nothing_else() -> None:
    orders = set()
    for seed in range(4):
        plain, shuffled = made(seed), made(seed, order="shuffled")
        first, other = plain.experiences[0], shuffled.experiences[0]
        assert sorted(numbers(other)) == sorted(numbers(first))
        assert [len(batch) for batch in other.batches] == [len(batch) for batch in first.batches]
        orders.add(tuple(numbers(other)))
        for one, two in zip(plain.experiences[1:], shuffled.experiences[1:], strict=True):
            assert update_stream_hash("", one) == update_stream_hash("", two)
        assert plain.stream.probe_sets == shuffled.stream.probe_sets
        assert plain.points == shuffled.points
    assert len(orders) == 4


def test_every_position_is_stated_once_and_once_more_per_pass_of_a_window_it_lies_in() -> None:
    built = made(windows=[[8, 14], [10, 14], [30, 33]], passes=3)
    counts = Counter(
        position
        for e in built.experiences
        if e.phase != "rest"
        for b in e.batches
        for position in positions(b)
    )
    windows = [(8, 14), (10, 14), (30, 33), (20, 23)]
    assert counts == {p: 1 + 3 * sum(start <= p < end for start, end in windows) for p in range(40)}


def test_short_documents_are_joined_to_fill_a_row_and_no_document_is_in_two() -> None:
    built = made(row_tokens=200)  # four documents a row
    base = built.experiences[0]
    second = 4 * ((FIRST + 1) % 40)
    lines = text(base.batches[0][1]).split("\n")
    assert [line.split()[1] for line in lines] == [str(second + n) for n in range(4)]
    rows = [
        row.input_ids.tolist()
        for e in (base, built.of_phase("rest")[0])
        for batch in e.batches
        for row in batch
    ]
    assert len(rows) == len({tuple(row) for row in rows}) == 40 + 20
    assert set(built.trained) == set(range(4 * 60))


# -- what is asked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_stride_th_position_is_asked_as_it_is_trained(stride: int) -> None:
    built = made(stride=stride)
    rows = {p: row for b in built.experiences[0].batches for p, row in zip(positions(b), b, strict=True)}
    assert list(built.positions) == list(range(0, 40, stride))
    for position, probe in built.positions.items():
        assert list(probe.input_ids) == rows[position].input_ids.tolist()
        assert (probe.answer_start, probe.relation, probe.fact) == (1, "general", rows[position].facts[0])
        assert probe.twin_of is None and probe.task_label is None


def test_all_positions_are_asked_after_the_base_and_after_every_window() -> None:
    built = made()
    asked = [(i, p.after, p.probe_set) for i, p in built.points if p.schedule == ("positions",)]
    steps = {e.index: e.steps for e in built.experiences if e.phase != "rest"}
    assert asked == [(index, end, "positions") for index, end in steps.items()]


def test_a_rest_is_asked_at_powers_of_two_about_positions_near_scored_windows_and_some_of_the_others() -> (
    None
):
    built = made(rest_steps=13, rest_stride=3)
    for e in built.of_phase("rest"):
        asked = [(p.after, p.probe_set) for p in built.stream.probe_points(e.index) if p.schedule == ("log",)]
        assert asked == [(after, "rest") for after in (1, 2, 4, 8, 13)]
    spans = [*range(6, 16), *range(28, 35)]
    others = [position for position in range(40) if position not in spans]
    places = [probe.position for probe in built.stream.probe_sets["rest"]]
    assert places == sorted([*spans, *others[::3]])
    assert set(built.stream.probe_sets["rest"]) <= set(built.stream.probe_sets["positions"])


def test_held_out_text_is_asked_at_the_start_and_at_every_end() -> None:
    built = made()
    asked = [(i, p.after) for i, p in built.points if p.schedule == ("general",)]
    assert asked == [(0, 0), *((e.index, e.steps) for e in built.experiences)]
    assert set(built.heldout) == set(range(8))
    assert all(probe.position is None for probe in built.stream.probe_sets["general"])


def test_what_lies_far_from_every_window_and_its_zones() -> None:
    assert made().options.far == [*range(6), 16, 17, 25, 26, 27, *range(35, 40)]
    assert made(stride=5).options.far == [0, 5, 25, 35]


# -- the outline ------------------------------------------------------------------------------------------


def random_options(draw: random.Random) -> dict[str, Any]:
    return {
        "positions": draw.randrange(45, 70),
        "windows": draw.choice([[[8, 14]], [[0, 6], [30, 33]], [[8, 14], [10, 12], [37, 45]]]),
        "control_windows": draw.choice([[[20, 23]], [[20, 23], [24, 28]]]),
        "zone": draw.randrange(1, 4),
        "passes": draw.randrange(1, 4),
        "order": draw.choice(["stream", "shuffled"]),
        "stride": draw.randrange(1, 3),
        "rest_steps": draw.choice([0, 1, 2, 7, 16]),
        "rest_stride": draw.randrange(1, 12),
        "batch_size": draw.randrange(1, 9),
        "row_tokens": draw.choice([20, 64, 65, 200]),
    }


@pytest.mark.parametrize("number", range(20))
def test_the_outline_says_what_the_stream_really_holds(number: int) -> None:
    built = made(number, **random_options(random.Random(number)))
    stated = outline(built.options)
    check_outline(stated, built.stream, built.trained, built.heldout)
    assert stated.train_tokens == len(built.rows) * built.options.row_tokens
    assert stated.probe_tokens == stated.probe_rows * built.options.row_tokens
    assert (stated.branches, stated.primary, stated.primary_relation) == (True, "memory_signal", "general")
    assert set(built.trained) == set(range(stated.documents[0]))
    assert set(built.heldout) == set(range(stated.documents[1]))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_every_window_two_controls_and_both_zones(preset: str) -> None:
    options = RollingWindowOptions(**PRESETS[preset])
    for start, end in options.windows:
        assert sum(options.apart((start, end), other) for other in options.all_windows) >= 2
        assert options.zone <= start and end + options.zone <= options.positions
        assert set(options.probed(start, end)) <= set(options.rest_probed)
    assert len(options.far) >= len(options.probed(0, options.positions)) // 5
    assert outline(options).steps > 0


def test_the_default_windows_are_those_of_the_notes_on_a_shorter_stream() -> None:
    default, paper = RollingWindowOptions(), RollingWindowOptions(**PRESETS["paper"])
    assert paper.windows == NOTES_WINDOWS and paper.positions == 10_000 and paper.stride == 1
    scale = paper.positions // default.positions
    assert scale * default.positions == paper.positions
    assert [(start * scale, end * scale) for start, end in default.all_windows] == list(paper.all_windows)
    assert default.zone * scale == paper.zone


def test_steps_of_one_size_are_those_of_windows() -> None:
    built = made(update_norm=0.01)
    assert {(e.phase, e.update_norm) for e in built.experiences} == {
        ("general", None),
        ("inject", 0.01),
        ("rest", None),
    }


def test_smoke_is_small() -> None:
    stated = outline(RollingWindowOptions(**PRESETS["smoke"]))
    assert stated.steps <= 20 and stated.probe_rows <= 400


# -- purity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"order": "shuffled", "stride": 2, "passes": 1}])
def test_an_experience_is_the_same_when_none_before_it_was_made(options: dict[str, Any]) -> None:
    whole = made(5, **options).experiences
    for e in reversed(whole):
        alone = made(5, **options).stream.experience(e.index)
        assert (alone.name, alone.phase, alone.task_label) == (e.name, e.phase, e.task_label)
        assert (alone.start_from, alone.save_as, alone.moments) == (e.start_from, e.save_as, e.moments)
        assert update_stream_hash("", alone) == update_stream_hash("", e)


def test_a_window_of_a_long_stream_is_made_from_its_own_documents() -> None:
    built = made(positions=100_000, windows=[[500, 504]], control_windows=[[70_000, 70_002]], stride=500)
    built.trained.clear()
    built.stream.experience(2)
    start = min(built.trained)
    assert set(built.trained) == {start, start + 1, start + 2, start + 3}


@pytest.mark.parametrize(
    ("options", "pinned"),
    [
        (PRESETS["smoke"], "36a049714a13604f"),
        ({"order": "shuffled", "row_tokens": 100}, "fb5476acb660d6e8"),
    ],
)
def test_one_version_of_the_scenario_always_feeds_the_same_rows(options: dict[str, Any], pinned: str) -> None:
    """A change of these hashes is a new version of the scenario: raise it in its spec, then pin the new ones."""
    options = {"row_tokens": 256, **options}
    assert content(made(0, document=background, **options))[:16] == pinned
    assert content(made(1, document=background, **options))[:16] != pinned


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"windows": [[30, 41]]},
            "window [30, 41] lies outside the stream: it must lie within 0 and positions (40)",
        ),
        ({"windows": [[-1, 4]]}, "window [-1, 4] lies outside the stream"),
        ({"control_windows": [[40, 44]]}, "window [40, 44] lies outside the stream"),
        ({"windows": [[9, 9]]}, "window [9, 9] is empty: its end must be above its start"),
        ({"windows": [[9, 5]]}, "window [9, 5] is empty"),
        ({"windows": []}, "at least 1 long"),
        ({"windows": "8-14"}, "list of list of 2: integer, integer"),
        ({"windows": [[0.2, 0.4]]}, "list of list of 2: integer, integer"),
        ({"windows": [[8, 14], [8, 14]]}, "window [8, 14] is given twice"),
        ({"windows": [[20, 23]]}, "window [20, 23] is given twice"),
        (
            {"windows": [[8, 14]], "control_windows": []},
            "window [8, 14] has no control: no other window lies twice the zone (2) or more away from it; add one "
            "to control_windows, or make the zone smaller",
        ),
        ({"windows": [[8, 14], [10, 12]], "control_windows": [[17, 19]]}, "window [8, 14] has no control"),
        (
            {"stride": 10, "windows": [[11, 14]]},
            "no probed position lies in window [11, 14]: stride (10) must",
        ),
        (
            {"windows": [[2, 14], [18, 38]], "control_windows": []},
            "windows and their zones leave no position far from all of them; use fewer or shorter windows",
        ),
        ({"order": "shufled"}, "order"),
        ({"passes": 0}, "passes"),
        ({"zone": 0}, "zone"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        made(**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_windows_that_just_keep_apart_are_accepted() -> None:
    options = made(windows=[[8, 14]], control_windows=[[18, 20]]).options
    assert options.apart((8, 14), (18, 20)) and not options.apart((8, 14), (17, 20))
    assert options.apart((18, 20), (8, 14))


def test_a_model_too_short_for_a_row_is_refused() -> None:
    with pytest.raises(UsageError, match=r"probe \S+ has 32 tokens, the model reads 30"):
        made(max_positions=30)


# -- a real run -------------------------------------------------------------------------------------------


def run_of(model: Path, folder: Path, *settings: str) -> RunRecord:
    request = Request(
        scenario=("rolling_window",),
        strategy=("naive",),
        model=(str(model),),
        preset="smoke",
        seeds="3",
        set=settings,
        lr=0.01,
        reference=False,
        controls=False,
        device="cpu",
    )
    (planned,) = plan(request, installed()).runs.values()
    return finish(planned, folder)


def losses(run: RunRecord) -> dict[str, pd.Series]:
    """Log-probability by position after every experience that all positions are asked after."""
    names = run.experiences.set_index("experience")["name"]
    rows = run.asked(schedule="positions")
    by_name = rows.assign(name=rows["experience"].map(names)).groupby("name")
    return {str(name): group.set_index("position")["logprob"] for name, group in by_name}


def test_windows_branch_from_the_same_base_whatever_ran_before_them(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    run = run_of(model, tmp_path / "one")
    turned = run_of(model, tmp_path / "two", "scenario.windows=[[32,40],[8,16]]", "scenario.rest_steps=0")
    one, two = losses(run), losses(turned)
    assert sorted(one) == ["base pass", "control window 20-28", "window 32-40", "window 8-16"]
    for name, found in one.items():
        pd.testing.assert_series_equal(found, two[name])
    inside = {name: (after - one["base pass"]).loc[8:15].mean() for name, after in one.items()}
    assert inside["window 8-16"] > max(inside["window 32-40"], inside["control window 20-28"], 0)
    counted = run.exposures.groupby("fact")["count"].sum()
    assert counted["position-9"] == 3 and counted["position-0"] == 1 and len(counted) == 48
