"""`memory_signal` on records whose memory is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers_records import seal_record
from scipy import stats

from seqmem import MetricSpec, NotApplicable, Row, RunRecord, Value
from seqmem.record.files import write_table
from seqmem.record.schema import FORMAT, ITEMS, TABLES
from seqmem.record.writer import RecordWriter
from seqmem.reporting.figures import draw_metric
from seqmem_plugins.metrics._windows import Changes, changes_of
from seqmem_plugins.metrics.memory_signal import seqmem_metric, signal, smallest

POSITIONS = 100
WINDOWS = [(20, 30), (50, 60)]
CONTROLS = [(70, 74), (84, 90)]
ZONE = 4
TOKENS = 5


@dataclass(frozen=True)
class Look:
    """A position as one snapshot sees it."""

    position: int
    label: int  # which window was trained again: scored ones first
    rest: int  # steps of rest since

    @property
    def window(self) -> tuple[int, int]:
        return [*WINDOWS, *CONTROLS][self.label]

    @property
    def region(self) -> str:
        start, end = self.window
        if start <= self.position < end:
            return "inside"
        if start - ZONE <= self.position < start:
            return "behind"
        return "ahead" if end <= self.position < end + ZONE else ""


Memory = Callable[[Look], float]
"""Change of loss since the base, nats per token."""


def spec() -> MetricSpec:
    (found,) = seqmem_metric()
    return found


def write(
    folder: Path, memory: Memory, *, rest: tuple[int, ...] = (2, 4), seed: int = 0, windows: Any = None
) -> RunRecord:
    """A record of the base, the control windows, and each scored window with its rest."""
    folder.mkdir(parents=True)
    level = np.random.default_rng([seed, 99]).normal(3, 0.5, POSITIONS)  # losses at the base differ
    writer = RecordWriter(folder)
    items: dict[str, list[Any]] = {name: [] for name in ITEMS.names}
    for position in [*range(POSITIONS), None]:  # the last is held-out text, which has no position
        name = "general-0" if position is None else f"position-{position}"
        row = (name, name, None, "general", "none", None, "", "text", None, [], "", position, 0, False)
        for column, value in zip(ITEMS.names, row, strict=True):
            items[column].append(value)
    write_table(folder / "items.parquet", items, ITEMS)
    scored = len(WINDOWS)
    order = [2, 3, 0, 1]
    parts: list[tuple[str, int | None]] = [("general", None)]
    for label in order:
        parts += [("inject", label)] + [("rest", None)] * (label < scored and bool(rest))
    last: int = 0

    def ask(experience: int, after: int, schedule: str, changes: np.ndarray | float) -> None:
        losses = level + changes
        names = [f"position-{p}" for p in range(POSITIONS)]
        if schedule == "general":
            names, losses = ["general-0"], np.array([17.0])
        columns = dict.fromkeys(TABLES["probes"].names) | {
            "step": experience * 10 + after,
            "experience": experience,
            "after": after,
            "schedule": (schedule,),
            "tokens": TOKENS,
            "correct": False,
        }
        told = {name: [value] * len(names) for name, value in columns.items()}
        writer.add("probes", **told | {"probe": names, "logprob": (-TOKENS * losses).tolist()})

    for experience, (phase, label) in enumerate(parts):
        writer.add(
            "experiences",
            experience=[experience],
            name=[f"{phase} {label}"],
            phase=[phase],
            task_label=[label],
            first_step=[experience * 10],
            steps=[10],
            trains=["all"],
            start_from=["base" if phase == "inject" else None],
            save_as=[None if experience else "base"],
        )
        if phase == "general":
            ask(0, 0, "general", 0.0)
            ask(0, 10, "positions", 0.0)
        elif label is not None:
            last = label
            ask(experience, 10, "positions", seen(memory, label, 0))
            ask(experience, 10, "general", 0.0)
        else:
            for after in rest:
                ask(experience, after, "log", seen(memory, last, after))
    writer.flush()
    scored = WINDOWS if windows is None else windows
    info = {
        "format": FORMAT,
        "status": "finished",
        "primary_relation": "general",
        "recipe": {"seed": seed},
        "design": {"windows": [*scored, *CONTROLS], "scored": len(scored), "zone": ZONE},
    }
    return seal_record(folder, info)


def seen(memory: Memory, label: int, rest: int) -> np.ndarray:
    return np.array([memory(Look(position, label, rest)) for position in range(POSITIONS)])


def made(memory: Memory) -> Changes:
    """Return what `changes_of` would read off such a record, without its files."""
    index = pd.RangeIndex(POSITIONS)
    windows = [*WINDOWS, *CONTROLS]
    after = {label: pd.Series(seen(memory, label, 0), index) for label in range(len(windows))}
    return Changes(windows, len(WINDOWS), ZONE, after, {})


def score(run: RunRecord, controls: Mapping[str, RunRecord] | None = None) -> dict[str, Value]:
    values = dict(spec().compute(run, controls or {}))
    assert list(values) == [measure.name for measure in spec().measures]
    return {name.removeprefix("memory_signal").removeprefix(".") or "inside": v for name, v in values.items()}


def numbers(run: RunRecord, controls: Mapping[str, RunRecord] | None = None) -> dict[str, float]:
    return {name: value.value for name, value in score(run, controls).items() if value.value is not None}


def planted(inside: float = 0, behind: float = 0, ahead: float = 0) -> Memory:
    depth = {"inside": inside, "behind": behind, "ahead": ahead, "": 0.0}
    return lambda look: -depth[look.region] * (1 if look.label < 2 else 0.5)


def falls_only(position: int) -> Memory:
    """Loss falls by one at this position in the snapshot of the first window, and nowhere else."""
    return lambda look: -1.0 * (look.label == 0 and look.position == position)


def noisy(memory: Memory, seed: int, size: float = 0.1) -> Memory:
    """The same with noise of its own for every snapshot, rest and position."""
    return lambda look: (
        memory(look)
        + size * float(np.random.default_rng([seed, look.label, look.rest, look.position]).normal())
    )


# -- what was planted is found ----------------------------------------------------------------------------


def test_a_planted_signal_is_read_in_its_own_region(tmp_path: Path) -> None:
    found = numbers(write(tmp_path / "run", planted(0.4, 0.2, -0.1)))
    assert found["inside"] == pytest.approx(0.4)
    assert found["behind"] == pytest.approx(0.2)
    assert found["ahead"] == pytest.approx(-0.1)
    assert found["kept"] == pytest.approx(0.4)
    assert found["smallest"] == pytest.approx(0, abs=1e-9)


def test_the_first_and_the_last_position_of_every_region_count_and_no_other(tmp_path: Path) -> None:
    """A change at one position moves exactly the region that holds it, by its share."""
    shares = {
        16: "behind",
        19: "behind",
        20: "inside",
        29: "inside",
        30: "ahead",
        33: "ahead",
    }
    lengths = {"inside": 10, "behind": 4, "ahead": 4}
    for position, region in shares.items():
        found = numbers(write(tmp_path / f"{position}", falls_only(position)))
        expected = {
            name: (1 / lengths[name] / 2 if name == region else 0.0) for name in lengths
        }  # of two windows
        assert {name: found[name] for name in lengths} == pytest.approx(expected), position
    for position in (15, 34):  # beside the zones: far from the window, in its own snapshot only
        found = numbers(write(tmp_path / f"{position}", falls_only(position)))
        # One of the 38 far positions (spans are 16-34, 46-64, 66-78 and 80-94) falls by one: window 0 lags by
        # its share; to window 1, one of whose controls it is, it is a shape that window 1 has no share of.
        assert found["inside"] == pytest.approx(-1 / 38 / 2)


def test_what_moves_all_positions_alike_or_all_snapshots_alike_is_no_signal(tmp_path: Path) -> None:
    drifts: dict[str, Memory] = {
        "all": lambda look: -0.3,
        "of its own per snapshot": lambda look: -0.3 * look.label - 0.1 * look.rest,
        "of its own per position": lambda look: -0.01 * look.position,
        "both": lambda look: -0.3 * look.label - 0.01 * look.position,
    }
    for name, drift in drifts.items():
        found = numbers(write(tmp_path / name, drift))
        for measure in ("inside", "behind", "ahead", "kept", "smallest", "smallest_near"):
            assert found[measure] == pytest.approx(0, abs=1e-9), (name, measure)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_shape_that_longer_windows_have_more_of_is_no_signal(noise: float, tmp_path: Path) -> None:
    """Losses fall towards the end of the stream, as far as a window is long; the far mean alone leaves a bias."""
    random = np.random.default_rng(3)
    draws = random.normal(0, noise or 1e-12, (4, POSITIONS))

    def drifting(look: Look) -> float:
        start, end = look.window
        return float(-(end - start) / 2 * (look.position / POSITIONS) ** 3 + draws[look.label, look.position])

    found = numbers(write(tmp_path / "run", drifting, rest=()))
    for region in ("inside", "behind", "ahead"):
        assert abs(found[region]) < 1e-9 if noise == 0 else abs(found[region]) < 0.03, (region, found[region])
    uncorrected = changes_of(write(tmp_path / "again", drifting, rest=()))
    beyond = {label: uncorrected.excess(change) for label, change in uncorrected.after.items()}
    inside = beyond[1].index[(beyond[1].index >= 50) & (beyond[1].index < 60)]
    controls = np.mean([beyond[label][inside].mean() for label in uncorrected.controls(1, beyond)])
    assert abs(controls - beyond[1][inside].mean()) > 0.02  # what would be reported without the correction


def test_what_is_kept_is_read_when_the_rest_ends_against_windows_that_rested_too(tmp_path: Path) -> None:
    def fading(look: Look) -> float:
        drift = 0.05 * look.rest * look.position / POSITIONS
        return drift - (0.4 / 2 ** (look.rest / 2) if look.region == "inside" else 0)

    found = numbers(write(tmp_path / "run", fading))
    assert found["inside"] == pytest.approx(0.4)
    assert found["kept"] == pytest.approx(0.1)  # two half-lives
    bare = score(write(tmp_path / "bare", fading, rest=()))
    assert bare["kept"].value is None and "no rest" in bare["kept"].reason
    assert bare["inside"].value == pytest.approx(0.4)


def test_order_is_what_neighbours_gain_beyond_a_base_pass_in_random_order(tmp_path: Path) -> None:
    run = write(tmp_path / "run", planted(0.4, 0.2, 0.1))
    shuffled = write(tmp_path / "shuffled", planted(0.4, 0.05, 0.05), rest=())
    found = numbers(run, {"shuffled": shuffled})
    assert found["behind_order"] == pytest.approx(0.2 - 0.05)
    assert found["ahead_order"] == pytest.approx(0.1 - 0.05)
    alone = score(run)["behind_order"]
    assert alone.value is None and alone.reason == "needs the control 'shuffled', which was not run"


def test_items_are_the_positions_read(tmp_path: Path) -> None:
    found = score(write(tmp_path / "run", planted(0.4)))
    assert found["inside"].n_items == 20 and found["ahead"].n_items == 8
    assert found["smallest_near"].n_items == 16


# -- what may stand out by chance -------------------------------------------------------------------------


def test_effect_and_smallest_are_those_worked_by_hand(tmp_path: Path) -> None:
    """In window 0's place, snapshots 1, 2 and 3 differ by -.1, 0 and .1 everywhere; in window 1's not at all."""
    shift = {0: 0.0, 1: -0.1, 2: 0.0, 3: 0.1}

    def memory(look: Look) -> float:
        if 16 <= look.position < 34:
            return shift[look.label] - (0.5 if look.label == 0 else 0)
        return -0.5 if look.label == 1 and 50 <= look.position < 60 else 0.0

    found = score(write(tmp_path / "run", memory))
    assert found["inside"].value == pytest.approx(0.5)
    # the spread of -.1, 0, .1 is .1; three controls: t with 2 degrees of freedom
    one = 4.302653 * 0.1 * np.sqrt(4 / 3)
    assert found["smallest"].value == pytest.approx(one / 2, rel=1e-6)  # the mean of it and of 0
    assert found["smallest_near"].value == pytest.approx(one / 2, rel=1e-6)
    assert found["effect"].value is None  # of window 1 there is none
    assert found["effect"].reason == "the control snapshots do not differ at any position"

    found = score(
        write(tmp_path / "both", lambda look: memory(look) + shift[look.label] * (46 <= look.position < 64))
    )
    # window 1: its snapshot lies at -.5 - .1; its controls 0, 2 and 3 at 0, 0 and .1, a spread of .1 / sqrt(3)
    second = 0.6 + 0.1 / 3
    assert found["inside"].value == pytest.approx((0.5 + second) / 2)
    assert found["effect"].value == pytest.approx((0.5 / 0.1 + second / (0.1 / np.sqrt(3))) / 2)


def test_without_a_memory_the_signal_seldom_exceeds_the_smallest_one_and_its_interval_covers_zero() -> None:
    runs = [made(noisy(planted(), seed)) for seed in range(60)]
    for region, near in (
        ("inside", ["inside"]),
        ("behind", ["behind", "ahead"]),
        ("ahead", ["behind", "ahead"]),
    ):
        values = np.array([signal(run, (region,)).value for run in runs])
        least = np.array([smallest(run, near).value for run in runs])
        assert stats.ttest_1samp(values, 0).pvalue > 0.01, region
        assert np.mean(np.abs(values) > least) <= 0.1


def test_one_window_beyond_its_smallest_signal_is_as_rare_as_stated() -> None:
    """A prediction interval: without a memory, 5 % of windows exceed it (3 to 7 % of 1200).

    Noise beside the windows would be a shape of its own, which is taken off.
    """
    random = np.random.default_rng(0)
    changes = made(planted())
    beyond = []
    for _ in range(600):
        fresh = {
            label: change + 0.1 * random.normal() * change.index.isin(changes.near)
            for label, change in changes.after.items()
        }
        found = list(changes.contrasts("inside", fresh))
        assert all(contrast.smallest > 1e-3 for contrast in found)
        beyond += [abs(contrast.signal) > contrast.smallest for contrast in found]
    assert len(beyond) == 1200
    assert 0.03 < np.mean(beyond) < 0.07


def test_a_signal_beyond_the_smallest_one_is_found_in_noise() -> None:
    for seed in range(20):
        changes = made(noisy(planted(0.4), seed))
        found, least = signal(changes).value, smallest(changes).value
        assert found is not None and least is not None
        assert found == pytest.approx(0.4, abs=0.15) and found > least


# -- refusals and reasons ---------------------------------------------------------------------------------


def test_a_window_touching_another_is_none_of_its_controls(tmp_path: Path) -> None:
    """Window 70-74's zones touch those of 62-66; a memory planted there in the latter changes nothing."""
    windows = [(20, 30), (62, 66)]

    def memory(look: Look) -> float:
        return -5.0 if look.label == 1 and 66 <= look.position < 78 else 0.0

    changes = changes_of(write(tmp_path / "run", memory, windows=windows))
    assert [changes.apart(1, other) for other in range(4)] == [True, False, False, True]
    assert not changes.apart(2, 1) and changes.apart(3, 0)
    inside = list(changes.contrasts("inside", changes.after))
    assert [len(contrast.controls) for contrast in inside] == [2, 2]
    assert changes.controls(0, changes.after) == [1, 3]  # 2 lies apart from 0, but not from 1


def test_one_control_gives_a_signal_and_no_spread() -> None:
    changes = made(planted(0.4))
    pair = {label: changes.after[label] for label in (0, 1)}
    (first, second) = changes.contrasts("inside", pair)
    assert first.signal == pytest.approx(0.4)
    for number in ("effect", "smallest"):
        with pytest.raises(Exception, match="two control snapshots"):
            getattr(first, number)


def test_a_window_at_the_start_of_the_stream_has_nothing_behind_it(tmp_path: Path) -> None:
    changes = changes_of(write(tmp_path / "run", planted(0.4), windows=[(0, 10), (50, 60)]))
    assert [len(list(changes.contrasts(region, changes.after))) for region in ("inside", "behind")] == [2, 1]


def test_an_infinite_loss_gives_a_reason(tmp_path: Path) -> None:
    found = score(write(tmp_path / "run", lambda look: np.inf if look.position == 3 else 0.0))
    assert all(value.value is None and "its loss is infinite" in value.reason for value in found.values())


def test_changes_are_read_as_they_were_made(tmp_path: Path) -> None:
    memory = noisy(planted(0.4, 0.1), 3)
    found, expected = changes_of(write(tmp_path / "run", memory)), made(memory)
    assert (list(found.windows), found.scored, found.zone) == (expected.windows, 2, ZONE)
    assert sorted(found.after) == [0, 1, 2, 3] and sorted(found.rested) == [0, 1]
    for label, change in expected.after.items():
        assert found.after[label].to_numpy() == pytest.approx(change.to_numpy())
    for label, steps in found.rested.items():
        for step, change in steps.items():
            assert change.to_numpy() == pytest.approx(seen(memory, label, step))


def test_other_scenarios_have_nothing_for_it(tmp_path: Path) -> None:
    run = write(tmp_path / "run", planted())
    other = RunRecord(run.folder, {**run.info, "design": {}})
    with pytest.raises(NotApplicable, match="no window of a stream is trained again"):
        spec().compute(other, {})


# -- the figure -------------------------------------------------------------------------------------------


def row(label: str, runs: list[RunRecord], **changes: Any) -> Row:
    facts = {"scenario": "rolling_window", "model": "tiny", "preset": "smoke", "strategy": label}
    return Row(label, facts, {run.seed: run for run in runs}, **changes)


def drawn(rows: list[Row]) -> Any:
    draw = spec().draw
    assert draw is not None
    return draw(rows)


def lines(axis: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axis.get_lines() if not line.get_label().startswith("_")}


def test_the_figure_shows_the_window_the_band_and_the_rest(tmp_path: Path) -> None:
    runs = [write(tmp_path / f"{s}", noisy(planted(0.4), s, 0.02), seed=s, rest=(1, 2, 4)) for s in range(3)]
    other = [write(tmp_path / f"other {s}", planted(0.2), seed=s, rest=(1, 2, 4)) for s in range(3)]
    figure = drawn([row("naive", runs), row("other", other)])
    first, second, rest, spare = figure.axes
    assert [axis.get_title(loc="center") or axis.get_title(loc="left") for axis in (first, second)] == [
        "window 20-30",
        "window 50-60",
    ]
    assert not spare.axison
    for axis, (start, end) in zip((first, second), WINDOWS, strict=True):
        for name, depth in (("naive", 0.4), ("other", 0.2)):
            x, y = lines(axis)[name].get_data()
            inside = (x > start) & (x < end)
            assert inside.sum() == 5  # bins of half a zone, cut at the window's ends
            assert y[inside] == pytest.approx(-depth, abs=0.07)
            assert np.abs(y[~inside]).max() < 0.07
        (band,) = [c for c in axis.collections if c.get_label() == "95 % if retrained elsewhere"]
        edge = band.get_paths()[0].vertices
        at = edge[(edge[:, 0] > start) & (edge[:, 0] < end)]
        assert at[:, 1].min() > -0.1 and at[:, 1].max() < 0.1  # the line leaves it, it holds zero
        assert at[:, 1].min() < 0 < at[:, 1].max()
    x, y = lines(rest)["naive"].get_data()
    assert x.tolist() == [0, 1, 2, 4]
    assert y == pytest.approx(0.4, abs=0.1)
    assert "3 seeds" in figure.get_suptitle() and "rolling_window, tiny, smoke" in figure.get_suptitle()


def test_rows_with_other_windows_or_nothing_to_show_are_left_out_and_counted(tmp_path: Path) -> None:
    one = [write(tmp_path / "one", planted(0.4))]
    two = [write(tmp_path / "two", planted(0.4), windows=[(20, 30), (48, 60)])]
    stranger = [RunRecord(one[0].folder, {**one[0].info, "design": {}})]
    figure = drawn([row("stranger", stranger), row("naive", one), row("wider", two)])
    assert set(lines(figure.axes[0])) == {"naive"}
    assert "1 seed, 1 of 3 rows" in figure.get_suptitle()
    assert drawn([row("stranger", stranger)]) is None


def test_the_host_saves_it_twice_to_the_same_bytes(tmp_path: Path) -> None:
    rows = [row("naive", [write(tmp_path / "run", noisy(planted(0.4), 1))])]
    made = [draw_metric(spec(), rows, tmp_path / name / "memory_signal") for name in ("a", "b")]
    assert made[0] is not None and made[1] is not None
    for one, two in zip(*made, strict=True):
        assert one.read_bytes() == two.read_bytes()
