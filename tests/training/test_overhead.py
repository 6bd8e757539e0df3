"""Cost of the harness on top of the model's own work; run alone on a quiet machine: `make perf`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from questions import questions, shipped

from seqmem import Batch, Example, Experience, Probe, Strategy, Stream, text_example
from seqmem.core.recipe import OptimizerSettings
from seqmem.record.writer import RecordWriter
from seqmem.training.learner import Learner
from seqmem.training.loop import train
from seqmem.training.probing import ProbeSet
from seqmem.training.run_state import Progress, Run
from seqmem_scenarios.memory_loops import OPTIMIZER
from seqmem_scenarios.memory_loops.options import MemoryLoopsOptions
from seqmem_scenarios.world import background

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
OPTIONS = MemoryLoopsOptions()
SETTINGS = OptimizerSettings(**OPTIMIZER["default"])
VOCABULARY = 8
PART = 50
"""Steps per experience, and between checkpoints as in a bench."""


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Trivial(torch.nn.Module):
    """A causal model of eight numbers that says the same of every token: the time of a step is the host's."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(VOCABULARY))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, VOCABULARY))


def rows(encode: Any, step: int) -> Batch:
    """A batch as the default preset trains it: every row states a fact."""
    return tuple(
        text_example(encode, background(1, step * 8 + n), facts=[f"{step}-{n}"], length=400) for n in range(8)
    )


def cut(batch: Batch, length: int, vocabulary: int | None = None) -> Batch:
    """The batch with rows of at most `length` tokens."""
    made = []
    for row in batch:
        ids = row.input_ids[:length] if vocabulary is None else row.input_ids[:length] % vocabulary
        made.append(Example(ids.astype(np.int32), row.loss_mask[:length], row.facts))
    return tuple(made)


def raw_loop(model: torch.nn.Module, batches: list[Batch], optimizer: torch.optim.Optimizer) -> None:
    """Train a step as anybody would write it: pad, forward, loss, backward, step, and keep the loss."""
    losses = []
    for batch in batches:
        width = max(len(row.input_ids) for row in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        targets = torch.full((len(batch), width), -100)
        for line, row in enumerate(batch):
            tokens = torch.from_numpy(row.input_ids).long()
            ids[line, : len(tokens)] = tokens
            targets[line, : len(tokens)] = tokens
        logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].reshape(-1, logits.shape[-1]), targets[:, 1:].reshape(-1)
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())


def run_of(model: torch.nn.Module, batches: list[Batch], folder: Path) -> Run:
    parts = [
        Experience(n, f"part {n}", "loop", n % 4, tuple(batches[n * PART : (n + 1) * PART]))
        for n in range(-(-len(batches) // PART))
    ]
    stream = Stream(len(parts), parts.__getitem__, lambda index: (), {})
    learner = Learner(model, SETTINGS, CPU, seed=0)
    return Run(
        learner, Strategy(), stream, RecordWriter(folder), Progress(), "schedule", checkpoint_every=PART
    )


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def test_the_harness_adds_at_most_5_percent_to_a_step_of_the_shipped_model(tmp_path: Path) -> None:
    tiny, encode = shipped()
    tiny.train()
    whole = [rows(encode, step) for step in range(4 * PART)]
    # the model's own step, at the size of the default preset
    real = [cut(batch, OPTIONS.row_tokens) for batch in whole[:20]]
    optimizer = torch.optim.Adam(tiny.parameters(), lr=SETTINGS.lr, fused=True)
    raw_loop(tiny, real[:5], optimizer)
    model_step = statistics.median(seconds(lambda: raw_loop(tiny, real, optimizer)) / 20 for _ in range(5))

    # the same batches through a model that does nothing
    toy = [cut(batch, OPTIONS.row_tokens, VOCABULARY) for batch in whole]
    bare, harness = [], []
    for round_ in range(7):
        model = Trivial()
        fused = torch.optim.Adam(model.parameters(), lr=SETTINGS.lr, fused=True)
        bare.append(seconds(lambda m=model, o=fused: raw_loop(m, toy, o)) / len(toy))  # type: ignore[misc]
        run = run_of(Trivial(), toy, tmp_path / str(round_))
        harness.append(seconds(lambda r=run: train(r)) / len(toy))  # type: ignore[misc]
    own = statistics.median(h - b for h, b in zip(harness, bare, strict=True))
    print(
        f"\nraw tiny step {model_step * 1e3:.2f} ms; trivial model: raw {statistics.median(bare) * 1e3:.3f} ms, "
        f"harness {statistics.median(harness) * 1e3:.3f} ms, own cost {own * 1e3:.3f} ms a step "
        f"({own / model_step:.2%} of a tiny step), a checkpoint every {PART} steps included"
    )
    assert own <= 0.05 * model_step


def test_interleaved_with_a_raw_loop_the_harness_is_not_slower_beyond_the_noise(tmp_path: Path) -> None:
    _, encode = shipped()
    batches = [cut(rows(encode, step), OPTIONS.row_tokens) for step in range(25)]
    raw_model, own_model = shipped()[0], shipped()[0]
    raw_model.train()
    optimizer = torch.optim.Adam(raw_model.parameters(), lr=SETTINGS.lr, fused=True)
    raw, own = [], []
    for round_ in range(9):
        raw.append(seconds(lambda: raw_loop(raw_model, batches, optimizer)) / 25)
        run = run_of(own_model, batches, tmp_path / str(round_))
        run.checkpoint_every = 10**9
        own.append(seconds(lambda r=run: train(r)) / 25)  # type: ignore[misc]
    ratios = [b / a for a, b in zip(raw[1:], own[1:], strict=True)]
    middle = statistics.median(ratios)
    print(
        f"\ntiny, medians of 8 interleaved rounds of 25 steps: raw {statistics.median(raw[1:]) * 1e3:.2f} ms, harness "
        f"{statistics.median(own[1:]) * 1e3:.2f} ms; ratio {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )
    assert middle <= 1.10


@torch.no_grad()
def one_by_one(model: Any, probes: list[Probe]) -> list[bool]:
    """Probe as a newcomer would write it: generate every answer on its own and compare."""
    model.eval()
    model.generation_config.eos_token_id = None
    right = []
    for probe in probes:
        prompt = torch.tensor([probe.input_ids[: probe.answer_start]])
        answer = list(probe.input_ids[probe.answer_start :])
        out = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=len(answer),
            do_sample=False,
            pad_token_id=0,
        )
        right.append(out[0, prompt.shape[1] :].tolist() == answer)
    return right


@pytest.mark.parametrize(("threads", "least"), [(1, 6), (2, 8)])
def test_a_sweep_of_probes_is_many_times_faster_than_generating_one_by_one(
    threads: int, least: float
) -> None:
    """128 prompts of 24 tokens with answers of 8, as in the measurement that the scorer was chosen by.

    A sweep runs near the processor's peak of matrix multiplication, so the ratio grows with the cores; generation
    of one token at a time does not.
    """
    torch.set_num_threads(threads)
    model, encode = shipped()
    draw = np.random.default_rng(0)
    plain = [
        Probe(str(n), tuple(draw.integers(5, 1000, 32).tolist()), 24, "", "", "", "question")
        for n in range(128)
    ]
    ratios = {}
    for name, probes in (("24 + 8 tokens", plain), ("mixed lengths", questions(encode, 128))):
        asked = ProbeSet(probes, CPU)
        asked.ask(model), one_by_one(model, probes[:8])  # warm
        sweep, alone = [], []
        for _ in range(5):
            sweep.append(seconds(lambda a=asked: a.ask(model)))  # type: ignore[misc]
            alone.append(seconds(lambda p=probes: one_by_one(model, p)))  # type: ignore[misc]
        assert asked.ask(model).exact_match == one_by_one(model, probes)
        ratios[name] = statistics.median(a / s for a, s in zip(alone, sweep, strict=True))
        print(
            f"\n128 probes of {name}, {threads} threads: sweep {statistics.median(sweep) * 1e3:.0f} ms, "
            f"one-by-one generate {statistics.median(alone) * 1e3:.0f} ms: {ratios[name]:.1f} times"
        )
    assert ratios["24 + 8 tokens"] >= least
