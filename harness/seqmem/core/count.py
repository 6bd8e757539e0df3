"""Count what a stream takes in the stream itself, where text and tokenizer are at hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from seqmem.core.data import Outline, Probe, Stream


def counted(outline: Outline, stream: Stream) -> Outline:
    """Return the outline with its tokens counted row by row; it then bounds nothing."""
    tokens = longest = step = 0
    asked: Counter[str] = Counter()
    for index in range(stream.length):
        experience = stream.experience(index)
        for batch in experience.batches:
            lengths = [len(row.input_ids) for row in batch]
            tokens += experience.repeats * sum(lengths)
            longest = max(longest, *lengths, 0)
            step = max(step, len(lengths) * max(lengths, default=0))
        asked.update(point.probe_set for point in stream.probe_points(index))
    rows = {name: [row_ for probe in stream.probe_sets[name] for row_ in scored(probe)] for name in asked}
    return replace(
        outline,
        train_tokens=tokens,
        probe_tokens=sum(count * sum(rows[name]) for name, count in asked.items()),
        longest_row=max(longest, *(length for own in rows.values() for length in own), 0),
        exact=True,
        step_tokens=step,
    )


def scored(probe: Probe) -> list[int]:
    """Return the tokens of every row that scoring a probe takes: its own, and those of competing answers.

    Competing answers of one token are read off the row of an answer of one token.
    """
    answer = probe.input_ids[probe.answer_start :]
    rivals = [choice for choice in probe.choices if choice != answer]
    own_rows = [choice for choice in rivals if len(answer) > 1 or len(choice) > 1]
    return [len(probe.input_ids), *(probe.answer_start + len(choice) for choice in own_rows)]
