"""Seeded choices that come out the same on every machine."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from numpy.random import PCG64

T = TypeVar("T")

_BUFFER = 16


class Draw:
    """A stream of choices that is a pure function of its key.

    Only the raw bits of PCG64 are used: numpy promises them to be stable across versions, which it
    does not promise for the methods of `Generator`.
    """

    def __init__(self, *key: str | int) -> None:
        """Seed the stream from `key`; keys of unlike types or lengths never share a stream."""
        spelled = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
        digest = hashlib.sha256(spelled.encode()).digest()
        self._bits = PCG64(int.from_bytes(digest[:16], "big"))
        self._raw: list[int] = []

    def _unit53(self) -> int:
        """Return a uniform integer of 53 bits."""
        if not self._raw:
            self._raw = self._bits.random_raw(_BUFFER).tolist()
        return self._raw.pop() >> 11

    def below(self, count: int) -> int:
        """Return a uniform integer in `[0, count)`."""
        if count < 1:
            raise ValueError(f"below() needs a positive count, got {count}")
        return (self._unit53() * count) >> 53

    def between(self, low: int, high: int) -> int:
        """Return a uniform integer in `[low, high]`, both ends included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._unit53() < probability * 2**53

    def pick(self, options: Sequence[T]) -> T:
        """Return one element, uniformly."""
        return options[self.below(len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return all elements in random order."""
        return self.sample(options, len(options))

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Return `count` different elements in random order."""
        pool = list(options)
        for place in range(count):
            other = place + self.below(len(pool) - place)
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]
