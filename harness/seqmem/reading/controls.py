"""Facts beside controls: where a maximum is found on some and read on others.

A maximum of noisy values lies above their mean, so a curve read at its own maximum shows learning where there is
none. Here the place of the maximum is found on some of the facts and of the controls, and read on the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from seqmem.reading.curves import Array, Names, Rows, Watched
from seqmem.reading.missing import Missing

SPLITS = 8


def splits(names: Sequence[Names], parts: int = 2) -> Iterator[tuple[list[Rows], list[Rows]]]:
    """Split the facts named here at random; yield of each part the rows to find on, all others, and those to read on.

    The facts are split anew until each was read at least `SPLITS` * 2 / `parts` times, and at least once.

    Args:
        names: the fact of each row, for several tables; a fact is in the same part in all of them.
        parts: at least 2; no more than there are facts.

    Raises:
        Missing: there is one fact only.
    """
    facts, code = np.unique(np.concatenate(names).astype(str), return_inverse=True)
    if len(facts) < 2:
        raise Missing("a maximum is found on some items and read on others: two are needed")
    ends = np.cumsum([len(part) for part in names])[:-1]
    random = np.random.default_rng(0)
    for _ in range(-(-2 * SPLITS // parts)):
        for members in np.array_split(random.permutation(len(facts)), parts):
            read = np.isin(code, members)
            yield np.split(~read, ends), np.split(read, ends)


def items_in(names: Sequence[Names]) -> int:
    """Count the different facts among those named."""
    return len(np.unique(np.concatenate(names).astype(str)))


def mean_better(
    seen: Sequence[Watched], inside: Sequence[Rows], own: Sequence[Rows], control: Sequence[Rows]
) -> Array:
    """Return the mean change of some facts minus that of some controls, pooled over what was watched.

    Args:
        seen: watched over the same number of steps, of which `inside` says which count.
        inside: per entry, (k,) True for a step that counts.
        own: per entry, which of its facts count.
        control: per entry, which of its controls are taken off.
    """
    total, rows = np.zeros(int(inside[0].sum())), 0
    for one, here, mine, others in zip(seen, inside, own, control, strict=True):
        if mine.any():
            if not others.any():
                raise Missing("too few never-trained items to find a maximum on some and read it on others")
            change = one.own[mine].sum(axis=0) - mine.sum() * one.control[others].mean(axis=0)
            total, rows = total + change[here], rows + int(mine.sum())
    return np.asarray(total / rows)
