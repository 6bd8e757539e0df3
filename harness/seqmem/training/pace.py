"""Measure the pace of this machine: how fast it trains and reads with models of two widths.

Started as ``python -m seqmem.training.pace``: device and number type as one line of JSON on standard input, the pace
as one on standard output, as `seqmem.planning.pace.Pace` reads it. It takes some ten seconds.

    seconds of a step = 6 n tokens / rate + matrices per_matrix + parameters per_parameter

for a model of n numbers in its matrices: the rate is the slope between few tokens and many at each width, the other
two are what both intercepts come from.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from seqmem.planning.pace import FORWARD, TRAIN
from seqmem.training.step_time import describe_machine

WIDTHS = (128, 512)
LAYERS = 4
VOCABULARY = 1024
ROWS = ((4, 16), (16, 32))
"""Rows by tokens, of a small batch and of a large one."""
REPEATS = 3
LEAST_SECONDS = 0.3
"""A batch is read again until it has taken as long, and `REPEATS` times at least."""


def measure(device: str, precision: str) -> dict[str, object]:
    """Return the pace as JSON values."""
    found = {width: _Timed(width, device, precision) for width in WIDTHS}
    small, large = (timed for timed in found.values())
    per_parameter = max((large.left - small.left) / (large.parameters - small.parameters), 0.0)
    per_matrix = max((small.left - per_parameter * small.parameters) / small.matrices, 0.0)
    return {
        "widths": WIDTHS,
        "train": [timed.train for timed in found.values()],
        "forward": [timed.forward for timed in found.values()],
        "per_matrix": per_matrix,
        "per_parameter": per_parameter,
        "machine": describe_machine(device),
    }


class _Timed:
    """A model of random weights, and how long it takes.

    Attributes:
        train, forward: operations a second.
        left: seconds of a step that reads nothing.
    """

    def __init__(self, width: int, device: str, precision: str) -> None:
        model = _model(width).to(device)
        if precision in ("bfloat16", "float16"):
            model = model.to(getattr(torch, precision))
        mixed = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16-mixed")
        optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
        shapes = [parameter.shape for parameter in model.parameters()]
        self.parameters = sum(map(math.prod, shapes))
        self.matrices = sum(len(shape) == 2 for shape in shapes)
        numbers = sum(math.prod(shape) for shape in shapes if len(shape) == 2)

        def step(ids: torch.Tensor) -> None:
            with mixed:
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        def forward(ids: torch.Tensor) -> None:
            with torch.inference_mode(), mixed:
                model(input_ids=ids, use_cache=False)

        slope, self.left = _line(step, device)
        self.train = TRAIN * numbers / slope
        self.forward = FORWARD * numbers / _line(forward, device)[0]


def _model(width: int) -> GPTNeoXForCausalLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=VOCABULARY,
                hidden_size=width,
                num_hidden_layers=LAYERS,
                num_attention_heads=4,
                intermediate_size=4 * width,
                max_position_embeddings=64,
            )
        )


def _line(read: Callable[[torch.Tensor], None], device: str) -> tuple[float, float]:
    """Return the seconds of a token, and those of a batch of none."""
    tokens = [rows * length for rows, length in ROWS]
    few, many = (
        _seconds(read, torch.arange(rows * length, device=device).reshape(rows, length) % VOCABULARY)
        for rows, length in ROWS
    )
    slope = max(many - few, 1e-9) / (tokens[1] - tokens[0])
    return slope, max(few - slope * tokens[0], 0.0)


def _seconds(read: Callable[[torch.Tensor], None], ids: torch.Tensor) -> float:
    """Return the shortest time of a batch, once it is warm: whatever else the machine does only adds to it."""
    read(ids)
    taken: list[float] = []
    while len(taken) < REPEATS or sum(taken) < LEAST_SECONDS:
        started = _clock(ids.device)
        read(ids)
        taken.append(_clock(ids.device) - started)
    return min(taken)


def _clock(device: torch.device) -> float:
    """Return the seconds that a GPU has taken, or the time that each thread was given by the processor."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() / torch.get_num_threads()


if __name__ == "__main__":
    print(json.dumps(measure(*json.loads(sys.stdin.readline()))), flush=True)
