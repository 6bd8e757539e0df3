"""Slopes over model size, and when there is none because models cut text into different tokens."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from seqmem.core.measures import Interval, Measure
from seqmem.record.row import Row
from seqmem.scoring.size_trend import DIFFERENT_TOKENS, SizeCurve, size_curves

SIZES = {"small": 10**6, "middle": 10**7, "large": 10**8}


def curve(unit: str, tokenizers: Sequence[str | None], name: str = "measure") -> SizeCurve:
    """The curve of a measure over models whose records name these tokenizers."""
    measure = Measure(name, unit, "higher", "")
    boards = []
    for place, (model, tokenizer) in enumerate(zip(SIZES, tokenizers, strict=True)):
        run: Any = SimpleNamespace(info={} if tokenizer is None else {"tokenizer": tokenizer})
        row = Row(f"naive @ {model}", {"model": model}, {0: run})
        cell = SimpleNamespace(interval=Interval(0.1 * place**2, None, None, 1))
        boards.append(
            SimpleNamespace(model=model, rows=[row], cells={(row.label, name): cell}, measures=[measure])
        )
    table: Any = SimpleNamespace(boards=boards)
    (found,) = size_curves(table, [name], SIZES)
    return found


PER_TOKEN = ["nats/token", "nats", "tokens", "nats/token/turn"]
COMPARABLE = [
    "nats/answer",
    "nats/byte",
    "bits/byte",
    "fraction",
    "fraction/tenfold",
    "steps",
    "bits/parameter",
]


@pytest.mark.parametrize("unit", PER_TOKEN)
@pytest.mark.parametrize("tokenizers", [("a", "a", "b"), ("a", None, "a"), (None, None, None)])
def test_no_slope_of_numbers_per_token_over_different_tokenizers(
    unit: str, tokenizers: Sequence[str | None]
) -> None:
    found = curve(unit, tokenizers)
    assert found.trend.slope is None and found.trend.p is None and found.trend.reason == DIFFERENT_TOKENS
    assert len(found.points) == found.trend.sizes == 3  # what was measured is shown all the same


@pytest.mark.parametrize("unit", PER_TOKEN + COMPARABLE)
def test_one_tokenizer_has_a_slope_in_any_unit(unit: str) -> None:
    assert curve(unit, ("a", "a", "a")).trend.slope == pytest.approx(0.2)


@pytest.mark.parametrize("unit", COMPARABLE)
def test_per_answer_or_byte_tokenizers_may_differ(unit: str) -> None:
    assert curve(unit, ("a", "b", "c")).trend.slope == pytest.approx(0.2)


def test_the_last_token_of_an_answer_is_another_one_in_another_tokenizer() -> None:
    assert curve("fraction", ("a", "b", "a"), "distance_decay.last_token").trend.reason == DIFFERENT_TOKENS
