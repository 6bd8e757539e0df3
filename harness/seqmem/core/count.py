"""Count what a stream takes in the stream itself, where text and tokenizer are at hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from seqmem.core.data import Outline, Probe, Stream


def counted(outline: Outline, stream: Stream) -> Outline:
    """Return the outline with its tokens counted row by row; it then bounds nothing."""
    tokens = longest = step = padded = 0
    asked: Counter[str] = Counter()
    for index in range(stream.length):
        experience = stream.experience(index)
        for batch in experience.batches:
            lengths = [len(row.input_ids) for row in batch]
            tokens += experience.repeats * sum(lengths)
            longest = max(longest, *lengths, 0)
            read = len(lengths) * max(lengths, default=0)
            padded += experience.repeats * read
            step = max(step, read)
        asked.update(point.probe_set for point in stream.probe_points(index))
    sets = {name: stream.probe_sets[name] for name in asked}
    return replace(
        outline,
        train_tokens=tokens,
        probe_tokens=sum(count * sum(map(scored_tokens, sets[name])) for name, count in asked.items()),
        longest_row=max(longest, *(positions(probe) for own in sets.values() for probe in own), 0),
        exact=True,
        step_tokens=step,
        padded_tokens=padded,
    )


def scored_tokens(probe: Probe) -> int:
    """Return the tokens fed to score a probe: competing answers share its prompt, and last tokens are not fed.

    A model that cannot keep the answers of a row apart reads the prompt again for each.
    """
    answer = probe.input_ids[probe.answer_start :]
    rivals = [choice for choice in probe.choices if choice != answer]
    return len(probe.input_ids) - 1 + sum(len(choice) - 1 for choice in rivals)


def positions(probe: Probe) -> int:
    """Return the positions that scoring a probe takes: answers that share a row count from the prompt's end."""
    return max(len(probe.input_ids), probe.answer_start + max(map(len, probe.choices), default=0))
