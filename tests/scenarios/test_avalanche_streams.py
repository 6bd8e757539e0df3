"""Streams as Avalanche benchmarks, and Avalanche benchmarks as a scenario."""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from reading import build_context
from small_runs import carry_out, installed

import seqmem
from seqmem import Example, Experience, Options, Probe, RunRecord, Stream, UsageError, pack
from seqmem.core.options import validate
from seqmem.core.recipe import OptimizerSettings
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.training.learner import Learner
from seqmem_plugins.avalanche import _benchmark, example, scenario

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings(
    "ignore:No loggers specified:UserWarning"
)  # what `evaluator=None` says

SPEC = next(spec for spec in scenario.seqmem_scenario())


def to_avalanche(*arguments: Any, **options: Any) -> Any:
    """As `seqmem.to_avalanche`: Avalanche's import, which takes seconds, waits for the first test that needs it."""
    from seqmem_plugins.avalanche import streams

    return streams.to_avalanche(*arguments, **options)


def naive(model: Any, criterion: Any, optimizer: Any, *, plugged: bool = False, **further: Any) -> Any:
    """Avalanche's `Naive`; `plugged` with the plugin that feeds the stream's own steps."""
    from avalanche.training.supervised import Naive

    from seqmem_plugins.avalanche.streams import StreamSteps

    return Naive(
        model=model,
        optimizer=optimizer,
        criterion=criterion,
        plugins=[StreamSteps()] if plugged else None,
        **{"evaluator": None, **further},
    )


def row(ids: Sequence[int], targets: Sequence[int] | None = None) -> Example:
    """A row whose targets stand at `targets`, everywhere but in front if they are not given."""
    mask = np.zeros(len(ids), dtype=np.bool_)
    mask[list(range(1, len(ids)) if targets is None else targets)] = True
    return Example(np.asarray(ids, dtype=np.int32), mask)


def experience(index: int = 0, **changes: Any) -> Experience:
    """Two steps of three and of one row, each trained twice."""
    first = (row([5, 6, 7, 8], [1, 3]), row([9, 10]), row([11, 12, 13 + index]))
    made = Experience(index, f"visit {index}", "loop", index % 2, (first, (row([20, 21, 22]),)), repeats=2)
    return replace(made, **changes)


def probe(name: str, label: int | None, **changes: Any) -> Probe:
    made = Probe(name, (4, 5, 6, 7), 2, "p", "a", fact=name, relation="question", task_label=label)
    return replace(made, **changes)


def stream(*experiences: Experience, probes: Sequence[Probe] = ()) -> Stream:
    return Stream(len(experiences), lambda i: experiences[i], lambda i: (), {"facts": tuple(probes)})


def built(name: str, preset: str = "smoke", seed: int = 0, **changes: Any) -> Stream:
    spec = installed().load("scenario", name)
    options = validate(spec.options, {**spec.presets[preset], **changes}, name)
    return spec.build(options, build_context(seed, len_of, len_of))


def len_of(index: int) -> int:
    return index


def rows_of(dataset: Any) -> list[tuple[list[int], list[int]]]:
    """(x, y) of every row, padding cut off."""
    found = []
    for x, y, _ in (dataset[i] for i in range(len(dataset))):
        wanted = [place for place, target in enumerate(y.tolist()) if target != -100]
        found.append((x.tolist(), [(place + 1, y[place].item()) for place in wanted]))
    return found


def as_pairs(rows: Sequence[Example], width: int) -> list[tuple[list[int], list[int]]]:
    return [
        (
            [*r.input_ids.tolist(), *[0] * (width - len(r.input_ids))],
            [(i, int(r.input_ids[i])) for i in np.flatnonzero(r.loss_mask)],
        )
        for r in rows
    ]


# -- a stream as a benchmark ------------------------------------------------------------------------------


def test_the_rows_of_an_experience_are_the_streams_in_order_with_repeats_written_out() -> None:
    (one,) = to_avalanche(stream(experience())).train_stream
    first = [
        ([5, 6, 7, 8], [(1, 6), (3, 8)]),
        ([9, 10, 0, 0], [(1, 10)]),
        ([11, 12, 13, 0], [(1, 12), (2, 13)]),
    ]
    last = ([20, 21, 22, 0], [(1, 21), (2, 22)])
    assert rows_of(one.dataset) == [*first, *first, last, last]
    x, y, t = one.dataset[0]
    assert (x.tolist(), y.tolist(), t) == ([5, 6, 7, 8], [6, -100, 8, -100], 0)
    assert one.step_rows == (3, 3, 1, 1)
    assert one.source.name == "visit 0"


def test_a_scenarios_stream_comes_whole_with_its_task_labels() -> None:
    made = built("memory_loops")
    train = to_avalanche(made).train_stream
    assert len(train) == made.length
    for index, one in enumerate(train):
        source = made.experience(index)
        rows = [r for position in range(source.steps) for r in source.batch(position)]
        assert rows_of(one.dataset) == as_pairs(rows, max(len(r.input_ids) for r in rows))
        label = -1 if source.task_label is None else source.task_label
        assert (one.current_experience, one.task_label, one.task_labels) == (index, label, [label])
        assert set(one.dataset.targets_task_labels) == {label}
        assert sum(one.step_rows) == len(one.dataset)
        assert len(one.step_rows) == source.steps
    assert [one.current_experience for one in train[1:3]] == [1, 2]


def test_packed_rows_come_apart_and_documents_without_targets_are_left_out() -> None:
    documents = [row([5, 6, 7]), row([8, 9]), row([1, 2], [])]
    (packed,) = pack(documents, 16)
    (one,) = to_avalanche(stream(experience(batches=((packed,),), repeats=1))).train_stream
    assert rows_of(one.dataset) == as_pairs(documents[:2], 3)
    assert one.step_rows == (2,)


def test_what_is_asked_comes_by_task_with_the_answers_tokens_as_targets() -> None:
    probes = [
        probe("a", 0),
        probe("b", 1),
        probe("c", None),
        probe("a-twin", 0, twin_of="a"),
        probe("near", 1, relation="verbatim"),
        probe("cued", 1, cue="own"),
        probe("heldout", None, relation="general", answer_start=1),
    ]
    made = stream(experience(), probes=probes)
    benchmark = to_avalanche(made)
    assert set(benchmark.streams) == {"train", "test", "control", "general"}
    assert [one.task_label for one in benchmark.test_stream] == [-1, 0, 1]
    assert [len(one.dataset) for one in benchmark.test_stream] == [1, 1, 2]
    x, y, t = benchmark.test_stream[1].dataset[0]
    assert (x.tolist(), y.tolist(), t) == ([4, 5, 6, 7], [-100, 6, 7, -100], 0)
    assert [len(one.dataset) for one in benchmark.control_stream] == [1]
    assert benchmark.general_stream[0].dataset[0][1].tolist() == [5, 6, 7, -100]
    asked = to_avalanche(made, relation="verbatim")
    assert [one.task_label for one in asked.test_stream] == [1]
    assert set(asked.streams) == {"train", "test", "general"}


def test_a_rest_without_training_is_left_off_at_the_end() -> None:
    rest = experience(1, phase="rest", trains="none", name="rest")
    assert len(to_avalanche(stream(experience(), rest, rest)).train_stream) == 1
    between = to_avalanche(stream(experience(), rest, experience(2)))
    with pytest.raises(UsageError, match=r"^rest trains nothing"):
        between.train_stream[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("memory_loops", r"takes a seqmem\.Stream, not a str"),
        (stream(), "no experience that trains anything"),
        (stream(experience(trains="none")), "no experience that trains anything"),
        (stream(experience(save_as="base")), "visit 0 returns to a snapshot or leaves one"),
        (stream(experience(start_from="base")), "visit 0 returns to a snapshot or leaves one"),
    ],
)
def test_a_stream_that_makes_no_benchmark_is_refused_in_a_line(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        to_avalanche(given)
    assert "\n" not in str(refused.value)


def test_weighted_targets_are_refused() -> None:
    weighted = replace(row([5, 6, 7]), weights=np.asarray([1, 1, 0.5], dtype=np.float32))
    with pytest.raises(UsageError, match="visit 0 weights its targets"):
        to_avalanche(stream(experience(batches=((weighted,),)))).train_stream[0]
    ones = replace(weighted, weights=np.ones(3, dtype=np.float32))
    assert len(to_avalanche(stream(experience(batches=((ones,),)))).train_stream[0].dataset) == 2


def test_a_hundred_thousand_experiences_are_made_one_at_a_time() -> None:
    made: list[int] = []

    def at(index: int) -> Experience:
        made.append(index)
        return experience(index)

    tracemalloc.start()
    try:
        benchmark = to_avalanche(Stream(100_000, at, lambda i: (), {}))
        assert len(benchmark.train_stream) == 100_000
        assert len(made) <= 2
        made.clear()
        for index in (99_999, 50_000, *range(0, 100_000, 500)):
            assert benchmark.train_stream[index].dataset[2][0][2] == 13 + index
        walk = iter(benchmark.train_stream)
        assert [next(walk).current_experience for _ in range(3)] == [0, 1, 2]
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(made) == 205
    assert peak < 4_000_000, peak
    assert kept < 1_000_000, kept


# -- Avalanche's own loop ---------------------------------------------------------------------------------


def small(seed: int = 0) -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(seed)
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=1024,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=256,
            attention_dropout=0.0,
            hidden_dropout=0.0,
            use_cache=False,
        )
    )


def page_code() -> str:
    """The Python a user is told to write, as it stands on the page."""
    text = (REPOSITORY / "docs" / "avalanche-users.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?import Naive.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(code)


def wrapped(model: Any) -> tuple[Any, Any]:
    """The page's model and criterion around a model."""
    found: dict[str, Any] = {}
    exec(page_code().split("benchmark =")[0], found)
    return found["Logits"](model), found["criterion"]


def as_seqmem_trains(made: Stream, model: Any, lr: float) -> dict[str, torch.Tensor]:
    """Weights after the stream as the host's learner trains it, by plain SGD."""
    settings = OptimizerSettings(name="sgd", lr=lr, momentum=0.0, clip=None)
    learner = Learner(model, settings, torch.device("cpu"), 0)
    for index in range(made.length):
        one = made.experience(index)
        for position in range(one.steps):
            learner.optimizer.zero_grad()
            learner.loss(one.batch(position))[0].backward()
            learner.optimizer.step()
    return parameters(model)


def parameters(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def as_naive_trains(made: Stream, model: Any, lr: float, *, plugged: bool, rows: int, shuffle: bool) -> Any:
    """Weights after Avalanche's `Naive` has trained the stream, by plain SGD."""
    wrapper, criterion = wrapped(model)
    loop = naive(
        wrapper,
        criterion,
        torch.optim.SGD(wrapper.parameters(), lr=lr),
        plugged=plugged,
        train_mb_size=rows,
    )
    for one in to_avalanche(made).train_stream:
        loop.train(one, eval_streams=[], shuffle=shuffle)
    return parameters(model)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_an_unmodified_naive_trains_the_steps_that_seqmem_trains() -> None:
    """Batches of one size: the same rows in the same order give the same weights, as long as nobody shuffles."""
    made = built("memory_loops")
    expected = as_seqmem_trains(made, small(), lr=0.5)
    assert apart(expected, parameters(small())) > 1e-2
    kept, shuffled = (
        as_naive_trains(made, small(), lr=0.5, plugged=False, rows=4, shuffle=shuffle)
        for shuffle in (False, True)
    )
    assert apart(kept, expected) < 1e-5
    assert apart(shuffled, expected) > 1e-3


def test_the_plugin_feeds_the_streams_own_steps_whatever_the_loop_would_do() -> None:
    made = stream(experience(), experience(1), experience(2))
    expected = as_seqmem_trains(made, small(), lr=0.5)
    plugged, plain = (
        as_naive_trains(made, small(), lr=0.5, plugged=plugged, rows=7, shuffle=plugged)
        for plugged in (True, False)
    )
    assert apart(plugged, expected) < 1e-5
    assert apart(plain, expected) > 1e-3


def test_the_pages_code_runs_and_the_loss_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that a user copies: a random model, plain Naive, the eval streams too."""
    made = built("avalanche", rest_steps=0, epochs=12)
    monkeypatch.setattr(seqmem, "stream", lambda *names, **options: made)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda name: small())
    found: dict[str, Any] = {}
    exec(page_code(), found)
    after = found["strategy"].eval(found["benchmark"].test_stream)
    model, criterion = wrapped(small())
    metrics = type(found["strategy"].evaluator)(found["loss_metrics"](stream=True), loggers=[])
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    before = naive(model, criterion, sgd, evaluator=metrics, eval_mb_size=8).eval(
        to_avalanche(made).test_stream
    )
    (key,) = (key for key in before if key.startswith("Loss_Stream"))
    assert before[key] > 6.5  # log 1024 is 6.9
    assert after[key] < before[key] - 1


def test_moments_start_afresh_where_the_loop_is_told_so() -> None:
    model, criterion = wrapped(small())
    loop = naive(model, criterion, torch.optim.Adam(model.parameters()), plugged=True)
    counts = []
    for one in to_avalanche(stream(experience(), experience(1), experience(2, moments="fresh"))).train_stream:
        fresh = one.source.moments == "fresh"
        loop.train(one, eval_streams=[], shuffle=False, reset_optimizer_state=fresh)
        counts.append({int(state["step"]) for state in loop.optimizer.state.values()})
    assert counts == [{4}, {8}, {4}]


# -- a benchmark as a scenario ----------------------------------------------------------------------------


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A user's module `my_blocks`, empty; what it returned before is forgotten."""
    module = ModuleType("my_blocks")
    monkeypatch.setitem(sys.modules, "my_blocks", module)
    _benchmark.opened.cache_clear()
    _benchmark.survey_of.cache_clear()
    return module


def plain(*streams: Sequence[Sequence[Any]]) -> SimpleNamespace:
    """A benchmark of plain lists: train, then test."""
    names = ("train_stream", "test_stream")
    return SimpleNamespace(
        **{
            name: [SimpleNamespace(dataset=data) for data in given]
            for name, given in zip(names, streams, strict=False)
        }
    )


def options(**changes: Any) -> Options:
    return validate(SPEC.options, {"benchmark": "my_blocks:made", "answer_tokens": 1, **changes}, "avalanche")


def made_stream(seed: int = 0, **changes: Any) -> Stream:
    return SPEC.build(options(**changes), build_context(seed, len_of, len_of))


def block_rows(one: Experience) -> list[list[int]]:
    return [r.input_ids.tolist() for batch in one.batches for r in batch]


def test_the_example_holds_the_same_blocks_in_plain_lists_and_in_avalanches_classes() -> None:
    name = "seqmem_plugins.avalanche.example"
    surveys = [_benchmark.survey_of(f"{name}:{kind}", 3) for kind in ("key_values", "avalanche_key_values")]
    assert surveys[0] == surveys[1]
    assert surveys[0].train == surveys[0].test == (16,) * 4
    assert surveys[0].content != _benchmark.survey_of(f"{name}:key_values", 4).content
    tokens, targets = example.block(3, "train", 0)
    (first, *_) = _benchmark.opened(f"{name}:avalanche_key_values", 3).rows("train", 0)
    assert first.input_ids.tolist() == tokens
    assert first.loss_mask.tolist() == [False] * 6 + [True] * 2
    assert targets[5:] == [*tokens[6:], -100]


def test_every_epoch_trains_every_block_in_an_order_of_its_own(blocks: ModuleType) -> None:
    data = [[[1, 2, 3 + i] for i in range(5)], [[7, 8, 9]]]
    blocks.made = lambda: plain(data)  # type: ignore[attr-defined]
    kept = made_stream(shuffle=False, epochs=2, batch_size=3, rest_steps=0)
    one = kept.experience(0)
    assert block_rows(one) == data[0] * 2
    assert [len(batch) for batch in one.batches] == [3, 2, 3, 2]
    assert (one.phase, one.task_label, kept.experience(1).task_label) == ("task", 0, 1)
    assert all(len(r.facts) == 1 for batch in one.batches for r in batch)
    shuffled = block_rows(made_stream(epochs=4, rest_steps=0).experience(0))
    epochs = [shuffled[first : first + 5] for first in range(0, 20, 5)]
    assert all(sorted(epoch) == data[0] for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) > 1
    assert block_rows(made_stream(1, epochs=4, rest_steps=0).experience(0)) != shuffled


@pytest.mark.parametrize(
    ("item", "ids", "mask"),
    [
        ([4, 5, 6], [4, 5, 6], [0, 1, 1]),
        (torch.tensor([4, 5, 6]), [4, 5, 6], [0, 1, 1]),
        ((torch.tensor([4, 5, 6]),), [4, 5, 6], [0, 1, 1]),
        ((np.asarray([4, 5, 6]), 3, 0), [4, 5, 6], [0, 1, 1]),
        (([4, 5, 6], [5, 6, -100]), [4, 5, 6], [0, 1, 1]),
        (([4, 5, 6], [5, 6, 7], 2), [4, 5, 6, 7], [0, 1, 1, 1]),
        (([4, 5, 6], [-100, 6, -100]), [4, 5, 6], [0, 0, 1]),
        (([4, 5, 0, 0], [5, -100, -100, -100]), [4, 5], [0, 1]),
    ],
)
def test_an_item_is_read_as_the_row_it_means(item: Any, ids: list[int], mask: list[int]) -> None:
    read = _benchmark._row(item)
    assert (read.input_ids.tolist(), read.loss_mask.tolist()) == (ids, [bool(m) for m in mask])
    assert read.input_ids.dtype == np.int32


def test_task_labels_are_the_datasets_where_every_experience_has_one(blocks: ModuleType) -> None:
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import AvalancheDataset, TaskLabels

    def labelled(*labels: int) -> Any:
        data = torch.utils.data.TensorDataset(torch.arange(3 * len(labels)).reshape(-1, 3))
        return AvalancheDataset([data], data_attributes=[TaskLabels(list(labels))])

    blocks.made = lambda: benchmark_from_datasets(train=[labelled(4, 4), labelled(2), labelled(4)])  # type: ignore[attr-defined]
    assert [made_stream().experience(i).task_label for i in range(3)] == [4, 2, 4]
    assert SPEC.outline(options()).loops == 2
    blocks.mixed = lambda: benchmark_from_datasets(train=[labelled(4, 3), labelled(2)])  # type: ignore[attr-defined]
    mixed = made_stream(benchmark="my_blocks:mixed")
    assert [mixed.experience(i).task_label for i in range(2)] == [0, 1]


def test_twins_are_held_out_blocks_that_start_like_no_trained_one(blocks: ModuleType) -> None:
    train = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [1, 2, 3]]]
    test = [[[1, 2, 3], [4, 5, 60], [10, 11, 12], [13, 14, 15]], []]
    blocks.made = lambda: plain(train, test)  # type: ignore[attr-defined]
    stream = made_stream()
    probes = {p.input_ids: p for p in stream.probe_sets["blocks"]}
    # the block that comes back in the second experience is one fact; twins by place, controls that are trained left out
    assert set(probes) == {(1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12), (13, 14, 15)}
    assert probes[10, 11, 12].twin_of == probes[1, 2, 3].fact
    assert probes[13, 14, 15].twin_of == probes[4, 5, 6].fact
    assert {p.task_label for p in probes.values() if p.twin_of} == {0}
    assert probes[7, 8, 9].answer_start == 2
    stated = [r.facts[0] for i in range(2) for batch in stream.experience(i).batches for r in batch]
    assert stated.count(probes[1, 2, 3].fact) == 2 * stated.count(probes[7, 8, 9].fact)


def test_the_rows_of_a_stream_come_back_from_its_benchmark(blocks: ModuleType) -> None:
    """Stream to benchmark to stream: the same rows in the same order."""
    source = built("memory_loops")
    blocks.made = lambda: to_avalanche(source)  # type: ignore[attr-defined]
    back = made_stream(shuffle=False, epochs=1, batch_size=4, rest_steps=0)
    assert back.length == source.length
    for index in range(source.length):
        want = [
            r.input_ids[: np.flatnonzero(r.loss_mask)[-1] + 1].tolist()
            for position in range(source.experience(index).steps)
            for r in source.experience(index).batch(position)
        ]
        assert block_rows(back.experience(index)) == want
        label = source.experience(index).task_label
        assert back.experience(index).task_label == (-1 if label is None else label)


GOOD = [1, 2, 3]


def test_a_test_stream_of_none_is_none(blocks: ModuleType) -> None:
    train = [SimpleNamespace(dataset=[GOOD])]
    blocks.made = lambda: SimpleNamespace(train_stream=train, test_stream=None)  # type: ignore[attr-defined]
    assert _benchmark.survey_of("my_blocks:made", 0).test == ()


@pytest.mark.parametrize(
    ("labels", "read"),
    [(None, set()), ([], set()), (torch.tensor([3, 3]), {3}), (np.array([2, 1]), {1, 2}), ([0], {0})],
)
def test_task_labels_are_read_from_whatever_holds_integers(labels: Any, read: set[int]) -> None:
    dataset = SimpleNamespace(targets_task_labels=labels)
    made = SimpleNamespace(train_stream=[SimpleNamespace(dataset=dataset)])
    assert _benchmark.Benchmark("my", made).labels(0) == read


def test_what_lies_after_the_last_target_may_be_anything(blocks: ModuleType) -> None:
    read = _benchmark._row((np.array([4, 5, 2**40], np.uint64), [5, -100, -100]))
    assert read.input_ids.tolist() == [4, 5]
    assert _benchmark._row((np.array([4, 5], np.uint8), [5, 300])).input_ids.tolist() == [4, 5, 300]
    assert _benchmark._row([1, 2**31 - 1]).input_ids.tolist() == [1, 2**31 - 1]


def fails() -> None:
    raise RuntimeError("no\ndata")


class Broken:
    """Fails wherever it is told to; else a dataset, a stream or a benchmark of one good block."""

    def __init__(self, *where: str) -> None:
        self._where = where

    def _reach(self, where: str) -> None:
        if where in self._where:
            raise OSError(f"{where}\nis gone")

    def __len__(self) -> int:
        self._reach("len")
        return 1

    def __getitem__(self, place: int) -> Any:
        self._reach("item")
        return SimpleNamespace(dataset=[GOOD]) if "stream" in self._where else GOOD

    @property
    def train_stream(self) -> Any:
        self._reach("train")
        return [self]

    @property
    def dataset(self) -> Any:
        self._reach("dataset")
        return self

    @property
    def targets_task_labels(self) -> Any:
        self._reach("labels")
        return None


def labelled(labels: Any) -> Callable[[], Any]:
    class Labelled(Broken):
        targets_task_labels = labels

    return lambda: Labelled()


def needs(**changes: Any) -> Callable[[], Any]:
    return lambda: SimpleNamespace(**changes)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: 3, "returned a int, not a benchmark: it needs a train_stream"),
        (lambda: plain([]), "no experience in its train_stream"),
        (lambda: plain([[GOOD], []]), "experience 1 of its train_stream holds no block"),
        (lambda: plain([[GOOD]], [["text"]]), "item 0 of experience 0 of its test_stream is not a block"),
        (needs(train_stream=[object()]), "experience 0 of its train_stream has no dataset"),
        (fails, "failed: RuntimeError: no data"),
        (lambda: plain([[[0.5, 1.5]]]), "1-dimensional of type float64"),
        (lambda: plain([[torch.zeros(2, 3, dtype=torch.int64)]]), "2-dimensional of type int64"),
        (lambda: plain([[[-1, 2]]]), "token id -1 is below 0"),
        (lambda: plain([[[7]]]), "it has no target"),
        (lambda: plain([[([1, 2, 3], [1, 2, 3])]]), "its targets are not its tokens one ahead"),
        (lambda: plain([[([1, 2, 3], [2, 3])]]), "3 tokens and 2 targets"),
        (lambda: plain([[([1, 2], [-100, -100])]]), "it has no target"),
        (lambda: plain([[[1, 2]]]), "answer_tokens 2 leaves nothing before the answer in a block of 2"),
        (needs(train_stream=None), "returned a SimpleNamespace, not a benchmark: it needs a train_stream"),
        (needs(train_stream=3), "its train_stream cannot be read: TypeError: 'int' object is not iterable"),
        (
            needs(train_stream=Broken("len", "stream")),
            "its train_stream cannot be read: OSError: len is gone",
        ),
        (
            needs(train_stream=Broken("item", "stream")),
            "experience 0 of its train_stream cannot be read: OSError: item is gone",
        ),
        (
            needs(train_stream=(fails() for _ in range(2))),
            "its train_stream cannot be read: RuntimeError: no data",
        ),
        (
            needs(train_stream=Broken("stream"), test_stream=3),
            "its test_stream cannot be read: TypeError: 'int' object is not iterable",
        ),
        (lambda: Broken("train"), "its train_stream cannot be read: OSError: train is gone"),
        (
            lambda: Broken("dataset"),
            "experience 0 of its train_stream cannot be read: OSError: dataset is gone",
        ),
        (
            lambda: Broken("labels"),
            "targets_task_labels of experience 0 of its train_stream cannot be read: OSError: labels is gone",
        ),
        (
            lambda: Broken("len"),
            "the dataset of experience 0 of its train_stream cannot be read: OSError: len is",
        ),
        (
            needs(train_stream=[SimpleNamespace(dataset=iter([GOOD]))]),
            "the dataset of experience 0 of its train_stream cannot be read: TypeError: object of type",
        ),
        (
            lambda: Broken("item"),
            "item 0 of experience 0 of its train_stream cannot be read: OSError: item is gone",
        ),
        (lambda: plain([{"a": 1}]), "item 0 of experience 0 of its train_stream cannot be read: KeyError: 0"),
        (
            labelled("12"),
            "targets_task_labels of experience 0 of its train_stream cannot be read: TypeError: 'str'",
        ),
        (
            labelled(torch.tensor([0.5])),
            "targets_task_labels of experience 0 of its train_stream cannot be read",
        ),
        (
            labelled(7),
            "targets_task_labels of experience 0 of its train_stream cannot be read: TypeError: 'int'",
        ),
        (
            lambda: plain([[[]]]),
            "item 0 of experience 0 of its train_stream is not a block of token ids: it is empty",
        ),
        (lambda: plain([[torch.zeros(0, dtype=torch.int64)]]), "is not a block of token ids: it is empty"),
        (
            lambda: plain([[(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))]]),
            "is not a block of token ids: it is empty",
        ),
        (
            lambda: plain([[[[1, 2], [3]]]]),
            "item 0 of experience 0 of its train_stream is not a block of token ids",
        ),
        (lambda: plain([[[1, 2**40]]]), "token id 1099511627776 is above 2147483647"),
        (lambda: plain([[([1, 2], [2, 2**40])]]), "token id 1099511627776 is above 2147483647"),
        (lambda: plain([[[1, 2**80]]]), "1-dimensional of type object"),
        (
            lambda: plain([[([1, 2], [2.0, 3.5])]]),
            "its targets are of type float64, wanted is one row of integers",
        ),
    ],
)
def test_a_benchmark_that_cannot_be_trained_is_refused_in_a_line(
    blocks: ModuleType, made: Callable[[], Any], said: str
) -> None:
    blocks.made = made  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        SPEC.outline(options(answer_tokens=2))
    assert "\n" not in str(refused.value)
    assert "my_blocks:made" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_package.blocks:made", "no module 'no_such_package.blocks'; install it or put its folder"),
        ("my_blocks:gone", "my_blocks has no function 'gone'; it has row"),
        ("my_blocks", "benchmark 'my_blocks' names no function: write package.module:function"),
        ("my blocks:made", "benchmark 'my blocks:made' names no function"),
        ("builtins:dict", "benchmark builtins:dict failed: ValueError: no signature found for builtin type"),
        ("builtins:len", "benchmark builtins:len failed: TypeError: len() takes exactly one argument"),
    ],
)
def test_a_benchmark_that_is_not_there_is_refused_before_any_training(
    blocks: ModuleType, name: str, said: str
) -> None:
    blocks.row = row  # type: ignore[attr-defined]
    request = Request(
        scenario=("avalanche",),
        strategy=("naive",),
        seeds="0",
        set=(f"scenario.benchmark={name}",),
        device="cpu",
    )
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        plan(request, installed())
    assert "\n" not in str(refused.value)


def test_a_module_that_breaks_or_misses_another_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "needs_much.py").write_text("import not_installed_at_all\n")
    (tmp_path / "breaks.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="its module needs 'not_installed_at_all', which is not installed"):
        _benchmark._function("needs_much:made")
    with pytest.raises(UsageError, match="breaks fails: ZeroDivisionError"):
        _benchmark._function("breaks:made")


def test_blocks_that_the_model_cannot_read_are_refused(blocks: ModuleType) -> None:
    context = build_context(0, len_of, len_of)
    blocks.made = lambda: plain([[[1, 2, 300]]])  # type: ignore[attr-defined]
    knows = SimpleNamespace(**{**vars(context), "vocabulary": 300, "decode": str})
    with pytest.raises(UsageError, match="holds token id 300, the model knows ids below 300"):
        SPEC.build(options(), knows)
    knows.vocabulary = 301
    (asked,) = SPEC.build(options(), knows).probe_sets["blocks"]
    assert (asked.prompt, asked.answer) == ("[1, 2]", "[300]")
    with pytest.raises(UsageError, match="a block of 3 tokens, the model reads 2"):
        SPEC.build(options(), replace(context, max_positions=2))


def test_seeds_must_agree_on_the_numbers_of_blocks(blocks: ModuleType) -> None:
    def made(seed: int) -> SimpleNamespace:
        return plain([[[1, 2, 3]] * (1 + seed // 2)])

    blocks.made = made  # type: ignore[attr-defined]
    assert made_stream(1).length == 2
    with pytest.raises(UsageError, match="other numbers of blocks with seed 2 than with seed 0"):
        made_stream(2)


def test_a_real_benchmark_runs_learns_and_forgets(blocks: ModuleType, tmp_path: Path) -> None:
    """Two experiences of Avalanche's own classes on `tiny`, from plan to record."""

    from avalanche.benchmarks import benchmark_from_datasets

    def two(seed: int) -> Any:
        whole = example.avalanche_key_values(seed)
        return benchmark_from_datasets(
            **{name: [one.dataset for one in own][:2] for name, own in whole.streams.items()}
        )

    blocks.made = two  # type: ignore[attr-defined]
    request = Request(
        scenario=("avalanche",),
        strategy=("naive",),
        preset="smoke",
        seeds="0",
        set=(
            "scenario.benchmark=my_blocks:made",
            "scenario.epochs=12",
            "scenario.probed=16",
            "optimizer.lr=0.001",
        ),
        controls=False,
        device="cpu",
    )
    (run,) = plan(request, installed()).runs.values()
    assert run.recipe.scenario.content == _benchmark.survey_of("my_blocks:made", 0).content
    assert run.recipe.scenario.options["benchmark"] == "my_blocks:made"
    events = carry_out(run, tmp_path / "run")
    assert events[-1] == {"event": "finished"}, events[-1]
    record = RunRecord.open(tmp_path / "run")
    scores = {
        name: installed().load("metric", name).compute(record, {})[name].value
        for name in ("learning_accuracy", "forgetting", "twin_recall", "average_accuracy", "retention")
    }
    assert scores["learning_accuracy"] > 0.5
    assert scores["forgetting"] > 0.25
    assert scores["twin_recall"] < 0.2
    assert 0 <= scores["average_accuracy"] < scores["learning_accuracy"]
    assert set(record.experiences["phase"]) == {"task", "rest"}
